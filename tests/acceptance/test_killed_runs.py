"""Processes killed with SIGKILL at random moments, then run to the end: the same law.

First without notebooks, many kills in a short time; then whole runs of the command line, half of
which are resumed after the kill. The short form kills a few;
`pytest -m long tests/acceptance/test_killed_runs.py` kills 200 of each.
"""

from __future__ import annotations

import contextlib
import json
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
from d2i_helpers.database.tables import journal, staging_table
from d2i_helpers.demo import receiver, simulate
from d2i_helpers.settings import Settings, project_root
from d2i_helpers.submit.endpoint import Endpoint
from tests.acceptance.chain import Chain, clean

CHILDREN = 80
LONGEST = 1.2  # seconds before a kill; a day of this size takes about one


def start(settings: Settings, endpoint: Endpoint) -> subprocess.Popen[str]:
    """A worker on these settings that has begun its day."""
    parameters = {
        "database_url": settings.database_url,
        "run_date": str(settings.today),
        "staging_table": settings.staging_table,
        "api_base_url": endpoint.base_url,
        "token_url": endpoint.token_url,
        "batch_size": 7,
        "guard_min_children": 100_000,
        "pause_seconds": 0,
    }
    environment = clean() | {"D2I_DATABASE_URL": parameters.pop("database_url")}
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
        assert_equal(settings, endpoint, changes=day + 1, kills=done)


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


def assert_equal(settings: Settings, endpoint: Endpoint, changes: int, kills: int) -> None:
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
        times = len(ask(endpoint, f"/admin/received/{row.person_id}"))
        # once for each day on which it may have changed, and once more for each kill
        assert times <= changes + kills


def test_runs_killed_at_random_moments(make_settings: Callable[..., Settings]) -> None:
    play(make_settings(cms="systemc"), kills=5, seed=1)


@pytest.mark.timeout(900)
def test_killed_runs_that_are_resumed_leave_nobody_behind(tmp_path: Path) -> None:
    play_runs(tmp_path, kills=4, resumed=2, seed=2)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_two_hundred_kills_half_of_them_resumed(tmp_path: Path) -> None:
    play_runs(tmp_path, kills=200, resumed=80, seed=int(time.time()))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_hundred_kills(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    play(make_settings(cms="systemc"), kills=200, seed=int(time.time()))
