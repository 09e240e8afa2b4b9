"""Checks of documents and deltas before they are sent; paths and rules, never a value.

The generated JSON Schema does most of the checks. This module adds what it cannot express: an
identifier occurs once in its list, a whole document erases nothing, all text can be sent as UTF-8.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from typing import Any, NamedTuple

import jsonschema_rs
import orjson
import xxhash

from d2i_helpers.payload_spec import PURGE, Block, Document, Spec
from d2i_helpers.payload_spec.outputs import json_schema
from d2i_helpers.payload_spec.patterns import LINEAR_TIME

NOT_UTF8 = "text that cannot be sent as UTF-8"
NOT_JSON = "not JSON"
NOT_AN_OBJECT = "not a JSON object"
DUPLICATE = "identifier more than once in its list"
PURGED = "purge is true in a whole document"

# Rules of JSON Schema in words; any other rule is shown by its own name.
_RULES = {
    "additionalProperties": "unknown field",
    "required": "missing",
    "enum": "not in code list",
    "maxLength": "too long",
    "minLength": "empty text",
    "pattern": "wrong format",
    "format": "not a date",
    "type": "wrong type",
    "minimum": "out of range",
    "maximum": "out of range",
    "maxItems": "too many items",
    "minItems": "empty list",
    "uniqueItems": "item more than once",
    "propertyNames": "content beside purge",
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


class Problem(NamedTuple):
    """A rule that a document breaks, and where; never the value."""

    path: str  # such as social_care_episodes[2].referral_date; the document itself is $
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}"


class Validator:
    """The checks of one specification, compiled once; safe to use for many documents."""

    def __init__(self, spec: Spec) -> None:
        """Compile the schemas of whole documents and of deltas."""
        self._spec, self._root = spec, spec.root
        self._parts = _parts(spec.root)
        self._schemas = {
            partial: jsonschema_rs.Draft202012Validator(
                json_schema(spec, partial=partial),
                validate_formats=True,
                pattern_options=LINEAR_TIME,
            )
            for partial in (False, True)
        }

    @functools.cached_property
    def fingerprint(self) -> int:
        """A signed number of 64 bits for these checks: specification, code and library.

        What one validator accepts, another with the same number would accept too.
        """
        library = metadata.version("jsonschema-rs")
        rules = orjson.dumps([self._spec.fingerprint, library, json_schema(self._spec)])
        code = resources.files("d2i_helpers.document").joinpath("validation.py").read_bytes()
        return xxhash.xxh3_64_intdigest(rules + code) - (1 << 63)

    def problems(self, document: Any) -> list[Problem]:
        """Every rule that a whole document breaks, sorted by path; none for a good one."""
        return self._check(document, partial=False)

    def problems_of_json(self, document: Document) -> list[Problem]:
        """The same for a document that is known to be JSON; a good one costs less so."""
        return [] if self.accepts(document) else self.problems(document)

    def accepts(self, document: Document) -> bool:
        """Whether a document breaks no rule, faster than to list what it breaks.

        Args:
            document: parsed from JSON, so that all of it can be sent as JSON.
        """
        if not self._schemas[False].is_valid(document):
            return False
        try:
            return _is_sound(self._parts, document)
        except (KeyError, TypeError, AttributeError):  # a shape that the schema leaves open
            return not self.problems(document)

    def partial_problems(self, partial: Any) -> list[Problem]:
        """Every rule that a delta (or a document completed by removals) breaks."""
        return self._check(partial, partial=True)

    def _check(self, document: Any, *, partial: bool) -> list[Problem]:
        if not isinstance(document, dict):
            return [Problem("$", NOT_AN_OBJECT)]
        try:
            orjson.dumps(document)
        except (TypeError, RecursionError):
            # a lone surrogate, a number beyond 64 bits, a type that JSON does not have
            return [Problem("$", NOT_UTF8 if _has_bad_text(document) else NOT_JSON)]
        schema = self._schemas[partial]
        problems = set() if schema.is_valid(document) else set(_schema_problems(schema, document))
        problems.update(_block_problems(self._root, document, "", partial=partial))
        return sorted(problems, key=_natural)


def _schema_problems(schema: Any, document: Document) -> Iterator[Problem]:
    for error in schema.iter_errors(document):
        path = _path(error.instance_path)
        keyword = error.kind.name
        rule = _RULES.get(keyword, keyword)
        if keyword == "required":
            yield Problem(_joined(path, error.kind.property), rule)
        elif keyword == "additionalProperties":
            for name in error.kind.unexpected:
                yield _unknown(path, name)
        elif "additionalProperties" in error.schema_path:  # in a delta it may be null
            *above, name = error.instance_path
            yield _unknown(_path(above), name)
        elif keyword == "maxItems" and "then" in error.schema_path:
            yield Problem(path, "code that must stand alone beside others")
        else:
            yield Problem(path, rule)


def _unknown(path: str, name: str) -> Problem:
    """A field that the specification does not know, in the block at this path."""
    # a name of another shape than a field's might itself be data
    shown = _joined(path, name) if _NAME.fullmatch(name) else path
    return Problem(shown, _RULES["additionalProperties"])


def _block_problems(block: Block, held: Document, path: str, *, partial: bool) -> Iterator[Problem]:
    if not partial and held.get(PURGE) is True:
        yield Problem(_joined(path, PURGE), PURGED)
    for child in block.blocks:
        inner = held.get(child.name)
        here = _joined(path, child.name)
        if child.kind == "object" and isinstance(inner, dict):
            yield from _block_problems(child, inner, here, partial=partial)
        elif child.kind == "list" and isinstance(inner, list):
            seen: set[str] = set()
            for position, item in enumerate(inner):
                if not isinstance(item, dict):
                    continue
                key = item.get(child.key)
                if isinstance(key, str) and key in seen:
                    yield Problem(f"{here}[{position}].{child.key}", DUPLICATE)
                elif isinstance(key, str):
                    seen.add(key)
                yield from _block_problems(child, item, f"{here}[{position}]", partial=partial)


class _Part(NamedTuple):
    """A block nested in another, as `_is_sound` looks at it."""

    name: str
    key: str | None  # of items; None: an object
    parts: tuple[Any, ...]  # nested in it, of this same kind


def _parts(block: Block) -> tuple[_Part, ...]:
    return tuple(
        _Part(inner.name, inner.key if inner.kind == "list" else None, _parts(inner))
        for inner in block.blocks
    )


def _is_sound(parts: tuple[_Part, ...], held: Document) -> bool:
    """Nothing is erased, and no identifier occurs twice in its list."""
    if held.get(PURGE) is True:
        return False
    for name, key, nested in parts:
        inner = held.get(name)
        if inner is None:
            continue
        if key is None:
            if not _is_sound(nested, inner):
                return False
            continue
        if len(inner) > 1 and len({item[key] for item in inner}) < len(inner):
            return False
        for item in inner:
            if nested:
                if not _is_sound(nested, item):
                    return False
            elif item.get(PURGE) is True:
                return False
    return True


def _path(parts: Any) -> str:
    """The parts of a path as `a[2].b`; a part that may be data is shown as `?`."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path = _joined(path, part if _NAME.fullmatch(part) else "?")
    return path or "$"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path not in {"", "$"} else name


