"""What of a staging table is to be sent: rows that are due, and their messages.

Whatever is looked for without row numbers is of the shard's children alone (`Staging.mine`).

A message is valid only as it was written, and only for the hashes and the very text that it was
made from. Row notes keep these hashes and the digests of both texts, so that nothing stale is ever
sent, and nothing that another hand wrote.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import xxhash
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    and_,
    bindparam,
    case,
    delete,
    distinct,
    func,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import attention, journal, marks, notes
from d2i_helpers.settings import Settings
from d2i_helpers.staging.marks import text_fingerprint
from d2i_helpers.staging.messages import Message
from d2i_helpers.staging.rows import Staging
from d2i_helpers.staging.states import Doubtful, Event, Status, Unsent

_ROWS_AT_A_TIME = 2000  # of the driver: to fetch each by itself takes longer


@dataclass(slots=True)  # not frozen: one is made of every row, which would take three times as long
class Due:
    """A row that is to be sent, with every document that the receiver may hold."""

    id: int
    person_id: str
    current_hash: bytes | None
    previous_hash: bytes | None
    deleted: bool
    json_payload: str
    previous_json_payload: str | None
    # what the row's notes say: this hash was made from the text with this digest
    has_notes: bool = False
    noted_hash: bytes | None = None
    noted_digest: bytes | None = None
    # what extract's mark says: this hash was made from the text with this fingerprint
    marked_hash: bytes | None = None
    marked_fingerprint: int | None = None
    accepted_by: int | None = None  # `Validator.fingerprint` of the checks that this text passed
    # a message that is there already and still holds, with its digest
    message: str | None = None
    message_digest: bytes | None = None
    # documents of unknown outcome with their hashes; None: nothing held
    in_flight: Sequence[tuple[str | None, bytes | None]] = ()

    def is_noted(self, text: str, digest: bytes | None) -> bool:
        """Whether notes or mark prove that a text has this hash, so that it need not be made."""
        if digest is None:
            return False
        if self.marked_hash == digest and self.marked_fingerprint == text_fingerprint(text):
            return True
        return self.noted_hash == digest and is_digest_of(self.noted_digest, text)

    def was_accepted(self, by: int) -> bool:
        """Whether extract made this very document of the child, and these checks accepted it.

        Args:
            by: their `Validator.fingerprint`.
        """
        return (
            self.accepted_by == by
            and self.current_hash is not None
            and self.marked_hash == self.current_hash
            and self.marked_fingerprint == text_fingerprint(self.json_payload)
        )

    @property
    def holds_nothing(self) -> bool:
        """Whether row and journal say that the receiver holds nothing."""
        none_acknowledged = self.previous_json_payload is None and self.previous_hash is None
        return none_acknowledged and not self.in_flight


def text_digest(text: str) -> bytes:
    """XXH3 (16 bytes) of a text as it is stored.

    It is there to see that a text changed by whatever way. It is no seal: who may write the notes
    could write any digest, so a slower hash would guard nothing.
    """
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def is_digest_of(noted: bytes | None, text: str) -> bool:
    """Whether a digest on record is that of this text."""
    if noted is not None and len(noted) == hashlib.sha256().digest_size:  # an earlier release's
        return noted == hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return noted == text_digest(text)


def is_noted(message: Message, of_message: bytes | None, of_document: bytes | None) -> bool:
    """Whether digests on record are those of a message and of the document it was made from."""
    return is_digest_of(of_message, _with_kind(message)) and is_digest_of(
        of_document, message.json_payload
    )


def _with_kind(message: Message) -> str:
    return f"{message.kind}\n{message.text}"


# ----------------------------------------------------------------------------- preparing


def due_rows(connection: Connection, staging: Staging) -> array[int]:
    """Numbers of all rows that are due, in order: eight bytes each.

    Read once a stage, because finding the next ones anew for each page or request lets a database
    go through everything that waits each time.
    """
    return array("q", sorted(connection.execute(_due(staging)).scalars().all()))


def _due(staging: Staging) -> CompoundSelect:
    """Numbers of all rows that are due, in no order: for one SQLite would read the whole table."""
    number = staging.table.c.id
    return union_all(*(select(number).where(part) for part in staging.due_in_parts))


def _waiting(staging: Staging, about_message: ColumnElement) -> CompoundSelect:
    """Number of all rows that are due, in no order, and something about those that are ready.

    Args:
        about_message: an expression on the row; null where the row has no message that holds.
    """
    said = case((staging.message_holds, about_message)).label("about_message")
    return union_all(
        *(
            select(staging.table.c.id, said)
            .outerjoin_from(staging.table, notes, staging.noted)
            .where(part)
            for part in staging.due_in_parts
        )
    )


def due(connection: Connection, staging: Staging, row_numbers: Sequence[int]) -> list[Due]:
    """Those of some rows that are still due, documents included; by row number.

    Args:
        row_numbers: a part of what `due_rows` gave, at most some hundred.
    """
    if not row_numbers:
        return []
    these = database.numbered(staging.engine, staging.table.c.id, *staging.mine)
    numbers = database.numbers(staging.engine, row_numbers)
    return _with_documents(connection, staging, and_(these, staging.is_due_there), numbers)


def as_they_stand(
    connection: Connection, staging: Staging, row_numbers: Sequence[int]
) -> list[Due]:
    """The same of rows that may not be due, for whoever asks what would be sent of them."""
    found: list[Due] = []
    for part in database.in_batches(row_numbers):
        found += _with_documents(connection, staging, staging.table.c.id.in_(part), {})
    return found


def _with_documents(
    connection: Connection,
    staging: Staging,
    these: ColumnElement[bool],
    numbers: dict[str, Any],
) -> list[Due]:
    t = staging.table.c
    marked = and_(marks.c.staging_table == staging.name, marks.c.person_id == t.person_id)
    rows = connection.execute(
        select(  # the fields of `Due` in their order, but for `in_flight`
            t.id,
            t.person_id,
            t.current_hash,
            t.previous_hash,
            case((staging.is_deleted, 1), else_=0).label("deleted"),
            t.json_payload,
            t.previous_json_payload,
            case((notes.c.person_id.is_not(None), 1), else_=0).label("has_notes"),
            notes.c.partial_current_hash.label("noted_hash"),
            notes.c.document_digest.label("noted_digest"),
            marks.c.current_hash.label("marked_hash"),
            marks.c.text_fingerprint.label("marked_fingerprint"),
            marks.c.accepted_by,
            case((staging.message_holds, t.partial_json_payload)).label("message"),
            notes.c.partial_digest.label("message_digest"),
        )
        .outerjoin_from(staging.table, notes, staging.noted)
        .outerjoin(marks, marked)
        .where(these)
        .order_by(t.id),
        numbers,
    ).all()
    due_rows = [Due(*row) for row in rows]
    held = _in_flight(connection, staging, [row.person_id for row in due_rows])
    for row in due_rows if held else ():
        row.in_flight = held.get(row.person_id, ())
    return due_rows


def _in_flight(
    connection: Connection, staging: Staging, person_ids: Sequence[str]
) -> dict[str, list[tuple[str | None, bytes | None]]]:
    documents: dict[str, list[tuple[str | None, bytes | None]]] = {}
    # mostly it holds nothing of any child, and then it is not asked for hundreds of them
    any_of_them = select(journal.c.id).where(journal.c.staging_table == staging.name).limit(1)
    if connection.execute(any_of_them).first() is None:
        return documents
    of_table = (
        select(journal.c.person_id, journal.c.document, journal.c.document_hash)
        .where(journal.c.staging_table == staging.name)
        .order_by(journal.c.id)
    )
    for row in database.rows_among(connection, of_table, journal.c.person_id, person_ids):
        digest = database.as_bytes(row.document_hash)
        documents.setdefault(row.person_id, []).append((row.document, digest))
    return documents


def write_messages(
    connection: Connection, staging: Staging, rows: Sequence[Due], messages: Sequence[Message]
) -> int:
    """Store what is to be sent, where the row is still the one that was read.

    Args:
        rows: as `due` gave them in this transaction, those of the messages among them.

    Returns:
        Number of rows written; those that hold the same already are not touched.
    """
    before = {row.id: row for row in rows}
    wanted = [message for message in messages if not _is_there(before[message.row_id], message)]
    t = staging.table.c
    for null_hash in (False, True):  # `=` is never true of a null hash
        moving = [
            {"row": message.row_id, "text": message.text}
            | ({} if null_hash else {"seen": message.current_hash})
            for message in wanted
            if (message.current_hash is None) is null_hash
        ]
        hash_then = database.plain_name(t.current_hash)
        seen = hash_then.is_(None) if null_hash else hash_then == bindparam("seen")
        staging.moves.move_each(
            connection,
            {Event.PURGE_QUEUED: None, Event.PREPARED: None},
            moving,
            {"partial_json_payload": bindparam("text")},
            where=seen,
            written={"text": t.partial_json_payload},
        )
    staging.forget_notes(connection, [m.person_id for m in wanted if before[m.row_id].has_notes])
    _write_notes(connection, staging, wanted)
    return len(wanted)


def _is_there(row: Due, message: Message) -> bool:
    """Whether the row holds this very message, made from these very documents."""
    if (row.message, row.previous_hash) != (message.text, message.previous_hash):
        return False
    return is_noted(message, row.message_digest, row.noted_digest)


def _write_notes(connection: Connection, staging: Staging, messages: Sequence[Message]) -> None:
    """Note what messages were made from, of rows that have no notes."""
    if not messages:
        return
    rows = []
    for message in messages:
        of_message, of_document = digests(message)
        rows.append(
            {
                "staging_table": staging.name,
                "person_id": message.person_id,
                "partial_current_hash": message.current_hash,
                "partial_previous_hash": message.previous_hash,
                "partial_kind": message.kind,
                "partial_digest": of_message,
                "document_digest": of_document,
            }
        )
    database.insert_rows(connection, notes, rows)


def settle_equal(connection: Connection, staging: Staging, rows: Sequence[Due]) -> None:
    """Rows that equal everything the receiver may hold: nothing has to be sent."""
    t = staging.table.c
    values = {
        "previous_json_payload": t.json_payload,
        "previous_hash": t.current_hash,
        "partial_json_payload": null(),
    }
    _settle(connection, staging, Event.NOTHING_TO_SEND, rows, values)


def settle_gone(connection: Connection, staging: Staging, rows: Sequence[Due]) -> None:
    """Deleted rows of which the receiver holds nothing, whichever attempt it stored."""
    values = {
        "previous_json_payload": null(),
        "previous_hash": null(),
        "partial_json_payload": null(),
    }
    _settle(connection, staging, Event.NOTHING_HELD, rows, values)


def _settle(
    connection: Connection,
    staging: Staging,
    event: Event,
    rows: Sequence[Due],
    values: dict[str, Any],
) -> None:
    """Move rows to what the receiver holds, and forget older attempts, but not of refused rows."""
    moved = staging.moves.move(connection, event, [row.id for row in rows], values)
    settled = [row.person_id for row in rows if row.id not in moved.refused]
    forget(connection, staging, settled)


def forget(connection: Connection, staging: Staging, person_ids: Sequence[str]) -> None:
    """Forget older attempts: the receiver is known to hold what is acknowledged."""
    of_table = delete(journal).where(journal.c.staging_table == staging.name)
    database.delete_among(connection, of_table, journal.c.person_id, person_ids)
    staging.forget_notes(connection, person_ids)


def refuse(connection: Connection, staging: Staging, reasons: Sequence[tuple[Due, str]]) -> int:
    """Mark rows that may not be sent, with paths and rules. A known reason is not written again."""
    t = staging.table.c
    said = {row.id: f"not sent: {reason}"[:4000] for row, reason in reasons}
    # compared here: Oracle compares no text of any length
    stored = database.locking(
        select(t.id, staging.status, t.api_response).where(
            t.id.in_(bindparam("ids", expanding=True))
        ),
        staging.table,
    )
    rows = [
        {"row": row_id, "reason": said[row_id]}
        for ids in database.in_batches(list(said))
        for row_id, status, response in connection.execute(stored, {"ids": list(ids)}).all()
        if status != Status.ERROR or response != said[row_id]
    ]
    values = {"api_response": bindparam("reason"), "partial_json_payload": null()}
    refused = staging.moves.move_each(
        connection, Event.NOT_VALID, rows, values, written={"reason": t.api_response}
    )
    return len(rows) - len(refused)


# -------------------------------------------------------------------------------- sending


def of_pilot(settings: Settings) -> frozenset[str] | None:
    """Ids of the children who alone are sent, as they are staged; None: all children are.

    Of the twin all are: its rows bear pseudonyms, and nothing in it is a real child's.
    """
    if not settings.person_ids or settings.source == "anonymised":
        return None
    return frozenset(settings.person_ids)


def ready_rows(
    connection: Connection, staging: Staging, only: Container[int] | None = None
) -> tuple[array[int], int, int]:
    """Row numbers of all messages that wait, in order, and the characters they hold together.

    Last comes how many further rows are due that have no message, or none that holds.

    Args:
        only: numbers of the rows that are looked at; None: all of them are.
    """
    characters_of = func.length(staging.table.c.partial_json_payload)
    numbers, characters, others = array("q"), 0, 0
    found = connection.execute(_waiting(staging, characters_of))
    for number, length in chain.from_iterable(found.partitions(_ROWS_AT_A_TIME)):
        if only is not None and number not in only:
            continue
        if length is None:
            others += 1
            continue
        numbers.append(number)
        characters += length
    return array("q", sorted(numbers)), characters, others


def count_due(connection: Connection, staging: Staging) -> int:
    """How many rows are due, refused ones and those without a valid message included."""
    waiting = select(func.count()).select_from(_due(staging).subquery("found"))
    return connection.execute(waiting).scalar_one()


def count_waiting(connection: Connection, staging: Staging) -> tuple[int, int]:
    """How many rows are due, and how many of them have a message that is ready."""
    found = _waiting(staging, literal_column("1")).subquery("found")
    counting = select(func.count(), func.count(found.c.about_message)).select_from(found)
    due_there, ready = connection.execute(counting).one()
    return due_there, ready


def anything_unsettled(connection: Connection, staging: Staging) -> bool:
    """Whether an outcome is unknown, or a row that is due has no valid message.

    Then submit alone cannot bring everything to the receiver: delta has to run before it.
    """
    ours = (journal.c.staging_table == staging.name, *staging.mine_by(journal.c.person_id))
    if connection.execute(select(journal.c.id).where(*ours).limit(1)).first():
        return True
    due_there, ready = count_waiting(connection, staging)
    return due_there > ready


def left_behind(
    connection: Connection, staging: Staging, *, due: int, on_its_way: int, held_back: int
) -> int:
    """The one rule for who needs attention, asked at the end of a stage.

    A child that is due needs attention unless its message is ready to be sent (after delta), or
    at all (after submit): whatever was refused, has an unknown outcome, could not be prepared
    or was not sent. So does a child who is held back, of whom nothing is due, one whom the last
    extract left out or refused, and one of whom nobody can say what the receiver holds.

    Args:
        due: how many rows are due.
        on_its_way: how many of them have a message that is ready, after delta; 0 after submit.
        held_back: how many rows are those of children who are held back.
    """
    a = attention.c
    # a child is left out for each value that cannot be read, and has an entry for each
    left_out = func.count(distinct(case((a.outcome == Unsent.LEFT_OUT.value, a.person_id))))
    others = [Unsent.REFUSED.value, *Doubtful]
    named = select(left_out, func.sum(case((a.outcome.in_(others), a.children), else_=0))).where(
        a.staging_table == staging.name, *staging.mine_by(a.person_id)
    )
    of_entries = sum(number or 0 for number in connection.execute(named).one())
    return due - on_its_way + held_back + of_entries


def digests(message: Message) -> tuple[bytes, bytes]:
    """Digests of the message and of the whole document that it was made from."""
    return text_digest(_with_kind(message)), text_digest(message.json_payload)
