"""Writes events to the ledger: to the file and to the database, one writer of a folder at a time.

The entry goes into the database in a transaction, then into the file, and then the transaction is
committed. So what the database shows is in the file; what only the file has is in the making, or
its maker was killed just then, or the database was away. The next run adds it and marks it as late.
Until then it is not trusted further: no run is closed, resumed or pruned because of it alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from d2i_helpers.errors import DatabaseError, LockError, RecordError, StorageError
from d2i_helpers.files import cut_off, file_lock
from d2i_helpers.runs import ledger, records, sequence, verification
from d2i_helpers.runs.database_ledger import DatabaseLedger, Row
from d2i_helpers.runs.ledger import Chain, Entry
from d2i_helpers.runs.records import RunRecord
from d2i_helpers.runs.run_page import write_run_page
from d2i_helpers.runs.verification import record_faults

# of whoever closes or prunes a run; not the ledger's, which each entry takes
CLOSING_LOCK = ".closing.lock"


class Book:
    """The ledger of one folder of run records, open for writing.

    Args:
        outputs: the folder.
        mark: of the database in which the entries are kept too (`database_ledger.mark_of`).
        database: that database; None where it cannot be opened.
        key: the ledger key, where there is one.
    """

    def __init__(
        self,
        outputs: Path,
        mark: str,
        database: DatabaseLedger | None,
        key: bytes | None = None,
    ) -> None:
        self.outputs, self.mark, self.key = outputs, mark, key
        self.database = database

    @property
    def place(self) -> Path | str:
        """Where the ledger is, for its copy in the database."""
        return self.outputs

    @property
    def kept(self) -> verification.Place:
        """The records of this ledger."""
        return verification.Folder(self.outputs)

    @contextlib.contextmanager
    def record_at(self, run_id: str) -> Iterator[Path | None]:
        """The folder of a record while the block runs; None where there is none."""
        folder = records.folder_of(self.outputs, run_id)
        yield folder if folder.exists() else None

    def refresh(self) -> None:
        """Look what other machines have done; nothing where the ledger is a file."""

    def remove(self, run_id: str) -> None:
        """Remove the files of a record; the ledger stays as it is."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(records.folder_of(self.outputs, run_id))

    def enter(
        self, kind: str, record: RunRecord, *, after: str | None = None, **more: Any
    ) -> str | None:
        """Add one event of a record to the ledger.

        Args:
            kind: as for `ledger.make_entry`.
            after: hash of the run's last entry, where nothing may have happened to it since.
            more: further facts for the entry.

        Returns:
            None, or the reason why only the file has the entry for now.

        Raises:
            LockError: the run has another last entry by now; nothing was written.
            RecordError: the file cannot be written.
            DatabaseError: the database cannot be written, and the event needs it; the file is as
                it was.
        """
        facts = self._facts(kind, record, more)
        with ledger.held(self.outputs) as path:
            return self._enter_next(path, kind, facts, after)[1]

    def _facts(self, kind: str, record: RunRecord, more: Mapping[str, Any]) -> dict[str, Any]:
        facts = {**ledger.facts_of(record), "database": self.mark, **more}
        return {**facts, "process": record.process} if kind in ledger.OPENING else facts

    def _enter_next(
        self, path: Path, kind: str, facts: Mapping[str, Any], after: str | None = None
    ) -> tuple[Entry, str | None]:
        """Enter an event after the last one of the ledger, which is held.

        Returns:
            The entry; and why the database does not have it, or None.
        """
        chain = ledger.entries(self.outputs)
        run_id = str(facts.get("run_id"))
        last = ledger.last_by_run(chain).get(run_id, {})
        if after is not None and last.get("hash") != after:
            raise LockError(
                f"Another process has worked on run {run_id} meanwhile "
                f"(it was {last.get('kind', 'removed')}).",
                hint="`d2i runs list` shows how it stands now.",
            )
        if first := ledger.first_by_run(chain).get(run_id):
            facts = {**facts, "database": first.get("database")}
        entry = ledger.make_entry(chain, kind, facts, key=self.key)
        if kind in ledger.CAN_WAIT:
            return entry, self._write_anyhow(path, chain, entry)
        self._write_both(path, chain, entry)
        return entry, None

    def _write(self, path: Path, entry: Entry) -> int:
        """Write an entry where the ledger is; as `ledger.write`."""
        return ledger.write(path, entry)

    def _take_back(self, path: Path, size: int) -> None:
        """Take the last entry back."""
        cut_off(path, size)

    def seal_history(self) -> Entry:
        """Seal with the ledger key everything that the ledger holds now.

        Raises:
            RecordError: there is no key, or no ledger.
            DatabaseError: the database cannot be written.
        """
        if self.key is None or not ledger.entries(self.outputs):
            raise RecordError(
                "There is nothing to seal." if self.key else "There is no ledger key.",
                hint="Set D2I_LEDGER_KEY, and start a run first.",
            )
        with ledger.held(self.outputs) as path:
            return self._enter_next(path, ledger.SEALED, {"database": self.mark})[0]

    def _needed(self) -> DatabaseLedger:
        if self.database is None:
            raise DatabaseError(
                "The database with the ledger cannot be opened, and this needs it.",
                hint="`d2i check` says why.",
            )
        return self.database

    def _write_both(self, path: Path, chain: Chain, entry: Entry) -> None:
        """Write an entry to file and database, or to none of the two."""
        known, size = self._needed(), None
        try:
            with known.adding(self.place, chain, entry):
                size = self._write(path, entry)
        except BaseException:
            if size is not None and not self._is_known(chain, entry):
                self._take_back(path, size)
            raise

    def _is_known(self, chain: Chain, entry: Entry) -> bool:
        """Whether the database has the entry, although its end of the transaction failed."""
        with contextlib.suppress(DatabaseError):
            return entry["hash"] in self._needed().rows(self.place, [*chain, entry])
        return False

    def _write_anyhow(self, path: Path, chain: Chain, entry: Entry) -> str | None:
        """Write an entry to the file, and to the database with what it lacks, where that works.

        Returns:
            None, or why the database does not have it.
        """
        if self.database is None:
            self._write(path, entry)
            return "the database cannot be opened"
        is_written = False
        try:
            waiting = self._waiting(chain, self.database.rows(self.place, chain))
            self.database.add(self.place, chain, waiting, late=True)
            with self.database.adding(self.place, chain, entry):
                self._write(path, entry)
                is_written = True
        except DatabaseError as error:
            if not is_written:
                self._write(path, entry)
            return error.message
        return None

    def _waiting(self, chain: Chain, rows: dict[str, Row]) -> Iterator[Entry]:
        """Entries that the database lacks and that may have been made while it was away."""
        if rows.keys() - {entry["hash"] for entry in chain if entry}:
            return  # the file is not the one that the database knows: nothing more is taken from it
        faulty = {fault.line for fault in sequence.chain_faults(chain, self.key)}
        of_others: set[str] = set()  # runs with an entry that is not believed
        for line, entry in enumerate(chain, 1):
            if entry is None or entry["hash"] in rows:
                continue
            run_id = str(entry.get("run_id"))
            believed = line not in faulty and run_id not in of_others
            if believed and entry.get("database") == self.mark and entry["kind"] in ledger.CAN_WAIT:
                yield entry
            else:
                of_others.add(run_id)

    def disagreement(self) -> str | None:
        """How the file differs from what the database has; None if it does not.

        Raises:
            DatabaseError: the database cannot be read.
        """
        if self.database is None:
            return None
        for seconds in (*verification.LOOK_AGAIN_SECONDS, None):
            chain, rows = self._file_and_rows(self.database)
            unknown = [e for e in chain if e and e["hash"] not in rows]
            ours = [entry for entry in unknown if entry.get("database") == self.mark]
            not_waiting = any(entry["kind"] not in ledger.CAN_WAIT for entry in ours)
            if not not_waiting or seconds is None:
                break
            time.sleep(seconds)  # another run may be about to commit it
        if rows.keys() - {entry["hash"] for entry in chain if entry}:
            return "entries that the database knows are missing or were altered"
        if sequence.chain_faults(chain, self.key):
            return "entries were altered, added, removed, or made without the ledger key"
        return "the database does not know all of its entries" if not_waiting else None

    def _file_and_rows(self, known: DatabaseLedger) -> tuple[Chain, dict[str, Row]]:
        """The file, and the database as it was just before: what the database shows is in it."""
        rows = known.rows(self.place, ledger.entries(self.outputs))
        return ledger.entries(self.outputs), rows

    # ------------------------------------------------------------------ runs that were killed
    def agrees_on(self, run_id: str) -> bool:
        """Whether file and database have the same last entry of that run, in order.

        Raises:
            DatabaseError: the database cannot be read.
        """
        if self.database is None:
            return False
        chain, rows = self._file_and_rows(self.database)
        if run_id not in ledger.last_by_run(chain):
            return False
        in_file = {e["hash"] for e in chain if e and e.get("run_id") == run_id}
        in_database = {d for d, row in rows.items() if row.entry.get("run_id") == run_id}
        faulty = {fault.line for fault in sequence.chain_faults(chain, self.key)}
        own = {line for line, e in enumerate(chain, 1) if e and e.get("run_id") == run_id}
        return in_file == in_database and not own & faulty

    def close_interrupted(self, *, except_for: str = "", only: str = "") -> Iterator[str]:
        """Close the records of runs that were killed: their state, their files, their entry.

        A run is closed only if database and file agree on it, and if the process that its entry
        names is gone. What `run.json` says does not count.

        Args:
            except_for: a run that is left alone.
            only: the one run to look at; None: all.

        Yields:
            What was done or not done, in words.
        """
        for run_id, entry in ledger.last_by_run(ledger.entries(self.outputs)).items():
            of_interest = not only or run_id == only
            if entry.get("kind") in ledger.OPENING and run_id != except_for and of_interest:
                try:
                    yield from self._close_once(run_id, entry)
                except DatabaseError:
                    yield f"Run {run_id} is not closed: the database cannot be asked about it."
                except StorageError:
                    yield f"Run {run_id} is not closed: the object storage cannot be reached."

    def _close_once(self, run_id: str, entry: Entry) -> list[str]:
        """Close a run unless another process has just done so.

        Two runs that begin together after a kill find the same dead run, and a second end would be
        a fault of the ledger for good.
        """
        with file_lock(self.outputs / CLOSING_LOCK):
            last = ledger.last_by_run(ledger.entries(self.outputs)).get(run_id)
            return list(self._close(run_id, entry)) if last == entry else []

    def _close(self, run_id: str, entry: Entry) -> Iterator[str]:
        try:
            record = records.read(records.folder_of(self.outputs, run_id))
        except RecordError:
            return  # gone or damaged: `verify` says so
        seen = dataclasses.replace(record, process=entry.get("process") or {})
        if entry.get("database") != self.mark or self.database is None or records.may_run(seen):
            return
        faults = [fault.problem for fault in record_faults(run_id, entry, record.folder)]
        if not faults and not self.agrees_on(run_id):
            faults = ["the database knows it otherwise than the ledger's file"]
        if faults:
            yield f"Run {run_id} is not closed: {faults[0]}. `d2i runs verify` says more."
            return
        if self.database.holds_lease(run_id):
            return
        # whatever it says of itself: the run did not live to have its end entered
        records.mark_interrupted(record)
        with contextlib.suppress(RecordError):  # then the page stays as the run left it
            write_run_page(record)
        records.finish(record)
        self.enter(ledger.CLOSED, record)
        yield f"Run {run_id} had been interrupted; its record was closed."
