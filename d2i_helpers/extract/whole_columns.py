"""Whole columns of the source as texts, whoever the rows belong to; for data quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Engine, column, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.document.driver_values import read_text
from d2i_helpers.extract.sources import source_table
from d2i_helpers.payload_spec import Spec

_AT_A_TIME = 5000  # rows in memory


def name_here(connection: Connection, spec: Spec, table: str, name: str) -> str | None:
    """What a column is called in this database; None where it is not there."""
    present = database.columns_present(connection, source_table(table))
    possible = (name, spec.renamed_columns.get(table, {}).get(name, name))
    return next((each for each in possible if each.lower() in present), None)


def texts(
    connection: Connection, engine: Engine, table: str, names: Sequence[str]
) -> Iterator[list[str | None]]:
    """The columns of every row as texts without outer blanks; None where a value is empty.

    The database makes the texts, so that no damaged value stops the query.
    """
    source = source_table(table)
    columns = [database.as_raw_text(engine, column(name, _selectable=source)) for name in names]
    statement = select(*(each.label(name) for each, name in zip(columns, names, strict=True)))
    for part in database.streamed(connection, statement.select_from(source), _AT_A_TIME):
        for row in part:
            yield [read_text(value)[0] for value in row]
