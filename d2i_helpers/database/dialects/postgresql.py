"""What is different on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BOOLEAN,
    DATE,
    INTEGER,
    SMALLINT,
    TEXT,
    VARCHAR,
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    LargeBinary,
    Text,
    bindparam,
    case,
    cast,
    collate,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import BIT, REGCLASS, TIMESTAMP
from sqlalchemy.sql import Select
from sqlalchemy.types import TypeEngine

from d2i_helpers.database.dialects.portable import Portable
from d2i_helpers.database.dialects.registry import register
from d2i_helpers.database.packed_rows import SEPARATOR
from d2i_helpers.settings import Settings

_POSTGRESQL = postgresql.dialect()
_CHEAPER_PAGES = (
    "select set_config('random_page_cost', '1.1', false) "
    "where current_setting('random_page_cost') = '4'"
)
_FIRST_COLUMNS = (
    "select c.relname, a.attname from pg_catalog.pg_index i "
    "join pg_catalog.pg_class c on c.oid = i.indrelid "
    "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
    "join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] "
    "where c.relname = any(cast(:names as text[])) and "
)
_IN_SCHEMA, _VISIBLE = "n.nspname = :schema", "pg_catalog.pg_table_is_visible(c.oid)"


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
            return super().listed(values, of_values)
        if isinstance(of_values, Integer):
            return "{" + ",".join(map(str, values)) + "}"
        texts = (str(value).replace("\\", r"\\").replace('"', r"\"") for value in values)
        return "{" + ",".join(f'"{text}"' for text in texts) + "}"

    def first_columns_query(self, schema: str | None, tables: Sequence[str]) -> Executable | None:
        """A key is an index there too; an index on an expression has no column."""
        asked = text(_FIRST_COLUMNS + (_IN_SCHEMA if schema else _VISIBLE))
        return asked.bindparams(names=list(tables), **({"schema": schema} if schema else {}))

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
