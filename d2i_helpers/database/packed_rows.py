"""Rows of texts and a number each, thousands of them in one row of an answer.

To hand rows over one by one costs more than to read them, where nothing but an id and a hash of
each is wanted. `Portable.packed` makes such a statement where a database can.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SEPARATOR = "\x01"  # between texts; no blank to Python, so that it belongs to no id's edge

_BLANKS = [one for one in map(chr, range(128)) if one.isspace()]  # of ASCII, as Python sees them


@dataclass(frozen=True)
class Unpacked:
    """The rows of one packed row, column by column."""

    texts: list[list[str]]  # of each column; null is an empty text
    nulls: list[int]  # how many texts of each column are null
    blanks: list[bool]  # whether there may be a blank in some text of a column
    numbers: array[int]


def unpacked(row: Sequence[Any]) -> Unpacked | None:
    """The rows that a statement of `Portable.packed` packed into one.

    Returns:
        None where they cannot be told apart: a text holds the separator, or is no text to the
        driver.
    """
    half = (len(row) - 1) // 2
    if row[0] is None:  # nothing was packed
        return Unpacked([[] for _ in range(half)], [0] * half, [False] * half, array("q"))
    numbers = array("q", bytes(row[0]))
    if sys.byteorder == "little":  # the database writes the highest byte first
        numbers.byteswap()
    counts, joined = row[1 : 1 + half], row[1 + half :]
    if not all(isinstance(text, str) for text in joined):
        return None
    texts = [text.split(SEPARATOR) for text in joined]
    if any(len(column) != len(numbers) for column in texts):
        return None
    nulls = [len(numbers) - count for count in counts]
    return Unpacked(texts, nulls, list(map(_may_have_blanks, joined)), numbers)


def _may_have_blanks(joined: str) -> bool:
    return not joined.isascii() or any(map(joined.__contains__, _BLANKS))
