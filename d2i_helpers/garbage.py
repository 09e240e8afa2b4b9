"""How often Python looks for cycles among its objects."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

_OBJECTS_BETWEEN_COLLECTIONS = 100_000
# What was left out is searched once the memory in use is so many times what it was.
_GROWN = 1.5


class _LeftOut:
    """What was there before a stage, and is left out of the search meanwhile."""

    def __init__(self) -> None:
        self._known = 0  # blocks of memory, when nothing that nobody needs was among them
        self._is_for_good = False

    def for_good(self) -> None:
        """Leave out what is there now from every later search."""
        gc.collect()
        gc.freeze()
        self._is_for_good = True

    def begin(self) -> None:
        """Leave out what is there.

        What an earlier stage of the same process left behind, such as an engine with its
        statements, is among it. Python would never find that, as it takes what was left out for
        searched, and the process would grow from stage to stage.
        """
        if not self._known and not self._is_for_good:
            # looked at once: Python goes through all of it to count it
            self._is_for_good = gc.get_freeze_count() > 0
        if self._is_for_good:
            return
        # to count the objects themselves would take as long as to search them
        if self._known and sys.getallocatedblocks() > _GROWN * self._known:
            gc.collect()
            self._known = 0
        self._known = self._known or sys.getallocatedblocks()
        gc.freeze()

    def end(self) -> None:
        """Let Python search all again."""
        if not self._is_for_good:
            gc.unfreeze()


_left_out = _LeftOut()


def leave_out_for_good() -> None:
    """Leave what this process has loaded out of every later search, in its forks as well.

    For a process from which others are forked, whose first search would copy all that they share,
    and for one that runs many stages.
    """
    _left_out.for_good()


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Let Python look for cycles less often: rows and documents have none, and are many.

    It would otherwise take a tenth to a sixth of the time of a stage. What is there before, mostly
    modules, is left out of the search, which begins to count anew: else the first one after so much
    was loaded would go through all of it. A kernel of ours has left it out for good.
    """
    before = gc.get_threshold()
    _left_out.begin()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        _left_out.end()
