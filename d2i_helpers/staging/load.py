"""A load: today's documents into one staging table. Extract and anonymise share it.

1. `Load.compare` takes the children page by page and tells which documents are not the staged ones.
2. Changes wait in `pending_changes` until the guards have seen the whole day. A first load, and
   anonymise, which does everything in one transaction, write them at once.
3. `write` decides what happens to each row (its event). It does so once, in the transaction that
   writes the row and holds it, because other software writes to the same table.
4. `Load.mark_gone` marks the rows of children of whom nothing came today.

A crash before step 3 leaves pending changes, which the next run removes. A crash during step 3
leaves a day that the next run completes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Engine, bindparam, null, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.document.canonical import (
    content_hash,
    ids_are_volatile,
    text_hasher,
)
from d2i_helpers.document.validation import Problem, Validator
from d2i_helpers.payload_spec import Document, Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import pending_changes
from d2i_helpers.staging.evidence import baseline
from d2i_helpers.staging.rehash import rehash_if_needed
from d2i_helpers.staging.rows import Row, Staged, Staging, new_values, renamed, utc_now
from d2i_helpers.staging.states import COUNTED_AS, Event, RowState

_PROBLEM_CHARACTERS = 3900  # kept of what is wrong with a document
_ROWS_AT_A_TIME = 5000


@dataclass(slots=True)  # to freeze it takes three times as long as to make it
class Child:
    """A child with today's document."""

    person_id: str  # in the twin: the pseudonym
    legacy_id: str | None  # a second id, for the staging column of that name
    document: Document
    text: str  # of the document, as it is stored
    reasons: tuple[str, ...] | None = None  # the inclusion sets; None: none are kept
    items: Mapping[str, int] = field(default_factory=dict)  # that could be purged each, by block


@dataclass
class Compared:
    """A page of children beside what is staged of them."""

    changes: list[Staged] = field(default_factory=list)  # to be written
    unchanged: list[Child] = field(default_factory=list)
    changed: list[Child] = field(default_factory=list)  # of those that were staged and not deleted
    duplicates: list[Child] = field(default_factory=list)  # of a child that came before today
    # what stays staged of unchanged children, by person id, where it is not today's text
    reworded: Mapping[str, str] = field(default_factory=dict)
    hashes: list[tuple[Child, bytes]] = field(default_factory=list)  # of the others' documents


