"""What is missing in the database, or everything, as one script for its administrator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy.engine import make_url

from d2i_helpers import __version__
from d2i_helpers.database import dialects
from d2i_helpers.payload_spec import Spec
from d2i_helpers.preflight import source, staged
from d2i_helpers.preflight.checks import FAIL, SKIPPED, Check
from d2i_helpers.settings import Settings

NOTHING = "-- nothing to do"
LOGIN = "D2I_LOGIN"  # stands for a login whose name is not known


def whole(settings: Settings, spec: Spec, dialect: str) -> str:
    """The script that makes everything, as if nothing of ours were there; nobody is asked.

    Args:
        dialect: as SQLAlchemy calls the database.

    Raises:
        SettingsError: there is no class for such a database.
    """
    named = dialects.sqlalchemy_dialect(dialect)
    login = _login(settings, dialect)
    heading = [
        f"-- D2I workbook {__version__}, profile {settings.profile}: everything that a run needs, "
        f"for {dialect}.",
        "-- For its administrator; run it in this order. Nobody was asked what is there already;",
        "-- `d2i check --ddl` without a dialect asks, and prints what is missing only.",
    ]
    body = [
        "",
        "-- The SSD: it is read, and never written.",
        *source.statements_unasked(named, settings, spec, login),
        "",
        "-- What the workbook writes, with the least rights that do. d2i_submission_log and "
        "d2i_ledger",
        "-- are only appended to: do not grant update or delete there.",
        *staged.statements_for_nothing_there(named, settings, login),
    ]
    return "\n".join([*heading, *_about_login(body), *body])


def for_nothing_there(settings: Settings) -> tuple[str, ...]:
    """What makes every table of ours in the profile's database, where it cannot be asked."""
    name = make_url(settings.database_url).get_backend_name()
    dialect = dialects.sqlalchemy_dialect(name)
    statements = staged.statements_for_nothing_there(dialect, settings, _login(settings, name))
    return (*_about_login(statements), *statements)


def _about_login(statements: Sequence[str]) -> list[str]:
    stands_for = f"-- Put the login that runs the workbook in place of {LOGIN}."
    return [stands_for] if any(LOGIN in statement for statement in statements) else []


def _login(settings: Settings, dialect: str) -> str:
    """The login of the profile, where its database is of that dialect and the profile names one."""
    return dialects.login_named(settings.database_url, dialect) or LOGIN


def of(checks: Sequence[Check], settings: Settings) -> str:
    """The script: comments, and statements that each end with a semicolon and a line break.

    Args:
        checks: the checks of specification and database.
    """
    lines = [line for check in checks for line in _section(check)]
    if not lines:
        return NOTHING
    heading = [
        f"-- D2I workbook {__version__}, profile {settings.profile}: what is missing in the "
        "database.",
        "-- For its administrator; run it in this order. Every row that is there is kept.",
        "-- Tables d2i_... and the staging tables are this project's; of the SSD it gets indexes "
        "only.",
    ]
    return "\n".join([*heading, *lines])


def _section(check: Check) -> Iterator[str]:
    if not check.ddl and check.status not in (FAIL, SKIPPED):
        return
    yield ""
    yield f"-- {check.name}: {_one_line(check.detail)}"
    if check.ddl:
        if check.status == SKIPPED:
            yield "-- What follows makes everything, as if nothing were there."
        yield from check.ddl
    elif check.advice:
        yield f"-- Not by this script. {_one_line(check.advice)}"


def _one_line(text: str) -> str:
    """The text on one line, so that a comment does not end early."""
    return " ".join(text.split())
