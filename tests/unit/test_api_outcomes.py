"""What answers mean: cases of every row, of receipts and of errors that name records."""

from __future__ import annotations

import json

import pytest

from d2i_helpers.api.outcomes import Kind, references, verdict
from d2i_helpers.api.reasons import named_records
from d2i_helpers.api.transport import Answer

RECEIPT = "2026-08-10_02:15:07.31_0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70.json"
SEVEN_DIGITS = "2026-08-10_02:15:07.3100000_0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70.json"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, Kind.EMPTY),
        (301, Kind.FATAL),
        (400, Kind.UNNAMED),
        (401, Kind.UNAUTHORISED),
        (403, Kind.BLOCKED),
        (404, Kind.FATAL),
        (405, Kind.FATAL),
        (407, Kind.FATAL),
        (408, Kind.NO_ANSWER),
        (413, Kind.TOO_LARGE),
        (415, Kind.FATAL),
        (422, Kind.FATAL),
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
        b'["a", ""]',
        b'["stored", "not stored, try again"]',
        b"<html>\n</html>",
        b"first line of a page\nsecond line of it",
        RECEIPT.encode(),
        f"{RECEIPT}\n{RECEIPT[:30]}".encode(),
        b"\xff\xfe\n\x00",
    ],
)
def test_what_is_not_one_receipt_a_record_is_not_read_as_receipts(body):
    assert references(body, 2) is None


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


def test_the_reason_is_path_and_rule():
    body = {
        "errors": [{"path": "$[3].social_care_episodes[0].referral_date", "message": "missing"}]
    }
    assert named_records(json.dumps(body).encode(), 5) == {
        3: "social_care_episodes[0].referral_date: missing"
    }


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
