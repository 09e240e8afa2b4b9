"""Servers that tests run on: SQL Server and Oracle where an environment variable names one.

Neither can be brought by a package, as SQLite and PostgreSQL are. Where a variable names a server,
every test of the `engine` fixture runs on it as well. On SQL Server the login must be one that may
create databases. On Oracle the tests use the login's own schema, so what is in it is lost, and only
one worker of pytest can work on it (no `-n`).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import stamina
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from d2i_helpers.database import dialects

VARIABLES = {"mssql": "D2I_TEST_MSSQL_URL", "oracle": "D2I_TEST_ORACLE_URL"}
NAMES = {"mssql": "SQL Server", "oracle": "Oracle"}
DATABASES = ["sqlite", "postgresql", *(k for k, v in VARIABLES.items() if os.environ.get(v))]


def not_tested() -> list[str]:
    """A line for each database that no server is named for."""
    return [
        f"{NAMES[kind]} is NOT tested: {variable} names no server"
        for kind, variable in VARIABLES.items()
        if kind not in DATABASES
    ]


def url_of(kind: str) -> str:
    """The server's URL, as its variable gives it."""
    return os.environ[VARIABLES[kind]]


def text_type(engine: Engine, length: int | None) -> str:
    """A type of text columns that holds letters of any language; without a length, any text."""
    kind = dialects.of(engine).characters(length)
    return str(kind.compile(dialect=engine.dialect))


@contextmanager
def empty_place(server: str) -> Iterator[str]:
    """URL of a database (Oracle: a schema) without any table, on a server."""
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    if admin.dialect.name == "oracle":
        _drop_tables(admin)
        admin.dispose()
        yield server
        return
    name = f"d2i_{uuid.uuid4().hex[:12]}"
    _do(admin, f"create database {name}")
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False)
    finally:
        force = " with (force)" if admin.dialect.name == "postgresql" else ""
        _drop(admin, f"drop database {name}{force}")
        admin.dispose()


def _drop(admin: Engine, statement: str) -> None:
    """Drop a database; a session of the test may need a moment to be gone."""
    for attempt in stamina.retry_context(on=DBAPIError, attempts=6, wait_initial=0.5):
        with attempt:
            _do(admin, statement)


def _drop_tables(admin: Engine) -> None:
    with admin.connect() as connection:
        names = connection.execute(text("select table_name from user_tables")).scalars().all()
        for name in names:
            connection.execute(text(f'drop table "{name}" cascade constraints purge'))


def _do(admin: Engine, statement: str) -> None:
    with admin.connect() as connection:
        connection.execute(text(statement))
