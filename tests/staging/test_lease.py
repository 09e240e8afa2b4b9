"""The lease on a staging table: one run at a time, also from two machines."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from d2i_helpers import database, processes
from d2i_helpers.database.tables import run_lock
from d2i_helpers.errors import LockError
from d2i_helpers.kernel_protocol import HOLDER_VARIABLE
from d2i_helpers.staging import lease as lock
from d2i_helpers.staging.lease import Lease, working_on

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
