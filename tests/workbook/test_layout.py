"""`d2i new`: what it lays out, what it asks, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from d2i_helpers import __version__
from d2i_helpers.cli import cli
from d2i_helpers.cli import workbook_commands as commands
from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import parse_yaml
from d2i_helpers.preflight.machine import versions
from d2i_helpers.runs.outcome import error_of
from d2i_helpers.settings import is_workbook, load_settings, project_root
from d2i_helpers.workbook import Answers, lay_out, make_answers
from d2i_helpers.workbook.manifest import MANIFEST
from d2i_helpers.workbook.profiles import as_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, as that of somebody who installed the wheel."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("D2I_") and "_TEST_" not in n]:
        monkeypatch.delenv(name)
    return tmp_path


def new(*words: str, **options: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["new", *words], **options)  # type: ignore[arg-type]
    error = done.exception
    if isinstance(error, SettingsError):
        return error.exit_code, str(error)
    return done.exit_code, done.output


def test_a_workbook_has_everything_a_run_needs(empty: Path) -> None:
    made = lay_out(empty / "w", Answers())
    assert is_workbook(made.folder)
    for folder in ("notebooks", "params", "docs"):
        tracked = {p.name for p in (ROOT / folder).iterdir() if not p.name.startswith(".")}
        there = {p.name for p in (made.folder / folder).iterdir()}
        assert there - {"overlay.schema.json"} <= tracked
    assert (made.profile, made.to_fill_in[:2]) == ("phase1_single_fake", ["la_code", "sql_server"])
    assert not (made.folder / "outputs" / "demo").exists()
    environment = (made.folder / "environment.yml").read_text(encoding="utf-8")
    assert "-e ." not in environment and "d2i-workbook==" in environment


def test_each_link_of_its_pages_leads_to_a_file(empty: Path) -> None:
    folder = lay_out(empty / "w", Answers()).folder
    pages = sorted(folder.rglob("*.md"))
    assert len(pages) > 30
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.skipif(os.name == "nt", reason="rights are not kept in modes on Windows")
def test_an_overlay_that_begins_as_the_page_says_names_a_schema_that_is_there(empty: Path) -> None:
    folder = lay_out(empty / "w", Answers()).folder
    page = (folder / "docs" / "specification.md").read_text(encoding="utf-8")
    named = re.findall(r"yaml-language-server: \$schema=(\S+)", page)
    assert len(named) == 2
    for name in named:
        assert json.loads((folder / "params" / name).read_text(encoding="utf-8"))["$id"]


def test_secrets_and_records_are_for_their_owner_only(empty: Path) -> None:
    lay_out(empty / "w", Answers())
    assert stat.S_IMODE((empty / "w" / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((empty / "w" / "outputs").stat().st_mode) == 0o700


def test_the_answers_stand_in_every_profile(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = new(
        "w", "--la-code", "012", "--cms", "mosaic", "--sql-server", r"box\CMS", "--phase", "4",
        "--sql-server-database", "HDM Local", "-p", "token_url=https://sign.example/a b",
        "-p", "ca_bundle=certs/#1.pem",
    )  # fmt: skip
    assert code == 0, said
    assert "d2i check -P phase4_scrambled_cohort" in said
    monkeypatch.chdir("w")
    for path in sorted((empty / "w" / "params").glob("phase*.yaml")):
        settings = load_settings(None, profile=path.stem)
        assert (settings.la_code, settings.cms) == ("012", "mosaic")
        assert "box%5CCMS" in settings.database_url or r"box\CMS" in settings.database_url
        assert settings.sql_server_database == "HDM Local"
        assert settings.token_url == "https://sign.example/a b"
        assert settings.ca_bundle == "certs/#1.pem"
    text = (empty / "w" / "params" / "phase4_scrambled_cohort.yaml").read_text(encoding="utf-8")
    assert "# your authority's DfE code" in text and "pseudonym_key_mode: kept" in text
    assert load_settings().la_code == "000"  # the demo stays the demo


def test_a_database_by_its_address_takes_the_place_of_the_server(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert new("w", "--la-code", "812", "--database-url", "postgresql+psycopg://d2i@db/ssd")[0] == 0
    monkeypatch.chdir("w")
    settings = load_settings(None, profile="phase5_live")
    assert settings.database_url == "postgresql+psycopg://d2i@db/ssd"
    assert settings.sql_server is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--la-code", "12"], "la_code"),
        (["-p", "token_scop=x"], "did you mean `token_scope`"),
        (["-p", "phase"], "NAME=VALUE"),
        (["-p", "client_secret=abc"], "is a secret"),
        (["--database-url", "postgresql+psycopg://u:geheim@h/d"], "holds a password"),
        (["--sql-server", "s", "--database-url", "sqlite:///x"], "one of the two"),
        (["--sql-server-database", "d"], "no `sql_server`"),
    ],
)
def test_a_wrong_answer_is_refused_before_anything_is_written(
    empty: Path, words: list[str], said: str
) -> None:
    code, output = new("w", *words)
    assert (code, said.lower() in output.lower()) == (3, True), output
    assert "geheim" not in output
    assert list(empty.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(empty: Path) -> None:
    (empty / "full").mkdir()
    (empty / "full" / "mine.txt").write_text("mine")
    (empty / "file").write_text("mine")
    for folder, said in (("full", "is not empty"), ("file", "is a file")):
        code, output = new(folder)
        assert (code, said in output) == (3, True)
    assert [p.name for p in (empty / "full").iterdir()] == ["mine.txt"]
    lay_out(empty / "w", Answers())
    assert "d2i upgrade" in new("w")[1]


def test_what_was_begun_is_taken_away_where_it_cannot_be_finished(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "w").mkdir()
    whole = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "README.md" and path.parent.name == "w":
            raise OSError(28, "No space left on device")
        return whole(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    code, output = new("w")
    assert (code, "No space left" in output) == (3, True)
    assert list((empty / "w").iterdir()) == []


def test_at_a_terminal_it_asks_for_what_was_not_said(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_is_at_a_terminal", lambda: True)
    answers = "8\n812\neclipse\npostgresql+psycopg://d2i@db/ssd\n2\n"
    code, said = new("w", input=answers)
    assert code == 0, said
    assert "That is not one" in said and "d2i check -P phase2_many_fake" in said
    text = (empty / "w" / "params" / "phase2_many_fake.yaml").read_text(encoding="utf-8")
    assert 'la_code: "812"' in text and "database_url: postgresql+psycopg://d2i@db/ssd" in text
    assert new("other", input="\n")[0] == 0  # nothing but the demo
    assert "812" not in (empty / "other" / "params" / "phase1_single_fake.yaml").read_text()


@pytest.mark.parametrize(
    "value", ["012", "a: b", "x #y", "'q'", "null", "~", "C:\\new", "-1", "a, b", "[x]", " x", "é"]
)
def test_an_answer_is_read_back_as_it_was_typed(value: str) -> None:
    assert parse_yaml(f"name: {as_yaml(value)}") == {"name": value}


def test_without_a_workbook_the_error_says_what_to_do(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2i_helpers.settings.root.__file__", str(empty / "a" / "b" / "root.py"))
    with pytest.raises(SettingsError, match=r"no workbook in .*d2i new FOLDER.*D2I_WORKBOOK"):
        project_root()
    lay_out(empty / "w", make_answers({}))
    monkeypatch.setenv("D2I_WORKBOOK", str(empty / "w"))
    assert project_root() == empty / "w"
    lay_out(empty / "nearer", make_answers({}))
    monkeypatch.chdir(empty / "nearer" / "notebooks")
    assert project_root() == empty / "nearer"  # whoever stands in one means that one
    monkeypatch.chdir(empty)
    monkeypatch.setenv("D2I_WORKBOOK", str(empty))
    with pytest.raises(SettingsError, match="D2I_WORKBOOK names a folder that is no workbook"):
        project_root()


def test_a_command_can_be_told_where_to_work(empty: Path) -> None:
    lay_out(empty / "w", make_answers({}))
    refused = CliRunner().invoke(cli, ["--workbook", "x", "runs", "list"])
    assert "--workbook x: No such file" in str(refused.exception)
    refused = CliRunner().invoke(cli, ["--workbook", str(empty), "runs", "list"])
    assert "holds no notebooks/ and params/" in str(refused.exception)
    done = CliRunner().invoke(cli, ["--workbook", "w", "runs", "list"])
    assert (done.exit_code, done.output) == (0, "No runs yet.\n")
    assert Path.cwd() == empty / "w"


def test_preflight_warns_of_a_workbook_of_another_version(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(empty / "w", make_answers({}))
    monkeypatch.chdir("w")
    assert [check.status for check in versions()] == ["pass"]
    held = (empty / "w" / MANIFEST).read_text(encoding="utf-8")
    (empty / "w" / MANIFEST).write_text(held.replace('"version": "', '"version": "0.0.'))
    (check,) = versions()
    assert (check.status, "d2i upgrade" in check.advice) == ("warn", True)
    (empty / "w" / MANIFEST).write_text(held.replace('"version": "', '"version": "9'))
    (check,) = versions()  # whoever goes back to an earlier release: `d2i upgrade` would refuse
    assert (check.status, "d2i upgrade" in check.advice) == ("warn", False)
    assert "Install that version again" in check.advice


def test_a_run_that_fails_in_a_notebook_of_another_version_says_so(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(empty / "w", make_answers({}))
    monkeypatch.chdir("w")
    assert "version" not in str(error_of(AttributeError("why_read"), "01_extract.ipynb"))
    held = (empty / "w" / MANIFEST).read_text(encoding="utf-8")
    (empty / "w" / MANIFEST).write_text(held.replace('"version": "', '"version": "9'))
    failed = error_of(AttributeError("why_read"), "01_extract.ipynb")
    assert f"this workbook is of version 9{__version__}, the package of" in failed.message
    assert "Install that version again" in failed.hint
    (empty / "w" / MANIFEST).write_text("{", encoding="utf-8")
    assert "version" not in str(error_of(AttributeError("why_read"), "01_extract.ipynb"))
