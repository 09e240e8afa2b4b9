"""pyodbc itself, with the types that it is told on SQL Server, against PostgreSQL.

There is no SQL Server in a test run, but pyodbc can be had with Debian's ODBC driver for PostgreSQL
(packages `unixodbc` and `odbc-postgresql`): `pytest -m odbc`. That each parameter has the type of
its own column, and that pyodbc takes each, shows here; sizes do not, as this driver does not look
at them (`test_fake_odbc.py` does). `fast_executemany` stays off: with a text of any length this
driver ends the process.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    LargeBinary,
    Table,
    bindparam,
    create_engine,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.connectors.pyodbc import PyODBCConnector
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGDialect

from d2i_helpers import database
from d2i_helpers.database import dialects, tables
from tests import servers

pytestmark = pytest.mark.odbc
DRIVER = "PostgreSQL Unicode"
NAMES = ("李小龍", "فاطمة", "Zoë Ní Bhriain", "😀 O'Brien", "ﾊﾟ")


class PostgreSQLByODBC(PyODBCConnector, PGDialect):
    """SQLAlchemy's PostgreSQL over pyodbc, which it does not offer itself."""

    supports_statement_cache = True
    driver = "pyodbc"


registry.register("postgresql.pyodbc", __name__, "PostgreSQLByODBC")


@pytest.fixture(params=["postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of the server that other tests use."""
    pyodbc = pytest.importorskip("pyodbc", exc_type=ImportError)
    if DRIVER not in pyodbc.drivers():
        pytest.skip(f"the ODBC driver {DRIVER!r} is not installed")
    server = request.getfixturevalue("postgres_url")
    with servers.empty_place(server) as url:
        yield url


@pytest.fixture
def by_odbc(database_url: str, engine: Engine) -> Iterator[Engine]:
    """An engine that goes through pyodbc, with parameters typed as for SQL Server."""
    import pyodbc

    url = make_url(database_url)
    parts = {
        "Driver": f"{{{DRIVER}}}",
        "Server": url.host or url.query["host"],
        "Port": url.port or 5432,
        "Database": url.database,
        "UID": url.username,
        "PWD": url.password or "",
        "UseServerSidePrepare": 1,
        "MaxVarcharSize": 4000,  # longer texts come as long ones
        "MaxLongVarcharSize": 2_000_000,
        "ByteaAsLongVarBinary": 1,
    }
    address = ";".join(f"{name}={value}" for name, value in parts.items())
    made = create_engine("postgresql+pyodbc://", creator=lambda: pyodbc.connect(address))
    dialects.named("mssql").type_parameters(made)
    yield made.execution_options(
        schema_translate_map={tables.SSD_SCHEMA: None, tables.STAGING_SCHEMA: None}
    )
    made.dispose()


LENGTHS = (0, 1, 254, 255, 256, 4000, 4001, 400_000)  # characters: where drivers change their ways


def value(column: Column[Any], number: int) -> Any:
    """A value of the column's type; texts are of every script, up to what the column takes."""
    if column.nullable and number % 5 == 0:
        return None
    if isinstance(column.type, tables.Characters):
        most = column.type.characters or LENGTHS[-1]
        length = min(LENGTHS[number % len(LENGTHS)], most)
        if column.primary_key:
            return f"{number:05}"
        return (NAMES[number % len(NAMES)] * length)[:length]
    if isinstance(column.type, LargeBinary):
        return bytes([number]) * 32
    if isinstance(column.type, DateTime):
        return dt.datetime(2026, 3, 29, 1, 30, 0, number)
    return number


def rows_of(table: Table, shift: int = 0) -> list[dict[str, Any]]:
    """Rows whose keys are the same for any shift, and whose other values are not."""
    keys = {c.name for c in table.primary_key}
    counted = {c.name for c in table.c if c.identity is not None}
    return [
        {
            c.name: value(c, number if c.name in keys else number + shift)
            for c in table.c
            if c.name not in counted
        }
        for number in range(40)
    ]


OURS = (tables.staging_table("ssd_api_data_staging"), *tables.our_tables().sorted_tables)


@pytest.mark.parametrize("table", OURS, ids=lambda table: table.name)
def test_what_is_written_comes_back(by_odbc: Engine, engine: Engine, table: Table) -> None:
    """Read with PostgreSQL's own driver too, so that nothing is bent on both ways."""
    for index in list(table.indexes):
        assert not index.unique or index.columns.keys() == ["person_id"]
    first, second = rows_of(table), rows_of(table, shift=3)
    if table is OURS[0]:  # one row a person
        for number, (one_row, other_row) in enumerate(zip(first, second, strict=True)):
            one_row["person_id"] = other_row["person_id"] = f"{number} {NAMES[number % len(NAMES)]}"
    with database.transaction(by_odbc) as connection:
        table.create(connection, checkfirst=True)
        connection.execute(insert(table), first)
    assert held(by_odbc, table) == held(engine, table) == first
    keys = [c.name for c in table.primary_key]
    changed = [name for name in first[0] if name not in keys]
    if changed:
        with database.transaction(by_odbc) as connection:
            ids = connection.execute(select(*table.primary_key).order_by(*table.primary_key)).all()
            statement = update(table).values({name: bindparam(f"new_{name}") for name in changed})
            for key in table.primary_key:
                statement = statement.where(key == bindparam(f"key_{key.name}"))
            parameters = [
                {
                    **{f"key_{key}": part for key, part in zip(keys, found, strict=True)},
                    **{f"new_{name}": new[name] for name in changed},
                }
                for found, new in zip(ids, second, strict=True)
            ]
            connection.execute(statement, parameters)
        assert held(by_odbc, table) == held(engine, table) == second


def held(engine: Engine, table: Table) -> list[dict[str, Any]]:
    """The rows of a table, without the numbers that the database counts up."""
    counted = {c.name for c in table.c if c.identity is not None}
    columns = [c for c in table.c if c.name not in counted]
    with database.reading(engine) as connection:
        read = connection.execute(select(*columns).order_by(*table.primary_key)).mappings().all()
    return [dict(found) for found in read]
