"""How data quality went over the saved runs: what each extract found, from the run records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from d2i_helpers.errors import RecordError
from d2i_helpers.kernel_protocol import FIELDS_TITLE, PROBLEMS_TITLE
from d2i_helpers.privacy.safe_words import OwnTime
from d2i_helpers.runs import records
from d2i_helpers.settings import Settings


@dataclass(frozen=True)
class Day:
    """What one extract found."""

    run_id: str
    started: dt.datetime  # UTC
    children: int  # in the cohort
    per_cent_good: dict[str, float]  # by the field's path
    problems: dict[str, int]  # by field and rule
    need_attention: int

    @property
    def wrong(self) -> int:
        """Number of values that could not be used."""
        return sum(self.problems.values())


def days(settings: Settings, *, last_days: int | None = None) -> list[Day]:
    """Every saved run of this profile that completed its extract, oldest first.

    Args:
        last_days: only runs of so many days; None: all.
    """
    earliest = dt.datetime.now(dt.UTC) - dt.timedelta(days=last_days or 36500)
    found = []
    for folder in records.folders(settings.path(settings.outputs_dir)):
        if records.time_of_id(folder.name) < earliest:
            continue
        try:
            record = records.read(folder)
        except RecordError:
            continue  # `d2i runs verify` names it
        if record.profile == settings.profile:
            found += [_day(record, stage) for stage in record.stages if _tells(stage)]
    return found


def _tells(stage: records.StageRecord) -> bool:
    return stage.name == "extract" and bool(stage.counts) and FIELDS_TITLE in stage.details


def _day(record: records.RunRecord, stage: records.StageRecord) -> Day:
    problems = stage.details.get(PROBLEMS_TITLE, {})
    return Day(
        record.run_id,
        records.time_of_id(record.run_id),
        int(stage.counts.get("in_cohort", 0)),
        dict(stage.details[FIELDS_TITLE]),
        {name: int(number) for name, number in problems.items()},
        int(stage.counts.get("need_attention", 0)),
    )


def table(found: Sequence[Day], *, most: int = 14) -> list[dict[str, Any]]:
    """A row a run, the newest first: children, values that could not be used, and the change."""
    rows: list[dict[str, Any]] = []
    before: Day | None = None
    for day in found:
        rows.append(
            {
                "run": OwnTime(day.started),
                "children": day.children,
                "values that cannot be used": day.wrong,
                "change": day.wrong - before.wrong if before else None,
                "need attention": day.need_attention,
            }
        )
        before = day
    return rows[::-1][:most]


def changes(
    found: Sequence[Day], *, since_days: int = 7, named: Callable[[str], str] = str
) -> list[dict[str, Any]]:
    """What changed between a week ago and the newest run, by field; the worst first.

    Args:
        since_days: the run that is compared is the newest one that is so old, else the oldest.
        named: gives the name of a field from its path.

    Returns:
        Rows ``field``, ``before``, ``now`` (per cent good) and ``change``; none without two runs.
    """
    if len(found) < 2:
        return []
    newest = found[-1]
    old = [d for d in found[:-1] if newest.started - d.started >= dt.timedelta(days=since_days)]
    before = old[-1] if old else found[0]
    rows = [
        {"field": named(path), "before": before.per_cent_good[path], "now": now,
         "change": round(now - before.per_cent_good[path], 1)}
        for path, now in newest.per_cent_good.items()
        if path in before.per_cent_good and now != before.per_cent_good[path]
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["change"])
