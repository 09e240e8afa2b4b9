"""One of several processes that work on the records of one folder at once; see test_many_writers.

Started as `python -m tests.runs.many_writers FOLDER NUMBER`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from sqlalchemy import create_engine

from d2i_helpers.database import tables
from d2i_helpers.errors import LockError
from d2i_helpers.runs import ledger, records, retention
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.runs.database_ledger import DatabaseLedger
from d2i_helpers.runs.records import RunRecord, StageRecord

RUNS = 3  # of each process


def open_book(folder: Path) -> Book:
    """The ledger of the folder, with a database beside it."""
    engine = create_engine(
        f"sqlite:///{folder}/database.sqlite", connect_args={"timeout": 60}
    ).execution_options(schema_translate_map={tables.STAGING_SCHEMA: None})
    return Book(folder / "outputs", "mark", DatabaseLedger(engine, "mark", "demo"))


def begin(book: Book, number: int, **process: object) -> RunRecord:
    """A run as the runner begins it."""
    run_id = f"{records.new_run_id()[:-4]}{number:04x}"
    stages = [StageRecord("extract", "01_extract.ipynb", "completed")]
    record = RunRecord(book.outputs / run_id, run_id, "demo", {}, {}, stages)
    records.create(record)
    record.process |= process
    record.save()
    assert book.enter(ledger.STARTED, record) is None
    return record


def end(book: Book, record: RunRecord, status: str = "completed", exit_code: int = 0) -> None:
    """The end of a run as the runner enters it."""
    record.status, record.exit_code = status, exit_code
    records.finish(record)
    assert book.enter(ledger.FINISHED, record) is None


def main(folder: Path, number: int) -> None:
    """Run, close, resume and prune, all at the same moment as the others."""
    book = open_book(folder)
    latest = ledger.last_by_run(ledger.entries(book.outputs))
    of = {str(entry["status"]): run_id for run_id, entry in latest.items()}
    old = [run_id for run_id, entry in latest.items() if entry["status"] == "completed"]
    (folder / f"ready{number}").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)
    list(book.close_interrupted())
    failed = records.read(book.outputs / of["failed"])
    failed.status = "running"
    with contextlib.suppress(LockError):
        book.enter(ledger.RESUMED, failed, after=latest[failed.run_id]["hash"])
        end(book, failed)
    retention.prune(book, old, reason="old")
    for run in range(RUNS):
        end(book, begin(book, number * 100 + run))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
