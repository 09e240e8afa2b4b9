"""The kernel's side of a run: starts it, keeps values out of what it writes, imports ahead.

Started as `python -m d2i_helpers.runs.kernel_startup -f CONNECTION_FILE`, and loaded again inside
as an IPython extension. No value may stand in a traceback, a warning or a log line. The executed
notebook is searched for identities afterwards. This barrier comes before that search and does not
need to know the cohort, so a row of a child outside the cohort is safe as well.

The kernel is as fresh as any other: its namespace is empty and no cell has run. Only modules are
already loaded.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from ipykernel import kernelapp
from ipykernel.iostream import IOPubThread

from d2i_helpers.errors import D2IError
from d2i_helpers.kernel_protocol import LOG_LEVEL_VARIABLE, MODULES_VARIABLE
from d2i_helpers.privacy.redaction import Redactor
from d2i_helpers.privacy.safe_errors import message_of, traceback_of
from d2i_helpers.privacy.safe_logging import LEVELS, guard_process, guard_stream
from d2i_helpers.privacy.secrets_in_force import secrets_in_force
from d2i_helpers.settings import load_secrets


class _WithoutPort(IOPubThread):
    """ipykernel's sender of outputs, without the TCP port for the prints of forked processes.

    ipykernel opens that port on loopback even if its own sockets are private, and any user of the
    machine could connect. Notebooks of a run do not fork processes that print.
    """

    def __init__(self, socket: Any, pipe: bool = False, **options: Any) -> None:
        super().__init__(socket, pipe=False, **options)


def main() -> None:
    """Serve one kernel until it is told to end, or its parent process is gone."""
    kernelapp.IOPubThread = _WithoutPort  # type: ignore[misc, assignment] # its only way in
    kernelapp.launch_new_instance()


def load_ipython_extension(shell: Any) -> None:
    """Guard the kernel; import the modules that the runner named (of this package only)."""
    guard(shell)
    for name in filter(None, os.environ.pop(MODULES_VARIABLE, "").split(",")):
        try:
            importlib.import_module(name)
        except Exception:  # the notebook's own import raises it again and shows it
            return


def guard(shell: Any) -> None:
    """Keep values out of tracebacks, warnings and log lines of this kernel.

    Args:
        shell: IPython's shell.
    """
    redactor = Redactor((), _secrets())
    level = os.environ.get(LOG_LEVEL_VARIABLE, "warning")
    guard_process(
        lambda text: redactor.redact(text)[0], level=level if level in LEVELS else "warning"
    )
    show = shell._showtraceback

    def show_safely(error_type: Any, error: Any, lines: list[str]) -> None:
        """Replaces what IPython sends to the notebook for an exception."""
        if isinstance(error, BaseException) and not isinstance(error, D2IError):
            lines = [redactor.redact(line)[0] for line in traceback_of(error)]
            error = redactor.redact(message_of(error))[0]
        show(error_type, error, lines)

    usual = shell.showtraceback

    def show_any(exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        """Replaces IPython's handling of exceptions, which prints groups of them as Python does."""
        error_type, error, _ = shell._get_exc_info(exc_tuple)
        if isinstance(error, D2IError | SyntaxError):
            usual(exc_tuple, *args, **options)
        else:
            show_safely(error_type, error, [])

    shell._showtraceback = show_safely
    shell.showtraceback = show_any
    guard_stream(sys.stderr)


def _secrets() -> list[str]:
    try:
        return secrets_in_force(load_secrets())
    except Exception:  # the notebook reads them itself, and then the error is shown
        return []


if __name__ == "__main__":
    main()
