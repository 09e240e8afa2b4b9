"""Delta and submit on a staging table of a million rows, and how their time grows to it.

    python benchmarks/growth.py [--rows 100000,1000000] [--engines sqlite,postgresql] [--json]

Each table holds documents of some 600 bytes that the receiver has acknowledged, with their log,
notes and marks: a day of 200 children is sent, and its rows are then written again and again under
other ids, since to send a million would take an hour. Measured are a day on which nothing changed,
and one on which 6 % of the documents did. `exponent` says how the time grows from the size before:
1 is as fast as the rows. A million rows need some 4 GB of disk for a while.
"""

from __future__ import annotations

import argparse
import contextlib
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
from sqlalchemy import Engine, text

from d2i_helpers import database
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.payload_spec import Document
from d2i_helpers.staging import Staging, marks, outbox
from d2i_helpers.staging.messages import Message
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import Endpoint

SPEC, TABLE = of_submit.SPEC, of_submit.TABLE
COPIED = (TABLE, "d2i_submission_log", "d2i_marks", "d2i_row_notes")
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
    raw = engine.raw_connection()
    cursor = raw.cursor()
    examples = {}
    for table in COPIED:
        cursor.execute(f"select * from {table} limit 1")  # noqa: S608
        examples[table] = dict(
            zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True)
        )
        cursor.execute(f"delete from {table}")  # noqa: S608
    for start in range(0, size, AT_A_TIME):
        rows: dict[str, list[Row]] = {table: [] for table in COPIED}
        for number in range(start, min(start + AT_A_TIME, size)):
            for table, row in rows_of(number, documents[number % len(documents)], examples):
                rows[table].append(row)
        for table, some in rows.items():
            insert(cursor, engine.dialect.name, table, some)
        raw.commit()
    for table in COPIED:
        if engine.dialect.name == "postgresql" and "id" in examples[table]:
            cursor.execute(f"select setval(pg_get_serial_sequence('{table}', 'id'), {size})")
    raw.commit()
    raw.close()
    counted = "vacuum analyze" if engine.dialect.name == "postgresql" else "analyze"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(counted))
    engine.dispose()


def rows_of(number: int, document: Document, examples: dict[str, Row]) -> Iterator[tuple[str, Row]]:
    """The rows of one child, each made of the example of its table."""
    child = f"C{number:07d}"
    document = {**document, "la_child_id": child}
    payload, digest = to_text(document), content_hash(SPEC, document)
    message = Message(0, child, "document", payload, payload, digest, None)
    of_message, of_document = outbox.digests(message)
    own: dict[str, Row] = {
        TABLE: {
            "id": number + 1, "json_payload": payload, "previous_json_payload": payload,
            "current_hash": digest, "previous_hash": digest,
        },
        "d2i_submission_log": {
            "id": number + 1, "document_hash": digest, "batch_id": f"batch {number // 100}",
        },
        "d2i_marks": {
            "current_hash": digest, "text_fingerprint": marks.text_fingerprint(payload),
            "accepted_by": of_submit.VALIDATOR.fingerprint,
        },
        "d2i_row_notes": {
            "partial_current_hash": digest, "partial_digest": of_message,
            "document_digest": of_document,
        },
    }  # fmt: skip
    for table, values in own.items():
        yield table, {**examples[table], "person_id": child, **values}


def insert(cursor: Any, engine: str, table: str, rows: list[Row]) -> None:
    """Write rows past everything."""
    names = ", ".join(rows[0])
    values = [tuple(row.values()) for row in rows]
    if engine == "sqlite":
        places = ", ".join("?" * len(rows[0]))
        cursor.executemany(f"insert into {table} ({names}) values ({places})", values)  # noqa: S608
        return
    with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)


def measured(engine: Engine, url: str, endpoint: Endpoint) -> dict[str, float]:
    """What both stages compute, of client and server, in seconds."""
    settings = of_submit.settings_for(url)
    client, of_server = time.process_time(), server_cpu(url)
    delta_stage.run(engine, settings, SPEC)
    result = submit.run(engine, settings, SPEC, endpoint)
    return {
        "client": time.process_time() - client,
        "server": server_cpu(url) - of_server,
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
            by_day: dict[str, list[float]] = {}
            for size in sizes:
                with contextlib.ExitStack() as stack:
                    new = stack.enter_context(server(engine))
                    for day, one in days(new("grown"), endpoint, size).items():
                        cpu = one["client"] + one["server"]
                        by_day.setdefault(day, []).append(cpu)
                        found.append({"engine": engine, "rows": size, "day": day, **one})
            for day, taken in by_day.items():
                steps = zip(pairwise(taken), pairwise(sizes), strict=True)
                for (less, more), (few, many) in steps:
                    exponent = math.log(more / less) / math.log(many / few)
                    found.append({"engine": engine, "rows": many, "day": day, "exponent": exponent})
    if options.json:
        print(json.dumps({"peak": peak_mb(), "figures": found}, indent=1))
        return
    for one in found:
        what = f"{one['engine']:<12}{one['rows']:>10,}  {one['day']:<6}"
        if "exponent" in one:
            print(f"{what}exponent {one['exponent']:.2f}")
        else:
            print(f"{what}client {one['client']:.2f} s  server {one['server']:.2f} s  "
                  f"sent {one['sent']:,}")  # fmt: skip
    print(f"at most {peak_mb():.0f} MB, with what fills the tables")


if __name__ == "__main__":
    main()
