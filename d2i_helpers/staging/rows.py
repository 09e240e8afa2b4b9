"""The staging table, and what the source says of its rows.

`outbox` knows what is to be sent, `in_flight` what was answered. Every change of state is one
`states.Event`, carried out by `moves` in one transaction with what belongs to it. What
the receiver holds is known from two places: the acknowledged document (`previous_*`) and the
journal of documents whose outcome is not known.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import attention, facts, journal, notes, staging_table
from d2i_helpers.staging.evidence import Evidence, Hasher, baseline
from d2i_helpers.staging.moves import Moves
from d2i_helpers.staging.states import (
    Event,
    RowState,
    Status,
    Unsent,
    read_row_state,
    read_status,
)

WRITTEN_ANEW = "the next extract (or anonymise) writes the document anew"


def utc_now() -> dt.datetime:
    """The time in UTC without a zone, as every time column here holds it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0)


@dataclass(frozen=True, slots=True)
class Staged:
    """A child's document as the source gives it today."""

    person_id: str
    legacy_id: str | None
    payload: str  # canonical JSON text
    hash: bytes  # 32 bytes
    problem: str | None = None  # why it may not be sent: paths and rules, no values


@dataclass(frozen=True, slots=True)
class Row:
    """What a decision about a staging row needs; documents stay in the database."""

    id: int
    person_id: str
    current_hash: bytes | None
    previous_hash: bytes | None
    row_state: RowState | None
    status: Status
    acknowledged: bool  # an acknowledged document is held
    in_flight: bool  # the journal holds a document of unknown outcome


def same(left: ColumnElement, right: ColumnElement) -> ColumnElement[bool]:
    """Equal, or both null."""
    return or_(left == right, and_(left.is_(None), right.is_(None)))


