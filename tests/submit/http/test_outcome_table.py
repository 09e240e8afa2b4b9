"""One test per row of the outcome table, over real HTTP against the simulated receiver."""

from __future__ import annotations

import time

import pytest

from d2i_helpers.errors import LockError, ReceiverError, TokenError
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit.client import Client
from tests.submit.http.harness import batch, record

ACK, REFUSED, FAILED = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.FAILED
UNKNOWN, UNSENT = Outcome.UNKNOWN, Outcome.UNSENT


def outcomes(result):
    return [one.outcome for one in result.results]


def requests_with_each(result, count):
    """In how many requests each record was."""
    sent = [{a.number for a in result.attempts if n in a.positions} for n in range(count)]
    return list(map(len, sent))


def bad_ones(result):
    return {n for n, one in enumerate(result.results) if one.outcome is not ACK}


def test_200_with_a_reference_for_each(start):
    client, served = start()
    result = client.send(batch(100))
    assert outcomes(result) == [ACK] * 100
    assert result.stop is None
    assert len({one.reference for one in result.results}) == 100
    (seen,) = served.posts()
    assert [seen["correlation_id"]] == [one.correlation_id for one in result.attempts]
    assert set(served.documents()) == {f"c{n}" for n in range(100)}


def test_200_as_lines_of_text(start):
    client, _ = start({"faults": [{"answer": "lines"}]})
    result = client.send(batch(3))
    assert outcomes(result) == [ACK] * 3
    assert all(one.reference.endswith(".json") for one in result.results)


@pytest.mark.parametrize("form", ["marked", "utf16", "wrapped"])
def test_200_in_another_form_of_text_is_read(start, form):
    client, served = start({"faults": [{"answer": form}, {"endpoint": "token", "answer": form}]})
    result = client.send(batch(3))
    assert outcomes(result) == [ACK] * 3
    assert len(served.posts()) == 1


def test_200_with_a_word_in_place_of_one_receipt_is_unknown_for_that_record(start):
    client, served = start({"faults": [{"answer": "one_word"}]})
    result = client.send(batch(3))
    assert outcomes(result) == [ACK, ACK, UNKNOWN]
    assert result.results[2].reference is None
    assert [(a.positions, a.outcome) for a in result.attempts] == [((0, 1), ACK), ((2,), UNKNOWN)]
    assert len(served.posts()) == 1


def test_receipts_of_another_shape_are_read_once_the_profile_gives_it(start, monkeypatch):
    client, _ = start({"faults": [{"status": 200, "body": '["DFE-1", "DFE-2"]', "store": True}]})
    result = client.send(batch(2))
    assert outcomes(result) == [UNKNOWN] * 2
    assert "receipt_form" in result.results[0].detail
    client, _ = start(
        {"faults": [{"status": 200, "body": '["DFE-1", "DFE-2"]', "store": True}]},
        receipt_form="DFE-{number}",
    )
    assert outcomes(client.send(batch(2))) == [ACK] * 2


def test_an_answer_without_an_end_is_unknown(start):
    client, _ = start({"faults": [{"answer": "endless"}]}, read_timeout_api=0.2, attempts=1)
    result = client.send(batch(3))
    assert outcomes(result) == [UNKNOWN] * 3
    assert "took too long" in result.results[0].detail


@pytest.mark.parametrize("wrong", ["fewer", "more", "unreadable", "empty", "truncated", "words"])
def test_200_unreadable_or_miscounted_is_unknown(start, wrong):
    client, served = start({"faults": [{"answer": wrong}]})
    result = client.send(batch(3))
    assert outcomes(result) == [UNKNOWN] * 3
    assert result.requests == 1
    assert "may be stored" in result.results[0].detail
    assert len(served.documents()) == 3  # and indeed it was


