"""Children of the SSD to documents: age, inclusion, assembly, and the tallies of a run.

Reads and computes only; what is stored is the business of `extract`.
"""

from __future__ import annotations

import datetime as dt
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers.cohort import (
    TOO_OLD,
    Eligibility,
    Inclusion,
    Window,
    eligibility,
    inclusion_sources,
)
from d2i_helpers.cohort.row_rules import rule_columns, with_rule_sources
from d2i_helpers.document.assembly import Assembler, sources_of
from d2i_helpers.document.canonical import to_text
from d2i_helpers.document.driver_values import EDGES, is_unreadable_date, is_unreadable_text
from d2i_helpers.document.expectation import Use, faults
from d2i_helpers.document.source_rows import (
    Doubt,
    Page,
    ReadPlan,
    SourceRow,
    Verdict,
    date_text,
    key_text,
    unreadable,
)
from d2i_helpers.extract.columns import DateColumns, uses_of_fields
from d2i_helpers.extract.filters import Filters
from d2i_helpers.extract.page_rows import PageRows
from d2i_helpers.extract.per_person import Numbers
from d2i_helpers.extract.read_twice import ReadTwice
from d2i_helpers.extract.sources import ReadPage, SourceReader
from d2i_helpers.extract.valid_until import ValidUntil
from d2i_helpers.payload_spec import Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import marks
from d2i_helpers.staging.attention import MASKED_IDS, mask
from d2i_helpers.staging.guards import ColumnUse
from d2i_helpers.staging.load import Child
from d2i_helpers.staging.marks import Mark
from d2i_helpers.staging.states import AGED_OUT, LEFT_COHORT, NO_LONGER_THERE

BORN, EXPECTED, LEGACY = "pers_dob", "pers_expected_dob", "pers_legacy_id"
LEGACY_LENGTH = 36  # of the staging column as it is deployed
OWN_COUNTS = ("persons_read", "eligible", "in_cohort")
_PERSONS, _ELIGIBLE, _IN_COHORT = range(len(OWN_COUNTS))
_LARGEST = 2**16 - 1  # count that a mark can hold
_LARGEST_SHORT = 2**8 - 1  # count of a mark that takes half the place, as nearly all do
_CAPITAL = re.compile("(?<=[a-z])(?=[A-Z])")  # "TypeError" is said as "type error"
ALIKE = "is another child's too, but for blanks or capitals"
TWIN = "is another child's too"
SECOND = "a second child has this id"
MOVED = "was written to while it was read, or a row that belongs to it was"
UNSEEN = "its id cannot be sent (characters at its ends that cannot be seen)"


@dataclass(frozen=True, slots=True)
class Withheld:
    """A person who may belong to the cohort and has no document today."""

    person_id: str
    doubts: tuple[Doubt, ...] = ()  # what cannot be said, and for which value
    refused: str | None = None  # the rule, where the child cannot be sent as it stands
    is_in: bool = True  # False: another row of the person may have a document


class Absentees:
    """Persons of the source who are not in the cohort today, by reason; eight bytes each."""

    def __init__(self) -> None:
        self._aged, self._others = array("q"), array("q")

    def add(self, person_id: str, reason: str) -> None:
        """Note a person who is in the source and not in the cohort."""
        (self._aged if reason == TOO_OLD else self._others).append(hash(person_id))

    def among(self, person_ids: Iterable[str]) -> frozenset[str]:
        """Those of these ids who were noted."""
        noted = {*self._aged, *self._others}
        return frozenset(one for one in person_ids if hash(one) in noted)

    def reasons(self, person_ids: Iterable[str]) -> dict[str, int]:
        """How many of these children left for which reason."""
        gone = Counter(map(hash, person_ids))
        aged = gone.keys() & self._aged
        left = (gone.keys() & self._others) - aged
        return {
            LEFT_COHORT: sum(gone[person] for person in left),
            NO_LONGER_THERE: sum(n for person, n in gone.items() if person not in aged | left),
            AGED_OUT: sum(gone[person] for person in aged),
        }


class _Outcome(NamedTuple):
    """What became of a person beyond doubt; the document aside."""

    problems: tuple[tuple[str, str], ...] = ()
    reasons: tuple[str, ...] = ()  # the inclusion sets
    left_out: str | None = None  # why the person is not in the cohort


