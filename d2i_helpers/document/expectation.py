"""Which values are missing: an empty field is a fault only where a value was expected.

By the keys `may_be_empty`, `expected_with` and `expected_without` of the specification: an end that
has not come is not missing, and a reason for closing is missing only in what is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from d2i_helpers.payload_spec import Field, Spec


class Use(NamedTuple):
    """How a field was filled, in numbers of items (or of children, for a child's own fields).

    Each is a number, or an array with a number for each child.
    """

    rows: Any  # items in which the field has its place
    filled: Any
    wrong: Any  # values that cannot be used; placeholders do not count, they say nothing


class Fault(NamedTuple):
    """What is wrong with a field, in numbers of items."""

    expected: Any  # items that should have a value, or have a wrong one
    missing: Any  # of those, the empty ones
    wrong: Any

    def per_cent_good(self) -> float | None:
        """Per cent of what was expected that is there and can be used; None: nothing was."""
        if not self.expected:
            return None
        return round(float(100 * (1 - (self.missing + self.wrong) / self.expected)), 1)


def faults(spec: Spec, uses: Mapping[str, Use]) -> dict[str, Fault]:
    """What is wrong with each field that has a use, by its path."""
    return {f.path: _fault(f, uses) for _, f in spec.fields() if f.path in uses}


def _fault(field: Field, uses: Mapping[str, Use]) -> Fault:
    use = uses[field.path]
    given = use.filled + use.wrong
    if field.may_be_empty:
        return Fault(given, use.rows * 0, use.wrong)
    wanted = use.rows
    if field.expected_with:
        wanted = _filled(field, field.expected_with, uses, otherwise=use.rows)
    if field.expected_without:
        wanted = use.rows - _filled(field, field.expected_without, uses, otherwise=use.rows * 0)
    expected = np.maximum(wanted, given)  # a value where none was expected is no fault
    return Fault(expected, expected - given, use.wrong)


def _filled(field: Field, name: str, uses: Mapping[str, Use], *, otherwise: Any) -> Any:
    """How often another field of the same block is filled; an overlay may have taken it out."""
    other = uses.get(f"{field.path.removesuffix(field.name)}{name}")
    return other.filled if other else otherwise
