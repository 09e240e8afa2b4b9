"""Authorities and shards as tasks of a Dask cluster, each of which is one `d2i run`.

Dask is imported where it is needed only. A task starts a child process on a worker
(`cluster_task`), so notebooks, engine, leases and records are those of a run by hand. What comes
after an exit code is decided here, where no worker waits for it. See docs/dask.md.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import queue
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from d2i_helpers import __version__
from d2i_helpers.errors import (
    STOPPED_EXIT,
    ClusterError,
    D2IError,
    LockError,
    Next,
    SettingsError,
    what_next,
)
from d2i_helpers.runs import child, cluster_task, records
from d2i_helpers.runs.authority import (
    PREFLIGHT,
    Authority,
    check_all,
    refuse_what_may_not_travel,
)
from d2i_helpers.runs.cluster_task import BEGAN, SAID, Order, Result
from d2i_helpers.runs.outcome import error_entry
from d2i_helpers.runs.plan import stages_in_order
from d2i_helpers.runs.stopping import Interrupted, StopSwitch, stoppable, stopped_by
from d2i_helpers.settings import project_root

CONNECT_SECONDS = 30
LOOK_SECONDS = 10.0  # until another look at the scheduler, where nothing happens
WORKER_SECONDS = 60  # in which a cluster without a worker has to get one
_ADDRESS = re.compile(r"(?:(?:tcp|tls|wss?)://)?[^\s/]+:[0-9]{1,5}")
WORKERS_LOST = 137  # as shells say it of a process that was killed
_SHOWN = ("acknowledged", "still_waiting", "need_attention")
_SEVERITY = [Next.DONE, Next.LOOK, Next.AGAIN, Next.STOP]


@dataclass(frozen=True)
class Waits:
    """Seconds until a run is tried again.

    Attributes:
        failed: after the first failure, the second ...; after the last one it stays failed.
        held: while another run works on the same children; each wait is twice as long as before.
        held_most: no such wait is longer.
        all: after which whatever still goes on is stopped.
    """

    failed: Sequence[float] = (60, 300, 1200)
    held: float = 5
    held_most: float = 300
    all: float = 20 * 3600


@dataclass
class Piece:
    """One shard of an authority, and what became of it."""

    authority: Authority
    shard: int  # from 1
    tries: int = 0
    failures: int = 0
    held: int = 0  # tries that met another run
    worker: str = ""
    result: Result | None = None
    future: Any = None
    due: float | None = 0.0  # when it is handed over; None: it is under way, or over

    @property
    def name(self) -> str:
        """Such as `northshire 2/4`."""
        of = self.authority.shards
        return self.authority.name if of == 1 else f"{self.authority.name} {self.shard}/{of}"

    @property
    def summary(self) -> dict[str, Any] | None:
        """What its last run said of itself."""
        return self.result.summary if self.result else None

    @property
    def exit_code(self) -> int:
        """Of its last run; 130 where none ended."""
        return self.result.exit_code if self.result else STOPPED_EXIT

    @property
    def state(self) -> str:
        """The status of its last run, in a word."""
        if self.summary:
            return str(self.summary["status"])
        if self.result is not None:
            return records.FAILED
        return "not known" if self.worker else "not run"

    @property
    def counts(self) -> dict[str, float]:
        """Those of its last run's that a line has room for."""
        ran = (self.summary or {}).get("stages", ())
        counts = {name: n for stage in ran for name, n in stage["counts"].items()}
        return {name: counts[name] for name in _SHOWN if counts.get(name)}

    @property
    def why(self) -> str:
        """What was wrong with its last run, in sentences; empty: nothing."""
        if self.result is None:
            return "It was not run to its end."
        error = (self.summary or {}).get("error") or {}
        said = f"{error.get('message', '')} {error.get('hint', '')}".strip()
        return said or self.result.error or (f"Exit code {self.exit_code}." * bool(self.exit_code))


