"""The lease on a staging table: one run at a time, also from two machines."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, select, update

from d2i_helpers import database, processes
from d2i_helpers.database.tables import run_lock
from d2i_helpers.delta import stage as delta
from d2i_helpers.errors import LockError, SettingsError
from d2i_helpers.kernel_protocol import HOLDER_VARIABLE
from d2i_helpers.settings import WHOLE, Settings, Shard
from d2i_helpers.staging import Staging
from d2i_helpers.staging import lease as lock
from d2i_helpers.staging.lease import Lease, working_on
from d2i_helpers.submit import stage as submit
from tests.staging.world import HASHER, SPEC, Source, clear, extract

TABLE = "ssd_api_data_staging"


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "ORPHAN_SECONDS", 0)


def held(engine: Engine) -> dict[str, Any]:
    with database.reading(engine) as connection:
        return {row.staging_table: row for row in connection.execute(select(run_lock))}


def become_another_machines(engine: Engine, **values: Any) -> None:
    """Let the lease look as if a process of another machine held it."""
    with database.transaction(engine) as connection:
        connection.execute(update(run_lock).values(holder="elsewhere:1:2 77 1.0", **values))


def test_a_second_run_is_refused_and_the_lease_ends_with_the_block(engine: Engine) -> None:
    with Lease(engine, [TABLE, "b"], "first"):
        assert set(held(engine)) == {TABLE, "b"}
        with pytest.raises(LockError, match=r"Run first on .* is working on the table"):
            Lease(engine, [TABLE], "second").__enter__()
        with Lease(engine, ["c"], "third"):  # another table is free
            assert set(held(engine)) == {TABLE, "b", "c"}
    assert held(engine) == {}


def test_a_stage_may_end_while_its_heartbeat_is_under_way(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes through what listens to the engine, which must not change meanwhile."""
    monkeypatch.setattr(lock, "Lease", functools.partial(Lease, beat_seconds=0.01))
    is_beating = threading.Event()

    def slow(_connection: Any) -> None:
        if threading.current_thread().name == "d2i-lease":
            is_beating.set()
            time.sleep(0.3)

    event.listen(engine, "begin", slow)
    with working_on(engine, [TABLE]):
        assert is_beating.wait(10)
    event.remove(engine, "begin", slow)
    assert held(engine) == {}


def test_all_or_none_of_the_tables_are_taken(engine: Engine) -> None:
    with Lease(engine, ["b"], "first"):
        with pytest.raises(LockError):
            Lease(engine, ["a", "b"], "second").__enter__()
        assert set(held(engine)) == {"b"}


def test_a_lease_of_another_machine_counts_until_it_runs_out(engine: Engine) -> None:
    first = Lease(engine, [TABLE], "first")
    with first:
        become_another_machines(engine)
        with pytest.raises(LockError, match="on elsewhere"):
            Lease(engine, [TABLE], "second").__enter__()
        now = held(engine)[TABLE].heartbeat_at
        become_another_machines(engine, expires_at=now - dt.timedelta(seconds=1))
        with Lease(engine, [TABLE], "second", beat_seconds=0.1) as second:
            assert second.taken_over == ["first"]
            assert held(engine)[TABLE].run_id == "second"


def test_a_lease_from_before_the_clock_was_set_back_does_not_count_for_hours(
    engine: Engine,
) -> None:
    with Lease(engine, [TABLE], "first"):
        now = held(engine)[TABLE].heartbeat_at
        ahead = {
            "heartbeat_at": now + dt.timedelta(hours=1),
            "expires_at": now + dt.timedelta(hours=1, minutes=2),
        }
        become_another_machines(engine, **ahead)
        with Lease(engine, [TABLE], "second", beat_seconds=0.1) as second:
            assert second.taken_over == ["first"]


