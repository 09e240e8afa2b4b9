"""One script that makes what is missing in the database, for its administrator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from d2i_helpers import __version__
from d2i_helpers.preflight.checks import FAIL, SKIPPED, Check
from d2i_helpers.settings import Settings

NOTHING = "-- nothing to do"


def of(checks: Sequence[Check], settings: Settings) -> str:
    """The script: comments, and statements that each end with a semicolon and a line break.

    Args:
        checks: the checks of specification and database.
    """
    lines = [line for check in checks for line in _section(check)]
    if not lines:
        return NOTHING
    heading = [
        f"-- D2I workbook {__version__}, profile {settings.profile}: what is missing in the "
        "database.",
        "-- For its administrator; run it in this order. Nothing that is there is changed or "
        "dropped.",
        "-- Tables d2i_... and the staging tables are this project's; of the SSD it gets indexes "
        "only.",
    ]
    return "\n".join([*heading, *lines])


def _section(check: Check) -> Iterator[str]:
    if not check.ddl and check.status not in (FAIL, SKIPPED):
        return
    yield ""
    yield f"-- {check.name}: {_one_line(check.detail)}"
    if check.ddl:
        if check.status == SKIPPED:
            yield "-- What follows makes everything, as if nothing were there."
        yield from check.ddl
    elif check.advice:
        yield f"-- Not by this script. {_one_line(check.advice)}"


def _one_line(text: str) -> str:
    """The text on one line, so that a comment does not end early."""
    return " ".join(text.split())
