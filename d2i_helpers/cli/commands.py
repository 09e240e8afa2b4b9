"""`d2i …`: thin commands over the package. Imports stand where they are used, for quick help."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d2i_helpers import __version__
from d2i_helpers.cli.audience import outliving_audience
from d2i_helpers.cli.pairs import name_and_value
from d2i_helpers.errors import STOPPED_EXIT, D2IError, SettingsError
from d2i_helpers.plain_english import counted, subject
from d2i_helpers.stages import names

if TYPE_CHECKING:
    from d2i_helpers.runs.records import RunRecord

_OF_THE_PROFILE = "profile"  # `--ddl` without a dialect
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class CarefulCommand(click.Command):
    """A command that takes no empty value: a script's variable that nobody set leaves one.

    As if it were not given, it would mean the demo, a new run or the working directory.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an option or argument whose value is an empty text."""
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        for parameter in self.params:
            if given.get(parameter.name) == "" and not ctx.resilient_parsing:
                raise click.BadParameter("it is empty.", ctx, parameter)
        return super().parse_args(ctx, args)


class HelpfulGroup(CarefulCommand, click.Group):
    """A group of commands that shows its help, and succeeds, if no command is given."""

    command_class = CarefulCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help if there is nothing to parse."""
        if not args:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


def main() -> None:
    """Entry point: errors of ours become one message and their own exit code."""
    # jsonschema, which nbformat imports, would load packages for formats of addresses and durations
    # if they are there, one of them for longer than all else takes; it goes on without, and
    # nothing here uses them
    for name in ("rfc3987_syntax", "isoduration"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # None: not to be found
    # once there is nothing left but to end, a further Ctrl-C would only leave a traceback
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with outliving_audience():
        try:
            code = _run_command()
        except KeyboardInterrupt:  # while an error was shown
            code = STOPPED_EXIT
    sys.exit(code)


def _run_command() -> int:
    """Run the command line; return its exit code."""
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = STOPPED_EXIT
    except D2IError as error:
        from d2i_helpers.cli.console import make_console, show_error

        show_error(error, make_console(to_stderr=True))
        code = error.exit_code
    except Exception as fault:  # its text may quote a row: show what and where only
        from d2i_helpers.cli.console import make_console, show_error
        from d2i_helpers.runs.outcome import fault_of

        told = fault_of(fault)
        show_error(told, make_console(to_stderr=True))
        code = told.exit_code
    return code if isinstance(code, int) else 0


def profile_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--params`/`-P` and `-p`; the command gets ``parameters`` as one dictionary."""

    @click.option(
        "--params",
        "-P",
        "profile",
        metavar="FILE|PROFILE",
        help="Profile: a name in params/ or a YAML file. Default: demo.",
    )
    @click.option(
        "-p",
        "pairs",
        multiple=True,
        metavar="NAME=VALUE",
        help="One parameter; may be given many times. docs/parameters.md lists all.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, profile: str | None, pairs: tuple[str, ...], **kwargs: Any) -> Any:
        from d2i_helpers.privacy.safe_logging import guard_process

        guard_process()  # whatever a library logs or warns of; a run adds what it knows
        return command(*args, parameters=read_parameters(profile, pairs), **kwargs)

    return wrapped


def read_parameters(profile: str | None, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parameters of a command line, checked by name when the settings are made.

    Raises:
        SettingsError: a pair without ``=``.
    """
    from d2i_helpers.settings import as_declared

    given: dict[str, Any] = {}
    if profile is not None:
        path = Path(profile)
        is_file = path.suffix in {".yaml", ".yml"} and path.is_file()
        given["profile"] = str(path.absolute()) if is_file else profile
    for pair in pairs:
        name, text = name_and_value(pair)
        given[name] = as_declared(name, text)
    return given


@click.group(cls=HelpfulGroup, context_settings=HELP)
@click.version_option(__version__, "--version", message="d2i %(version)s")
@click.option(
    "--workbook",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Do as if started in this folder. Without it: the working directory or the nearest "
    "workbook above it, else the one that D2I_WORKBOOK names.",
)
def cli(workbook: Path | None) -> None:
    """Sends a local authority's children's social care data to the DfE, one document a child.

    The demo profile (fictional data, a receiver on this machine) is every command's default.
    """
    if workbook is not None:
        _work_in(workbook.expanduser())


def _work_in(folder: Path) -> None:
    """Change to a workbook, for this process and all that it starts.

    Raises:
        SettingsError: it is none, or this user may not enter it.
    """
    from d2i_helpers.settings import is_workbook

    try:
        os.chdir(folder)
    except OSError as error:
        raise SettingsError(f"--workbook {folder}: {error.strerror}.") from None
    if not is_workbook(Path.cwd()):
        raise SettingsError(
            f"--workbook {folder}: it holds no notebooks/ and params/.",
            hint="`d2i new FOLDER` lays out a workbook.",
        )


@cli.command(
    help=f"Run the day: {', '.join(names())}, each as a notebook that is kept.",
    short_help="Run the day, each stage as a notebook that is kept.",
)
@profile_options
@click.option("--stages", metavar="A,B", help="Only these stages, such as delta,submit.")
@click.option("--outputs", type=click.Path(path_type=Path), help="Folder of the run records.")
@click.option("--resume", metavar="RUN_ID", help="Go on with a run that failed or was stopped.")
@click.option(
    "--tries",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    metavar="N",
    help="Begin anew, so often at most, where the exit code says that another try may help.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 24 * 60),
    default=20.0,
    show_default=True,
    metavar="MINUTES",
    help="Between two tries.",
)
@click.option(
    "--summary", type=click.Choice(["json"]), help="One line of JSON on stdout, the rest on stderr."
)
@click.option(
    "--end-with-stdin",
    is_flag=True,
    help="Stop in order, as on SIGTERM, when standard input ends: for a program that starts the "
    "run through a pipe and may be killed.",
)
@click.option(
    "--cluster", metavar="ADDRESS", help="On the workers of the Dask scheduler there. docs/dask.md"
)
@click.option(
    "--authorities",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --cluster: the day of each authority that a YAML file names.",
)
@click.option(
    "--shards", type=int, default=1, metavar="N", help="With --cluster: processes that share it."
)
def run(
    parameters: dict[str, Any],
    stages: str | None,
    outputs: Path | None,
    resume: str | None,
    tries: int,
    wait: float,
    summary: str | None,
    end_with_stdin: bool,
    cluster: str | None,
    authorities: Path | None,
    shards: int,
) -> int:
    """Run the day, or some of its stages."""
    from d2i_helpers.cli.console import ConsoleListener, make_console, show_run, shown
    from d2i_helpers.runs.day import run_day
    from d2i_helpers.runs.stopping import end_with
    from d2i_helpers.runs.summary import summary_of, summary_without_record
    from d2i_helpers.runs.tries import run_with_tries

    console = make_console(to_stderr=summary is not None)
    if end_with_stdin:
        end_with(sys.stdin.fileno())
    if cluster:
        if outputs or resume or tries > 1:
            raise SettingsError(
                "--outputs, --resume and --tries are not for a cluster.",
                hint="`-p outputs_dir=…` names the folder on the workers; a cluster counts tries "
                "itself.",
            )
        return _on_cluster(cluster, parameters, stages, authorities, shards, summary)
    if authorities or shards != 1:
        raise SettingsError(
            "--authorities and --shards go with --cluster.",
            hint="One shard here: -p shard=2/4. Many machines: --cluster ADDRESS.",
        )
    if resume and tries > 1:
        raise SettingsError(
            "--tries is not for a run that is resumed.", hint="Resume it once, or start a new run."
        )
    wanted = stages.split(",") if stages is not None else None

    def run_once(stages: Sequence[str] | None) -> RunRecord:
        listener = ConsoleListener(console)
        record = run_day(parameters, stages, outputs, resume=resume, listener=listener)
        show_run(record, console)
        return record

    def say(text: str) -> None:
        console.print(shown(text), soft_wrap=True)

    try:
        if not resume:
            _first_demo(parameters, console)
        record = run_with_tries(run_once, wanted, tries=tries, minutes=wait, say=say)
    except D2IError as error:
        if summary:
            click.echo(json.dumps(summary_without_record(error), separators=(",", ":")))
        raise
    if summary:
        click.echo(json.dumps(summary_of(record), separators=(",", ":")))
    return record.exit_code or 0


def _on_cluster(
    address: str,
    parameters: dict[str, Any],
    stages: str | None,
    file: Path | None,
    shards: int,
    summary: str | None,
) -> int:
    """Run the day of one authority, or of those of a file, on a cluster."""
    from d2i_helpers.cli.console import make_console, show_cluster, shown
    from d2i_helpers.runs import authority, cluster
    from d2i_helpers.runs.summary import summary_without_record

    console = make_console(to_stderr=summary is not None)

    def say(name: str, text: str) -> None:
        console.print(f"[bold]{shown(name)}[/]  {shown(text)}", soft_wrap=True)

    try:
        authorities = authority.to_run(file, parameters, shards)
        night = cluster.night(stages, own_variables=file is None)
        done = cluster.run_on_cluster(address, authorities, night, say)
    except D2IError as error:
        if summary:
            refused = {**summary_without_record(error), "runs": []}
            click.echo(json.dumps(refused, separators=(",", ":")))
        raise
    show_cluster(done, console)
    if summary:
        click.echo(json.dumps(done.summary(), separators=(",", ":")))
    return done.exit_code


def _first_demo(parameters: dict[str, Any], console: Any) -> None:
    """Make the fictional SSD of the demo where there is none yet, and say so."""
    from d2i_helpers.demo import simulate
    from d2i_helpers.settings import load_settings

    simulate.make_first_data(load_settings(None, **parameters), console.print)


@cli.command()
@profile_options
@click.option(
    "--ddl",
    is_flag=False,
    flag_value=_OF_THE_PROFILE,
    metavar="[DIALECT]",
    help="Print a script for a DBA: what is missing in the profile's database; with a DIALECT "
    "(such as mssql) everything, without asking a database.",
)
def check(parameters: dict[str, Any], ddl: str | None) -> int:
    """Check everything that a run needs. Nothing is changed for good."""
    from d2i_helpers.cli.console import make_console, show_checks
    from d2i_helpers.preflight import stage as preflight
    from d2i_helpers.settings import load_settings

    settings = load_settings(None, **parameters)
    if ddl and ddl != _OF_THE_PROFILE:
        click.echo(preflight.whole_script(settings, ddl))
        return 0
    if ddl:
        script, error = preflight.ddl_script(settings)
        click.echo(script)
        if error:
            raise error
        return 0
    checks = preflight.run(settings)
    show_checks(checks, make_console())
    error = preflight.error_of(checks)
    return error.exit_code if error else 0


@cli.command()
@profile_options
@click.option(
    "--anonymised", is_flag=True, help="The anonymised table, with pseudonyms, not the original."
)
def attention(parameters: dict[str, Any], anonymised: bool) -> int:
    """Who needs attention, and why, with whole ids: for a person at a terminal only."""
    from d2i_helpers import database
    from d2i_helpers.cli.console import make_console, show_attention
    from d2i_helpers.payload_spec import load_spec
    from d2i_helpers.privacy.human_present import require_terminal
    from d2i_helpers.settings import load_settings
    from d2i_helpers.staging import Staging
    from d2i_helpers.staging.attention import everything

    require_terminal()
    settings = load_settings(None, **parameters)
    engine = database.open_database(settings)
    spec = load_spec(settings.cms, settings.overlay_path)
    name = settings.anon_table if anonymised else settings.staging_table
    show_attention(everything(Staging(engine, name), spec), make_console())
    return 0


@cli.command()
@profile_options
@click.option(
    "--children", "each", is_flag=True, help="Each child with its id: at a terminal only."
)
def preview(parameters: dict[str, Any], each: bool) -> int:
    """What a run would send if it started now. Nothing is written."""
    from d2i_helpers import database
    from d2i_helpers.cli.console import make_console, show_parts, show_table
    from d2i_helpers.notebook import tomorrow
    from d2i_helpers.payload_spec import load_spec
    from d2i_helpers.privacy.human_present import require_terminal
    from d2i_helpers.settings import load_settings

    if each:
        require_terminal()
    settings = load_settings(None, **parameters)
    spec = load_spec(settings.cms, settings.overlay_path)
    found = tomorrow.preview(database.open_database(settings), settings, spec)
    console = make_console()
    show_parts(tomorrow.parts(found), console, whole=each)
    if each:
        rows = ([str(value) for value in row] for row in tomorrow.rows(found))
        show_table(tomorrow.COLUMNS, rows, console)
    return 0


@cli.command()
@profile_options
@click.argument("child")
def why(parameters: dict[str, Any], child: str) -> int:
    """Why a child is in or out, what is wrong with it, what was sent: at a terminal only."""
    from d2i_helpers.cli.console import make_console, show_parts
    from d2i_helpers.notebook.desk import Desk
    from d2i_helpers.privacy.human_present import require_terminal
    from d2i_helpers.settings import load_settings

    require_terminal()
    subject = Desk(load_settings(None, **parameters)).subject(child)
    show_parts(subject.all_parts, make_console())
    return 0


@cli.command()
@profile_options
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would be done.")
@click.option("--anonymised", is_flag=True, help="The anonymised table, not the original.")
def adopt(parameters: dict[str, Any], dry: bool, anonymised: bool) -> int:
    """Take over a staging table that other software filled, so that nobody is sent again."""
    from d2i_helpers import database
    from d2i_helpers.cli.console import make_console, show_adoption
    from d2i_helpers.payload_spec import load_spec
    from d2i_helpers.settings import load_settings
    from d2i_helpers.staging import adoption

    settings = load_settings(None, **parameters)
    engine = database.open_database(settings)
    spec = load_spec(settings.cms, settings.overlay_path)
    table = settings.anon_table if anonymised else settings.staging_table
    try:
        found = adoption.examine(engine, settings, spec, table)
        show_adoption(found, make_console())
        adoption.require_adoptable(found)
        if not dry and not found.adopted_before:
            changed = adoption.adopt(engine, settings, spec, table)
            click.echo(
                f"Adopted: {subject(changed, 'row', 'has')} another hash or baseline than before."
            )
    finally:
        engine.dispose()
    return 0


@cli.group(cls=HelpfulGroup)
def simulate() -> None:
    """Make a fictional SSD, and let days pass in it."""


@simulate.command("init")
@profile_options
@click.option("--children", type=click.IntRange(1), help="How many children.")
@click.option("--seed", type=int, help="Another seed gives other children.")
def simulate_init(parameters: dict[str, Any], children: int | None, seed: int | None) -> None:
    """Make the fictional SSD anew."""
    from d2i_helpers.demo import simulate as module
    from d2i_helpers.settings import load_settings

    settings = load_settings(None, **parameters)
    _echo_counts("Made", module.init(settings, children=children, seed=seed))
    if staged := module.still_staged(settings):
        click.echo(
            f"The staging table still holds {counted(staged, 'child')} of before, so the guards "
            "will stop the next run and say what allows it. For a fresh start, remove the database "
            "and the receiver's store together (docs/simulate.md) and make the data anew."
        )


@simulate.command("day")
@profile_options
@click.option("--days", type=click.IntRange(1), default=1, help="How many days pass.")
@click.option(
    "--staging",
    is_flag=True,
    help="In the anonymised staging table alone, where no SSD is at hand (test phases).",
)
def simulate_day(parameters: dict[str, Any], days: int, staging: bool) -> None:
    """Let a day pass: referrals, closures, corrections, children who leave and come back."""
    from d2i_helpers.demo import simulate as module
    from d2i_helpers.settings import load_settings

    let_pass = module.days_in_staging if staging else module.day
    _echo_counts("Changed", let_pass(load_settings(None, **parameters), days=days))


@simulate.command(
    "break", short_help="Break staged records on purpose, to see what becomes of them."
)
@profile_options
@click.argument("kinds", nargs=-1, required=True, metavar="KIND...")
@click.option("--children", type=click.IntRange(1), default=1, help="How many of each kind.")
def simulate_break(parameters: dict[str, Any], kinds: tuple[str, ...], children: int) -> None:
    """Break staged records of fictional or anonymised children, to see what becomes of them.

    KIND is one of "future dates", "42 factors", "disabilities as a bare word", "purge keys
    removed", "ids renamed" and "states reset". The next extract or anonymise mends them.
    """
    from d2i_helpers.demo import simulate as module
    from d2i_helpers.settings import load_settings

    settings = load_settings(None, **parameters)
    _echo_counts("Broken", module.break_records(settings, kinds, children=children))


def _echo_counts(title: str, counts: dict[str, int]) -> None:
    click.echo(f"{title}:")
    for name, number in counts.items():
        click.echo(f"  {name:<36}{number:>10,}")


@cli.command()
@profile_options
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0: any free one.")
@click.option("--faults", type=click.Path(exists=True), help="YAML file of faults to play.")
def receiver(parameters: dict[str, Any], port: int | None, faults: str | None) -> None:
    """Serve the simulated DfE API of the profile until Ctrl+C."""
    from d2i_helpers.demo import receiver as module
    from d2i_helpers.settings import load_settings

    settings = load_settings(None, **parameters)
    module.serve(
        settings,
        port=port,
        faults=faults,
        ready=lambda url: click.echo(f"The simulated DfE API listens on {url} (Ctrl+C ends it)."),
    )
