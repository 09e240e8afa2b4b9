"""What systems lack or name differently is declared in an overlay, and extract reads it so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from d2i_helpers import database
from d2i_helpers.errors import DatabaseError
from d2i_helpers.extract import stage as extract
from d2i_helpers.notebook import display
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.privacy.redaction import Redactor


def fill(ssd: Any) -> None:
    ssd.add("ssd_person", {"pers_person_id": "P1", "pers_dob": "2012-05-17"})
    referral = {"cine_referral_date": "2025-01-01", "cine_person_id": "P1"}
    ssd.add("ssd_cin_episodes", {"cine_referral_id": "R1", **referral})
    plan = {"cinp_person_id": "P1", "cinp_cin_plan_start_date": "2025-02-01"}
    ssd.add("ssd_cin_plans", {"cinp_cin_plan_id": "N1", "cinp_referral_id": "R1", **plan})


def do(engine: Engine, statement: str) -> None:
    with database.transaction(engine) as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("renamed", [False, True])
def test_mosaic_plans_are_found_under_either_name(
    ssd: Any, engine: Engine, make_settings: Callable, renamed: bool
) -> None:
    fill(ssd)
    if renamed:
        do(engine, "alter table ssd_cin_plans rename column cinp_cin_plan_id to cin_plan_id")
    extract.run(engine, make_settings(cms="mosaic"), load_spec("mosaic"))
    (episode,) = ssd.documents()["P1"]["social_care_episodes"]
    assert [p["child_in_need_plan_id"] for p in episode["child_in_need_plans"]] == ["N1"]


def test_a_required_column_with_another_name_is_an_error_that_names_it(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    fill(ssd)
    do(engine, "alter table ssd_cin_plans rename column cinp_cin_plan_id to cin_plan_id")
    with pytest.raises(DatabaseError, match=r"ssd_cin_plans\.cinp_cin_plan_id"):
        extract.run(engine, make_settings(), load_spec())


def test_mosaic_without_care_leavers_and_professionals_is_warned_of(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    fill(ssd)
    for table in ("ssd_care_leavers", "ssd_professionals", "ssd_linked_identifiers"):
        do(engine, f"drop table {table}")
    result = extract.run(engine, make_settings(cms="mosaic"), load_spec("mosaic"))
    assert "P1" in ssd.documents()
    assert sum("ssd_care_leavers is not there" in warning for warning in result.warnings) == 1


def test_an_authority_names_the_worker_by_another_column(
    ssd: Any, engine: Engine, make_settings: Callable, tmp_path: Path
) -> None:
    fill(ssd)
    worker = {"prof_staff_id": "S-9", "prof_social_worker_registration_no": None}
    ssd.add("ssd_professionals", {"prof_professional_id": "W1", **worker})
    ssd.add(
        "ssd_involvements",
        {
            "invo_professional_id": "W1",
            "invo_professional_role_id": "CW",
            "invo_referral_id": "R1",
            "invo_involvement_start_date": "2025-01-02",
        },
    )
    overlay = tmp_path / "ours.yaml"
    overlay.write_text(
        "blocks: {care_worker_details: {fields: {worker_id: {column: prof_staff_id}}}}"
    )
    extract.run(engine, make_settings(), load_spec())
    (without,) = ssd.documents()["P1"]["social_care_episodes"]
    assert "care_worker_details" not in without
    settings = make_settings(spec_overlay=str(overlay), guard_min_children=100)
    extract.run(engine, settings, load_spec("generic", overlay))
    (episode,) = ssd.documents()["P1"]["social_care_episodes"]
    assert [w["worker_id"] for w in episode["care_worker_details"]] == ["S-9"]


def test_systemc_forms_that_were_renumbered_change_nothing(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    fill(ssd)
    settings = make_settings(cms="systemc")
    extract.run(engine, settings, load_spec("systemc"))
    before = ssd.documents()
    do(engine, "update ssd_cin_plans set cinp_cin_plan_id = 'N2'")
    assert extract.run(engine, settings, load_spec("systemc")).counts["unchanged"] == 1
    assert ssd.documents() == before


def test_eclipse_spellings_are_read(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    for number, stored in enumerate(("CNHE", "MWBa", "ORAB", "??")):
        person = {"pers_person_id": f"P{number}", "pers_dob": "2012-05-17"}
        ssd.add("ssd_person", {**person, "pers_ethnicity": stored})
        referral = {"cine_referral_date": "2025-01-01", "cine_person_id": f"P{number}"}
        ssd.add("ssd_cin_episodes", {"cine_referral_id": f"R{number}", **referral})
    extract.run(engine, make_settings(cms="eclipse"), load_spec("eclipse"))
    sent = {p: d["child_details"].get("ethnicity") for p, d in ssd.documents().items()}
    assert sent == {"P0": "CHNE", "P1": "MWBA", "P2": None, "P3": None}


def statuses(checks: list[preflight.Check]) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.detail) for check in checks}


def test_preflight_tells_required_from_optional_and_knows_other_names(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    do(engine, "alter table ssd_cin_plans rename column cinp_cin_plan_id to cin_plan_id")
    do(engine, "drop table ssd_professionals")
    do(engine, "alter table ssd_person rename column pers_sex to pers_sex_code")
    found = statuses(preflight.run(make_settings(cms="mosaic")))
    assert found["source tables"] == ("fail", "missing: ssd_person.pers_sex")
    status, detail = found["optional sources"]
    assert status == "warn"
    assert "ssd_professionals" in detail
    assert "cinp_cin_plan_id" not in detail
    generic = statuses(preflight.run(make_settings()))["source tables"]
    assert generic[0] == "fail"
    for missing in ("ssd_cin_plans.cinp_cin_plan_id", "ssd_professionals", "ssd_person.pers_sex"):
        assert missing in generic[1]


def test_known_gaps_are_said_where_an_analyst_looks(
    ssd: Any, engine: Engine, make_settings: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(ssd)
    settings, mosaic = make_settings(cms="mosaic"), load_spec("mosaic")
    (gaps,) = [check for check in preflight.run(settings) if check.name == "known gaps"]
    quality = {row["field"]: row for row in extract.run(engine, settings, mosaic).quality}
    display.known_gaps(mosaic.known_gaps)
    said = capsys.readouterr().out
    assert gaps.status == preflight.PASS
    for place, why in mosaic.known_gaps.items():
        assert f"{place} ({why})" in gaps.detail
        assert f"{place}: {why}" in said
    workers = "social_care_episodes[].care_worker_details[]"
    assert quality[f"{workers}.worker_id"]["known gap"] is True  # the gap of its block
    assert quality["child_details.surname"]["known gap"] is None


def test_a_number_of_values_is_not_taken_for_an_id_after_the_name_of_its_field(
    ssd: Any, engine: Engine, make_settings: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else every run of an authority with ids of three to five figures could end with 13."""
    fill(ssd)
    rows = extract.run(engine, make_settings(), load_spec()).quality
    display.quality([{**row, "filled": 121} for row in rows])
    shown = capsys.readouterr().out
    assert "la_child_id" in shown and "121" in shown
    assert Redactor(["121"]).redact(shown) == (shown, 0)
    assert Redactor(["121"]).redact("la_child_id 121")[1] == 1


def test_a_system_without_gaps_has_no_such_check(engine: Engine, make_settings: Callable) -> None:
    assert "known gaps" not in {check.name for check in preflight.run(make_settings(cms="generic"))}
