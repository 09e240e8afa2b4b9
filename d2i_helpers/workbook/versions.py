"""Whether this workbook was laid out by another version than the package's, and what to do then."""

from __future__ import annotations

from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from d2i_helpers import __version__
from d2i_helpers.settings import project_root
from d2i_helpers.workbook.manifest import MANIFEST, read_manifest

_OLDER = "`d2i upgrade` renews the workbook."
_NEWER = (
    "Install that version again; or lay out a workbook with this one (`d2i new`) and copy params/, "
    ".env and outputs/ into it."
)


class OtherVersion(NamedTuple):
    """A workbook of another version."""

    said: str
    advice: str


def is_newer(version: str) -> bool:
    """Whether a version is newer than that of the package; False where nobody can say."""
    try:
        return Version(version) > Version(__version__)
    except InvalidVersion:
        return False


def other_version() -> OtherVersion | None:
    """The version of this workbook, where it is not that of the package; None in a clone.

    Raises:
        SettingsError: the note of what was laid out is damaged.
    """
    root = project_root()
    if not (root / MANIFEST).is_file():
        return None
    version = read_manifest(root).version
    if version == __version__:
        return None
    said = f"this workbook is of version {version}, the package of {__version__}"
    return OtherVersion(said, _NEWER if is_newer(version) else _OLDER)
