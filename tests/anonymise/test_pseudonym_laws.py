"""Laws of pseudonyms, on generated documents."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from d2i_helpers.anonymise.leak_check import LeakCheck
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.document.canonical import to_text
from d2i_helpers.document.validation import Validator
from d2i_helpers.payload_spec import Document, load_spec
from d2i_helpers.privacy.identities import collector
from tests.delta.documents import documents, edited, foreign

SPEC = load_spec()
VALIDATOR = Validator(SPEC)
COLLECT = collector(SPEC)
DATES = {field.name for _, field in SPEC.fields() if field.type == "date"}
OPTIONS: dict[str, Any] = {"max_shift_days": 183, "window_start": dt.date(2024, 4, 1)}
ONE, OTHER = (Pseudonymiser(SPEC, key * 32, **OPTIONS) for key in (b"1", b"2"))


def made(pseudonyms: Pseudonymiser, document: Document) -> Document:
    return pseudonyms.document(str(document["la_child_id"]), document, COLLECT(document))


def shape(value: Any) -> Any:
    """Blocks, fields and items of a document without their values; lists as multisets."""
    if type(value) is dict:
        return tuple(sorted((name, shape(held)) for name, held in value.items()))
    if type(value) is list:
        return tuple(sorted(map(repr, map(shape, value))))
    return type(value).__name__


def dates(value: Any) -> list[int]:
    """All dates of a document as days, in ascending order."""
    found: list[int] = []
    if type(value) is dict:
        for name, held in value.items():
            if name in DATES and type(held) is str:
                found.append(dt.date.fromisoformat(held).toordinal())
            else:
                found += dates(held)
    elif type(value) is list:
        for item in value:
            found += dates(item)
    return sorted(found)


@settings(max_examples=80)
@given(documents(SPEC))
def test_pseudonyms_are_valid_keep_structure_and_intervals_and_leak_nothing(
    document: Document,
) -> None:
    result = made(ONE, document)
    assert VALIDATOR.problems(result) == VALIDATOR.problems(document) == []
    assert shape(result) == shape(document)
    before, after = dates(document), dates(result)
    steps = {b - a for a, b in zip(before, after, strict=True)}
    assert len(steps) <= 1
    assert all(1 <= abs(step) <= 183 for step in steps)
    check = LeakCheck(SPEC)
    assert check.document(COLLECT(document), document, result, to_text(result)) == []


@settings(max_examples=40)
@given(documents(SPEC))
def test_one_key_gives_one_document_and_another_key_another(document: Document) -> None:
    assert made(ONE, document) == made(ONE, document)
    mine, other = made(ONE, document), made(OTHER, document)
    assert mine["la_child_id"] != other["la_child_id"]
    assert shape(mine) == shape(other)


@settings(max_examples=40)
@given(st.data())
def test_an_edited_document_is_an_edit_of_its_pseudonym(data: st.DataObject) -> None:
    """Same child, same shape of change: what did not change stays as it was."""
    document = data.draw(documents(SPEC))
    after = data.draw(edited(SPEC, document))
    mine, new = made(ONE, document), made(ONE, after)
    assert mine["la_child_id"] == new["la_child_id"]
    if document == after:
        assert mine == new
    for name in document.keys() & after.keys():
        born = ("date_of_birth", "expected_date_of_birth")
        details = [one.get("child_details", {}) for one in (document, after)]
        if [details[0].get(b) for b in born] != [details[1].get(b) for b in born]:
            return  # another birth date may ask for another shift
        if document[name] == after[name] and dates(document) == dates(after):
            assert mine[name] == new[name]


@settings(max_examples=60)
@given(st.data())
def test_documents_of_other_software_are_rewritten_or_refused_never_passed_through(
    data: st.DataObject,
) -> None:
    from d2i_helpers.errors import SpecificationError

    document = data.draw(foreign(SPEC, data.draw(documents(SPEC))))
    try:
        result = made(ONE, document)
    except SpecificationError:
        return
    check = LeakCheck(SPEC)
    assert check.document(COLLECT(document), document, result, to_text(result)) == []
