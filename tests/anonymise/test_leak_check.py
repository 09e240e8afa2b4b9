"""The leak check finds what was planted and does not cry over public words."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from d2i_helpers.anonymise import fake_documents
from d2i_helpers.anonymise.leak_check import LeakCheck
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.document.canonical import to_text
from d2i_helpers.payload_spec import Document, load_spec
from d2i_helpers.privacy.identities import collector

SPEC = load_spec()
START = dt.date(2024, 4, 1)
ORIGINAL: Document = {
    "la_child_id": "P-00123",
    "mis_child_id": "88",
    "child_details": {
        "unique_pupil_number": "H801200001001",
        "first_name": "Zoë",
        "surname": "O'Brien",
        "date_of_birth": "2012-05-03",
        "postcode": "AB12 3DE",
    },
    "social_care_episodes": [
        {
            "social_care_episode_id": "REF-7",
            "care_worker_details": [{"worker_id": "SW12345"}],
        }
    ],
}
MADE = Pseudonymiser(SPEC, b"k" * 32, max_shift_days=183, window_start=START).document(
    "P-00123", ORIGINAL, collector(SPEC)(ORIGINAL)
)


def found(made: Document, original: Document = ORIGINAL, keys: tuple[str, ...] = ()) -> list[str]:
    check = LeakCheck(SPEC)
    return check.document(collector(SPEC)(original), original, made, to_text(made), keys)


def planted(plant: Callable[[Document], Any]) -> Document:
    made = copy.deepcopy(MADE)
    plant(made)
    return made


def put(value: str, name: str = "first_name") -> Document:
    return planted(lambda made: made["child_details"].update({name: value}))


def test_a_clean_document_passes() -> None:
    assert found(MADE) == []


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("P-00123", "child_id"),
        ("p00123", "child_id"),
        ("88", "child_id"),
        ("h801200001001", "upn"),
        ("Zoë", "first_name"),
        ("ZOE", "first_name"),
        ("o brien", "surname"),
        ("OBrien", "surname"),
        ("ab123de", "postcode"),
        ("2012-05-03", "birth_date"),
        ("REF 7", "item_id"),
        ("sw12345", "worker_id"),
        ("the child P-00123 was here", "child_id"),  # inside of a longer text
        ('said "Zoë"\\', None),  # too short to be looked for inside of a longer text
        ('"O\'Brien" \\', "surname"),  # escaped in JSON
    ],
)
def test_a_planted_value_is_found_in_whatever_field(value: str, rule: str | None) -> None:
    for name in ("first_name", "surname", "ethnicity", "date_of_birth"):
        assert set(found(put(value, name))) == ({rule} if rule else set())


def test_the_key_of_the_row_is_looked_for_too() -> None:
    assert found(put("ROW-99"), keys=("ROW-99",)) == ["child_id"]


def test_a_code_that_is_also_a_name_is_no_leak() -> None:
    original = copy.deepcopy(ORIGINAL)
    original["child_details"].update(first_name="Child", surname="HAND")
    made = planted(lambda made: made["child_details"].update(disabilities=["HAND"]))
    made["social_care_episodes"][0]["child_looked_after_placements"] = [{"change_reason": "CHILD"}]
    assert found(made, original) == []


def test_ids_and_persons_of_other_children_count_their_first_names_do_not() -> None:
    other = {
        "la_child_id": "Q-777",
        "child_details": {
            "first_name": "Ann",
            "surname": "Lee",
            "date_of_birth": "2010-01-01",
            "unique_pupil_number": "Z123456789012",
        },
    }
    collect = collector(SPEC)

    def coincidences(made: Document) -> int:
        check = LeakCheck(SPEC)
        for original, result in ((other, {"la_child_id": "X1"}), (ORIGINAL, made)):
            assert not check.document(collect(original), original, result, to_text(result))
        return len(check.coincidences())

    assert coincidences(MADE) == 0
    assert coincidences(put("Ann")) == 0
    assert coincidences(put("2010-01-01", "date_of_birth")) == 0
    assert coincidences(put("q 777")) == 1
    assert coincidences(put("z123456789012")) == 1
    person = planted(
        lambda made: made["child_details"].update(
            first_name="ann", surname="LEE", date_of_birth="2010-01-01"
        )
    )
    assert coincidences(person) == 1


# ------------------------------------------------------------------------------------- canaries
def marked(document: Document, number: int) -> tuple[Document, list[str]]:
    """The document with a marker of its own in every identifying field, and the markers."""
    markers: list[str] = []

    def marker(form: str) -> str:
        markers.append(form.format(n=number * 100 + len(markers)))
        return markers[-1]

    forms = {
        "child_id": "CHILD{n:08}", "item_id": "ITEM{n:010}", "worker_id": "SW{n:09}",
        "first_name": "Vornamé{n}", "surname": "O'Näme {n}", "postcode": "QX{n:07}",
        "upn": "U{n:012}",
    }  # fmt: skip
    rules = {(block.name, field.name): field.anonymise for block, field in SPEC.fields()}

    def walk(block: Any, held: Document) -> Document:
        built = {}
        for name, value in held.items():
            inner = next((b for b in (*block.values, *block.blocks) if b.name == name), None)
            rule = rules.get((block.name, name))
            if inner is not None:
                value = (
                    [walk(inner, one) for one in value]
                    if type(value) is list
                    else walk(inner, value)
                )
            elif rule in forms:
                value = marker(forms[rule])
            elif rule == "birth_date":
                markers.append(value)
            built[name] = value
        return built

    return walk(SPEC.root, document), markers


def test_no_canary_of_a_thousand_children_gets_through() -> None:
    """Unique markers in every identifying field; whole-text search, exact and in lower case."""
    pseudonyms = Pseudonymiser(SPEC, b"k" * 32, max_shift_days=183, window_start=START)
    check, collect = LeakCheck(SPEC), collector(SPEC)
    texts, canaries = [], []
    for number, document in enumerate(fake_documents.documents(SPEC, START, 1000)):
        original, markers = marked(document, number)
        identity = collect(original)
        made = pseudonyms.document(original["la_child_id"], original, identity)
        text = to_text(made)
        assert not check.document(identity, original, made, text)
        births = [one for one in markers if one[:2] in ("19", "20")]
        assert not any(born in text for born in births)
        texts.append(text)
        canaries += [one for one in markers if one not in births]
    assert check.coincidences() == frozenset()
    assert len(set(canaries)) > 10_000
    everything = "\n".join(texts).lower()
    assert not set(everything.split('"')) & {one.lower() for one in canaries}
    words = ("child0000", "item0000", "sw0000", "vorname", "vornam\u00e9", "n\u00e4me", "qx0000")
    assert not any(word in everything for word in words)


def test_a_canary_that_gets_through_is_found() -> None:
    """The same with one field passed through: the check above can fail."""
    check, collect = LeakCheck(SPEC), collector(SPEC)
    document = next(fake_documents.documents(SPEC, START, 1))
    original, _ = marked(document, 1)
    pseudonyms = Pseudonymiser(SPEC, b"k" * 32, max_shift_days=183, window_start=START)
    made = pseudonyms.document(original["la_child_id"], original, collect(original))
    plan = original["social_care_episodes"][0]["child_in_need_plans"][0]
    made["social_care_episodes"][2]["child_in_need_plans"][1] = plan
    assert "item_id" in check.document(collect(original), original, made, to_text(made))
