"""The parts that a specification is made of: code lists, fields, blocks and sources."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
PURGE = "purge"


def plain_word(word: object) -> str:
    """A word of a source as words are compared: in capitals, with single blanks inside."""
    return " ".join(str(word).upper().split())


@dataclass(frozen=True)
class CodeList:
    """Codes that may be sent, with what sources write instead and what is no longer accepted."""

    name: str
    codes: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    retired: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Field:
    """One field of a block: where it comes from and what it may hold."""

    name: str
    path: str  # such as social_care_episodes[].referral_date
    source: str  # name of a source
    column: str
    transform: str
    type: str
    item: int | None = None  # number in the DfE's list
    meaning: str = ""
    mandatory: bool = False
    may_be_empty: bool = False  # an empty value is no fault
    expected_with: str | None = None  # the field that has to be filled, for a value to be missing
    expected_without: str | None = None  # the field that has to be empty, for a value to be missing
    volatile: bool = False  # left out of change detection where the profile says so
    anonymise: str = ""
    codes: CodeList | None = None
    max_length: int | None = None
    max_items: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    default: Any = None  # what is sent where the source holds nothing
    default_if_unusable: bool = False  # also where it holds what cannot be used
    options: Mapping[str, Any] = field(default_factory=dict)  # what only its transform reads


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a document that is sent and (if `purge`) erased on its own; or a list in one."""

    name: str  # its key in the document; the root's is "child"
    path: str
    kind: str  # root | object | list | values
    source: str | None = None
    key: str | None = None
    purge: bool = False
    always_sent: bool = False
    person_fact: bool = False
    order: tuple[str, ...] = ()
    meaning: str = ""
    fields: tuple[Field, ...] = ()
    values: tuple[Block, ...] = ()  # lists without keys, sent with this block
    blocks: tuple[Block, ...] = ()  # blocks nested in it, judged each for itself

    def sorted_items(self, items: Iterable[Document]) -> list[Document]:
        """Sort items by the fields of `order`, then by their whole content.

        Missing values come last. An item's content is written out only for ties: that costs more
        than all the rest of a comparison.

        Raises:
            TypeError, AttributeError: items of another origin cannot be compared with each other.
        """
        ordered = list(items)
        if len(ordered) < 2 or self._in_order(ordered):
            return ordered
        for name, descending in reversed(self._order):
            ordered.sort(key=_last_if_missing(name, descending), reverse=descending)
        return [
            item
            for _, tied in itertools.groupby(ordered, self._values)
            for item in _by_content(list(tied))
        ]

    @functools.cached_property
    def _order(self) -> tuple[tuple[str, bool], ...]:
        """Each field of `order`, and whether it goes from high to low."""
        return tuple((part.lstrip("-"), part.startswith("-")) for part in self.order)

    def _values(self, item: Document) -> list[Any]:
        return [item.get(name) for name, _ in self._order]

    def _in_order(self, items: Sequence[Document]) -> bool:
        """Whether the fields of `order` alone show that the items are sorted already."""
        for earlier, later in itertools.pairwise(items):
            for name, descending in self._order:
                left, right = earlier.get(name), later.get(name)
                if left != right:
                    if left is None or (right is not None and (left < right) is descending):
                        return False
                    break
            else:
                return False  # a tie: the whole content decides
        return True


def _last_if_missing(name: str, descending: bool) -> Callable[[Document], tuple[Any, ...]]:
    def key(item: Document) -> tuple[Any, ...]:
        value = item.get(name)
        return (not descending,) if value is None else (descending, value)

    return key


def _by_content(items: list[Document]) -> list[Document]:
    if len(items) > 1:
        items.sort(key=lambda item: json.dumps(item, sort_keys=True, default=str))
    return items


@dataclass(frozen=True)
class Source:
    """Rows that a block or a field is made from; see the notes in payload_spec.yaml."""

    name: str
    table: str
    key: str
    person: str | None = None
    via: str | None = None
    via_column: str | None = None
    link: str | None = None
    care_period: str | None = None
    where: tuple[Mapping[str, Any], ...] = ()
    order: tuple[str, ...] = ()
    pick_first: bool = False
    columns: tuple[str, ...] = ()
    optional: bool = False
    lasting_key: bool = True  # false: each load of the SSD gives the row another key


@dataclass(frozen=True)
class Team:
    """A column that names the team that works with a child."""

    table: str
    column: str
    person: str  # column with the person's id
    newest: str | None = None  # date: of several rows the newest counts
    ended: str | None = None  # date: a row without it comes first


def source_columns(source: Source) -> set[str]:
    """The columns of its table that a source needs to find, filter and sort rows."""
    named = {source.person, source.link, source.care_period, *source.columns}
    if source.lasting_key:
        named.add(source.key)
    for rule in source.where:
        for kind, argument in rule.items():
            if kind != "rule":
                named.update(argument)
    for part in source.order:
        named.update(word.lstrip("-") for word in part.split() if word not in {"open", "first"})
    return {column for column in named if column}
