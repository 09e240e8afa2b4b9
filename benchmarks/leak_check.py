"""The search of a notebook for identities: seconds and memory, whatever the size of the cohort.

    python benchmarks/leak_check.py [--sizes 2000,20000,100000] [--url postgresql+psycopg://…]

The staging table is filled with documents of a fictional SSD, repeated with other ids and names.
`taken` makes the digests of the whole cohort, once; `changed` those of 6 % of the children;
`unchanged` is what a run pays when nobody changed; `notebook` searches one executed notebook of
60 KB. `full` is the search that reads every document, which is left for a database in which no
digests can be kept. CPU seconds of this process (and wall-clock seconds where a server works); each
size runs in a process of its own. Peak memory is that of the steps before `full`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from anonymise import believable, peak_mb, repeated
from sqlalchemy import Engine, MetaData, insert, update

from d2i_helpers import database
from d2i_helpers.database.tables import our_tables, staging_table
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy.identities import cohort_identifiers
from d2i_helpers.privacy.identity_hashes import DigestsInMemory, KeptDigests
from d2i_helpers.privacy.redaction import Redactor
from d2i_helpers.settings import Settings, load_settings, project_root

SPEC = load_spec()
CHANGED = 0.06


def settings_for(url: str, size: int) -> Settings:
    """Settings that point at a staging table for this size."""
    return load_settings(None, database_url=url, staging_table=f"staging_{size}")


def row_of(document: dict[str, Any], mark: str) -> dict[str, Any]:
    """A staging row with a name that few others have."""
    details = document["child_details"]
    details["surname"] = f"{details.get('surname', 'Ash')}-{mark}"
    text = orjson.dumps(document).decode()
    return {
        "person_id": document["la_child_id"],
        "json_payload": text,
        "current_hash": hashlib.sha256(text.encode()).digest(),
        "submission_status": "pending",
    }


def fill(engine: Engine, settings: Settings, texts: list[str], size: int) -> None:
    """Fill the staging table."""
    table = staging_table(settings.staging_table)
    database.create_staging(engine, settings.staging_table)
    rows: list[dict[str, Any]] = []
    for number, document in enumerate(repeated(texts, size)):
        rows.append(row_of(document, f"{number % 5000:x}"))
        if len(rows) == 1000 or number == size - 1:
            with database.transaction(engine) as connection:
                connection.execute(insert(table), rows)
            rows = []


def notebook_text() -> str:
    """An executed notebook without outputs would be small; this one says the same often."""
    source = (project_root() / "notebooks" / "01_extract.ipynb").read_text(encoding="utf-8")
    output = "2026-08-10 21:43:05 12,345 children staged; stage extract ok; 3 new; 1 gone\n"
    return source + output * (60_000 // len(output) - len(source) // len(output))


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of this process and wall-clock seconds."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return round(time.process_time() - cpu, 3), round(time.perf_counter() - clock, 3)


def measure(url: str, texts: list[str], size: int) -> dict[str, Any]:
    """All figures of one size."""
    settings = settings_for(url, size)
    engine = database.open_database(settings, create=True)
    fill(engine, settings, texts, size)
    del texts
    kept = KeptDigests(engine, settings.staging_table, SPEC)
    before = peak_mb()
    result: dict[str, Any] = {"children": size, "taken": timed(kept.bring_up_to_date)}
    table = staging_table(settings.staging_table)
    other = update(table).where(table.c.id <= int(size * CHANGED))
    with database.transaction(engine) as connection:
        connection.execute(other.values(current_hash=hashlib.sha256(b"other").digest()))
    result["changed"] = timed(kept.bring_up_to_date)
    result["unchanged"] = timed(kept.bring_up_to_date)
    text, redactor = notebook_text(), Redactor(known=kept.known)
    result["notebook"] = timed(lambda: redactor.redact(text))
    result["peak_mb"], result["before_mb"] = round(peak_mb()), round(before)
    result["full"] = timed(lambda: DigestsInMemory(cohort_identifiers(engine, settings)))
    result["peak_of_full_mb"] = round(peak_mb())
    with database.transaction(engine) as connection:
        for one in (table, *our_tables().tables.values()):
            one.to_metadata(MetaData(), schema=settings.staging_schema).drop(connection)  # type: ignore[arg-type]
    engine.dispose()
    return result


def main() -> None:
    """Take all figures and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="2000,20000")
    parser.add_argument("--url", help="an empty database; without it SQLite in a folder of its own")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        folder, size = Path(options.part[0]), int(options.part[1])
        texts = orjson.loads((folder / "texts.json").read_bytes())
        url = options.url or f"sqlite:///{folder / f'{size}.sqlite'}"
        print(json.dumps(measure(url, texts, size)))
        return
    results = []
    with tempfile.TemporaryDirectory(prefix="d2i-bench-") as made:
        folder = Path(made)
        os.environ["D2I_DATABASE_URL"] = f"sqlite:///{folder / 'ssd.sqlite'}"
        texts = believable(load_settings(None, run_date="2026-08-10", simulate_children=2000))
        (folder / "texts.json").write_bytes(orjson.dumps(texts))
        for size in options.sizes.split(","):
            command = [sys.executable, __file__, "--part", str(folder), size]
            command += ["--url", options.url] if options.url else []
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            if not options.json:
                print(", ".join(f"{name} {value}" for name, value in results[-1].items()))
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
