"""The one form of a document that is hashed, and the compact text in which it is stored.

Two documents with the same content hash alike whatever the order of their keys and lists; a
duplicate counts. Where the source renumbers its forms overnight (`volatile_ids`) the item ids are
left out, and items are compared as a multiset of content. Raise `canonical_form` in the
specification when the same data would hash differently.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from d2i_helpers.spec import Block, Document, Spec


def to_text(document: Any) -> str:
    """Compact JSON text (UTF-8 once encoded), keys in the order in which they were built."""
    return orjson.dumps(document).decode()


def canonical_name(spec: Spec, volatile_ids: bool) -> str:
    """Name of the form that hashes are in, such as ``1``, or ``1v`` without item ids.

    It is kept with a staging table, so that an upgrade is noticed and does not resend a cohort
    unseen.
    """
    return f"{spec.canonical_form}{'v' if volatile_ids else ''}"


def content_hash(spec: Spec, document: Document, *, volatile_ids: bool = False) -> bytes:
    """SHA-256 digest (32 bytes) of the canonical bytes of a document."""
    return hashlib.sha256(canonical_bytes(spec, document, volatile_ids)).digest()


def canonical_bytes(spec: Spec, document: Document, volatile_ids: bool = False) -> bytes:
    """The document with sorted keys and lists, without nulls, and without ids where volatile."""
    plan = _plan(spec) if volatile_ids else _NOTHING
    return orjson.dumps(_canonical(document, plan), option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True)
class _Plan:
    """Which keys to leave out of one block and of those nested in it."""

    leave_out: frozenset[str]
    inner: Mapping[str, _Plan]


_NOTHING = _Plan(frozenset(), {})


@functools.lru_cache(maxsize=8)
def _plan(spec: Spec) -> _Plan:
    def of(block: Block) -> _Plan:
        return _Plan(
            frozenset(field.name for field in block.fields if field.volatile),
            {child.name: of(child) for child in (*block.values, *block.blocks)},
        )

    return of(spec.root)


def _canonical(value: Any, plan: _Plan) -> Any:
    kind = type(value)
    if kind is dict:
        inner = plan.inner
        built = {}
        for key, held in value.items():
            if held is None or key in plan.leave_out:
                continue
            if type(held) in _NESTED:
                held = _canonical(held, inner.get(key, _NOTHING))
            built[key] = held
        return built
    if kind is list:
        if not value:
            return value
        if all(type(item) is str for item in value):
            return sorted(value)
        items = [_canonical(item, plan) for item in value]
        return sorted(items, key=_text) if len(items) > 1 else items
    if kind is float:  # a float prints differently from library to library
        return int(value) if value.is_integer() else repr(value)
    return value


_NESTED = frozenset({dict, list, float})


def _text(item: Any) -> bytes:
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
