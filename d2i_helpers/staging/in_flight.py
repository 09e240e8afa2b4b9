"""Messages on the wire: journalled before they leave, moved by the answer in one transaction.

Only what delta wrote leaves, and what is
journalled is the very document that it was made from. What a crash or a time-out leaves in the
journal is an unknown outcome: the receiver may hold it.
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
    insert,
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
from d2i_helpers.staging.messages import Answer, Batch, LogEntry, Outgoing
from d2i_helpers.staging.moves import Events
from d2i_helpers.staging.outbox import Outbox, partial_digest, text_digest
from d2i_helpers.staging.rows import same, utc_now
from d2i_helpers.staging.states import Event, Outcome

ON_WIRE, UNKNOWN = "on wire", "unknown"  # states of a journal entry


class InFlight:
    """The journal and the log of one staging table."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.staging = outbox.staging
        self.engine = outbox.engine
        self.name = outbox.name
        self.table = outbox.table

    def take(
        self,
        connection: Connection,
        row_ids: Sequence[int],
        run_id: str,
        batch_id: str,
        phase: str,
    ) -> Batch:
        """Those of the rows that are still to be sent, journalled; may be empty.

        Nothing of it may leave before the transaction is committed.

        Args:
            row_ids: as `Outbox.ready_rows` gives them, at most some hundred.
            phase: `delta` or `full`, for the log.
        """
        t = self.table.c
        chosen = (
            select(t.id, t.person_id, notes.c.partial_kind, t.current_hash, t.json_payload,
                   t.partial_json_payload, notes.c.partial_digest, notes.c.document_digest)
            .join(notes, self.outbox.noted)
            .where(t.id.in_(row_ids), self.outbox.is_ready)
            .order_by(t.id)
        )  # fmt: skip
        read = connection.execute(database.locking(chosen, self.table)).all()
        rows = [row for row in read if _as_delta_wrote_it(row)]
        altered = [row for row in read if not _as_delta_wrote_it(row)]
        self._mark_altered(connection, altered)
        messages = tuple(
            Outgoing(
                r.id,
                r.person_id,
                r.partial_kind,
                database.as_bytes(r.current_hash),
                r.json_payload,
                r.partial_json_payload,
            )
            for r in rows
        )
        if messages:
            self._journal(connection, messages, run_id, batch_id)
        return Batch(batch_id, run_id, phase, messages, altered=len(altered))

    def _mark_altered(self, connection: Connection, rows: Sequence[Any]) -> None:
        """Rows that another hand changed after delta: an error, and made anew by the next delta."""
        values = {
            "partial_json_payload": null(),
            "api_response": "not sent: other software changed the row after delta; "
            "the next delta makes its message anew",
        }
        ids = [row.id for row in rows]
        self.staging.moves.move(connection, Event.MESSAGE_ALTERED, ids, values)
        self.staging.forget_notes(connection, [row.person_id for row in rows])

    def _journal(
        self, connection: Connection, messages: Sequence[Outgoing], run_id: str, batch_id: str
    ) -> None:
        """Keep the documents, as they were read and checked, where a crash cannot lose them."""
        now = utc_now()
        connection.execute(
            insert(journal),
            [
                {
                    "staging_table": self.name,
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
        self,
        connection: Connection,
        batch: Batch,
        answers: Sequence[Answer],
        log: Sequence[LogEntry],
    ) -> None:
        """Everything that the answers to one batch mean, in the caller's transaction."""
        submission_log.write(connection, self.name, batch, log)
        by_outcome: dict[Outcome, list[Answer]] = {}
        for answer in answers:
            by_outcome.setdefault(answer.outcome, []).append(answer)
        acknowledged = by_outcome.pop(Outcome.ACKNOWLEDGED, [])
        self._acknowledge(connection, batch, [a.message for a in acknowledged])
        for outcome, some in by_outcome.items():
            if outcome is not Outcome.UNSENT:
                self._mark_error(connection, some, lost=outcome is Outcome.UNKNOWN)
            people = [a.message.person_id for a in some]
            if outcome is Outcome.UNKNOWN:
                self._keep_unknown(connection, batch, people)
            else:
                self._unjournal(connection, batch, people)

    def _of_batch(self, batch: Batch, column: ColumnElement) -> ScalarSelect:
        """A column of this batch's journal entry for the row at hand."""
        return (
            select(column)
            .where(
                journal.c.batch_id == batch.id,
                journal.c.staging_table == self.name,
                journal.c.person_id == self.table.c.person_id,
            )
            .scalar_subquery()
        )

    def _acknowledge(
        self, connection: Connection, batch: Batch, messages: Sequence[Outgoing]
    ) -> None:
        t = self.table.c
        reference = (
            select(func.max(log_table.c.reference))
            .where(
                log_table.c.batch_id == batch.id,
                log_table.c.person_id == t.person_id,
                log_table.c.staging_table == self.name,
            )
            .scalar_subquery()
        )
        receipt = {
            "submission_timestamp": utc_now(),
            "api_response": reference,
            "partial_json_payload": null(),
        }
        is_current = same(t.current_hash, self._of_batch(batch, journal.c.document_hash))
        documents = [m.person_id for m in messages if m.kind == DOCUMENT]
        self._settle(
            connection,
            {Event.ACKNOWLEDGED: is_current, Event.MOVED_ON: None, Event.GONE_MEANWHILE: None},
            documents,
            {
                "previous_json_payload": self._of_batch(batch, journal.c.document),
                "previous_hash": self._of_batch(batch, journal.c.document_hash),
                **receipt,
            },
        )
        purges = [m.person_id for m in messages if m.kind == PURGE]
        # a child that came back while its purge was on the wire is new to the receiver
        self._settle(
            connection,
            {Event.PURGE_ACKNOWLEDGED: None, Event.BACK_MEANWHILE: None},
            purges,
            {"previous_json_payload": null(), "previous_hash": null(), **receipt},
        )

    def _settle(
        self, connection: Connection, events: Events, people: list[str], values: dict[str, Any]
    ) -> None:
        """Move rows to what the receiver acknowledged, and forget the attempts before it."""
        key = self.table.c.person_id
        moved = self.staging.moves.move(connection, events, people, values, key=key)
        self.outbox.forget(connection, [one for one in people if one not in moved.refused])

    def _mark_error(self, connection: Connection, answers: Sequence[Answer], *, lost: bool) -> None:
        """Only rows that are still what was sent; one that moved on waits with its new document."""
        t = self.table.c
        values: dict[str, Any] = {"api_response": bindparam("detail")}
        if lost:
            values["partial_json_payload"] = null()
        prefix = "outcome unknown: " if lost else ""
        for null_hash in (False, True):
            some = [a for a in answers if (a.message.current_hash is None) is null_hash]
            if not some:
                continue
            seen = t.current_hash.is_(None) if null_hash else t.current_hash == bindparam("seen")
            self.staging.moves.move_each(
                connection,
                Event.REFUSED,
                [
                    {"row": a.message.row_id, "detail": f"{prefix}{a.detail}"[:4000]}
                    | ({} if null_hash else {"seen": a.message.current_hash})
                    for a in some
                ],
                values,
                where=seen,
            )

    def _keep_unknown(self, connection: Connection, batch: Batch, people: Sequence[str]) -> None:
        for ids in database.in_batches(people):
            connection.execute(
                update(journal)
                .where(journal.c.batch_id == batch.id, journal.c.person_id.in_(ids))
                .values(state=UNKNOWN)
            )
        self.staging.forget_notes(connection, people)

    def _unjournal(self, connection: Connection, batch: Batch, people: Sequence[str]) -> None:
        for ids in database.in_batches(people):
            connection.execute(
                delete(journal).where(journal.c.batch_id == batch.id, journal.c.person_id.in_(ids))
            )

    def recover(self) -> int:
        """After a crash: what was on the wire has an unknown outcome. Needs the run lock.

        Returns:
            Number of messages whose outcome is unknown because a run was stopped.
        """
        lost = and_(journal.c.staging_table == self.name, journal.c.state == ON_WIRE)
        t = self.table.c
        with database.transaction(self.engine) as connection:
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
            self.staging.moves.move(
                connection,
                Event.REFUSED,
                connection.execute(people).scalars().all(),
                {},
                key=t.person_id,
                where=is_what_was_sent,
            )
            connection.execute(
                update(self.table)
                .where(t.person_id.in_(people), is_what_was_sent, ~self.staging.held_back)
                .values(
                    api_response="outcome unknown: the run was stopped while this was on the wire"
                )
            )
            connection.execute(
                update(self.table)
                .where(t.person_id.in_(people))
                .values(partial_json_payload=null())
            )
            connection.execute(update(journal).where(lost).values(state=UNKNOWN))
        return count


def _as_delta_wrote_it(row: Any) -> bool:
    """Partial and document are still the texts that delta wrote and read."""
    return database.as_bytes(row.partial_digest) == partial_digest(
        row.partial_kind, row.partial_json_payload
    ) and database.as_bytes(row.document_digest) == text_digest(row.json_payload)
