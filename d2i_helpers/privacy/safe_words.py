"""Which words and values may stand in a notebook or a run record, judged by their shape.

Only numbers and words that this project wrote may. A text that could be a value of a row is hidden:
one with capitals inside, a long number, a lone capitalised word that the project does not know.
This is the first of two barriers. The runner also searches every record for the identifiers of the
cohort.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from d2i_helpers.database.known_words import PROJECT_ABBREVIATIONS, project_words
from d2i_helpers.settings.addresses import ADDRESSES, address_parts

HIDDEN = "(hidden)"
_KNOWN = "|".join(PROJECT_ABBREVIATIONS)
_WORD = rf"(?:[a-z]+(?:['’][a-z]+)?|{_KNOWN})"
# a first word with or without a capital, then lower-case words, abbreviations and short numbers
_LABEL = re.compile(
    rf"(?:[A-Z][a-z]+(?=[ ,:/-])|{_WORD})(?:[-/ ,;:()+.%_<>=`\[\]]+(?:{_WORD}|\d{{1,3}}%?)?)*"
)
_MASKED_IDS = re.compile(r"…\w{0,2}(?:, …\w{0,2})*(?:, …)?")  # as `attention.mask` makes them
_NAME_IN_CODE = re.compile(r"\b[a-z][a-z0-9_]*\b")
_SHORT_NUMBER = re.compile(r"\d{1,3}")  # such as an HTTP status
_LOOKS_LIKE_A_VALUE = re.compile(
    r"\b(?:[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"  # postcode
    r"|[A-Z]\d{11,12}[A-Z\d]?"  # unique pupil number
    r"|\d{4}-\d\d-\d\d|\d\d?/\d\d?/\d{4}"  # date
    r"|\d{6,})\b"  # any id
)


@functools.cache
def vocabulary() -> frozenset[str]:
    """Words that only this project can have written: `project_words`, and the names of states."""
    from d2i_helpers.staging import states

    states_of_rows = (states.RowState, states.Status, states.Outcome, states.Event)
    return project_words() | {str(member) for names in states_of_rows for member in names}


def safe_label(text: str) -> str:
    """The text, or ``(hidden)`` where it might be a child's value and not a label."""
    shaped = _LABEL.fullmatch(text) or _MASKED_IDS.fullmatch(text) or _SHORT_NUMBER.fullmatch(text)
    if not text or shaped or text in vocabulary() or _LABEL.fullmatch(_without_names(text)):
        return text
    return HIDDEN


def _without_names(text: str) -> str:
    """The text with a plain word in place of each known name, such as `s47`, which has a digit."""
    return _NAME_IN_CODE.sub(lambda name: "ours" if name[0] in vocabulary() else name[0], text)


def safe_title(text: str) -> str:
    """As `safe_label`, but a lone capitalised word passes, since a notebook's author wrote it."""
    return text if re.fullmatch(r"[A-Z][a-z]+", text) else safe_label(text)


@dataclass(frozen=True)
class OwnTime:
    """A time that this program measured, such as the start of a request; never one of a row."""

    at: datetime  # UTC


def safe_value(value: Any) -> str:
    """A value as text: a number, a safe label or an `OwnTime`; everything else is hidden."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, OwnTime):
        return f"{value.at:%Y-%m-%d %H:%M:%S}"
    return safe_label(value) if isinstance(value, str) else HIDDEN


def safe_sentence(text: str) -> str:
    """A sentence without whatever looks like a postcode, a UPN, a date or a long number."""
    return _LOOKS_LIKE_A_VALUE.sub("…", text)


def shown_setting(name: str, value: Any) -> str:
    """A parameter's value as it may be shown."""
    kept = saved_setting(name, value)
    if isinstance(kept, bool):
        return "yes" if kept else "no"
    if isinstance(kept, list):
        return ", ".join(kept)
    return "" if kept is None else str(kept)


def saved_setting(name: str, value: Any) -> Any:
    """A parameter's value as it may be saved: the number of ids, harmless parts of addresses."""
    if name == "person_ids":
        return f"{len(value)} ids" if value else None
    if name in ADDRESSES and value:
        return address_parts(name, value).saved
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if isinstance(value, date) else value
