"""A run as one line of JSON with counts only, for mail, monitoring and the optional webhook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from d2i_helpers.errors import D2IError
from d2i_helpers.runs import ledger, records
from d2i_helpers.runs.outcome import error_entry
from d2i_helpers.runs.records import RunRecord

WEBHOOK_SECONDS = 10  # to connect, and for the answer


def summary_of(record: RunRecord) -> dict[str, Any]:
    """The summary of a run: outcome, stages with their counts, folder of the record.

    It holds the ledger's head. Kept with the summary, the head proves later that no earlier record
    was changed.
    """
    return {
        "run_id": record.run_id,
        "profile": record.profile,
        "shard": record.parameters.get("shard"),
        "status": record.status,
        "dry_run": record.is_dry,
        "exit_code": record.exit_code,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "seconds": record.seconds,
        "stages": [
            {"name": s.name, "status": s.status, "seconds": s.seconds, "counts": s.counts}
            for s in record.stages
        ],
        "error": record.error,
        "warnings": record.warnings,
        "record": str(record.path),
        "ledger": ledger.head(record.folder.parent),
    }


def summary_without_record(error: D2IError) -> dict[str, Any]:
    """The summary of a run that was refused before it had a record."""
    return {
        "run_id": None,
        "status": records.FAILED,
        "exit_code": error.exit_code,
        "stages": [],
        "error": error_entry(error),
        "record": None,
    }


def post(url: str, record: RunRecord, proxy: str | None, ca_bundle: Path | None) -> str | None:
    """Post the summary. A run never fails because of its webhook, and never waits long for it.

    Args:
        proxy: its address; None: as the environment says.
        ca_bundle: absolute path of the file of CA certificates to trust.

    Returns:
        None, or why it could not be posted (without the address, which may hold a key).
    """
    from d2i_helpers.submit.sessions import TIMED_OUT, Session, exchange

    content = {
        **summary_of(record),
        "record": record.run_id,
    }  # the path would tell about the machine
    if ca_bundle and not ca_bundle.exists():
        return "The webhook could not be reached (there is no such file as `ca_bundle` names)."
    with Session() as session:
        answer = exchange(
            session,
            url,
            timeout=(WEBHOOK_SECONDS, WEBHOOK_SECONDS),
            json=content,
            proxies={"https": proxy, "http": proxy} if proxy else None,
            verify=str(ca_bundle) if ca_bundle else True,
        )
    if answer.status is not None:  # what else it says is of no interest
        return f"The webhook answered {answer.status}." if answer.status >= 300 else None
    if answer.problem == TIMED_OUT:
        return f"The webhook did not answer within {WEBHOOK_SECONDS} seconds."
    return f"The webhook could not be reached ({answer.problem})."
