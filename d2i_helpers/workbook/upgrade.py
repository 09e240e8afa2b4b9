"""`d2i upgrade`: renew a workbook after an update, and keep what people changed in it.

For each file three contents are compared: what was laid out (by its fingerprint), what is there
now, and what this version lays out.

==================  ====================  ===================================================
there now           this version          what happens
==================  ====================  ===================================================
as laid out         another               renewed
changed by people   as laid out           kept
changed by people   another               kept; the new one is written beside it (``.new``)
removed by people   whatever              stays away; a notebook of a stage comes back
not there           new in this version   added
as laid out         no longer has it      removed
changed by people   no longer has it      kept
==================  ====================  ===================================================
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from d2i_helpers import __version__
from d2i_helpers.errors import SettingsError
from d2i_helpers.stages import STAGES
from d2i_helpers.workbook.manifest import MANIFEST, Manifest, as_text, fingerprint, read_manifest
from d2i_helpers.workbook.release_files import release_files
from d2i_helpers.workbook.versions import is_newer

RENEW, ADD, KEEP, BESIDE, REMOVE, AWAY = "renew", "add", "keep", "beside", "remove", "away"
_TEMPORARY = ".writing-"
_MUST_BE_THERE = {f"notebooks/{stage.notebook}" for stage in STAGES}


@dataclass(frozen=True)
class Change:
    """What an upgrade does with one file.

    Attributes:
        path: in the workbook, with ``/``.
        what: one of the words above.
        now: what is there; None where nothing is.
        new: what this version lays out; None where it lays out nothing.
    """

    path: str
    what: str
    now: bytes | None
    new: bytes | None

    @property
    def target(self) -> str:
        """Where the new content goes."""
        if self.what != BESIDE:
            return self.path
        stem, dot, suffix = self.path.rpartition(".")
        return f"{stem}.new.ipynb" if suffix == "ipynb" and dot else f"{self.path}.new"

    def difference(self) -> Iterator[str]:
        """The lines of a unified diff from what is there to what this version lays out."""
        now = as_text(self.path, self.now or b"").splitlines()
        new = as_text(self.path, self.new or b"").splitlines()
        yield from difflib.unified_diff(
            now, new, f"{self.path} (here)", f"{self.path} ({__version__})", lineterm="", n=2
        )


def plan_upgrade(root: Path) -> list[Change]:
    """What an upgrade of this workbook does, file by file; nothing is changed.

    Raises:
        SettingsError: it is no workbook of `d2i new`, is of a newer version, or a file in it
            cannot be read.
    """
    manifest = read_manifest(root)
    _require_not_newer(manifest.version)
    release = release_files(manifest.answers)
    paths = sorted({*release, *manifest.files})
    changes = (_change(root, path, manifest, release.get(path)) for path in paths)
    return [change for change in changes if change is not None]


def _change(root: Path, path: str, manifest: Manifest, new: bytes | None) -> Change | None:
    """What happens to one file; None where it is as this version lays it out."""
    try:
        now = (root / path).read_bytes()
    except FileNotFoundError:
        now = None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}).") from None
    laid_out = manifest.files.get(path)
    here = None if now is None else fingerprint(path, now)
    ours = None if new is None else fingerprint(path, new)
    if here == ours:
        return None
    if here is None:
        comes = laid_out is None or path in _MUST_BE_THERE
        return Change(path, ADD if comes else AWAY, now, new)
    if here == laid_out:
        return Change(path, REMOVE if new is None else RENEW, now, new)
    is_offered = new is not None and ours != laid_out
    return Change(path, BESIDE if is_offered else KEEP, now, new)


def apply(root: Path, changes: list[Change]) -> None:
    """Do what was planned. Stopped half-way it can be done again: each file is whole.

    Raises:
        SettingsError: a file cannot be written.
    """
    manifest = read_manifest(root)
    try:
        for change in changes:
            if change.what in (RENEW, ADD, BESIDE):
                _write(root / change.target, change.new or b"")
            elif change.what == REMOVE:
                (root / change.path).unlink()
        release = release_files(manifest.answers)
        marks = {path: fingerprint(path, content) for path, content in release.items()}
        renewed = Manifest(__version__, manifest.answers, marks)
        if renewed != manifest:
            _write(root / MANIFEST, renewed.content())
    except OSError as error:
        raise SettingsError(
            f"{_named(error, root)} cannot be written ({error.strerror}).",
            hint="Run `d2i upgrade` again as a user who may write to the workbook.",
        ) from None


def _named(error: OSError, root: Path) -> str:
    """The file that could not be written, without the mark of a file that is being written."""
    return Path(str(error.filename or root)).name.removeprefix(_TEMPORARY)


def _write(path: Path, content: bytes) -> None:
    """Write a file whole; one that is there keeps its rights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_TEMPORARY + path.name)
    temporary.write_bytes(content)
    if path.exists():
        shutil.copymode(path, temporary)
    temporary.replace(path)


def _require_not_newer(version: str) -> None:
    if is_newer(version):
        raise SettingsError(
            f"This workbook is of version {version}, and {__version__} is installed.",
            hint="Install that version or a newer one; an upgrade never goes back.",
        )
