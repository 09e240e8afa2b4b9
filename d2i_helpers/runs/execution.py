"""Executes a run: each notebook in its own kernel, with the record kept true at every moment."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2i_helpers.errors import (
    ChildErrors,
    D2IError,
    DatabaseError,
    LeakError,
    NotebookError,
    RecordError,
    StorageError,
)
from d2i_helpers.kernel_protocol import PROGRESS_MIME
from d2i_helpers.payload_spec import Spec, load_spec
from d2i_helpers.privacy.safe_words import safe_label
from d2i_helpers.processes import this_process
from d2i_helpers.runs import engine, ledger, outcome, plan, records, summary
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.runs.database_ledger import DatabaseLedger, mark_of
from d2i_helpers.runs.leaks import LeakCheck
from d2i_helpers.runs.older_database import refuse_older_database
from d2i_helpers.runs.plan import Step
from d2i_helpers.runs.records import (
    ATTENTION,
    COMPLETED,
    FAILED,
    INTERRUPTED,
    PENDING,
    RUNNING,
    RunRecord,
    StageRecord,
)
from d2i_helpers.runs.report import write_report
from d2i_helpers.runs.run_page import write_run_page
from d2i_helpers.runs.shared_book import make_book
from d2i_helpers.runs.shared_records import open_shared
from d2i_helpers.runs.stopping import Interrupted, StopSwitch, stoppable, stopped_by
from d2i_helpers.settings import Settings, project_root
from d2i_helpers.stages import stage_named
from d2i_helpers.staging.lease import Lease

if TYPE_CHECKING:
    from d2i_helpers.runs.kernel_pool import KernelPool


class Listener:
    """Is told what happens in a run, to show it. Subclasses override what they need."""

    def started(self, record: RunRecord) -> None:
        """The record is made; nothing has run yet."""

    def stage_started(self, stage: StageRecord) -> None:
        """A notebook starts."""

    def progress(self, stage: StageRecord, label: str, done: int, total: int | None) -> None:
        """Inside a stage."""

    def stage_ended(self, stage: StageRecord) -> None:
        """A notebook ended, one way or the other."""

    def said(self, text: str) -> None:
        """Something worth knowing that is no error."""


class Run:
    """A run that is being executed."""

    listener: Listener
    notebooks: Path
    kernels: KernelPool

    def __init__(
        self,
        record: RunRecord,
        settings: Settings,
        given: Mapping[str, Any],
        to_run: Sequence[str],
        *,
        resumed_after: str | None = None,
    ) -> None:
        self.record, self.settings, self.given = record, settings, given
        self.to_run = list(to_run)
        self.resumed_after = resumed_after  # hash of the last entry of the run that goes on
        self.outputs = record.folder.parent
        self.spec: Spec = load_spec(settings.cms, settings.overlay_path)
        self.leaks = LeakCheck(settings)
        self.shared = open_shared(settings)  # the records on object storage
        self.is_storage_away = False
        self.lease: Lease | None = None
        self.pages: list[Future] = []
        self.not_compared: list[StageRecord] = []  # with the cohort, as the database was away

    # ------------------------------------------------------------------------ the whole run
    def execute(self) -> RunRecord:
        record, began = self.record, time.monotonic()
        steps = plan.make_plan(
            self.to_run, self.notebooks, self.given, self.settings, record.run_id
        )
        with stoppable() as switch:
            self._open()
            error = self._run_stages(steps, switch)
            self._close(error, time.monotonic() - began)
        return record

    def _run_stages(self, steps: Sequence[Step], switch: StopSwitch) -> D2IError | None:
        """Run the stages in order. Returns the error that ended the run early, or None."""
        try:
            with contextlib.ExitStack() as stack:
                self.kernels = self._start_kernels(steps)
                stack.callback(self.kernels.close)
                engine.load()  # while the kernels get ready
                pool = stack.enter_context(ThreadPoolExecutor(1, "d2i-pages"))
                with switch.ready():
                    self.leaks.renew()  # likewise
                    self._refuse_older_database()
                    for step in steps:
                        switch.check()
                        self._lock_for(step, stack)
                        self._run_stage(step, pool, switch)
        except D2IError as caught:
            return caught
        except KeyboardInterrupt as caught:
            return stopped_by(caught)
        except Exception as caught:  # the record must say so, whatever it was
            return stopped_by(switch.asked) if switch.asked else outcome.fault_of(caught)
        return None

    def _start_kernels(self, steps: Sequence[Step]) -> KernelPool:
        from d2i_helpers.runs.kernel_pool import KernelPool

        environment = plan.kernel_environment(self.settings, self.record.run_id)
        return KernelPool([step.notebook for step in steps], project_root(), environment)

    def _open(self) -> None:
        record = self.record
        self._prove_storage()
        if self.resumed_after is not None:
            # the ledger first: if it cannot be written, the record stays as its last entry says
            record.status, record.exit_code, record.process = RUNNING, None, this_process()
            self._book().enter(ledger.RESUMED, record, after=self.resumed_after)
            self._reopen()
        else:
            record.environment = records.environment_facts(project_root(), self.spec)
            records.create(record)
            self._enter()
        for said in self._book().close_interrupted(except_for=record.run_id):
            self.listener.said(said)
        self._renew_page()
        self._renew_index()
        self.listener.started(record)

    def _book(self) -> Book:
        database: DatabaseLedger | None = None
        with contextlib.suppress(DatabaseError):  # the stages say so, and the entry waits
            database = DatabaseLedger(self.leaks.open(), mark_of(self.settings))
        return make_book(self.settings, self.outputs, database, self.leaks.ledger_key, self.shared)

    def _refuse_older_database(self) -> None:
        """Stop where the database was put back to a state before runs of this folder.

        Raises:
            GuardError: it was.
        """
        if plan.worked_tables(self.to_run, self.settings):
            with contextlib.suppress(DatabaseError):  # the stages say so
                refuse_older_database(self.leaks.open(), self._book(), self.settings)

    def _prove_storage(self) -> None:
        """See that the object storage keeps one ledger. If it is away, the record waits here.

        Raises:
            SettingsError: it would let two machines write over each other.
        """
        try:
            if self.shared is not None:
                self.shared.storage.prove()
        except StorageError as error:
            self._say_away("at the beginning", error)

    def _say_away(self, when: str, error: StorageError) -> None:
        """Say once that the storage is away; only the end of the run asks it again."""
        self.is_storage_away = True
        self.record.warnings.append(
            f"The record could not be carried over to object storage {when}. {error.message}"
        )

    def _carry_over(self, stage: StageRecord) -> None:
        """Copy what a stage left to object storage. That it fails is said once; the end has all."""
        if self.shared is None or self.is_storage_away:
            return
        # not a notebook that could not be compared with the cohort's identities yet
        names = [] if self.leaks.missed else [stage.notebook]
        there = [name for name in names if (self.record.folder / name).is_file()]
        try:
            self.shared.push(self.record.folder, there)
        except StorageError as error:
            self._say_away(f"after {stage.name}", error)

    def _enter(self) -> None:
        """Enter the start into the ledger. A new run that cannot be entered leaves no record."""
        try:
            self._say_waiting(self._book().enter(ledger.STARTED, self.record))
        except RecordError:
            shutil.rmtree(self.record.folder, ignore_errors=True)
            raise

    def _say_waiting(self, why: str | None) -> None:
        if why:
            self.listener.said(
                f"The ledger's entry is in {self._where_it_waits()} only until the next run: "
                f"{why.rstrip('.')}."
            )

    def _where_it_waits(self) -> str:
        return "its file" if self.shared is None else f"the folder {self.outputs.name}"

    def _reopen(self) -> None:
        """Set the record to running again, and keep what earlier attempts left as evidence."""
        record = self.record
        first = self.to_run[0]
        for stage in record.stages:
            if stage.name in self.to_run and stage.status != PENDING:
                self._keep_attempt(stage)
        here = records.environment_facts(project_root(), self.spec)
        mark = {"at": records.now(), "stage": first, "host": here["host"], "user": here["user"]}
        record.resumed.append({**mark, "versions": here["versions"], "git": here["git"]})
        record.error, record.finished_at, record.files = None, None, {}
        records.write_reserve(record.folder)
        record.save()

    def _keep_attempt(self, stage: StageRecord) -> None:
        kept = f"{Path(stage.notebook).stem}.attempt{len(stage.earlier) + 1}.ipynb"
        for suffix in (".ipynb", ".html"):
            old = (self.record.folder / stage.notebook).with_suffix(suffix)
            if old.is_file():
                old.rename((self.record.folder / kept).with_suffix(suffix))
        names = ("status", "started_at", "seconds", "counts", "gates", "error", "redactions")
        attempt = {name: getattr(stage, name) for name in names}
        status = INTERRUPTED if stage.status == RUNNING else stage.status
        stage.earlier.append({**attempt, "notebook": kept, "status": status})
        stage.status, stage.started_at, stage.seconds = PENDING, None, None
        stage.counts, stage.details, stage.gates = {}, {}, []
        stage.error, stage.redactions = None, 0

    def _close(self, error: D2IError | None, seconds: float) -> None:
        record = self.record
        for page in self.pages:
            problem = page.exception()
            if problem is not None:
                why = outcome.fault_of(problem).message
                record.warnings.append(f"The page of a notebook could not be written. {why}")
        if not self._compared_by_now():
            record.warnings.append(
                "The notebooks were compared with the secrets only: the database with the "
                "identities of the cohort could not be read."
            )
        if names := self.leaks.not_sought:
            record.warnings.append(
                "Not searched for in the notebooks, being too short or plain words: "
                f"{', '.join(names)}. Have other ones set."
            )
        error = error or self._leak() or self._child_errors()
        if error is not None:
            error = self.leaks.clean(error)
            error.hint = error.hint.replace("--resume`", f"--resume {record.run_id}`")
            failed = next((s.name for s in record.stages if s.error and s.status == FAILED), None)
            record.error = outcome.error_entry(error, failed)
        record.exit_code = error.exit_code if error else 0
        record.status = COMPLETED if error is None else FAILED
        if isinstance(error, ChildErrors):
            record.status = ATTENTION
        if isinstance(error, Interrupted):
            record.status = INTERRUPTED
            for stage in record.stages:  # stopped before its notebook had begun
                if stage.status == RUNNING:
                    stage.status = INTERRUPTED
        record.finished_at = records.now()
        record.seconds = round((record.seconds or 0) + seconds, 2)
        book = self._book()
        # if the database is away, a notice has said so already
        with contextlib.suppress(DatabaseError, StorageError):
            if difference := book.disagreement():
                record.warnings.append(
                    f"The ledger is not as it was written: {difference}. `d2i runs verify` says "
                    "more."
                )
        self._post()
        self._renew_page(last=True)
        records.finish(record)
        self._say_waiting(book.enter(ledger.FINISHED, record))
        self.leaks.close()
        self._renew_index()

    def _renew_page(self, *, last: bool = False) -> None:
        """Write the run's page anew. That it cannot be written is said once, and fails no run."""
        try:
            write_run_page(self.record)
        except RecordError as error:
            if last:
                self.record.warnings.append(
                    f"The page of the run is not up to date. {error.message}"
                )

    def _renew_index(self) -> None:
        """Write the page over all runs anew; it fails no run."""
        try:
            write_report(self.outputs)
        except RecordError as error:
            self.listener.said(f"The page over all runs is not up to date. {error.message}")

    def _post(self) -> None:
        settings = self.settings
        if settings.webhook_url:
            bundle = settings.path(settings.ca_bundle) if settings.ca_bundle else None
            problem = summary.post(settings.webhook_url, self.record, settings.proxy, bundle)
            if problem:
                self.record.warnings.append(problem)

    def _child_errors(self) -> D2IError | None:
        """The error of the stage that names most children: a later one counts the earlier's too."""
        found = [s for s in self.record.stages if s.status == ATTENTION and s.error]
        most = max(found, key=lambda stage: stage.counts.get("need_attention", 0), default=None)
        return ChildErrors(most.error["message"]) if most and most.error else None

    def _leak(self) -> D2IError | None:
        redactions = {s.notebook: s.redactions for s in self.record.stages if s.redactions}
        if not redactions:
            return None
        return LeakError(
            f"An identity or a secret was found in {', '.join(redactions)} and taken out.",
            hint="The copy that was kept is clean. Find the cell with [redacted] and tell whoever "
            "keeps this project.",
        )

    # --------------------------------------------------------------------------- one stage
    def _lock_for(self, step: Step, stack: contextlib.ExitStack) -> None:
        """Take the lease before the first stage that works on a table."""
        tables = plan.worked_tables(self.to_run, self.settings)
        if self.lease is None and plan.worked_tables([step.stage], self.settings):
            run_id, shard = self.record.run_id, self.settings.part
            self.lease = Lease(self.leaks.open(), tables, run_id, shard=shard)
            stack.enter_context(self.lease)
            for run_id in self.lease.taken_over:
                self.listener.said(
                    f"Run {run_id} had died while it worked on the table; this run took over. "
                    "Children whose outcome it left unknown are settled by the delta stage."
                )
        if self.lease is not None and self.lease.lost:
            raise self.lease.lost

    def _run_stage(self, step: Step, pool: ThreadPoolExecutor, switch: StopSwitch) -> None:
        stage = next(s for s in self.record.stages if s.name == step.stage)
        stage.status, stage.started_at = RUNNING, records.now()
        self.record.save()
        self.listener.stage_started(stage)
        began = time.monotonic()
        failure: BaseException | None = None
        try:
            self._execute(step, stage, switch)
        except (Exception, KeyboardInterrupt) as caught:
            # a library that is interrupted half-way may end in an error of its own
            failure = switch.asked or caught
        stage.seconds = round(time.monotonic() - began, 2)
        error = self._judge(stage, failure)
        copy = self.record.folder / stage.notebook
        if copy.is_file():
            # the cohort may be another one now, or the database may be back
            if stage_named(step.stage).changes_cohort or self.leaks.missed:
                self.leaks.renew()
            stage.redactions += self._redact(copy)
            if self.leaks.missed:
                self.not_compared.append(stage)
            for notice in outcome.take_counts(stage, copy):
                self.record.warnings.append(f"{stage.name}: {notice}")
            self.pages.append(pool.submit(self._write_page, copy))
        self.record.save()
        self._renew_page()
        self._carry_over(stage)
        self.listener.stage_ended(stage)
        if error is not None:
            raise error

    def _write_page(self, copy: Path) -> None:
        from d2i_helpers.runs.html_pages import write_page

        write_page(copy, records.DRY_RUN if self.record.is_dry else "")

    def _execute(self, step: Step, stage: StageRecord, switch: StopSwitch) -> None:
        redacted: dict[int, int] = {}  # by cell

        def shown(data: Mapping[str, Any]) -> None:
            state = data.get(PROGRESS_MIME)
            if isinstance(state, dict):
                label = safe_label(str(state["label"]))  # a notebook may send what it likes
                self.listener.progress(stage, label, state["done"], state["total"])

        def clean(cell: int, outputs: Any) -> Any:
            outputs, redacted[cell] = self.leaks.redact_json(outputs)
            stage.redactions = sum(redacted.values())
            return outputs

        def stop_reason() -> D2IError | None:
            if switch.asked:  # and a library kept the interrupt to itself
                return stopped_by(switch.asked)
            return self.lease.lost if self.lease else None

        engine.execute(
            step.notebook,
            self.record.folder / stage.notebook,
            dict(step.parameters),
            time_limit=self.settings.stage_timeout,
            kernel=self.kernels.take(),
            on_display=shown,
            stop_reason=stop_reason,
            clean=clean,
        )

    def _judge(self, stage: StageRecord, failure: BaseException | None) -> BaseException | None:
        """Note how the stage ended. Returns the error that ends the run, or None."""
        if failure is None:
            stage.status = COMPLETED
            return None
        if isinstance(failure, KeyboardInterrupt):
            stage.status = INTERRUPTED
            return failure
        error = self.leaks.clean(outcome.error_of(failure, stage.notebook))
        stage.error = outcome.error_entry(error)
        stage.status = ATTENTION if isinstance(error, ChildErrors) else FAILED
        return None if stage.status == ATTENTION else error

    def _compared_by_now(self) -> bool:
        """Compare once more what could not be compared with the cohort while the run went on."""
        if self.not_compared:
            self.leaks.renew()
        for stage in [] if self.leaks.missed else self.not_compared:
            copy = self.record.folder / stage.notebook
            try:
                if hits := self._redact(copy):
                    stage.redactions += hits
                    self._write_page(copy)
            except D2IError as error:
                self.record.warnings.append(error.message)
        return self.leaks.compared and not self.leaks.missed

    def _redact(self, copy: Path) -> int:
        """Remove identities from the executed copy. A copy that cannot be cleaned is deleted."""
        try:
            return outcome.redact_file(copy, self.leaks.redact)
        except D2IError:
            copy.unlink()
            raise
        except ValueError:
            copy.unlink()
            raise NotebookError(
                f"{copy.name} could not be checked for identities and was not kept."
            ) from None
