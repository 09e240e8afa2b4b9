"""What the log says of each record of a request, and whether the receiver told records apart."""

from __future__ import annotations

import pytest

from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit.answers import Answer
from d2i_helpers.submit.outcomes import Kind, Verdict
from d2i_helpers.submit.results import BatchResult, Delivery

ACKNOWLEDGED, REFUSED, UNKNOWN, UNSENT, FAILED = (
    Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.UNSENT, Outcome.FAILED,
)  # fmt: skip


def noted(records: int, meaning: Verdict, status: int | None = 400) -> Delivery:
    """The records of one request after its answer."""
    delivery = Delivery([b"{}"] * records)
    delivery.note(tuple(range(records)), Answer(status), meaning)
    return delivery


@pytest.mark.parametrize(
    ("kind", "records", "outcome"),
    [
        (Kind.ACCEPTED, 2, ACKNOWLEDGED),
        (Kind.UNREADABLE, 2, UNKNOWN),
        (Kind.ELSEWHERE, 2, UNKNOWN),
        (Kind.NO_ANSWER, 2, UNKNOWN),
        (Kind.CRASHED, 1, UNKNOWN),
        (Kind.EMPTY, 2, REFUSED),
        # which of several is bad nobody knows
        (Kind.UNNAMED, 2, UNSENT),
        (Kind.UNNAMED, 1, REFUSED),
        (Kind.TOO_LARGE, 2, UNSENT),
        (Kind.TOO_LARGE, 1, REFUSED),
        (Kind.BLOCKED, 1, FAILED),
        (Kind.BUSY, 1, FAILED),
        (Kind.UNAUTHORISED, 1, UNSENT),
        (Kind.NOT_REACHED, 1, UNSENT),
        (Kind.FATAL, 1, UNSENT),
    ],
)
def test_records_that_an_answer_does_not_name(kind: Kind, records: int, outcome: Outcome) -> None:
    (attempt,) = noted(records, Verdict(kind, "said")).attempts
    assert (attempt.positions, attempt.outcome) == (tuple(range(records)), outcome)
    assert attempt.detail == "said"


@pytest.mark.parametrize(
    ("meaning", "attempts"),
    [
        (Verdict(Kind.NAMED, "", named={1: "bad"}), [((1,), REFUSED), ((0,), UNSENT)]),
        (
            Verdict(Kind.NAMED, "", named={0: "bad", 1: "bad"}),
            [((0,), REFUSED), ((1,), REFUSED)],
        ),
        (
            Verdict(Kind.PARTLY, "", references=("r-1", None)),
            [((0,), ACKNOWLEDGED), ((1,), UNKNOWN)],
        ),
    ],
)
def test_records_that_an_answer_tells_apart(
    meaning: Verdict, attempts: list[tuple[tuple[int, ...], Outcome]]
) -> None:
    delivery = noted(2, meaning)
    assert [(one.positions, one.outcome) for one in delivery.attempts] == attempts
    assert delivery.result(None).requests == 1


@pytest.mark.parametrize(
    ("records", "meaning", "status", "told_apart"),
    [
        (1, Verdict(Kind.UNNAMED, ""), 400, True),
        (2, Verdict(Kind.NAMED, "", named={1: "bad"}), 400, True),
        (2, Verdict(Kind.UNNAMED, ""), 400, False),
        (2, Verdict(Kind.EMPTY, ""), 204, False),
        (1, Verdict(Kind.BLOCKED, ""), 403, False),
        (1, Verdict(Kind.NO_ANSWER, ""), None, False),
    ],
)
def test_a_refusal_of_all_alike_says_nothing_of_one(
    records: int, meaning: Verdict, status: int | None, told_apart: bool
) -> None:
    assert noted(records, meaning, status).result(None).told_apart is told_apart


def test_a_receiver_that_took_one_record_told_it_apart() -> None:
    delivery = Delivery([b"{}"] * 2)
    delivery.acknowledge((0, 1), ("r-1", None))
    delivery.settle((1,), UNKNOWN, "said")
    result: BatchResult = delivery.result(None)
    assert result.told_apart
    assert [record.outcome for record in result.results] == [ACKNOWLEDGED, UNKNOWN]
