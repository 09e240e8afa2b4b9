"""Which records an error names, and why, from text or JSON of any shape.

The first index after the root is the record (``$[3].social_care_episodes[0].…factors[41]`` is
record 3 and no other). What is kept of the reason are names of fields and words of rules.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import orjson

from d2i_helpers.errors import SpecificationError
from d2i_helpers.spec import load_spec

MAX_REASON = 300  # characters
_MAX_TEXT = 1_000_000

# what may follow the root's index: names after a dot or in brackets, and further indexes
_REST = r"((?:\s?\.\s?[A-Za-z_]\w*|\[\d{1,6}\]|\[\\?[\"'][A-Za-z_]\w*\\?[\"']\])*)"
# ways to write the root, from the surest to the least sure; only the surest that occurs is read
_ROOTS = (
    re.compile(r"\$\[(\d{1,6})\]" + _REST),
    re.compile(r"(?<![\w\].)$])\[(\d{1,6})\]" + _REST),
    re.compile(
        r"(?<![\w\].])(?:\$\.)?(?:body|request|payload|data|input|array|root|"
        r"(?:child|record|item)(?:ren|s)?)\[(\d{1,6})\]" + _REST,
        re.IGNORECASE,
    ),
)
_PATH_PART = re.compile(r"\[(\d+)\]|([A-Za-z_]\w*)")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”|‘[^’]*’")
_WORD = re.compile(r"[A-Za-z_]+")

_RULE_WORDS = """
    a additional after allowed an and array at be before boolean characters code contain contains
    converted could date datetime does duplicate duplicated empty enum exceeds expected failed field
    few fewer format future greater in integer invalid is it items least length less list long
    longer malformed many match maximum minimum missing more most must no not null number object of
    one only or past pattern permitted properties property range required same schema short shorter
    should string than the to too twice type unexpected unique unknown valid value values wrong
    maxlength minlength maxitems minitems uniqueitems additionalproperties const
"""
RULE_WORDS = frozenset(_RULE_WORDS.split())


def named_records(body: bytes, count: int) -> dict[int, str]:
    """Positions (from 0) of the records that the body names, each with its reason.

    Args:
        body: the error as it came.
        count: records in the request; an index beyond them makes the naming unreliable, and then
            nothing counts as named.
    """
    pieces = list(_pieces(body[:_MAX_TEXT]))
    for root in _ROOTS:
        found: dict[int, list[str]] = {}
        for piece in pieces:
            for position, reason in _in_piece(root, piece):
                found.setdefault(position, []).append(reason)
        if found:
            break
    if any(position >= count for position in found):
        return {}
    return {
        position: ("; ".join(dict.fromkeys(filter(None, reasons))) or "named, without a reason")[
            :MAX_REASON
        ]
        for position, reasons in found.items()
    }


def _pieces(body: bytes) -> Iterator[str]:
    """Stretches of text in which a path and its reason stand together."""
    try:
        content: Any = orjson.loads(body)
    except ValueError:
        yield from re.split(r"[\r\n;]+", body.decode("utf-8", errors="replace"))
        return
    yield from _json_pieces(content)


def _json_pieces(node: Any) -> Iterator[str]:
    """An object's own texts together, ``{"$[3].sex": ["…"]}`` as key and text; lists item by item.

    A list of bare numbers (``{"rows": [3]}``) is no naming in a form that can be relied on.
    """
    if isinstance(node, str):
        yield from re.split(r"[\r\n;]+", node)
    elif isinstance(node, list):
        for one in node:
            yield from _json_pieces(one)
    elif isinstance(node, dict):
        own = [text for text in node.values() if isinstance(text, str)]
        if own:
            yield from _together(own)
        for key, value in node.items():
            if any(root.search(key) for root in _ROOTS):
                yield f"{key}: {_flat(value)}"
            elif not isinstance(value, str):
                yield from _json_pieces(value)


def _together(texts: list[str]) -> Iterator[str]:
    """Where just one text of an object holds a path, the others tell its reason."""
    with_path = [text for text in texts if any(root.search(text) for root in _ROOTS)]
    if len(with_path) == 1:
        others = [text for text in texts if text is not with_path[0]]
        yield " ".join([*re.split(r"[\r\n;]+", with_path[0]), *others])
    else:
        for text in texts:
            yield from _json_pieces(text)


def _flat(node: Any) -> str:
    if isinstance(node, dict):
        return " ".join(_flat(one) for one in node.values())
    if isinstance(node, list):
        return " ".join(_flat(one) for one in node)
    return node if isinstance(node, str) else ""


def _in_piece(root: re.Pattern[str], piece: str) -> Iterator[tuple[int, str]]:
    """Each record named in a piece of text, with its path and the rule words up to the next."""
    marks = list(root.finditer(piece))
    for number, mark in enumerate(marks):
        end = marks[number + 1].start() if number + 1 < len(marks) else len(piece)
        said = piece[mark.end() : end]
        if len(marks) == 1:  # "surname is required at [3]": the reason may come first
            said = f"{piece[: mark.start()]} {said}"
        path, rule = _path(mark.group(2)), _rule(said)
        yield int(mark.group(1)), ": ".join(part for part in (path, rule) if part)


@functools.cache
def _names() -> frozenset[str]:
    """Names of fields and blocks: the only names in a path that are shown."""
    try:
        spec = load_spec()
    except SpecificationError:
        return frozenset({"purge"})
    return frozenset({*spec.blocks, *(field.name for _, field in spec.fields()), "purge"})


def _is_name(word: str) -> bool:
    """A known name, or one of an overlay: lower case with an underscore."""
    return word in _names() or bool(re.fullmatch(r"[a-z]+(_[a-z]+)+", word))


def _path(text: str) -> str:
    """The path below the record, without any name that could be a value."""
    path = ""
    for index, name in _PATH_PART.findall(text):
        if index:
            path += f"[{index}]"
        else:
            path += ("." if path else "") + (name if _is_name(name) else "…")
    return path


def _rule(text: str) -> str:
    """The words of rules and names of fields in a text, in order; at most 16."""
    bare = _QUOTED.sub(lambda match: match[0][1:-1] if _is_name(match[0][1:-1]) else " ", text)
    kept = [w for w in _WORD.findall(bare) if w.lower() in RULE_WORDS or _is_name(w)]
    meaningful = any(_is_name(word) or len(word) > 3 for word in kept)
    return " ".join(kept[:16]) if meaningful else ""
