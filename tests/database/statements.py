"""Every statement that the stages of some days issue, as each database gets it.

Days run on SQLite, where each statement is compiled for PostgreSQL and Oracle too, and once more
through the driver that behaves as pyodbc, which gets what a SQL Server 2016 would. sqlglot reads
all of them strictly. What they are is held in `statements/`: a change shows there, for each
database.

    python -m tests.database.statements     approve today's statements
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlalchemy import Column, Engine, column, event, func, select, table, update
from sqlalchemy.dialects import oracle, postgresql, sqlite
from sqlalchemy.sql import Select, operators, visitors
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.elements import BinaryExpression, UnaryExpression
from sqlalchemy.sql.selectable import SelectBase

from d2i_helpers import database, settings
from d2i_helpers.database import dialects, writes
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import stage as preflight
from tests.database import day, odbc

APPROVED = Path(__file__).parent / "statements"
READ_AS = {"mssql": "tsql", "postgresql": "postgres", "oracle": "oracle", "sqlite": "sqlite"}
MOST_PARAMETERS = 2100  # of SQL Server
_COMPILED_FOR: dict[str, Any] = {
    "sqlite": sqlite.dialect(),
    # named, as sqlglot reads them; psycopg's own style is Python's
    "postgresql": postgresql.dialect(paramstyle="named"),
    "oracle": oracle.dialect(),
}
_PARAMETER = r"(?:\?|:\w+(?:::\w+)?)"
_LIST = re.compile(rf"IN \(({_PARAMETER})(?:, {_PARAMETER})*\)")
# what SQLite alone is told: its clock, text as bytes
_OF_SQLITE = re.compile(r"strftime|AS BLOB|AS BYTEA")
_SIZE = re.compile(r"length\(CAST\(([\w.]+) AS (?:BLOB|BYTEA)\)\)")  # others are asked for length
_CATALOGUE = re.compile(
    r"(?i)\bsys\.|information_schema|pragma|serverproperty|test max|create |^set "
)


def plain(statement: str) -> str:
    """A statement on one line, with one value in each list of values."""
    return _LIST.sub(r"IN (\1)", " ".join(statement.split()))


def read_strictly(statement: str, name: str) -> None:
    """Raises: ParseError: it is no statement of that database; AssertionError: it is several."""
    parsed = sqlglot.parse(statement, dialect=READ_AS[name], error_level=sqlglot.ErrorLevel.RAISE)
    assert len(parsed) == 1, statement


_PERSONS = table("ssd_person", column("pers_person_id"), column("pers_dob"))  # without types
_COMPARING = {operators.eq, operators.ne, operators.lt, operators.le, operators.gt, operators.ge,
              operators.in_op, operators.not_in_op, operators.between_op}  # fmt: skip


def long_texts_compared(element: Any) -> list[str]:
    """Columns with a text of any length that a statement compares, sorts, groups or makes distinct.

    On Oracle they are CLOBs, with which none of these works.
    """
    found: list[str] = []

    def look(*expressions: Any) -> None:
        for expression in expressions:
            parts = [one for one in visitors.iterate(expression) if isinstance(one, Column)]
            if _is_long(expression):
                found.extend(str(part) for part in parts if _is_long(part))

    for part in visitors.iterate(element):
        if isinstance(part, BinaryExpression) and part.operator in _COMPARING:
            look(part.left, part.right)
        elif isinstance(part, UnaryExpression) and part.operator is operators.distinct_op:
            look(part.element)
        elif isinstance(part, Select):
            sorted_by = [getattr(one, "element", one) for one in part._order_by_clauses]
            look(*sorted_by, *part._group_by_clauses)
            if part._distinct:
                look(*part.selected_columns)
    return found


def _is_long(expression: Any) -> bool:
    kind = getattr(expression, "type", None)
    return isinstance(kind, dialects.Characters) and kind.characters is None


@contextmanager
def _captured(found: dict[str, set[str]]) -> Iterator[None]:
    """Compile each statement that any engine executes."""

    def look(
        connection: Any, element: Any, many: list[dict[str, Any]], one: dict[str, Any], _: Any
    ) -> None:
        if not isinstance(element, SelectBase | Insert | Update | Delete):
            return
        given = many[0] if many else one
        assert not long_texts_compared(element), f"no Oracle compares these: {element}"
        for name, dialect in _COMPILED_FOR.items():
            compiled = element.compile(
                dialect=dialect, column_keys=[*given] or None, for_executemany=len(many) > 1
            )
            said = plain(compiled.construct_expanded_state(given).statement)
            if name != "sqlite":
                said = _SIZE.sub(r"length(\1)", said)
            if name == "sqlite" or not _OF_SQLITE.search(said):
                found[name].add(said)

    insert = writes._insert  # hands over the text of a statement, which no event of SQLAlchemy sees

    def insert_seen(connection: Any, into: Any, rows: Any) -> int:
        look(connection, writes._statement(into), rows, {}, None)
        return insert(connection, into, rows)

    event.listen(Engine, "before_execute", look)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(writes, "_insert", insert_seen)
            yield
    finally:
        event.remove(Engine, "before_execute", look)


def _run_days(folder: Path) -> None:
    here = settings.load_settings(
        None, outputs_dir=str(folder / "outputs"), receiver_store=str(folder / "receiver.sqlite"),
        run_date="2026-08-10", chunk_size=20,
    )  # fmt: skip
    day.fill(here, 40)
    preflight.run(here)
    engine = database.open_database(here)
    day.run(engine, here)
    day.pass_a_day(here)
    with database.transaction(engine) as connection:  # somebody is held back, and released
        person = select(func.min(_PERSONS.c.pers_person_id)).scalar_subquery()
        undated = update(_PERSONS).where(_PERSONS.c.pers_person_id == person)
        connection.execute(undated.values(pers_dob="no date"))
    day.run(engine, here)
    with database.transaction(engine) as connection:
        dated = update(_PERSONS).where(_PERSONS.c.pers_dob == "no date")
        connection.execute(dated.values(pers_dob="2012-05-17 00:00:00"))
    extract.run(engine, here, load_spec(here.cms))
    engine.dispose()


def today(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The statements by database, one a line, in the order of the alphabet."""
    for name in [name for name in os.environ if name.startswith(settings.ENV_PREFIX)]:
        monkeypatch.delenv(name)
    found: dict[str, set[str]] = {name: set() for name in READ_AS}
    for kind in ("sqlite", "mssql"):
        (folder / kind).mkdir()
    monkeypatch.setenv("D2I_DATABASE_URL", f"sqlite:///{folder / 'sqlite' / 'ssd.sqlite'}")
    with _captured(found):
        _run_days(folder / "sqlite")
    driver = odbc.in_place_of_pyodbc(folder / "mssql" / "server.sqlite", monkeypatch)
    monkeypatch.setenv("D2I_DATABASE_URL", odbc.URL)
    _run_days(folder / "mssql")
    assert max(said.count("?") for said in driver.statements) < MOST_PARAMETERS
    found["mssql"] = {plain(s) for s in driver.statements if not _CATALOGUE.search(s)}
    return {name: "".join(f"{one}\n" for one in sorted(some)) for name, some in found.items()}


def main() -> None:
    """Approve what the stages issue today."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        for name, said in today(Path(folder), monkeypatch).items():
            APPROVED.mkdir(exist_ok=True)
            (APPROVED / f"{name}.sql").write_text(said, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
