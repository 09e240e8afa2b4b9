"""Shards of delta and submit: together they do what one process does, and none touches another's.

First without faults: receiver, staging table, submission log and lists of one process and of four
shards are equal, in whatever order the shards take their steps. Then with every fault, crash and
hand edit of `test_convergence`, where each day may be worked on by another number of shards: the
law holds, and no step of a shard changes a row of a child that is not its own.
`pytest -m long tests/staging/test_shards_converge.py` plays 500 histories.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select, update

from d2i_helpers import database
from d2i_helpers.database import dialects
from d2i_helpers.database.dialects.sql_server import SQLServer
from d2i_helpers.database.tables import attention, journal, notes, submission_log
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.errors import D2IError, GuardError, SettingsError
from d2i_helpers.settings import Settings, Shard
from d2i_helpers.staging import Staging
from d2i_helpers.staging.attention import shown
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.results import BatchResult
from d2i_helpers.submit.transport import Pace
from tests.staging.test_convergence import TABLE, Crash, Link, change, dying_at, meddle
from tests.staging.world import (
    HASHER,
    SPEC,
    NaiveReceiver,
    Source,
    assert_converged,
    clear,
    extract,
    is_of,
    messages,
)

KEPT = (journal, notes, attention, submission_log)
OF_A_RUN = {"id", "batch_id", "run_id", "correlation_id"}  # columns that differ between two runs


class World:
    """A source, a receiver and a staging table, worked on by shards."""

    def __init__(self, engine: Engine, make_settings: Callable, seed: int, **options: Any) -> None:
        self.engine, self.make_settings, self.options = engine, make_settings, options
        clear(engine, Staging(engine, TABLE))
        self.source, self.receiver = Source(seed), NaiveReceiver("merge")
        for _ in range(8):
            self.source.add()

    def settings(self, shard: Shard) -> Settings:
        options = {"guard_min_children": 10_000, "max_deleted_share": 1, "batch_size": 2}
        return self.make_settings(staging_table=TABLE, shard=str(shard), **options | self.options)

    def steps(self, shard: Shard, link: Link) -> list[Callable[[], Any]]:
        """The day of a shard."""
        settings = self.settings(shard)
        staging = Staging(self.engine, TABLE, HASHER, shard)
        return [
            lambda: extract(self.engine, staging, self.source),
            lambda: delta_stage.run(self.engine, settings, SPEC),
            lambda: submit.run(self.engine, settings, SPEC, None, client=OwnChildren(link, shard)),
        ]

    def day(
        self, of: int, draw: random.Random, fault_rate: float = 0.0, crashes: float = 0.0
    ) -> None:
        """Every shard takes its steps, in an order that is drawn."""
        shards = [Shard(number, of) for number in range(1, of + 1)]
        link = Link(self.receiver, draw.randrange(2**32), fault_rate)
        left = {shard: self.steps(shard, link) for shard in shards}
        turns = [shard for shard in shards for _ in left[shard]]
        draw.shuffle(turns)
        for shard in turns:
            dies_at = draw.randrange(1, 60) if draw.random() < crashes else None
            with others_untouched(self.engine, shard):
                try:
                    with dying_at(self.engine, dies_at):
                        left[shard][0]()
                except (Crash, D2IError):
                    if not fault_rate:
                        raise
                    if draw.random() < 0.5:  # started again; else it waits for the next day
                        left[shard] = self.steps(shard, link)
                        continue
                    left[shard] = [lambda: None] * 3
            left[shard] = [*left[shard][1:], lambda: None]

    def everything(self) -> dict[str, Any]:
        """What two ways through the same days are to agree in."""
        with database.reading(self.engine) as connection:
            kept = {
                table.name: sorted(map(repr, (_plain(row) for row in connection.execute(
                    select(table).order_by(table.c.person_id)).mappings())))
                for table in (Staging(self.engine, TABLE).table, *KEPT)
            }  # fmt: skip
        return {**kept, "held": self.receiver.held, "messages": dict(self.receiver.stored)}


class OwnChildren:
    """A client that takes messages of one shard's children only."""

    def __init__(self, link: Link, shard: Shard) -> None:
        self.link, self.shard = link, shard

    def send(self, records: list[bytes]) -> BatchResult:
        assert all(is_of(self.shard, one["la_child_id"]) for one in messages(records))
        return self.link.send(records)


