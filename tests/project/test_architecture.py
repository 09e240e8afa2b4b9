"""The ladder: imports go down only, every module has a subject, states have one writer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "d2i_helpers"

# Each rung imports only from those above it in this list (below it on the ladder).
LADDER = [
    ["errors", "garbage", "hand_written", "kernel_protocol", "processes", "stages"],
    ["files", "payload_spec", "plain_english", "settings"],
    ["database", "document", "workbook"],
    ["cohort", "staging"],
    ["delta", "privacy"],
    ["anonymise", "extract", "submit"],
    ["demo"],
    ["notebook"],
    ["preflight", "runs"],
    ["airflow_dag", "cli"],
    ["__main__"],
]
RUNG = {unit: rung for rung, units in enumerate(LADDER) for unit in units}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def unit_of(path: Path) -> str:
    """The module, or the package for what lies in one."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_units(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("d2i_helpers"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found - {unit_of(path), "__version__"}


def test_every_unit_has_a_rung() -> None:
    assert {unit_of(path) for path in MODULES} == set(RUNG)


def test_the_ladder_of_the_documentation_is_this_one() -> None:
    text = (PACKAGE.parent / "DEVELOPMENT.md").read_text(encoding="utf-8")
    rungs = re.findall(r"^ +(\d+)   (\S+(?:  \S+)*)   +\S", text.partition("\nrung\n")[2], re.M)
    assert [names.split() for _, names in rungs] == LADDER
    assert [int(number) for number, _ in rungs] == list(range(len(LADDER)))


def test_imports_go_down_the_ladder() -> None:
    upward = {
        path.relative_to(PACKAGE).as_posix(): above
        for path in MODULES
        if (above := {unit for unit in imported_units(path) if RUNG[unit] >= RUNG[unit_of(path)]})
    }
    assert not upward


def test_inside_a_package_no_imports_go_round() -> None:
    round_trips = {
        marker.parent.relative_to(PACKAGE).as_posix(): names
        for marker in PACKAGE.rglob("*/__init__.py")
        if (names := _importing_each_other(marker.parent))
    }
    assert not round_trips


def _importing_each_other(package: Path) -> list[str]:
    """The modules of a package, and the packages within it, that cannot be loaded in any order."""
    inside = [p for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    parts = {p.stem: p for p in inside if p.stem not in {"__init__", "__main__"}}
    dotted = ".".join(["d2i_helpers", *package.relative_to(PACKAGE).parts]).replace(".", r"\.")
    needs: dict[str, set[str]] = {}
    for name, path in parts.items():
        files = [path] if path.suffix else sorted(path.rglob("*.py"))
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)
        named = re.findall(rf"from {dotted}\.(\w+)[\w.]* import", text)
        for group in re.findall(rf"from {dotted} import ([\w, ]+)", text):
            named += [word.strip().split(" as ")[0] for word in group.split(",")]
        needs[name] = {other for other in named if other in parts and other != name}
    while free := {name for name, others in needs.items() if not others}:
        needs = {n: others - free for n, others in needs.items() if n not in free}
    return sorted(needs)


def test_the_demo_world_stands_apart() -> None:
    # the command line offers it, preflight asks the demo profile's own endpoint, and a notebook
    # makes the demo's data where there is none yet
    may = {"cli/commands.py", "preflight/receiving.py", "notebook/first_data.py"}
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if "demo" in imported_units(path) and unit_of(path) != "demo"
    }
    assert users <= may


def test_every_module_says_what_it_is_for() -> None:
    silent = [p for p in MODULES if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert not silent


def test_one_module_writes_states() -> None:
    writes = re.compile(r"(row_state|submission_status)\s*=[^=]|\"(row_state|submission_status)\":")
    writers = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if writes.search(path.read_text(encoding="utf-8"))
    }
    assert writers == {"staging/moves.py"}


MAY_NAME_A_DATABASE = {
    "database/dialects",
    "settings/addresses.py",  # the path of a file may hold what the name of a database never does
}


def test_databases_are_told_apart_in_one_place() -> None:
    words = re.compile(
        r"dialect\.name\b|get_backend_name\(\) *(?:[=!]=|in\b)|with_variant|sqlalchemy\.dialects"
        r"|[\"'](?:mssql|oracle|postgresql|sqlite)[\"']"
    )
    naming = [path for path in MODULES if words.search(path.read_text(encoding="utf-8"))]
    dialects = PACKAGE / "database" / "dialects"
    places = {dialects if dialects in path.parents else path for path in naming}
    assert {place.relative_to(PACKAGE).as_posix() for place in places} == MAY_NAME_A_DATABASE


def test_the_project_names_nothing_of_the_place_it_was_made_in() -> None:
    root = PACKAGE.parent
    for pattern in ("*.py", "*.md", "*.yaml", "*.yml", "*.toml", "*.txt", "*.ipynb", "*.csv"):
        for path in root.rglob(pattern):
            inside = path.relative_to(root).parts
            if any(part in {"outputs", "build"} or part.startswith(".") for part in inside):
                continue
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])/(work|root|home)/\w", text), path
