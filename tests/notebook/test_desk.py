"""The analyst's desk: children are found, and nothing that is kept gives one away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from d2i_helpers import database
from d2i_helpers.cli import cli
from d2i_helpers.database.tables import staging_table
from d2i_helpers.errors import GateError
from d2i_helpers.notebook import children, display
from d2i_helpers.notebook.desk import Desk, page
from d2i_helpers.notebook.told import as_text, as_words
from d2i_helpers.notebook.widget_table import WIDGET_MIME
from d2i_helpers.privacy import human_present
from tests.notebook.demo import SPEC, Demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Children who were sent; then one with a bad code, one held back, and one who cannot be."""
    demo = Demo(tmp_path_factory.mktemp("desk"), children=40)
    demo.prepare()
    demo.send()
    person = "UPDATE ssd_person SET {} WHERE pers_person_id = '{}'"
    with database.reading(demo.engine) as connection:
        t = staging_table(demo.settings.staging_table).c
        ids = connection.execute(select(t.person_id).order_by(t.id)).scalars().all()
    demo.coded, demo.held_back, demo.refused = ids[3], ids[4], ids[5]
    demo.sql(person.format("pers_ethnicity = 'Martian'", demo.coded))
    demo.sql(person.format("pers_dob = 'soon'", demo.held_back))
    demo.sql(person.format("pers_surname = NULL", ids[6]))
    demo.prepare()
    yield demo
    demo.engine.dispose()


def test_children_are_found_by_what_is_the_matter(demo: Demo) -> None:
    desk = Desk(demo.settings)
    found = children.table(desk.staging, SPEC, demo.settings.today).set_index("child")
    assert list(found.columns) == list(children.COLUMNS[1:])
    assert found.index[0] == demo.held_back  # who needs attention comes first
    assert found.at[demo.held_back, "to send"] == children.HELD_BACK
    assert "ssd_person.pers_dob: cannot be read" in found.at[demo.held_back, "what is wrong"]
    coded = found.loc[demo.coded]
    assert coded["what is wrong"] == "ethnicity: not in code list"
    assert (coded["state"], coded["to send"], coded["problems"]) == ("updated", "changes", 1)
    assert coded["days waiting"] == 0
    assert set(found["age"]) <= {"", "not yet born", *(band for _, band in children._BANDS)}
    sent = found[found["to send"] == children.NOTHING]
    assert len(sent) > 20 and set(sent["status"]) == {"sent"} and sent["days waiting"].isna().all()


def test_a_child_is_told_with_what_is_to_blame(demo: Demo) -> None:
    desk = Desk(demo.settings)
    told = as_text(desk.subject(demo.coded).all_parts, whole=True)
    for words in ("To be sent: changes.", "In the cohort by ", "Martian", "pers_ethnicity",
                  "acknowledged", "not in code list", "gone"):  # fmt: skip
        assert words in told, words
    held = as_text(desk.subject(demo.held_back).parts, whole=True)
    assert "Needs attention: held back: ssd_person.pers_dob cannot be read" in held
    assert "soon" in held
    whole = page(desk.subject(demo.coded), SPEC, whole=True)
    assert "Martian" in whole and "What would be sent" in whole


@pytest.mark.parametrize("human", [False, True])
def test_what_is_kept_of_the_desk_gives_nobody_away(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, human: bool
) -> None:
    """A saved notebook is the same whether a person sat at it or not, but for the widgets."""
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr(display, "publish", bundles.append)
    monkeypatch.setattr(display, "_publish", lambda data, **_: bundles.append(dict(data)))
    monkeypatch.setattr(display, "may_show_identifiers", lambda: human)
    desk = Desk(demo.settings)
    desk.find()
    desk.child(demo.coded)
    desk.document(demo.coded)
    desk.compare(demo.coded)
    desk.tomorrow()
    assert any(WIDGET_MIME in bundle for bundle in bundles) == human
    kept = json.dumps(bundles, ensure_ascii=False)
    document = desk.subject(demo.coded).today
    assert document is not None
    details = document["child_details"]
    wanted = {demo.coded, demo.held_back, "Martian", "soon", details["first_name"]}
    wanted |= {details["surname"], details["date_of_birth"], details["postcode"]}
    wanted |= {e["social_care_episode_id"] for e in document["social_care_episodes"]}
    wanted |= {e["referral_date"] for e in document["social_care_episodes"]}
    assert {value for value in wanted if f"{value}" in kept} == set()
    for words in ("not in code list", "text, ", "active_referral", "changes", "of age"):
        assert words in kept, words
    assert kept.count("(hidden)") == 0  # own words come through


def test_the_command_line_has_the_same_words_at_a_terminal_only(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"-pdatabase_url={demo.settings.database_url}"]
    refused = CliRunner().invoke(cli, ["why", demo.coded, *options])
    assert isinstance(refused.exception, GateError)
    preview = CliRunner().invoke(cli, ["preview", *options])
    assert "Children: 2. Requests: 1." in preview.output and demo.coded not in preview.output
    monkeypatch.setattr(human_present, "is_at_a_terminal", lambda: True)
    shown = " ".join(CliRunner().invoke(cli, ["why", demo.coded, *options]).output.split())
    for part in Desk(demo.settings).subject(demo.coded).all_parts:
        assert part.title in shown
        for words in part.said:
            assert " ".join(as_words(words, whole=True).split()) in shown
    assert "Martian" in shown
    each = CliRunner().invoke(cli, ["preview", "--children", *options]).output
    assert demo.coded in each


def test_a_desk_without_a_staged_child_says_so_and_shows_tomorrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = Demo(tmp_path, children=5)
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(display, "publish", shown.append)
    desk = Desk(demo.settings)
    desk.child()
    assert "Nobody is staged yet" in shown.pop()["text/plain"]
    desk.document()
    desk.compare()
    assert not shown
    desk.tomorrow()
    assert "What would be sent now" in shown[0]["text/plain"]


def test_the_screen_can_be_masked_as_well(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "may_show_identifiers", lambda: True)
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(display, "publish", shown.append)
    desk = Desk(demo.settings, show_identifiers=False)
    desk.document(demo.coded)
    assert WIDGET_MIME not in shown[0]
    desk.find()
    assert WIDGET_MIME in shown[1]
