"""Runs on a Dask cluster: what is tried again, what may travel, how all ends; one with Dask."""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest
import requests
import yaml

from d2i_helpers.demo import receiver
from d2i_helpers.errors import ClusterError, SettingsError
from d2i_helpers.runs import authority as authorities
from d2i_helpers.runs import child, cluster, cluster_task
from d2i_helpers.runs.authority import Authority
from d2i_helpers.runs.cluster import Night, Waits
from d2i_helpers.runs.cluster_task import BEGAN, Order, Result
from d2i_helpers.settings import load_settings


class Future:
    """What Dask gives for a task; it has ended when its callback is set."""

    def __init__(self, key: str, outcome: Any) -> None:
        self.key, self._outcome = key, outcome
        self.status = outcome if isinstance(outcome, str) else "finished"
        if isinstance(outcome, BaseException):
            self.status = "error"

    def add_done_callback(self, tell: Callable[[Any], None]) -> None:
        if self.status != "pending":
            tell(self)

    def result(self) -> Any:
        return self._outcome

    def exception(self) -> Any:
        return self._outcome

    def cancel(self) -> None:
        self.status = "cancelled"


class Cluster:
    """A client of Dask whose tasks end as a test says: by part, one outcome a try."""

    def __init__(self, **outcomes: list[Any]) -> None:
        self.outcomes = {name.replace("_of_", "/").replace("_", " "): list(each)
                         for name, each in outcomes.items()}  # fmt: skip
        self.orders: list[Order] = []
        self.stopped: list[str] = []
        self.status = "running"
        self.tell: Callable[..., None] = lambda _: None

    def subscribe_topic(self, _: str, handler: Callable[..., None]) -> None:
        self.tell = handler

    def submit(self, what: Any, order: Order, *, key: str, pure: bool, priority: int) -> Future:
        assert (what, pure) == (cluster_task.run, False)
        self.orders.append(order)
        name = key.split("-try")[0].replace("-", " ")
        outcome = self.outcomes[name].pop(0)
        if callable(outcome):
            outcome = outcome(self, key)
        return Future(key, ended(outcome) if isinstance(outcome, int) else outcome)

    def run(self, what: Any, topic: str, on_error: str) -> None:
        assert what is cluster_task.stop
        self.stopped.append(topic)


def ended(code: int) -> Result:
    error = {"message": f"It ended with {code}."} if code else None
    stages = [{"name": "submit", "counts": {"acknowledged": 3, "requests": 1}}]
    summary = {"status": "failed" if code else "completed", "error": error, "seconds": 1.5,
               "stages": stages, "warnings": []}  # fmt: skip
    return Result("host", code, summary)


def night(**about: Any) -> Night:
    return Night("/wb", dt.date(2026, 8, 10), waits=Waits(failed=(0, 0), held=0), **about)


def run(client: Cluster, *who: Authority) -> tuple[cluster.ClusterRun, list[str]]:
    said: list[str] = []
    runs = cluster._Runs(client, who, night(), lambda name, text: said.append(f"{name}: {text}"))
    return runs.to_the_end(), said


def test_an_order_names_day_shard_and_stages_and_its_key_says_no_more() -> None:
    ours = Authority("ours", "ours_live", shards=4, stages=["delta,submit"], env_file="/etc/ours",
                     parameters={"la_code": "301"})  # fmt: skip
    made = night(topic="d2i-x").order(cluster.Piece(ours, 2, tries=1))
    assert made.parameters == {"run_date": "2026-08-10", "la_code": "301", "shard": "2/4"}
    assert (made.stages, made.profile, made.env_file) == (
        "preflight,delta,submit", "ours_live", "/etc/ours",
    )  # fmt: skip
    assert made.key == "ours-2/4-try1-d2i-x"
    whole = night(stages="extract").order(cluster.Piece(Authority("ours"), 1))
    assert (whole.profile, whole.stages, "shard" in whole.parameters) == ("ours", "extract", False)


def test_every_shard_of_every_authority_is_run_for_one_day() -> None:
    client = Cluster(a_1_of_2=[0], a_2_of_2=[0], b=[0])
    done, said = run(client, Authority("a", shards=2), Authority("b"))
    assert [order.parameters.get("shard") for order in client.orders] == ["1/2", "2/2", None]
    assert {order.parameters["run_date"] for order in client.orders} == {"2026-08-10"}
    assert (done.exit_code, done.status) == (0, "completed")
    assert said[-1] == "b: completed, exit code 0, acknowledged 3; 3 of 3 are over."
    told = json.loads(json.dumps(done.summary()))
    assert [r["shard"] for r in told["runs"]] == ["1/2", "2/2", "1/1"]


