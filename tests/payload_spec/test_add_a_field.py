"""Adding a field is one entry: an overlay alone puts it everywhere, and no code is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text, update

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.database import tables
from d2i_helpers.delta import apply, delta
from d2i_helpers.document.canonical import content_hash
from d2i_helpers.document.validation import Validator
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.payload_spec import Spec, load_spec
from d2i_helpers.payload_spec.outputs import code_list_page, json_schema, payload_page
from d2i_helpers.settings import Secrets

OVERLAY = """
extra_columns:
  ssd_person: {pers_school: text}
code_lists:
  nationality:
    codes: {GBR: British, POL: Polish, SYR: Syrian}
blocks:
  child_details:
    fields:
      nationality:
        item: 91
        meaning: nationality as recorded
        column: pers_nationality
        transform: code
        codes: nationality
        code_map: {UK: GBR}
        max_length: 3
        anonymise: code
      school:
        meaning: name of the school
        column: pers_school
        transform: text
        max_length: 60
        anonymise: drop
"""
PEOPLE = {"P1": ("UK", "Fairfield"), "P2": (" pol - Polish", None), "P3": ("??", "x" * 61)}


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    path = tmp_path / "ours.yaml"
    path.write_text(OVERLAY, encoding="utf-8")
    return path


@pytest.fixture
def spec(overlay: Path) -> Spec:
    return load_spec("generic", overlay)


def fill(ssd: Any, engine: Engine) -> None:
    for person_id, (nationality, _) in PEOPLE.items():
        person = {"pers_person_id": person_id, "pers_dob": "2012-05-17"}
        ssd.add("ssd_person", {**person, "pers_nationality": nationality})
        referral = {"cine_referral_id": f"R{person_id}", "cine_referral_date": "2025-01-01"}
        ssd.add("ssd_cin_episodes", {**referral, "cine_person_id": person_id})
    with database.transaction(engine) as connection:
        connection.execute(text("alter table ssd_person add column pers_school varchar(100)"))
        for person_id, (_, school) in PEOPLE.items():
            connection.execute(
                text("update ssd_person set pers_school = :school where pers_person_id = :id"),
                {"school": school, "id": person_id},
            )


def test_it_is_in_the_document_and_what_cannot_be_used_is_reported(
    ssd: Any, engine: Engine, make_settings: Callable, overlay: Path, spec: Spec
) -> None:
    fill(ssd, engine)
    result = extract.run(engine, make_settings(spec_overlay=str(overlay)), spec)
    details = {p: document["child_details"] for p, document in ssd.documents().items()}
    assert details["P1"]["nationality"] == "GBR"
    assert details["P1"]["school"] == "Fairfield"
    assert details["P2"]["nationality"] == "POL"
    assert "school" not in details["P2"]
    assert not {"nationality", "school"} & details["P3"].keys()
    said = str(result.problems) + str(result.quality)
    assert "child_details.nationality" in said
    assert "child_details.school" in said
    assert "xxx" not in said


def test_its_change_makes_a_delta_that_carries_it(
    ssd: Any, engine: Engine, make_settings: Callable, overlay: Path, spec: Spec
) -> None:
    fill(ssd, engine)
    settings = make_settings(spec_overlay=str(overlay), guard_min_children=100)
    extract.run(engine, settings, spec)
    before = ssd.documents()
    person = tables.ssd_table("ssd_person")
    with database.transaction(engine) as connection:
        moved = update(person).where(person.c.pers_person_id == "P2")
        connection.execute(moved.values(pers_nationality="SYR"))
        gone = update(person).where(person.c.pers_person_id == "P1")
        connection.execute(gone.values(pers_nationality=None))
    counts = extract.run(engine, settings, spec).counts
    after = ssd.documents()
    assert counts["unchanged"] == 1
    for person_id, carried in (("P1", None), ("P2", "SYR")):
        partial = delta(spec, after[person_id], before[person_id])
        assert partial["child_details"]["nationality"] == carried
        assert apply(spec, before[person_id], partial) == after[person_id]
        assert content_hash(spec, before[person_id]) != content_hash(spec, after[person_id])
        assert Validator(spec).partial_problems(partial) == []


def test_it_is_in_the_anonymised_copy_by_its_rule(
    ssd: Any, engine: Engine, make_settings: Callable, overlay: Path, spec: Spec
) -> None:
    fill(ssd, engine)
    settings = make_settings(spec_overlay=str(overlay))
    extract.run(engine, settings, spec)
    result = anonymise.run(engine, settings, Secrets(pseudonym_key=SecretStr("k" * 64)), spec)
    assert result.counts["values_left_out"] == 0  # what is dropped by its rule is no fault
    twins = list(ssd.documents(settings.anon_table).values())
    assert len(twins) == len(PEOPLE)
    held = [twin["child_details"].get("nationality") for twin in twins]
    assert sum(value is not None for value in held) == 2
    assert {value for value in held if value} <= {"GBR", "POL", "SYR"}
    assert not any("school" in twin["child_details"] for twin in twins)


def test_its_columns_are_read(engine: Engine, make_settings: Callable, spec: Spec) -> None:
    reads = Documents(engine, make_settings(), spec).plan.reads
    read = {name for each, names in reads.items() if each.table == "ssd_person" for name in names}
    assert read >= {"pers_nationality", "pers_school"}


def test_it_is_in_the_schema_and_on_the_pages(spec: Spec) -> None:
    properties = json_schema(spec)["properties"]["child_details"]["properties"]
    assert properties["nationality"]["enum"] == ["GBR", "POL", "SYR"]
    assert properties["school"]["maxLength"] == 60
    row = next(line for line in payload_page(spec).splitlines() if "`nationality`" in line)
    assert row.startswith("| 91 |")
    assert "`ssd_person.pers_nationality`" in row
    assert "## nationality" in code_list_page(spec)


def test_without_the_overlay_it_is_an_unknown_field() -> None:
    document = {"la_child_id": "1", "child_details": {"nationality": "GBR"}}
    problems = Validator(load_spec()).problems(document)
    assert [str(problem) for problem in problems] == ["child_details.nationality: unknown field"]
