"""Engines and transactions, and the few places where the databases differ, each with its reason."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    URL,
    Column,
    ColumnElement,
    Engine,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    cast,
    create_engine,
    event,
    func,
    inspect,
    literal,
    select,
)
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql import Select

from d2i_helpers import tables
from d2i_helpers.errors import DatabaseError
from d2i_helpers.plain_message import without_values
from d2i_helpers.settings import Secrets, Settings, load_secrets

Item = TypeVar("Item")


def open_database(
    settings: Settings, secrets: Secrets | None = None, *, create: bool = False
) -> Engine:
    """An engine for the profile's database; nothing is connected yet, except to look for a file.

    Args:
        create: make the SQLite file where it is missing (only `simulate` does).

    Raises:
        DatabaseError: the driver is missing, or there is no such SQLite file.
    """
    url = _with_password(make_url(settings.database_url), secrets or load_secrets())
    if url.get_backend_name() == "sqlite":
        url = _sqlite_file(url, settings, create=create)
    try:
        engine = create_engine(
            url,
            hide_parameters=True,  # no child's data in an exception
            pool_pre_ping=True,
            **_engine_options(url, settings),
        )
    except (NoSuchModuleError, ModuleNotFoundError, ImportError, ArgumentError) as error:
        raise DatabaseError(
            f"The driver of `{url.drivername}` cannot be loaded ({type(error).__name__}).",
            hint="docs/setup.md says which package and system library each database needs.",
        ) from None
    _set_up_connections(engine, settings)
    return engine.execution_options(
        schema_translate_map={
            tables.SSD_SCHEMA: settings.ssd_schema,
            tables.STAGING_SCHEMA: settings.staging_schema,
        }
    )


def _with_password(url: URL, secrets: Secrets) -> URL:
    if secrets.database_password is None or url.password or url.get_backend_name() == "sqlite":
        return url
    return url.set(password=secrets.database_password.get_secret_value())


def _sqlite_file(url: URL, settings: Settings, *, create: bool) -> URL:
    """SQLite makes an empty database of any name: refuse instead, so that a typo is seen."""
    if not url.database or url.database == ":memory:":
        return url
    path: Path = settings.path(url.database)
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        raise DatabaseError(
            f"There is no database file {path.name} (parameter `database_url`).",
            hint="For the fictional one run `d2i simulate init`; else correct the parameter.",
        )
    return url.set(database=str(path))


def _engine_options(url: URL, settings: Settings) -> dict[str, Any]:
    backend, driver = url.get_backend_name(), url.get_driver_name()
    if backend == "sqlite":
        return {"connect_args": {"timeout": settings.connect_timeout}}
    if backend == "postgresql":
        return {"connect_args": {"connect_timeout": settings.connect_timeout}}
    if driver == "pyodbc":
        # one round trip per batch of rows instead of one per row
        return {"fast_executemany": True, "connect_args": {"timeout": settings.connect_timeout}}
    return {}


def _set_up_connections(engine: Engine, settings: Settings) -> None:
    """Settings that a driver takes only once it is connected."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        if engine.dialect.name == "sqlite":
            # readers do not wait for the writer; what is committed survives a power cut, without
            # which the journal could forget a document that is on the wire
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=full")
        elif engine.dialect.name == "postgresql" and settings.statement_timeout:
            with connection.cursor() as cursor:
                cursor.execute(f"set statement_timeout = {settings.statement_timeout * 1000:d}")
            connection.commit()
        elif engine.dialect.driver == "pyodbc" and settings.statement_timeout:
            connection.timeout = settings.statement_timeout


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end, rolled back on any error.

    Raises:
        DatabaseError: the database refused something; the message holds no value of a row.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise _explained(error) from None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that only reads; errors as in `transaction`."""
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise _explained(error) from None


def _explained(error: SQLAlchemyError) -> DatabaseError:
    """The error without any value: what the driver quotes may be a child's data."""
    kind = type(error).__name__
    if not isinstance(error, DBAPIError):
        return DatabaseError(f"The database step failed ({kind}).")
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None)
    said = f"{kind}{f', {code}' if code else ''}"
    line = next(iter(str(error.orig).strip().splitlines()), "")
    return DatabaseError(
        f"The database refused a step ({said}: {without_values(line)}).",
        hint="`d2i check` shows what is missing: server, rights, tables or columns.",
    )


def create_staging(engine: Engine, *names: str) -> list[str]:
    """Create the staging tables of these names and this project's own, where they are missing.

    Nothing that is there is altered, except that an index on the person id is added where this
    login may: without one every answer costs a search through the whole table.

    Returns:
        Names of the tables that were created.

    Raises:
        DatabaseError: a staging table is there that lacks columns or keeps documents as JSON.
    """
    created: list[str] = []
    with transaction(engine) as connection:
        wanted = [tables.staging_table(name) for name in names]
        wanted += list(tables.our_tables().tables.values())
        for table in wanted:
            if not has_table(connection, table):
                table.create(connection)
                created.append(table.name)
            elif table.name in names:
                _refuse_other_columns(connection, table)
    for name in set(names) - set(created):
        with suppress(DatabaseError):  # preflight says so, with the statement for a DBA
            _index_person(engine, tables.staging_table(name))
    return created


