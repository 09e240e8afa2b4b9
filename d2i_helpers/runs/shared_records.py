"""The records of an authority on object storage, where runs of many machines keep one ledger.

    <records_url>/ledger/00000001.json    one object an entry, made exclusively
    <records_url>/runs/<run id>/…         the files of a record

A run works in its own folder (`outputs_dir`) and carries its record over after each stage and at
its end. The folder's `ledger.jsonl` is a copy of the storage's ledger. An entry is made only under
the number that follows the copy's last one, and of two writers the storage refuses one; that one
brings its copy up to date and tries the next number. So there is one chain, whoever writes.

What could not be carried over waits in the folder (`Waiting`), and the next run there brings it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from d2i_helpers.errors import RecordError, StorageError
from d2i_helpers.files import make_private_folder, write_atomic
from d2i_helpers.kernel_protocol import RECORD_FILE
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.ledger import Entry
from d2i_helpers.runs.object_storage import ObjectStorage, Taken
from d2i_helpers.settings import Settings

LEDGER, RUNS = "ledger", "runs"
WAITING_FOLDER = ".waiting"
FIRST_FILE = ".first-on-storage"  # in a folder whose ledger is becoming that of the storage
_AT_ONCE = 500  # entries that are fetched together


class SharedRecords:
    """Records and ledger on object storage."""

    def __init__(self, storage: ObjectStorage) -> None:
        self.storage = storage

    @property
    def place(self) -> str:
        """What identifies the place, in the database's copy of the ledger too."""
        return self.storage.url

    # ------------------------------------------------------------------------------ the ledger
    def entries(self) -> list[Entry | None]:
        """The whole ledger as the storage has it; None for what is missing or is no entry.

        Raises:
            StorageError: the storage cannot be used.
        """
        return self._entries_from(1, self._last_number())

    def _last_number(self) -> int:
        names = self.storage.names(LEDGER)
        return max((int(name[:8]) for name in names if name == _name(_number(name))), default=0)

    def _entries_from(self, first: int, last: int) -> list[Entry | None]:
        chain: list[Entry | None] = []
        for start in range(first, last + 1, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, last + 1))
            found = self.storage.get(f"{LEDGER}/{_name(number)}" for number in numbers)
            chain += [_entry(found.get(f"{LEDGER}/{_name(number)}")) for number in numbers]
        return chain

    def create(self, entry: Entry) -> None:
        """Make an entry under its number.

        Raises:
            Taken: another machine has made one of that number.
            StorageError: the storage cannot be used.
        """
        name = f"{LEDGER}/{_name(entry['entry'])}"
        self.storage.create(name, ledger.as_line(entry).encode())

    def catch_up(self, path: Path) -> None:
        """Bring a folder's copy of the ledger, which has to be `held`, up to the storage's.

        Where the storage has no ledger yet, the folder's own becomes that of the storage.

        Raises:
            StorageError: the storage cannot be used, or has another ledger than the folder, or
                its ledger is damaged.
        """
        own = ledger.entries(path.parent)
        last = self._last_number()
        if last == 0 or (path.parent / FIRST_FILE).exists():
            self._begin_with(path.parent, own)
            return
        following = self._entries_from(max(len(own), 1), last)
        if own and (not following or following.pop(0) != own[-1]):
            raise _another_than(path.parent)
        before = own[-1]["hash"] if own and own[-1] else ledger.START
        for entry in following:
            intact = entry and entry["hash"] == ledger.entry_hash(entry)
            if not entry or not intact or entry.get("before") != before:
                raise StorageError(
                    "The ledger on the object storage is damaged.",
                    hint="`d2i runs verify` says where.",
                )
            ledger.write(path, entry)
            before = entry["hash"]

    def _begin_with(self, outputs: Path, own: Sequence[Entry | None]) -> None:
        """Let a folder's records and its ledger be the first of the storage.

        Where that was cut short, the next run goes on with it; what is there already stays.
        """
        entries = [entry for entry in own if entry is not None]
        if len(entries) < len(own):
            raise StorageError("The ledger is damaged.", hint="Run `d2i runs verify`.")
        if not entries:
            return
        begins = outputs / FIRST_FILE
        write_atomic(begins, b"")
        try:
            self.create(entries[0])  # before any file: of two folders one alone brings its own
            for folder in records.folders(outputs):
                with contextlib.suppress(RecordError):  # damaged: `verify` says so
                    self.push(folder)
            for entry in entries[1:]:
                self.create(entry)
        except Taken:
            begins.unlink()
            raise _another_than(outputs) from None
        begins.unlink()

    # ------------------------------------------------------------------------------ the records
    def ids(self) -> list[str]:
        """Ids of all runs that have files on the storage, oldest first.

        Raises:
            StorageError: the storage cannot be used.
        """
        return [name for name in self.storage.names(RUNS) if records.is_run_id(name)]

    def push(self, folder: Path, names: Sequence[str] | None = None) -> None:
        """Carry the files of a record over, `run.json` last.

        Args:
            names: these files only, and `run.json`; None: all that the record vouches for.

        Raises:
            StorageError: the storage cannot be used.
        """
        record = records.read(folder)
        for name in record.evidence() if names is None else names:
            self.storage.put(f"{RUNS}/{folder.name}/{name}", (folder / name).read_bytes())
        self.storage.put(f"{RUNS}/{folder.name}/{RECORD_FILE}", record.path.read_bytes())

    def fetch(self, run_id: str, into: Path) -> Path:
        """Copy a record from the storage.

        Returns:
            Its folder, below ``into``; with no files where the storage has none of it.

        Raises:
            StorageError: the storage cannot be used.
        """
        folder = make_private_folder(records.folder_of(into, run_id))
        names = [name for name in self.storage.names(f"{RUNS}/{run_id}") if _is_plain_name(name)]
        found = self.storage.get(f"{RUNS}/{run_id}/{name}" for name in names)
        for path, content in found.items():
            write_atomic(folder / path.rpartition("/")[2], content, durable=False)
        return folder

    def fetch_all(self, into: Path, since: str = "") -> int:
        """Copy the ledger and the records into a folder.

        Args:
            since: only records of runs whose id is not before this.

        Returns:
            The number of records.

        Raises:
            StorageError: the storage cannot be used.
        """
        make_private_folder(into)
        ids = [run_id for run_id in self.ids() if run_id >= since]
        for run_id in ids:
            self.fetch(run_id, into)
        lines = [ledger.as_line(entry) if entry else "" for entry in self.entries()]
        write_atomic(into / ledger.LEDGER_FILE, "".join(f"{line}\n" for line in lines).encode())
        return len(ids)

    @contextlib.contextmanager
    def at(self, run_id: str) -> Iterator[Path | None]:
        """A copy of a record for as long as the block runs; None where the storage has none.

        Raises:
            StorageError: the storage cannot be used.
        """
        with tempfile.TemporaryDirectory(prefix="d2i-record-") as folder:
            copy = self.fetch(run_id, Path(folder))
            yield copy if any(copy.iterdir()) else None

    def remove(self, run_id: str) -> None:
        """Remove a record, `run.json` last.

        Raises:
            StorageError: the storage cannot be used.
        """
        names = self.storage.names(f"{RUNS}/{run_id}")
        names.sort(key=lambda name: name == RECORD_FILE)
        self.storage.remove(f"{RUNS}/{run_id}/{name}" for name in names)


