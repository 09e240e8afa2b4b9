"""Who is in the cohort and which rows count: the window, eligibility, inclusion sets, row rules."""

from d2i_helpers.cohort.inclusion import (
    ACTIVE_REFERRAL,
    CARE_LEAVER,
    CIN_PLAN,
    CLA_PLACEMENT,
    CLA_REFERRAL,
    CP_PLAN,
    DISABILITY,
    TOO_OLD,
    WAITING_ASSESSMENT,
    Eligibility,
    Inclusion,
    Membership,
    Window,
    birthday,
    eligibility,
    inclusion_sources,
)

__all__ = [
    "ACTIVE_REFERRAL",
    "CARE_LEAVER",
    "CIN_PLAN",
    "CLA_PLACEMENT",
    "CLA_REFERRAL",
    "CP_PLAN",
    "DISABILITY",
    "TOO_OLD",
    "WAITING_ASSESSMENT",
    "Eligibility",
    "Inclusion",
    "Membership",
    "Window",
    "birthday",
    "eligibility",
    "inclusion_sources",
]
