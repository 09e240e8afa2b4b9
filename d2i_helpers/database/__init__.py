"""Engines and transactions, and the few places where the databases differ, each with its reason."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus

from sqlalchemy import (
    DDL,
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
    text,
)
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable
from sqlalchemy.sql import Select

from d2i_helpers.database import tables
from d2i_helpers.database.messages import error_codes, situation_of
from d2i_helpers.database.plain_message import GONE, known_names, without_values
from d2i_helpers.errors import DatabaseError
from d2i_helpers.files import make_private_file
from d2i_helpers.settings import Secrets, Settings, load_secrets
from d2i_helpers.settings.addresses import ODBC_KEY, odbc_pairs, odbc_value

Item = TypeVar("Item")

_WITHOUT_END = 2_000_000  # seconds; what SQLite counts in milliseconds of 31 bits
_DEADLINE = "d2i_deadline"
_STEPS_BETWEEN_LOOKS = 50_000  # of SQLite's machine, some milliseconds


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


# how a login of SQL Server is proved without a password: by Windows, a token, a managed identity
_NO_PASSWORD = re.compile(
    r"(?i)ActiveDirectory(?:Integrated|Interactive|Msi|ManagedIdentity|Default|DeviceCode)"
)


def _with_password(url: URL, secrets: Secrets) -> URL:
    """The URL with the password of the secret store, where a login is named that needs one."""
    if secrets.database_password is None or url.password or url.get_backend_name() == "sqlite":
        return url
    password = secrets.database_password.get_secret_value()
    query = {key.lower(): str(value) for key, value in url.query.items()}
    if ODBC_KEY in query:
        return _with_odbc_password(url, password)
    named = url.username or query.get("user") or query.get("uid")
    # PostgreSQL's own library takes the login from elsewhere, and gives a password when asked only
    if not (named or url.get_backend_name() == "postgresql"):
        return url
    if {"password", "pwd"} & query.keys() or _proved_otherwise(query):
        return url
    return url.set(password=password)


def _with_odbc_password(url: URL, password: str) -> URL:
    """A connection string with the password at its end, if it names a login and no password."""
    key = next(key for key in url.query if key.lower() == ODBC_KEY)
    text = str(url.query[key])
    try:
        given = {name.lower(): value for name, value in odbc_pairs(text)}
    except ValueError:
        raise DatabaseError(
            "The connection string in `odbc_connect` cannot be read.",
            hint="Its parts are NAME=VALUE, with semicolons between them; a value that holds a "
            "semicolon or a brace stands in braces, with each } doubled.",
        ) from None
    if {"pwd", "password"} & given.keys() or not {"uid", "user"} & given.keys():
        return url
    if _proved_otherwise(given):
        return url
    whole = f"{text.rstrip().rstrip(';')};PWD={odbc_value(password)}"
    # SQLAlchemy 2.0 decodes the connection string once more than 2.1 does
    for written in (whole, quote_plus(whole)):
        complete = url.update_query_dict({key: written})
        if complete.get_dialect()().create_connect_args(complete)[0][0] == whole:
            return complete
    raise DatabaseError("SQLAlchemy does not pass on the connection string in `odbc_connect`.")


def _proved_otherwise(given: Mapping[str, str]) -> bool:
    """Whether a login is proved without a password; names in lower case."""
    trusted = given.get("trusted_connection", "").strip().lower() in {"yes", "true", "1", "sspi"}
    return trusted or _NO_PASSWORD.fullmatch(given.get("authentication", "").strip()) is not None


def _sqlite_file(url: URL, settings: Settings, *, create: bool) -> URL:
    """SQLite makes an empty database of any name: refuse instead, so that a typo is seen."""
    if not url.database or url.database == ":memory:":
        return url
    path: Path = settings.path(url.database)
    if create:
        make_private_file(path)
    elif not path.is_file():
        raise DatabaseError(
            f"There is no database file {path.name} (parameter `database_url`).",
            hint="For the fictional one run `d2i simulate init`; else correct the parameter.",
        )
    return url.set(database=str(path))


def _engine_options(url: URL, settings: Settings) -> dict[str, Any]:
    backend, driver = url.get_backend_name(), url.get_driver_name()
    if backend == "sqlite":
        # what one waits for there is always a lock; 0 would mean not to wait at all
        return {"connect_args": {"timeout": settings.lock_timeout or _WITHOUT_END}}
    if backend == "postgresql":
        return {"connect_args": {"connect_timeout": settings.connect_timeout}}
    if driver == "pyodbc":
        # one round trip per batch of rows instead of one per row
        return {"fast_executemany": True, "connect_args": {"timeout": settings.connect_timeout}}
    return {}


def _set_up_connections(engine: Engine, settings: Settings) -> None:
    """Settings that a driver takes only once it is connected."""
    set_up = {
        "sqlite": _set_up_sqlite,
        "postgresql": _set_up_postgresql,
        "mssql": _set_up_mssql,
        "oracle": _set_up_oracle,
    }.get(engine.dialect.name)

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, record: Any) -> None:
        if set_up is not None:
            set_up(connection, settings, record.info)

    if engine.dialect.name == "sqlite" and settings.statement_timeout:
        _time_statements(engine, settings.statement_timeout)


def _set_up_sqlite(connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
    # readers do not wait for the writer; what is committed survives a power cut, without
    # which the journal could forget a document that is on the wire
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    if settings.statement_timeout:
        connection.set_progress_handler(
            lambda: time.monotonic() > info.get(_DEADLINE, math.inf), _STEPS_BETWEEN_LOOKS
        )


def _set_up_postgresql(connection: Any, settings: Settings, _info: dict[Any, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"set statement_timeout = {settings.statement_timeout * 1000:d}")
        cursor.execute(f"set lock_timeout = {settings.lock_timeout * 1000:d}")
    connection.commit()


def _set_up_mssql(connection: Any, settings: Settings, _info: dict[Any, Any]) -> None:
    if hasattr(connection, "timeout"):  # of pyodbc and mssql-python: seconds, 0 without end
        connection.timeout = settings.statement_timeout
    milliseconds = settings.lock_timeout * 1000 if settings.lock_timeout else -1
    cursor = connection.cursor()
    cursor.execute(f"set lock_timeout {milliseconds:d}")
    cursor.close()
    connection.commit()


def _set_up_oracle(connection: Any, settings: Settings, _info: dict[Any, Any]) -> None:
    # a session has no limit of its own for a lock: the limit of a statement ends the wait
    connection.call_timeout = 1000 * settings.statement_timeout


def _time_statements(engine: Engine, seconds: int) -> None:
    """Let SQLite end a statement that takes longer; rows that are fetched later do not count."""

    @event.listens_for(engine, "before_cursor_execute")
    def _begin(connection: Connection, *_: Any) -> None:
        connection.info[_DEADLINE] = time.monotonic() + seconds

    @event.listens_for(engine, "after_cursor_execute")
    def _end(connection: Connection, *_: Any) -> None:
        connection.info.pop(_DEADLINE, None)


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
    codes = ", ".join([kind, *error_codes(error.orig)])
    situation = situation_of(error.orig)
    if situation is None:
        line = next(iter(str(error.orig).strip().splitlines()), "")
        words = re.sub(r"\d+", GONE, without_values(line))  # a short number may be a value too
        return DatabaseError(
            f"The database refused a step ({codes}: {words}).",
            hint="A DBA can tell what this code means; docs/setup.md lists what is needed.",
        )
    names = known_names(error.orig) if situation.names_help else []
    about = f": {', '.join(names)}" if names else ""
    return DatabaseError(f"{situation.meaning}{about} ({codes}).", hint=situation.advice)


def create_staging(engine: Engine, *names: str) -> list[str]:
    """Create the staging tables of these names and this project's own, where they are missing.

    Nothing that is there is altered, except that an index on the person id is added where this
    login may: without one every answer costs a search through the whole table. Columns that a
    newer version of this project needs are added to its own tables.

    Returns:
        Names of the tables that were created.

    Raises:
        DatabaseError: a staging table is there that lacks columns or keeps documents as JSON.
    """
    created: list[str] = []
    with transaction(engine) as connection:
        for table in map(tables.staging_table, names):
            if not has_table(connection, table):
                table.create(connection)
                created.append(table.name)
            else:
                _refuse_other_columns(connection, table)
        created += _create_ours(connection)
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


def _create_ours(connection: Connection) -> list[str]:
    """Create this project's own tables, and add the columns that an older version's lack."""
    ours = tables.our_tables().tables.values()
    schema = real_schema(connection, next(iter(ours)))
    read = inspect(connection).get_multi_columns(
        schema=schema, filter_names=[table.name for table in ours]
    )
    present = {name: {c["name"].lower() for c in columns} for (_, name), columns in read.items()}
    created = []
    for table in ours:
        if table.name not in present:
            table.create(connection)
            created.append(table.name)
        elif missing := [c for c in table.columns if c.name not in present[table.name]]:
            _add_columns(connection, table, missing)
    return created


def _add_columns(connection: Connection, table: Table, missing: Sequence[Column]) -> None:
    deployed = Table(table.name, MetaData(), schema=real_schema(connection, table))
    name = connection.dialect.identifier_preparer.format_table(deployed)
    for column in missing:
        said = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(DDL(f"alter table {name} add {said}"))


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
    found: list[list[str | None]] = [
        index["column_names"] for index in look.get_indexes(table.name, schema=schema)
    ]
    found.append([*look.get_pk_constraint(table.name, schema=schema)["constrained_columns"]])
    with suppress(NotImplementedError):  # not every dialect tells its unique constraints apart
        unique = look.get_unique_constraints(table.name, schema=schema)
        found += [[*constraint["column_names"]] for constraint in unique]
    # an index on an expression has no name there
    return {columns[0].lower() for columns in found if columns and columns[0]}


def _deployed(table: Table, schema: str | None) -> Table:
    """The table in a schema; None is the login's own, which SQLAlchemy's types do not know."""
    own: Any = schema
    return table.to_metadata(MetaData(), schema=own)


def index_statement(engine: Engine, schema: str | None, table: str, column: str) -> str:
    """The statement by which a database administrator makes an index on one column."""
    said = _index(schema, table, column).compile(dialect=_for_scripts(engine))
    return f"{' '.join(str(said).split())};"


def table_statements(engine: Engine, schema: str | None, table: Table) -> list[str]:
    """The statements that make a table of ours with its indexes."""
    deployed = _deployed(table, schema)
    indexes = sorted(deployed.indexes, key=lambda index: str(index.name))
    parts: list[Any] = [CreateTable(deployed), *(CreateIndex(index) for index in indexes)]
    dialect = _for_scripts(engine)
    return [f"{str(part.compile(dialect=dialect)).strip()};" for part in parts]


def column_statement(engine: Engine, schema: str | None, table: Table, name: str) -> str:
    """The statement that adds a column to a deployed table; it may be empty in the rows there."""
    deployed = _deployed(table, schema)
    column = Column(name, table.columns[name].type)
    deployed_name = _for_scripts(engine).identifier_preparer.format_table(deployed)
    said = CreateColumn(column).compile(dialect=_for_scripts(engine))
    return f"alter table {deployed_name} add {said};"


def schema_statements(
    engine: Engine, schema: str | None, login: str | None, *, is_there: bool
) -> list[str]:
    """The statements that make a schema of the profile and let the login use it."""
    if schema is None:
        return []
    quoted = _for_scripts(engine).identifier_preparer.quote_identifier
    if engine.dialect.name == "postgresql":
        make = [] if is_there else [f"create schema {quoted(schema)};"]
        use = [f"grant usage on schema {quoted(schema)} to {quoted(login)};"] if login else []
        return [*make, *use]
    if engine.dialect.name == "mssql" and not is_there:  # the one statement of its batch
        return [f"exec('create schema {quoted(schema)}');"]
    return []  # a schema of Oracle is a user; SQLite has none


def grant_statements(
    engine: Engine, schema: str | None, table: Table, login: str | None, rights: Sequence[str]
) -> list[str]:
    """The statements that let a login use a table.

    Args:
        login: as the database calls it; None where it is not known, or needs no grant.
        rights: such as select, insert.
    """
    if login is None or engine.dialect.name == "sqlite":
        return []
    preparer = _for_scripts(engine).identifier_preparer
    name = preparer.format_table(_deployed(table, schema))
    return [f"grant {', '.join(rights)} on {name} to {preparer.quote_identifier(login)};"]


def login_name(connection: Connection) -> str | None:
    """What the database calls the login that is connected; None where nobody has to grant it."""
    asked: Any = {
        "postgresql": func.current_user(),
        "mssql": func.user_name(),
        "oracle": text("user"),
    }.get(connection.dialect.name)
    if asked is None:
        return None
    source = text("dual") if connection.dialect.name == "oracle" else None
    statement = select(asked) if source is None else select(asked).select_from(source)
    name = connection.execute(statement).scalar_one()
    return None if name == "dbo" else name  # the owner of a database of SQL Server


def has_schema(connection: Connection, schema: str | None) -> bool:
    """Whether the schema is there; None is the login's own."""
    if schema is None:
        return True
    return schema.lower() in {name.lower() for name in inspect(connection).get_schema_names()}


def _for_scripts(engine: Engine) -> Dialect:
    """The dialect, set up for a server of today where none was asked."""
    dialect: Any = engine.dialect
    if dialect.name == "mssql" and getattr(dialect, "deprecate_large_types", True) is None:
        dialect.deprecate_large_types = True  # nvarchar(max) in place of ntext
    return dialect


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
