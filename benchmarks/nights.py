"""A night of many authorities as a discrete simulation: who computes, who waits, for what.

A *run* is one `d2i run` of one authority (or of one of its shards). It computes in slices, each on
a core of its machine and then on a core of the database server; then it sends: a request, its
answer, the pause, the next request. A machine does so many runs at once. The API takes so many
requests in any minute, from all authorities together; others get 429 and `Retry-After`, as the
simulated receiver answers. Attempts, waits and the breaker are those of the submit stage, tries of
a failed run those of the Airflow file.

Nothing here is random, and nothing is measured: what a run costs is given. Times are seconds since
the night began.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import simpy

HOUR, MINUTE = 3600.0, 60.0
SLICE = 5.0  # seconds of computing after which another run gets the core
ATTEMPTS, WAITS, WAIT_MAX = 4, (5.0, 10.0, 20.0), 120.0  # of a request: the parameters' defaults
LEAST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # `pause_seconds`: its default, and the most it may be
BREAKER = 5  # requests in a row that failed end the run
TRIES_AFTER = (300.0, 600.0, 1200.0)  # a run that failed is tried again so much later
LONGEST = 20 * HOUR  # a night that is not over by then is ended

Steps = Generator[simpy.Event, Any, Any]
Span = tuple[float, float]


@dataclass(frozen=True)
class Setup:
    """What there is to work with. The defaults are the assumptions of docs/capacity.md."""

    machines: int = 1
    cores: int = 2  # of each machine
    at_once: int = 4  # runs at once on each machine
    database_cores: int = 2  # of the one database server; 0: it computes on the machine's cores
    requests_a_minute: int | None = 60  # that the API takes of all authorities together
    answer: float = 0.5  # seconds
    pause: float | None = None  # `pause_seconds`; None: so long that all runs keep to the limit
    batch: int = 100  # `batch_size`
    round_trip: float = 0.001  # seconds to the database and back, for each statement

    @property
    def pause_seconds(self) -> float:
        """The pause of each run: all that may be at work together stay below the API's limit.

        Never shorter than the parameter's default, and not longer than it may be.
        """
        if self.pause is not None:
            return self.pause
        if self.requests_a_minute is None:
            return LEAST_PAUSE
        every = self.machines * self.at_once * MINUTE / self.requests_a_minute
        return min(LONGEST_PAUSE, max(LEAST_PAUSE, every - self.answer))


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a night, each from when to when."""

    machine: Span | None = None  # the first machine is off
    database: Span | None = None
    api: Span | None = None  # it answers 503
    killed: tuple[float, ...] = ()  # when the run that has been at work longest is killed


@dataclass
class Job:
    """What one run has to do. ``again``: what it computes once its documents are staged."""

    authority: int
    client: float  # seconds of a core of the machine
    server: float  # seconds of a core of the database server
    statements: float
    messages: int
    idle: float = 0.0  # seconds in which it neither computes nor sends
    processes: int = 1  # that share the authority: each pauses so many times as long
    again: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tries: int = 0
    left: int = 0  # messages that used up their attempts


@dataclass
class Night:
    """What came of it."""

    ended: float = 0.0  # when the last run ended
    served: dict[int, float] = field(default_factory=dict)  # by authority: when it was complete
    runs: dict[int, int] = field(default_factory=dict)  # complete ones by authority
    lost: set[int] = field(default_factory=set)  # authorities that have to wait for the next night
    left: dict[int, int] = field(default_factory=dict)  # messages that wait, of the complete ones
    posts: list[float] = field(default_factory=list)  # when the API took a request
    refused: int = 0  # requests that it did not take
    busy: float = 0.0  # seconds of the machines' cores
    database_busy: float = 0.0


class _Failed(Exception):
    """A run ended, and is tried again later: the database or the receiver is down."""


class _Machine:
    """Cores, and the processes that each do one run after the other."""

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self.cores = simpy.Resource(env, cores)
        self.workers: list[simpy.Process] = []
        self.back: simpy.Event | None = None  # set while it is off


