"""Transforms of codes, of the pupil's number and its absence, and of a flag held in JSON.

The contract of a transform is in `transforms`, which is where callers find these by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from d2i_helpers.payload.codes import (
    NOT_YES_NO,
    code_matcher,
    finish_codes,
    load_json,
    read_boolean,
    read_json_codes,
    split_codes,
)
from d2i_helpers.raw import (
    CACHE_SIZE,
    NOTHING,
    PLACEHOLDER,
    TOO_LONG,
    Result,
    RowLookup,
    Transform,
    by_value,
    read_text,
    remembered,
)
from d2i_helpers.spec import Field, Spec

NOT_A_UPN = "not a UPN"
UN_CODE_AS_UPN = "UN code in the UPN column"
UPN_AS_REASON = "UPN in the reason column"
UNCLEAR_SENTENCE = "unclear sentence"

_LONGEST_REMEMBERED = 400

_UN_CODE = re.compile(r"UN\s?[0-9]{1,2}(?![0-9A-Z])", re.ASCII | re.IGNORECASE)
# CIN return rules 1510 to 1550: check letter, 3 figures of the authority, 8 figures, and a figure,
# or a letter for a temporary number. The check letter itself is not recomputed.
_UPN = re.compile(r"[A-Z][0-9]{11}[0-9A-Z]", re.ASCII)


def usable_upn(value: Any) -> str | None:
    """The unique pupil number in a raw value, or None where it holds none of a valid shape."""
    text, _ = read_text(value)
    plain = text.upper() if text and len(text) == 13 else ""
    return plain if _UPN.fullmatch(plain) else None


# ------------------------------------------------------------------------------ pupil's number
def _upn(field: Field, spec: Spec) -> Transform:
    """13 characters of a valid shape; a UNx code in this column is a reason and no number."""

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        text, problem = read_text(value)
        if text is None:
            return None, problem
        plain = text.upper()
        if _UPN.fullmatch(plain):
            return plain, None
        if _UN_CODE.match(plain):
            return None, UN_CODE_AS_UPN
        if plain in spec.placeholders:
            return None, PLACEHOLDER
        return None, TOO_LONG if len(plain) > 13 else NOT_A_UPN

    return transform


def _upn_reason(field: Field, spec: Spec) -> Transform:
    """UN1 to UN10 from its own column, else from the UPN's (`also`); none beside a usable UPN."""
    match = code_matcher(field.codes, field.options.get("code_map"), spec.placeholders)
    also = field.options.get("also")

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        other = row_lookup(also) if also and row_lookup else None
        if other is not None and usable_upn(other):
            return NOTHING
        code, problem = match(value)
        if code is None and problem and usable_upn(value):
            problem = UPN_AS_REASON
        if code is None and other is not None:
            code = match(other)[0]
        return code, None if code else problem

    return transform


# ------------------------------------------------------------------------------------------ codes
def _code(field: Field, spec: Spec) -> Transform:
    match = code_matcher(field.codes, field.options.get("code_map"), spec.placeholders)
    return by_value(match)


def _code_set(field: Field, spec: Spec) -> Transform:
    """Codes of one row, or of all rows given as a list; see `codes.finish_codes`."""
    match = code_matcher(field.codes, field.options.get("code_map"), spec.placeholders)

    def read(value: Any) -> tuple[list[str], str | None]:
        text, problem = read_text(value)
        return split_codes(text, match) if text else ([], problem)

    return _from_rows(field, read, (list, tuple))


def _code_json(field: Field, spec: Spec) -> Transform:
    """Codes held as JSON in one row, or in all rows given as a tuple."""
    match = code_matcher(field.codes, field.options.get("code_map"), spec.placeholders)
    return _from_rows(field, lambda value: read_json_codes(value, match, spec.booleans), tuple)


def _from_rows(field: Field, read: Callable[[Any], tuple[list[str], str | None]], rows: Any) -> Any:
    """The codes of all rows together; the first rule that any row breaks is the problem.

    Codes that say "none" (`alone`) are no answer where a row could not be read.
    """
    says_none = {str(code) for code in field.options.get("alone") or ()}

    def together(values: Any) -> Result:
        codes: list[str] = []
        problem = None
        for one in values:
            found, broken = read(one)
            codes += found
            problem = problem or broken
        if problem and says_none.issuperset(codes):
            return None, problem
        finished, broken = finish_codes(field, codes)
        return finished, problem or broken

    cache: dict[tuple[str, ...], Result] = {}

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        if value is None:
            return NOTHING
        values = value if isinstance(value, rows) else (value,)
        key = tuple(values)
        # only texts are remembered: of other kinds, unequal ones can be equal keys (1 and True)
        if not all(type(one) is str for one in key) or sum(map(len, key)) > _LONGEST_REMEMBERED:
            return together(values)
        known = cache.get(key)
        if known is None:
            if len(cache) >= CACHE_SIZE:
                cache.clear()
            known = cache[key] = together(values)
        codes, problem = known
        return (list(codes) if codes else None), problem

    return transform


# ------------------------------------------------------------------------------- flag inside JSON
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
        elif isinstance(held, list | tuple) and depth < 3:
            for item in held:
                truth, broken = from_structure(item, depth + 1)
                if truth is not None:
                    return truth, None
                problem = problem or broken
        elif isinstance(held, str):
            return from_sentence(held)
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

    return by_value(remembered(read))


def _phrases(phrases: Any) -> re.Pattern[str] | None:
    """The phrases as whole words, longest first, over text of small letters and single blanks."""
    plain = {" ".join(re.findall(r"[a-z0-9]+", str(phrase).lower())) for phrase in phrases}
    longest_first = sorted(plain - {""}, key=lambda phrase: (-len(phrase), phrase))
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b") if longest_first else None


CODE_MAKERS: dict[str, Callable[[Field, Spec], Transform]] = {
    "code": _code,
    "code_set": _code_set,
    "code_json": _code_json,
    "upn": _upn,
    "upn_reason": _upn_reason,
    "json_flag": _json_flag,
}
