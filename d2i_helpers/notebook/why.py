"""Why a child is in or out, and why an item or field is missing; for an analyst's screen.

The result is about one child and holds identifiers, so it is refused in a recorded run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from d2i_helpers import database
from d2i_helpers.cohort import Window
from d2i_helpers.cohort.inclusion import Candidate
from d2i_helpers.document.field_values import route
from d2i_helpers.document.source_rows import (
    Doubt,
    Page,
    SourceRow,
    Verdict,
    date_text,
    key_text,
)
from d2i_helpers.document.transforms import compile_transform
from d2i_helpers.errors import GateError
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.sources import ReadPage
from d2i_helpers.kernel_protocol import RUN_ID_VARIABLE
from d2i_helpers.payload_spec import Document, Field, Source, Spec, source_columns
from d2i_helpers.payload_spec.registry import INCLUSION_SETS, InclusionSet
from d2i_helpers.settings import Settings

UNSAID = "cannot be said"
_OF_COLUMNS = ("overlaps", "inside", "known", "equals")  # the rules that name columns


@dataclass(frozen=True)
class Evidence:
    """A source row that was looked at for the child, and whether it counts."""

    table: str
    key: str | None
    values: dict[str, str]  # the columns that decide; of dates the day
    counts: bool
    because: tuple[str, ...] = ()  # why it does not count, or that it cannot be said


@dataclass(frozen=True)
class SetVerdict:
    """Whether the child is in an inclusion set, and the rows that say so."""

    name: str
    words: str
    holds: bool | str  # yes, no, UNSAID
    because: str  # in one sentence
    rows: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field of the child, and the stored value that is to blame."""

    path: str
    rule: str
    table: str = ""
    column: str = ""
    key: str | None = None  # of the row
    value: str | None = None  # as it is stored


@dataclass
class Why:
    """Every rule's verdict for one child."""

    person_id: str
    is_in: bool = False
    rules: list[dict[str, Any]] = field(default_factory=list)  # rule, holds, detail
    rows: list[dict[str, Any]] = field(default_factory=list)  # source, key, counts, broken rules
    fields: list[dict[str, Any]] = field(default_factory=list)  # field, why it is missing
    document: Document | None = None
    window: Window | None = None
    sets: list[SetVerdict] = field(default_factory=list)
    left_out: list[tuple[str, Evidence]] = field(default_factory=list)  # source, row not counted
    problems: list[Problem] = field(default_factory=list)

    def rows_left_out(self) -> list[dict[str, Any]]:
        """How many rows each rule of each source left out, without any id."""
        counted = Counter((row["source"], rule) for row in self.rows for rule in row["broken"])
        return [{"source": s, "rule": r, "rows": n} for (s, r), n in sorted(counted.items())]

    def add(self, rule: str, verdict: Verdict, detail: str = "") -> bool:
        """Note a verdict and return whether it is a yes; a doubt is noted with its reason."""
        if isinstance(verdict, Doubt):
            self.rules.append({"rule": rule, "holds": UNSAID, "detail": str(verdict)})
            return False
        self.rules.append({"rule": rule, "holds": verdict, "detail": detail})
        return verdict


def why(engine: Engine, settings: Settings, spec: Spec, person_id: str) -> Why:
    """Judge one child by every rule, with the settings of the profile.

    Args:
        person_id: as in ``ssd_person``.

    Raises:
        GateError: this is a recorded run; its output is kept and shown to others.
        DatabaseError: required tables or columns are missing.
    """
    if os.environ.get(RUN_ID_VARIABLE):
        raise GateError(
            "What is said of one child may not stand in a run record.",
            hint="Ask in a notebook opened by hand.",
        )
    answer = Why(person_id.strip())
    alone = settings.model_copy(update={"person_ids": (person_id,)})
    documents = Documents(engine, alone, spec)
    documents.reader.deployed.check()
    with database.reading(engine) as connection:
        batch = next(documents.reader.batches(connection))
    page = documents.filters.page(batch.persons, batch.found)
    if answer.add("is in ssd_person", bool(batch.persons)):
        _judge(answer, documents, batch, page)
    return answer


