"""Anonymise: the staging table to its anonymised twin, under a secret key."""

from d2i_helpers.anonymise.stage import AnonymiseResult, run

__all__ = [
    "AnonymiseResult",
    "run",
]
