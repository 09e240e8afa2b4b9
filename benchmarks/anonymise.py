"""Anonymise: children a second made and checked, and memory; the redactor: megabytes a second.

    python benchmarks/anonymise.py [--sizes 2000,20000,100000] [--json]

The documents are those that extract makes of a fictional SSD, repeated with other ids until there
are enough. Every figure is taken in a process of its own, so that memory is that of one run.
`pure` is text in to checked text and hash out, in memory, on one core. `first` and `again` are
whole runs on SQLite: one that writes every row, one that finds nothing changed. Rates are by
processor seconds (user and system), which a busy machine distorts less; `wall` is the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import Engine, select

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.anonymise.leak_check import LeakCheck
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.cohort import Window
from d2i_helpers.database.tables import staging_table
from d2i_helpers.demo import simulate
from d2i_helpers.document.canonical import content_hash, hash_of_plain, to_text
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy.identities import collector
from d2i_helpers.privacy.redaction import Redactor
from d2i_helpers.settings import Secrets, Settings, load_settings
from d2i_helpers.staging import Staged, Staging, load

SPEC = load_spec()
RUN_DATE = "2026-08-10"
FICTIONAL = 2000
KEY = "a key of the benchmark, not a secret"


def settings_for(folder: Path) -> Settings:
    """Settings that point at a database in the folder."""
    os.environ["D2I_DATABASE_URL"] = f"sqlite:///{folder / 'ssd.sqlite'}"
    return load_settings(None, run_date=RUN_DATE, simulate_children=FICTIONAL)


def believable(settings: Settings) -> list[str]:
    """Documents of a fictional SSD."""
    simulate.init(settings)
    engine = database.open_database(settings)
    extract.run(engine, settings, SPEC)
    with database.reading(engine) as connection:
        found = select(staging_table(settings.staging_table).c.json_payload)
        texts = list(connection.execute(found).scalars())
    engine.dispose()
    return texts


def repeated(texts: list[str], count: int) -> Iterator[dict[str, Any]]:
    """That many documents; from the second round on with ids of their own."""
    for number in range(count):
        document = orjson.loads(texts[number % len(texts)])
        again = number // len(texts)
        if again:
            document["la_child_id"] = f"{document['la_child_id'][:14]}-{again}"
            document.pop("mis_child_id", None)
            details = document["child_details"]
            for name in ("unique_pupil_number", "former_unique_pupil_number"):
                if name in details:
                    details[name] = f"{details[name][0]}{again:03}{details[name][4:]}"
            for episode in document.get("social_care_episodes", ()):
                episode["social_care_episode_id"] += f"-{again}"
        yield document


def prepare(folder: Path, sizes: list[int]) -> None:
    """One database with a staging table for each size."""
    settings = settings_for(folder)
    texts = believable(settings)
    (folder / "texts.json").write_bytes(orjson.dumps(texts))
    engine = database.open_database(settings)
    for size in sizes:
        name = f"staging_{size}"
        database.create_staging(engine, name)
        staging, page = Staging(engine, name), []
        for document in repeated(texts, size):
            text = to_text(document)
            hashed = content_hash(SPEC, document)
            page.append(Staged(document["la_child_id"], None, text, hashed))
            if len(page) == 5000:
                write(engine, staging, page)
                page = []
        write(engine, staging, page)
    engine.dispose()


def write(engine: Engine, staging: Staging, page: list[Staged]) -> None:
    """Stage one page."""
    with database.transaction(engine) as connection:
        load.write(connection, staging, page)


def peak_mb() -> float:
    """Most memory that this process has held; the kernel's own count starts anew with a program."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pure(folder: Path) -> dict[str, Any]:
    """Text to checked text and hash, in memory; the best of five rounds."""
    texts = orjson.loads((folder / "texts.json").read_bytes())
    window = Window.for_date(settings_for(folder).today)
    pseudonyms = Pseudonymiser(SPEC, KEY.encode(), max_shift_days=183, window_start=window.start)
    collect = collector(SPEC)

    def round_(steps: int) -> float:
        """Seconds of the first so many steps for all documents."""
        check, started = LeakCheck(SPEC), time.process_time()
        for text in texts:
            original = orjson.loads(text)
            if steps > 1:
                identity = collect(original)
            if steps > 2:
                made = pseudonyms.document(original["la_child_id"], original, identity)
                written = to_text(made)
            if steps > 3:
                assert not check.document(identity, original, made, written)
            if steps > 4:
                hash_of_plain(SPEC, made)
        assert not check.coincidences()
        return time.process_time() - started

    best = [0.0] + [min(round_(steps) for _ in range(5)) for steps in range(1, 6)]
    names = ("parse", "identify", "pseudonymise", "check", "hash")
    spent = {name: best[n + 1] - best[n] for n, name in enumerate(names)}
    return {
        "documents": len(texts),
        "characters": round(sum(map(len, texts)) / len(texts)),
        "microseconds": {n: round(s / len(texts) * 1e6, 1) for n, s in spent.items()},
        "children_a_second": round(len(texts) / best[-1]),
    }