def test_400_that_names_records_costs_only_them(start):
    client, served = start()
    records = batch(10, bad=(3, 7))
    result = client.send(records)
    assert bad_ones(result) == {3, 7}
    assert result.results[3].outcome is REFUSED
    assert result.results[3].detail == "child_details.sex: not in code list"
    assert result.requests == 2
    assert requests_with_each(result, 10) == [2, 2, 2, 1, 2, 2, 2, 1, 2, 2]
    assert [post["records"] for post in served.posts()] == [10, 8]
    # the first request comes out in three ways: two refused, and eight sent again
    first = [attempt for attempt in result.attempts if attempt.number == 1]
    assert [(a.positions, a.outcome) for a in first] == [
        ((3,), REFUSED),
        ((7,), REFUSED),
        ((0, 1, 2, 4, 5, 6, 8, 9), UNSENT),
    ]


@pytest.mark.parametrize("body", ["", '{"errors": {"sex": ["is not included in the list"]}}'])
def test_422_is_read_like_400(start, body):
    client, _ = start({"faults": [{"child": "c5", "status": 422, "body": body}]})
    result = client.send(batch(20))
    assert bad_ones(result) == {5}
    assert result.results[5].outcome is REFUSED
    assert result.stop is None
    client, _ = start({"faults": [{"child": "c5", "status": 422, "body": "{positions}"}]})
    assert client.send(batch(20)).requests == 2


@pytest.mark.parametrize("status", [400, 422])
def test_what_an_error_quotes_costs_nobody_else(start, status):
    body = '{"errors": [{"property": "first_name", "message": "Zo [1] is too long"}]}'
    client, _ = start({"faults": [{"child": "c5", "status": status, "body": body}]})
    assert bad_ones(client.send(batch(20))) == {5}


@pytest.mark.parametrize("culprits", [(0,), (99,), (41, 42), tuple(range(0, 100, 2))])
def test_400_that_names_none_is_halved_until_the_culprits_are_alone(start, culprits):
    fault = {"refuse": "unnamed", "child": [f"c{n}" for n in culprits]}
    client, served = start({"faults": [fault]})
    result = client.send(batch(100))
    assert bad_ones(result) == set(culprits)
    assert {result.results[n].outcome for n in culprits} == {REFUSED}
    assert result.stop is None
    assert all(served.times_stored(f"c{n}") == 1 for n in (1, 43, 77) if n not in culprits)


def test_400_with_an_index_out_of_range_counts_as_naming_none(start):
    fault = {"child": "c5", "status": 400, "body": "$[117].child_details.sex: invalid"}
    client, _ = start({"faults": [fault]})
    assert bad_ones(client.send(batch(8))) == {5}


def test_413_is_halved(start):
    size = len(record("c0"))
    client, served = start({"byte_limit": 3 * size + 10})
    result = client.send(batch(8))
    assert outcomes(result) == [ACK] * 8
    assert max(post["records"] for post in served.posts() if post["stored"]) == 2


def test_413_of_a_single_record_is_a_refusal(start):
    client, _ = start({"byte_limit": 500})
    result = client.send([record("c0"), record("c1", first_name="Z" * 600), record("c2")])
    assert outcomes(result) == [ACK, REFUSED, ACK]
    assert "too large" in result.results[1].detail


def test_204_is_a_refusal(start):
    client, _ = start({"faults": [{"status": 204}]})
    result = client.send(batch(3))
    assert outcomes(result) == [REFUSED] * 3
    assert result.requests == 1


def test_401_gets_one_fresh_token(start):
    client, served = start({"faults": [{"request": 2, "expire_tokens": True}]})
    client.send([record("c0")])
    result = client.send([record("c1")])
    assert outcomes(result) == [ACK]
    assert [post["status"] for post in served.posts()] == [200, 401, 200]


