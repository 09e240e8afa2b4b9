"""The ledger: `outputs/ledger.jsonl`, one line for every event of a run record, chained by hashes.

Each entry holds the hash of the entry before it, so that altering, removing, adding or moving one
breaks the chain from there on (`sequence`). A chain cannot show that somebody else cut it off,
continued it or computed it anew. Each entry is therefore also kept in the database
(`database_ledger`), and sealed with the ledger key if there is one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from d2i_helpers.errors import RecordError
from d2i_helpers.files import append_line, file_lock, sha256_of
from d2i_helpers.runs import records

LEDGER_FILE = "ledger.jsonl"
LOCK_FILE = ".ledger.lock"
# each of many runs that begin together waits for those before it, and each of them for its database
LOCK_SECONDS = 300.0
START = "0" * 64

STARTED, RESUMED, FINISHED, CLOSED, PRUNED = "started", "resumed", "finished", "closed", "pruned"
SEALED = "sealed"  # belongs to no run: seals all entries before it
OPENING = (STARTED, RESUMED)
FINAL = (FINISHED, CLOSED)
# entries that the database may get later; resuming and pruning need the database at once
CAN_WAIT = (STARTED, *FINAL)

Entry = dict[str, Any]
Chain = Sequence[Entry | None]


def entry_hash(entry: Mapping[str, Any]) -> str:
    """SHA-256 of an entry without its own hash and seal, with keys sorted."""
    content = {key: value for key, value in entry.items() if key not in ("hash", "seal")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seal_of(digest: str, key: bytes) -> str:
    """The keyed digest (HMAC-SHA-256) of an entry's hash, which covers all entries before."""
    return hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()


def is_sealed(entry: Mapping[str, Any], key: bytes) -> bool:
    """Whether the entry has the seal of this key."""
    return hmac.compare_digest(str(entry.get("seal")), seal_of(str(entry.get("hash")), key))


def as_line(entry: Entry) -> str:
    """The entry as it stands in the file, without the end of the line."""
    return json.dumps(entry, separators=(",", ":"))


@contextlib.contextmanager
def held(outputs: Path) -> Iterator[Path]:
    """The ledger's file, with other processes kept out.

    Raises:
        RecordError: another process kept it for `LOCK_SECONDS`.
    """
    with file_lock(outputs / LOCK_FILE, wait_seconds=LOCK_SECONDS):
        yield outputs / LEDGER_FILE


def entries(outputs: Path) -> list[Entry | None]:
    """Every entry in the order of the file; None for a line that is no entry."""
    path = outputs / LEDGER_FILE
    if not path.is_file():
        return []
    chain: list[Entry | None] = []
    for line in path.read_bytes().split(b"\n")[
        :-1
    ]:  # what follows the last line end is an incomplete line
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        chain.append(as_entry(entry))
    return chain


def as_entry(read: Any) -> Entry | None:
    """What was read as JSON, if it can be an entry: by these words entries are looked up."""
    if not isinstance(read, dict):
        return None
    words = (read.get("hash"), read.get("kind"), read.get("database", ""))
    return read if all(isinstance(word, str) for word in words) else None


def facts_of(record: records.RunRecord) -> dict[str, Any]:
    """What an entry says of a run as its record is now."""
    return {
        "run_id": record.run_id,
        "status": record.status,
        "exit_code": record.exit_code,
        "asked_sha256": record.asked(),
        "record_sha256": sha256_of(record.path),
    }


def make_entry(
    chain: Chain, kind: str, facts: Mapping[str, Any], *, key: bytes | None = None
) -> Entry:
    """The entry that follows a chain.

    Args:
        kind: started, resumed, finished, closed (an interrupted run, by a later one), pruned;
            sealed, which belongs to no record.
        facts: what else it says (`facts_of`).
        key: the ledger key.

    Raises:
        RecordError: the chain's last line is no entry.
    """
    last = chain[-1] if chain else None
    if chain and last is None:
        raise RecordError("The ledger's last line is damaged.", hint="Run `d2i runs verify`.")
    entry: Entry = {"entry": len(chain) + 1, "at": records.now(), "kind": kind}
    entry |= {**facts, "before": last["hash"] if last else START}
    entry["hash"] = entry_hash(entry)
    if key is not None:
        entry["seal"] = seal_of(entry["hash"], key)
    return entry


def write(path: Path, entry: Entry) -> int:
    """Write an entry to the end of the ledger's file, which has to be `held`.

    Returns:
        The size of the file before, in bytes: `files.cut_off` takes the entry back.

    Raises:
        RecordError: the file cannot be written; it is as it was.
    """
    if path.is_symlink():
        raise RecordError(
            "The ledger is a symbolic link.", hint="Put the file itself in its place."
        )
    return append_line(path, as_line(entry).encode())


def append(
    outputs: Path,
    kind: str,
    record: records.RunRecord | None,
    *,
    key: bytes | None = None,
    **more: Any,
) -> Entry:
    """Add one event to the chain, in the file only. Arguments and errors as for `make_entry`.

    Args:
        record: the run's; None: the event is of no run.
        more: further facts.

    Raises:
        RecordError: the ledger cannot be written.
    """
    with held(outputs) as path:
        facts = {**(facts_of(record) if record is not None else {}), **more}
        entry = make_entry(entries(outputs), kind, facts, key=key)
        write(path, entry)
    return entry


def name_of(chain: Chain) -> str:
    """The ledger's own name, part of its first entry's hash; empty where it has none."""
    first = chain[0] if chain else None
    return str(first["hash"])[:24] if first else ""


def head(outputs: Path) -> dict[str, Any] | None:
    """Number and hash of the last entry. Kept elsewhere, they prove later that none was changed."""
    return head_of(entries(outputs))


def head_of(chain: Chain) -> dict[str, Any] | None:
    """As `head`, of a ledger that was read."""
    last = next((entry for entry in reversed(chain) if entry), None)
    return {"entry": last.get("entry"), "hash": last.get("hash")} if last else None


def is_from_before_the_database(chain: Chain) -> bool:
    """Whether the first entry was made by a version that kept its ledger in a file only."""
    return bool(chain) and chain[0] is not None and "database" not in chain[0]


def last_by_run(chain: Chain) -> dict[str, Entry]:
    """The latest entry of each run, by its id."""
    return {e["run_id"]: e for e in chain if e and isinstance(e.get("run_id"), str)}


def first_by_run(chain: Chain) -> dict[str, Entry]:
    """The first entry of each run, by its id."""
    return last_by_run([*reversed(chain)])
