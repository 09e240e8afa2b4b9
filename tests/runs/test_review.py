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
    assert review.plot_runs(runs, "submit: acknowledged").data.startswith(b"\x89PNG")


@pytest.mark.parametrize("seconds", [600.0, 0.4, None])
def test_dots_of_equal_height_are_not_cut(tmp_path: Path, seconds: float | None) -> None:
    for day in (1, 2, 3):
        make(tmp_path, day, seconds=seconds)
    runs = review.load_runs(Folder(tmp_path))
    for panel in review.draw_runs(runs, "submit: acknowledged").axes:
        heights = [height for dots in panel.collections for _, height in dots.get_offsets()]
        low, high = panel.get_ylim()
        assert len(heights) == 3 and low == 0
        assert all(height < 0.95 * high for height in heights if height == height)


@pytest.mark.parametrize("last_days", [None, 7])
def test_no_runs_are_no_error(tmp_path: Path, last_days: int | None) -> None:
    runs = review.load_runs(Folder(tmp_path / "none"), last_days=last_days)
    assert len(runs) == 0
    assert review.summarise_counts(runs).empty
    review.plot_runs(runs, "submit: acknowledged")
