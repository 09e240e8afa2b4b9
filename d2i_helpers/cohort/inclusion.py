"""Who is in the cohort: the window, eligibility by age, and the inclusion sets with their reasons.

All rules are plain Python on driver values, so that every database gives the same answer and a
damaged value cannot stop a query. Dates are texts YYYY-MM-DD, which compare as dates do.

Each inclusion set is one function, which makes the test of a child. It registers itself with its
letter, its words, its source rows and the setting that switches it on; no other module has to know
it. docs/cohort.md lists the decisions behind the rules.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from d2i_helpers.document.driver_values import (
    CACHE_SIZE,
    is_unreadable_date,
    is_unreadable_text,
)
from d2i_helpers.document.source_rows import (
    CARE_PERIODS,
    Doubt,
    Page,
    ReadPlan,
    SourceRow,
    Verdict,
    all_of,
    any_of,
    unreadable,
)
from d2i_helpers.payload_spec import Source
from d2i_helpers.payload_spec.registry import INCLUSION_SETS, inclusion_set
from d2i_helpers.settings import Settings

MONTHS_BACK = 24
AGE_LIMIT = 26  # a child is in while aged 25 or less at some moment of the window
CARE_LEAVER_AGE = 16
AGES = (CARE_LEAVER_AGE, AGE_LIMIT)  # every age that a rule names: on these birthdays it may change
TOO_OLD = "aged 26 when the window starts"  # why those who have aged out are not in


@dataclass(frozen=True)
class Window:
    """The days that documents are about, from `start` to `end`, both included."""

    start: dt.date
    end: dt.date
    run_date: dt.date

    @classmethod
    def for_date(cls, run_date: dt.date) -> Window:
        """From 1 April of the financial year 24 months before the run, to the day after the run."""
        year, month = run_date.year - MONTHS_BACK // 12, run_date.month
        # 29 February becomes 28 February where needed; both lie in the same financial year
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


@functools.lru_cache(maxsize=CACHE_SIZE)
def birthday(born: str, years: int) -> dt.date:
    """The birthday at that age; for 29 February it is 28 February in common years.

    Args:
        years: one of `AGES`, so that a document is made anew on that birthday.
    """
    assert years in AGES
    day = dt.date.fromisoformat(born)
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        if day.year + years > dt.MAXYEAR:
            return dt.date.max
        return day.replace(year=day.year + years, day=28)


class Eligibility(NamedTuple):
    """Whether a child is in by age, and if not, why."""

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
        if born is None:
            return Eligibility(expected, "due date cannot be read", expected)
        expected = None  # the birth date decides alone
    if born is None and expected is not None and settings.expected_dob_as_dob:
        born = expected if expected <= window.last else None
    if born is not None and born <= window.last:
        if birthday(born, AGE_LIMIT) > window.start:
            return Eligibility(True, "of age", born)
        return Eligibility(False, TOO_OLD, born)
    if settings.unborn_due_after_window:
        # Eclipse writes a due date in the birth-date column too: what comes after the window is
        # one, whatever the other column says
        due = born or expected
        if due is not None and due >= window.first:
            return Eligibility(True, "not yet born", None)
    elif born is None and window.contains(expected):
        return Eligibility(True, "due in the window", None)
    if born is not None:
        return Eligibility(False, "born after the window", born)
    if expected is None:
        return Eligibility(False, "no birth date", None)
    return Eligibility(False, "due date outside the window", None)


# ---------------------------------------- rows that the sets look at: those that count, of a child
_IN_WINDOW = ({"overlaps": ["cine_referral_date", "cine_close_date"]},)
REFERRALS = Source(
    "cohort.referrals", "ssd_cin_episodes", "cine_referral_id", person="cine_person_id",
    columns=("cine_referral_date", "cine_close_date"),
)  # fmt: skip
ACTIVE_REFERRALS = Source(
    "cohort.active", "ssd_cin_episodes", "cine_referral_id", person="cine_person_id",
    where=_IN_WINDOW,
)  # fmt: skip
ASSESSMENTS = Source(
    "cohort.assessments", "ssd_cin_assessments", "cina_assessment_id",
    via=REFERRALS.name, link="cina_referral_id",
    where=({"known": ["cina_assessment_start_date"]},),
)  # fmt: skip
CIN_PLANS = Source(
    "cohort.cin_plans", "ssd_cin_plans", "cinp_cin_plan_id", person="cinp_person_id",
    where=({"overlaps": ["cinp_cin_plan_start_date", "cinp_cin_plan_end_date"]},),
)  # fmt: skip
CP_PLANS = Source(
    "cohort.cp_plans", "ssd_cp_plans", "cppl_cp_plan_id", person="cppl_person_id",
    where=({"overlaps": ["cppl_cp_plan_start_date", "cppl_cp_plan_end_date"]},),
)  # fmt: skip
CLA_EPISODES = Source(
    CARE_PERIODS, "ssd_cla_episodes", "clae_cla_episode_id", person="clae_person_id",
    columns=("clae_cla_id", "clae_referral_id"),
)  # fmt: skip
CLA_REFERRALS = Source(
    "cohort.cla_referrals", "ssd_cin_episodes", "cine_referral_id",
    via=CLA_EPISODES.name, via_column="clae_referral_id", link="cine_referral_id",
    where=_IN_WINDOW,
)  # fmt: skip
PLACEMENTS = Source(
    "cohort.placements", "ssd_cla_placement", "clap_cla_placement_id",
    via=CLA_EPISODES.name, via_column="clae_cla_id", link="clap_cla_id",
    where=({"overlaps": ["clap_cla_placement_start_date", "clap_cla_placement_end_date"]},),
)  # fmt: skip
CONTACTS = Source(
    "cohort.care_leaver", "ssd_care_leavers", "clea_table_id", person="clea_person_id",
    columns=("clea_care_leaver_latest_contact",),
)  # fmt: skip
DISABILITIES = Source(
    "cohort.disability", "ssd_disability", "disa_table_id", person="disa_person_id"
)


def inclusion_sources(settings: Settings) -> dict[str, Source]:
    """The sources of the inclusion sets that these settings switch on, by name."""
    # the periods of care are needed whichever sets are on: adoptions are found by them
    needed = {CLA_EPISODES.name: CLA_EPISODES}
    for each_set in INCLUSION_SETS.rules():
        if each_set.is_on(settings):
            needed.update((source.name, source) for source in each_set.sources)
    return needed


# ------------------------------------------------------------------------- the sets of a child
class Candidate(NamedTuple):
    """A child whose inclusion sets are to be found."""

    person_id: str
    born: str | Doubt | None  # birth date that the age was judged by; None where it is not born yet
    page: Page


SetTest = Callable[[Candidate], Verdict]
# what speaks against a child: name of a source, a row of it (None: it is the child), and words
_CLOSED = "the referral is closed"
Against = Callable[[Candidate], list[tuple[str, SourceRow | None, str]]]


class Membership(NamedTuple):
    """The inclusion sets that a child is in, and the doubts about sets that it may be in."""

    reasons: tuple[str, ...]  # in the order of their letters
    doubts: tuple[Doubt, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Whether the child is in at least one set."""
        return True if self.reasons else any_of(self.doubts)


