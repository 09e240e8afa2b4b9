"""Each transform by hand-worked cases: a raw value, what is sent of it, and what is said."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from d2i_helpers.document.source_rows import moment_text
from d2i_helpers.document.transforms import compile_transform
from d2i_helpers.payload_spec import load_spec

SPEC = load_spec()
TRANSFORMS = {field.path: compile_transform(field, SPEC) for _, field in SPEC.fields()}
EPISODES = "social_care_episodes[]"
PLACEMENTS = f"{EPISODES}.child_looked_after_placements[]"
S47 = f"{EPISODES}.section_47_assessments[]"


def read(path: str, value: Any, **row: Any) -> tuple[Any, str | None]:
    return TRANSFORMS[path](value, row.get)


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        ("1234", "1234", None),
        (" 1234\t", "1234", None),
        ("char_padded          ", "char_padded", None),
        (1234, "1234", None),
        (1234.0, "1234", None),
        (Decimal("1234.000"), "1234", None),
        (Decimal("1E+3"), "1000", None),
        ("001", "001", None),
        (b"ab-1", "ab-1", None),
        (None, None, None),
        ("", None, None),
        ("   ", None, None),
        (float("nan"), None, None),
        ("12 34", None, "wrong characters"),
        ("12/34", None, "wrong characters"),
        ("1234\n5", None, "wrong characters"),
        ("é1", None, "wrong characters"),
        ("١٢٣", None, "wrong characters"),
        (12.5, None, "not a whole number"),
        (1e300, None, "not a whole number"),
        ("x" * 20, "x" * 20, None),
        ("x" * 21, None, "too long"),
        (10**25, None, "too long"),
        ("SSD_PH", None, "placeholder"),
        ("unknown", None, "placeholder"),
        (b"\xff\xfe", None, "not readable text"),
        ({"a": 1}, None, "wrong type"),
        (True, "true", None),
    ],
)
def test_ids_are_trimmed_and_refused_never_cut(raw: Any, sent: Any, problem: str | None) -> None:
    assert read("la_child_id", raw) == (sent, problem)


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|aa)+", "(a|a)*", "(a*)*b", "(([a-z])+.)+[A-Z]"])
@pytest.mark.parametrize("path", ["la_child_id", "child_details.surname"])
def test_a_pattern_needs_no_more_time_for_a_value_that_nearly_fits(path: str, pattern: str) -> None:
    """An engine that tries all ways to divide the letters would never end here."""
    (field,) = [field for _, field in SPEC.fields() if field.path == path]
    changed = replace(field, pattern=pattern, max_length=100_000)
    transform = compile_transform(changed, SPEC)
    assert transform("a" * 50_000 + "!") == (None, "wrong characters")


def test_a_pattern_is_for_the_whole_value() -> None:
    (field,) = [field for _, field in SPEC.fields() if field.path == "la_child_id"]
    transform = compile_transform(replace(field, pattern="a|bc"), SPEC)
    assert [transform(text)[0] for text in ("a", "bc", "ab", "abc", "ac")] == [
        "a", "bc", None, None, None,
    ]  # fmt: skip


def test_a_database_uuid_is_an_id() -> None:
    raw = uuid.UUID("12345678-1234-1234-1234-123456789012")
    assert read(f"{EPISODES}.social_care_episode_id", raw) == (str(raw), None)


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        ("O'Brien", "O'Brien", None),
        (" Zoë-Mae ", "Zoë-Mae", None),
        ("王小明", "王小明", None),
        ("Null", "Null", None),  # somebody's real name
        ("Unknown", "Unknown", None),
        ("N/A", None, "placeholder"),
        ("??", None, "placeholder"),
        ("", None, None),
        ("Anne\tMarie", "Anne Marie", None),
        ("Anne\x07", None, "not readable text"),
        ("Anne\ud800", None, "not readable text"),
        ("a" * 128, "a" * 128, None),
        ("a" * 129, None, "too long"),
        (b"Zo\xc3\xab", "Zoë", None),
    ],
)
def test_names_are_as_stored(raw: Any, sent: Any, problem: str | None) -> None:
    assert read("child_details.first_name", raw) == (sent, problem)


DAY = "2024-05-01"


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        (dt.datetime(2024, 5, 1, 23, 59), DAY, None),
        (dt.date(2024, 5, 1), DAY, None),
        (dt.datetime(2024, 5, 1, tzinfo=dt.UTC), DAY, None),
        ("2024-05-01", DAY, None),
        ("2024-05-01T00:00:00", DAY, None),
        ("2024-05-01T09:30:00.123Z", DAY, None),
        ("2024-05-01 00:00:00.000", DAY, None),
        ("2024-05-01 00:00:00+00:00", DAY, None),
        # midnight in England by summer time, as systems write it in UTC
        (dt.datetime(2024, 4, 30, 23, tzinfo=dt.UTC), DAY, None),
        ("2024-04-30T23:00:00.000Z", DAY, None),
        ("2024-04-30 23:00:00.0000000 +00:00", DAY, None),
        ("30/04/2024 11:00 PM UTC", DAY, None),
        ("2024-05-01T01:30:00+0200", DAY, None),
        ("2024-01-30T23:00:00Z", "2024-01-30", None),
        ("2024-05-01T25:61:00Z", DAY, None),  # no time of a day; the day is one
        ("9999-12-31T23:59:59Z", None, "placeholder"),
        ("  2024-05-01 ", DAY, None),
        ("01/05/2024", DAY, None),
        ("1/5/2024", DAY, None),
        ("01/05/2024 13:45", DAY, None),
        ("01/05/2024 1:45 PM", DAY, None),
        ("01-05-2024", DAY, None),
        ("01.05.2024", DAY, None),
        ("1 May 2024", DAY, None),
        ("01-MAY-2024", DAY, None),
        ("1st May 2024", DAY, None),
        ("May  1 2024 12:00AM", DAY, None),  # as SQL Server turns a date into text
        ("May  1 2024 11:59PM", DAY, None),
        ("May  1 2024 12:00:00:000AM", DAY, None),
        ("Dec 31 2023 12:00AM", "2023-12-31", None),
        ("May 1, 2024", DAY, None),
        ("May 32 2024 12:00AM", None, "not a date"),
        ("Mai  1 2024 12:00AM", None, "not a date"),
        ("Ju   1 2024 12:00AM", None, "not a date"),
        ("Jan  1 1900 12:00AM", None, "placeholder"),
        ("May  1 2024 or so", None, "not a date"),
        ("May  1 24 12:00AM", None, "not a date"),
        ("20240501", DAY, None),
        (20240501, DAY, None),
        (b"2024-05-01", DAY, None),
        ("29/02/2024", "2024-02-29", None),
        ("29/02/2023", None, "not a date"),
        ("2024-02-30", None, "not a date"),
        ("05/13/2024", None, "not a date"),  # never read month first
        ("01/05/24", None, "not a date"),  # which century?
        ("01/05-2024", None, "not a date"),
        ("2024-05-01 or so", None, "not a date"),
        ("soon", None, "not a date"),
        (45413, None, "not a date"),  # a spreadsheet's day number
        (True, None, "not a date"),
        ({"a": 1}, None, "not a date"),
        (None, None, None),
        ("", None, None),
        (dt.datetime(1900, 1, 1), None, "placeholder"),
        ("1900-01-01", None, "placeholder"),
        (dt.date(9999, 12, 31), None, "placeholder"),
        (dt.date(2999, 1, 1), None, "placeholder"),
        (dt.date(1753, 1, 1), None, "placeholder"),
        ("0001-01-01 00:00:00", None, "placeholder"),
        ("infinity", None, "placeholder"),
        (dt.date(1753, 1, 2), None, "date out of range"),
        ("1066-10-14", None, "date out of range"),
        (dt.date(2101, 1, 1), None, "date out of range"),
        (dt.date(1900, 1, 2), "1900-01-02", None),
        (dt.date(2099, 12, 31), "2099-12-31", None),
    ],
)
def test_dates(raw: Any, sent: Any, problem: str | None) -> None:
    assert read("child_details.date_of_birth", raw) == (sent, problem)


@pytest.mark.parametrize(
    ("end", "start", "expected"),
    [
        ("2024-05-02", "2024-05-01", ("2024-05-02", None)),
        (dt.datetime(2024, 5, 1, 8), dt.datetime(2024, 5, 1, 17), ("2024-05-01", None)),
        ("2024-04-30", "01/05/2024", (None, "before its start")),
        ("2024-04-30", None, ("2024-04-30", None)),
        ("2024-04-30", "rubbish", ("2024-04-30", None)),
        (None, "2024-05-01", (None, None)),
    ],
)
def test_a_placement_never_ends_before_it_starts(end: Any, start: Any, expected: tuple) -> None:
    row = {"clap_cla_placement_start_date": start}
    assert read(f"{PLACEMENTS}.end_date", end, **row) == expected


@pytest.mark.parametrize(
    ("raws", "sent", "problem"),
    [
        (("Y", "y", " Y ", "T", "1", "true", "YES", "True", 1, 1.0, Decimal(1), True), True, None),
        (("N", "n", "F", "0", "false", "No", 0, 0.0, Decimal("0.0"), False, b"0"), False, None),
        ((None, "", "  ", "null", float("nan")), None, None),
        (("X", "2", 2, "YN", "maybe", -1, [1], dt.date(2024, 1, 1)), None, "not yes or no"),
    ],
)
def test_flags(raws: tuple, sent: bool | None, problem: str | None) -> None:
    path = f"{EPISODES}.referral_no_further_action_flag"
    for raw in raws:
        assert read(path, raw) == (sent, problem), raw
        value = read(path, raw)[0]
        assert value is None or type(value) is bool


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        (0, 0, None), (40, 40, None), ("17", 17, None), (" 17 ", 17, None), (17.0, 17, None),
        ("17.0", 17, None), (Decimal("17"), 17, None), (41, None, "out of range"),
        ("-1", None, "out of range"), ("17.5", None, "not a whole number"),
        ("high", None, "not a whole number"), ("17 of 40", None, "not a whole number"),
        ("9" * 500, None, "not a whole number"), ("١٧", None, "not a whole number"),
        (True, None, "not a whole number"), ("", None, None), (None, None, None),
    ],
)  # fmt: skip
def test_scores(raw: Any, sent: Any, problem: str | None) -> None:
    assert read("health_and_wellbeing.sdq_assessments[].score", raw) == (sent, problem)


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        ("AB12 3DE", "AB12 3DE", None), ("ab123de", "AB12 3DE", None),
        ("  AB12   3DE ", "AB12 3DE", None), ("AB1 23DE", "AB12 3DE", None),
        ("W1A 1AA", "W1A 1AA", None), ("EC1A1BB", "EC1A 1BB", None), ("M11AE", "M1 1AE", None),
        ("ZZ99 3VZ", "ZZ99 3VZ", None), ("", None, None), ("   ", None, None),
        ("AB12", None, "not a postcode"), ("AB12-3DE", None, "not a postcode"),
        ("Flat 2, AB12 3DE", None, "not a postcode"), ("12345", None, "not a postcode"),
        ("??", None, "placeholder"), (12345, None, "not a postcode"),
    ],
)  # fmt: skip
def test_postcodes(raw: Any, sent: Any, problem: str | None) -> None:
    assert read("child_details.postcode", raw) == (sent, problem)
    assert read(f"{PLACEMENTS}.postcode", raw) == (sent, problem)


UPN = "A123456789012"


@pytest.mark.parametrize(
    ("path", "raw", "limits", "problem"),
    [
        ("child_details.postcode", "AB12 3DE", {"max_length": 7}, "too long"),
        ("child_details.postcode", "AB12 3DE", {"pattern": "M.*"}, "not a postcode"),
        ("child_details.unique_pupil_number", UPN, {"max_length": 12}, "too long"),
        ("child_details.unique_pupil_number", UPN, {"pattern": "B.*"}, "not a UPN"),
    ],
)
def test_limits_hold_whatever_the_transform(
    path: str, raw: str, limits: dict[str, Any], problem: str
) -> None:
    _, field = next((b, f) for b, f in SPEC.fields() if f.path == path)
    assert compile_transform(field, SPEC)(raw, None) == (raw, None)
    assert compile_transform(replace(field, **limits), SPEC)(raw, None) == (None, problem)


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        (UPN, UPN, None),
        (" a12345678901b ", "A12345678901B", None),
        ("A12345678901", None, "not a UPN"),
        ("A1234567890123", None, "too long"),
        ("1234567890123", None, "not a UPN"),
        (1234567890123, None, "not a UPN"),
        ("A1234 6789012", None, "not a UPN"),
        ("UN1", None, "UN code in the UPN column"),
        (" un10 ", None, "UN code in the UPN column"),
        ("UN2 - never attended", None, "UN code in the UPN column"),
        ("SSD_PH", None, "placeholder"),
        ("", None, None),
        (None, None, None),
    ],
)
def test_upns(raw: Any, sent: Any, problem: str | None) -> None:
    assert read("child_details.unique_pupil_number", raw) == (sent, problem)
    assert read("child_details.former_unique_pupil_number", raw) == (sent, problem)


@pytest.mark.parametrize(
    ("reason", "upn", "expected"),
    [
        ("UN3", None, ("UN3", None)),
        ("UN10", None, ("UN10", None)),  # four characters: never UN1
        (" un4 - newly in care", "", ("UN4", None)),
        (None, "UN10", ("UN10", None)),
        ("", " un2", ("UN2", None)),
        ("UN3", "UN4", ("UN3", None)),  # its own column first
        ("rubbish", "UN4", ("UN4", None)),
        ("UN3", UPN, (None, None)),  # no reason beside a number
        ("UN3", "not a number", ("UN3", None)),
        ("UN11", None, (None, "not in code list")),
        ("UN100", None, (None, "not in code list")),
        (UPN, None, (None, "UPN in the reason column")),
        (UPN, UPN, (None, None)),
        (None, None, (None, None)),
        (None, "rubbish", (None, None)),  # the number's own field reports it
    ],
)
def test_the_reason_for_no_upn(reason: Any, upn: Any, expected: tuple) -> None:
    path = "child_details.unique_pupil_number_unknown_reason"
    assert read(path, reason, pers_upn=upn) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("U", (True, None)), ("UASC", (True, None)), ("", (None, None)), (None, (None, None))],
)
def test_a_row_that_counts_sets_the_uasc_flag(raw: Any, expected: tuple) -> None:
    assert read("child_details.uasc_flag", raw) == expected


@pytest.mark.parametrize(
    ("raw", "sent", "problem"),
    [
        ('{"CP_CONFERENCE_FLAG": "Y"}', True, None),  # SystemC, with a blank after the colon
        ('{"CP_CONFERENCE_FLAG":"N"}', False, None),
        ('{"OUTCOME_CP_CONFERENCE_FLAG": "T"}', True, None),  # Eclipse
        ('{"cp_conference_flag": true}', True, None),
        ('{"CP_CONFERENCE_FLAG": 0}', False, None),
        ('{"CP_CONFERENCE_FLAG": null}', None, None),
        ('{"CP_CONFERENCE_FLAG": ""}', None, None),
        ('{"CP_CONFERENCE_FLAG": "perhaps"}', None, "not yes or no"),
        ('{"OUTCOME_NFA_FLAG": "Y"}', None, None),
        ('[{"CP_CONFERENCE_FLAG": "Y"}]', True, None),
        ('["Y"]', True, None),
        ("[true]", True, None),
        ("[0]", False, None),
        ("[null]", None, None),
        ("[2.5]", None, "not yes or no"),
        ('[[[["Y"]]]]', None, "malformed JSON"),
        ({"CP_CONFERENCE_FLAG": "Y"}, True, None),  # a driver that reads JSON itself
        ('{"CP_CONFERENCE_FLAG": "Y"', None, "malformed JSON"),
        ("[", None, "malformed JSON"),
        ("Initial Child Protection Conference", True, None),  # Mosaic: words
        ("Strategy Discussion, Convene CP Conference / threshold met", True, None),
        ("No further action", False, None),
        ("No initial child protection conference", False, None),
        ("ICPC not required, conference not required", None, "unclear sentence"),
        ("Initial Child Protection Conference, No further action", None, "unclear sentence"),
        ("Review child protection conference", None, "not yes or no"),
        ("Single assessment", None, "not yes or no"),
        ("Y", True, None),
        ("", None, None),
        (None, None, None),
        (b"\xff", None, "not readable text"),
    ],
)
def test_the_conference_flag(raw: Any, sent: Any, problem: str | None) -> None:
    assert read(f"{S47}.icpc_required_flag", raw) == (sent, problem)


# ------------------------------------------------------------------------- which row comes first
@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-03-05", "2026-03-05 00:00:01"),
        ("2026-03-05T09:15:00", "2026-03-05T16:40:00"),
        ("2026-03-05 09:15:00.25", "2026-03-05 09:15:00.3"),
        ("05/03/2026 9:15", "05/03/2026 10:05"),
        ("Mar  5 2026 12:30AM", "Mar  5 2026  9:15AM"),
        ("Mar  5 2026 11:59AM", "Mar  5 2026 12:01PM"),
        ("Mar  5 2026 12:01PM", "Mar  5 2026  1:00PM"),
        ("2026-03-05 23:59:59.999", "2026-03-06"),
        ("2026-03-05 09:15", dt.datetime(2026, 3, 5, 9, 15, 0, 1)),
        (dt.date(2026, 3, 5), dt.datetime(2026, 3, 5, 9, 15)),
        (dt.datetime(2026, 7, 1, 9, tzinfo=dt.UTC), dt.datetime(2026, 7, 1, 10, 30)),
        ("2026-07-01 09:30", "2026-07-01T09:00:00Z"),
    ],
)
def test_the_time_of_the_day_decides_which_row_is_later(earlier: Any, later: Any) -> None:
    first, second = moment_text(earlier), moment_text(later)
    assert first is not None and second is not None and first < second


@pytest.mark.parametrize("midnight", [dt.datetime(2026, 3, 5), "2026-03-05 00:00:00.000000"])
def test_a_plain_day_is_its_midnight(midnight: Any) -> None:
    assert moment_text(midnight) == moment_text(dt.date(2026, 3, 5)) == moment_text("2026-03-05")


@pytest.mark.parametrize("raw", [None, "", "soon", "2026-03-45 09:15", "9999-12-31 00:00", {}])
def test_what_is_no_day_is_no_moment(raw: Any) -> None:
    assert moment_text(raw) is None
