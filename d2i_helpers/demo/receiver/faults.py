"""Faults that the simulated receiver plays: read from YAML, chosen per request.

docs/receiver.md explains the file, with examples.
"""

from __future__ import annotations

import difflib
import hashlib
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import Unreadable, parse_yaml, read_text

# ways in which a 200 can be wrong: in its receipts, or in the whole answer
_OF_RECEIPTS = ("fewer", "more", "lines", "words", "one_word")
_OF_ANSWERS = ("unreadable", "empty", "truncated", "marked", "utf16", "wrapped", "endless")
ANSWERS = _OF_RECEIPTS + _OF_ANSWERS
_ENDPOINTS = ("children", "token")
_HINT = "docs/receiver.md explains the file."


@dataclass(frozen=True)
class Play:
    """What happens to a request."""

    name: str = ""  # as the admin view shows it
    delay: float = 0.0  # seconds before anything else
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    store: bool = False  # with `status`: store the records all the same
    drop: str | None = None  # end the connection without an answer: before | after storing
    answer: str | None = None  # what is wrong with the receipts
    refuse: str | None = None  # named | unnamed: a 400 for the records that were chosen
    expire_tokens: bool = False


@dataclass
class Fault:
    """When to play: when all given conditions hold, or always where none is given."""

    play: Play
    endpoint: str = "children"
    requests: frozenset[int] = frozenset()  # numbers of requests to that endpoint, from 1
    every: int = 0
    share: float | None = None  # of requests, at random
    children: frozenset[str] = frozenset()  # ids: a request with one of them
    child_share: float | None = None  # of children, always the same ones
    records_over: int | None = None  # a request with more records than this
    times: int | None = None  # play it at most this many times
    played: int = 0


@dataclass(frozen=True)
class Chosen:
    """The fault of a request, with the positions of the records that it is about."""

    play: Play = Play()
    positions: tuple[int, ...] = ()
    named: tuple[int, ...] = ()  # records that a 400 is to name
    unnamed: tuple[int, ...] = ()  # records for which a 400 is to name none

    @property
    def name(self) -> str:
        """What the admin view shows."""
        refused = [word for word in ("named", "unnamed") if getattr(self, word)]
        return ", ".join(filter(None, [self.play.name, *(f"refuse {word}" for word in refused)]))


