"""The submission log: one row a child and attempt, added and never rewritten."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, insert, literal, select
from sqlalchemy.engine import Connection

from d2i_helpers.database.tables import journal, submission_log
from d2i_helpers.staging.messages import Batch, LogEntry
from d2i_helpers.staging.states import Outcome


def write(connection: Connection, staging_name: str, batch: Batch, log: Sequence[LogEntry]) -> None:
    """Add one row for each attempt to send each of these messages."""
    if not log:
        return
    connection.execute(
        insert(submission_log),
        [
            {
                "staging_table": staging_name,
                "person_id": entry.message.person_id,
                "run_id": batch.run_id,
                "batch_id": batch.id,
                "attempt": entry.attempt,
                "kind": entry.message.kind,
                "phase": batch.phase,
                "document_hash": entry.message.current_hash,
                "body_hash": entry.body_hash,
                "outcome": str(entry.outcome),
                "http_status": entry.http_status,
                "reference": entry.reference,
                "correlation_id": entry.correlation_id,
                "detail": entry.detail or None,
                "started_at": entry.started_at,
                "milliseconds": entry.milliseconds,
            }
            for entry in log
        ],
    )


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
