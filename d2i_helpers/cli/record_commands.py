"""`d2i runs …`, `d2i spec …` and `d2i schedule`: records, the specification, schedules."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d2i_helpers.cli.commands import CarefulCommand, HelpfulGroup, profile_options
from d2i_helpers.errors import RecordError, SettingsError
from d2i_helpers.plain_english import counted, subject

if TYPE_CHECKING:
    from d2i_helpers.runs.verification import Place

MOST_DAYS = 36_500  # back to a year of four figures, by which ids of runs are compared

outputs_option = click.option(
    "--outputs", type=click.Path(path_type=Path), help="Folder of the run records."
)


def _place(parameters: dict[str, Any], outputs: Path | None) -> Place:
    """Where the records are: in the folder that is given, or where the settings keep them."""
    from d2i_helpers.runs.shared_records import open_shared
    from d2i_helpers.runs.verification import Folder
    from d2i_helpers.settings import load_settings

    shared = open_shared(load_settings(None, **parameters)) if outputs is None else None
    return shared or Folder(_outputs(parameters, outputs))


def _outputs(parameters: dict[str, Any], outputs: Path | None) -> Path:
    """The folder of the records.

    Raises:
        RecordError: the folder that is given is not there: an empty one would look as if all were
            well.
    """
    from d2i_helpers.settings import load_settings

    if outputs is not None:
        if not outputs.is_dir():
            raise RecordError(f"There is no folder {outputs}.", hint="Check `--outputs`.")
        return outputs
    settings = load_settings(None, **parameters)
    return settings.path(settings.outputs_dir)


@click.group(cls=HelpfulGroup)
def runs() -> None:
    """List, show, verify, prune and report run records."""


@runs.command("list")
@profile_options
@outputs_option
@click.option("--last", type=click.IntRange(1), default=20, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a run.")
def list_runs(parameters: dict[str, Any], outputs: Path | None, last: int, as_json: bool) -> None:
    """The latest runs, newest first."""
    from d2i_helpers.cli.console import key_counts, make_console, show_table
    from d2i_helpers.runs import records
    from d2i_helpers.runs.summary import summary_of

    rows = []
    for folder in reversed(records.folders(_outputs(parameters, outputs))[-last:]):
        try:
            record = records.read(folder)
        except RecordError:
            rows.append((folder.name, "", "damaged", "", ""))
            continue
        if as_json:
            click.echo(json.dumps({**summary_of(record), "status": records.state_of(record)}))
            continue
        final = next((s.counts for s in reversed(record.stages) if s.counts), {})
        seconds = "" if record.seconds is None else f"{record.seconds:.0f} s"
        state = records.state_of(record) + (", dry run" if record.is_dry else "")
        rows.append((record.run_id, record.profile, state, seconds, key_counts(final, 3)))
    if as_json:
        return
    if not rows:
        click.echo("No runs yet.")
        return
    show_table(("Run", "Profile", "Status", "Took", "Counts"), rows, make_console())


@runs.command("show")
@profile_options
@outputs_option
@click.argument("run_id", required=False)
def show(parameters: dict[str, Any], outputs: Path | None, run_id: str | None) -> None:
    """One run in detail; without RUN_ID the latest."""
    from d2i_helpers.cli.console import make_console, show_run, shown
    from d2i_helpers.runs import records

    folder = _outputs(parameters, outputs)
    known = records.folders(folder)
    if run_id is None and not known:
        raise RecordError("There are no run records.", hint="`d2i run` makes one.")
    record = records.read(records.folder_of(folder, run_id) if run_id else known[-1])
    if record.status == records.RUNNING and records.state_of(record) == records.INTERRUPTED:
        records.mark_interrupted(record)  # on the screen, as the next run will in the record
    console = make_console()
    said = f"Run {record.run_id}, profile {record.profile}, started {record.started_at}"
    console.print(shown(said), soft_wrap=True)
    show_run(record, console)


@runs.command("verify")
@profile_options
@outputs_option
@click.option("--no-database", is_flag=True, help="Look at the files only.")
@click.option("--head", metavar="HASH|FILE", help="A ledger entry that was kept elsewhere: its "
              "hash, or a file with summaries of runs.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Fail too where something rests on the file alone.")
def verify(
    parameters: dict[str, Any],
    outputs: Path | None,
    no_database: bool,
    head: str | None,
    strict: bool,
) -> None:
    """Prove that no record was altered, removed, added or reordered.

    With `records_url` it reads the object storage; with --outputs the folder that is given.
    """
    from d2i_helpers.database.plain_message import without_controls
    from d2i_helpers.runs import ledger, verification
    from d2i_helpers.runs.known_databases import known_databases
    from d2i_helpers.runs.shared_records import Waiting
    from d2i_helpers.settings import ledger_key, load_secrets, load_settings

    place, folder = _place(parameters, outputs), _outputs(parameters, outputs)
    settings = load_settings(None, **parameters)
    key = ledger_key(load_secrets())
    heads = verification.read_heads(head) if head else []
    with known_databases(settings, place.place, ask=not no_database) as known:
        findings = verification.verify(place, known.databases, heads, key)
    if waiting := len(Waiting(folder)):
        findings.open_points.append(
            f"{subject(waiting, 'event', 'waits')} in {folder.name} for the object storage: "
            "`d2i runs push`, or the next run, carries over what is there."
        )
    for line in (*known.said, *findings.compared, *findings.open_points):
        click.echo(without_controls(line))
    for fault in findings.faults:
        click.echo(str(fault))
    if findings.faults:
        hint = "Compare with a backup; docs/run_record.md says what each fault means."
        if ledger.is_from_before_the_database(findings.chain):
            hint = (
                "Where these runs are of a version that kept its ledger in a file only, move "
                f"{ledger.LEDGER_FILE} and their folders together to another place, and keep them "
                f"there; a new ledger begins with the next run. Else: {hint}"
            )
        raise RecordError(
            f"The records in {folder.name} are not as they were written "
            f"({len(findings.faults)} found).",
            hint=hint,
        )
    number = len(place.ids())
    if not number and not findings.chain:
        click.echo("Nothing to verify: there is no record and no ledger.")
    else:
        click.echo(
            f"{counted(number, 'record')} and "
            f"{counted(len(findings.chain), 'ledger entry')} are intact."
        )
    if last := ledger.head_of(findings.chain):
        click.echo(f"Head of the ledger: entry {last['entry']}, {last['hash']}")
    if strict and findings.open_points:
        raise RecordError(
            "Nothing contradicts the records, but what is named above rests on the file alone.",
            hint="docs/run_record.md says what each line means.",
        )


@runs.command("seal")
@profile_options
@outputs_option
def seal(parameters: dict[str, Any], outputs: Path | None) -> None:
    """Seal with the ledger key the entries that were made before there was one; verify first."""
    from d2i_helpers.runs import ledger, verification
    from d2i_helpers.runs.shared_book import open_book
    from d2i_helpers.settings import load_settings

    folder = _outputs(parameters, outputs)
    with open_book(load_settings(None, **parameters), folder) as book:
        assert book.database is not None
        findings = verification.verify(book.kept, [book.database])
        if findings.faults:
            raise RecordError(
                f"Not sealed: the records are not as they were written ({findings.faults[0]}).",
                hint="`d2i runs verify` shows all.",
            )
        entry = book.seal_history()
    click.echo(
        f"Sealed: {counted(entry['entry'] - 1, 'entry')}. Verify the ledger with the same key."
    )
    if last := ledger.head(folder):
        click.echo(f"Head of the ledger: entry {last['entry']}, {last['hash']}")


@runs.command("prune")
@profile_options
@outputs_option
@click.option(
    "--keep-days",
    type=click.IntRange(0, MOST_DAYS),
    required=True,
    help="Records older than this many days are removed.",
)
@click.option("--yes", is_flag=True, help="Do it; without this the records are only named.")
def prune(parameters: dict[str, Any], outputs: Path | None, keep_days: int, yes: bool) -> None:
    """Remove old records; a tombstone keeps the ledger's chain whole."""
    from d2i_helpers.runs import records, retention
    from d2i_helpers.runs.report import write_report
    from d2i_helpers.runs.shared_book import open_book
    from d2i_helpers.settings import load_settings

    folder = _outputs(parameters, outputs)
    limit = dt.datetime.now(dt.UTC) - dt.timedelta(days=keep_days)
    there = {*_place(parameters, outputs).ids(), *(f.name for f in records.folders(folder))}
    old = sorted(run_id for run_id in there if run_id < f"{limit:%Y%m%dT%H%M%S}")
    if not old:
        click.echo("No record is that old.")
        return
    if not yes:
        click.echo("\n".join(old))
        click.echo(f"{counted(len(old), 'record')} would be removed; --yes removes what is named.")
        return
    try:
        with open_book(load_settings(None, **parameters), folder) as book:
            removed = retention.prune(book, old, reason=f"older than {keep_days} days")
    finally:
        write_report(folder)
    click.echo(f"{subject(len(removed), 'record', 'was')} removed.")
    if kept := len(old) - len(removed):
        click.echo(
            f"{subject(kept, 'record', 'was')} kept: running, not closed, or of another profile's "
            "database."
        )


