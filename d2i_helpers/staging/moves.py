"""The only writer of `row_state` and `submission_status`: rows move as `states.TRANSITIONS` says.

The table is part of each statement. A row in a state that the event may not start from is not
touched, and is counted. Rows change hands between reading and writing (other software writes to the
same table), so what was read before is no proof of where a row stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    case,
    false,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import Update

from d2i_helpers import database
from d2i_helpers.database.tables import word_of
from d2i_helpers.plain_english import subject
from d2i_helpers.staging import states
from d2i_helpers.staging.states import Event, NoState, RowState, Status

# an event, and the rows that it happens to; None: all that no event before it happens to
Events = Mapping[Event, ColumnElement[bool] | None]
_STORED = frozenset({*RowState, NoState.WORD})  # what a row that is there can be in


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of the rows that were to move."""

    rows: int
    refused: frozenset[Any]  # keys of rows in a state that no event may start from


class Moves:
    """Moves of the rows of one staging table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.state, self.status = word_of(table.c.row_state), word_of(table.c.submission_status)
        self.refused: Counter[Event] = Counter()  # rows that were left as they were

    def add(self, connection: Connection, event: Event, rows: Sequence[dict[str, Any]]) -> Moved:
        """Write new rows.

        Args:
            rows: every column but the two states.
        """
        transition = states.TRANSITIONS[event]
        if NoState.ROW not in transition.start:
            self.refused[event] += len(rows)
            return Moved(0, frozenset(row["person_id"] for row in rows))
        if rows:
            database.insert_rows(
                connection,
                self.table,
                [
                    {
                        **row,
                        "row_state": str(transition.row_state),
                        "submission_status": str(transition.status),
                    }
                    for row in rows
                ],
            )
        return Moved(len(rows), frozenset())

    def move(
        self,
        connection: Connection,
        events: Event | Events,
        keys: Iterable[Any],
        values: Mapping[str, Any],
        *,
        key: ColumnElement | None = None,
        where: ColumnElement[bool] | None = None,
    ) -> Moved:
        """Move rows that get the same values.

        Args:
            events: one event; or several of which the first that applies to a row happens to it.
            keys: which rows.
            values: the other columns that the move writes.
            key: the column that ``keys`` are of; None: the row number.
            where: what else must hold of a row.
        """
        events = {events: None} if isinstance(events, Event) else events
        column = self.table.c.id if key is None else key
        statement = self._update(events, where, values)
        moved, refused = 0, frozenset[Any]()
        for part in database.in_batches(list(keys)):
            refused |= self._refuse(connection, events, column, part)
            moved += connection.execute(statement.where(column.in_(part))).rowcount
        return Moved(moved, refused)

    def statement(
        self, events: Events, where: ColumnElement[bool], values: Mapping[str, Any]
    ) -> Update:
        """The statement that moves the rows that a condition chooses, to be executed many times.

        Args:
            events: as for `move`; together they have to take a row in any state, as none is refused
                here.
            where: which rows.
            values: the other columns that the move writes.
        """
        assert _starts(events) >= _STORED
        moving: Update = self._update(events, where, values)
        return moving

    def move_each(
        self,
        connection: Connection,
        events: Event | Events,
        rows: Sequence[dict[str, Any]],
        values: Mapping[str, Any],
        *,
        where: ColumnElement[bool] | None = None,
        written: Mapping[str, ColumnElement],
    ) -> frozenset[int]:
        """Move rows that get values of their own.

        Args:
            events: as for `move`.
            rows: the parameters of each: `row`, its number, and what ``values`` and ``where`` name.
            values: the other columns that the move writes.
            where: what else must hold of a row.
            written: of the parameters that are stored, those by which a written row is known, with
                their columns.

        Returns:
            Numbers of the rows that were refused.

        Raises:
            DatabaseError: a row that was to move was not written.
        """
        if not rows:
            return frozenset()
        events = {events: None} if isinstance(events, Event) else events
        refused = frozenset[int]()
        for part in database.in_batches([row["row"] for row in rows]):
            refused |= self._refuse(connection, events, self.table.c.id, part)
        database.update_each(
            connection,
            self._update(events, where, values),
            [row for row in rows if row["row"] not in refused],
            key=("row", self.table.c.id),
            written=written,
        )
        return refused

    def notices(self) -> list[str]:
        """What is to be said of rows that were refused; nothing in an ordinary run."""
        return [
            f"{subject(count, 'row', 'was')} left alone: no state that the event "
            f"`{event}` may start from. Other software wrote it; the next run looks at it anew."
            for event, count in self.refused.items()
            if count
        ]

    def _update(
        self, events: Events, where: ColumnElement[bool] | None, values: Mapping[str, Any]
    ) -> Any:
        happens = {event: self._happens(event, condition) for event, condition in events.items()}
        statement = update(self.table).values(dict(values))
        for condition in (self._may_move(events, happens), where):
            if condition is not None:
                statement = statement.where(condition)
        after = {event: states.TRANSITIONS[event] for event in events}
        row_states = {event: transition.row_state for event, transition in after.items()}
        statuses = {event: transition.status for event, transition in after.items()}
        t = self.table.c
        for column, words in ((t.row_state, row_states), (t.submission_status, statuses)):
            if any(words.values()):
                statement = statement.values({column.name: _word(column, words, happens)})
        return statement

    def _may_move(
        self, events: Events, happens: Mapping[Event, ColumnElement[bool]]
    ) -> ColumnElement[bool] | None:
        """One of the events happens to a row (a condition); None where one happens to all rows."""
        start = _starts(event for event, condition in events.items() if condition is None)
        if start >= _STORED:
            return None
        others = (event for event in events if not states.TRANSITIONS[event].start <= start)
        return or_(self._in(start), *(happens[event] for event in others))

    def _happens(self, event: Event, condition: ColumnElement[bool] | None) -> ColumnElement[bool]:
        may = self._in(states.TRANSITIONS[event].start)
        return may if condition is None else and_(may, condition)

    def _in(self, start: Iterable[RowState | NoState]) -> ColumnElement[bool]:
        """The row is in one of these states. No IN: a statement for many rows cannot have one."""
        stored = _STORED & frozenset(start)
        if stored in (frozenset(), _STORED):
            return true() if stored else false()
        if NoState.WORD in stored:
            return and_(*(self.state != _constant(state) for state in _in_order(_STORED - stored)))
        return or_(*(self.state == _constant(state) for state in _in_order(stored)))

    def _refuse(
        self, connection: Connection, events: Events, column: ColumnElement, keys: Sequence[Any]
    ) -> frozenset[Any]:
        """Keys of the rows that may not move, counted; all named rows are held until the move."""
        start = _starts(events)
        if start >= _STORED:
            return frozenset()
        named = select(column, self.state).where(column.in_(keys))
        allowed = {str(state) for state in start}
        known = {str(state) for state in RowState}
        refused = frozenset(
            stored_key
            for stored_key, state in connection.execute(database.locking(named, self.table)).all()
            if (state if state in known else NoState.WORD) not in allowed
        )
        if refused:
            self.refused[next(iter(events))] += len(refused)
        return refused


def _starts(events: Iterable[Event]) -> frozenset[RowState | NoState]:
    """All states that one of these events may start from."""
    return frozenset[RowState | NoState]().union(
        *(states.TRANSITIONS[event].start for event in events)
    )


def _constant(word: RowState | NoState | Status) -> ColumnElement[str]:
    return database.constant(str(word))


def _in_order(start: Iterable[RowState | NoState]) -> list[RowState | NoState]:
    return sorted(start, key=str)


def _word(
    column: ColumnElement,
    words: Mapping[Event, RowState | Status | None],
    happens: Mapping[Event, ColumnElement[bool]],
) -> Any:
    """The word that a column gets: that of the event that happens to the row."""
    if len(words) == 1:
        (only,) = words.values()
        return _constant(only) if only else column
    branches = [
        (happens[event], _constant(word) if word else column) for event, word in words.items()
    ]
    return case(*branches, else_=column)
