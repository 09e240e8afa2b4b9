"""The ledger on object storage, open for writing by one of many machines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from d2i_helpers import database
from d2i_helpers.errors import RecordError, StorageError
from d2i_helpers.files import make_private_folder
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.runs.database_ledger import DatabaseLedger, Row, mark_of
from d2i_helpers.runs.ledger import Chain, Entry
from d2i_helpers.runs.object_storage import Taken
from d2i_helpers.runs.records import RunRecord
from d2i_helpers.runs.shared_records import SharedRecords, Waiting, open_shared
from d2i_helpers.settings import Settings, ledger_key, load_secrets


def make_book(
    settings: Settings,
    outputs: Path,
    known: DatabaseLedger | None,
    key: bytes | None,
    shared: SharedRecords | None = None,
) -> Book:
    """The ledger that the settings name, of a folder or on object storage.

    Args:
        known: the database of the profile; None where it cannot be opened.
        key: the ledger key.
        shared: the object storage, where it is open already.

    Raises:
        SettingsError: the package for this kind of storage is not installed.
    """
    shared = shared or open_shared(settings)
    if shared is None:
        return Book(outputs, mark_of(settings), known, key)
    return SharedBook(outputs, mark_of(settings), known, key, shared)


@contextlib.contextmanager
def open_book(settings: Settings, outputs: Path) -> Iterator[Book]:
    """Open the ledger of a folder, with the profile's database and the ledger key.

    Raises:
        SettingsError: the ledger key is too short.
        DatabaseError: the database cannot be opened.
    """
    secrets = load_secrets()
    engine = database.open_database(settings, secrets)
    try:
        known = DatabaseLedger(engine, mark_of(settings), settings.profile)
        yield make_book(settings, outputs, known, ledger_key(secrets))
    finally:
        engine.dispose()


class SharedBook(Book):
    """The ledger on object storage. Arguments as for `Book`.

    Args:
        outputs: the folder of this machine, with a copy of the ledger and what waits.
        shared: the records on object storage.
    """

    def __init__(
        self,
        outputs: Path,
        mark: str,
        database: DatabaseLedger | None,
        key: bytes | None,
        shared: SharedRecords,
    ) -> None:
        super().__init__(outputs, mark, database, key)
        self.shared, self.waiting = shared, Waiting(outputs)
        make_private_folder(outputs)

    @property
    def place(self) -> str:
        """Where the ledger is, for its copy in the database."""
        return self.shared.place

    @property
    def kept(self) -> SharedRecords:
        """The records on the storage."""
        return self.shared

    def enter(
        self, kind: str, record: RunRecord, *, after: str | None = None, **more: Any
    ) -> str | None:
        """As `Book.enter`; with the files of the run.

        Returns:
            None, or why only this folder has the event for now.

        Raises:
            StorageError: the storage cannot be used, and the event needs it.
        """
        facts = self._facts(kind, record, more)
        with ledger.held(self.outputs) as path:
            try:
                self._bring(path)
                return self._enter_with_files(path, kind, facts, after)
            except StorageError as error:
                if kind not in ledger.CAN_WAIT:
                    raise
                self.waiting.add(kind, facts)
                return error.message

    def refresh(self) -> None:
        """Bring this folder's copy of the ledger up to date."""
        self.bring_waiting()

    def bring_waiting(self) -> int:
        """Carry over what waits in this folder.

        Returns:
            How many events it was.

        Raises:
            StorageError: the storage cannot be used; what is left waits on.
        """
        with ledger.held(self.outputs) as path:
            return self._bring(path)

    def _bring(self, path: Path) -> int:
        """Bring the copy of the ledger up to date, and the ledger up to what waits here."""
        self.shared.catch_up(path)
        events = self.waiting.events()
        for file, event in events:
            facts = dict(event)
            kind = facts.pop("kind")
            if not self._has(event):
                self._enter_with_files(path, kind, facts)
            file.unlink()
        return len(events)

    def _enter_with_files(
        self, path: Path, kind: str, facts: Mapping[str, Any], after: str | None = None
    ) -> str | None:
        """Enter an event, with the files that it is about.

        They are there before an end, which vouches for them, and after a beginning: files without
        an entry would be an added record for good, if the run is killed in between.
        """
        folder = records.folder_of(self.outputs, facts["run_id"])
        if kind in ledger.FINAL:
            with contextlib.suppress(RecordError):  # gone or damaged: `verify` says so
                self.shared.push(folder)
        why = self._enter_next(path, kind, facts, after)[1]
        if kind in ledger.OPENING:
            with contextlib.suppress(RecordError, StorageError):  # the end carries all over
                self.shared.push(folder, [])
        return why

    def _has(self, event: Mapping[str, Any]) -> bool:
        """Whether the ledger has an event already: a process was killed before it could say so."""
        same = ("kind", "since", "run_id")
        chain = ledger.entries(self.outputs)
        return any(e and all(e.get(name) == event[name] for name in same) for e in chain)

    def _enter_next(
        self, path: Path, kind: str, facts: Mapping[str, Any], after: str | None = None
    ) -> tuple[Entry, str | None]:
        while True:
            try:
                return super()._enter_next(path, kind, facts, after)
            except Taken:  # another machine was faster, so there is something to catch up with
                self.shared.catch_up(path)

    def _write(self, path: Path, entry: Entry) -> int:
        self.shared.create(entry)
        return super()._write(path, entry)

    def _take_back(self, path: Path, size: int) -> None:
        """Nothing: other machines may have gone on from the entry. `verify` names it."""

    def _file_and_rows(self, known: DatabaseLedger) -> tuple[Chain, dict[str, Row]]:
        rows = known.rows(self.place, ledger.entries(self.outputs))
        with ledger.held(self.outputs) as path:
            self.shared.catch_up(path)
        return ledger.entries(self.outputs), rows

    @contextlib.contextmanager
    def record_at(self, run_id: str) -> Iterator[Path | None]:
        """A copy of the record on the storage; as `Book.record_at`."""
        with self.shared.at(run_id) as folder:
            yield folder

    def remove(self, run_id: str) -> None:
        """Remove a record from the storage, and from this folder."""
        self.shared.remove(run_id)
        super().remove(run_id)
