"""The transforms: from a stored value to the value that may be sent, or to the reason why not.

Each transform registers itself under the name that a field gives as `transform:`; no other module
has to know it. `compile_transform` makes one function a field. The function takes the driver value
and `row_lookup`, a function from a column's name to the value in the same row. It returns (value,
problem). The value is None where none may be sent; the problem is the short name of a rule, never a
value. A list of codes may have both: the usable codes, and the rule that another code broke. No
value makes a transform raise, and nothing is cut to fit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from d2i_helpers.document.codes import (
    BESIDE_OTHERS,
    MALFORMED,
    NOT_IN_LIST,
    NOT_YES_NO,
    RETIRED,
    SEVERAL,
    TOO_MANY,
    MatchCode,
    code_matcher,
    finish_codes,
    load_json,
    read_boolean,
    read_json_codes,
    split_codes,
)
from d2i_helpers.document.driver_values import (
    CACHE_SIZE,
    DATE_RANGE,
    EDGES,
    NOT_A_DATE,
    NOT_EXACT,
    NOT_TEXT,
    NOTHING,
    PLACEHOLDER,
    TOO_LONG,
    Remembered,
    Result,
    RowLookup,
    Transform,
    by_value,
    read_date,
    read_text,
)
from d2i_helpers.payload_spec import Field, Spec
from d2i_helpers.payload_spec.patterns import whole_match
from d2i_helpers.payload_spec.registry import TRANSFORMS, transform

WRONG_CHARACTERS = "wrong characters"
OUT_OF_RANGE = "out of range"
NOT_A_POSTCODE = "not a postcode"
BEFORE_START = "before its start"
NOT_A_UPN = "not a UPN"
UN_CODE_AS_UPN = "UN code in the UPN column"
UPN_AS_REASON = "UPN in the reason column"
UNCLEAR_SENTENCE = "unclear sentence"
_CODE_PROBLEMS = (NOT_IN_LIST, RETIRED, SEVERAL, PLACEHOLDER)
_CODES_PROBLEMS = (*_CODE_PROBLEMS, BESIDE_OTHERS, TOO_MANY)

_POSTCODE = re.compile(r"([A-Z]{1,2}[0-9][A-Z0-9]?)([0-9][A-Z]{2})", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,15}(?:\.0+)?", re.ASCII)
_BLANKS = re.compile(r"[\t\r\n\v\f]+")
_LONGEST_REMEMBERED = 400

_UN_CODE = re.compile(r"UN\s?[0-9]{1,2}(?![0-9A-Z])", re.ASCII | re.IGNORECASE)
# CIN return rules 1510 to 1550: check letter, 3 figures of the authority, 8 figures, and a figure,
# or a letter for a temporary number. The check letter itself is not recomputed.
_UPN = re.compile(r"[A-Z][0-9]{11}[0-9A-Z]", re.ASCII)


def compile_transform(field: Field, spec: Spec) -> Transform:
    """The transform of one field as a function; the module's docstring has its contract.

    Raises:
        KeyError: there is no such transform; the checks of the specification report it first.
    """
    compiled: Transform = TRANSFORMS[field.transform].make(field, spec)
    return compiled


def usable_upn(value: Any) -> str | None:
    """The unique pupil number in a raw value; None if it holds none of a valid shape."""
    text, _ = read_text(value)
    plain = text.upper() if text and len(text) == 13 else ""
    return plain if _UPN.fullmatch(plain) else None


# ----------------------------------------------------------------------------------- ids and text
@transform(
    "id",
    makes="string",
    words="text without outer blanks; refused, never cut, where it does not fit",
    reads="text or a number; inner blanks and over-long ids are refused",
    problems=(WRONG_CHARACTERS, TOO_LONG, PLACEHOLDER),
    takes=("max_length", "pattern"),
)
def _id(field: Field, spec: Spec) -> Transform:
    """Strip outer blanks; refuse inner blanks, other characters and more than `max_length`."""
    shape = whole_match(field.pattern or ".+")
    longest = field.max_length or 10**6
    placeholders = spec.placeholders
    lengths = frozenset(map(len, placeholders))  # most ids need not be compared with the words

    def read_value(value: Any, row_lookup: RowLookup | None = None) -> Result:
        text, problem = (value.strip(EDGES), None) if type(value) is str else read_text(value)
        if not text:
            return None, problem
        if len(text) > longest:
            return None, TOO_LONG
        if len(text) in lengths and text.upper() in placeholders:
            return None, PLACEHOLDER
        return (text, None) if shape(text) else (None, WRONG_CHARACTERS)

    return read_value


@transform(
    "text",
    makes="string",
    words="as stored, without outer blanks; refused where too long",
    reads="text as stored",
    problems=(TOO_LONG, NOT_TEXT, PLACEHOLDER, WRONG_CHARACTERS),
    takes=("max_length", "pattern"),
)
def _text(field: Field, spec: Spec) -> Transform:
    """Strip outer blanks; refuse over-long text, because a cut name is another name."""
    shape = whole_match(field.pattern) if field.pattern else None
    longest = field.max_length or 10**6
    # A word may be somebody's name ("Null", "Unknown"); marks and SSD_ words are not.
    placeholders = frozenset(word for word in spec.placeholders if not word.isalpha())

    def read_value(value: Any, row_lookup: RowLookup | None = None) -> Result:
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

    return read_value


@transform(
    "postcode",
    makes="string",
    words="upper case, one blank before the last three characters",
    reads="a postcode with blanks anywhere or nowhere",
    problems=(NOT_A_POSTCODE, TOO_LONG, PLACEHOLDER),
    takes=("max_length", "pattern"),
)
def _postcode(field: Field, spec: Spec) -> Transform:
    """Upper case, with one blank before the last three characters, wherever blanks were stored."""
    shape = whole_match(field.pattern) if field.pattern else None
    longest = field.max_length or 10**6

    def read(value: Any) -> Result:
        text, problem = read_text(value)
        if text is None:
            return None, problem
        if text.upper() in spec.placeholders:
            return None, PLACEHOLDER
        parts = _POSTCODE.fullmatch("".join(text.upper().split())) if len(text) < 20 else None
        postcode = f"{parts[1]} {parts[2]}" if parts else None
        if postcode is None or (shape and not shape(postcode)):
            return None, NOT_A_POSTCODE
        return (postcode, None) if len(postcode) <= longest else (None, TOO_LONG)

    return by_value(read)


# ------------------------------------------------------------------------------------------ dates
@transform(
    "date",
    makes="date",
    words="the day of a date or date-time, also from ISO or UK day-first text",
    reads="dates, date-times; text as 2024-05-31, 31/05/2024, 31.5.2024, 31 May 2024, or as "
    "SQL Server writes it (May 31 2024 12:00AM), with or without a time; day first, four-figure "
    "years from 1900 to 2100. 1900-01-01 and 9999-12-31 are placeholders",
    problems=(NOT_A_DATE, DATE_RANGE, PLACEHOLDER, BEFORE_START),
    takes=("not_before",),
)
def _date(field: Field, spec: Spec) -> Transform:
    """ISO text of the day; leave out and report an end before its start (`not_before`)."""
    not_before = field.options.get("not_before")

    def read(value: Any) -> Result:
        day, problem = read_date(value)
        return (day.isoformat() if day else None), problem

    if not not_before:
        return by_value(read)
    days = Remembered(read)

    def guarded(value: Any, row_lookup: RowLookup | None = None) -> Result:
        day, problem = days.of(value)
        if day is None or row_lookup is None:
            return day, problem
        start = days.of(row_lookup(str(not_before)))[0]
        return (None, BEFORE_START) if start is not None and day < start else (day, None)

    return guarded


# ------------------------------------------------------------------------------ flags and numbers
@transform(
    "boolean",
    makes="boolean",
    words="Y, T, 1, yes and true; N, F, 0, no and false, in any case",
    reads="the words of `booleans`, true and false, 1 and 0",
    problems=(NOT_YES_NO,),
)
def _boolean(field: Field, spec: Spec) -> Transform:
    return by_value(lambda value: read_boolean(value, spec.booleans))


@transform("present", makes="boolean", words="true where a row counts")
def _present(field: Field, spec: Spec) -> Transform:
    """True if the column holds something; the source has chosen the rows that count."""

    def read_value(value: Any, row_lookup: RowLookup | None = None) -> Result:
        text, problem = read_text(value)
        return (True, None) if text is not None else (None, problem)

    return read_value


@transform(
    "integer",
    makes="integer",
    words="whole number",
    reads="whole numbers, also as text or 17.0",
    problems=(NOT_EXACT, OUT_OF_RANGE, PLACEHOLDER),
    takes=("minimum", "maximum"),
)
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

    return by_value(read)


# ------------------------------------------------------------------------------ pupil's number
@transform(
    "upn",
    makes="string",
    words="13 characters: letter, 11 figures, figure or letter; a UN code is not sent here",
    problems=(NOT_A_UPN, TOO_LONG, UN_CODE_AS_UPN, PLACEHOLDER),
    takes=("max_length", "pattern"),
)
def _upn(field: Field, spec: Spec) -> Transform:
    """13 characters of a valid shape; a UNx code in this column is a reason, not a number."""
    shape = whole_match(field.pattern) if field.pattern else None
    longest = field.max_length or 13

    def read_value(value: Any, row_lookup: RowLookup | None = None) -> Result:
        text, problem = read_text(value)
        if text is None:
            return None, problem
        plain = text.upper()
        if _UPN.fullmatch(plain):
            if shape and not shape(plain):
                return None, NOT_A_UPN
            return (plain, None) if longest >= 13 else (None, TOO_LONG)
        if _UN_CODE.match(plain):
            return None, UN_CODE_AS_UPN
        if plain in spec.placeholders:
            return None, PLACEHOLDER
        return None, TOO_LONG if len(plain) > 13 else NOT_A_UPN

    return read_value


@transform(
    "upn_reason",
    makes="string",
    words="code, also where it stands in the UPN's column; none beside a usable UPN",
    reads="a code from its column, else from the `also` column; nothing beside a usable UPN",
    problems=(*_CODE_PROBLEMS, UPN_AS_REASON),
    needs=("codes",),
    takes=("also", "codes", "code_map", "max_length"),
)
def _upn_reason(field: Field, spec: Spec) -> Transform:
    """UN1 to UN10 from its own column, else from the UPN's (`also`); none beside a usable UPN."""
    match = _matcher(field, spec)
    also = field.options.get("also")

    def read_value(value: Any, row_lookup: RowLookup | None = None) -> Result:
        upn_value = row_lookup(also) if also and row_lookup else None
        if upn_value is not None and usable_upn(upn_value):
            return NOTHING
        code, problem = match(value)
        if code is None and problem and usable_upn(value):
            problem = UPN_AS_REASON
        if code is None and upn_value is not None:
            code = match(upn_value)[0]
        return code, None if code else problem

    return read_value


