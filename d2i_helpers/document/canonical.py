"""The one form of a document that is hashed, and the compact text in which it is stored.

Two documents with the same content have the same hash, whatever the order of their keys and lists;
duplicates count. Where the source renumbers its forms overnight (`volatile_ids`), item ids are left
out and items are compared as a multiset of contents. Raise `canonical_form` in the specification
whenever the same data would hash differently.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from d2i_helpers.payload_spec import Block, Document, Spec, load_spec, with_taken_out
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
    cohort by accident. The same document has another hash where an overlay gives a list another
    key, adds one, or says of other fields that they are volatile: such a form has a name with a
    digest of what differs.
    """
    name = f"{spec.canonical_form}{'v' if volatile_ids else ''}"
    here, published = (_deciding(_form(one, volatile_ids)) for one in (spec, load_spec()))
    return name if here == published else f"{name}-{hashlib.sha256(here).hexdigest()[:12]}"


def content_hash(spec: Spec, document: Document, *, volatile_ids: bool = False) -> bytes:
    """SHA-256 digest (32 bytes) of the canonical bytes of a document."""
    return hashlib.sha256(canonical_bytes(spec, document, volatile_ids)).digest()


def hash_of_assembled(spec: Spec, document: Document, *, volatile_ids: bool = False) -> bytes:
    """The same hash of a document that `assembly` made: it holds no null and no float.

    Nor does it hold an item without its key, or two with the same. So the canonical form of it
    differs in the order of lists alone, unless ids are left out.
    """
    if volatile_ids:
        return content_hash(spec, document, volatile_ids=True)
    return hashlib.sha256(_sorted_bytes(document, _form(spec, volatile_ids))).digest()


def hash_of_plain(spec: Spec, document: Document, *, volatile_ids: bool = False) -> bytes:
    """The same hash of a document that holds no null and no float, such as anonymise makes.

    One of its items may lack its key, or two may have the same: then the whole form is made.
    """
    form = _form(spec, volatile_ids)
    if volatile_ids or not _can_be_ordered(document, form):
        return content_hash(spec, document, volatile_ids=volatile_ids)
    return hashlib.sha256(_sorted_bytes(document, form)).digest()


def _can_be_ordered(block: Document, form: _Form) -> bool:
    """Whether the items of each list can be told apart by their keys."""
    for name in form.lists:
        held: Any = block.get(name)
        inner = form.inner.get(name)
        if not held or inner is None:  # nothing, or a list of codes
            continue
        if type(held) is dict:
            held = (held,)
        elif len(held) > 1 and inner.key is not None:
            keys = {item.get(inner.key) for item in held}
            if len(keys) < len(held) or None in keys:
                return False
        if inner.lists and not all(_can_be_ordered(item, inner) for item in held):
            return False
    return True


def _sorted_bytes(document: Document, form: _Form) -> bytes:
    return orjson.dumps(_in_order(document, form), option=orjson.OPT_SORT_KEYS)


# of other software: a number of more than 64 bits, or lists that are nested too deeply
_WITHOUT_HASH = (TypeError, RecursionError)


class TextHasher:
    """From a document's JSON text to its content hash."""

    def __init__(self, spec: Spec, volatile_ids: bool = False) -> None:
        self._spec, self._volatile_ids = spec, volatile_ids
        self._form = _form(spec, volatile_ids)

    def __call__(self, text: str) -> bytes | None:
        """The content hash; None for a text that is no document, or one that has no hash."""
        document = _document(text)
        if document is None:
            return None
        try:
            return content_hash(self._spec, document, volatile_ids=self._volatile_ids)
        except _WITHOUT_HASH:
            return None

    def matches(self, text: str, digest: bytes | None, document: Document | None = None) -> bool:
        """Whether a text has this content hash. Faster than to make the hash.

        Args:
            document: the parsed text, where the caller has it.
        """
        if digest is None:
            return False
        if document is None and (document := _document(text)) is None:
            return False
        try:
            # most documents need nothing but their lists in order. Equal bytes have equal hashes,
            # and the canonical form of canonical bytes are these bytes: a match proves itself
            if hashlib.sha256(_sorted_bytes(document, self._form)).digest() == digest:
                return True
            made = content_hash(self._spec, document, volatile_ids=self._volatile_ids)
        except _WITHOUT_HASH:
            return False
        return made == digest


def text_hasher(spec: Spec, volatile_ids: bool = False) -> TextHasher:
    """What makes the hashes of texts in one canonical form."""
    return TextHasher(spec, volatile_ids)


def _document(text: str) -> Document | None:
    try:
        document = orjson.loads(text)
    except (ValueError, TypeError):
        return None
    return document if isinstance(document, dict) else None


def _in_order(block: Document, form: _Form) -> Document:
    """The block with its lists sorted as the canonical form has them, and else as it is."""
    result = block
    for name in form.lists:
        held: Any = block.get(name)
        if held is None:
            continue
        inner = form.inner.get(name, _NOTHING)
        ordered: Any = held
        if type(held) is dict:
            ordered = _in_order(held, inner)
        elif type(held) is list:
            if inner.lists:
                ordered = [_in_order(item, inner) if type(item) is dict else item for item in held]
            if len(held) > 1:
                try:
                    ordered = sorted(ordered, key=inner.sort_key)
                except (KeyError, TypeError):  # of other software: the whole form is made then
                    return block
        if ordered is not held:
            if result is block:
                result = dict(block)
            result[name] = ordered
    return result


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
    lists: tuple[str, ...] = ()  # what is a list, or holds lists

    @functools.cached_property
    def sort_key(self) -> Callable[[Any], Any] | None:
        """What items are sorted by; None: by themselves."""
        if self is _NOTHING:
            return None
        return _text if self.key is None else operator.itemgetter(self.key)


_NOTHING = _Form(frozenset(), {})  # of a list of codes


def _deciding(form: _Form) -> bytes:
    """All of a form on which the hash of a document hangs."""

    def of(form: _Form) -> dict[str, Any]:
        inner = {name: said for name, one in form.inner.items() if (said := of(one))}
        said = {"key": form.key, "leave_out": sorted(form.leave_out), "inner": inner}
        return {name: held for name, held in said.items() if held}

    return orjson.dumps(of(form), option=orjson.OPT_SORT_KEYS)


@functools.lru_cache(maxsize=8)
def _form(spec: Spec, volatile_ids: bool) -> _Form:
    def of(block: Block) -> _Form:
        volatile = {field.name for field in block.fields if field.volatile and volatile_ids}
        inner = {child.name: of(child) for child in (*block.values, *block.blocks)}
        lists = [field.name for field in block.fields if field.type == "codes"]
        lists += [c.name for c in (*block.values, *block.blocks)
                  if c.kind != "object" or inner[c.name].lists]  # fmt: skip
        key = None if block.key in volatile else block.key
        return _Form(frozenset(volatile), inner, key, tuple(lists))

    return of(with_taken_out(spec))


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