class Inclusion:
    """The inclusion sets, compiled for one window; a child must be in at least one."""

    def __init__(self, plan: ReadPlan, window: Window, settings: Settings) -> None:
        self.plan, self.window = plan, window
        self._tests: dict[str, SetTest] = {
            each_set.name: each_set.make(self)
            for each_set in INCLUSION_SETS.rules()
            if each_set.is_on(settings)
        }

    def judge(self, person_id: str, born: str | Doubt | None, page: Page) -> Membership:
        """Which sets the child is in.

        Args:
            born: the birth date that the child's age was judged by; None where it is not born yet,
                a doubt where it cannot be read.
        """
        candidate = Candidate(person_id, born, page)
        reasons: list[str] = []
        doubts: list[Doubt] = []
        for name, test in self._tests.items():
            verdict = test(candidate)
            if verdict is True:
                reasons.append(name)
            elif isinstance(verdict, Doubt):
                doubts.append(verdict)
        return Membership(tuple(reasons), tuple(doubts))

    def verdicts(self, person_id: str, born: str | Doubt | None, page: Page) -> dict[str, Verdict]:
        """Whether the child is in each set that is switched on; arguments as of `judge`."""
        candidate = Candidate(person_id, born, page)
        return {name: test(candidate) for name, test in self._tests.items()}


def has_rows(source: Source, key: str | None, page: Page) -> Verdict:
    """Whether the source has rows that count for a person id or link value."""
    return key in page.found[source.name] or page.doubt(source.name, key)


