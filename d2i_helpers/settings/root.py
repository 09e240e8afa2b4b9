"""Where the workbook is: the folder that holds ``notebooks/`` and ``params/``."""

from __future__ import annotations

import os
from pathlib import Path

from d2i_helpers.errors import SettingsError

WORKBOOK_VARIABLE = "D2I_WORKBOOK"
_A_NOTEBOOK = Path("notebooks") / "01_extract.ipynb"


def is_workbook(folder: Path) -> bool:
    """Whether the folder holds the notebooks and the profiles."""
    return (folder / _A_NOTEBOOK).is_file() and (folder / "params").is_dir()


def project_root() -> Path:
    """The folder that holds ``notebooks/`` and ``params/``.

    The working directory or the nearest folder above it; else the one that ``D2I_WORKBOOK`` names;
    else the clone that this package lies in. The working directory goes first: whoever stands in a
    workbook means that one.

    Raises:
        SettingsError: none of them is a workbook.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if is_workbook(folder):
            return folder
    if named := os.environ.get(WORKBOOK_VARIABLE):
        return _named(named)
    clone = Path(__file__).resolve().parents[2]
    if is_workbook(clone):
        return clone
    raise SettingsError(
        f"There is no workbook in {here} or in a folder above it.",
        hint="`d2i new FOLDER` lays one out, to be run from inside it. One that is elsewhere is "
        f"named by `d2i --workbook FOLDER …` or by {WORKBOOK_VARIABLE} in the environment.",
    )


def _named(text: str) -> Path:
    folder = Path(text).expanduser().absolute()
    if not is_workbook(folder):
        raise SettingsError(
            f"{WORKBOOK_VARIABLE} names a folder that is no workbook: {folder}.",
            hint="A workbook holds notebooks/ and params/. `d2i new FOLDER` lays one out.",
        )
    return folder
