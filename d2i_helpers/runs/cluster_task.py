"""What a worker of a Dask cluster does: one run as a child process, told about on its way.

The worker's threads run tasks, so nothing here stops one from outside. A run is stopped by letting
go of its standard input, and the same happens by itself where its worker is killed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2i_helpers import __version__
from d2i_helpers.errors import STOPPED_EXIT, SettingsError
from d2i_helpers.runs import child
from d2i_helpers.settings.root import is_workbook

LOOK_SECONDS = 1.0
_AT_WORK = ("running", "paused", "init")  # states of a Dask worker
BEGAN, SAID = "began", "said"  # kinds of what a task tells


@dataclass(frozen=True)
class Order:
    """What one task runs. It passes through the cluster: no secrets, no ids of children."""

    key: str  # of the task, which the cluster's pages show
    topic: str  # under which it tells; one for all tasks of one command
    workbook: str
    profile: str
    parameters: Mapping[str, Any]
    stages: str
    environment: Mapping[str, str]
    env_file: str | None = None
    own_variables: bool = False  # whether D2I_ variables of the worker are the run's
    version: str = __version__  # of the package, where the order was made


@dataclass(frozen=True)
class Result:
    """How the run of a task ended."""

    host: str
    exit_code: int
    summary: dict[str, Any] | None  # as `d2i run --summary json` says it
    error: str = ""  # where there is no run that could say it


class _Going:
    """The runs of this worker, and the commands that were told to stop."""

    lock = threading.Lock()
    by_topic: dict[str, list[Callable[[], None]]] = {}  # noqa: RUF012
    stopped: set[str] = set()  # noqa: RUF012


def look(workbook: str) -> dict[str, Any]:
    """What a worker has: its version of this package, and whether the workbook is there."""
    return {
        "version": __version__,
        "host": socket.gethostname(),
        "has_workbook": is_workbook(Path(workbook)),
    }


def unfit(found: Mapping[str, Any], workbook: str, version: str) -> str:
    """Why no run could begin on a worker that looks so; empty: nothing is in the way."""
    if found["version"] != version:
        return f"d2i is {version} here and {found['version']} on {found['host']}."
    if not found["has_workbook"]:
        return f"There is no workbook {workbook} on {found['host']}."
    return ""


def stop(topic: str) -> int:
    """Have all runs of one command end in order, and begin no further one; how many there are."""
    with _Going.lock:
        _Going.stopped.add(topic)
        going = _Going.by_topic.pop(topic, [])
    for let_go in going:
        let_go()
    return len(going)


def run(order: Order) -> Result:
    """Run an order in a child process, until it ends.

    It never raises for a run that failed: exit code and summary say how it ended.
    """
    from distributed import get_worker

    worker, host = get_worker(), socket.gethostname()

    def tell(kind: str, text: str) -> None:
        worker.log_event(order.topic, {"key": order.key, "kind": kind, "text": text})

    tell(BEGAN, f"{host}, {worker.address}")
    if why := unfit(look(order.workbook), order.workbook, order.version):
        return Result(host, SettingsError.exit_code, None, why)
    command = child.run_command(
        sys.executable, order.profile, order.parameters, stages=order.stages, leashed=True
    )
    own = {**os.environ, **order.environment} if order.own_variables else None
    environment = own or child.environment_of(order.environment)
    with _stoppable(order.topic, worker) as started:
        if started is None:
            return Result(host, STOPPED_EXIT, None)
        ended = child.run_to_its_end(
            child.with_variables(command, order.env_file),
            order.workbook,
            environment,
            _Progress(order.key, lambda line: tell(SAID, line)),
            started=started,
        )
    return Result(host, ended.exit_code, ended.summary)


@contextmanager
def _stoppable(topic: str, worker: Any) -> Iterator[Callable[[Callable[[], None]], None] | None]:
    """In the block the run of a task can be stopped; None: its command was stopped before."""
    mine: list[Callable[[], None]] = []
    is_over = threading.Event()

    def started(let_go: Callable[[], None]) -> None:
        mine.append(let_go)
        with _Going.lock:
            _Going.by_topic.setdefault(topic, []).append(let_go)
            is_late = topic in _Going.stopped
        if is_late:
            let_go()
        threading.Thread(target=_end_with, args=(worker, let_go, is_over), daemon=True).start()

    with _Going.lock:
        was_stopped = topic in _Going.stopped
    try:
        yield None if was_stopped else started
    finally:
        is_over.set()
        with _Going.lock:
            left = [one for one in _Going.by_topic.get(topic, []) if one not in mine]
            _Going.by_topic[topic] = left


def _end_with(worker: Any, let_go: Callable[[], None], is_over: threading.Event) -> None:
    """Have a run end in order when its worker shuts down; Dask would let it go on unseen."""
    while not is_over.wait(LOOK_SECONDS):
        if worker.status.name not in _AT_WORK:
            let_go()
            return


class _Progress:
    """Takes the lines of a run: all go to the worker's log, those of its progress are told.

    What a run says at its end begins with an empty line, or with why it was refused. The summary
    holds the same, and the command shows it for all runs together.
    """

    def __init__(self, key: str, tell: Callable[[str], None]) -> None:
        self._key, self._tell, self._is_over = key, tell, False

    def __call__(self, line: str) -> None:
        print(f"{self._key}: {line}", file=sys.stderr, flush=True)
        self._is_over = self._is_over or not line.strip() or line.startswith("Failed")
        if not self._is_over:
            self._tell(line.strip())
