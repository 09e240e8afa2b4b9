"""Keyed pseudonyms: one child's document rewritten field by field, as the specification says.

Each field's `anonymise` word names its rule. A field without a rule is refused, never passed
through; a value that its rule cannot read is left out. The same child under the same key gets the
same pseudonyms every day, and a changed value changes only what stands for it. What the rules
protect, and what they cannot, is in docs/privacy.md.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from d2i_helpers.anonymise import keyed
from d2i_helpers.anonymise.digests import digest
from d2i_helpers.anonymise.rules import Rule, RuleContext, Rules
from d2i_helpers.errors import SpecificationError
from d2i_helpers.payload_spec import PURGE, Block, Document, Spec
from d2i_helpers.privacy.identities import NAMES, Identity, person_reader
from d2i_helpers.privacy.redaction import normal

_OLDEST = 26  # years: children leave the cohort on their 26th birthday
_NOT_LETTERS = re.compile(r"[\W_]+")
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class Pseudonymiser:
    """Rewrites documents under one key.

    Args:
        spec: the specification; every field needs a rule.
        key: the secret, at least 16 bytes.
        max_shift_days: dates move by 1 to this many days, one secret number for each child.
        window_start: first day of the window, which decides who is of the cohort's age.
        avoid: digests of values in normal form that no pseudonym may equal, because another child
            really has them.
        digest: makes them of a text.

    Raises:
        SpecificationError: a field has no rule, or its rule cannot respect its limits.
    """

    def __init__(
        self,
        spec: Spec,
        key: bytes,
        *,
        max_shift_days: int,
        window_start: dt.date,
        avoid: Collection[int] = frozenset(),
        digest: Callable[[str], int] = digest,
    ) -> None:
        self._keyed = keyed.Keyed(key)
        self._max_shift = max_shift_days
        self._window_start = window_start.toordinal()
        self._oldest = window_start.replace(year=window_start.year - _OLDEST).toordinal() + 1
        self._avoid, self._digest = avoid, digest
        # digests of persons whom no pseudonym may equal either, where they are known beforehand
        self.persons: Collection[int] = frozenset()
        self._met: set[int] = set()  # of these, those that a pseudonym did equal
        self._rules = Rules(spec, self._keyed, avoid, digest)
        self._days = self._rules.day_numbers
        self.unusable: Counter[str] = Counter()  # values that no rule can read, by path
        self._person = person_reader(spec)
        self._births = _birth_fields(spec)
        self._root = self._block(spec.root)
        self._child_id = self._rules.ids("child_id")

    # --------------------------------------------------------------------------- one document
    def child_id(self, value: str) -> str:
        """The pseudonym of a child's id."""
        return self._child_id(value)

    def document(self, child_id: str, document: Document, identity: Identity) -> Document:
        """The document with pseudonyms in place of everything.

        Args:
            child_id: the child's id, which all that is the child's own is drawn from.
            identity: what `identities.collector` found in the document.

        Raises:
            SpecificationError: the document has a field that the specification does not know.
        """
        key = self._keyed.digest(b"child\0" + child_id.encode())
        own, words = _own_values(child_id, identity)
        shift = self._shift(key, document, identity)
        for round_ in range(1000):
            result = self._root(RuleContext(key, own, words, shift, round_), document)
            if not (self._avoid or self.persons):
                return result
            person = self._person(result)
            met = None if person is None else self._digest(person)
            if met is None or (met not in self._avoid and met not in self.persons):
                return result
            self._met.add(met)
            self._rules.stopped += 1
        raise AssertionError("no free name in a thousand")

    @property
    def stopped(self) -> int:
        """How often a real value stood in the way; where it grew, a document depends on others."""
        return self._rules.stopped

    @property
    def redrawn(self) -> int:
        """How many real values stood in the way of a pseudonym, by chance."""
        return len(self._met.union(self._avoid))

    def _shift(self, key: bytes, document: Document, identity: Identity) -> int:
        """The child's days: backward, so that nothing of the present gets into the future.

        Forward where going back would take the child out of the cohort's age. No date of the
        result may equal a real birth date of the child.
        """
        numbers = self._days
        births = [
            day
            for rule, text, _ in identity.values
            if rule == "birth_date" and (day := numbers[text])
        ]
        days = set(map(numbers.__getitem__, identity.dates))
        sign = 1 if self._is_oldest(document) else -1
        for drawn in struct.unpack(">16H", keyed.drawn(key, b"shift")):
            shift = sign * (1 + drawn % self._max_shift)
            if days.isdisjoint([birth - shift for birth in births]):
                return shift
        size = 1
        while not days.isdisjoint([birth - sign * size for birth in births]):
            size += 1
        return sign * size

    def _is_oldest(self, document: Document) -> bool:
        """Whether the largest step back would take the child out of the cohort's age range."""
        for place, (block, name) in enumerate(self._births):
            held = document.get(block) if block else document
            value = held.get(name) if type(held) is dict else None
            day = self._days[value] if type(value) is str else None
            if day is None:
                continue
            floors = [self._oldest] if place == 0 else [self._window_start, self._oldest]
            floor = next((floor for floor in floors if day >= floor), None)
            return floor is not None and day - self._max_shift < floor
        return False

    # --------------------------------------------------------------------------------- blocks
    def _block(self, block: Block) -> Callable[[RuleContext, Document], Document]:
        """A function that rewrites one block; every field's rule is made once."""
        prefix = block.path.rstrip("[]")
        rules: dict[str, Rule] = {
            field.name: self._rules.of(block, field) for field in block.fields
        }
        rules[PURGE] = _is_true
        paths = {field.name: field.path for field in block.fields}
        dropped = {field.name for field in block.fields if field.anonymise == "drop"}
        flags = _kept_true(block)
        inner = {
            child.name: (child.path, child.kind != "object", self._block(child), _resort(child))
            for child in (*block.values, *block.blocks)
        }

        def rewrite(child: RuleContext, held: Document) -> Document:
            built: Document = {}
            for name, value in held.items():
                rule = rules.get(name)
                if rule is not None:
                    new = rule(child, value)
                    if new is not None:
                        built[name] = new
                    elif value is not None and name not in dropped:
                        self.unusable[paths[name]] += 1
                elif name in inner:
                    path, is_list, rewrite_inner, sort = inner[name]
                    if is_list and type(value) is list:
                        items = [rewrite_inner(child, i) for i in value if type(i) is dict]
                        if len(items) < len(value):
                            self.unusable[path] += len(value) - len(items)
                        built[name] = sort(items)
                    elif not is_list and type(value) is dict:
                        built[name] = rewrite_inner(child, value)
                    elif value is not None:
                        self.unusable[path] += 1
                else:
                    raise _unknown(prefix, name)
            for name, others in flags:
                if held.get(name) is True and any(other in held for other in others):
                    built[name] = True
            return built

        return rewrite


