"""Authorities run for real by `d2i run`, for the constants of `country.py` and for its proof.

Each run is the whole day of one fictional authority (preflight and four stages, with records and
pages) in processes of its own, against a server on this machine. What it costs is what its
processes and the database server computed, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import extract as of_extract  # the benchmarks beside this one
import numpy as np
import psutil
import run as of_run
from nights import Job, Setup, night
from send import AtOnce, serve_at_once

from d2i_helpers.demo import simulate
from d2i_helpers.demo.receiver.faults import Faults
from d2i_helpers.settings import load_settings

# a quiet and a usual day, and the 1 April on which the window begins a year later
DATES = {"first": "2027-03-30", "quiet": "2027-03-31", "usual": "2027-03-31",
         "april": "2027-04-01"}  # fmt: skip
BASE = "/children-in-social-care-data-receiver-test/1"
FINE = (0, 20)  # exit codes: complete; complete, and children need attention
EVERY = 0.25  # seconds between two looks at memory

Figures = dict[str, Any]


# ------------------------------------------------------------------------------- the receiver
class Limited(AtOnce):
    """Takes so many requests a minute and answers after a while; counts what it did."""

    limit = Faults()
    answer_after = 0.0
    counts: dict[str, int] = {"taken": 0, "refused": 0}  # noqa: RUF012  (of all connections)

    def answer(self, end: int) -> tuple[bytes, object]:
        first = bytes(self.seen[: self.seen.find(b"\r\n")])
        if first.startswith(b"GET"):
            return b"200 OK", self.counts
        if b"/token" not in first:
            wait = self.limit.too_many()
            self.counts["taken" if wait is None else "refused"] += 1
            if wait is not None:
                return b"429 Too Many Requests\r\nRetry-After: " + wait.encode(), {}
        return super().answer(end)

    def write(self, answer: bytes) -> None:
        asyncio.get_running_loop().call_later(self.answer_after, self.transport.write, answer)


@contextlib.contextmanager
def receiver(requests_a_minute: int | None, answer: float) -> Iterator[str]:
    """The address of a receiver in a process of its own."""
    running = subprocess.Popen(
        [sys.executable, __file__, str(requests_a_minute or 0), str(answer)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    yield f"http://127.0.0.1:{int(running.stdout.readline())}"
    running.stdin.close()
    running.wait(10)
    running.stdout.close()


# ------------------------------------------------------------------------------------ one run
@dataclass(frozen=True)
class Place:
    """A fictional authority: its database, and where its records go."""

    url: str
    outputs: Path
    persons: int

    def fill(self, seed: int) -> None:
        """Make its persons."""
        os.environ["D2I_DATABASE_URL"] = self.url  # it holds a password, and is no parameter
        simulate.init(
            load_settings(None, run_date=DATES["first"]), children=self.persons, seed=seed
        )


def real_run(place: Place, day: str, address: str, pause: float = 0.0) -> Figures:
    """One whole day of one authority.

    Raises:
        AssertionError: it did not come to its end.
    """
    given = {
        "outputs_dir": place.outputs, "run_date": DATES[day], "pause_seconds": pause,
        "api_base_url": address + BASE, "token_url": f"{address}/simulated/oauth2/v2.0/token",
        "wait_max": 120, "guard_min_children": 10**9, "max_deleted_share": 1,
    }  # fmt: skip
    pairs = [part for name, value in given.items() for part in ("-p", f"{name}={value}")]
    server_before = of_extract.server_cpu(place.url)
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "d2i_helpers", "run", "--summary", "json", *pairs],
            stdout=said, stderr=errors, text=True,
            env={**os.environ, "D2I_DATABASE_URL": place.url},
        )  # fmt: skip
        watch = _Watch(process.pid)
        _, status, used = os.wait4(process.pid, 0)  # with all its processes
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        watch.stop()
        said.seek(0), errors.seek(0)
        assert process.returncode in FINE, errors.read()[-3000:]
        stages = {stage["name"]: stage["counts"] for stage in json.loads(said.read())["stages"]}
    return {
        "day": day, "persons": place.persons, "seconds": seconds, "memory": watch.peak,
        "waited": watch.waited,
        "client": used.ru_utime + used.ru_stime,
        "server": of_extract.server_cpu(place.url) - server_before,
        "in_cohort": stages["extract"]["in_cohort"],
        "messages": stages["submit"]["acknowledged"],
        "waiting": stages["submit"]["still_waiting"],
    }  # fmt: skip


class _Watch(threading.Thread):
    """Looks at a process and all below it while they run.

    ``peak``: MB of memory; pages that they share count once (PSS). ``waited``: seconds for which
    their main threads were ready and other work had the cores (Linux).
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self._over = pid, 0.0, threading.Event()
        self._waits: dict[int, int] = {}
        self.start()

    def run(self) -> None:
        while not self._over.wait(EVERY):
            with contextlib.suppress(psutil.Error):
                top = psutil.Process(self.pid)
                used = 0
                for one in (top, *top.children(recursive=True)):
                    with contextlib.suppress(psutil.Error, OSError):
                        used += one.memory_full_info().pss
                        waits = Path(f"/proc/{one.pid}/schedstat").read_text().split()[1]
                        self._waits[one.pid] = int(waits)
                self.peak = max(self.peak, used / 2**20)

    @property
    def waited(self) -> float:
        return sum(self._waits.values()) / 1e9

    def stop(self) -> None:
        self._over.set()
        self.join()


