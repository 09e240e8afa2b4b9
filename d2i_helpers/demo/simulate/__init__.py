"""A fictional SSD, by seed and of any size, and believable days of changes to it."""

from d2i_helpers.demo.simulate.stage import day, init, still_staged

__all__ = [
    "day",
    "init",
    "still_staged",
]
