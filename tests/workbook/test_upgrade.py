"""`d2i upgrade`: renews what nobody touched, keeps what people changed, and says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from d2i_helpers.cli import cli
from d2i_helpers.errors import SettingsError
from d2i_helpers.workbook import Answers, lay_out, plan_upgrade, release_files, upgrade
from d2i_helpers.workbook.manifest import MANIFEST

EXPLORE = "notebooks/explore_payloads.ipynb"
EXTRACT = "notebooks/01_extract.ipynb"
PROFILE = "params/phase5_live.yaml"


@pytest.fixture
def workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "w"
    lay_out(root, Answers({"la_code": "812"}, 2))
    monkeypatch.chdir(root)
    return root


def next_release(monkeypatch: pytest.MonkeyPatch, **changed: object) -> dict[str, bytes]:
    """Let a later version lay out other files: None takes one away; text is put at its end."""
    ours = release_files.release_files

    def later(answers: Answers) -> dict[str, bytes]:
        files = ours(answers)
        for path, text in changed.items():
            if text is None:
                del files[path]
            elif path.endswith(".ipynb"):
                files[path] = with_cell(files.get(path, b'{"cells": []}'), str(text))
            else:
                files[path] = files.get(path, b"") + str(text).encode()
        return files

    monkeypatch.setattr(upgrade, "release_files", later)
    return later(Answers({"la_code": "812"}, 2))


def with_cell(notebook: bytes, source: str) -> bytes:
    held = json.loads(notebook)
    held["cells"].append({"cell_type": "code", "source": source, "metadata": {}, "outputs": []})
    return json.dumps(held).encode()


def what(root: Path) -> dict[str, str]:
    return {change.path: change.what for change in plan_upgrade(root)}


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, ["upgrade", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_nothing_to_do_is_said(workbook: Path) -> None:
    assert what(workbook) == {}
    assert "Everything is as this version lays it out" in run()


def test_what_nobody_changed_is_renewed_added_and_removed(
    workbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = next_release(
        monkeypatch,
        **{
            EXPLORE: "new = 1",
            PROFILE: "batch_size: 50\n",
            "docs/new.md": "x",
            "GLOSSARY.md": None,
        },
    )
    before = {p: p.read_bytes() for p in workbook.rglob("*") if p.is_file()}
    said = run("--dry-run")
    assert "+new = 1" in said and "+batch_size: 50" in said and "(--dry-run)" in said
    assert {p: p.read_bytes() for p in workbook.rglob("*") if p.is_file()} == before
    run()
    assert (workbook / EXPLORE).read_bytes() == release[EXPLORE]
    profile = (workbook / PROFILE).read_text(encoding="utf-8")
    assert 'la_code: "812"' in profile and "batch_size: 50" in profile
    assert (workbook / "docs" / "new.md").is_file()
    assert not (workbook / "GLOSSARY.md").exists()
    assert what(workbook) == {}


def test_what_people_changed_is_kept_and_the_new_version_lies_beside_it(
    workbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = with_cell((workbook / EXPLORE).read_bytes(), "mine = 1")
    (workbook / EXPLORE).write_bytes(mine)
    profile = (workbook / PROFILE).read_bytes() + b"attempts: 9\n"
    (workbook / PROFILE).write_bytes(profile)
    assert what(workbook) == {EXPLORE: "keep", PROFILE: "keep"}
    release = next_release(monkeypatch, **{EXPLORE: "theirs = 2"})
    said = run()
    assert "-mine = 1" in said and "+theirs = 2" in said  # never without a word
    assert (workbook / EXPLORE).read_bytes() == mine
    assert (workbook / PROFILE).read_bytes() == profile
    beside = workbook / "notebooks" / "explore_payloads.new.ipynb"
    assert beside.read_bytes() == release[EXPLORE]
    assert what(workbook) == {EXPLORE: "keep", PROFILE: "keep"}  # it is offered once


def test_a_notebook_that_was_only_run_counts_as_unchanged(
    workbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = json.loads((workbook / EXPLORE).read_bytes())
    held["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    for cell in held["cells"]:
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell |= {"outputs": [{"output_type": "stream", "text": "1"}], "execution_count": 3}
    (workbook / EXPLORE).write_text(json.dumps(held), encoding="utf-8")
    assert what(workbook) == {}
    next_release(monkeypatch, **{EXPLORE: "new = 1"})
    assert what(workbook) == {EXPLORE: "renew"}


def test_what_was_removed_stays_away_unless_a_run_needs_it(workbook: Path) -> None:
    (workbook / "docs" / "api.md").unlink()
    (workbook / "notebooks" / "04_submit.ipynb").unlink()
    assert what(workbook) == {"docs/api.md": "away", "notebooks/04_submit.ipynb": "add"}
    run()
    assert what(workbook) == {"docs/api.md": "away"}


def test_secrets_records_and_own_files_are_never_touched(
    workbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        ".env": "D2I_CLIENT_ID=x\n",
        "params/ours.yaml": "la_code: 812\n",
        "outputs/x/run.json": "{}",
    }
    for path, text in own.items():
        (workbook / path).parent.mkdir(exist_ok=True)
        (workbook / path).write_text(text)
    next_release(monkeypatch, **{".env.example": "#D2I_NEW=\n"})
    assert what(workbook) == {".env.example": "renew"}
    run()
    assert {path: (workbook / path).read_text() for path in own} == own


def test_a_clone_a_damaged_note_and_a_newer_workbook_are_refused(workbook: Path) -> None:
    note = workbook / MANIFEST
    held = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps({**held, "version": "99.0"}))
    with pytest.raises(SettingsError, match=r"of version 99\.0"):
        plan_upgrade(workbook)
    note.write_text("[]")
    with pytest.raises(SettingsError, match="is damaged"):
        plan_upgrade(workbook)
    note.unlink()
    with pytest.raises(SettingsError, match="git pull"):
        plan_upgrade(workbook)