def test_a_dead_process_of_this_machine_is_taken_over_at_once(engine: Engine) -> None:
    with Lease(engine, [TABLE], "first"):
        with database.transaction(engine) as connection:
            gone = f"{processes.place()} 99999999 1.0"
            connection.execute(update(run_lock).values(holder=gone))
        with Lease(engine, [TABLE], "second") as second:
            assert second.taken_over == ["first"]


def test_the_heartbeat_moves_the_expiry_and_notices_a_lost_lease(engine: Engine) -> None:
    with Lease(engine, [TABLE], "first", beat_seconds=0.05) as lease:
        before = held(engine)[TABLE].expires_at
        _wait_until(lambda: held(engine)[TABLE].expires_at > before)
        assert lease.lost is None
        with database.transaction(engine) as connection:
            connection.execute(delete(run_lock))
        _wait_until(lambda: lease.lost is not None)
        assert isinstance(lease.lost, LockError)


def test_a_live_lease_that_looks_old_because_the_clock_was_set_is_not_taken_over(
    engine: Engine,
) -> None:
    with Lease(engine, [TABLE], "first"):
        now = held(engine)[TABLE].heartbeat_at
        old = {"heartbeat_at": now - dt.timedelta(hours=1), "expires_at": now}
        become_another_machines(engine, **old)
        second = Lease(engine, [TABLE], "second", beat_seconds=1)
        beat = threading.Timer(
            0.5, become_another_machines, [engine], {"heartbeat_at": now, "expires_at": now}
        )
        beat.start()
        with pytest.raises(LockError, match="Run first"):
            second.__enter__()
        beat.join()


def test_a_stage_by_hand_is_refused_while_a_run_is_alive_and_keeps_others_out(
    engine: Engine,
) -> None:
    with Lease(engine, [TABLE], "nightly"), pytest.raises(LockError, match="Run nightly"):
        working_on(engine, [TABLE]).__enter__()
    with working_on(engine, [TABLE]):
        assert held(engine)[TABLE].run_id.startswith("by-hand-")
        with pytest.raises(LockError, match="by-hand"):
            Lease(engine, [TABLE], "nightly").__enter__()
    assert held(engine) == {}


