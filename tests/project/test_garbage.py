"""How often Python looks for cycles, and through what."""

from __future__ import annotations

import gc

import pytest

from d2i_helpers.garbage import few_collections


@pytest.mark.parametrize("frozen_before", [False, True])
def test_a_stage_leaves_the_search_for_cycles_as_it_was(frozen_before: bool) -> None:
    gc.unfreeze()
    if frozen_before:  # as in a kernel that was forked
        gc.freeze()
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        with pytest.raises(ZeroDivisionError), few_collections():
            assert gc.get_freeze_count() > 0 and gc.get_threshold()[0] > threshold[0]
            1 / 0  # noqa: B018
        assert gc.get_threshold() == threshold
        assert (gc.get_freeze_count() > 0) is frozen_before
        assert gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()
