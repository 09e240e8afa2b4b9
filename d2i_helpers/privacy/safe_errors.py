"""Exceptions as they may be saved: what, where and why in known words, never a value.

The text of an exception may quote a row (``KeyError: 'Smith'``, a frame of pandas, a failed
assertion about a document), and so may the texts of its causes. What can be shown are the classes
of the exceptions, the places in the code, and those words of the texts that are known to be
harmless.
"""

from __future__ import annotations

import functools
import linecache
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from d2i_helpers.database.plain_message import without_values
from d2i_helpers.errors import D2IError
from d2i_helpers.privacy.safe_words import vocabulary

_MOST_FRAMES = 30  # of one exception: the first and the last of a deep recursion
_MOST_LINKS = 10  # of a chain
_LONGEST_LINE = 160


def message_of(error: BaseException) -> str:
    """The text of an exception in known words only; a `D2IError` as it is."""
    if isinstance(error, D2IError):
        return str(error)
    return without_values(error, _known())


def traceback_of(error: BaseException) -> list[str]:
    """Lines that show an exception and its causes, the first cause first, as Python does.

    Lines of code are shown as they stand in the file: code holds no child's data. Notes that were
    added to an exception are left out.
    """
    lines: list[str] = []
    for link, (exception, joint) in enumerate(_chain(error)):
        if link:
            lines += ["", joint, ""]
        lines += _lines_of(exception)
    return lines


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """The exceptions, the first cause first, each with the words that join it to the previous."""
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    shown: BaseException | None = error
    while shown is not None and id(shown) not in seen and len(chain) < _MOST_LINKS:
        seen.add(id(shown))
        joint, before = "", None
        if shown.__cause__ is not None:
            before, joint = shown.__cause__, "It was the direct cause of:"
        elif shown.__context__ is not None and not shown.__suppress_context__:
            before, joint = shown.__context__, "While it was handled, another one was raised:"
        chain.append((shown, joint))
        shown = before
    return chain[::-1]


def _lines_of(error: BaseException) -> Iterator[str]:
    frames = list(_frames(error.__traceback__))
    if len(frames) > _MOST_FRAMES:
        half = _MOST_FRAMES // 2
        frames = [*frames[:half], f"  ({len(frames) - _MOST_FRAMES} more)", *frames[-half:]]
    yield from frames
    yield f"{type(error).__name__}: {message_of(error)}"
    if isinstance(error, BaseExceptionGroup):
        for number, part in enumerate(error.exceptions[:_MOST_LINKS], start=1):
            yield f"  part {number}:"
            yield from (f"    {line}" for line in traceback_of(part))


def _frames(trace: TracebackType | None) -> Iterator[str]:
    for frame, line in traceback.walk_tb(trace):
        code = frame.f_code
        written = linecache.getline(code.co_filename, line, frame.f_globals).strip()
        yield f"  {_place(code.co_filename)}, line {line}, in {code.co_name}"
        if written:
            yield f"    {written[:_LONGEST_LINE]}"


def _place(file_name: str) -> str:
    """The file's name with its folder; ``cell`` for a cell of a notebook."""
    path = Path(file_name)
    if path.parent.name.startswith("ipykernel_"):
        return "cell"
    return "/".join(path.parts[-2:])


@functools.cache
def _known() -> frozenset[str]:
    try:
        return vocabulary()
    except D2IError:  # a broken specification; it may be the error that is being shown
        return frozenset()