def _own_values(child_id: str, identity: Identity) -> tuple[set[str], set[str]]:
    """The child's identifying values in normal form, and the words of its names.

    Of the names each word in normal form, and each name as one word.
    """
    own, words = {normal(child_id)}, set()
    for rule, value, plain in identity.values:
        own.add(plain)
        if rule in NAMES:
            words.add(plain)
            if not value.isalpha():
                words.update(map(normal, _NOT_LETTERS.split(value)))
    own.discard("")
    words.discard("")
    return own, words


def _birth_fields(spec: Spec) -> list[tuple[str, str]]:
    """(block, field) of the birth dates, the one that decides the age first."""
    return [
        ("" if block.kind == "root" else block.name, field.name)
        for block, field in spec.fields()
        if field.anonymise == "birth_date"
    ]


def _is_true(_child: RuleContext, value: object) -> bool:
    return value is True


def _kept_true(block: Block) -> list[tuple[str, tuple[str, ...]]]:
    """Flags that are true because a row exists, each with the other fields of that row.

    Such a flag stays true where one of those fields is filled: a status that never was cannot end.
    """
    return [
        (one.name, tuple(o.name for o in block.fields if o.source == one.source and o is not one))
        for one in block.fields
        if one.anonymise == "flag" and one.transform == "present"
    ]


def _resort(block: Block) -> Callable[[list[Document]], list[Document]]:
    """A function that puts items in the order of the specification.

    Dates move together, so that items are nearly always in order already; only ties need sorting.
    """
    first = block.order[0] if block.order else ""
    name, descending = first.lstrip("-"), first.startswith("-")

    def sort(items: list[Document]) -> list[Document]:
        if len(items) < 2 or not first:
            return items
        values: list[Any] = [item.get(name) for item in items]
        apart = None not in values and len(set(values)) == len(values)
        if apart and values == sorted(values, reverse=descending):
            return items
        return block.sorted_items(items)

    return sort


def _unknown(prefix: str, name: str) -> SpecificationError:
    shown = f"{prefix}.{name}" if _FIELD_NAME.match(name) else f"{prefix}.(unusual name)"
    return SpecificationError(
        f"A document holds `{shown.removeprefix('$.')}`, which no anonymising rule covers.",
        hint="Add it to the overlay with an `anonymise` rule, or keep it out of the documents.",
    )