class Staging:
    """One staging table (the identifiable or the anonymised one) and what is kept beside it."""

    def __init__(self, engine: Engine, name: str, hasher: Hasher | None = None) -> None:
        """``hasher``: what makes this table's hashes; None where stored texts are not checked."""
        self.engine = engine
        self.name = name
        self.table = staging_table(name)
        self.hasher = hasher
        self.evidence = Evidence(self.table)
        self.moves = Moves(self.table)
        self.state, self.status = self.moves.state, self.moves.status
        self.is_deleted = self.state == RowState.DELETED.value
        self.in_flight = exists(
            select(journal.c.id).where(
                journal.c.staging_table == name, journal.c.person_id == self.table.c.person_id
            )
        )
        # nothing of the child may be sent: extract cannot say what the source has of it
        self.held_back = exists(
            select(attention.c.id).where(
                attention.c.staging_table == name,
                attention.c.person_id == self.table.c.person_id,
                attention.c.outcome == Unsent.HELD_BACK.value,
            )
        )
        self.acknowledged = self.table.c.previous_json_payload.is_not(None)
        # the receiver may hold something of this child
        self.held = or_(self.acknowledged, self.in_flight)

    # ------------------------------------------------------------------------------- reading
    def _rows(self) -> Select:
        t = self.table.c
        return select(
            t.id,
            t.person_id,
            t.current_hash,
            t.previous_hash,
            t.row_state,
            t.submission_status,
            case((self.acknowledged, 1), else_=0).label("acknowledged"),
            case((self.in_flight, 1), else_=0).label("in_flight"),
        )

    def lookup(
        self, connection: Connection, person_ids: Sequence[str], *, lock: bool = False
    ) -> dict[str, Row]:
        """Rows of these children by person id; a child that is not staged is not in the answer.

        Args:
            lock: hold the rows until the transaction ends.
        """
        statement = self._rows().where(self.table.c.person_id.in_(bindparam("ids", expanding=True)))
        if lock:
            statement = database.locking(statement, self.table)
        found: dict[str, Row] = {}
        for ids in database.in_batches(list(person_ids)):
            for row in connection.execute(statement, {"ids": list(ids)}):
                found[row.person_id] = _row(row)
        return found

    def live_rows(self, connection: Connection, *, page: int = 5000) -> Iterator[list[Row]]:
        """All rows that are not deleted, in pages by id."""
        last = -1
        statement = (
            self._rows()
            .where(self.table.c.id > bindparam("last"), ~self.is_deleted)
            .order_by(self.table.c.id)
            .limit(page)
        )
        while rows := [_row(r) for r in connection.execute(statement, {"last": last})]:
            yield rows
            last = rows[-1].id

    def count(self, connection: Connection, *conditions: ColumnElement[bool]) -> int:
        """Number of rows for which all conditions hold."""
        return connection.execute(
            select(func.count()).select_from(self.table).where(*conditions)
        ).scalar_one()

    def max_id(self, connection: Connection) -> int:
        """The highest row number; 0 for an empty table."""
        return connection.execute(select(func.max(self.table.c.id))).scalar() or 0

    def fact(self, connection: Connection, name: str) -> str | None:
        """A fact about this table that outlives a run, such as the canonical form of its hashes."""
        return connection.execute(
            select(facts.c.value).where(facts.c.staging_table == self.name, facts.c.name == name)
        ).scalar()

    def set_fact(self, connection: Connection, name: str, value: str) -> None:
        """Store a fact; writes nothing where it is the same already."""
        before = self.fact(connection, name)
        if before == value:
            return
        where = and_(facts.c.staging_table == self.name, facts.c.name == name)
        connection.execute(delete(facts).where(where))
        connection.execute(insert(facts).values(staging_table=self.name, name=name, value=value))

    # ------------------------------------------------------------------- what the source says
    def event_of(self, row: Row | None, new_hash: bytes) -> Event | None:
        """What a document with this hash means for its row; None: nothing changes."""
        if row is None:
            return Event.FIRST_SEEN
        back = row.row_state is RowState.DELETED
        if row.current_hash == new_hash and not back and row.row_state is not None:
            return None
        as_held = row.acknowledged and row.previous_hash == new_hash and not row.in_flight
        if back:
            if as_held:
                return Event.BACK_SAME
            return Event.BACK_CHANGED if row.acknowledged else Event.BACK_NEW
        if as_held:
            return Event.UNDONE
        return Event.CHANGED if row.acknowledged else Event.CHANGED_NEW

    def stage(
        self, connection: Connection, documents: Sequence[Staged], now: dt.datetime | None = None
    ) -> Counter[Event]:
        """Write today's documents of some children; what did not change is not touched.

        Returns:
            How many rows saw each event.
        """
        now = now or utc_now()
        rows = self.lookup(connection, [d.person_id for d in documents], lock=True)
        if rows and self.hasher:
            rows = self._trusted(connection, rows, documents, self.hasher)
        by_event: dict[Event, list[Staged]] = {}
        for document in documents:
            event = self.event_of(rows.get(document.person_id), document.hash)
            if event is not None:
                by_event.setdefault(event, []).append(document)
        done: Counter[Event] = Counter()
        for event, some in by_event.items():
            done[event] = len(some) - self._stage(connection, event, some, rows, now)
        moved = by_event.keys() - {Event.FIRST_SEEN}
        touched = [d.person_id for d in documents if d.person_id in rows]
        self.forget_notes(connection, touched if moved else [])
        return +done

    def _stage(
        self,
        connection: Connection,
        event: Event,
        documents: Sequence[Staged],
        rows: Mapping[str, Row],
        now: dt.datetime,
    ) -> int:
        """Write the documents that one event brought; gives how many rows were refused."""
        if event is Event.FIRST_SEEN:
            new = [{"person_id": d.person_id, **_content(d, now)} for d in documents]
            refused = self.moves.add(connection, event, new).refused
        elif event in (Event.UNDONE, Event.BACK_SAME):
            ids = [rows[d.person_id].id for d in documents]
            values = {**self._as_acknowledged(), "last_updated": now}
            refused = self.moves.move(connection, event, ids, values).refused
        else:
            changes = [{"row": rows[d.person_id].id, **_content(d, now)} for d in documents]
            refused = self.moves.move_each(
                connection, event, renamed(changes), new_values(changes[0])
            )
        if event not in (Event.UNDONE, Event.BACK_SAME):
            people = [d.person_id for d in documents if d.problem]
            self.moves.move(connection, Event.NOT_VALID, people, {}, key=self.table.c.person_id)
        return len(refused)

    def altered(self, connection: Connection, texts: Mapping[str, str]) -> set[str]:
        """Children whose stored document was changed by other software, its hash kept.

        Args:
            texts: today's text of children whose stored hash is today's; where the stored text is
                the same it is not even parsed.
        """
        hasher = self.hasher
        if hasher is None:
            return set()
        t = self.table.c
        statement = select(t.person_id, t.json_payload, t.current_hash).where(
            t.person_id.in_(bindparam("ids", expanding=True))
        )
        return {
            row.person_id
            for ids in database.in_batches(list(texts))
            for row in connection.execute(statement, {"ids": list(ids)})
            if row.json_payload != texts[row.person_id]
            and hasher(row.json_payload) != database.as_bytes(row.current_hash)
        }

    def _trusted(
        self,
        connection: Connection,
        rows: Mapping[str, Row],
        documents: Sequence[Staged],
        hasher: Hasher,
    ) -> dict[str, Row]:
        """The rows as their texts bear them out, before today's documents are written over them.

        A document that is not what its hash says counts as changed. A baseline that was altered is
        put back from whichever text still is the acknowledged document; where none is, today's
        document is not taken for the acknowledged one.
        """
        trusted = dict(rows)
        texts = {
            d.person_id: d.payload
            for d in documents
            if d.person_id in rows and self.event_of(rows[d.person_id], d.hash) is None
        }
        for person_id in self.altered(connection, texts):
            trusted[person_id] = replace(trusted[person_id], current_hash=None)
        changing = [
            d.person_id
            for d in documents
            if d.person_id in rows and self.event_of(trusted[d.person_id], d.hash) is not None
        ]
        for person_id, (acknowledged, digest) in self._repair(connection, changing, hasher).items():
            row = trusted[person_id]
            trusted[person_id] = replace(row, acknowledged=acknowledged, previous_hash=digest)
        return trusted

    def _repair(
        self, connection: Connection, person_ids: Sequence[str], hasher: Hasher
    ) -> dict[str, tuple[bool, bytes | None]]:
        """Put altered baselines back where the acknowledged document still stands in the row.

        Returns:
            By child: whether something is acknowledged, and its hash; None where that is in doubt.
        """
        t = self.table.c
        last = self.evidence.last_sent(connection, person_ids)
        statement = select(
            t.id, t.person_id, t.json_payload, t.previous_json_payload, t.previous_hash
        ).where(t.person_id.in_(bindparam("ids", expanding=True)))
        judged: dict[str, tuple[bool, bytes | None]] = {}
        repairs: list[dict[str, Any]] = []
        for ids in database.in_batches(person_ids):
            for row in connection.execute(statement, {"ids": list(ids)}):
                held = baseline(row, last.get(row.person_id), hasher)
                lost = row.person_id in last and last[row.person_id].journal_lost
                digest = held.hash if held.sure and not lost else None
                judged[row.person_id] = (held.text is not None or not held.sure, digest)
                if held.sure and (held.text, held.hash) != (
                    row.previous_json_payload,
                    database.as_bytes(row.previous_hash),
                ):
                    repairs.append(
                        {
                            "row": row.id,
                            "previous_json_payload": held.text,
                            "previous_hash": held.hash,
                        }
                    )
        self.put_baselines(connection, repairs)
        return judged

    def put_baselines(self, connection: Connection, repairs: Sequence[dict[str, Any]]) -> None:
        """Write what the receiver holds by the evidence.

        Args:
            repairs: `row`, `previous_json_payload` and `previous_hash` of each.
        """
        if repairs:
            connection.execute(update_by_id(self.table, repairs[0]), renamed(repairs))

    def _as_acknowledged(self) -> dict[str, Any]:
        """The acknowledged document put back: a change was undone before it was sent."""
        t = self.table.c
        return {
            "json_payload": t.previous_json_payload,
            "current_hash": t.previous_hash,
            "partial_json_payload": null(),
        }

    def mark_gone(
        self, connection: Connection, row_ids: Iterable[int], now: dt.datetime | None = None
    ) -> int:
        """Mark rows whose child left the cohort; rows that are marked already stay untouched."""
        values = {"partial_json_payload": null(), "last_updated": now or utc_now()}
        return self.moves.move(connection, Event.GONE, row_ids, values).rows

    def renumber(self, connection: Connection, *, page: int = 500) -> int:
        """Give all rows new numbers, in the order of the children's ids; nothing else changes.

        Returns:
            Number of rows.
        """
        t = self.table.c
        copied = [column for column in t if column is not t.id]
        row_ids = connection.execute(select(t.id).order_by(t.person_id)).scalars().all()
        for ids in database.in_batches(row_ids, page):
            these = t.id.in_(ids)
            rows = connection.execute(select(*copied).where(these).order_by(t.person_id)).mappings()
            contents = [dict(row) for row in rows]
            connection.execute(delete(self.table).where(these))
            connection.execute(insert(self.table), contents)
        return len(row_ids)

    def remove_all(self, connection: Connection) -> None:
        """Empty the table: a first load that must not stay, of which nothing was sent."""
        connection.execute(delete(self.table))

    def damaged(self, connection: Connection) -> list[int]:
        """Row numbers of live rows whose `json_payload` does not even look like a JSON object.

        Seen without parsing; other damage shows when the document is next needed. Rows of children
        who are held back go on saying that.
        """
        t = self.table.c
        return list(
            connection.execute(
                select(t.id).where(~self.is_deleted, ~t.json_payload.like("{%}"), ~self.held_back)
            ).scalars()
        )

    def mark_unreadable(
        self,
        connection: Connection,
        row_ids: Sequence[int],
        why: str = "json_payload is not valid JSON",
    ) -> None:
        """Rows whose `json_payload` cannot be used: an error, and written anew by the next extract.

        The hash is taken away so that the next extract sees a change and puts the document back.
        """
        values = {
            "current_hash": null(),
            "partial_json_payload": null(),
            "api_response": f"not sent: {why}; {WRITTEN_ANEW}",
        }
        self.moves.move(connection, Event.UNREADABLE, row_ids, values)

    def forget_notes(self, connection: Connection, person_ids: Sequence[str]) -> None:
        """What was noted of these children's partial documents no longer holds."""
        for ids in database.in_batches(list(person_ids)):
            connection.execute(
                delete(notes).where(notes.c.staging_table == self.name, notes.c.person_id.in_(ids))
            )


def _row(row: Any) -> Row:
    return Row(
        row.id,
        row.person_id,
        database.as_bytes(row.current_hash),
        database.as_bytes(row.previous_hash),
        read_row_state(row.row_state),
        read_status(row.submission_status),
        bool(row.acknowledged),
        bool(row.in_flight),
    )


def _content(document: Staged, now: dt.datetime) -> dict[str, Any]:
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


def new_values(example: Mapping[str, Any]) -> dict[str, Any]:
    """What an UPDATE of many rows sets, as parameters that `renamed` names."""
    return {name: bindparam(f"new_{name}") for name in example if name != "row"}


def update_by_id(table: Any, example: dict[str, Any]) -> Any:
    """An UPDATE by row number for `executemany`; parameters as `renamed` names them."""
    return update(table).where(table.c.id == bindparam("row")).values(new_values(example))


def renamed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter names that do not clash with the column names of an UPDATE."""
    return [{k if k == "row" else f"new_{k}": v for k, v in row.items()} for row in rows]
