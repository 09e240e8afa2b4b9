"""The parts that a specification is made of: code lists, fields, blocks and sources."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
PURGE = "purge"


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
    volatile: bool = False  # left out of change detection where the profile says so
    anonymise: str = ""
    codes: CodeList | None = None
    max_length: int | None = None
    max_items: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    default: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)  # what only its transform reads


@dataclass(frozen=True, eq=False)
class Block:
    """What can be sent, replaced and (where `purge`) erased on its own; or a list inside one."""

    name: str  # its key in the document; the root's is "child"
    path: str
    kind: str  # root | object | list | values
    source: str | None
    key: str | None
    purge: bool
    always_sent: bool
    person_fact: bool
    order: tuple[str, ...]
    meaning: str
    fields: tuple[Field, ...]
    values: tuple[Block, ...] = ()  # lists without keys, sent with this block
    blocks: tuple[Block, ...] = ()  # blocks nested in it, judged each for itself

    def sorted_items(self, items: Iterable[Document]) -> list[Document]:
        """Items in the one order that their content gives: `order`, then the whole content."""
        return sorted(items, key=self._sort_key)

    def _sort_key(self, item: Document) -> tuple:
        keys: list[Any] = []
        for part in self.order:
            value = item.get(part.lstrip("-"))
            keys.append((value is None, _Reversed(value) if part.startswith("-") else value))
        return (*keys, json.dumps(item, sort_keys=True, default=str))


@functools.total_ordering
class _Reversed:
    """Wraps a value so that it sorts from high to low."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and self.value == other.value

    def __lt__(self, other: _Reversed) -> bool:
        if self.value is None or other.value is None:
            return False
        return other.value < self.value


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


def source_columns(source: Source) -> set[str]:
    """The columns that a source needs of its own table to find, filter, sort and tie rows."""
    named = {source.key, source.person, source.link, source.care_period, *source.columns}
    for rule in source.where:
        for kind, argument in rule.items():
            if kind != "rule":
                named.update(argument)
    for part in source.order:
        named.update(word.lstrip("-") for word in part.split() if word not in {"open", "first"})
    return {column for column in named if column}
