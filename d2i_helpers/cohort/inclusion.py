"""Who is in the cohort: the window, eligibility by age, and the inclusion sets with their reasons.

All rules are plain Python on the values that the driver gives, so that every database answers alike
and a damaged value cannot stop a query. Dates are texts YYYY-MM-DD, which compare as dates do.
docs/cohort.md lists the decisions behind the rules.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from d2i_helpers.document.driver_values import is_unreadable_date, is_unreadable_text
from d2i_helpers.document.source_rows import (
    Doubt,
    Page,
    Plan,
    Row,
    Verdict,
    all_of,
    any_of,
    unreadable,
)
from d2i_helpers.payload_spec import Source
from d2i_helpers.settings import Settings

MONTHS_BACK = 24
AGE_LIMIT = 26  # in, while aged 25 or less at some moment of the window
CARE_LEAVER_AGE = 16
TOO_OLD = "aged 26 when the window starts"  # the reason of those who have aged out

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

    eligible: Verdict
    reason: str
    born: str | Doubt | None = None  # the birth date that the age was judged by


def eligibility(
    born: str | Doubt | None, expected: str | Doubt | None, window: Window, settings: Settings
) -> Eligibility:
    """Judge a child by birth date, or by due date where it is not yet born.

    Args:
        born: birth date as text, None where it is not known, a doubt where it cannot be read.
        expected: expected birth date as text.
    """
    if isinstance(born, Doubt):
        return Eligibility(born, "birth date cannot be read", born)
    if isinstance(expected, Doubt):
        to_come = settings.unborn_due_after_window and born is not None and born > window.last
        if born is None or to_come:
            return Eligibility(expected, "due date cannot be read", expected)
        expected = None  # the birth date decides alone
    if born is None and expected is not None and settings.expected_dob_as_dob:
        born = expected if expected <= window.last else None
    if born is not None and born <= window.last:
        if birthday(born, AGE_LIMIT) > window.start:
            return Eligibility(True, "of age", born)
        return Eligibility(False, TOO_OLD, born)
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


class Membership(NamedTuple):
    """The inclusion sets that a child is in, and the doubts about those where it may be."""

    reasons: tuple[str, ...]  # in the order of their letters
    doubts: tuple[Doubt, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Whether the child is in at least one set."""
        return True if self.reasons else any_of(self.doubts)


class Inclusion:
    """The inclusion sets, compiled for one window; a child must be in at least one."""

    def __init__(self, plan: Plan, window: Window, settings: Settings) -> None:
        self.window = window
        self._referral_id = plan.text("cohort.referrals", "cine_referral_id")
        self._referred = _date(plan, "cohort.referrals", "cine_referral_date")
        self._closed = _date(plan, "cohort.referrals", "cine_close_date")
        self._cla_referral = _link(plan, "cohort.cla_episodes", "clae_referral_id")
        self._cla_period = _link(plan, "cohort.cla_episodes", "clae_cla_id")
        self._contact = _date(plan, "cohort.care_leaver", "clea_care_leaver_latest_contact")
        self._cp_plan, self._disability = settings.cp_plan_inclusion, settings.disability_inclusion

    def judge(self, person_id: str, born: str | Doubt | None, page: Page) -> Membership:
        """Which sets the child is in.

        Args:
            born: the birth date that the child's age was judged by; None where it is not born yet,
                a doubt where it cannot be read.
        """
        referrals = page.rows("cohort.referrals", person_id)
        # in the order of their letters
        verdicts = {
            ACTIVE_REFERRAL: self._has_rows("cohort.active", person_id, page),
            WAITING_ASSESSMENT: any_of(self._waits(row, page) for row in referrals),
            CIN_PLAN: self._has_rows("cohort.cin_plans", person_id, page),
            CP_PLAN: self._cp_plan and self._has_rows("cohort.cp_plans", person_id, page),
            CLA_REFERRAL: self._looked_after("cohort.cla_referrals", person_id, page),
            CLA_PLACEMENT: self._looked_after("cohort.placements", person_id, page),
            CARE_LEAVER: self._leaving_care(person_id, born, referrals, page),
            DISABILITY: self._disability and self._has_rows("cohort.disability", person_id, page),
        }
        doubts = (v for v in verdicts.values() if isinstance(v, Doubt))
        return Membership(
            tuple(name for name, verdict in verdicts.items() if verdict is True), tuple(doubts)
        )

    def _has_rows(self, source: str, key: str | None, page: Page) -> Verdict:
        return key in page.found[source] or page.doubt(source, key)

    def _is_open(self, referral: Row) -> Verdict:
        closed = self._closed(referral)
        return closed if isinstance(closed, Doubt) else closed is None

    def _waits(self, referral: Row, page: Page) -> Verdict:
        """Whether a referral is open and no assessment of it has a start date."""
        still_open = self._is_open(referral)
        if still_open is False:
            return False
        assessed = self._has_rows("cohort.assessments", self._referral_id(referral), page)
        waits = assessed if isinstance(assessed, Doubt) else not assessed
        return all_of((still_open, waits))

    def _looked_after(self, source: str, person_id: str, page: Page) -> Verdict:
        """Whether a link of the child's CLA episodes leads to a row that counts."""
        episodes = page.rows("cohort.cla_episodes", person_id)
        if not episodes:
            return False
        link = self._cla_period if source == "cohort.placements" else self._cla_referral
        return any_of(self._linked(source, link(row), page) for row in episodes)

    def _linked(self, source: str, key: str | Doubt | None, page: Page) -> Verdict:
        return key if isinstance(key, Doubt) else self._has_rows(source, key, page)

    def _leaving_care(
        self, person_id: str, born: str | Doubt | None, referrals: Sequence[Row], page: Page
    ) -> Verdict:
        """Of age, with an open episode and a contact in the window, its last day left out."""
        contacts = page.rows("cohort.care_leaver", person_id)
        if not contacts or born is None:
            return False
        return all_of(
            (
                born if isinstance(born, Doubt) else self._of_age_to_leave(born),
                any_of(all_of((self._is_open(r), self._was_made(r))) for r in referrals),
                any_of(self._in_contact(row) for row in contacts),
            )
        )

    def _of_age_to_leave(self, born: str) -> bool:
        of_age = birthday(born, CARE_LEAVER_AGE) < self.window.end
        return of_age and birthday(born, AGE_LIMIT) >= self.window.start

    def _was_made(self, referral: Row) -> Verdict:
        day = self._referred(referral)
        return day if isinstance(day, Doubt) else day is not None and day <= self.window.last

    def _in_contact(self, row: Row) -> Verdict:
        day = self._contact(row)
        if isinstance(day, Doubt):
            return day
        return self.window.contains(day) and day != self.window.last


def _date(plan: Plan, source: str, column: str) -> Callable[[Row], str | Doubt | None]:
    """A function of a row: a date as text, or the doubt where it cannot be read."""
    read, place = plan.date(source, column), plan.at(source, column)
    doubt = unreadable(plan.sources[source].table, column, "whether the child is in the cohort")

    def date(row: Row) -> str | Doubt | None:
        day = read(row)
        if day is None and row[place] is not None and is_unreadable_date(row[place]):
            return doubt
        return day

    return date


def _link(plan: Plan, source: str, column: str) -> Callable[[Row], str | Doubt | None]:
    """A function of a row: a link as text, or the doubt where it cannot be read."""
    read, place = plan.text(source, column), plan.at(source, column)
    doubt = unreadable(plan.sources[source].table, column, "which row it belongs to")

    def link(row: Row) -> str | Doubt | None:
        key = read(row)
        return doubt if key is None and is_unreadable_text(row[place]) else key

    return link
