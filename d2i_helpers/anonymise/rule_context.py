"""What the rules of pseudonyms know of a child, and the calendar they count in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from typing import Any

MOST_REMEMBERED = 50_000


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
        self.orders: dict[str, list[int]] = {}  # places of codes in the child's own order, by path
        self.postcodes: dict[str, str] = {}
        self.flips: dict[bytes, bool] = {}  # which flags are exchanged


Rule = Callable[[RuleContext, Any], Any]  # None: the value is left out


class Days:
    """Days since year 1 of date texts; what was read once is remembered, since days repeat."""

    def __init__(self) -> None:
        self._known: dict[str, int | None] = {}
        self._texts: dict[int, str] = {}

    def number(self, text: Any) -> int | None:
        """Days since year 1 of a date text; None where it is no date."""
        try:
            return self._known[text]
        except (KeyError, TypeError):
            pass
        if type(text) is not str:
            return None
        try:
            day = dt.date.fromisoformat(text).toordinal() if len(text) == 10 else None
        except ValueError:
            day = None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[text] = day
        return day

    def text(self, day: int) -> str | None:
        """The date as text; None beyond the edges of the calendar."""
        try:
            return self._texts[day]
        except KeyError:
            pass
        try:
            text = dt.date.fromordinal(day).isoformat()
        except (ValueError, OverflowError):
            return None
        if len(self._texts) >= MOST_REMEMBERED:
            self._texts.clear()
        self._texts[day] = text
        return text
