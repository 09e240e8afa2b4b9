"""Files that people write: their encoding, and YAML whose values stay as typed.

YAML 1.1 turns `0123` into 83, `12:30` into 750, `NO` into false and `1e3` into 1000. Ids and codes
must not be guessed, so every value is read as text here. The code that uses a file converts the
text to the type that it expects.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any, Protocol

import yaml

BYTE_ORDER_MARK = "\ufeff"
_MARKS = {  # the longer marks first: that of UTF-32 begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAVE = "Save it as UTF-8 in your editor (Notepad: Save as, Encoding: UTF-8)."
_CHECK = "Check indentation, colons and quotes there, and in the line before."
_BACKSLASH = (
    "In double quotes a backslash begins an escape: put a Windows path in single quotes or in none."
)
_TAB = "The line begins with a tab. Put blanks in its place: YAML takes no tab for indentation."
_NULL = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"
_MOST_LEVELS = 50
_LINE_END = re.compile(r"\r\n|\n|\r")
_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_STANDARD_TYPE = re.compile(r"tag:yaml\.org,2002:([a-z]{1,9})")


class Unreadable(ValueError):
    """A file or text that cannot be used; the message follows its name."""

    def __init__(self, said: str, hint: str) -> None:
        super().__init__(said)
        self.said = said
        self.hint = hint


class _Readable(Protocol):
    """A path, or a file inside a package."""

    def read_bytes(self) -> bytes: ...


def read_text(path: _Readable | Path) -> str:
    """The text of a file in UTF-8 or in the encoding of its byte-order mark, without the mark.

    Raises:
        Unreadable: it is in another encoding.
        OSError: it cannot be read.
    """
    return decode(path.read_bytes())


def decode(content: bytes) -> str:
    """The text that a file's bytes encode, see `read_text`.

    Raises:
        Unreadable: they are in another encoding.
    """
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    try:
        text = content.decode(marked or "utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        if marked:
            raise Unreadable(f" is damaged {marked.upper()} text", _SAVE) from None
        likely = "UTF-16" if b"\0" in content else "ANSI (Windows-1252)"
        said = f", line {line}, is not UTF-8 text; it looks like {likely}"
        raise Unreadable(said, _SAVE) from None
    if "\0" in text:
        raise Unreadable(" is not UTF-8 text; it looks like UTF-16", _SAVE)
    return text.lstrip(BYTE_ORDER_MARK)


def as_name(typed: object) -> str:
    """What was typed where a name belongs, as far as it is one, to be shown in a message.

    The rest may be a secret: ``client_secret:abc==`` has a colon for the equals sign.
    """
    text = str(typed)
    name = _NAME.match(text)
    if name is None:
        return "…"
    return name[0] if name[0] == text else f"{name[0]}…"


def lines_of(text: str) -> list[str]:
    """The lines as an editor shows them; rarer line separators stay inside a line."""
    return _LINE_END.split(text)


def parse_yaml(text: str) -> Any:
    """Tables, lists and text as typed; ``null``, ``~`` or nothing after a name is None.

    Raises:
        Unreadable: it is not YAML, a name stands twice in one table, a list holds a null that is
            not in quotes, or a type is written out (`!!int`).
    """
    try:
        content = yaml.load(text, Loader=_Loader)
        if _is_deeper(content, _MOST_LEVELS):  # an anchor within itself has no end
            raise RecursionError
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}," if mark else ""
        if isinstance(error, _NotTaken):
            raise Unreadable(f"{where} {error.problem}", error.hint) from None
        problem = str(getattr(error, "problem", "") or "")
        escape = "escape" in problem or "hexdecimal" in problem
        hint = _BACKSLASH if escape else _TAB if _begins_with_tab(text, mark) else _CHECK
        raise Unreadable(f"{where} is not valid YAML", hint) from None
    except RecursionError:
        raise Unreadable(" is nested too deeply", _CHECK) from None
    return content


def _is_deeper(content: Any, levels: int) -> bool:
    """Whether tables and lists lie in each other more often than that."""
    if not isinstance(content, dict | list):
        return False
    inner = content.values() if isinstance(content, dict) else content
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _begins_with_tab(text: str, mark: Any) -> bool:
    """Whether there is a tab before the first word of the line where reading stopped."""
    lines = lines_of(text)
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    return "\t" in line[: len(line) - len(line.lstrip())]


class _NotTaken(yaml.constructor.ConstructorError):
    """YAML that is well formed but not accepted."""

    def __init__(self, problem: str, mark: Any, hint: str) -> None:
        super().__init__(None, None, problem, mark)
        self.hint = hint


class _Loader(yaml.CSafeLoader):
    """Loads YAML without guessing types, and refuses a name that occurs twice in one table."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        """Read a table; its names are text, whatever they look like."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _NotTaken("has a list or table for a name", key.start_mark, _CHECK)
            if key.value in seen:
                said = f"holds `{as_name(key.value)}` twice in one table"
                raise _NotTaken(said, key.start_mark, "Take out the one that is not meant.")
            seen.add(key.value)
            if key.tag == _NULL:
                key.tag = _TEXT
        return super().construct_mapping(node, deep)

    def construct_sequence(self, node: Any, deep: bool = False) -> list:
        """Read a list; an empty entry is refused."""
        for item in node.value:
            if item.tag == _NULL:
                raise _NotTaken(
                    "has an entry of a list that is empty or null",
                    item.start_mark,
                    "Take it out, or put it in quotes where the word itself is meant.",
                )
        return super().construct_sequence(node, deep)

    def refuse_type(self, node: Any) -> Any:
        """Refuse a type that is written out, since it would turn text into something else."""
        standard = _STANDARD_TYPE.fullmatch(node.tag)
        if standard:
            said, hint = f"names the type {standard[1]}", "Leave it out; put text in quotes."
        else:  # a password may begin with an exclamation mark, so it is not quoted
            said, hint = "has a text that begins with `!`", "Put text in quotes."
        raise _NotTaken(said, node.start_mark, hint)


# of the words that plain YAML converts, only these are not text
_Loader.yaml_implicit_resolvers = {
    "<": [("tag:yaml.org,2002:merge", re.compile("^<<$"))],
    **{first: [(_NULL, re.compile("^(?:~|null|Null|NULL|)$"))] for first in ("~", "n", "N", "")},
}
_Loader.yaml_constructors = {
    **{
        tag: construct
        for tag, construct in yaml.CSafeLoader.yaml_constructors.items()
        if tag and tag.rpartition(":")[2] in {"map", "seq", "str", "null"}
    },
    None: _Loader.refuse_type,
}
