"""Messages of libraries without any value: words of a closed list stay, all others become ``…``.

Drivers, parsers and Python itself quote what they fail on: a row, a name, half a document. No
pattern finds all of that. So a word stays only if it is in the list (`known_words`), and numbers
of more than three digits never stay.
"""

from __future__ import annotations

import re
import unicodedata

from d2i_helpers.database.known_words import library_words, table_names

GONE = "…"
_LONGEST = 600  # characters that are looked at
_PIECE = re.compile(
    r"\d+(?:[.,:/ -]?\d+)*(?!\w)"  # numbers, dates, times, addresses
    r"|\w+(?:\.[A-Za-z_]\w*)*"
)
_NOT_SHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, halves, ends of line
_HARMLESS = re.compile(r"\d{1,3}")
_RUN = re.compile(r"…(?:[^\w…]{0,4}…)+")


def known_names(text: object) -> list[str]:
    """Tables and columns that the message names, in their order."""
    words = re.findall(r"[A-Za-z]\w*", str(text))
    # a name without an underscore may be a plain word
    return list(dict.fromkeys(w for w in words if "_" in w and w.lower() in table_names()))


def _is_port(match: re.Match[str]) -> bool:
    return match[0].isdigit() and match.string[: match.start()].endswith("port ")


def without_controls(text: str) -> str:
    """The text without what a terminal would obey: control codes, and marks that turn text round.

    A line break becomes a blank, so that nobody can add a line to a message.
    """
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\t\n\r":
        return " "
    return GONE if unicodedata.category(character) in _NOT_SHOWN else character


def without_values(text: object, known: frozenset[str] = frozenset()) -> str:
    """The message with ``…`` for every word that is not known to be harmless.

    Args:
        text: what a library said; anything whose text can be had.
        known: further words that may stay, as they are written.
    """
    try:
        said = str(text)
    except Exception:  # a broken __str__ has nothing to say
        return GONE
    harmless = library_words()

    def kept(match: re.Match[str]) -> str:
        word = match[0]
        if word in known or _HARMLESS.fullmatch(word) or _is_port(match):
            return word
        return ".".join(part if part.lower() in harmless else GONE for part in word.split("."))

    short = _PIECE.sub(kept, said[:_LONGEST])
    return _RUN.sub(GONE, short + (GONE if len(said) > _LONGEST else ""))
