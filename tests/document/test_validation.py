"""The generated schema and the checks beside it, against documents known to be good and bad."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from d2i_helpers.delta import delta
from d2i_helpers.document.validation import Problem, Validator, firewall_warnings
from d2i_helpers.payload_spec import build_spec, load_spec, merge, merged_text
from d2i_helpers.payload_spec.outputs import json_schema

SPEC = load_spec()
VALIDATOR = Validator(SPEC)


def good() -> dict[str, Any]:
    """A document with every field that the specification has."""
    return {
        "la_child_id": "DfE_1-2",
        "mis_child_id": "Supp-1",
        "purge": False,
        "child_details": {
            "unique_pupil_number": "A123456789012",
            "former_unique_pupil_number": "A12345678901B",
            "unique_pupil_number_unknown_reason": "UN10",
            "first_name": "Zoë",
            "surname": "O'Brien",
            "date_of_birth": "2012-02-29",
            "expected_date_of_birth": "2012-03-01",
            "sex": "F",
            "ethnicity": "WBRI",
            "disabilities": ["HAND", "VIS"],
            "postcode": "AB12 3DE",
            "uasc_flag": True,
            "uasc_end_date": "2025-01-01",
            "purge": False,
        },
        "health_and_wellbeing": {
            "sdq_assessments": [{"date": "2025-01-01", "score": 0}, {"date": "2024-07-01"}],
            "purge": False,
        },
        "social_care_episodes": [
            {
                "social_care_episode_id": "E1",
                "referral_date": "2024-05-01",
                "referral_source": "1A",
                "closure_date": "2025-05-01",
                "closure_reason": "RC1",
                "referral_no_further_action_flag": False,
                "purge": False,
                "child_and_family_assessments": [
                    {
                        "child_and_family_assessment_id": "A1",
                        "start_date": "2024-05-02",
                        "authorisation_date": "2024-06-02",
                        "factors": ["1A", "18B"],
                        "purge": False,
                    }
                ],
                "child_in_need_plans": [
                    {
                        "child_in_need_plan_id": "P1",
                        "start_date": "2024-07-01",
                        "end_date": "2024-08-01",
                        "purge": False,
                    }
                ],
                "section_47_assessments": [
                    {
                        "section_47_assessment_id": "S1",
                        "start_date": "2024-07-01",
                        "icpc_required_flag": True,
                        "icpc_date": "2024-07-12",
                        "end_date": "2024-07-10",
                        "purge": False,
                    }
                ],
                "child_protection_plans": [
                    {
                        "child_protection_plan_id": "C1",
                        "start_date": "2024-07-12",
                        "end_date": "2025-01-12",
                        "purge": False,
                    }
                ],
                "child_looked_after_placements": [
                    {
                        "child_looked_after_placement_id": "L1",
                        "start_date": "2024-09-01",
                        "start_reason": "S",
                        "postcode": "M1 1AE",
                        "placement_type": "Z11",
                        "end_date": "2024-10-01",
                        "end_reason": "E4A",
                        "change_reason": "CUSTOD",
                        "purge": False,
                    }
                ],
                "adoption": {
                    "initial_decision_date": "2024-09-01",
                    "matched_date": "2024-10-01",
                    "placed_date": "2024-11-01",
                    "purge": False,
                },
                "care_leavers": {
                    "contact_date": "2024-12-01",
                    "activity": "F1",
                    "accommodation": "Z",
                    "purge": False,
                },
                "care_worker_details": [
                    {"worker_id": "SW1", "start_date": "2024-05-01", "end_date": "2025-05-01"},
                    {"worker_id": "SW1", "start_date": "2025-05-02"},
                ],
            }
        ],
    }


def minimal() -> dict[str, Any]:
    return {"la_child_id": "1", "child_details": {}}


def test_good_documents_have_no_problems() -> None:
    assert VALIDATOR.problems(good()) == []
    assert VALIDATOR.problems(minimal()) == []
    assert VALIDATOR.partial_problems(good()) == []


def test_every_field_of_the_specification_is_in_the_good_document() -> None:
    def names(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        inner = value.values() if isinstance(value, dict) else ()
        return set().union(*map(names, inner), value if isinstance(value, dict) else ())

    assert {field.name for _, field in SPEC.fields()} <= names(good())


EPISODE = "social_care_episodes[0]"
Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        (lambda d: d.pop("la_child_id"), "la_child_id", "missing"),
        (lambda d: d.pop("child_details"), "child_details", "missing"),
        (lambda d: d.update(la_child_id=1), "la_child_id", "wrong type"),
        (lambda d: d.update(la_child_id=""), "la_child_id", "empty text"),
        (lambda d: d.update(la_child_id="a b"), "la_child_id", "wrong format"),
        (lambda d: d.update(la_child_id="a\n"), "la_child_id", "wrong format"),
        (lambda d: d.update(la_child_id="x" * 21), "la_child_id", "too long"),
        (lambda d: d.update(mis_child_id="x" * 37), "mis_child_id", "too long"),
        (lambda d: d.update(mis_child_id=None), "mis_child_id", "wrong type"),
        (lambda d: d.update(Children=[]), "$", "unknown field"),
        (lambda d: d.update(la_code="001"), "la_code", "unknown field"),
        (lambda d: d.update(purge="false"), "purge", "wrong type"),
        (lambda d: d.update(education_health_care_plans=[]), "education_health_care_plans",
         "unknown field"),
        (lambda d: d["child_details"].update(disabilities="NONE"), "child_details.disabilities",
         "wrong type"),
        (lambda d: d["child_details"].update(disabilities=[]), "child_details.disabilities",
         "empty list"),
        (lambda d: d["child_details"].update(disabilities=["VISI"]),
         "child_details.disabilities[0]", "not in code list"),
        (lambda d: d["child_details"].update(disabilities=["MOB", "MOB"]),
         "child_details.disabilities", "item more than once"),
        (lambda d: d["child_details"].update(disabilities=["MOB", "NONE"]),
         "child_details.disabilities", "code that must stand alone beside others"),
        (lambda d: d["child_details"].update(sex="m"), "child_details.sex", "not in code list"),
        (lambda d: d["child_details"].update(uasc_flag="true"), "child_details.uasc_flag",
         "wrong type"),
        (lambda d: d["child_details"].update(date_of_birth="01/05/2012"),
         "child_details.date_of_birth", "wrong format"),
        (lambda d: d["child_details"].update(date_of_birth="2023-02-29"),
         "child_details.date_of_birth", "not a date"),
        (lambda d: d["child_details"].update(date_of_birth="2023-02-01T00:00:00"),
         "child_details.date_of_birth", "wrong format"),
        (lambda d: d["child_details"].update(postcode=""), "child_details.postcode", "empty text"),
        (lambda d: d["child_details"].update(postcode="AB123DE"), "child_details.postcode",
         "wrong format"),
        (lambda d: d["child_details"].update(first_name="x" * 129), "child_details.first_name",
         "too long"),
        (lambda d: d["child_details"].update(unique_pupil_number="A12345678901"),
         "child_details.unique_pupil_number", "wrong format"),
        (lambda d: d["health_and_wellbeing"]["sdq_assessments"][0].update(score=41),
         "health_and_wellbeing.sdq_assessments[0].score", "out of range"),
        (lambda d: d["health_and_wellbeing"]["sdq_assessments"][0].update(score="4"),
         "health_and_wellbeing.sdq_assessments[0].score", "wrong type"),
        (lambda d: d["health_and_wellbeing"]["sdq_assessments"][0].update(sdq_score=4),
         "health_and_wellbeing.sdq_assessments[0].sdq_score", "unknown field"),
        (lambda d: d["social_care_episodes"][0].pop("social_care_episode_id"),
         f"{EPISODE}.social_care_episode_id", "missing"),
        (lambda d: d["social_care_episodes"][0].update(referral_source="AA"),
         f"{EPISODE}.referral_source", "not in code list"),
        (lambda d: d["social_care_episodes"][0].update(adoption=[]), f"{EPISODE}.adoption",
         "wrong type"),
        (lambda d: d["social_care_episodes"][0].update(care_worker_details="[]"),
         f"{EPISODE}.care_worker_details", "wrong type"),
        (lambda d: d["social_care_episodes"][0]["care_worker_details"][1].update(purge=False),
         f"{EPISODE}.care_worker_details[1].purge", "unknown field"),
        (lambda d: d["social_care_episodes"][0]["child_and_family_assessments"][0].update(
            factors=["18A"]), f"{EPISODE}.child_and_family_assessments[0].factors[0]",
         "not in code list"),
        (lambda d: d["social_care_episodes"][0]["child_and_family_assessments"][0].update(
            factors=list(SPEC.code_lists["assessment_factor"].codes)),
         f"{EPISODE}.child_and_family_assessments[0].factors", "too many items"),
        (lambda d: d["social_care_episodes"].append(d["social_care_episodes"][0]),
         "social_care_episodes[1].social_care_episode_id",
         "identifier more than once in its list"),
        (lambda d: d.update(purge=True), "purge", "purge is true in a whole document"),
        (lambda d: d["social_care_episodes"][0].update(purge=True), f"{EPISODE}.purge",
         "purge is true in a whole document"),
        (lambda d: d["child_details"].update(first_name="\ud800"), "$",
         "text that cannot be sent as UTF-8"),
        (lambda d: d["child_details"].update(first_name=object()), "$", "not JSON"),
        (lambda d: d["child_details"].update(first_name=10**30), "$", "not JSON"),
    ],
)  # fmt: skip
def test_bad_documents_are_told_by_path_and_rule(change: Change, path: str, rule: str) -> None:
    bad = good()
    change(bad)
    assert Problem(path, rule) in VALIDATOR.problems(bad)


@pytest.mark.parametrize("document", [None, [], "text", 1, [good()]])
def test_only_an_object_is_a_document(document: Any) -> None:
    assert VALIDATOR.problems(document) == [Problem("$", "not a JSON object")]


def test_all_problems_are_told_in_the_order_of_the_document_s_positions() -> None:
    bad = good()
    bad["social_care_episodes"] = [
        {"social_care_episode_id": str(n), "referral_source": "ZZ"} for n in range(11)
    ]
    paths = [problem.path for problem in VALIDATOR.problems(bad)]
    assert paths == [f"social_care_episodes[{n}].referral_source" for n in range(11)]


def test_a_problem_never_holds_a_value() -> None:
    secret = "Winterbottom 0x99"
    bad = good()
    bad["child_details"] = dict.fromkeys(bad["child_details"], secret)
    bad["social_care_episodes"][0]["adoption"] = {secret: secret}
    bad["social_care_episodes"].append({"social_care_episode_id": secret, secret: {secret: secret}})
    bad[secret] = secret
    told = str(VALIDATOR.problems(bad)) + str(VALIDATOR.partial_problems(bad))
    assert "Winterbottom" not in told
    assert "unknown field" in told


# ---------------------------------------------------------------------------------------- deltas
@pytest.mark.parametrize(
    "partial",
    [
        {"la_child_id": "1", "mis_child_id": "2", "purge": True},
        {"la_child_id": "1", "purge": True},
        {"la_child_id": "1", "child_details": {"first_name": None, "disabilities": ["NONE"]}},
        {"la_child_id": "1", "mis_child_id": None, "child_details": {"disabilities": None}},
        {"la_child_id": "1", "child_details": {}, "health_and_wellbeing": {"purge": True}},
        {"la_child_id": "1", "child_details": {},
         "health_and_wellbeing": {"sdq_assessments": None, "purge": False}},
        {"la_child_id": "1", "child_details": {}, "social_care_episodes": [
            {"social_care_episode_id": "1", "purge": True},
            {"social_care_episode_id": "2", "closure_date": None, "closure_reason": None,
             "adoption": {"purge": True}, "care_worker_details": None,
             "child_in_need_plans": [{"child_in_need_plan_id": "1", "purge": True}]}]},
    ],
)  # fmt: skip
def test_good_deltas(partial: dict[str, Any]) -> None:
    assert VALIDATOR.partial_problems(partial) == []


@pytest.mark.parametrize(
    ("partial", "path", "rule"),
    [
        ({"la_child_id": "1"}, "child_details", "missing"),
        ({"la_child_id": None, "child_details": {}}, "la_child_id", "wrong type"),
        ({"mis_child_id": "1", "purge": True}, "la_child_id", "missing"),
        ({"la_child_id": "1", "purge": True, "child_details": {}}, "$", "content beside purge"),
        ({"la_child_id": "1", "child_details": {"first_name": ""}}, "child_details.first_name",
         "empty text"),
        ({"la_child_id": "1", "child_details": {"sex": "X"}}, "child_details.sex",
         "not in code list"),
        ({"la_child_id": "1", "child_details": {}, "social_care_episodes": [{"purge": True}]},
         f"{EPISODE}.social_care_episode_id", "missing"),
        ({"la_child_id": "1", "child_details": {}, "social_care_episodes": None},
         "social_care_episodes", "wrong type"),
        ({"la_child_id": "1", "child_details": {}, "social_care_episodes": [
            {"social_care_episode_id": "1", "purge": True, "referral_date": "2024-01-01"}]},
         EPISODE, "content beside purge"),
        ({"la_child_id": "1", "child_details": {}, "social_care_episodes": [
            {"social_care_episode_id": "1"}, {"social_care_episode_id": "1"}]},
         "social_care_episodes[1].social_care_episode_id",
         "identifier more than once in its list"),
    ],
)  # fmt: skip
def test_bad_deltas(partial: dict[str, Any], path: str, rule: str) -> None:
    assert Problem(path, rule) in VALIDATOR.partial_problems(partial)


def test_a_whole_document_takes_no_null_anywhere() -> None:
    for _, field in SPEC.fields():
        bad = copy.deepcopy(good())
        steps = field.path.replace("[]", ".0").split(".")
        held: Any = bad
        for step in steps[:-1]:
            held = held[int(step)] if step == "0" else held[step]
        held[steps[-1]] = None
        assert VALIDATOR.problems(bad), field.path


# ---------------------------------------------------------------------------------------- schema
@pytest.mark.parametrize("partial", [False, True])
def test_the_schema_is_itself_valid_and_closed(partial: bool) -> None:
    schema = json_schema(SPEC, partial=partial)
    assert schema["$schema"].endswith("2020-12/schema")
    assert jsonschema_rs.meta.is_valid(schema)

    def objects(part: Any) -> list[dict]:
        inner: Any = part if isinstance(part, list) else ()
        if isinstance(part, dict):
            inner = [held for name, held in part.items() if name != "additionalProperties"]
        found = [one for value in inner for one in objects(value)]
        is_object = isinstance(part, dict) and part.get("type") == "object"
        return [*found, part] if is_object else found

    closed = objects(schema)
    assert len(closed) == len(SPEC.blocks)
    others = closed[0]["additionalProperties"]
    assert all(one["additionalProperties"] == others for one in closed)
    # in a delta, what the specification does not know may be erased, and nothing else
    erased = (None, {"purge": True}, [{"block_id": "B1", "purge": True}])
    said = (*erased, "text", 1, {}, {"block_id": "B1"}, [{"block_id": "B1"}], {"purge": False})
    validator = jsonschema_rs.validator_for(others)
    assert [one for one in said if validator.is_valid(one)] == [*(erased if partial else ())]


@pytest.mark.parametrize(
    ("value", "rules"), [(None, []), ("x", ["child_details.former_field: unknown field"])]
)
def test_a_delta_may_clear_a_field_that_the_specification_no_longer_knows(
    value: Any, rules: list[str]
) -> None:
    details = {"purge": False, "former_field": value}
    partial = {"la_child_id": "1", "purge": False, "child_details": details}
    assert [str(problem) for problem in VALIDATOR.partial_problems(partial)] == rules


@pytest.mark.parametrize("name", ["adoption", "child_in_need_plans"])
def test_a_delta_may_clear_a_block_that_has_no_flag(name: str) -> None:
    """It is content of the block above, and goes as null."""
    spec = build_spec(merge(merged_text(), {"blocks": {name: {"purge": False}}}))
    before = good()
    for block in before["social_care_episodes"][0][name], *before["social_care_episodes"][0][name]:
        if isinstance(block, dict):
            block.pop("purge", None)
    after = copy.deepcopy(before)
    del after["social_care_episodes"][0][name]
    partial = delta(spec, after, before)
    assert partial is not None and partial["social_care_episodes"][0][name] is None
    assert Validator(spec).partial_problems(partial) == []


# -------------------------------------------------------------------------------------- firewall
@pytest.mark.parametrize(
    ("body", "names"),
    [
        ('{"surname":"O\'Brien","first_name":"Selection"}', []),
        ('{"la_child_id":"ab0x12"}', ["0x"]),
        ('{"la_child_id":"ab0X12"}', ["0x"]),
        ('{"surname":"x\' OR 1=1"}', ["SQL condition"]),
        ('{"surname":"Robert\'); DROP TABLE students;--"}', ["SQL comment", "SQL words"]),
        ('{"surname":"union  select"}', ["SQL words"]),
        ('{"first_name":"<script>"}', ["script"]),
        ('{"first_name":"../x"}', ["path"]),
        ('{"first_name":"Anne-Marie","surname":"Smith-Jones"}', []),
        ('{"first_name":"Union","surname":"Drop"}', []),
        ('{"surname":"waitfor\\u00a0delay"}', []),
        ('{"surname":"execute\xa0sp_x xp_cmd"}', []),
        ('{"surname":"EXEC xp_cmdshell"}', ["SQL words"]),
        ('{"surname":"alter\xa0table"}', ["SQL words"]),
        ('{"surname":"a/*b"}', ["SQL comment"]),
        ('{"surname":"a; #b"}', ["SQL comment"]),
        ('{"surname":"a--b"}', ["SQL comment"]),
        ('{"surname":"javascript:a"}', ["script"]),
        ('{"surname":"onerror =a"}', ["script"]),
        ('{"surname":"0 x 1x"}', []),
    ],
)
def test_what_firewalls_block_is_warned_of(body: str, names: list[str]) -> None:
    assert firewall_warnings(body) == names


def test_a_pattern_of_an_overlay_cannot_hang_the_checks() -> None:
    """An engine that tries all ways to divide the letters would never end here."""
    fields = {"surname": {"pattern": "^(a+)+$", "max_length": 100_000}}
    spec = build_spec(merge(merged_text(), {"blocks": {"child_details": {"fields": fields}}}))
    document = good()
    document["child_details"]["surname"] = "a" * 50_000 + "!"
    for check in (Validator(spec).problems, Validator(spec).partial_problems):
        assert check(document) == [Problem("child_details.surname", "wrong format")]
