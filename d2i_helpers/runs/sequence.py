"""Checks of the chain of ledger entries by itself: altered, added, removed or impossible entries.

Each run starts once and ends; it is resumed only if it did not complete, and pruned once. Anything
else in a ledger was not written by this program.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from d2i_helpers.database.plain_message import without_controls
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.ledger import Chain, Entry

# by which the clocks of two machines that share a folder may differ, or one be set back
CLOCK_SECONDS = 300
# for which a run's events may wait for an object storage that is away
LONGEST_WAIT = dt.timedelta(days=31)

_MAY_FOLLOW = {
    ledger.STARTED: (None,),
    ledger.RESUMED: ledger.FINAL,
    ledger.FINISHED: ledger.OPENING,
    ledger.CLOSED: ledger.OPENING,
    ledger.PRUNED: ledger.FINAL,
}
_WORDS = {
    ledger.STARTED: "started",
    ledger.RESUMED: "was resumed",
    ledger.FINISHED: "ended",
    ledger.CLOSED: "ended",
    ledger.PRUNED: "was pruned",
}


class ChainFault(NamedTuple):
    """What is wrong with one line of the ledger."""

    line: int  # from 1
    problem: str


def where(line: int, entry: Entry | None) -> str:
    """The name of a line of the ledger, for messages."""
    if entry is None:
        return f"ledger line {line}"
    run_id, kind = str(entry.get("run_id")), str(entry.get("kind"))
    said = kind if "run_id" not in entry else f"run {run_id}, {kind}"
    return without_controls(f"ledger line {line} ({said})")


def chain_faults(chain: Chain, key: bytes | None = None) -> list[ChainFault]:
    """All faults that the chain itself, and the ledger key, can show.

    Args:
        key: the ledger key; None: seals are not checked.
    """
    faults = [*_links(chain), *_events(chain), *_times(chain)]
    if key is not None:
        faults += _seals(chain, key)
    return sorted(faults, key=lambda fault: fault.line)


def _links(chain: Chain) -> Iterator[ChainFault]:
    before, number = ledger.START, 0
    for line, entry in enumerate(chain, 1):
        if entry is None:
            yield ChainFault(line, "is not an entry: it was altered")
            number += 1
            continue
        own = ledger.entry_hash(entry)
        expected, number = number + 1, entry.get("entry", 0)
        if own != entry["hash"]:
            yield ChainFault(line, "the entry was altered")
        if number != expected:
            yield ChainFault(line, f"entry {without_controls(str(number))} stands where {expected} "
                             "should: entries were removed, added or reordered")  # fmt: skip
        elif entry.get("before") != before:
            yield ChainFault(line, "does not follow the entry before it: "
                             f"entry {expected - 1} was altered or replaced")  # fmt: skip
        before = entry["hash"]
        number = number if isinstance(number, int) else expected


def _events(chain: Chain) -> Iterator[ChainFault]:
    """Faults in the order of a run's events."""
    first: dict[str, Entry] = {}
    latest: dict[str, tuple[int, Entry]] = {}
    for line, entry in enumerate(chain, 1):
        if entry is None or entry.get("kind") == ledger.SEALED:
            continue
        run_id, kind = entry.get("run_id"), entry.get("kind")
        if not records.is_run_id(run_id) or kind not in _MAY_FOLLOW:
            yield ChainFault(line, "is of no kind that this program writes: it was added")
            continue
        earlier_line, earlier = latest.get(run_id, (0, {}))
        if earlier.get("kind") not in _MAY_FOLLOW[kind]:
            yield ChainFault(line, _impossible(kind, earlier_line, earlier))
        elif kind == ledger.RESUMED and earlier.get("status") == records.COMPLETED:
            yield ChainFault(line, f"was added: the run had completed (line {earlier_line}), and "
                             "such a run is never resumed")  # fmt: skip
        if problem := _inconsistent(entry, first.setdefault(run_id, entry)):
            yield ChainFault(line, problem)
        latest[run_id] = (line, entry)


def _impossible(kind: str, line: int, earlier: Mapping[str, Any]) -> str:
    if not earlier:
        return "was added, or what stood before it was removed: the run never started"
    before = earlier["kind"]
    if kind in ledger.FINAL and before in ledger.FINAL:
        return f"vouches for the run a second time: it had ended before (line {line})"
    return f"was added: the run {_WORDS[before]} before (line {line})"