@dataclass
class Problems:
    """What was left out and why: (path, rule) to a count and a few masked ids.

    The examples are the first in their own order, so that they do not depend on the order in which
    children are looked at.
    """

    by_rule: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, path: str, rule: str, person_id: str | None) -> None:
        """Count one more."""
        count, masked = self.by_rule.get((path, rule), (0, []))
        if person_id and (shown := mask(person_id)) not in masked:
            masked = sorted([*masked, shown])[:MASKED_IDS]
        self.by_rule[path, rule] = count + 1, masked

    def table(self) -> list[dict[str, Any]]:
        """Rows field, rule, count, children (masked ids), the most frequent first."""
        rows = [
            {"field": path, "rule": rule, "count": count, "children": ", ".join(masked)}
            for (path, rule), (count, masked) in self.by_rule.items()
        ]
        return sorted(rows, key=lambda row: (-row["count"], row["field"], row["rule"]))


def reading_plan(settings: Settings, spec: Spec) -> ReadPlan:
    """The tables and columns that extract reads, by the names of the specification."""
    header = settings.extract_scope == "header"
    return ReadPlan(
        spec,
        with_rule_sources(spec, sources_of(spec, header_only=header)),
        inclusion_sources(settings),
        {**rule_columns(spec), str(spec.root.source): (BORN, EXPECTED, LEGACY)},
    )