@runs.command("push")
@profile_options
@outputs_option
def push(parameters: dict[str, Any], outputs: Path | None) -> None:
    """Carry over to object storage what could not be carried over by its run."""
    from d2i_helpers.runs.shared_book import SharedBook, open_book
    from d2i_helpers.settings import load_settings

    with open_book(load_settings(None, **parameters), _outputs(parameters, outputs)) as book:
        if not isinstance(book, SharedBook):
            raise SettingsError(
                "There is no object storage to carry records to.", hint="Set `records_url`."
            )
        book.shared.storage.prove()
        number = book.bring_waiting()
    click.echo(f"{subject(number, 'event', 'was')} carried over.")


@runs.command("fetch")
@profile_options
@click.option("--to", type=click.Path(path_type=Path), required=True, help="An empty folder.")
@click.option(
    "--last-days", type=click.IntRange(1, MOST_DAYS), help="Only records of so many days."
)
def fetch(parameters: dict[str, Any], to: Path, last_days: int | None) -> None:
    """Copy records and ledger from object storage to a folder, to read them there."""
    from d2i_helpers.runs.report import write_report
    from d2i_helpers.runs.shared_records import open_shared
    from d2i_helpers.settings import load_settings

    shared = open_shared(load_settings(None, **parameters))
    if shared is None:
        raise SettingsError("There is no object storage with records.", hint="Set `records_url`.")
    if to.is_dir() and any(to.iterdir()):
        raise RecordError(f"{to.name} is not empty.", hint="Name a folder that is new or empty.")
    limit = dt.datetime.now(dt.UTC) - dt.timedelta(days=last_days or MOST_DAYS)
    number = shared.fetch_all(to, since=f"{limit:%Y%m%dT%H%M%S}")
    click.echo(f"{counted(number, 'record')}. Page of all: {write_report(to)}")


