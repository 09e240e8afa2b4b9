"""A field is missing only where a value was expected."""

from __future__ import annotations

import numpy as np

from d2i_helpers.document.expectation import Fault, Use, faults
from d2i_helpers.payload_spec import Spec, build_spec, load_spec, merge, merged_text

EPISODE, CHILD = "social_care_episodes[].", "child_details."
CLOSED, WHY = f"{EPISODE}closure_date", f"{EPISODE}closure_reason"
UPN, NO_UPN = f"{CHILD}unique_pupil_number", f"{CHILD}unique_pupil_number_unknown_reason"


def fault(uses: dict[str, tuple[int, int, int]], path: str, spec: Spec | None = None) -> Fault:
    return faults(spec or load_spec(), {p: Use(*use) for p, use in uses.items()})[path]


def test_an_end_that_has_not_come_is_not_missing() -> None:
    assert fault({CLOSED: (10, 3, 1)}, CLOSED) == Fault(4, 0, 1)


def test_a_reason_is_missing_only_in_what_is_closed() -> None:
    assert fault({CLOSED: (10, 4, 0), WHY: (10, 2, 1)}, WHY) == Fault(4, 1, 1)
    # one more reason than closures is no fault, and never a negative one
    assert fault({CLOSED: (10, 4, 0), WHY: (10, 6, 0)}, WHY) == Fault(6, 0, 0)


def test_a_number_is_missing_only_where_no_reason_says_why() -> None:
    assert fault({UPN: (10, 6, 0), NO_UPN: (10, 3, 0)}, UPN) == Fault(7, 1, 0)


def test_a_child_each_at_once() -> None:
    uses = {
        CLOSED: Use(np.array([2, 1]), np.array([1, 1]), np.array([0, 0])),
        WHY: Use(np.array([2, 1]), np.array([1, 0]), np.array([0, 0])),
    }
    found = faults(load_spec(), uses)[WHY]
    assert found.missing.tolist() == [0, 1]
    assert found.expected.tolist() == [1, 1]


def test_where_an_overlay_took_the_other_field_out_every_value_is_expected() -> None:
    over = {"blocks": {"social_care_episodes": {"fields": {"closure_date": None}}}}
    spec = build_spec(merge(merged_text(), over))
    assert fault({WHY: (10, 2, 0)}, WHY, spec) == Fault(10, 8, 0)


def test_per_cent_good() -> None:
    assert Fault(76, 10, 2).per_cent_good() == 84.2
    assert Fault(0, 0, 0).per_cent_good() is None