def test_another_run_on_the_same_children_is_waited_for_however_often() -> None:
    """Dask runs a task again while the first one's run still closes its record: no failure."""
    client = Cluster(a=[14, 14, 14, 14, 14, 0])
    done, said = run(client, Authority("a"))
    assert (done.exit_code, done.parts[0].tries) == (0, 6)
    assert said[0].startswith("a: waits for another run, exit code 14")


@pytest.mark.parametrize(
    ("codes", "last"),
    [([9, 12, 0], 0), ([-9, 0], 0), ([9, 9, 4], 4), ([6], 6), ([20], 20), ([9, 14, 9, 14, 3], 3)],
)
def test_what_is_tried_again_and_what_is_not(codes: list[int], last: int) -> None:
    client = Cluster(a=codes)
    done, _ = run(client, Authority("a"))
    assert done.exit_code == last
    assert not client.outcomes["a"]  # all tries were made, and no more


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((0, 20), 20), ((20, 0), 20), ((9, 20), 9), ((9, 6), 6), ((6, 3), 6), ((0, -9), 137)],
)
def test_the_exit_code_of_all_is_the_worst(codes: tuple[int, int], worst: int) -> None:
    outcomes = {name: [code] * 3 for name, code in zip("ab", codes, strict=True)}
    done, _ = run(Cluster(**outcomes), Authority("a"), Authority("b"))
    assert done.exit_code == worst


def test_a_second_worker_and_tasks_that_dask_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = type("KilledWorker", (Exception,), {})
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(KilledWorker=killed))

    def began_twice(client: Cluster, key: str) -> int:
        for worker in ("w1", "w2"):
            client.tell((0.0, {"key": key, "kind": BEGAN, "text": worker}))
        return 0

    client = Cluster(a=[began_twice], b=[killed(), killed(), killed()], c=[TypeError("CANARY")])
    done, said = run(client, Authority("a"), Authority("b"), Authority("c"))
    assert "a: begins on w2; it had begun on w1, which is gone" in said
    assert [part.exit_code for part in done.parts] == [0, 137, 1]
    assert "CANARY" not in json.dumps(done.summary())


def test_a_lost_scheduler_ends_the_command_and_nobody_says_how_the_runs_ended() -> None:
    done, _ = run(Cluster(a=[0], b=["cancelled"]), Authority("a"), Authority("b"))
    assert (done.exit_code, done.parts[1].result) == (ClusterError.exit_code, None)


def test_a_scheduler_that_is_gone_while_runs_wait_is_noticed() -> None:
    def gone(client: Cluster, _: str) -> int:
        client.status = "closed"
        return 9

    done, _ = run(Cluster(a=[gone]), Authority("a"))
    assert done.exit_code == ClusterError.exit_code


def test_ctrl_c_stops_the_runs_in_order_and_begins_none() -> None:
    def interrupted(client: Cluster, key: str) -> int:
        client.tell((0.0, {"key": key, "kind": BEGAN, "text": "w1"}))
        signal.raise_signal(signal.SIGINT)
        return 130

    client = Cluster(a=[interrupted], b=["pending"], c=[9])
    done, _ = run(client, Authority("a"), Authority("b"), Authority("c"))
    assert (done.exit_code, done.status) == (130, "interrupted")
    assert client.stopped == [client.orders[0].topic]
    assert [part.state for part in done.parts] == ["failed", "not run", "failed"]
    assert len(client.orders) == 3


def test_ctrl_c_after_the_scheduler_is_gone_is_said_as_it_is_with_all_that_is_known() -> None:
    def interrupted(client: Cluster, key: str) -> str:
        client.tell((0.0, {"key": key, "kind": BEGAN, "text": "w1"}))
        signal.raise_signal(signal.SIGINT)
        return "lost"

    def gone(*_: Any, **__: Any) -> None:
        raise OSError("CANARY")  # Dask's CommClosedError is one

    client = Cluster(a=[0], b=[interrupted])
    client.run = gone  # type: ignore[method-assign]
    done, _ = run(client, Authority("a"), Authority("b"))
    assert (done.exit_code, done.status) == (130, "interrupted")
    assert [part.state for part in done.parts] == ["completed", "not known"]
    assert "CANARY" not in json.dumps(done.summary())


