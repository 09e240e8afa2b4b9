"""Transactions, errors without values, and the parts of statements in which databases differ."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Engine,
    Table,
    Text,
    literal_column,
    select,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql import Select
from sqlalchemy.types import TypeEngine

from d2i_helpers.database import dialects
from d2i_helpers.database.messages import error_codes, situation_of
from d2i_helpers.database.plain_message import GONE, known_names, without_values
from d2i_helpers.errors import DatabaseError

Item = TypeVar("Item")
_PLAIN_WORDS = re.compile(r"[a-z ]+")


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end, rolled back on any error.

    Raises:
        DatabaseError: the database refused something; the message holds no value of a row.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except failures(engine) as error:
        raise explained(error, engine) from None


def failures(engine: Engine) -> tuple[type[Exception], ...]:
    """What a step on the database can raise: SQLAlchemy's errors, and the driver's own.

    The driver's come through where rows are fetched past SQLAlchemy.
    """
    dbapi: Any = engine.dialect.dbapi
    return SQLAlchemyError, dbapi.Error


def explained(error: Exception, engine: Engine) -> DatabaseError:
    """The error without any value: what the driver quotes may be a child's data."""
    kind = type(error).__name__
    original: Any = error
    if isinstance(error, SQLAlchemyError):
        if not isinstance(error, DBAPIError):
            return DatabaseError(f"The database step failed ({kind}).")
        original = error.orig
    codes = error_codes(original)
    dialect = dialects.of(engine)
    message, hint = _said(original, ", ".join([kind, *codes]))
    said = DatabaseError(message, hint=hint)
    said.lost = dialect.lost(codes) or bool(getattr(error, "connection_invalidated", False))
    said.passes = said.lost or dialect.passes(codes)
    return said


def _said(original: BaseException | None, codes: str) -> tuple[str, str]:
    """Message and hint for a driver's error."""
    situation = situation_of(original)
    if situation is None:
        line = next(iter(str(original).strip().splitlines()), "")
        words = re.sub(r"\d+", GONE, without_values(line))  # a short number may be a value too
        return (
            f"The database refused a step ({codes}: {words}).",
            "A DBA can tell what this code means; docs/setup.md lists what is needed.",
        )
    names = known_names(original) if situation.names_help else []
    about = f": {', '.join(names)}" if names else ""
    return f"{situation.meaning}{about} ({codes}).", situation.advice


def locking(statement: Select, table: Table) -> Select:
    """The select, with its rows held against other writers until the transaction ends."""
    # by a column: of a table Oracle's FOR UPDATE OF would be written without a name
    held = statement.with_for_update(of=next(iter(table.columns)))
    for dialect in dialects.registered():
        held = dialect.hold_rows(held, table)
    return held


def numbered(
    engine: Engine, row_number: ColumnElement[int], *of_all: ColumnElement[bool]
) -> ColumnElement[bool]:
    """The row is one of some that are due; `numbers` gives the parameters.

    Only beside the condition that makes a row due: on SQL Server it is a range of numbers.

    Args:
        of_all: what else holds of each of them, and may not of a row between two that is due.
    """
    return dialects.of(engine).numbered(row_number, *of_all)


def numbers(engine: Engine, row_numbers: Sequence[int]) -> dict[str, Any]:
    """The parameters of `numbered`.

    Args:
        row_numbers: of rows that are due, with no row between them that is; at least one.
    """
    return dialects.of(engine).numbers(row_numbers)


def rows_among(
    connection: Connection, statement: Select, column: ColumnElement[str], texts: Sequence[str]
) -> Iterator[Any]:
    """The rows of a statement of which a column holds one of some texts, however many."""
    return _among(connection, statement, column, texts, Text())


def rows_numbered(
    connection: Connection, statement: Select, row_number: ColumnElement[int], ids: Sequence[int]
) -> Iterator[Any]:
    """The rows of a statement with some row numbers, however many."""
    return _among(connection, statement, row_number, ids, BigInteger())


