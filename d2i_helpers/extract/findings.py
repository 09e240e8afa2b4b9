"""What extract would find today, child by child; nothing is written.

For data quality. Who has not changed since the last extract is not read: the marks say what would
be found again. The results hold whole ids and, where asked for, values: never for a record.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import facts, inclusion
from d2i_helpers.database.tables import marks as marks_table
from d2i_helpers.document.driver_values import read_text
from d2i_helpers.document.expectation import Fault, faults
from d2i_helpers.document.field_values import route
from d2i_helpers.document.source_rows import Page, SourceRow
from d2i_helpers.document.transforms import compile_transform
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.per_person import Numbers
from d2i_helpers.extract.unchanged import Changed, Everybody, find_changed, read_whole, salt_of
from d2i_helpers.payload_spec import Field, Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, marks

Progress = Callable[[int, int | None], None]
_LONGEST_SHOWN = 200  # characters of a value


@dataclass(frozen=True)
class Problem:
    """Something of a child that was left out, or that keeps the child from being sent."""

    person_id: str
    path: str  # of a field or block of the document; else table.column of the source
    rule: str


@dataclass
class Findings:
    """What was found of every child of the cohort."""

    people: list[str]  # ids of the children in the cohort
    faults: dict[str, Fault]  # by the field's path: arrays with a number for each of `people`
    problems: list[Problem]  # also of children who are held back or refused
    persons_read: int  # persons of the source
    read_anew: int  # of these, who had changed since the last extract, or all


def find(
    engine: Engine, settings: Settings, spec: Spec, *, progress: Progress | None = None
) -> Findings:
    """Look at every person as extract would.

    Args:
        progress: called with (children looked at, all).

    Raises:
        DatabaseError: required tables or columns of the SSD are missing.
    """
    settings = settings.model_copy(update={"person_ids": ()})
    documents = Documents(engine, settings, spec)
    documents.reader.deployed.check()
    listener = _Listener()
    documents.problems = listener  # type: ignore[assignment] # it takes what they take
    documents.watch = listener.watch
    with database.reading(engine) as connection:
        changed = _changed(connection, documents, settings)
        as_before = documents.counts["persons_read"]
        total = documents.reader.count(connection) if progress else None
        for _ in documents.pages(connection, changed):
            if progress:
                progress(documents.counts["persons_read"], total)
        if progress:
            progress(documents.counts["persons_read"], total)
    counts = np.concatenate(listener.counts) if listener.counts else np.zeros((0, 1), np.int64)
    uses = documents.uses_by_child(counts) if len(listener.people) else {}
    read = documents.counts["persons_read"]
    return Findings(listener.people, faults(spec, uses), listener.problems, read, read - as_before)


class _Listener:
    """Takes down what is said of each child while documents are made."""

    def __init__(self) -> None:
        self.people: list[str] = []
        self.counts: list[Numbers] = []
        self.problems: list[Problem] = []

    def add(self, path: str, rule: str, person_id: str | None) -> None:
        self.problems.append(Problem(person_id or "", path, rule))

    def watch(self, person_ids: Sequence[str], counts: Numbers) -> None:
        in_cohort = np.flatnonzero(Documents.in_cohort(counts)).tolist()
        self.people += [person_ids[at] for at in in_cohort]
        self.counts.append(counts[in_cohort])


def _changed(
    connection: Connection, documents: Documents, settings: Settings
) -> Sequence[Any] | None:
    """Raw ids of the persons who have to be read; None: all."""
    staging = Staging(documents.reader.engine, settings.staging_table)
    needed = (staging.table, facts, marks_table, inclusion)
    if not all(database.has_table(connection, table) for table in needed):
        return None
    if not marks.hold(connection, staging, salt_of(documents), settings.today):
        return None

    def take(kept: marks.Held) -> None:
        documents.take(kept)

    whole = read_whole(connection, documents, staging)
    if isinstance(whole, Everybody):
        return None
    documents.reader.take_written(whole.written_ids(connection))
    changed = find_changed(connection, documents, whole, staging, settings.today, take)
    return changed.ids if isinstance(changed, Changed) else None


# ------------------------------------------------------------------------------ offending values
@dataclass(frozen=True)
class Offence:
    """A problem with the place in the source and the value that broke the rule."""

    problem: Problem
    table: str
    column: str
    key_column: str  # empty where the key does not last; `key` is None then
    key: str | None  # of the source row
    value: str  # as it is stored, cut where it is long; empty where there is none


def offences(
    engine: Engine,
    settings: Settings,
    spec: Spec,
    problems: Sequence[Problem],
    *,
    progress: Progress | None = None,
) -> Iterator[Offence]:
    """The source rows behind some problems, as they are stored now. For a person's eyes only.

    A problem whose value is no longer there gives nothing: somebody has mended it. One of a whole
    item, or of a value that decides whether a child is in, gives its place without a value.
    """
    by_person: dict[str, list[Problem]] = {}
    for problem in problems:
        by_person.setdefault(problem.person_id, []).append(problem)
    by_person.pop("", None)
    fields = {field.path: field for _, field in spec.fields()}
    done = 0
    for ids in database.in_batches(list(by_person)):
        alone = settings.model_copy(update={"person_ids": tuple(ids)})
        documents = Documents(engine, alone, spec)
        documents.reader.deployed.check()
        finder = _Finder(documents)
        with database.reading(engine) as connection:
            for batch in documents.reader.batches(connection):
                page = documents.filters.page(batch.persons, batch.found)
                for row in batch.persons:
                    person_id = documents.person_id(row) or ""
                    for problem in by_person.pop(person_id, ()):
                        field = fields.get(problem.path)
                        yield from finder.offences(problem, field, row, page)
        done += len(ids)
        if progress:
            progress(done, None)


class _Finder:
    """Looks for the rows of a child that break a rule."""

    def __init__(self, documents: Documents) -> None:
        self._documents, self._spec, self._plan = documents, documents.spec, documents.plan
        self._transforms: dict[str, Any] = {}

    def offences(
        self, problem: Problem, field: Field | None, row: SourceRow, page: Page
    ) -> Iterator[Offence]:
        if field is None:
            table, _, column = problem.path.rpartition(".")
            known = table in self._plan.tables
            yield Offence(problem, table if known else "", column if known else "", "", None, "")
            return
        source = self._plan.sources[field.source]
        here = (source.table, field.column, source.key if source.lasting_key else "")
        reach = route(self._plan, field.source, self._plan.person.name)
        rows = reach(row, problem.person_id, page)
        found = [r for r in rows if self._problem(field, r) == problem.rule]
        if not found and field.type == "codes":
            found = list(rows)  # each row can be read, and all of them together break the rule
        at = self._plan.at(field.source, field.column)
        key = self._plan.key(source.name)
        for each in found:
            yield Offence(problem, *here, key(each), _shown(each[at]))

    def _problem(self, field: Field, row: SourceRow) -> str | None:
        """The rule that the value of a row breaks."""
        if field.path not in self._transforms:
            self._transforms[field.path] = compile_transform(field, self._spec)
        at = self._plan.at(field.source, field.column)
        value = row[at]
        _, problem = self._transforms[field.path](
            value, lambda name: row[self._plan.at(field.source, name)]
        )
        return problem


def _shown(value: Any) -> str:
    """A stored value as text."""
    if isinstance(value, dt.date):
        return value.isoformat()
    text = read_text(value)[0] if not isinstance(value, str) else value
    text = str(value) if text is None else text
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
