"""Remove old run records. A tombstone in the ledger keeps the chain whole."""

from __future__ import annotations

from collections.abc import Sequence

from d2i_helpers.errors import LockError, RecordError
from d2i_helpers.files import file_lock
from d2i_helpers.plain_english import counted
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.bookkeeping import CLOSING_LOCK, Book
from d2i_helpers.runs.verification import record_faults


def prune(book: Book, run_ids: Sequence[str], *, reason: str) -> list[str]:
    """Remove these records, and write a tombstone for each into the ledger.

    Returns:
        Ids of the removed records. Running ones and those of other databases are kept.

    Raises:
        RecordError: a record is not as the ledger and the database have it; it is kept as evidence.
            The others are removed all the same.
        DatabaseError: the database cannot be written; the record stays.
    """
    book.refresh()
    removed: list[str] = []
    kept: list[RecordError] = []
    for run_id in run_ids:
        try:
            if _prune_one(book, run_id, reason):
                removed.append(run_id)
        except RecordError as error:
            kept.append(error)
    if kept:
        others = f", like {len(kept) - 1} more" if len(kept) > 1 else ""
        first = kept[0]
        raise RecordError(
            f"{first.message} It is kept{others}; {counted(len(removed), 'record')} removed.",
            hint=first.hint,
        )
    return removed


def _prune_one(book: Book, run_id: str, reason: str) -> bool:
    """Remove a record. Returns whether it was removed, and by this process."""
    # the lock: else of two processes one would see half of what the other removes
    with file_lock(book.outputs / CLOSING_LOCK), book.record_at(run_id) as folder:
        entry = ledger.last_by_run(ledger.entries(book.outputs)).get(run_id, {})
        if entry.get("kind") == ledger.PRUNED and book.agrees_on(run_id):
            book.remove(run_id)  # an earlier prune was cut short, or another machine did it
            return False
        if entry.get("kind") == ledger.PRUNED and folder is None:
            return False  # by another process
        if entry.get("database", book.mark) != book.mark and not book.agrees_on(run_id):
            return False  # its entries are in another database, reached with another profile
        faults = record_faults(run_id, entry or None, folder)
        problem = faults[0].problem if faults else None
        if problem is None and not book.agrees_on(run_id):
            problem = "the database knows it otherwise than the ledger's file, or cannot be asked"
        if problem is not None:
            raise RecordError(
                f"The record {run_id} is not pruned: {problem}.",
                hint="`d2i runs verify` shows all; move the folder away yourself when it is clear.",
            )
        if entry["kind"] in ledger.OPENING:
            return False
        assert folder is not None  # else it had a fault
        try:
            book.enter(ledger.PRUNED, records.read(folder), after=entry["hash"], reason=reason)
        except LockError:
            return False  # it was resumed
        book.remove(run_id)
        return True