@dataclass
class ClusterRun:
    """What became of all runs of a command."""

    parts: list[Piece]
    started_at: str
    finished_at: str
    seconds: float
    error: D2IError | None = None  # what ended it early

    @property
    def exit_code(self) -> int:
        """The worst: of a run that somebody has to see to before one that may be tried again."""
        if self.error is not None:
            return self.error.exit_code
        worst = max(self.parts, key=lambda part: _SEVERITY.index(what_next(part.exit_code)))
        code = worst.exit_code
        return 128 - code if code < 0 else code

    @property
    def status(self) -> str:
        """Completed, attention, interrupted or failed."""
        if self.exit_code == STOPPED_EXIT:
            return records.INTERRUPTED
        said = {Next.DONE: records.COMPLETED, Next.LOOK: records.ATTENTION}
        return said.get(what_next(self.exit_code), records.FAILED)

    def summary(self) -> dict[str, Any]:
        """As one line of JSON for monitoring: counts only."""
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "seconds": self.seconds,
            "error": error_entry(self.error) if self.error else None,
            "runs": [
                {
                    "authority": part.authority.name,
                    "shard": f"{part.shard}/{part.authority.shards}",
                    "state": part.state,
                    "exit_code": part.exit_code,
                    "tries": part.tries,
                    "worker": part.worker,
                    "error": part.why or None,
                    "summary": part.summary,
                }
                for part in self.parts
            ],
        }


@dataclass
class Night:
    """What the runs of one command have in common."""

    workbook: str
    run_date: dt.date
    stages: str | None = None  # in place of the authorities' own
    own_variables: bool = False  # whether D2I_ variables of a worker are those of its runs
    waits: Waits = field(default_factory=Waits)
    topic: str = field(default_factory=lambda: f"d2i-{uuid.uuid4().hex[:8]}")

    def order(self, part: Piece) -> Order:
        """What the next task of a part runs."""
        authority = part.authority
        given = {"run_date": self.run_date.isoformat(), **authority.parameters}
        if authority.shards > 1:
            given["shard"] = f"{part.shard}/{authority.shards}"
        return Order(
            key=f"{part.name.replace(' ', '-')}-try{part.tries}-{self.topic}",
            topic=self.topic,
            workbook=self.workbook,
            profile=authority.profile or authority.name,
            parameters=given,
            stages=self.stages or ",".join([PREFLIGHT, *authority.stages]),
            environment=authority.environment,
            env_file=authority.env_file,
            own_variables=self.own_variables,
        )


def night(stages: str | None = None, *, own_variables: bool = False) -> Night:
    """Tonight's, in the workbook of this process.

    Args:
        stages: names with commas, in place of the authorities' own.
        own_variables: whether a worker's variables that begin with `D2I_` are those of its runs.

    Raises:
        SettingsError: there is no such stage.
    """
    if stages is not None:
        stages = ",".join(stages_in_order(stages.split(",")))
    return Night(str(project_root()), dt.date.today(), stages, own_variables)


Say = Callable[[str, str], None]  # the name of a part, and what it says


def run_on_cluster(
    address: str, authorities: Sequence[Authority], night: Night, say: Say
) -> ClusterRun:
    """Run the day of each authority, its shards side by side, on the workers of a cluster.

    Args:
        address: of the Dask scheduler, such as `tcp://host:8786`.
        authorities: those that stand first begin first.
        say: is called with the name of a part, and a line about it.

    Raises:
        SettingsError: an authority is wrong, or a worker has not what a run needs.
        ClusterError: there is no such cluster, or it has no worker.
    """
    check_all(authorities)
    for authority in authorities:
        refuse_what_may_not_travel(authority)
    client = _connected(address)
    try:
        _look_at_workers(client, night.workbook)
        return _Runs(client, authorities, night, say).to_the_end()
    finally:
        client.close()


