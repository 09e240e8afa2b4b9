"""The Python sender that D2I publishes, from a copy of its repository, on a benchmark's database.

Its code runs as it is: the differences, the records that wait, and the batches. Replaced is only
what it takes from outside: pyodbc by the bare driver of the database, its settings by environment
variables, the address by that of the benchmark, and the screen, as it prints some lines a child.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
import sqlite3
import sys
import types
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from d2i_helpers.submit.endpoint import Endpoint


class _Cursor:
    """A cursor that takes parameters as pyodbc does."""

    def __init__(self, cursor: Any, *, named: bool) -> None:
        self._cursor, self._named = cursor, named

    def execute(self, statement: str, *parameters: Any) -> None:
        written = statement.replace("?", "%s") if self._named else statement
        self._cursor.execute(written, parameters)

    def fetchall(self) -> list[Any]:
        return list(self._cursor.fetchall())


class _Connection:
    """A connection of the bare driver, as far as the sender uses one."""

    def __init__(self, engine: Engine) -> None:
        self._raw = engine.raw_connection()
        self._named = engine.dialect.name != "sqlite"

    def cursor(self) -> _Cursor:
        return _Cursor(self._raw.cursor(), named=self._named)

    def commit(self) -> None:
        self._raw.commit()

    def close(self) -> None:
        self._raw.close()


def run(folder: Path, table: str, engine: Engine, endpoint: Endpoint) -> int:
    """Send what waits, as the published sender does; gives how many records it took.

    Args:
        folder: the one that holds `api_pipeline`.
        table: the staging table.
    """
    os.environ |= {
        "TABLE_NAME": table, "USE_PARTIAL_PAYLOAD": "true", "API_ENDPOINT": "", "LA_CODE": "",
    }  # fmt: skip
    sys.modules["pyodbc"] = types.ModuleType("pyodbc")
    without_a_file = types.ModuleType("dotenv")
    vars(without_a_file)["load_dotenv"] = lambda *_: True
    sys.modules["dotenv"] = without_a_file
    sys.path.insert(0, str(folder))
    sqlite3.register_adapter(datetime.datetime, lambda moment: moment.isoformat(" "))
    api = importlib.import_module("api_pipeline.api")
    database = importlib.import_module("api_pipeline.db")
    vars(api)["API_ENDPOINT_LA"] = endpoint.children_url
    connection = _Connection(engine)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        database.update_partial_payloads(connection)
        records = database.get_pending_records(connection.cursor())
        api.process_batches(records, {"Content-Type": "application/json"}, connection)
    connection.close()
    return len(records)