@runs.command("report")
@profile_options
@outputs_option
def report(parameters: dict[str, Any], outputs: Path | None) -> None:
    """Write outputs/index.html: all runs in one page that needs no network."""
    from d2i_helpers.runs.report import write_report

    click.echo(f"Report: {write_report(_outputs(parameters, outputs))}")


@click.group(cls=HelpfulGroup)
def spec() -> None:
    """The payload specification: check it, and what is generated from it."""


@spec.command("schema")
@profile_options
@click.option("--partial", is_flag=True, help="Of the messages of phase delta.")
def schema(parameters: dict[str, Any], partial: bool) -> None:
    """Print the JSON Schema (2020-12) of a document."""
    from d2i_helpers.payload_spec.outputs import json_schema

    click.echo(json.dumps(json_schema(_spec(parameters), partial=partial), indent=2))


@spec.command("check")
@profile_options
def check_spec(parameters: dict[str, Any]) -> None:
    """Check the specification with the profile's overlays."""
    from d2i_helpers.anonymise.rule_checks import require_rules

    specification = _spec(parameters)
    require_rules(specification)
    fields = sum(1 for _ in specification.fields())
    click.echo(
        f"Specification {specification.version} is sound: {fields} fields in "
        f"{len(specification.blocks)} blocks, {len(specification.code_lists)} code lists "
        f"(fingerprint {specification.fingerprint[:16]})."
    )
    for said in _of_overlay(parameters):
        click.echo(f"Your overlay {said}.")
    for place, why in specification.known_gaps.items():
        click.echo(f"Known gap: {place}: {why}.")


