"""From the raw rows of a page to the rows that count, found by key, filtered and sorted.

Rows of which it cannot be said whether they count are left out, and the page keeps the doubt for
whoever asks for the rows of that key.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from d2i_helpers.cohort import Window
from d2i_helpers.cohort.row_rules import (
    AllOf,
    Compiler,
    Test,
    in_words,
    looks_into,
    rules_of,
)
from d2i_helpers.database.tables import ssd_columns
from d2i_helpers.document.source_rows import (
    CARE_PERIOD,
    CARE_PERIODS,
    Doubt,
    Page,
    Read,
    ReadPlan,
    SourceRow,
    Verdict,
    date_text,
    key_text,
    overtaking,
    sorter,
)
from d2i_helpers.document.source_rows import grouped as group_rows
from d2i_helpers.payload_spec import Source, Spec
from d2i_helpers.settings import Settings


@functools.cache
def _date_columns() -> frozenset[str]:
    return frozenset(row["column"] for row in ssd_columns() if row["type"] == "datetime")


def date_columns(spec: Spec) -> frozenset[str]:
    """Columns that hold dates: as the SSD declares them, or as the specification uses them."""
    used = {field.column for _, field in spec.fields() if field.type == "date"}
    for source in spec.sources.values():
        for rule, argument in rules_of(source):
            if rule.dates:
                used.update(*argument)
    return _date_columns() | used


Doubtful = list[tuple[SourceRow, Doubt]]  # rows of which it cannot be said whether they count


class _Step:
    """How the rows of one source are filtered and sorted."""

    def __init__(
        self, source: Source, plan: ReadPlan, compiler: Compiler, is_date: Callable[[str], bool]
    ) -> None:
        self.source, self.read = source, plan.read_of(source.name)
        self.tests = compiler.tests(source)
        self.sort = sorter(plan, source, is_date)
        self.overtakes = overtaking(plan, source, is_date)
        names = {word.lstrip("-") for part in source.order for word in part.split()}
        self._dates = [plan.at(source.name, name) for name in names if is_date(name)]
        # sources that are alike in this share their rows
        self.alike = (self.read, str(source.where), source.order, source.pick_first,
                      source.care_period)  # fmt: skip

    def ordered(self, rows: list[SourceRow]) -> list[SourceRow]:
        """The rows of one key in their order; the first alone where the source says so."""
        if self.sort is None or len(rows) < 2:
            return rows
        rows = self.sort(rows)
        return rows[:1] if self.source.pick_first else rows

    def order_is_clear(self, rows: list[SourceRow]) -> bool:
        """Whether every date that the order looks at is read, or is not there."""
        return len(rows) < 2 or not any(
            row[place] is not None and date_text(row[place]) is None
            for place in self._dates
            for row in rows
        )

    def doubts(self, rows: list[SourceRow], doubtful: Doubtful) -> list[Doubt]:
        """What cannot be said of the rows of one key.

        Args:
            rows: those that count, in no order.
            doubtful: those that may count.
        """
        if not self.source.pick_first:
            found = [doubt for _, doubt in doubtful]
        else:
            found = [doubt for row, doubt in doubtful if self._may_be_first(rows, row)]
        overtakes = self.overtakes
        if overtakes and self.sort and len(rows) > 1:
            first, *others = self.sort(rows)
            unsure = (overtakes(first, other) for other in others)
            found += [doubt for doubt in unsure if doubt is not None]
        return found

    def _may_be_first(self, rows: list[SourceRow], row: SourceRow) -> bool:
        if not rows or self.sort is None:
            return True
        first = self.sort(rows)[0]
        if self.sort([first, row])[0] is row:
            return True
        return self.overtakes is not None and self.overtakes(first, row) is not None


class Filters:
    """All sources' filters and orders, compiled for one window; turns raw rows into a page."""

    def __init__(self, spec: Spec, plan: ReadPlan, window: Window, settings: Settings) -> None:
        self.plan = plan
        is_date = date_columns(spec).__contains__
        compiler = Compiler(spec, plan, window, settings, is_date)
        ordered = sorted(plan.sources.values(), key=lambda s: bool(looks_into(s)))
        self._steps = [_Step(source, plan, compiler, is_date) for source in ordered]

    def page(self, persons: list[SourceRow], found: Mapping[Read, list[SourceRow]]) -> Page:
        """A page from the raw rows of every query."""
        page, plan = Page(persons), self.plan
        alike: dict[Any, str] = {}
        for step in self._steps:
            source = step.source
            same = alike.setdefault(step.alike, source.name)
            if same != source.name:
                page.found[source.name] = page.found[same]
                if same in page.doubts:
                    page.doubts[source.name] = page.doubts[same]
                continue
            raw, place = found[step.read], plan.at(source.name, step.read.by)
            doubtful: dict[str, Doubtful] = {}
            if source.care_period:
                groups = self._with_care_periods(source, group_rows(raw, place), found)
                for key, some in groups.items():
                    groups[key], unsure = _kept(some, step.tests, page)
                    if unsure:
                        doubtful[key] = unsure
            else:
                kept, unsure = _kept(raw, step.tests, page)
                groups = group_rows(kept, place)
                for row, doubt in unsure:
                    if person_or_link := key_text(row[place]):
                        doubtful.setdefault(person_or_link, []).append((row, doubt))
            self._finish(step, groups, doubtful, page)
        return page

    def _finish(
        self,
        step: _Step,
        groups: dict[str, list[SourceRow]],
        doubtful: Mapping[str, Doubtful],
        page: Page,
    ) -> None:
        """Sort the rows of each key, and note what cannot be said of them."""
        doubts: dict[str, list[Doubt]] = {}
        unclear: list[str] = []
        if step.overtakes:  # else no date is part of the order
            unclear = [k for k, some in groups.items() if not step.order_is_clear(some)]
        for key in {*doubtful, *unclear}:
            if found := step.doubts(groups.get(key, []), doubtful.get(key, [])):
                doubts[key] = found
        if doubts:
            page.doubts[step.source.name] = doubts
        if step.sort:
            for key, some in groups.items():
                if len(some) > 1:
                    groups[key] = step.ordered(some)
        page.found[step.source.name] = groups

    def broken(self, source: str, row: SourceRow, page: Page) -> list[str]:
        """The entries of a source's `where` that a row does not fulfil, in words (for `why`)."""
        tests = next(step.tests for step in self._steps if step.source.name == source)
        found: list[str] = []
        for (rule, argument), test in zip(rules_of(self.plan.sources[source]), tests, strict=True):
            verdict = test(row, page)
            if verdict is True:
                continue
            if isinstance(test, AllOf):
                found += [f"rule {rule.name}: {part}" for part in test.broken(row, page)]
                continue
            entry = " ".join([rule.name, *(", ".join(columns) for columns in argument)])
            if not argument:
                entry = f"rule {rule.name} (counts if {rule.words})"
            found.append(in_words(entry, verdict))
        return found

    def _with_care_periods(
        self,
        source: Source,
        rows: dict[str, list[SourceRow]],
        found: Mapping[Read, list[SourceRow]],
    ) -> dict[str, list[SourceRow]]:
        """Rows by person, and by the periods of care of a person; each row once a person.

        A row whose period of care is known to be of other children only is not of the person whose
        id it holds: SystemC writes the former id there, which may be another child's id today.
        """
        plan, place = self.plan, self.plan.at(source.name, str(source.care_period))
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

    def _owners(self, episodes: Iterable[SourceRow]) -> dict[str | None, set[str]]:
        """Whose each period of care is."""
        owner = self.plan.text(CARE_PERIODS, str(self.plan.sources[CARE_PERIODS].person))
        period = self.plan.text(CARE_PERIODS, CARE_PERIOD)
        found: dict[str | None, set[str]] = {}
        for episode in episodes:
            if (person := owner(episode)) and (key := period(episode)):
                found.setdefault(key, set()).add(person)
        return found


def _kept(rows: list[SourceRow], tests: list[Test], page: Page) -> tuple[list[SourceRow], Doubtful]:
    """The rows for which every test holds, and those of which that cannot be said."""
    doubts: dict[int, Doubt] = {}  # by identity of the row

    def may_count(row: SourceRow, verdict: Verdict) -> bool:
        if verdict is False:
            return False
        if verdict is not True:
            doubts.setdefault(id(row), verdict)
        return True

    for test in tests:
        rows = [row for row in rows if (v := test(row, page)) is True or may_count(row, v)]
    if not doubts:
        return rows, []
    unsure = [(row, doubts[id(row)]) for row in rows if id(row) in doubts]
    return [row for row in rows if id(row) not in doubts], unsure
