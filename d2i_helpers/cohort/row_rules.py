"""Which rows count: the `where` of the specification, compiled to functions of a row.

The kinds `overlaps`, `inside`, `known` and `equals` are explained in payload_spec.yaml; the rules
with a name of their own are here. docs/cohort.md gives the reason of each.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from d2i_helpers.cohort.inclusion import Window
from d2i_helpers.raw import read_text
from d2i_helpers.settings import Settings
from d2i_helpers.source_rows import DATES, Page, Plan, Row, date_text
from d2i_helpers.spec import Source, Spec

Test = Callable[[Row, Page], bool]


class AllOf:
    """A test of several conditions, which can say those that a row does not fulfil."""

    def __init__(self, conditions: Mapping[str, Test]) -> None:
        self._conditions, self._tests = conditions, tuple(conditions.values())

    def __call__(self, row: Row, page: Page) -> bool:
        return all(test(row, page) for test in self._tests)

    def broken(self, row: Row, page: Page) -> list[str]:
        """The conditions that do not hold, in words."""
        return [words for words, test in self._conditions.items() if not test(row, page)]


# What the rules with a name look at, beside the columns that the specification lists.
RULE_COLUMNS = {
    "uasc_status": ("immi_immigration_status",),
    "uasc_current": ("immi_immigration_status_end_date",),
    "s47_or_its_conference": (
        "s47e_s47_enquiry_id",
        "s47e_s47_start_date",
        "s47e_s47_end_date",
    ),
    "care_leaver_contact": ("clea_care_leaver_latest_contact",),
    "care_worker_gate": (
        "invo_referral_id",
        "invo_professional_id",
        "invo_professional_role_id",
        "invo_involvement_start_date",
        "invo_involvement_end_date",
    ),
}
# Sources that a rule looks into: their rows must be there before it is asked.
RULE_SOURCES = {
    "s47_or_its_conference": ("icpc",),
    "care_worker_gate": ("cin_plans", "professionals"),
}
_SEPARATED = re.compile(r"\s*[-–—:|]\s*|\s{2,}|\t|\s*\(")
_NOT_WORD = re.compile(r"[\W_]+")


def rule_columns(spec: Spec) -> dict[str, tuple[str, ...]]:
    """The columns that named rules need, by source."""
    found: dict[str, tuple[str, ...]] = {}
    for source in spec.sources.values():
        for rule in named_rules(source):
            found[source.name] = (*found.get(source.name, ()), *RULE_COLUMNS.get(rule, ()))
            if rule == "s47_or_its_conference":
                found["icpc"] = ("icpc_icpc_date",)
            if rule == "care_worker_gate":
                found["professionals"] = (_registration(spec),)
    return found


def named_rules(source: Source) -> list[str]:
    """The named rules among the entries of a source's `where`."""
    return [entry["rule"] for entry in source.where if "rule" in entry]


def with_rule_sources(spec: Spec, names: Iterable[str]) -> set[str]:
    """The sources with all that they hang on: parents, and what their rules look into."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in needed or name not in spec.sources:
            continue
        needed.add(name)
        source = spec.sources[name]
        waiting += [source.via] if source.via else []
        waiting += [other for rule in named_rules(source) for other in RULE_SOURCES.get(rule, ())]
    return needed


def looks_into(source: Source) -> list[str]:
    """The sources whose rows must be there before this one's rules can be asked."""
    return [other for rule in named_rules(source) for other in RULE_SOURCES.get(rule, ())]


