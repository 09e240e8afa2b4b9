"""What holds for every database, unless its own module says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Engine,
    Executable,
    Numeric,
    String,
    Table,
    Text,
    bindparam,
    case,
    cast,
    func,
)
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import Select
from sqlalchemy.types import TypeEngine

from d2i_helpers.database.messages import Situation
from d2i_helpers.settings import Settings


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

    def begin_ddl(self, connection: Connection) -> None:
        """Begin a transaction that holds what makes a table too, where the driver does not."""

    # whether what makes or alters a table is undone with its transaction
    undoes_ddl: ClassVar[bool] = True

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

    def first_columns_query(self, schema: str | None, tables: Sequence[str]) -> Executable | None:
        """The query for (table, column) of the first column of each index and key of some tables.

        None where SQLAlchemy is to be asked, for which some databases need far longer.

        Args:
            schema: None is the login's own.
        """
        return None

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

    def beside(self, deployed: TypeEngine[Any] | None) -> TypeEngine[Any] | None:
        """The type of a parameter that is compared with a column, where it has to be said.

        Args:
            deployed: the type of the column; None where it is not known.
        """
        return None

    def listed(self, values: Iterable[Any], of_values: TypeEngine[Any] | None) -> Any:
        """The parameter of `among` for some values, none of them null.

        The last value is given again until there are 1, 2, 4, 8 … of them: each other length is
        another statement, which driver or server understand anew, and keep.
        """
        given = list(values)
        room = min(1 << (len(given) - 1).bit_length(), self.most_in_list) if given else 0
        return given + given[-1:] * (room - len(given))

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

    def login_called(self, name: str) -> str:
        """What the database calls a login whose name was typed so in an address."""
        return name

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
