"""`outputs/index.html`: all runs in one page that loads nothing, for managers and auditors."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from d2i_helpers.database.plain_message import without_controls
from d2i_helpers.errors import RecordError
from d2i_helpers.files import make_private_folder, write_atomic
from d2i_helpers.runs import records
from d2i_helpers.runs.records import RunRecord

PAGE_FILE = "index.html"
KEY_COUNTS = 5


def write_report(outputs: Path) -> Path:
    """Write the page over all records in the folder.

    Returns:
        The page.

    Raises:
        RecordError: it could not be written.
    """
    make_private_folder(outputs)
    rows = [_plain(_row(folder)) for folder in records.folders(outputs)]
    content = {"made": records.now(), "runs": rows}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    # in a script element only these two could end it or start a comment
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028")
    template = resources.files(__package__).joinpath("templates/report.html").read_text("utf-8")
    page = outputs / PAGE_FILE
    write_atomic(page, template.replace("/*DATA*/", text, 1).encode())
    return page


def _plain(value: Any) -> Any:
    """The same value without control codes in its texts."""
    if isinstance(value, dict):
        return {_plain(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return without_controls(value) if isinstance(value, str) else value


def _row(folder: Path) -> dict[str, Any]:
    """What the page shows of one record."""
    try:
        record = records.read(folder)
    except RecordError as error:
        return _damaged(folder.name, error.message)
    return {
        "run_id": folder.name,  # becomes a link, so it is not read from the record
        "profile": record.profile,
        "status": records.state_of(record),
        "dry_run": records.DRY_RUN if record.is_dry else "",
        "started_at": record.started_at,
        "seconds": record.seconds,
        "error": record.error["message"] if record.error else None,
        "counts": {f"{s.name}: {name}": n for s in record.stages for name, n in s.counts.items()},
        "key_counts": _key_counts(record),
        "pages": [
            (stage.name, page)
            for stage in record.stages
            if (page := str(Path(stage.notebook).with_suffix(".html"))) in record.files
        ],
    }


def _damaged(run_id: str, why: str) -> dict[str, Any]:
    digits = run_id.replace("T", "")
    day, time = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}", digits[8:14]
    return {
        "run_id": run_id,
        "profile": "",
        "status": "damaged",
        "dry_run": "",
        "started_at": f"{day}T{time[:2]}:{time[2:4]}:{time[4:]}Z",
        "seconds": None,
        "error": why,
        "counts": {},
        "key_counts": "",
        "pages": [],
    }


def _key_counts(record: RunRecord) -> str:
    """The counts of the last stage that had some, without zeros."""
    counts = next((stage.counts for stage in reversed(record.stages) if stage.counts), {})
    shown = [f"{name.replace('_', ' ')} {number:,}" for name, number in counts.items() if number]
    return ", ".join(shown[:KEY_COUNTS]) or ("nothing to do" if counts else "")
