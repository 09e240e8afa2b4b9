"""The files of a workbook as this version lays them out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from d2i_helpers import __version__
from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import decode
from d2i_helpers.workbook.profiles import Answers, filled_in, is_of_a_phase, profile_of

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = ("notebooks", "params", "docs", "outputs")
_ALONE = (".env.example", "CHANGELOG.md", "GLOSSARY.md", "constraints.txt", "environment.yml")
_KINDS = {  # what belongs to each folder; a stray file of a clone does not travel
    "notebooks": {".ipynb"},
    "params": {".yaml"},
    "docs": {".md", ".png", ".svg"},
    "outputs": {".md"},
}
# for editors; an overlay stands beside it
_SCHEMA = "overlay.schema.json"
# a link to a page of a clone that a workbook does not have
_OF_DEVELOPERS = re.compile(r"\[([^\]]+)\]\([./]*DEVELOPMENT\.md[^)]*\)")


def release_files(answers: Answers) -> dict[str, bytes]:
    """Path in the workbook (with ``/``) to content, sorted by path.

    Raises:
        SettingsError: the installation is damaged.
    """
    place = _place()
    found = {path.relative_to(place).as_posix(): path.read_bytes() for path in _paths(place)}
    for path, content in found.items():
        if is_of_a_phase(path):
            found[path] = filled_in(decode(content), answers.parameters).encode()
        elif path.startswith("docs/") and path.endswith(".md"):
            page = _OF_DEVELOPERS.sub(r"\1", decode(content))
            found[path] = page.replace(f"../d2i_helpers/payload_spec/{_SCHEMA}", _SCHEMA).encode()
    found[f"params/{_SCHEMA}"] = (_PACKAGE.parent / "payload_spec" / _SCHEMA).read_bytes()
    found["environment.yml"] = _for_a_workbook(decode(found["environment.yml"])).encode()
    profile = profile_of(answers.phase, [path for path in found if is_of_a_phase(path)])
    readme = (_PACKAGE / "templates" / "README.md").read_text(encoding="utf-8")
    readme = readme.replace("@PROFILE@", profile).replace("@VERSION@", __version__)
    found["README.md"] = readme.encode()
    found[".gitignore"] = (_PACKAGE / "templates" / "gitignore").read_bytes()
    return dict(sorted(found.items()))


def _place() -> Path:
    """Where the files are: in the wheel beside this module, in a clone two folders up."""
    for place in (_PACKAGE / "files", _PACKAGE.parents[1]):
        if all((place / name).is_file() for name in _ALONE):
            return place
    raise SettingsError(
        "The files that a workbook is made of are not in this installation.",
        hint="Install the wheel of a release again.",
    )


def _paths(place: Path) -> Iterator[Path]:
    for name in _FOLDERS:
        for path in sorted((place / name).rglob("*")):
            inside = path.relative_to(place).parts
            is_hidden = any(part.startswith(".") for part in inside)
            is_in_place = name == "docs" or len(inside) == 2  # only pages have folders of their own
            if path.suffix in _KINDS[name] and is_in_place and path.is_file() and not is_hidden:
                yield path
    yield from (place / name for name in _ALONE)


def _for_a_workbook(environment: str) -> str:
    """The Anaconda environment, with the release's wheel in place of the clone."""
    wheel = f"d2i-workbook=={__version__}"
    return re.sub(
        r"^( +)- -e \.$",
        rf"\1- --find-links .  # the wheel of the release, copied beside this file\n\1- {wheel}",
        environment,
        flags=re.M,
    )
