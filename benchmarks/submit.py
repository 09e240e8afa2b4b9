"""Delta and submit together: this project, a simple sender and the floor, in turn in one run.

    python benchmarks/submit.py [--worlds changed,usual,quiet] [--engines sqlite,postgresql]
                                [--rounds 3] [--sizes 10000,100000] [--sender FOLDER] [--json]

Worlds: `changed`, 5,000 children with another document each; `usual`, 20,000 children of whom 6 %
have one; `quiet`, 20,000 of whom nobody has. `--sizes` adds worlds of other sizes with 6 % changed,
for growth and memory. Each world is filled once, by a first day that was sent and acknowledged; a
way begins from a copy of it, in a process of its own, and posts to the server of `send.py`, which
answers at once. Pacing is off.

- `floor`: the bare driver reads the waiting rows with one SELECT; the documents before and after
  are parsed, written again and posted a hundred at a time; one bulk write at the end. No
  difference, no journal, no log, no state that a crash would leave behind.
- `simple`: how the Python sender works that authorities have today. A recursive comparison of the
  parsed documents, an UPDATE for each row, `requests.post` of a hundred records, an UPDATE for each
  answer, a commit for each batch. It keeps no journal and no log either.
- `published`: D2I's own sender (github.com/data-to-insight/dfe-csc-api-data-flows), where
  `--sender` names a folder with a copy of its `api_pipeline`.
- `ours`: `delta.run` and `submit.run`, as the two notebooks call them.

`cpu` is the time that the client and the database server computed, which other work hardly changes.
A *statement* is one call of the driver by this project, whatever number of rows it writes.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import published_sender
import requests
from anonymise import peak_mb
from delta import changed, story  # the benchmarks beside this one
from extract import keep_house, server, server_cpu
from send import BATCH
from sqlalchemy import Engine, create_engine, event, make_url, text

from d2i_helpers import database
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.document.validation import Validator
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings, load_settings
from d2i_helpers.staging import Staged, Staging, load, marks
from d2i_helpers.staging.marks import Mark
from d2i_helpers.staging.rehash import rehash_if_needed
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import Endpoint, simulated_endpoint

SPEC = load_spec()
VALIDATOR = Validator(SPEC)
TABLE = "ssd_api_data_staging"
STORIES = 150  # documents that are made; each stands for many children
WORLDS = {"changed": (5_000, 1.0), "usual": (20_000, 0.06), "quiet": (20_000, 0.0)}
SHARE = 0.06  # that changed, of the worlds of other sizes
_TICKS = os.sysconf("SC_CLK_TCK")


def settings_for(url: str) -> Settings:
    """Settings that point at a database of the benchmark; no pauses, no guards."""
    os.environ["D2I_DATABASE_URL"] = url
    return load_settings(None, pause_seconds=0, guard_min_children=10**9)


# ----------------------------------------------------------------------------------- the worlds
def fill(url: str, endpoint: Endpoint, size: int, share: float) -> None:
    """A staging table whose first day was sent, and on which today some documents changed."""
    settings = settings_for(url)
    engine = database.open_database(settings, create=True)
    database.create_staging(engine, TABLE)
    staging = Staging(engine, TABLE)
    rehash_if_needed(staging, SPEC, volatile_ids=SPEC.volatile_ids)
    chance = random.Random(size)
    before = [story(chance) for _ in range(STORIES)]
    # valid, and another one for certain
    after = [{**sendable(changed(one, chance)), "mis_child_id": "M1"} for one in before]
    before = [sendable(one) for one in before]
    write(engine, staging, before, range(size))
    delta_stage.run(engine, settings, SPEC)
    submit.run(engine, settings, SPEC, endpoint)
    write(engine, staging, after, sorted(chance.sample(range(size), round(size * share))))
    engine.dispose()
    keep_house(url)


def sendable(content: Any) -> Any:
    """The content with postcodes of the right form, and with codes that may stand together."""
    if isinstance(content, list):
        return [sendable(one) for one in content]
    if not isinstance(content, dict):
        return content
    valid = {name: sendable(value) for name, value in content.items()}
    if "postcode" in valid:
        valid["postcode"] = f"AB{len(valid['postcode']) % 10} {valid['postcode'][-1]}CD"
    for name in {"disabilities", "factors"} & valid.keys():
        valid[name] = valid[name][:1]
    return valid


def write(engine: Engine, staging: Staging, documents: list[Any], children: Any) -> None:
    """Stage a document for each of these children, with its mark, as extract does."""
    children = list(children)
    for start in range(0, len(children), 500):
        rows, kept = [], []
        for number in children[start : start + 500]:
            document = {**documents[number % len(documents)], "la_child_id": f"C{number:07d}"}
            staged = content_hash(SPEC, document)
            rows.append(Staged(f"C{number:07d}", None, to_text(document), staged))
            known = marks.text_fingerprint(rows[-1].payload)
            by = VALIDATOR.fingerprint if VALIDATOR.accepts(document) else None
            kept.append(Mark(rows[-1].person_id, 0, datetime.date.max, b"", (), staged, known, by))
        with database.transaction(engine) as connection:
            load.write(connection, staging, rows)
        marks.put(staging, kept, among_others=True)


# ------------------------------------------------------------------------------------- the ways
class Driver:
    """The bare driver of a database, with what differs between the two."""

    def __init__(self, engine: Engine) -> None:
        self.connection = engine.raw_connection()
        self.cursor = self.connection.cursor()
        self.mark = "?" if engine.dialect.name == "sqlite" else "%s"

    def __call__(self, statement: str, rows: Any = None) -> Any:
        """Execute; with rows, for each of them."""
        statement = statement.replace("?", self.mark)
        if rows is None:
            return self.cursor.execute(statement)
        return self.cursor.executemany(statement, rows)

    def commit(self) -> None:
        self.connection.commit()


def posting(endpoint: Endpoint) -> requests.Session:
    """A plain session."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Content-Type"] = "application/json"
    return session


