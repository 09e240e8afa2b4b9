"""Extract: from the SSD to documents in the staging table."""

from d2i_helpers.extract.reasons import Why, why
from d2i_helpers.extract.stage import ExtractResult, run

__all__ = [
    "ExtractResult",
    "Why",
    "run",
    "why",
]
