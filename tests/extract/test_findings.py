"""What extract would find, child by child, with the values behind it; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.extract import findings, stage
from d2i_helpers.extract.code_use import code_uses
from d2i_helpers.extract.teams import teams_of
from d2i_helpers.payload_spec import build_spec, load_spec, merge, merged_text


@pytest.fixture
def filled(ssd: Any) -> Any:
    """Three children: one without an ethnicity, one with a bad one, one of no cohort."""
    for person, ethnicity in (("A1", None), ("B2", " Orab"), ("C3", "WBRI")):
        ssd.add("ssd_person", {"pers_person_id": person, "pers_dob": "2012-05-17",
                               "pers_ethnicity": ethnicity})  # fmt: skip
    for person, team in (("A1", "East"), ("B2", "West")):
        ssd.add("ssd_cin_episodes",
                {"cine_referral_id": f"R{person}", "cine_person_id": person,
                 "cine_referral_date": "2025-01-01", "cine_referral_team": team})  # fmt: skip
    ssd.add("ssd_cin_assessments",
            {"cina_assessment_id": "AS1", "cina_person_id": "B2", "cina_referral_id": "RB2",
             "cina_assessment_start_date": "2025-02-01"})  # fmt: skip
    ssd.add("ssd_assessment_factors",
            {"cinf_table_id": "F1", "cinf_assessment_id": "AS1",
             "cinf_assessment_factors_json": '["1A", "99Z"]'})  # fmt: skip
    return ssd


ETHNICITY = "child_details.ethnicity"
FACTORS = "social_care_episodes[].child_and_family_assessments[].factors"


def found_of(found: findings.Findings) -> Any:
    fault = found.faults[ETHNICITY]
    return (
        sorted(zip(found.people, fault.missing.tolist(), fault.wrong.tolist(), strict=True)),
        sorted((p.person_id, p.path, p.rule) for p in found.problems),
    )


def test_the_same_is_found_with_the_marks_and_without(
    filled: Any, engine: Engine, make_settings: Callable
) -> None:
    settings, spec = make_settings(), load_spec()
    before = findings.find(engine, settings, spec)
    people, problems = found_of(before)
    assert people == [("A1", 1, 0), ("B2", 0, 1)]
    assert ("B2", ETHNICITY, "not in code list") in problems
    assert (before.persons_read, before.read_anew) == (3, 3)
    with database.reading(engine) as connection:
        assert not database.has_table(connection, tables.marks)
    stage.run(engine, settings, spec)
    after = findings.find(engine, settings, spec)
    assert found_of(after) == (people, problems)
    assert (after.persons_read, after.read_anew) == (3, 0)
    with database.transaction(engine) as connection:
        connection.execute(text("update ssd_person set pers_ethnicity = 'REFU' "
                                "where pers_person_id = 'B2'"))  # fmt: skip
    mended = findings.find(engine, settings, spec)
    assert mended.read_anew == 1
    assert found_of(mended)[0] == [("A1", 1, 0), ("B2", 0, 0)]


def test_the_value_that_breaks_a_rule_is_found_where_it_stands(
    filled: Any, engine: Engine, make_settings: Callable
) -> None:
    settings, spec = make_settings(), load_spec()
    found = findings.find(engine, settings, spec)
    offences = {
        o.problem.path: o for o in findings.offences(engine, settings, spec, found.problems)
    }
    ethnicity, factors = offences[ETHNICITY], offences[FACTORS]
    assert (ethnicity.table, ethnicity.column) == ("ssd_person", "pers_ethnicity")
    assert (ethnicity.key, ethnicity.value) == ("B2", " Orab")
    assert (factors.key_column, factors.key) == ("cinf_table_id", "F1")
    assert factors.value == '["1A", "99Z"]'


def test_each_code_is_counted_as_it_is_written(filled: Any, engine: Engine) -> None:
    uses = {(use.field.name, use.value): use for use in code_uses(engine, load_spec())}
    assert uses["ethnicity", "WBRI"].code == "WBRI"
    assert uses["ethnicity", "Orab"].problem == "not in code list"
    assert (uses["factors", "1A"].code, uses["factors", "99Z"].code) == ("1A", None)
    assert ("factors", '["1A", "99Z"]') not in uses


def test_a_team_is_that_of_the_row_that_is_not_ended_and_of_the_first_table(
    filled: Any, engine: Engine
) -> None:
    assert teams_of(engine, load_spec()) == {"A1": "East", "B2": "West"}
    filled.add("ssd_involvements",
               {"invo_involvements_id": "I1", "invo_person_id": "A1",
                "invo_professional_team": "Old", "invo_involvement_start_date": "2025-03-01",
                "invo_involvement_end_date": "2025-04-01"},
               {"invo_involvements_id": "I2", "invo_person_id": "A1",
                "invo_professional_team": "Now", "invo_involvement_start_date": "2025-02-01"},
               )  # fmt: skip
    assert teams_of(engine, load_spec()) == {"A1": "Now", "B2": "West"}
    over = {"teams": [{"table": "ssd_person", "column": "pers_sex", "person": "pers_person_id"}]}
    assert teams_of(engine, build_spec(merge(merged_text(), over))) == {}
