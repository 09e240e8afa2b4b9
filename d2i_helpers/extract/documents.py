"""Children of the SSD to documents: age, inclusion, assembly, and the tallies of a run.

Reads and computes only; what is stored is the business of `extract`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers.cohort import Eligibility, Inclusion, Window, eligibility, inclusion_sources
from d2i_helpers.cohort.row_rules import rule_columns, with_rule_sources
from d2i_helpers.extract.filters import Filters
from d2i_helpers.extract.sources import Batch, SourceReader
from d2i_helpers.payload.assembly import Assembler, sources_of
from d2i_helpers.settings import Settings
from d2i_helpers.source_rows import Page, Plan, Row, key_text
from d2i_helpers.spec import Document, Spec

BORN, EXPECTED, LEGACY = "pers_dob", "pers_expected_dob", "pers_legacy_id"
LEGACY_LENGTH = 36  # of the staging column as it is deployed
_CAPITAL = re.compile("(?<=[a-z])(?=[A-Z])")  # "TypeError" is said as "type error"
MASKED_IDS = 3  # examples kept of each problem


@dataclass(frozen=True, slots=True)
class Child:
    """A child of the cohort with the document that the source gives today."""

    person_id: str
    legacy_id: str | None  # a second id, for the staging column of that name
    document: Document
    reasons: tuple[str, ...]  # the inclusion sets
    items: Mapping[str, int]  # items and blocks that could be purged each, by the block's name


@dataclass
class Problems:
    """What was left out and why: (path, rule) to a count and a few masked ids."""

    found: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, path: str, rule: str, person_id: str | None) -> None:
        """Count one more."""
        count, masked = self.found.get((path, rule), (0, []))
        if len(masked) < MASKED_IDS and person_id and (shown := mask(person_id)) not in masked:
            masked = [*masked, shown]
        self.found[path, rule] = count + 1, masked

    def table(self) -> list[dict[str, Any]]:
        """Rows field, rule, count, children (masked ids), the most frequent first."""
        rows = [
            {"field": path, "rule": rule, "count": count, "children": ", ".join(masked)}
            for (path, rule), (count, masked) in self.found.items()
        ]
        return sorted(rows, key=lambda row: (-row["count"], row["field"], row["rule"]))


def mask(person_id: str) -> str:
    """The last two characters of an id, as far as that tells nobody who it is."""
    return f"…{person_id[-2:]}" if len(person_id) > 3 else "…"


class Documents:
    """Compiled once a run from the specification and the settings; then gives page after page."""

    def __init__(self, engine: Engine, settings: Settings, spec: Spec) -> None:
        header = settings.extract_scope == "header"
        self.settings, self.spec = settings, spec
        self.window = Window.for_date(settings.today)
        self.plan = Plan(
            spec,
            with_rule_sources(spec, sources_of(spec, header_only=header)),
            inclusion_sources(settings),
            {**rule_columns(spec), spec.root.source: (BORN, EXPECTED, LEGACY)},
        )
        self.filters = Filters(spec, self.plan, self.window, settings)
        self.inclusion = Inclusion(self.plan, self.window, settings)
        self.assembler = Assembler(
            spec,
            self.plan,
            header_only=header,
            once_per_child=settings.repeat_person_facts == "one_episode",
        )
        self.reader = SourceReader(engine, settings, spec, self.plan)
        self._id_at = self.plan.at(self.plan.person.name, self.plan.person.key)
        self._legacy_at = self.plan.at(self.plan.person.name, LEGACY)
        self._born = self.plan.at(self.plan.person.name, BORN)
        self._born_text = self.plan.date(self.plan.person.name, BORN)
        self._expected = self.plan.date(self.plan.person.name, EXPECTED)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()  # why children are not in
        self.problems = Problems()
        self.held: list[str] = []  # children of the last page that are in, but have no document
        self._last_id: str | None = None

    def pages(self, connection: Connection) -> Iterator[list[Child]]:
        """The children of the cohort, page by page; the tallies grow meanwhile."""
        if not self.settings.person_ids:
            self.counts["without_id"] += self.reader.count_without_id(connection)
        for batch in self.reader.batches(connection):
            page = self.filters.page(batch.persons, batch.found)
            yield self._children(batch, page)

    def _children(self, batch: Batch, page: Page) -> list[Child]:
        self.held = []
        allowed = None
        if batch.statutory is not None:
            allowed = {key_text(value) for value in batch.statutory}
        children = []
        for row in batch.persons:
            self.counts["persons_read"] += 1
            person_id = self._identify(row)
            if person_id is None:
                continue
            reasons = self._reasons(row, person_id, page)
            if reasons and allowed is not None and person_id not in allowed:
                self.left_out["not in the statutory cohort"] += 1
                reasons = ()
            if reasons and (child := self._child(row, person_id, reasons, page)):
                children.append(child)
        return children

    def _identify(self, row: Row) -> str | None:
        """The child's id as text; None where it is blank or was there just before."""
        person_id = key_text(row[self._id_at])
        if person_id is None:
            self.counts["without_id"] += 1
        elif person_id == self._last_id:
            self.refuse_duplicate(person_id)
            return None
        self._last_id = person_id
        return person_id

    def refuse_duplicate(self, person_id: str) -> None:
        """Count a second person with an id that was read already."""
        self.counts["refused"] += 1
        self.problems.add(
            self.spec.root.key or "", "refused: a second child has this id", person_id
        )

    def judge(self, row: Row) -> Eligibility:
        """Whether the child of this row is of an age to be in."""
        return eligibility(self._born_text(row), self._expected(row), self.window, self.settings)

    def _reasons(self, row: Row, person_id: str, page: Page) -> tuple[str, ...]:
        verdict = self.judge(row)
        if not verdict.eligible:
            self.left_out[verdict.reason] += 1
            if verdict.born is None and key_text(row[self._born]) and not self._born_text(row):
                self.problems.add("date_of_birth", "unreadable, so the age is not known", person_id)
            return ()
        self.counts["eligible"] += 1
        reasons = self.inclusion.reasons(person_id, verdict.born, page)
        if not reasons:
            self.left_out["in no inclusion set"] += 1
        return reasons

    def _child(
        self, row: Row, person_id: str, reasons: tuple[str, ...], page: Page
    ) -> Child | None:
        self.counts["in_cohort"] += 1
        self.reasons.update(reasons)
        try:
            document, problems = self.assembler.assemble(row, person_id, page)
        except Exception as error:  # one bad row never stops a run; the value stays unsaid
            self.counts["refused"] += 1
            self.held.append(person_id)
            kind = _CAPITAL.sub(" ", type(error).__name__).lower()
            rule = f"refused: cannot be assembled ({kind})"
            self.problems.add("document", rule, person_id)
            return None
        for path, rule in problems:
            self.problems.add(path, rule, person_id)
        if document is None:
            self.counts["refused"] += 1
            return None
        legacy_id = key_text(row[self._legacy_at])
        legacy_id = legacy_id if legacy_id and len(legacy_id) <= LEGACY_LENGTH else None
        return Child(person_id, legacy_id, document, reasons, self.assembler.items)

    def quality(self) -> list[dict[str, Any]]:
        """A row a field: filled, missing, unusable, and per cent filled of what could be.

        Where the system is known to leave a field empty, the row says so.
        """
        gaps = {f.path for b, f in self.spec.fields() if self.spec.known_gap(b, f)}
        rows = []
        for path, tally in self.assembler.tallies().items():
            missing = max(tally.rows - tally.filled - tally.unusable, 0)
            share = round(100 * tally.filled / tally.rows, 1) if tally.rows else None
            rows.append(
                {
                    "field": path,
                    "filled": tally.filled,
                    "missing": missing,
                    "unusable": tally.unusable,
                    "per cent": share,
                    "known gap": True if path in gaps else None,
                }
            )
        return rows
