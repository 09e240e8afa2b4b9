"""Sums a person: column by column they are what row by row they would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2i_helpers.document.source_rows import Link, Read, key_text
from d2i_helpers.extract.per_person import NO_KEY, Keyed, PerPerson, key_numbers, needs_a_look

KEYS = st.integers(NO_KEY, 5)
ROW = st.tuples(KEYS, KEYS, st.integers(-9, 9))
ROWS = st.lists(ROW, max_size=12)
# of which each leads to one row above at most, as is usual
PARENTS = ROWS | st.lists(ROW, max_size=6, unique_by=lambda row: row[1])
PERSONS = st.lists(st.integers(1, 5), max_size=5) | st.permutations(range(1, 6))
UP, FURTHER_UP = Link("parent", "value", "by"), Link("top", "value", "by")


def _expected(read: Read, person: int, tables: dict[str, list[tuple[int, int, int]]]) -> list[int]:
    """The value of each row that leads to a person, as often as it does."""
    found = []
    for by, _, value in tables[read.table]:
        reached = [by]
        for step in read.chain:
            rows = tables[step.table]
            reached = [up for key in reached for up, key_of, _ in rows if key == key_of != NO_KEY]
        found += [value for key in reached if key == person]
    return found


def _per_person(persons: list[int], tables: dict[str, list[tuple[int, int, int]]]) -> PerPerson:
    """What adds up the rows of these tables."""

    def rows_of(wanted: Read) -> Keyed:
        by, value = (np.array([r[at] for r in tables[wanted.table]], np.int64) for at in (0, 1))
        return Keyed(len(by), {"by": by, "value": value})

    return PerPerson(np.array(persons, np.int64), rows_of)


@pytest.mark.parametrize("chain", [(), (UP,), (UP, FURTHER_UP)], ids=len)
@given(rows=ROWS, parents=PARENTS, tops=PARENTS, persons=PERSONS)
def test_sums_and_leasts_are_those_of_the_rows(
    chain: tuple[Link, ...], rows: Any, parents: Any, tops: Any, persons: list[int]
) -> None:
    tables = {"rows": rows, "parent": parents, "top": tops}
    read = Read("rows", "by", chain)

    values = np.array([[row[2], 1] for row in rows], np.int64).reshape(-1, 2)
    sums = _per_person(persons, tables)
    expected = [_expected(read, person, tables) for person in persons]
    assert sums.of(read, values).tolist() == [[sum(one), len(one)] for one in expected]
    least = sums.of(read, values[:, 0], least=True, nothing=99)
    assert least.tolist() == [min(one, default=99) for one in expected]


@given(rows=ROWS, parents=PARENTS, tops=PARENTS, persons=PERSONS)
def test_what_is_forgotten_between_queries_changes_no_sum(
    rows: Any, parents: Any, tops: Any, persons: list[int]
) -> None:
    tables = {"rows": rows, "parent": parents, "top": tops}
    queries = [Read("rows", "by", chain) for chain in ((UP, FURTHER_UP), (UP,), ())]

    values = np.array([row[2] for row in rows], np.int64)
    sums = _per_person(persons, tables)
    for number, read in enumerate(queries):
        fresh = _per_person(persons, tables)
        assert sums.of(read, values).tolist() == fresh.of(read, values).tolist()
        sums.keep_for(queries[number + 1 :])
    assert not sums._owners


@pytest.mark.parametrize(
    "ids",
    [["C1", "C 2"], ["C1", " C2"], ["C1 ", "C2"], ["C1\xa0"], ["C1", None], [7, "7 "], [""], []],
)
def test_the_number_of_an_id_is_that_of_its_text(ids: list[Any]) -> None:
    texts = [key_text(value) or "" for value in ids]
    assert key_numbers(ids).tolist() == list(map(hash, texts))
    assert needs_a_look(ids) is (texts != ids)
