"""Codes as source systems write them: bare, inside a description, in lists and in JSON.

A code is recognised only as a whole word at the start ("1A - Individual"). Nothing is ever cut to
fit: "UN10" is never UN1, "VISION" never VIS, "B&B" never B. A code that is not in the list is left
out and reported with the name of the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from d2i_helpers.document.driver_values import EDGES, PLACEHOLDER, read_text
from d2i_helpers.payload_spec import CodeList, Field
from d2i_helpers.payload_spec.model import plain_word

NOT_IN_LIST = "not in code list"
RETIRED = "retired code"
SEVERAL = "more than one code"
MALFORMED = "malformed JSON"
NOT_YES_NO = "not yes or no"
BESIDE_OTHERS = "not allowed beside other codes"
TOO_MANY = "too many codes"

Matched = tuple[str | None, str | None]
MatchCode = Callable[[Any], Matched]

_CACHE_SIZE = 4096
_LONGEST_DESCRIPTION = 4000
_WORD = re.compile(r"[0-9A-Z]+", re.ASCII)
# What may follow a code: nothing, a blank or a mark. Not codes: "B&B", "T2/T3", "CHILD'S",
# "10-05-2024".
_FOLLOWS = re.compile(r"\s*(?:$|[-‐‑‒–—―:;,.)(\]\[=|>](?!\d)|(?<=\s)(?![&+/]|(?:AND|OR)\b))")
_BETWEEN = re.compile(r"[\s,;|]+")
_LISTED = re.compile(r"\s*[,;|]\s*([0-9A-Z]+)\s*(?=$|[,;|])", re.ASCII)


def code_matcher(
    codes: CodeList, code_map: Mapping[str, str] | None, placeholders: Iterable[str]
) -> MatchCode:
    """A function from a raw value to (code of the list, problem); it never raises.

    Args:
        codes: the codes that may be sent, their aliases, and those that are retired.
        code_map: the authority's own values, looked at first; an empty code leaves the value out.
        placeholders: upper-case words that stand for "not known".
    """
    known: dict[str, Matched] = dict.fromkeys(codes.retired, (None, RETIRED))
    known.update((alias, (code, None)) for alias, code in codes.aliases.items())
    known.update((code.upper(), (code, None)) for code in codes.codes)
    for local, code in (code_map or {}).items():
        known[_plain(str(local))] = (str(code), None) if code else (None, None)
    nothing = frozenset(word.upper() for word in placeholders)

    def match_text(text: str) -> Matched:
        plain = _plain(text)
        if not plain:
            return None, None
        matched = known.get(plain)
        if matched:
            return matched
        if plain in nothing:
            return None, PLACEHOLDER
        if len(plain) > _LONGEST_DESCRIPTION:
            return None, NOT_IN_LIST
        word = _WORD.match(plain)
        matched = known.get(word.group()) if word else None
        if not word or not matched or not _FOLLOWS.match(plain, word.end()):
            return None, NOT_IN_LIST
        if _is_english(word.group(), plain) and not text.strip(EDGES).startswith(word.group()):
            return None, NOT_IN_LIST
        another = _LISTED.match(plain, word.end())
        if another and another.group(1) in known and another.group(1) != word.group():
            return None, SEVERAL
        words = _BETWEEN.split(plain)  # "MOB HAND" is no code with a description
        if all(each in known for each in words) and len({known[each] for each in words}) > 1:
            return None, SEVERAL
        return matched

    cache: dict[str, Matched] = {}

    def match(value: Any) -> Matched:
        if type(value) is not str:
            if value is None:
                return None, None
            text, problem = read_text(value)
            return match_text(text) if text else (None, problem)
        matched = cache.get(value)
        if matched is None:
            if len(cache) >= _CACHE_SIZE:
                cache.clear()
            matched = cache[value] = match_text(value)
        return matched

    return match


def _is_english(code: str, plain: str) -> bool:
    """Whether a code may be a plain word of a sentence ("Close relative", "Place of safety")."""
    follows = plain[len(code) : len(code) + 2]
    return len(code) >= 4 and code.isalpha() and len(follows) == 2 and follows[1].isalpha()


def _plain(text: str) -> str:
    """A text of a source as words are compared, without what no reader sees at its edges."""
    return plain_word(read_text(text)[0] or "")


def finish_codes(field: Field, codes: Iterable[str]) -> tuple[list[str] | None, str | None]:
    """Distinct codes of a list field in order, and the rule that the list as a whole breaks.

    A code that means "none of these" (NONE of the disabilities, 21 of the factors) gives way to the
    others. Of more than `max_items` codes the first are kept. No codes at all give None, so that
    the field's default is used.
    """
    distinct = sorted(set(codes))
    problem = None
    alone = {str(code) for code in field.options.get("alone") or ()}
    if len(distinct) > 1 and alone.intersection(distinct):
        distinct = [code for code in distinct if code not in alone] or distinct[:1]
        problem = BESIDE_OTHERS
    if field.max_items and len(distinct) > field.max_items:
        distinct, problem = distinct[: field.max_items], TOO_MANY
    return distinct or None, problem


# ------------------------------------------------------------------------- several in one value
def split_codes(text: str, match: MatchCode) -> tuple[list[str], str | None]:
    """Codes of a text: "1A", "MOB, HAND" or "MOB HAND"; of "1A, 18A" those that are not retired.

    A text in which some part is not a code is taken as one value.
    """
    code, problem = match(text)
    if problem == SEVERAL or (problem and any(mark in text for mark in ",;|")):
        parts = list(_matched_parts(text, match))
        if all(part_problem in (None, RETIRED) for _, part_problem in parts):
            retired = any(part_problem for _, part_problem in parts)
            return [part_code for part_code, _ in parts if part_code], RETIRED if retired else None
    return ([code] if code else []), problem


def _matched_parts(text: str, match: MatchCode) -> Iterator[Matched]:
    for part in re.split(r"[,;|]", text):
        matched = match(part)
        if matched[1] == SEVERAL:  # with blanks between them and nothing else
            yield from map(match, part.split())
        else:
            yield matched


def read_json_codes(
    value: Any, match: MatchCode, booleans: Mapping[str, bool]
) -> tuple[list[str], str | None]:
    """Codes held as JSON: ``["1A"]``, ``{"1A": "Yes"}``, with nulls, or as plain text "1A, 2B".

    Unusable elements are left out; the problem is the first rule that one of them breaks.
    """
    if isinstance(value, list | tuple | dict):
        return _from_structure(value, match, booleans, 0)
    text, problem = read_text(value)
    if text is None or text.upper() == "NULL":
        return [], problem
    if text[0] in '[{"':
        held, problem = load_json(text)
        if problem:
            return [], problem
        return _from_structure(held, match, booleans, 0)
    codes, problem = split_codes(text, match)
    return codes, problem


def _from_structure(
    held: Any, match: MatchCode, booleans: Mapping[str, bool], depth: int
) -> tuple[list[str], str | None]:
    if depth > 3:
        return [], MALFORMED
    codes: list[str] = []
    problems: list[str] = []
    if isinstance(held, dict):
        for key, mark in held.items():
            truth, problem = read_boolean(mark, booleans)
            code, unknown = match(key) if truth else (None, None)
            codes += [code] if code else []
            problems += [p for p in (problem, unknown) if p]
    elif isinstance(held, list | tuple):
        for item in held:
            inner_codes, problem = _from_structure(item, match, booleans, depth + 1)
            codes += inner_codes
            problems += [problem] if problem else []
    elif isinstance(held, bool):
        problems.append(NOT_IN_LIST)
    else:
        code, problem = match(held)
        codes += [code] if code else []
        problems += [problem] if problem else []
    return codes, problems[0] if problems else None


def load_json(text: str) -> tuple[Any, str | None]:
    """(structure, problem) of a JSON text."""
    try:
        return orjson.loads(text), None
    except (ValueError, RecursionError):
        return None, MALFORMED


def read_boolean(value: Any, booleans: Mapping[str, bool]) -> tuple[bool | None, str | None]:
    """(truth, problem) of Y/N/T/F/1/0/true/false/yes/no in any case; blank is None."""
    if isinstance(value, bool):
        return value, None
    text, problem = read_text(value)
    if text is None:
        return None, problem and NOT_YES_NO
    truth = booleans.get(text.upper()) if len(text) < 20 else None
    if truth is None:
        return None, None if text.upper() == "NULL" else NOT_YES_NO
    return truth, None
