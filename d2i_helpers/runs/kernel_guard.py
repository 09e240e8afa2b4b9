"""What a kernel of the runner may say: no value in a traceback, a warning or a log line.

The executed notebook is searched for identities afterwards; this is the barrier before that one,
and does not need to know the cohort: a row of a child who is not in it is safe as well.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from d2i_helpers.errors import D2IError
from d2i_helpers.privacy.redaction import Redactor
from d2i_helpers.privacy.safe_errors import message_of, traceback_of
from d2i_helpers.privacy.safe_logging import LEVELS, guard_process, guard_stream
from d2i_helpers.privacy.secrets_in_force import secrets_in_force
from d2i_helpers.settings import load_secrets

LEVEL_VARIABLE = "D2I_LOG_LEVEL"  # the parameter `log_level`, given by the runner


def install(shell: Any) -> None:
    """Guard this kernel.

    Args:
        shell: IPython's shell.
    """
    redactor = Redactor((), _secrets())
    level = os.environ.get(LEVEL_VARIABLE, "warning")
    guard_process(
        lambda text: redactor.redact(text)[0], level=level if level in LEVELS else "warning"
    )
    show = shell._showtraceback

    def show_safely(kind: Any, error: Any, lines: list[str]) -> None:
        """In place of what IPython sends to the notebook for an exception."""
        if isinstance(error, BaseException) and not isinstance(error, D2IError):
            lines = [redactor.redact(line)[0] for line in traceback_of(error)]
            error = redactor.redact(message_of(error))[0]
        show(kind, error, lines)

    usual = shell.showtraceback

    def show_any(exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        """In place of IPython's way to an exception, which prints groups of them as Python does."""
        kind, error, _ = shell._get_exc_info(exc_tuple)
        if isinstance(error, D2IError | SyntaxError):
            usual(exc_tuple, *args, **options)
        else:
            show_safely(kind, error, [])

    shell._showtraceback = show_safely
    shell.showtraceback = show_any
    guard_stream(sys.stderr)


def _secrets() -> list[str]:
    try:
        return secrets_in_force(load_secrets())
    except Exception:  # the notebook's own reading meets it again and says so
        return []
