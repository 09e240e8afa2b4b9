"""One check of preflight: its subject, its result, and what to do about it."""

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
    """The result of one check. All texts are written by this project; none holds a child's data."""

    name: str
    status: str  # pass | warn | fail | skipped
    detail: str = ""
    advice: str = ""  # what to do; always there for warn and fail
    error_name: str = "PreflightError"  # the error that a failure stands for, see errors.py
    ddl: tuple[str, ...] = ()  # statements that a database administrator can run, and comments


def failed(name: str, error: D2IError) -> Check:
    """A failed check that stands for an error of ours; a run would end with its exit code."""
    return Check(name, FAIL, error.message, error.hint, type(error).__name__)


def guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks of ``look``. If it raises an error of ours, that becomes a failed check."""
    try:
        yield from look()
    except D2IError as error:
        yield failed(name, error)


def grants(
    engine: Engine, schema: str | None, wanted: Sequence[tuple[Table, Sequence[str]]]
) -> tuple[str, ...]:
    """Statements that give this login rights on existing tables.

    Args:
        wanted: tables with their rights, such as select.
    """
    with database.reading(engine) as connection:
        login = database.login_name(connection)
        statements = database.schema_statements(engine.dialect, schema, login, is_there=True)
        for table, rights in wanted:
            statements += database.grant_statements(engine.dialect, schema, table, login, rights)
            if "insert" in rights:
                statements += database.counter_grants(connection, table, login)
    return tuple(statements)


def counts(checks: Sequence[Check]) -> dict[str, int]:
    """Number of checks by status."""
    return {status: sum(check.status == status for check in checks) for status in COUNTS}


def error_of(checks: Sequence[Check]) -> D2IError | None:
    """The error that the first failed check stands for. Its message names all failed checks."""
    failures = [check for check in checks if check.status == FAIL]
    if not failures:
        return None
    error_class = error_named(failures[0].error_name) or PreflightError
    said = " ".join(f"{check.name}: {check.detail.rstrip('.')}." for check in failures)
    return error_class(f"Preflight failed. {said}", hint=failures[0].advice)


def require(checks: Sequence[Check]) -> None:
    """Raise the error that the first failed check stands for, if any check failed.

    Raises:
        D2IError: the one that the check names; its message names all failed checks.
    """
    error = error_of(checks)
    if error is not None:
        raise error