def _judge(answer: Why, documents: Documents, batch: ReadPage, page: Page) -> None:
    row = batch.persons[0]
    answer.window = documents.window
    verdict = documents.judge(row)
    answer.add("of age in the window", verdict.eligible, verdict.reason)
    membership = documents.inclusion.judge(answer.person_id, verdict.born, page)
    reasons = membership.reasons
    for inclusion_set in INCLUSION_SETS.rules():
        is_on = inclusion_set.is_on(documents.settings)
        detail = inclusion_set.words if is_on else f"switched off: `{inclusion_set.setting}`"
        answer.add(f"inclusion set {inclusion_set.name}", inclusion_set.name in reasons, detail)
    for doubt in membership.doubts:
        answer.add("in another inclusion set", doubt)
    _sets(answer, documents, batch, page, verdict.born)
    allowed = True
    if batch.statutory is not None:
        known = {key_text(value) for value in batch.statutory}
        allowed = answer.add("in the statutory cohort", answer.person_id in known)
    _rows(answer, documents, batch, page)
    document, problems = documents.assembler.assemble(row, answer.person_id, page)
    answer.add("has an id that can be sent", document is not None)
    clear = answer.add("every item can be judged", next(iter(page.met), True))
    answer.is_in = bool(verdict.eligible and reasons and allowed and document is not None and clear)
    answer.document = document
    answer.problems = _problems(answer.person_id, documents, page, row, problems)
    doubts = [v for v in (verdict.eligible, *membership.doubts) if isinstance(v, Doubt)]
    answer.problems += _of_doubts([*doubts, *page.met], documents, batch)
    fields = {field.path: field for _, field in documents.spec.fields()}
    broken: dict[str, list[str]] = {}
    for path, rule in problems:
        broken.setdefault(path, []).append(rule)
    for path, tally in documents.assembler.tallies().items():
        if tally.rows > tally.filled:
            said = _why_missing(fields[path], broken.pop(path, []))
            answer.fields.append({"field": path, "why": said})
    answer.fields += [{"field": p, "why": "; ".join(sorted(set(r)))} for p, r in broken.items()]


def _why_missing(field: Field, rules: list[str]) -> str:
    """Why a field has no value of its own, and what is sent in its place."""
    said = "; ".join(sorted(set(rules)))
    if field.default is None or (rules and not field.default_if_unusable):
        return said or "empty in the source"
    return f"{said or 'nothing in the source'}; its default is sent"


def _rows(answer: Why, documents: Documents, batch: ReadPage, page: Page) -> None:
    """Note each row that was read for the child, and the entries of `where` that leave it out."""
    plan = documents.plan
    for name, source in documents.spec.sources.items():
        if name not in plan.sources or not plan.sources[name].where:
            continue
        key = plan.key(name)
        for row in batch.found[plan.read_of(name)]:
            broken = documents.filters.broken(name, row, page)
            answer.rows.append(
                {"source": name, "key": key(row), "counts": not broken, "broken": broken}
            )
            if broken:
                answer.left_out.append((name, _evidence(documents, source, row, page)))


# ------------------------------------------------------------------------------- inclusion sets
def _sets(
    answer: Why, documents: Documents, batch: ReadPage, page: Page, born: str | Doubt | None
) -> None:
    """Note for each set whether the child is in, the rows that say so, and why a no is a no."""
    verdicts = documents.inclusion.verdicts(answer.person_id, born, page)
    candidate = Candidate(answer.person_id, born, page)
    for one in INCLUSION_SETS.rules():
        if one.name not in verdicts:
            off = f"switched off by `{one.setting}`"
            answer.sets.append(SetVerdict(one.name, one.words, False, off))
            continue
        verdict = verdicts[one.name]
        rows, of_child = _rows_of_set(one, verdict, documents, batch, candidate)
        holds = UNSAID if isinstance(verdict, Doubt) else verdict
        because = _because(one, verdict, rows, of_child)
        answer.sets.append(SetVerdict(one.name, one.words, holds, because, tuple(rows)))


def _rows_of_set(
    one: InclusionSet,
    verdict: Verdict,
    documents: Documents,
    batch: ReadPage,
    candidate: Candidate,
) -> tuple[list[Evidence], list[str]]:
    """The rows that a set looks at; and what speaks against the child itself."""
    against: dict[tuple[str, int], list[str]] = {}
    of_child: list[str] = []
    if one.why_not is not None and verdict is not True:
        for source, row, words in one.why_not(documents.inclusion)(candidate):
            if row is None:
                of_child.append(words)
            else:
                against.setdefault((source, id(row)), []).append(words)
    rows = []
    for source in one.sources:
        read = documents.plan.read_of(source.name)
        for row in batch.found[read]:
            found = _evidence(documents, source, row, candidate.page)
            if words := against.get((source.name, id(row))):
                found = Evidence(found.table, found.key, found.values, False, tuple(words))
            rows.append(found)
    return rows, of_child


def _because(one: InclusionSet, verdict: Verdict, rows: list[Evidence], of_child: list[str]) -> str:
    """Why a set holds or not, in one sentence."""
    if isinstance(verdict, Doubt):
        return str(verdict)
    if verdict:
        return one.words
    said = [*of_child, *_without_rows(one, {row.table for row in rows})]
    if refused := [row for row in rows if not row.counts]:
        words = Counter(words for row in refused for words in row.because)
        said += [f"{words} ({n} rows)" if n > 1 else words for words, n in words.items()]
    return "; ".join(said) or "no row leads to another that counts"


