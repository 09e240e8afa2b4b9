"""Messages on the wire: journalled before they leave; the answer moves their rows.

Only what delta wrote leaves, and the journal keeps the very document that it was made from. What a
crash or a time-out leaves in the journal is an unknown outcome: the receiver may hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    and_,
    bindparam,
    delete,
    func,
    null,
    select,
    update,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import journal, notes
from d2i_helpers.database.tables import submission_log as log_table
from d2i_helpers.staging import submission_log
from d2i_helpers.staging.evidence import DOCUMENT, PURGE
from d2i_helpers.staging.messages import Attempt, Batch, Message, RecordResult
from d2i_helpers.staging.moves import Events
from d2i_helpers.staging.outbox import forget, partial_digest, text_digest
from d2i_helpers.staging.rows import Staging, same, utc_now
from d2i_helpers.staging.states import Event, Outcome

ON_WIRE, UNKNOWN = "on wire", "unknown"  # states of a journal entry


def take(
    connection: Connection,
    staging: Staging,
    row_ids: Sequence[int],
    run_id: str,
    batch_id: str,
    phase: str,
) -> Batch:
    """Journal the messages of those rows that are still to be sent, and give them as a batch.

    The batch may be empty.

    Nothing of it may leave before the transaction is committed.

    Args:
        row_ids: as `outbox.ready_rows` gives them, at most some hundred.
        phase: `delta` or `full`, for the log.
    """
    t = staging.table.c
    chosen = (
        select(t.id, t.person_id, notes.c.partial_kind, t.current_hash, t.previous_hash,
               t.json_payload, t.partial_json_payload, notes.c.partial_digest,
               notes.c.document_digest)
        .join(notes, staging.noted)
        .where(t.id.in_(row_ids), staging.is_ready)
        .order_by(t.id)
    )  # fmt: skip
    read = connection.execute(database.locking(chosen, staging.table)).all()
    rows = [row for row in read if _as_delta_wrote_it(row)]
    altered = [row for row in read if not _as_delta_wrote_it(row)]
    _mark_altered(connection, staging, altered)
    messages = tuple(
        Message(
            row_id=row.id,
            person_id=row.person_id,
            kind=row.partial_kind,
            text=row.partial_json_payload,
            json_payload=row.json_payload,
            current_hash=database.as_bytes(row.current_hash),
            previous_hash=database.as_bytes(row.previous_hash),
        )
        for row in rows
    )
    if messages:
        _journal(connection, staging, messages, run_id, batch_id)
    return Batch(batch_id, run_id, phase, messages, altered=len(altered))


def _mark_altered(connection: Connection, staging: Staging, rows: Sequence[Any]) -> None:
    """Mark rows that another hand changed after delta; the next delta makes their messages anew."""
    values = {
        "partial_json_payload": null(),
        "api_response": "not sent: other software changed the row after delta; "
        "the next delta makes its message anew",
    }
    ids = [row.id for row in rows]
    staging.moves.move(connection, Event.MESSAGE_ALTERED, ids, values)
    staging.forget_notes(connection, [row.person_id for row in rows])


def _journal(
    connection: Connection,
    staging: Staging,
    messages: Sequence[Message],
    run_id: str,
    batch_id: str,
) -> None:
    """Keep the documents, as they were read and checked, where a crash cannot lose them."""
    now = utc_now()
    database.insert_rows(
        connection,
        journal,
        [
            {
                "staging_table": staging.name,
                "person_id": message.person_id,
                "run_id": run_id,
                "batch_id": batch_id,
                "kind": message.kind,
                "document": None if message.kind == PURGE else message.json_payload,
                "document_hash": message.current_hash,
                "state": ON_WIRE,
                "sent_at": now,
            }
            for message in messages
        ],
    )


def record(
    connection: Connection,
    staging: Staging,
    batch: Batch,
    results: Sequence[RecordResult],
    attempts: Sequence[Attempt],
    digests: Sequence[bytes],
) -> None:
    """Write what became of a batch, in the caller's transaction.

    Args:
        results: of each message, in the order of the batch.
        attempts: requests, for the submission log.
        digests: SHA-256 of the bytes of each message, for the submission log.
    """
    submission_log.write(connection, staging.name, batch, results, attempts, digests)
    by_outcome: dict[Outcome, list[tuple[Message, str]]] = {}
    for message, result in zip(batch.messages, results, strict=True):
        by_outcome.setdefault(result.outcome, []).append((message, result.detail))
    acknowledged = by_outcome.pop(Outcome.ACKNOWLEDGED, [])
    _acknowledge(connection, staging, batch, [message for message, _ in acknowledged])
    for outcome, messages in by_outcome.items():
        if outcome is not Outcome.UNSENT:
            _mark_error(connection, staging, messages, lost=outcome is Outcome.UNKNOWN)
        people = [message.person_id for message, _ in messages]
        if outcome is Outcome.UNKNOWN:
            _keep_unknown(connection, staging, batch, people)
        else:
            _unjournal(connection, batch, people)


def _of_batch(staging: Staging, batch: Batch, column: ColumnElement) -> ScalarSelect:
    """A column of this batch's journal entry for the row at hand."""
    return (
        select(column)
        .where(
            journal.c.batch_id == batch.id,
            journal.c.staging_table == staging.name,
            journal.c.person_id == staging.table.c.person_id,
        )
        .scalar_subquery()
    )