def _inconsistent(entry: Entry, first: Entry) -> str | None:
    """What is impossible in an entry, whatever stands before it; None if nothing is."""
    kind, status = entry.get("kind"), entry.get("status")
    if not isinstance(entry.get("database"), str) or not entry["database"]:
        return "was added: it does not say in which database it is"
    if entry["database"] != first.get("database"):
        return "was added: the run's first entry is in another database"
    if entry.get("asked_sha256") != first.get("asked_sha256"):
        return "was added: the run was asked to do something else when it started"
    if kind in ledger.OPENING and status != records.RUNNING:
        return "was added: a run that begins is running"
    if kind not in ledger.OPENING and status == records.RUNNING:
        return "was added: a run that ended is not running"
    if kind == ledger.CLOSED and status != records.INTERRUPTED:
        return "was added: a run that was killed is closed as interrupted"
    if kind == ledger.FINISHED and (status == records.COMPLETED) != (entry.get("exit_code") == 0):
        return "was added: its status and its exit code contradict each other"
    return None


def _times(chain: Chain) -> Iterator[ChainFault]:
    """Faults in time: an entry out of the order of the others, a run id not of its start.

    A clock that was a year ahead for one night makes that night's entries doubtful, and not all
    that come after them: those are out of time that most of the others contradict.
    """
    slack = dt.timedelta(seconds=CLOCK_SECONDS)
    times = {line: time_of(entry.get("at")) for line, entry in enumerate(chain, 1) if entry}
    now = dt.datetime.now(dt.UTC) + slack
    in_order = _in_order({line: at for line, at in times.items() if at is not None and at <= now})
    for (line, at), (before, after) in zip(
        times.items(), _neighbours(list(times), in_order), strict=True
    ):
        entry = chain[line - 1]
        assert entry is not None  # else it is not among the times
        if at is None:
            yield ChainFault(line, "was altered or added: it has no time")
            continue
        if at > now:
            yield ChainFault(line, "was added, or a clock was wrong: it is of a time to come")
        if before and at < in_order[before] - slack:
            yield ChainFault(line, "was added or moved, or a clock was set back: it is older than "
                             f"line {before} before it")  # fmt: skip
        elif after and now >= at > in_order[after] + slack:
            yield ChainFault(line, "was added or moved, or a clock was ahead: it is younger than "
                             f"line {after} behind it")  # fmt: skip
        if "since" in entry:  # it waited in a folder while the object storage was away
            waited_from = time_of(entry["since"])
            if waited_from is None or not -slack <= at - waited_from <= LONGEST_WAIT:
                yield ChainFault(line, "was added: no event waits so long to be carried over")
                continue
            at = waited_from
        run_id = entry.get("run_id")
        if entry.get("kind") != ledger.STARTED or not records.is_run_id(run_id):
            continue
        if abs(at - records.time_of_id(run_id)) > slack:
            yield ChainFault(line, "was added: the run's id is of another time than its start")


def _in_order(times: Mapping[int, dt.datetime]) -> dict[int, dt.datetime]:
    """The most lines whose times follow one another; of two ways the one with the earlier lines.

    Args:
        times: of lines, in their order.
    """

    def backwards(line: int) -> float:
        return -times[line].timestamp()

    # From the end: `ends[n]` is the latest line from which n + 1 lines follow one another. The
    # lines of `ends` have ever earlier times, and a line goes in front of those not before it.
    ends: list[int] = []
    follows: dict[int, int | None] = {}
    for line in reversed(list(times)):
        place = bisect.bisect_right(ends, backwards(line), key=backwards)
        follows[line] = ends[place - 1] if place else None
        ends[place : place + 1] = [line]
    found, next_line = {}, ends[-1] if ends else None
    while next_line is not None:
        found[next_line] = times[next_line]
        next_line = follows[next_line]
    return found


def _neighbours(
    lines: Sequence[int], in_order: Mapping[int, Any]
) -> Iterator[tuple[int | None, int | None]]:
    """The last line in order before each line, and the first one behind it."""
    ordered = list(in_order)
    for line in lines:
        place = bisect.bisect_left(ordered, line)
        behind = place + (line in in_order)
        yield (
            ordered[place - 1] if place else None,
            ordered[behind] if behind < len(ordered) else None,
        )


def time_of(said: Any) -> dt.datetime | None:
    """The time that an entry gives; None where that is no time with a zone."""
    try:
        at = dt.datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def _seals(chain: Chain, key: bytes) -> Iterator[ChainFault]:
    """Entries without the key's seal, after the last entry that sealed all before it."""
    vouched = max(
        (line for line, entry in enumerate(chain, 1)
         if entry and entry.get("kind") == ledger.SEALED and ledger.is_sealed(entry, key)),
        default=0,
    )  # fmt: skip
    for line, entry in enumerate(chain, 1):
        if entry is None or line <= vouched or ledger.is_sealed(entry, key):
            continue
        how = "its seal is not of this ledger key" if "seal" in entry else "it has no seal"
        yield ChainFault(line, f"{how}: it was made without the ledger key, or forged")
