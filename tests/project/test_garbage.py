"""How often Python looks for cycles, and through what."""

from __future__ import annotations

import gc
import weakref

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


def test_what_stages_leave_behind_is_found_in_time() -> None:
    """What is there when a stage begins and nobody needs after it, as an engine's statements."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    gc.unfreeze()
    gc.collect()
    alive: weakref.WeakSet[Cycle] = weakref.WeakSet()
    before = len(gc.get_objects())
    for _ in range(40):
        made = [Cycle() for _ in range(before // 40)]
        alive.update(made)
        with few_collections():
            del made
    assert len(alive) < before / 2
