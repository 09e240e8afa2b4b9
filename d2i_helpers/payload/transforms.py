"""Every transform that the specification names: a raw value to what may be sent, or why not.

`compile_transform` makes one function a field. It takes the raw value and `row_lookup`, a function
from a column's name to the raw value in the same row, and gives (value, problem): the value is None
where there is none that may be sent; the problem is the short name of a rule, never a value. Lists
of codes may give both: the usable codes, and the rule that another one broke. Nothing raises for
any raw value, and nothing is cut to fit.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from d2i_helpers.payload.code_transforms import CODE_MAKERS, usable_upn
from d2i_helpers.payload.codes import read_boolean
from d2i_helpers.raw import (
    CACHE_SIZE,
    EDGES,
    NOT_EXACT,
    NOT_TEXT,
    PLACEHOLDER,
    TOO_LONG,
    Result,
    RowLookup,
    Transform,
    by_value,
    read_date,
    read_text,
    remembered,
)
from d2i_helpers.spec import Field, Spec

WRONG_CHARACTERS = "wrong characters"
OUT_OF_RANGE = "out of range"
NOT_A_POSTCODE = "not a postcode"
BEFORE_START = "before its start"

_POSTCODE = re.compile(r"([A-Z]{1,2}[0-9][A-Z0-9]?)([0-9][A-Z]{2})", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,15}(?:\.0+)?", re.ASCII)
_BLANKS = re.compile(r"[\t\r\n\v\f]+")


def compile_transform(field: Field, spec: Spec) -> Transform:
    """The transform of one field as a function; see the module's text for its contract.

    Raises:
        KeyError: the specification names a transform that does not exist (`spec_checks` tells).
    """
    return _MAKERS[field.transform](field, spec)


__all__ = ["compile_transform", "transform_names", "usable_upn"]


def transform_names() -> frozenset[str]:
    """The transforms that a field may name."""
    return frozenset(_MAKERS)


# ----------------------------------------------------------------------------------- ids and text
def _id(field: Field, spec: Spec) -> Transform:
    """Outer blanks go; inner blanks, other characters and more than `max_length` are refused."""
    shape = re.compile(field.pattern or ".+").fullmatch
    longest = field.max_length or 10**6
    placeholders = spec.placeholders
    lengths = frozenset(map(len, placeholders))  # most ids need no look at the words

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        text, problem = (value.strip(EDGES), None) if type(value) is str else read_text(value)
        if not text:
            return None, problem
        if len(text) > longest:
            return None, TOO_LONG
        if len(text) in lengths and text.upper() in placeholders:
            return None, PLACEHOLDER
        return (text, None) if shape(text) else (None, WRONG_CHARACTERS)

    return transform


def _text(field: Field, spec: Spec) -> Transform:
    """As stored, without outer blanks; over-long text is refused, because a cut name is another."""
    shape = re.compile(field.pattern).fullmatch if field.pattern else None
    longest = field.max_length or 10**6
    # A word may be somebody's name ("Null", "Unknown"); marks and SSD_ words are nobody's.
    placeholders = frozenset(word for word in spec.placeholders if not word.isalpha())

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        text, problem = read_text(value)
        if text is None:
            return None, problem
        if not text.isprintable():
            text = _BLANKS.sub(" ", text)
            if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
                return None, NOT_TEXT
        if len(text) > longest:
            return None, TOO_LONG
        if text.upper() in placeholders:
            return None, PLACEHOLDER
        if shape and not shape(text):
            return None, WRONG_CHARACTERS
        return text, None

    return transform


def _postcode(field: Field, spec: Spec) -> Transform:
    """Upper case with one blank before the last three characters, whatever blanks were stored."""
    shape = re.compile(field.pattern).fullmatch if field.pattern else None

    def read(value: Any) -> Result:
        text, problem = read_text(value)
        if text is None:
            return None, problem
        if text.upper() in spec.placeholders:
            return None, PLACEHOLDER
        parts = _POSTCODE.fullmatch("".join(text.upper().split())) if len(text) < 20 else None
        found = f"{parts[1]} {parts[2]}" if parts else None
        if found is None or (shape and not shape(found)):
            return None, NOT_A_POSTCODE
        return found, None

    return by_value(remembered(read))


# ------------------------------------------------------------------------------------------ dates
def _date(field: Field, spec: Spec) -> Transform:
    """ISO text of the day; an end before its start (`not_before`) is left out and reported."""
    not_before = field.options.get("not_before")

    def read(value: Any) -> Result:
        found, problem = read_date(value)
        return (found.isoformat() if found else None), problem

    by_text = remembered(read)
    by_day: dict[dt.date, Result] = {}

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        kind = type(value)
        # two times with zones can be equal and yet lie on two days, so those are read anew
        if kind is dt.date or (kind is dt.datetime and value.tzinfo is None):
            found = by_day.get(value)
            if found is None:
                if len(by_day) >= CACHE_SIZE:
                    by_day.clear()
                found = by_day[value] = read(value)
            return found
        return by_text(value)

    def guarded(value: Any, row_lookup: RowLookup | None = None) -> Result:
        found, problem = transform(value)
        if found is None or row_lookup is None:
            return found, problem
        start = transform(row_lookup(not_before))[0]
        return (None, BEFORE_START) if start is not None and found < start else (found, None)

    return guarded if not_before else transform


# ------------------------------------------------------------------------------ flags and numbers
def _boolean(field: Field, spec: Spec) -> Transform:
    return by_value(remembered(lambda value: read_boolean(value, spec.booleans)))


def _present(field: Field, spec: Spec) -> Transform:
    """True for a row whose column holds something; the source has chosen the rows that count."""

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        text, problem = read_text(value)
        return (True, None) if text is not None else (None, problem)

    return transform


def _integer(field: Field, spec: Spec) -> Transform:
    low = field.minimum if field.minimum is not None else -(10**15)
    high = field.maximum if field.maximum is not None else 10**15

    def read(value: Any) -> Result:
        if type(value) is int:
            return (value, None) if low <= value <= high else (None, OUT_OF_RANGE)
        if isinstance(value, bool):
            return None, NOT_EXACT
        text, problem = read_text(value)
        if text is None:
            return None, problem
        if not _WHOLE.fullmatch(text):
            return None, PLACEHOLDER if text.upper() in spec.placeholders else NOT_EXACT
        number = int(text.partition(".")[0])
        return (number, None) if low <= number <= high else (None, OUT_OF_RANGE)

    return by_value(remembered(read))


_MAKERS: dict[str, Callable[[Field, Spec], Transform]] = {
    "id": _id, "text": _text, "date": _date, "boolean": _boolean, "integer": _integer,
    "present": _present, "postcode": _postcode,
    **CODE_MAKERS,
}  # fmt: skip
