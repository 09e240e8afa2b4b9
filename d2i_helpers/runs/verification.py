"""Check whether run records and the ledger are as they were written, and say what that rests on."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from d2i_helpers.database.plain_message import without_controls
from d2i_helpers.errors import DatabaseError, RecordError
from d2i_helpers.files import sha256_of
from d2i_helpers.runs import ledger, records, sequence
from d2i_helpers.runs.database_ledger import DatabaseLedger, Row
from d2i_helpers.runs.ledger import Chain, Entry

FURTHER_LOOKS = 2  # at what differs while other runs go on
LOOK_AGAIN_SECONDS = (0.1, 0.4)  # before another look at what another run may be committing
_HASH = re.compile(r"\b[0-9a-f]{64}\b")
_HEAD_IN_JSON = re.compile(r'"ledger":\s*\{\s*"entry":\s*(\d+),\s*"hash":\s*"([0-9a-f]{64})"')
_HEAD_IN_WORDS = re.compile(r"Head of the ledger: entry (\d+), ([0-9a-f]{64})")


@dataclass(frozen=True)
class Fault:
    """Something that makes a record or the ledger untrustworthy."""

    where: str  # run id, or the ledger's entry
    problem: str

    def __str__(self) -> str:
        return without_controls(f"{self.where}: {self.problem}")


class Head(NamedTuple):
    """Number and hash of an entry that were kept elsewhere; number None: not known."""

    digest: str
    entry: int | None = None


@dataclass
class Findings:
    """What `verify` found."""

    faults: list[Fault] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)  # databases that the file was compared with
    open_points: list[str] = field(default_factory=list)  # what could not be compared
    chain: Chain = ()  # the ledger as it was when this was found


class Place(Protocol):
    """Where records and their ledger are."""

    @property
    def place(self) -> Path | str:
        """What identifies it in the database's copy of the ledger."""

    def entries(self) -> Sequence[Entry | None]:
        """The ledger, in its order; None for what is no entry."""

    def ids(self) -> list[str]:
        """Ids of the runs that have a record there."""

    def at(self, run_id: str) -> AbstractContextManager[Path | None]:
        """The folder of a record, or a copy of it; None where there is none."""


class Folder:
    """Records in a folder."""

    def __init__(self, outputs: Path) -> None:
        self.place = outputs

    def entries(self) -> Sequence[Entry | None]:
        """As `Place.entries`."""
        return ledger.entries(self.place)

    def ids(self) -> list[str]:
        """As `Place.ids`."""
        return [folder.name for folder in records.folders(self.place)]

    @contextmanager
    def at(self, run_id: str) -> Iterator[Path | None]:
        """As `Place.at`."""
        folder = self.place / run_id
        yield folder if records.is_run_id(run_id) and folder.is_dir() else None


def verify(
    outputs: Path | Place,
    databases: Sequence[DatabaseLedger] = (),
    heads: Sequence[Head] = (),
    key: bytes | None = None,
) -> Findings:
    """Find everything in the records and the ledger that is not as it was written.

    Args:
        outputs: the folder of the records, or another place of them.
        databases: those that may hold the ledger's entries; none: the file is not compared.
        heads: entries that were kept elsewhere.
        key: the ledger key; None: seals are not checked.

    Raises:
        StorageError: the records are on object storage, which cannot be read.
    """
    place = Folder(outputs) if isinstance(outputs, Path) else outputs
    findings = _look(place, databases, heads, key)
    for _ in range(FURTHER_LOOKS):
        if not findings.faults or findings.chain == place.entries():
            break
        # other runs went on meanwhile, and what they changed half-way is no fault: it has to be
        # there the next time as well
        found = set(findings.faults)
        findings = _look(place, databases, heads, key)
        findings.faults = [fault for fault in findings.faults if fault in found]
    return findings


def _look(
    place: Place, databases: Sequence[DatabaseLedger], heads: Sequence[Head], key: bytes | None
) -> Findings:
    """Everything that differs, in one pass over records and ledger."""
    chain = place.entries()
    findings = Findings(chain=chain)
    if isinstance(place.place, Path) and (place.place / ledger.LEDGER_FILE).is_symlink():
        findings.faults.append(Fault("ledger", f"{ledger.LEDGER_FILE} is a symbolic link"))
    faults = sequence.chain_faults(chain, key)
    findings.faults += [Fault(sequence.where(f.line, chain[f.line - 1]), f.problem) for f in faults]
    doubtful = {fault.line for fault in faults}
    known: dict[str, Row] = {}
    reached = []
    for database in databases:
        if (rows := _rows(database, place, chain, findings)) is not None:
            known |= rows
            reached.append(database)
            # read again, since a run may have been entered in both meanwhile
            findings.faults += _not_in_file(database, place.entries(), rows)
    doubtful |= _compare_file(chain, reached, known, doubtful, findings)
    if any(entry and "seal" in entry for entry in chain) and key is None:
        findings.open_points.append("The seals were not checked: no ledger key is given.")
    findings.open_points += _late(chain, known, key)
    findings.open_points += _carried_over(chain, key)
    findings.faults += _record_faults(place, chain, doubtful, findings)
    findings.faults += _head_faults(chain, heads)
    return findings


