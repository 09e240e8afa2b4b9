"""The ledger: `outputs/ledger.jsonl`, one line for every event of a run record, chained by hashes.

Each entry holds the hash of the entry before it, so that none can be altered, taken out, added or
moved without breaking the chain from there on. Where the chain ends cannot be seen in the chain:
its head is therefore also kept in the database (`anchor`), where a record's owner can look it up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, insert, select

from d2i_helpers import database
from d2i_helpers.errors import DatabaseError, RecordError
from d2i_helpers.files import append_line, file_lock, sha256_of
from d2i_helpers.runs import records
from d2i_helpers.tables import facts

LEDGER_FILE = "ledger.jsonl"
LOCK_FILE = ".ledger.lock"
START = "0" * 64

STARTED, RESUMED, FINISHED, CLOSED, PRUNED = "started", "resumed", "finished", "closed", "pruned"
OPENING = (STARTED, RESUMED)


@dataclass(frozen=True)
class Fault:
    """Something that makes a record or the ledger untrustworthy."""

    where: str  # run id, or the ledger's entry
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def entry_hash(entry: dict[str, Any]) -> str:
    """SHA-256 of an entry without its own hash, with keys sorted."""
    content = {key: value for key, value in entry.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def _held(outputs: Path) -> Iterator[Path]:
    with file_lock(outputs / LOCK_FILE):
        yield outputs / LEDGER_FILE


def entries(outputs: Path) -> list[dict[str, Any] | None]:
    """Every entry in the order of the file; None for a line that is no entry."""
    path = outputs / LEDGER_FILE
    if not path.is_file():
        return []
    found: list[dict[str, Any] | None] = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last end is a torn line
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        found.append(entry if isinstance(entry, dict) else None)
    return found


def append(outputs: Path, kind: str, record: records.RunRecord, **more: Any) -> dict[str, Any]:
    """Add one event of a record to the chain.

    Args:
        kind: started, resumed, finished, closed (an interrupted run, by a later one), pruned.
        more: further facts for the entry.

    Returns:
        The entry.

    Raises:
        RecordError: the ledger cannot be written, or its last line is no entry.
    """
    with _held(outputs) as path:
        chain = entries(outputs)
        last = chain[-1] if chain else None
        if chain and last is None:
            raise RecordError("The ledger's last line is damaged.", hint="Run `d2i runs verify`.")
        entry = {
            "entry": len(chain) + 1,
            "at": records.now(),
            "kind": kind,
            "run_id": record.run_id,
            "status": record.status,
            "exit_code": record.exit_code,
            "record_sha256": sha256_of(record.path),
            **more,
            "before": last.get("hash") if last else START,
        }
        entry["hash"] = entry_hash(entry)
        append_line(path, json.dumps(entry, separators=(",", ":")).encode())
    return entry


def last_by_run(outputs: Path) -> dict[str, dict[str, Any]]:
    """The latest entry of each run."""
    return {entry["run_id"]: entry for entry in entries(outputs) if entry and "run_id" in entry}


def close_interrupted(outputs: Path, *, except_for: str = "") -> list[str]:
    """Close the records of runs that were killed: their state, their files, the ledger's entry.

    Args:
        except_for: a run that is left alone.

    Returns:
        Their ids.
    """
    closed = []
    for run_id, entry in last_by_run(outputs).items():
        if entry.get("kind") not in OPENING or run_id == except_for:
            continue
        try:
            record = records.read(outputs / run_id)
        except RecordError:
            continue  # gone or damaged: `verify` says so
        if records.may_be_alive(record.process):
            continue
        if record.status == records.RUNNING:
            records.mark_interrupted(record)
        records.finish(record)
        append(outputs, CLOSED, record)
        closed.append(run_id)
    return closed


# ------------------------------------------------------------------------------------ the anchor
def _anchor_name(chain: Sequence[dict[str, Any] | None]) -> str | None:
    """The ledger's own name: part of its first entry's hash, so that ledgers are told apart."""
    first = chain[0] if chain else None
    return f"ledger {first['hash'][:24]}" if first and "hash" in first else None


def anchor(outputs: Path, engine: Engine, staging_table: str) -> None:
    """Keep the chain's head in the database, so that a shortened ledger is noticed.

    Raises:
        DatabaseError: it could not be written.
    """
    with _held(outputs):
        chain = entries(outputs)
        name, head = _anchor_name(chain), chain[-1] if chain else None
        if name is None or head is None:
            return
        this = (facts.c.staging_table == staging_table) & (facts.c.name == name)
        with database.transaction(engine) as connection:
            if not database.has_table(connection, facts):
                facts.create(connection)
            connection.execute(delete(facts).where(this))
            connection.execute(
                insert(facts).values(
                    staging_table=staging_table, name=name, value=f"{head['entry']} {head['hash']}"
                )
            )


def anchored(outputs: Path, engine: Engine) -> list[tuple[int, str]]:
    """The heads (number and hash of an entry) that the database knows of this ledger.

    Where the ledger is gone or its start was altered, those of any ledger.
    """
    name = _anchor_name(entries(outputs))
    with database.reading(engine) as connection:
        if not database.has_table(connection, facts):
            return []
        query = select(facts.c.name, facts.c.value).where(facts.c.name.like("ledger %"))
        found = {(row.name, row.value) for row in connection.execute(query)}
    own = {value for held, value in found if held == name} or {value for _, value in found}
    return [(int(value.split()[0]), value.split()[1]) for value in sorted(own)]


# ---------------------------------------------------------------------------------- verification
def verify(outputs: Path, engine: Engine | None = None) -> list[Fault]:
    """Everything about the records and the ledger that is not as it was written.

    Args:
        engine: the database with the anchor; None: the ledger's end is not checked.
    """
    chain = entries(outputs)
    found = _chain_faults(chain)
    latest: dict[str, dict[str, Any]] = {}
    for entry in chain:
        if entry and isinstance(entry.get("run_id"), str):
            latest[entry["run_id"]] = entry
    kept = {folder.name: folder for folder in records.folders(outputs)}
    for run_id in sorted(latest.keys() | kept.keys()):
        found += _record_faults(run_id, latest.get(run_id), kept.get(run_id))
    if engine is not None:
        found += _anchor_faults(chain, outputs, engine)
    return found


def _chain_faults(chain: Sequence[dict[str, Any] | None]) -> list[Fault]:
    found: list[Fault] = []
    before, number = START, 0
    for line, entry in enumerate(chain, 1):
        where = f"ledger line {line}"
        if entry is None or "hash" not in entry:
            found.append(Fault(where, "is not an entry: it was altered"))
            number += 1
            continue
        where = f"ledger line {line} (run {entry.get('run_id')}, {entry.get('kind')})"
        own = entry_hash(entry)
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


def _record_faults(run_id: str, entry: dict[str, Any] | None, folder: Path | None) -> list[Fault]:
    if entry is None:
        return [Fault(run_id, "the record was added: the ledger knows no such run")]
    if entry.get("kind") == PRUNED:
        return [Fault(run_id, "the record is there although it was pruned")] if folder else []
    if folder is None:
        return [Fault(run_id, "the record is missing")]
    try:
        record = records.read(folder)
    except RecordError as error:
        return [Fault(run_id, f"{records.RECORD_FILE} is missing or damaged ({error.message})")]
    if entry.get("kind") in OPENING:
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


def _anchor_faults(
    chain: Sequence[dict[str, Any] | None], outputs: Path, engine: Engine
) -> list[Fault]:
    try:
        heads = anchored(outputs, engine)
    except DatabaseError as error:
        return [Fault("ledger", f"its end could not be compared with the database: {error}")]
    hashes = {entry.get("hash") for entry in chain if entry}
    return [
        Fault("ledger", f"entry {number}, which the database knows, is missing or was altered")
        for number, digest in heads
        if digest not in hashes
    ]


# --------------------------------------------------------------------------------------- pruning
def prune(outputs: Path, run_ids: Sequence[str], *, reason: str) -> list[str]:
    """Remove these records; a tombstone in the ledger says so, and the chain still verifies.

    Returns:
        Ids of the records that were removed; running ones are kept.

    Raises:
        RecordError: a record is not as the ledger has it: evidence of that is not thrown away.
    """
    removed = []
    latest = last_by_run(outputs)
    for run_id in run_ids:
        folder = outputs / run_id
        if latest.get(run_id, {}).get("kind") == PRUNED:  # an earlier prune was cut short
            shutil.rmtree(folder)
            continue
        faults = _record_faults(run_id, latest.get(run_id), folder)
        if faults:
            raise RecordError(
                f"The record {run_id} is not pruned: {faults[0].what}.",
                hint="`d2i runs verify` shows all; move the folder away yourself when it is clear.",
            )
        if latest[run_id]["kind"] in OPENING:
            continue
        record = records.read(folder)
        append(outputs, PRUNED, record, reason=reason)
        shutil.rmtree(folder)
        removed.append(run_id)
    return removed
