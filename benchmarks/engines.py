"""Statements, rows and seconds of extract, delta and submit on each database.

    python benchmarks/engines.py [--children 1000] [--engines sqlite,postgresql] [--json]

A fictional SSD is made in each database; then come a first day, a quiet one on which nothing
changed, and a usual one (`d2i simulate day`), each as extract, delta and submit to a server that
answers at once. A *statement* is one call of the driver, whatever number of rows it writes; `rows
bound` counts the rows of parameters that go with them. *Catalogue* statements ask what tables and
columns there are; they are counted on their own. The engine `mssql` is the server that
D2I_TEST_MSSQL_URL names, with tables in the schema that D2I_TEST_MSSQL_SCHEMA names; what is in
them is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from extract import server  # the benchmarks beside this one
from sqlalchemy import Engine, event
from submit import answering_at_once

from d2i_helpers import database
from d2i_helpers.database.tables import our_tables, ssd_metadata, staging_table
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.demo import simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings, load_settings
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import Endpoint

SPEC = load_spec()
DAYS = ("first", "quiet", "usual")
# where databases keep what tables there are
CATALOGUE = re.compile(
    r"(?i)\bpg_catalog\b|\bpragma\b|\bsqlite_master\b|information_schema|\bsys\."
)


def settings_for(url: str, schema: str | None, day: int) -> Settings:
    """Settings that point at a database of the benchmark, on its first, second or third day."""
    os.environ["D2I_DATABASE_URL"] = url
    places = {"ssd_schema": schema, "staging_schema": schema} if schema else {}
    return load_settings(None, run_date=f"2026-08-{10 + day}", pause_seconds=0, **places)


@contextlib.contextmanager
def counted(engine: Engine) -> Iterator[Counter[str]]:
    """Count what the driver is asked while the block runs."""
    seen: Counter[str] = Counter()

    def before(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if CATALOGUE.search(statement):
            seen["catalogue"] += 1
            return
        seen["statements"] += 1
        seen["rows bound"] += len(parameters) if many else 1

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", before)


def one_day(url: str, schema: str | None, day: int, endpoint: Endpoint) -> dict[str, Any]:
    """Figures of each stage of one day, by stage."""
    settings = settings_for(url, schema, day)
    engine = database.open_database(settings)
    stages = {
        "extract": lambda: extract.run(engine, settings, SPEC),
        "delta": lambda: delta_stage.run(engine, settings, SPEC),
        "submit": lambda: submit.run(engine, settings, SPEC, endpoint),
    }
    found = {}
    for name, stage in stages.items():
        with counted(engine) as seen:
            started = time.perf_counter()
            result = stage()
            seconds = time.perf_counter() - started
        found[name] = {"seconds": round(seconds, 2), **seen}
        if name == "submit":
            found[name]["acknowledged"] = result.counts["acknowledged"]
    engine.dispose()
    return found


def empty(url: str, schema: str | None) -> None:
    """Drop what an earlier benchmark left in a database that is kept."""
    settings = settings_for(url, schema, 0)
    engine = database.open_database(settings)
    ours = [*our_tables().sorted_tables, *map(staging_table, (settings.staging_table,))]
    with database.transaction(engine) as connection:
        for table in (*ssd_metadata().sorted_tables, *ours):
            table.drop(connection, checkfirst=True)
    engine.dispose()


@contextlib.contextmanager
def place(engine: str) -> Iterator[tuple[str, str | None]]:
    """URL and schema of an empty database."""
    if engine != "mssql":
        with server(engine) as new:
            yield new("engines"), None
        return
    url, schema = os.environ["D2I_TEST_MSSQL_URL"], os.environ.get("D2I_TEST_MSSQL_SCHEMA")
    empty(url, schema)
    yield url, schema


def figures(engine: str, children: int, endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """Figures of one database: by day and stage."""
    with place(engine) as (url, schema):
        simulate.init(settings_for(url, schema, 0), children=children)
        found = {}
        for number, name in enumerate(DAYS):
            if name == "usual":
                simulate.day(settings_for(url, schema, number))
            found[name] = one_day(url, schema, number, endpoint)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, default=1000)
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    with answering_at_once() as endpoint:
        for name in options.engines.split(","):
            found[name] = figures(name, options.children, endpoint)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{options.children:,} persons")
    heads = ("s", "statements", "rows bound", "catalogue")
    print(f"{'':<12}{'day':<8}{'stage':<9}" + "{:>8}{:>12}{:>12}{:>11}".format(*heads))
    for engine, days in found.items():
        for day, stages in days.items():
            for stage, seen in stages.items():
                counts = (seen.get(k, 0) for k in ("statements", "rows bound", "catalogue"))
                print(f"{engine:<12}{day:<8}{stage:<9}{seen['seconds']:>8.2f}", end="")
                print("{:>12,}{:>12,}{:>11,}".format(*counts))


if __name__ == "__main__":
    main()
