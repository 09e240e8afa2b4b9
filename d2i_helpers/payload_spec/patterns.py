"""Patterns of fields. Matching takes time in proportion to the text, whatever the pattern is.

Python's own engine can take years over ``(a+)+$`` and forty letters: an overlay could hang a run.
This engine refuses a pattern that it could not match in linear time. The checks of documents use it
as well, so that a pattern means the same wherever it is applied.
"""

from __future__ import annotations

from collections.abc import Callable

import jsonschema_rs

# bytes of a compiled pattern: repeats of repeats, such as (.{1,30}){1,30}, are refused
_LARGEST = 1 << 18
LINEAR_TIME = jsonschema_rs.RegexOptions(size_limit=_LARGEST)


def whole_match(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether the pattern matches the whole of a text.

    Raises:
        ValueError: the pattern is no regular expression, cannot be matched in linear time
            (look-around, back-references), or is too large.
    """
    _compiled(pattern)  # on its own, so that `a)|(b` is no pattern
    is_valid = _compiled(f"^(?:{pattern})$").is_valid

    def matches(text: str) -> bool:
        try:
            return is_valid(text)
        except UnicodeEncodeError:  # half a character: no text at all
            return False

    return matches


def _compiled(pattern: str) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=LINEAR_TIME)
    except (jsonschema_rs.ValidationError, UnicodeEncodeError) as err:
        raise ValueError("not a pattern that can be matched in linear time") from err
