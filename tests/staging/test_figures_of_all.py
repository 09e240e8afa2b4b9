"""The guards of all shards judge one day: who is waited for, and whose figures count."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, update

from d2i_helpers import database
from d2i_helpers.database.tables import run_lock
from d2i_helpers.settings import WHOLE, Shard
from d2i_helpers.staging import Staging, figures_of_all
from d2i_helpers.staging.figures_of_all import Gathered, gather, note_stop
from d2i_helpers.staging.guards import ColumnUse, Figures, ItemLoss, RowCount, ValueCount, of_all
from d2i_helpers.staging.lease import Lease

TABLE = "ssd_api_data_staging"
Gather = Callable[..., Gathered]


@pytest.fixture
def shards(
    engine: Engine, make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Gather:
    """Gives what a shard gathers; it waits for nobody who has not begun."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite is not worked on in shards")
    monkeypatch.setattr(figures_of_all, "LOOK_SECONDS", 0.02)
    database.create_staging(engine, TABLE)

    def gathered(shard: Shard, staged: int, stage: str = "extract", **given: Any) -> Gathered:
        settings = make_settings(**{"shard_wait": 0, **given})
        return gather(Staging(engine, TABLE, shard=shard), stage, settings, Figures(staged=staged))

    return gathered


@contextlib.contextmanager
def at_work(engine: Engine, shard: Shard, run_id: str = "") -> Iterator[None]:
    with Lease(engine, [TABLE], run_id or f"run of {shard}", shard=shard):
        yield


def test_shards_at_work_wait_for_each_other_and_judge_the_sum(
    engine: Engine, shards: Gather
) -> None:
    found: dict[int, Gathered] = {}

    def one(number: int) -> None:
        found[number] = shards(Shard(number, 3), number)

    with contextlib.ExitStack() as stack:
        for number in (1, 2, 3):
            stack.enter_context(at_work(engine, Shard(number, 3)))
        threads = [threading.Thread(target=one, args=(number,)) for number in (1, 2, 3)]
        for thread in threads[:2]:
            thread.start()
        time.sleep(0.2)
        assert found == {}, "the third lives and has said nothing yet"
        threads[2].start()
        for thread in threads:
            thread.join()
    assert {number: one.figures.staged for number, one in found.items()} == {1: 6, 2: 6, 3: 6}
    assert found[1].notices == ["The guards judged all 3 shards together."]


def test_a_dead_shard_is_not_waited_for_and_what_it_posted_today_counts(
    engine: Engine, shards: Gather
) -> None:
    with at_work(engine, Shard(1, 2)):
        alone = shards(Shard(1, 2), 10)
    assert (alone.figures.staged, alone.missing) == (10, (Shard(2, 2),))
    assert "together, without 2/2: no run is at work there" in alone.notices[0]
    with at_work(engine, Shard(2, 2)):
        with at_work(engine, Shard(1, 2), "killed"):
            with database.transaction(engine) as connection:
                mine = run_lock.c.run_id == "killed"
                there = connection.execute(run_lock.select().where(mine)).one()
                place, _ = there.holder.split(" ", 1)
                killed = update(run_lock).where(mine).values(holder=f"{place} 999999999 1.0")
                connection.execute(killed)
            assert shards(Shard(2, 2), 5).figures.staged == 15
        assert shards(Shard(2, 2), 5, run_date="2026-08-11").missing == (Shard(1, 2),)


def test_figures_that_a_guard_stopped_count_only_for_shards_that_were_at_work(
    engine: Engine, shards: Gather
) -> None:
    with at_work(engine, Shard(2, 2), "beside"):
        with at_work(engine, Shard(1, 2)):
            thread = threading.Thread(target=shards, args=(Shard(1, 2), 10))
            thread.start()
            shards(Shard(2, 2), 1)
            thread.join()
            note_stop(Staging(engine, TABLE, shard=Shard(1, 2)), "extract")
        assert shards(Shard(2, 2), 1).figures.staged == 11
    with at_work(engine, Shard(2, 2), "later"):
        assert shards(Shard(2, 2), 1).figures.staged == 1