def _plain(row: Any) -> dict[str, Any]:
    """A row without numbers and times, which no two runs have in common."""
    return {
        name: value
        for name, value in row.items()
        if name not in OF_A_RUN and not name.endswith(("_at", "_timestamp", "_updated"))
    }


@contextmanager
def others_untouched(engine: Engine, shard: Shard) -> Iterator[None]:
    """Sees that rows of other shards' children stay as they are in this block."""

    def rows() -> set[Any]:
        with database.reading(engine) as connection:
            return {
                (table.name, *row)
                for table in (Staging(engine, TABLE).table, *KEPT)
                for row in connection.execute(select(table))
                if not is_of(shard, row.person_id)
            }

    before = rows()
    try:
        yield
    finally:
        assert rows() == before


def without_shards(engine: Engine, make_settings: Callable) -> bool:
    """Whether this database takes no shards; then it has to say so."""
    if engine.dialect.name != "sqlite":
        return False
    settings = make_settings(staging_table=TABLE, shard="1/2")
    with pytest.raises(SettingsError, match="one writer at a time"):
        delta_stage.run(engine, settings, SPEC)
    with pytest.raises(SettingsError, match="one writer at a time"):
        submit.run(engine, settings, SPEC, None, client=Link(NaiveReceiver("merge"), 0, 0))
    return True


SEEDS = st.integers(0, 2**32)


def play_alike(engine: Engine, make_settings: Callable, days: int, seed: int) -> None:
    """Play the same days with one process and with four shards."""
    found = []
    for of in (1, 4):
        world, draw = World(engine, make_settings, seed), random.Random(seed)
        for day in range(days):
            change(world.source, random.Random(seed + day))
            world.day(of, draw)
        found.append(world.everything())
    assert found[0] == found[1]


def test_four_shards_leave_what_one_process_leaves(engine: Engine, make_settings: Callable) -> None:
    if without_shards(engine, make_settings):
        return

    @hypothesis_settings(max_examples=2, phases=[Phase.generate])
    @given(SEEDS)
    def play(seed: int) -> None:
        play_alike(engine, make_settings, 2, seed)

    play()


def play_faults(engine: Engine, make_settings: Callable, days: list[Any], seed: int) -> None:
    """Play days on which things go wrong, each with its number of shards; then a clean one."""
    world = World(engine, make_settings, seed)
    for of, day_seed, fault_rate in days:
        draw = random.Random(day_seed)
        change(world.source, draw)
        if draw.random() < 0.3:
            meddle(engine, day_seed)
        world.day(of, draw, fault_rate, crashes=fault_rate / 2)
    world.source.unreadable.clear()
    of = days[0][0]
    world.day(of, random.Random(seed))
    staging = Staging(engine, TABLE)
    assert_converged(engine, staging, world.source, world.receiver)
    before = dict(world.receiver.stored)
    world.day(of, random.Random(seed))
    assert dict(world.receiver.stored) == before, "a run without changes sent something"


DAYS = st.lists(
    st.tuples(st.sampled_from([4, 4, 3, 1]), SEEDS, st.sampled_from([0.3, 0.8])),
    min_size=1,
    max_size=2,
)


def test_whatever_a_dead_shard_left_is_settled(engine: Engine, make_settings: Callable) -> None:
    if without_shards(engine, make_settings):
        return

    @hypothesis_settings(max_examples=2, phases=[Phase.generate])
    @given(DAYS, SEEDS)
    def play(days: list[Any], seed: int) -> None:
        play_faults(engine, make_settings, days, seed)

    play()


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_five_hundred_histories(engine: Engine, make_settings: Callable) -> None:
    if without_shards(engine, make_settings):
        return

    @hypothesis_settings(max_examples=500, derandomize=False)
    @given(DAYS, SEEDS)
    def play(days: list[Any], seed: int) -> None:
        play_faults(engine, make_settings, days, seed)
        play_alike(engine, make_settings, len(days), seed)

    play()


