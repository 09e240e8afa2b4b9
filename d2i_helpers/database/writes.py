"""Statements for many rows: what was written is compared with what was to be written.

A driver that hands over rows in bulk may stop half-way without an error, or go on after the server
ended the transaction. So the rows are counted: by the driver where it does, else by reading back.
What differs is an error, and the caller's transaction is rolled back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    LargeBinary,
    Table,
    bindparam,
    column,
    func,
    insert,
    select,
)
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.dml import Update

from d2i_helpers.database import dialects
from d2i_helpers.database.catalogue import quoted_name
from d2i_helpers.database.tables import TOLD_APART_BY
from d2i_helpers.database.transactions import in_batches
from d2i_helpers.errors import DatabaseError

FEWEST_COPIED = 20  # rows, from which on a COPY is worth its own messages


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, all with the same columns.

    Raises:
        DatabaseError: not all of them are there.
    """
    if not rows:
        return
    if dialects.of(connection).counts_rows_of_many:
        compare(table, _insert(connection, table, rows), len(rows))
        return
    before = _count_alike(connection, table, rows)
    connection.execute(_statement(table), rows)
    compare(table, _count_alike(connection, table, rows) - before, len(rows))


def _statement(table: Table) -> Insert:
    # the row's number is not asked for: with a trigger on the table SQL Server refuses to tell it
    return insert(table).inline()


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert rows by a statement that is compiled once; gives how many the driver counted.

    SQLAlchemy would look up the name and the type of each value of each row.
    """
    names = tuple(rows[0])
    schemas = connection.get_execution_options().get("schema_translate_map") or {}
    written, order, converts = _compiled(table, names, connection.dialect, tuple(schemas.items()))
    values = [[row[name] for row in rows] for name in order or names]
    for at, convert in converts.items():
        made = {value: convert(value) for value in dict.fromkeys(values[at])}  # mostly few
        values[at] = [made[value] for value in values[at]]
    if len(rows) >= FEWEST_COPIED and _copies(connection, table):
        return _copy(connection, table, order or names, zip(*values, strict=True))
    given: list[Any] = list(zip(*values, strict=True))
    if order is None:
        given = [dict(zip(names, row, strict=True)) for row in given]
    return connection.exec_driver_sql(written, given).rowcount


def _copies(connection: Connection, table: Table) -> bool:
    """Whether rows may be copied into a table; asked once a connection."""
    dialect = dialects.of(connection)
    if connection.dialect.driver not in dialect.copies_rows:
        return False
    name = quoted_name(connection, table)
    known: dict[str, bool] = connection.info.setdefault("d2i_copies", {})
    if name not in known:
        asked = dialect.copy_query(name)
        known[name] = asked is not None and connection.execute(asked).scalar_one() == 1
    return known[name]


def _copy(
    connection: Connection, table: Table, names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> int:
    """Insert rows past SQLAlchemy; gives how many the database counted."""
    quote = connection.dialect.identifier_preparer.quote
    return dialects.of(connection).copy_rows(
        connection.connection.driver_connection,
        quoted_name(connection, table),
        [quote(name) for name in names],
        rows,
    )


@functools.lru_cache(maxsize=16)  # a stage has fewer; each holds its engine in memory
def _compiled(
    table: Table, names: tuple[str, ...], dialect: Dialect, schemas: tuple[tuple[Any, Any], ...]
) -> tuple[str, tuple[str, ...] | None, dict[int, Callable[[Any], Any]]]:
    """The text of an insert; the order of its parameters, None where they are named; converters.

    A converter makes of a column's value what the driver takes; by the place of the column.
    """
    compiled: Any = _statement(table).compile(
        dialect=dialect,
        column_keys=list(names),
        schema_translate_map=dict(schemas),
        render_schema_translate=True,
        for_executemany=True,
    )
    order = tuple(compiled.positiontup) if compiled.positional else None
    converts = {}
    for at, name in enumerate(order or names):
        convert = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        # every driver takes bytes as they are
        if convert is not None and not isinstance(table.c[name].type, LargeBinary):
            converts[at] = convert
    return str(compiled), order, converts


def hand_over(connection: Connection, table: Table, statement: str, rows: Sequence[Any]) -> None:
    """Insert rows with a statement that is compiled already; nobody else may write the table.

    Args:
        rows: all columns of the table in their order, as the driver takes them.

    Raises:
        DatabaseError: not all of them are there.
    """
    options = {dialects.COLUMN_TYPES: [one.type for one in table.columns]}
    counted = dialects.of(connection).counts_rows_of_many
    everything = select(func.count()).select_from(table)
    before = 0 if counted else connection.execute(everything).scalar_one()
    done = connection.exec_driver_sql(statement, rows, execution_options=options).rowcount
    compare(table, done if counted else connection.execute(everything).scalar_one() - before,
            len(rows))  # fmt: skip


def update_each(
    connection: Connection,
    statement: Update,
    rows: Sequence[dict[str, Any]],
    *,
    key: tuple[str, ColumnElement],
    written: Mapping[str, ColumnElement],
) -> None:
    """Update rows that get values of their own.

    Args:
        statement: without the condition that chooses the row.
        rows: the parameters of each.
        key: the parameter that names the row, and its column.
        written: of the parameters that are stored, those by which a written row is known, with
            their columns.

    Raises:
        DatabaseError: not each of them was written.
    """
    if not rows:
        return
    table: Any = statement.table
    this_row = plain_name(key[1]) == bindparam(key[0])
    done = _execute_many(connection, statement.where(this_row), rows)
    if not dialects.of(connection).counts_rows_of_many:
        done = _count_written(connection, rows, key, written)
    compare(table, done, len(rows))


def plain_name(of: ColumnElement) -> ColumnElement:
    """A column of the table that an UPDATE writes, without the table's name before it.

    With it Babelfish cannot say of what type the parameter beside it is, and ends the transaction
    (`SQLServer.guard_transactions`).
    """
    return column(of.name, of.type)


def compare(table: Table, written: int, meant: int) -> None:
    """Stop where the database has written more or fewer rows than it was given.

    Raises:
        DatabaseError: it has; holds the numbers.
    """
    if written != meant:
        error = DatabaseError(
            f"{table.name} took {written:,} of {meant:,} rows, and the driver reported no error.",
            hint="Nothing of the step was kept: run again. Where it recurs, look for other "
            "software or a trigger that writes this table, and tell a DBA.",
        )
        error.passes = True  # another transaction may have changed the rows since they were read
        raise error


def _execute_many(connection: Connection, statement: Any, rows: Sequence[dict[str, Any]]) -> int:
    # a large insert may be several statements, whose counts have to be added up
    options = {"preserve_rowcount": True}
    return connection.execute(statement, rows, execution_options=options).rowcount


def _count_alike(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """How many rows of the table have the keys of these, or would be counted for them."""
    names = table.info.get(TOLD_APART_BY) or [one.name for one in table.primary_key]
    values = {name: list(dict.fromkeys(row[name] for row in rows)) for name in names}
    same = [table.c[name] == some[0] for name, some in values.items() if len(some) == 1]
    many = next((name for name, some in values.items() if len(some) > 1), None)
    counting = select(func.count()).select_from(table).where(*same)
    if many is None:
        return connection.execute(counting).scalar_one()
    return sum(
        connection.execute(counting.where(table.c[many].in_(part))).scalar_one()
        for part in in_batches(values[many])
    )


def _count_written(
    connection: Connection,
    rows: Sequence[dict[str, Any]],
    key: tuple[str, ColumnElement],
    written: Mapping[str, ColumnElement],
) -> int:
    """How many of the rows hold what was to be stored."""
    dialect = dialects.of(connection)
    parameter, named = key
    by_key = {row[parameter]: row for row in rows}
    stored = select(named, *(dialect.footprint(one) for one in written.values()))
    found = 0
    for part in in_batches(list(by_key)):
        for name, *footprints in connection.execute(stored.where(named.in_(part))):
            pairs = zip(footprints, written, strict=True)
            found += all(dialect.fits(_plain(f), by_key[name][one]) for f, one in pairs)
    return found


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value
