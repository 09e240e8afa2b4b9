"""What the package reads beside its modules is shipped with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_beside_the_modules_is_package_data() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    package = ROOT / "d2i_helpers"
    patterns = project["tool"]["setuptools"]["package-data"]["d2i_helpers"]
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".py"}
    missed = {path.relative_to(package).as_posix() for path in there - shipped}
    assert {name for name in missed if "__pycache__" not in name} == set()
    assert all(list(package.glob(pattern)) for pattern in patterns)