def _another_than(outputs: Path) -> StorageError:
    return StorageError(
        f"The ledger in {outputs.name} is not the one on the object storage.",
        hint="If the folder was used before, move it to another place and keep it there. "
        "If not, the ledger on the storage was changed: `d2i runs verify` says how.",
    )


def open_shared(settings: Settings) -> SharedRecords | None:
    """The records on object storage that the settings name; None where they name none.

    Raises:
        SettingsError: the package for this kind of storage is not installed.
    """
    return SharedRecords(ObjectStorage(settings.records_url)) if settings.records_url else None


# ------------------------------------------------------------------------------- what waits
class Waiting:
    """Events of a folder that could not be entered yet, in their order."""

    def __init__(self, outputs: Path) -> None:
        self._folder = outputs / WAITING_FOLDER

    def add(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Keep an event until the storage is back; the ledger has to be `held`.

        Raises:
            RecordError: it cannot be written.
        """
        make_private_folder(self._folder)
        number = max((int(path.stem) for path in self._files()), default=0) + 1
        event = {"kind": kind, "since": records.now(), **facts}
        write_atomic(self._folder / f"{number:08d}.json", json.dumps(event).encode())

    def events(self) -> list[tuple[Path, dict[str, Any]]]:
        """All events with their files, oldest first."""
        return [(path, json.loads(path.read_bytes())) for path in self._files()]

    def _files(self) -> list[Path]:
        # none that a process left unfinished when it was killed
        return sorted(self._folder.glob("[0-9]*.json"))

    def __len__(self) -> int:
        return len(self._files())


def _name(number: int) -> str:
    return f"{number:08d}.json"


def _number(name: str) -> int:
    digits = name[:8]
    return int(digits) if digits.isdecimal() and digits.isascii() else 0


def _is_plain_name(name: str) -> bool:
    return Path(name).name == name and name not in (".", "..")


def _entry(content: bytes | None) -> Entry | None:
    try:
        entry = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return ledger.as_entry(entry)
