"""Convergence: after any history of changes, faults and crashes, one clean run makes all equal.

Every answer of the outcome table can come, the reply can be lost before or after the receiver
stored the batch, and the process can die at any statement. Values that decide become
unreadable and are mended: such a child keeps what the receiver has. Another hand can change a row,
only in ways that leave something to know by: test_hand_edits has the others. The short form runs
always;
`HYPOTHESIS_PROFILE=long pytest -m long tests/staging/test_convergence.py` runs 2,000 histories
on each database.
"""

from __future__ import annotations

import copy
import datetime as dt
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select, update

from d2i_helpers import database
from d2i_helpers.database.tables import submission_log
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.errors import D2IError, ReceiverError, TokenError
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging
from d2i_helpers.staging.messages import Attempt, RecordResult
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.results import BatchResult
from tests.staging.world import (
    HASHER,
    SPEC,
    NaiveReceiver,
    Source,
    assert_converged,
    assert_held_back,
    clear,
    extract,
    messages,
)

TABLE = "ssd_api_data_staging"
NOW = dt.datetime(2026, 8, 10, 2, 0)
Hand = tuple[str | None, int]  # the moment at which another hand changes a row, and a seed


class Crash(BaseException):
    """The process dies here: nothing after this line happens, open transactions are lost."""


