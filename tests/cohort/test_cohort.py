"""Window and eligibility by hand-worked dates."""

from __future__ import annotations

import datetime as dt

import pytest

from d2i_helpers.cohort import Window, birthday, eligibility
from d2i_helpers.cohort.inclusion import REFERRALS
from d2i_helpers.cohort.row_rules import Compiler
from d2i_helpers.document.source_rows import Doubt, Page, ReadPlan, date_text, key_text
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.payload_spec.registry import ROW_RULES
from d2i_helpers.settings import Settings

D = dt.date.fromisoformat
PLAIN = Settings()
UNREADABLE = Doubt("ssd_person", "pers_expected_dob", "cannot be read (eligibility)")


@pytest.mark.parametrize(
    ("run", "start", "end", "census"),
    [
        ("2026-08-10", "2024-04-01", "2026-08-11", ["2025-03-31", "2026-03-31"]),
        ("2026-03-31", "2023-04-01", "2026-04-01", ["2024-03-31", "2025-03-31", "2026-03-31"]),
        ("2026-04-01", "2024-04-01", "2026-04-02", ["2025-03-31", "2026-03-31"]),
        ("2026-03-30", "2023-04-01", "2026-03-31", ["2024-03-31", "2025-03-31", "2026-03-31"]),
        ("2026-03-29", "2023-04-01", "2026-03-30", ["2024-03-31", "2025-03-31"]),
        ("2026-02-10", "2023-04-01", "2026-02-11", ["2024-03-31", "2025-03-31"]),
        ("2025-12-31", "2023-04-01", "2026-01-01", ["2024-03-31", "2025-03-31"]),
        ("2028-02-29", "2025-04-01", "2028-03-01", ["2026-03-31", "2027-03-31"]),
        ("2028-02-28", "2025-04-01", "2028-02-29", ["2026-03-31", "2027-03-31"]),
    ],
)
def test_window(run: str, start: str, end: str, census: list[str]) -> None:
    window = Window.for_date(D(run))
    assert (window.first, window.last) == (start, end)
    assert list(window.census_dates) == census


def test_the_window_is_731_to_1096_days_long() -> None:
    days = [D("2024-01-01") + dt.timedelta(n) for n in range(4 * 366)]
    lengths = {(w.end - w.start).days for w in map(Window.for_date, days)}
    assert (min(lengths), max(lengths)) == (731, 1096)


@pytest.mark.parametrize(
    ("start", "end", "overlaps"),
    [
        (None, None, False),
        (None, "2025-01-01", False),
        ("2026-08-11", None, True),
        ("2026-08-12", None, False),
        ("2000-01-01", "2024-04-01", True),
        ("2000-01-01", "2024-03-31", False),
        ("2025-02-01", "2025-01-01", True),
    ],
)
def test_overlap(start: str | None, end: str | None, overlaps: bool) -> None:
    """The row rule `overlaps`: an unknown start never does, no end is open."""
    spec = load_spec()
    plan = ReadPlan(spec, [str(spec.root.source)], {"spans": REFERRALS})
    compiler = Compiler(spec, plan, Window.for_date(D("2026-08-10")), PLAIN, lambda _name: True)
    columns = ["cine_referral_date", "cine_close_date"]
    test = ROW_RULES["overlaps"].make(compiler, "spans", columns)
    row = [None] * len(plan.reads[plan.read_of("spans")])
    for column, day in zip(columns, (start, end), strict=True):
        row[plan.at("spans", column)] = day
    assert test(row, Page([])) is overlaps


@pytest.mark.parametrize(
    ("born", "years", "day"),
    [
        ("2000-02-29", 26, "2026-02-28"),
        ("2000-02-29", 16, "2016-02-29"),
        ("1998-04-01", 26, "2024-04-01"),
    ],
)
def test_birthday(born: str, years: int, day: str) -> None:
    assert birthday(born, years) == D(day)


@pytest.mark.parametrize(
    ("born", "expected", "settings", "eligible"),
    [
        ("1998-04-01", None, {}, False),
        ("1998-04-02", None, {}, True),
        ("2026-08-11", None, {}, True),
        ("2026-08-12", None, {}, False),
        ("2026-08-12", "2026-08-01", {}, False),
        (None, "2024-04-01", {}, True),
        (None, "2024-03-31", {}, False),
        (None, "2026-08-11", {}, True),
        (None, "2026-08-12", {}, False),
        (None, "2026-08-12", {"unborn_due_after_window": True}, True),
        (None, "2024-03-31", {"unborn_due_after_window": True}, False),
        ("2026-10-01", "2026-10-01", {"unborn_due_after_window": True}, True),
        ("2026-10-01", "2012-01-01", {"unborn_due_after_window": True}, True),
        ("2026-10-01", UNREADABLE, {"unborn_due_after_window": True}, True),
        (None, "2011-01-01", {}, False),
        (None, "2011-01-01", {"expected_dob_as_dob": True}, True),
        (None, "2026-08-12", {"expected_dob_as_dob": True}, False),
        (None, "2026-08-12", {"expected_dob_as_dob": True, "unborn_due_after_window": True}, True),
        (None, None, {}, False),
    ],
)
def test_eligibility(
    born: str | None, expected: str | Doubt | None, settings: dict[str, bool], eligible: bool
) -> None:
    chosen = PLAIN.model_copy(update=settings)
    window = Window.for_date(D("2026-08-10"))
    assert eligibility(born, expected, window, chosen).eligible is eligible


def test_raw_values_as_dates_and_keys() -> None:
    assert date_text(dt.datetime(2025, 3, 4, 23, 59)) == "2025-03-04"
    assert date_text("2025-03-04 00:00:00.000000") == "2025-03-04"
    assert date_text("1900-01-01") is None
    assert date_text([1]) is None
    assert key_text(12) == key_text(" 12 ") == key_text(12.0) == key_text(b"12") == "12"
    assert key_text("  ") is None
