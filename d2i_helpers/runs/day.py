"""Run the day, or resume a run: check it, make its record, execute its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2i_helpers import database
from d2i_helpers.database.shards import require_shards_of
from d2i_helpers.errors import LockError, RecordError, SettingsError
from d2i_helpers.runs import ledger, plan, records, verification
from d2i_helpers.runs.database_ledger import mark_of
from d2i_helpers.runs.execution import Listener, Run
from d2i_helpers.runs.records import ATTENTION, COMPLETED, RUNNING, RunRecord, StageRecord
from d2i_helpers.runs.shared_book import open_book
from d2i_helpers.settings import Settings, load_settings, project_root
from d2i_helpers.stages import stage_named
from d2i_helpers.staging import Staging, outbox


def run_day(
    parameters: Mapping[str, Any],
    stages: Sequence[str] | None = None,
    outputs: Path | None = None,
    *,
    resume: str | None = None,
    listener: Listener | None = None,
    notebooks: Path | None = None,
) -> RunRecord:
    """Run the stages as notebooks, and keep their record.

    Args:
        parameters: names and values as for `settings.load_settings`.
        stages: names of stages; None: the whole day, with preflight first.
        outputs: folder of the run records, in place of the parameter `outputs_dir`.
        resume: id of a run to resume, with its own parameters and stages.
        listener: is told what happens.
        notebooks: folder of the notebooks, in place of the project's.

    Returns:
        The finished record; its ``exit_code`` says how it ended.

    Raises:
        SettingsError, SpecificationError: raised before anything runs; there is no record.
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
    # all stages get the same day, whenever they start
    given["run_date"] = settings.today.isoformat()
    settings = settings.model_copy(update={"run_date": settings.today})
    require_shards_of(settings)
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
    record = records.read(records.folder_of(folder, run_id))
    last = ledger.last_by_run(ledger.entries(folder)).get(run_id)
    _refuse(
        run_id, [fault.problem for fault in verification.record_faults(run_id, last, record.folder)]
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
    # a parameter that the run's release did not know yet was not another one than its default
    then = {**plan.default_parameters(), **record.parameters}
    # how many children are read at a time changes nothing of them, and its default may be another
    free = ("outputs_dir", "records_url", "webhook_url", "chunk_size")
    changed = sorted(k for k in now if now[k] != then[k] and k not in free)
    if changed:
        raise SettingsError(
            f"The parameters of run {run_id} are not the same any more: {', '.join(changed)}.",
            hint="Put them back in the profile or the environment, or start a new run. The run's "
            "run.json says what they were; a release may have another default.",
        )
    record, after = _closed(record, settings, _trusted(record, given))
    left = _stages_left(record, settings)
    if not left:
        raise RecordError(f"Run {run_id} has no unfinished stage.", hint="Start a new run.")
    return Run(record, settings, again, left, resumed_after=after)


def _trusted(record: RunRecord, given: Mapping[str, Any]) -> Settings:
    """The settings of a resumed run. Of the record, only the name of the profile is used.

    Otherwise somebody who can write to the record could name a database that agrees with it.
    """
    profile = given.get("profile") or record.given.get("profile", record.profile)
    if "profile" not in given and Path(profile).name != profile:
        raise SettingsError(
            "The run had a profile that is not in params/.", hint="Give it again, with --params."
        )
    return load_settings(None, **{**given, "profile": profile})


def _closed(record: RunRecord, settings: Settings, trusted: Settings) -> tuple[RunRecord, str]:
    """The record of a run that may be resumed: it has ended, and is as it was written.

    Returns:
        The record, and the hash of its last entry in the ledger.

    Raises:
        SettingsError: its database is not that of the profile.
        RecordError: the record is not as the ledger and the database have it.
        DatabaseError: the database cannot be asked.
    """
    if mark_of(settings) != mark_of(trusted):
        raise SettingsError(
            "The run had another database than its profile names.",
            hint="Give it again, with -p database_url=… or -p staging_schema=….",
        )
    outputs, run_id = record.folder.parent, record.run_id
    with open_book(trusted, outputs) as book:
        closed = list(book.close_interrupted(only=run_id))
        last = ledger.last_by_run(ledger.entries(outputs)).get(run_id)
        _refuse(
            run_id, [f.problem for f in verification.record_faults(run_id, last, record.folder)]
        )
        if not book.agrees_on(run_id):
            _refuse(run_id, ["the database knows it otherwise than the ledger's file"])
    if last is None or last["kind"] in ledger.OPENING:
        raise LockError(f"Run {run_id} may still be running.", hint="Wait until it is done.")
    return records.read(record.folder) if closed else record, last["hash"]


def _refuse(run_id: str, problems: Sequence[str]) -> None:
    if problems:
        raise RecordError(
            f"Run {run_id} is not resumed: {problems[0]}.",
            hint="`d2i runs verify` shows all. Start a new run.",
        )


def _stages_left(record: RunRecord, settings: Settings) -> list[str]:
    """The stages from the first unfinished one on, or from delta if submit alone is not enough.

    Messages that were on the wire when the run stopped have an unknown outcome. Only delta makes
    messages that are right for every document that the receiver may hold, so it runs again.
    """
    names = [stage.name for stage in record.stages]
    unfinished = [s.name for s in record.stages if s.status not in (COMPLETED, ATTENTION)]
    first = names.index(unfinished[0]) if unfinished else len(names)
    if "delta" in names[:first] and _anything_unsettled(settings):
        first = names.index("delta")
    return names[first:]


def _anything_unsettled(settings: Settings) -> bool:
    engine = database.open_database(settings)
    try:
        database.create_staging(engine, settings.send_table)
        with database.reading(engine) as connection:
            staging = Staging(engine, settings.send_table, shard=settings.part)
            return outbox.anything_unsettled(connection, staging)
    finally:
        engine.dispose()
