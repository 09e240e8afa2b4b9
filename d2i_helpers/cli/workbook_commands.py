"""`d2i new` and `d2i upgrade`: the folder that an authority works in."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from d2i_helpers.cli.commands import CarefulCommand
from d2i_helpers.cli.pairs import name_and_value

_CMS = ("systemc", "mosaic", "eclipse", "azeus", "generic")
_BY_URL = {  # systems that are not on SQL Server, with an example of their database's address
    "eclipse": "postgresql+psycopg://user@host/name",
    "azeus": "oracle+oracledb://user@host/?service_name=name",
}
_LATER = "Enter: later"
_WORDS = {
    "renew": "renewed",
    "add": "added",
    "keep": "kept as you have it",
    "beside": "kept as you have it; the new version is beside it",
    "remove": "removed, since this version has no such file",
    "away": "stays away, as you removed it",
}


@click.command(cls=CarefulCommand)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--la-code", metavar="NNN", help="DfE code of the authority, three digits.")
@click.option("--cms", type=click.Choice(_CMS), help="Case-management system.")
@click.option("--sql-server", metavar="SERVER", help=r"host, host\instance or host,port.")
@click.option("--sql-server-database", metavar="NAME", help="The database that holds the SSD.")
@click.option("--sql-server-login", metavar="NAME", help="None: the Windows account.")
@click.option("--database-url", metavar="URL", help="Another database; without a password.")
@click.option("--phase", type=click.IntRange(1, 5), help="Test phase to begin with. Default: 1.")
@click.option("-p", "pairs", multiple=True, metavar="NAME=VALUE", help="Any other parameter.")
@click.option("--no-questions", is_flag=True, help="Ask nothing, also at a terminal.")
def new(
    folder: Path,
    la_code: str | None,
    cms: str | None,
    sql_server: str | None,
    sql_server_database: str | None,
    sql_server_login: str | None,
    database_url: str | None,
    phase: int | None,
    pairs: tuple[str, ...],
    no_questions: bool,
) -> None:
    """Lay out a workbook in FOLDER: notebooks, profiles of this authority, docs.

    At a terminal it asks for what no option says. Whatever is left open can be filled in later.
    """
    from d2i_helpers.workbook import lay_out, make_answers

    given: dict[str, str | None] = {
        "la_code": la_code,
        "cms": cms,
        "sql_server": sql_server,
        "sql_server_database": sql_server_database,
        "sql_server_login": sql_server_login,
        "database_url": database_url,
        **{name: text.strip() for name, text in map(name_and_value, pairs)},
    }
    answers = make_answers(given, phase or 1)  # a wrong option is named before any question
    if not no_questions and _is_at_a_terminal():
        asked, begins = _ask(given, phase)
        answers = make_answers(asked, begins)
    made = lay_out(folder, answers)
    click.echo(f"Workbook made: {made.folder}\n")
    click.echo("Next, in that folder:")
    click.echo("  d2i run                     the demo: fictional data, a receiver on this machine")
    click.echo(f"  d2i check -P {made.profile}")
    click.echo("                              what your authority's profile still needs")
    if made.to_fill_in:
        click.echo(f"Still to fill in, in params/: {', '.join(made.to_fill_in)}.")
    click.echo("Secrets belong in .env, which only you can read.")
    if answers.parameters.get("cms") == "azeus":
        click.echo("Oracle needs one more package: pip install oracledb.")


def _is_at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(given: Mapping[str, str | None], phase: int | None) -> tuple[dict[str, str | None], int]:
    """Ask for what was not given. Without a code of the authority nothing else is asked."""
    said = dict(given)
    if said["la_code"] is None:
        said["la_code"] = _text(
            f"DfE code of your authority, three digits ({_LATER}; the demo needs none)", r"\d{3}"
        )
    if not said["la_code"]:
        return said, phase or 1
    if said["cms"] is None:
        said["cms"] = click.prompt(
            "Case-management system", type=click.Choice(_CMS), default="generic"
        )
    if not said["sql_server"] and not said["database_url"]:
        _ask_for_the_database(said)
    if phase is None:
        phase = click.prompt(
            "Test phase to begin with (5 is live)", type=click.IntRange(1, 5), default=1
        )
    return said, phase


def _ask_for_the_database(said: dict[str, str | None]) -> None:
    example = _BY_URL.get(said["cms"] or "")
    if example:
        said["database_url"] = _text(f"Address of the database, such as {example} ({_LATER})")
        return
    server = r"SQL Server that holds the SSD, such as sqlbox01.la.local or sqlbox01\CMS"
    said["sql_server"] = _text(f"{server} ({_LATER})")
    if said["sql_server"]:
        said["sql_server_database"] = _text("Name of the database in it", r".+")
        said["sql_server_login"] = said["sql_server_login"] or _text(
            "Login of SQL Server (Enter: the Windows account)"
        )


def _text(question: str, allowed: str = ".*") -> str | None:
    """An answer; None where Enter alone is one."""
    while True:
        answer = click.prompt(question, default="", show_default=False).strip()
        if not answer and allowed != ".+":
            return None
        if re.fullmatch(allowed, answer, re.ASCII):
            return answer
        click.echo("That is not one. Try again.")


@click.command(cls=CarefulCommand)
@click.option("--dry-run", "dry", is_flag=True, help="Only show what would change.")
def upgrade(dry: bool) -> None:
    """Renew this workbook after an update; what people changed in it is kept.

    Differences are shown of what would be renewed (--dry-run), and always of files that were
    changed here and in the new version too.
    """
    from d2i_helpers import __version__
    from d2i_helpers.settings import project_root
    from d2i_helpers.workbook import apply, plan_upgrade, read_manifest
    from d2i_helpers.workbook.upgrade import BESIDE, RENEW

    root = project_root()
    changes = plan_upgrade(root)
    before = read_manifest(root).version
    click.echo(f"{root}: from version {before} to {__version__}.")
    for change in changes:
        is_shown = change.what == BESIDE or (dry and change.what == RENEW)
        beside = f" ({change.target})" if change.what == BESIDE else ""
        click.echo(f"  {change.path}: {_WORDS[change.what]}{beside}")
        if is_shown and not change.path.startswith("docs/"):
            for line in change.difference():
                click.echo(f"    {line}")
    if not changes:
        click.echo("  Everything is as this version lays it out.")
    if dry:
        click.echo("Nothing was changed (--dry-run).")
        return
    apply(root, changes)
    if any(change.what == BESIDE for change in changes):
        click.echo("Take over what you want from each .new file, then remove it.")
