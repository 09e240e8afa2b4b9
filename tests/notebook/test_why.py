"""An analyst asks why: the answer names every rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.extract import findings
from d2i_helpers.kernel_protocol import RUN_ID_VARIABLE
from d2i_helpers.notebook import child_page, explore
from d2i_helpers.notebook.why import why
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy.safe_words import HIDDEN, safe_value


def _verdicts(answer: Any) -> dict[str, bool]:
    return {row["rule"]: row["holds"] for row in answer.rules}


def test_every_rule_has_a_verdict(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2012-05-17", "pers_sex": "X"})
    ssd.add("ssd_disability", {"disa_person_id": "A1", "disa_disability_code": "Asthma"})
    ssd.add("ssd_cin_episodes",
            {"cine_referral_id": "R1", "cine_person_id": "A1", "cine_referral_date": "2025-01-01"},
            {"cine_referral_id": "R2", "cine_person_id": "A1", "cine_referral_date": "2019-01-01",
             "cine_close_date": "2020-01-01"})  # fmt: skip
    answer = why(engine, make_settings(), load_spec(), "A1")
    assert answer.is_in
    assert _verdicts(answer)["of age in the window"]
    assert _verdicts(answer)["inclusion set active_referral"]
    assert not _verdicts(answer)["inclusion set cp_plan"]
    rows = {row["key"]: row for row in answer.rows if row["source"] == "episodes"}
    assert rows["R1"]["counts"] and not rows["R2"]["counts"]
    assert rows["R2"]["broken"] == ["overlaps cine_referral_date, cine_close_date"]
    missing = {row["field"]: row["why"] for row in answer.fields}
    assert missing["child_details.sex"] == "not in code list; its default is sent"
    assert missing["child_details.uasc_flag"] == "nothing in the source; its default is sent"
    assert missing["child_details.disabilities"] == "not in code list"
    assert missing["child_details.surname"] == "empty in the source"
    assert answer.document["social_care_episodes"][0]["social_care_episode_id"] == "R1"


def test_a_set_is_told_in_words_or_with_the_setting_that_switches_it_on(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2012-05-17"})
    answer = why(engine, make_settings(disability_inclusion=True), load_spec(), "A1")
    details = {row["rule"]: row["detail"] for row in answer.rules}
    assert details["inclusion set active_referral"] == "a referral overlaps the window"
    assert details["inclusion set cp_plan"] == "switched off: `cp_plan_inclusion`"
    assert details["inclusion set disability"] == "the child has any disability"


def test_a_child_that_is_out(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "1990-05-17"})
    answer = why(engine, make_settings(), load_spec(), "A1")
    assert not answer.is_in
    details = {row["rule"]: row["detail"] for row in answer.rules}
    assert "aged 26 when the window starts" in details.values()
    assert not why(engine, make_settings(), load_spec(), "nobody").is_in


def test_a_recorded_run_may_not_ask(
    engine: Engine, make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_ID_VARIABLE, "1")
    with pytest.raises(GateError):
        why(engine, make_settings(), load_spec(), "A1")


def test_a_row_whose_key_does_not_last_is_shown_without_it(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    spec, settings = load_spec("systemc"), make_settings(cms="systemc")
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2008-05-17"})
    ssd.add("ssd_cin_episodes",
            {"cine_referral_id": "R1", "cine_person_id": "A1", "cine_referral_date": "2025-01-01"},
            )  # fmt: skip
    contact = {"clea_person_id": "A1", "clea_care_leaver_latest_contact": "2026-01-05"}
    ssd.add("ssd_care_leavers",
            {**contact, "clea_table_id": "C1", "clea_care_leaver_activity": "Q9"},
            )  # fmt: skip
    answer = why(engine, settings, spec, "A1")
    assert {row["key"] for row in answer.rows if row["source"] == "care_leaver"} == {None}
    (problem,) = [p for p in answer.problems if p.table == "ssd_care_leavers"]
    assert (problem.column, problem.key, problem.value) == ("clea_care_leaver_activity", None, "Q9")
    found = findings.find(engine, settings, spec)
    offences = findings.offences(engine, settings, spec, found.problems)
    (activity,) = [one for one in offences if one.column == "clea_care_leaver_activity"]
    assert (activity.key_column, activity.key, activity.value) == ("", None, "Q9")


def test_a_care_worker_that_is_left_out(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    """Each condition of the gate is named, and no row is named by its id."""
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2012-05-17"})
    ssd.add("ssd_cin_episodes",
            {"cine_referral_id": "R1", "cine_person_id": "A1", "cine_referral_date": "2025-01-01"},
            )  # fmt: skip
    ssd.add("ssd_involvements",
            {"invo_involvements_id": "I1", "invo_referral_id": "R1", "invo_professional_id": "W1",
             "invo_professional_role_id": "IRO", "invo_involvement_start_date": "2025-04-01",
             "invo_involvement_end_date": "2026-03-30"})  # fmt: skip
    answer = why(engine, make_settings(), load_spec(), "A1")
    gate = "rule care_worker_gate: "
    assert [row["rule"] for row in answer.rows_left_out()] == [
        gate + "no plan of the referral in the window",
        gate + "not active at the end of a financial year in the window",
        gate + "professional unknown or without a registration number",
        gate + "role is not one of care_worker_roles",
    ]
    assert {(row["source"], row["rows"]) for row in answer.rows_left_out()} == {("involvements", 1)}


def test_what_is_said_can_be_shown(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    """A notebook hides words that it does not know: every verdict must come through."""
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "1990-05-17", "pers_sex": "X"})
    ssd.add("ssd_cin_episodes", {"cine_referral_id": "R1", "cine_person_id": "A1"})
    answer = why(engine, make_settings(), load_spec(), "A1")
    shown = [*answer.rules, *answer.rows_left_out(), *answer.fields]
    assert len(shown) > 20
    assert HIDDEN not in {safe_value(value) for row in shown for value in row.values()}


def test_a_child_that_was_never_staged_can_be_asked_for(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "1990-05-17"})
    settings = make_settings()
    database.create_staging(engine, settings.staging_table)
    child = explore.child(engine, settings, "A1")
    assert (child.row_state, child.document, child.attempts) == ("not staged", None, [])
    assert not why(engine, settings, load_spec(), child.person_id).is_in


def test_a_number_stands_for_the_only_id_that_it_can_have_been(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    settings = make_settings()
    database.create_staging(engine, settings.staging_table)
    staging = tables.staging_table(settings.staging_table)

    def stage(*ids: str) -> None:
        with database.transaction(engine) as connection:
            for person_id in ids:
                row = {"person_id": person_id, "json_payload": "{}", "row_state": "new"}
                row["submission_status"] = "pending"
                connection.execute(insert(staging), row)

    stage("10000017", "0123")
    assert explore.child(engine, settings, 10000017).person_id == "10000017"
    assert explore.child(engine, settings, " 10000017\t").row_state == "new"  # copied with blanks
    assert explore.child(engine, settings, " 9 ").person_id == "9"
    assert explore.child(engine, settings, 123).person_id == "0123"
    assert explore.child(engine, settings, 9).row_state == "not staged"
    stage("123")
    with pytest.raises(SettingsError, match="2 children's ids are that number"):
        explore.child(engine, settings, 123)
    assert explore.child(engine, settings, "123").person_id == "123"
    for wrong in (1e5, True, -3):
        with pytest.raises(SettingsError, match="must be text"):
            explore.child(engine, settings, wrong)


def test_each_no_has_its_reason_and_the_rows_that_decided(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2012-05-17"})
    ssd.add("ssd_cin_episodes",
            {"cine_referral_id": "R1", "cine_person_id": "A1", "cine_referral_date": "2019-01-01",
             "cine_close_date": "2020-01-01"})  # fmt: skip
    ssd.add("ssd_cin_plans",
            {"cinp_cin_plan_id": "P1", "cinp_person_id": "A1", "cinp_referral_id": "R1",
             "cinp_cin_plan_start_date": "2035-01-01"})  # fmt: skip
    answer = why(engine, make_settings(), load_spec(), "A1")
    because = {one.name: one.because for one in answer.sets}
    assert because["active_referral"] == "ended before the window"
    assert because["waiting_assessment"].endswith("the referral is closed")
    assert because["cin_plan"] == "starts after the window"
    assert because["cp_plan"] == "switched off by `cp_plan_inclusion`"
    assert because["looked_after_by_referral"] == "no row in ssd_cla_episodes"
    assert because["waiting_assessment"] == "the referral is closed"
    assert "the child is not aged 16" in because["care_leaver"]
    (row,) = next(one for one in answer.sets if one.name == "active_referral").rows
    assert (row.table, row.key, row.counts) == ("ssd_cin_episodes", "R1", False)
    assert row.values == {"cine_referral_date": "2019-01-01", "cine_close_date": "2020-01-01"}


def test_a_link_that_leads_nowhere_is_named(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2012-05-17"})
    ssd.add("ssd_cla_episodes",
            {"clae_cla_episode_id": "E1", "clae_person_id": "A1", "clae_cla_id": "Y1"})  # fmt: skip
    answer = why(engine, make_settings(), load_spec(), "A1")
    because = {one.name: one.because for one in answer.sets}
    leads = "to which one in ssd_cla_episodes leads"
    assert because["looked_after_by_referral"] == f"no row in ssd_cin_episodes {leads}"
    assert because["looked_after_by_placement"] == f"no row in ssd_cla_placement {leads}"
    assert because["waiting_assessment"] == "no row in ssd_cin_episodes"


def test_of_a_doubt_it_says_neither_in_nor_out(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2009-05-17"})
    ssd.add("ssd_cin_episodes", {"cine_referral_id": "R1", "cine_person_id": "A1",
                                 "cine_referral_date": "2150-01-01"})  # fmt: skip
    answer = why(engine, make_settings(), load_spec(), "A1")
    said = child_page.verdict(answer)
    assert said.startswith("Whether it is in cannot be said, so nothing of it changes: ssd_cin_ep")
    assert said.count("cine_referral_date") == 1
    words = " ".join(str(cell) for row in child_page.rows_that_decide(answer).rows for cell in row)
    assert "overlaps" not in words.replace("whether it overlaps", "")
    assert "comes after" not in words
    ssd.add("ssd_person", {"pers_person_id": "A 2", "pers_dob": "2009-05-17"})
    refused = why(engine, make_settings(), load_spec(), "A 2")
    assert child_page.verdict(refused).startswith("Out: has an id that can be sent: no")
    assert child_page.problems(refused, []).rows[-1][0] == "the document"


def test_a_problem_names_the_stored_value_and_its_row(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2012-05-17",
                           "pers_ethnicity": "WBRITISH"})  # fmt: skip
    ssd.add("ssd_disability",
            {"disa_table_id": "D1", "disa_person_id": "A1", "disa_disability_code": "MOB"},
            {"disa_table_id": "D2", "disa_person_id": "A1", "disa_disability_code": "Asthma"},
            )  # fmt: skip
    ssd.add(
        "ssd_cin_episodes",
        {"cine_referral_id": "R1", "cine_person_id": "A1", "cine_referral_date": "2025-01-01"},
    )
    answer = why(engine, make_settings(), load_spec(), "A1")
    found = {(p.path, p.rule, p.table, p.column, p.key, p.value) for p in answer.problems}
    rule = "not in code list"
    assert found == {
        ("child_details.ethnicity", rule, "ssd_person", "pers_ethnicity", "A1", "WBRITISH"),
        ("child_details.disabilities", rule, "ssd_disability", "disa_disability_code", "D2",
         "Asthma"),
    }  # fmt: skip
