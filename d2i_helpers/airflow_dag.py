"""A DAG of Airflow 3: authorities, shards and stages as tasks, each of which is one `d2i run`.

Airflow is imported where it is needed only: this module is for those who have it, and the rest of
the package does without. A task starts a child process, so it works with the same notebooks,
engine, leases and records as a run by hand. See docs/airflow.md.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from d2i_helpers.errors import Next, SettingsError, what_next
from d2i_helpers.runs import authority as shared
from d2i_helpers.runs import child
from d2i_helpers.runs.authority import PREFLIGHT
from d2i_helpers.stages import stages_again

SUMMARY = "summary"  # key of the XCom in which a task leaves the summary of its run
BEGUN = dt.datetime(2026, 1, 1)  # its time zone is the DAG's


@dataclass(frozen=True)
class Authority(shared.Authority):
    """One authority of an installation: a task of each stage, or of each item of `stages`.

    Attributes:
        secrets: variable of the run to name of the Airflow Variable that holds its value.
    """

    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def pool(self) -> str:
        """Its pool: as many slots as shards, so that no more than these ask the API at once."""
        return f"d2i_{self.name}"


@dataclass(frozen=True)
class _Order:
    """What one task runs."""

    authority: Authority
    stages: str
    shard: int = 0  # from 1; 0: no shard
    workbook: str = "."
    python: str = sys.executable
    zone: str = "Europe/London"
    latest: dt.timedelta = dt.timedelta(hours=6)

    def command(self, run_date: dt.date, attempt: int) -> list[str]:
        """The command of the task's child process."""
        given = {**self.authority.parameters, "run_date": run_date.isoformat()}
        if self.authority.shards > 1 and self.shard:
            given["shard"] = f"{self.shard}/{self.authority.shards}"
        stages = self.stages.split(",")
        wanted = ",".join(stages_again(stages) if attempt > 1 else stages)
        profile = self.authority.profile or self.authority.name
        command = child.run_command(self.python, profile, given, stages=wanted, leashed=True)
        return child.with_variables(command, self.authority.env_file)


def make_dag(
    dag_id: str,
    authorities: Sequence[Authority],
    *,
    workbook: str,
    schedule: str | None = "0 2 * * *",
    zone: str = "Europe/London",
    python: str = sys.executable,
    at_once: int = 16,
    retries: int = 3,
    retry_delay: dt.timedelta = dt.timedelta(minutes=5),
    latest: dt.timedelta = dt.timedelta(hours=6),
    longest: dt.timedelta = dt.timedelta(hours=20),
) -> Any:
    """The DAG of an installation: each authority's day, a group of tasks each.

    Args:
        workbook: folder with notebooks/ and params/, on every worker.
        schedule: five fields of cron, local time; None: only by hand.
        zone: time zone of the schedule and of the day that a run is for.
        python: the Python that this package is installed in, on every worker.
        at_once: tasks that run at once, of all authorities. Not fewer than the shards of any.
        retries: of a task whose exit code says that another try may help; the waits double.
        latest: a scheduled run that begins later than this after its time is skipped.
        longest: after which a night that has not ended has failed.

    Raises:
        SettingsError: an authority is not as it must be, is there twice, or has more shards than
            may run at once.
    """
    from airflow.sdk import DAG, TaskGroup, task
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    _check(authorities, at_once)
    raised = _Raised(AirflowFailException, AirflowSkipException)
    about = {
        "retries": retries,
        "retry_delay": retry_delay,
        "retry_exponential_backoff": True,
        "max_retry_delay": dt.timedelta(hours=1),
        "weight_rule": "absolute",
    }

    def stage_task(task_id: str, order: _Order, weight: int) -> Any:
        @task(task_id=task_id, pool=order.authority.pool, priority_weight=weight, **about)
        def run_stages(dag_run: Any = None, ti: Any = None) -> dict[str, Any]:  # Airflow's
            return _run(order, dag_run, ti, raised)

        return run_stages()

    with DAG(
        dag_id,
        schedule=schedule,
        start_date=BEGUN.replace(tzinfo=ZoneInfo(zone)),
        catchup=False,
        max_active_runs=1,
        max_active_tasks=at_once,
        dagrun_timeout=longest,
        tags=["d2i"],
        doc_md="Made by `d2i_helpers.airflow_dag`; docs/airflow.md of the workbook.",
    ) as dag:
        for place, authority in enumerate(authorities):
            weight = len(authorities) - place  # whoever began goes on first, shard beside shard
            base: dict[str, Any] = {
                "workbook": workbook,
                "python": python,
                "zone": zone,
                "latest": latest,
            }
            with TaskGroup(authority.name):
                first = stage_task(PREFLIGHT, _Order(authority, PREFLIGHT, **base), weight)
                last = []
                for shard in range(1, authority.shards + 1):
                    before = first
                    for item in authority.stages:
                        order = _Order(authority, item, shard, **base)
                        now = stage_task(_task_id(authority, item, shard), order, weight)
                        before >> now
                        before = now
                    last.append(before)

                @task(task_id="day", trigger_rule="all_done", retries=1, priority_weight=weight)
                def close_day(
                    whose: str = authority.name, dag_run: Any = None, ti: Any = None
                ) -> dict[str, Any]:
                    return _close_day(whose, dag_run, ti, raised)

                last >> close_day(authority.name)
    return dag


