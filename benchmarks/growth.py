"""Delta and submit on a staging table of a million rows, and how their time grows to it.

    python benchmarks/growth.py [--rows 100000,1000000] [--engines sqlite,postgresql] [--json]

Each table holds documents of some 600 bytes that the receiver has acknowledged, with their log,
notes and marks: a day of 200 children is sent, and its rows are then written again and again under
other ids, since to send a million would take an hour. Measured are a day on which nothing changed,
and one on which 6 % of the documents did. `server` is what the database server computed for these
two stages, `housekeeping` what it did in between for itself (PostgreSQL's vacuum and checkpoints,
which come by the clock, and to a short day not at all). `exponent` says how the time of client and
server grows from the size before, and with housekeeping: 1 is as fast as the rows. A million rows
need some 4 GB of disk for a while.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import submit as of_submit  # the benchmarks beside this one
from anonymise import peak_mb
from delta import story
from extract import server, server_cpu
from sqlalchemy import Engine, Table, delete, select, text

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.payload_spec import Document
from d2i_helpers.staging import Staging, marks, outbox
from d2i_helpers.staging.messages import Message
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import Endpoint

SPEC, TABLE = of_submit.SPEC, of_submit.TABLE
STAGED = tables.staging_table(TABLE)
COPIED = (STAGED, tables.submission_log, tables.marks, tables.notes)
EXAMPLES = 200  # children who are really sent
AT_A_TIME = 20_000
Row = dict[str, Any]


def small_documents() -> list[Document]:
    """Documents without the largest list."""
    chance = random.Random(5)
    made = [of_submit.sendable(story(chance)) for _ in range(of_submit.STORIES)]
    return [{k: v for k, v in one.items() if k != "social_care_episodes"} for one in made]


def fill(url: str, endpoint: Endpoint, size: int, documents: list[Document]) -> None:
    """A staging table of this many acknowledged rows, with all that is kept beside them."""
    of_submit.fill(url, endpoint, EXAMPLES, 0.0)
    engine = database.open_database(of_submit.settings_for(url))
    with database.transaction(engine) as connection:
        examples = {}
        for table in COPIED:
            examples[table] = dict(connection.execute(select(table).limit(1)).mappings().one())
            connection.execute(delete(table))
    for start in range(0, size, AT_A_TIME):
        rows: dict[Table, list[Row]] = {table: [] for table in COPIED}
        for number in range(start, min(start + AT_A_TIME, size)):
            for table, row in rows_of(number, documents[number % len(documents)], examples):
                rows[table].append(row)
        with database.transaction(engine) as connection:
            for table, some in rows.items():
                database.insert_rows(connection, table, some)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":
            for table in (STAGED, tables.submission_log):  # their next row is no longer the first
                number_of = f"pg_get_serial_sequence('{table.name}', 'id')"
                connection.execute(text(f"select setval({number_of}, {size})"))
            connection.execute(text("vacuum"))
        connection.execute(text("analyze"))
    engine.dispose()


def rows_of(
    number: int, document: Document, examples: dict[Table, Row]
) -> Iterator[tuple[Table, Row]]:
    """The rows of one child, each made of the example of its table."""
    child = f"C{number:07d}"
    document = {**document, "la_child_id": child}
    payload, digest = to_text(document), content_hash(SPEC, document)
    message = Message(0, child, "document", payload, payload, digest, None)
    of_message, of_document = outbox.digests(message)
    own: dict[Table, Row] = {
        STAGED: {
            "id": number + 1, "json_payload": payload, "previous_json_payload": payload,
            "current_hash": digest, "previous_hash": digest,
        },
        tables.submission_log: {
            "id": number + 1, "document_hash": digest, "batch_id": f"batch {number // 100}",
        },
        tables.marks: {
            "current_hash": digest, "text_fingerprint": marks.text_fingerprint(payload),
            "accepted_by": of_submit.VALIDATOR.fingerprint,
        },
        tables.notes: {
            "partial_current_hash": digest, "partial_digest": of_message,
            "document_digest": of_document,
        },
    }  # fmt: skip
    for table, values in own.items():
        yield table, {**examples[table], "person_id": child, **values}


def measured(engine: Engine, url: str, endpoint: Endpoint) -> dict[str, float]:
    """What both stages compute, of client and server, in seconds."""
    settings = of_submit.settings_for(url)
    with engine.connect():  # its session is there when its time is read
        pass
    client, all_before = time.process_time(), server_cpu(url)
    before = server_cpu(url, for_sessions=True)
    delta_stage.run(engine, settings, SPEC)
    result = submit.run(engine, settings, SPEC, endpoint)
    of_client = time.process_time() - client
    of_server = server_cpu(url, for_sessions=True) - before
    return {
        "client": of_client,
        "server": of_server,
        "housekeeping": max(0.0, server_cpu(url) - all_before - of_server),
        "sent": result.counts["acknowledged"],
    }


def days(url: str, endpoint: Endpoint, size: int) -> dict[str, dict[str, float]]:
    """Fill a database, and measure a quiet and a usual day."""
    documents = small_documents()
    fill(url, endpoint, size, documents)
    engine = database.open_database(of_submit.settings_for(url))
    found = {"quiet": measured(engine, url, endpoint)}
    changed = random.Random(size).sample(range(size), round(size * of_submit.SHARE))
    after = [{**one, "mis_child_id": "M1"} for one in documents]
    of_submit.write(engine, Staging(engine, TABLE), after, sorted(changed))
    found["usual"] = measured(engine, url, endpoint)
    assert found["usual"]["sent"] == len(changed)
    engine.dispose()
    return found


def growth(engine: str, endpoint: Endpoint, sizes: list[int]) -> list[dict[str, Any]]:
    """What each day of each size takes on a database, and the exponents between the sizes."""
    found: list[dict[str, Any]] = []
    for size in sizes:
        with server(engine) as new:
            for day, one in days(new("grown"), endpoint, size).items():
                found.append({"engine": engine, "rows": size, "day": day, **one})
    for day in ("quiet", "usual"):
        for less, more in pairwise(one for one in found if one["day"] == day):
            stages = ("client", "server")
            more["exponent"] = exponent(less, more, stages)
            more["with housekeeping"] = exponent(less, more, (*stages, "housekeeping"))
    return found


def exponent(less: dict[str, Any], more: dict[str, Any], parts: tuple[str, ...]) -> float:
    """How some parts of the time grow from one size to the next."""
    times = sum(more[part] for part in parts) / sum(less[part] for part in parts)
    return math.log(times) / math.log(more["rows"] / less["rows"])


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = [int(size) for size in options.rows.split(",")]
    found: list[dict[str, Any]] = []
    with of_submit.answering_at_once() as endpoint:
        for engine in options.engines.split(","):
            found += growth(engine, endpoint, sizes)
    if options.json:
        print(json.dumps({"peak": peak_mb(), "figures": found}, indent=1))
        return
    for one in found:
        what = f"{one['engine']:<12}{one['rows']:>10,}  {one['day']:<6}"
        parts = ("client", "server", "housekeeping")
        taken = "  ".join(f"{part} {one[part]:.2f} s" for part in parts)
        grows = [f"{name} {one[name]:.2f}" for name in ("exponent", "with housekeeping")
                 if name in one]  # fmt: skip
        print("  ".join([f"{what}{taken}", f"sent {one['sent']:,}", *grows]))
    print(f"at most {peak_mb():.0f} MB, with what fills the tables")


if __name__ == "__main__":
    main()
