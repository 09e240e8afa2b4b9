"""A fictional SSD, by seed and of any size, and believable days of changes to it."""

from d2i_helpers.demo.simulate.first_data import make_first_data
from d2i_helpers.demo.simulate.stage import day, init, still_staged

__all__ = [
    "day",
    "init",
    "make_first_data",
    "still_staged",
]