# ------------------------------------------------------------------------------------------ codes
def _matcher(field: Field, spec: Spec) -> MatchCode:
    assert field.codes is not None  # the transform `needs` them
    return code_matcher(field.codes, field.options.get("code_map"), spec.placeholders)


@transform(
    "code",
    makes="string",
    words="code, bare or as the first whole word of a description",
    reads="a code, an alias or your own code; bare or as the first whole word of a description, "
    'in any case. "UN10" is never UN1, "VISION" never VIS, "B&B" never B',
    problems=_CODE_PROBLEMS,
    needs=("codes",),
    takes=("codes", "code_map", "max_length"),
)
def _code(field: Field, spec: Spec) -> Transform:
    match = _matcher(field, spec)
    return by_value(match)


@transform(
    "code_set",
    makes="codes",
    words="the codes of all rows, each once, in order",
    problems=_CODES_PROBLEMS,
    needs=("codes",),
    takes=("codes", "code_map", "max_length", "max_items", "alone"),
)
def _code_set(field: Field, spec: Spec) -> Transform:
    """Codes of one row, or of all rows given as a list; see `codes.finish_codes`."""
    match = _matcher(field, spec)

    def read(value: Any) -> tuple[list[str], str | None]:
        text, problem = read_text(value)
        return split_codes(text, match) if text else ([], problem)

    return _from_rows(field, read, (list, tuple))


