"""`d2i new`: lay out a workbook in an empty folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from d2i_helpers import __version__
from d2i_helpers.errors import SettingsError
from d2i_helpers.files import make_private_folder, write_atomic
from d2i_helpers.hand_written import decode
from d2i_helpers.settings import is_workbook
from d2i_helpers.workbook.manifest import MANIFEST, Manifest, fingerprint
from d2i_helpers.workbook.profiles import Answers, is_of_a_phase, profile_of, still_to_fill_in
from d2i_helpers.workbook.release_files import release_files


@dataclass(frozen=True)
class LaidOut:
    """A new workbook.

    Attributes:
        profile: the profile that the authority begins with.
        to_fill_in: parameters in it that only the authority or the DfE knows.
    """

    folder: Path
    profile: str
    to_fill_in: list[str]


def lay_out(folder: Path, answers: Answers) -> LaidOut:
    """Write a workbook into a folder that is empty or not there yet.

    Raises:
        SettingsError: the folder holds something, or cannot be written; nothing of ours is left.
    """
    folder = folder.expanduser().absolute()
    _require_empty(folder)
    files = release_files(answers)
    was_there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        make_private_folder(folder / "outputs")
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        write_atomic(folder / ".env", files[".env.example"])  # readable by its owner only
        marks = {path: fingerprint(path, content) for path, content in files.items()}
        (folder / MANIFEST).write_bytes(Manifest(__version__, answers, marks).content())
    except (OSError, SettingsError) as error:
        _take_away(folder, keep_folder=was_there)
        raise SettingsError(
            f"The workbook cannot be written to {folder} "
            f"({getattr(error, 'strerror', None) or error}).",
            hint="Name a folder that this user may write to, with 5 MB free.",
        ) from None
    profile = profile_of(answers.phase, [path for path in files if is_of_a_phase(path)])
    text = decode(files[f"params/{profile}.yaml"])
    return LaidOut(folder, profile, still_to_fill_in(text))


def _require_empty(folder: Path) -> None:
    """Raise SettingsError if the folder holds anything or is a file."""
    try:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise SettingsError(
                f"{folder} is a file.", hint="Name a folder that is empty or not there yet."
            )
        if is_workbook(folder):
            raise SettingsError(
                f"{folder} is a workbook already.",
                hint="`d2i upgrade` in it renews its notebooks after an update.",
            )
        if any(folder.iterdir()):
            raise SettingsError(
                f"{folder} is not empty, and nothing in it is overwritten.",
                hint="Name a folder that is empty or not there yet.",
            )
    except OSError as error:
        raise SettingsError(f"{folder} cannot be looked at ({error.strerror}).") from None


def _take_away(folder: Path, *, keep_folder: bool) -> None:
    """Remove what was written; the folder was empty before."""
    if keep_folder:
        for path in folder.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
