"""How often Python looks for cycles among its objects."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_OBJECTS_BETWEEN_COLLECTIONS = 100_000


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Let Python look for cycles less often: rows and documents have none, and are many.

    It would otherwise take a tenth to a sixth of the time of a stage. What is there before, mostly
    modules, is left out of the search, which begins to count anew: else the first one after so much
    was loaded would go through all of it. A kernel of ours has left it out for good.
    """
    before, is_left_out = gc.get_threshold(), gc.get_freeze_count() > 0
    if not is_left_out:
        gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not is_left_out:
            gc.unfreeze()