def whole(folder: Path, size: int) -> dict[str, Any]:
    """A first run that writes everything and a second that finds nothing changed."""
    settings = settings_for(folder).model_copy(
        update={"staging_table": f"staging_{size}", "anon_table": f"anon_{size}"}
    )
    secrets = Secrets(pseudonym_key=SecretStr(KEY))
    engine = database.open_database(settings)
    result: dict[str, Any] = {"children": size}
    before = peak_mb()
    for name in ("first", "again"):
        cpu, clock = time.process_time(), time.perf_counter()
        counts = anonymise.run(engine, settings, secrets, SPEC).counts
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        assert counts["anonymised"] == (size if name == "first" else 0) and not counts["leaks"]
        assert counts["new" if name == "first" else "unchanged"] == size
        result[name] = {"children_a_second": round(size / cpu), "wall": round(clock, 1)}
    result["peak_mb"] = round(peak_mb())
    result["grown_by_mb"] = round(peak_mb() - before)
    return result


def redact(_folder: Path) -> dict[str, Any]:
    """A text of 5 MB against 100,000 ids and 20,000 names."""
    identifiers = [f"{10_000_000 + 17 * n}" for n in range(100_000)]
    identifiers += [f"Vorname{n} Nachname{n}" for n in range(20_000)]
    started = time.process_time()
    redactor = Redactor(identifiers)
    built = time.process_time() - started
    line = "2026-08-10 21:43:05 12,345 children staged; 0.123 s; stage extract of run ab12cd34 ok\n"
    text = line * (5_000_000 // len(line)) + "leaked 10000017\n"
    started = time.process_time()
    assert redactor.find(text) == 1
    return {
        "identifiers": len(identifiers),
        "built_in_seconds": round(built, 2),
        "megabytes_a_second": round(len(text) / 1e6 / (time.process_time() - started), 1),
    }


def measured(*arguments: str) -> dict[str, Any]:
    """One figure, taken in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Take all figures and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="2000,20000")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if options.part:
        folder = Path(options.folder)
        parts = {"pure": pure, "redact": redact}
        make = parts.get(options.part)
        print(json.dumps(make(folder) if make else whole(folder, int(options.part))))
        return
    folder = Path(tempfile.mkdtemp(prefix="d2i-bench-"))
    try:
        prepare(folder, sizes)
        at = ("--folder", str(folder), "--part")
        report = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "pure": measured(*at, "pure"),
            "runs": [measured(*at, str(size)) for size in sizes],
            "redactor": measured(*at, "redact"),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(report))
        return
    one = report["pure"]
    print(f"pure: {one['children_a_second']:,} children/s ({one['characters']} characters each)")
    print("      " + ", ".join(f"{n} {us} µs" for n, us in one["microseconds"].items()))
    for run in report["runs"]:
        first, again = run["first"], run["again"]
        print(
            f"{run['children']:>7,} children: first {first['children_a_second']:,}/s "
            f"({first['wall']} s), again {again['children_a_second']:,}/s ({again['wall']} s), "
            f"peak {run['peak_mb']} MB (+{run['grown_by_mb']})"
        )
    one = report["redactor"]
    print(f"redactor: {one['identifiers']:,} identifiers, {one['megabytes_a_second']} MB/s")


if __name__ == "__main__":
    main()
