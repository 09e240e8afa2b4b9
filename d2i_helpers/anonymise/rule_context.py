"""What the rules of pseudonyms know of a child, and the calendar they count in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

MOST_REMEMBERED = 50_000
Order = np.ndarray[Any, np.dtype[np.int64]]  # each place of a code list once


class RuleContext:
    """What the rules know of the child whose document they rewrite."""

    __slots__ = ("flips", "key", "names", "orders", "own", "postcodes", "round", "shift")

    def __init__(
        self, key: bytes, own: Collection[str], names: Collection[str], shift: int, round_: int
    ) -> None:
        self.key = key  # the child's own secret, 32 bytes
        self.own = own  # its identifying values, in normal form
        self.names = names  # the words of its names, in normal form
        self.shift = shift  # days
        self.round = round_  # counts redraws of the name
        self.orders: dict[str, Order] = {}  # places of codes in the child's own order, by path
        self.postcodes: dict[str, str] = {}
        self.flips: dict[bytes, bool] = {}  # which flags are exchanged


Rule = Callable[[RuleContext, Any], Any]  # None: the value is left out


class DayNumbers(dict[Any, int | None]):
    """Days since year 1 of date texts, None where it is no date; made once, since days repeat.

    As a dictionary: `numbers[value]`. It raises TypeError for what cannot be a key (a list).
    """

    def __missing__(self, text: Any) -> int | None:
        if type(text) is not str:
            return None
        try:
            day = dt.date.fromisoformat(text).toordinal() if len(text) == 10 else None
        except ValueError:
            day = None
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        self[text] = day
        return day


class DayTexts(dict[int, str | None]):
    """Date texts of days since year 1, None beyond the edges of the calendar; made once."""

    def __missing__(self, day: int) -> str | None:
        try:
            text = dt.date.fromordinal(day).isoformat()
        except (ValueError, OverflowError):
            return None
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        self[day] = text
        return text
