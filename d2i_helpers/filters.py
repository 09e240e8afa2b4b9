"""Which rows of a source count: the `where` of the specification, compiled to functions of a row.

The kinds `overlaps`, `inside`, `known` and `equals` are explained in payload_spec.yaml; the rules
with a name of their own are here. docs/cohort.md gives the reason of each.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from d2i_helpers.cohort import Window
from d2i_helpers.raw import read_text
from d2i_helpers.rows import (
    CARE_PERIOD,
    CARE_PERIODS,
    Page,
    Plan,
    Read,
    Row,
    date_text,
    key_text,
    sorter,
)
from d2i_helpers.rows import grouped as group_rows
from d2i_helpers.settings import Settings
from d2i_helpers.spec import Source, Spec
from d2i_helpers.tables import ssd_columns

Test = Callable[[Row, Page], bool]

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
        for rule in _rules(source):
            found[source.name] = (*found.get(source.name, ()), *RULE_COLUMNS.get(rule, ()))
            if rule == "s47_or_its_conference":
                found["icpc"] = ("icpc_icpc_date",)
            if rule == "care_worker_gate":
                found["professionals"] = (_registration(spec),)
    return found


def _rules(source: Source) -> list[str]:
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
        waiting += [other for rule in _rules(source) for other in RULE_SOURCES.get(rule, ())]
    return needed


@functools.cache
def _date_columns() -> frozenset[str]:
    return frozenset(row["column"] for row in ssd_columns() if row["type"] == "datetime")


def date_columns(spec: Spec) -> frozenset[str]:
    """Columns that hold dates: as the SSD declares them, or as the specification uses them."""
    used = {field.column for _, field in spec.fields() if field.type == "date"}
    for source in spec.sources.values():
        for entry in source.where:
            used.update(entry.get("overlaps") or (), entry.get("inside") or ())
    return _date_columns() | used


class Filters:
    """All sources' filters and orders, compiled for one window; turns raw rows into a page."""

    def __init__(self, spec: Spec, plan: Plan, window: Window, settings: Settings) -> None:
        self.plan = plan
        is_date = date_columns(spec).__contains__
        compiler = _Compiler(spec, plan, window, settings)
        ordered = sorted(plan.sources.values(), key=lambda s: bool(_looking_into(s)))
        self._steps = [
            (
                source,
                plan.read_of(source.name),
                compiler.tests(source),
                sorter(plan, source, is_date),
                # sources that are alike in this share their rows
                (plan.read_of(source.name), str(source.where), source.order, source.pick_first,
                 source.care_period),
            )
            for source in ordered
        ]  # fmt: skip

    def page(self, persons: list[Row], found: Mapping[Read, list[Row]]) -> Page:
        """A page from the raw rows of every query."""
        page, plan = Page(persons), self.plan
        groups: dict[Read, dict[str, list[Row]]] = {}
        alike: dict[Any, dict[str, list[Row]]] = {}
        for source, read, tests, sort, same in self._steps:
            if same in alike:
                page.found[source.name] = alike[same]
                continue
            if read not in groups:
                groups[read] = group_rows(found[read], plan.at(source.name, read.by))
            rows = groups[read]
            if source.care_period:
                rows = self._with_care_periods(source, rows, found)
            if tests:
                rows = _kept(rows, tests, page)
            if sort:
                rows = {key: sort(some) for key, some in rows.items()}
            if source.pick_first:
                rows = {key: some[:1] for key, some in rows.items()}
            page.found[source.name] = alike[same] = rows
        return page

    def broken(self, source: str, row: Row, page: Page) -> list[str]:
        """The entries of a source's `where` that a row does not fulfil, in words (for `why`)."""
        tests = next(tests for one, _, tests, _, _ in self._steps if one.name == source)
        entries = [
            f"{kind} {', '.join(argument) if kind != 'rule' else argument}"
            for entry in self.plan.sources[source].where
            for kind, argument in entry.items()
        ]
        return [entry for entry, test in zip(entries, tests, strict=True) if not test(row, page)]

    def _with_care_periods(
        self,
        source: Source,
        rows: dict[str, list[Row]],
        found: Mapping[Read, list[Row]],
    ) -> dict[str, list[Row]]:
        """Rows by person, and by the periods of care of a person; each row once a person.

        A row whose period of care is known to be of other children only is not of the person whose
        id it holds: SystemC writes the former id there, which may be another child's id today.
        """
        plan, place = self.plan, self.plan.at(source.name, source.care_period)
        owners = self._owners(found[plan.read_of(CARE_PERIODS)])
        named = self._owners(found[plan.owner_reads[source.name]])
        merged = {
            person: [row for row in some if person in named.get(key_text(row[place]), {person})]
            for person, some in rows.items()
        }
        for row in found[plan.care_period_reads[source.name]]:
            for person in owners.get(key_text(row[place]), ()):
                some = merged.setdefault(person, [])
                if row not in some:
                    some.append(row)
        return merged

    def _owners(self, episodes: Iterable[Row]) -> dict[str | None, set[str]]:
        """Whose each period of care is."""
        owner = self.plan.text(CARE_PERIODS, self.plan.sources[CARE_PERIODS].person)
        period = self.plan.text(CARE_PERIODS, CARE_PERIOD)
        found: dict[str | None, set[str]] = {}
        for episode in episodes:
            if (person := owner(episode)) and (key := period(episode)):
                found.setdefault(key, set()).add(person)
        return found


def _looking_into(source: Source) -> list[str]:
    return [other for rule in _rules(source) for other in RULE_SOURCES.get(rule, ())]


def _kept(rows: dict[str, list[Row]], tests: list[Test], page: Page) -> dict[str, list[Row]]:
    kept = rows
    for test in tests:
        left = {key: [row for row in some if test(row, page)] for key, some in kept.items()}
        kept = {key: some for key, some in left.items() if some}
    return kept


class _Compiler:
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
            began = date_text(row[start])
            if began is None or began > last:
                return False
            ended = date_text(row[end])
            return ended is None or ended >= first

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
        words = _words(self.spec.uasc_statuses)
        return lambda row, _page: _is_one_of(row[place], words)

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
        roles, days = _words(self.settings.care_worker_roles), self.window.census_dates

        def test(row: Row, page: Page) -> bool:
            if not _is_one_of(row[role], roles) or not page.rows("cin_plans", referral(row)):
                return False
            began, ended = start(row), end(row)
            if began is None or not any(began <= d and (ended is None or ended >= d) for d in days):
                return False
            known = page.rows("professionals", professional(row))
            return any(number(worker) is not None for worker in known)

        return test


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


def _is_one_of(value: Any, words: frozenset[str]) -> bool:
    text = read_text(value)[0]
    if text is None:
        return False
    return _word(text) in words or _word(_SEPARATED.split(text, maxsplit=1)[0]) in words
