"""What libraries log, warn of and fail with: known words, and neither a secret nor a value."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from d2i_helpers.database.plain_message import without_values
from d2i_helpers.errors import GuardError
from d2i_helpers.privacy import safe_logging
from d2i_helpers.privacy.redaction import Redactor
from d2i_helpers.privacy.safe_errors import message_of, traceback_of

WHO = "Zebedee"


@pytest.fixture
def guarded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], str]]:
    """This process guarded for the length of a test; gives what was written to standard error."""
    for place, name in (
        (sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook"),
        (warnings, "showwarning"), (safe_logging.SafeRecord, "redact"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, getattr(place, name))
    factory, root = logging.getLogRecordFactory(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    redactor = Redactor(["84210377", "Relation"], ["hunter2-secret"])
    safe_logging.guard_process(lambda text: redactor.redact(text)[0], level="debug")
    yield lambda: capsys.readouterr().err
    logging.setLogRecordFactory(factory)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("sqlalchemy").setLevel(logging.NOTSET)


def test_a_log_line_holds_neither_secret_nor_value(guarded: Callable[[], str]) -> None:
    early = logging.getLogger("a_library")
    later = io.StringIO()
    handler = logging.StreamHandler(later)  # of a library that knows nothing of the guard
    early.addHandler(handler)
    try:
        early.debug("token %s for child %s", "hunter2-secret", "Zebedee")
        early.error("broken %d", "Zebedee")  # wrong kind of argument
        try:
            raise ValueError(f"row of {WHO}, 84210377") from KeyError(WHO)
        except ValueError:
            early.exception("it failed for Zebedee")
        early.warning("stack", stack_info=True)
    finally:
        early.removeHandler(handler)
    for text in (later.getvalue(), guarded()):
        assert "token … for child …" in text
        assert "ValueError: row of …" in text
        assert "KeyError" in text
        for word in ("Zebedee", "hunter2", "84210377"):
            assert word not in text


def test_warnings_and_threads_are_guarded(guarded: Callable[[], str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = safe_logging._show_warning
        warnings.warn("invalid value Zebedee in column", UserWarning, stacklevel=1)

    def fail() -> None:
        raise ValueError(WHO)

    threading.excepthook = safe_logging._show_thread_error
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    text = guarded()
    assert "UserWarning: invalid value … in column" in text
    assert "in fail" in text and "ValueError: …" in text
    assert "raise ValueError(WHO)" in text  # code is shown as it is written
    assert WHO not in text


def test_known_words_that_are_an_identity_are_still_taken_out(guarded: Callable[[], str]) -> None:
    logging.getLogger("x").error("no such relation")
    assert "no such [redacted]" in guarded()


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("Zebedee")


def test_a_traceback_shows_the_chain_without_what_it_quotes() -> None:
    def deep(number: int) -> None:
        if number == 0:
            raise Broken("Zebedee")
        deep(number - 1)

    def group() -> None:
        try:
            deep(100)
        except Broken as error:
            error.add_note("of Zebedee")
            raise ExceptionGroup("Zebedee", [KeyError("Zebedee"), GuardError("Ours.")]) from error

    try:
        try:
            group()
        except ExceptionGroup:
            {}["pers_forename"]
    except KeyError as error:
        lines = traceback_of(error)
    text = "\n".join(line for line in lines if not line.startswith("    "))  # without code
    assert "Zebedee" not in text
    assert text.index("Broken: …") < text.index("ExceptionGroup: …") < text.index("pers_forename")
    assert "more)" in text and "It was the direct cause of" in text
    assert "KeyError: 'pers_forename'" in text
    assert "    GuardError: Ours." in lines


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("no such table: ssd_person", "no such table: ssd_person"),
        ("list index out of range", "list index out of range"),
        ("KeyError: 'pers_forename'", "KeyError: 'pers_forename'"),
        ("'NoneType' object is not subscriptable", "'NoneType' object is not subscriptable"),
        ("Key (person_id)=(C123, O'Brien) already exists.",
         "Key (person_id)=(…) already exists."),
        ("Failing row contains (184, Zebedee, LE1 4FS).", "Failing row contains (184, …)."),
        ("born 03/05/2012 or 3.5.12, 07700 900 900, 1e5", "… or …"),
        ('server at "db.local", port 5432 failed: password authentication failed for user "zeb"',
         'server at "….local", port 5432 failed: password authentication failed for user "…"'),
        ("李小龙 Ørsted straße", "…"),
        ("x\n" * 400 + "Zebedee", "…"),
    ],
)  # fmt: skip
def test_known_words_stay_and_nothing_else(said: str, kept: str) -> None:
    assert without_values(said) == kept


def test_what_has_no_text_says_nothing() -> None:
    assert message_of(Broken()) == "…"
