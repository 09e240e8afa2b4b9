"""Run records as a table and as pictures, for `notebooks/review_runs.ipynb`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from d2i_helpers.database.plain_message import without_controls
from d2i_helpers.errors import RecordError
from d2i_helpers.notebook import pictures
from d2i_helpers.runs import records, verification
from d2i_helpers.runs.known_databases import known_databases
from d2i_helpers.runs.shared_records import open_shared
from d2i_helpers.settings import Settings, ledger_key, load_secrets

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML


def load_runs(settings: Settings, *, last_days: int | None = None) -> pd.DataFrame:
    """One row a run, oldest first, with a column for each count (``stage: name``).

    Args:
        last_days: only runs of so many days; None: all.

    Returns:
        Index: start of the run (UTC); columns ``run_id``, ``profile``, ``status``, ``exit_code``,
        ``seconds``, ``error`` (its class), then the counts. Damaged records are left out: `faults`
        names them.
    """
    import pandas as pd

    rows = []
    for folder in records.folders(settings.path(settings.outputs_dir)):
        try:
            rows.append(_row(records.read(folder)))
        except RecordError:
            continue
    start = ["run_id", "profile", "status", "exit_code", "seconds", "error"]
    frame = pd.DataFrame(rows, columns=None if rows else ["started", *start])
    frame["started"] = pd.to_datetime(frame["started"], utc=True)
    frame = frame.set_index("started").sort_index()
    if last_days is not None and len(frame):
        frame = frame[frame.index >= pd.Timestamp.now(tz="UTC") - pd.Timedelta(days=last_days)]
    return frame


def _row(record: records.RunRecord) -> dict[str, Any]:
    counts = {f"{s.name}: {name}": n for s in record.stages for name, n in s.counts.items()}
    return {
        "started": record.started_at,
        "run_id": record.run_id,
        "profile": record.profile,
        "status": records.state_of(record),
        "exit_code": record.exit_code,
        "seconds": record.seconds,
        "error": record.error["name"] if record.error else None,
        **counts,
    }


def summarise_counts(runs: pd.DataFrame) -> pd.DataFrame:
    """For every count: number of runs that have it, mean, least and most."""
    counts = runs.filter(like=": ")
    if counts.empty:
        return counts
    return counts.describe().T[["count", "mean", "min", "max"]].round(1)


def plot_runs(runs: pd.DataFrame, count: str) -> HTML:
    """Duration and one count of every run over time, marked by outcome.

    Args:
        runs: as `load_runs` gives them.
        count: name of a column of counts; if there is no such column, only the duration is drawn.

    Returns:
        What a notebook shows.
    """
    from IPython.display import HTML

    drawn = {"seconds": ("Duration", "seconds"), count: (count.replace("_", " "), "children")}
    shown = []
    for name, (title, unit) in drawn.items():
        if name in runs.columns:
            numbers = zip(runs.index, runs[name], runs["status"], strict=True)
            points = [
                pictures.Point(started.to_pydatetime(), _whole(number), str(status))
                for started, number, status in numbers
                if number is not None and not math.isnan(number)
            ]
            shown.append(pictures.over_time(title, points, unit))
    return HTML("".join(shown))


def show_table(title: str, frame: pd.DataFrame) -> HTML:
    """A table of runs or counts as a notebook shows it; its index is the first column."""
    from IPython.display import HTML

    names = [str(frame.index.name or ""), *map(str, frame.columns)]
    rows = [[_said(index), *map(_said, row)] for index, row in zip(
        frame.index, frame.itertuples(index=False), strict=True
    )]  # fmt: skip
    right = [False, *(bool(kind.kind in "if") for kind in frame.dtypes)]
    return HTML(pictures.table(title, [name.replace("_", " ") for name in names], rows, right))


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _said(value: Any) -> str:
    """A value of a table of runs as text; records hold numbers and words of this project only."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float):
        return pictures.said(_whole(value))
    return f"{value:%Y-%m-%d %H:%M}" if hasattr(value, "strftime") else without_controls(str(value))


def faults(settings: Settings) -> list[str]:
    """What `d2i runs verify` finds; empty if every record is as it was written.

    Raises:
        SettingsError: the ledger key is too short.
        StorageError: the records are on object storage, which cannot be read.
    """
    folder = verification.Folder(settings.path(settings.outputs_dir))
    place: verification.Place = open_shared(settings) or folder
    with known_databases(settings, place.place, ask=True) as known:
        key = ledger_key(load_secrets())
        findings = verification.verify(place, known.databases, key=key)
    return [*map(str, findings.faults), *findings.open_points]
