"""What of a staging table is to be sent: rows that are due, and their partial documents.

A partial document is valid only for the
hashes and the very text that it was computed from, and as it was written; `notes` keep the hashes
and the digests, so that nothing stale and nothing that another hand wrote is ever sent.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    null,
    or_,
    select,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import attention, journal, notes
from d2i_helpers.staging.evidence import PURGE
from d2i_helpers.staging.rows import Staging, same
from d2i_helpers.staging.states import Doubtful, Event, RowState, Status


@dataclass(frozen=True, slots=True)
class Due:
    """A row that is to be sent, with every document that the receiver may hold."""

    id: int
    person_id: str
    current_hash: bytes | None
    previous_hash: bytes | None
    deleted: bool
    status: str
    json_payload: str
    previous_json_payload: str | None
    partial_json_payload: str | None
    # documents of unknown outcome with their hashes; None: nothing held
    in_flight: tuple[tuple[str | None, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Partial:
    """What is to be sent of a row, valid for the hashes it was computed from."""

    row: Due
    kind: str
    text: str


def text_digest(text: str) -> bytes:
    """SHA-256 (32 bytes) of a text as it is stored."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def partial_digest(kind: str, text: str) -> bytes:
    """SHA-256 (32 bytes) of a partial document and of its kind."""
    return text_digest(f"{kind}\n{text}")