def _connected(address: str) -> Any:
    if not _ADDRESS.fullmatch(address):
        raise SettingsError(
            f"`{address}` is no address of a Dask scheduler.", hint="Example: tcp://host:8786."
        )
    try:
        from distributed import Client
    except ImportError:
        raise SettingsError(
            "Dask is not installed here.", hint="pip install 'd2i-workbook[dask]'; docs/dask.md."
        ) from None
    for name in ("distributed", "distributed.client", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # an error of ours says it in one line
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ImportError) as error:
        raise ClusterError(
            f"There is no Dask scheduler at {address} ({type(error).__name__}).",
            hint="The address is what `dask scheduler` says when it starts, such as "
            "tcp://host:8786; with other versions of Dask there it cannot be reached either.",
        ) from None
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        client.close()
        raise ClusterError(
            f"The cluster at {address} has no worker.", hint=f"Start some: dask worker {address}"
        ) from None
    return client


def _look_at_workers(client: Any, workbook: str) -> None:
    """Refuse a cluster on one of whose workers no run could begin.

    Raises:
        SettingsError: names the worker, and what is wrong there.
    """
    for worker, found in client.run(cluster_task.look, workbook, on_error="return").items():
        if isinstance(found, BaseException):
            why = f"Its Python has no d2i {__version__} ({type(found).__name__})."
        else:
            why = cluster_task.unfit(found, workbook, __version__)
        if why:
            raise SettingsError(
                f"The worker {worker} cannot run a day. {why}",
                hint="Workbook, version and folder are the same on all workers: docs/dask.md.",
            )


