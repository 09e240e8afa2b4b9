"""Notices a database that was put back to an earlier state, such as a backup that was restored.

Such a database is whole and agrees with itself, but it knows nothing of what was sent since: a
difference would be made against what the receiver no longer holds, and a child who came and went
meanwhile would stay there. The run records were not put back with it. They name runs that sent
messages; where the submission log has older attempts and none of such a run, it has lost them. So
has an empty log where the database knows of something before that run. A run that was stopped while
it sent has no count of its messages, and often is why a backup was restored: it counts where the
database does not even know that it began.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import facts, submission_log
from d2i_helpers.errors import GuardError, RecordError
from d2i_helpers.plain_english import counted
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.settings import Settings
from d2i_helpers.stages import STAGES
from d2i_helpers.staging import Staging

# id of the newest run whose absence was looked into: it is known to the log, or was allowed
COMPARED_FACT = "compared_with_runs_up_to"

_SENDERS = {stage.name for stage in STAGES if stage.sends}
_LOCKING = {stage.name for stage in STAGES if stage.locks}
_STOPPED = (records.FAILED, records.INTERRUPTED)
_DONE = (records.COMPLETED, records.ATTENTION)


@dataclass(frozen=True)
class LateRun:
    """A run whose beginning or end the database did not have when a later run began."""

    run_id: str
    began_late: bool  # it did not even have the beginning
    is_known_before: bool  # it has something that was entered before this run


@dataclass(frozen=True)
class Sending:
    """A run that sent messages, by its record."""

    run: LateRun
    began: dt.datetime  # UTC, without a zone
    messages: int | None  # None: it was stopped while it sent, and nobody counted them


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
        late = _after(compared, _entered_late(book))
        sendings = _sendings(book, late, settings.send_table)
        lost = [one for one in sendings if _is_lost(connection, staging.name, one)]
    if lost and not settings.allow_older_database:
        raise _error(lost)
    if late:
        newest = late[-1].run_id
        staging.in_transaction(lambda writing: staging.set_fact(writing, COMPARED_FACT, newest))


def _after(compared: str, runs: Sequence[LateRun]) -> Sequence[LateRun]:
    """Those of some runs, in the ledger's order, that were not looked into yet.

    Not by their ids where that can be helped: one may be of a night whose clock was a year ahead.
    """
    run_ids = [run.run_id for run in runs]
    if compared in run_ids:
        return runs[run_ids.index(compared) + 1 :]
    return [run for run in runs if run.run_id > compared]


def _entered_late(book: Book) -> list[LateRun]:
    """Runs that the database knew of late, in the ledger's order of their ends; mostly none."""
    found: list[LateRun] = []
    began_late: set[str] = set()
    is_known = False
    if book.database is None:
        return found
    chain = ledger.entries(book.outputs)
    rows = book.database.rows(book.place, chain)
    for entry in chain:
        if entry is None or entry.get("database") != book.mark:
            continue
        row, run_id = rows.get(entry["hash"]), str(entry.get("run_id"))
        is_late = row is None or row.is_late
        if is_late and entry["kind"] == ledger.STARTED:
            began_late.add(run_id)
        is_end = entry["kind"] in ledger.FINAL and records.is_run_id(run_id)
        if is_end and (is_late or run_id in began_late):
            found.append(LateRun(run_id, run_id in began_late, is_known))
        is_known |= not is_late
    return found


def _sendings(book: Book, runs: Sequence[LateRun], table: str) -> Iterator[Sending]:
    """Those of some runs that sent messages of a table; what has no readable record is left out."""
    for run in runs:
        try:
            record = records.read(records.folder_of(book.outputs, run.run_id))
            began = dt.datetime.fromisoformat(record.started_at)
        except (RecordError, ValueError):
            continue
        asked = record.parameters
        sent_from = "anon_table" if asked.get("source") == "anonymised" else "staging_table"
        if asked.get(sent_from, table) != table:
            continue
        senders = [stage for stage in record.stages if stage.name in _SENDERS]
        sent = sum(counts.get("sent", 0) for s in senders for _, counts in _attempts(s))
        stopped = not sent and run.began_late and _was_stopped_while_it_sent(record)
        if sent or stopped:
            began = began.astimezone(dt.UTC).replace(tzinfo=None)
            yield Sending(run, began, int(sent) if sent else None)


def _attempts(stage: StageRecord) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Status and counts of each attempt at a stage, those before the run was resumed too."""
    for attempt in stage.earlier:
        yield str(attempt.get("status")), attempt.get("counts") or {}
    yield stage.status, stage.counts


def _was_stopped_while_it_sent(record: RunRecord) -> bool:
    """Whether a stage that sends had begun, and did not come to its counts.

    Only after a stage that worked on the tables: else the database may have been away throughout.
    """
    if record.is_dry:
        return False
    database_was_there = False
    for stage in record.stages:
        attempts = list(_attempts(stage))
        if database_was_there and stage.name in _SENDERS:
            return any(status in _STOPPED and not counts for status, counts in attempts)
        database_was_there |= stage.name in _LOCKING and stage.status in _DONE
    return False


def _is_lost(connection: Connection, table: str, one: Sending) -> bool:
    """Whether the log has older attempts and none of this run.

    A log that begins later was begun anew, or its older rows were deleted when their time was over.
    One without any row lost the run where the database has what was entered before it.
    """
    log = submission_log.c
    of_table = log.staging_table == table
    oldest = select(log.started_at).where(of_table).order_by(log.id).limit(1)
    first = connection.execute(oldest).scalar()
    if first is None:
        return one.run.is_known_before
    if first >= one.began:
        return False
    of_run = select(log.id).where(of_table, log.run_id == one.run.run_id).limit(1)
    return connection.execute(of_run).first() is None


def _error(lost: Sequence[Sending]) -> GuardError:
    numbers = [one.messages for one in lost if one.messages is not None]
    messages = counted(sum(numbers), "message") if len(numbers) == len(lost) else "messages"
    runs = counted(len(lost), "run")
    return GuardError(
        f"The database is older than the run records: of {runs} that sent {messages} up to "
        f"{max(one.began for one in lost):%Y-%m-%d}, it knows nothing. It was put back to an "
        "earlier state, so what the receiver holds is not known here.",
        hint="Have the newest state restored. Where that is not to be had, docs/convergence.md, "
        "*A database that was put back*, says how to go on, with -p allow_older_database=true.",
    )
