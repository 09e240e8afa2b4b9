"""Records per second of the whole submit stage, database included, against the floor.

    python benchmarks/submit.py [--records 5000] [--rounds 3] [--engines sqlite,postgresql] [--json]

The floor reads the column that is sent, joins its texts to bodies of 100 records, posts them with a
plain session to a server that answers at once, and writes the references with one bulk update at
the end: no journal, no log, no state that a crash would leave behind. Ours is `submit.run` as the
notebook calls it, pacing off, against the same server. Both begin from the same prepared table, and
take turns. The server is that of `send.py`, the records too. Computing time is that of this process
alone: SQLite is part of it, a PostgreSQL server is not. Other work hardly changes it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import requests
from extract import server  # the benchmarks beside this one
from send import BATCH, record
from sqlalchemy import Engine, bindparam, delete, select, update

from d2i_helpers import database
from d2i_helpers.database.tables import our_tables
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings, load_settings
from d2i_helpers.staging import Staged, Staging, load
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import Endpoint, simulated_endpoint

SPEC = load_spec()
TABLE = "ssd_api_data_staging"


def fill(engine: Engine, settings: Settings, records: list[bytes]) -> None:
    """A staging table with these documents, prepared to be sent for the first time."""
    database.create_staging(engine, TABLE)
    staging = Staging(engine, TABLE)
    with database.transaction(engine) as connection:
        for table in (staging.table, *our_tables().tables.values()):
            connection.execute(delete(table))
        for start in range(0, len(records), 500):
            part = records[start : start + 500]
            documents = [(orjson.loads(one), one.decode()) for one in part]
            rows = [
                Staged(d["la_child_id"], None, text, content_hash(SPEC, d)) for d, text in documents
            ]
            load.write(connection, staging, rows)
    delta_stage.run(engine, settings, SPEC)


def floor(engine: Engine, endpoint: Endpoint) -> None:
    """Read, join, post, one bulk update."""
    table = Staging(engine, TABLE).table
    session = requests.Session()
    session.trust_env = False
    session.headers["Content-Type"] = "application/json"
    with engine.connect() as connection:
        rows = connection.execute(
            select(table.c.id, table.c.partial_json_payload)
            .where(table.c.submission_status == "pending")
            .order_by(table.c.id)
        ).all()
    answered = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        body = "[" + ",".join(row.partial_json_payload for row in part) + "]"
        references = session.post(endpoint.children_url, data=body.encode()).json()
        answered += [
            {"row": row.id, "reference": reference}
            for row, reference in zip(part, references, strict=True)
        ]
    session.close()
    done = update(table).where(table.c.id == bindparam("row"))
    done = done.values(
        submission_status="sent",
        api_response=bindparam("reference"),
        previous_json_payload=table.c.json_payload,
        previous_hash=table.c.current_hash,
        row_state="unchanged",
    )
    with engine.begin() as connection:
        connection.execute(done, answered)


def ours(engine: Engine, settings: Settings, endpoint: Endpoint, count: int) -> None:
    """The submit stage."""
    result = submit.run(engine, settings, SPEC, endpoint)
    assert result.counts["acknowledged"] == count, result.counts


def measure(
    url: str, endpoint: Endpoint, records: list[bytes], rounds: int
) -> dict[str, tuple[float, float]]:
    """Seconds and seconds of computing of each way, the medians of the rounds."""
    os.environ["D2I_DATABASE_URL"] = url
    pace = {"pause_seconds": 0, "guard_min_children": 10**9}
    alone = load_settings(None, **pace)
    engine = database.open_database(alone, create=True)
    ways = {
        "floor": lambda: floor(engine, endpoint),
        "submit": lambda: ours(engine, alone, endpoint, len(records)),
        "submit, 4 in flight": lambda: ours(
            engine, load_settings(None, max_in_flight=4, **pace), endpoint, len(records)
        ),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            fill(engine, alone, records)
            started, computed = time.perf_counter(), time.process_time()
            way()
            taken[name].append((time.perf_counter() - started, time.process_time() - computed))
    engine.dispose()
    return {
        name: (statistics.median(s for s, _ in rounds), statistics.median(c for _, c in rounds))
        for name, rounds in taken.items()
    }


@contextlib.contextmanager
def answering_at_once() -> Iterator[Endpoint]:
    """The server of `send.py` in a process of its own."""
    script = str(Path(__file__).with_name("send.py"))
    server = subprocess.Popen(
        [sys.executable, script, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    yield simulated_endpoint(f"http://127.0.0.1:{int(server.stdout.readline())}", "000")
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    records = [record(n) for n in range(options.records)]
    found: dict[str, dict[str, tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(answering_at_once())
        for name in options.engines.split(","):
            new = stack.enter_context(server(name))
            found[name] = measure(new("send"), endpoint, records, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    size = sum(map(len, records)) / len(records)
    print(f"{len(records):,} records of {size:,.0f} bytes, {BATCH} a request; median of", end=" ")
    print(f"{options.rounds}; Python {platform.python_version()}, {os.cpu_count()} cores")
    for engine, ways in found.items():
        least, least_computed = ways["floor"]
        for name, (seconds, computed) in ways.items():
            print(f"{engine:<12}{name:<22}{len(records) / seconds:>9,.0f} records/s", end="")
            print(f"{seconds / least:>7.2f} x the floor's time", end="")
            print(f"{computed / least_computed:>7.2f} x its computing time")


if __name__ == "__main__":
    main()