def _rows(
    database: DatabaseLedger, place: Place, chain: Chain, findings: Findings
) -> dict[str, Row] | None:
    """What a database has of this ledger; None, with an open point, if it cannot be read."""
    try:
        for seconds in (*LOOK_AGAIN_SECONDS, None):
            rows = database.rows(place.place, chain)
            ours = [e for e in chain if e and e.get("database") == database.mark]
            if seconds is None or all(entry["hash"] in rows for entry in ours):
                break
            time.sleep(seconds)  # a run may be about to commit it
    except DatabaseError as error:
        findings.open_points.append(
            f"The ledger was not compared with the database of {database.name}: {error.message}"
        )
        return None
    lines = [n for n, entry in enumerate(chain, 1) if entry and entry["hash"] in rows]
    findings.compared.append(
        f"Compared with the database of {database.name}: {len(lines)} of {len(chain)} entries"
        + (f" (ledger lines {_ranges(lines)})." if lines else ".")
    )
    return rows


def _not_in_file(
    database: DatabaseLedger, chain: Chain, rows: Mapping[str, Row]
) -> Iterator[Fault]:
    """Entries of the database that are not in the file, or were altered in the database."""
    name, there = ledger.name_of(chain), {entry["hash"] for entry in chain if entry}
    gone: dict[str, int] = {}
    for row in sorted(rows.values(), key=lambda row: (row.ledger, str(row.entry.get("entry")))):
        number, run_id = row.entry.get("entry"), row.entry.get("run_id")
        where = (
            f"database of {database.name}, entry {number} (run {run_id}, {row.entry.get('kind')})"
        )
        if not row.is_intact:
            yield Fault(where, "was altered in the database")
        elif row.digest in there:
            continue
        elif row.ledger == name:
            yield Fault(
                f"ledger, entry {number} (run {run_id}, {row.entry.get('kind')})",
                f"the database of {database.name} knows it and the file does not: it was removed, "
                "altered or replaced in the file, or added to the database",
            )
        else:
            gone[row.ledger] = gone.get(row.ledger, 0) + 1
    for ledger_name, count in gone.items():
        yield Fault(
            "ledger",
            f"the database of {database.name} knows the ledger {ledger_name} of {count} entries, "
            "which stood in this folder: it was removed or replaced",
        )


def _compare_file(
    chain: Chain,
    databases: Sequence[DatabaseLedger],
    known: Mapping[str, Row],
    doubtful: set[int],
    findings: Findings,
) -> set[int]:
    """Note entries of the file that no database has. Returns the lines that cannot be trusted."""
    marks = {database.mark for database in databases}
    first = ledger.first_by_run(chain)
    reached = {
        line: entry
        for line, entry in enumerate(chain, 1)
        if entry
        and (
            entry.get("database") in marks
            or first.get(str(entry.get("run_id")), {}).get("hash") in known
        )
    }
    last_known = max((n for n, e in enumerate(chain, 1) if e and e["hash"] in known), default=0)
    disbelieved = set()
    waiting, elsewhere = [], []
    for line, entry in enumerate(chain, 1):
        if entry is None or entry["hash"] in known:
            continue
        if line not in reached:
            elsewhere.append(line)
        elif line < last_known or entry.get("kind") not in ledger.CAN_WAIT:
            disbelieved.add(line)
            findings.faults.append(
                Fault(
                    sequence.where(line, entry),
                    "the database does not know it: it was added to the file, or removed from the "
                    "database",
                )
            )
        elif line not in doubtful:
            waiting.append(line)
    for line in waiting:
        findings.open_points.append(
            f"{sequence.where(line, chain[line - 1])} is not in the database yet: it could not be "
            "written when the entry was made, or the entry was added to the file or removed from "
            "the database."
        )
    if not databases:
        findings.open_points.append(
            "Not compared with the database: nothing shows whether the ledger was cut off, "
            "continued by somebody else, or replaced as a whole."
        )
    elif elsewhere:
        findings.open_points.append(
            f"Not compared with a database: {len(elsewhere)} of {len(chain)} entries "
            f"(ledger lines {_ranges(elsewhere)}). The database that they name was not reached."
        )
    return disbelieved


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, such as 1-4, 7."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)


def _late(chain: Chain, known: Mapping[str, Row], key: bytes | None) -> Iterator[str]:
    """Open points: entries that came late into the database from the file, and have no seal."""
    for line, entry in enumerate(chain, 1):
        row = known.get(entry["hash"]) if entry else None
        if entry and row and row.is_late and not (key and ledger.is_sealed(entry, key)):
            yield (
                f"{sequence.where(line, entry)} was entered into the database by a later run: "
                "until then only the file vouched for it."
            )


def _carried_over(chain: Chain, key: bytes | None) -> Iterator[str]:
    """Open points: entries that waited in a folder while the object storage was away."""
    for line, entry in enumerate(chain, 1):
        if entry and "since" in entry and not (key and ledger.is_sealed(entry, key)):
            yield (
                f"{sequence.where(line, entry)} waited in the folder of its run since "
                f"{entry['since']}: until it was carried over only that folder vouched for it."
            )


