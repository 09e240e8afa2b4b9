"""Checks of this machine and of the guards: clock, disk, versions, no guard switched off.

Clocks are compared because the day of the run, the window of dates and every time in the log depend
on them.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from sqlalchemy import Engine

from d2i_helpers import database
from d2i_helpers.preflight.checks import FAIL, PASS, WARN, Check
from d2i_helpers.settings import Settings
from d2i_helpers.workbook import other_version

LITTLE_SPACE = 200 * 1024 * 1024  # bytes
HARDLY_ANY_SPACE = 20 * 1024 * 1024
SKEW_WARNS = 60.0  # seconds between two clocks
SKEW_FAILS = 3600.0  # by then the day of the run may be another one
PACKAGE = "d2i-workbook"
_GUARDS = (
    "max_deleted_share", "max_purged_items_share", "max_changed_share", "max_lost_rows_share",
    "max_unusable_share",
)  # fmt: skip


def clock(name: str, skew: float, whose: str) -> Check:
    """Judge a difference between clocks.

    Args:
        skew: seconds by which the other clock is ahead of this machine's.
        whose: the other clock's owner, for the message.
    """
    apart = abs(skew)
    if apart <= SKEW_WARNS:
        return Check(name, PASS, f"{whose} and this machine agree within {SKEW_WARNS:.0f} seconds")
    where = "ahead of" if skew > 0 else "behind"
    said = f"{whose} is {dt.timedelta(seconds=round(apart))} {where} this machine"
    advice = "Set this machine's clock by a time server; the day of a run is taken from it."
    return Check(name, FAIL if apart > SKEW_FAILS else WARN, said, advice)


def database_clock(engine: Engine) -> Iterator[Check]:
    """Check the database's clock; the lease that keeps two runs apart goes by it."""
    with database.reading(engine) as connection:
        theirs = database.utc_now(connection)
    skew = (theirs - dt.datetime.now(dt.UTC).replace(tzinfo=None)).total_seconds()
    yield clock("database clock", skew, "the database")


def guards(settings: Settings) -> Check:
    """Check that no guard is switched off. A share of 1 lets everything pass."""
    off = [name for name in _GUARDS if getattr(settings, name) >= 1]
    allowing = ("allow_fewer_rows", "allow_older_database")
    off += [name for name in allowing if getattr(settings, name)]
    if off:
        advice = "Take it out of the profile; give it to one run only, with `-p`."
        return Check("guards", WARN, f"switched off: {', '.join(off)}", advice)
    return Check("guards", PASS, "all are on")


def disk(settings: Settings) -> Check:
    """Check that there is room for run records, and the right to write them."""
    folder: Path = settings.path(settings.outputs_dir)
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        said = "the folder of the run records cannot be written"
        return Check("disk", FAIL, said, "Correct its rights, or set `outputs_dir`.", "RecordError")
    free = shutil.disk_usage(folder).free
    size = f"{free / 1024**3:,.1f} GB" if free >= 1024**3 else f"{free / 1024**2:,.0f} MB"
    said = f"{size} free for run records"
    if free >= LITTLE_SPACE:
        return Check("disk", PASS, said)
    status = FAIL if free < HARDLY_ANY_SPACE else WARN
    return Check("disk", status, said, "Free some space; `d2i runs prune` removes old run records.")


def versions() -> Iterator[Check]:
    """Check that each package is installed in a version that this project allows."""
    said = [f"Python {platform.python_version()}"]
    for name in (PACKAGE, "papermill", "sqlalchemy"):
        said.append(f"{name} {_installed(name) or '(not installed)'}")
    missing, other = [], []
    for needed in _requirements():
        held = _installed(needed.name)
        if held is None:
            missing.append(str(needed))
        elif not needed.specifier.contains(held, prereleases=True):
            other.append(f"{needed} (found {held})")
    advice = "Install again, with `python -m pip install -c constraints.txt -e .`"
    if missing:
        yield Check("versions", FAIL, f"not installed: {', '.join(missing)}", advice)
    elif workbook := other_version():
        yield Check("versions", WARN, workbook.said, workbook.advice)
    elif other:
        yield Check("versions", WARN, f"not as asked for: {', '.join(other)}", advice)
    else:
        yield Check("versions", PASS, ", ".join(said))


def _requirements() -> list[Requirement]:
    """The packages that this project needs on this machine, without extras."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return []
    requirements = [Requirement(line) for line in lines]
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
