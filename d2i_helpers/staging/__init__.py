"""The staging table and what is kept beside it: the only writer of row and submission states."""

from d2i_helpers.staging.rehash import rehash_all
from d2i_helpers.staging.rows import Row, Staged, Staging, same, utc_now

__all__ = [
    "Row",
    "Staged",
    "Staging",
    "rehash_all",
    "same",
    "utc_now",
]