# ------------------------------------------------------- the sets, in the order of D2I's letters
@inclusion_set(
    "active_referral",
    letter="A",
    words="a referral overlaps the window",
    sources=(ACTIVE_REFERRALS,),
)
def _active_referral(_inclusion: Inclusion) -> SetTest:
    return lambda child: has_rows(ACTIVE_REFERRALS, child.person_id, child.page)


def _not_waiting(inclusion: Inclusion) -> Against:
    """Each referral is closed, or was assessed."""
    is_open = _is_open(inclusion.plan)

    def against(child: Candidate) -> list[tuple[str, SourceRow | None, str]]:
        referrals = child.page.rows(REFERRALS.name, child.person_id)
        return [
            (REFERRALS.name, row, _CLOSED if is_open(row) is False else "the referral was assessed")
            for row in referrals
        ]

    return against


@inclusion_set(
    "waiting_assessment",
    letter="B",
    words="a referral is open and no assessment of it has a start date; no window",
    sources=(REFERRALS, ASSESSMENTS),
    why_not=_not_waiting,
)
def _waiting_assessment(inclusion: Inclusion) -> SetTest:
    is_open = _is_open(inclusion.plan)
    referral_id = inclusion.plan.text(REFERRALS.name, REFERRALS.key)

    def waits(referral: SourceRow, page: Page) -> Verdict:
        still_open = is_open(referral)
        if still_open is False:
            return False
        assessed = has_rows(ASSESSMENTS, referral_id(referral), page)
        return all_of((still_open, assessed if isinstance(assessed, Doubt) else not assessed))

    return lambda child: any_of(
        waits(row, child.page) for row in child.page.rows(REFERRALS.name, child.person_id)
    )


@inclusion_set(
    "cin_plan",
    letter="C",
    words="a child-in-need plan of the child overlaps the window",
    sources=(CIN_PLANS,),
)
def _cin_plan(_inclusion: Inclusion) -> SetTest:
    return lambda child: has_rows(CIN_PLANS, child.person_id, child.page)


@inclusion_set(
    "cp_plan",
    letter="D",
    words="a child-protection plan of the child overlaps the window",
    sources=(CP_PLANS,),
    setting="cp_plan_inclusion",
)
def _cp_plan(_inclusion: Inclusion) -> SetTest:
    return lambda child: has_rows(CP_PLANS, child.person_id, child.page)


@inclusion_set(
    "looked_after_by_referral",
    letter="E1",
    words="a CLA episode points at a referral, of anybody, that overlaps the window",
    sources=(CLA_EPISODES, CLA_REFERRALS),
)
def _looked_after_by_referral(inclusion: Inclusion) -> SetTest:
    return _by_cla_episode(inclusion.plan, CLA_REFERRALS)


@inclusion_set(
    "looked_after_by_placement",
    letter="E2",
    words="a placement of one of the child's periods of care overlaps the window",
    sources=(CLA_EPISODES, PLACEMENTS),
)
def _looked_after_by_placement(inclusion: Inclusion) -> SetTest:
    return _by_cla_episode(inclusion.plan, PLACEMENTS)


def _not_leaving_care(inclusion: Inclusion) -> Against:
    """The age, the referrals and the contacts that do not fit."""
    window, is_open = inclusion.window, _is_open(inclusion.plan)
    referred = _date(inclusion.plan, REFERRALS.name, "cine_referral_date")
    contact = _date(inclusion.plan, CONTACTS.name, "clea_care_leaver_latest_contact")

    def of_referral(row: SourceRow) -> str | None:
        if is_open(row) is False:
            return _CLOSED
        day = referred(row)
        if not isinstance(day, str):
            return str(day) if isinstance(day, Doubt) else "the referral has no date"
        return None if day <= window.last else "the referral comes after the window's end"

    def of_contact(row: SourceRow) -> str | None:
        day = contact(row)
        fits = window.contains(day) and day != window.last if isinstance(day, str) else False
        return None if fits else "the contact is not in the window (its last day left out)"

    def against(child: Candidate) -> list[tuple[str, SourceRow | None, str]]:
        found: list[tuple[str, SourceRow | None, str]] = []
        born = child.born
        if isinstance(born, str) and birthday(born, CARE_LEAVER_AGE) >= window.end:
            found.append(("", None, "the child is not aged 16 before the window's end"))
        if isinstance(born, str) and birthday(born, AGE_LIMIT) < window.start:
            found.append(("", None, "the child is 26 before the window's start"))
        for source, say in ((REFERRALS, of_referral), (CONTACTS, of_contact)):
            rows = child.page.rows(source.name, child.person_id)
            said = ((row, say(row)) for row in rows)
            found += [(source.name, row, words) for row, words in said if words]
        return found

    return against