def test_who_has_not_begun_is_waited_for_a_while(engine: Engine, shards: Gather) -> None:
    found: list[Gathered] = []

    def early() -> None:
        found.append(shards(Shard(1, 2), 1, shard_wait=60))

    with at_work(engine, Shard(1, 2)):
        thread = threading.Thread(target=early)
        thread.start()
        time.sleep(0.1)
        with at_work(engine, Shard(2, 2)):
            assert shards(Shard(2, 2), 2).figures.staged == 3
        thread.join(10)
    assert [one.figures.staged for one in found] == [3]


def test_who_is_in_a_later_stage_is_not_waited_for(engine: Engine, shards: Gather) -> None:
    """Else one that was resumed from delta on and one in extract would wait for each other."""
    with at_work(engine, Shard(1, 2)), at_work(engine, Shard(2, 2)):
        thread = threading.Thread(target=shards, args=(Shard(1, 2), 1, "delta"))
        thread.start()
        while not database.in_transaction(
            engine, lambda c: c.execute(figures_of_all.shard_figures.select()).all()
        ):
            time.sleep(0.02)
        assert shards(Shard(2, 2), 2).missing == (Shard(1, 2),)
        assert shards(Shard(2, 2), 2, "delta").figures.staged == 3
        thread.join(10)
    assert not thread.is_alive()


def test_a_stage_by_hand_after_the_one_that_posted_is_not_waited_for(
    engine: Engine, shards: Gather
) -> None:
    """Each has a lease of its own; what posted is the same process."""
    with at_work(engine, Shard(1, 2)):
        with at_work(engine, Shard(2, 2), "by-hand-extract"):
            thread = threading.Thread(target=shards, args=(Shard(1, 2), 1))
            thread.start()
            assert shards(Shard(2, 2), 2).figures.staged == 3
            thread.join(10)
        with at_work(engine, Shard(2, 2), "by-hand-delta"):
            assert shards(Shard(1, 2), 1).figures.staged == 3
    assert not thread.is_alive()


def test_a_shard_that_says_nothing_is_given_up(engine: Engine, shards: Gather) -> None:
    with at_work(engine, Shard(1, 2)), at_work(engine, Shard(2, 2)):
        assert shards(Shard(2, 2), 2, stage_timeout=1).missing == (Shard(1, 2),)


def test_the_whole_has_nobody_to_ask(engine: Engine, make_settings: Callable[..., Any]) -> None:
    alone = gather(Staging(engine, TABLE), "extract", make_settings(), Figures(staged=7))
    assert (alone.figures, alone.missing, alone.notices) == (Figures(staged=7), (), [])
    assert list(alone.parts) == [WHOLE]


def test_figures_are_added_up_but_not_what_each_counted_of_the_whole() -> None:
    def part(number: int, today: int) -> Figures:
        return Figures(
            staged=number, gone=number, changed=number, found=number, persons=50,
            items={"cin_plans": ItemLoss(10, number, frozenset({"ssd_cin_plans"}))},
            rows={"ssd_person": RowCount(50, today)},
            values={"ssd_person.pers_sex": ValueCount(50, 40, 20, number)},
            columns=[ColumnUse("ssd_person.pers_sex", 20, number, "code", 25)],
        )  # fmt: skip

    together = of_all([part(1, 50), part(2, 49)])
    assert together == Figures(
        staged=3, gone=3, changed=3, found=3, persons=50,
        items={"cin_plans": ItemLoss(20, 3, frozenset({"ssd_cin_plans"}))},
        rows={"ssd_person": RowCount(50, 49)},
        values={"ssd_person.pers_sex": ValueCount(50, 40, 40, 3)},
        columns=(ColumnUse("ssd_person.pers_sex", 40, 3, "code", 50),),
    )  # fmt: skip