def _acknowledge(
    connection: Connection, staging: Staging, batch: Batch, messages: Sequence[Message]
) -> None:
    t = staging.table.c
    reference = (
        select(func.max(log_table.c.reference))
        .where(
            log_table.c.batch_id == batch.id,
            log_table.c.person_id == t.person_id,
            log_table.c.staging_table == staging.name,
        )
        .scalar_subquery()
    )
    receipt = {
        "submission_timestamp": utc_now(),
        "api_response": reference,
        "partial_json_payload": null(),
    }
    is_current = same(t.current_hash, _of_batch(staging, batch, journal.c.document_hash))
    documents = [m.person_id for m in messages if m.kind == DOCUMENT]
    _settle(
        connection,
        staging,
        {Event.ACKNOWLEDGED: is_current, Event.MOVED_ON: None, Event.GONE_MEANWHILE: None},
        documents,
        {
            "previous_json_payload": _of_batch(staging, batch, journal.c.document),
            "previous_hash": _of_batch(staging, batch, journal.c.document_hash),
            **receipt,
        },
    )
    purges = [m.person_id for m in messages if m.kind == PURGE]
    # a child that came back while its purge was on the wire is new to the receiver
    _settle(
        connection,
        staging,
        {Event.PURGE_ACKNOWLEDGED: None, Event.BACK_MEANWHILE: None},
        purges,
        {"previous_json_payload": null(), "previous_hash": null(), **receipt},
    )


def _settle(
    connection: Connection,
    staging: Staging,
    events: Events,
    people: list[str],
    values: dict[str, Any],
) -> None:
    """Move rows to what the receiver acknowledged, and forget the attempts before it."""
    key = staging.table.c.person_id
    moved = staging.moves.move(connection, events, people, values, key=key)
    forget(connection, staging, [person for person in people if person not in moved.refused])


def _mark_error(
    connection: Connection,
    staging: Staging,
    messages: Sequence[tuple[Message, str]],
    *,
    lost: bool,
) -> None:
    """Mark rows that still hold what was sent. One that moved on waits with its new document.

    Args:
        messages: with what is said of each.
        lost: the outcome is unknown.
    """
    t = staging.table.c
    values: dict[str, Any] = {"api_response": bindparam("detail")}
    if lost:
        values["partial_json_payload"] = null()
    prefix = "outcome unknown: " if lost else ""
    for null_hash in (False, True):
        rows = [
            {"row": message.row_id, "detail": f"{prefix}{detail}"[:4000]}
            | ({} if null_hash else {"seen": message.current_hash})
            for message, detail in messages
            if (message.current_hash is None) is null_hash
        ]
        seen = t.current_hash.is_(None) if null_hash else t.current_hash == bindparam("seen")
        staging.moves.move_each(connection, Event.REFUSED, rows, values, where=seen)


def _keep_unknown(
    connection: Connection, staging: Staging, batch: Batch, people: Sequence[str]
) -> None:
    for ids in database.in_batches(people):
        connection.execute(
            update(journal)
            .where(journal.c.batch_id == batch.id, journal.c.person_id.in_(ids))
            .values(state=UNKNOWN)
        )
    staging.forget_notes(connection, people)


def _unjournal(connection: Connection, batch: Batch, people: Sequence[str]) -> None:
    for ids in database.in_batches(people):
        connection.execute(
            delete(journal).where(journal.c.batch_id == batch.id, journal.c.person_id.in_(ids))
        )


def recover(staging: Staging) -> int:
    """After a crash: give what was on the wire an unknown outcome. Needs the lease.

    Returns:
        Number of messages whose outcome is unknown because a run was stopped.
    """
    lost = and_(journal.c.staging_table == staging.name, journal.c.state == ON_WIRE)
    t = staging.table.c
    with database.transaction(staging.engine) as connection:
        count = connection.execute(
            select(func.count()).select_from(journal).where(lost)
        ).scalar_one()
        if not count:
            return 0
        submission_log.write_lost(connection, lost)
        people = select(journal.c.person_id).where(lost)
        is_what_was_sent = (
            select(journal.c.id)
            .where(lost, journal.c.person_id == t.person_id,
                   same(journal.c.document_hash, t.current_hash))
            .exists()
        )  # fmt: skip
        staging.moves.move(
            connection,
            Event.REFUSED,
            connection.execute(people).scalars().all(),
            {},
            key=t.person_id,
            where=is_what_was_sent,
        )
        connection.execute(
            update(staging.table)
            .where(t.person_id.in_(people), is_what_was_sent, ~staging.held_back)
            .values(api_response="outcome unknown: the run was stopped while this was on the wire")
        )
        connection.execute(
            update(staging.table).where(t.person_id.in_(people)).values(partial_json_payload=null())
        )
        connection.execute(update(journal).where(lost).values(state=UNKNOWN))
    return count


def _as_delta_wrote_it(row: Any) -> bool:
    """Message and document are still the texts that delta wrote and read."""
    return database.as_bytes(row.partial_digest) == partial_digest(
        row.partial_kind, row.partial_json_payload
    ) and database.as_bytes(row.document_digest) == text_digest(row.json_payload)
