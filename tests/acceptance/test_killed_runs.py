"""Processes killed with SIGKILL at random moments, then run to the end: the same law.

First without notebooks, many kills in a short time; then shards beside one another, of which one is
killed and started again while the others go on; then whole runs of the command line, half of which
are resumed after the kill. The short form kills a few;
`pytest -m long tests/acceptance/test_killed_runs.py` kills 200 of each.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from sqlalchemy import select

from d2i_helpers import database
from d2i_helpers.database.shards import shard_of
from d2i_helpers.database.tables import journal, staging_table
from d2i_helpers.demo import receiver, simulate
from d2i_helpers.settings import Settings, Shard, project_root
from d2i_helpers.submit.endpoint import Endpoint
from tests.acceptance import worker
from tests.acceptance.chain import Chain, clean

CHILDREN = 80
LONGEST = 1.2  # seconds before a kill; a day of this size takes about one


def parameters_of(settings: Settings, endpoint: Endpoint) -> dict[str, Any]:
    """The parameters of a worker."""
    return {
        "run_date": str(settings.today),
        "staging_table": settings.staging_table,
        "api_base_url": endpoint.base_url,
        "token_url": endpoint.token_url,
        "batch_size": 7,
        "guard_min_children": 100_000,
        "pause_seconds": 0,
    }


def start(settings: Settings, endpoint: Endpoint) -> subprocess.Popen[str]:
    """A worker on these settings that has begun its day."""
    parameters = parameters_of(settings, endpoint)
    environment = clean() | {"D2I_DATABASE_URL": settings.database_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.worker"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env=environment, cwd=project_root(),
    )  # fmt: skip
    json.dump(parameters, process.stdin)
    process.stdin.close()
    assert process.stdout.readline() == "ready\n"
    return process


def play(settings: Settings, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    simulate.init(settings, children=CHILDREN)
    with receiver.running(settings) as endpoint:
        day, done = 0, 0
        while done < kills:
            if draw.random() < 0.4:
                simulate.day(settings)
                day += 1
            with start(settings, endpoint) as process:
                try:
                    process.wait(timeout=draw.uniform(0.02, LONGEST))
                except subprocess.TimeoutExpired:
                    process.kill()
                    done += 1
        with start(settings, endpoint) as process:
            assert process.wait(timeout=120) == 0
        # once for each day on which it may have changed, and once more for each kill
        assert_equal(settings, endpoint, lambda _: day + 1 + done)


class Shards:
    """Shards as processes of their own, beside one another, of which some are killed."""

    def __init__(self, settings: Settings, endpoint: Endpoint, seed: int) -> None:
        self.settings, self.endpoint, self.draw = settings, endpoint, random.Random(seed)
        self.days = 0
        self.killed: list[Shard] = []
        # forked from a process that has imported the worker, where the system can fork
        ways = multiprocessing.get_all_start_methods()
        self.context = multiprocessing.get_context("forkserver" if "forkserver" in ways else None)
        if "forkserver" in ways:
            self.context.set_forkserver_preload(["__main__", "tests.acceptance.worker"])

    def start(self, shard: Shard) -> multiprocessing.Process:
        parameters = parameters_of(self.settings, self.endpoint)
        parameters |= {"shard": str(shard), "shard_wait": 1}
        process = self.context.Process(
            target=worker.part_of_day, args=(self.settings.database_url, parameters)
        )
        process.start()
        return process

    def day(self, of: int, kill: bool) -> None:
        """One day in so many shards. One is killed, and mostly started again at once."""
        self.days += 1
        simulate.day(self.settings)
        running = {Shard(number, of): self.start(Shard(number, of)) for number in range(1, of + 1)}
        if kill:
            shard = self.draw.choice(list(running))
            victim = running.pop(shard)
            victim.join(self.draw.uniform(0.02, LONGEST))
            if victim.is_alive():
                victim.kill()
                victim.join()
                self.killed.append(shard)
            if self.draw.random() < 0.7:
                running[shard] = self.start(shard)
        for process in running.values():
            process.join(120)
            assert process.exitcode == 0

    def times(self, child: str) -> int:
        """How often a child may have been sent: once a day, and again after a kill of its shard."""
        return self.days + sum(shard_of(child, shard.of) == shard for shard in self.killed)


def play_shards(settings: Settings, kills: int, numbers: list[int], seed: int) -> None:
    """Kill one of several shards, again and again; then one day on which nobody is killed.

    Args:
        numbers: how many shards a day may have.
    """
    simulate.init(settings, children=CHILDREN)
    with receiver.running(settings) as endpoint:
        shards = Shards(settings, endpoint, seed)
        while len(shards.killed) < kills:
            shards.day(shards.draw.choice(numbers), kill=True)
        shards.day(shards.draw.choice(numbers), kill=False)
        assert_equal(settings, endpoint, shards.times)


class Runs:
    """Runs of the command line on one demo, some of which are killed."""

    def __init__(self, folder: Path, endpoint: Endpoint, seed: int) -> None:
        self.chain, self.endpoint = Chain(folder, CHILDREN), endpoint
        self.draw = random.Random(seed)
        self.kills = self.resumed = 0

    def command(self, *words: str) -> list[str]:
        return self.chain.command(
            "run", "--stages", "extract,delta,submit", *words,
            api_base_url=self.endpoint.base_url, token_url=self.endpoint.token_url,
            batch_size=4, guard_min_children=100_000, pause_seconds=0.1,
        )  # fmt: skip

    def run(self, *words: str, kill: bool) -> int | None:
        """Run, or resume; the exit code, or None where the process was killed."""
        process = subprocess.Popen(
            self.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=clean(), start_new_session=True,
        )  # fmt: skip
        with process:
            if kill:
                self._wait_for_the_moment(process)
                if process.poll() is None:
                    process.kill()
                    self.kills += 1
                    return None
            return process.wait(timeout=300)

    def _wait_for_the_moment(self, process: subprocess.Popen) -> None:
        """Until a stage drawn at random (mostly submit) runs, and a moment longer."""
        stage = self.draw.choice(["extract", "delta", "submit", "submit", "submit", "submit"])
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if self.running_stage() == stage:
                break
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=self.draw.uniform(0, 1.5))

    def running_stage(self) -> str | None:
        record = self.newest()
        running = record["stages"] if record and record["status"] == "running" else ()
        return next((s["name"] for s in running if s["status"] == "running"), None)

    def newest(self) -> dict[str, Any] | None:
        records = self.chain.records()
        return records[-1] if records else None

    def next_run(self, *, kill: bool, resume: bool) -> int | None:
        """The run after a kill: the killed one where something is left of it, or a new one."""
        record = self.newest()
        if resume and record and record["status"] != "completed":
            code = self.run("--resume", record["run_id"], kill=kill)
            if code != NOTHING_TO_RESUME:
                self.resumed += 1
                return code
        return self.run(kill=kill)

    def assert_nobody_is_left_behind(self) -> None:
        rows = self.chain.rows()  # it sees that the journal is empty, too
        live = {r.person_id: orjson.loads(r.json_payload) for r in rows if r.row_state != "deleted"}
        assert ask(self.endpoint, "/admin/documents") == live


NOTHING_TO_RESUME = 15


def play_runs(folder: Path, kills: int, resumed: int, seed: int) -> Runs:
    """Kill runs and go on, until so many were killed and so many of those resumed.

    Whoever says `completed` is looked at.
    """
    settings = Chain(folder, CHILDREN).settings
    simulate.init(settings, children=CHILDREN)
    with receiver.running(settings) as endpoint:
        runs = Runs(folder, endpoint, seed)
        resume, code = False, None
        while (unfinished := runs.kills < kills or runs.resumed < resumed) or code is None:
            if code is not None or runs.draw.random() < 0.3:
                simulate.day(settings)
            code = runs.next_run(kill=unfinished, resume=resume)
            if code == 0:
                runs.assert_nobody_is_left_behind()
            else:
                assert code in (None, 20), code
            resume = code is None and not resume
        assert runs.run(kill=False) == 0
        runs.assert_nobody_is_left_behind()
    return runs


def ask(endpoint: Endpoint, path: str) -> Any:
    host = "/".join(endpoint.base_url.split("/")[:3])
    return requests.get(host + path, timeout=30).json()


def assert_equal(settings: Settings, endpoint: Endpoint, times: Callable[[str], int]) -> None:
    """The law: the receiver holds what is staged, and was sent nobody more often than that.

    Args:
        times: how often a child may have been sent.
    """
    engine = database.open_database(settings)
    with database.reading(engine) as connection:
        rows = connection.execute(select(staging_table(settings.staging_table))).all()
        left = connection.execute(select(journal)).all()
    engine.dispose()
    live = {r.person_id: orjson.loads(r.json_payload) for r in rows if r.row_state != "deleted"}
    assert ask(endpoint, "/admin/documents") == live
    assert left == []
    for row in rows:
        states = (row.row_state, row.submission_status)
        assert states in {("unchanged", "sent"), ("deleted", "sent"), ("deleted", "pending")}
        if row.row_state == "deleted":
            assert row.previous_json_payload is None
        assert len(ask(endpoint, f"/admin/received/{row.person_id}")) <= times(row.person_id)


def test_runs_killed_at_random_moments(make_settings: Callable[..., Settings]) -> None:
    play(make_settings(cms="systemc"), kills=5, seed=1)


def test_a_killed_shard_costs_only_itself(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(cms="systemc")
    if settings.database_url.startswith("sqlite"):
        return  # it takes no shards
    play_shards(settings, kills=1, numbers=[4], seed=3)


@pytest.mark.timeout(900)
def test_killed_runs_that_are_resumed_leave_nobody_behind(tmp_path: Path) -> None:
    play_runs(tmp_path, kills=4, resumed=2, seed=2)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_two_hundred_kills_half_of_them_resumed(tmp_path: Path) -> None:
    play_runs(tmp_path, kills=200, resumed=80, seed=int(time.time()))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_hundred_kills_of_shards(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(cms="systemc")
    if settings.database_url.startswith("sqlite"):
        return
    play_shards(settings, kills=100, numbers=[4, 4, 3, 1], seed=int(time.time()))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_hundred_kills(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    play(make_settings(cms="systemc"), kills=200, seed=int(time.time()))
