"""What an answer of the API means: a pure function from an answer to a verdict.

Nobody outside the DfE knows its error format, so any text or JSON is read. A reason
that is passed on holds paths and words of rules only: what a receiver quotes may be a child's data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from d2i_helpers.settings.receipts import DFE_RECEIPT
from d2i_helpers.submit.answers import Answer, content_of
from d2i_helpers.submit.refusals import named_records
from d2i_helpers.submit.sessions import PROBLEM_HINTS

_ANY_WORD = re.compile(r"[\w.:/+=@-]{1,200}", re.ASCII)  # never a sentence, no HTML


class Kind(StrEnum):
    """Kinds of answers; each row of the outcome table is one."""

    ACCEPTED = "accepted"
    PARTLY = "accepted, but not every receipt can be read"
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
    ELSEWHERE = "a redirect: the receiver may have taken it all the same"
    FATAL = "nothing of this run can be accepted"


RETRIED = frozenset({Kind.BLOCKED, Kind.BUSY, Kind.CRASHED, Kind.NO_ANSWER, Kind.NOT_REACHED})
# of what was not acknowledged in it
MAYBE_STORED = frozenset(
    {Kind.PARTLY, Kind.UNREADABLE, Kind.CRASHED, Kind.NO_ANSWER, Kind.ELSEWHERE}
)

_REDIRECT_HINT = "Check `api_base_url`, and whether a proxy or a filter on the way answers instead."
_FATAL_HINTS = {
    404: "Check `api_base_url` and `la_code`: there is nothing at this address.",
    405: "Check `api_base_url`: this address takes no POST.",
    406: "Check `api_base_url`: this address gives no JSON.",
    410: "Check `api_base_url`: this address is no longer used.",
    415: "Check `api_base_url`, and whether a proxy changes the Content-Type.",
}


@dataclass(frozen=True)
class Verdict:
    """What an answer means for the records of its request."""

    kind: Kind
    detail: str  # fixed words, paths and rules; never text of the receiver
    references: tuple[str | None, ...] = ()  # of ACCEPTED and PARTLY: one a record, in order
    named: dict[int, str] = field(default_factory=dict)  # of NAMED: position to reason
    hint: str = ""  # what to check, for what ends a run


def verdict(answer: Answer, count: int, receipt: re.Pattern[str] = DFE_RECEIPT) -> Verdict:
    """What the answer to a request with ``count`` records means.

    Args:
        receipt: shape of the receipt of one record.
    """
    status = answer.status
    if status is None:
        return _without_answer(answer)
    if status == 204:
        return Verdict(Kind.EMPTY, "HTTP 204: taken for an empty request")
    if 200 <= status < 300:
        return _of_success(answer, count, receipt)
    if status in (400, 422):
        named = named_records(answer.body, count)
        if named:
            return Verdict(Kind.NAMED, f"HTTP {status}: names {len(named)} of {count}", named=named)
        return Verdict(Kind.UNNAMED, f"HTTP {status}: refused, without naming a record")
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
    if status < 200:
        return Verdict(Kind.NO_ANSWER, f"HTTP {status}: not an answer; it may be stored or not")
    if status < 400:  # after a POST often "done, look there" (303, and 302 by custom)
        detail = f"HTTP {status}: a redirect, which is not followed; it may be stored or not"
        return Verdict(Kind.ELSEWHERE, detail, hint=_REDIRECT_HINT)
    if answer.problem in PROBLEM_HINTS:  # 407
        hint = PROBLEM_HINTS[answer.problem]
        return Verdict(Kind.FATAL, f"HTTP {status}: {answer.problem}", hint=hint)
    hint = _FATAL_HINTS.get(status, "Check `api_base_url`; ask the DfE with the correlation id.")
    return Verdict(Kind.FATAL, f"HTTP {status}", hint=hint)


def _of_success(answer: Answer, count: int, receipt: re.Pattern[str]) -> Verdict:
    read = None
    if not answer.problem:
        read = references(answer.body, count, receipt)
    if read is None:
        why = answer.problem or f"not one receipt for each of the {count} records"
        if not answer.problem and _unlike(answer.body, count):
            why = "its receipts have not the shape of `receipt_form`"
        detail = f"HTTP {answer.status}, but {why}; it may be stored or not"
        return Verdict(Kind.UNREADABLE, detail)
    if None in read:
        detail = f"HTTP {answer.status}, but without a receipt for this record; "
        return Verdict(Kind.PARTLY, f"{detail}it may be stored or not", references=read)
    return Verdict(Kind.ACCEPTED, "", references=read)


def _without_answer(answer: Answer) -> Verdict:
    problem = answer.problem
    if problem in PROBLEM_HINTS:
        return Verdict(Kind.FATAL, problem, hint=PROBLEM_HINTS[problem])
    if answer.on_the_wire:
        return Verdict(Kind.NO_ANSWER, f"{problem}; it may be stored or not")
    hint = "Check `api_base_url`, `proxy` and the network, one after the other."
    return Verdict(Kind.NOT_REACHED, problem, hint=hint)


def references(
    body: bytes, count: int, receipt: re.Pattern[str] = DFE_RECEIPT
) -> tuple[str | None, ...] | None:
    """The receipts in an answer, one for each record in the order sent; None: it has no such list.

    They come as a JSON list or as lines of text, and have the shape ``receipt``: any list has
    words in it, and "rejected" is no receipt. In a list, what has not that shape beside a receipt
    that has is None: of that record nobody knows. Lines need a receipt each, because a text that
    was cut off has lines as well.
    """
    content = content_of(body)
    if isinstance(content, str):
        lines = [line.strip(" \t\r,\"'") for line in content.splitlines() if line.strip()]
        return _receipts(lines, count, receipt, every=True)
    if not isinstance(content, list):
        return None
    return _receipts(content, count, receipt, every=False)


def _receipts(
    entries: list[Any], count: int, receipt: re.Pattern[str], *, every: bool
) -> tuple[str | None, ...] | None:
    if len(entries) != count:
        return None
    read = tuple(
        entry.strip() if isinstance(entry, str) and receipt.fullmatch(entry.strip()) else None
        for entry in entries
    )
    lacking = read.count(None)
    return None if lacking and (every or lacking == count) else read


def _unlike(body: bytes, count: int) -> bool:
    """Whether an answer holds one word a record, of a shape that is not that of a receipt."""
    content = content_of(body)
    return (
        isinstance(content, list)
        and len(content) == count > 0
        and all(isinstance(entry, str) and _ANY_WORD.fullmatch(entry) for entry in content)
    )
