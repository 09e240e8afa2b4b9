"""How many rows each source table holds today, and held when extract last completed.

Kept for each staging table by itself; a pilot compares, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import source_rows
from d2i_helpers.staging.guards import RowCount


def compare(
    connection: Connection, staging_table: str, today: Mapping[str, int]
) -> dict[str, RowCount]:
    """Today's counts by table, beside those that are kept; 0 where none are."""
    before = _stored(connection, staging_table)
    return {name: RowCount(before.get(name, 0), count) for name, count in today.items()}


def store(connection: Connection, staging_table: str, counts: Mapping[str, RowCount]) -> None:
    """Keep today's counts; writes nothing where they are the same already."""
    before = _stored(connection, staging_table)
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
    connection.execute(insert(source_rows), rows)


def forget(connection: Connection, staging_table: str) -> None:
    """Take the counts away: another source stands in the place of the one they are of."""
    connection.execute(delete(source_rows).where(source_rows.c.staging_table == staging_table))


def _stored(connection: Connection, staging_table: str) -> dict[str, int]:
    if not database.has_table(connection, source_rows):
        return {}  # as preflight finds it before the first run
    statement = select(source_rows.c.source_table, source_rows.c.row_count).where(
        source_rows.c.staging_table == staging_table
    )
    return {row.source_table: row.row_count for row in connection.execute(statement)}
