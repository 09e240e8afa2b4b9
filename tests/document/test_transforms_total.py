"""No transform raises for any value, and none yields what the specification does not allow."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from d2i_helpers.document.transforms import compile_transform
from d2i_helpers.document.validation import Validator
from d2i_helpers.payload_spec import Field, load_spec

SPEC = load_spec()
FIELDS = [field for _, field in SPEC.fields()]
TRANSFORMS = {field.path: compile_transform(field, SPEC) for field in FIELDS}
CODES = sorted({code for codes in SPEC.code_lists.values() for code in codes.codes})
VALIDATOR = Validator(SPEC)
RULE = re.compile(r"[A-Za-z0-9 ]{3,40}")

# Text as it goes wrong: codes with something before, after or in them, dates, JSON, any text.
words = st.sampled_from(
    [*CODES, "UN10", "H5a", "18A", "VISION", "B&B", "SSD_PH", "AB12 3DE", "A123456789012", "null"]
)
marks = st.sampled_from(["", " ", "\t", " - ", ":", "/", ", ", "&", "x", "1", "\x00", "\ufeff"])
spoilt = st.tuples(marks, words, marks, st.one_of(words, st.text(max_size=10))).map("".join)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), words, st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(words, marks), inner, max_size=4)
    ),
    max_leaves=8,
)
json_text = json_values.map(json.dumps)
cut_json = st.tuples(json_text, st.integers(0, 30)).map(lambda p: p[0][: p[1]])
days = st.one_of(st.dates(), st.datetimes(), st.datetimes(timezones=st.just(dt.UTC)))
anything = st.one_of(
    spoilt, words, st.text(max_size=40), st.none(), st.booleans(), st.integers(), st.floats(),
    st.decimals(), st.binary(max_size=20), st.binary(max_size=8).map(memoryview), days,
    days.map(str), json_values, json_text, cut_json, st.timedeltas(), st.times(),
    st.uuids(), st.text(alphabet=st.characters(categories=["Cs", "Cc", "Nd", "Zs"]), max_size=20),
    st.just(object()), st.tuples(spoilt, st.none()),
    st.sampled_from([10**400, Decimal("1E+99999"), Decimal("sNaN"), Decimal("-0")]),
    st.sampled_from(["x" * 5000, "[" * 3000, "9" * 5000, b"\xff" * 50, uuid.UUID(int=0), {1: 2}]),
)  # fmt: skip


def holds(field: Field, value: Any) -> bool:
    """Whether a value is what the field may hold; written apart from the code under test."""
    if field.type == "codes":
        return (
            type(value) is list
            and value == sorted(set(value))
            and set(value) <= set(field.codes.codes)
            and 0 < len(value) <= field.max_items
        )
    if field.type == "boolean":
        return type(value) is bool
    if field.type == "integer":
        return type(value) is int and field.minimum <= value <= field.maximum
    if type(value) is not str or value != value.strip() or not value:
        return False
    if field.type == "date":
        return dt.date.fromisoformat(value).isoformat() == value
    if field.codes:
        return value in field.codes.codes
    value.encode("utf-8")
    fits = len(value) <= field.max_length
    return fits and (field.pattern is None or bool(re.fullmatch(field.pattern, value)))


@given(st.sampled_from(FIELDS), anything, anything)
def test_no_transform_raises_or_makes_anything_up(field: Field, value: Any, other: Any) -> None:
    sent, problem = TRANSFORMS[field.path](value, lambda column: other)
    assert sent is None or holds(field, sent)
    assert problem is None or RULE.fullmatch(problem)


@given(st.sampled_from([f for f in FIELDS if f.transform == "code"]), st.text(max_size=12))
def test_a_code_that_is_sent_was_written_as_a_whole_word(field: Field, text: str) -> None:
    sent, _ = TRANSFORMS[field.path](text, None)
    if sent is None:
        return
    first = re.match(r"[0-9A-Za-z]+", re.sub(r"^[\s\x00\ufeff\u200b]+", "", text))
    assert first is not None
    word = first.group().upper()
    assert word == sent.upper() or field.codes.aliases.get(word) == sent


@given(st.sampled_from(FIELDS), anything)
def test_the_schema_takes_what_a_transform_gives(field: Field, value: Any) -> None:
    sent, _ = TRANSFORMS[field.path](value, lambda column: None)
    if sent is None:
        return
    document = {"la_child_id": "1", "child_details": {}}
    held: Any = document
    *steps, last = field.path.split(".")
    for step in steps:
        if step.endswith("[]"):
            keys = [f.name for b, f in SPEC.fields() if b.path.endswith(step) and f.mandatory]
            held[step[:-2]] = [dict.fromkeys(keys, "1")]
            held = held[step[:-2]][0]
        else:
            held = held.setdefault(step, {})
    held[last] = sent
    assert VALIDATOR.problems(document) == []


@given(st.sampled_from(FIELDS), anything)
def test_asking_twice_gives_the_same(field: Field, value: Any) -> None:
    transform = TRANSFORMS[field.path]
    assert transform(value, lambda column: None) == transform(value, lambda column: None)
