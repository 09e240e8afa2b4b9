"""The shape of a receipt: the DfE's, or another one that a profile gives as a form.

A form is made of parts and plain characters, not a regular expression: it can neither match
anything at all nor take long.
"""

from __future__ import annotations

import re

# date, time, up to 7 digits of a second, an id: as the DfE writes the receipt of one record
DFE_RECEIPT = re.compile(
    r"\d{4}-\d\d-\d\d[_T ]\d\d:\d\d:\d\d(\.\d{1,7})?_[0-9A-Fa-f-]{8,64}(\.json)?", re.ASCII
)
PARTS = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(?:\.\d{1,7})?",
    "id": r"(?=[^\d]*\d)[0-9A-Za-z-]{8,64}",  # with a digit in it: "rejected" is none
    "number": r"\d{1,20}",
}
_PIECE = re.compile(r"\{([a-z]+)\}|([^{}]+)")
MAX_FORM = 80  # characters of a form: what matches it fits into the submission log


def receipt_pattern(form: str | None) -> re.Pattern[str]:
    """The pattern that a whole receipt has to match.

    Args:
        form: such as ``{date}_{time}_{id}.json``; None: the DfE's shape.

    Raises:
        ValueError: an unknown part, one twice, two side by side, neither an id nor a number, or
            too long.
    """
    if form is None:
        return DFE_RECEIPT
    if len(form) > MAX_FORM:
        raise ValueError(f"a receipt's form has {MAX_FORM} characters at most")
    pieces = list(_PIECE.finditer(form))
    names = [piece[1] for piece in pieces if piece[1]]
    if "".join(piece[0] for piece in pieces) != form or set(names) - PARTS.keys():
        known = ", ".join(f"{{{name}}}" for name in PARTS)
        raise ValueError(f"a receipt's form is made of {known} and plain characters")
    if not {"id", "number"} & set(names):
        raise ValueError("a receipt's form needs {id} or {number}: else any answer would match it")
    if len(set(names)) < len(names) or re.search(r"\}\{", form):
        raise ValueError("each part of a receipt's form stands once, with something between two")
    return re.compile(
        "".join(PARTS[piece[1]] if piece[1] else re.escape(piece[0]) for piece in pieces), re.ASCII
    )
