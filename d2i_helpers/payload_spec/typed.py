"""From the text of a specification file to what each of its keys is declared to hold.

Every value of a file arrives as text. Truth and whole numbers are made where a key is declared to
hold them and nowhere else: codes, words, names and patterns stay as typed. What does not fit is
left as it is, for `checks` to name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from d2i_helpers.payload_spec.checks import BLOCK_KEYS, SOURCE_KEYS, TOP_KEYS
from d2i_helpers.payload_spec.field_checks import FIELD_KEYS
from d2i_helpers.payload_spec.registry import TRANSFORMS

_TRUTH = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)


def typed(text: Mapping[str, Any]) -> dict[str, Any]:
    """The (merged) text of a specification with truth and whole numbers where they belong."""
    made = _typed_keys(text, TOP_KEYS)
    made |= {
        name: _each(made[name], rule)
        for name, rule in (("sources", _source), ("blocks", _block), ("request", _request))
        if name in made
    }
    return {**made, "booleans": _by_truth(made["booleans"])} if "booleans" in made else made


def _each(entries: Any, rule: Callable[[Any], Any]) -> Any:
    if not isinstance(entries, Mapping):
        return entries
    return {
        name: rule(entry) if isinstance(entry, Mapping) else entry
        for name, entry in entries.items()
    }


def _source(entry: Mapping[str, Any]) -> dict[str, Any]:
    return _typed_keys(entry, SOURCE_KEYS)


def _request(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry, "item": _whole(entry["item"])} if "item" in entry else dict(entry)


def _block(entry: Mapping[str, Any]) -> dict[str, Any]:
    made = _typed_keys(entry, BLOCK_KEYS)
    return {**made, "fields": _each(made["fields"], _field)} if "fields" in made else made


def _field(entry: Mapping[str, Any]) -> dict[str, Any]:
    made = _typed_keys(entry, FIELD_KEYS)
    transform = TRANSFORMS.get(made.get("transform"))
    rules = {"boolean": _truth, "integer": _whole}
    if "default" in made and transform and transform.makes in rules:
        made["default"] = rules[transform.makes](made["default"])
    if "item" in made:
        made["item"] = _whole(made["item"])
    if "sentences" in made:
        made["sentences"] = _by_truth(made["sentences"])
    return made


def _by_truth(words: Any) -> Any:
    """Lists of words that stand under true and under false."""
    if not isinstance(words, Mapping):
        return words
    return {_truth(word): listed for word, listed in words.items()}


def _typed_keys(entry: Mapping[str, Any], declared: Mapping[str, type]) -> dict[str, Any]:
    rules = {bool: _truth, int: _whole}
    return {
        key: rules[declared[key]](value) if declared.get(key) in rules else value
        for key, value in entry.items()
    }


def _truth(value: Any) -> Any:
    """True or false where that is written, else the value itself."""
    return _TRUTH.get(value.lower(), value) if isinstance(value, str) else value


def _whole(value: Any) -> Any:
    """The whole number that is written in figures, else the value itself."""
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
