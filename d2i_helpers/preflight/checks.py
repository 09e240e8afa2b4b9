"""One check of preflight: what was looked at, how it stands, what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, Table

from d2i_helpers import database
from d2i_helpers.errors import D2IError, PreflightError, error_named

PASS, WARN, FAIL, SKIPPED = "pass", "warn", "fail", "skipped"
COUNTS = (PASS, WARN, FAIL, SKIPPED)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; texts are this project's own and hold no value of a child."""

    name: str
    status: str  # pass | warn | fail | skipped
    detail: str = ""
    advice: str = ""  # what to do; always there for warn and fail
    kind: str = "PreflightError"  # the error that a failure stands for, see errors.py
    ddl: tuple[str, ...] = ()  # statements that a database administrator can run


def failed(name: str, error: D2IError) -> Check:
    """An error of ours as a failed check; a run would end with its exit code."""
    return Check(name, FAIL, error.message, error.hint, type(error).__name__)


def guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks of ``look``; an error of ours that it raises is a failed check."""
    try:
        yield from look()
    except D2IError as error:
        yield failed(name, error)


def grants(
    engine: Engine, schema: str | None, wanted: Sequence[tuple[Table, Sequence[str]]]
) -> tuple[str, ...]:
    """Statements that give this login rights on tables that are there.

    Args:
        wanted: tables with their rights, such as select.
    """
    with database.reading(engine) as connection:
        login = database.login_name(connection)
    found = database.schema_statements(engine, schema, login, is_there=True)
    for table, rights in wanted:
        found += database.grant_statements(engine, schema, table, login, rights)
    return tuple(found)


def counts(checks: Sequence[Check]) -> dict[str, int]:
    """Number of checks by status."""
    return {status: sum(check.status == status for check in checks) for status in COUNTS}


def error_of(checks: Sequence[Check]) -> D2IError | None:
    """The error that the first failed check stands for, naming every one that failed."""
    found = [check for check in checks if check.status == FAIL]
    if not found:
        return None
    kind = error_named(found[0].kind) or PreflightError
    said = " ".join(f"{check.name}: {check.detail}" for check in found)
    return kind(f"Preflight failed. {said}", hint=found[0].advice)


def require(checks: Sequence[Check]) -> None:
    """Raise the error that the first failed check stands for; nothing where none failed.

    Raises:
        D2IError: of the check's kind, naming every check that failed.
    """
    error = error_of(checks)
    if error is not None:
        raise error
