"""The one order of the items of a list, against its plain definition, for whatever they hold."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2i_helpers.payload_spec import load_spec
from d2i_helpers.payload_spec.model import Block, Document

BLOCKS = [block for block in load_spec().blocks.values() if block.order]
LIMIT = settings().max_examples // 2

# few values, so that ties are common; nulls and values of the wrong kind as in foreign documents
GOOD = st.sampled_from(["2025-01-01", "2025-02-01", "2026-01-01", None])
ANY = st.one_of(GOOD, st.sampled_from([0, 1, 1.5, True, "", "é", [1], ["x"], {"a": 1}]))


def plain(block: Block, items: list[Document]) -> list[Document]:
    """The definition, word by word: the fields of the order, then the whole content."""

    def compare(one: Document, other: Document) -> int:
        for part in block.order:
            left, right = one.get(part.lstrip("-")), other.get(part.lstrip("-"))
            if left == right:
                continue
            if left is None or right is None:
                return 1 if left is None else -1
            return (1 if right < left else -1) * (-1 if part.startswith("-") else 1)
        left, right = (json.dumps(one, sort_keys=True) for one in (one, other))
        return (left > right) - (left < right)

    return sorted(items, key=functools.cmp_to_key(compare))


def lists(block: Block, values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Document]]:
    names = [part.lstrip("-") for part in block.order]
    extra = st.fixed_dictionaries({}, optional={"more": st.sampled_from([1, 2, "x", [2, 1]])})
    known = st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))
    return st.lists(st.builds(lambda a, b: {**a, **b}, known, extra), max_size=7)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
@settings(max_examples=LIMIT)
@given(data=st.data())
def test_items_are_put_in_the_order_that_is_defined(block: Block, data: st.DataObject) -> None:
    items = data.draw(lists(block, GOOD))
    found = block.sorted_items(items)
    # byte by byte, as 1 == True in Python but not in JSON
    assert json.dumps(found) == json.dumps(plain(block, items))
    assert block.sorted_items(reversed(found)) == found
    assert block.sorted_items(found) == found


@pytest.mark.parametrize("block", BLOCKS[:2], ids=lambda block: block.name)
@settings(max_examples=2 * LIMIT)
@given(data=st.data())
def test_foreign_values_are_put_in_order_or_refused_as_defined(
    block: Block, data: st.DataObject
) -> None:
    items = data.draw(lists(block, ANY))
    try:
        expected: list[Document] | None = plain(block, items)
    except TypeError:
        expected = None
    try:
        found: list[Document] | None = block.sorted_items(items)
    except TypeError:
        found = None
    if expected is None:
        assert found is None
    elif found is not None:  # else the caller takes the content alone
        assert json.dumps(found) == json.dumps(expected)