def test_nothing_leaves_once_the_lease_is_lost(start, api_settings):
    """Not even the repeat of a request that left before."""
    _, served = start({"faults": [{"status": 503}]})
    looks = iter([None, LockError("The lease was lost.")])

    def look():
        if (error := next(looks)) is not None:
            raise error

    client = Client(served.endpoint, api_settings(), may_send=look)
    with client, pytest.raises(LockError):
        client.send(batch(3))
    assert [post["status"] for post in served.posts()] == [503]


def test_401_for_a_fresh_token_ends_the_run(start):
    client, served = start({"faults": [{"status": 401}]})
    result = client.send(batch(3))
    assert outcomes(result) == [UNSENT] * 3
    assert isinstance(result.stop, TokenError)
    assert result.requests == 2
    again = client.send(batch(3))  # nothing leaves any more
    assert outcomes(again) == [UNSENT] * 3
    assert again.stop is result.stop
    assert len(served.posts()) == 2


@pytest.mark.parametrize("status", [403, 429])
def test_403_and_429_are_tried_again(start, status):
    client, _ = start({"faults": [{"status": status, "times": 2}]})
    result = client.send(batch(3))
    assert outcomes(result) == [ACK] * 3
    assert result.requests == 3


def test_429_without_end_fails(start):
    client, served = start({"faults": [{"status": 429}]})
    result = client.send(batch(3))
    assert outcomes(result) == [FAILED] * 3
    assert result.requests == 3
    assert served.documents() == {}


def test_403_without_end_fails_after_a_search_that_has_an_end(start):
    client, _ = start({"faults": [{"status": 403}]})
    result = client.send(batch(100))
    assert outcomes(result) == [FAILED] * 100
    assert result.requests < 30


def test_a_receiver_that_blocks_everybody_is_soon_left_alone(start):
    client, served = start({"faults": [{"status": 403}]})
    results = [client.send([record(f"b{n}r{r}") for r in range(100)]) for n in range(5)]
    assert isinstance(results[-1].stop, ReceiverError)
    counts = [result.requests for result in results]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == len(served.posts()) < 90


def test_one_culprit_is_found_even_after_batches_in_vain(start):
    client, _ = start({"faults": [{"child": [f"v{n}" for n in range(40)] + ["c5"], "status": 403}]})
    for first in range(0, 40, 10):
        client.send([record(f"v{first + n}") for n in range(10)])
    assert bad_ones(client.send(batch(100))) == {5}


@pytest.mark.parametrize("blocked", [(17,), tuple(range(50)), tuple(range(0, 100, 3))])
def test_a_firewall_that_blocks_some_records_costs_only_them(start, blocked):
    client, _ = start({"firewall": True})
    records = [record(f"c{n}", first_name="0xAB" if n in blocked else "Zo") for n in range(100)]
    result = client.send(records)
    assert bad_ones(result) == set(blocked)
    assert {result.results[n].outcome for n in blocked} == {FAILED}


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("other", [{"drop": "before"}, {"status": 503}, {"status": 429}])
def test_a_network_fault_on_the_last_attempt_does_not_hide_the_culprit(start, status, other):
    faults = [{"request": 3, **other}, {"child": "c5", "status": status}]
    client, _ = start({"faults": faults})  # three attempts
    assert bad_ones(client.send(batch(20))) == {5}


def test_a_record_that_crashes_the_receiver_costs_only_itself(start):
    client, _ = start({"faults": [{"child": "c5", "status": 500}]})
    result = client.send(batch(20))
    assert bad_ones(result) == {5}
    assert result.results[5].outcome is UNKNOWN


@pytest.mark.parametrize("status", [404, 405, 407, 415, 418])
def test_what_no_repeat_can_heal_ends_the_run(start, status):
    client, served = start({"faults": [{"status": status}]})
    result = client.send(batch(3))
    assert outcomes(result) == [UNSENT] * 3
    assert isinstance(result.stop, ReceiverError)
    assert str(status) in str(result.stop)
    assert len(served.posts()) == 1


