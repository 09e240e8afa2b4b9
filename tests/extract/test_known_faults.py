"""Faults that earlier software for this return is known to have had: none may be possible here.

Each test is named after the fault and runs through extract on every engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, delete

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import Field, load_spec

SPEC = load_spec()
Rows = dict[str, list[dict[str, Any]]]


def child(person_id: str, **person: Any) -> Rows:
    """A child with one open referral and a placement of its period of care; ids follow from its."""
    return {
        "ssd_person": [{"pers_person_id": person_id, "pers_dob": "2012-05-17", **person}],
        "ssd_cin_episodes": [
            {"cine_referral_id": f"R{person_id}", "cine_person_id": person_id,
             "cine_referral_date": "2025-01-01"}
        ],
        "ssd_cin_assessments": [
            {"cina_assessment_id": f"A{person_id}", "cina_referral_id": f"R{person_id}",
             "cina_assessment_start_date": "2025-01-01"}
        ],
        "ssd_cla_episodes": [
            {"clae_cla_episode_id": f"E{person_id}", "clae_person_id": person_id,
             "clae_cla_id": f"K{person_id}", "clae_referral_id": f"R{person_id}",
             "clae_cla_placement_id": f"P{person_id}", "clae_cla_episode_start_date": "2025-01-01"}
        ],
        "ssd_cla_placement": [
            {"clap_cla_placement_id": f"P{person_id}", "clap_cla_id": f"K{person_id}",
             "clap_cla_placement_start_date": "2025-01-01",
             "clap_cla_placement_end_date": "2025-03-01"}
        ],
        "ssd_care_leavers": [
            {"clea_table_id": f"L{person_id}", "clea_person_id": person_id,
             "clea_care_leaver_latest_contact": "2025-01-01"}
        ],
    }  # fmt: skip


def fill(ssd: Any, *children: Rows) -> None:
    together: Rows = {}
    for one in children:
        for table, rows in one.items():
            together.setdefault(table, []).extend(rows)
    for table, rows in together.items():
        ssd.add(table, *rows)


def empty(engine: Engine, names: Any) -> None:
    with database.transaction(engine) as connection:
        for table in names:
            connection.execute(delete(tables.ssd_table(table)))


# ------------------------------------------------------------- codes that were cut into others
# which table and which of its rows a coded field is read from; the row is found by its key
OWN_ROW = {
    "ssd_disability": ("disa_person_id", ""),
    "ssd_assessment_factors": ("cinf_assessment_id", "A"),
}


def with_value(rows: Rows, person_id: str, field: Field, value: str) -> Rows:
    """The child with a stored value in the column that a coded field is read from."""
    table = SPEC.sources[field.source].table
    if table in OWN_ROW:
        column, prefix = OWN_ROW[table]
        stored = orjson.dumps([value]).decode() if field.transform == "code_json" else value
        rows[table] = [{column: f"{prefix}{person_id}", field.column: stored}]
    else:
        rows[table][0][field.column] = value
    return rows


def room(field: Field) -> int:
    """Characters that the deployed column holds."""
    column = tables.ssd_table(SPEC.sources[field.source].table).columns[field.column]
    return getattr(column.type, "length", None) or 1000


def held(document: dict[str, Any], path: str) -> Any:
    found: Any = document
    for part in path.split("."):
        found = (found or {}).get(part.removesuffix("[]"))
        if part.endswith("[]") and found:
            found = found[0]
    return found


def test_no_code_is_cut_into_another(
    ssd: Any, engine: Engine, make_settings: Callable[..., Any]
) -> None:
    """Every code of every list: bare, in lower case after blanks, and before its description."""
    wanted: dict[str, tuple[Field, str]] = {}
    children = []
    numbers = itertools.count(1)
    for _, field in SPEC.fields():
        for code in field.codes.codes if field.codes else ():
            for stored in (code, f" \t{code.lower()} ", f"{code} - {field.codes.codes[code]}"):
                if len(stored) > room(field):
                    continue
                person_id = f"C{next(numbers):04d}"
                wanted[person_id] = (field, code)
                children.append(with_value(child(person_id), person_id, field, stored))
    fill(ssd, *children)
    extract.run(engine, make_settings(), SPEC)
    documents = ssd.documents()
    wrong = []
    for person_id, (field, code) in wanted.items():
        found = held(documents[person_id], field.path)
        if found != ([code] if field.type == "codes" else code):
            wrong.append((field.path, code, found))
    assert not wrong
    assert len(wanted) > 500


def test_a_retired_code_is_reported_and_never_sent(
    ssd: Any, engine: Engine, make_settings: Callable[..., Any]
) -> None:
    wanted: dict[str, Field] = {}
    children = []
    for _, field in SPEC.fields():
        for number, code in enumerate(sorted(field.codes.retired) if field.codes else ()):
            person_id = f"{field.name[:6]}{number:03d}"
            wanted[person_id] = field
            children.append(with_value(child(person_id), person_id, field, code))
    fill(ssd, *children)
    result = extract.run(engine, make_settings(), SPEC)
    documents = ssd.documents()
    assert all(not held(documents[i], field.path) for i, field in wanted.items())
    reported = {row["field"]: row["count"] for row in result.problems}
    assert {row["rule"] for row in result.problems} == {"retired code"}
    assert sum(reported.values()) == len(wanted) > 20


# ------------------------------------------------------------------ changes that were never sent
FLAG = '{{"CP_CONFERENCE_FLAG": "{}"}}'
# by name: table, its key column's prefix, and one column before and after
CHANGES: dict[str, tuple[str, dict[str, Any], str, Any, Any]] = {
    "a number that replaces none": ("ssd_person", {}, "pers_upn", None, "A123456789012"),
    "another reason for no number": ("ssd_person", {}, "pers_upn_unknown", "UN1", "UN10"),
    "another former number": (
        "ssd_linked_identifiers",
        {"link_person_id": "{}", "link_identifier_type": "Former Unique Pupil Number"},
        "link_identifier_value", "A123456789012", "B123456789012"),
    "a factor added": ("ssd_assessment_factors", {"cinf_assessment_id": "A{}"},
                       "cinf_assessment_factors_json", '["1A"]', '["1A", "3B"]'),
    "a conference needed": (
        "ssd_s47_enquiry",
        {"s47e_s47_enquiry_id": "S{}", "s47e_referral_id": "R{}",
         "s47e_s47_start_date": "2025-01-01"},
        "s47e_s47_outcome_json", FLAG.format("N"), FLAG.format("Y")),
    "a start reason": ("ssd_cla_episodes", {}, "clae_cla_episode_start_reason", "S", "B"),
    "an end reason": ("ssd_cla_episodes", {}, "clae_cla_episode_ceased_reason", "E4A", "E4B"),
    "a change reason": ("ssd_cla_placement", {}, "clap_cla_placement_change_reason",
                        "CHILD", "CARPL"),
    "an adoption found by its period of care": (
        "ssd_permanence", {"perm_cla_id": "K{}"}, "perm_matched_date", "2025-02-01", "2025-02-02"),
}  # fmt: skip
STILL: dict[str, tuple[str, dict[str, Any], str, Any, Any]] = {
    "an old assessment that is loaded late": (
        "ssd_cin_assessments", {"cina_assessment_id": "O{}", "cina_referral_id": "R{}"},
        "cina_assessment_start_date", None, "2015-01-01"),
    "a code in another case": ("ssd_person", {}, "pers_sex", "F", " f"),
    "an address that has ended": (
        "ssd_address", {"addr_person_id": "{}", "addr_address_start_date": "2020-01-01",
                        "addr_address_postcode": "AB1 2CD"},
        "addr_address_end_date", None, "2024-01-01"),
}  # fmt: skip


def changed(name: str, person_id: str, after: bool) -> Rows:
    table, keys, column, first, then = {**CHANGES, **STILL}[name]
    rows = child(person_id)
    values = {key: value.format(person_id) for key, value in keys.items()}
    row = values if values else rows[table][0]
    row[column] = then if after else first
    if values:
        rows.setdefault(table, []).append(row)
    return rows


@pytest.mark.parametrize("volatile", [False, True])
def test_no_change_is_overlooked_and_none_is_invented(
    ssd: Any, engine: Engine, make_settings: Callable[..., Any], volatile: bool
) -> None:
    names = {f"H{number:03d}": name for number, name in enumerate((*CHANGES, *STILL))}
    settings = make_settings(volatile_ids=volatile, max_changed_share=1.0)
    fill(ssd, *(changed(name, i, False) for i, name in names.items()))
    extract.run(engine, settings, SPEC)
    before = {i: row["current_hash"] for i, row in ssd.staged().items()}
    empty(engine, {t for i, name in names.items() for t in changed(name, i, True)})
    fill(ssd, *(changed(name, i, True) for i, name in names.items()))
    extract.run(engine, settings, SPEC)
    after = {i: row["current_hash"] for i, row in ssd.staged().items()}
    moved = {names[i] for i in names if before[i] != after[i]}
    assert moved == set(CHANGES)


# ----------------------------------------------------------------- ties that flipped every night
def twice(person_id: str) -> Rows:
    """A child of whom everything is there twice on one day, with contents that differ."""
    rows = child(person_id)
    day = "2025-01-01"
    for no in "12":
        key, referral = f"{person_id}{no}", f"R{person_id}"
        more: Rows = {
            "ssd_address": [{"addr_table_id": key, "addr_person_id": person_id,
                             "addr_address_start_date": day,
                             "addr_address_postcode": f"AB{no} 2CD"}],
            "ssd_linked_identifiers": [
                {"link_table_id": key, "link_person_id": person_id,
                 "link_identifier_type": "Former Unique Pupil Number",
                 "link_identifier_value": f"A12345678901{no}"}],
            "ssd_immigration_status": [
                {"immi_immigration_status_id": key, "immi_person_id": person_id,
                 "immi_immigration_status": "U", "immi_immigration_status_start_date": day}],
            "ssd_permanence": [{"perm_table_id": key, "perm_person_id": person_id,
                                "perm_matched_date": day,
                                "perm_adm_decision_date": f"2024-05-0{no}"}],
            "ssd_care_leavers": [
                {"clea_table_id": key, "clea_person_id": person_id,
                 "clea_care_leaver_latest_contact": "2025-06-01",
                 "clea_care_leaver_activity": f"F{no}"}],
            "ssd_s47_enquiry": [{"s47e_s47_enquiry_id": key, "s47e_referral_id": referral,
                                 "s47e_s47_start_date": day}],
            "ssd_initial_cp_conference": [{"icpc_icpc_id": key, "icpc_s47_enquiry_id": key,
                                           "icpc_icpc_date": day}],
            "ssd_cin_plans": [{"cinp_cin_plan_id": key, "cinp_referral_id": referral,
                               "cinp_person_id": person_id, "cinp_cin_plan_start_date": day}],
            "ssd_cp_plans": [{"cppl_cp_plan_id": key, "cppl_referral_id": referral,
                              "cppl_cp_plan_start_date": day}],
            "ssd_sdq_scores": [{"csdq_table_id": key, "csdq_person_id": person_id,
                                "csdq_sdq_completed_date": day, "csdq_sdq_score": int(no)}],
            "ssd_cla_episodes": [
                {"clae_cla_episode_id": key, "clae_person_id": person_id, "clae_cla_id": key,
                 "clae_referral_id": referral, "clae_cla_placement_id": f"P{person_id}",
                 "clae_cla_episode_start_date": day,
                 "clae_cla_episode_start_reason": {"1": "S", "2": "L"}[no]}],
        }  # fmt: skip
        for table, some in more.items():
            rows.setdefault(table, []).extend(some)
    return rows


def test_rows_of_one_day_do_not_swap(
    ssd: Any, engine: Engine, make_settings: Callable[..., Any]
) -> None:
    """The order in which a database delivers rows says nothing: no document changes with it."""
    rows = twice("T1")
    fill(ssd, rows)
    extract.run(engine, make_settings(), SPEC)
    first = ssd.staged()["T1"]["json_payload"]
    empty(engine, rows)
    fill(ssd, {table: some[::-1] for table, some in rows.items()})
    assert extract.run(engine, make_settings(), SPEC).counts["unchanged"] == 1
    assert extract.run(engine, make_settings(staging_table="another"), SPEC).counts["new"] == 1
    assert ssd.staged("another")["T1"]["json_payload"] == first