@inclusion_set(
    "care_leaver",
    letter="F",
    words="aged 16 before the window's end, not yet 26 before its start, an open episode referred "
    "by its end, and a contact in the window (its last day left out)",
    sources=(REFERRALS, CONTACTS),
    why_not=_not_leaving_care,
)
def _care_leaver(inclusion: Inclusion) -> SetTest:
    window, is_open = inclusion.window, _is_open(inclusion.plan)
    referred = _date(inclusion.plan, REFERRALS.name, "cine_referral_date")
    contact = _date(inclusion.plan, CONTACTS.name, "clea_care_leaver_latest_contact")

    def of_age(born: str | Doubt) -> Verdict:
        if isinstance(born, Doubt):
            return born
        old_enough = birthday(born, CARE_LEAVER_AGE) < window.end
        return old_enough and birthday(born, AGE_LIMIT) >= window.start

    def was_made(referral: SourceRow) -> Verdict:
        day = referred(referral)
        return day if isinstance(day, Doubt) else day is not None and day <= window.last

    def in_contact(row: SourceRow) -> Verdict:
        day = contact(row)
        return day if isinstance(day, Doubt) else window.contains(day) and day != window.last

    def leaves_care(child: Candidate) -> Verdict:
        contacts = child.page.rows(CONTACTS.name, child.person_id)
        if not contacts or child.born is None:
            return False
        referrals = child.page.rows(REFERRALS.name, child.person_id)
        return all_of(
            (
                of_age(child.born),
                any_of(all_of((is_open(row), was_made(row))) for row in referrals),
                any_of(in_contact(row) for row in contacts),
            )
        )

    return leaves_care


@inclusion_set(
    "disability",
    letter="G",
    words="the child has any disability",
    sources=(DISABILITIES,),
    setting="disability_inclusion",
)
def _disability(_inclusion: Inclusion) -> SetTest:
    return lambda child: has_rows(DISABILITIES, child.person_id, child.page)


# ------------------------------------------------------------------------- what several sets use
def _is_open(plan: ReadPlan) -> Callable[[SourceRow], Verdict]:
    """A function that says whether a referral has no close date."""
    closed = _date(plan, REFERRALS.name, "cine_close_date")

    def is_open(referral: SourceRow) -> Verdict:
        day = closed(referral)
        return day if isinstance(day, Doubt) else day is None

    return is_open


def _by_cla_episode(plan: ReadPlan, source: Source) -> SetTest:
    """Whether a link of the child's CLA episodes leads to a row of the source that counts."""
    link = _link(plan, CLA_EPISODES.name, str(source.via_column))

    def leads_to_a_row(episode: SourceRow, page: Page) -> Verdict:
        key = link(episode)
        return key if isinstance(key, Doubt) else has_rows(source, key, page)

    return lambda child: any_of(
        leads_to_a_row(row, child.page)
        for row in child.page.rows(CLA_EPISODES.name, child.person_id)
    )


def _date(plan: ReadPlan, source: str, column: str) -> Callable[[SourceRow], str | Doubt | None]:
    """A function from a row to a date as text, or to the doubt if it cannot be read."""
    read, place = plan.date(source, column), plan.at(source, column)
    doubt = unreadable(plan.sources[source].table, column, "whether the child is in the cohort")

    def date(row: SourceRow) -> str | Doubt | None:
        day = read(row)
        if day is None and row[place] is not None and is_unreadable_date(row[place]):
            return doubt
        return day

    return date


def _link(plan: ReadPlan, source: str, column: str) -> Callable[[SourceRow], str | Doubt | None]:
    """A function from a row to a link as text, or to the doubt if it cannot be read."""
    read, place = plan.text(source, column), plan.at(source, column)
    doubt = unreadable(plan.sources[source].table, column, "which row it belongs to")

    def link(row: SourceRow) -> str | Doubt | None:
        key = read(row)
        return doubt if key is None and is_unreadable_text(row[place]) else key

    return link
