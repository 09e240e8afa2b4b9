"""Where a day's changes wait for the guards, and the inclusion reasons that go with them.

Nothing here is a state of a staging row: those are written by `moves` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, func, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import inclusion, landing
from d2i_helpers.staging.rows import Staged, Staging


def clear(staging: Staging) -> None:
    """Forget what an earlier run left of the shard's children; writes nothing where nothing is."""
    mine = _mine(staging, landing)

    def remove_all(connection: Connection) -> None:
        if connection.execute(select(func.count()).select_from(landing).where(*mine)).scalar():
            connection.execute(delete(landing).where(*mine))

    staging.in_transaction(remove_all)


def put(staging: Staging, changes: Sequence[Staged]) -> None:
    """Let a page's changes wait, written in one transaction."""
    rows = [
        {
            "staging_table": staging.name,
            "person_id": change.person_id,
            "legacy_id": change.legacy_id,
            "json_payload": change.payload,
            "current_hash": change.hash,
            "problem": change.problem,
            "reasons": change.reasons,
        }
        for change in changes
    ]
    staging.in_transaction(lambda connection: database.insert_rows(connection, landing, rows))


def chunks(staging: Staging, size: int) -> Iterator[list[Staged]]:
    """What waits, by person id; a chunk must be removed before the next is asked for."""
    statement = (
        select(landing).where(*_mine(staging, landing)).order_by(landing.c.person_id).limit(size)
    )
    while True:
        with database.reading(staging.engine) as connection:
            rows = connection.execute(statement).all()
        if not rows:
            return
        yield [
            Staged(
                row.person_id,
                row.legacy_id,
                row.json_payload,
                bytes(row.current_hash),
                row.problem,
                row.reasons,
            )
            for row in rows
        ]


def remove(connection: Connection, staging: Staging, changes: Sequence[Staged]) -> None:
    """Take out a chunk, in the transaction that writes it to the staging table."""
    of_table = delete(landing).where(landing.c.staging_table == staging.name)
    ids = [change.person_id for change in changes]
    database.delete_among(connection, of_table, landing.c.person_id, ids)


def waiting(connection: Connection, staging: Staging, ids: Sequence[str]) -> set[str]:
    """Which of these children have a change that waits."""
    return set(_by_person(connection, staging, landing, landing.c.person_id, ids))


# ---------------------------------------------------------------------------------- reasons
def reasons(connection: Connection, staging: Staging, ids: Sequence[str]) -> dict[str, str]:
    """The inclusion sets on record, comma-separated, by person id."""
    return _by_person(connection, staging, inclusion, inclusion.c.reasons, ids)


def write_reasons(connection: Connection, staging: Staging, changes: Sequence[Staged]) -> None:
    """Record the inclusion sets of these children where they have any and they differ."""
    today = {c.person_id: c.reasons for c in changes if c.reasons is not None}
    before = reasons(connection, staging, list(today))
    new = {person_id: sets for person_id, sets in today.items() if before.get(person_id) != sets}
    forget_reasons(connection, staging, [person_id for person_id in new if person_id in before])
    if new:
        rows = [
            {"staging_table": staging.name, "person_id": person_id, "reasons": sets}
            for person_id, sets in new.items()
        ]
        database.insert_rows(connection, inclusion, rows)


def forget_reasons(connection: Connection, staging: Staging, ids: Sequence[str]) -> None:
    """Take these children out of the record of inclusion sets."""
    of_table = delete(inclusion).where(inclusion.c.staging_table == staging.name)
    database.delete_among(connection, of_table, inclusion.c.person_id, ids)


def forget_all_reasons(connection: Connection, staging: Staging) -> None:
    """Take every child of the shard out of this staging table's record of inclusion sets."""
    connection.execute(delete(inclusion).where(*_mine(staging, inclusion)))


def _mine(staging: Staging, table: Table) -> tuple[ColumnElement[bool], ...]:
    """The condition that a row of one of these tables is of the shard's children."""
    return (table.c.staging_table == staging.name, *staging.mine_by(table.c.person_id))


def _by_person(
    connection: Connection, staging: Staging, table: Any, column: ColumnElement, ids: Sequence[str]
) -> dict[str, Any]:
    of_table = select(table.c.person_id, column).where(table.c.staging_table == staging.name)
    found = database.rows_among(connection, of_table, table.c.person_id, ids)
    return {row[0]: row[1] for row in found}