_READ = (
    f"select id, person_id, previous_json_payload, json_payload from {TABLE} "  # noqa: S608
    "where submission_status = 'pending' order by id"
)


def floor(engine: Engine, endpoint: Endpoint) -> int:
    """Read, parse, write again, post, one bulk update."""
    driver, session = Driver(engine), posting(endpoint)
    driver(_READ)
    answered: list[tuple[str, int]] = []
    while rows := driver.cursor.fetchmany(BATCH):
        for row in rows:
            orjson.loads(row[2] or b"null")
        body = orjson.dumps([orjson.loads(row[3]) for row in rows])
        references = session.post(endpoint.children_url, data=body).json()
        answered += [(reference, row[0]) for reference, row in zip(references, rows, strict=True)]
    session.close()
    if answered:
        driver(
            f"update {TABLE} set submission_status = 'sent', row_state = 'unchanged', "  # noqa: S608
            "api_response = ?, previous_json_payload = json_payload, previous_hash = current_hash "
            "where id = ?",
            answered,
        )
    driver.commit()
    driver.connection.close()
    return len(answered)


def simple(engine: Engine, endpoint: Endpoint) -> int:
    """The pattern of today's Python sender: everything row by row."""
    driver = Driver(engine)
    rows = list(driver(_READ) or driver.cursor)
    for _, person_id, previous, current in rows:
        partial = compared(json.loads(previous) if previous else {}, json.loads(current))
        driver(
            f"update {TABLE} set partial_json_payload = ? where person_id = ?",  # noqa: S608
            [(json.dumps(partial), person_id)],
        )
    driver.commit()
    driver(
        f"select person_id, partial_json_payload from {TABLE} "  # noqa: S608
        "where submission_status in ('pending', 'error') order by id"
    )
    waiting = list(driver.cursor)
    for start in range(0, len(waiting), BATCH):
        part = waiting[start : start + BATCH]
        records = [json.loads(partial) for _, partial in part]
        answer = requests.post(
            endpoint.children_url, json=records, headers={"Content-Type": "application/json"},
            timeout=60,
        )  # fmt: skip
        for (person_id, _), reference in zip(part, answer.json(), strict=True):
            driver(
                f"update {TABLE} set submission_status = 'sent', "  # noqa: S608
                "row_state = 'unchanged', submission_timestamp = current_timestamp, "
                "api_response = ?, previous_json_payload = json_payload, "
                "previous_hash = current_hash where person_id = ?",
                [(reference, person_id)],
            )
        driver.commit()
    driver.connection.close()
    return len(waiting)


def compared(before: Any, after: Any) -> Any:
    """What changed, level by level; lists of objects are matched by their first field."""
    part = {}
    for name, value in after.items():
        held = before.get(name)
        if isinstance(value, dict) and isinstance(held, dict):
            inner = compared(held, value)
            if inner:
                part[name] = inner
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            key = next(iter(value[0]))
            known = {one.get(key): one for one in held or () if isinstance(one, dict)}
            part[name] = [
                {key: one.get(key), **compared(known[one.get(key)], one)}
                if one.get(key) in known
                else one
                for one in value
            ]
        elif value != held or name == "la_child_id":
            part[name] = value
    return part


def ours(engine: Engine, endpoint: Endpoint) -> int:
    """The two stages."""
    settings = settings_for(engine.url.render_as_string(hide_password=False))
    delta_stage.run(engine, settings, SPEC)
    result = submit.run(engine, settings, SPEC, endpoint)
    assert result.counts["acknowledged"] == result.counts["waiting_before"], result.counts
    return result.counts["acknowledged"]


Way = Callable[[Engine, Endpoint], int]  # gives the number of children that were sent


def ways(sender: Path | None) -> dict[str, Way]:
    """The ways by name, in the order in which they take turns; D2I's own where there is a copy."""
    found: dict[str, Way] = {"floor": floor, "simple": simple}
    if sender is not None:
        found["published"] = functools.partial(published_sender.run, sender, TABLE)
    return {**found, "ours": ours}


