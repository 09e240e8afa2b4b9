"""`outputs/index.html`: all runs in one page that loads nothing, renewed by every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2i_helpers.errors import RecordError
from d2i_helpers.files import file_lock, make_private_folder, write_atomic
from d2i_helpers.notebook import pictures
from d2i_helpers.notebook.pictures import Point
from d2i_helpers.plain_english import counted
from d2i_helpers.runs import pages, records
from d2i_helpers.runs.records import INDEX_FILE, RUN_PAGE, RunRecord
from d2i_helpers.runs.run_page import counts_by_stage, kind_of, sentence_of

LOCK_FILE = ".index.lock"
MOST_RUNS = 400  # the newest, a year of nights: each run reads their records
MOST_POINTS = 120  # runs in a picture
_MOST_COUNTED = 10**12  # no run counts so far

# what is compared with the run before, in its words there
_COMPARED = (
    ("extract", "in_cohort", "in the cohort"),
    ("delta", "ready_to_send", "to send"),
    ("submit", "acknowledged", "acknowledged"),
    ("submit", "refused", "refused"),
)


def write_report(outputs: Path) -> Path:
    """Write the page over the newest records in the folder.

    Returns:
        The page.

    Raises:
        RecordError: it could not be written, or another run kept it locked.
    """
    make_private_folder(outputs)
    page = outputs / INDEX_FILE
    with file_lock(outputs / LOCK_FILE):  # who writes last has read what all others wrote
        write_atomic(page, _page(outputs), durable=False)
    return page


def _page(outputs: Path) -> bytes:
    folders = records.folders(outputs)
    read = [_read(folder) for folder in folders[-MOST_RUNS:]]
    rows = [_row(read, place) for place in range(len(read))]
    held = counted(len(folders), "run")
    return pages.render(
        "runs.html.j2",
        rows=rows[::-1],
        shown=held if len(rows) == len(folders) else f"The newest {len(rows)} of {held}",
        made=records.now(),
        profiles=sorted({row["profile"] for row in rows if row["profile"]}),
        statuses=sorted({row["status"] for row in rows}),
        pictures=_pictures(rows),
    )


def _read(folder: Path) -> RunRecord | str:
    """A record, or the name of a folder whose record cannot be read."""
    try:
        return records.read(folder)
    except RecordError:
        return folder.name


def _row(read: Sequence[RunRecord | str], place: int) -> dict[str, Any]:
    """What the page shows of one record."""
    record = read[place]
    if isinstance(record, str):
        return _damaged(record)
    try:
        return _shown(record, _before(read, place, record))
    except (AttributeError, KeyError, OSError, TypeError, ValueError):  # it was edited
        return _damaged(record.folder.name)


def _shown(record: RunRecord, before: RunRecord | None) -> dict[str, Any]:
    about = record.environment
    return {
        "run_id": record.folder.name,  # becomes a link, so it is not read from the record
        "page": RUN_PAGE if (record.folder / RUN_PAGE).is_file() else "",
        "profile": record.profile,
        "status": records.state_of(record),
        "exit_code": record.exit_code,
        "dry_run": records.DRY_RUN if record.is_dry else "",
        "started_at": record.started_at,
        "seconds": _number(record.seconds),
        "acknowledged": _number(counts_by_stage(record).get("submit", {}).get("acknowledged")),
        "sentence": sentence_of(record),
        "error": record.error["message"] if record.error else "",
        "compared": _compared(record, before),
        "where": f"{about.get('user', '')} at {about.get('host', '')}" if about else "",
        "pages": [
            (stage.name, page)
            for stage in record.stages
            if (record.folder / (page := str(Path(stage.notebook).with_suffix(".html")))).is_file()
        ],
    }


def _damaged(run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "page": "",
        "profile": "",
        "status": "damaged",
        "exit_code": None,
        "dry_run": "",
        "started_at": records.time_of_id(run_id).isoformat(),
        "seconds": None,
        "acknowledged": None,
        "sentence": "",
        "error": "The record cannot be read; d2i runs verify says more.",
        "compared": "",
        "where": "",
        "pages": [],
    }


def _before(read: Sequence[RunRecord | str], place: int, record: RunRecord) -> RunRecord | None:
    """The last completed run before it that it can be compared with."""
    kind = kind_of(record)
    for other in reversed(read[:place]):
        if isinstance(other, RunRecord) and kind.fits(kind_of(other)) and _is_complete(other):
            return other
    return None


def _is_complete(record: RunRecord) -> bool:
    return record.status in (records.COMPLETED, records.ATTENTION)


def _compared(record: RunRecord, before: RunRecord | None) -> str:
    """How the main counts differ from those of the run before, in words."""
    if before is None:
        return ""
    ours, theirs = counts_by_stage(record), counts_by_stage(before)
    said = []
    for stage, name, words in _COMPARED:
        now, then = ours.get(stage, {}).get(name), theirs.get(stage, {}).get(name)
        if now is not None and then is not None and now != then:
            said.append(f"{now - then:+,} {words}")
    if not said:
        return "as before" if _is_complete(record) and ours.keys() & theirs.keys() else ""
    return ", ".join(said)


def _pictures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Durations and acknowledged children of the newest runs.

    Args:
        rows: oldest first.
    """
    drawn = (
        ("Duration, seconds", "seconds", "seconds"),
        ("Children acknowledged", "children", "acknowledged"),
    )
    shown = []
    for title, unit, name in drawn:
        points = [
            Point(records.time_of_id(row["run_id"]), row[name], row["status"])
            for row in rows[-MOST_POINTS:]
            if row[name] is not None
        ]
        if points:
            shown.append(pictures.over_time(title, points, unit))
    return shown


def _number(value: Any) -> float | None:
    """A number of a record; None for anything else, such as one that no run counts."""
    if type(value) not in (int, float) or not abs(value) < _MOST_COUNTED:
        return None
    return int(value) if value == int(value) else value
