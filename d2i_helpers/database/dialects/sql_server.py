"""What is different on SQL Server and Azure SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CHAR,
    NCHAR,
    URL,
    VARCHAR,
    BigInteger,
    ColumnElement,
    Engine,
    Table,
    and_,
    bindparam,
    cast,
    collate,
    event,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.mssql import NVARCHAR
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import Select
from sqlalchemy.types import TypeEngine

from d2i_helpers.database import reachability
from d2i_helpers.database.dialects.column_types import Characters
from d2i_helpers.database.dialects.odbc_types import length_in_utf16, odbc_type, types_of
from d2i_helpers.database.dialects.portable import Portable
from d2i_helpers.database.dialects.registry import register
from d2i_helpers.database.messages import Situation
from d2i_helpers.errors import DatabaseError
from d2i_helpers.settings import Settings

# A lock that lasts as long as the transaction and that everybody may have at the same time.
_HELD = "d2i_lock_of_transaction"  # in the information on a connection
_HOLD = (
    "exec sp_getapplock @Resource = N'd2i_transaction', @LockMode = N'IntentShared', "
    "@LockOwner = N'Transaction', @LockTimeout = 0"
)
_MODE = "select applock_mode(N'public', N'd2i_transaction', N'Transaction')"

_ODBC_DRIVER = re.compile(r"ODBC Driver (\d+) for SQL Server")


def _newest_odbc_driver() -> str:
    """The name of Microsoft's newest ODBC driver on this machine.

    The one that comes with Windows, "SQL Server", is not taken: it is of the year 2000 and knows
    neither today's encryption nor dates and texts as we write them.

    Raises:
        DatabaseError: none is installed, or pyodbc cannot be loaded.
    """
    try:
        import pyodbc
    except ImportError:  # on Linux it needs unixODBC
        raise DatabaseError(
            "pyodbc cannot be loaded, through which SQL Server is reached.",
            hint="On Linux install unixODBC with the system's packages. docs/setup.md.",
        ) from None
    versions = [int(m[1]) for name in pyodbc.drivers() if (m := _ODBC_DRIVER.fullmatch(name))]
    if not versions:
        raise DatabaseError(
            "None of Microsoft's ODBC drivers for SQL Server is installed.",
            hint="Install ODBC Driver 18 for SQL Server from Microsoft; docs/setup.md says how.",
        )
    return f"ODBC Driver {max(versions)} for SQL Server"


@register
class SQLServer(Portable):
    """SQL Server and Azure SQL, through pyodbc and Microsoft's ODBC driver."""

    name = "mssql"
    owners = frozenset({"dbo"})  # the owner of the database
    hides_tables = True
    # deadlock, lock not had in time, conflict of snapshots; Azure SQL is busy or moves
    passing_codes = frozenset(
        {"1205", "1222", "3960", "3961", "40001", "40197", "40501", "40613", "49918", "49919",
         "49920", "10928", "10929"}
    )  # fmt: skip
    lost_codes = frozenset(
        {"08S01", "08S02", "08001", "08003", "08007", "10053", "10054", "10060", "64", "121",
         "233", "6005", "17142"}
    )  # fmt: skip
    # pyodbc gives -1 for what `fast_executemany` wrote, and the server may have ended the
    # transaction between two rows of it without an error that reaches us
    counts_rows_of_many = False

    def as_compared(self, text: str) -> str:
        """Blanks at its end are filled up before two texts are compared."""
        return text.rstrip(" ")

    def is_not_plain(self, text: ColumnElement) -> ColumnElement[bool] | None:
        """By code points; plain blanks at its end, which make no difference here, are not counted.

        All ids of a column of the type CHAR have those.
        """
        by_code = collate(func.rtrim(text), "Latin1_General_100_BIN2")
        return by_code.like(literal_column("N'%[^!-~]%'"))

    def prepare_url(self, url: URL, settings: Settings, *, create: bool) -> URL:
        """The URL with the newest of Microsoft's ODBC drivers, where it names none.

        A URL of a data source (DSN) or a connection string has its driver already.
        """
        given = {name.lower() for name in url.query}
        by_name = url.get_driver_name() == "pyodbc" and url.host and url.database
        if not by_name or given & {"driver", "dsn", "odbc_connect"}:
            return url
        return url.update_query_dict({"driver": _newest_odbc_driver()})

    def why_unreachable(self, url: URL) -> Situation | None:
        """Looked at by ourselves: the driver waits for as long as it may, then names no cause."""
        if not url.host or "odbc_connect" in url.query:
            return None
        host, _, instance = url.host.partition("\\")
        return reachability.of_sql_server(host, url.port, instance or None)

    def engine_options(self, driver: str, settings: Settings) -> dict[str, Any]:
        """With pyodbc one round trip per batch of rows instead of one per row."""
        if driver != "pyodbc":
            return {}
        return {"fast_executemany": True, "connect_args": {"timeout": settings.connect_timeout}}

    def set_up_connection(self, connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
        """The driver limits a statement, the session the wait for a lock.

        The isolation is said, because ODBC hands out pooled connections that keep what another
        program set. READ COMMITTED holds no lock on what was read, and is what a database without
        snapshots has; what has to stay as it was read is held with `hold_rows`. XACT_ABORT, which
        a server may have on, would end the transaction where pyodbc swallows an error. Of a
        deadlock we are the victim, as we do a step again and the load of an SSD may not.
        """
        if hasattr(connection, "timeout"):  # seconds, 0 without end
            connection.timeout = settings.statement_timeout
        # 0 would mean not to wait at all
        milliseconds = settings.lock_timeout * 1000 if settings.lock_timeout else -1
        cursor = connection.cursor()
        cursor.execute(f"set lock_timeout {milliseconds:d}")
        cursor.execute("set transaction isolation level read committed")
        cursor.execute("set xact_abort off")
        cursor.execute("set deadlock_priority low")
        cursor.close()
        connection.commit()

    def type_parameters(self, engine: Engine) -> None:
        """Give pyodbc the type of each parameter of each statement.

        Without it pyodbc asks the server, and the server cannot say for a parameter that stands in
        an expression. Then every parameter of the statement becomes VARCHAR(255): long texts end
        in an error, and letters that the code page lacks become question marks.
        """
        if engine.dialect.driver != "pyodbc":
            return
        dbapi: Any = engine.dialect.dbapi

        @event.listens_for(engine, "before_cursor_execute")
        def _set_types(
            connection: Connection,
            cursor: Any,
            statement: str,
            parameters: Any,
            context: Any,
            executemany: bool,
        ) -> None:
            types = types_of(context)
            if types:
                rows = parameters if executemany else [parameters]
                columns = zip(types, zip(*rows, strict=True), strict=True)
                cursor.setinputsizes([odbc_type(dbapi, kind, some) for kind, some in columns])

    def guard_transactions(self, engine: Engine) -> None:
        """Take a lock that goes with the transaction, and look before the commit if it is there.

        pyodbc has the server describe the parameters of a statement for many rows, and of one with
        a null, though their types are given. Where that fails it goes on, and says nothing: if the
        failure has ended the transaction, in a new one, and what came before is undone.
        """
        if engine.dialect.driver != "pyodbc":
            return

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.info[_HELD] = None  # there is nothing yet that could be lost

        @event.listens_for(engine, "before_cursor_execute")
        def _hold(
            connection: Connection,
            _cursor: Any,
            _statement: str,
            parameters: Any,
            _context: Any,
            executemany: bool,
        ) -> None:
            held = connection.info.get(_HELD)
            is_described = executemany or None in parameters
            if held is False and is_described and _asked(connection, "select @@trancount"):
                _asked(connection, _HOLD)
                held = True
            connection.info[_HELD] = bool(held)

        @event.listens_for(engine, "commit")
        def _look(connection: Connection) -> None:
            if connection.info.get(_HELD) and _asked(connection, _MODE) == "NoLock":
                error = DatabaseError(
                    "The database ended a transaction in its middle, and the driver said nothing.",
                    hint="Nothing of the step was kept: run again. Where it recurs, tell a DBA.",
                )
                error.passes = True  # a deadlock, say
                raise error

    def characters(self, length: int | None) -> TypeEngine[str]:
        """NVARCHAR, as the staging table is deployed: VARCHAR has the letters of one code page.

        A key of another type than the column that it is compared with would be converted row by
        row, past the index.
        """
        return NVARCHAR(length)

    def as_raw_text(self, column: ColumnElement) -> ColumnElement:
        """Style 121 writes a date as 2015-01-02 00:00:00.000; the default is Jan  2 2015 12:00AM.

        VARCHAR would lose letters.
        """
        return func.convert(text("nvarchar(max)"), column, text("121"))

    def shard_hash(self, text: ColumnElement) -> ColumnElement[int] | None:
        """Of the text in UTF-16, as NVARCHAR holds it; VARCHAR would give another hash."""
        digest = func.hashbytes(literal_column("'SHA2_256'"), text)
        return cast(func.substring(digest, literal_column("1"), literal_column("4")), BigInteger())

    def footprint(self, column: ColumnElement) -> ColumnElement:
        """Of a text its length without blanks at its end; a document may have a megabyte."""
        return func.len(column) if isinstance(column.type, Characters) else column

    def fits(self, footprint: Any, value: Any) -> bool:
        """A collation that knows supplementary characters counts one for what others count two."""
        if not isinstance(value, str):
            return footprint == value
        text = value.rstrip(" ")
        return footprint in (len(text), length_in_utf16([text]))

    def size_of(self, column: ColumnElement) -> ColumnElement[int]:
        """LEN would leave blanks at the end out."""
        return func.datalength(column)

    def size_of_ascii(self, length: int) -> int | None:
        """It counts bytes, of which a character has one or two, as the column was deployed."""
        return None

    def hold_rows(self, statement: Select, table: Table) -> Select:
        """It has no FOR UPDATE; the hint takes the lock of a writer, row by row."""
        return statement.with_hint(table, "with (updlock, rowlock)", self.name)

    def beside(self, deployed: TypeEngine[Any] | None) -> TypeEngine[Any] | None:
        """The column's kind of text and its length; VARCHAR while a value is ASCII (`odbc_type`).

        Beside a parameter of NVARCHAR a column of VARCHAR is converted. Under a collation whose
        name begins with ``SQL_`` no index serves it then, and the two types are sorted by different
        rules: an id with a hyphen would be on no page.

        Without a length pyodbc gives each value its own. The server keeps a plan for each list of
        types, so nearly each list of ids of several lengths would be planned anew.
        """
        if isinstance(deployed, VARCHAR | CHAR):
            return VARCHAR(deployed.length)
        if isinstance(deployed, NVARCHAR | NCHAR):
            return NVARCHAR(deployed.length)
        return None

    def among(
        self, column: ColumnElement, name: str, of_values: TypeEngine[Any] | None
    ) -> ColumnElement[bool]:
        """With the type of `beside`, where that is given."""
        beside = of_values if isinstance(of_values, VARCHAR | NVARCHAR) else None
        return column.in_(bindparam(name, expanding=True, type_=beside))

    def numbered(
        self, row_number: ColumnElement[int], *of_all: ColumnElement[bool]
    ) -> ColumnElement[bool]:
        """From the lowest to the highest number, as each other list makes another statement.

        The server has to understand and plan each anew.
        """
        lowest, highest = (bindparam(one, type_=BigInteger()) for one in ("lowest", "highest"))
        return and_(row_number.between(lowest, highest), *of_all)

    def numbers(self, row_numbers: Sequence[int]) -> dict[str, Any]:
        """The lowest and the highest."""
        return {"lowest": min(row_numbers), "highest": max(row_numbers)}

    def capitals_query(self) -> Select | None:
        """By the collation of the database, which is usually one that does."""
        return select(text("case when N'a' = N'A' then 1 else 0 end"))

    def utc_now(self) -> ColumnElement:
        """Not `current_timestamp`, which is local time there and jumps twice a year."""
        return func.sysutcdatetime()

    def login_query(self) -> Select | None:
        """The user within the database, which is what grants are made to, and not the login."""
        return select(func.user_name())

    def for_scripts(self, dialect: Dialect) -> Dialect:
        """Write nvarchar(max) in place of ntext, which only a server before 2012 needs."""
        unasked: Any = dialect
        if getattr(dialect, "deprecate_large_types", True) is None:
            unasked.deprecate_large_types = True
        return dialect

    def schema_statements(self, schema: str, login: str | None, *, is_there: bool) -> list[str]:
        """`create schema` has to be the one statement of its batch, hence the exec.

        A grant on a table is enough to use it there.
        """
        return [] if is_there else [f"exec('create schema {schema}');"]


def _asked(connection: Connection, statement: str) -> Any:
    """The one value that a statement gives, past what listens to SQLAlchemy's statements."""
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None
    finally:
        cursor.close()
