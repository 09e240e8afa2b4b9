"""What answers mean: cases of every row, of receipts and of errors that name records."""

from __future__ import annotations

import json

import pytest

from d2i_helpers.errors import SettingsError
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import load_settings
from d2i_helpers.settings.receipts import receipt_pattern
from d2i_helpers.submit.outcomes import Kind, references, verdict
from d2i_helpers.submit.refusals import _PATH_KEYS, _TEXT_KEYS, named_records
from d2i_helpers.submit.transport import Answer

RECEIPT = "2026-08-10_02:15:07.31_0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70.json"
SEVEN_DIGITS = "2026-08-10_02:15:07.3100000_0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70.json"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (102, Kind.NO_ANSWER),
        (204, Kind.EMPTY),
        (301, Kind.ELSEWHERE),
        (303, Kind.ELSEWHERE),
        (400, Kind.UNNAMED),
        (401, Kind.UNAUTHORISED),
        (403, Kind.BLOCKED),
        (404, Kind.FATAL),
        (405, Kind.FATAL),
        (407, Kind.FATAL),
        (408, Kind.NO_ANSWER),
        (413, Kind.TOO_LARGE),
        (415, Kind.FATAL),
        (422, Kind.UNNAMED),
        (429, Kind.BUSY),
        (500, Kind.CRASHED),
        (502, Kind.NO_ANSWER),
        (503, Kind.NO_ANSWER),
        (504, Kind.NO_ANSWER),
    ],
)
def test_each_status_has_its_row(status, kind):
    assert verdict(Answer(status), 3).kind is kind


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_success_with_all_receipts_is_an_acknowledgement(status):
    found = verdict(Answer(status, json.dumps([RECEIPT, SEVEN_DIGITS]).encode()), 2)
    assert found.kind is Kind.ACCEPTED
    assert found.references == (RECEIPT, SEVEN_DIGITS)


def test_a_success_whose_body_broke_off_is_unknown():
    cut = Answer(200, json.dumps([RECEIPT]).encode(), problem="the answer broke off")
    assert verdict(cut, 1).kind is Kind.UNREADABLE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"stored": 2}',
        b'["a"]',
        b'["a","b","c"]',
        b'["a", 7]',
        b"[7, 8]",
        b'[{"id": 7}, null]',
        b'["a", ""]',
        b'["stored", "not stored, try again"]',
        b'["rejected", "rejected"]',
        b'["ref-1", "ref-2"]',
        b'"accepted accepted"',
        b'"accepted\\naccepted"',
        f'{{"0": "{RECEIPT}", "1": "{RECEIPT}"}}'.encode(),
        f'["{RECEIPT[:20]}", "{RECEIPT[20:]}"]'.encode(),
        b"<html>\n</html>",
        b"first line of a page\nsecond line of it",
        RECEIPT.encode(),
        f"{RECEIPT}\n{RECEIPT[:30]}".encode(),
        b"\xff\xfe\n\x00",
    ],
)
def test_what_is_not_one_receipt_a_record_is_not_read_as_receipts(body):
    assert references(body, 2) is None
    found = verdict(Answer(200, body), 2)
    assert found.kind is Kind.UNREADABLE
    assert "receipt" in found.detail


@pytest.mark.parametrize("other", ['"rejected"', "null", "7", '{"error": "no"}', f'"x{RECEIPT}"'])
def test_a_word_beside_receipts_is_no_receipt(other):
    body = f'["{RECEIPT}", {other}, "{SEVEN_DIGITS}"]'.encode()
    assert references(body, 3) == (RECEIPT, None, SEVEN_DIGITS)
    found = verdict(Answer(200, body), 3)
    assert found.kind is Kind.PARTLY
    assert "it may be stored or not" in found.detail


LIST = json.dumps([RECEIPT, SEVEN_DIGITS])


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + LIST.encode(),
        b"\xef\xbb\xbf\xef\xbb\xbf" + LIST.encode(),
        LIST.encode("utf-16"),
        LIST.encode("utf-16-be"),
        LIST.encode("utf-16-le"),
        LIST.encode("utf-32"),
        json.dumps(LIST).encode(),
        json.dumps(json.dumps("\ufeff" + LIST)).encode(),
        b"\xef\xbb\xbf" + f"{RECEIPT}\r\n{SEVEN_DIGITS}\r\n".encode(),
        f"{RECEIPT}\n{SEVEN_DIGITS}".encode("utf-16"),
        f"  {LIST} \r\n\0".encode(),
    ],
)
def test_receipts_that_are_readable_are_read(body):
    assert references(body, 2) == (RECEIPT, SEVEN_DIGITS)
    assert verdict(Answer(200, body), 2).kind is Kind.ACCEPTED


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 5_000, b"1" * 100_000, b'"\\ud800"'])
@pytest.mark.parametrize("status", [200, 400])
def test_a_monstrous_answer_is_only_one_that_cannot_be_read(body, status):
    assert verdict(Answer(status, body), 2).kind in (Kind.UNREADABLE, Kind.UNNAMED)


