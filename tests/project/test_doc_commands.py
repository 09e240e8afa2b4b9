"""What the pages tell a reader to type works: taken by the command line, and run on the demo.

Each `d2i …` in a code block is parsed by the commands themselves, and its profile and parameters
are loaded. Those of ```` ```sh ```` blocks that need no authority are run, in order, in one folder
with fictional children. `NOT_RUN` says of the others why, and which test does it; the days of
`d2i run` are run by the long form.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from d2i_helpers.cli import cli, read_parameters
from d2i_helpers.demo import receiver
from d2i_helpers.settings import ENV_PREFIX, load_settings

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ON_ANY_PROFILE = {"schedule", "spec check", "spec schema"}  # they ask no database
RUN_ON_THE_DEMO = {
    "check", "adopt", "preview", "simulate day", "simulate init", "runs list", "runs show",
    "runs verify", "runs report",
}  # fmt: skip
NOT_RUN = {
    "runs push": "needs an object storage: tests/runs/test_shared_records.py",
    "run": "the long form below, and tests/acceptance",
    "receiver": "goes on until Ctrl+C: tests/demo",
    "attention": "shown to a person at a terminal only: tests/staging",
    "why": "shown to a person at a terminal only: tests/notebook",
    "new": "tests/workbook",
    "upgrade": "tests/workbook",
    "spec docs": "writes the pages of this project; the tests that say that they are current",
}
REHEARSAL = ["run", "-P", "rehearsal", "--stages", "preflight,anonymise,delta,submit"]
# what is typed beside `d2i`, and what runs it
OTHERS = {
    "python -m pip install": ".ci/run",
    "python -m pytest": ".ci/run",
    "python -m mypy": ".ci/run",
    "ruff": ".ci/run",
    "sphinx-build": ".ci/run",
    "python .ci/release": "by hand, for a release",
    "HYPOTHESIS_PROFILE=long python -m pytest": "by hand, as it says",
    "python -m tests.": "by hand, as it says",
    "python benchmarks/": "by hand, as it says",
    "python docs/take_pictures.py": "by hand, as it says",
    "python -c": "its words stand in the errors that tests read",
    "pre-commit install": ".pre-commit-config.yaml",
    "cd ": "the shell",
}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Each code block of a page: the word behind its fence, and its text."""
    text = page.read_text(encoding="utf-8")
    yield from re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.S | re.M)
    for part in re.split(r"^ *```.*?^ *```$", text, flags=re.S | re.M):
        yield from (("", found) for found in re.findall(r"^    (\S.*)$", part, re.M))


