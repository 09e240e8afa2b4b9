"""Guards: a day that looks wrong stops before a single staging row is written.

SSD tables are rebuilt every night. A rebuild that fails half-way leaves them empty or half full,
and a bad release changes every document; without a guard either would be sent faithfully.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from d2i_helpers.errors import GuardError
from d2i_helpers.settings import Settings


@dataclass(frozen=True)
class Figures:
    """What a day would do, counted before anything is written."""

    staged: int  # children staged and not deleted, before today
    gone: int = 0  # of these, no longer in the cohort
    changed: int = 0  # of these, with another document
    found: int = 0  # children that the source gave today
    items_before: int = 0  # items (episodes, plans, ...) of all children who stay
    items_gone: int = 0  # of these, not in today's documents
    window_before: dt.date | None = None  # start of the window when documents were last made
    window_today: dt.date | None = None


@dataclass(frozen=True)
class Finding:
    """One share that is over its limit."""

    what: str
    count: int
    of: int
    parameter: str
    limit: float

    def __str__(self) -> str:
        share = self.count / self.of
        return (
            f"{self.count:,} of {self.of:,} {self.what} ({share:.0%}; "
            f"`{self.parameter}` allows {self.limit:.0%})"
        )


def findings(figures: Figures, settings: Settings) -> list[Finding]:
    """The shares of this day that are over their limits.

    Small tables (fewer than `guard_min_children`) are judged only for a source that gives nobody.
    """
    empty = figures.staged > 0 and figures.found == 0 and figures.gone == figures.staged
    if figures.staged < settings.guard_min_children and not empty:
        return []
    shares = [
        ("children would be marked deleted", figures.gone, figures.staged, "max_deleted_share"),
        ("children would change", figures.changed, figures.staged, "max_changed_share"),
        ("items would go from children who stay", figures.items_gone, figures.items_before,
         "max_purged_items_share"),
    ]  # fmt: skip
    return [
        Finding(what, count, of, parameter, getattr(settings, parameter))
        for what, count, of, parameter in shares
        if of and count / of > getattr(settings, parameter)
    ]


def window_moved(figures: Figures) -> str | None:
    """The sentence that names the yearly jump of the window, on the day that it happens."""
    before, today = figures.window_before, figures.window_today
    if before is None or today is None or before == today:
        return None
    expected = " This is the jump expected each 1 April." if today > before else ""
    return f"The window's start moved from {before} to {today}.{expected}"


def check(figures: Figures, settings: Settings) -> list[str]:
    """Stop a day that looks wrong.

    Returns:
        Notices for the notebook, such as that the window moved.

    Raises:
        GuardError: a share is over its limit; names each, and the parameter that allows it once.
    """
    moved = window_moved(figures)
    found = findings(figures, settings)
    if not found:
        return [moved] if moved else []
    allow = " ".join(f"-p {f.parameter}={_enough(f)}" for f in found)
    cause = moved or (
        "The source gave no children at all: was the SSD rebuilt?"
        if figures.found == 0
        else "Was the SSD rebuilt completely, or has a release changed it?"
    )
    raise GuardError(
        f"Stopped before anything was written: {'; '.join(str(f) for f in found)}. {cause}",
        hint=f"If the day is right, allow it for one run with {allow}.",
    )


def _enough(finding: Finding) -> str:
    """The share just found, rounded up to two places, for the hint."""
    hundredths = -(-finding.count * 100 // finding.of)
    return f"{hundredths / 100:.2f}"
