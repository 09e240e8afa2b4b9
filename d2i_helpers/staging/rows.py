"""The staging table: its rows, its facts, and the conditions that its rows are chosen by.

`load` writes today's documents, `outbox` knows what is to be sent, `in_flight` what was answered.
Every change of state is one `states.Event`; `moves` carries it out in one transaction with what
belongs to it. What the receiver holds is known from two places: the acknowledged document
(`previous_*`) and the journal of documents whose outcome is not known.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
from d2i_helpers.database import shards
from d2i_helpers.database.tables import (
    attention,
    facts,
    journal,
    notes,
    staging_table,
    unsettled,
)
from d2i_helpers.settings import WHOLE, Shard
from d2i_helpers.staging.evidence import PURGE, Evidence, Hasher
from d2i_helpers.staging.lease import take_turn
from d2i_helpers.staging.moves import Moves
from d2i_helpers.staging.states import (
    Event,
    RowState,
    Status,
    Unsent,
    read_row_state,
    read_status,
)

Result = TypeVar("Result")
WRITTEN_ANEW = "the next extract (or anonymise) writes the document anew"


def utc_now() -> dt.datetime:
    """The time in UTC without a zone, as every time column here holds it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0)


@dataclass(slots=True)  # to freeze it takes three times as long as to make it
class Staged:
    """A child's document as the source gives it today."""

    person_id: str
    legacy_id: str | None
    payload: str  # canonical JSON text
    hash: bytes  # 32 bytes
    problem: str | None = None  # why it may not be sent: paths and rules, no values
    reasons: str | None = None  # inclusion sets, comma-separated; None: none are kept


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


def _both_or_neither(left: ColumnElement[bool], right: ColumnElement[bool]) -> ColumnElement[bool]:
    """Equality of two conditions; SQL Server and Oracle cannot compare conditions as values."""
    return or_(and_(left, right), and_(~left, ~right))


