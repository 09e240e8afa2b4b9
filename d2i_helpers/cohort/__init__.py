"""Who is in the cohort and which rows count: the window, eligibility, inclusion sets, row rules."""

from d2i_helpers.cohort.inclusion import (
    TOO_OLD,
    Eligibility,
    Inclusion,
    Membership,
    Window,
    birthday,
    eligibility,
    inclusion_sources,
)

__all__ = [
    "TOO_OLD",
    "Eligibility",
    "Inclusion",
    "Membership",
    "Window",
    "birthday",
    "eligibility",
    "inclusion_sources",
]