class Documents:
    """Compiled once a run from the specification and the settings; then gives page after page."""

    def __init__(self, engine: Engine, settings: Settings, spec: Spec) -> None:
        header = settings.extract_scope == "header"
        self.settings, self.spec = settings, spec
        self.window = Window.for_date(settings.today)
        self.plan = reading_plan(settings, spec)
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
        self._expected = self.plan.at(self.plan.person.name, EXPECTED)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()  # why children are not in
        self.problems = Problems()
        self.withheld: list[Withheld] = []  # of the last page
        self.absent = Absentees()
        self.twice = ReadTwice()  # what the whole tables say of the persons of pages
        # told of each person beyond doubt what was counted of it, a row of numbers a person
        self.watch: Callable[[Sequence[str], Numbers], None] | None = None
        person = self.plan.person
        self._alike = Doubt(person.table, person.key, ALIKE)
        self._twin = Doubt(person.table, person.key, TWIN)
        self._moved = Doubt(person.table, person.key, MOVED)
        self._due_doubt, self._birth_doubt = (
            unreadable(person.table, column, "the age") for column in (EXPECTED, BORN)
        )
        self._dates = DateColumns(spec, self.plan)
        self._until = ValidUntil(spec, self.plan, self.window, (BORN, EXPECTED))
        # what is counted of a person: own counts, those of the document, those of the date columns
        own, made = len(OWN_COUNTS), len(self.assembler.counts)
        self._of_documents = slice(own, own + made)
        self._of_dates = slice(own + made, own + made + self._dates.size)
        self._totals = np.zeros(self._of_dates.stop, np.int64)  # of all persons
        # what may be kept of the last page's persons, by their ids; without the documents
        self.found: dict[str, Mark] = {}
        self._outcome: _Outcome | None = None  # of the person that is looked at

    def pages(
        self, connection: Connection, only: Sequence[Any] | None = None
    ) -> Iterator[list[Child]]:
        """The children of the cohort, page by page; the tallies grow meanwhile.

        Args:
            only: the raw ids of the persons to read; None: those of `person_ids`, else all.
        """
        if only is not None and not only:
            return
        if only is None and not self.settings.person_ids:
            self.counts["without_id"] += self.reader.count_without_id(connection)
        fold = self.reader.deployed.folds_capitals(connection)
        for batch in self.reader.batches(connection, only):
            yield self._children(connection, batch, fold=fold)

    def _children(self, connection: Connection, batch: ReadPage, *, fold: bool) -> list[Child]:
        self.withheld = []
        page = self.filters.page(batch.persons, batch.found)
        in_statutory = self._statutory(batch)
        by_id: dict[str, list[SourceRow]] = {}
        for row in batch.persons:
            self.counts["persons_read"] += 1
            if (person_id := self._identify(row)) is not None:
                by_id.setdefault(person_id, []).append(row)
        children = []
        rows_of_page = PageRows(self.reader, batch, list(by_id), fold=fold)
        counts = np.zeros((len(by_id), len(self._totals)), np.int64)
        counts[:, self._of_dates] = rows_of_page.figures(self._dates)
        if alike := self.reader.written.alike.intersection(by_id):
            # nobody can say whose their rows are, and the next page may have them once more
            counts[[person_id in alike for person_id in by_id], self._of_dates] = 0
        fingerprints = None if self.settings.person_ids else rows_of_page.fingerprints()
        moved = self._moved_of(connection, by_id, fingerprints, fold=fold)
        outcomes: list[_Outcome | None] = []
        for (person_id, rows), counted in zip(by_id.items(), counts, strict=True):
            if person_id in moved:
                counted[:] = 0
                self._withhold(person_id, [self._moved])
                outcomes.append(None)
                continue
            identity: Verdict = self._alike if person_id in self.reader.written.alike else True
            if identity is True and any(row != rows[0] for row in rows):
                identity = self._twin
            self._outcome = None
            for row in rows:
                if identity is True and row is not rows[0]:
                    self.refuse_duplicate(person_id)
                elif child := self._judged(row, person_id, identity, in_statutory, page, counted):
                    children.append(child)
            outcomes.append(self._outcome if len(rows) == 1 and identity is True else None)
        self._totals += counts.sum(axis=0)
        if self.watch is not None:
            self.watch(list(by_id), counts)
        self.found = {}
        if fingerprints is not None:
            until = rows_of_page.valid_until(self._until)
            self.found = self._kept(fingerprints, until, list(by_id), outcomes, counts)
        return children

    def _moved_of(
        self,
        connection: Connection,
        by_id: Mapping[str, Sequence[SourceRow]],
        fingerprints: Numbers | None,
        *,
        fold: bool,
    ) -> set[str]:
        """The persons of a page whose rows are not what they were with the tables as a whole."""
        person_ids = list(by_id)
        self.twice.meet(person_ids)
        if fingerprints is None:
            return set()
        alike, with_blanks = self.reader.written.alike, self.reader.written.is_with_blanks
        certain = [
            len(rows) == 1 and person_id not in alike and not with_blanks(person_id)
            for person_id, rows in by_id.items()
        ]
        moved = self.twice.differing(list(compress(person_ids, certain)), fingerprints[certain])
        if each_time := self.twice.moved_each_time(moved):
            raw_ids = [by_id[person_id][0][self._id_at] for person_id in each_time]
            # twice, as a load that ends just now gives other rows once
            first, second = (
                self._fingerprints_now(connection, raw_ids, fold=fold) for _ in range(2)
            )
            self.twice.restless |= {
                one
                for one in each_time
                if len({self.twice.moved[one], first.get(one), second.get(one)}) == 3
            }
        return moved - self.twice.restless

    def _fingerprints_now(
        self, connection: Connection, raw_ids: Sequence[Any], *, fold: bool
    ) -> dict[str, int]:
        """The fingerprints of some persons' rows at this moment."""
        now: dict[str, int] = {}
        for batch in self.reader.batches(connection, raw_ids):
            ids = [key_text(row[self._id_at]) or "" for row in batch.persons]
            found = PageRows(self.reader, batch, ids, fold=fold).fingerprints()
            now |= dict(zip(ids, found.tolist() if found is not None else (), strict=False))
        return now

    def _kept(
        self,
        fingerprints: Numbers,
        until: Numbers,
        person_ids: Sequence[str],
        outcomes: Sequence[_Outcome | None],
        counts: Numbers,
    ) -> dict[str, Mark]:
        """What may be kept of the persons of a page, by their ids.

        Args:
            until: the last day for which each person's document holds, as an ordinal.
        """
        fits = counts.max(axis=1, initial=0) <= _LARGEST
        longs = counts.astype(np.uint16)
        shorts = counts.astype(np.uint8)
        are_short = counts.max(axis=1, initial=0) <= _LARGEST_SHORT
        written = self.reader.written
        return {
            person_id: Mark(
                person_id,
                int(fingerprints[at]),
                dt.date.fromordinal(int(until[at])),
                (shorts if are_short[at] else longs)[at].tobytes(),
                outcome.problems,
                reasons=",".join(outcome.reasons),
                left_out=outcome.left_out,
            )
            for at, (person_id, outcome) in enumerate(zip(person_ids, outcomes, strict=True))
            if outcome is not None and fits[at] and not written.is_with_blanks(person_id)
        }

    def take(self, kept: marks.Held) -> dict[str, int]:
        """Add what an earlier run found of persons whose rows have not changed since.

        Returns:
            Items and blocks of their documents, by the block's name.
        """
        totals = np.zeros(len(self._totals), np.int64)
        of_persons = np.zeros((len(kept) if self.watch else 0, len(totals)), np.int64)
        for number_type in (np.uint8, np.uint16):
            size = len(totals) * np.dtype(number_type).itemsize
            are_such = np.array([len(one) == size for one in kept.counts], bool)
            held = np.frombuffer(b"".join(compress(kept.counts, are_such)), number_type)
            counts = held.reshape(-1, len(totals))
            totals += counts.sum(axis=0, dtype=np.uint32)  # some thousand numbers of 16 bits
            if self.watch is not None:
                of_persons[are_such] = counts
        self.twice.meet(kept.person_ids)
        if self.watch is not None:
            self.watch(kept.person_ids, of_persons)
        self._totals += totals
        for name, count in zip(OWN_COUNTS, totals.tolist(), strict=False):
            self.counts[name] += count
        is_in = [reason is None for reason in kept.left_out]
        for reasons, count in Counter(filter(None, compress(kept.reasons, is_in))).items():
            self.reasons.update(dict.fromkeys(reasons.split(","), count))
        for person_id, reason in zip(kept.person_ids, kept.left_out, strict=True):
            if reason is not None:
                self._leave_out(person_id, reason)
        for person_id, problems in zip(kept.person_ids, kept.problems, strict=True):
            for path, rule in marks.problems_of(problems):
                self.problems.add(path, rule, person_id)
        return self.assembler.items(totals[self._of_documents].tolist())

    def _identify(self, row: SourceRow) -> str | None:
        """The child's id as text; None where there is none, or none that can be read."""
        person_id = key_text(row[self._id_at])
        if person_id is None:
            self.counts["without_id"] += 1
        return person_id

    def _statutory(self, batch: ReadPage) -> Callable[[str], Verdict]:
        """Whether a person is in the statutory cohort, where one is set."""
        if batch.statutory is None:
            return lambda _person_id: True
        allowed = {key_text(value) for value in batch.statutory}
        table = self.settings.statutory_cohort_table or ""
        lost = any(map(is_unreadable_text, batch.statutory))
        otherwise: Verdict = unreadable(table, "person_id", "who is in it") if lost else False
        return lambda person_id: person_id in allowed or otherwise

    def refuse_duplicate(self, person_id: str) -> None:
        """Count a second person with an id that was read already."""
        self._refuse(person_id, self.spec.root.key or "", SECOND, is_in=False)

    def _refuse(self, person_id: str, path: str, rule: str, *, is_in: bool = True) -> None:
        self.counts["refused"] += 1
        self.problems.add(path, f"refused: {rule}", person_id)
        self.withheld.append(Withheld(person_id, refused=rule, is_in=is_in))

    def _withhold(self, person_id: str, doubts: Iterable[Doubt]) -> None:
        by_column: dict[tuple[str, str], Doubt] = {}
        for doubt in doubts:
            by_column.setdefault((doubt.table, doubt.column), doubt)
        different = tuple(by_column.values())
        for doubt in different:
            self.problems.add(f"{doubt.table}.{doubt.column}", doubt.rule, person_id)
        self.withheld.append(Withheld(person_id, different))

    def _leave_out(self, person_id: str, reason: str) -> None:
        self.left_out[reason] += 1
        self.absent.add(person_id, reason)
        self._outcome = _Outcome(left_out=reason)

    def judge(self, row: SourceRow) -> Eligibility:
        """Whether the child of this row is of an age to be in."""
        born: str | Doubt | None = date_text(row[self._born])
        expected: str | Doubt | None = date_text(row[self._expected])
        if born is None and is_unreadable_date(row[self._born]):
            born = self._birth_doubt
        if expected is None and is_unreadable_date(row[self._expected]):
            expected = self._due_doubt
        return eligibility(born, expected, self.window, self.settings)

    def _judged(
        self,
        row: SourceRow,
        person_id: str,
        identity: Verdict,
        in_statutory: Callable[[str], Verdict],
        page: Page,
        counted: Numbers,
    ) -> Child | None:
        """The child of a row, where it is in; who may be in is withheld.

        Args:
            identity: whether what the page holds under this id is this person's.
            counted: where the person's counts go.
        """
        counted[_PERSONS] += 1
        age = self.judge(row)
        if age.eligible is False:
            self._leave_out(person_id, age.reason)
            return None
        self.counts["eligible"] += age.eligible is True
        counted[_ELIGIBLE] += age.eligible is True
        membership = self.inclusion.judge(person_id, age.born, page)
        if membership.verdict is False:
            self._leave_out(person_id, "in no inclusion set")
            return None
        allowed = in_statutory(person_id)
        if allowed is False:
            self._leave_out(person_id, "not in the statutory cohort")
            return None
        verdicts = (age.eligible, membership.verdict, allowed, identity)
        if all(verdict is True for verdict in verdicts):
            return self._child(row, person_id, membership.reasons, page, counted)
        doubts = [verdict for verdict in verdicts if isinstance(verdict, Doubt)]
        if membership.verdict is not True:
            doubts += membership.doubts
        self._withhold(person_id, doubts)
        return None

    def _child(
        self,
        row: SourceRow,
        person_id: str,
        reasons: tuple[str, ...],
        page: Page,
        counted: Numbers,
    ) -> Child | None:
        self.counts["in_cohort"] += 1
        counted[_IN_COHORT] += 1
        for reason in reasons:
            self.reasons[reason] += 1
        try:
            document, problems = self.assembler.assemble(row, person_id, page)
        except Exception as error:  # one bad row never stops a run; the value stays unsaid
            kind = _CAPITAL.sub(" ", type(error).__name__).lower()
            self._refuse(person_id, "document", f"cannot be assembled ({kind})")
            return None
        counted[self._of_documents] += np.frombuffer(self.assembler.counts, np.int64)
        for path, rule in problems:
            self.problems.add(path, rule, person_id)
        if document is None:
            self._refuse(person_id, self.spec.root.key or "", _why_unusable(self.spec, problems))
            return None
        if person_id.strip(EDGES) != person_id:  # the document would be of the child without them
            self._refuse(person_id, self.spec.root.key or "", UNSEEN)
            return None
        if page.met:
            self._withhold(person_id, page.met)
            return None
        legacy_id = key_text(row[self._legacy_at])
        legacy_id = legacy_id if legacy_id and len(legacy_id) <= LEGACY_LENGTH else None
        self._outcome = _Outcome(tuple(problems), reasons)
        text = to_text(document)
        return Child(person_id, legacy_id, document, text, reasons, self.assembler.items())

    def column_uses(self) -> list[ColumnUse]:
        """How many values of each source column could be used so far, for the guard."""
        return self.uses_of_columns([self.numbers()])

    def numbers(self) -> dict[str, Any]:
        """What `uses_of_columns` needs of this process, as JSON."""
        rules = [[path, rule, n] for (path, rule), (n, _) in self.problems.by_rule.items()]
        return {"totals": self._totals.tolist(), "rules": rules}

    def uses_of_columns(self, processes: Sequence[Mapping[str, Any]]) -> list[ColumnUse]:
        """How many values of each source column several processes together could use so far.

        Args:
            processes: the `numbers` of each.
        """
        totals: Numbers = np.array([one["totals"] for one in processes], np.int64).sum(axis=0)
        rules: dict[tuple[str, str], tuple[int, list[str]]] = {}
        for path, rule, count in (one for numbers in processes for one in numbers["rules"]):
            before, _ = rules.get((path, rule), (0, []))
            rules[path, rule] = before + count, []
        tallies = self.assembler.tallies(totals[self._of_documents].tolist())
        fields = uses_of_fields(self.spec, tallies, rules)
        return [*self._dates.uses(totals[self._of_dates].tolist()), *fields]

    def uses(self) -> dict[str, Use]:
        """How each field was filled so far, by path."""
        tallies = self.assembler.tallies(self._totals[self._of_documents].tolist())
        return {path: Use(tally.rows, tally.filled, tally.wrong) for path, tally in tallies.items()}

    @staticmethod
    def in_cohort(counts: Numbers) -> Numbers:
        """1 for each child of the cohort, else 0; ``counts`` as `watch` is told them."""
        return counts[:, _IN_COHORT]

    def person_id(self, row: SourceRow) -> str | None:
        """The id of a person's row as text."""
        return key_text(row[self._id_at])

    def uses_by_child(self, counts: Numbers) -> dict[str, Use]:
        """How each field was filled, by path: an array with a number for each child.

        Args:
            counts: a row for each child, as `watch` is told them.
        """
        of_documents = counts[:, self._of_documents]
        return {
            path: Use(*(of_documents[:, at] for at in places))
            for path, places in self.assembler.places().items()
        }

    def quality(self) -> list[dict[str, Any]]:
        """A row a field: filled, missing, unusable, and per cent filled of what was expected.

        Where the system is known to leave a field empty, the row says so.
        """
        gaps = {f.path for b, f in self.spec.fields() if self.spec.known_gap(b, f)}
        types = {field.path: field.type for _, field in self.spec.fields()}
        uses = self.uses()
        return [
            {
                "field": path,
                # between them, as a number of three figures after the word "id" passes for an id
                "type": types[path],
                "filled": uses[path].filled,
                "missing": int(fault.missing),
                "unusable": fault.wrong,
                "per cent": fault.per_cent_good(),
                "known gap": True if path in gaps else None,
            }
            for path, fault in faults(self.spec, uses).items()
        ]


def _why_unusable(spec: Spec, problems: list[tuple[str, str]]) -> str:
    """The rule that the child's own id breaks."""
    broken = next((rule for path, rule in problems if path == spec.root.key), None)
    return f"its id cannot be sent ({broken})" if broken else "its id cannot be sent"