def pools(authorities: Sequence[Authority]) -> str:
    """The pools of the authorities, as `airflow pools import` reads them (JSON)."""
    _check(authorities)
    made = {
        authority.pool: {
            "slots": authority.shards,
            "description": f"runs of {authority.name} at once",
            "include_deferred": False,
        }
        for authority in authorities
    }
    return json.dumps(made, indent=2)


def _check(authorities: Sequence[Authority], at_once: int | None = None) -> None:
    shared.check_all(authorities)
    for authority in authorities:
        shared.refuse_what_may_not_travel(authority)  # its pages show a DAG's file
        if at_once is not None and authority.shards > at_once:
            raise SettingsError(
                f"{authority.name} has {authority.shards} shards, and {at_once} tasks run at once.",
                hint="Raise at_once: the shards of an authority judge the day together.",
            )


def _task_id(authority: Authority, item: str, shard: int) -> str:
    name = item.replace(",", "_")
    return name if authority.shards == 1 else f"shard_{shard}_{name}"


# ------------------------------------------------------------------------------------ in a task
@dataclass(frozen=True)
class _Raised:
    """Airflow's exceptions, which are there only where Airflow is."""

    fail: type[Exception]  # not tried again
    skip: type[Exception]


class RunFailed(Exception):
    """The run ended with an exit code after which it is tried again."""


def _run(order: _Order, dag_run: Any, ti: Any, raised: _Raised) -> dict[str, Any]:
    """Run a task's stages in a child process, and say with an exception how that ended.

    Returns:
        The run's summary, of a run whose stages are complete.
    """
    run_date = _day_of(order, dag_run, ti, raised)
    command = order.command(run_date, ti.try_number)
    environment = child.environment_of({**order.authority.environment, **_secrets(order)})
    with child.terminable():
        ended = child.run_to_its_end(command, order.workbook, environment, _say)
    if ended.summary is not None:
        ti.xcom_push(SUMMARY, ended.summary)
    said = _in_words(ended)
    step = what_next(ended.exit_code)
    if step is Next.AGAIN:
        raise RunFailed(said)
    if step is Next.STOP:
        raise raised.fail(said)
    if ended.summary is None:
        raise raised.fail(f"{said} It said no summary.")
    return ended.summary


