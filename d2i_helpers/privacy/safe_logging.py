"""Loggers that cannot write a secret or an identity: every line goes through a redactor.

The filter sits on our loggers and, once `guard_logging` was called, on the handlers of the root
logger too, so that what a library logs is covered as well.
"""

from __future__ import annotations

import logging
import traceback

from d2i_helpers.privacy.redaction import Redactor

_NOBODY = Redactor(())


class SafeFilter(logging.Filter):
    """Blanks identities and secrets in a record: its message, its arguments and its traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.redactor = _NOBODY

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; it is always let through."""
        try:
            message = record.getMessage()
        except Exception:  # wrong arguments for the format: the pieces may hold anything
            message = "(a log line that could not be formatted)"
        record.msg, record.args = self.redactor.redact(message)[0], ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_info = None
        if record.exc_text:
            record.exc_text = self.redactor.redact(record.exc_text)[0]
        if record.stack_info:
            record.stack_info = self.redactor.redact(record.stack_info)[0]
        return True


_FILTER = SafeFilter()


def safe_logger(name: str) -> logging.Logger:
    """A logger whose lines are redacted with what `guard_logging` was given."""
    logger = logging.getLogger(name)
    if _FILTER not in logger.filters:
        logger.addFilter(_FILTER)
    return logger


def guard_logging(redactor: Redactor) -> None:
    """From now on redact with this, on our loggers and on every handler of the root logger."""
    _FILTER.redactor = redactor
    for handler in logging.getLogger().handlers:
        if _FILTER not in handler.filters:
            handler.addFilter(_FILTER)
