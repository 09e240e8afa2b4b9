"""Where the databases differ: one class for each, with the reason beside each difference.

`Portable` is what the project does anywhere. A class for a database says only what has to be
otherwise there. No other module asks which database it is: it takes the class with `of` or `named`,
and calls it. A database that has no class of its own is treated as portable.

To add a database: write a class here, mark it with `@register`, and give it its errors in
`messages.py`. SQLAlchemy has to know the database under the same name.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from sqlalchemy import (
    BOOLEAN,
    DATE,
    INTEGER,
    SMALLINT,
    TEXT,
    URL,
    VARCHAR,
    BigInteger,
    ColumnElement,
    Engine,
    Executable,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    collate,
    event,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.mssql import NVARCHAR
from sqlalchemy.dialects.oracle import RAW
from sqlalchemy.dialects.postgresql import BIT, REGCLASS, TIMESTAMP
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.sql import Select
from sqlalchemy.types import TypeDecorator, TypeEngine

from d2i_helpers.database import reachability
from d2i_helpers.database.messages import Situation
from d2i_helpers.database.packed_rows import SEPARATOR
from d2i_helpers.errors import DatabaseError, SettingsError
from d2i_helpers.files import make_private_file
from d2i_helpers.settings import Settings

_WITHOUT_END = 2_000_000  # seconds; what SQLite counts in milliseconds of 31 bits
_DEADLINE = "d2i_deadline"
_STEPS_BETWEEN_LOOKS = 50_000  # of SQLite's machine, some milliseconds


class Portable:
    """What holds for every database, unless its class says otherwise."""

    name: ClassVar[str] = ""  # as SQLAlchemy calls the database

    # ---------------------------------------------------------------------------- logging in
    takes_password: ClassVar[bool] = True
    password_without_login: ClassVar[bool] = False  # whether one is given where no login is named

    def prepare_url(self, url: URL, settings: Settings, *, create: bool) -> URL:
        """The URL as the driver is to have it.

        Args:
            create: make what is missing, where a database is a file.

        Raises:
            DatabaseError: the database is a file that is not there.
        """
        return url

    def why_unreachable(self, url: URL) -> Situation | None:
        """What keeps a server from being reached, where its driver does not say it; else None."""
        return None

    # ------------------------------------------------------------------------------ sessions
    def engine_options(self, driver: str, settings: Settings) -> dict[str, Any]:
        """What SQLAlchemy's `create_engine` is given for a driver, beside what all are given."""
        return {}

    def set_up_connection(self, connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
        """Set the limits of a session, which a driver takes only once it is connected.

        Args:
            connection: the driver's own.
            info: SQLAlchemy's notes on this connection, to which an engine's listeners add.
        """

    def limit_statements(self, engine: Engine, settings: Settings) -> None:
        """Let statements end after `statement_timeout`, where the session does not see to it."""

    def type_parameters(self, engine: Engine) -> None:
        """Tell the driver the type of each parameter, where it would ask the server otherwise."""

    def guard_transactions(self, engine: Engine) -> None:
        """Stop where a transaction was ended in its middle and the driver did not say so."""

    # -------------------------------------------------------------------------------- errors
    # codes (`messages.error_codes`) of what may go well when it is done again: the database ended
    # a step in favour of another one, a lock was not had in time, the server was away for a moment
    passing_codes: ClassVar[frozenset[str]] = frozenset()
    # of those, the codes after which the connection is of no use
    lost_codes: ClassVar[frozenset[str]] = frozenset()
    # whether the driver counts the rows that a statement for many rows wrote
    counts_rows_of_many: ClassVar[bool] = True

    def passes(self, codes: Iterable[str]) -> bool:
        """Whether a step that ended with these codes is worth another try."""
        return not self.passing_codes.isdisjoint(codes) or self.lost(codes)

    def lost(self, codes: Iterable[str]) -> bool:
        """Whether the connection is gone, by these codes."""
        return not self.lost_codes.isdisjoint(codes)

    # ----------------------------------------------------------------------------- statements
    # whether `copy_rows` may be called, by the name of SQLAlchemy's driver
    copies_rows: ClassVar[frozenset[str]] = frozenset()

    def copy_query(self, table: str) -> Select | None:
        """The query for 1 where rows may be copied into a table; None where they never are.

        Args:
            table: its name, quoted where needed.
        """
        return None

    def copy_rows(
        self, connection: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> int:
        """Insert rows past all statements, in the way that a database has for many; how many.

        Args:
            connection: the driver's own, with its transaction.
            table, columns: their names, quoted where needed.
        """
        raise NotImplementedError

    # whether the driver fetches the whole of an answer into memory, unless it is told to stream it
    hands_over_at_once: ClassVar[bool] = False

    # SQL Server takes 2,100 parameters a statement, and some statements give a list twice or
    # more values beside it; Oracle takes 1,000 values a list
    most_in_list: ClassVar[int] = 900

    def hold_rows(self, statement: Select, table: Table) -> Select:
        """The select FOR UPDATE, with what else it takes here to keep its rows from others."""
        return statement

    def among(
        self, column: ColumnElement, name: str, of_values: TypeEngine[Any] | None
    ) -> ColumnElement[bool]:
        """A column holds one of some values.

        Args:
            name: of the parameter that gives them, as `listed` makes it.
            of_values: a type that holds each of them as it is; None where none is known to.
        """
        return column.in_(bindparam(name, expanding=True))

    def listed(self, values: Iterable[Any], of_values: TypeEngine[Any] | None) -> Any:
        """The parameter of `among` for some values, none of them null."""
        return list(values)

    def numbered(
        self, row_number: ColumnElement[int], *of_all: ColumnElement[bool]
    ) -> ColumnElement[bool]:
        """The row is one of some, whose numbers `numbers` gives as parameters.

        Args:
            of_all: conditions that each of them fulfils, and no other one between two of them.
        """
        return self.among(row_number, "numbers", BigInteger())

    def numbers(self, row_numbers: Sequence[int]) -> dict[str, Any]:
        """The parameters of `numbered`."""
        return {"numbers": self.listed(row_numbers, BigInteger())}

    def as_raw_text(self, column: ColumnElement) -> ColumnElement:
        """A column of any type as text that the driver cannot choke on."""
        return cast(column, Text())

    whole_number: ClassVar[TypeEngine[Any]] = Numeric(38, 0)  # of any size

    def without_zero_decimals(self, column: ColumnElement, text: ColumnElement) -> ColumnElement:
        """A column of numbers as text, a whole one without a point.

        Args:
            text: what the database makes of it.
        """
        whole = cast(column, self.whole_number)
        return case((column == whole, cast(whole, text.type)), else_=text)

    def size_of(self, column: ColumnElement) -> ColumnElement[int]:
        """How long a stored text is, in units of this database; cheap, however long it is."""
        return func.length(column)

    def size_of_ascii(self, length: int) -> int | None:
        """What `size_of` says of a text of so many characters, all of ASCII.

        None where only the database knows.
        """
        return length

    def row_fingerprint(
        self,
        columns: Sequence[ColumnElement],
        types: Sequence[TypeEngine[Any] | None],
        version: tuple[Any, ...],
    ) -> ColumnElement[int] | None:
        """A hash of 64 bits of a row that the database makes; None where it makes none.

        Another value in any column, or null in place of one, gives another number. Numbers of
        several rows are not to be added up as they are: they may be sums themselves.

        Args:
            types: of the columns as they are deployed; None where one is not known.
            version: of the server, as SQLAlchemy has it.
        """
        return None

    def as_compared(self, text: str) -> str:
        """A text without what makes no difference to the database when it compares two of them.

        Capitals apart: `capitals_query`.
        """
        return text

    def is_not_plain(self, text: ColumnElement) -> ColumnElement[bool] | None:
        """Whether a text holds more than letters, figures and signs of ASCII, such as any blank.

        None where nobody has tried a pattern for that on the database.
        """
        return None

    def packed(self, rows: Select, packs: int) -> Select | None:
        """The rows of a statement, thousands of them in one row; None where they come one by one.

        Args:
            rows: a select of texts and, as the last column, a number of 64 bits that is never null.
            packs: into how many rows they are packed, a power of two.

        Returns:
            What `packed_rows.unpacked` reads.
        """
        return None

    def shard_hash(self, text: ColumnElement) -> ColumnElement[int] | None:
        """The first four bytes of the SHA-256 of a text as a number; None where shards are refused.

        It spreads ids evenly, and hides nothing. Not MD5, which a server in FIPS mode refuses.
        """
        return None

    def footprint(self, column: ColumnElement) -> ColumnElement:
        """What of a stored value tells that it was written, without fetching a long text."""
        return column

    def fits(self, footprint: Any, value: Any) -> bool:
        """Whether a footprint is that of a value that was to be stored."""
        return footprint == value

    def capitals_query(self) -> Select | None:
        """The query for 1 where the database takes small letters and capitals for the same.

        None where it never does.
        """
        return None

    def utc_now(self) -> ColumnElement:
        """The clock of the database, in UTC and without a zone."""
        return func.current_timestamp()

    def server(self, dialect: Dialect) -> str:
        """Name and version of the server that is connected, for the run record."""
        version = dialect.server_version_info or ()
        return f"{dialect.name} {'.'.join(str(part) for part in version)}"

    # ----------------------------------------------------------------------------- deployment
    # whether an index can have those rows alone for which a condition holds that compares columns
    partial_indexes: ClassVar[bool] = False
    # whether it counts a table's rows when it is told to (`analyze`) and otherwise too late for a
    # day that fills it; SQL Server counts when a query needs it, Oracle while it makes a plan
    counts_when_told: ClassVar[bool] = False
    row_number: ClassVar[TypeEngine[int]] = BigInteger()  # a key that the database counts up

    def characters(self, length: int | None) -> TypeEngine[str]:
        """The type of a text column that can hold any letter; without a length, of any length."""
        return String(length) if length else Text()

    # whether a table that a login has no right to looks to it as if it were not there
    hides_tables: ClassVar[bool] = False
    owners: ClassVar[frozenset[str]] = frozenset()  # users whom nobody has to grant anything

    def login_query(self) -> Select | None:
        """The query for what the database calls this login; None where there are no logins."""
        return None

    def for_scripts(self, dialect: Dialect) -> Dialect:
        """SQLAlchemy's dialect, set up for a server of today where none was asked."""
        return dialect

    def schema_statements(self, schema: str, login: str | None, *, is_there: bool) -> list[str]:
        """The statements that make a schema and let a login use it, both quoted where needed."""
        return []

    def grant_statements(self, table: str, login: str, rights: Sequence[str]) -> list[str]:
        """The statements that let a login use a table, both quoted where needed."""
        return [f"grant {', '.join(rights)} on {table} to {login};"]

    def text_statements(self, table: str, columns: Sequence[str]) -> list[str]:
        """The statements that turn columns of a JSON type into text, all quoted where needed."""
        return []

    def counter_query(self, table: str) -> Executable | None:
        """The query for the sequence that counts up a deployed table's key.

        Args:
            table: with its schema, quoted where needed.

        Returns:
            None where who may insert into the table needs no right to a sequence.
        """
        return None


_REGISTERED: dict[str, Portable] = {}
DialectClass = TypeVar("DialectClass", bound=type[Portable])


def register(dialect: DialectClass) -> DialectClass:
    """Mark a class as that of the database it names."""
    _REGISTERED[dialect.name] = dialect()
    return dialect


def named(name: str) -> Portable:
    """The dialect of a database by SQLAlchemy's name for it, such as mssql."""
    return _REGISTERED.get(name) or Portable()


def of(database: Engine | Connection) -> Portable:
    """The dialect of an engine or a connection."""
    return named(database.dialect.name)


def of_library(dialect: Dialect) -> Portable:
    """The dialect that belongs to SQLAlchemy's own."""
    return named(dialect.name)


def sqlalchemy_dialect(name: str) -> Dialect:
    """SQLAlchemy's dialect of a database that has a class here; needs no driver.

    Raises:
        SettingsError: there is no class of that name.
    """
    if name not in _REGISTERED:
        known = ", ".join(sorted(_REGISTERED))
        raise SettingsError(f"`{name}` is no database that is known here.", hint=f"Known: {known}.")
    return make_url(f"{name}://").get_dialect()()


def login_named(url: str, name: str) -> str | None:
    """The login in an address, where that is of the database with this name."""
    address = make_url(url)
    return address.username if address.get_backend_name() == name else None


def registered() -> list[Portable]:
    """The dialects that have a class of their own."""
    return list(_REGISTERED.values())


class RowNumber(TypeDecorator[int]):
    """The type of a key that the database counts up."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # as it is: Oracle's `type_descriptor` would take 64 bits for any integer
        return named(dialect.name).row_number


# SHA-256. Oracle compares no BLOB, which is what it would be there.
HASH = LargeBinary(32).with_variant(RAW(32), "oracle")


class Characters(TypeDecorator[str]):
    """The type of a column with text of any language."""

    impl = String
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        """``length``: characters; None for any length."""
        super().__init__(length)
        self.characters = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return named(dialect.name).characters(self.characters)


@register
class SQLite(Portable):
    """A file: no server, no login, no schema, one writer at a time.

    A select needs no lock, because a transaction that writes is alone.
    """

    name = "sqlite"
    takes_password = False
    partial_indexes = True
    row_number = Integer()  # it counts up only a key of the type INTEGER
    whole_number = Integer()  # a cast to NUMERIC changes no number there
    # another process wrote between our reading and our writing; it is not waited for
    passing_codes = frozenset({"SQLITE_BUSY_SNAPSHOT"})

    def prepare_url(self, url: URL, settings: Settings, *, create: bool) -> URL:
        """The path of the file, which has to be there.

        SQLite makes an empty database of any name: refuse instead, so that a typo is seen.
        """
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

    def size_of(self, column: ColumnElement) -> ColumnElement[int]:
        """In bytes; letters it would have to count one by one."""
        return func.length(cast(column, LargeBinary()))

    def engine_options(self, driver: str, settings: Settings) -> dict[str, Any]:
        """What one waits for there is always a lock; 0 would mean not to wait at all."""
        return {"connect_args": {"timeout": settings.lock_timeout or _WITHOUT_END}}

    def set_up_connection(self, connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
        """Set how the file is written, and look at the time while a statement runs."""
        # readers do not wait for the writer; what is committed survives a power cut, without
        # which the journal could forget a document that is on the wire
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        # what SQLite puts aside while a statement runs holds documents of children: it stays out
        # of the files of the machine's temporary folder
        connection.execute("pragma temp_store=memory")
        if settings.statement_timeout:
            connection.set_progress_handler(
                lambda: time.monotonic() > info.get(_DEADLINE, math.inf), _STEPS_BETWEEN_LOOKS
            )

    def limit_statements(self, engine: Engine, settings: Settings) -> None:
        """Give each statement a deadline, as SQLite has no limit of its own.

        Rows that are fetched later do not count.
        """
        seconds = settings.statement_timeout
        if not seconds:
            return

        @event.listens_for(engine, "before_cursor_execute")
        def _begin(connection: Connection, *_: Any) -> None:
            connection.info[_DEADLINE] = time.monotonic() + seconds

        @event.listens_for(engine, "after_cursor_execute")
        def _end(connection: Connection, *_: Any) -> None:
            connection.info.pop(_DEADLINE, None)

    def as_raw_text(self, column: ColumnElement) -> ColumnElement:
        """As bytes: SQLite checks that text is UTF-8 when it hands it over, but not bytes."""
        return cast(column, LargeBinary())

    def is_not_plain(self, text: ColumnElement) -> ColumnElement[bool] | None:
        """By code points, whatever the collation; a pattern ends at a NUL."""
        matches = text.op("glob", is_comparison=True)(literal_column("'*[^!-~]*'"))
        return or_(matches, func.instr(text, func.char(literal_column("0"))) > literal_column("0"))

    def utc_now(self) -> ColumnElement:
        """Not `current_timestamp`, which has whole seconds only."""
        return func.strftime("%Y-%m-%d %H:%M:%f", "now")

    def grant_statements(self, table: str, login: str, rights: Sequence[str]) -> list[str]:
        """None: the rights are those of the file."""
        return []


_POSTGRESQL = postgresql.dialect()
_CHEAPER_PAGES = (
    "select set_config('random_page_cost', '1.1', false) "
    "where current_setting('random_page_cost') = '4'"
)


@register
class PostgreSQL(Portable):
    """PostgreSQL, through psycopg."""

    name = "postgresql"
    partial_indexes = True
    counts_when_told = True
    hands_over_at_once = True
    copies_rows = frozenset({"psycopg"})
    # its own library takes the login from elsewhere too, and gives a password only when asked
    password_without_login = True
    # deadlock, conflict of two writers, lock not had in time
    passing_codes = frozenset({"40P01", "40001", "55P03"})
    # ended by an administrator, a crash or an idle limit; not yet up; connection failures
    lost_codes = frozenset(
        {"57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08004", "08006", "08007"}
    )

    def among(
        self, column: ColumnElement, name: str, of_values: TypeEngine[Any] | None
    ) -> ColumnElement[bool]:
        """As the rows of one array: hundreds of parameters cost more than what they find.

        Not `= any(...)`: to guess how many rows that finds, PostgreSQL compares each value of the
        array with each frequent one of the column.
        """
        if of_values is None:
            return column.in_(bindparam(name, expanding=True))
        array: ColumnElement = literal_column(f"{of_values.compile(dialect=_POSTGRESQL)}[]")
        return column.in_(select(func.unnest(bindparam(name).op("::")(array))))

    def listed(self, values: Iterable[Any], of_values: TypeEngine[Any] | None) -> Any:
        """As the text of an array: the driver would write a list anew for each statement."""
        if of_values is None:
            return list(values)
        if isinstance(of_values, Integer):
            return "{" + ",".join(map(str, values)) + "}"
        texts = (str(value).replace("\\", r"\\").replace('"', r"\"") for value in values)
        return "{" + ",".join(f'"{text}"' for text in texts) + "}"

    def copy_query(self, table: str) -> Select | None:
        """Not where policies say which rows a login may write: COPY is refused there."""
        refused = func.row_security_active(cast(literal(table), REGCLASS))
        return select(case((refused, 0), else_=1))

    def copy_rows(
        self, connection: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> int:
        """COPY needs no other right than INSERT does, and fires the same triggers."""
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            return int(cursor.rowcount)

    def size_of(self, column: ColumnElement) -> ColumnElement[int]:
        """In bytes; to count letters it would have to unpack a long text."""
        return func.octet_length(column)

    def engine_options(self, driver: str, settings: Settings) -> dict[str, Any]:
        """The time to connect, in seconds."""
        return {"connect_args": {"connect_timeout": settings.connect_timeout}}

    def set_up_connection(self, connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
        """Set both limits; the session takes them in milliseconds, and 0 for no limit.

        The zone is set, because times here are UTC without one: in a deployed column of the type
        timestamptz PostgreSQL takes such a time for one in the zone of the session.

        Where nobody has chosen another cost of a page read out of order than the default, it is set
        as for a disk without moving parts. With the default the rows of a thousand children are
        found by reading a table of some ten thousand rows whole, once for each page of children.
        """
        with connection.cursor() as cursor:
            cursor.execute("set timezone = 'UTC'")
            cursor.execute(f"set statement_timeout = {settings.statement_timeout * 1000:d}")
            cursor.execute(f"set lock_timeout = {settings.lock_timeout * 1000:d}")
            cursor.execute(_CHEAPER_PAGES)
        connection.commit()

    def row_fingerprint(
        self,
        columns: Sequence[ColumnElement],
        types: Sequence[TypeEngine[Any] | None],
        version: tuple[Any, ...],
    ) -> ColumnElement[int] | None:
        """Of the row as it is; before PostgreSQL 14 of its text, which takes twice as long.

        To hash there and to fetch the keys alone takes half the time of fetching each value.
        """
        if version < (14,):
            return func.hashtextextended(cast(func.row(*columns), Text()), 0, type_=BigInteger())
        exact = (_hashed_exactly(*one) for one in zip(columns, types, strict=True))
        return func.hash_record_extended(func.row(*exact), 0, type_=BigInteger())

    def is_not_plain(self, text: ColumnElement) -> ColumnElement[bool] | None:
        """Under the collation C, as others put letters of all kinds between the two."""
        return collate(text, "C").op("~", is_comparison=True)(literal_column("'[^!-~]'"))

    def packed(self, rows: Select, packs: int) -> Select | None:
        """Joined there by some of the number's bits, so that no answer is the whole of a table.

        To hand a row over costs the server and the driver more than to read it. The offset keeps
        PostgreSQL from computing the number twice, for the groups and for the answer.
        """
        given = (rows if packs == 1 else rows.offset(literal_column("0"))).subquery()
        *texts, number = given.c
        numbers: ColumnElement = func.int8send(number, type_=LargeBinary())
        packed = select(
            func.string_agg(numbers, cast(literal_column("''"), LargeBinary())),
            *(func.count(text) for text in texts),
            *(
                func.string_agg(
                    func.coalesce(text, literal_column("''")),
                    func.chr(literal_column(str(ord(SEPARATOR)))),
                )
                for text in texts
            ),
        )
        if packs == 1:
            return packed
        return packed.group_by(number.op("&")(literal_column(str(packs - 1))))

    def shard_hash(self, text: ColumnElement) -> ColumnElement[int] | None:
        """A text of hexadecimal figures becomes a number by way of bits there."""
        digest = func.sha256(func.convert_to(text, literal_column("'UTF8'")))
        figures: ColumnElement = func.substr(
            func.encode(digest, literal_column("'hex'")), literal_column("1"), literal_column("8")
        )
        return cast(cast(literal_column("'x'").op("||")(figures), BIT(32)), BigInteger())

    def utc_now(self) -> ColumnElement:
        """Not `now()`, which stands still within a transaction."""
        return func.timezone("utc", func.clock_timestamp())

    def login_query(self) -> Select | None:
        """`current_user`, the role that grants are made to."""
        return select(func.current_user())

    def schema_statements(self, schema: str, login: str | None, *, is_there: bool) -> list[str]:
        """A grant on a table is of no use there without one on its schema."""
        make = [] if is_there else [f"create schema {schema};"]
        use = [f"grant usage on schema {schema} to {login};"] if login else []
        return [*make, *use]

    def text_statements(self, table: str, columns: Sequence[str]) -> list[str]:
        """One statement for all columns, since the table is written anew once a statement."""
        parts = [f"alter column {name} type text using {name}::text" for name in columns]
        return [f"alter table {table}\n  " + ",\n  ".join(parts) + ";"] if parts else []

    def counter_query(self, table: str) -> Executable | None:
        """A key of the type serial has a sequence with rights of its own; an identity has not."""
        return text(
            "select pg_get_serial_sequence(:name, 'id') from pg_attribute "
            "where attrelid = cast(:name as regclass) and attname = 'id' and attidentity = ''"
        ).bindparams(name=table)


_HASHED_WHOLE = (INTEGER, SMALLINT, DATE, BOOLEAN)  # by all of their bits
_OF_LETTERS = (VARCHAR, TEXT)


def _hashed_exactly(column: ColumnElement, kind: TypeEngine[Any] | None) -> ColumnElement:
    """A column in a form of which PostgreSQL's hash takes no two values for one.

    It takes equal values for one (1.0 and 1.00, and texts that a collation finds equal), and folds
    64 bits into 32. So a time is hashed by its bytes, and what is not known to be exact as text.
    """
    if type(kind) in _HASHED_WHOLE:
        return column
    if type(kind) is TIMESTAMP and not kind.timezone:
        return func.timestamp_send(column)
    return collate(column if type(kind) in _OF_LETTERS else cast(column, Text()), "C")


_MOST_OF_NVARCHAR = 4000  # characters; a longer text is of NVARCHAR(max)
_MOST_OF_VARBINARY = 8000  # bytes
_ANY_LENGTH = 0  # how pyodbc is told (max)
COLUMN_TYPES = "d2i_column_types"  # of the parameters of a statement that is handed over as text

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
        a server may have on, would end the transaction where pyodbc swallows an error.
        """
        if hasattr(connection, "timeout"):  # seconds, 0 without end
            connection.timeout = settings.statement_timeout
        # 0 would mean not to wait at all
        milliseconds = settings.lock_timeout * 1000 if settings.lock_timeout else -1
        cursor = connection.cursor()
        cursor.execute(f"set lock_timeout {milliseconds:d}")
        cursor.execute("set transaction isolation level read committed")
        cursor.execute("set xact_abort off")
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
            types = _types_of(context)
            if types:
                rows = parameters if executemany else [parameters]
                columns = zip(types, zip(*rows, strict=True), strict=True)
                cursor.setinputsizes([_odbc_type(dbapi, kind, some) for kind, some in columns])

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
        return footprint in (len(text), _longest([text]))

    def size_of(self, column: ColumnElement) -> ColumnElement[int]:
        """LEN would leave blanks at the end out."""
        return func.datalength(column)

    def size_of_ascii(self, length: int) -> int | None:
        """It counts bytes, of which a character has one or two, as the column was deployed."""
        return None

    def hold_rows(self, statement: Select, table: Table) -> Select:
        """It has no FOR UPDATE; the hint takes the lock of a writer, row by row."""
        return statement.with_hint(table, "with (updlock, rowlock)", self.name)

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


@register
class Oracle(Portable):
    """Oracle, through oracledb. A schema is a user there, whom only a DBA can make."""

    name = "oracle"
    hides_tables = True
    # deadlock, conflict of two writers, lock not had in time
    passing_codes = frozenset({"ORA-00060", "ORA-08177", "ORA-00054", "ORA-30006", "ORA-04021"})
    lost_codes = frozenset(
        {"ORA-03113", "ORA-03114", "ORA-03135", "ORA-12537", "ORA-12547", "ORA-01089", "ORA-01033",
         "ORA-01034", "ORA-12541", "ORA-12170", "DPY-4011", "DPY-1001"}
    )  # fmt: skip

    def set_up_connection(self, connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
        """One limit, in milliseconds: a session has none of its own for the wait for a lock."""
        connection.call_timeout = 1000 * settings.statement_timeout

    def shard_hash(self, text: ColumnElement) -> ColumnElement[int] | None:
        """By hexadecimal figures, as a RAW cannot become a number."""
        digest = func.rawtohex(func.standard_hash(text, literal_column("'SHA256'")))
        figures = func.substr(digest, literal_column("1"), literal_column("8"))
        return func.to_number(figures, literal_column("'XXXXXXXX'"), type_=BigInteger())

    def utc_now(self) -> ColumnElement:
        """Not `current_timestamp`, which is in the zone of the session."""
        return func.sys_extract_utc(func.systimestamp())

    def login_query(self) -> Select | None:
        """From dual: before 23ai every select needs a table."""
        return select(text("user")).select_from(text("dual"))


def _asked(connection: Connection, statement: str) -> Any:
    """The one value that a statement gives, past what listens to SQLAlchemy's statements."""
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None
    finally:
        cursor.close()


def _types_of(context: Any) -> list[TypeEngine[Any]]:
    """The type of each parameter of a statement, in order; empty where there are none."""
    given = context.execution_options.get(COLUMN_TYPES)
    if given is not None:
        return [kind._unwrapped_dialect_impl(context.dialect) for kind in given]
    compiled = context.compiled
    if context.isddl or compiled is None or not compiled.positiontup:
        return []
    types: list[TypeEngine[Any]] = []
    for name in compiled.positiontup:
        bound = compiled.binds[name]
        if bound in compiled.literal_execute_params:
            continue
        repeated = context._expanded_parameters
        number = len(repeated[name]) if name in repeated else 1
        types += [bound.type._unwrapped_dialect_impl(context.dialect)] * number
    return types


def _longest(values: Iterable[Any]) -> int:
    """The most UTF-16 units of any of these texts, as SQL Server counts them."""
    texts = [value for value in values if isinstance(value, str)]
    longest = max(map(len, texts), default=0)
    if all(text.isascii() for text in texts if len(text) > longest // 2):
        return longest
    return max(len(text.encode("utf-16-le", "surrogatepass")) // 2 for text in texts)


def _odbc_type(dbapi: Any, kind: TypeEngine[Any], values: Sequence[Any]) -> Any:
    """Type, size and digits of a parameter; None where only its value tells the type.

    A text is given its column's length, so that one plan serves all rows; where a value is
    longer, any length, so that the server compares or refuses it and no driver cuts it.
    """
    if isinstance(kind, String):
        size = kind.length or _ANY_LENGTH
        if size > _MOST_OF_NVARCHAR or _longest(values) > size:
            size = _ANY_LENGTH
        return dbapi.SQL_WVARCHAR, size, 0
    if isinstance(kind, sqltypes._Binary):
        size = kind.length or _ANY_LENGTH
        # pyodbc has an object of its own for a binary null
        sizes = [len(value) for value in values if isinstance(value, bytes | bytearray)]
        if size > _MOST_OF_VARBINARY or max(sizes, default=0) > size:
            size = _ANY_LENGTH
        return dbapi.SQL_VARBINARY, size, 0
    if isinstance(kind, BigInteger):
        return dbapi.SQL_BIGINT, 19, 0
    if isinstance(kind, Integer):
        return dbapi.SQL_BIGINT, 19, 0  # a count may be greater than its column takes
    if isinstance(kind, sqltypes.DateTime):
        return dbapi.SQL_TYPE_TIMESTAMP, 27, 7  # datetime2, which becomes datetime by itself
    if isinstance(kind, sqltypes.Float):
        return dbapi.SQL_DOUBLE, 53, 0
    return None
