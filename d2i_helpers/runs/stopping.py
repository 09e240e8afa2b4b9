"""A run that is told to end from outside: by Ctrl-C, or by a signal."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from d2i_helpers.errors import D2IError

STOPPED_EXIT = 130  # as shells say it of a command that was stopped


class Stopped(KeyboardInterrupt):
    """The run was told to stop from outside (SIGTERM)."""


class Interrupted(D2IError):
    """The run was stopped from outside."""

    exit_code = STOPPED_EXIT


def stopped_by(cause: KeyboardInterrupt) -> D2IError:
    """The error that a run ends with which was stopped that way."""
    how = "a signal to end (SIGTERM)" if isinstance(cause, Stopped) else "Ctrl-C"
    return Interrupted(f"The run was stopped by {how}.", hint="`d2i run --resume` goes on with it.")


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM (systemd, Task Scheduler, a shutdown) end the run in order, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