class _Simulation:
    def __init__(self, jobs: Sequence[Job], setup: Setup, faults: Faults) -> None:
        self.env = env = simpy.Environment()
        self.setup, self.faults, self.night = setup, faults, Night()
        self.queue = simpy.Store(env)
        self.queue.items.extend(replace(job) for job in jobs)
        self.open = len(jobs)
        self.over = env.event()
        self.shards_left: dict[int, int] = {}
        for job in jobs:
            self.shards_left[job.authority] = self.shards_left.get(job.authority, 0) + 1
        self.database = simpy.Resource(env, max(1, setup.database_cores))
        self.recent: deque[float] = deque()  # requests of the last minute
        self.at_work: dict[simpy.Process, float] = {}  # since when
        self.machines = [_Machine(env, setup.cores) for _ in range(setup.machines)]
        for machine in self.machines:
            machine.workers = [env.process(self.worker(machine)) for _ in range(setup.at_once)]
        if faults.machine:
            env.process(self.machine_off(self.machines[0], faults.machine))
        for moment in faults.killed:
            env.process(self.kill(moment))

    # -------------------------------------------------------------------------------- the runs
    def worker(self, machine: _Machine) -> Steps:
        """One run after the other."""
        me, job = self.env.active_process, None
        while True:
            asked = None
            try:
                while machine.back is not None:
                    yield machine.back
                asked = self.queue.get()
                job = yield asked
                self.at_work[me] = self.env.now
                yield from self.compute(job, machine)
                job.client, job.server, job.statements = job.again
                yield from self.send(job)
                self.complete(job)
            except simpy.Interrupt as why:
                if asked is not None and job is None:
                    asked.cancel()
                elif job is not None:
                    self.try_again(job, 0.0 if why.cause == "off" else TRIES_AFTER[0])
            except _Failed:
                self.try_again(job, None)
            self.at_work.pop(me, None)
            job = None

    def compute(self, job: Job, machine: _Machine) -> Steps:
        """Preflight, extract, anonymise, delta, and what submit computes."""
        yield self.env.timeout(job.idle)
        on_machine = job.client + (job.server if not self.setup.database_cores else 0.0)
        on_server = job.server if self.setup.database_cores else 0.0
        slices = max(1, math.ceil(max(on_machine, on_server) / SLICE))
        for _ in range(slices):
            if self.is_in(self.faults.database):
                raise _Failed
            with machine.cores.request() as turn:
                yield turn
                yield self.env.timeout(on_machine / slices)
            self.night.busy += on_machine / slices
            if on_server:
                with self.database.request() as turn:
                    yield turn
                    yield self.env.timeout(on_server / slices)
                self.night.database_busy += on_server / slices
            yield self.env.timeout(job.statements * self.setup.round_trip / slices)

    def send(self, job: Job) -> Steps:
        """All messages, a batch at a time."""
        stored = failed_in_a_row = 0
        while job.messages:
            size = min(self.setup.batch, job.messages)
            took = yield from self.request()
            job.messages -= size
            if took:
                stored, failed_in_a_row = stored + size, 0
            else:
                job.left, failed_in_a_row = job.left + size, failed_in_a_row + 1
            is_down = failed_in_a_row == BREAKER or (not job.messages and not stored)
            if not took and is_down:
                job.messages, job.left = job.messages + job.left, 0
                raise _Failed
            if job.messages:
                yield self.env.timeout(self.setup.pause_seconds * job.processes)

    def request(self) -> Steps:
        """One request with its attempts; whether it was taken."""
        for attempt in range(ATTEMPTS):
            wait = self.refusal(attempt)
            yield self.env.timeout(self.setup.answer)
            if wait is None:
                return True
            if attempt + 1 < ATTEMPTS:
                yield self.env.timeout(wait)
        return False

    def refusal(self, attempt: int) -> float | None:
        """None where the API takes a request now; else the seconds to wait."""
        now, limit = self.env.now, self.setup.requests_a_minute
        if self.is_in(self.faults.api):
            self.night.refused += 1
            return WAITS[min(attempt, len(WAITS) - 1)]
        while self.recent and self.recent[0] <= now - MINUTE:
            self.recent.popleft()
        if limit is not None and len(self.recent) >= limit:
            self.night.refused += 1
            return min(WAIT_MAX, max(1.0, round(self.recent[0] + MINUTE - now)))
        self.recent.append(now)
        self.night.posts.append(now)
        return None

    # ------------------------------------------------------------------------- how a run ends
    def complete(self, job: Job) -> None:
        of, night = job.authority, self.night
        self.shards_left[of] -= 1
        night.runs[of] = night.runs.get(of, 0) + 1
        night.left[of] = night.left.get(of, 0) + job.left
        if not self.shards_left[of]:
            night.served[of] = self.env.now
        self.one_less()

    def try_again(self, job: Job, after: float | None) -> None:
        """Put a run back; after its last try its authority waits for the next night."""
        if after is None:
            if job.tries == len(TRIES_AFTER):
                self.night.lost.add(job.authority)
                self.one_less()
                return
            after = TRIES_AFTER[job.tries]
            job.tries += 1
        self.env.process(self.put_later(job, after))

    def put_later(self, job: Job, seconds: float) -> Steps:
        yield self.env.timeout(seconds)
        yield self.queue.put(job)

    def one_less(self) -> None:
        self.night.ended = self.env.now
        self.open -= 1
        if not self.open:
            self.over.succeed()

    # ---------------------------------------------------------------------------- what fails
    def is_in(self, span: Span | None) -> bool:
        return span is not None and span[0] <= self.env.now < span[1]

    def machine_off(self, machine: _Machine, span: Span) -> Steps:
        yield self.env.timeout(span[0])
        machine.back = self.env.event()
        for worker in machine.workers:
            worker.interrupt("off")
        yield self.env.timeout(span[1] - span[0])
        back, machine.back = machine.back, None
        back.succeed()

    def kill(self, moment: float) -> Steps:
        yield self.env.timeout(moment)
        if self.at_work:
            min(self.at_work, key=lambda worker: self.at_work[worker]).interrupt("killed")


def night(jobs: Sequence[Job], setup: Setup, faults: Faults | None = None) -> Night:
    """Let a night pass.

    Args:
        jobs: the runs, in the order in which they begin; they are not changed.
    """
    if not jobs:
        return Night()
    simulation = _Simulation(jobs, setup, faults or Faults())
    simulation.env.run(until=simulation.env.any_of(
        [simulation.over, simulation.env.timeout(LONGEST)]
    ))  # fmt: skip
    found = simulation.night
    found.lost |= {job.authority for job in jobs} - found.served.keys()
    if simulation.open:
        found.ended = LONGEST
    return found