class Link:
    """Stands for the API client and all that can happen between it and the receiver."""

    def __init__(self, receiver: NaiveReceiver, seed: int, fault_rate: float) -> None:
        self.receiver = receiver
        self.random = random.Random(seed)
        self.fault_rate = fault_rate

    def send(self, records: list[bytes]) -> BatchResult:
        fault = self.random.random() < self.fault_rate
        what = self.random.choice(FAULTS) if fault else "stored"
        return getattr(self, f"_{what}")(records)

    def _store(self, records: list[bytes]) -> None:
        for message in messages(records):
            self.receiver.store(message)

    def _stored(self, records: list[bytes]) -> BatchResult:
        self._store(records)
        return answered([Outcome.ACKNOWLEDGED] * len(records))

    def _some_refused(self, records: list[bytes]) -> BatchResult:
        bad = {i for i in range(len(records)) if self.random.random() < 0.5}
        self._store([r for i, r in enumerate(records) if i not in bad])
        return answered(
            [Outcome.REFUSED if i in bad else Outcome.ACKNOWLEDGED for i in range(len(records))]
        )

    def _busy(self, records: list[bytes]) -> BatchResult:
        return answered([Outcome.FAILED] * len(records))

    def _time_out_before(self, records: list[bytes]) -> BatchResult:
        return answered([Outcome.UNKNOWN] * len(records))

    def _time_out_after(self, records: list[bytes]) -> BatchResult:
        self._store(records)
        return answered([Outcome.UNKNOWN] * len(records))

    def _half_stored(self, records: list[bytes]) -> BatchResult:
        self._store(records[: len(records) // 2])
        return answered([Outcome.UNKNOWN] * len(records))

    def _no_token(self, records: list[bytes]) -> BatchResult:
        return answered([Outcome.UNSENT] * len(records), TokenError("no token"))

    def _down_after_some(self, records: list[bytes]) -> BatchResult:
        half = len(records) // 2
        self._store(records[:half])
        outcomes = [Outcome.ACKNOWLEDGED] * half + [Outcome.UNSENT] * (len(records) - half)
        return answered(outcomes, ReceiverError("down"))

    def _crash_before(self, _records: list[bytes]) -> BatchResult:
        raise Crash

    def _crash_after(self, records: list[bytes]) -> BatchResult:
        self._store(records)
        raise Crash


FAULTS = [name[1:] for name in vars(Link) if name.startswith("_") and name[1:2].isalpha()]
FAULTS = [name for name in FAULTS if name not in {"store", "stored"}]


def answered(outcomes: list[Outcome], stop: D2IError | None = None) -> BatchResult:
    sent = [i for i, outcome in enumerate(outcomes) if outcome is not Outcome.UNSENT]
    results = [
        RecordResult(outcome, "", "ref")
        if outcome is Outcome.ACKNOWLEDGED
        else RecordResult(outcome, "a reason")
        for outcome in outcomes
    ]
    attempts = [
        Attempt(
            number=1,
            positions=(i,),
            outcome=outcomes[i],
            http_status=200,
            detail="",
            correlation_id=None,
            started_at=NOW,
            milliseconds=1,
        )
        for i in sent
    ]
    return BatchResult(results=results, attempts=attempts, stop=stop)


@contextmanager
def dying_at(engine: Engine, statement: int | None) -> Iterator[None]:
    """The process dies when it is about to run its n-th statement from here (or never)."""
    left = [statement]

    def count(*_: Any) -> None:
        if left[0] is not None:
            left[0] -= 1
            if left[0] <= 0:
                raise Crash

    event.listen(engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", count)


def meddle(engine: Engine, seed: int) -> None:
    """Another hand changes one row."""
    draw = random.Random(seed)
    t = Staging(engine, TABLE).table
    with database.transaction(engine) as connection:
        rows = connection.execute(select(t).order_by(t.c.person_id)).all()
        if not rows:
            return
        row, other = draw.choice(rows), draw.choice(rows)
        states = ("new", "Updated", "unchanged", "deleted", "?", None)
        changes: list[dict[str, Any]] = [
            {"json_payload": "no JSON"},
            {"json_payload": other.json_payload},
            {"json_payload": other.json_payload, "current_hash": other.current_hash},
            {"current_hash": None},
            *({"row_state": state} for state in states),
            *({"submission_status": status} for status in ("Sent", "pending", "error", "?")),
        ]
        if row.previous_json_payload:  # else nothing says that it was not acknowledged
            changes.append({"previous_hash": b"\x07" * 32})
        if row.partial_json_payload:
            changes += [
                {"partial_json_payload": None},
                {"partial_json_payload": '{"la_child_id":"nobody","purge":true}'},
                {"partial_json_payload": other.partial_json_payload},
            ]
        change = draw.choice(changes)
        connection.execute(update(t).where(t.c.id == row.id).values(**change))


def run_day(
    engine: Engine, settings: Settings, source: Source, link: Link, hand: Hand = (None, 0)
) -> None:
    """Extract, delta and submit, as a run of the notebooks does them; a hand comes in between."""
    moment, seed = hand
    if moment == "before the day":
        meddle(engine, seed)
    extract(engine, Staging(engine, TABLE, HASHER), source)
    if moment == "before delta":
        meddle(engine, seed)
    delta_stage.run(engine, settings, SPEC)
    if moment == "before submit":
        meddle(engine, seed)
    submit.run(engine, settings, SPEC, None, client=link)


DAYS = st.lists(
    st.tuples(
        st.integers(0, 2**32),  # seed of the day's changes and faults
        st.sampled_from([0.0, 0.3, 0.8]),  # how often a request goes wrong
        st.one_of(st.none(), st.integers(1, 150)),  # statement at which the process dies
        st.tuples(  # when another hand changes a row, and its seed
            st.sampled_from([None, None, "before the day", "before delta", "before submit"]),
            st.integers(0, 2**32),
        ),
    ),
    min_size=1,
    max_size=5,
)


def history(engine: Engine, make_settings: Callable, options: dict, days: list, seed: int) -> None:
    """Play one history, then one clean run, and see that everything is equal."""
    settings = make_settings(
        staging_table=TABLE,
        guard_min_children=10_000,
        max_deleted_share=1,
        batch_size=options["batch_size"],
        phase=options["phase"],
        max_in_flight=options["max_in_flight"],
    )
    staging = Staging(engine, TABLE)
    clear(engine, staging)
    source, receiver = Source(seed), NaiveReceiver(options["flavour"])
    for _ in range(4):
        source.add()
    for day_seed, fault_rate, dies_at, hand in days:
        change(source, random.Random(day_seed))
        link = Link(receiver, day_seed, fault_rate)
        # the next day goes on from whatever a stop leaves
        with dying_at(engine, dies_at), suppress(Crash, D2IError):
            run_day(engine, settings, source, link, hand)
    if source.unreadable:
        held = copy.deepcopy(receiver.held)
        run_day(engine, settings, source, Link(receiver, 0, 0.0))
        assert_held_back(engine, staging, source, receiver, held)
        source.unreadable.clear()
    run_day(engine, settings, source, Link(receiver, 0, 0.0))
    assert_converged(engine, staging, source, receiver)
    before = dict(receiver.stored)
    run_day(engine, settings, source, Link(receiver, 0, 0.0))
    assert dict(receiver.stored) == before, "a run without changes sent something"


def change(source: Source, draw: random.Random) -> None:
    source.random = draw
    for _ in range(draw.randrange(4)):
        children, away = sorted(source.children), sorted(source.away)
        what = draw.random()
        if what < 0.15 and children + away:
            source.damage(draw.choice(children + away))
        elif what < 0.3 and source.unreadable:
            source.mend(draw.choice(sorted(source.unreadable)))
        elif what < 0.6 and children:
            source.edit(draw.choice(children))
        elif what < 0.75 and children:
            source.leave(draw.choice(children))
        elif what < 0.9 and away:
            source.come_back(draw.choice(away))
        else:
            source.add()


OPTIONS = st.fixed_dictionaries(
    {
        "flavour": st.sampled_from(["merge", "replace"]),
        "phase": st.sampled_from(["delta", "full"]),
        "batch_size": st.sampled_from([1, 2, 100]),
        "max_in_flight": st.sampled_from([1, 1, 2]),
    }
)


def test_every_history_ends_with_the_receiver_equal_to_the_source(
    engine: Engine, make_settings: Callable
) -> None:
    @hypothesis_settings(max_examples=40)
    @given(OPTIONS, DAYS, st.integers(0, 2**32))
    def play(options: dict, days: list, seed: int) -> None:
        history(engine, make_settings, options, days, seed)

    play()


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_thousand_histories(engine: Engine, make_settings: Callable) -> None:
    @hypothesis_settings(max_examples=2000, derandomize=False)
    @given(OPTIONS, DAYS, st.integers(0, 2**32))
    def play(options: dict, days: list, seed: int) -> None:
        history(engine, make_settings, options, days, seed)

    play()


def test_what_was_on_the_wire_when_the_run_died_stands_in_the_log(
    engine: Engine, make_settings: Callable
) -> None:
    """Nothing else would tell a reviewer of a request that nobody saw answered."""
    settings = make_settings(staging_table=TABLE, guard_min_children=10_000)
    staging = Staging(engine, TABLE)
    clear(engine, staging)
    source, link = Source(1), Link(NaiveReceiver("merge"), 0, 0.0)
    for _ in range(3):
        source.add()
    link._stored = link._crash_after  # type: ignore[method-assign]
    with pytest.raises(Crash):
        run_day(engine, settings, source, link)
    delta_stage.run(engine, settings, SPEC)
    log, t = submission_log.c, staging.table.c
    chosen = select(log.person_id, log.outcome, log.phase, log.document_hash)
    with database.reading(engine) as connection:
        found = {tuple(row) for row in connection.execute(chosen)}
        staged = connection.execute(select(t.person_id, t.current_hash)).all()
    assert found == {(child, str(Outcome.UNKNOWN), "lost", digest) for child, digest in staged}
    assert len(found) == 3


@pytest.mark.parametrize("what", ["changed", "gone"])
@pytest.mark.parametrize("fate", ["_time_out_before", "_time_out_after", "_crash_after"])
def test_a_day_that_was_allowed_is_not_asked_about_again_where_its_outcome_is_unknown(
    engine: Engine, make_settings: Callable, what: str, fate: str
) -> None:
    limits = {"staging_table": TABLE, "guard_min_children": 4}
    usual = make_settings(**limits)
    allowed = make_settings(**limits, max_changed_share=1, max_deleted_share=1)
    staging = Staging(engine, TABLE)
    clear(engine, staging)
    source, receiver = Source(1), NaiveReceiver("merge")
    for _ in range(6):
        source.add()
    run_day(engine, usual, source, Link(receiver, 0, 0.0))
    for child in sorted(source.children)[:5]:
        if what == "gone":
            source.leave(child)
        else:
            source.children[child]["child_details"]["postcode"] = "AB1 9ZZ"
    link = Link(receiver, 0, 0.0)
    link._stored = getattr(link, fate)  # type: ignore[method-assign]
    with suppress(Crash):
        run_day(engine, allowed, source, link)
    run_day(engine, usual, source, Link(receiver, 0, 0.0))
    assert_converged(engine, staging, source, receiver)