class Staging:
    """One staging table (the identifiable or the anonymised one) and what is kept beside it."""

    def __init__(
        self, engine: Engine, name: str, hasher: Hasher | None = None, shard: Shard = WHOLE
    ) -> None:
        """``hasher`` makes this table's hashes; None: stored texts are not checked against them.

        ``shard``: whose children are worked on.
        """
        self.shard = shard
        self.engine = engine
        self.name = name
        self.table = staging_table(name)
        self.hasher = hasher
        self.evidence = Evidence(self.table)
        self.moves = Moves(self.table)
        self.state, self.status = self.moves.state, self.moves.status
        self.is_deleted = self.state == database.constant(RowState.DELETED)
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
                attention.c.outcome == database.constant(Unsent.HELD_BACK),
            )
        )
        # the row does not say that all was sent; an index has these rows alone
        self.unsettled = unsettled(self.table)
        self.acknowledged = self.table.c.previous_json_payload.is_not(None)
        # the receiver may hold something of this child
        self.held = or_(self.acknowledged, self.in_flight)
        # joins the row notes to their row
        self.noted = and_(
            notes.c.staging_table == name, notes.c.person_id == self.table.c.person_id
        )

    @functools.cached_property
    def mine(self) -> tuple[ColumnElement[bool], ...]:
        """The condition that a row is of the shard's children; none for the whole."""
        return self.mine_by(self.table.c.person_id)

    def mine_by(self, person_id: ColumnElement) -> tuple[ColumnElement[bool], ...]:
        """The same for the rows of another table, by its column with the child's id.

        Raises:
            SettingsError: the database cannot be worked on in shards.
        """
        return shards.condition(self.engine, self.shard, person_id)

    @functools.cached_property
    def due_in_parts(self) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """Two conditions on the shard's rows; each row that is due fulfils exactly one of them.

        Each finds its rows by an index: that of unsettled rows, and the journal. They stand in two
        statements of a UNION ALL. With both in one list of row numbers PostgreSQL, which expects
        few unsettled rows, would go through that list anew for each row: minutes on the day on
        which all rows are unsettled. Without a list SQLite would begin with the notes.
        """
        waiting = self.table.alias("waiting")
        of_unsettled = select(waiting.c.id).where(
            unsettled(waiting), *self.mine_by(waiting.c.person_id)
        )
        in_journal = select(journal.c.person_id).where(
            journal.c.staging_table == self.name, *self.mine_by(journal.c.person_id)
        )
        return (
            and_(self.table.c.id.in_(of_unsettled), self.is_due_there),
            # settled rows are not deleted, and what is in the journal is due (`is_due_there`)
            and_(self.table.c.person_id.in_(in_journal), ~self.unsettled, ~self.held_back),
        )

    @functools.cached_property
    def is_due_there(self) -> ColumnElement[bool]:
        """Something of the child is still to be sent.

        For a statement that names its rows; `due_in_parts` finds them.
        """
        t, filled_by_us = self.table.c, self.evidence.filled_by_us
        # a row that says `sent` has to be what was acknowledged; of hashes that other software
        # made nothing follows, so there its word is taken
        says_sent_wrongly = or_(
            self.state != database.constant(RowState.UNCHANGED),
            t.current_hash.is_(None),
            t.previous_hash.is_(None),
            t.current_hash != t.previous_hash,
            ~self.acknowledged,
        )
        waits_or_failed = or_(
            self.status != database.constant(Status.SENT), and_(filled_by_us, says_sent_wrongly)
        )
        may_still_be_held = or_(
            self.acknowledged,
            and_(filled_by_us, or_(t.previous_hash.is_not(None), self.evidence.log_says_held())),
        )
        return and_(
            or_(
                and_(~self.is_deleted, waits_or_failed),
                and_(self.is_deleted, may_still_be_held),
                self.in_flight,
            ),
            ~self.held_back,
        )

    @functools.cached_property
    def is_ready_there(self) -> ColumnElement[bool]:
        """The row's message may be sent: the row is due, and the message holds.

        Only of rows to which their notes are joined, and as `is_due_there`.
        """
        return and_(self.is_due_there, self.message_holds)

    @functools.cached_property
    def message_holds(self) -> ColumnElement[bool]:
        """The row's message was made from what is staged and acknowledged now.

        Only of rows to which their notes are joined; without notes it does not hold.
        """
        t = self.table.c
        return and_(
            t.partial_json_payload.is_not(None),
            same(notes.c.partial_current_hash, t.current_hash),
            same(notes.c.partial_previous_hash, t.previous_hash),
            notes.c.partial_digest.is_not(None),
            notes.c.document_digest.is_not(None),
            _both_or_neither(notes.c.partial_kind == PURGE, self.is_deleted),
        )

    def count_held_back(self, connection: Connection) -> int:
        """Number of rows of the shard's children who are held back."""
        held = select(attention.c.person_id).where(
            attention.c.staging_table == self.name,
            attention.c.outcome == database.constant(Unsent.HELD_BACK),
            *self.mine_by(attention.c.person_id),
        )
        return self.count(connection, self.table.c.person_id.in_(held))

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
        statement = self._rows()
        if lock:
            statement = database.locking(statement, self.table)
        found = database.rows_among(connection, statement, self.table.c.person_id, person_ids)
        return {row.person_id: _row(row) for row in found}

    def hashes(self, connection: Connection, row_ids: Sequence[int]) -> dict[int, bytes | None]:
        """Hashes of today's documents by row number; the rows are held until the transaction ends.

        A row that is gone is not in the answer.
        """
        t = self.table.c
        named = select(t.id, t.current_hash).where(t.id.in_(bindparam("ids", expanding=True)))
        held = database.locking(named, self.table)
        return {
            row.id: database.as_bytes(row.current_hash)
            for ids in database.in_batches(list(row_ids))
            for row in connection.execute(held, {"ids": list(ids)}).all()
        }

    def count(self, connection: Connection, *conditions: ColumnElement[bool]) -> int:
        """Number of rows for which all conditions hold."""
        return connection.execute(
            select(func.count()).select_from(self.table).where(*conditions)
        ).scalar_one()

    def count_live(self, connection: Connection) -> int:
        """Number of the shard's rows that are not deleted.

        An index finds those that are: they are unsettled. To look at the state of each would read
        the whole table, long texts too where states stand behind them.
        """
        rows = select(func.count()).select_from(self.table).where(*self.mine)
        deleted = rows.where(self.unsettled, self.is_deleted)
        live = rows.scalar_subquery() - deleted.scalar_subquery()
        return connection.execute(select(live)).scalar_one()

    def count_of_unsettled(
        self, connection: Connection, **conditions: ColumnElement[bool]
    ) -> dict[str, int]:
        """Number of unsettled rows for which each condition holds; reads no other rows.

        All in one look, as the columns stand behind long texts. In two steps, because SQL Server
        adds up no expression that holds a query.
        """
        flags = [case((one, 1), else_=0).label(name) for name, one in conditions.items()]
        rows = select(*flags).where(self.unsettled).subquery("counted")
        totals = connection.execute(select(*(func.sum(one) for one in rows.columns))).one()
        return {name: int(total or 0) for name, total in zip(conditions, totals, strict=True)}

    def max_id(self, connection: Connection) -> int:
        """The highest row number; 0 for an empty table."""
        return connection.execute(select(func.max(self.table.c.id))).scalar() or 0

    def fact(self, connection: Connection, name: str) -> str | None:
        """A fact about this table that outlives a run, such as the canonical form of its hashes."""
        return connection.execute(
            select(facts.c.value).where(facts.c.staging_table == self.name, facts.c.name == name)
        ).scalar()

    def facts_like(self, connection: Connection, beginning: str) -> dict[str, str]:
        """The facts whose names begin so, by name."""
        mine = facts.c.staging_table == self.name
        rows = connection.execute(select(facts.c.name, facts.c.value).where(mine))
        return {row.name: row.value for row in rows if row.name.startswith(beginning)}

    def forget_fact(self, connection: Connection, name: str) -> None:
        """Remove a fact."""
        where = and_(facts.c.staging_table == self.name, facts.c.name == name)
        connection.execute(delete(facts).where(where))

    def set_fact(self, connection: Connection, name: str, value: str) -> None:
        """Store a fact; writes nothing where it is the same already.

        Shards that store the same one wait for each other.
        """
        if self.fact(connection, name) == value:
            return
        take_turn(connection, self.name, self.shard)
        if not self.shard.is_whole and self.fact(connection, name) == value:
            return
        self.forget_fact(connection, name)
        connection.execute(insert(facts).values(staging_table=self.name, name=name, value=value))

    # ------------------------------------------------------------------------------- writing
    def in_transaction(self, work: Callable[[Connection], Result]) -> Result:
        """Do a chunk of work in one transaction, again where the database ended it.

        Args:
            work: is done from its beginning each time; what it counts has to be in its result.

        Raises:
            DatabaseError: the database refused it, or ended each attempt.
        """
        refused = Counter(self.moves.refused)

        def attempt(connection: Connection) -> Result:
            self.moves.refused.clear()
            self.moves.refused.update(refused)
            return work(connection)

        return database.in_transaction(self.engine, attempt)

    def put_baselines(self, connection: Connection, repairs: Sequence[dict[str, Any]]) -> None:
        """Write the baselines that the evidence shows.

        Args:
            repairs: `row`, `previous_json_payload` and `previous_hash` of each.
        """
        update_by_id(connection, self.table, repairs, ("previous_json_payload", "previous_hash"))

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
            database.insert_rows(connection, self.table, contents)
        return len(row_ids)

    def remove_all(self, connection: Connection) -> None:
        """Empty the table of the shard's children, after a first load that must not stay.

        Nothing of it was sent.
        """
        connection.execute(delete(self.table).where(*self.mine))

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
        """Remove the notes of these children: their messages are no longer valid."""
        of_table = delete(notes).where(notes.c.staging_table == self.name)
        database.delete_among(connection, of_table, notes.c.person_id, person_ids)


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


def new_values(example: Mapping[str, Any]) -> dict[str, Any]:
    """What an UPDATE of many rows sets, as parameters that `renamed` names."""
    return {name: bindparam(f"new_{name}") for name in example if name != "row"}


def update_by_id(
    connection: Connection, table: Any, rows: Sequence[dict[str, Any]], known_by: Iterable[str]
) -> None:
    """Update rows by their numbers.

    Args:
        rows: `row`, the number, and the new values of each.
        known_by: columns by which a row that was written is known.

    Raises:
        DatabaseError: not each of them was written.
    """
    if rows:
        database.update_each(
            connection,
            update(table).values(new_values(rows[0])),
            renamed(rows),
            key=("row", table.c.id),
            written={f"new_{name}": table.c[name] for name in known_by},
        )


def renamed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter names that do not clash with the column names of an UPDATE."""
    return [{k if k == "row" else f"new_{k}": v for k, v in row.items()} for row in rows]