def _of_overlay(parameters: dict[str, Any]) -> list[str]:
    """What the authority's own overlay makes of the specification; nothing where there is none."""
    from d2i_helpers.payload_spec import merged_text, takes_out_nothing
    from d2i_helpers.payload_spec.differences import differences
    from d2i_helpers.settings import load_settings

    settings = load_settings(None, **parameters)
    overlay = settings.overlay_path
    said = differences(merged_text(settings.cms), merged_text(settings.cms, overlay))
    said += [one.said for one in takes_out_nothing(settings.cms, overlay)]
    return said or (["changes nothing"] if overlay else [])


@spec.command("docs")
@profile_options
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where to; without it, docs and the schemas beside the specification are renewed.",
)
def docs(parameters: dict[str, Any], folder: Path | None) -> None:
    """Write what is generated from the specification, parameters, states and commands."""
    from d2i_helpers.cli import cli
    from d2i_helpers.cli.command_page import write_command_page
    from d2i_helpers.database.messages import table_of_situations
    from d2i_helpers.payload_spec import merged_text
    from d2i_helpers.payload_spec.outputs import renew_page, write_pages
    from d2i_helpers.payload_spec.schema import renew_schemas
    from d2i_helpers.settings.parameters_page import write_parameters_page
    from d2i_helpers.staging.states import generated_parts

    spec = _spec(parameters)
    written = [] if folder else renew_schemas(merged_text())
    folder = folder or Path("docs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written += [*write_pages(folder, spec), write_parameters_page(folder)]
        written.append(write_command_page(folder, cli))
        written += renew_page(folder / "convergence.md", generated_parts())
        situations = {"database errors": table_of_situations()}
        written += renew_page(folder / "troubleshooting.md", situations)
    except OSError as err:
        raise SettingsError(
            f"The pages could not be written to `{folder}` ({err.strerror}).",
            hint="Name a folder that this user may write to: --folder NAME.",
        ) from None
    for path in written:
        click.echo(path)


def _spec(parameters: dict[str, Any]) -> Any:
    from d2i_helpers.payload_spec import load_spec
    from d2i_helpers.settings import load_settings

    settings = load_settings(None, **parameters)
    return load_spec(settings.cms, settings.overlay_path)


@click.command(cls=CarefulCommand)
@profile_options
@click.option("--at", "time", default="02:00", metavar="HH:MM", help="Local time of day.")
@click.option("--days", default="daily", help="daily, or days such as mon,tue,wed,thu,fri.")
@click.option(
    "--for",
    "target",
    type=click.Choice(["cron", "systemd", "windows", "sqlagent", "airflow"]),
    help="Only this one; all without.",
)
@click.option("--env-file", type=click.Path(path_type=Path), help="File of environment variables.")
@click.option(
    "--account",
    metavar="NAME",
    help="The service account that runs it; an administrator installs the entry.",
)
@click.option(
    "--tries",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    metavar="N",
    help="As of `d2i run`; not for Airflow, which counts them itself.",
)
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write the files to.")
def schedule(
    parameters: dict[str, Any],
    time: str,
    days: str,
    target: str | None,
    env_file: Path | None,
    account: str | None,
    tries: int,
    to: Path | None,
) -> None:
    """Print ready-to-install entries for cron, systemd, Windows, SQL Server Agent and Airflow."""
    from d2i_helpers.runs.schedules import entries_for

    entries = entries_for(
        parameters,
        time=time,
        days=days,
        target=target,
        env_file=env_file,
        account=account,
        tries=tries,
    )
    for entry in entries:
        if to is None:
            click.echo(f"# ---- {entry.file_name}: {entry.how}")
            click.echo(entry.text)
            continue
        try:
            to.mkdir(parents=True, exist_ok=True)
            (to / entry.file_name).write_bytes(entry.content)
        except OSError as error:
            raise SettingsError(
                f"{entry.file_name} could not be written to `{to}` ({error.strerror}).",
                hint="Name a folder that this user may write to: --to FOLDER.",
            ) from None
        click.echo(to / entry.file_name)
