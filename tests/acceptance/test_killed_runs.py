"""Processes killed with SIGKILL at random moments, then run to the end: the same law.

The short form kills a few; `pytest -m long tests/acceptance/test_killed_runs.py` kills 200.
"""

from __future__ import annotations

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

from d2i_helpers import database, receiver, simulate
from d2i_helpers.api import Endpoint
from d2i_helpers.settings import Settings, project_root
from d2i_helpers.tables import journal, staging_table
from tests.acceptance.chain import clean

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


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_hundred_kills(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    play(make_settings(cms="systemc"), kills=200, seed=int(time.time()))
