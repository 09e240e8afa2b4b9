"""Ids that a database takes for one although they differ in capitals.

SQL Server joins a row of ``abc1`` to the person ``ABC1`` under its usual collations, and so do the
scripts that fill and check an SSD there. Rows are joined here by the text of the id as it is
written; where the database takes capitals alike, the ids of a page's rows are first written as the
rows that they hang on write them. Otherwise such rows would belong to nobody, and what the receiver
holds of them would be purged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from d2i_helpers.document.canonical import to_text
from d2i_helpers.document.source_rows import Read, ReadPlan, SourceRow, key_text
from d2i_helpers.staging.load import Child


def as_parents_spell(
    plan: ReadPlan, persons: Sequence[SourceRow], rows: Mapping[Read, list[SourceRow]]
) -> dict[Read, list[SourceRow]]:
    """The rows of a page, with each id by which they are joined as its parent's row writes it.

    Only the column that a row is looked up by is changed. An id that fits no parent, or several
    that differ in capitals alone, stays as it is.

    Args:
        persons: the rows of the page's persons.
        rows: the page's rows, by query.
    """
    person_at = plan.at(plan.person.name, plan.person.key)
    of_persons = _spellings(row[person_at] for row in persons)
    spelt: dict[Read, list[SourceRow]] = {}
    for read in sorted(rows, key=lambda read: len(read.chain)):  # parents before what hangs on them
        spellings = of_persons
        if read.chain:
            step = read.chain[0]
            parent = Read(step.table, step.by, read.chain[1:])
            value_at = plan.place(parent, step.value)
            spellings = _spellings(row[value_at] for row in spelt[parent])
        spelt[read] = _respelt(rows[read], plan.place(read, read.by), spellings)
    return spelt


def respelt_ids(ids: Iterable[Any], persons: Iterable[Any]) -> list[Any]:
    """Ids, each as one of the persons' ids is written where it differs in capitals alone."""
    spellings = _spellings(persons)
    return [_spelling(spellings, value) for value in ids]


def staged_spellings(person_ids: Iterable[str], staged: Iterable[str]) -> dict[str, str]:
    """The staged ids of children whose id is written otherwise today, by today's.

    A database that takes the two for one answers with the staged id, for which nobody has asked.
    """
    asked = set(person_ids)
    unasked = {one.strip().casefold(): one for one in staged if one not in asked}
    return {one: unasked[folded] for one in asked if (folded := one.strip().casefold()) in unasked}


def as_staged(child: Child, staged_id: str, key: str | None) -> Child:
    """A child by the id that is staged, which is the one that the receiver knows.

    Args:
        key: the name of the child's id in a document.
    """
    document = child.document
    if key is not None and document.get(key) == child.person_id:
        document = {**document, key: staged_id}
    return replace(child, person_id=staged_id, document=document, text=to_text(document))


def _spellings(values: Iterable[Any]) -> dict[str, str | None]:
    """By the id without capitals the one way in which it is written; None: there are several."""
    spellings: dict[str, str | None] = {}
    for value in values:
        if (key := key_text(value)) is not None:
            folded = key.casefold()
            spellings[folded] = key if spellings.get(folded, key) == key else None
    return spellings


def _spelling(spellings: Mapping[str, str | None], value: Any) -> Any:
    key = key_text(value)
    if key is None:
        return value
    spelling = spellings.get(key.casefold(), key)
    return value if spelling in (None, key) else spelling


def _respelt(
    rows: list[SourceRow], place: int, spellings: Mapping[str, str | None]
) -> list[SourceRow]:
    """The rows; those whose id is written otherwise are copied with the other spelling."""
    found = []
    for row in rows:
        spelling = _spelling(spellings, row[place])
        if spelling is not row[place]:
            row = (*row[:place], spelling, *row[place + 1 :])
        found.append(row)
    return found