@pytest.mark.parametrize("status", [302, 303, 307])
@pytest.mark.parametrize("store", [True, False])
def test_what_was_answered_with_a_redirect_may_be_stored(start, status, store):
    client, served = start({"faults": [{"status": status, "store": store}]})
    result = client.send(batch(3))
    assert outcomes(result) == [UNKNOWN] * 3
    assert isinstance(result.stop, ReceiverError)
    assert str(status) in str(result.stop)
    assert len(served.posts()) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_5xx_is_tried_again(start, status):
    client, _ = start({"faults": [{"status": status, "times": 2}]})
    result = client.send(batch(3))
    assert outcomes(result) == [ACK] * 3
    assert [a.outcome for a in result.attempts] == [UNKNOWN, UNKNOWN, ACK]


def test_503_without_end_is_unknown(start):
    client, _ = start({"faults": [{"status": 503}]})
    result = client.send(batch(3))
    assert outcomes(result) == [UNKNOWN] * 3
    assert result.requests == 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_broken_connection_is_tried_again_then_unknown(start, when):
    client, served = start({"faults": [{"drop": when, "times": 2}]})
    assert outcomes(client.send([record("c0")])) == [ACK]
    assert served.times_stored("c0") == (3 if when == "after" else 1)
    client, served = start({"faults": [{"drop": when}]})
    result = client.send([record("x0")])
    assert outcomes(result) == [UNKNOWN]
    assert result.attempts[-1].http_status is None
    assert served.times_stored("x0") == (3 if when == "after" else 0)


def test_a_time_out_is_tried_again_then_unknown(start):
    client, _ = start({"faults": [{"delay": 0.6, "times": 3}]}, read_timeout_api=0.15, attempts=2)
    result = client.send([record("c0")])
    assert outcomes(result) == [UNKNOWN]
    assert "time-out" in result.results[0].detail
    time.sleep(0.7)  # let the receiver finish what it is at


def test_what_may_have_been_stored_does_not_become_refused_later(start):
    faults = [
        {"request": 1, "status": 500, "store": True},
        {"request": 2, "status": 400, "body": "$[1].child_details.sex: not in code list"},
    ]
    client, _ = start({"faults": faults})
    result = client.send(batch(3))
    assert outcomes(result) == [ACK, UNKNOWN, ACK]
    assert result.results[1].detail == "child_details.sex: not in code list"


def test_what_may_have_been_stored_does_not_become_unsent_when_the_run_ends(start):
    client, _ = start({"faults": [{"request": 1, "status": 502}, {"request": 2, "status": 404}]})
    result = client.send(batch(2))
    assert outcomes(result) == [UNKNOWN] * 2
    assert isinstance(result.stop, ReceiverError)


def test_the_breaker_ends_the_run_after_whole_batches_in_a_row(start):
    client, served = start(
        {"faults": [{"request": [1, 3, 4, 5], "status": 204}]}, breaker_batches=3
    )
    stops = [client.send([record(f"c{n}")]).stop for n in range(5)]
    assert [type(stop) for stop in stops] == [type(None)] * 4 + [ReceiverError]
    assert "last 3 batches" in str(stops[-1])
    assert client.send([record("c9")]).results[0].outcome is UNSENT
    assert len(served.posts()) == 5


def test_batches_keep_to_the_byte_limit(start):
    limit = 2000
    client, served = start(max_batch_bytes=limit)
    result = client.send([*batch(20), record("large", first_name="Z" * limit)])
    assert outcomes(result) == [ACK] * 20 + [REFUSED]
    assert "max_batch_bytes" in result.results[20].detail
    sizes = [post["bytes"] for post in served.posts()]
    assert max(sizes) <= limit
    # full batches: one more record would not have fitted
    assert min(sizes[:-1]) + len(record("c0")) + 1 > limit


def test_nothing_to_send_sends_nothing(start):
    client, served = start()
    assert client.send([]).results == []
    assert served.posts() == []