def _record_faults(
    place: Place, chain: Chain, doubtful: set[int], findings: Findings
) -> Iterator[Fault]:
    latest = ledger.last_by_run([e for n, e in enumerate(chain, 1) if n not in doubtful])
    anyhow = ledger.last_by_run(chain)
    kept = set(place.ids())
    for run_id in sorted(anyhow.keys() | kept):
        entry = latest.get(run_id)
        if entry is None and run_id in anyhow:
            yield Fault(run_id, "no entry of this run is to be believed")
            continue
        if entry is None and _is_beginning(run_id):
            findings.open_points.append(
                f"The record {run_id} has no entry in the ledger yet: its run is beginning, or the "
                "record was added."
            )
            continue
        with place.at(run_id) if run_id in kept else nullcontext() as folder:
            if folder is None and entry and _is_not_carried_over_yet(place, entry):
                findings.open_points.append(
                    f"The record {run_id} is not on the object storage yet: its run has just begun."
                )
                continue
            yield from record_faults(run_id, entry, folder)


def _is_beginning(run_id: str) -> bool:
    """Whether a run of that id may be waiting for the ledger, to have its start entered."""
    return _is_now(records.time_of_id(run_id))


def _is_not_carried_over_yet(place: Place, entry: Entry) -> bool:
    """Whether a run may be about to bring its first file to object storage."""
    if isinstance(place.place, Path) or entry.get("kind") not in ledger.OPENING:
        return False
    at = sequence.time_of(entry.get("at"))
    return at is not None and _is_now(at)


def _is_now(at: dt.datetime) -> bool:
    """Whether a time is so near that what began then may still be beginning."""
    return abs((dt.datetime.now(dt.UTC) - at).total_seconds()) < ledger.LOCK_SECONDS


def record_faults(run_id: str, entry: Entry | None, folder: Path | None) -> list[Fault]:
    """What is wrong with one record.

    Args:
        entry: its latest entry in the ledger, if there is one.
        folder: its folder, if there is one.
    """
    if entry is None:
        return [Fault(run_id, "the record was added: the ledger knows no such run")]
    if entry.get("kind") == ledger.PRUNED:
        return [Fault(run_id, "the record is there although it was pruned")] if folder else []
    if folder is None:
        return [Fault(run_id, "the record is missing")]
    try:
        record = records.read(folder)
    except RecordError as error:
        return [Fault(run_id, f"{records.RECORD_FILE} is missing or damaged ({error.message})")]
    if entry.get("kind") in ledger.OPENING:  # running, or killed and not yet closed
        if record.asked() != entry.get("asked_sha256"):
            return [Fault(run_id, "what the run was asked to do was altered since it began")]
        return []
    faults = []
    if record.run_id != run_id:
        faults.append(Fault(run_id, f"the folder holds the record of run {record.run_id}"))
    if sha256_of(record.path) != entry.get("record_sha256"):
        faults.append(Fault(run_id, f"{records.RECORD_FILE} was altered"))
    there = set(records.entries_in(folder))
    faults += [Fault(run_id, f"{name} is missing") for name in sorted(record.files.keys() - there)]
    faults += [Fault(run_id, f"{name} was added") for name in sorted(there - record.files.keys())]
    for name in sorted(there & record.files.keys()):
        if not records.is_plain(folder / name):
            faults.append(Fault(run_id, f"{name} is a link or a folder, and not the file itself"))
        elif sha256_of(folder / name) != record.files[name]:
            faults.append(Fault(run_id, f"{name} was altered"))
    return faults


def read_heads(given: str) -> list[Head]:
    """Read heads that were kept: a hash, or a file with summaries of runs or output of `verify`.

    Raises:
        RecordError: there is no such file, or no head in it.
    """
    if _HASH.fullmatch(given):
        return [Head(given)]
    try:
        text = Path(given).read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise RecordError(
            "`--head` is neither a hash of 64 digits nor a file that can be read.",
            hint="Give the hash, or a file that holds it, such as the mail with the summary.",
        ) from None
    said = [_HEAD_IN_JSON.findall(text), _HEAD_IN_WORDS.findall(text)]
    heads = [Head(digest, int(entry)) for pairs in said for entry, digest in pairs]
    if not heads:
        heads = [Head(digest) for digest in _HASH.findall(text)]
    if not heads:
        raise RecordError(
            f"There is no head of a ledger in {Path(given).name}.",
            hint='It stands in a summary as "ledger": {"entry": …, "hash": …}.',
        )
    return list(dict.fromkeys(heads))


def _head_faults(chain: Chain, heads: Sequence[Head]) -> Iterator[Fault]:
    for head in heads:
        entry = next((entry for entry in chain if entry and entry["hash"] == head.digest), None)
        if entry is None:
            yield Fault("ledger", f"the entry with the hash {head.digest[:12]}… is missing")
        elif head.entry is not None and entry.get("entry") != head.entry:
            yield Fault(
                "ledger",
                f"the entry with the hash {head.digest[:12]}… is number {entry.get('entry')} and "
                f"was number {head.entry}",
            )
