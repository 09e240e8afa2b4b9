"""Documents of children who do not exist, made up from the specification alone (test phases 1, 2).

Every field of the specification is filled by its kind, so that a field that an overlay adds is
there too. The same number gives the same document on every machine, within one financial year.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from d2i_helpers.anonymise import keyed
from d2i_helpers.anonymise.rules import id_length, names, score_range
from d2i_helpers.anonymise.upn import upn_text
from d2i_helpers.payload_spec import PURGE, Block, Document, Field, Spec

_PUBLIC_KEY = keyed.Keyed(b"documents of children who do not exist")
_DAYS_BETWEEN = 9  # from one date of an item to the next
_DAYS_WITHIN = 450  # the same for an item that holds lists
_DAYS_APART = 40  # from one item to the next
_FIRST_DAY = 20  # after the start of the window; the window is two years long at least
_MANY = 3  # items of a list in the full document


def documents(spec: Spec, window_start: dt.date, count: int) -> Iterator[Document]:
    """``count`` documents of different shapes, the first of them the full one."""
    for number in range(count):
        yield _Maker(spec, window_start, number).document()


class _Maker:
    """Makes the document of one number."""

    def __init__(self, spec: Spec, window_start: dt.date, number: int) -> None:
        self.spec, self.window_start, self.number = spec, window_start, number
        self.unborn = number % 20 == 19
        self.without_upn = number % 5 == 3

    def document(self) -> Document:
        """The whole document."""
        made = self._block(self.spec.root, ())
        assert made is not None
        return made

    def _draw(self, *place: object) -> bytes:
        return _PUBLIC_KEY.digest("|".join(map(str, (self.number, *place))).encode())

    def _block(self, block: Block, place: tuple[int, ...]) -> Document | None:
        if self._left_out(block, place):
            return None
        made: Document = {}
        dates = 0
        for field in block.fields:
            value = self._value(block, field, place, dates)
            dates += field.anonymise == "date"
            if value is not None:
                made[field.name] = value
        for inner in (*block.values, *block.blocks):
            held: Any
            if inner.kind == "object":
                held = self._block(inner, place)
            else:
                found = [self._block(inner, (*place, n)) for n in range(self._many(inner, place))]
                held = inner.sorted_items([item for item in found if item])
            if held:
                made[inner.name] = held
        if block.purge and made:
            made[PURGE] = False
        return made

    def _left_out(self, block: Block, place: tuple[int, ...]) -> bool:
        if self.number == 0 or block.kind == "root" or block.always_sent:
            return False
        return block.kind == "object" and self._draw(block.path, place)[0] % 3 == 0

    def _many(self, block: Block, place: tuple[int, ...]) -> int:
        if self.number == 0:
            return _MANY
        return self._draw("many", block.path, place)[0] % (_MANY + 1)

    def _value(self, block: Block, field: Field, place: tuple[int, ...], dates: int) -> Any:
        draw = self._draw(field.path, place)
        kind = field.anonymise
        if kind == "birth_date":
            return self._birth(block, field, draw)
        if kind == "upn":
            return None if self.without_upn else upn_text(draw)
        if field.transform == "upn_reason" and not self.without_upn:
            return None  # why there is no number, only where there is none
        if kind in {"child_id", "item_id", "worker_id"}:
            return keyed.id_text(draw, id_length(field))
        if kind in {"first_name", "surname"}:
            pool = names(kind, field.max_length, field.pattern)
            return pool[keyed.number(draw, len(pool))][0]
        if kind == "date":
            # what holds lists ends after everything that is in them
            between = _DAYS_WITHIN if block.kind == "list" and block.blocks else _DAYS_BETWEEN
            offset = _FIRST_DAY + _DAYS_APART * sum(place) + between * dates
            return (self.window_start + dt.timedelta(offset + self.number % 100)).isoformat()
        if kind == "postcode":
            return keyed.postcode_text(draw)
        if kind == "flag":
            return field.transform == "present" or draw[0] % 2 == 0
        if kind == "score":
            low, high = score_range(field)
            return low + draw[0] % (high - low + 1)
        return self._codes(field, draw)

    def _codes(self, field: Field, draw: bytes) -> Any:
        if field.codes is None:
            return None  # free text is never made up
        if self.unborn and isinstance(field.default, str):
            return field.default
        special = {field.default} if isinstance(field.default, str) else set()
        special |= set(field.options.get("alone") or ())
        pool = [code for code in field.codes.codes if code not in special]
        if not pool:
            return None  # no code says more than that nothing is known
        if field.type != "codes":
            return pool[draw[0] % len(pool)]
        return sorted({pool[byte % len(pool)] for byte in draw[: 1 + self.number % 3]})

    def _birth(self, block: Block, field: Field, draw: bytes) -> str | None:
        """The birth date, or the expected one of a child not yet born; never both."""
        births = [field.name for field in block.fields if field.anonymise == "birth_date"]
        if (field.name == births[0]) == self.unborn:
            return None
        if self.unborn:
            return (self.window_start + dt.timedelta(400 + self.number % 100)).isoformat()
        days = 365 + keyed.number(draw, 16 * 365)
        return (self.window_start - dt.timedelta(days)).isoformat()
