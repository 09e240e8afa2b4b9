"""What a run shows on a console: progress while it works, then a table and one clear message."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from d2i_helpers import stages
from d2i_helpers.database.plain_message import without_controls
from d2i_helpers.errors import D2IError, help_page
from d2i_helpers.kernel_protocol import ATTENTION_TITLE
from d2i_helpers.runs.execution import Listener
from d2i_helpers.runs.records import (
    ATTENTION,
    COMPLETED,
    DRY_RUN,
    FAILED,
    INDEX_FILE,
    INTERRUPTED,
    RunRecord,
    StageRecord,
)

if TYPE_CHECKING:  # these import much that a console does not need
    from d2i_helpers.notebook.told import Part
    from d2i_helpers.preflight.checks import Check
    from d2i_helpers.runs.cluster import ClusterRun
    from d2i_helpers.staging.adoption import Adoption
    from d2i_helpers.staging.attention import Reason

_MOST_REASONS = 10  # lines of reasons for each stage
PLAIN_EVERY = 10.0  # seconds between two lines of progress where there is no terminal
COLOURS = {COMPLETED: "green", ATTENTION: "yellow", FAILED: "red", INTERRUPTED: "red"}


def make_console(*, to_stderr: bool = False) -> Console:
    """A console; wide enough for a table where its width is not known (a log file)."""
    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else 100
    return Console(file=stream, width=width, highlight=False)


def shown(text: object) -> str:
    """A text from elsewhere (a record, a message), without markup or control codes."""
    return escape(without_controls(str(text)))


def show_error(error: D2IError, console: Console) -> None:
    """What failed and what to do, without a traceback."""
    console.print(f"[bold red]Failed:[/] {shown(error.message)}", soft_wrap=True)
    if error.hint:
        console.print(f"[bold]To do:[/] {shown(error.hint)}", soft_wrap=True)
    show_help_page(error.exit_code, console)


def show_help_page(exit_code: int, console: Console) -> None:
    """Where the docs say more about an exit code that is not 0."""
    if exit_code:
        console.print(f"[bold]More:[/] {help_page(exit_code)}", soft_wrap=True)


class ConsoleListener(Listener):
    """Shows a line for each stage, and progress: a bar on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: Any = None
        self._last_line = 0.0

    def started(self, record: RunRecord) -> None:
        """Name the run and where its record is."""
        dry = f"; [yellow]{DRY_RUN}[/]" if record.is_dry else ""
        self._say(f"Run [bold]{record.run_id}[/], profile {shown(record.profile)}{dry}")

    def said(self, text: str) -> None:
        """Show a notice."""
        self._say(f"[yellow]Note:[/] {shown(text)}")

    def stage_started(self, stage: StageRecord) -> None:
        """Start the stage's line."""
        if not self._console.is_terminal:
            self._say(f"  {stage.name}: started")
            self._last_line = time.monotonic()
            return
        self._progress = Progress(
            TextColumn(f"  {stage.name:<11}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=None)

    def progress(self, stage: StageRecord, label: str, done: int, total: int | None) -> None:
        """Move the bar on."""
        if self._progress is not None:
            self._progress.update(self._task, description=shown(label), completed=done, total=total)
        elif time.monotonic() - self._last_line > PLAIN_EVERY:
            of = f" of {total:,}" if total else ""
            self._say(f"  {stage.name}: {done:,}{of} {shown(label)}")
            self._last_line = time.monotonic()

    def stage_ended(self, stage: StageRecord) -> None:
        """End the stage's line with how it went."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        colour = COLOURS.get(stage.status, "white")
        self._say(f"  {stage.name:<11} [{colour}]{stage.status:<11}[/] {stage.seconds or 0:6.1f} s")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


def show_run(record: RunRecord, console: Console) -> None:
    """The run's stages in a table, its outcome and where its record is."""
    from d2i_helpers.runs.records import ATTENTION, state_of

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("Stage", "Status", "Seconds", "Counts"):
        table.add_column(name, justify="right" if name == "Seconds" else "left")
    for stage in record.stages:
        colour = COLOURS.get(stage.status, "white")
        seconds = "" if stage.seconds is None else f"{stage.seconds:.1f}"
        status, counts = shown(stage.status), shown(key_counts(stage.counts))
        table.add_row(shown(stage.name), f"[{colour}]{status}[/]", seconds, counts)
    console.print()
    console.print(table)
    console.print()
    _show_reasons(record.stages, console)
    senders = {stage.name for stage in stages.STAGES if stage.sends}
    sent = next((s.counts for s in record.stages if s.name in senders), {})
    busy = ("waiting_before", "requests", "still_waiting")
    if sent and not any(sent.get(name) for name in busy):
        console.print("Nothing to send: no child is waiting.")
    for warning in record.warnings:
        console.print(f"[yellow]Note:[/] {shown(warning)}", soft_wrap=True)
    state = state_of(record)
    code = "" if record.exit_code is None else f", exit code {shown(record.exit_code)}"
    dry = f" ([yellow]{DRY_RUN}[/])" if record.is_dry else ""
    colour = COLOURS.get(state, "white")
    console.print(f"[{colour}]{shown(state)}[/]{code}{dry}", soft_wrap=True)
    if record.error:
        where = f" ({shown(record.error['stage'])})" if record.error.get("stage") else ""
        is_complete = record.status == ATTENTION
        head = "[bold yellow]Attention:[/]" if is_complete else f"[bold red]Failed{where}:[/]"
        console.print(f"{head} {shown(record.error['message'])}", soft_wrap=True)
        if record.error.get("hint"):
            console.print(f"[bold]To do:[/] {shown(record.error['hint'])}", soft_wrap=True)
    show_help_page(record.exit_code or 0, console)
    console.print(f"Record: {shown(str(record.path))}", soft_wrap=True)
    index = record.folder.parent / INDEX_FILE
    if index.is_file():
        console.print(f"All runs: {shown(str(index))}", soft_wrap=True)


def show_cluster(run: ClusterRun, console: Console) -> None:
    """The runs of a cluster in a table, what was wrong with each, and the outcome of all."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("Authority", "State", "Exit code", "Tries", "Seconds", "Counts"):
        numeric = name in ("Exit code", "Tries", "Seconds")
        table.add_column(name, justify="right" if numeric else "left")
    for part in run.parts:
        colour, seconds = COLOURS.get(part.state, "red"), (part.summary or {}).get("seconds")
        table.add_row(
            shown(part.name),
            f"[{colour}]{shown(part.state)}[/]",
            shown(part.exit_code),
            str(part.tries),
            "" if seconds is None else f"{seconds:.1f}",
            shown(key_counts(part.counts)),
        )
    console.print()
    console.print(table)
    console.print()
    for part in run.parts:
        for warning in (part.summary or {}).get("warnings", ()):
            console.print(f"[yellow]Note ({part.name}):[/] {shown(warning)}", soft_wrap=True)
    for part in run.parts:
        if part.why:
            console.print(f"[bold red]{part.name}:[/] {shown(part.why)}", soft_wrap=True)
            if record := (part.summary or {}).get("record"):
                host = part.result.host if part.result else ""
                console.print(f"  Record on {shown(host)}: {shown(record)}", soft_wrap=True)
    console.print(f"{shown(run.status)}, exit code {run.exit_code}", soft_wrap=True)
    if run.error is not None:
        show_error(run.error, console)
    else:
        show_help_page(run.exit_code, console)


def _show_reasons(ran: Sequence[StageRecord], console: Console) -> None:
    """Show why children need attention, if some do."""
    said: list[dict[str, float]] = []
    for stage in ran:
        reasons = stage.details.get(ATTENTION_TITLE)
        if not reasons or reasons in said:  # stages of one table say the same
            continue
        said.append(reasons)
        console.print(f"[yellow]{ATTENTION_TITLE}[/] ({shown(stage.name)}):", soft_wrap=True)
        for reason, children in list(reasons.items())[:_MOST_REASONS]:
            console.print(f"  {children:,}  {shown(reason)}", soft_wrap=True)
        if len(reasons) > _MOST_REASONS:
            console.print(f"  and {len(reasons) - _MOST_REASONS:,} reasons more, in the notebook")


def show_attention(reasons: Sequence[Reason], console: Console) -> None:
    """Each child who needs attention with each reason; whole ids, so for a person only."""
    if not reasons:
        console.print("Nobody needs attention.")
        return
    header = ("Child", "What", "Where", "Rule", "Noted", "Run")
    rows = []
    for reason in reasons:
        column = f"{reason.source_table}.{reason.source_column}" if reason.source_table else ""
        child = reason.person_id or f"{reason.children:,} without an id"
        noted = f"{reason.noted_at:%Y-%m-%d %H:%M}" if reason.noted_at else ""
        where = " ".join(filter(None, (column, reason.path)))
        rows.append((child, reason.what, where, reason.rule, noted, reason.run_id or ""))
    show_table(header, rows, console)
    console.print("`d2i why CHILD` says more of one of them.")


def show_parts(parts: Iterable[Part], console: Console, *, whole: bool = True) -> None:
    """The parts of an answer.

    Args:
        whole: with values of children, for a person at a terminal only.
    """
    from d2i_helpers.notebook.told import as_words

    for part in parts:
        console.print(f"[bold]{shown(part.title)}[/]")
        for words in part.said:
            console.print(shown(as_words(words, whole=whole)), soft_wrap=True)
        if part.rows:
            rows = ([as_words(cell, whole=whole) for cell in row] for row in part.rows)
            show_table(part.header, rows, console)
        console.print()


_MESSAGES = {
    "whole_documents": "whole documents",
    "changes": "changes to what was received",
    "purges": "children to be removed",
    "nothing": "nothing to send",
    "not_valid": "not sent: the document breaks a rule",
    "unreadable": "not sent: the document cannot be read",
}


def show_adoption(found: Adoption, console: Console) -> None:
    """What adopting a staging table would do, or that it is adopted already."""
    states = ((*words, f"{rows:,}") for words, rows in sorted(found.states.items()))
    console.print(f"{shown(found.table)}: {found.rows:,} rows, as they are stored")
    show_table(("row_state", "submission_status", "rows"), states, console)
    if found.adopted_before:
        console.print("The workbook fills this table already: there is nothing to adopt.")
        return
    console.print(f"Hashes or baselines that would change: {found.hashes_changed:,} rows.")
    console.print("If nothing is extracted meanwhile, the first run then has for")
    for name, said in _MESSAGES.items():
        if rows := found.first_run[name]:
            console.print(f"  {rows:>9,} rows: {said}")
    if found.doubts:
        console.print("What cannot be promised, as the table does not tell more:")
    for said, rows in found.doubts.most_common():
        console.print(f"  {rows:>9,} rows {said}", soft_wrap=True)
    console.print("submission_timestamp is not read: a default may have filled it.")
    console.print("Switch the job off that filled this table: its hashes and ours are no match.")


def key_counts(counts: dict[str, float], most: int = 6) -> str:
    """The first counts that are not 0, in one line."""
    shown = [(name, n) for name, n in counts.items() if n][:most]
    return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in shown)


def show_checks(checks: Sequence[Check], console: Console) -> None:
    """Preflight's checks as a table, and what to do about each that did not pass."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("Check", "Status", "Found"):
        table.add_column(name, overflow="fold")
    colours = {"pass": "green", "warn": "yellow", "fail": "red"}
    for check in checks:
        colour = colours.get(check.status, "dim")
        table.add_row(shown(check.name), f"[{colour}]{check.status}[/]", shown(check.detail))
    console.print(table)
    todo = [check for check in checks if check.status in ("warn", "fail")]
    for check in todo:
        console.print(f"[bold]{shown(check.name)}:[/] {shown(check.advice)}", soft_wrap=True)
    if not todo:
        console.print("All is well.")
        return
    console.print("[bold]More:[/] docs/troubleshooting.md#preflight-checks", soft_wrap=True)


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """A plain table; a long word goes on in the next line, and is never cut."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(shown(cell) for cell in row))
    console.print(table)
