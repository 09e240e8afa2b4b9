"""A first load in shards beside one process: extract, delta and submit, on PostgreSQL.

    python benchmarks/shards.py [--persons 20000] [--numbers 1,2] [--rounds 3] [--json] [--write]

For each number of shards a fictional SSD is loaded into a new database. So many processes then work
on it at the same time, each with its `k/n`, and post to the server of `send.py`, which answers at
once. They import and connect before the clock starts. `seconds` is until the last one is done, by
the clock: take it on a machine without other work. `cpu` is what processes and database server
computed together. Each figure is the least of some rounds, in turn.

`: one process` is the ratio of the seconds. Two shards on two cores cannot come to half of it:
where one process runs, the database server already computes beside it.

`--write` keeps the figures in `benchmarks/figures.json`, and the table in docs/shards.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from extract import server, server_cpu  # the benchmarks beside this one
from run import FIGURES, page_with, settings_for
from sqlalchemy import create_engine, text
from submit import answering_at_once

from d2i_helpers import database
from d2i_helpers.delta import stage as delta
from d2i_helpers.demo import simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import simulated_endpoint

PAGE = Path(__file__).parent.parent / "docs" / "shards.md"

Figures = dict[str, Any]


# ---------------------------------------------------------------------------- in its own process
def work(url: str, address: str, shard: str) -> Figures:
    """The day of one shard, from the moment at which a line comes in."""
    settings = settings_for(url).model_copy(update={"shard": shard})
    engine, spec = database.open_database(settings), load_spec()
    endpoint = simulated_endpoint(address, "000")
    with engine.connect():
        pass
    print("ready", flush=True)
    sys.stdin.readline()
    began, computed = time.perf_counter(), time.process_time()
    found: Figures = {}
    for stage, run in (
        ("extract", lambda: extract.run(engine, settings, spec)),
        ("delta", lambda: delta.run(engine, settings, spec)),
        ("submit", lambda: submit.run(engine, settings, spec, endpoint)),
    ):
        result = run()
        found[stage] = time.perf_counter() - began - sum(found.values())
    counts = result.counts
    assert counts["acknowledged"] == counts["waiting_before"], counts
    return found | {
        "client": time.process_time() - computed,
        "children": counts["acknowledged"],
    }


# -------------------------------------------------------------------------------- all of them
def day(url: str, address: str, of: int) -> Figures:
    """One first load by so many processes at once."""
    command = [sys.executable, __file__, "--url", url, "--address", address, "--work"]
    processes = [
        subprocess.Popen(
            [*command, f"{number}/{of}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(1, of + 1)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    before, began = server_cpu(url), time.perf_counter()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [json.loads(process.stdout.readline()) for process in processes]
    seconds = time.perf_counter() - began
    for process in processes:
        assert process.wait(60) == 0
    client = sum(one["client"] for one in said)
    in_server = server_cpu(url) - before
    longest = {stage: max(one[stage] for one in said) for stage in ("extract", "delta", "submit")}
    found = {"seconds": seconds, "cpu": client + in_server, "server": in_server, **longest}
    return {name: round(value, 2) for name, value in found.items()} | {
        "children": sum(one["children"] for one in said)
    }


def load(url: str, persons: int) -> None:
    """Make the fictional SSD, and what a server's own housekeeping would know of it."""
    simulate.init(settings_for(url), children=persons)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("vacuum analyze"))
        connection.execute(text("checkpoint"))
    engine.dispose()


def table(persons: int, found: dict[str, Figures]) -> str:
    """The figures as a table in Markdown."""
    one = found["1"]["seconds"]
    lines = [
        f"| shards of {persons:,} persons | seconds | : one process | extract | delta | submit "
        "| computing |",
        f"|{'---|' * 7}",
    ]
    lines += [
        f"| {of} | {f['seconds']:.1f} | {f['seconds'] / one:.2f} | {f['extract']:.1f} "
        f"| {f['delta']:.1f} | {f['submit']:.1f} | {f['cpu']:.1f} s |"
        for of, f in found.items()
    ]
    return "\n".join(lines) + "\n"


def keep(persons: int, found: dict[str, Figures]) -> None:
    """Keep the figures beside those of the other benchmarks, and the table in the page."""
    kept = json.loads(FIGURES.read_text())
    kept["shards"] = {"python": platform.python_version(), "persons": persons, "figures": found}
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n")
    page = page_with(PAGE.read_text(encoding="utf-8"), table(persons, found))
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Measure, print, and keep where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persons", type=int, default=20_000)
    parser.add_argument("--numbers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--write", action="store_true", help="keep the figures and the page")
    for name in ("--work", "--url", "--address"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(given.url, given.address, given.work)))
        return
    taken: dict[str, list[Figures]] = {}
    with answering_at_once() as endpoint, server("postgresql") as new:
        address = "/".join(endpoint.children_url.split("/")[:3])
        for turn in range(given.rounds):
            for of in given.numbers.split(","):
                url = new(f"shards_{of}_{turn}")
                load(url, given.persons)
                taken.setdefault(of, []).append(day(url, address, int(of)))
                print(of, taken[of][-1], file=sys.stderr)
    found = {of: min(rounds, key=lambda one: one["seconds"]) for of, rounds in taken.items()}
    assert len({one["children"] for one in found.values()}) == 1, found
    print(json.dumps(found, indent=1) if given.json else table(given.persons, found))
    if given.write:
        keep(given.persons, found)


if __name__ == "__main__":
    main()
