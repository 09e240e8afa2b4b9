"""How the rows of a staging table stand: how many are in each state."""

from __future__ import annotations

from sqlalchemy import Engine, func, select

from d2i_helpers import database
from d2i_helpers.staging.rows import Staging
from d2i_helpers.staging.states import RowState, Status

AT_REST = f"{RowState.UNCHANGED}, {Status.SENT}"


def by_state(engine: Engine, table: str) -> dict[str, int]:
    """Rows by state and status, such as ``new, pending``; nothing where there is no such table.

    Only unsettled rows are read, by their index; all others are unchanged and sent.

    Raises:
        DatabaseError: the database cannot be read.
    """
    staging = Staging(engine, table)
    with database.reading(engine) as connection:
        if not database.has_table(connection, staging.table):
            return {}
        # grouped over a sub-query, by names: T-SQL takes an expression for another one where it
        # holds a parameter
        both = select(staging.state.label("state"), staging.status.label("status"))
        words = both.where(staging.unsettled).subquery()
        counted = select(words.c.state, words.c.status, func.count())
        rows = connection.execute(counted.group_by(words.c.state, words.c.status)).all()
        found = {f"{state}, {status}": count for state, status, count in rows}
        at_rest = staging.count(connection) - sum(found.values())
    if at_rest:
        found[AT_REST] = found.get(AT_REST, 0) + at_rest
    return dict(sorted(found.items()))
