"""A database that was put back to an earlier state is noticed by what the run records say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, insert, select

from d2i_helpers import database
from d2i_helpers.database.tables import facts, ledger_entries, submission_log
from d2i_helpers.errors import GuardError
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.runs.database_ledger import DatabaseLedger
from d2i_helpers.runs.older_database import COMPARED_FACT, refuse_older_database
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.settings import Settings

MARK = "the database"
TABLE = "ssd_api_data_staging"


class Runs:
    """Runs that sent messages, in a folder and in a database."""

    def __init__(self, outputs: Path, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.book = Book(outputs, MARK, DatabaseLedger(engine, MARK, "demo"))
        self.number = 0

    def run(
        self,
        *,
        sent: int = 3,
        logged: bool = True,
        known: bool = True,
        stopped: bool = False,
        year: int = 2026,
        **asked: str,
    ) -> None:
        """One run; `known`: the database has its entries; `asked`: its parameters.

        ``stopped``: while it sent; ``year``: of its id.
        """
        self.number += 1
        run_id = f"{year}112{self.number}T020000-0000000{self.number}"
        delta = StageRecord("delta", "03_delta.ipynb", "completed")
        stage = StageRecord("submit", "04_submit.ipynb", "completed", counts={"sent": sent})
        if stopped:
            stage.status, stage.counts = "interrupted", {}
        record = RunRecord(self.book.outputs / run_id, run_id, "demo", asked, {}, [delta, stage])
        records.create(record)
        record.started_at = f"2026-11-2{self.number}T02:00:00Z"
        record.save()
        book = self.book if known else Book(self.book.outputs, MARK, None)
        book.enter(ledger.STARTED, record)
        record.status, record.exit_code = ("interrupted", 12) if stopped else ("completed", 0)
        records.finish(record)
        book.enter(ledger.FINISHED, record)
        if logged and sent:
            self.log(run_id, dt.datetime(2026, 11, 20 + self.number, 2, 1))

    def log(self, run_id: str, at: dt.datetime) -> None:
        row = {
            "staging_table": TABLE, "person_id": "A", "run_id": run_id, "batch_id": run_id,
            "attempt": 1, "kind": "document", "phase": "delta", "outcome": "acknowledged",
            "started_at": at,
        }  # fmt: skip
        with database.transaction(self.engine) as connection:
            connection.execute(insert(submission_log), [row])

    def put_back(self, to: int) -> None:
        """Let the database forget everything after so many runs."""
        with database.transaction(self.engine) as connection:
            log = submission_log.c
            kept = [f"2026112{n}T020000-0000000{n}" for n in range(1, to + 1)]
            connection.execute(delete(submission_log).where(log.run_id.not_in(kept)))
            connection.execute(delete(ledger_entries).where(ledger_entries.c.entry > 2 * to))
            connection.execute(delete(facts).where(facts.c.name == COMPARED_FACT))

    def look(self, **parameters: bool) -> None:
        settings = self.settings.model_copy(update=parameters)
        refuse_older_database(self.engine, self.book, settings)

    def stop_until_it_is_allowed(self, said: str) -> None:
        for _ in range(2):  # a run that notices enters what the database lacks, and the next one …
            with pytest.raises(GuardError, match=said):
                self.look()
            self.run(sent=0)  # … finds it there
        self.look(allow_older_database=True)
        self.look()  # what was allowed once is not asked again


@pytest.fixture
def runs(tmp_path: Path, engine: Engine, make_settings: Callable[..., Settings]) -> Runs:
    database.create_staging(engine, TABLE)
    return Runs(tmp_path / "outputs", engine, make_settings())


def test_runs_that_the_database_lost_stop_the_day_until_it_is_allowed(runs: Runs) -> None:
    for _ in range(3):
        runs.run()
    runs.look()
    runs.put_back(to=1)
    runs.stop_until_it_is_allowed("2 runs that sent 6 messages up to 2026-11-23")
    runs.run()
    runs.put_back(to=1)  # a second time
    with pytest.raises(GuardError, match="3 runs"):
        runs.look()


def test_a_run_that_was_stopped_while_it_sent_is_missed_too(runs: Runs) -> None:
    """The server fails in the night, the run with it, and yesterday's backup is restored."""
    runs.run()
    runs.run(stopped=True)
    runs.put_back(to=1)
    runs.stop_until_it_is_allowed("1 run that sent messages up to 2026-11-22")


def test_the_very_first_sending_is_missed_by_a_database_that_knows_of_an_earlier_run(
    runs: Runs,
) -> None:
    """A trial extract, a backup, the first load, the backup again: the log has no row at all."""
    runs.run(sent=0)
    runs.run()
    runs.put_back(to=1)
    runs.stop_until_it_is_allowed("1 run that sent 3 messages up to 2026-11-22")


def test_a_database_that_was_made_anew_has_lost_nothing(runs: Runs) -> None:
    runs.run()
    runs.run(stopped=True)
    runs.put_back(to=0)
    runs.look()
    runs.run(sent=0)
    runs.look()


def test_a_run_that_was_stopped_before_it_sent_has_lost_nothing(runs: Runs) -> None:
    runs.run()
    runs.run(stopped=True, logged=False)
    runs.look()
    runs.run()
    runs.look()


def test_a_database_that_was_away_at_both_ends_of_a_run_has_lost_nothing(runs: Runs) -> None:
    runs.run()
    runs.run(known=False)
    runs.run(sent=0, known=False)
    runs.look()
    runs.run()
    runs.look()


def test_each_table_is_asked_about_its_own_runs(runs: Runs) -> None:
    tables = {"staging_table": TABLE, "anon_table": f"{TABLE}_anon"}
    for _ in range(3):
        runs.run(source="anonymised", logged=False, **tables)
    runs.run(source="identifiable", **tables)
    runs.put_back(to=2)
    runs.log("20261120T020000-00000000", dt.datetime(2026, 11, 20))
    with pytest.raises(GuardError, match="1 run that sent 3 messages"):
        runs.look()


def test_a_database_that_was_begun_anew_is_no_older_one(runs: Runs) -> None:
    for _ in range(2):
        runs.run()
    runs.put_back(to=0)
    runs.look()
    runs.run()  # its entries of before are late by now, and its log is younger than these runs
    runs.look()


def test_what_is_known_is_not_looked_for_again(runs: Runs) -> None:
    runs.run()
    runs.run(known=False)
    runs.run()
    runs.look()
    with database.transaction(runs.engine) as connection:  # as a DBA does with what is old
        first = connection.execute(select(submission_log.c.run_id).limit(1)).scalar_one()
        connection.execute(delete(submission_log).where(submission_log.c.run_id != first))
    runs.look()


def test_a_night_whose_clock_was_a_year_ahead_does_not_hide_what_comes_after_it(
    runs: Runs,
) -> None:
    runs.run()
    runs.run(sent=0, known=False, year=2027)  # the database was away when it ended
    runs.look()
    for _ in range(2):
        runs.run()
    with database.transaction(runs.engine) as connection:  # put back to the state before these
        log, entries = submission_log.c, ledger_entries.c
        connection.execute(delete(submission_log).where(log.run_id.like("%3")))
        connection.execute(delete(submission_log).where(log.run_id.like("%4")))
        connection.execute(delete(ledger_entries).where(entries.entry > 4))
    with pytest.raises(GuardError, match="2 runs that sent 6 messages"):
        runs.look()
