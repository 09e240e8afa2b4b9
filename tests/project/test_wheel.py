"""The wheel and the sdist: whole, without strays, and the same bytes wherever they are built."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.project.test_versions import PROJECT, pinned

ROOT = Path(__file__).parents[2]
FILES = "d2i_helpers/workbook/files"


def build(source: Path, to: Path, *, umask: int = 0o022) -> dict[str, Path]:
    """Wheel and sdist of a source tree by the project's own build backend, by suffix."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(to)]
    environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    subprocess.run(command, cwd=source, env=environment, umask=umask, check=True,
                   capture_output=True)  # fmt: skip
    return {path.suffix: path for path in to.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(ROOT, tmp_path_factory.mktemp("built"))


def test_the_wheel_holds_all_that_an_authority_needs(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        held = set(wheel.namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "d2i_helpers").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.match(".*")
    }
    assert package <= held
    for folder, pattern in (("notebooks", "*.ipynb"), ("params", "*.yaml"), ("docs", "*")):
        there = {p.relative_to(ROOT) for p in (ROOT / folder).rglob(pattern) if p.is_file()}
        strays = {path for path in there if path.name.startswith(".") or "-checkpoint" in path.name}
        assert there, folder
        assert {f"{FILES}/{path.as_posix()}" for path in there - strays} <= held
    for name in (".env.example", "environment.yml", "constraints.txt", "outputs/README.md"):
        assert f"{FILES}/{name}" in held


JUPYTER = "data/etc/jupyter/jupyter_server_config.d/d2i-workbook.json"


def test_the_wheel_holds_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        held = wheel.namelist()
    # laid beside the package, in the environment: Jupyter looks for it there
    beside = {name for name in held if name.startswith("d2i_workbook-0.1.0.data/")}
    assert {name.partition(".data/")[2] for name in beside} == {JUPYTER}
    held = [name for name in held if name not in beside]
    assert {name.split("/")[0].removesuffix("-0.1.0.dist-info") for name in held} == {
        "d2i_helpers", "d2i_workbook",
    }  # fmt: skip
    inside = {name.split("/")[4] for name in held if name.startswith(f"{FILES}/outputs/")}
    assert inside == {"README.md"}


def test_another_place_another_time_and_another_umask_give_the_same_bytes(
    built: dict[str, Path], tmp_path: Path
) -> None:
    """The second tree is what the sdist holds, so that it is also shown to be whole."""
    with tarfile.open(built[".gz"]) as sdist:
        sdist.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
        sdist.extractall(tmp_path / "elsewhere")
    (tree,) = (tmp_path / "elsewhere").iterdir()
    (tree / "PKG-INFO").unlink()  # an sdist's own, made by its build
    for path in tree.rglob("*"):
        path.chmod(0o700 if path.is_dir() else path.stat().st_mode & 0o700)
        os.utime(path, (1_900_000_000, 1_900_000_000))
    again = build(tree, tmp_path / "again", umask=0o077)
    for suffix, path in built.items():
        assert again[suffix].read_bytes() == path.read_bytes(), suffix


def test_what_builds_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for text in project["build-system"]["requires"]:
        requirement = Requirement(text)
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        known = pinned(requirement.name)  # the tests build with the same
        assert known in (set(), {specifier.version}), text
    assert PROJECT["name"] == "d2i-workbook"
