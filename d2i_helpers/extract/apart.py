"""Who is read apart from the others of a page, as an id on which rows hang is written in two ways.

A row hangs on another one by an id. The database compares such ids as they are written, and takes
`W1` and `W1` with a blank behind it for two; here they are joined without outer blanks. So a row
that the page holds for one child could come to another one as well, and not on the next day, when
other children are read together. What a child has must not depend on that: it is what the database
finds for the child alone.

So it is where the database takes capitals alike. A row is then given to what it hangs on by the
one spelling that this has (`spelling`), and of two children's spellings on a page to one at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from d2i_helpers.document.source_rows import Read, ReadPlan, SourceRow, key_text
from d2i_helpers.extract.per_person import (
    KeysOfQueries,
    Numbers,
    PerPerson,
    key_numbers,
    needs_a_look,
)

AsCompared = Callable[[str], str]  # an id's text as the database compares it


def links_of(plan: ReadPlan) -> dict[Read, tuple[str, ...]]:
    """By query the columns with ids on which rows of other queries hang."""
    found: dict[Read, dict[str, None]] = {}
    for read in plan.reads:
        if read.chain:
            step = read.chain[0]
            found.setdefault(Read(step.table, step.by, read.chain[1:]), {})[step.value] = None
    return {read: tuple(columns) for read, columns in found.items()}


def to_be_read_apart(
    plan: ReadPlan,
    person_ids: Sequence[Any],
    rows: Mapping[Read, Sequence[SourceRow]],
    as_compared: AsCompared,
    *,
    fold: bool,
) -> set[str]:
    """The persons of a page, by the texts of their ids, with such an id in their rows.

    Args:
        person_ids: of the page's persons, as the database holds them.
        rows: of each query of the page.
        fold: ids that differ in capitals alone are equal to the database.
    """
    marked: dict[Read, Numbers] = {}
    for read, columns in links_of(plan).items():
        for name in columns:
            place = plan.place(read, name)
            in_two_ways = _in_two_ways([row[place] for row in rows[read]], as_compared, fold=fold)
            if in_two_ways is not None:
                before = marked.get(read, np.zeros(len(in_two_ways), np.int64))
                marked[read] = np.maximum(before, in_two_ways)
    if not marked:
        return set()
    keys = KeysOfQueries(plan, rows, fold=fold)
    sums = PerPerson(key_numbers(person_ids, fold=fold), keys.__getitem__)
    apart = np.zeros(len(person_ids), bool)
    for read, of_rows in marked.items():
        apart |= sums.of(read, of_rows) > 0
    return {
        key_text(one) or "" for one, is_apart in zip(person_ids, apart, strict=True) if is_apart
    }


def _in_two_ways(values: Sequence[Any], as_compared: AsCompared, *, fold: bool) -> Numbers | None:
    """1 for each id that another row writes in another way, else 0; None where there is none."""
    held = [value for value in values if value is not None]
    kinds = set(map(type, held))
    if len(kinds) < 2 and (
        kinds != {str} or not (needs_a_look(held) or (fold and _differ_in_capitals(held)))
    ):
        return None
    written: dict[str, set[Any]] = {}
    keys = [key_text(value) for value in values]
    if fold:
        keys = [key and key.casefold() for key in keys]
    for value, key in zip(values, keys, strict=True):
        if key is not None:
            written.setdefault(key, set()).add(compared(value, as_compared, fold=False))
    several = {key for key, forms in written.items() if len(forms) > 1}
    return np.array([key in several for key in keys], np.int64) if several else None


def _differ_in_capitals(texts: Sequence[str]) -> bool:
    written = set(texts)
    return len(set(map(str.casefold, written))) < len(written)


def compared(value: Any, as_compared: AsCompared, *, fold: bool) -> Any:
    """A raw id in a form that is equal for ids which the database takes for one."""
    if isinstance(value, str):
        return as_compared(value).casefold() if fold else as_compared(value)
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else value