@pytest.mark.parametrize(
    ("given", "environment"),
    [
        ({"client_secret": "s3cret"}, {}),
        ({"person_ids": "s3cret"}, {}),
        ({"webhook_url": "https://x/s3cret"}, {}),
        ({"database_url": "postgresql://u:s3cret@h/x"}, {}),
        ({}, {"D2I_DATABASE_PASSWORD": "s3cret"}),
        ({}, {"PGPASSWORD": "s3cret"}),
        ({}, {"D2I_DATABASE_URL": "postgresql://u:s3cret@h/x"}),
        ({}, {"HTTPS_PROXY": "http://u:s3cret@h:8080"}),
        ({}, {"SOURCE": "DRIVER=x;SERVER=h;UID=u;PWD=s3cret"}),
        ({}, {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=x;AccountKey=s3cret"}),
    ],
)
def test_no_secret_and_no_child_travels_through_a_cluster(given: dict, environment: dict) -> None:
    ours = Authority("ours", parameters=given, environment=environment)
    with pytest.raises(SettingsError) as refused:
        cluster.run_on_cluster("tcp://nowhere:1", [ours], night(), lambda *_: None)
    assert "s3cret" not in str(refused.value)
    harmless = {"D2I_SECRETS_DIR": "/s", "HTTPS_PROXY": "http://h:8080"}
    fine = Authority("ours", parameters={"phase": "full"}, environment=harmless)
    authorities.refuse_what_may_not_travel(fine)


@pytest.mark.parametrize("address", ["host", "http://host:8786", "a b:1", ""])
def test_what_is_no_address_is_refused_before_dask_is_asked(address: str) -> None:
    with pytest.raises(SettingsError, match="no address"):
        cluster.run_on_cluster(address, [Authority("ours")], night(), lambda *_: None)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"version": "0.0.1", "host": "h", "has_workbook": True}, r"and 0\.0\.1 on h"),
        ({**cluster_task.look("/nowhere"), "host": "h"}, "no workbook /wb on h"),
        (ModuleNotFoundError("d2i_helpers"), "has no d2i"),
    ],
)
def test_a_worker_that_cannot_run_a_day_is_named(found: Any, said: str) -> None:
    client = SimpleNamespace(run=lambda *_, **__: {"tcp://w:1": found})
    with pytest.raises(SettingsError, match=rf"tcp://w:1 cannot .*{said}"):
        cluster._look_at_workers(client, "/wb")


FILE = """
northshire: {profile: phase5_live, shards: 4, env_file: /etc/d2i/n.env}
southford:
  stages: [extract, "delta,submit"]
  parameters: {la_code: 012}
"""


def test_authorities_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(FILE)
    north, south = authorities.to_run(file, {"dry_run": True})
    assert north == Authority("northshire", "phase5_live", 4, env_file="/etc/d2i/n.env",
                              parameters={"dry_run": True})  # fmt: skip
    assert south.parameters == {"la_code": "012", "dry_run": True}
    assert south.stages == ["extract", "delta,submit"]
    for wrong in ("- a", "a: {shard: 2}", "a: {shards: two}", "a: {parameters: x}", "a: b", ""):
        file.write_text(wrong)
        with pytest.raises(SettingsError, match=r"all\.yaml"):
            authorities.to_run(file, {})
    with pytest.raises(SettingsError, match="mean nothing"):
        authorities.to_run(file, {"profile": "x"})
    (one,) = authorities.to_run(None, {"profile": "/x/our one.yaml", "phase": "full"}, shards=2)
    assert one == Authority("our-one", "/x/our one.yaml", 2, parameters={"phase": "full"})


# ------------------------------------------------------------------------------- on a worker
@contextmanager
def worker_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> Iterator[SimpleNamespace]:
    """A worker in a workbook, whose run is a program of the test."""
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    (tmp_path / "notebooks" / "01_extract.ipynb").touch()
    told: list[dict] = []
    worker = SimpleNamespace(address="tcp://w:1", status=SimpleNamespace(name="running"), told=told,
                             log_event=lambda _, msg: told.append(msg))  # fmt: skip
    module = ModuleType("distributed")
    vars(module).update(get_worker=lambda: worker)
    monkeypatch.setitem(sys.modules, "distributed", module)
    monkeypatch.setattr(
        child, "run_command", lambda python, *_, **__: [sys.executable, "-c", program]
    )
    monkeypatch.setattr(cluster_task, "LOOK_SECONDS", 0.05)
    yield worker


UNTIL_LET_GO = (
    "import sys; print('begun', file=sys.stderr, flush=True); sys.stdin.read(); exit(130)"
)


def order(tmp_path: Path, **about: Any) -> Order:
    return Order("key", "topic", str(tmp_path), "demo", {}, "extract", {}, **about)


