"""Opening engines: the address, the password, and what a session is told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

from sqlalchemy import URL, Engine, create_engine, event, literal, select
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from d2i_helpers.database import catalogue, dialects, tables
from d2i_helpers.database.retries import reading
from d2i_helpers.database.transactions import failures
from d2i_helpers.errors import DatabaseError
from d2i_helpers.settings import Secrets, Settings, load_secrets
from d2i_helpers.settings.addresses import ODBC_KEY, odbc_pairs, odbc_value


def open_database(
    settings: Settings, secrets: Secrets | None = None, *, create: bool = False
) -> Engine:
    """An engine for the profile's database; nothing is connected yet, except to look for a file.

    Args:
        create: make the SQLite file where it is missing (only `simulate` does).

    Raises:
        DatabaseError: the driver is missing, or there is no such SQLite file.
    """
    url = make_url(settings.database_url)
    dialect = dialects.named(url.get_backend_name())
    url = _with_password(url, dialect, secrets or load_secrets())
    url = dialect.prepare_url(url, settings, create=create)
    try:
        engine = create_engine(
            url,
            hide_parameters=True,  # no child's data in an exception
            pool_pre_ping=True,
            pool_use_lifo=True,  # the last one has what its server understood and read
            **dialect.engine_options(url.get_driver_name(), settings),
        )
    except (NoSuchModuleError, ModuleNotFoundError, ImportError, ArgumentError) as error:
        raise DatabaseError(
            f"The driver of `{url.drivername}` cannot be loaded ({type(error).__name__}).",
            hint="docs/setup.md says which package and system library each database needs.",
        ) from None

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, record: Any) -> None:
        dialect.set_up_connection(connection, settings, record.info)

    @event.listens_for(engine, "handle_error")
    def _failed(context: ExceptionContext) -> None:
        # of a connection that is lost SQLAlchemy leaves the cursor open, and psycopg warns of that
        cursor: Any = getattr(context.execution_context, "cursor", None)
        if context.is_disconnect and cursor is not None:
            with contextlib.suppress(*failures(engine)):
                cursor.close()

    dialect.limit_statements(engine, settings)
    dialect.type_parameters(engine)
    dialect.guard_transactions(engine)
    catalogue.keep_answers(engine)
    return engine.execution_options(
        schema_translate_map={
            tables.SSD_SCHEMA: settings.ssd_schema,
            tables.STAGING_SCHEMA: settings.staging_schema,
        }
    )


def ping(engine: Engine, *, look_first: bool = False) -> str:
    """Connect and ask for nothing; the dialect and server version for the run record.

    Args:
        look_first: look for the server before its driver does, which says after 15 seconds what a
            look says at once; for a database that may well not be there.

    Raises:
        DatabaseError: it cannot be reached; says which step fails, also where the driver does not.
    """
    if look_first:
        _look_for(engine)
    try:
        with reading(engine) as connection:
            connection.execute(select(literal(1)))
            return dialects.of(connection).server(connection.dialect)
    except DatabaseError:
        _look_for(engine)
        raise


def _look_for(engine: Engine) -> None:
    """Raise DatabaseError if a look from outside finds that nobody answers."""
    situation = dialects.of(engine).why_unreachable(engine.url)
    if situation is not None:
        raise DatabaseError(f"{situation.meaning}.", hint=situation.advice) from None


# how a login of SQL Server is proved without a password: by Windows, a token, a managed identity
_NO_PASSWORD = re.compile(
    r"(?i)ActiveDirectory(?:Integrated|Interactive|Msi|ManagedIdentity|Default|DeviceCode)"
)


def _with_password(url: URL, dialect: dialects.Portable, secrets: Secrets) -> URL:
    """The URL with the password of the secret store, where a login is named that needs one."""
    if secrets.database_password is None or url.password or not dialect.takes_password:
        return url
    password = secrets.database_password.get_secret_value()
    query = {key.lower(): str(value) for key, value in url.query.items()}
    if ODBC_KEY in query:
        return _with_odbc_password(url, password)
    named = url.username or query.get("user") or query.get("uid")
    if not (named or dialect.password_without_login):
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
