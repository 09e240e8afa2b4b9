"""The trend of data quality over the saved runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from d2i_helpers.kernel_protocol import FIELDS_TITLE, PROBLEMS_TITLE
from d2i_helpers.runs import quality_trend, records
from d2i_helpers.runs.records import RunRecord, StageRecord


def save(settings: Any, run_id: str, good: dict[str, float], problems: dict[str, int]) -> None:
    """A finished run with what its extract found."""
    stage = StageRecord("extract", "01_extract.ipynb", "completed", counts={"in_cohort": 40})
    stage.details = {FIELDS_TITLE: good, PROBLEMS_TITLE: problems}
    folder = settings.path(settings.outputs_dir) / run_id
    record = RunRecord(folder, run_id, settings.profile, {}, {}, [stage])
    records.create(record)
    records.finish(record)


def test_each_run_is_compared_with_the_one_before_and_each_field_with_a_week_ago(
    make_settings: Callable[..., Any],
) -> None:
    settings = make_settings()
    save(settings, "20260801T020000-0001", {"a": 90.0, "b": 50.0}, {"a: not a UPN": 9})
    save(settings, "20260803T020000-0001", {"a": 92.0, "b": 50.0}, {"a: not a UPN": 7})
    save(settings, "20260812T020000-0001", {"a": 91.0, "b": 60.0}, {})
    found = quality_trend.days(settings)
    rows = quality_trend.table(found)
    assert [row["values that cannot be used"] for row in rows] == [0, 7, 9]
    assert [row["change"] for row in rows] == [-7, -2, None]
    assert quality_trend.changes(found, named=str.upper) == [
        {"field": "A", "before": 92.0, "now": 91.0, "change": -1.0},
        {"field": "B", "before": 50.0, "now": 60.0, "change": 10.0},
    ]
    assert quality_trend.changes(found[:1]) == []
    assert quality_trend.days(make_settings(profile="phase5_live")) == []
    days_since = (dt.datetime.now(dt.UTC) - dt.datetime(2026, 8, 12, tzinfo=dt.UTC)).days
    assert len(quality_trend.days(settings, last_days=days_since + 2)) == 1
