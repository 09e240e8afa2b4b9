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
    kept = _kept.setdefault(server, [])
    name, uses = kept.pop() if kept else (f"d2i_{uuid.uuid4().hex[:12]}", 0)
    if not uses:
        _do(admin, f"create database {name}")
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False)
    finally:
        if uses < _MOST_USES and admin.dialect.name == "postgresql" and _emptied(admin, name):
            kept.append((name, uses + 1))
        else:
            _drop(admin, name)
        admin.dispose()


# Databases of PostgreSQL that are empty again, by their server: name, and how often it was used.
# To make one writes 300 files, which takes a disk far longer than to drop a test's tables.
_kept: dict[str, list[tuple[str, int]]] = {}
_MOST_USES = 25  # each leaves dead rows in the catalogue
_SCHEMAS = text("""
    select quote_ident(nspname) from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
""")
_SESSIONS = text("""
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
""")
# what a test may leave beside schemas
_LEFT = text("""
    select (select count(*) from pg_database
            where datname = current_database() and datacl is not null)
      + (select count(*) from pg_db_role_setting
         join pg_database d on d.oid = setdatabase where d.datname = current_database())
      + (select count(*) from pg_default_acl)
      + (select count(*) from pg_event_trigger)
      + (select count(*) from pg_largeobject_metadata)
      + (select count(*) - 1 from pg_extension)
""")


def _emptied(admin: Engine, name: str) -> bool:
    """Make a used database of PostgreSQL what a new one is; False where that is not certain."""
    engine = create_engine(admin.url.set(database=name), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            if (engine.dialect.server_version_info or (0,)) < (15,):  # public had other rights
                return False
            connection.execute(_SESSIONS)
            for schema in connection.execute(_SCHEMAS).scalars().all():
                connection.execute(text(f"drop schema {schema} cascade"))
            connection.execute(text("create schema public authorization pg_database_owner"))
            connection.execute(text("grant usage on schema public to public"))
            return connection.execute(_LEFT).scalar_one() == 0
    except DBAPIError:
        return False
    finally:
        engine.dispose()


def drop_kept(server: str) -> None:
    """Drop the databases that were kept for further tests."""
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    for name, _ in _kept.pop(server, []):
        _drop(admin, name)
    admin.dispose()


def _drop(admin: Engine, name: str) -> None:
    """Drop a database; a session of the test may need a moment to be gone."""
    force = " with (force)" if admin.dialect.name == "postgresql" else ""
    for attempt in stamina.retry_context(on=DBAPIError, attempts=6, wait_initial=0.5):
        with attempt:
            _do(admin, f"drop database {name}{force}")


def _drop_tables(admin: Engine) -> None:
    with admin.connect() as connection:
        names = connection.execute(text("select table_name from user_tables")).scalars().all()
        for name in names:
            connection.execute(text(f'drop table "{name}" cascade constraints purge'))


def _do(admin: Engine, statement: str) -> None:
    with admin.connect() as connection:
        connection.execute(text(statement))