class Compiler:
    """Turns the entries of `where` into tests."""

    def __init__(self, spec: Spec, plan: Plan, window: Window, settings: Settings) -> None:
        self.spec, self.plan, self.window, self.settings = spec, plan, window, settings

    def tests(self, source: Source) -> list[Test]:
        """One test an entry; a row counts when all of them hold."""
        return [
            getattr(self, f"_{argument if kind == 'rule' else kind}")(source.name, argument)
            for entry in source.where
            for kind, argument in entry.items()
        ]

    def _overlaps(self, source: str, columns: list[str]) -> Test:
        start, end = (self.plan.at(source, column) for column in columns)
        first, last = self.window.first, self.window.last

        def test(row: Row, _page: Page) -> bool:
            try:
                began, ended = DATES[row[start]], DATES[row[end]]
            except TypeError:
                began, ended = date_text(row[start]), date_text(row[end])
            return began is not None and began <= last and (ended is None or ended >= first)

        return test

    def _inside(self, source: str, columns: list[str]) -> Test:
        places = [self.plan.at(source, column) for column in columns]
        contains = self.window.contains
        return lambda row, _page: any(contains(date_text(row[place])) for place in places)

    def _known(self, source: str, columns: list[str]) -> Test:
        places = [self.plan.at(source, column) for column in columns]
        return lambda row, _page: all(read_text(row[place]) != (None, None) for place in places)

    def _equals(self, source: str, wanted: Mapping[str, Any]) -> Test:
        pairs = [
            (self.plan.at(source, column), _words(words if isinstance(words, list) else [words]))
            for column, words in wanted.items()
        ]
        return lambda row, _page: all(_word(row[place]) in words for place, words in pairs)

    # ------------------------------------------------------------------- rules with a name
    def _uasc_status(self, source: str, _rule: str) -> Test:
        """Status U, UASC or the long name, alone or before a dash and a description."""
        place = self.plan.at(source, "immi_immigration_status")
        is_uasc = _one_of(_words(self.spec.uasc_statuses))
        return lambda row, _page: is_uasc(row[place])

    def _uasc_current(self, source: str, _rule: str) -> Test:
        """Open, or ended in the window or after it."""
        end = self.plan.date(source, "immi_immigration_status_end_date")
        first = self.window.first
        return lambda row, _page: (day := end(row)) is None or day >= first

    def _s47_or_its_conference(self, source: str, _rule: str) -> Test:
        """The enquiry overlaps the window, or its latest conference lies in it."""
        key = self.plan.text(source, self.plan.sources[source].key)
        spans = self._overlaps(source, ["s47e_s47_start_date", "s47e_s47_end_date"])
        held = self.plan.date("icpc", "icpc_icpc_date")
        contains = self.window.contains

        def test(row: Row, page: Page) -> bool:
            if spans(row, page):
                return True
            conferences = page.rows("icpc", key(row))  # latest first
            return bool(conferences) and contains(held(conferences[0]))

        return test

    def _care_leaver_contact(self, source: str, _rule: str) -> Test:
        """Any contact; in the window where `care_leaver_window` is set (the end excluded)."""
        if not self.settings.care_leaver_window:
            return lambda _row, _page: True
        contact = self.plan.date(source, "clea_care_leaver_latest_contact")
        first, last = self.window.first, self.window.last
        return lambda row, _page: (day := contact(row)) is not None and first <= day < last

    def _care_worker_gate(self, source: str, _rule: str) -> Test:
        """All five conditions of the SSDA903 care-worker rule (docs/cohort.md)."""
        plan = self.plan
        referral = plan.text(source, "invo_referral_id")
        professional = plan.text(source, "invo_professional_id")
        role = plan.at(source, "invo_professional_role_id")
        start = plan.date(source, "invo_involvement_start_date")
        end = plan.date(source, "invo_involvement_end_date")
        number = plan.text("professionals", _registration(self.spec))
        in_role = _one_of(_words(self.settings.care_worker_roles))
        days = self.window.census_dates

        def active(row: Row, _page: Page) -> bool:
            began, ended = start(row), end(row)
            return began is not None and any(
                began <= d and (ended is None or ended >= d) for d in days
            )

        def registered(row: Row, page: Page) -> bool:
            known = page.rows("professionals", professional(row))
            return any(number(worker) is not None for worker in known)

        return AllOf(
            {
                "role is not one of care_worker_roles": lambda row, _page: in_role(row[role]),
                "no plan of the referral in the window": lambda row, page: bool(
                    page.rows("cin_plans", referral(row))
                ),
                "not active at the end of a financial year in the window": active,
                "professional unknown or without a registration number": registered,
            }
        )


def _registration(spec: Spec) -> str:
    """The column that identifies a worker: what the mandatory field of that source is read from."""
    for _, field in spec.fields():
        if field.source == "professionals" and field.mandatory:
            return field.column
    return "prof_social_worker_registration_no"


def _word(value: Any) -> str:
    """A value for comparison: upper case, punctuation and runs of blanks as one blank."""
    return _NOT_WORD.sub(" ", read_text(value)[0] or "").strip().upper()


def _words(values: Iterable[Any]) -> frozenset[str]:
    return frozenset(word for word in map(_word, values) if word)


def _one_of(words: frozenset[str]) -> Callable[[Any], bool]:
    """Whether a value is one of the words, alone or before a dash and a description."""

    @functools.lru_cache(maxsize=4096)
    def of_text(text: str) -> bool:
        return _word(text) in words or _word(_SEPARATED.split(text, maxsplit=1)[0]) in words

    def of(value: Any) -> bool:
        text = value if type(value) is str else read_text(value)[0]
        return text is not None and of_text(text)

    return of
