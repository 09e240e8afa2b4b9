"""Run records as a table and as pictures, for `notebooks/review_runs.ipynb`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2i_helpers.errors import RecordError
from d2i_helpers.runs import records, verification
from d2i_helpers.runs.known_databases import known_databases
from d2i_helpers.settings import Settings, ledger_key, load_secrets

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

COLOURS = {
    "completed": "#1a7f4b",
    "attention": "#c98500",
    "failed": "#b3261e",
    "interrupted": "#7a3fa0",
    "running": "#1356a8",
}

_ROOM = 1.1  # height of a panel, in heights of its highest dot


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


def plot_runs(runs: pd.DataFrame, count: str) -> Image:
    """Duration and one count of every run over time, coloured by outcome.

    Args:
        runs: as `load_runs` gives them.
        count: name of a column of counts; if there is no such column, only the duration is drawn.

    Returns:
        A picture (PNG) that a notebook shows.
    """
    from IPython.display import Image

    drawn = io.BytesIO()
    draw_runs(runs, count).savefig(drawn, format="png", dpi=110)
    return Image(data=drawn.getvalue(), format="png")


def draw_runs(runs: pd.DataFrame, count: str) -> Figure:
    """The figure that `plot_runs` makes a picture of."""
    from matplotlib.figure import Figure

    shown = {"seconds": "Seconds", count: count.replace("_", " ")}
    names = [name for name in shown if name in runs.columns]
    figure = Figure(figsize=(9, 3 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        panel.plot(runs.index, runs[name], color="#888888", linewidth=0.8)
        for status, part in runs.groupby("status"):
            colour = COLOURS.get(str(status), "#555555")
            panel.scatter(
                part.index, part[name], s=18, color=colour, label=str(status), zorder=3,
                clip_on=False,
            )  # fmt: skip
        panel.set_ylabel(shown[name])
        highest = runs[name].max()  # no number where no run has a value yet
        # from 0, with room for whole dots at the top, where runs of much the same height lie
        panel.set_ylim(0, _ROOM * highest if highest > 0 else 1)
    if len(runs):
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper left", ncols=len(COLOURS), fontsize="small")
    return figure


def faults(settings: Settings) -> list[str]:
    """What `d2i runs verify` finds; empty if every record is as it was written.

    Raises:
        SettingsError: the ledger key is too short.
    """
    outputs: Path = settings.path(settings.outputs_dir)
    with known_databases(settings, outputs, ask=True) as known:
        key = ledger_key(load_secrets())
        findings = verification.verify(outputs, known.databases, key=key)
    return [*map(str, findings.faults), *findings.open_points]
