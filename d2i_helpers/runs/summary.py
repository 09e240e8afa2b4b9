"""A run in one line of JSON, for mail, monitoring and the optional webhook; counts only."""

from __future__ import annotations

from typing import Any

from d2i_helpers.runs.records import RunRecord

WEBHOOK_SECONDS = 10


def summary_of(record: RunRecord) -> dict[str, Any]:
    """What a monitor wants to know: outcome, stages with their counts, where the record is."""
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
    }


def post(url: str, record: RunRecord, proxy: str | None, ca_bundle: str | None) -> str | None:
    """Post the summary; a run never fails because its webhook does.

    Returns:
        None, or why it could not be posted (without the address, which may hold a key).
    """
    import requests

    content = summary_of(record)
    content["record"] = record.run_id  # a path tells of the machine
    try:
        answer = requests.post(
            url,
            json=content,
            timeout=WEBHOOK_SECONDS,
            proxies={"https": proxy, "http": proxy} if proxy else None,
            verify=ca_bundle or True,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        return f"The webhook could not be reached ({type(error).__name__})."
    if answer.status_code >= 300:
        return f"The webhook answered {answer.status_code}."
    return None
