"""Old run records, removed: a tombstone in the ledger keeps the chain whole."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from d2i_helpers.errors import RecordError
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.verification import record_faults


def prune(outputs: Path, run_ids: Sequence[str], *, reason: str) -> list[str]:
    """Remove these records; a tombstone in the ledger says so, and the chain still verifies.

    Returns:
        Ids of the records that were removed; running ones are kept.

    Raises:
        RecordError: a record is not as the ledger has it: evidence of that is not thrown away.
    """
    removed = []
    latest = ledger.last_by_run(outputs)
    for run_id in run_ids:
        folder = outputs / run_id
        if latest.get(run_id, {}).get("kind") == ledger.PRUNED:  # an earlier prune was cut short
            shutil.rmtree(folder)
            continue
        faults = record_faults(run_id, latest.get(run_id), folder)
        if faults:
            raise RecordError(
                f"The record {run_id} is not pruned: {faults[0].what}.",
                hint="`d2i runs verify` shows all; move the folder away yourself when it is clear.",
            )
        if latest[run_id]["kind"] in ledger.OPENING:
            continue
        record = records.read(folder)
        ledger.append(outputs, ledger.PRUNED, record, reason=reason)
        shutil.rmtree(folder)
        removed.append(run_id)
    return removed
