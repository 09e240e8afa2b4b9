"""Which records an error names, and why, from text or JSON of any shape.

The first index after the root is the record (``$[3].social_care_episodes[0].…factors[41]`` is
record 3 and no other). What is kept of the reason are names of fields and words of rules.

An error may quote what it was sent, and a forename may be "Ann [3]". So a record counts as named
only where that is sure: what is in doubt names nobody, and the client then finds the bad records by
sending parts, which costs requests but is right in any case.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from d2i_helpers.errors import SpecificationError
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.submit.answers import content_of

MAX_REASON = 300  # characters
_MAX_TEXT = 300_000  # characters of an answer that are searched
_MAX_DEPTH = 20  # of objects and lists in each other

# a path: its root, the record's index, then names after a dot or in brackets, and further indexes
_PATH = re.compile(
    r"(?:(?P<dollar>\$)"
    r"|(?P<list>(?<![\w\].])(?:\$\.)?(?:body|request|payload|data|input|array|root|"
    r"(?:child|record|item)(?:ren|s)?))"
    r"|(?<![\w\].)$]))"
    r"\[(?P<position>\d{1,6})\]"
    r"(?P<rest>(?:\s?\.\s?[A-Za-z_]\w*|\[\d{1,6}\]|\[\\?[\"'][A-Za-z_]\w*\\?[\"']\])*)",
    re.IGNORECASE,
)
_PATH_PART = re.compile(r"\[(\d+)\]|([A-Za-z_]\w*)")
_QUOTED = re.compile(r"\"[^\"]{0,200}\"|'[^']{0,200}'|`[^`]{0,200}`|“[^”]{0,200}”|‘[^’]{0,200}’")
# not the apostrophe of "O'Brien"; what could not be read may be one too
_QUOTE_MARK = re.compile(r"[\"`“”‘’«»\ufffd]|(?<!\w)'|'(?!\w)")
_WORD = re.compile(r"[A-Za-z_]+")

# keys of JSON, in lower case and without "_" and "-": what stands under them
_PATH_KEYS = frozenset(
    [
        "path",
        "paths",
        "jsonpath",
        "propertyname",
        "property",
        "field",
        "fieldname",
        "pointer",
        "instancepath",
        "datapath",
        "location",
        "loc",
        "member",
        "membernames",
        "parameter",
        "param",
        "attribute",
        "target",
    ]
)
_TEXT_KEYS = frozenset(
    [
        "message",
        "messages",
        "errormessage",
        "errormessages",
        "error",
        "errors",
        "detail",
        "details",
        "title",
        "description",
        "errordescription",
        "reason",
        "reasons",
        "problem",
        "problems",
        "text",
        "msg",
        "fault",
        "failures",
        "validationerrors",
        "modelstate",
    ]
)
_ECHO_KEYS = frozenset(
    [
        "attemptedvalue",
        "value",
        "values",
        "rejectedvalue",
        "input",
        "received",
        "actual",
        "got",
        "given",
        "data",
        "body",
        "request",
        "payload",
        "record",
        "child",
        "instance",
        "content",
        "document",
        "example",
    ]
)
# a path in running text counts at the beginning, after one of these words, or after another path
_INTRODUCED = re.compile(
    r"\b(?:at|in|for|on|paths?|records?|child(?:ren)?|items?|index|position|row|element|"
    r"number|errors?|invalid)\W{0,3}$",
    re.IGNORECASE,
)
_LISTED = re.compile(r"\W*(?:(?:and|or)\W+)?", re.IGNORECASE)
_NEXT_WORD = re.compile(r"\s*(\w*)")

_RULE_WORDS = """
    a additional after allowed an and are array at be before boolean characters code contain
    contains
    converted could date datetime does duplicate duplicated empty enum exceeds expected failed field
    few fewer format future greater in integer invalid is it items least length less list long
    longer malformed many match maximum minimum missing more most must no not null number object of
    one only or past pattern permitted properties property range required same schema short shorter
    should string than the to too twice type unexpected unique unknown valid value values wrong
    maxlength minlength maxitems minitems uniqueitems additionalproperties const
