"""Pseudonyms of codes: each child has its own order of a code list, drawn under the secret key.

A code stands for the one at its place in that order. Every code is as likely as any other, so that
a rare one no longer points at its child; equal codes of a child stay equal and different ones
different, so that a change in the source is a change here.
"""

from __future__ import annotations

import struct
from typing import Any

from d2i_helpers.anonymise.child import Child, Rule
from d2i_helpers.anonymise.keyed import drawn
from d2i_helpers.errors import SpecificationError
from d2i_helpers.spec import Field


def _order(child: Child, path: bytes, count: int) -> list[int]:
    """The codes in an order of the child's own: each code stands for the one at its place.

    A whole order, not a draw for each code, so that two codes never become one and a change in the
    source is a change here.
    """
    stream = drawn(child.key, path, 64)
    while len(stream) < 2 * count:
        stream += drawn(child.key, stream[-64:], 64)
    draws = struct.unpack_from(f">{count}H", stream)
    return sorted(range(count), key=draws.__getitem__)


def _pool(field: Field, special: set[str]) -> tuple[list[str], dict[str, int]]:
    if field.codes is None:
        raise SpecificationError(
            f"Field `{field.path}` has no code list to draw from.",
            hint="Give it `codes:`, or another rule under `anonymise:`.",
        )
    pool = [
        code
        for code in field.codes.codes
        if code not in special and len(code) <= (field.max_length or len(code))
    ]
    if len(pool) < 2:
        raise SpecificationError(f"The code list of `{field.path}` is too short to draw from.")
    return pool, {code: place for place, code in enumerate(pool)}


def code_rule(field: Field) -> Rule:
    """The rule of a field with one code: another code of its list, in the child's own order."""
    # the default says that nothing is known ("U"): it stays
    special = {field.default} if isinstance(field.default, str) else set()
    pool, places = _pool(field, special)
    path, salt = field.path, field.path.encode()

    def rule(child: Child, value: Any) -> str | None:
        if type(value) is not str:
            return None
        if value in special:
            return value
        order = child.orders.get(path)
        if order is None:
            order = child.orders[path] = _order(child, salt, len(pool))
        return pool[order[places.get(value, len(value) % len(pool))]]

    return rule


def codes_rule(field: Field) -> Rule:
    """The rule of a list of codes: as many others, sorted; codes that stand alone stay."""
    special = set(field.options.get("alone") or ())
    pool, places = _pool(field, special)
    path, salt = field.path, field.path.encode()

    def rule(child: Child, value: Any) -> list[str] | None:
        if type(value) is not list:
            return None
        held = [code for code in value if type(code) is str]
        if special.issuperset(held):
            return held
        order = child.orders.get(path)
        if order is None:
            order = child.orders[path] = _order(child, salt, len(pool))
        return sorted({c if c in special else pool[order[places.get(c, 0)]] for c in held})

    return rule