# ------------------------------------------------------- a receiver with receipts of another shape
@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("{date}_{time}_{id}.json", RECEIPT, RECEIPT.replace(".json", "")),
        ("DFE-{number}", "DFE-0012", "DFE-12b"),
        ("{id}", "0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70", "rejected"),
        ("a.b/{number}+", "a.b/7+", "axb/7+"),
    ],
)
def test_another_form_of_receipts_can_be_given(form, good, bad):
    pattern = receipt_pattern(form)
    assert references(json.dumps([good, good]).encode(), 2, pattern) == (good, good)
    assert references(json.dumps([bad, bad]).encode(), 2, pattern) is None


@pytest.mark.parametrize(
    "form",
    [
        "",
        "{date}",
        "receipt",
        "{word}",
        "{id}{number}",
        "{id}-{id}",
        "{id",
        "{}",
        "x" * 81 + "{id}",
    ],
)
def test_a_form_that_would_match_anything_is_refused(form):
    with pytest.raises(ValueError, match="receipt's form"):
        receipt_pattern(form)
    with pytest.raises(SettingsError, match="receipt_form"):
        load_settings(None, receipt_form=form)


def test_receipts_of_an_unknown_shape_name_the_parameter_that_gives_it():
    found = verdict(Answer(200, b'["job:ab", "job:ac"]'), 2)
    assert found.kind is Kind.UNREADABLE
    assert "receipt_form" in found.detail


def test_receipts_may_come_as_lines():
    text = f'"{RECEIPT}",\r\n\n{SEVEN_DIGITS}\n'
    assert references(text.encode(), 2) == (RECEIPT, SEVEN_DIGITS)


@pytest.mark.parametrize(
    ("body", "positions"),
    [
        ("$[3].social_care_episodes[0].child_and_family_assessments[1].factors[41]: invalid", {3}),
        ("Error at [3].social_care_episodes[0].referral_date, line 1, position 20", {3}),
        ("[0] missing; [12] missing", {0, 12}),
        ("$[2]['child_details']['sex'] is wrong, at most [41] allowed", {2}),
        ('{"errors": {"$[1].child_details.sex": ["not in code list"]}}', {1}),
        (r'{"message": "[4][\"child_details\"][\"sex\"] and [5] are wrong"}', {4, 5}),
        ('{"errors": [{"path": "$[7]", "rule": "required"}, {"path": "$[9]"}]}', {7, 9}),
        ("children[6].child_details.sex is required", {6}),
        ("$.records[6].child_details.sex is required", {6}),
        ("social_care_episodes[0].referral_date is missing", set()),
        ("the body is malformed", set()),
        ("[3] and [99] are wrong", set()),  # 99 is out of range: the naming cannot be relied on
        ('{"codes": [3, 4]}', set()),
        ("", set()),
    ],
)
def test_only_the_first_index_after_the_root_names_a_record(body, positions):
    assert set(named_records(body.encode(), 20)) == positions


@pytest.mark.parametrize(
    ("body", "positions"),
    [
        # the sure naming counts, what it quotes does not
        ({"propertyName": "[3].FirstName", "attemptedValue": "UNBORN [1]"}, {3}),
        ({"path": "$[3].first_name", "value": "$[1].x"}, {3}),
        ({"path": "$[3].first_name", "received": {"message": "[1]"}}, {3}),
        ({"$[3].first_name": "'[1]' is too long"}, {3}),
        ({"[3].first_name": "too long", "children[5]": "unknown"}, {3}),
        ({"field": "[3].first_name", "message": "[1]: too long"}, {3}),
        ({"memberNames": ["[3].first_name", "[4].surname"], "errorMessage": "Ann [1]"}, {3, 4}),
        ("[3].first_name: 'Ann [1]' is too long", {3}),
        ('Path: $[3].first_name, given "at $[1]"', {3}),
        # nothing is sure: the client searches
        ({"forename": "Ann [3]"}, set()),
        ({"first_name": "$[3].x"}, set()),
        ({"message": "Ann [3] is too long"}, set()),
        ({"message": "'Ann' at [3]' is too long"}, set()),
        ({"message": '"x" at [3] "y" is too long'}, set()),
        ({"message": "The value 'O'Brien [3]' is wrong"}, set()),
        ({"error": "“Ann; [3]: x” is too long"}, set()),
        ({"error": "first_name: [3] Ann"}, set()),
        ({"errors": {"first_name": ["Ann [3] is wrong"]}}, set()),
        ({"value": {"errors": [{"path": "$[3]"}]}}, set()),
        ("Ann [3]", set()),
        ("[3] Ann is too long", set()),
        ("Ann [3], [4] are too long", set()),
        ('Not valid: {"first_name": "Ann [3]", "factors": [1]}', set()),
        # and errors as they are written
        ("The JSON value is not a string. Path: $[3].first_name | LineNumber: 0.", {3}),
        ("not valid: records [3], [4] and [7]", {3, 4, 7}),
        ({"errors": ["[3] sex is required", "[5] sex is required"]}, {3, 5}),
        ({"error": json.dumps({"errors": [{"path": "$[3].sex"}]})}, set()),
    ],
)
def test_what_is_quoted_of_a_record_names_none(body, positions):
    text = body if isinstance(body, str) else json.dumps(body)
    assert set(named_records(text.encode(), 20)) == positions
    assert set(named_records(json.dumps([json.loads(json.dumps(body))]).encode(), 20)) == positions
    assert set(named_records(text.encode("utf-16"), 20)) == positions


