"""A fictional SSD, by seed and of any size, and believable days of changes to it.

Also days of changes in an anonymised staging table alone, and records broken on purpose.
"""

from d2i_helpers.demo.simulate.broken import KINDS, break_records
from d2i_helpers.demo.simulate.first_data import make_first_data
from d2i_helpers.demo.simulate.stage import day, init, still_staged
from d2i_helpers.demo.simulate.staging_days import days_in_staging

__all__ = [
    "KINDS",
    "break_records",
    "day",
    "days_in_staging",
    "init",
    "make_first_data",
    "still_staged",
]