def _day_of(order: _Order, dag_run: Any, ti: Any, raised: _Raised) -> dt.date:
    """The day that the run is for: one for all tasks of a night, whenever they start.

    A day of last week would take back what was sent since, and a night's run that Airflow starts
    late, such as when a DAG is unpaused, would disturb the working day.
    """
    now = dt.datetime.now(dt.UTC)
    late = now - dag_run.run_after
    if (
        order.stages == PREFLIGHT
        and str(dag_run.run_type).rpartition(".")[2].lower() == "scheduled"
        and ti.try_number == 1
        and late > order.latest
    ):
        raise raised.skip(f"This run is {late} late: more than {order.latest}.")
    where = ZoneInfo(order.zone)
    run_date = dag_run.run_after.astimezone(where).date()
    if (now.astimezone(where).date() - run_date).days > 1:
        raise raised.fail(
            f"This DAG run is of {run_date}. A run sends what the source holds now, so an old one "
            "is neither cleared nor filled in: trigger a new one."
        )
    return run_date


def _secrets(order: _Order) -> dict[str, str]:
    """Values of the Airflow Variables that the authority names; Airflow masks them in its log."""
    if not order.authority.secrets:
        return {}
    from airflow.sdk import Variable
    from airflow.sdk.log import mask_secret

    found = {name: Variable.get(key) for name, key in order.authority.secrets.items()}
    for value in found.values():
        mask_secret(value)
    return found


def _say(line: str) -> None:
    print(line, flush=True)


def _in_words(ended: child.Ended) -> str:
    said = f"The run ended with exit code {ended.exit_code}."
    error = (ended.summary or {}).get("error") or {}
    if error.get("message"):
        said += f" {error['message']} {error.get('hint', '')}".rstrip()
    if record := (ended.summary or {}).get("record"):
        said += f" Record: {record}"
    return said


def _close_day(authority: str, dag_run: Any, ti: Any, raised: _Raised) -> dict[str, Any]:
    """Say how the day of an authority ended. It is the leaf that the state of the DAG run hangs on.

    Airflow starts it whatever became of the tasks before it, so it has to look at them.
    """
    found = ti.get_task_states(dag_id=ti.dag_id, task_group_id=authority, run_ids=[dag_run.run_id])
    own = ti.task_id
    states = {k: str(v) for k, v in found[dag_run.run_id].items() if k != own}
    summaries = _summaries(ti, sorted(states))
    for line in day_lines(states, summaries):
        _say(line)
    if states and set(states.values()) == {"skipped"}:
        raise raised.skip("Nothing of this day was run.")
    problems = day_problems(states, summaries)
    if problems:
        raise raised.fail(f"The day of {authority} is not as it should be: {' '.join(problems)}")
    return {"authority": authority, "runs": {k: s["run_id"] for k, s in summaries.items()}}


def _summaries(ti: Any, task_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    pulled = {name: ti.xcom_pull(task_ids=name, key=SUMMARY) for name in task_ids}
    return {name: summary for name, summary in pulled.items() if summary}


def day_problems(
    states: Mapping[str, str], summaries: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Why a day is no success, in sentences; none: it is one.

    Args:
        states: Airflow's state of each task of the authority.
        summaries: what their runs said, by task.
    """
    if not states:
        return ["Airflow knows no task of it."]
    said = [f"{name} is {state}." for name, state in sorted(states.items()) if state != "success"]
    for name, summary in sorted(summaries.items()):
        if states.get(name) == "success" and what_next(summary["exit_code"]) is Next.LOOK:
            said.append(f"{name}: {(summary.get('error') or {}).get('message', 'look at it.')}")
    return said


def day_lines(states: Mapping[str, str], summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line a task: its state, exit code, counts and record."""
    lines = []
    for name, state in sorted(states.items()):
        summary = summaries.get(name)
        if summary is None:
            lines.append(f"{name}: {state}, no run said anything")
            continue
        counts = {k: v for s in summary["stages"] for k, v in s["counts"].items() if v}
        shown = ", ".join(f"{key} {value:g}" for key, value in counts.items())
        place = summary.get("record") or "no record"
        lines.append(f"{name}: {state}, exit code {summary['exit_code']}; {shown or '-'}; {place}")
    return lines
