"""The one form of a document that is hashed, and the compact text in which it is stored.

Two documents with the same content have the same hash, whatever the order of their keys and lists;
duplicates count. Where the source renumbers its forms overnight (`volatile_ids`), item ids are left
out and items are compared as a multiset of contents. Raise `canonical_form` in the specification
whenever the same data would hash differently.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from d2i_helpers.payload_spec import Block, Document, Spec
from d2i_helpers.settings import Settings


def to_text(document: Any) -> str:
    """Compact JSON text (UTF-8 once encoded), keys in the order in which they were built."""
    return orjson.dumps(document).decode()


def ids_are_volatile(spec: Spec, settings: Settings) -> bool:
    """Whether item ids are left out of the hashes: as the profile says, else the specification."""
    return spec.volatile_ids if settings.volatile_ids is None else settings.volatile_ids


def canonical_name(spec: Spec, volatile_ids: bool) -> str:
    """Name of the canonical form, such as ``1``, or ``1v`` without item ids.

    It is stored with a staging table, so that an upgrade is noticed and does not resend the whole
    cohort by accident.
    """
    return f"{spec.canonical_form}{'v' if volatile_ids else ''}"


def content_hash(spec: Spec, document: Document, *, volatile_ids: bool = False) -> bytes:
    """SHA-256 digest (32 bytes) of the canonical bytes of a document."""
    return hashlib.sha256(canonical_bytes(spec, document, volatile_ids)).digest()


def text_hasher(spec: Spec, volatile_ids: bool = False) -> Callable[[str], bytes | None]:
    """A function from a document's JSON text to its content hash; None if it is not a document."""

    def hash_of(text: str) -> bytes | None:
        try:
            document = orjson.loads(text)
        except (ValueError, TypeError):
            return None
        if not isinstance(document, dict):
            return None
        return content_hash(spec, document, volatile_ids=volatile_ids)

    return hash_of


def canonical_bytes(spec: Spec, document: Document, volatile_ids: bool = False) -> bytes:
    """The document with sorted keys and lists, without nulls, and without ids where volatile."""
    return orjson.dumps(
        _canonical(document, _form(spec, volatile_ids)), option=orjson.OPT_SORT_KEYS
    )


@dataclass(frozen=True)
class _Form:
    """For one block and the blocks inside it: which keys to leave out and how to sort items."""

    leave_out: frozenset[str]
    inner: Mapping[str, _Form]
    key: str | None = None  # sorts items quickly; None: by whole content


_NOTHING = _Form(frozenset(), {})


@functools.lru_cache(maxsize=8)
def _form(spec: Spec, volatile_ids: bool) -> _Form:
    def of(block: Block) -> _Form:
        volatile = {field.name for field in block.fields if field.volatile and volatile_ids}
        inner = {child.name: of(child) for child in (*block.values, *block.blocks)}
        return _Form(frozenset(volatile), inner, None if block.key in volatile else block.key)

    return of(spec.root)


def _canonical(block: Mapping[str, Any], form: _Form) -> dict[str, Any]:
    built = {}
    for name, held in block.items():
        if held is None or name in form.leave_out:
            continue
        type_ = type(held)
        if type_ is dict:
            held = _canonical(held, form.inner.get(name, _NOTHING))
        elif type_ is list:
            held = _sorted(held, form.inner.get(name, _NOTHING))
        elif type_ is float:
            held = _exact(held)
        built[name] = held
    return built


def _sorted(items: list[Any], form: _Form) -> list[Any]:
    """Items in an order that depends on their content only: by key if keys are unique."""
    built = [_item(item, form) for item in items]
    if len(built) < 2:
        return built
    try:
        if type(built[0]) is str:
            return sorted(built)
        if form.key is not None:
            by_key = {item[form.key]: item for item in built}
            if len(by_key) == len(built):
                return [by_key[key] for key in sorted(by_key)]
    except (
        KeyError,
        TypeError,
    ):  # made by other software: items without a key, or of several types
        pass
    return sorted(built, key=_text)


def _item(item: Any, form: _Form) -> Any:
    type_ = type(item)
    if type_ is dict:
        return _canonical(item, form)
    if type_ is list:
        return _sorted(item, form)
    return _exact(item) if type_ is float else item


def _exact(number: float) -> int | str:
    """A float as an integer or text, since libraries print floats differently."""
    return int(number) if number.is_integer() else repr(number)


def _text(item: Any) -> bytes:
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