# ------------------------------------------------------------------------------------ measuring
def measure(way: Way, url: str, address: str, *, count: bool) -> dict[str, Any]:
    """One way, in this process."""
    engine = database.open_database(settings_for(url))
    with engine.connect():
        pass
    statements = [0]
    if count:
        event.listen(
            engine, "before_cursor_execute", lambda *_: statements.__setitem__(0, statements[0] + 1)
        )
    endpoint = simulated_endpoint(address, "000")
    started, computed = time.perf_counter(), time.process_time()
    sent = way(engine, endpoint)
    found = {
        "seconds": time.perf_counter() - started,
        "client": time.process_time() - computed,
        "memory": peak_mb(),
        "sent": sent,
        "statements": statements[0],
    }
    engine.dispose()
    return found


def in_own_process(
    way: str, url: str, address: str, sender: Path | None, *, count: bool = False
) -> dict[str, Any]:
    """The figures of a way, taken in a process of its own, with what the server computed."""
    command = [sys.executable, __file__, "--way", way, "--url", url, "--address", address]
    command += ["--sender", str(sender)] if sender else []
    command += ["--count"] if count else []
    before = server_cpu(url)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    found["server"] = server_cpu(url) - before
    found["cpu"] = found["client"] + found["server"]
    return found


def copied(url: str, template: str) -> None:
    """Put a copy of the filled database in the place of the last one."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        for end in ("-wal", "-shm"):
            Path(f"{address.database}{end}").unlink(missing_ok=True)
        shutil.copyfile(str(make_url(template).database), str(address.database))
        return
    admin = create_engine(address.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"drop database if exists {address.database}"))
        connection.execute(
            text(f"create database {address.database} template {make_url(template).database}")
        )
        connection.execute(text("checkpoint"))
    admin.dispose()


@contextlib.contextmanager
def answering_at_once() -> Iterator[Endpoint]:
    """The server of `send.py` in a process of its own."""
    script = str(Path(__file__).with_name("send.py"))
    running = subprocess.Popen(
        [sys.executable, script, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    yield simulated_endpoint(f"http://127.0.0.1:{int(running.stdout.readline())}", "000")
    running.stdin.close()
    running.wait(10)
    running.stdout.close()


def figures(
    new: Callable[[str], str],
    name: str,
    world: tuple[int, float],
    endpoint: Endpoint,
    rounds: int,
    sender: Path | None,
) -> dict[str, dict[str, Any]]:
    """Medians of each way in one world."""
    template, place = new(f"filled_{name}"), new(f"used_{name}")
    fill(template, endpoint, *world)
    address = "/".join(endpoint.children_url.split("/")[:3])
    taken: dict[str, list[dict[str, Any]]] = {way: [] for way in ways(sender)}
    for _ in range(rounds):
        for way, some in taken.items():
            copied(place, template)
            some.append(in_own_process(way, place, address, sender))
    copied(place, template)
    counted = in_own_process("ours", place, address, sender, count=True)
    found = {
        way: {key: statistics.median(one[key] for one in some) for key in some[0]}
        for way, some in taken.items()
    }
    found["ours"]["statements"] = counted["statements"]
    for one in found.values():
        one["ratio"] = one["cpu"] / found["floor"]["cpu"]
    return found


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", default="changed,usual,quiet")
    parser.add_argument("--sizes", default="")
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sender", type=Path, help="a folder with a copy of api_pipeline")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        way = ways(options.sender)[options.way]
        print(json.dumps(measure(way, options.url, options.address, count=options.count)))
        return
    worlds = {name: WORLDS[name] for name in options.worlds.split(",") if name}
    worlds |= {f"of_{size}": (int(size), SHARE) for size in options.sizes.split(",") if size}
    found: dict[str, dict[str, Any]] = {}
    with answering_at_once() as endpoint:
        for engine in options.engines.split(","):
            with server(engine) as new:
                for name, world in worlds.items():
                    found.setdefault(engine, {})[name] = figures(
                        new, name, world, endpoint, options.rounds, options.sender
                    )
    if options.json:
        about = {"python": platform.python_version(), "cpus": os.cpu_count()}
        print(json.dumps({"about": about, "figures": found}, indent=1))
        return
    head = ("cpu s", "client", "server", "x floor", "seconds", "peak MB", "sent", "statements")
    print(f"{'':<12}{'world':<12}{'way':<10}" + "".join(f"{one:>11}" for one in head))
    for engine, by_world in found.items():
        for name, by_way in by_world.items():
            for way, one in by_way.items():
                said = [f"{one[k]:>11.2f}" for k in ("cpu", "client", "server", "ratio", "seconds")]
                said += [f"{one[k]:>11,.0f}" for k in ("memory", "sent", "statements")]
                print(f"{engine:<12}{name:<12}{way:<10}" + "".join(said))


if __name__ == "__main__":
    main()
