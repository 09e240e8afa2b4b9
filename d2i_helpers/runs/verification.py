"""Whether run records and the ledger are as they were written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from d2i_helpers.errors import DatabaseError, RecordError
from d2i_helpers.files import sha256_of
from d2i_helpers.runs import anchor, ledger, records


@dataclass(frozen=True)
class Fault:
    """Something that makes a record or the ledger untrustworthy."""

    where: str  # run id, or the ledger's entry
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def verify(outputs: Path, engine: Engine | None = None, head: str | None = None) -> list[Fault]:
    """Everything about the records and the ledger that is not as it was written.

    Args:
        engine: the database with the ledger's head; None: the ledger's end is not checked.
        head: hash of an entry that was kept elsewhere.
    """
    chain = ledger.entries(outputs)
    found = _chain_faults(chain)
    latest: dict[str, dict[str, Any]] = {}
    for entry in chain:
        if entry and isinstance(entry.get("run_id"), str):
            latest[entry["run_id"]] = entry
    kept = {folder.name: folder for folder in records.folders(outputs)}
    for run_id in sorted(latest.keys() | kept.keys()):
        found += record_faults(run_id, latest.get(run_id), kept.get(run_id))
    if engine is not None:
        found += _head_faults(outputs, engine)
    if head and head not in (entry.get("hash") for entry in chain if entry):
        found.append(Fault("ledger", f"the entry with the hash {head[:12]}… is missing"))
    return found


def _chain_faults(chain: Sequence[dict[str, Any] | None]) -> list[Fault]:
    found: list[Fault] = []
    before, number = ledger.START, 0
    for line, entry in enumerate(chain, 1):
        where = f"ledger line {line}"
        if entry is None or "hash" not in entry:
            found.append(Fault(where, "is not an entry: it was altered"))
            number += 1
            continue
        where = f"ledger line {line} (run {entry.get('run_id')}, {entry.get('kind')})"
        own = ledger.entry_hash(entry)
        expected, number = number + 1, entry.get("entry")
        if own != entry["hash"]:
            found.append(Fault(where, "the entry was altered"))
        if number != expected:
            found.append(Fault(where, f"entry {number} stands where {expected} should: "
                               "entries were removed, added or reordered"))  # fmt: skip
        elif entry.get("before") != before:
            found.append(Fault(where, "does not follow the entry before it: "
                               f"entry {expected - 1} was altered or replaced"))  # fmt: skip
        before = entry["hash"]
        number = number if isinstance(number, int) else expected
    return found


def record_faults(run_id: str, entry: dict[str, Any] | None, folder: Path | None) -> list[Fault]:
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
    if entry.get("kind") in ledger.OPENING:
        return []  # running, or killed and not yet closed: nothing has been vouched for
    found = []
    if record.run_id != run_id:
        found.append(Fault(run_id, f"the folder holds the record of run {record.run_id}"))
    if sha256_of(record.path) != entry.get("record_sha256"):
        found.append(Fault(run_id, f"{records.RECORD_FILE} was altered"))
    there = set(records.evidence(folder))
    found += [Fault(run_id, f"{name} is missing") for name in sorted(record.files.keys() - there)]
    found += [Fault(run_id, f"{name} was added") for name in sorted(there - record.files.keys())]
    for name in sorted(there & record.files.keys()):
        if sha256_of(folder / name) != record.files[name]:
            found.append(Fault(run_id, f"{name} was altered"))
    return found


def _head_faults(outputs: Path, engine: Engine) -> list[Fault]:
    try:
        heads = anchor.missing(outputs, engine)
    except DatabaseError as error:
        return [Fault("ledger", f"its end could not be compared with the database: {error}")]
    return [
        Fault(
            "ledger",
            f"entry {head.number}, which the database knows, is missing or was altered: "
            "the end was cut off, or the ledger was replaced",
        )
        for head in heads
    ]
