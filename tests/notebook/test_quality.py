"""The weekly meeting: worst fields, whose they are, codes to map, and files for case-work teams."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from d2i_helpers import database
from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.extract.code_use import code_uses
from d2i_helpers.notebook import display, quality, quality_export, quality_views, widget_table
from d2i_helpers.notebook.quality import Quality, surely_bad
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import load_settings
from tests.ssd import Ssd

ETHNICITY = "child_details.ethnicity"
FORMULA = "=cmd|'/c calc'!A1"
BAD = {"K100001": "Orab", "K100002": FORMULA, "K100003": None, "K100004": "WBRI"}
TEAMS = {"K100001": "East/1", "K100002": "East 1", "K100003": "East 1"}


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Quality:
    """One look at four children; the fourth has nothing wrong, and no team."""
    folder = tmp_path_factory.mktemp("quality")
    settings = load_settings(
        None,
        database_url=f"sqlite:///{folder / 'ssd.sqlite'}",
        outputs_dir=str(folder / "outputs"),
        run_date="2026-08-10",
    )
    engine: Engine = database.open_database(settings, create=True)
    ssd = Ssd(engine)
    for person, ethnicity in BAD.items():
        ssd.add("ssd_person",
                {"pers_person_id": person, "pers_dob": "2012-05-17", "pers_sex": "F",
                 "pers_forename": "A", "pers_surname": "B", "pers_ethnicity": ethnicity,
                 "pers_upn_unknown": "UN1"})  # fmt: skip
        ssd.add("ssd_address",
                {"addr_table_id": f"AD{person}", "addr_person_id": person,
                 "addr_address_postcode": "XX1 1XX"})  # fmt: skip
        ssd.add("ssd_cin_episodes",
                {"cine_referral_id": f"R{person}", "cine_person_id": person,
                 "cine_referral_date": "2025-01-01", "cine_referral_nfa": "N",
                 "cine_referral_source_code": "1A",
                 "cine_referral_team": TEAMS.get(person)})  # fmt: skip
    return quality.look(engine, settings, load_spec())


@pytest.fixture
def at_the_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "may_show_identifiers", lambda: True)


# ---------------------------------------------------------------------------------------- tables
def test_the_worst_field_and_whose_it_is(looked: Quality) -> None:
    worst = quality.fields(looked).iloc[0]
    assert worst["field"] == ETHNICITY
    assert worst["source"] == "ssd_person.pers_ethnicity"
    assert (worst["expected"], worst["missing"], worst["unusable"]) == (4, 1, 2)
    assert (worst["worst team"], worst["its values"]) == ("East 1", 2)
    teams = quality.by_team(looked, quality.chosen_field(looked, "ethnicity"))
    assert list(teams["team"]) == ["East 1", "East/1", "no team"]
    assert list(teams["per cent good"]) == [0, 0, 100]
    assert quality.sentences(looked)[1].startswith(f"Worst: {ETHNICITY} ")
    assert "East 1, the team with most, has 2." in quality.sentences(looked, name_teams=True)[1]


def test_one_of_one_is_not_the_worst() -> None:
    assert surely_bad(76, 427) > surely_bad(1, 5) > surely_bad(1, 50) > surely_bad(0, 5) == 0


def test_the_children_with_a_bad_code(looked: Quality) -> None:
    table = quality.children(looked, "child_details.ethnicity")
    assert dict(zip(table["child"], table["what is wrong"], strict=True)) == {
        "K100001": "not in code list",
        "K100002": "not in code list",
        "K100003": "missing",
    }
    shown = quality_views.values_of(looked, "K100002")
    assert "=cmd|&#x27;/c calc&#x27;!A1" in shown


def test_a_field_is_named_by_its_last_word_if_only_one_is_meant(looked: Quality) -> None:
    assert quality.chosen_field(looked, None) == ETHNICITY
    with pytest.raises(SettingsError, match="names no field"):
        quality.chosen_field(looked, "etnicity")
    with pytest.raises(SettingsError) as several:
        quality.chosen_field(looked, "postcode")
    assert "child_details.postcode, child_looked_after_placements.postcode" in several.value.hint


@pytest.mark.parametrize("human", [False, True])
def test_what_a_notebook_keeps_holds_no_id_no_value_and_no_team(
    looked: Quality, monkeypatch: pytest.MonkeyPatch, human: bool
) -> None:
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(display, "publish", kept.append)
    monkeypatch.setattr(display, "_publish", lambda bundle, **_: kept.append(bundle))
    monkeypatch.setattr(display, "may_show_identifiers", lambda: human)
    for show in (
        quality_views.show_sentences, quality_views.show_fields, quality_views.show_teams,
        quality_views.show_problems, quality_views.show_children, quality_views.show_codes,
    ):  # fmt: skip
        show(looked)
    assert len(kept) >= 8
    assert (widget_table.WIDGET_MIME in kept[-1]) == human
    said = str(kept)
    for secret in ("K1000", "Orab", "cmd", "East"):
        assert secret not in said


# ------------------------------------------------------------------------------------------ codes
def test_the_code_map_loads_as_it_is_and_works_once_it_is_completed(
    looked: Quality, tmp_path: Path
) -> None:
    text = quality.code_map(looked)
    (tmp_path / "ours.yaml").write_text(text, encoding="utf-8")
    unchanged = load_spec("generic", tmp_path / "ours.yaml")
    assert {use.value for use in code_uses(looked.engine, unchanged) if use.problem} == {
        "Orab", FORMULA,
    }  # fmt: skip
    given = re.sub(r'# "Orab": "[A-Z]*"', '"Orab": "OOTH"', text)
    (tmp_path / "done.yaml").write_text(given, encoding="utf-8")
    done = load_spec("generic", tmp_path / "done.yaml")
    read = {use.value: use for use in code_uses(looked.engine, done)}
    assert read["Orab"].code == "OOTH"
    assert read[FORMULA].problem == "not in code list"


def test_codes_that_a_map_has_already_stay_in_it(looked: Quality, tmp_path: Path) -> None:
    spec = load_spec("eclipse")
    text = quality.code_map(Quality(looked.engine, looked.settings, spec, looked.found, {}))
    (tmp_path / "ours.yaml").write_text(text, encoding="utf-8")
    fields = {f.path: f for _, f in load_spec("eclipse", tmp_path / "ours.yaml").fields()}
    assert fields[ETHNICITY].options["code_map"] == {"CNHE": "CHNE", "MWBa": "MWBA"}


# ----------------------------------------------------------------------------------------- export
def test_nothing_is_written_where_no_person_sits(looked: Quality, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="for a person at a notebook only"):
        quality_export.export(looked, str(tmp_path / "out"))
    with pytest.raises(GateError):
        quality_views.show_export(looked, wanted=True, folder=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_files_for_teams(looked: Quality, tmp_path: Path, at_the_keyboard: None) -> None:
    made = quality_export.export(looked, str(tmp_path / "out"))
    assert made.children == 3 and made.teams == 2 and made.workbooks
    assert (made.folder.parent / ".gitignore").read_text() == "*\n"
    assert "IDENTIFIABLE" in (made.folder / quality_export.NOTICE_FILE).read_text()
    files = [path for path in made.folder.rglob("*") if path.is_file()]
    if os.name == "posix":
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    rows = list(csv.DictReader(io.StringIO((made.folder / "problems.csv").read_text("utf-8-sig"))))
    values = {row["child"]: row["value"] for row in rows if row["field"] == ETHNICITY}
    assert values == {"K100001": "Orab", "K100002": f"'{FORMULA}", "K100003": ""}
    assert {path.name for path in (made.folder / "teams").iterdir()} == {
        "East-1.xlsx",
        "East-1-2.xlsx",
    }
    text = _strings(made.folder / "teams" / "East-1.xlsx")
    assert FORMULA in text and "K100003" in text
    assert "K100001" not in text  # another team's


def _strings(workbook: Path) -> str:
    """The texts of a workbook; it may hold no formula and no link."""
    with zipfile.ZipFile(workbook) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml").decode()
        assert "<f>" not in sheet and "hyperlink" not in sheet
        return parts.read("xl/sharedStrings.xml").decode()


def test_a_text_stays_a_text_in_csv() -> None:
    cells = ["=1+1", "+44", "-5", "@x", "\tx", "1-2", "a=b", ""]
    written = quality_export.as_csv([cells]).decode("utf-8-sig").splitlines()
    (row,) = csv.reader(written[1:])
    assert row == ["'=1+1", "'+44", "'-5", "'@x", "'\tx", "1-2", "a=b", ""]
