"""The ledger: `outputs/ledger.jsonl`, one line for every event of a run record, chained by hashes.

Each entry holds the hash of the entry before it, so that none can be altered, taken out, added or
moved without breaking the chain from there on (`verification`). Where the chain ends cannot be seen
in the chain: its head is therefore also kept in the database (`anchor`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from d2i_helpers.errors import RecordError
from d2i_helpers.files import append_line, file_lock, sha256_of
from d2i_helpers.runs import records

LEDGER_FILE = "ledger.jsonl"
LOCK_FILE = ".ledger.lock"
START = "0" * 64

STARTED, RESUMED, FINISHED, CLOSED, PRUNED = "started", "resumed", "finished", "closed", "pruned"
OPENING = (STARTED, RESUMED)


def entry_hash(entry: dict[str, Any]) -> str:
    """SHA-256 of an entry without its own hash, with keys sorted."""
    content = {key: value for key, value in entry.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def held(outputs: Path) -> Iterator[Path]:
    """The ledger's file, with other processes kept out.

    Raises:
        RecordError: another process kept it for half a minute.
    """
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
    with held(outputs) as path:
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


def head(outputs: Path) -> dict[str, Any] | None:
    """Number and hash of the last entry; kept elsewhere, it proves that nothing before changed."""
    last = next((entry for entry in reversed(entries(outputs)) if entry), None)
    return {"entry": last.get("entry"), "hash": last.get("hash")} if last else None


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
        if records.may_run(record):
            continue
        if record.status == records.RUNNING:
            records.mark_interrupted(record)
        records.finish(record)
        append(outputs, CLOSED, record)
        closed.append(run_id)
    return closed
