"""The submission log: one row a child and attempt, added and never rewritten."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, insert, literal, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import journal, submission_log
from d2i_helpers.staging.messages import Attempt, Batch, RecordResult
from d2i_helpers.staging.states import Outcome


def write(
    connection: Connection,
    staging_name: str,
    batch: Batch,
    results: Sequence[RecordResult],
    attempts: Sequence[Attempt],
    digests: Sequence[bytes],
) -> None:
    """Add one row for each attempt to send each message of a batch.

    Args:
        results: of each message, in the order of the batch.
        digests: SHA-256 of the bytes of each message.
    """
    rows = [
        {
            "staging_table": staging_name,
            "person_id": batch.messages[position].person_id,
            "run_id": batch.run_id,
            "batch_id": batch.id,
            "attempt": attempt.number,
            "kind": batch.messages[position].kind,
            "phase": batch.phase,
            "document_hash": batch.messages[position].current_hash,
            "body_hash": digests[position],
            "outcome": str(attempt.outcome),
            "http_status": attempt.http_status,
            # the receipt stands on the attempt that brought it
            "reference": results[position].reference
            if attempt.outcome is Outcome.ACKNOWLEDGED
            else None,
            "correlation_id": attempt.correlation_id,
            "detail": attempt.detail or None,
            "started_at": attempt.started_at,
            "milliseconds": attempt.milliseconds,
        }
        for attempt in attempts
        for position in attempt.positions
    ]
    if rows:
        database.insert_rows(connection, submission_log, rows)


def write_lost(connection: Connection, lost: ColumnElement[bool]) -> None:
    """Add a row for each journal entry that a stopped run left behind.

    Args:
        lost: condition on the journal that chooses them.
    """
    columns = {
        "staging_table": journal.c.staging_table,
        "person_id": journal.c.person_id,
        "run_id": journal.c.run_id,
        "batch_id": journal.c.batch_id,
        "attempt": literal(0),
        "kind": journal.c.kind,
        "phase": literal("lost"),
        "document_hash": journal.c.document_hash,
        "outcome": literal(str(Outcome.UNKNOWN)),
        "detail": literal("the run was stopped while this was on the wire"),
        "started_at": journal.c.sent_at,
    }
    connection.execute(
        insert(submission_log).from_select(list(columns), select(*columns.values()).where(lost))
    )
