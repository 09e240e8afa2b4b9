"""Who is in the cohort: the window, eligibility by age, and the inclusion sets with their reasons.

All rules are plain Python on the values that the driver gives, so that every database answers alike
and a damaged value cannot stop a query. Dates are texts YYYY-MM-DD, which compare as dates do.
docs/cohort.md lists the decisions behind the rules.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from d2i_helpers.settings import Settings
from d2i_helpers.source_rows import Page, Plan, Row
from d2i_helpers.spec import Source

MONTHS_BACK = 24
AGE_LIMIT = 26  # in, while aged 25 or less at some moment of the window
CARE_LEAVER_AGE = 16

# Inclusion sets, by the letters of D2I's SQL (docs/cohort.md).
ACTIVE_REFERRAL = "active_referral"  # A
WAITING_ASSESSMENT = "waiting_assessment"  # B
CIN_PLAN = "cin_plan"  # C
CP_PLAN = "cp_plan"  # D, a setting
CLA_REFERRAL = "looked_after_by_referral"  # E1
CLA_PLACEMENT = "looked_after_by_placement"  # E2
CARE_LEAVER = "care_leaver"  # F
DISABILITY = "disability"  # G, a setting


@dataclass(frozen=True)
class Window:
    """The days that documents are about; `start` and `end` both belong to it."""

    start: dt.date
    end: dt.date
    run_date: dt.date

    @classmethod
    def for_date(cls, run_date: dt.date) -> Window:
        """From 1 April of the financial year 24 months before the run, to the day after the run."""
        year, month = run_date.year - MONTHS_BACK // 12, run_date.month
        # 29 February becomes 28 February where needed: both lie in the same financial year
        start = dt.date(year if month >= 4 else year - 1, 4, 1)
        return cls(start, run_date + dt.timedelta(days=1), run_date)

    @functools.cached_property
    def first(self) -> str:
        """`start` as text."""
        return self.start.isoformat()

    @functools.cached_property
    def last(self) -> str:
        """`end` as text."""
        return self.end.isoformat()

    @property
    def census_dates(self) -> tuple[str, ...]:
        """Every 31 March in the window, as text (SSDA903 counts care workers on that day)."""
        days = (dt.date(y, 3, 31) for y in range(self.start.year, self.end.year + 1))
        return tuple(day.isoformat() for day in days if self.start <= day <= self.end)

    def contains(self, day: str | None) -> bool:
        """Whether a date text lies in the window, both ends included."""
        return day is not None and self.first <= day <= self.last

    def overlapped(self, start: str | None, end: str | None) -> bool:
        """Whether a span touches the window; an unknown start never does, no end is open."""
        return start is not None and start <= self.last and (end is None or end >= self.first)


@functools.lru_cache(maxsize=20_000)
def birthday(born: str, years: int) -> dt.date:
    """The birthday of that many years; 29 February gives 28 February in a common year."""
    day = dt.date.fromisoformat(born)
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        if day.year + years > dt.MAXYEAR:
            return dt.date.max
        return day.replace(year=day.year + years, day=28)


class Eligibility(NamedTuple):
    """Whether a child is of an age to be in, and why not."""

    eligible: bool
    reason: str
    born: str | None = None  # the birth date that the age was judged by


def eligibility(
    born: str | None, expected: str | None, window: Window, settings: Settings
) -> Eligibility:
    """Judge a child by birth date, or by due date where it is not yet born.

    Args:
        born: birth date as text, None where it is not known.
        expected: expected birth date as text.
    """
    if born is None and expected is not None and settings.expected_dob_as_dob:
        born = expected if expected <= window.last else None
    if born is not None and born <= window.last:
        if birthday(born, AGE_LIMIT) > window.start:
            return Eligibility(True, "of age", born)
        return Eligibility(False, "aged 26 when the window starts", born)
    if settings.unborn_due_after_window:
        # Eclipse writes a future due date in both columns, so a birth date to come counts as well
        due = expected or born
        if due is not None and due >= window.first:
            return Eligibility(True, "not yet born", None)
    elif born is None and window.contains(expected):
        return Eligibility(True, "due in the window", None)
    if born is not None:
        return Eligibility(False, "born after the window", born)
    if expected is None:
        return Eligibility(False, "no birth date", None)
    return Eligibility(False, "due date outside the window", None)


def inclusion_sources(settings: Settings) -> dict[str, Source]:
    """The rows that the inclusion sets look at: of the child itself, and only those that count."""
    active = ({"overlaps": ["cine_referral_date", "cine_close_date"]},)
    found = [
        Source(
            "cohort.referrals", "ssd_cin_episodes", "cine_referral_id", person="cine_person_id",
            columns=("cine_referral_date", "cine_close_date"),
        ),
        Source(
            "cohort.active", "ssd_cin_episodes", "cine_referral_id", person="cine_person_id",
            where=active,
        ),
        Source(
            "cohort.assessments", "ssd_cin_assessments", "cina_assessment_id",
            via="cohort.referrals", link="cina_referral_id",
            where=({"known": ["cina_assessment_start_date"]},),
        ),
        Source(
            "cohort.cin_plans", "ssd_cin_plans", "cinp_cin_plan_id", person="cinp_person_id",
            where=({"overlaps": ["cinp_cin_plan_start_date", "cinp_cin_plan_end_date"]},),
        ),
        Source(
            "cohort.cla_episodes", "ssd_cla_episodes", "clae_cla_episode_id",
            person="clae_person_id", columns=("clae_cla_id", "clae_referral_id"),
        ),
        Source(
            "cohort.cla_referrals", "ssd_cin_episodes", "cine_referral_id",
            via="cohort.cla_episodes", via_column="clae_referral_id", link="cine_referral_id",
            where=active,
        ),
        Source(
            "cohort.placements", "ssd_cla_placement", "clap_cla_placement_id",
            via="cohort.cla_episodes", via_column="clae_cla_id", link="clap_cla_id",
            where=(
                {"overlaps": ["clap_cla_placement_start_date", "clap_cla_placement_end_date"]},
            ),
        ),
        Source(
            "cohort.care_leaver", "ssd_care_leavers", "clea_table_id", person="clea_person_id",
            columns=("clea_care_leaver_latest_contact",),
        ),
    ]  # fmt: skip
    if settings.cp_plan_inclusion:
        span = ["cppl_cp_plan_start_date", "cppl_cp_plan_end_date"]
        found.append(
            Source(
                "cohort.cp_plans", "ssd_cp_plans", "cppl_cp_plan_id", person="cppl_person_id",
                where=({"overlaps": span},),
            )
        )  # fmt: skip
    if settings.disability_inclusion:
        found.append(
            Source("cohort.disability", "ssd_disability", "disa_table_id", person="disa_person_id")
        )
    return {source.name: source for source in found}


class Inclusion:
    """The inclusion sets, compiled for one window; a child must be in at least one."""

    def __init__(self, plan: Plan, window: Window, settings: Settings) -> None:
        self.window = window
        self._referral_id = plan.text("cohort.referrals", "cine_referral_id")
        self._referred = plan.date("cohort.referrals", "cine_referral_date")
        self._closed = plan.date("cohort.referrals", "cine_close_date")
        self._cla_referral_id = plan.text("cohort.cla_episodes", "clae_referral_id")
        self._cla_id = plan.text("cohort.cla_episodes", "clae_cla_id")
        self._contact = plan.date("cohort.care_leaver", "clea_care_leaver_latest_contact")
        self._cp_plan, self._disability = settings.cp_plan_inclusion, settings.disability_inclusion

    def reasons(self, person_id: str, born: str | None, page: Page) -> tuple[str, ...]:
        """The sets that the child is in, in the order of their letters; empty: it is not in.

        Args:
            born: the birth date that the child's age was judged by; None where it is not born yet.
        """
        found, sets = page.found, []
        open_referrals = [
            row for row in page.rows("cohort.referrals", person_id) if self._closed(row) is None
        ]
        if person_id in found["cohort.active"]:
            sets.append(ACTIVE_REFERRAL)
        if any(self._referral_id(row) not in found["cohort.assessments"] for row in open_referrals):
            sets.append(WAITING_ASSESSMENT)
        if person_id in found["cohort.cin_plans"]:
            sets.append(CIN_PLAN)
        if self._cp_plan and person_id in found["cohort.cp_plans"]:
            sets.append(CP_PLAN)
        episodes = found["cohort.cla_episodes"].get(person_id)
        if episodes:
            if any(self._cla_referral_id(row) in found["cohort.cla_referrals"] for row in episodes):
                sets.append(CLA_REFERRAL)
            if any(self._cla_id(row) in found["cohort.placements"] for row in episodes):
                sets.append(CLA_PLACEMENT)
        contacts = found["cohort.care_leaver"].get(person_id)
        if contacts and born and self._leaving_care(born, open_referrals, contacts):
            sets.append(CARE_LEAVER)
        if self._disability and person_id in found["cohort.disability"]:
            sets.append(DISABILITY)
        return tuple(sets)

    def _leaving_care(self, born: str, open_referrals: list[Row], contacts: Sequence[Row]) -> bool:
        """Of age, with an open episode and a contact in the window, its last day left out."""
        window = self.window
        if birthday(born, CARE_LEAVER_AGE) >= window.end:
            return False
        if birthday(born, AGE_LIMIT) < window.start:
            return False
        if not any((day := self._referred(row)) and day <= window.last for row in open_referrals):
            return False
        days = [self._contact(row) for row in contacts]
        return any(window.contains(day) and day != window.last for day in days)