class Seen:
    """Which staging rows the source gave today: one bit a row, whatever the number of children."""

    def __init__(self, highest: int) -> None:
        """``highest``: the last row number before today's documents are written."""
        self.highest = highest
        self._bits = bytearray(highest // 8 + 1)

    def add(self, row_id: int) -> bool:
        """Mark a row; False where it was marked already."""
        place, bit = row_id // 8, 1 << row_id % 8
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits)))
        before = self._bits[place] & bit
        self._bits[place] |= bit
        return not before

    def add_all(self, row_ids: Sequence[int]) -> None:
        """Mark some rows."""
        if not row_ids:
            return
        self.add(max(row_ids))  # which makes place for all
        bits = self._bits
        for row_id in row_ids:
            bits[row_id // 8] |= 1 << row_id % 8

    def __contains__(self, row_id: int) -> bool:
        place = row_id // 8
        return place < len(self._bits) and bool(self._bits[place] & 1 << row_id % 8)


class Load:
    """One day's documents against one staging table.

    Args:
        counts: `new`, `updated`, `undone`, `back`, `unchanged`, `altered`, `gone` and `not_valid`
            are counted here.
        guarded: changes wait until `write_pending`, but not those of a first load.
        hash_of: makes the hash of a document; what makes the documents may allow a faster one.
        look: called with each document that is not the staged one, and what is wrong with it.
    """

    def __init__(
        self,
        engine: Engine,
        table: str,
        spec: Spec,
        settings: Settings,
        counts: Counter[str],
        *,
        guarded: bool = False,
        hash_of: Callable[..., bytes] = content_hash,
        look: Callable[[Child, list[Problem]], None] | None = None,
    ) -> None:
        self.spec, self.counts, self.guarded, self._look = spec, counts, guarded, look
        self.volatile_ids = ids_are_volatile(spec, settings)
        self._hash_of = hash_of
        hasher = text_hasher(spec, self.volatile_ids)
        self.staging = Staging(engine, table, hasher, settings.part)
        self.now = utc_now()
        self.validator = Validator(spec)
        self._any_waiting = False

    def rehash_if_needed(self) -> int:
        """Bring what is staged into today's canonical form; gives the number of rows rehashed."""
        return rehash_if_needed(self.staging, self.spec, self.volatile_ids)

    def begin(self, connection: Connection, *, was_loaded: bool = False) -> None:
        """Note where the table ends before today's documents are written.

        Args:
            was_loaded: whether a day came to its end in this table. If not, a shard that begins a
                little later than another finds rows, and it is a first load all the same.
        """
        highest = self.staging.max_id(connection)
        self.seen = Seen(highest)
        self.live_seen = 0  # of these, rows that are not deleted
        self.live: int | None = None  # the shard's rows that are not deleted; None: not counted
        self.first_load = highest == 0
        if not (self.first_load or was_loaded or self.staging.shard.is_whole):
            self.first_load = not self.staging.count(connection, *self.staging.mine)
        self.at_once = self.first_load or not self.guarded

    def see_rows(self, row_ids: Iterable[int]) -> None:
        """Note that the documents of these live rows stay as they are."""
        for row_id in row_ids:
            self.live_seen += self.seen.add(row_id)

    # ----------------------------------------------------------------------------- comparing
    def compare(
        self, connection: Connection, children: Sequence[Child], rows: Mapping[str, Row]
    ) -> Compared:
        """Sort a page of children by what is staged of them.

        Every stored text of an unchanged child is compared with today's. That costs its reading,
        and nothing more where the two are the same.

        Args:
            rows: the staging rows of these children, by person id.
        """
        ids = [child.person_id for child in children]
        came_before = self._waiting(connection, ids)
        hashes = [self._hash(child.document) for child in children]
        same_hash = {
            child.person_id: child.text
            for child, new_hash in zip(children, hashes, strict=True)
            if is_staged(rows.get(child.person_id), new_hash)
        }
        same = [child for child in children if child.person_id in same_hash]
        recorded = self._recorded_reasons(connection, same)
        altered, reworded = stored_otherwise(connection, self.staging, same_hash)
        self.counts["altered"] += len(altered)
        page = Compared(reworded=reworded)
        for child, new_hash in zip(children, hashes, strict=True):
            row, person_id = rows.get(child.person_id), child.person_id
            if person_id in came_before or (row is not None and not self._first_today(row)):
                page.duplicates.append(child)
                continue
            came_before.add(person_id)
            page.hashes.append((child, new_hash))
            unchanged = is_staged(row, new_hash) and person_id not in altered
            if unchanged:
                self.counts["unchanged"] += 1
                page.unchanged.append(child)
                if recorded.get(person_id) == _joined(child.reasons):
                    continue
            elif row is not None and row.row_state is not RowState.DELETED:
                page.changed.append(child)
            page.changes.append(self._staged(child, new_hash, unchanged=unchanged))
        return page

    def _hash(self, document: Document) -> bytes:
        return self._hash_of(self.spec, document, volatile_ids=self.volatile_ids)

    def _recorded_reasons(
        self, connection: Connection, children: Sequence[Child]
    ) -> dict[str, str]:
        ids = [child.person_id for child in children if child.reasons is not None]
        return pending_changes.reasons(connection, self.staging, ids)

    def _waiting(self, connection: Connection, ids: Sequence[str]) -> set[str]:
        """Which of these children have a change that waits already."""
        if not self._any_waiting:
            return set()
        return pending_changes.waiting(connection, self.staging, ids)

    def _first_today(self, row: Row) -> bool:
        """Whether no document of today stands for the row yet; from now on one does."""
        written_today = self.at_once and row.id > self.seen.highest
        return not written_today and self.see(row)

    def see(self, row: Row) -> bool:
        """Note that the source gave the child of a row today; False where it was noted already."""
        is_new = self.seen.add(row.id)
        self.live_seen += is_new and row.row_state is not RowState.DELETED
        return is_new

    def _staged(self, child: Child, new_hash: bytes, *, unchanged: bool) -> Staged:
        problems = self.validator.problems_of_json(child.document)
        if not unchanged:
            self.counts["not_valid"] += bool(problems)
            if self._look is not None:
                self._look(child, problems)
        return Staged(
            child.person_id,
            child.legacy_id,
            child.text,
            new_hash,
            "; ".join(map(str, problems))[:_PROBLEM_CHARACTERS] or None,
            _joined(child.reasons),
        )

    # ------------------------------------------------------------------------------- writing
    def put(self, changes: Sequence[Staged]) -> None:
        """Let a page's changes wait for the guards; write those of a first load at once."""
        if not changes:
            return
        if not self.at_once:
            pending_changes.put(self.staging, changes)
            self._any_waiting = True
            return
        self._count(
            self.staging.in_transaction(
                lambda connection: write(connection, self.staging, changes, self.now)
            )
        )

    def write(
        self, connection: Connection, changes: Sequence[Staged], rows: Mapping[str, Row]
    ) -> None:
        """Write changes in the caller's transaction, and count what happened to the rows.

        Args:
            rows: of these children, looked up and held in this transaction, by person id.
        """
        self._count(write(connection, self.staging, changes, self.now, rows))

    def _count(self, events: Mapping[Event, int]) -> None:
        for event, count in events.items():
            self.counts[COUNTED_AS[event]] += count

    def write_pending(self, size: int) -> None:
        """Write all changes that wait, a transaction for each ``size`` children."""
        for changes in pending_changes.chunks(self.staging, size):
            self._count(self.staging.in_transaction(functools.partial(self._write_chunk, changes)))

    def _write_chunk(self, changes: Sequence[Staged], connection: Connection) -> Counter[Event]:
        events = write(connection, self.staging, changes, self.now)
        pending_changes.remove(connection, self.staging, changes)
        return events

    def discard(self) -> None:
        """Keep nothing of a day that the guards refused.

        The pages of a first load are written as they are read, so the table is emptied again;
        nothing of them was sent.
        """
        pending_changes.clear(self.staging)
        if self.first_load:
            with database.transaction(self.staging.engine) as connection:
                self.staging.remove_all(connection)
                pending_changes.forget_all_reasons(connection, self.staging)

    # ---------------------------------------------------------------------------------- gone
    def unseen(
        self, connection: Connection | None = None, *, only: Container[str] | None = None
    ) -> Iterator[list[tuple[int, str]]]:
        """(row number, person id) of live rows of which nothing came today, in pages.

        Only of the shard's children, as nothing of others comes to it. Rows that were added today
        have higher numbers and are not looked at.

        Args:
            connection: reads them; None: a connection for each page, so that none stays open.
            only: ids of the children who are asked for; None: all.
        """
        staging, t, last = self.staging, self.staging.table.c, 0
        live = (t.id <= self.seen.highest, ~staging.is_deleted, *staging.mine)
        if self.live is None:
            with _given(connection) or database.reading(staging.engine) as reading:
                self.live = staging.count(reading, *live)
        if self.live == self.live_seen:
            return  # each of them was seen
        statement = (
            select(t.id, t.person_id)
            .where(t.id > bindparam("last"), *live)
            .order_by(t.id)
            .limit(_ROWS_AT_A_TIME)
        )
        while True:
            with _given(connection) or database.reading(staging.engine) as reading:
                rows = reading.execute(statement, {"last": last}).all()
            if not rows:
                return
            last = rows[-1].id
            unseen = [
                (row.id, row.person_id)
                for row in rows
                if row.id not in self.seen and (only is None or row.person_id in only)
            ]
            if unseen:
                yield unseen

    def mark_gone(
        self, connection: Connection | None = None, *, only: Container[str] | None = None
    ) -> list[str]:
        """Mark the rows of which nothing came today; gives the ids of their children.

        Args:
            connection: the transaction to do it in; None: a transaction for each page.
            only: as of `unseen`.
        """
        gone: list[str] = []
        for page in self.unseen(connection, only=only):
            work = functools.partial(self._mark_gone, page)
            marked = self.staging.in_transaction(work) if connection is None else work(connection)
            self.counts["gone"] += marked
            gone += [person_id for _, person_id in page]
        return gone

    def _mark_gone(self, page: Sequence[tuple[int, str]], connection: Connection) -> int:
        row_ids = [row_id for row_id, _ in page]
        pending_changes.forget_reasons(connection, self.staging, [one for _, one in page])
        return self.staging.mark_gone(connection, row_ids, self.now)


def _given(connection: Connection | None) -> AbstractContextManager[Connection] | None:
    """A connection that somebody else opened and closes."""
    return None if connection is None else contextlib.nullcontext(connection)


def _joined(reasons: tuple[str, ...] | None) -> str | None:
    return None if reasons is None else ",".join(reasons)


# ----------------------------------------------------------------------- what happens to a row
def is_staged(row: Row | None, new_hash: bytes) -> bool:
    """The row is live and holds today's document, as far as its hash says so."""
    return (
        row is not None
        and row.current_hash == new_hash
        and row.row_state not in (RowState.DELETED, None)
    )


def event_of(row: Row | None, new_hash: bytes) -> Event:
    """What a document that is not the staged one means for its row."""
    if row is None:
        return Event.FIRST_SEEN
    as_acknowledged = row.acknowledged and row.previous_hash == new_hash and not row.in_flight
    if row.row_state is RowState.DELETED:
        if as_acknowledged:
            return Event.BACK_SAME
        return Event.BACK_CHANGED if row.acknowledged else Event.BACK_NEW
    if as_acknowledged:
        return Event.UNDONE
    return Event.CHANGED if row.acknowledged else Event.CHANGED_NEW


def write(
    connection: Connection,
    staging: Staging,
    documents: Sequence[Staged],
    now: dt.datetime | None = None,
    held: Mapping[str, Row] | None = None,
) -> Counter[Event]:
    """Write today's documents of some children; rows that hold them already are not touched.

    The texts of the rows are checked before today's documents are written over them: a document
    that is not what its hash says counts as changed, and an altered baseline is put back.

    Args:
        held: the rows of these children by person id, where the same transaction looked them up and
            holds them; None: they are looked up.

    Returns:
        How many rows saw each event.
    """
    now = now or utc_now()
    if held is None:
        held = staging.lookup(connection, [d.person_id for d in documents], lock=True)
    rows = {d.person_id: held[d.person_id] for d in documents if d.person_id in held}
    same_hash = {
        d.person_id: d.payload for d in documents if is_staged(rows.get(d.person_id), d.hash)
    }
    altered, _ = stored_otherwise(connection, staging, same_hash)
    unchanged = same_hash.keys() - altered
    changing = [d for d in documents if d.person_id not in unchanged]
    stored = [rows[d.person_id] for d in changing if d.person_id in rows]
    rows |= _with_true_baselines(connection, staging, stored)
    by_event: dict[Event, list[Staged]] = {}
    for document in changing:
        event = event_of(rows.get(document.person_id), document.hash)
        by_event.setdefault(event, []).append(document)
    done: Counter[Event] = Counter()
    for event, some in by_event.items():
        done[event] = len(some) - _move(connection, staging, event, some, rows, now)
    pending_changes.write_reasons(connection, staging, documents)
    return +done


def _move(
    connection: Connection,
    staging: Staging,
    event: Event,
    documents: Sequence[Staged],
    rows: Mapping[str, Row],
    now: dt.datetime,
) -> int:
    """Write the documents that one event brought; gives how many rows were refused."""
    moves, t = staging.moves, staging.table.c
    if event in (Event.UNDONE, Event.BACK_SAME):
        row_ids = [rows[d.person_id].id for d in documents]
        acknowledged = {
            "json_payload": t.previous_json_payload,
            "current_hash": t.previous_hash,
            "partial_json_payload": null(),
            "last_updated": now,
        }
        return len(moves.move(connection, event, row_ids, acknowledged).refused)
    if event is Event.FIRST_SEEN:
        new = [{"person_id": d.person_id, **_columns(d, now)} for d in documents]
        refused = moves.add(connection, event, new).refused
    else:
        changes = [{"row": rows[d.person_id].id, **_columns(d, now)} for d in documents]
        refused = moves.move_each(
            connection,
            event,
            renamed(changes),
            new_values(changes[0]),
            written={"new_current_hash": t.current_hash},
        )
    not_valid = [d.person_id for d in documents if d.problem]
    moves.move(connection, Event.NOT_VALID, not_valid, {}, key=t.person_id)
    return len(refused)


def _columns(document: Staged, now: dt.datetime) -> dict[str, Any]:
    """What a row holds of a document that is new to it."""
    problem = document.problem
    return {
        "json_payload": document.payload,
        "current_hash": document.hash,
        "legacy_id": document.legacy_id,
        "partial_json_payload": None,
        "api_response": f"not sent: {problem}"[:4000] if problem else None,
        "last_updated": now,
    }


# ---------------------------------------------------------------- what other software changed
class StoredOtherwise(NamedTuple):
    """Children whose stored hash is today's, and whose stored text is not."""

    altered: set[str]  # it is not of that hash: other software changed it, and kept the hash
    reworded: dict[str, str]  # it is, and stays: it is written in another way, or with other ids


def stored_otherwise(
    connection: Connection, staging: Staging, texts: Mapping[str, str]
) -> StoredOtherwise:
    """Look at the stored texts of children whose documents have not changed.

    Args:
        texts: today's text of children whose stored hash is today's; where the stored text is the
            same it is not even parsed.
    """
    found = StoredOtherwise(set(), {})
    hasher = staging.hasher
    if hasher is None:
        return found
    t = staging.table.c
    stored = select(t.person_id, t.json_payload, t.current_hash)
    for row in database.rows_among(connection, stored, t.person_id, list(texts)):
        if row.json_payload == texts[row.person_id]:
            continue
        if hasher.matches(row.json_payload, database.as_bytes(row.current_hash)):
            found.reworded[row.person_id] = row.json_payload
        else:
            found.altered.add(row.person_id)
    return found


def _with_true_baselines(
    connection: Connection, staging: Staging, rows: Sequence[Row]
) -> dict[str, Row]:
    """The rows with what the receiver acknowledged by all the evidence, by person id.

    An altered baseline is put back from whichever text still is the acknowledged document. Where
    none is, today's document is not taken for the acknowledged one.
    """
    hasher = staging.hasher
    if hasher is None or not rows:
        return {}
    t = staging.table.c
    by_person = {row.person_id: row for row in rows}
    last_sent = staging.evidence.last_sent(connection, list(by_person))
    documents = select(t.id, t.person_id, t.json_payload, t.previous_json_payload, t.previous_hash)
    repairs: list[dict[str, Any]] = []
    for stored in database.rows_among(connection, documents, t.person_id, list(by_person)):
        last = last_sent.get(stored.person_id)
        held = baseline(stored, last, hasher.matches)
        sure = held.sure and not (last and last.journal_lost)
        by_person[stored.person_id] = replace(
            by_person[stored.person_id],
            acknowledged=held.text is not None or not held.sure,
            previous_hash=held.hash if sure else None,
        )
        before = (stored.previous_json_payload, database.as_bytes(stored.previous_hash))
        if held.sure and (held.text, held.hash) != before:
            repairs.append(
                {
                    "row": stored.id,
                    "previous_json_payload": held.text,
                    "previous_hash": held.hash,
                }
            )
    staging.put_baselines(connection, repairs)
    return by_person
