"""Codes inside what systems store: recognised as a whole word at the start, never cut."""

from __future__ import annotations

from typing import Any

import pytest

from d2i_helpers.document.transforms import compile_transform
from d2i_helpers.payload_spec import build_spec, load_spec, merge, merged_text

SPEC = load_spec()
BY_LIST = {
    field.codes.name: compile_transform(field, SPEC)
    for _, field in SPEC.fields()
    if field.codes and field.transform == "code"
}
BY_NAME = {field.name: compile_transform(field, SPEC) for _, field in SPEC.fields()}
NOT_LISTED = (None, "not in code list")


@pytest.mark.parametrize(
    ("code_list", "raw", "sent"),
    [
        ("referral_source", "1A", "1A"),
        ("referral_source", "1A - Individual", "1A"),
        ("referral_source", "  1a: individual", "1A"),
        ("referral_source", "1A\tIndividual", "1A"),
        ("referral_source", "1A\r\n", "1A"),
        ("referral_source", "1A Individual", "1A"),
        ("referral_source", "(", None),
        ("referral_source", "10", "10"),
        ("referral_source", "10 - Unknown", "10"),
        ("referral_source", 10, "10"),
        ("referral_source", 10.0, "10"),
        ("referral_source", "4 - Housing", "4"),
        ("placement_start_reason", "  S - Started to be looked after", "S"),
        ("placement_start_reason", "s", "S"),
        ("placement_end_reason", "E11", "E11"),
        ("placement_end_reason", " E11 Adopted", "E11"),
        ("placement_end_reason", "E4A-Returned home", "E4A"),
        ("placement_type", "Z11", "Z11"),
        ("placement_type", "k3", "K3"),
        ("placement_type", "H5", "H5"),
        ("ethnicity", "MWBa", "MWBA"),
        ("ethnicity", "CNHE", "CHNE"),
        ("ethnicity", "WBRI White British", "WBRI"),
        ("ethnicity", "wbri", "WBRI"),
        ("care_leaver_accommodation", "B1", "B"),  # the 903 form with suitability
        ("care_leaver_accommodation", "Z - With former foster carer", "Z"),
        ("placement_change_reason", "custod", "CUSTOD"),
        ("placement_change_reason", "CLOSE - Resignation", "CLOSE"),
        ("closure_reason", "RC8 Closed after assessment", "RC8"),
        ("sex", "m", "M"),
        ("sex", "F - Female", "F"),
    ],
)
def test_a_code_is_recognised(code_list: str, raw: Any, sent: str | None) -> None:
    expected = (sent, None) if sent else NOT_LISTED
    assert BY_LIST[code_list](raw, None) == expected


@pytest.mark.parametrize(
    ("code_list", "raw", "problem"),
    [
        ("referral_source", "1", "not in code list"),  # never the start of 10
        ("referral_source", "2F", "not in code list"),
        ("referral_source", "45", "not in code list"),
        ("referral_source", "AA", "not in code list"),
        ("referral_source", "1A/2B", "not in code list"),
        ("referral_source", "1A, 2B", "more than one code"),
        ("referral_source", "1A 2B", "more than one code"),
        ("sex", "M F", "more than one code"),
        ("referral_source", "1Ax", "not in code list"),
        ("referral_source", "10/05/2024", "not in code list"),
        ("referral_source", "10-05-2024", "not in code list"),
        ("referral_source", 4.5, "not a whole number"),
        ("placement_end_reason", "E1", "not in code list"),
        ("placement_end_reason", "E11A", "not in code list"),
        ("placement_end_reason", "Adopted E11", "not in code list"),
        ("placement_type", "H5a", "retired code"),
        ("placement_type", "H5a - semi-independent", "retired code"),
        ("placement_type", "Z1x", "not in code list"),
        ("placement_type", "DQ", "not in code list"),
        ("care_leaver_activity", "F3", "retired code"),
        ("care_leaver_activity", 0, "retired code"),
        ("care_leaver_accommodation", "B&B", "not in code list"),
        ("care_leaver_accommodation", "B & B", "not in code list"),
        ("care_leaver_accommodation", "B and B", "not in code list"),
        ("care_leaver_accommodation", "Bed and breakfast", "not in code list"),
        ("care_leaver_accommodation", "A", "not in code list"),
        ("placement_change_reason", "Close relative took over", "not in code list"),
        ("placement_change_reason", "child's wish", "not in code list"),
        ("ethnicity", "Both parents", "not in code list"),
        ("ethnicity", "ORAB", "not in code list"),
        ("ethnicity", "??", "placeholder"),
        ("ethnicity", "WBR", "not in code list"),
        ("sex", "Male", "not in code list"),
        ("sex", "X", "not in code list"),
        ("sex", ["M"], "wrong type"),
        ("sex", True, "not in code list"),
    ],
)
def test_a_code_is_never_made_up(code_list: str, raw: Any, problem: str) -> None:
    assert BY_LIST[code_list](raw, None) == (None, problem)


