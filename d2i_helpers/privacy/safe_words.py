"""Which words and values may stand in a notebook or a run record, judged by their shape.

Only numbers, and words that this project wrote. A text that could be a value out of a row (capitals
inside, a long number, a lone capitalised word that is no name of ours) is replaced. This is the
first of two barriers: the runner also compares every record with the identifiers of the cohort.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from d2i_helpers.settings.addresses import ADDRESSES, address_parts

HIDDEN = "(hidden)"
_ABBREVIATIONS = (
    "API CIN CLA CMS CP DfE EHCP HTML HTTP IDs JSON LA NaN OK SDQ SEN SHA SQL SQLite SSD "
    "PostgreSQL UASC UN UPN UPNs URL UTF YAML"
)
_KNOWN = "|".join(_ABBREVIATIONS.split())
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
    """Words that only this project can have written: fields, columns, sources, rules, states."""
    from d2i_helpers import stages
    from d2i_helpers.database import tables
    from d2i_helpers.payload_spec import load_spec
    from d2i_helpers.payload_spec.registry import INCLUSION_SETS, ROW_RULES
    from d2i_helpers.settings import Settings
    from d2i_helpers.staging import states

    words = set(Settings.model_fields)
    for enumeration in (states.RowState, states.Status, states.Outcome, states.Event):
        words.update(str(member) for member in enumeration)
    for row in tables.ssd_columns():
        words.update((row["table"], row["column"], f"{row['table']}.{row['column']}"))
    spec = load_spec()
    words.update(part for block in spec.blocks.values() for part in (block.name, block.path))
    words.update(part for _, field in spec.fields() for part in (field.name, field.path))
    words.update(spec.sources, ROW_RULES, INCLUSION_SETS)
    words.update(stages.names(), (name.capitalize() for name in stages.names()))
    words.update({"Children", "Documents", "Fields", "Items", "Problems", "Requests", "Events"})
    return frozenset(words)


def safe_label(text: str) -> str:
    """The text, or ``(hidden)`` where it might be a value of a child instead of a label of ours."""
    shaped = _LABEL.fullmatch(text) or _MASKED_IDS.fullmatch(text) or _SHORT_NUMBER.fullmatch(text)
    if not text or shaped or text in vocabulary() or _LABEL.fullmatch(_without_names(text)):
        return text
    return HIDDEN


def _without_names(text: str) -> str:
    """The text with a plain word for each name of ours that has digits in it, such as `s47`."""
    return _NAME_IN_CODE.sub(lambda name: "ours" if name[0] in vocabulary() else name[0], text)


def safe_title(text: str) -> str:
    """As `safe_label`, but a lone capitalised word passes: a notebook's author wrote it."""
    return text if re.fullmatch(r"[A-Z][a-z]+", text) else safe_label(text)


@dataclass(frozen=True)
class OwnTime:
    """A time that this program took itself, such as the start of a request: never one of a row."""

    at: datetime  # UTC


def safe_value(value: Any) -> str:
    """A number as text, a safe label or a time of ours as it is, everything else hidden."""
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
    """A sentence of ours without what looks like a postcode, a UPN, a date or a long number."""
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
    """A parameter's value as it may be saved: ids as their number, of addresses harmless parts."""
    if name == "person_ids":
        return f"{len(value)} ids" if value else None
    if name in ADDRESSES and value:
        return address_parts(name, value).saved
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if isinstance(value, date) else value


def masked(value: Any) -> Any:
    """The same shape with every value as dots; flags stay."""
    if isinstance(value, Mapping):
        return {key: masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [masked(part) for part in value]
    return value if isinstance(value, bool) or value is None else "…"
