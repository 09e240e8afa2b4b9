"""A small SSD filled by hand, for tests that run extract on a real database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import DateTime, Engine, insert, select

from d2i_helpers import database
from d2i_helpers.database import tables


class Ssd:
    """Rows put into the 19 tables, and what extract made of them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with database.transaction(engine) as connection:
            tables.ssd_metadata().create_all(connection)

    def add(self, table: str, *rows: dict[str, Any]) -> None:
        """Insert rows; texts in date columns are read as ISO dates."""
        target = tables.ssd_table(table)
        dates = {c.name for c in target.columns if isinstance(c.type, DateTime)}
        filled = [
            {c.name: _value(row.get(c.name), c.name in dates) for c in target.columns}
            for row in rows
        ]
        for row in filled:
            for key in target.primary_key:
                if row[key.name] is None:
                    row[key.name] = f"{table[4:8]}{id(row)}"
        with database.transaction(self.engine) as connection:
            connection.execute(insert(target), filled)

    def staged(self, name: str = "ssd_api_data_staging") -> dict[str, Any]:
        """Staged rows by person id, with the document read from its text."""
        table = tables.staging_table(name)
        with database.reading(self.engine) as connection:
            rows = connection.execute(select(table)).mappings().all()
        return {r["person_id"]: {**r, "document": orjson.loads(r["json_payload"])} for r in rows}

    def documents(self, name: str = "ssd_api_data_staging") -> dict[str, Any]:
        """Documents of the children that are in, by person id."""
        return {
            person_id: row["document"]
            for person_id, row in self.staged(name).items()
            if row["row_state"] != "deleted"
        }


def _value(value: Any, is_date: bool) -> Any:
    if is_date and isinstance(value, str):
        return dt.datetime.fromisoformat(value)
    return value


@pytest.fixture
def ssd(engine: Engine) -> Ssd:
    """An empty SSD on each engine."""
    return Ssd(engine)


@pytest.fixture
def make_ssd() -> Callable[[Engine], Ssd]:
    """A maker of SSDs on further engines."""
    return Ssd
