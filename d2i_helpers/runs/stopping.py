"""A run that is told to end from outside: by Ctrl-C, or by a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from d2i_helpers.errors import STOPPED_EXIT, D2IError

LEASH_SECONDS = 60.0  # in which a run whose starter is gone closes its record


class Stopped(KeyboardInterrupt):
    """The run was told to stop from outside (SIGTERM)."""


class Interrupted(D2IError):
    """The run was stopped from outside."""

    exit_code = STOPPED_EXIT


def stopped_by(cause: KeyboardInterrupt) -> D2IError:
    """The error for a run that Ctrl-C or a signal stopped."""
    how = "a signal to end (SIGTERM)" if isinstance(cause, Stopped) else "Ctrl-C"
    return Interrupted(f"The run was stopped by {how}.", hint="`d2i run --resume` goes on with it.")


class StopSwitch:
    """Stops a run once, and only while it is ready for it.

    A second Ctrl-C must not interrupt the first: the record would then say that the run goes on.
    """

    def __init__(self) -> None:
        self.asked: KeyboardInterrupt | None = None  # by what the run was told to stop
        self._is_ready = False

    def ask(self, cause: KeyboardInterrupt) -> None:
        """Stop the run, now or as soon as it is ready for it."""
        if self.asked is not None:
            return
        self.asked = cause
        if self._is_ready:
            raise cause

    def check(self) -> None:
        """Stop the run here where it was told to: a library may have kept the interrupt to itself.

        Raises:
            KeyboardInterrupt: the run was told to stop.
        """
        if self.asked is not None:
            raise self.asked

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """In the block, the run may be stopped.

        Raises:
            KeyboardInterrupt: the run was told to stop, now or before.
        """
        self.check()
        self._is_ready = True
        try:
            yield
        finally:
            self._is_ready = False


@contextlib.contextmanager
def stoppable() -> Iterator[StopSwitch]:
    """Let Ctrl-C and SIGTERM (systemd, Task Scheduler, a shutdown) end the run in order.

    A terminal that is closed (SIGHUP) ends nothing: the run goes on without it.
    """
    switch = StopSwitch()
    if threading.current_thread() is not threading.main_thread():
        yield switch
        return

    def on_interrupt(*_: Any) -> None:
        switch.ask(KeyboardInterrupt())

    def on_end(*_: Any) -> None:
        switch.ask(Stopped())

    handlers: dict[int, Any] = {signal.SIGINT: on_interrupt, signal.SIGTERM: on_end}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = signal.SIG_IGN
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield switch
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(descriptor: int, *, seconds: float = LEASH_SECONDS) -> None:
    """End this process in order, as SIGTERM does, as soon as an input ends.

    A program that starts a run holds the other end of a pipe. Where that program is killed the
    system closes its end, so a run never outlives who started it and would start it again.

    Args:
        descriptor: the input, which is read to its end.
        seconds: after which the process ends without more ado.
    """

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1024):
                pass
        if hasattr(signal, "pthread_kill"):  # wakes the main thread wherever it waits
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        else:
            signal.raise_signal(signal.SIGTERM)
        time.sleep(seconds)
        os._exit(STOPPED_EXIT)

    threading.Thread(target=wait, name="d2i-leash", daemon=True).start()