# ------------------------------------------------------------------------------- the constants
def measured(engine: str, sizes: Sequence[int], days: Sequence[str]) -> list[Figures]:
    """The figures of every size and day, one run at a time."""
    found = []
    with _folder() as folder, receiver(None, 0) as address, of_extract.server(engine) as new:
        for size in sizes:
            place = Place(new(f"la_{size}"), folder / str(size), size)
            place.fill(seed=size)
            for day in days:
                if day == "usual":
                    of_extract.change(place.url)
                found.append(real_run(place, day, address))
                _say(engine, found[-1])
    return found


def statements(sizes: Sequence[int]) -> list[Figures]:
    """Calls of the driver by size and day, of the four stages; the same on every database."""
    found = []
    with receiver(None, 0) as address, of_extract.server("sqlite") as new:
        for size in sizes:
            url = new(f"la_{size}")
            simulate.init(of_run.settings_for(url), children=size)
            for day in of_run.DAYS:
                if day == "usual":
                    of_extract.change(url)
                stages = [of_run.in_own_process(one, url, address) for one in of_run.STAGES]
                calls = sum(stage["statements"] for stage in stages)
                found.append({"day": day, "persons": size, "statements": calls})
    return found


def _say(what: str, figures: Figures) -> None:
    said = "  ".join(f"{k} {v:.1f}" if isinstance(v, float) else f"{k} {v}"
                     for k, v in figures.items())  # fmt: skip
    print(f"{what}: {said}", file=sys.stderr)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="d2i-country-") as folder:
        yield Path(folder)


def line(points: Sequence[tuple[float, float]]) -> list[float]:
    """What is fixed, and what each person adds; each point counts by how far off it is in parts.

    Neither is below 0.
    """
    persons, values = np.array(points, dtype=float).T
    if len(points) == 1 or not values.any():
        return [0.0, float(values.mean() / persons.mean())]
    slope, fixed = np.polyfit(persons, values, 1, w=1 / np.maximum(values, values.max() / 1000))
    slope = max(0.0, float(slope))
    return [max(0.0, float(fixed)), slope]


