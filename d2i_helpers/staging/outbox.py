"""What of a staging table is to be sent: rows that are due, and their partial documents.

With `staging` and `in_flight` the only writer of states. A partial document is valid only for the
hashes that it was computed from; `notes` keep them, so that nothing stale is ever sent.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

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
    update,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.staging.rows import Staging, same
from d2i_helpers.states import TRANSITIONS, Event, Status
from d2i_helpers.tables import journal, notes

DOCUMENT, PURGE = "document", "purge"  # kinds of message


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
    in_flight: tuple[str | None, ...] = ()  # documents of unknown outcome; None: nothing held


@dataclass(frozen=True, slots=True)
class Partial:
    """What is to be sent of a row, valid for the hashes it was computed from."""

    row: Due
    kind: str
    text: str


class Outbox:
    """What of one staging table is to be sent, is on the wire, or was answered."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.engine = staging.engine
        self.name = staging.name
        self.table = staging.table
        # live rows that wait or failed, and deleted ones that the receiver may still hold
        self.is_due = and_(
            or_(
                and_(~staging.is_deleted, staging.status != Status.SENT.value),
                and_(staging.is_deleted, staging.held),
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
    ) -> dict[str, list[str | None]]:
        found: dict[str, list[str | None]] = {}
        for ids in database.in_batches(person_ids):
            for row in connection.execute(
                select(journal.c.person_id, journal.c.document)
                .where(journal.c.staging_table == self.name, journal.c.person_id.in_(ids))
                .order_by(journal.c.id)
            ):
                found.setdefault(row.person_id, []).append(row.document)
        return found

    def write_partials(self, connection: Connection, partials: Sequence[Partial]) -> int:
        """Store what is to be sent, where the row is still the one that was read.

        Returns:
            Number of rows written; those that hold the same already are not touched.
        """
        current = self._fresh(connection, [p.row.id for p in partials])
        wanted = [
            p for p in partials if p.row.id not in current or p.text != p.row.partial_json_payload
        ]
        t = self.table.c
        for null_hash in (False, True):  # `=` is never true of a null hash
            rows = [p for p in wanted if (p.row.current_hash is None) is null_hash]
            if not rows:
                continue
            seen = t.current_hash.is_(None) if null_hash else t.current_hash == bindparam("seen")
            connection.execute(
                update(self.table)
                .where(t.id == bindparam("row"), seen)
                .values(
                    partial_json_payload=bindparam("text"),
                    submission_status=case(
                        (self.staging.is_deleted, str(TRANSITIONS[Event.PURGE_QUEUED][2])),
                        else_=t.submission_status,
                    ),
                ),
                [
                    {"row": p.row.id, "text": p.text}
                    | ({} if null_hash else {"seen": p.row.current_hash})
                    for p in rows
                ],
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
                }
                for p in partials
            ],
        )

    def _fresh(self, connection: Connection, row_ids: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for ids in database.in_batches(row_ids):
            found.update(
                connection.execute(
                    select(self.table.c.id)
                    .join(notes, self.noted)
                    .where(self.table.c.id.in_(ids), self.is_ready)
                ).scalars()
            )
        return found

    def settle_equal(self, connection: Connection, rows: Sequence[Due]) -> None:
        """Rows that equal everything the receiver may hold: nothing has to be sent."""
        _, state, status = TRANSITIONS[Event.UNDONE]
        t = self.table.c
        for part in database.in_batches(rows):
            ids = [row.id for row in part]
            connection.execute(
                update(self.table)
                .where(t.id.in_(ids))
                .values(
                    previous_json_payload=t.json_payload,
                    previous_hash=t.current_hash,
                    partial_json_payload=null(),
                    row_state=str(state),
                    submission_status=str(status),
                )
            )
            self.forget(connection, [row.person_id for row in part])

    def settle_gone(self, connection: Connection, rows: Sequence[Due]) -> None:
        """Deleted rows of which the receiver holds nothing, whichever attempt it stored."""
        for part in database.in_batches(rows):
            connection.execute(
                update(self.table)
                .where(self.table.c.id.in_([row.id for row in part]))
                .values(
                    submission_status=str(TRANSITIONS[Event.PURGE_ACKNOWLEDGED][2]),
                    previous_json_payload=null(),
                    previous_hash=null(),
                    partial_json_payload=null(),
                )
            )
            self.forget(connection, [row.person_id for row in part])

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
        if not rows:
            return 0
        connection.execute(
            update(self.table)
            .where(
                t.id == bindparam("row"),
                or_(
                    self.staging.status != Status.ERROR.value,
                    t.api_response.is_(None),
                    t.api_response != bindparam("reason"),
                ),
            )
            .values(
                submission_status=str(Status.ERROR),
                api_response=bindparam("reason"),
                partial_json_payload=null(),
            ),
            rows,
        )
        return len(rows)

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


def _both_or_neither(one: ColumnElement[bool], other: ColumnElement[bool]) -> ColumnElement[bool]:
    """Equality of two conditions; SQL Server and Oracle cannot compare conditions as values."""
    return or_(and_(one, other), and_(~one, ~other))
