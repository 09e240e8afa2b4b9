"""Whole runs over real HTTP: every fault at every position, on both databases.

Whatever the receiver did while it was ill: once it is well again, a run or two later, it holds what
the source holds, each acknowledgement in the log is a record that it stored, and nothing is sent
once more. The full matrix: `pytest -m long tests/submit/http/test_fault_positions.py`.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, select

from d2i_helpers import database
from d2i_helpers.database.tables import journal, submission_log
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.errors import ReceiverError, TokenError
from d2i_helpers.staging import Staging
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import stage as submit
from tests.staging.world import SPEC, Source, clear, extract, tidy
from tests.submit.http.harness import Served, Switchboard

TABLE = "ssd_api_data_staging"
BATCH, CHILDREN = 2, 5
LATE = 0.3  # seconds of a time-out's answer; `read_timeout_api` is shorter then

# what the receiver does to each request that has a child of the batch in it
AT_A_BATCH: dict[str, dict[str, Any]] = {
    "busy": {"status": 429, "headers": {"Retry-After": "0"}},
    "blocked": {"status": 403},
    "crash": {"status": 500},
    "crash after storing": {"status": 500, "store": True},
    "gateway": {"status": 504},
    "gateway after storing": {"status": 504, "store": True},
    "dropped before storing": {"drop": "before"},
    "dropped after storing": {"drop": "after"},
    "too late": {"delay": LATE},
    "one receipt short": {"answer": "fewer"},
    "one receipt over": {"answer": "more"},
    "a page": {"answer": "unreadable"},
    "empty answer": {"answer": "empty"},
    "cut off": {"answer": "truncated"},
    "receipts as lines": {"answer": "lines"},
    "token runs out": {"expire_tokens": True},
    "token refused": {"status": 401},
    "not named": {"status": 400, "body": "malformed"},
    "named": {"status": 400, "body": '{"errors": [{"path": "$[0].child_details.sex"}]}'},
    "too large": {"status": 413},
    "no content": {"status": 204},
    "no such address": {"status": 404},
}
# how the whole receiver can be ill; no position
ALL_THE_TIME: dict[str, dict[str, Any]] = {
    "byte limit": {"byte_limit": 700},
    "rate limit": {"rate_limit": {"requests": 1, "seconds": 0.05, "retry_after": "0"}},
    "firewall": {"firewall": True},
    "short tokens": {"token_seconds": 0},
    "no token": {"faults": [{"endpoint": "token", "status": 503}]},
}
# answers that a record may have been stored behind, though nobody can say so
SPOILED = ("answer fewer", "answer more", "answer unreadable", "answer empty", "answer truncated")
SPOILED += ("drop after", f"delay {LATE}", "store True")
POSITIONS = ("first", "middle", "last", "purge")


class World:
    """One source, one staging table and one receiver that falls ill and gets well."""

    def __init__(
        self, engine: Engine, make_settings: Callable, board: Switchboard, store: str
    ) -> None:
        self.engine, self.board = engine, board
        self.settings = make_settings(
            receiver_store=store,
            batch_size=BATCH,
            pause_seconds=0,
            attempts=2,
            wait_initial=0.001,
            wait_max=0.01,
            read_timeout_api=30,
            breaker_batches=10,
            guard_min_children=100,
            max_deleted_share=1,
        )
        self.source = Source(1)
        for _ in range(CHILDREN):
            self.source.add()
        for document in self.source.children.values():
            episode = {"referral_date": "2025-04-01", "purge": False}
            episode["social_care_episode_id"] = f"first-{document['la_child_id']}"
            document.setdefault("social_care_episodes", []).append(episode)
            tidy(SPEC.root, document)
        # what a firewall dislikes, in a document that is otherwise good
        self.source.children["C1"]["child_details"]["surname"] = "0xABCD"
        clear(engine, Staging(engine, TABLE))

    def run(self, faults: dict[str, Any] | None = None) -> Served:
        """One run while the receiver plays the faults; it may stop early, but not otherwise."""
        late = any("delay" in fault for fault in (faults or {}).get("faults", ()))
        # where nothing is to be late, a busy machine must not make it so
        seconds = LATE / 2 if late else 30
        settings = self.settings.model_copy(update={"read_timeout_api": seconds})
        with self.board.playing(settings, faults) as served:
            extract(self.engine, Staging(self.engine, TABLE), self.source)
            delta_stage.run(self.engine, settings, SPEC)
            with suppress(TokenError, ReceiverError):
                result = submit.run(self.engine, settings, SPEC, served.endpoint)
                outcomes = sum(result.counts[str(outcome)] for outcome in Outcome)
                assert outcomes == result.counts["waiting_before"], "an outcome is lost"
            if late:
                time.sleep(2 * LATE)  # the receiver is still at it
            return served

    def faults_seen(self, served: Served) -> set[str]:
        return {name for post in served.posts() for name in post["fault"].split("; ")}

    def play(self, position: str, play: dict[str, Any], *, once: bool) -> None:
        """A run with the fault at a batch of it; for a purge after a run that went well."""
        gone = 1
        children = sorted(self.source.children)
        batch = {"first": 0, "middle": 1, "last": 2, "purge": gone // BATCH}[position]
        if position == "purge":
            self.run()
            self.source.leave(children[gone])
            for child in children[:gone] + children[gone + 1 :]:
                self.source.edit(child)
        hit = children[batch * BATCH : (batch + 1) * BATCH]
        self.run({"faults": [{"child": hit, **play, **({"times": 1} if once else {})}]})
        with self.board.playing(self.settings, None) as served:
            assert self.faults_seen(served) - {""}, "the fault was never played"
        # the source moves on meanwhile, so that it matters which document the receiver holds
        for child in {*hit} & self.source.children.keys():
            self.source.children[child].pop("social_care_episodes", None)
            self.source.children[child]["child_details"].pop("first_name")

    def check(self) -> None:
        """The receiver is well again: what has to be true after a run or two."""
        self.run()
        if self.statuses() != {"sent"}:
            self.run()
        assert self.statuses() == {"sent"}
        with self.board.playing(self.settings, None) as served:
            assert served.documents() == self.source.children
            posts = served.posts()
        with database.reading(self.engine) as connection:
            log = connection.execute(select(submission_log)).all()
            assert connection.execute(select(journal)).all() == []
        # every acknowledgement is a record stored with a proper answer, and the other way round
        stored = Counter(
            child
            for post in posts
            if post["stored"] and not any(name in post["fault"] for name in SPOILED)
            for child in post["ids"]
        )
        said = Counter(row.person_id for row in log if row.outcome == Outcome.ACKNOWLEDGED)
        assert said == stored
        attempts = Counter((row.batch_id, row.person_id, row.attempt) for row in log)
        assert set(attempts.values()) == {1}, "an attempt is in the log twice"
        self.run()
        with self.board.playing(self.settings, None) as served:
            assert len(served.posts()) == len(posts), "a run without changes sent something"

    def statuses(self) -> set[str]:
        table = Staging(self.engine, TABLE).table
        with database.reading(self.engine) as connection:
            return set(connection.execute(select(table.c.submission_status)).scalars())


@pytest.fixture
def make_world(
    engine: Engine, make_settings: Callable, switchboard: Switchboard, tmp_path: Any
) -> Callable[[], World]:
    numbers = itertools.count()

    def make() -> World:
        store = str(tmp_path / f"receiver{next(numbers)}.sqlite")
        return World(engine, make_settings, switchboard, store)

    return make


def run_cells(make_world: Callable[[], World], cells: list[tuple[str, str, bool]]) -> None:
    failed = []
    for name, position, once in cells:
        world = make_world()
        try:
            world.play(position, AT_A_BATCH[name], once=once)
            world.check()
        except AssertionError as error:
            how = "once" if once else "all the time"
            failed.append(f"{name}, {position} batch, {how}: {error}")
    assert not failed, "\n".join(failed)


def test_each_fault_at_one_position(make_world: Callable[[], World], engine: Engine) -> None:
    """Short form: every fault and every position; half of the faults on each database."""
    turn = itertools.cycle(POSITIONS)
    cells = [(name, next(turn), number % 3 == 0) for number, name in enumerate(AT_A_BATCH)]
    half = 0 if engine.dialect.name == "sqlite" else 1
    run_cells(make_world, cells[half::2])


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("position", POSITIONS)
def test_every_fault_at_every_position(make_world: Callable[[], World], position: str) -> None:
    run_cells(make_world, [(name, position, once) for name in AT_A_BATCH for once in (True, False)])


@pytest.mark.database_in_turn
@pytest.mark.parametrize("name", ALL_THE_TIME)
def test_a_receiver_that_is_ill_all_the_time(make_world: Callable[[], World], name: str) -> None:
    world = make_world()
    world.run(ALL_THE_TIME[name])
    world.check()


# ------------------------------------------------------------------------------------ outages
@pytest.mark.database_in_turn
@pytest.mark.parametrize(
    "play",
    [
        {"status": 503},
        {"status": 500},
        {"status": 403},
        {"status": 204},
        {"drop": "before"},
        {"drop": "after"},
        {"answer": "unreadable"},
    ],
    ids=str,
)
def test_a_receiver_that_takes_nothing_at_all_is_out_of_order(
    make_world: Callable[[], World], play: dict[str, Any]
) -> None:
    """Fewer batches than the breaker counts to: a scheduler has to try again all the same."""
    world = make_world()
    extract(world.engine, Staging(world.engine, TABLE), world.source)
    delta_stage.run(world.engine, world.settings, SPEC)
    with world.board.playing(world.settings, {"faults": [play]}) as served:
        result = submit.run(world.engine, world.settings, SPEC, served.endpoint)
    assert result.counts["need_attention"] == CHILDREN
    with pytest.raises(ReceiverError, match="accepted nothing of this run: 5 messages"):
        result.raise_for_outage()
    world.check()


@pytest.mark.database_in_turn
@pytest.mark.parametrize(
    "faults",
    [
        [{"request": 1, "answer": "lines"}, {"status": 503}],  # the first batch was taken
        # one record is named, and then the others meet an outage
        [{"request": 1, "status": 400, "body": "$[0].child_details.sex"}, {"status": 503}],
        [{"child": "C1", "status": 413}, {"status": 503}],  # refused by itself, when alone
    ],
    ids=str,
)
def test_where_one_record_was_judged_the_run_is_no_outage(
    make_world: Callable[[], World], faults: list[dict[str, Any]]
) -> None:
    world = make_world()
    extract(world.engine, Staging(world.engine, TABLE), world.source)
    delta_stage.run(world.engine, world.settings, SPEC)
    with world.board.playing(world.settings, {"faults": faults}) as served:
        result = submit.run(world.engine, world.settings, SPEC, served.endpoint)
    result.raise_for_outage()
    assert result.counts["need_attention"]
    world.check()
