"""A run in one line of JSON, for mail, monitoring and the optional webhook; counts only."""

from __future__ import annotations

import threading
from typing import Any

from d2i_helpers.runs import ledger
from d2i_helpers.runs.records import RunRecord

WEBHOOK_SECONDS = 10


def summary_of(record: RunRecord) -> dict[str, Any]:
    """What a monitor wants to know: outcome, stages with their counts, where the record is.

    The ledger's head is part of it: kept by whoever gets the summary, it proves later that no
    record before it was changed.
    """
    return {
        "run_id": record.run_id,
        "profile": record.profile,
        "status": record.status,
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


def post(url: str, record: RunRecord, proxy: str | None, ca_bundle: str | None) -> str | None:
    """Post the summary; a run never fails because its webhook does, and never waits long for it.

    Returns:
        None, or why it could not be posted (without the address, which may hold a key).
    """
    content = {**summary_of(record), "record": record.run_id}  # a path tells of the machine
    said: list[str | None] = []
    # in a thread: a time-out of `requests` starts anew with every byte that trickles in
    sender = threading.Thread(
        target=lambda: said.append(_post(url, content, proxy, ca_bundle)), daemon=True
    )
    sender.start()
    sender.join(WEBHOOK_SECONDS)
    return said[0] if said else f"The webhook did not answer within {WEBHOOK_SECONDS} seconds."


def _post(
    url: str, content: dict[str, Any], proxy: str | None, ca_bundle: str | None
) -> str | None:
    import requests

    try:
        with requests.post(
            url,
            json=content,
            timeout=WEBHOOK_SECONDS,
            proxies={"https": proxy, "http": proxy} if proxy else None,
            verify=ca_bundle or True,
            allow_redirects=False,
            stream=True,  # what it says is of no interest
        ) as answer:
            status = answer.status_code
    except Exception as error:  # not all of requests' own: a missing CA file is an OSError
        return f"The webhook could not be reached ({type(error).__name__})."
    return f"The webhook answered {status}." if status >= 300 else None
