"""Stored hashes brought into one canonical form, so that an upgrade re-sends nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.staging.rows import Staging, renamed, update_by_id
from d2i_helpers.tables import journal

Hasher = Callable[[str], bytes | None]  # a document's text to its hash; None: it is no JSON


def adopt(staging: Staging, hasher: Hasher, canonical: str, *, page: int = 500) -> int:
    """Bring all hashes into one canonical form, so that an upgrade re-sends nobody.

    Also takes over a table that other software filled with hashes of its own making. Rows whose
    text is no JSON lose their hash and are written anew by the next extract.

    Args:
        staging: the table.
        hasher: document text to hash; None for text that is no JSON.
        canonical: name of the form, stored as a fact.

    Returns:
        Number of rows whose hashes changed.
    """
    t = staging.table.c
    changed, last = 0, -1
    while True:
        with database.transaction(staging.engine) as connection:
            rows = connection.execute(
                select(
                    t.id,
                    t.json_payload,
                    t.previous_json_payload,
                    t.current_hash,
                    t.previous_hash,
                )
                .where(t.id > last)
                .order_by(t.id)
                .limit(page)
            ).all()
            if not rows:
                _adopt_journal(staging, connection, hasher)
                staging.set_fact(connection, "canonical", canonical)
                return changed
            last = rows[-1].id
            updates = [
                new
                for row in rows
                if (new := _rehashed(row, hasher))
                and (new["current_hash"], new["previous_hash"])
                != (row.current_hash, row.previous_hash)
            ]
            if updates:
                connection.execute(update_by_id(staging.table, updates[0]), renamed(updates))
            changed += len(updates)


def _adopt_journal(staging: Staging, connection: Connection, hasher: Hasher) -> None:
    rows = connection.execute(
        select(journal.c.id, journal.c.document).where(
            journal.c.staging_table == staging.name, journal.c.document.is_not(None)
        )
    ).all()
    updates = [{"row": r.id, "document_hash": hasher(r.document)} for r in rows]
    if updates:
        connection.execute(update_by_id(journal, updates[0]), renamed(updates))


def _rehashed(row: Any, hasher: Hasher) -> dict[str, Any]:
    previous = row.previous_json_payload
    return {
        "row": row.id,
        "current_hash": hasher(row.json_payload),
        "previous_hash": hasher(previous) if previous is not None else None,
    }
