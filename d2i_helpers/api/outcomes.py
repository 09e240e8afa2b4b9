"""What an answer of the API means: a pure function from an answer to a verdict.

Nobody outside the DfE has its error format, so the reading here is of any text or JSON. A reason
that is passed on holds paths and words of rules only: what a receiver quotes may be a child's data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from d2i_helpers.api.reasons import named_records
from d2i_helpers.api.transport import NOT_TRUSTED, PROXY_LOGIN, Answer

# the receipt of one record, as the DfE writes it: date, time, up to 7 digits of a second, an id
_RECEIPT = re.compile(
    r"\d{4}-\d\d-\d\d[_T ]\d\d:\d\d:\d\d(\.\d{1,7})?_[0-9A-Fa-f-]{8,64}(\.json)?", re.ASCII
)
_REFERENCE = re.compile(r"[\w.:/+=@-]{1,200}", re.ASCII)  # any one word: never a sentence, no HTML


class Kind(StrEnum):
    """Kinds of answers; each row of the outcome table is one."""

    ACCEPTED = "accepted"
    UNREADABLE = "stored or not: the answer cannot be read"
    NAMED = "names the records that are wrong"
    UNNAMED = "something is wrong, but not said in which record"
    TOO_LARGE = "too large"
    EMPTY = "answered as if nothing had been sent"
    UNAUTHORISED = "the token or the key is not accepted"
    BLOCKED = "access refused, or stopped by a firewall"
    BUSY = "too many requests"
    CRASHED = "the receiver failed on it"
    NO_ANSWER = "no answer, or not from the receiver"
    NOT_REACHED = "not reached: nothing was sent"
    FATAL = "nothing of this run can be accepted"


RETRIED = frozenset({Kind.BLOCKED, Kind.BUSY, Kind.CRASHED, Kind.NO_ANSWER, Kind.NOT_REACHED})
MAYBE_STORED = frozenset({Kind.UNREADABLE, Kind.CRASHED, Kind.NO_ANSWER})

_FATAL_HINTS = {
    404: "Check `api_base_url` and `la_code`: there is nothing at this address.",
    405: "Check `api_base_url`: this address takes no POST.",
    406: "Check `api_base_url`: this address gives no JSON.",
    407: "Set D2I_PROXY_USER and D2I_PROXY_PASSWORD: the proxy wants a login.",
    410: "Check `api_base_url`: this address is no longer used.",
    415: "Check `api_base_url`, and whether a proxy changes the Content-Type.",
    422: "The API understood the request but names no record; ask the DfE with the correlation id.",
}
_PROBLEM_HINTS = {
    NOT_TRUSTED: "Where a proxy opens encrypted traffic, give its CA with `ca_bundle`.",
    PROXY_LOGIN: "Set D2I_PROXY_USER and D2I_PROXY_PASSWORD.",
}


@dataclass(frozen=True)
class Verdict:
    """What an answer means for the records of its request."""

    kind: Kind
    detail: str  # fixed words, paths and rules; never text of the receiver
    references: tuple[str, ...] = ()  # of ACCEPTED: one a record, in order
    named: dict[int, str] = field(default_factory=dict)  # of NAMED: position to reason
    hint: str = ""  # what to check, for what ends a run


def verdict(answer: Answer, count: int) -> Verdict:
    """What the answer to a request with ``count`` records means."""
    status = answer.status
    if status is None:
        return _without_answer(answer)
    if status == 204:
        return Verdict(Kind.EMPTY, "HTTP 204: taken for an empty request")
    if 200 <= status < 300:
        found = None if answer.problem else references(answer.body, count)
        if found is not None:
            return Verdict(Kind.ACCEPTED, "", references=found)
        why = answer.problem or f"not one reference for each of the {count} records"
        return Verdict(Kind.UNREADABLE, f"HTTP {status}, but {why}; it may be stored or not")
    if status in (400, 422):
        named = named_records(answer.body, count)
        if named:
            return Verdict(Kind.NAMED, f"HTTP {status}: names {len(named)} of {count}", named=named)
        if status == 400:
            return Verdict(Kind.UNNAMED, "HTTP 400: refused, without naming a record")
    if status == 413:
        return Verdict(Kind.TOO_LARGE, "HTTP 413: too large")
    if status == 401:
        return Verdict(Kind.UNAUTHORISED, "HTTP 401: token or supplier key not accepted")
    if status == 403:
        return Verdict(Kind.BLOCKED, "HTTP 403: access refused, or stopped by the firewall")
    if status == 429:
        return Verdict(Kind.BUSY, "HTTP 429: too many requests")
    if status == 408:
        return Verdict(Kind.NO_ANSWER, "HTTP 408: a time-out on the way")
    if status == 500:
        return Verdict(Kind.CRASHED, "HTTP 500: the receiver failed; it may be stored or not")
    if status > 500:
        return Verdict(Kind.NO_ANSWER, f"HTTP {status}: no answer from the receiver")
    hint = _FATAL_HINTS.get(status, "Check `api_base_url`; ask the DfE with the correlation id.")
    return Verdict(Kind.FATAL, f"HTTP {status}", hint=hint)


def _without_answer(answer: Answer) -> Verdict:
    problem = answer.problem
    if problem in _PROBLEM_HINTS:
        return Verdict(Kind.FATAL, problem, hint=_PROBLEM_HINTS[problem])
    if answer.on_the_wire:
        return Verdict(Kind.NO_ANSWER, f"{problem}; it may be stored or not")
    hint = "Check `api_base_url`, `proxy` and the network; `d2i check` tries each."
    return Verdict(Kind.NOT_REACHED, problem, hint=hint)


def references(body: bytes, count: int) -> tuple[str, ...] | None:
    """The receipts in an answer, one a record in the order sent; None where it does not hold that.

    They come as a JSON list, or as lines of text.
    """
    try:
        found: Any = orjson.loads(body)
    except ValueError:
        return _lines(body, count)
    if not isinstance(found, list) or len(found) != count:
        return None
    good = all(isinstance(one, str) and _REFERENCE.fullmatch(one) for one in found)
    return tuple(found) if good else None


def _lines(body: bytes, count: int) -> tuple[str, ...] | None:
    """Receipts a line each; of the DfE's exact shape, as any page of text has lines."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = tuple(line.strip(" \t\r,\"'") for line in text.splitlines() if line.strip())
    good = len(lines) == count and all(_RECEIPT.fullmatch(line) for line in lines)
    return lines if good else None
