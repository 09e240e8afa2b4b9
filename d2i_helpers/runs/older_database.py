"""Notices a database that was put back to an earlier state, such as a backup that was restored.

Such a database is whole and agrees with itself, but it knows nothing of what was sent since: a
difference would be made against what the receiver no longer holds, and a child who came and went
meanwhile would stay there. The run records were not put back with it. They name runs that sent
messages; where the submission log has older attempts and none of such a run, it has lost them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import facts, submission_log
from d2i_helpers.errors import GuardError, RecordError
from d2i_helpers.plain_english import counted
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.settings import Settings
from d2i_helpers.stages import STAGES
from d2i_helpers.staging import Staging

# id of the newest run whose absence was looked into: it is known to the log, or was allowed
COMPARED_FACT = "compared_with_runs_up_to"


@dataclass(frozen=True)
class Sending:
    """A run that sent messages, by its record."""

    run_id: str
    began: dt.datetime  # UTC, without a zone
    messages: int


def refuse_older_database(engine: Engine, book: Book, settings: Settings) -> None:
    """Stop where the database was put back to a state before runs of this folder.

    Raises:
        GuardError: it was, and `allow_older_database` is not set.
        DatabaseError: it cannot be asked.
    """
    staging = Staging(engine, settings.send_table, shard=settings.part)
    with database.reading(engine) as connection:
        if not all(database.has_table(connection, table) for table in (submission_log, facts)):
            return
        compared = staging.fact(connection, COMPARED_FACT) or ""
        late = _after(compared, list(_entered_late(book)))
        sendings = _sendings(book, late, settings.send_table)
        lost = [one for one in sendings if _is_lost(connection, staging.name, one)]
    if lost and not settings.allow_older_database:
        raise _error(lost)
    if late:
        newest = late[-1]
        staging.in_transaction(lambda writing: staging.set_fact(writing, COMPARED_FACT, newest))


def _after(compared: str, run_ids: Sequence[str]) -> Sequence[str]:
    """Those of some runs, in the ledger's order, that were not looked into yet.

    Not by their ids where that can be helped: one may be of a night whose clock was a year ahead.
    """
    if compared in run_ids:
        return run_ids[run_ids.index(compared) + 1 :]
    return [run_id for run_id in run_ids if run_id > compared]


def _entered_late(book: Book) -> Iterator[str]:
    """Runs whose end the database did not have when a later run began; mostly none.

    They come in the ledger's order.
    """
    if book.database is None:
        return
    chain = ledger.entries(book.outputs)
    rows = book.database.rows(book.place, chain)
    for entry in chain:
        if entry is None or entry["kind"] not in ledger.FINAL or entry.get("database") != book.mark:
            continue
        row = rows.get(entry["hash"])
        if (row is None or row.is_late) and records.is_run_id(str(entry.get("run_id"))):
            yield str(entry["run_id"])


def _sendings(book: Book, run_ids: Sequence[str], table: str) -> Iterator[Sending]:
    """Those of some runs that sent messages of a table; what has no readable record is left out."""
    senders = {stage.name for stage in STAGES if stage.sends}
    for run_id in run_ids:
        try:
            record = records.read(records.folder_of(book.outputs, run_id))
            began = dt.datetime.fromisoformat(record.started_at)
        except (RecordError, ValueError):
            continue
        asked = record.parameters
        sent_from = "anon_table" if asked.get("source") == "anonymised" else "staging_table"
        if asked.get(sent_from, table) != table:
            continue
        sent = sum(s.counts.get("sent", 0) for s in record.stages if s.name in senders)
        if sent:
            yield Sending(run_id, began.astimezone(dt.UTC).replace(tzinfo=None), int(sent))


def _is_lost(connection: Connection, table: str, one: Sending) -> bool:
    """Whether the log has older attempts and none of this run.

    A log that begins later was begun anew, or its older rows were deleted when their time was over.
    """
    log = submission_log.c
    of_table = log.staging_table == table
    oldest = select(log.started_at).where(of_table).order_by(log.id).limit(1)
    first = connection.execute(oldest).scalar()
    if first is None or first >= one.began:
        return False
    of_run = select(log.id).where(of_table, log.run_id == one.run_id).limit(1)
    return connection.execute(of_run).first() is None


def _error(lost: Sequence[Sending]) -> GuardError:
    messages = counted(sum(one.messages for one in lost), "message")
    runs = counted(len(lost), "run")
    return GuardError(
        f"The database is older than the run records: of {runs} that sent {messages} up to "
        f"{max(one.began for one in lost):%Y-%m-%d}, it knows nothing. It was put back to an "
        "earlier state, so what the receiver holds is not known here.",
        hint="Have the newest state restored. Where that is not to be had, docs/convergence.md, "
        "*A database that was put back*, says how to go on, with -p allow_older_database=true.",
    )