def test_a_task_tells_of_its_progress_and_how_its_run_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = (
        "import os, sys; print('  extract: started\\n\\ntable', file=sys.stderr); "
        "print('{\"exit_code\": 20}'); sys.exit(20 if 'D2I_OURS' in os.environ else 0)"
    )
    monkeypatch.setenv("D2I_OURS", "of the worker")
    with worker_of(monkeypatch, tmp_path, program) as worker:
        done = cluster_task.run(order(tmp_path))
        assert (done.exit_code, done.summary) == (0, {"exit_code": 20})
        assert [t["text"] for t in worker.told][1:] == ["extract: started"]
        assert cluster_task.run(order(tmp_path, own_variables=True)).exit_code == 20
        assert cluster_task.run(order(tmp_path, version="0.0.1")).exit_code == 3
        assert "no workbook" in cluster_task.run(order(tmp_path / "x")).error


@pytest.mark.parametrize("how", ["command", "worker"])
def test_a_run_is_let_go_with_its_command_and_with_its_worker(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster_task._Going, "stopped", set())
    with worker_of(monkeypatch, tmp_path, UNTIL_LET_GO) as worker:

        def log_event(_: str, msg: dict) -> None:
            if msg["text"] != "begun":
                return
            if how == "command":
                cluster_task.stop("topic")  # perhaps before it is known how the run is let go
            else:
                worker.status = SimpleNamespace(name="closing")

        worker.log_event = log_event
        assert cluster_task.run(order(tmp_path)).exit_code == 130
    if how == "command":  # a task that Dask begins later runs nothing
        assert cluster_task.run(order(tmp_path)) == Result(cluster_task.socket.gethostname(), 130,
                                                           None)  # fmt: skip


# ---------------------------------------------------------------------------------- with Dask
SCHEDULER = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
WORKER = ["worker", "--nthreads", "1", "--nworkers", "1", "--no-dashboard"]


@pytest.mark.cluster
def test_a_worker_is_killed_in_mid_run(tmp_path: Path) -> None:
    """Four workers, two authorities; one worker dies with its run, and nobody is sent twice."""
    pytest.importorskip("distributed", reason="Dask is NOT tested: install the extra `dask`")
    ours = {name: ours_of(tmp_path / name) for name in ("north", "south")}
    for given in ours.values():
        pairs = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
        subprocess.run(
            [sys.executable, "-m", "d2i_helpers", "simulate", "init", *pairs], check=True
        )
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump(
        {name: {"profile": "demo", "parameters": given} for name, given in ours.items()}
    ))  # fmt: skip
    with dask_cluster(tmp_path) as address:
        command = [sys.executable, "-m", "d2i_helpers", "run", "--cluster", address,
                   "--authorities", str(file), "--summary", "json"]  # fmt: skip
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **piped) as night:
            said = []
            for line in night.stderr or ():
                said.append(line)
                if line.startswith("north  delta: started") and said.count(line) == 1:
                    kill_run_and_worker(str(tmp_path / "north"))
            told = json.loads(night.stdout.read() if night.stdout else "")
        assert night.returncode == 0, "".join(said)
    assert [r["exit_code"] for r in told["runs"]] == [0, 0]
    assert any("which is gone" in line for line in said)
    ends = {name: statuses(given) for name, given in ours.items()}
    assert ends == {"north": ["completed", "interrupted"], "south": ["completed"]}
    for given in ours.values():
        with receiver.running(load_settings(None, **given)) as endpoint:
            base = endpoint.base_url.partition("/children")[0]
            held = requests.get(f"{base}/admin/documents", timeout=30).json()
            sent = [i for r in requests.get(f"{base}/admin/requests", timeout=30).json()
                    for i in r["ids"]]  # fmt: skip
        assert sorted(sent) == sorted(held)


def ours_of(folder: Path) -> dict[str, Any]:
    return {
        "database_url": f"sqlite:///{folder / 'ssd.sqlite'}",
        "receiver_store": str(folder / "receiver.sqlite"),
        "outputs_dir": str(folder / "outputs"),
        "simulate_children": "30",
    }


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """A scheduler and four workers of one thread, each a process."""
    where, started = folder / "scheduler.json", []
    try:
        for number, about in enumerate([SCHEDULER, WORKER, WORKER, WORKER, WORKER]):
            more = ["--scheduler-file", str(where)]
            more += ["--local-directory", str(folder / f"worker{number}")] if number else []
            command = [sys.executable, "-m", "dask", *about, *more]
            started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            while not where.exists():
                time.sleep(0.1)
        yield json.loads(where.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def kill_run_and_worker(mark: str) -> None:
    for run in psutil.process_iter(["cmdline"]):
        words = run.info["cmdline"] or []
        if "--end-with-stdin" in words and any(mark in word for word in words):
            worker = run.parent()
            run.kill()
            assert worker
            worker.kill()
            return
    raise AssertionError("there is no such run")


def statuses(given: dict[str, Any]) -> list[str]:
    found = Path(given["outputs_dir"]).glob("*/run.json")
    return sorted(json.loads(path.read_text())["status"] for path in found)