@transform(
    "code_json",
    makes="codes",
    words="the codes of a JSON array or of a JSON object of yes and no, each once, in order",
    reads='codes from `["1A"]`, `{"1A": "Yes"}`, with nulls and duplicates, or "1A, 2B"; each '
    "once, sorted",
    problems=(*_CODES_PROBLEMS, MALFORMED),
    needs=("codes",),
    takes=("codes", "code_map", "max_length", "max_items", "alone"),
)
def _code_json(field: Field, spec: Spec) -> Transform:
    """Codes held as JSON in one row, or in all rows given as a tuple."""
    match = _matcher(field, spec)
    return _from_rows(field, lambda value: read_json_codes(value, match, spec.booleans), tuple)


def _from_rows(
    field: Field, read: Callable[[Any], tuple[list[str], str | None]], rows: Any
) -> Transform:
    """The codes of all rows together; the first rule that any row breaks is the problem.

    Codes that say "none" (`alone`) are dropped where some row could not be read.
    """
    says_none = {str(code) for code in field.options.get("alone") or ()}

    def together(values: Any) -> Result:
        codes: list[str] = []
        problem = None
        for value in values:
            usable, broken = read(value)
            codes += usable
            problem = problem or broken
        if problem and says_none.issuperset(codes):
            return None, problem
        finished, broken = finish_codes(field, codes)
        return finished, problem or broken

    cache: dict[tuple[str, ...], Result] = {}

    def read_value(value: Any, row_lookup: RowLookup | None = None) -> Result:
        if value is None:
            return NOTHING
        values = value if isinstance(value, rows) else (value,)
        key = tuple(values)
        # only texts are remembered: values of other types can be equal as keys (1 and True)
        if not all(type(text) is str for text in key) or sum(map(len, key)) > _LONGEST_REMEMBERED:
            return together(values)
        known = cache.get(key)
        if known is None:
            if len(cache) >= CACHE_SIZE:
                cache.clear()
            known = cache[key] = together(values)
        codes, problem = known
        return (list(codes) if codes else None), problem

    return read_value