def typed(text: str) -> Iterator[list[str]]:
    """The commands of a block, each as its words."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # prose
                continue
            if words:
                yield words


def all_commands() -> list[tuple[str, str, list[str]]]:
    """Page, kind of block and words of every command of `d2i`, but for usage lines."""
    return [
        (page.name, kind, words[1:])
        for page in PAGES
        for kind, text in blocks(page)
        if kind != "text"
        for words in typed(text)
        if words[0] == "d2i" and "…" not in "".join(words)
    ]


COMMANDS = all_commands()


def parsed(words: list[str]) -> tuple[str, click.Context]:
    """The name of a command, and what click made of its words.

    Raises:
        click.UsageError: the command line would refuse it.
    """
    command, name = cli, []
    words = list(words)
    if words[:1] == ["--workbook"]:
        words = words[2:]
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        name.append(words[0])
        command = command.commands[words.pop(0)]
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        raise click.UsageError(f"There is no command {words[0]}.")
    return " ".join(name), command.make_context(" ".join(name), words)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what a clone has, in which all commands are typed."""
    folder = tmp_path_factory.mktemp("pages")
    for part in ("notebooks", "params"):
        shutil.copytree(ROOT / part, folder / part)
    (folder / "faults.yaml").write_text("[]\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(ENV_PREFIX)]:
            patch.delenv(name)
        patch.setenv(f"{ENV_PREFIX}SIMULATE_CHILDREN", "40")
        patch.chdir(folder)
        yield folder


def as_an_id(page: tuple[str, str, list[str]]) -> str:
    return f"{page[0]}: d2i {' '.join(page[2])}"


@pytest.mark.parametrize("told", COMMANDS, ids=as_an_id)
def test_a_command_is_taken_with_its_profile_and_parameters(
    demo: Path, told: tuple[str, str, list[str]]
) -> None:
    try:
        _, context = parsed(told[2])
    except click.exceptions.Exit as done:  # --help, --version
        assert done.exit_code == 0
        return
    given = context.params
    if "profile" in given:
        load_settings(None, **read_parameters(given["profile"], given["pairs"]))


def is_run(name: str, profile: str | None, words: list[str]) -> bool:
    """Whether it needs nothing that only an authority has."""
    whole_script = name == "check" and "--ddl" in words and not words[-1].startswith("-")
    if name in RUN_ON_ANY_PROFILE or (whole_script and not profile):
        return True
    return name in RUN_ON_THE_DEMO and profile in (None, "demo")


def to_type(*, days: bool) -> list[list[str]]:
    """Commands of `sh` blocks that are run, each once, in the order of the pages."""
    found: list[list[str]] = []
    for _, kind, words in COMMANDS:
        if kind != "sh" or words in found:
            continue
        try:
            name, context = parsed(words)
        except click.UsageError:  # another test names it
            continue
        profile = context.params.get("profile")
        if is_run(name, profile, words) if not days else (name == "run" and not profile):
            found.append(words)
    return found


def ended_well(words: list[str]) -> None:
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert not done.exception and not done.return_value, f"d2i {' '.join(words)}: {done.output}"


def test_commands_of_the_pages_run_on_the_demo(demo: Path) -> None:
    """One after the other, so that each finds what the ones before it left."""
    ended_well(["simulate", "init"])
    ended_well(["run", "--stages", "extract"])
    for words in to_type(days=False):
        ended_well(words)


@pytest.fixture
def credentials(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the rehearsal has a reader put into .env, and the receiver of the second terminal."""
    told = (ROOT / "docs" / "playbook" / "index.md").read_text(encoding="utf-8")
    for name, value in re.findall(r"^ +(D2I_\w+)=(\S+)$", told, re.M):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("D2I_PSEUDONYM_KEY", "0123456789abcdef" * 4)
    with receiver.running(load_settings(None, profile="demo")) as endpoint:  # on any free port
        monkeypatch.setenv("D2I_API_BASE_URL", endpoint.base_url)
        monkeypatch.setenv("D2I_TOKEN_URL", endpoint.token_url)
        yield


@pytest.mark.usefixtures("credentials")
def test_the_rehearsal_of_phase_1_passes_preflight(demo: Path) -> None:
    ended_well(["simulate", "init", "-P", "rehearsal"])
    ended_well(["check", "-P", "rehearsal"])  # has a record stored and purged


@pytest.mark.long
@pytest.mark.usefixtures("credentials")
def test_the_rehearsal_of_phase_1_runs(demo: Path) -> None:
    ended_well(["simulate", "init", "-P", "rehearsal"])
    ended_well(REHEARSAL)


@pytest.mark.long
@pytest.mark.parametrize("words", to_type(days=True), ids=" ".join)
def test_days_of_the_pages_run_on_the_demo(demo: Path, words: list[str]) -> None:
    ended_well(words)


def test_every_command_is_run_or_it_is_said_why_not() -> None:
    run = {tuple(words) for words in to_type(days=False)}
    assert len(run) > 9
    assert REHEARSAL in [words for _, _, words in COMMANDS]
    for _, kind, words in COMMANDS:
        name, context = parsed(words)
        needs_an_authority = context.params.get("profile") not in (None, "demo")
        assert kind != "sh" or tuple(words) in run or name in NOT_RUN or needs_an_authority, words


def test_what_is_typed_beside_d2i_is_run_elsewhere() -> None:
    for page in PAGES:
        for kind, text in blocks(page):
            for words in typed(text) if kind == "sh" else ():
                line = " ".join(words)
                is_known = words[0] == "d2i" or line.startswith(tuple(OTHERS))
                assert is_known, f"{page.name}: say in OTHERS what runs `{line}`"


def test_a_wrong_command_is_found() -> None:
    for words in (["run", "--stage", "delta"], ["runs", "shwo"], ["runs", "list", "--last", "x"]):
        with pytest.raises(click.UsageError):
            parsed(words)
    assert parsed(["runs", "list", "--last", "7"])[0] == "runs list"
    assert list(typed("d2i simulate day && d2i run  # a day\n")) == [
        ["d2i", "simulate", "day"], ["d2i", "run"],
    ]  # fmt: skip
