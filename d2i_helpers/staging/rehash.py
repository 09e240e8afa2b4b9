"""Stored hashes brought into one canonical form, so that an upgrade re-sends nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import journal, submission_log
from d2i_helpers.document.canonical import canonical_name, text_hasher
from d2i_helpers.errors import DatabaseError
from d2i_helpers.payload_spec import Spec
from d2i_helpers.plain_english import subject
from d2i_helpers.staging.attention import MASKED_IDS, mask
from d2i_helpers.staging.evidence import (
    CANONICAL_FACT,
    LOG_COUNTS_FACT,
    LOG_HASHES_FACT,
    PURGE,
    Hasher,
)
from d2i_helpers.staging.in_flight import UNKNOWN
from d2i_helpers.staging.lease import in_turn
from d2i_helpers.staging.rows import Staging, update_by_id, utc_now
from d2i_helpers.staging.states import RowState, Status, read_row_state, read_status

ADOPTED = "adopted"  # in place of a run, in journal entries about what other software did


def rehash_if_needed(staging: Staging, spec: Spec, volatile_ids: bool) -> int:
    """Rehash a table whose hashes are of another form or of other software.

    Of several shards one does it for all, and the others wait: before it is done, none of them
    writes a document.

    Returns:
        Number of rows whose hashes changed.
    """
    wanted = canonical_name(spec, volatile_ids)
    if _is_in_form(staging, wanted):
        return 0
    with in_turn(staging.engine, staging.name, staging.shard):
        if not staging.shard.is_whole and _is_in_form(staging, wanted):
            return 0
        whole = staging if staging.shard.is_whole else Staging(staging.engine, staging.name)
        return rehash_all(whole, text_hasher(spec, volatile_ids), wanted)


def _is_in_form(staging: Staging, wanted: str) -> bool:
    with database.reading(staging.engine) as connection:
        return staging.fact(connection, CANONICAL_FACT) == wanted


def rehash_all(staging: Staging, hasher: Hasher, canonical: str, *, page: int = 500) -> int:
    """Bring all hashes into one canonical form, so that an upgrade re-sends nobody.

    Also takes over a table that other software filled with hashes of its own making. Rows whose
    text is no JSON lose their hash and are written anew by the next extract. A row of such a table
    that says `sent` is taken at its word: the receiver holds its document, which becomes the
    baseline where another or none is kept. So nobody is sent again because the software changed.
    Of a row that waits with a baseline nobody knows whether that was received, nor whether a child
    is held whose last message was a purge. The journal says so: the next message of such a row is
    right for a receiver that holds nothing as well.

    Args:
        staging: the table.
        hasher: document text to hash; None for text that is no JSON.
        canonical: name of the form, stored as a fact. A table without that fact is taken over
            from other software.

    Returns:
        Number of rows whose hashes changed.

    Raises:
        DatabaseError: a table that other software filled has more than one row of a person.
    """
    t = staging.table.c
    with database.reading(staging.engine) as connection:
        taken_over = staging.fact(connection, CANONICAL_FACT) is None
        if taken_over and (why := obstacle(connection, staging)):
            raise DatabaseError(f"{staging.name} cannot be adopted: {why}.", hint=ONE_ROW_EACH)
    changed, last = 0, -1
    while True:
        with database.transaction(staging.engine) as connection:
            rows = connection.execute(
                select(
                    t.id,
                    t.person_id,
                    t.json_payload,
                    t.previous_json_payload,
                    t.partial_json_payload,
                    t.current_hash,
                    t.previous_hash,
                    t.row_state,
                    t.submission_status,
                )
                .where(t.id > last)
                .order_by(t.id)
                .limit(page)
            ).all()
            if not rows:
                _rehash_journal(staging, connection, hasher)
                _set_facts(staging, connection, canonical, taken_over)
                return changed
            last = rows[-1].id
            updates = [
                new
                for row in rows
                if (new := rehashed(row, hasher, taken_over=taken_over))
                and (new["current_hash"], new["previous_hash"])
                != (row.current_hash, row.previous_hash)
            ]
            update_by_id(connection, staging.table, updates, ("current_hash", "previous_hash"))
            if taken_over:
                people = [row.person_id for row in rows if baseline_is_doubtful(row)]
                _note_doubt(staging, connection, people)
            changed += len(updates)


ONE_ROW_EACH = (
    "One row a person is needed. `d2i check --ddl` prints statements that keep the newest row of "
    "each, with the document that was sent last."
)


def obstacle(connection: Connection, staging: Staging) -> str | None:
    """Why a table that other software filled cannot be adopted as it stands; ids are masked."""
    person_id = staging.table.c.person_id
    if nobody := staging.count(connection, person_id.is_(None)):
        return f"{subject(nobody, 'row', 'has')} no person_id"
    repeated = (
        select(person_id).where(person_id.is_not(None)).group_by(person_id).having(func.count() > 1)
    )
    if ids := connection.execute(repeated).scalars().all():
        shown = ", ".join(mask(one) for one in sorted(ids)[:MASKED_IDS])
        return f"{subject(len(ids), 'person', 'has')} more than one row ({shown})"
    return None


def _rehash_journal(staging: Staging, connection: Connection, hasher: Hasher) -> None:
    rows = connection.execute(
        select(journal.c.id, journal.c.document).where(
            journal.c.staging_table == staging.name, journal.c.document.is_not(None)
        )
    ).all()
    updates = [{"row": r.id, "document_hash": hasher(r.document)} for r in rows]
    update_by_id(connection, journal, updates, ("document_hash",))


def _set_facts(staging: Staging, connection: Connection, canonical: str, taken_over: bool) -> None:
    """Say what the hashes are, and from where on the submission log can be compared with them."""
    newest = str(connection.execute(select(func.max(submission_log.c.id))).scalar() or 0)
    staging.set_fact(connection, CANONICAL_FACT, canonical)
    staging.set_fact(connection, LOG_HASHES_FACT, newest)
    if taken_over:
        staging.set_fact(connection, LOG_COUNTS_FACT, newest)


def rehashed(row: Any, hasher: Hasher, *, taken_over: bool) -> dict[str, Any]:
    """The hashes and the baseline that a row gets.

    Args:
        row: has the documents, hashes and states as they are stored.
        taken_over: other software filled the table.
    """
    previous, current = row.previous_json_payload, hasher(row.json_payload)
    before = hasher(previous) if previous is not None else None
    if taken_over and current is not None and before != current and _says_sent(row):
        previous, before = row.json_payload, current
    return {
        "row": row.id,
        "current_hash": current,
        "previous_hash": before,
        "previous_json_payload": previous,
    }


def baseline_is_doubtful(row: Any) -> bool:
    """Whether other software kept a baseline that the receiver perhaps does not hold.

    D2I's SQL writes there what was staged before, whether it was sent or not; and its sender writes
    there the document of a child whom it just had erased.
    """
    if _says_sent(row):  # whether a baseline is kept or not: `rehashed` gives it one
        return is_purge(row.partial_json_payload)
    waits = read_status(row.submission_status) is not Status.SENT
    return waits and row.previous_json_payload is not None


def is_purge(partial: str | None) -> bool:
    """Whether a message removes the whole child."""
    try:
        message = orjson.loads(partial or "")
    except orjson.JSONDecodeError:
        return False
    return isinstance(message, dict) and message.get("purge") is True


def _note_doubt(staging: Staging, connection: Connection, people: Sequence[str]) -> None:
    """Journal that the receiver may hold nothing of these children, until it acknowledges."""
    if not people:
        return
    adopted = journal.c.staging_table == staging.name, journal.c.run_id == ADOPTED
    noted = set(connection.execute(select(journal.c.person_id).where(*adopted)).scalars())
    entry = {
        "staging_table": staging.name,
        "run_id": ADOPTED,
        "batch_id": ADOPTED,
        "kind": PURGE,
        "document": None,
        "document_hash": None,
        "state": UNKNOWN,
        "sent_at": utc_now(),
    }
    rows = [{**entry, "person_id": person_id} for person_id in people if person_id not in noted]
    if rows:
        database.insert_rows(connection, journal, rows)


def _says_sent(row: Any) -> bool:
    gone = read_row_state(row.row_state) is RowState.DELETED
    return not gone and read_status(row.submission_status) is Status.SENT
