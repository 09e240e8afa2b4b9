"""Every fault at every position of a run, and many faults at once: who got what, how often."""

from __future__ import annotations

import pytest

from d2i_helpers.errors import ReceiverError
from d2i_helpers.staging.states import Outcome
from tests.submit.http.harness import record

ACK, UNKNOWN, FAILED, REFUSED = (
    Outcome.ACKNOWLEDGED,
    Outcome.UNKNOWN,
    Outcome.FAILED,
    Outcome.REFUSED,
)
BATCHES, SIZE = 5, 4

# fault -> (outcome of the batch that it hits, how often its records were stored)
MATRIX = {
    "too many requests": ({"status": 429, "headers": {"Retry-After": "0"}}, ACK, 1),
    "blocked once": ({"status": 403}, ACK, 1),
    "out of order": ({"status": 503, "headers": {"Retry-After": "soon"}}, ACK, 1),
    "failed after storing": ({"status": 500, "store": True}, ACK, 2),
    "gateway time-out after storing": ({"status": 504, "store": True}, ACK, 2),
    "dropped before storing": ({"drop": "before"}, ACK, 1),
    "dropped after storing": ({"drop": "after"}, ACK, 2),
    "slow": ({"delay": 0.05}, ACK, 1),
    "token has run out": ({"expire_tokens": True}, ACK, 1),
    "malformed, no record named": ({"status": 400, "body": "malformed"}, ACK, 1),
    "too large": ({"status": 413}, ACK, 1),
    "no content": ({"status": 204}, REFUSED, 0),
    "one receipt short": ({"answer": "fewer"}, UNKNOWN, 1),
    "one receipt over": ({"answer": "more"}, UNKNOWN, 1),
    "a page instead": ({"answer": "unreadable"}, UNKNOWN, 1),
    "nothing in it": ({"answer": "empty"}, UNKNOWN, 1),
    "cut off": ({"answer": "truncated"}, UNKNOWN, 1),
    "receipts as lines": ({"answer": "lines"}, ACK, 1),
}


@pytest.mark.parametrize("position", [1, 3, BATCHES])
@pytest.mark.parametrize("name", MATRIX)
def test_one_fault_costs_no_other_batch_anything(start, name, position):
    play, outcome, stored = MATRIX[name]
    client, served = start({"faults": [{"request": position, **play}]})
    batches = [[f"b{b}r{r}" for r in range(SIZE)] for b in range(1, BATCHES + 1)]
    for number, children in enumerate(batches, start=1):
        result = client.send([record(child) for child in children])
        assert result.stop is None
        expected = outcome if number == position else ACK
        assert [one.outcome for one in result.results] == [expected] * SIZE
        times = {served.times_stored(child) for child in children}
        assert times == {stored if number == position else 1}


def many(count: int) -> list[list[str]]:
    children = [f"k{n}" for n in range(count)]
    return [children[n : n + 100] for n in range(0, count, 100)]


def check_poison_and_random_faults(start, count: int, share: float) -> None:
    """1% poison, five kinds of fault at random, each in ``share`` of the requests.

    Every good child must be stored exactly as often as the faults explain.
    """
    faults = {
        "seed": 5,
        "faults": [
            {"share": share, "drop": "after", "name": "lost answer"},
            {"share": share, "drop": "before"},
            {"share": share, "status": 503},
            {"share": share, "status": 429, "headers": {"Retry-After": "0"}},
            {"share": share, "expire_tokens": True},
            {"child_share": 0.01, "refuse": "named"},
        ],
    }
    client, served = start(faults, attempts=8, max_in_flight=2)
    named = set()
    for children in many(count):
        result = client.send([record(child) for child in children])
        assert result.stop is None
        for child, one in zip(children, result.results, strict=True):
            if one.outcome is not ACK:
                named.add(child)
                assert one.detail == "child_details.sex: not in code list"
    posts = served.posts()
    stored: dict[str, int] = {}
    lost: dict[str, int] = {}
    for post in posts:
        for child in post["ids"]:
            if post["stored"]:
                stored[child] = stored.get(child, 0) + 1
            if "lost answer" in post["fault"] and post["stored"]:
                lost[child] = lost.get(child, 0) + 1
    everybody = {child for children in many(count) for child in children}
    poison = everybody - stored.keys()
    assert named == poison
    assert 0 < len(poison) < count * 0.03
    explained = {child: 1 + lost.get(child, 0) for child in everybody - poison}
    assert stored == explained
    assert served.documents().keys() == everybody - poison
    kinds = {post["fault"] for post in posts}
    assert len(kinds) > 4  # the faults were played


def test_poison_and_random_faults(start):
    check_poison_and_random_faults(start, 2_000, share=0.05)


@pytest.mark.long
def test_poison_and_random_faults_of_10000(start):
    check_poison_and_random_faults(start, 10_000, share=0.01)


def test_half_of_a_batch_is_poison(start):
    client, _ = start()
    records = [record(f"h{n}", sex="Q" if n % 2 else "F") for n in range(100)]
    result = client.send(records)
    assert [one.outcome for one in result.results] == [ACK, REFUSED] * 50
    assert result.requests == 2


def test_a_receiver_that_goes_down_leaves_the_rest_unsent(start):
    client, served = start({"faults": [{"request": [3, 4, 5], "status": 503}]}, breaker_batches=1)
    outcomes = [client.send([record(f"d{n}")]) for n in range(5)]
    assert [one.results[0].outcome for one in outcomes] == [
        ACK,
        ACK,
        UNKNOWN,
        Outcome.UNSENT,
        Outcome.UNSENT,
    ]
    assert isinstance(outcomes[2].stop, ReceiverError)
    assert len(served.posts()) == 5
