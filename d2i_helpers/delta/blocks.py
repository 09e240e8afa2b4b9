"""Blocks of documents as the specification draws them: matched by key, told apart, put in order.

What `delta` is built on. Documents that other software made are taken as they come: keys that the
specification does not know and values of the wrong shape count as content of the block that they
stand in, nulls as absent, and a repeated key is told in `layers` and `unique`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from d2i_helpers.payload_spec import PURGE, Block, Document, Spec, with_taken_out


@dataclass(frozen=True, eq=False, slots=True)
class BlockPlan:
    """A block as the delta needs it, worked out once for a specification."""

    block: Block
    key: str  # empty for what is no item
    shape: type[Any]  # how the block stands in its parent: dict for an object, list for items
    always: bool
    nested: dict[str, BlockPlan]
    leaf: bool  # nothing is nested in it
    bags: dict[str, Block | None]  # own lists whose order says nothing: code lists hold no block
    names: dict[str, None]  # keys in the order of the document


@functools.lru_cache(maxsize=32)
def plan_of(spec: Spec) -> BlockPlan:
    """The plan of the child, with those of all blocks nested in it.

    A block that an overlay took out is among them: what is held of it is erased by its marks.
    """
    return _block_plan(with_taken_out(spec))


def _block_plan(block: Block) -> BlockPlan:
    # what cannot be purged on its own is no unit: it belongs to the content of what holds it
    parts = [inner for inner in block.blocks if not inner.purge]
    codes = {field.name: None for field in block.fields if field.type == "codes"}
    lists = {inner.name: inner for inner in (*block.values, *parts) if inner.kind != "object"}
    fields = (field.name for field in block.fields)
    inside = (inner.name for inner in (*block.values, *block.blocks))
    nested = {inner.name: _block_plan(inner) for inner in block.blocks if inner.purge}
    return BlockPlan(
        block=block,
        key=block.key or "",
        shape=list if block.kind == "list" else dict,
        always=block.always_sent,
        nested=nested,
        leaf=not nested,
        bags={**codes, **lists},
        names=dict.fromkeys((*fields, *inside, PURGE)),
    )


@dataclass(frozen=True, slots=True)
class TypedParts:
    """The fields of a block that are flags or whole numbers, and the parts that have such."""

    own: tuple[tuple[str, type[Any]], ...]
    inside: tuple[tuple[str, TypedParts], ...]


@functools.lru_cache(maxsize=32)
def typed_parts_of(spec: Spec) -> TypedParts:
    """Where the child's document has flags and whole numbers."""
    return _typed_parts(with_taken_out(spec))


def _typed_parts(block: Block) -> TypedParts:
    types: dict[str, type[Any]] = {"boolean": bool, "integer": int}
    own = tuple((one.name, types[one.type]) for one in block.fields if one.type in types)
    parts = ((part.name, _typed_parts(part)) for part in (*block.values, *block.blocks))
    return TypedParts(own, tuple((name, part) for name, part in parts if part.own or part.inside))


def has_other_types(parts: TypedParts, held: Document) -> bool:
    """Whether a flag or a whole number of the document is of another type than the specification's.

    To a comparison in Python 1 is true and 0 is false, so it may not see that such a value differs.
    """
    for name, expected in parts.own:
        value = held.get(name)
        if value is not None and type(value) is not expected:
            return True
    for name, part in parts.inside:
        inner = held.get(name)
        items = inner if type(inner) is list else (inner,)
        for item in items:
            if type(item) is dict and has_other_types(part, item):
                return True
    return False


def layers(plan: BlockPlan, items: list[Any]) -> list[dict[Any, Document]]:
    """Items by key. Where a foreign document repeats a key, the receiver may hold either item: the
    second ones are a layer more, and are treated as one baseline more."""
    key = plan.key
    try:
        index = {item.get(key): item for item in items}
        if len(index) == len(items):
            return [index]
    except (AttributeError, TypeError):
        items = _usable(items, key)
    all_layers: list[dict[Any, Document]] = [{}]
    for item in items:
        identifier = item.get(key)
        layer = next((layer for layer in all_layers if identifier not in layer), None)
        if layer is None:
            all_layers.append(layer := {})
        layer[identifier] = item
    return all_layers


def unique(plan: BlockPlan, items: list[Any]) -> list[Document]:
    """Items with each key once: of items that share one, the first in canonical order."""
    key = plan.key
    try:
        if len({item.get(key) for item in items}) == len(items):
            return items
    except (AttributeError, TypeError):
        items = _usable(items, key)
    first: dict[Any, Document] = {}
    for item in _sorted(plan.block, items):
        first.setdefault(item.get(key), item)
    return list(first.values())


def _usable(items: list[Any], key: str) -> list[Document]:
    """The entries that can be matched at all: objects whose key is not itself a structure."""
    return [
        item for item in items if type(item) is dict and not isinstance(item.get(key), dict | list)
    ]


def own_content(plan: BlockPlan, block: Document) -> Document:
    """Everything in a block but the blocks nested in it."""
    nested = plan.nested
    if not nested and None not in block.values():
        return block
    return {
        name: value
        for name, value in block.items()
        if value is not None and not (name in nested and type(value) is nested[name].shape)
    }


def whole(plan: BlockPlan, block: Document) -> Document:
    """The block with all that is in it, without nulls and repeated keys."""
    nested = plan.nested
    result = block
    if None in block.values():
        result = {name: value for name, value in block.items() if value is not None}
    for name, sub in nested.items():
        value: Any = block.get(name)
        if type(value) is not sub.shape:
            continue
        if sub.shape is dict:
            kept: Any = whole(sub, value)
        else:
            kept = [whole(sub, item) for item in unique(sub, value)]
        if result is block:
            result = dict(block)
        result[name] = kept
    return result


def same_bag(one: Any, other: Any) -> bool:
    """Whether two values that differ are lists that hold the same in another order."""
    if type(one) is not list or type(other) is not list or len(one) != len(other):
        return False
    rest = list(one)
    try:
        for item in other:
            rest.remove(item)
    except ValueError:
        return False
    return True


def settle(plan: BlockPlan, block: Document) -> Document:
    """A block as a receiver comes to hold it; a document that extract built is its own.

    Keys in the order of the specification, lists in canonical order, no nulls, nothing that is
    marked as purged, and of items that share a key the first in canonical order. Keys that the
    specification does not know come last.
    """
    result: Document = {}
    names = plan.names
    if not block.keys() <= names.keys():
        names = dict.fromkeys((*plan.names, *block))
    for name in names:
        value = block.get(name)
        sub = plan.nested.get(name)
        if value is None:
            continue
        if sub is not None and type(value) is sub.shape:
            if sub.shape is list:
                items = [settle(sub, item) for item in unique(sub, value)]
                value = _sorted(sub.block, [item for item in items if item.get(PURGE) is not True])
                if not value:
                    continue
            elif value.get(PURGE) is True:
                continue
            else:
                value = settle(sub, value)
        elif name in plan.bags and type(value) is list and len(value) > 1:
            value = _sorted(plan.bags[name], value)
        result[name] = value
    return result


def _sorted(block: Block | None, items: Iterable[Any]) -> list[Any]:
    items = list(items)
    if len(items) < 2:
        return items
    try:
        return sorted(items) if block is None else block.sorted_items(items)
    except (TypeError, AttributeError):  # foreign values that do not compare with each other
        return sorted(items, key=_content)


def _content(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