class Outbox:
    """What of one staging table is to be sent, is on the wire, or was answered."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.engine = staging.engine
        self.name = staging.name
        self.table = staging.table
        t = self.table.c
        # a row that says `sent` has to be what was acknowledged; of hashes that other software
        # made nothing follows, so there its word is taken
        says_sent_wrongly = and_(
            staging.evidence.filled_by_us,
            or_(
                staging.state != RowState.UNCHANGED.value,
                t.current_hash.is_(None),
                t.previous_hash.is_(None),
                t.current_hash != t.previous_hash,
                ~staging.acknowledged,
            ),
        )
        # live rows that wait or failed, and deleted ones that the receiver may still hold
        self.is_due = and_(
            or_(
                and_(
                    ~staging.is_deleted,
                    or_(staging.status != Status.SENT.value, staging.in_flight, says_sent_wrongly),
                ),
                and_(
                    staging.is_deleted,
                    or_(
                        staging.held,
                        and_(staging.evidence.filled_by_us, t.previous_hash.is_not(None)),
                        staging.evidence.log_says_held(),
                    ),
                ),
            ),
            ~staging.held_back,
        )
        self.noted = and_(
            notes.c.staging_table == self.name, notes.c.person_id == self.table.c.person_id
        )
        # the partial holds for exactly what is staged and acknowledged now
        self.is_ready = and_(
            self.is_due,
            self.table.c.partial_json_payload.is_not(None),
            same(notes.c.partial_current_hash, self.table.c.current_hash),
            same(notes.c.partial_previous_hash, self.table.c.previous_hash),
            notes.c.partial_digest.is_not(None),
            notes.c.document_digest.is_not(None),
            _both_or_neither(notes.c.partial_kind == PURGE, staging.is_deleted),
        )

    # ----------------------------------------------------------------------------- preparing
    def due(self, connection: Connection, after: int, limit: int) -> list[Due]:
        """The next rows to be sent, by row number; documents included."""
        t = self.table.c
        rows = connection.execute(
            select(
                t.id,
                t.person_id,
                t.current_hash,
                t.previous_hash,
                case((self.staging.is_deleted, 1), else_=0).label("deleted"),
                self.staging.status.label("status"),
                t.json_payload,
                t.previous_json_payload,
                t.partial_json_payload,
            )
            .where(t.id > after, self.is_due)
            .order_by(t.id)
            .limit(limit)
        ).all()
        held = self._in_flight(connection, [row.person_id for row in rows])
        return [
            Due(
                row.id,
                row.person_id,
                database.as_bytes(row.current_hash),
                database.as_bytes(row.previous_hash),
                bool(row.deleted),
                row.status,
                row.json_payload,
                row.previous_json_payload,
                row.partial_json_payload,
                tuple(held.get(row.person_id, ())),
            )
            for row in rows
        ]

    def _in_flight(
        self, connection: Connection, person_ids: Sequence[str]
    ) -> dict[str, list[tuple[str | None, bytes | None]]]:
        found: dict[str, list[tuple[str | None, bytes | None]]] = {}
        for ids in database.in_batches(person_ids):
            for row in connection.execute(
                select(journal.c.person_id, journal.c.document, journal.c.document_hash)
                .where(journal.c.staging_table == self.name, journal.c.person_id.in_(ids))
                .order_by(journal.c.id)
            ):
                digest = database.as_bytes(row.document_hash)
                found.setdefault(row.person_id, []).append((row.document, digest))
        return found

    def write_partials(self, connection: Connection, partials: Sequence[Partial]) -> int:
        """Store what is to be sent, where the row is still the one that was read.

        Returns:
            Number of rows written; those that hold the same already are not touched.
        """
        noted = self._noted_digests(connection, [p.row.id for p in partials])
        wanted = [
            p
            for p in partials
            if p.text != p.row.partial_json_payload or noted.get(p.row.id) != _digests(p)
        ]
        t = self.table.c
        for null_hash in (False, True):  # `=` is never true of a null hash
            rows = [p for p in wanted if (p.row.current_hash is None) is null_hash]
            if not rows:
                continue
            seen = t.current_hash.is_(None) if null_hash else t.current_hash == bindparam("seen")
            self.staging.moves.move_each(
                connection,
                {Event.PURGE_QUEUED: None, Event.PREPARED: None},
                [
                    {"row": p.row.id, "text": p.text}
                    | ({} if null_hash else {"seen": p.row.current_hash})
                    for p in rows
                ],
                {"partial_json_payload": bindparam("text")},
                where=seen,
            )
        self._write_notes(connection, wanted)
        return len(wanted)

    def _write_notes(self, connection: Connection, partials: Sequence[Partial]) -> None:
        if not partials:
            return
        self.staging.forget_notes(connection, [p.row.person_id for p in partials])
        connection.execute(
            insert(notes),
            [
                {
                    "staging_table": self.name,
                    "person_id": p.row.person_id,
                    "partial_current_hash": p.row.current_hash,
                    "partial_previous_hash": p.row.previous_hash,
                    "partial_kind": p.kind,
                    "partial_digest": partial_digest(p.kind, p.text),
                    "document_digest": text_digest(p.row.json_payload),
                }
                for p in partials
            ],
        )

    def _noted_digests(
        self, connection: Connection, row_ids: Sequence[int]
    ) -> dict[int, tuple[bytes | None, bytes | None]]:
        """Digests of partial and document of those rows that are ready to be sent."""
        found: dict[int, tuple[bytes | None, bytes | None]] = {}
        for ids in database.in_batches(row_ids):
            for row in connection.execute(
                select(self.table.c.id, notes.c.partial_digest, notes.c.document_digest)
                .join(notes, self.noted)
                .where(self.table.c.id.in_(ids), self.is_ready)
            ):
                partial, document = row.partial_digest, row.document_digest
                found[row.id] = database.as_bytes(partial), database.as_bytes(document)
        return found

    def settle_equal(self, connection: Connection, rows: Sequence[Due]) -> None:
        """Rows that equal everything the receiver may hold: nothing has to be sent."""
        t = self.table.c
        values = {
            "previous_json_payload": t.json_payload,
            "previous_hash": t.current_hash,
            "partial_json_payload": null(),
        }
        self._settle(connection, Event.NOTHING_TO_SEND, rows, values)

    def settle_gone(self, connection: Connection, rows: Sequence[Due]) -> None:
        """Deleted rows of which the receiver holds nothing, whichever attempt it stored."""
        values = {
            "previous_json_payload": null(),
            "previous_hash": null(),
            "partial_json_payload": null(),
        }
        self._settle(connection, Event.NOTHING_HELD, rows, values)

    def _settle(
        self, connection: Connection, event: Event, rows: Sequence[Due], values: dict[str, Any]
    ) -> None:
        """Move rows to what the receiver holds; what is kept of a row that stays, stays as well."""
        moved = self.staging.moves.move(connection, event, [row.id for row in rows], values)
        settled = [row.person_id for row in rows if row.id not in moved.refused]
        self.forget(connection, settled)

    def forget(self, connection: Connection, person_ids: Sequence[str]) -> None:
        """The receiver is known to hold what is acknowledged: older attempts no longer matter."""
        for ids in database.in_batches(person_ids):
            connection.execute(
                delete(journal).where(
                    journal.c.staging_table == self.name, journal.c.person_id.in_(ids)
                )
            )
        self.staging.forget_notes(connection, person_ids)

    def refuse(self, connection: Connection, reasons: Sequence[tuple[Due, str]]) -> int:
        """Rows that may not be sent, with paths and rules; a known reason is not written again."""
        t = self.table.c
        rows = [{"row": row.id, "reason": f"not sent: {reason}"[:4000]} for row, reason in reasons]
        says_something_else = or_(
            self.staging.status != Status.ERROR.value,
            t.api_response.is_(None),
            t.api_response != bindparam("reason"),
        )
        values = {"api_response": bindparam("reason"), "partial_json_payload": null()}
        refused = self.staging.moves.move_each(
            connection, Event.NOT_VALID, rows, values, where=says_something_else
        )
        return len(rows) - len(refused)

    # -------------------------------------------------------------------------------- sending
    def ready(self, connection: Connection) -> tuple[int, int]:
        """How many messages wait, and the characters they hold together."""
        count, size = connection.execute(
            select(func.count(), func.sum(func.length(self.table.c.partial_json_payload)))
            .select_from(self.table)
            .join(notes, self.noted)
            .where(self.is_ready)
        ).one()
        return count, int(size or 0)

    def ready_rows(self, connection: Connection) -> array[int]:
        """Row numbers of all messages that wait, in order: eight bytes each.

        Read once a run, because finding the next hundred anew for each request lets a database
        go through everything that waits each time.
        """
        found = select(self.table.c.id).join(notes, self.noted).where(self.is_ready)
        return array("q", connection.execute(found.order_by(self.table.c.id)).scalars())

    def count_due(self, connection: Connection) -> int:
        """How many rows wait, those without a valid partial document and refused ones included."""
        return self.staging.count(connection, self.is_due)

    def anything_unsettled(self, connection: Connection) -> bool:
        """A message has an unknown outcome, or a row that waits has no valid partial document.

        Then submit alone cannot bring everything to the receiver: delta has to run before it.
        """
        mine = journal.c.staging_table == self.name
        if connection.execute(select(journal.c.id).where(mine).limit(1)).first():
            return True
        return self.count_due(connection) > self.ready(connection)[0]

    def left_behind(self, connection: Connection, *, after_sending: bool) -> int:
        """The one rule for who needs attention, asked at the end of a stage.

        A child that is due needs attention unless its message is ready to be sent (after delta), or
        at all (after submit): whatever was refused, has an unknown outcome, could not be prepared
        or was not sent. So does a child who is held back, of whom nothing is due, and one of whom
        nobody can say what the receiver holds.
        """
        waiting = 0 if after_sending else self.ready(connection)[0]
        held_back = self.staging.count(connection, self.staging.held_back)
        doubtful = select(func.count()).where(
            attention.c.staging_table == self.name, attention.c.outcome.in_(list(Doubtful))
        )
        in_doubt = connection.execute(doubtful).scalar_one()
        return self.count_due(connection) - waiting + held_back + in_doubt


def _digests(partial: Partial) -> tuple[bytes, bytes]:
    return partial_digest(partial.kind, partial.text), text_digest(partial.row.json_payload)


def _both_or_neither(one: ColumnElement[bool], other: ColumnElement[bool]) -> ColumnElement[bool]:
    """Equality of two conditions; SQL Server and Oracle cannot compare conditions as values."""
    return or_(and_(one, other), and_(~one, ~other))