"""
RULE_WORDS = frozenset(_RULE_WORDS.split())

_GOES_ON = RULE_WORDS | frozenset(["was", "were", "have", "cannot", "fails", "line"])


class _Mention(NamedTuple):
    """A place where an error names a record."""

    rank: int  # how sure it is: only those of the lowest rank that occurs count
    position: int
    path: str  # below the record
    said: str  # text that may give the reason


def named_records(body: bytes, count: int) -> dict[int, str]:
    """Positions (from 0) of the records that the body names, each with its reason.

    Args:
        body: the error as it came.
        count: records in the request; an index beyond them makes the naming unreliable, and then
            nothing counts as named.
    """
    mentions = list(_mentions(content_of(body), "", 0, [_MAX_TEXT]))
    surest = min((mention.rank for mention in mentions), default=0)
    reasons: dict[int, list[str]] = {}
    for mention in mentions:
        if mention.rank == surest:
            parts = (_path(mention.path), _rule(mention.said))
            reasons.setdefault(mention.position, []).append(": ".join(filter(None, parts)))
    if any(position >= count for position in reasons):
        return {}
    return {
        position: ("; ".join(dict.fromkeys(filter(None, texts))) or "named, without a reason")[
            :MAX_REASON
        ]
        for position, texts in reasons.items()
    }


def _mention(mark: re.Match[str], said: str, *, in_text: bool = False) -> _Mention:
    """How much it is trusted: structure before text; ``$[3]``, ``[3]``, then ``children[3]``."""
    rank = 0 if mark["dollar"] else 2 if mark["list"] else 1
    return _Mention(rank + 3 * in_text, int(mark["position"]), mark["rest"], said)


def _mentions(node: Any, key: str, depth: int, left: list[int]) -> Iterator[_Mention]:
    """The records named in a part of an answer.

    Args:
        key: the nearest key above it, "" where there is none.
        left: characters that may still be searched; counted down.
    """
    if depth > _MAX_DEPTH or left[0] <= 0:
        return
    if isinstance(node, str) and (not key or key in _TEXT_KEYS):
        text = node[: left[0]]
        left[0] -= len(text)
        yield from _in_text(text)
    elif isinstance(node, list):
        for entry in node:
            yield from _mentions(entry, key, depth + 1, left)
    elif isinstance(node, dict):
        yield from _in_object(node, depth, left)


def _in_object(node: dict[str, Any], depth: int, left: list[int]) -> Iterator[_Mention]:
    """Records named by a key that is a path, by a path under a key for paths, or further inside."""
    for name, value in node.items():
        key = _plain(name)
        mark = _PATH.match(name.strip())
        if mark:
            yield _mention(mark, _flat(value))
        elif key in _PATH_KEYS:
            marks = (_PATH.match(text.strip()) for text in _strings(value))
            yield from (_mention(mark, _flat(node)) for mark in marks if mark)
        elif key not in _ECHO_KEYS:
            yield from _mentions(value, key, depth + 1, left)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _strings(node: Any) -> list[str]:
    return [entry for entry in (node if isinstance(node, list) else [node]) if type(entry) is str]


def _flat(node: Any, depth: int = 0) -> str:
    """All texts in a part of an answer, without paths and what is quoted of the request."""
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(node, dict):
        unsaid = _ECHO_KEYS | _PATH_KEYS
        kept = (value for name, value in node.items() if _plain(name) not in unsaid)
        return " ".join(_flat(value, depth + 1) for value in kept)
    if isinstance(node, list):
        return " ".join(_flat(entry, depth + 1) for entry in node)
    return node[:2000] if isinstance(node, str) else ""


def _in_text(text: str) -> Iterator[_Mention]:
    """The records that running text names, each with the rule words up to the next."""
    quoted_from, quoted_to = _quoted(text)
    for piece in re.finditer(r"[^\r\n;]+", text):
        marks = [
            mark
            for mark in _told(piece[0])
            if piece.start() + mark.end() <= quoted_from
            or piece.start() + mark.start() >= quoted_to
        ]
        for number, mark in enumerate(marks):
            end = marks[number + 1].start() if number + 1 < len(marks) else len(piece[0])
            said = piece[0][mark.end() : end]
            if len(marks) == 1:  # "surname is required at [3]": the reason may come first
                said = f"{piece[0][: mark.start()]} {said}"
            yield _mention(mark, said, in_text=True)


def _quoted(text: str) -> tuple[int, int]:
    """What is quoted: from the first to the last mark, since it may hold such marks itself."""
    paths = [path.span() for path in _PATH.finditer(text)]
    marks = [mark.start() for mark in _QUOTE_MARK.finditer(text)]
    if any("'" in text[start:end] or '"' in text[start:end] for start, end in paths):
        marks = _outside(marks, paths)
    if not marks:
        return len(text), len(text)
    return marks[0], len(text) if len(marks) == 1 else marks[-1]


def _outside(marks: list[int], paths: list[tuple[int, int]]) -> list[int]:
    """Marks that are not part of a path such as ``$[2]['child_details']``."""
    kept, number = [], 0
    for mark in marks:
        while number < len(paths) and paths[number][1] <= mark:
            number += 1
        if number == len(paths) or mark < paths[number][0]:
            kept.append(mark)
    return kept


def _told(piece: str) -> Iterator[re.Match[str]]:
    """Paths in a sentence that are said by the sentence, and no part of a value in it."""
    end, listed = 0, True
    for mark in _PATH.finditer(piece):
        before = piece[end : mark.start()]
        told = (listed and bool(_LISTED.fullmatch(before))) or bool(
            _INTRODUCED.search(before[-40:])
        )
        word = _NEXT_WORD.match(piece, mark.end())[1]  # type: ignore[index]
        follows = bool(mark["rest"]) or not word or word.lower() in _GOES_ON or _is_name(word)
        end, listed = mark.end(), told and follows
        if listed:
            yield mark


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
    """Words of rules and names of fields in a text, in order, at most 16."""
    bare = _QUOTED.sub(lambda match: match[0][1:-1] if _is_name(match[0][1:-1]) else " ", text)
    kept = [w for w in _WORD.findall(bare) if w.lower() in RULE_WORDS or _is_name(w)]
    meaningful = any(_is_name(word) or len(word) > 3 for word in kept)
    return " ".join(kept[:16]) if meaningful else ""
