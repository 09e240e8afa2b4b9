"""The redactor: what it must find however it is written, and what it must leave alone."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from d2i_helpers.privacy import redaction
from d2i_helpers.privacy.redaction import REDACTED, Redactor, normal

TODAY = dt.date(2026, 8, 10)
IDENTIFIERS = [
    "84210377", "P-00123", "4411", "Zoë", "O'Brien", "van der Berg", "李", "Grace", "Page",
    "Grace Page", "Page Grace", "Jo", "AB12 3DE", "A123456789012", "2012-05-03", "2026-08-09",
    "12", "May", "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}",
]  # fmt: skip


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(IDENTIFIERS, ["hunter2/ü&x", "pw1"], today=TODAY)


@pytest.mark.parametrize(
    "text",
    [
        "child 84210377 failed",
        "'84210377',",
        "p-00123 and",
        "P00123",
        "zoe came",
        "ZOË",
        "Zoe\u0308",
        "Zo\\u00eb",
        'x\\nZoë"',
        "x\\nO'Brien",
        "O’Brien",
        "o brien",
        "OBRIEN",
        "O&#39;Brien",
        "O&#x27;Brien",
        "O\\u0027Brien",
        "Van  der\nBerg",
        "\x1b[31mZoe\x1b[0m",
        "\\u001b[31mZoe\\u001b[0m",
        "surname 李,",
        "Grace PAGE",
        "Page, Grace",
        "AB12 3DE",
        "ab123de",
        "a123456789012",
        "A123 4567 89012",
        "A 1234567 89 012",
        "A123-4567-8901-2",
        "AB12%203DE",
        "AB12\n3DE",
        "O%27Brien",
        "Zo%C3%AB",
        "Zo\\xc3\\xab",
        "Zo&#235;",
        "Zo&#xEB;",
        "Zo&euml;",
        "AB12\\xa03DE",
        "Grace\\u2009Page",
        "2012-05-03",
        "2012-05-03T00:00:00",
        "03/05/2012",
        "3/5/2012",
        "20120503",
        "2012/05/03",
        "03-05-2012",
        "3.5.2012",
        "3 May 2012",
        "3rd May 2012",
        "03-May-2012",
        "May 3, 2012",
        "datetime.date(2012, 5, 3)",
        "datetime.datetime(2012, 5, 3, 0, 0)",
        "person_id=4411",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "hunter2/ü&x",
        "key=hunter2%2F%C3%BC%26x;",
        "hunter2/ü&amp;x",
        "hunter2/\\u00fc&x",
        "a pw1 b",
    ],
)
def test_an_identity_is_found_however_it_is_written(redactor: Redactor, text: str) -> None:
    clean, hits = redactor.redact(f"before {text} after")
    assert hits == 1
    assert REDACTED in clean
    assert clean.startswith("before ") and clean.endswith(" after")
    assert redactor.find(clean) == 0


@pytest.mark.parametrize("name", ["Zoë", "Zo\\u00eb", "Zo&#235;"])
@pytest.mark.parametrize(
    "blank",
    [
        "\\xa0", "\\u00a0", "\\x0b", "\\x85", "\\u2028", "\\x1f", "\\xad", "\\ufeff", "\\\\u3000",
        "%C2%A0", "\\xc2\\xa0", "\\xe2\\x80\\x8b", "&#160;", "&nbsp;",
    ],
)  # fmt: skip
def test_a_blank_or_control_that_is_written_as_an_escape_ends_a_word(
    redactor: Redactor, name: str, blank: str
) -> None:
    clean, hits = redactor.redact(f"x{blank}{name}{blank}x")
    assert (clean, hits) == (f"x{blank}{REDACTED}{blank}x", 1)


@pytest.mark.parametrize(
    "text",
    [
        "12 of 4411 children, page 12",  # counts that happen to be ids
        "a run of 2026-08-09, sent on 09/08/2026",  # a day of which a record speaks
        "0.84210377 s",  # a fraction
        "2026-08-10T21:43:05.84210377",
        "may contain a page, by the grace of the key",  # plain words that are names
        "Jon, Zoes, OBrienX, xAB123DE",  # not the whole word
        "8421037 and 842103777",
        "A123 4567 89013 and A123 4567 8901",
        "4 May 2012, 03.05.2013, 2012-05/03, 2012.5",
        "100%25 of 3%20of",
        '{"image/png": "aGVsbG8/Zoe/84210377+AB123DE=="}',  # a picture
        '<img src="data:image/png;base64,iVBOR/Zoe/84210377=">',
        "xpw1",
        "van der",
    ],
)
def test_what_is_no_identity_is_left_alone(redactor: Redactor, text: str) -> None:
    assert redactor.redact(text) == (text, 0)


def test_a_recent_birth_date_counts_beside_another_identity(redactor: Redactor) -> None:
    assert redactor.redact("84210377 | 2026-08-09") == (f"{REDACTED} | {REDACTED}", 2)
    assert redactor.find("84210377" + " " * 400 + "2026-08-09") == 1


def test_several_hits_are_all_taken_out_and_the_rest_stays(redactor: Redactor) -> None:
    clean, hits = redactor.redact("a Zoë b O'Brien c AB12 3DE d 84210377 e")
    assert clean == f"a {REDACTED} b {REDACTED} c {REDACTED} d {REDACTED} e"
    assert hits == 4


def test_json_is_walked_and_pictures_are_left_alone(redactor: Redactor) -> None:
    value = {
        "84210377": ["Zoë", 84210377, 7, True, None, 1.5],
        "image/png": "Zoe/84210377",
        "outputs": [{"text": ["line\nO'Brien"]}],
    }
    clean, hits = redactor.redact_json(value)
    assert hits == 4
    assert clean == {
        REDACTED: [REDACTED, REDACTED, 7, True, None, 1.5],
        "image/png": "Zoe/84210377",
        "outputs": [{"text": [f"line\n{REDACTED}"]}],
    }


def test_the_text_of_a_notebook_stays_json_after_redaction(redactor: Redactor) -> None:
    notebook = {"cells": [{"outputs": [{"text": ["Zoë\n", 'said "O\'Brien"\n', "84210377"]}]}]}
    for ascii_only in (True, False):
        clean, hits = redactor.redact(json.dumps(notebook, ensure_ascii=ascii_only, indent=1))
        assert hits == 3
        assert json.loads(clean)["cells"][0]["outputs"][0]["text"][2] == REDACTED


def test_allowed_words_are_not_hits() -> None:
    redactor = Redactor(
        ["84210377", "Sandford", "2012-05-03"],
        allowed=["outputs/Sandford/84210377", "window from 2012-05-03"],
        today=TODAY,
    )
    assert redactor.find("Sandford 84210377 2012-05-03") == 0


def test_one_pass_however_many_identifiers() -> None:
    """A hundred thousand ids: every one of a thousand planted ones is found, nothing else."""
    redactor = Redactor((f"{10_000_000 + 7 * n}" for n in range(100_000)), today=TODAY)
    text = " ".join(f"line {n} {10_000_000 + 700 * n} x{10_000_001 + 700 * n}" for n in range(1000))
    clean, hits = redactor.redact(text)
    assert hits == 1000
    assert clean.count(REDACTED) == 1000


@pytest.mark.parametrize(
    ("text", "form"),
    [("O'Brien", "OBRIEN"), ("Łukasz Ś.", "LUKASZS"), ("Straße", "STRASSE"), ("ab 12-3", "AB123"),
     ("Ðorđe", "DORDE"), ("李 小龙", "李小龙"), ("Çağ", "CAG"), ("", "")],
)  # fmt: skip
def test_normal_form(text: str, form: str) -> None:
    assert normal(text) == form


def test_no_hit_without_identifiers() -> None:
    assert Redactor([], []).redact("anything 12345678 2012-05-03") == (
        "anything 12345678 2012-05-03",
        0,
    )
    assert redaction.Redactor([""], [""]).find("a b") == 0