def _among(
    connection: Connection,
    statement: Select,
    column: ColumnElement[Any],
    values: Sequence[Any],
    of_values: TypeEngine[Any],
) -> Iterator[Any]:
    dialect = dialects.of(connection)
    asked = statement.where(dialect.among(column, "among", of_values))
    for some in in_batches(values):
        yield from connection.execute(asked, {"among": dialect.listed(some, of_values)}).all()


def delete_among(
    connection: Connection, statement: Delete, column: ColumnElement[str], texts: Sequence[str]
) -> None:
    """Delete rows of which a column holds one of some texts, however many."""
    dialect = dialects.of(connection)
    chosen = statement.where(dialect.among(column, "among", Text()))
    for some in in_batches(texts):
        connection.execute(chosen, {"among": dialect.listed(some, Text())})


def most_in_list() -> int:
    """How many values an IN list may hold on every database."""
    return min(dialect.most_in_list for dialect in dialects.registered())


def in_batches(items: Sequence[Item], size: int | None = None) -> Iterator[Sequence[Item]]:
    """Slices for an IN list.

    Args:
        size: of a slice; without it as long as every database takes.
    """
    size = size or most_in_list()
    for start in range(0, len(items), size):
        yield items[start : start + size]


def constant(word: str) -> ColumnElement[str]:
    """A word of ours as part of the statement's text, and not as a parameter.

    SQL Server cannot always say of what type a parameter is, and takes two parameters with the same
    value for two expressions in GROUP BY.

    Args:
        word: stands in the code; plain lower-case letters and blanks.
    """
    assert _PLAIN_WORDS.fullmatch(word)
    return literal_column(f"'{word}'", dialects.Characters())


def as_raw_text(engine: Engine, column: ColumnElement) -> ColumnElement:
    """A column of any type as text that the driver cannot choke on."""
    return dialects.of(engine).as_raw_text(column)


def size_of(connection: Connection, column: ColumnElement) -> ColumnElement[int]:
    """How long a stored text is, in units of this database; cheap, however long it is."""
    return dialects.of(connection).size_of(column)


def size_of_text(connection: Connection, text: str) -> int | None:
    """What `size_of` says of a text once it is stored; None where only the database knows."""
    return dialects.of(connection).size_of_ascii(len(text)) if text.isascii() else None


def streamed(connection: Connection, statement: Select, size: int) -> Iterator[Sequence[Any]]:
    """The rows of a statement in parts, and never all of them in memory."""
    options = {"stream_results": True, "max_row_buffer": size}
    result = connection.execute(statement, execution_options=options)
    try:
        yield from result.partitions(size)
    finally:
        result.close()  # also where the connection was lost: the driver warns of an open cursor


def row_fingerprint(
    engine: Engine, columns: Sequence[ColumnElement], types: Sequence[TypeEngine[Any] | None]
) -> ColumnElement[int] | None:
    """A hash of 64 bits of a row that the database makes; None where it makes none.

    Args:
        engine: one that has been connected, so that the server's version is known.
        columns, types: see `Portable.row_fingerprint`.
    """
    version = engine.dialect.server_version_info or ()
    return dialects.of(engine).row_fingerprint(columns, types, version)


def as_bytes(value: Any) -> bytes | None:
    """A binary value as bytes, whatever the driver hands out (memoryview, bytearray)."""
    return bytes(value) if value is not None else None


def takes_capitals_alike(connection: Connection) -> bool:
    """Whether two texts that differ in capitals alone are one to this database."""
    query = dialects.of(connection).capitals_query()
    return query is not None and connection.execute(query).scalar_one() == 1


def utc_now(connection: Connection) -> dt.datetime:
    """The database's own clock, UTC without a zone: one clock for all machines that share it."""
    now = connection.execute(select(dialects.of(connection).utc_now())).scalar_one()
    return dt.datetime.fromisoformat(now) if isinstance(now, str) else now