@pytest.mark.parametrize("raw", [None, "", "  ", "\t", float("nan")])
def test_nothing_stored_is_no_problem(raw: Any) -> None:
    assert all(transform(raw, None) == (None, None) for transform in BY_LIST.values())


def test_an_answer_does_not_depend_on_what_was_asked_before() -> None:
    transform = BY_LIST["referral_source"]
    assert [transform(raw, None)[0] for raw in (1, True, 1.0, "1", "1A", 10)] == [
        None, None, None, None, "1A", "10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        ("MOB", ["MOB"], None),
        (("VIS", "mob ", "VIS"), ["MOB", "VIS"], None),
        ("VISION", None, "not in code list"),  # never VIS
        (("VISION", "MOB"), ["MOB"], "not in code list"),
        (("NONE", "MOB"), ["MOB"], "not allowed beside other codes"),
        ("NONE", ["NONE"], None),
        ("MOB, HAND", ["HAND", "MOB"], None),
        ("LD - learning", ["LD"], None),
        ((None, ""), None, None),
        ((), None, None),
    ],
)
def test_disabilities(raw: Any, sent: Any, problem: str | None) -> None:
    assert BY_NAME["disabilities"](raw, None) == (sent, problem)


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        ('["1A","2B"]', ["1A", "2B"], None),
        ('["2B","1A"]', ["1A", "2B"], None),
        ('["1A","1A"]', ["1A"], None),
        ('[null,null,"1A",null]', ["1A"], None),  # Eclipse
        ('{"1A":"Yes","2B":"No","3C":null}', ["1A"], None),  # the former shape
        ('{"1A":true}', ["1A"], None),
        ('[{"1A":"Y"},{"2B":"N"}]', ["1A"], None),
        ('["1A - Alcohol misuse"," 4b "]', ["1A", "4B"], None),
        ("[20]", ["20"], None),
        ('["18A","1A"]', ["1A"], "retired code"),
        ('["19A"]', None, "retired code"),
        ('["99Z","1A"]', ["1A"], "not in code list"),
        ('["21","1A"]', ["1A"], "not allowed beside other codes"),
        ('["21"]', ["21"], None),
        ('["1A","2B', None, "malformed JSON"),  # cut by a short column
        ("{'1A':'Yes'}", None, "malformed JSON"),
        ("[", None, "malformed JSON"),
        ("[" * 5000, None, "malformed JSON"),
        ("[]", None, None),
        ("{}", None, None),
        ("null", None, None),
        ("NULL", None, None),
        ("", None, None),
        (None, None, None),
        ("1A, 2B", ["1A", "2B"], None),
        ("1A 2B", ["1A", "2B"], None),
        ("1A 2B; 4b 18A", ["1A", "2B", "4B"], "retired code"),
        ("1A 1A", ["1A"], None),
        ("1A, 18A", ["1A"], "retired code"),
        ("18A, 1A", ["1A"], "retired code"),
        ("1A, 2B, 99Z", None, "more than one code"),  # one value, and no code
        ("1A", ["1A"], None),
        (["1A", None], ["1A"], None),  # a driver that reads JSON itself
        (('["1A"]', '["2B"]'), ["1A", "2B"], None),  # two rows of one assessment
        (('["1A"', '["2B"]'), ["2B"], "malformed JSON"),  # one bad row spoils no other
        (b"\xff", None, "not readable text"),
    ],
)
def test_factors(raw: Any, sent: Any, problem: str | None) -> None:
    assert BY_NAME["factors"](raw, None) == (sent, problem)


def test_all_factors_but_the_one_that_stands_alone_fit() -> None:
    every = list(SPEC.code_lists["assessment_factor"].codes)
    sent, problem = BY_NAME["factors"](every, None)
    assert len(every) == 42
    assert sent == sorted(set(every) - {"21"})
    assert problem == "not allowed beside other codes"


def overlaid(field: dict) -> Any:
    """The transform of referral_source with an overlay of that field."""

    over = {"blocks": {"social_care_episodes": {"fields": {"referral_source": field}}}}
    spec = build_spec(merge(merged_text(), over))
    return next(compile_transform(f, spec) for _, f in spec.fields() if f.name == "referral_source")


def test_local_codes_are_honoured_first() -> None:
    transform = overlaid({"code_map": {"SCH": "2A", "6": "7", "Police station": "6", "ZZ": ""}})
    assert transform("sch", None) == ("2A", None)
    assert transform("SCH - School", None) == ("2A", None)
    assert transform("6", None) == ("7", None)  # theirs, not the DfE's
    assert transform(" police  station ", None) == ("6", None)
    assert transform("ZZ", None) == (None, None)  # left out without a word
    assert transform("1A", None) == ("1A", None)
    assert transform("YY", None) == NOT_LISTED