def constants(runs: Sequence[Figures], calls: Sequence[Figures]) -> Figures:
    """What a run costs, by day: `[fixed, for each person]` of seconds and statements."""
    found: Figures = {"days": {}}
    for day in dict.fromkeys(run["day"] for run in runs):
        of_day = [run for run in runs if run["day"] == day]
        counted = [run for run in calls if run["day"] == {"april": "first"}.get(day, day)]
        persons = sum(run["persons"] for run in of_day)
        found["days"][day] = {
            "client": line([(run["persons"], run["client"]) for run in of_day]),
            "server": line([(run["persons"], run["server"]) for run in of_day]),
            "statements": line([(run["persons"], run["statements"]) for run in counted]),
            "messages": sum(run["messages"] for run in of_day) / persons,
        }
    first = [run for run in runs if run["day"] == "first"]
    found["in_cohort"] = sum(r["in_cohort"] for r in first) / sum(r["persons"] for r in first)
    idle = [run["seconds"] - run["client"] - run["server"] - run["waited"] for run in runs]
    found["idle"] = max(0.0, median(idle))
    found["memory"] = max(run["memory"] for run in runs)
    return found


# ------------------------------------------------------------------------------------ the proof
def together(
    engine: str, sizes: Sequence[int], setup: Setup, cost: Any
) -> dict[str, dict[str, Figures]]:
    """A first and a usual day of several authorities at once, beside what the simulation says.

    Args:
        setup: one machine, with `database_cores=0`: client and server are on the same one.
        cost: gives the `Job` of an authority from its number, its persons and the day.

    Returns:
        By day: `measured` and `predicted`. Of other work on the machine only this is told to the
        simulation: for how long the runs waited for a core.
    """
    found: dict[str, dict[str, Figures]] = {}
    with _folder() as folder, of_extract.server(engine) as new:
        places = [Place(new(f"la_{n}"), folder / str(n), size) for n, size in enumerate(sizes)]
        for number, place in enumerate(places):
            place.fill(seed=number)
        for day in ("first", "usual"):
            if day == "usual":
                for place in places:
                    of_extract.change(place.url)
            with receiver(setup.requests_a_minute, setup.answer) as address:
                took = _at_once(places, day, address, setup)
            jobs = [cost(number, size, day) for number, size in enumerate(sizes)]
            slower = 1 + took["waited"] / took["computed"]
            found[day] = {"measured": took, "predicted": predicted(jobs, setup, slower)}
            _say(f"together, {day}", found[day])
    return found


def _at_once(places: Sequence[Place], day: str, address: str, setup: Setup) -> Figures:
    began, server_before = time.perf_counter(), of_extract.server_cpu(places[0].url)
    with ThreadPoolExecutor(setup.at_once) as pool:
        runs = list(
            pool.map(lambda place: real_run(place, day, address, setup.pause_seconds), places)
        )
    seconds = time.perf_counter() - began
    own = sum(run["client"] for run in runs)
    own += of_extract.server_cpu(places[0].url) - server_before
    counts = json.loads(_get(address))
    return {
        "seconds": seconds, "computed": own, "waited": sum(run["waited"] for run in runs),
        "messages": sum(run["messages"] for run in runs),
        "requests": counts["taken"], "refused": counts["refused"],
    }  # fmt: skip


def _get(address: str) -> str:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"{address}/counts", headers={"Content-Length": "0"}, timeout=10).text


def predicted(jobs: Sequence[Job], setup: Setup, slower: float) -> Figures:
    """What the simulation says where other work makes all computing so many times slower."""
    scaled = [replace(job, client=job.client * slower, server=job.server * slower) for job in jobs]
    came = night(scaled, setup)
    return {
        "seconds": came.ended, "computed": sum(job.client + job.server for job in jobs),
        "messages": sum(job.messages for job in jobs) - sum(came.left.values()),
        "requests": len(came.posts), "refused": came.refused,
    }  # fmt: skip


def main() -> None:
    """The receiver's process."""
    parser = argparse.ArgumentParser(description="The receiver of country.py")
    parser.add_argument("requests_a_minute", type=int)
    parser.add_argument("answer_after", type=float)
    given = parser.parse_args()
    if given.requests_a_minute:
        Limited.limit = Faults(rate_limit=(given.requests_a_minute, 60.0, None))
    Limited.answer_after = given.answer_after
    asyncio.run(serve_at_once(Limited))


if __name__ == "__main__":
    main()
