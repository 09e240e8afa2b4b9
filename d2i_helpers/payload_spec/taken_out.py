"""What an overlay takes out by `null` though nothing of that name is there.

A name that is near to a known one, or a field of another block, is a slip, and a fault: what was
meant would still be sent. Any other is told, and ends no night: it may be one that an earlier
release knew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from d2i_helpers.payload_spec.schema import Schema, published, under
from d2i_helpers.payload_spec.shape import nearest, place

Entry = Mapping[str, Any]
# a name in one of these is one of the specification's, and not a code or a column of the authority
_NAMED = ("sources", "blocks", "code_lists")


class NotThere(NamedTuple):
    """A `null` that takes nothing out."""

    said: str  # a part of a sentence, about the overlay
    slip: str | None  # the fault, where it cannot be meant


def not_there(before: Entry, ours: Entry) -> list[NotThere]:
    """Each `null` of an overlay that takes nothing out.

    Args:
        before: all that is known: the specification, and what the system's overlay makes of it.
        ours: the authority's overlay, with its types (`typed`).
    """

    def look(
        over: Entry, known: Entry, schema: Schema, path: tuple[str, ...]
    ) -> Iterator[NotThere]:
        keys = schema.get("properties")
        for name, value in over.items():
            steps = (*path, str(name))
            if isinstance(value, Mapping):
                held = known.get(name)
                inner = held if isinstance(held, Mapping) else {}
                yield from look(value, inner, under(schema, name), steps)
            elif value is None and keys is not None and name not in keys:
                yield _unknown_key(steps, keys)
            elif value is None and keys is None and name not in known:
                yield _unknown_name(steps, known, before["blocks"])

    return list(look(ours, before, published(), ()))


def _unknown_key(path: tuple[str, ...], keys: Schema) -> NotThere:
    said = f"{place(path)[1]}: unknown key `{path[-1]}`{nearest(path[-1], keys)}"
    return NotThere(f"takes out an unknown key `{path[-1]}`", said)


def _unknown_name(path: tuple[str, ...], known: Entry, blocks: Entry) -> NotThere:
    depth, words = place(path)
    name = path[-1]
    if depth < len(path) or path[0] not in _NAMED:
        return NotThere(f"takes out `{name}` of {words}, and there is none", None)
    near = nearest(name, known)
    if "fields" in path and (holders := [b for b in blocks if name in blocks[b]["fields"]]):
        near = f" (it is a field of {', '.join(f'`{holder}`' for holder in holders)})"
    slip = f"{words} is taken out, and there is none{near}" if near else None
    return NotThere(f"takes out {words}, and there is none", slip)