class _Runs:
    """The parts of a night on their way. Only the thread that calls it touches them.

    What Dask's own threads have to say comes through one queue.
    """

    def __init__(
        self, client: Any, authorities: Sequence[Authority], night: Night, say: Say
    ) -> None:
        self._client, self._night, self._say = client, night, say
        self._parts = [
            Piece(authority, shard)
            for authority in authorities
            for shard in range(1, authority.shards + 1)
        ]
        self._by_key: dict[str, Piece] = {}
        self._is_stopping = False
        self._came: queue.Queue[tuple[str, str, str]] = queue.Queue()  # key, kind, text

    def to_the_end(self) -> ClusterRun:
        began, at = time.monotonic(), records.now()
        error: D2IError | None = None
        with stoppable() as switch:
            try:
                self._go_on(switch, began + self._night.waits.all)
            except KeyboardInterrupt as asked:
                how = stopped_by(asked).message.replace("The run was", "All runs were")
                error = Interrupted(how, hint="Start it again: what is done is not done twice.")
                self._stop()
            except ClusterError as lost:
                error = lost
        seconds = round(time.monotonic() - began, 2)
        return ClusterRun(self._parts, at, records.now(), seconds, error)

    # ------------------------------------------------------------------------ what comes in
    def _take_event(self, event: tuple[float, Mapping[str, str]]) -> None:
        told = event[1]
        self._came.put((told["key"], told["kind"], told["text"]))

    def _take_end(self, future: Any) -> None:
        self._came.put((future.key, "ended", future.status))

    # ----------------------------------------------------------------------------- the loop
    def _go_on(self, switch: StopSwitch, latest: float) -> None:
        while any(part.due is not None or part.future is not None for part in self._parts):
            if time.monotonic() > latest:
                self._stop()
                raise ClusterError("The runs took too long, and were stopped.")
            if self._client.status == "closed":  # it looked for the scheduler, in vain
                raise _lost()
            self._hand_over()
            with switch.ready():
                came = self._next(self._until_next())
            self._take_in(*came)

    def _hand_over(self) -> None:
        now = time.monotonic()
        if any(part.due is not None and part.due <= now for part in self._parts):
            # again each time: it ends with a connection that was lost for a moment
            self._client.subscribe_topic(self._night.topic, self._take_event)
        for place, part in enumerate(self._parts):
            if part.due is None or part.due > now:
                continue
            part.due, part.tries, part.worker = None, part.tries + 1, ""
            order = self._night.order(part)
            self._by_key[order.key] = part
            part.future = self._client.submit(
                cluster_task.run, order, key=order.key, pure=False, priority=-place
            )
            part.future.add_done_callback(self._take_end)

    def _until_next(self) -> float:
        dues = [part.due for part in self._parts if part.due is not None]
        until = min(dues) - time.monotonic() if dues else LOOK_SECONDS
        return min(max(until, 0.0) + 0.01, LOOK_SECONDS)

    def _next(self, timeout: float) -> tuple[str, str, str]:
        try:
            return self._came.get(timeout=timeout)
        except queue.Empty:
            return "", "", ""

    def _take_in(self, key: str, kind: str, text: str) -> None:
        part = self._by_key.get(key)
        if part is None:
            return
        if kind == BEGAN:
            again = f"; it had begun on {part.worker}, which is gone" if part.worker else ""
            part.worker = text
            self._say(part.name, f"begins on {text}{again}")
        elif kind == SAID:
            self._say(part.name, text)
        elif part.future is not None and part.future.key == key:
            self._end(part, text)

    # ---------------------------------------------------------------------- a task that ended
    def _end(self, part: Piece, status: str) -> None:
        future, part.future = part.future, None
        part.result = _result_of(future, status)
        is_held = part.exit_code == LockError.exit_code
        said = "waits for another run" if is_held else part.state
        said += f", exit code {part.exit_code}"
        said += "".join(f", {name.replace('_', ' ')} {n:,}" for name, n in part.counts.items())
        if what_next(part.exit_code) is Next.AGAIN and not self._is_stopping:
            part.due = self._next_try(part)
        if part.due is not None:
            said += f"; again in {part.due - time.monotonic():.0f} seconds"
        else:
            over = sum(p.due is None and p.future is None for p in self._parts)
            said += f"; {over} of {len(self._parts)} are over"
        self._say(part.name, f"{said}. {part.why}".rstrip())

    def _next_try(self, part: Piece) -> float | None:
        """When a part is tried again; None: it stays failed.

        Another run on the same children is no failure: Dask runs a task a second time where it
        lost the first one's worker, and that one's run may still be closing its record. So the
        part is tried until its own run is the one that says how the day is: of a day that the
        other run has done there is nothing left to do, and it ends with that run's outcome.
        """
        waits = self._night.waits
        if part.exit_code == LockError.exit_code:
            part.held += 1
            return time.monotonic() + min(waits.held * 2 ** (part.held - 1), waits.held_most)
        part.failures += 1
        if part.failures > len(waits.failed):
            return None
        return time.monotonic() + waits.failed[part.failures - 1]

    # ---------------------------------------------------------------------------- stopped
    def _stop(self) -> None:
        """End the runs of this command in order, and wait for what they say."""
        self._is_stopping = True
        while not self._came.empty():  # who has begun, and who has ended by now
            self._take_what_is_known(timeout=0.1)
        for part in self._parts:
            part.due = None
            if part.future is not None and not part.worker:  # it waits for a worker
                part.future.cancel()
                part.future = None
        with contextlib.suppress(OSError):  # without a scheduler the workers end their runs too
            self._client.run(cluster_task.stop, self._night.topic, on_error="ignore")
        latest = time.monotonic() + child.END_SECONDS
        while any(part.future is not None for part in self._parts) and time.monotonic() < latest:
            self._take_what_is_known(timeout=1)

    def _take_what_is_known(self, timeout: float) -> None:
        with contextlib.suppress(ClusterError):  # how a run ended that is lost nobody can say
            self._take_in(*self._next(timeout))


def _lost() -> ClusterError:
    return ClusterError(
        "The scheduler was lost while runs were under way.",
        hint="Its workers miss it too, and end their runs in order. Start scheduler and "
        "workers again, and then this: what is done is not done twice.",
    )


def _result_of(future: Any, status: str) -> Result:
    """How the run of a task ended.

    Raises:
        ClusterError: the scheduler is gone, and nobody can say.
    """
    if status == "finished":
        return future.result()
    if status != "error":
        raise _lost()
    from distributed import KilledWorker

    fault = future.exception()
    if isinstance(fault, KilledWorker):
        return Result("", WORKERS_LOST, None, "Its workers died again and again while it ran.")
    why = f"The task failed with {type(fault).__name__}: a fault of the program."
    return Result("", D2IError.exit_code, None, why)
