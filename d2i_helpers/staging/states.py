"""States of a staging row and of an attempt, and the table of allowed transitions.

Stored lower case and read without regard to case: D2I's own SQL writes ``Pending`` and ``New``.
`row_state` says how the staged document stands to the last acknowledged one;
`submission_status` what became of the last attempt to send it. `staging` is the only writer.
"""

from __future__ import annotations

from enum import StrEnum


class RowState(StrEnum):
    """How the staged document stands to the last document that the receiver acknowledged."""

    NEW = "new"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


class Status(StrEnum):
    """What became of the last attempt to send the row."""

    PENDING = "pending"
    SENT = "sent"
    ERROR = "error"


class Outcome(StrEnum):
    """How one attempt to send one child's document ended (submission log)."""

    ACKNOWLEDGED = "acknowledged"  # stored, with a reference
    REFUSED = "refused"  # the receiver named this record, or it can never be accepted
    FAILED = "failed"  # not stored for certain, and the retries are used up
    UNKNOWN = "unknown"  # the receiver may or may not have stored it
    UNSENT = "unsent"  # not stored for certain, nothing wrong with the record: stays pending


class Unsent(StrEnum):
    """Why nothing of a child is sent that the source may have."""

    HELD_BACK = "held back"  # what the receiver holds stays until the source can be read again
    LEFT_OUT = "left out"  # the same, of a child of whom nothing is held
    REFUSED = "refused"  # the child cannot be sent as it stands in the source


# counts that tell why children who were staged are gone
LEFT_COHORT, NO_LONGER_THERE = "left_the_cohort", "no_longer_in_the_source"
AGED_OUT = "aged_out"
WHY_GONE = (LEFT_COHORT, NO_LONGER_THERE, AGED_OUT)


class Doubtful(StrEnum):
    """Why nobody can say what the receiver holds of a child, though all that there is was sent."""

    BASELINE = "in doubt"  # no text that is left is the document that the receiver acknowledged
    ROW = "row missing"  # by the log the receiver holds the child, and the staging table has no row


class Event(StrEnum):
    """What can happen to a staging row."""

    FIRST_SEEN = "first seen"
    CHANGED = "document changed"
    UNDONE = "same as the acknowledged one"
    GONE = "gone from source"
    BACK_NEW = "back, never acknowledged"
    BACK_CHANGED = "back with another document"
    BACK_SAME = "back as acknowledged"
    PURGE_QUEUED = "purge queued"
    ACKNOWLEDGED = "acknowledged"
    MOVED_ON = "acknowledged, but the document moved on meanwhile"
    PURGE_ACKNOWLEDGED = "purge acknowledged"
    REFUSED = "refused, retries exhausted or outcome unknown"


_N, _U, _S, _D = RowState.NEW, RowState.UPDATED, RowState.UNCHANGED, RowState.DELETED
_LIVE = frozenset({_N, _U, _S})

# event -> (row states it may start from, row state afterwards, status afterwards)
# None as a state afterwards means: as it is.
TRANSITIONS: dict[Event, tuple[frozenset[RowState | None], RowState | None, Status | None]] = {
    Event.FIRST_SEEN: (frozenset({None}), _N, Status.PENDING),
    Event.CHANGED: (_LIVE, _U, Status.PENDING),  # stays `new` while never acknowledged
    Event.UNDONE: (_LIVE, _S, Status.SENT),
    Event.GONE: (_LIVE, _D, None),
    Event.BACK_NEW: (frozenset({_D}), _N, Status.PENDING),
    Event.BACK_CHANGED: (frozenset({_D}), _U, Status.PENDING),
    Event.BACK_SAME: (frozenset({_D}), _S, Status.SENT),
    Event.PURGE_QUEUED: (frozenset({_D}), _D, Status.PENDING),
    Event.ACKNOWLEDGED: (frozenset(RowState), _S, Status.SENT),
    Event.MOVED_ON: (frozenset(RowState), _U, Status.PENDING),
    Event.PURGE_ACKNOWLEDGED: (frozenset({_D}), _D, Status.SENT),
    Event.REFUSED: (frozenset(RowState), None, Status.ERROR),
}


# what the counts of a stage call the events that a document of the source can bring
COUNTED_AS: dict[Event, str] = {
    Event.FIRST_SEEN: "new",
    Event.CHANGED: "updated",
    Event.UNDONE: "undone",
    Event.BACK_NEW: "back",
    Event.BACK_CHANGED: "back",
    Event.BACK_SAME: "back",
}

_ROW_STATES = {state.value: state for state in RowState}
_STATUSES = {status.value: status for status in Status}


def read_row_state(stored: str | None) -> RowState | None:
    """A stored row state, whatever its case; null, blank and unknown words give None."""
    word = (stored or "").strip().lower()
    return _ROW_STATES.get(word)


def read_status(stored: str | None) -> Status:
    """A stored submission status, whatever its case; anything unknown counts as pending.

    Pending is the safe reading: the worst that it costs is one more identical message.
    """
    word = (stored or "").strip().lower()
    return _STATUSES.get(word, Status.PENDING)