def _natural(problem: Problem) -> tuple[Any, ...]:
    """A sort key that compares list positions as numbers, so that [10] follows [9]."""
    words = re.split(r"(\d+)", problem.path)
    return [(0, int(w), "") if w.isdigit() else (1, 0, w) for w in words], problem.rule


def _has_bad_text(value: Any) -> bool:
    if isinstance(value, str):
        return not _encodes(value)
    if isinstance(value, dict):
        return any(_has_bad_text(part) for pair in value.items() for part in pair)
    return isinstance(value, list | tuple) and any(_has_bad_text(part) for part in value)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# ------------------------------------------------------------------------------------- firewall
# A web application firewall in front of the API answers 403 to text that looks like an attack.
# These are warnings only: an identifier is never changed to avoid them.
_SQL_WORDS = re.compile(
    r"\b(?:union\s+(?:all\s+)?select|select\s.{1,200}\sfrom|insert\s+into|delete\s+from"
    r"|drop\s+(?:table|database)|update\s+\w+\s+set|exec(?:ute)?\s+\w*xp_\w+|waitfor\s+delay"
    r"|truncate\s+table|alter\s+table)\b",
    re.DOTALL,
)
_SQL_FIRST = (
    "union", "select", "insert", "delete", "drop", "update", "exec", "execute", "waitfor",
    "truncate", "alter",
)  # fmt: skip


def _has_sql_word(text: str) -> bool:
    """Whether a blank follows one of the words that the pattern begins with."""
    return any(part.endswith(_SQL_FIRST) for part in text.split()[:-1])


# By name: the pattern, and a quick test that must hold where the pattern is found. Python finds one
# character much sooner than two, so each test looks for one that is rare in documents.
_FIREWALL: dict[str, tuple[Callable[[str], bool], re.Pattern[str]]] = {
    "0x": (lambda text: any(part.endswith("0") for part in text.split("x")), re.compile("0x")),
    "SQL words": (_has_sql_word, _SQL_WORDS),
    "SQL comment": (
        lambda text: "" in text.split("-") or "*" in text or ";" in text,
        re.compile(r"--|/\*|;\s*#"),
    ),
    "SQL condition": (
        lambda text: "'" in text,
        re.compile(r"'\s*(?:or|and)\b[^a-z]{0,10}[\w']+\s*="),
    ),
    "script": (
        lambda text: "<" in text or "=" in text or "javascript:" in text,
        re.compile(r"<\s*script|javascript:|\bonerror\s*="),
    ),
    "path": (lambda text: "." in text, re.compile(r"\.\./|\.\.\\")),
}


def firewall_warnings(body_text: str) -> list[str]:
    """Names of the kinds of text in a body that web firewalls are known to block, sorted.

    ``0x`` in random identifiers was seen to be blocked; the others follow common rule sets.
    """
    lower = body_text.lower()
    return [
        name
        for name, (may_hold, pattern) in sorted(_FIREWALL.items())
        if may_hold(lower) and pattern.search(lower)
    ]
