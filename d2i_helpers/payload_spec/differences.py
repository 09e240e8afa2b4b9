"""What an overlay makes of the specification, entry by entry, in words for people.

A name that is near to no other is a new field, and one that is there already is a change of that
field: no check can tell whether that was meant. So it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Entry = Mapping[str, Any]
_ENTRIES = {"sources": "source", "blocks": "block", "code_lists": "code list"}


def differences(before: Entry, after: Entry) -> list[str]:
    """What differs between two merged texts, a sentence each.

    Args:
        before: the text without the overlay.
        after: the text with it, without faults.
    """
    said: list[str] = []
    for table, noun in _ENTRIES.items():
        said += _of_table(noun, "", before.get(table) or {}, after.get(table) or {}, ("fields",))
    blocks = {**(before.get("blocks") or {}), **(after.get("blocks") or {})}
    for name in blocks:
        fields = [(one.get("blocks") or {}).get(name, {}).get("fields") for one in (before, after)]
        if None not in fields:
            said += _of_table("field", f"{name}.", *fields)
    others = (before.keys() | after.keys()) - _ENTRIES.keys()
    changed = sorted(key for key in others if before.get(key) != after.get(key))
    return said + [f"changes {_listed(changed)}"] * bool(changed)


def _of_table(
    noun: str, prefix: str, before: Entry, after: Entry, but: tuple[str, ...] = ()
) -> Iterator[str]:
    """The entries of a table that are new, gone or changed; ``but``: keys that say nothing here."""
    for name in [*before, *(name for name in after if name not in before)]:
        old, new, where = before.get(name), after.get(name), f"{noun} `{prefix}{name}`"
        if old is None or new is None:
            yield f"{'adds' if old is None else 'takes out'} {where}"
            continue
        keys = [key for key in {**old, **new} if key not in but and old.get(key) != new.get(key)]
        if keys:
            yield f"changes {where}: {_listed(keys)}"


def _listed(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