@pytest.mark.parametrize("by_range", [False, True])
def test_each_shard_settles_its_children_of_a_batch_that_a_whole_run_left(
    engine: Engine, make_settings: Callable, by_range: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_shards(engine, make_settings):
        return
    if by_range:  # as SQL Server takes the numbers of rows
        for name in ("numbered", "numbers"):
            method = getattr(SQLServer, name)
            monkeypatch.setattr(type(dialects.of(engine)), name, method)
    world, draw = World(engine, make_settings, 1, batch_size=100), random.Random(1)
    world.day(1, draw)
    for document in world.source.children.values():
        document["child_details"]["postcode"] = "ZZ9 9ZZ"
    link = Link(world.receiver, 0, 0.0)
    link._stored = link._crash_after
    with pytest.raises(Crash):
        for step in world.steps(Shard(), link):
            step()
    t, first, second = Staging(engine, TABLE).table, Shard(1, 2), Shard(2, 2)
    others = [child for child in world.source.children if is_of(second, child)]
    as_if_sent = {
        "row_state": "unchanged",
        "submission_status": "sent",
        "previous_hash": t.c.current_hash,
        "previous_json_payload": t.c.json_payload,
    }
    with database.transaction(engine) as connection:  # only the journal tells of this one
        connection.execute(update(t).where(t.c.person_id == others[0]).values(as_if_sent))

    def step(shard: Shard, number: int) -> dict[str, int]:
        steps = world.steps(shard, Link(world.receiver, 0, 0.0))
        with others_untouched(engine, shard):
            counts: dict[str, int] = steps[number]().counts
        return counts

    whole = len(world.source.children)
    assert step(first, 1)["unknown_after_a_stop"] == whole - len(others)
    assert step(first, 2)["unknown_after_a_stop"] == 0
    assert step(second, 1)["unknown_after_a_stop"] == len(others)
    step(second, 2)
    assert_converged(engine, Staging(engine, TABLE), world.source, world.receiver)
    assert set(world.receiver.stored.values()) == {3}

    with database.transaction(engine) as connection:
        connection.execute(delete(t).where(t.c.person_id == others[0]))
    # the row that said `sent` wrongly is still in doubt, and now it is gone as well
    for shard, missing, needy in ((first, 0, 0), (second, 1, 2)):
        counts = step(shard, 1)
        assert (counts["rows_missing"], counts["need_attention"]) == (missing, needy)
        assert step(shard, 2)["need_attention"] == needy
        assert sum(row["children"] for row in shown(engine, TABLE, SPEC, shard)) == needy


def test_the_guard_of_delta_judges_the_whole(engine: Engine, make_settings: Callable) -> None:
    if without_shards(engine, make_settings):
        return
    limits = {"guard_min_children": 8, "max_changed_share": 0.5}
    world, draw = World(engine, make_settings, 1, **limits), random.Random(1)
    world.day(1, draw)
    first = [child for child in world.source.children if is_of(Shard(1, 2), child)]
    others = [child for child in world.source.children if child not in first]
    assert 0 < len(first) <= 4 <= len(others)

    def edited(children: list[str]) -> None:
        for child in children:
            world.source.children[child]["child_details"]["postcode"] = f"AB1 {draw.randrange(99)}"

    edited(first)  # all of a shard, and not half of the children
    world.day(2, draw)
    edited(others[: 5 - len(first)] + first)
    extract(engine, Staging(engine, TABLE, HASHER), world.source)
    refused = set()
    for shard in (Shard(1, 2), Shard(2, 2), Shard()):
        with pytest.raises(GuardError, match="5 of 8 children would change") as caught:
            delta_stage.run(engine, world.settings(shard), SPEC)
        refused.add(caught.value.message)
    assert len(refused) == 1


def test_shards_together_keep_to_the_pace_of_the_authority(make_settings: Callable) -> None:
    limits = {"pause_seconds": 0.5, "max_in_flight": 6}
    assert Pace.of(make_settings(**limits)) == Pace(0.5, 6)
    assert Pace.of(make_settings(shard="2/3", **limits)) == Pace(1.5, 2)
    assert Pace.of(make_settings(shard="2/8", **limits)) == Pace(4.0, 1)
