"""From the raw rows of a page to the rows that count, found by key, filtered and sorted."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from d2i_helpers.cohort import Window
from d2i_helpers.cohort.row_rules import AllOf, Compiler, Test, looks_into
from d2i_helpers.settings import Settings
from d2i_helpers.source_rows import (
    CARE_PERIOD,
    CARE_PERIODS,
    Page,
    Plan,
    Read,
    Row,
    key_text,
    sorter,
)
from d2i_helpers.source_rows import grouped as group_rows
from d2i_helpers.spec import Source, Spec
from d2i_helpers.tables import ssd_columns


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
        compiler = Compiler(spec, plan, window, settings)
        ordered = sorted(plan.sources.values(), key=lambda s: bool(looks_into(s)))
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
        alike: dict[Any, dict[str, list[Row]]] = {}
        for source, read, tests, sort, same in self._steps:
            if same in alike:
                page.found[source.name] = alike[same]
                continue
            raw = found[read]
            if source.care_period:
                groups = group_rows(raw, plan.at(source.name, read.by))
                groups = self._with_care_periods(source, groups, found)
                groups = {key: _kept(some, tests, page) for key, some in groups.items()}
            else:
                groups = group_rows(_kept(raw, tests, page), plan.at(source.name, read.by))
            if sort:
                for key, some in groups.items():
                    if len(some) > 1:
                        some = sort(some)
                        groups[key] = some[:1] if source.pick_first else some
            page.found[source.name] = alike[same] = groups
        return page

    def broken(self, source: str, row: Row, page: Page) -> list[str]:
        """The entries of a source's `where` that a row does not fulfil, in words (for `why`)."""
        tests = next(tests for one, _, tests, _, _ in self._steps if one.name == source)
        entries = [
            f"{kind} {', '.join(argument) if kind != 'rule' else argument}"
            for entry in self.plan.sources[source].where
            for kind, argument in entry.items()
        ]
        found: list[str] = []
        for entry, test in zip(entries, tests, strict=True):
            if not test(row, page):
                parts = test.broken(row, page) if isinstance(test, AllOf) else []
                found += [f"{entry}: {part}" for part in parts] or [entry]
        return found

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


def _kept(rows: list[Row], tests: list[Test], page: Page) -> list[Row]:
    for test in tests:
        rows = [row for row in rows if test(row, page)]
    return rows
