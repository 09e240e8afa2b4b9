"""One run of the day: checked, recorded, executed; a new one or one that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2i_helpers.errors import LockError, RecordError, SettingsError
from d2i_helpers.runs import ledger, plan, records, verification
from d2i_helpers.runs.execution import Listener, Run
from d2i_helpers.runs.records import ATTENTION, COMPLETED, RUNNING, RunRecord, StageRecord
from d2i_helpers.settings import load_settings, project_root
from d2i_helpers.stages import stage_named


def run_day(
    parameters: Mapping[str, Any],
    stages: Sequence[str] | None = None,
    outputs: Path | None = None,
    *,
    resume: str | None = None,
    listener: Listener | None = None,
    notebooks: Path | None = None,
) -> RunRecord:
    """Run the stages as notebooks and keep the record.

    Args:
        parameters: names and values as for `settings.load_settings`.
        stages: names of stages; None: the whole day, with preflight first.
        outputs: folder of the run records, in place of the parameter `outputs_dir`.
        resume: id of a run to go on with, under its own parameters and stages.
        listener: told what happens.
        notebooks: folder of the notebooks, in place of the project's.

    Returns:
        The finished record; its ``exit_code`` says how it ended.

    Raises:
        SettingsError, SpecificationError: found before anything ran; there is no record.
        RecordError: the record cannot be made or written, or there is none to resume.
        LockError: the run to resume is still alive.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if outputs is not None:
        given["outputs_dir"] = str(outputs.absolute())
    run = _resumed(resume, given, stages) if resume else _fresh(given, stages)
    run.listener = listener or Listener()
    run.notebooks = notebooks or project_root() / "notebooks"
    return run.execute()


def _fresh(given: dict[str, Any], stages: Sequence[str] | None) -> Run:
    settings = load_settings(None, **given)
    # the day of the run is settled once, whenever a stage starts
    given["run_date"] = settings.today.isoformat()
    settings = settings.model_copy(update={"run_date": settings.today})
    names = plan.stages_in_order(stages)
    record = RunRecord(
        folder=settings.path(settings.outputs_dir) / records.new_run_id(),
        run_id="",
        profile=settings.profile,
        parameters=plan.saved_parameters(settings),
        given={k: v for k, v in given.items() if k not in plan.NEVER_SAVED},
        stages=[StageRecord(name, stage_named(name).notebook) for name in names],
    )
    record.run_id = record.folder.name
    return Run(record, settings, given, names)


def _resumed(run_id: str, given: dict[str, Any], stages: Sequence[str] | None) -> Run:
    outputs = load_settings(None, **given)
    folder = outputs.path(outputs.outputs_dir)
    record = records.read(folder / run_id)
    faults = verification.record_faults(
        run_id, ledger.last_by_run(folder).get(run_id), record.folder
    )
    if faults:
        raise RecordError(
            f"Run {run_id} is not resumed: {faults[0].what}.",
            hint="`d2i runs verify` shows all. Start a new run.",
        )
    own = {"profile", "outputs_dir", *plan.NEVER_SAVED}
    other = sorted(k for k in given.keys() - own if record.given.get(k) != given[k])
    if other or (stages and plan.stages_in_order(stages) != [s.name for s in record.stages]):
        raise SettingsError(
            "A resumed run has the stages and parameters that it began with"
            + (f", and not this {', '.join(other)}." if other else "."),
            hint="Give --resume alone (with --outputs, and with person_ids and webhook_url where "
            "the run had some).",
        )
    state = records.state_of(record)
    if state == RUNNING:
        raise LockError(f"Run {run_id} is still running.", hint="Wait until it is done.")
    if state == COMPLETED:
        raise RecordError(f"Run {run_id} is complete.", hint="There is nothing to resume.")
    again = {**record.given, "profile": record.given.get("profile", record.profile)}
    again |= {k: v for k, v in given.items() if k in ("outputs_dir", *plan.NEVER_SAVED)}
    settings = load_settings(None, **again)
    now = plan.saved_parameters(settings)
    free = ("outputs_dir", "webhook_url")
    changed = sorted(k for k in now if now[k] != record.parameters.get(k) and k not in free)
    if changed:
        raise SettingsError(
            f"The parameters of run {run_id} are not the same any more: {', '.join(changed)}.",
            hint="Put them back in the profile or the environment, or start a new run.",
        )
    unfinished = [s.name for s in record.stages if s.status not in (COMPLETED, ATTENTION)]
    if not unfinished:
        raise RecordError(f"Run {run_id} has no unfinished stage.", hint="Start a new run.")
    first = [s.name for s in record.stages].index(unfinished[0])
    return Run(record, settings, again, [s.name for s in record.stages[first:]], resumed=True)
