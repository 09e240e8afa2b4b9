"""What a receiver makes of a message: the other half of `delta`, and what is built on it.

Nothing is copied: what is returned shares parts with what was passed in, so change neither.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from d2i_helpers.delta.blocks import BlockPlan, layers, plan_of, settle, unique, whole
from d2i_helpers.payload_spec import PURGE, Document, Spec

Mode = Literal["merge", "replace"]


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
        The document in settled form (see `blocks.settle`), or None after a purge of the child.
    """
    if partial.get(PURGE) is True:
        return None
    plan = plan_of(spec)
    return settle(plan, _applied(plan, document or {}, partial, mode == "replace"))


def _applied(plan: BlockPlan, held: Document, message: Document, replace: bool) -> Document:
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
        elif name not in plan.names and _is_marks(value):
            left = _unmarked(result.pop(name, None), value)
            if left:
                result[name] = left
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


def _is_marks(value: Any) -> bool:
    """Whether a value erases a block that the specification does not know, or items of one."""
    marks = value if type(value) is list else [value]
    return bool(marks) and all(type(mark) is dict and mark.get(PURGE) is True for mark in marks)


def _unmarked(held: Any, marks: Any) -> list[Any]:
    """The items that no mark means; of an object nothing is left."""
    if type(held) is not list or type(marks) is not list:
        return []
    keys = [{name: value for name, value in mark.items() if name != PURGE} for mark in marks]
    return [
        item
        for item in held
        if not (type(item) is dict and any(key.items() <= item.items() for key in keys))
    ]


def with_removals(spec: Spec, document: Document, partial: Document | None) -> Document:
    """The full document, with the purge marks and nulls of the partial added.

    It is what phase `full` sends: without them a receiver would keep what is gone.
    """
    if partial is None or partial.get(PURGE) is True:
        return partial or document
    plan = plan_of(spec)
    return _completed(plan, whole(plan, document), partial)


def _completed(plan: BlockPlan, block: Document, partial: Document) -> Document:
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


def removed_items(
    spec: Spec, before: Document | None, after: Document | None, *, by_number: bool = False
) -> tuple[Counter[str], Counter[str]]:
    """How much of a document a change would purge, for the guard.

    Items of lists and object blocks count one each, whatever is nested in them counts too; blocks
    that are always sent and the child itself do not. Lists without keys count by their length.

    Args:
        by_number: compare how many items of a block there are, not which; right where the source
            gives items new keys from day to day.

    Returns:
        The number of those gone, and the number there before, both by the name of the block.
    """
    gone: Counter[str] = Counter()
    held: Counter[str] = Counter()
    _count_removed(plan_of(spec), before or {}, after, gone, held)
    if by_number:
        left: Counter[str] = Counter()
        _count_removed(plan_of(spec), after or {}, None, Counter(), left)
        gone = held - left
    return gone, held


def _count_removed(
    plan: BlockPlan,
    before: Document,
    after: Document | None,
    gone: Counter[str],
    held: Counter[str],
) -> None:
    now_held = after or {}
    for name, block in plan.bags.items():
        listed, listed_now = before.get(name), now_held.get(name)
        if block is not None and type(listed) is list:
            held[name] += len(listed)
            left_over = len(listed_now) if type(listed_now) is list else 0
            gone[name] += max(0, len(listed) - left_over)
    for name, sub in plan.nested.items():
        old: Any = before.get(name)
        now: Any = now_held.get(name)
        if type(old) is not sub.shape:
            continue
        if sub.shape is list:
            left = layers(sub, now)[0] if type(now) is list else {}
            pairs = [(item, left.get(key)) for key, item in layers(sub, old)[0].items()]
        else:
            pairs = [(old, now if type(now) is dict else None)]
        for item, counterpart in pairs:
            if not sub.always:
                held[name] += 1
                gone[name] += counterpart is None
            _count_removed(sub, item, counterpart, gone, held)
