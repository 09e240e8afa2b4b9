"""Run records as a table and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d2i_helpers.runs import review
from d2i_helpers.runs.records import RunRecord, StageRecord


class Folder:
    """As much of the settings as `review` asks for."""

    def __init__(self, outputs: Path) -> None:
        self.outputs_dir = str(outputs)
        self.path = Path


def make(outputs: Path, day: int, **values: Any) -> None:
    run_id = f"202608{day:02d}T020000-00aa"
    stage = StageRecord("submit", "04_submit.ipynb", "completed", counts={"acknowledged": day})
    record = RunRecord(outputs / run_id, run_id, "demo", {}, {}, [stage], status="completed")
    record.started_at, record.seconds = f"2026-08-{day:02d}T02:00:00Z", 10.0 * day
    for name, value in values.items():
        setattr(record, name, value)
    record.folder.mkdir(parents=True)
    record.save()


def test_runs_become_a_table_and_a_picture(tmp_path: Path) -> None:
    make(tmp_path, 2, status="failed", error={"name": "TokenError", "message": "No token."})
    make(tmp_path, 1)
    (tmp_path / "20260803T020000-00aa").mkdir()
    runs = review.load_runs(Folder(tmp_path))
    assert list(runs["status"]) == ["completed", "failed"]
    assert list(runs["submit: acknowledged"]) == [1, 2]
    assert runs["error"].iloc[1] == "TokenError"
    assert review.summarise_counts(runs).loc["submit: acknowledged", "mean"] == 1.5
    shown = review.plot_runs(runs, "submit: acknowledged").data
    assert shown.count("data:image/svg+xml") == 2
    assert "submit: acknowledged, in children: 2 from 01 Aug 2026 to 02 Aug 2026" in shown
    assert "1 completed, 1 failed" in shown
    table = review.show_table("Runs", runs[["run_id", "status", "seconds", "error"]]).data
    assert "20260802T020000-00aa" in table and ">TokenError<" in table and ">20<" in table
    assert "nan" not in table


def test_a_run_without_a_duration_is_left_out_of_the_picture(tmp_path: Path) -> None:
    make(tmp_path, 1)
    make(tmp_path, 2, seconds=None, status="interrupted")
    shown = review.plot_runs(review.load_runs(Folder(tmp_path)), "no such count").data
    assert "Duration, in seconds: 1 from" in shown


@pytest.mark.parametrize("last_days", [None, 7])
def test_no_runs_are_no_error(tmp_path: Path, last_days: int | None) -> None:
    runs = review.load_runs(Folder(tmp_path / "none"), last_days=last_days)
    assert len(runs) == 0
    assert review.summarise_counts(runs).empty
    review.plot_runs(runs, "submit: acknowledged")
