"""Messages on the wire: journalled before they leave; the answer moves their rows.

Only what delta wrote leaves, and the journal keeps the very document that it was made from. What a
crash or a time-out leaves in the journal is an unknown outcome: the receiver may hold it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Insert,
    ScalarSelect,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import journal, notes
from d2i_helpers.database.tables import submission_log as log_table
from d2i_helpers.staging import outbox, submission_log
from d2i_helpers.staging.evidence import DOCUMENT, PURGE
from d2i_helpers.staging.messages import Attempt, Batch, Message, RecordResult
from d2i_helpers.staging.rows import Staging, same, utc_now
from d2i_helpers.staging.states import Event, Outcome

ON_WIRE, UNKNOWN = "on wire", "unknown"  # states of a journal entry


class Journal:
    """The journal of one staging table, and the answers that clear it.

    Its statements name a batch by its id, so that they are the same for every batch: a database
    understands each of them once.
    """

    def __init__(self, staging: Staging) -> None:
        self.staging = staging

    def take(
        self,
        connection: Connection,
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
        numbers = database.numbers(self.staging.engine, row_ids)
        given = {"run": run_id, "batch": batch_id, "now": utc_now(), **numbers}
        journalled = connection.execute(self._put, given).rowcount
        read = connection.execute(self._read, {"batch": batch_id}).all() if journalled else []
        # a row that another hand deleted between the two statements: the step is done again
        database.compare(journal, len(read), journalled)
        messages, altered = list[Message](), list[Message]()
        for *of_message, noted_message, noted_document in read:
            message = Message(*of_message)
            as_noted = outbox.is_noted(message, noted_message, noted_document)
            (messages if as_noted else altered).append(message)
        if altered:
            self._mark_altered(connection, batch_id, altered)
        return Batch(batch_id, run_id, phase, tuple(messages), altered=len(altered))

    @functools.cached_property
    def _put(self) -> Insert:
        """Copies the documents of rows that are ready to where a crash cannot lose them."""
        t = self.staging.table.c
        columns = {
            journal.c.staging_table: literal(self.staging.name, journal.c.staging_table.type),
            journal.c.person_id: t.person_id,
            journal.c.run_id: bindparam("run", type_=journal.c.run_id.type),
            journal.c.batch_id: bindparam("batch", type_=journal.c.batch_id.type),
            journal.c.kind: notes.c.partial_kind,
            journal.c.document: case((notes.c.partial_kind != PURGE, t.json_payload)),
            journal.c.document_hash: t.current_hash,
            journal.c.state: database.constant(ON_WIRE),
            journal.c.sent_at: bindparam("now", type_=journal.c.sent_at.type),
        }
        ready = (
            select(*columns.values())
            .join_from(self.staging.table, notes, self.staging.noted)
            .where(
                database.numbered(self.staging.engine, t.id, *self.staging.mine),
                self.staging.is_ready_there,
            )
        )
        copied = insert(journal).from_select(list(columns), ready).inline()
        return copied.execution_options(preserve_rowcount=True)

    @functools.cached_property
    def _read(self) -> Select:
        """What was journalled of a batch, in the order of row numbers.

        The columns of `Message`, and the digests of its texts as delta noted them.
        """
        t = self.staging.table.c
        whole = case((journal.c.kind == PURGE, t.json_payload), else_=journal.c.document)
        return (
            select(t.id, t.person_id, journal.c.kind, t.partial_json_payload, whole.label("whole"),
                   journal.c.document_hash, notes.c.partial_previous_hash,
                   notes.c.partial_digest, notes.c.document_digest)
            .join_from(journal, self.staging.table, journal.c.person_id == t.person_id)
            .join(notes, self.staging.noted)
            .where(journal.c.batch_id == bindparam("batch"),
                   journal.c.staging_table == self.staging.name)
            .order_by(t.id)
        )  # fmt: skip

    def _mark_altered(
        self, connection: Connection, batch_id: str, messages: Sequence[Message]
    ) -> None:
        """Mark rows that another hand changed after delta; the next delta makes their messages."""
        values = {
            "partial_json_payload": null(),
            "api_response": "not sent: other software changed the row after delta; "
            "the next delta makes its message anew",
        }
        people = [message.person_id for message in messages]
        rows = [message.row_id for message in messages]
        _unjournal(connection, batch_id, people)
        self.staging.moves.move(connection, Event.MESSAGE_ALTERED, rows, values)
        self.staging.forget_notes(connection, people)

    def record(
        self,
        connection: Connection,
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
        by_outcome: dict[Outcome, list[tuple[Message, str]]] = {}
        for message, result in zip(batch.messages, results, strict=True):
            by_outcome.setdefault(result.outcome, []).append((message, result.detail))
        acknowledged = by_outcome.pop(Outcome.ACKNOWLEDGED, [])
        # Rows that are handed over in bulk come first, and at once: on a server that speaks T-SQL
        # such a step undid what its transaction had done before, unsaid (docs/databases.md).
        unknown = by_outcome.get(Outcome.UNKNOWN, [])
        known = [o for o in by_outcome if o not in (Outcome.UNKNOWN, Outcome.UNSENT)]
        errors = [message for outcome in known for message in by_outcome[outcome]]
        _mark_error(connection, self.staging, unknown, lost=True)
        _mark_error(connection, self.staging, errors, lost=False)
        submission_log.write(connection, self.staging.name, batch, results, attempts, digests)
        if acknowledged:
            self._acknowledge(connection, batch, [message for message, _ in acknowledged])
        for outcome, messages in by_outcome.items():
            people = [message.person_id for message, _ in messages]
            if outcome is Outcome.UNKNOWN:
                _keep_unknown(connection, self.staging, batch, people)
            else:
                _unjournal(connection, batch.id, people)

    def _acknowledge(
        self, connection: Connection, batch: Batch, messages: Sequence[Message]
    ) -> None:
        """Move rows to what the receiver acknowledged, and forget the attempts before it."""
        kinds = {message.kind for message in messages}
        given = {"sent_batch": batch.id, "now": utc_now()}
        moved = sum(connection.execute(self._moving(kind), given).rowcount for kind in kinds)
        if moved != len(messages):  # then the others have no row any more
            there = select(func.count()).select_from(self.staging.table)
            there = there.where(self.staging.table.c.person_id.in_(_acknowledged()))
            rows = connection.execute(there, {"sent_batch": batch.id}).scalar_one()
            database.compare(self.staging.table, moved, rows)
        connection.execute(self._clear, {"sent_batch": batch.id})

    def _moving(self, kind: str) -> Update:
        """Moves the rows of acknowledged messages of one kind."""
        return self._move_purges if kind == PURGE else self._move_documents

    @functools.cached_property
    def _move_documents(self) -> Update:
        t = self.staging.table.c
        # from the log, whose rows are short: behind a document it takes a database long to find
        sent_hash = _logged(t.person_id, log_table.c.document_hash)
        document = (
            select(journal.c.document)
            .where(
                journal.c.batch_id == _SENT_BATCH,
                journal.c.staging_table == self.staging.name,
                journal.c.person_id == t.person_id,
            )
            .scalar_subquery()
        )
        return self.staging.moves.statement(
            {
                Event.ACKNOWLEDGED: same(t.current_hash, sent_hash),
                Event.MOVED_ON: None,
                Event.GONE_MEANWHILE: None,
            },
            t.person_id.in_(_acknowledged(DOCUMENT)),
            {
                "previous_json_payload": document,
                "previous_hash": sent_hash,
                **_receipt(t.person_id),
            },
        )

    @functools.cached_property
    def _move_purges(self) -> Update:
        """A child that came back while its purge was on the wire is new to the receiver."""
        person_id = self.staging.table.c.person_id
        return self.staging.moves.statement(
            {Event.PURGE_ACKNOWLEDGED: None, Event.BACK_MEANWHILE: None},
            person_id.in_(_acknowledged(PURGE)),
            {"previous_json_payload": null(), "previous_hash": null(), **_receipt(person_id)},
        )

    @functools.cached_property
    def _clear(self) -> Delete:
        """Forgets all attempts to send to children of whom a message is acknowledged."""
        return delete(journal).where(
            journal.c.staging_table == self.staging.name,
            journal.c.person_id.in_(_acknowledged()),
        )


_SENT_BATCH = bindparam("sent_batch", type_=journal.c.batch_id.type)


def _receipt(person_id: ColumnElement) -> dict[str, Any]:
    """What every acknowledged row gets."""
    return {
        "submission_timestamp": bindparam("now", type_=journal.c.sent_at.type),
        "api_response": _logged(person_id, log_table.c.reference),
        "partial_json_payload": null(),
    }


def _acknowledged(kind: str | None = None) -> Select:
    """Children of whom the batch's message is acknowledged, as the log has it since a moment ago.

    By the batch alone, which is of one staging table: with the table's name beside it SQLite would
    go through the whole log of that table.

    Args:
        kind: of the message; None: of any.
    """
    of_kind = () if kind is None else (log_table.c.kind == kind,)
    return select(log_table.c.person_id).where(
        log_table.c.batch_id == _SENT_BATCH,
        log_table.c.outcome == str(Outcome.ACKNOWLEDGED),
        *of_kind,
    )


def _logged(person_id: ColumnElement, column: ColumnElement) -> ScalarSelect:
    """A column of the one attempt that was acknowledged, for the row at hand."""
    return (
        select(column)
        .where(
            log_table.c.batch_id == _SENT_BATCH,
            log_table.c.person_id == person_id,
            log_table.c.outcome == str(Outcome.ACKNOWLEDGED),
        )
        .scalar_subquery()
    )


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
    if not messages:
        return
    values: dict[str, Any] = {"api_response": bindparam("detail")}
    if lost:
        values["partial_json_payload"] = null()
    prefix = "outcome unknown: " if lost else ""
    stored = staging.hashes(connection, [message.row_id for message, _ in messages])
    rows = [
        {"row": message.row_id, "detail": f"{prefix}{detail}"[:4000]}
        for message, detail in messages
        if message.row_id in stored and stored[message.row_id] == message.current_hash
    ]
    written = {"detail": staging.table.c.api_response}
    staging.moves.move_each(connection, Event.REFUSED, rows, values, written=written)


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


def _unjournal(connection: Connection, batch_id: str, people: Sequence[str]) -> None:
    of_batch = delete(journal).where(journal.c.batch_id == batch_id)
    database.delete_among(connection, of_batch, journal.c.person_id, people)


def recover(staging: Staging) -> int:
    """After a crash: give what was on the wire an unknown outcome. Needs the lease.

    Of the shard's children only, whichever run sent to them: a batch of a dead run may be of
    several of today's shards, and what other shards have on the wire is theirs.

    Returns:
        Number of messages whose outcome is unknown because a run was stopped.
    """
    lost = and_(
        journal.c.staging_table == staging.name,
        journal.c.state == ON_WIRE,
        *staging.mine_by(journal.c.person_id),
    )
    t = staging.table.c

    def settle(connection: Connection) -> int:
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

    return staging.in_transaction(settle)
