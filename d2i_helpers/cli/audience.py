"""Let a command go on when nobody reads its output any more.

`d2i run … | head` closes the pipe after ten lines, a terminal is shut, a log's disk is full. A run
that ended there would leave children half-way and a record that says it is still running.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO


class PatientStream:
    """A text stream that can be written to even when its reader has gone.

    Args:
        stream: the real one; None where the process has none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # open as long as the process: it stands for a standard stream
        self._stream = stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        self._is_alone = False

    def write(self, text: str) -> int:
        """Write the text, or drop it if nobody reads."""
        if not isinstance(text, str):
            raise TypeError("a text stream takes text")
        if not self._is_alone:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                known = self._stream.encoding or "ascii"
                self.write(text.encode(known, "replace").decode(known))
            except (OSError, ValueError):  # no reader, no space, or closed
                self._stay_alone()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream, if somebody reads."""
        if not self._is_alone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._stay_alone()

    def _stay_alone(self) -> None:
        """Drop what is left in the buffer, and all that C libraries still write there."""
        self._is_alone = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # what is written there would not come by here
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def outliving_audience() -> Iterator[None]:
    """In the block, nothing fails because nobody reads standard output or error."""
    before = sys.stdout, sys.stderr
    patient = PatientStream(before[0]), PatientStream(before[1])
    sys.stdout, sys.stderr = patient
    try:
        yield
    finally:
        for stream in patient:
            stream.flush()
        sys.stdout, sys.stderr = before
