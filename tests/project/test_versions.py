"""`pyproject.toml`, `constraints.txt` and `environment.yml` name the same versions."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import rattler
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
PIP = next(entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))


def pinned(name: str) -> set[str]:
    """Versions that the constraints allow of a package, over all platforms."""
    return {str(c.specifier).removeprefix("==") for c in CONSTRAINTS if c.name == name.lower()}


def named() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(r) for r in [*PROJECT["dependencies"], *(r for e in extras for r in e)]]


def in_environment() -> dict[str, str]:
    found = {}
    for entry in CONDA:
        spec = rattler.MatchSpec(entry, strict=True)
        if spec.version is not None:
            found[canonicalize_name(spec.name.normalized)] = str(spec.version).removeprefix("==")
    for entry in PIP:
        if "==" in entry:
            name, version = entry.split("==")
            found[name] = version
    return found


@pytest.mark.parametrize("requirement", named(), ids=lambda r: r.name)
def test_what_is_named_is_pinned_to_a_version_that_is_allowed(requirement: Requirement) -> None:
    versions = pinned(requirement.name)
    assert versions, "make constraints.txt anew"
    assert all(requirement.specifier.contains(version) for version in versions)


def test_constraints_hold_no_address_and_pin_exactly() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert all(re.fullmatch(r"==[\w.!+]+", str(c.specifier)) for c in CONSTRAINTS)


def test_every_conda_entry_is_a_strict_match_spec() -> None:
    assert CONDA
    for entry in CONDA:
        rattler.MatchSpec(entry, strict=True)


def test_anaconda_users_get_the_same_versions() -> None:
    found = in_environment()
    needed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"]
    wanted = {Requirement(r).name for r in needed}
    assert wanted <= set(found)
    for name, version in found.items():
        if name != "python":
            assert version in pinned(name), name


def test_everything_that_is_imported_is_declared() -> None:
    modules = (ROOT / "d2i_helpers").rglob("*.py")
    found = {name for path in modules for name in imported(path)}
    found -= {*sys.stdlib_module_names, "d2i_helpers"}
    # Airflow is not installed with the rest, and comes in several distributions
    distributions = {**metadata.packages_distributions(), "airflow": ["apache-airflow"]}
    extras = PROJECT["optional-dependencies"]
    optional = [r for name in ("airflow", "dask", "keyring", "lab", "oracle") for r in extras[name]]
    declared = {canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"] + optional}
    missing = {
        name
        for name in found
        if not declared & {canonicalize_name(d) for d in distributions.get(name, [name])}
    }
    assert missing == set()


def imported(path: Path) -> set[str]:
    """Names of the packages that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_pythons_agree() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert any(entry.startswith("python >=3.11") for entry in CONDA)