def test_what_cannot_be_read_may_be_a_quotation_mark():
    text = "given “at [3]” is too long"
    assert set(named_records(text.encode("windows-1252"), 20)) == set()
    assert set(named_records("given at [3], which is “too” long".encode("windows-1252"), 20)) == {3}


def test_no_field_of_a_document_is_taken_for_the_key_of_a_path_or_a_message():
    spec = load_spec()
    names = {*spec.blocks, *(field.name for _, field in spec.fields())}
    assert not {name.replace("_", "") for name in names} & (_PATH_KEYS | _TEXT_KEYS)


@pytest.mark.parametrize("piece", ["“", "'", "[1]", "$[1].", "at [1] '", "[1]" + ".a" * 50])
def test_an_error_of_any_text_is_read_in_no_time(piece):
    """Two megabytes that grow squarely would take minutes; the time-out of a test is shorter."""
    named_records((piece * (2_000_000 // len(piece))).encode(), 20)


def test_the_reason_is_path_and_rule():
    body = {
        "errors": [{"path": "$[3].social_care_episodes[0].referral_date", "message": "missing"}]
    }
    assert named_records(json.dumps(body).encode(), 5) == {
        3: "social_care_episodes[0].referral_date: missing"
    }


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ("at [3] missing, at [5] too long", {3: "missing at", 5: "too long"}),
        ("surname is required at [3]", {3: "surname is required at"}),
        ("$[2]['child_details']['sex']: 'X' is wrong", {2: "child_details.sex: is wrong"}),
        (
            {"$[3].sex": {"message": "is required", "line": 3, "column": None, "fatal": True}},
            {3: "sex: is required"},
        ),
    ],
)
def test_a_reason_is_what_is_said_of_its_own_record(body, reasons):
    text = body if isinstance(body, str) else json.dumps(body)
    assert named_records(text.encode(), 20) == reasons


@pytest.mark.parametrize(
    "body",
    [
        "$[0].child_details.surname: 'O'Brien-Szymańska' is too long",
        '{"errors": {"$[0].child_details.surname": ["\\"Szymańska\\" is too long", "O\'Brien"]}}',
        "$[0].child_details.Szymańska.O_Brien is not permitted: AB1 2CD, 2014-05-06, A123456789012",
        '{"path": "$[0]", "value": {"surname": "Szymańska", "dob": "2014-05-06"}, "m": "too long"}',
        "[0]: Szymańska of AB1 2CD born 2014-05-06 with A123456789012 was refused: too long",
    ],
)
def test_no_value_gets_into_a_reason(body):
    (reason,) = named_records(body.encode(), 1).values()
    for value in ("Szyma", "Brien", "AB1", "2CD", "2014", "05", "A123456789012", "born"):
        assert value not in reason


def test_a_record_named_twice_has_both_reasons():
    body = "$[1].child_details.sex: missing\n$[1].child_details.ethnicity: not in code list"
    assert named_records(body.encode(), 2) == {
        1: "child_details.sex: missing; child_details.ethnicity: not in code list"
    }


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0 "}, 0),
        # by the server's own clock, which may be hours away from ours
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
                "date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            30,
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 1445412510 - 1445412500),
        ({"retry-after": "Wed, 21 Oct 2015 07:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_both_forms(headers, seconds):
    assert Answer(429, headers=headers).retry_after(1445412500) == seconds


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "x-correlation-id"])
def test_correlation_ids_are_kept_but_no_text(name):
    assert Answer(200, headers={name: "4711-ab"}).correlation_id == "4711-ab"
    assert Answer(200, headers={name: "Szymańska <script>"}).correlation_id is None