@dataclass
class Faults:
    """All faults that a receiver plays, and its rate limit."""

    faults: Sequence[Fault] = ()
    seed: int = 0
    token_seconds: float = 3600.0
    byte_limit: int | None = None
    rate_limit: tuple[int, float, str | None] | None = None  # requests, seconds, Retry-After
    firewall: bool = False

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._counts: dict[str, int] = {}
        self._recent: deque[float] = deque()

    def choose(self, endpoint: str, ids: Sequence[str] = ()) -> Chosen:
        """Choose what to play for this request, and count the request.

        The first fault that fits is chosen. Records that a fault refuses are refused whatever else
        is played, as a real receiver would refuse them.
        """
        number = self._counts[endpoint] = self._counts.get(endpoint, 0) + 1
        chosen: tuple[Play, tuple[int, ...]] | None = None
        refused: dict[str, set[int]] = {"named": set(), "unnamed": set()}
        for fault in self.faults:
            if fault.endpoint != endpoint:
                continue
            # drawn for every request, so that one fault does not shift the chances of the next
            drawn = fault.share is None or self._random.random() < fault.share
            if not drawn or (fault.times is not None and fault.played >= fault.times):
                continue
            positions = self._positions(fault, ids)
            if positions is None or not _due(fault, number, len(ids)):
                continue
            if fault.play.refuse:
                refused[fault.play.refuse].update(positions)
            elif chosen is None:
                chosen = fault.play, positions
            else:
                continue
            fault.played += 1
        play, positions = chosen or (Play(), ())
        named, unnamed = (tuple(sorted(refused[word])) for word in ("named", "unnamed"))
        return Chosen(play, positions, named, unnamed)

    def _positions(self, fault: Fault, ids: Sequence[str]) -> tuple[int, ...] | None:
        """Positions of the children whom the fault is about; None where the request holds none."""
        if not fault.children and fault.child_share is None:
            return ()
        positions = tuple(
            position
            for position, child in enumerate(ids)
            if child in fault.children or self.is_chosen(child, fault.child_share or 0.0)
        )
        return positions or None

    def is_chosen(self, child: str, share: float) -> bool:
        """Whether a child belongs to the share of children; the same in every run of one seed."""
        digest = hashlib.sha256(f"{self.seed}:{child}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < share

    def too_many(self, now: Callable[[], float] = time.monotonic) -> str | None:
        """The `Retry-After` to answer with where requests come too fast; counts the request."""
        if self.rate_limit is None:
            return None
        allowed, seconds, retry_after = self.rate_limit
        at = now()
        while self._recent and self._recent[0] <= at - seconds:
            self._recent.popleft()
        if len(self._recent) >= allowed:
            return retry_after or str(max(1, round(self._recent[0] + seconds - at)))
        self._recent.append(at)
        return None


def _due(fault: Fault, number: int, records: int) -> bool:
    if fault.requests and number not in fault.requests:
        return False
    if fault.every and number % fault.every:
        return False
    return fault.records_over is None or records > fault.records_over


# ------------------------------------------------------------------------------------- reading
def read_faults(path: Path | str | None) -> Faults:
    """The faults in a YAML file; none without a file.

    Raises:
        SettingsError: no such file, not YAML, or a key or value that is not known.
    """
    if path is None:
        return Faults()
    path = Path(path)
    try:
        content = parse_yaml(read_text(path))
    except (FileNotFoundError, IsADirectoryError):
        raise SettingsError(f"There is no fault file {path.name}.", hint=_HINT) from None
    except Unreadable as error:
        raise SettingsError(f"{path.name}{error.said}.", hint=error.hint) from None
    return make_faults(content or {}, path.name)


def make_faults(content: Any, where: str = "faults") -> Faults:
    """Faults from what a file holds.

    Raises:
        SettingsError: a key or value that is not known.
    """
    limits = _table(content, _TOP, where)
    entries = limits.pop("faults", [])
    if "rate_limit" in limits:
        limit = _table(limits["rate_limit"], _RATE, f"{where}: rate_limit")
        limits["rate_limit"] = (
            limit.get("requests", 1),
            limit.get("seconds", 1.0),
            limit.get("retry_after"),
        )
    faults = [_fault(entry, f"{where}: fault {n}") for n, entry in enumerate(entries, start=1)]
    return Faults(faults=faults, **limits)


def _fault(entry: Any, where: str) -> Fault:
    given = _table(entry, _WHEN | _PLAY, where)
    play = {key: given.pop(key) for key in list(given) if key in _PLAY}
    if not play:
        raise SettingsError(f"{where}: says when, but not what happens.", hint=_HINT)
    if "refuse" in play and not {"child", "child_share"} & given.keys():
        raise SettingsError(f"{where}: `refuse` needs `child` or `child_share`.", hint=_HINT)
    if "refuse" in play and len(play) > 1:
        raise SettingsError(f"{where}: `refuse` stands alone.", hint=_HINT)
    if given.get("endpoint") == "token" and play.get("answer") in _OF_RECEIPTS:
        raise SettingsError(
            f"{where}: `answer: {play['answer']}` is about receipts; a token has none.", hint=_HINT
        )
    if "request" in given:
        given["requests"] = frozenset(given.pop("request"))
    if "child" in given:
        given["children"] = frozenset(given.pop("child"))
    name = given.pop("name", None) or ", ".join(f"{k} {v}" for k, v in play.items() if k != "body")
    return Fault(Play(name=name, **play), **given)


def _figure(value: Any, number: type[int] | type[float]) -> Any:
    """The number that a text stands for (a file holds only text); other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return number(value)
    except ValueError:
        return value


def _number(low: float, high: float = 1e9) -> Callable[[Any], Any]:
    def read(value: Any) -> float:
        value = _figure(value, float)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise ValueError(f"a number from {low:g}" + (f" to {high:g}" if high < 1e9 else " on"))
        return value

    return read


def _whole(low: int, high: int = 10**9) -> Callable[[Any], Any]:
    def read(value: Any) -> int:
        value = _figure(value, int)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low}" + (f" to {high}" if high < 10**9 else ""))
        return value

    return read


def _one_of(*words: str) -> Callable[[Any], Any]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value

    return read


def _several(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: [read(part) for part in (value if isinstance(value, list) else [value])]


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("a text")
    return str(value)


def _flag(value: Any) -> bool:
    value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("a table of header names and values")
    return {_text(name): _text(content) for name, content in value.items()}


def _anything(value: Any) -> Any:
    return value


def _entries(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list")
    return value


_TOP = {
    "faults": _entries,
    "seed": _whole(0),
    "token_seconds": _number(0),
    "byte_limit": _whole(1),
    "rate_limit": _anything,
    "firewall": _flag,
}
_RATE = {"requests": _whole(1), "seconds": _number(0.001), "retry_after": _text}
_WHEN = {
    "name": _text,
    "endpoint": _one_of(*_ENDPOINTS),
    "request": _several(_whole(1)),
    "every": _whole(1),
    "share": _number(0, 1),
    "child": _several(_text),
    "child_share": _number(0, 1),
    "records_over": _whole(0),
    "times": _whole(1),
}
_PLAY = {
    "delay": _number(0, 3600),
    "status": _whole(200, 599),
    "headers": _headers,
    "body": _text,
    "store": _flag,
    "drop": _one_of("before", "after"),
    "answer": _one_of(*ANSWERS),
    "refuse": _one_of("named", "unnamed"),
    "expire_tokens": _flag,
}


def _table(content: Any, known: Mapping[str, Callable[[Any], Any]], where: str) -> dict[str, Any]:
    """The entry with every value parsed; unknown keys and wrong values are errors."""
    if not isinstance(content, dict):
        raise SettingsError(f"{where} must be a table of names.", hint=_HINT)
    read = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(known)}."
            raise SettingsError(f"{where}: unknown key `{key}`.", hint=hint)
        try:
            read[key] = known[key](value)
        except ValueError as error:
            raise SettingsError(f"{where}: `{key}` must be {error}.", hint=_HINT) from None
    return read