def _refuse_other_columns(connection: Connection, table: Table) -> None:
    """Stop before anything is read where a deployed staging table cannot hold the documents."""
    gone = sorted({column.name for column in table.columns} - columns_present(connection, table))
    if gone:
        raise DatabaseError(
            f"{table.name} has no column {', '.join(gone)}.",
            hint="docs/setup.md names the columns; a DBA can add them to the table.",
        )
    if structured := json_columns(connection, table):
        raise DatabaseError(
            f"{table.name} keeps {', '.join(structured)} in a JSON type.",
            hint="Documents are kept as text: alter these columns to text, or name another table "
            "in `staging_table`.",
        )


def _index_person(engine: Engine, table: Table) -> None:
    with transaction(engine) as connection:
        if "person_id" not in indexed_columns(connection, table):
            schema = real_schema(connection, table)
            connection.execute(_index(schema, table.name, "person_id"))


def indexed_columns(connection: Connection, table: Table) -> set[str]:
    """Columns that some index or key of the deployed table begins with, lower case."""
    look, schema = inspect(connection), real_schema(connection, table)
    if not has_table(connection, table):
        return set()
    found = [index["column_names"] for index in look.get_indexes(table.name, schema=schema)]
    found.append(look.get_pk_constraint(table.name, schema=schema)["constrained_columns"])
    with suppress(NotImplementedError):  # not every dialect tells its unique constraints apart
        unique = look.get_unique_constraints(table.name, schema=schema)
        found += [one["column_names"] for one in unique]
    # an index on an expression has no name there
    return {columns[0].lower() for columns in found if columns and columns[0]}


def index_statement(engine: Engine, schema: str | None, table: str, column: str) -> str:
    """The statement by which a database administrator makes an index on one column."""
    said = _index(schema, table, column).compile(dialect=engine.dialect)
    return f"{' '.join(str(said).split())};"


def _index(schema: str | None, table: str, column: str) -> CreateIndex:
    target = Table(table, MetaData(), Column(column), schema=schema)
    # names are unique within a schema on some databases; 30 characters are what old Oracles take
    name = f"ix_d2i_{zlib.crc32(f'{table}.{column}'.encode()):08x}_{column}"[:30]
    return CreateIndex(Index(name, target.c[column]))


def has_table(connection: Connection, table: Table) -> bool:
    """Whether the table is there, in the schema that the profile gives."""
    return inspect(connection).has_table(table.name, schema=real_schema(connection, table))


def real_schema(connection: Connection, table: Table) -> str | None:
    """The schema of the profile that stands behind the table's placeholder schema."""
    return connection.get_execution_options()["schema_translate_map"].get(table.schema)


def columns_present(connection: Connection, table: Table) -> set[str]:
    """Names of the columns that the deployed table has, lower case; empty where it is missing."""
    if not has_table(connection, table):
        return set()
    found = inspect(connection).get_columns(table.name, schema=real_schema(connection, table))
    return {column["name"].lower() for column in found}


def json_columns(connection: Connection, table: Table) -> list[str]:
    """Columns of the deployed table that hold JSON as a structure and not as text."""
    found = inspect(connection).get_columns(table.name, schema=real_schema(connection, table))
    return sorted(column["name"] for column in found if isinstance(column["type"], JSON))


def locking(statement: Select, table: Table) -> Select:
    """The select, with its rows held against other writers until the transaction ends.

    SQLite needs nothing (one writer at a time); SQL Server has a table hint for FOR UPDATE.
    """
    return statement.with_for_update(of=table).with_hint(table, "with (updlock, rowlock)", "mssql")


def in_batches(items: Sequence[Item], size: int = 900) -> Iterator[Sequence[Item]]:
    """Slices for an IN list: SQL Server takes 2,100 parameters a statement, Oracle 1,000 a list."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def as_raw_text(engine: Engine, column: ColumnElement) -> ColumnElement:
    """A column of any type as text that the driver cannot choke on.

    SQLite checks that text is UTF-8 when it hands it over, but not bytes.
    """
    return cast(column, LargeBinary() if engine.dialect.name == "sqlite" else Text())


def as_bytes(value: Any) -> bytes | None:
    """A binary value as bytes, whatever the driver hands out (memoryview, bytearray)."""
    return bytes(value) if value is not None else None


def ping(engine: Engine) -> str:
    """Connect and ask for nothing; the dialect and server version for the run record."""
    with reading(engine) as connection:
        connection.execute(select(literal(1)))
        version = connection.dialect.server_version_info or ()
        return f"{connection.dialect.name} {'.'.join(str(part) for part in version)}"


def utc_now(connection: Connection) -> dt.datetime:
    """The database's own clock, UTC without a zone: one clock for all machines that share it."""
    said = {
        # current_timestamp is local time there, which jumps twice a year
        "mssql": func.sysutcdatetime(),
        "oracle": func.sys_extract_utc(func.systimestamp()),
        # now() stands still within a transaction
        "postgresql": func.timezone("utc", func.clock_timestamp()),
        # current_timestamp has whole seconds only
        "sqlite": func.strftime("%Y-%m-%d %H:%M:%f", "now"),
    }.get(connection.dialect.name, func.current_timestamp())
    found = connection.execute(select(said)).scalar_one()
    return dt.datetime.fromisoformat(found) if isinstance(found, str) else found
