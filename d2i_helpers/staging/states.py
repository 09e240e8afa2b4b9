"""States of a staging row and of an attempt, and the table of allowed transitions.

Stored lower case and read without regard to case: D2I's own SQL writes ``Pending`` and ``New``.
`row_state` says how the staged document stands to the last acknowledged one;
`submission_status` what became of the last attempt to send it. `moves` is the only writer.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """Why nothing of a child is sent, though the source may hold it."""

    HELD_BACK = "held back"  # what the receiver holds stays until the source can be read again
    LEFT_OUT = "left out"  # the same, of a child of whom nothing is held
    REFUSED = "refused"  # the child cannot be sent as it stands in the source


# counts that tell why children who were staged are gone
LEFT_COHORT, NO_LONGER_THERE = "left_the_cohort", "no_longer_in_the_source"
AGED_OUT = "aged_out"
WHY_GONE = (LEFT_COHORT, NO_LONGER_THERE, AGED_OUT)


class Doubtful(StrEnum):
    """Why nobody can say what the receiver holds of a child, though all there is was sent."""

    BASELINE = "in doubt"  # no text that is left is the document that the receiver acknowledged
    ROW = "row missing"  # by the log the receiver holds the child, and the staging table has no row


class NoState(StrEnum):
    """What stands in the first column of the table where there is no row state."""

    ROW = "no row"
    WORD = "no word that is known"  # other software left it empty, or wrote a word of its own


class Event(StrEnum):
    """What can happen to a staging row."""

    FIRST_SEEN = "first seen"
    CHANGED = "document changed"
    CHANGED_NEW = "document changed, never acknowledged"
    UNDONE = "same as the acknowledged one"
    GONE = "gone from the source"
    BACK_NEW = "back, nothing acknowledged"
    BACK_CHANGED = "back with another document"
    BACK_SAME = "back as acknowledged"
    NOT_VALID = "document breaks a rule"
    UNREADABLE = "document cannot be used"
    PREPARED = "message made"
    PURGE_QUEUED = "purge queued"
    NOTHING_TO_SEND = "equals all that the receiver may hold"
    NOTHING_HELD = "the receiver holds nothing"
    MESSAGE_ALTERED = "message changed by other software"
    ACKNOWLEDGED = "acknowledged"
    MOVED_ON = "acknowledged, but the document moved on"
    GONE_MEANWHILE = "acknowledged, but gone meanwhile"
    PURGE_ACKNOWLEDGED = "purge acknowledged"
    BACK_MEANWHILE = "purge acknowledged, but back meanwhile"
    REFUSED = "refused, retries used up or outcome unknown"


@dataclass(frozen=True, slots=True)
class Transition:
    """One record of the table: from where to where an event moves a row."""

    start: frozenset[RowState | NoState]  # row states that the event may start from
    row_state: RowState | None  # afterwards; None: as it is
    status: Status | None  # afterwards; None: as it is


_N, _U, _S, _D = RowState.NEW, RowState.UPDATED, RowState.UNCHANGED, RowState.DELETED
_Start = frozenset[RowState | NoState]
_NO_ROW: _Start = frozenset({NoState.ROW})
_LIVE: _Start = frozenset({_N, _U, _S, NoState.WORD})
_GONE: _Start = frozenset({_D})
_ANY: _Start = _LIVE | _GONE
_PENDING, _SENT, _ERROR = Status.PENDING, Status.SENT, Status.ERROR

# The only place that says from where to where a row may move; `moves` carries it out.
TRANSITIONS: dict[Event, Transition] = {
    # what the source says
    Event.FIRST_SEEN: Transition(_NO_ROW, _N, _PENDING),
    Event.CHANGED: Transition(_LIVE, _U, _PENDING),
    Event.CHANGED_NEW: Transition(_LIVE, _N, _PENDING),
    Event.UNDONE: Transition(_LIVE, _S, _SENT),
    Event.GONE: Transition(_LIVE, _D, None),
    Event.BACK_NEW: Transition(_GONE, _N, _PENDING),
    Event.BACK_CHANGED: Transition(_GONE, _U, _PENDING),
    Event.BACK_SAME: Transition(_GONE, _S, _SENT),
    # what is wrong with a document
    Event.NOT_VALID: Transition(_LIVE, None, _ERROR),
    Event.UNREADABLE: Transition(_LIVE, None, _ERROR),
    # what delta makes of it
    Event.PREPARED: Transition(_LIVE, None, None),
    Event.PURGE_QUEUED: Transition(_GONE, _D, _PENDING),
    Event.NOTHING_TO_SEND: Transition(_LIVE, _S, _SENT),
    Event.NOTHING_HELD: Transition(_GONE, _D, _SENT),
    # what submit finds, and what the receiver answers
    Event.MESSAGE_ALTERED: Transition(_ANY, None, _ERROR),
    Event.ACKNOWLEDGED: Transition(_LIVE, _S, _SENT),
    Event.MOVED_ON: Transition(_LIVE, _U, _PENDING),
    Event.GONE_MEANWHILE: Transition(_GONE, _D, _SENT),
    Event.PURGE_ACKNOWLEDGED: Transition(_GONE, _D, _SENT),
    Event.BACK_MEANWHILE: Transition(_LIVE, _N, _PENDING),
    Event.REFUSED: Transition(_ANY, None, _ERROR),
}


# what the counts of a stage call the events that a document of the source can bring
COUNTED_AS: dict[Event, str] = {
    Event.FIRST_SEEN: "new",
    Event.CHANGED: "updated",
    Event.CHANGED_NEW: "updated",
    Event.UNDONE: "undone",
    Event.BACK_NEW: "back",
    Event.BACK_CHANGED: "back",
    Event.BACK_SAME: "back",
}


def generated_parts() -> dict[str, str]:
    """The generated parts of docs/convergence.md, by name."""
    return {"states": table_of_moves(), "transitions": table_of_transitions()}


def table_of_moves() -> str:
    """Which events move a row from where to where (Markdown); starts that are alike in one row."""
    starts: dict[tuple[str, ...], list[str]] = {}
    for start in (NoState.ROW, *RowState):
        starts.setdefault(tuple(_events(start, to) for to in RowState), []).append(_code(start))
    head = " | ".join(f"to {_code(state)}" for state in RowState)
    rows = [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in starts.items()]
    return "\n".join([f"| from | {head} |", "|---" * 5 + "|", *rows])


def _events(start: RowState | NoState, to: RowState) -> str:
    """The events that move a row so, with the status after in brackets."""
    said = [
        f"{event}{f' ({transition.status})' if transition.status else ''}"
        for event, transition in TRANSITIONS.items()
        if start in transition.start and transition.row_state is to
    ]
    return "; ".join(said)


def _code(state: RowState | NoState) -> str:
    return f"`{state}`" if isinstance(state, RowState) else str(state)


def table_of_transitions() -> str:
    """The table as it stands in the docs (Markdown)."""
    lines = ["| event | may start from | row_state | submission_status |", "|---|---|---|---|"]
    for event, transition in TRANSITIONS.items():
        start = ", ".join(_code(s) for s in (*RowState, *NoState) if s in transition.start)
        state = f"`{transition.row_state}`" if transition.row_state else "as it is"
        status = f"`{transition.status}`" if transition.status else "as it is"
        lines.append(f"| {event} | {start} | {state} | {status} |")
    return "\n".join(lines)


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
