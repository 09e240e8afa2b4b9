"""No log line, warning or error of a library holds a value, at any log level.

Log records are made safe when they are created, not when a handler writes them. This covers all
handlers, of libraries (``echo=True`` of SQLAlchemy) and of users, whether added before or after the
guard. A library's text is reduced to known words (`plain_message`), then searched for identities
and secrets. Warnings and exceptions of threads are treated in the same way.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from d2i_helpers.database.plain_message import without_values
from d2i_helpers.privacy.safe_errors import traceback_of
from d2i_helpers.processes import leave_no_core

Redact = Callable[[str], str]
LEVELS = {"warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


class SafeRecord(logging.LogRecord):
    """A log record whose text, arguments and traceback hold no value."""

    redact: Redact = staticmethod(lambda text: text)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            said = super().getMessage()
        except Exception:  # arguments that do not fit the format may hold anything
            said = "message with wrong arguments"
        self.msg, self.args = self.redact(without_values(said)), ()
        error = self.exc_info[1] if self.exc_info else None
        if error is not None:
            self.exc_text = self.redact("\n".join(traceback_of(error)))
        self.exc_info = None
        self.stack_info = None if self.stack_info is None else "(left out)"


class _ToStandardError(logging.Handler):
    """Writes to the current `sys.stderr`: a kernel replaces it after its start."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; the record is safe already."""
        _say(self.format(record))


class _Raw:
    """A stream that `guard_stream` guards, with its original way of writing."""

    stream: Any = None
    write: Callable[[str], Any] | None = None


_HANDLER = _ToStandardError()
_HANDLER.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))


def guard_process(redact: Redact | None = None, *, level: str | None = None) -> None:
    """Make log lines, warnings and exceptions of threads safe in this process, from now on.

    A crash leaves no image of its memory either.

    It may be called again with more to search for.

    Args:
        redact: removes identities and secrets from a text.
        level: warning, info or debug: log lines from this level on are written to standard error;
            None changes nothing.
    """
    leave_no_core()
    if redact is not None:
        SafeRecord.redact = staticmethod(redact)
    logging.setLogRecordFactory(SafeRecord)
    warnings.showwarning = _show_warning
    threading.excepthook = _show_thread_error
    sys.excepthook = _show_error
    sys.unraisablehook = _show_unraisable
    if level is not None:
        root = logging.getLogger()
        if _HANDLER not in root.handlers:
            root.addHandler(_HANDLER)
        root.setLevel(LEVELS[level])
        # at DEBUG it writes every row that is read
        logging.getLogger("sqlalchemy").setLevel(max(logging.INFO, LEVELS[level]))


def guard_stream(stream: Any) -> None:
    """Reduce what other modules write to this stream to known words, from now on.

    This is for libraries that print a traceback and, in a kernel, for what is written to the file
    descriptor behind the stream.
    """
    raw = stream.write

    def write(text: str) -> int:
        lines = (without_values(line) for line in text.split("\n"))
        raw(SafeRecord.redact("\n".join(lines)))
        return len(text)

    stream.write = write
    _Raw.stream, _Raw.write = stream, raw


def _say(text: str) -> None:
    if sys.stderr is None:  # a process without a console on Windows
        return
    is_guarded = _Raw.write is not None and sys.stderr is _Raw.stream
    write = _Raw.write if is_guarded and _Raw.write else sys.stderr.write
    write(f"{SafeRecord.redact(text)}\n")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    where = "/".join(Path(filename).parts[-2:])
    _say(f"{where}, line {lineno}: {category.__name__}: {without_values(message)}")


def _show_error(_kind: Any, error: BaseException, _trace: Any) -> None:
    _say("\n".join(traceback_of(error)))


def _show_thread_error(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _say("In a thread:\n" + "\n".join(traceback_of(args.exc_value)))


def _show_unraisable(args: Any) -> None:
    if args.exc_value is not None:
        _say("Left unhandled:\n" + "\n".join(traceback_of(args.exc_value)))
