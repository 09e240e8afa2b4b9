"""What the pages name is there: files, modules, commands with their options, parameters."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from d2i_helpers.cli.commands import cli
from d2i_helpers.settings import Settings
from d2i_helpers.stages import STAGES, Stage

ROOT = Path(__file__).parents[2]
# CHANGELOG.md names what is gone, too
PAGES = [
    *(p for p in sorted(ROOT.glob("*.md")) if p.name != "CHANGELOG.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
MADE_HERE = {"outputs", "build"}  # folders that a run or an install makes, whatever is in them
FOLDERS = {
    p.name
    for p in ROOT.iterdir()
    if p.is_dir() and not p.name.startswith(".") and p.name not in MADE_HERE
}
SUFFIXES = r"\.(?:py|json|ya?ml|ipynb|md|csv|html|txt|toml)"
MADE_BY_AN_EXPORT = {"READ_ME_FIRST.txt", "problems.csv", "code_map.yaml"}
MADE_BY_A_RUN = {
    "run.html",
    *MADE_BY_AN_EXPORT,
    "run.json",
    "NN_stage.attempt1.ipynb",
    "d2i_PROFILE_dag.py",
    "out.ipynb",
}

IN_A_BUNDLE = {"requirements.txt", "sbom.cdx.json", "licences.csv"}  # docs/install.md
MADE_BY_THE_READER = {"FILE", "PROFILE", "params/ours.yaml"}


def in_backticks(page: Path) -> list[str]:
    """Short code of a page, without its code blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.findall(r"`([^`\n]+)`", text)


def is_there(name: str) -> bool:
    """A path from the root, or the name of a file that lies anywhere in the project's folders."""
    if "/" in name:
        return (ROOT / name).exists()
    return (ROOT / name).exists() or any(any((ROOT / f).rglob(name)) for f in FOLDERS)


def paths(page: Path) -> Iterator[str]:
    for code in in_backticks(page):
        if code in MADE_BY_A_RUN | IN_A_BUNDLE or code.startswith("outputs/"):
            continue
        is_file = re.fullmatch(rf"\w[\w./-]*{SUFFIXES}", code)
        if is_file or (re.fullmatch(r"[\w./-]+", code) and code.split("/")[0] in FOLDERS):
            yield code


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    assert {name for name in paths(page) if not is_there(name)} == set()


def test_files_that_hooks_and_ci_name_are_there() -> None:
    made = [ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run"]
    for file in (*made, *(ROOT / ".github").rglob("*.yml")):
        text = file.read_text(encoding="utf-8")
        named = re.findall(r"(?<![\w/])(?:tests|docs|params|notebooks)/[\w/]+\.\w+", text)
        assert [name for name in named if not (ROOT / name).exists()] == [], file.name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_names_in_modules_are_there(page: Path) -> None:
    for code in in_backticks(page):
        if re.fullmatch(r"d2i_helpers(\.\w+)+", code):
            module, _, name = code.rpartition(".")
            assert hasattr(importlib.import_module(module), name), code


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `d2i …` of a page, those in code blocks too."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```|^    (.*)$", text, re.S | re.M)
    code = [*in_backticks(page), *(line for pair in blocks for line in "".join(pair).splitlines())]
    for line in code:
        for words in re.findall(r"(?:^|&& |; )d2i((?: [^\s|&;#]+)*)", line.strip()):
            yield words.split()


def not_known(words: list[str]) -> str:
    """The first word of a command that the command line has not; none: an empty text."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words[0]]
        words = words[1:]
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        return words[0]
    options = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
    options |= {"-h", "--help"}
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    return next((option for option in given if option not in options), "")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    wrong = {" ".join(words): not_known(words) for words in commands(page) if not_known(words)}
    assert wrong == {}


def test_commands_are_found_and_judged() -> None:
    assert len(list(commands(ROOT / "README.md"))) > 3
    assert not_known(["runs", "shwo"]) == "shwo"
    assert not_known(["run", "--stage", "delta"]) == "--stage"
    assert not_known(["run", "--stages", "delta", "-p", "phase=full"]) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_parameters_that_a_page_gives_exist(page: Path) -> None:
    named = re.findall(r"-p ([a-z]\w*)[= ]", page.read_text(encoding="utf-8"))
    of_notebooks = {"profile", "person_id", "show_identifiers"}
    assert set(named) - {"name"} <= {*Settings.model_fields, *of_notebooks}  # -p name=value


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_profiles_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:--params|-P|--profile|-p profile|-r profile)[ =]([\w./-]+)", text)
    named += re.findall(r"\bparams/[\w.-]+\.ya?ml", text)
    profiles = {name for name in named if name not in MADE_BY_THE_READER}
    missing = {n for n in profiles if not (ROOT / n).is_file()}
    assert {n for n in missing if not (ROOT / "params" / f"{n}.yaml").is_file()} == set()


SECTIONS_OF_A_STAGE = [
    "In and out",
    "Counts",
    "What stops it",
    "Settings that matter",
    "Where it is",
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_has_its_word_in_four_places(stage: Stage) -> None:
    """A newcomer finds notebook, code, tests and page of a stage by its one word."""
    assert re.fullmatch(rf"\d\d_{stage.name}\.ipynb", stage.notebook)
    assert stage.function == f"d2i_helpers.{stage.name}.stage:run"
    assert callable(stage.load())
    assert (ROOT / "notebooks" / stage.notebook).is_file()
    assert (ROOT / "d2i_helpers" / stage.name / "stage.py").is_file()
    assert list((ROOT / "tests" / stage.name).glob("test_*.py"))
    assert (ROOT / "docs" / f"{stage.name}.md").is_file()


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_page_of_a_stage_has_all_that_is_asked_of_it(stage: Stage) -> None:
    text = (ROOT / "docs" / f"{stage.name}.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", text, re.M))
    assert [name for name in sections if name in SECTIONS_OF_A_STAGE] == SECTIONS_OF_A_STAGE
    # each count of the closing cell stands in the first column of the table, and no other
    cells = re.findall(r"^\| (.+?) \|", sections["Counts"], re.M)
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    module = importlib.import_module(stage.function.partition(":")[0])
    assert listed == set(module.COUNTS)
    named = sections["Where it is"]
    assert f"notebooks/{stage.notebook}" in named and f"d2i_helpers/{stage.name}" in named
    assert f"tests/{stage.name}" in named


def anchors(page: Path) -> set[str]:
    """Where a link into a page may lead: its headings, as GitHub writes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", name).lower().replace(" ", "-") for name in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, _, anchor in re.findall(r"\]\(([\w./-]*)(#?)([\w-]*)\)", text):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), f"{target}#{anchor}"