def test_a_stage_that_was_paused_writes_nothing_once_another_run_took_over(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote = select(run_lock)  # any transaction of the stage
    with Lease(engine, [TABLE], "paused"):
        monkeypatch.setenv(HOLDER_VARIABLE, lock.this_holder())
        with working_on(engine, [TABLE]) as look:
            look()
            with database.transaction(engine) as connection:
                assert len(connection.execute(wrote).all()) == 1
            with engine.connect() as other:  # its transaction has begun: the lease was still held
                other.execute(update(run_lock).values(holder="elsewhere:1:2 77 1.0"))
                other.commit()
            with pytest.raises(LockError, match="lost"), database.transaction(engine):
                raise AssertionError("the transaction began")
            with pytest.raises(LockError, match="lost"):
                look()
        with database.reading(engine) as connection:  # nobody asks after the stage
            assert len(connection.execute(wrote).all()) == 1


def test_submit_asks_for_the_lease_before_each_request(
    engine: Engine, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(staging_table=TABLE, guard_min_children=10_000)
    clear(engine, Staging(engine, TABLE))
    source = Source(1)
    source.add()
    extract(engine, Staging(engine, TABLE, HASHER), source)
    delta.run(engine, settings, SPEC)

    class Paused(contextlib.nullcontext):  # stands for the client
        def __init__(self, *_: object, may_send: Callable[[], None]) -> None:
            super().__init__(self)
            self.may_send = may_send

        def send(self, _records: list[bytes]) -> None:
            with engine.connect() as other:
                other.execute(update(run_lock).values(holder="elsewhere:1:2 77 1.0"))
                other.commit()
            self.may_send()
            raise AssertionError("it is sent")

    monkeypatch.setattr(submit, "Client", Paused)
    with pytest.raises(LockError, match="lost"):
        submit.run(engine, settings, SPEC, None)


def test_the_databases_clock_is_utc(engine: Engine) -> None:
    with database.reading(engine) as connection:
        said = database.utc_now(connection)
    assert said.tzinfo is None
    assert abs(said - dt.datetime.now(dt.UTC).replace(tzinfo=None)) < dt.timedelta(minutes=5)


def _wait_until(met: Any) -> None:
    give_up = time.monotonic() + 30
    while not met():
        assert time.monotonic() < give_up
        time.sleep(0.02)


# ---------------------------------------------------------------------------------- shards
@pytest.fixture
def shared(engine: Engine) -> Engine:
    """A database that takes shards."""
    if engine.dialect.name == "sqlite":
        with pytest.raises(SettingsError, match="one writer at a time"):
            Lease(engine, [TABLE], "first", shard=Shard(1, 2))
        pytest.skip("SQLite refuses shards, and did")
    return engine


def test_shards_of_one_number_work_side_by_side_each_once(shared: Engine) -> None:
    with (
        Lease(shared, [TABLE], "first", shard=Shard(1, 3)),
        Lease(shared, [TABLE], "second", shard=Shard(2, 3)),
    ):
        with pytest.raises(
            LockError, match=r"Run second on .* is working on shard 2/3 of the table .* each once"
        ):
            Lease(shared, [TABLE], "third", shard=Shard(2, 3)).__enter__()
        with pytest.raises(LockError, match=r"shard [12]/3 of .* shards of one number"):
            Lease(shared, [TABLE], "third", shard=Shard(2, 4)).__enter__()
        with pytest.raises(LockError, match=r"shard [12]/3 of .* one run for all of it"):
            Lease(shared, [TABLE], "third").__enter__()
    with Lease(shared, [TABLE], "third"):
        assert {key: row.run_id for key, row in held(shared).items()} == {TABLE: "third"}
        with pytest.raises(LockError, match=r"Run third on .* is working on the table"):
            Lease(shared, [TABLE], "fourth", shard=Shard(2, 4)).__enter__()


def test_a_dead_shard_is_taken_over_by_itself_and_keeps_no_other_out(shared: Engine) -> None:
    gone = f"{processes.place()} 99999999 1.0"
    first = {"run_id": "dead", "holder": gone}

    def left_by_dead(shard: Shard) -> Lease:
        lease = Lease(shared, [TABLE], "dead", shard=shard)
        lease.__enter__()
        with database.transaction(shared) as connection:
            mine = run_lock.c.run_id == "dead"
            connection.execute(update(run_lock).where(mine).values(**first))
        return lease

    for dead, later in (
        (Shard(1, 3), Shard(1, 3)),
        (Shard(1, 3), Shard(2, 4)),
        (Shard(1, 3), WHOLE),
        (WHOLE, Shard(1, 3)),
    ):
        left = left_by_dead(dead)
        with Lease(shared, [TABLE], "later", shard=later) as lease:
            assert lease.taken_over == ["dead"]
            assert "dead" not in {row.run_id for row in held(shared).values()}
        left.__exit__()
    left = left_by_dead(Shard(1, 3))
    with Lease(shared, [TABLE], "beside", shard=Shard(2, 3)) as lease:
        assert lease.taken_over == []
    left.__exit__()


def test_shards_that_begin_in_the_same_moment_do_not_refuse_one_another(
    shared: Engine, make_settings: Callable
) -> None:
    refused: list[BaseException] = []
    ready, done = threading.Barrier(4), threading.Barrier(4)

    def work(number: int) -> None:
        own = database.open_database(make_settings())  # each process has one
        try:
            ready.wait(30)
            with working_on(own, [TABLE], Shard(number, 4)):
                done.wait(30)
        except BaseException as error:
            refused.append(error)
            done.abort()
        finally:
            own.dispose()

    threads = [threading.Thread(target=work, args=[number]) for number in range(1, 5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert refused == []