# ------------------------------------------------------------------------------- flag inside JSON
@transform(
    "json_flag",
    makes="boolean",
    words="yes or no under a key of a JSON object, or a sentence that says so",
    reads="a yes or no under one of `keys` of a JSON object, or one of the `sentences`",
    problems=(NOT_YES_NO, MALFORMED, UNCLEAR_SENTENCE, PLACEHOLDER),
    needs=("keys", "sentences"),
    takes=("keys", "sentences"),
)
def _json_flag(field: Field, spec: Spec) -> Transform:
    """A yes/no under one of `keys` of a JSON object, or one of the `sentences` of a plain text."""
    keys = {str(key).upper() for key in field.options.get("keys") or ()}
    sentences = field.options.get("sentences") or {}
    yes = _phrases(sentences.get(True) or sentences.get("true") or ())
    no = _phrases(sentences.get(False) or sentences.get("false") or ())

    def from_structure(held: Any, depth: int = 0) -> Result:
        problem = None
        if isinstance(held, dict):
            for key, mark in held.items():
                if str(key).strip().upper() in keys:
                    truth, broken = read_boolean(mark, spec.booleans)
                    if truth is not None:
                        return truth, None
                    problem = problem or broken
        elif isinstance(held, list | tuple):
            if depth >= 3:
                return None, MALFORMED
            for item in held:
                truth, broken = from_structure(item, depth + 1)
                if truth is not None:
                    return truth, None
                problem = problem or broken
        elif isinstance(held, str):
            return from_sentence(held)
        else:
            return read_boolean(held, spec.booleans)
        return None, problem

    def from_sentence(text: str) -> Result:
        truth, problem = read_boolean(text, spec.booleans)
        if truth is not None or problem is None:
            return truth, None
        plain = " ".join(re.findall(r"[a-z0-9]+", text[:4000].lower()))
        rest = no.sub(" ", plain) if no else plain
        said_no, said_yes = rest != plain, bool(yes and yes.search(rest))
        if said_yes and (said_no or re.search(r"\b(?:no|not|nor|without)\b", rest)):
            return None, UNCLEAR_SENTENCE
        if said_yes or said_no:
            return said_yes, None
        return None, PLACEHOLDER if text.upper() in spec.placeholders else NOT_YES_NO

    def read(value: Any) -> Result:
        if isinstance(value, dict | list | tuple):
            return from_structure(value)
        text, problem = read_text(value)
        if text is None:
            return None, problem
        if text[0] in '[{"':
            held, problem = load_json(text)
            return (None, problem) if problem else from_structure(held)
        return from_sentence(text)

    return by_value(read)


def _phrases(phrases: Any) -> re.Pattern[str] | None:
    """A pattern for the phrases as whole words, longest first, in normalised text."""
    plain = {" ".join(re.findall(r"[a-z0-9]+", str(phrase).lower())) for phrase in phrases}
    longest_first = sorted(plain - {""}, key=lambda phrase: (-len(phrase), phrase))
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b") if longest_first else None
