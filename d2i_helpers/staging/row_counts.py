"""How many rows each source table and how many values each of its columns holds today, and held
when extract last completed.

Kept for each staging table by itself; a pilot compares, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import source_rows, source_values
from d2i_helpers.staging.guards import ColumnUse, RowCount, ValueCount


def compare(
    connection: Connection, staging_table: str, today: Mapping[str, int]
) -> dict[str, RowCount]:
    """Today's counts by table, beside those of the last completed run (0 where there are none)."""
    before = stored(connection, staging_table)
    return {name: RowCount(before.get(name, 0), count) for name, count in today.items()}


def store(connection: Connection, staging_table: str, counts: Mapping[str, RowCount]) -> None:
    """Keep today's counts; writes nothing where they are the same already."""
    before = stored(connection, staging_table)
    changed = {n: count.today for n, count in counts.items() if before.get(n) != count.today}
    if not changed:
        return
    t = source_rows.c
    connection.execute(
        delete(source_rows).where(t.staging_table == staging_table, t.source_table.in_(changed))
    )
    rows = [
        {"staging_table": staging_table, "source_table": name, "row_count": count}
        for name, count in changed.items()
    ]
    database.insert_rows(connection, source_rows, rows)


def compare_values(
    connection: Connection, staging_table: str, today: Iterable[ColumnUse]
) -> dict[str, ValueCount]:
    """Today's values by column, beside those of the last completed run (0 where there are none).

    Of a column that is read in more than one way, the way that met most values.
    """
    before = _stored_values(connection, staging_table)
    counts: dict[str, ValueCount] = {}
    for use in sorted(today, key=lambda use: use.filled):
        rows, values = before.get(use.name, (0, 0))
        counts[use.name] = ValueCount(rows, values, use.rows, use.filled)
    return counts


def store_values(
    connection: Connection, staging_table: str, counts: Mapping[str, ValueCount]
) -> None:
    """Keep today's values; writes nothing where they are the same already."""
    before = _stored_values(connection, staging_table)
    changed = {
        name: (count.rows, count.values)
        for name, count in counts.items()
        if before.get(name) != (count.rows, count.values)
    }
    if not changed:
        return
    t = source_values.c
    for names in database.in_batches(sorted(changed)):
        connection.execute(
            delete(source_values).where(
                t.staging_table == staging_table, t.source_column.in_(names)
            )
        )
    rows = [
        {
            "staging_table": staging_table,
            "source_column": name,
            "row_count": row_count,
            "value_count": value_count,
        }
        for name, (row_count, value_count) in changed.items()
    ]
    database.insert_rows(connection, source_values, rows)


def forget(connection: Connection, staging_table: str) -> None:
    """Remove the counts: another source has taken the place of the one that was counted."""
    for kept in (source_rows, source_values):
        connection.execute(delete(kept).where(kept.c.staging_table == staging_table))


def _stored_values(connection: Connection, staging_table: str) -> dict[str, tuple[int, int]]:
    t = source_values.c
    statement = select(t.source_column, t.row_count, t.value_count).where(
        t.staging_table == staging_table
    )
    return {
        row.source_column: (row.row_count, row.value_count) for row in connection.execute(statement)
    }


def stored(connection: Connection, staging_table: str) -> dict[str, int]:
    """The counts of the last completed run, by source table."""
    if not database.has_table(connection, source_rows):
        return {}  # as preflight finds it before the first run
    statement = select(source_rows.c.source_table, source_rows.c.row_count).where(
        source_rows.c.staging_table == staging_table
    )
    return {row.source_table: row.row_count for row in connection.execute(statement)}
