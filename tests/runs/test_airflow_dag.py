"""The tasks of Airflow, called as Airflow calls them, without Airflow; one test with it."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from d2i_helpers import airflow_dag
from d2i_helpers.airflow_dag import Authority
from d2i_helpers.errors import WHAT_NEXT, Next, SettingsError, what_next
from d2i_helpers.runs import child, schedules

PAGE = Path(__file__).parents[2] / "docs" / "airflow.md"
RAISED = airflow_dag._Raised(
    fail=type("Fail", (Exception,), {}), skip=type("Skip", (Exception,), {})
)


class Task:
    """A task of Airflow, and what it left."""

    def __init__(self, *, attempt: int = 1, states: dict[str, str] | None = None) -> None:
        self.try_number, self.dag_id, self.task_id = attempt, "night", "ours.day"
        self.left: dict[Any, Any] = {}
        self.states = states or {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[key] = value

    def xcom_pull(self, *, task_ids: str, key: str) -> Any:
        return self.left.get(task_ids)

    def get_task_states(self, *, run_ids: list[str], **_: Any) -> dict[str, dict[str, str]]:
        return {run_ids[0]: self.states}


def dag_run(*, hours_late: float = 0, run_type: str = "scheduled") -> Any:
    after = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours_late)
    return SimpleNamespace(run_after=after, run_type=run_type, run_id="tonight")


def order(stages: str = "submit", **about: Any) -> airflow_dag._Order:
    return airflow_dag._Order(Authority("ours", **about), stages, python="py", workbook=".")


def words(made: airflow_dag._Order, attempt: int = 1) -> str:
    return " ".join(made.command(dt.date(2026, 8, 10), attempt))


def test_a_task_builds_the_command_of_a_run() -> None:
    made = words(order("extract", profile="ours_live", parameters={"phase": "full"}))
    assert made == (
        "py -m d2i_helpers run --summary json --end-with-stdin --params ours_live "
        "--stages extract -p phase=full -p run_date=2026-08-10"
    )
    shard = airflow_dag._Order(Authority("ours", shards=4), "extract", 2)
    assert words(shard).endswith("-p run_date=2026-08-10 -p shard=2/4")
    assert "shard" not in words(airflow_dag._Order(Authority("ours", shards=4), "preflight"))
    assert words(order(env_file="/etc/ours.env")).startswith("/bin/sh -c ")


def test_a_second_try_of_submit_begins_with_delta() -> None:
    """What was on its way has an unknown outcome, and only delta makes messages for that."""
    assert "--stages submit" in words(order("submit"))
    assert "--stages delta,submit" in words(order("submit"), attempt=2)
    assert "--stages extract" in words(order("extract"), attempt=2)


@pytest.mark.parametrize("code", [*sorted(WHAT_NEXT), -9])
def test_each_exit_code_becomes_what_airflow_does_next(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    summary = {"exit_code": code, "error": {"message": "It says why."}, "record": "a/run.json"}
    ended = child.Ended(code, summary)
    monkeypatch.setattr(child, "run_to_its_end", lambda *_, **__: ended)
    ti = Task()
    kind = {Next.AGAIN: airflow_dag.RunFailed, Next.STOP: RAISED.fail}.get(what_next(code))
    if kind is None:
        assert airflow_dag._run(order(), dag_run(), ti, RAISED) == summary
    else:
        with pytest.raises(kind, match=rf"code {code}\. It says why\. Record: a/run\.json"):
            airflow_dag._run(order(), dag_run(), ti, RAISED)
    assert ti.left == {"summary": summary}


def test_a_run_without_a_summary_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "run_to_its_end", lambda *_, **__: child.Ended(0, None))
    with pytest.raises(RAISED.fail, match="no summary"):
        airflow_dag._run(order(), dag_run(), Task(), RAISED)


def day_of(stages: str, run: Any, attempt: int = 1) -> dt.date:
    return airflow_dag._day_of(order(stages), run, Task(attempt=attempt), RAISED)


def test_a_run_of_last_night_is_skipped_and_one_of_last_week_refused() -> None:
    """Airflow starts the last missed run as soon as a DAG is unpaused."""
    london = dt.datetime.now(dt.UTC).astimezone(airflow_dag.ZoneInfo("Europe/London"))
    assert day_of("preflight", dag_run()) == london.date()
    assert day_of("preflight", dag_run(hours_late=1))
    with pytest.raises(RAISED.skip):
        day_of("preflight", dag_run(hours_late=16))
    assert day_of("preflight", dag_run(hours_late=16, run_type="manual"))
    assert day_of("preflight", dag_run(hours_late=16), attempt=2)
    assert day_of("submit", dag_run(hours_late=16))
    for stages in ("preflight", "extract"):
        with pytest.raises(RAISED.fail, match="trigger a new one"):
            day_of(stages, dag_run(hours_late=72, run_type="manual"), attempt=2)


GOOD = {"run_id": "r", "exit_code": 0, "record": "r/run.json", "error": None,
        "stages": [{"name": "submit", "counts": {"acknowledged": 3}}]}  # fmt: skip
ATTENTION = {**GOOD, "exit_code": 20, "error": {"message": "2 children need attention."}}


def closed(states: dict[str, str], left: dict[str, Any]) -> dict[str, Any]:
    ti = Task(states={**states, "ours.day": "running"})
    ti.left = left
    return airflow_dag._close_day("ours", dag_run(), ti, RAISED)


def test_a_day_is_a_success_only_if_all_of_its_tasks_are() -> None:
    good = {"ours.extract": "success", "ours.submit": "success"}
    assert closed(good, {"ours.submit": GOOD})["runs"] == {"ours.submit": "r"}
    for state in ("failed", "upstream_failed", "skipped", "removed", "None"):
        with pytest.raises(RAISED.fail, match=f"ours.submit is {state}"):
            closed({**good, "ours.submit": state}, {"ours.extract": GOOD})
    with pytest.raises(RAISED.fail, match=r"ours\.submit: 2 children need attention"):
        closed(good, {"ours.submit": ATTENTION})
    with pytest.raises(RAISED.fail, match=r"ours\.shard_2_submit is failed"):
        closed({**good, "ours.shard_1_submit": "success", "ours.shard_2_submit": "failed"},
               {"ours.shard_1_submit": GOOD})  # fmt: skip
    with pytest.raises(RAISED.fail, match="knows no task"):
        closed({}, {})
    with pytest.raises(RAISED.skip):
        closed(dict.fromkeys(good, "skipped"), {})


def test_the_day_has_a_line_for_each_task(capsys: pytest.CaptureFixture[str]) -> None:
    closed({"ours.extract": "success", "ours.submit": "success"}, {"ours.submit": GOOD})
    assert capsys.readouterr().out.splitlines() == [
        "ours.extract: success, no run said anything",
        "ours.submit: success, exit code 0; acknowledged 3; r/run.json",
    ]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"name": "our authority"}, "no name"),
        ({"shards": 0}, "shards is 0"),
        ({"shards": 257}, "From 1 to 256"),
        ({"stages": ["submit", "delta"]}, "order of the day"),
        ({"stages": ["preflight", "delta"]}, "order of the day"),
        ({"stages": []}, "order of the day"),
    ],
)
def test_a_wrong_authority_is_refused_when_the_dag_is_read(about: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        airflow_dag.pools([Authority(**{"name": "ours", **about})])


@pytest.mark.parametrize(
    "about",
    [
        {"environment": {"D2I_CLIENT_SECRET": "s3cret"}},
        {"parameters": {"database_url": "postgresql://u:s3cret@h/x"}},
        {"parameters": {"person_ids": "s3cret"}},
    ],
)
def test_no_secret_and_no_child_stands_in_a_dag(about: dict) -> None:
    """Airflow shows the file of a DAG, and keeps it in its database."""
    with pytest.raises(SettingsError, match="or to Airflow") as refused:
        airflow_dag.pools([Authority("ours", **about)])
    assert "s3cret" not in str(refused.value)
    by_name = {"D2I_CLIENT_SECRET": "ours_client_secret"}
    assert airflow_dag.pools([Authority("ours", secrets=by_name)])


def test_pools_and_shards() -> None:
    two = [Authority("a"), Authority("b", shards=4)]
    made = json.loads(airflow_dag.pools(two))
    assert {name: pool["slots"] for name, pool in made.items()} == {"d2i_a": 1, "d2i_b": 4}
    with pytest.raises(SettingsError, match="twice"):
        airflow_dag.pools([*two, Authority("a")])
    with pytest.raises(SettingsError, match="2 tasks run at once"):
        airflow_dag._check(two, at_once=2)


def test_secrets_come_from_variables_and_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    for name, content in {
        "airflow": {},
        "airflow.sdk": {"Variable": SimpleNamespace(get={"key": "s3cret"}.__getitem__)},
        "airflow.sdk.log": {"mask_secret": masked.append},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    got = airflow_dag._secrets(order(secrets={"D2I_CLIENT_SECRET": "key"}))
    assert (got, masked) == ({"D2I_CLIENT_SECRET": "s3cret"}, ["s3cret"])


def test_the_page_says_of_each_exit_code_what_airflow_does() -> None:
    words = {
        "success": Next.DONE,
        "success, and the day fails": Next.LOOK,
        "tried again": Next.AGAIN,
        "fails at once": Next.STOP,
    }
    rows = re.findall(
        r"^\| ([\d, ]+) \| [^|]+ \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.M
    )
    told = {int(code): words[said] for codes, said in rows for code in codes.split(",")}
    assert told == WHAT_NEXT


@pytest.mark.airflow
def test_a_night_in_airflow(tmp_path: Path) -> None:
    """The printed file, its pools and its tasks, by `airflow dags test`."""
    pytest.importorskip("airflow.sdk", reason="Airflow is NOT tested: install the extra `airflow`")
    given = {
        "database_url": f"sqlite:///{tmp_path / 'ssd.sqlite'}",
        "receiver_store": str(tmp_path / "receiver.sqlite"),
        "outputs_dir": str(tmp_path / "outputs"),
        "simulate_children": 30,
    }
    (entry,) = schedules.entries_for(given, target="airflow")
    file = tmp_path / "dags" / entry.file_name
    file.parent.mkdir()
    file.write_bytes(entry.content)
    pairs = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    subprocess.run([sys.executable, "-m", "d2i_helpers", "simulate", "init", *pairs], check=True)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(file.parent),
    }

    def airflow(*typed: str) -> str:
        command = [sys.executable, "-m", "airflow", *typed]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout + done.stderr

    airflow("db", "migrate")
    made = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True)
    (tmp_path / "pools.json").write_text(made.stdout)
    airflow("pools", "import", str(tmp_path / "pools.json"))
    assert "state=success" in airflow("dags", "test", "d2i-demo")
    records = [json.loads(p.read_text()) for p in (tmp_path / "outputs").glob("*/run.json")]
    assert sorted(r["stages"][0]["name"] for r in records) == [
        "anonymise", "delta", "extract", "preflight", "submit",
    ]  # fmt: skip
    assert {r["exit_code"] for r in records} == {0}