def _without_rows(one: InclusionSet, held: Set[str]) -> list[str]:
    """The sources of a set of which the child has no row, in words.

    What hangs on a row that is not there itself is not missing. Of a set that tells why a row does
    not count (`why_not`), what hangs on others may be missing, as an assessment that is waited for.

    Args:
        held: tables of which a row was found.
    """
    by_name = {source.name: source for source in one.sources}
    said = []
    for source in one.sources:
        if source.table in held:
            continue
        above = by_name.get(source.via or "")
        if above is None:
            said.append(f"no row in {source.table}")
        elif above.table in held and one.why_not is None:
            said.append(f"no row in {source.table} to which one in {above.table} leads")
    return said


def _evidence(documents: Documents, source: Source, row: SourceRow, page: Page) -> Evidence:
    """A row with the columns that decide, and why it does not count."""
    plan = documents.plan
    broken = documents.filters.broken(source.name, row, page)
    links = {source.key, source.person, source.link, source.care_period}
    values = {}
    for column in sorted(source_columns(source) - links):
        raw = row[plan.at(source.name, column)]
        if raw is not None:
            values[column] = date_text(raw) or str(raw)
    because = tuple(_plainly(entry, source, row, documents) for entry in broken)
    key = plan.key(source.name)
    return Evidence(source.table, key(row), values, not broken, because)


def _plainly(entry: str, source: Source, row: SourceRow, documents: Documents) -> str:
    """A condition that does not hold, in words that need no manual."""
    rule, _, rest = entry.partition(" ")
    if ":" in rest:  # of these that a value cannot be read
        return rest.partition(": ")[2] if rule in _OF_COLUMNS else entry.removeprefix("rule ")
    if rule == "equals":
        return f"holds another word in {rest}"
    if rule not in _OF_COLUMNS:
        return entry.removeprefix("rule ").replace(" (counts if ", ": only if ").rstrip(")")
    columns = rest.split(", ")
    days = [date_text(row[documents.plan.at(source.name, column)]) for column in columns]
    window = documents.window
    if rule == "inside":
        return "has no date in the window"
    if rule == "known":
        return f"has nothing in {', '.join(columns)}"
    if days[-1] is not None and days[-1] < window.first:
        return "ended before the window"
    if days[0] is None:
        return f"has no start date ({columns[0]})"
    return "starts after the window"


# ------------------------------------------------------------------------------------- problems
def _problems(
    person_id: str,
    documents: Documents,
    page: Page,
    row: SourceRow,
    problems: Iterable[tuple[str, str]],
) -> list[Problem]:
    """What was left out of the document, with the stored values that are to blame."""
    fields = {field.path: field for _, field in documents.spec.fields()}
    found: list[Problem] = []
    for path, rule in dict.fromkeys(problems):
        field = fields.get(path)
        if field is None:
            found.append(Problem(path, rule))
            continue
        table = documents.plan.sources[field.source].table
        blamed = _blamed(person_id, field, rule, documents, page, row)
        found += [Problem(path, rule, table, field.column, k, v) for k, v in blamed] or [
            Problem(path, rule, table, field.column)
        ]
    return found


def _blamed(
    person_id: str, field: Field, rule: str, documents: Documents, page: Page, row: SourceRow
) -> list[tuple[str | None, str]]:
    """Key and stored value of each row whose value breaks a rule."""
    plan, spec = documents.plan, documents.spec
    transform = compile_transform(field, spec)
    reach = route(plan, field.source, plan.person.name)
    at, key = plan.at(field.source, field.column), plan.key(field.source)
    met = list(page.met)
    stored = []
    rows = reach(row, person_id, page)
    page.met[:] = met  # to look is to meet doubts; they were noted already
    for one in rows:
        raw = one[at]
        if raw is None:
            continue
        given = (raw,) if field.type == "codes" else raw
        _, problem = transform(given, lambda name, one=one: one[plan.at(field.source, name)])
        stored.append((problem, (key(one), str(raw))))
    blamed = [named for problem, named in stored if problem == rule]
    # a rule of several values together is broken by all of them
    return blamed or [named for _, named in stored]


def _of_doubts(doubts: Iterable[Doubt], documents: Documents, batch: ReadPage) -> list[Problem]:
    """The values that cannot be read, for whose sake the child is held back."""
    plan, found = documents.plan, []
    for doubt in dict.fromkeys(doubts):
        names = [n for n, s in plan.sources.items() if s.table == doubt.table]
        stored: dict[tuple[str | None, str], None] = {}
        for name in names:
            if doubt.column not in plan.wanted(plan.read_of(name)):
                continue
            at, key = plan.at(name, doubt.column), plan.key(name)
            for row in batch.found.get(plan.read_of(name), batch.persons):
                if row[at] is not None and date_text(row[at]) is None:
                    stored[key(row), str(row[at])] = None
        path = f"{doubt.table}.{doubt.column}"
        found += [Problem(path, doubt.rule, doubt.table, doubt.column, *one) for one in stored] or [
            Problem(path, doubt.rule, doubt.table, doubt.column)
        ]
    return found
