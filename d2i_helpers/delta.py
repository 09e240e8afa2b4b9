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

from typing import Any, Literal

import orjson

from d2i_helpers.blocks import Plan, layers, own_content, plan_of, same_bag, settle, unique, whole
from d2i_helpers.errors import ChildErrors
from d2i_helpers.spec import PURGE, Document, Spec

Cleared = Literal["null", "omit"]
Mode = Literal["merge", "replace"]


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
    known = [base for base in baselines if base is not None and base.get(PURGE) is not True]
    plan = plan_of(spec)
    if current is None or current.get(PURGE) is True:
        return _child_purge(plan, known)
    new = len(known) < len(baselines) or not baselines
    if not new:
        known = [base for base in known if base != current]
        if not known:
            return None
    return _difference(plan, current, known, new, cleared_fields == "null")


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
    if baselines and all(base == current for base in baselines):
        return None
    documents = [None if text is None else _parsed(text) for text in (current, *baselines)]
    message = delta(spec, *documents, cleared_fields=cleared_fields)
    return None if message is None else orjson.dumps(message)


def _parsed(text: str | bytes) -> Document:
    try:
        document = orjson.loads(text)
    except ValueError:
        document = None  # the error would carry the text
    if type(document) is not dict:
        raise ChildErrors(
            "A document is not a JSON object, so no delta can be made of it.",
            hint="Run the extract stage again for this child.",
        )
    return document


def _child_purge(plan: Plan, known: list[Document]) -> Document | None:
    """Every identifier of the child that is known, and the mark: nothing else of it."""
    if not known:
        return None
    message: Document = {}
    for one in plan.block.fields:
        value = next((base[one.name] for base in known if base.get(one.name) is not None), None)
        if value is not None:
            message[one.name] = value
    message[PURGE] = True
    return message


def _difference(
    plan: Plan, current: Document, bases: list[Document], new: bool, clear: bool
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
                    if base.get(name) != value and not same_bag(plan, name, base, value):
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
            for name, old in base.items():
                if old is None or current.get(name) is not None:
                    continue
                sub = nested.get(name)
                if sub is None or type(old) is not sub.shape:
                    changed = True
                    if clear:
                        part[name] = None
                elif gone := _gone(sub, old, part.get(name)):
                    part[name] = gone
                    inner = True
    return part if changed or inner else None


def _nested_difference(
    sub: Plan, name: str, value: Any, bases: list[Document], new: bool, clear: bool
) -> Any:
    olds = []
    for base in bases:
        old = base.get(name)
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
    plan: Plan, current: list, olds: list[list], new: bool, clear: bool
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
            old = index.pop(identifier, None)
            if old is None:
                unsure = True
            elif old != item:
                versions.append(old)
        for index in spares:
            old = index.get(identifier)
            if old is not None and old != item:
                versions.append(old)
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


def _gone(sub: Plan, old: Any, marks: Any) -> Any:
    """Purge marks for a block or list that a baseline has, added to those already there."""
    if sub.shape is dict:
        return {PURGE: True}
    marks = list(marks or ())
    known = [mark[sub.key] for mark in marks]
    for identifier in layers(sub, old)[0]:
        if identifier not in known:
            marks.append({sub.key: identifier, PURGE: True})
    return marks


# --------------------------------------------------------------------------------- application
def apply(
    spec: Spec, document: Document | None, partial: Document, *, mode: Mode = "merge"
) -> Document | None:
    """What a receiver that holds ``document`` holds after the message ``partial``.

    Args:
        spec: the payload specification.
        document: what it held; None for nothing.
        partial: a delta, or a full document.
        mode: ``merge`` lays the keys of a block over those held and takes out what is null;
            ``replace`` puts the own content of a block in the place of that held. Either way the
            blocks nested in it that the message does not name stay.

    Returns:
        The document in settled form (see `settled`), or None after a purge of the child.
    """
    if partial.get(PURGE) is True:
        return None
    plan = plan_of(spec)
    return settle(plan, _applied(plan, document or {}, partial, mode == "replace"))


def _applied(plan: Plan, held: Document, message: Document, replace: bool) -> Document:
    nested = plan.nested
    result = dict(held)
    if replace:
        result = {
            name: value
            for name, value in held.items()
            if name in nested and type(value) is nested[name].shape
        }
    for name, value in message.items():
        sub = nested.get(name)
        if value is None:
            result.pop(name, None)
        elif sub is None or type(value) is not sub.shape:
            result[name] = value
        elif sub.shape is list:
            old = result.get(name)
            items = layers(sub, unique(sub, old if type(old) is list else []))[0]
            for item in unique(sub, value):
                identifier = item.get(sub.key)
                if item.get(PURGE) is True:
                    items.pop(identifier, None)
                else:
                    items[identifier] = _applied(sub, items.get(identifier, {}), item, replace)
            result[name] = list(items.values())
        elif value.get(PURGE) is True:
            result.pop(name, None)
        else:
            old = result.get(name)
            result[name] = _applied(sub, old if type(old) is dict else {}, value, replace)
    return result


def with_removals(spec: Spec, document: Document, partial: Document | None) -> Document:
    """The full document, completed by the purge marks and nulls that the partial carries.

    It is what phase `full` sends: without them a receiver would keep what is gone.
    """
    if partial is None or partial.get(PURGE) is True:
        return partial or document
    plan = plan_of(spec)
    return _completed(plan, whole(plan, document), partial)


def _completed(plan: Plan, block: Document, partial: Document) -> Document:
    result = dict(block)
    for name, value in partial.items():
        sub = plan.nested.get(name)
        held = result.get(name)
        if value is None:
            result.setdefault(name, None)
        elif sub is None or type(value) is not sub.shape:
            continue
        elif sub.shape is dict:
            result[name] = value if held is None else _completed(sub, held, value)
        else:
            items = {item.get(sub.key): item for item in held or ()}
            for item in value:
                identifier = item.get(sub.key)
                old = items.get(identifier)
                items[identifier] = item if old is None else _completed(sub, old, item)
            result[name] = list(items.values())
    return result


# -------------------------------------------------------------------------------------- counting
def removed_items(spec: Spec, before: Document | None, after: Document | None) -> tuple[int, int]:
    """How much of a document a change would purge, for the guard.

    Items of lists with keys and object blocks count one each, whatever is nested in them counts
    too; blocks that are always sent, the child itself and lists without keys do not.

    Returns:
        The number of those gone, and the number there before.
    """
    return _removed(plan_of(spec), before or {}, after)


def _removed(plan: Plan, before: Document, after: Document | None) -> tuple[int, int]:
    gone = total = 0
    for name, sub in plan.nested.items():
        old, now = before.get(name), (after or {}).get(name)
        if type(old) is not sub.shape:
            continue
        if sub.shape is list:
            left = layers(sub, now)[0] if type(now) is list else {}
            pairs = [(item, left.get(key)) for key, item in layers(sub, old)[0].items()]
        else:
            pairs = [(old, now if type(now) is dict else None)]
        for item, counterpart in pairs:
            inside = _removed(sub, item, counterpart)
            own = 0 if sub.always else 1
            gone += inside[0] + (own if counterpart is None else 0)
            total += inside[1] + own
    return gone, total
