"""What to send so that the receiver comes to hold a document, and what a receiver makes of it.

Pure functions over the payload specification; no block has a case of its own. The unit is the
block: what can be purged on its own (the child, an object such as `adoption`, an item of a list
such as one episode). A block's *own content* is everything in it but the blocks nested in it. A
block that was changed is sent with all its own content; so are the blocks that lead down to one
(their key alone would blank them at a receiver that replaces blocks). docs/delta.md has the rules,
the law that they keep, and why.

What is returned shares parts with what was passed in: nothing is copied, so change neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from orjson import dumps, loads

from d2i_helpers.delta.blocks import (
    BlockPlan,
    has_other_types,
    layers,
    own_content,
    plan_of,
    same_bag,
    typed_parts_of,
    unique,
    whole,
)
from d2i_helpers.delta.merge import Mode, apply, removed_items, with_removals
from d2i_helpers.errors import ChildErrors
from d2i_helpers.payload_spec import PURGE, Document, Spec

Cleared = Literal["null", "omit"]

__all__ = ["Cleared", "Mode", "apply", "delta", "delta_text", "removed_items", "with_removals"]


# ---------------------------------------------------------------------------------- difference
def delta(
    spec: Spec,
    current: Document | None,
    *baselines: Document | None,
    cleared_fields: Cleared = "null",
) -> Document | None:
    """The message that brings a receiver from any of the baselines to the current document.

    Args:
        spec: the payload specification.
        current: the document that the receiver is to hold; None where the child is gone.
        baselines: every document that the receiver may hold; None for "nothing". Without any, the
            receiver is taken to hold nothing.
        cleared_fields: whether a field that a baseline has and the current document has not goes
            as `null` (RFC 7396) or is left out, which only a receiver that replaces understands.

    Returns:
        The message, or None where nothing differs from any baseline.
    """
    plan = plan_of(spec)
    clear = cleared_fields == "null"
    if current is not None and _may_look_equal(spec, current, baselines):
        baselines = (*baselines, None)  # the whole document is right, whatever is held
    if len(baselines) == 1:
        base = baselines[0]
        if base and current and base.get(PURGE) is not True and current.get(PURGE) is not True:
            return _against(plan, current, base, clear)
    known = [base for base in baselines if base is not None and base.get(PURGE) is not True]
    if current is None or current.get(PURGE) is True:
        return _child_purge(plan, known)
    new = len(known) < len(baselines) or not baselines
    known = [base for base in known if base != current]
    return _difference(plan, current, known, new, clear) if known or new else None


def _may_look_equal(spec: Spec, current: Document, baselines: Sequence[Document | None]) -> bool:
    """Whether a version has a number for a flag, or a flag for a number.

    So it may where the specification was changed, or where other software made it.
    """
    typed = typed_parts_of(spec)
    odd = any(base is not None and has_other_types(typed, base) for base in baselines)
    return odd and not has_other_types(typed, current)


def delta_text(
    spec: Spec,
    current: str | bytes | None,
    *baselines: str | bytes | None,
    cleared_fields: Cleared = "null",
) -> bytes | None:
    """`delta` from JSON text to JSON text; texts that are all equal are not even parsed.

    Raises:
        ChildErrors: a text is not a JSON object.
    """
    if baselines and baselines.count(current) == len(baselines):
        return None
    try:
        document = None if current is None else _parsed(current)
        known = [None if base is None else _parsed(base) for base in baselines]
    except ValueError:  # never its own text: it may carry the document
        raise ChildErrors(
            "A document is not a JSON object, so no delta can be made of it.",
            hint="Run the extract stage again for this child.",
        ) from None
    message = delta(spec, document, *known, cleared_fields=cleared_fields)
    return None if message is None else dumps(message)


def _parsed(text: str | bytes) -> Document:
    document = loads(text)
    if type(document) is not dict:
        raise ValueError
    return document


def _child_purge(plan: BlockPlan, known: list[Document]) -> Document | None:
    """All known identifiers of the child and the purge mark, and nothing else."""
    if not known:
        return None
    message: Document = {}
    for field in plan.block.fields:
        name = field.name
        value = next((base[name] for base in known if base.get(name) is not None), None)
        if value is not None:
            message[name] = value
    message[PURGE] = True
    return message


def _against(plan: BlockPlan, current: Document, base: Document, clear: bool) -> Document | None:
    """`_difference` from a single version. Nearly every call is one, so it has a fast path.

    Whatever is odd here is left to the general functions.
    """
    if plan.leaf:
        return _leaf_against(plan, current, base, clear)
    nested, bags = plan.nested, plan.bags
    part: Document = {}
    changed = inner = False
    for name, value in current.items():
        old: Any = base.get(name)
        sub = nested.get(name)
        if sub is None or type(value) is not sub.shape:
            if value is not None:
                part[name] = value
                if not changed and old != value:
                    changed = name not in bags or not same_bag(old, value)
            elif old is not None:
                return _difference(plan, current, [base], False, clear)
        elif sub.leaf and old == value:
            if sub.always:
                part[name] = own_content(sub, value)
        else:
            if type(old) is not sub.shape:
                sent: Any = _nested_difference(sub, name, value, [base], False, clear)
            elif sub.shape is list:
                sent = _items_against(sub, value, old, clear)
            elif old.get(PURGE) is True:
                sent = whole(sub, value)
            else:
                sent = _against(sub, value, old, clear)
            if sent is not None:
                part[name] = sent
                inner = True
            elif sub.always:
                part[name] = own_content(sub, value)
    if not base.keys() <= current.keys():
        cleared, gone = _missing(plan, current, base, part, clear)
        changed, inner = changed or cleared, inner or gone
    return part if changed or inner else None


def _leaf_against(
    plan: BlockPlan, current: Document, base: Document, clear: bool
) -> Document | None:
    """`_against` for a block with nothing nested in it, which can be sent as it stands."""
    part, bags = own_content(plan, current), plan.bags
    changed = False
    for name, value in part.items():
        old = base.get(name)
        if old != value and not (name in bags and same_bag(old, value)):
            changed = True
            break
    if not base.keys() <= part.keys():
        part = dict(part)
        changed = _missing(plan, current, base, part, clear)[0] or changed
    return part if changed else None


def _items_against(
    plan: BlockPlan, current: list[Any], old: list[Any], clear: bool
) -> list[Document] | None:
    """`_list_difference` from a single version."""
    key = plan.key
    try:
        now = {item[key]: item for item in current}
        index = {item[key]: item for item in old}
        odd = len(now) < len(current) or len(index) < len(old)  # repeated keys
    except (KeyError, TypeError):  # not objects, or without a key
        odd = True
    if odd:
        return None if current == old else _list_difference(plan, current, [old], False, clear)
    sent = []
    for identifier, item in now.items():
        before = index.pop(identifier, None)
        if before != item:
            if before is None or before.get(PURGE) is True:
                part: Document | None = whole(plan, item)
            else:
                part = _against(plan, item, before, clear)
            if part is not None:
                sent.append(part)
    if index:
        sent += [{key: identifier, PURGE: True} for identifier in index]
    return sent or None


def _difference(
    plan: BlockPlan, current: Document, bases: list[Document], new: bool, clear: bool
) -> Document | None:
    """One block against the versions of it that a receiver may hold.

    ``new``: it may also hold none. None is returned where nothing in or under the block differs.
    """
    if not bases:
        return whole(plan, current)
    nested = plan.nested
    part: Document = {}
    changed = new  # own content
    inner = holes = False
    for name, value in current.items():
        if value is None:
            holes = True
            continue
        sub = nested.get(name)
        if sub is None or type(value) is not sub.shape:
            part[name] = value
            if not changed:
                for base in bases:
                    old = base.get(name)
                    if old != value and not (name in plan.bags and same_bag(old, value)):
                        changed = True
                        break
            continue
        sent = _nested_difference(sub, name, value, bases, new, clear)
        if sent is not None:
            part[name] = sent
            inner = True
        elif sub.always:
            part[name] = own_content(sub, value)
    keys = current.keys()
    for base in bases:
        if holes or not base.keys() <= keys:
            cleared, gone = _missing(plan, current, base, part, clear)
            changed, inner = changed or cleared, inner or gone
    return part if changed or inner else None


def _missing(
    plan: BlockPlan, current: Document, base: Document, part: Document, clear: bool
) -> tuple[bool, bool]:
    """Add nulls and purge marks to the part for what a version has and the document has not.

    Returns:
        Whether own content is missing, and whether something nested is.
    """
    own = inner = False
    for name, old in base.items():
        if old is None or current.get(name) is not None:
            continue
        sub = plan.nested.get(name)
        if sub is None or type(old) is not sub.shape:
            own = True
            if clear:
                part[name] = None
        elif gone := _gone(sub, old, part.get(name)):
            part[name] = gone
            inner = True
    return own, inner


def _nested_difference(
    sub: BlockPlan, name: str, value: Any, bases: list[Document], new: bool, clear: bool
) -> Any:
    olds = []
    for base in bases:
        old: Any = base.get(name)
        if type(old) is not sub.shape:
            new = True
        elif old != value:
            olds.append(old)
    if not olds and not new:
        return None
    if sub.shape is list:
        return _list_difference(sub, value, olds, new, clear)
    standing = [old for old in olds if old.get(PURGE) is not True]
    return _difference(sub, value, standing, new or len(standing) < len(olds), clear)


def _list_difference(
    plan: BlockPlan, current: list[Any], olds: list[list[Any]], new: bool, clear: bool
) -> list[Document] | None:
    """Items matched by key; ``new``: the receiver may hold none of them."""
    key = plan.key
    indexes, spares = [], []
    for old in olds:
        first, *more = layers(plan, old)
        indexes.append(first)
        spares += more
    sent = []
    for item in unique(plan, current):
        identifier = item.get(key)
        unsure = new
        versions = []
        for index in indexes:
            version = index.pop(identifier, None)
            if version is None:
                unsure = True
            elif version != item:
                versions.append(version)
        for index in spares:
            version = index.get(identifier)
            if version is not None and version != item:
                versions.append(version)
        if not unsure and not versions:
            continue
        standing = [old for old in versions if old.get(PURGE) is not True]
        unsure = unsure or len(standing) < len(versions)
        part = _difference(plan, item, standing, unsure, clear)
        if part is not None:
            sent.append(part)
    gone = {identifier: None for index in indexes for identifier in index}
    sent += [{key: identifier, PURGE: True} for identifier in gone]
    return sent or None


def _gone(sub: BlockPlan, old: Any, marks: Any) -> Any:
    """Purge marks for a block or list that a baseline has, added to those already there."""
    if sub.shape is dict:
        return {PURGE: True}
    marks = list(marks or ())
    known = [mark[sub.key] for mark in marks]
    for identifier in layers(sub, old)[0]:
        if identifier not in known:
            marks.append({sub.key: identifier, PURGE: True})
    return marks
