"""Settings: where a value comes from, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from d2i_helpers.errors import SettingsError
from d2i_helpers.parameter_page import parameters_page
from d2i_helpers.settings import Settings, load_secrets, load_settings, project_root


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting in the environment, and a project folder of the test's own."""
    for name in list(os.environ):
        if name.startswith("D2I_"):
            monkeypatch.delenv(name)
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_extract.ipynb").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "demo") -> None:
    (folder / "params" / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_parameter_wins_over_environment_over_dotenv_over_profile_over_default(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare, "batch_size: 10\nchunk_size: 10\nattempts: 10\nfake_children: 10\n")
    (bare / ".env").write_text("D2I_CHUNK_SIZE=20\nD2I_ATTEMPTS=19\nD2I_FAKE_CHILDREN=20\n")
    monkeypatch.setenv("D2I_ATTEMPTS", "15")
    monkeypatch.setenv("D2I_FAKE_CHILDREN", "30")
    found = load_settings({"fake_children": 40})
    assert (found.batch_size, found.chunk_size, found.attempts) == (10, 20, 15)
    assert found.fake_children == 40
    assert found.max_in_flight == Settings().max_in_flight


def test_a_notebooks_globals_give_parameters_and_overrides(bare: Path) -> None:
    write(bare, "")
    names = {"__name__": "x", "engine": object(), "phase": "full", "la_code": None,
             "overrides": {"batch_size": 7}}  # fmt: skip
    found = load_settings(names)
    assert (found.phase, found.batch_size, found.la_code) == ("full", 7, "000")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phas: full", "Did you mean `phase`"),
        ("phase: sideways", "'delta' or 'full'"),
        ("max_deleted_share: 2", "max_deleted_share"),
        ("client_secret: x", "secret"),
        ("- a list", "name: value"),
        ("a: [", "not valid YAML"),
        ("database_url: nonsense", "not a URL"),
        ("database_url: postgresql://u:canary@h/d", "holds a password"),
        ("proxy: http://u:canary@h:1", "holds a password"),
        ("staging_table: a;drop", "letters, digits"),
        ("staging_table: t\nanon_table: T", "two tables"),
    ],
)
def test_what_is_wrong_in_a_profile_is_said_without_the_value(
    bare: Path, text: str, said: str
) -> None:
    write(bare, text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_password_may_stand_in_the_environment(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare, "")
    monkeypatch.setenv("D2I_DATABASE_URL", "postgresql+psycopg://u:pw@h/d")
    assert load_settings().database_url.endswith("@h/d")


@pytest.mark.parametrize("given", [1, "001"])
def test_an_la_code_keeps_its_zeros(bare: Path, given: object) -> None:
    write(bare, "")
    assert load_settings({"la_code": given}).la_code == "001"


@pytest.mark.parametrize("given", ["A1, B2", ["A1", "B2"], ("A1", "B2")])
def test_person_ids_may_be_a_text_or_a_list(bare: Path, given: object) -> None:
    write(bare, "")
    assert load_settings({"person_ids": given}).person_ids == ("A1", "B2")


@pytest.mark.parametrize("given", [None, "", "today"])
def test_the_run_date_is_today_unless_given(bare: Path, given: object) -> None:
    write(bare, "")
    assert load_settings(None, run_date=given).today == dt.date.today()
    assert load_settings(None, run_date="2026-03-31").today == dt.date(2026, 3, 31)


def test_secrets_come_from_the_environment_dotenv_and_files_and_are_masked(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2I_CLIENT_SECRET", "canary-1")
    (bare / ".env").write_text("D2I_SUPPLIER_KEY=canary-2\n")
    (bare / "secrets").mkdir()
    (bare / "secrets" / "D2I_PSEUDONYM_KEY").write_text("canary-3")
    monkeypatch.setenv("D2I_SECRETS_DIR", str(bare / "secrets"))
    found = load_secrets()
    assert set(found.values()) == {"canary-1", "canary-2", "canary-3"}
    assert "canary" not in repr(found) + str(found)


def test_the_page_of_parameters_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "parameters.md"
    assert page.read_text(encoding="utf-8") == parameters_page(), "run `d2i spec docs`"


def test_the_root_is_found_from_a_folder_below(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).parents[2]
    monkeypatch.undo()
    monkeypatch.chdir(here / "notebooks")
    assert project_root() == here
