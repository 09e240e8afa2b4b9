"""How often Python looks for cycles, and through what."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from d2i_helpers import garbage
from d2i_helpers.garbage import few_collections


class Cycle:
    """An object that only a search finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process in which no stage has run; afterwards as the test session had it."""
    monkeypatch.setattr(garbage, "_left_out", garbage._LeftOut())
    threshold, was_left_out = gc.get_threshold(), gc.get_freeze_count() > 0
    gc.set_threshold(700, 10, 10)
    gc.unfreeze()
    gc.collect()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()
    if was_left_out:
        gc.freeze()


@pytest.mark.parametrize("left_out_by", ["nobody", "us", "somebody else"])
def test_a_stage_leaves_the_search_for_cycles_as_it_was(left_out_by: str) -> None:
    if left_out_by == "us":  # as in a kernel that was forked
        garbage.leave_out_for_good()
    elif left_out_by == "somebody else":
        gc.freeze()
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    assert (frozen > 0) is (left_out_by != "nobody")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), few_collections():
            assert gc.get_freeze_count() > 0 and gc.get_threshold()[0] > threshold[0]
            1 / 0  # noqa: B018
        assert gc.get_threshold() == threshold
        assert (gc.get_freeze_count() > 0) is (frozen > 0)
        assert gc.get_freeze_count() <= frozen


def test_what_is_made_after_all_was_left_out_for_good_is_found() -> None:
    garbage.leave_out_for_good()
    made = Cycle()
    alive = weakref.ref(made)
    with few_collections():
        del made
    gc.collect()
    assert alive() is None


def test_what_stages_leave_behind_is_found_in_time() -> None:
    """What is there when a stage begins and nobody needs after it, as an engine's statements."""
    alive: weakref.WeakSet[Cycle] = weakref.WeakSet()
    before = len(gc.get_objects())
    for _ in range(80):
        made = [Cycle() for _ in range(before // 20)]
        alive.update(made)
        with few_collections():
            del made
    assert len(alive) < 2 * before  # of four times as many
