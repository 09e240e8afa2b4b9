"""The submit stage: batches from the staging table to the API, and the answers back."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import uuid
from array import array
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers import database, delta
from d2i_helpers.document.canonical import to_text
from d2i_helpers.errors import D2IError, ReceiverError
from d2i_helpers.garbage import few_collections
from d2i_helpers.payload_spec import Spec
from d2i_helpers.plain_english import counted, subject
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, contents, in_flight, outbox, own_blocks, sent_to
from d2i_helpers.staging.contents import Contents
from d2i_helpers.staging.evidence import DOCUMENT
from d2i_helpers.staging.lease import BY_HAND, working_on
from d2i_helpers.staging.messages import Batch, Message
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import gates
from d2i_helpers.submit.client import Client
from d2i_helpers.submit.endpoint import Endpoint
from d2i_helpers.submit.results import BatchResult, Delivery
from d2i_helpers.submit.transport import Pace

COUNTS = (
    *map(str, Outcome), "still_waiting", "not_prepared", "held_back", "altered", "sent",
    "requests", "characters", "unknown_after_a_stop", "waiting_before", "need_attention",
)  # fmt: skip

Request = tuple[dt.datetime, int | None]  # start (UTC, without a zone), HTTP status of the answer


@dataclass
class SubmitResult:
    """What was sent and answered; numbers and rules only."""

    counts: dict[str, int]
    statuses: dict[str, int] = field(default_factory=dict)  # HTTP status -> requests
    requests: list[Request] = field(default_factory=list)  # in the order of their batches
    reasons: dict[str, int] = field(default_factory=dict)  # why children ended in error -> children
    notices: list[str] = field(default_factory=list)
    outage: ReceiverError | None = None  # the receiver took nothing and found no single fault

    def raise_for_outage(self) -> None:
        """End a run in which the receiver was down, after its counts are shown.

        Raises:
            ReceiverError: it treated all records alike and took none.
        """
        if self.outage is not None:
            raise self.outage

    @property
    def outcomes(self) -> dict[str, int]:
        """Children by what became of their message."""
        return {str(outcome): self.counts[str(outcome)] for outcome in Outcome}


def run(
    engine: Engine,
    settings: Settings,
    spec: Spec,
    endpoint: Endpoint,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    client: Client | None = None,
) -> SubmitResult:
    """Send every prepared message once and write down what became of it.

    Args:
        client: a client to use instead of a new one (tests).

    Raises:
        GateError: this table may not go to this endpoint, or went to another receiver before.
        TokenError, ReceiverError: the run stopped early; what was not sent stays pending.
        DatabaseError: the staging table cannot be used. LockError: another run works on it.
    """
    gates.require(gates.decide(settings))  # whoever calls this, notebook or not
    run_id = settings.run_id or f"{BY_HAND}{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        look = stack.enter_context(working_on(engine, [settings.send_table], settings.part))
        stack.enter_context(few_collections())
        database.create_staging(engine, settings.send_table)
        client = client or stack.enter_context(Client(endpoint, settings, may_send=look))
        staging = Staging(engine, settings.send_table, shard=settings.part)
        return _submit(_Sender(staging, settings, spec, client, run_id), progress)


def _submit(sender: _Sender, progress: Callable[[int, int | None], None] | None) -> SubmitResult:
    staging, settings = sender.staging, sender.settings
    with database.reading(staging.engine) as connection:
        contents.require(connection, staging, Contents(settings.source))
        sender.is_noted = sent_to.require(connection, staging, settings)
        sender.spec = own_blocks.with_noted(connection, staging, sender.spec)
    lost = in_flight.recover(staging)
    with database.reading(staging.engine) as connection:
        pilot = _rows_of_pilot(connection, staging, settings)
        sender.rows, size, unprepared = outbox.ready_rows(connection, staging, pilot)
    waiting = len(sender.rows)
    tally = _Tally(Counter({"waiting_before": waiting, "characters": size}))
    tally.counts["not_prepared"] = unprepared
    tally.counts["unknown_after_a_stop"] = lost
    notices = []
    if not waiting:
        notices = ["There was nothing to send."]
    elif settings.dry_run:
        least = -(-waiting // settings.batch_size)
        notices = [
            f"Dry run: nothing was sent. {counted(waiting, 'message')} of {size:,} characters "
            f"together would go in {counted(least, 'request')} or more."
        ]
    elif stop := _send_all(sender, tally, waiting, progress):
        raise stop
    tally.counts["altered"] = sender.altered
    notices += _count_what_is_left(staging, settings, tally.counts, pilot)
    return tally.result(notices + staging.moves.notices())


def _rows_of_pilot(
    connection: Connection, staging: Staging, settings: Settings
) -> frozenset[int] | None:
    """Numbers of the rows that alone are sent; None: all are.

    Others may wait in the table, since a dry run or the phases before have staged everybody.
    """
    pilot = outbox.of_pilot(settings)
    if pilot is None:
        return None
    return frozenset(row.id for row in staging.lookup(connection, sorted(pilot)).values())


def _count_what_is_left(
    staging: Staging, settings: Settings, counts: Counter[str], pilot: frozenset[int] | None
) -> list[str]:
    """The counts at the end of the stage.

    A dry run leaves everything, and a pilot everybody else: that is no failure.

    Returns:
        What is to be said of those who wait beside a pilot.
    """
    with database.reading(staging.engine) as connection:
        if pilot is None:
            due, others = outbox.count_due(connection, staging), 0
        else:
            rows = outbox.due_rows(connection, staging)
            due = len(pilot.intersection(rows))
            others = len(rows) - due
        counts["still_waiting"] = due
        held_back = counts["held_back"] = staging.count_held_back(connection)
        left = 0 if settings.dry_run else due
        counts["need_attention"] = outbox.left_behind(
            connection, staging, due=left, on_its_way=0, held_back=held_back
        )
    if not others:
        return []
    return [f"Only the children in `person_ids` are sent: {subject(others, 'other', 'waits')}."]


def _send_all(
    sender: _Sender,
    tally: _Tally,
    total: int,
    progress: Callable[[int, int | None], None] | None,
) -> D2IError | None:
    """Keep some requests under way; the next batch is read and journalled meanwhile."""
    stop: D2IError | None = None
    under_way: deque[tuple[Batch, list[bytes], Future[BatchResult]]] = deque()
    most = Pace.of(sender.settings).in_flight
    with ThreadPoolExecutor(most) as pool:

        def leave(batch: Batch) -> None:
            bodies = sender.bodies(batch)
            under_way.append((batch, bodies, pool.submit(sender.send, bodies)))

        # one more than is in flight, so that a connection never waits for the database
        while len(under_way) <= most and (batch := sender.take()):
            leave(batch)
        while under_way:
            batch, bodies, future = under_way.popleft()
            result = future.result()
            stop = stop or result.stop
            sender.stop = stop
            following = sender.record(batch, bodies, result)
            if following:
                leave(following)
            tally.add(result)
            if progress:
                progress(tally.counts["sent"], total)
    return stop


class _Sender:
    """Batches of one run: read and journalled, made into bodies, posted, written back."""

    def __init__(
        self, staging: Staging, settings: Settings, spec: Spec, client: Client, run_id: str
    ) -> None:
        self.staging = staging
        self.journal = in_flight.Journal(staging)
        self.settings = settings
        self.spec = spec
        self.client = client
        self.run_id = run_id
        self.stop: D2IError | None = None
        self.rows: array[int] = array("q")  # every waiting message, in the order of row numbers
        self.taken = 0
        self.altered = 0  # rows that another hand changed after delta
        self.is_noted = False  # that this receiver has acknowledged something of the table

    def take(self) -> Batch | None:
        """The next batch, journalled; None where nothing is left."""
        return self._again(self._next)

    def _again(self, work: Callable[[Connection], Batch | None]) -> Batch | None:
        """Do it in one transaction, and again where the database ended that."""
        taken, altered = self.taken, self.altered

        def attempt(connection: Connection) -> Batch | None:
            self.taken, self.altered = taken, altered
            return work(connection)

        return self.staging.in_transaction(attempt)

    def _next(self, connection: Connection) -> Batch | None:
        settings = self.settings
        while self.taken < len(self.rows):
            part = self.rows[self.taken : self.taken + settings.batch_size]
            self.taken += len(part)
            batch = self.journal.take(
                connection,
                part.tolist(),
                self.run_id,
                uuid.uuid4().hex,
                settings.phase,
            )
            self.altered += batch.altered
            if batch.messages:  # else other software has changed these rows meanwhile
                return batch
        return None

    def bodies(self, batch: Batch) -> list[bytes]:
        """The JSON bytes of each message: the partial document; in phase `full` the whole one."""
        return [body(message, self.settings, self.spec) for message in batch.messages]

    def send(self, bodies: list[bytes]) -> BatchResult:
        """Post one batch; once the run is to stop, nothing more leaves."""
        if self.stop is None:
            return self.client.send(bodies)
        nothing = Delivery(bodies)
        nothing.settle_rest(self.stop.message)
        return nothing.result(self.stop)

    def record(self, batch: Batch, bodies: list[bytes], result: BatchResult) -> Batch | None:
        """Write results and attempts back, and journal the next batch where the run goes on.

        Both in one transaction, since the commit is what takes a database longest.
        """
        digests = [hashlib.sha256(body).digest() for body in bodies]
        to_note = not self.is_noted and any(
            one.outcome is Outcome.ACKNOWLEDGED for one in result.results
        )

        def write(connection: Connection) -> Batch | None:
            self.journal.record(connection, batch, result.results, result.attempts, digests)
            if to_note:
                sent_to.note(connection, self.staging, self.settings)
            return self._next(connection) if self.stop is None else None

        following = self._again(write)
        self.is_noted |= to_note
        return following


def body(message: Message, settings: Settings, spec: Spec) -> bytes:
    """The JSON bytes of a message: the partial document; in phase `full` the whole one."""
    if settings.phase == "delta" or message.kind != DOCUMENT:
        return message.text.encode()
    if '"purge":true' not in message.text and ":null" not in message.text:
        return message.json_payload.encode()
    whole = delta.with_removals(
        spec, orjson.loads(message.json_payload), orjson.loads(message.text)
    )
    return to_text(whole).encode()


@dataclass
class _Tally:
    """Counts of a run, kept as answers come in."""

    counts: Counter[str]
    requests: list[Request] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    told_apart: bool = False  # the receiver took a record of this run, or refused one by itself
    last_answer: str = ""

    def add(self, result: BatchResult) -> None:
        for record in result.results:
            self.counts[str(record.outcome)] += 1
            self.counts["sent"] += record.outcome is not Outcome.UNSENT
            if record.outcome not in (Outcome.ACKNOWLEDGED, Outcome.UNSENT):
                self.reasons[record.detail or str(record.outcome)] += 1
        self.counts["requests"] += result.requests
        seen = {one.number: (one.started_at, one.http_status) for one in result.attempts}
        self.requests += seen.values()
        self.told_apart |= result.told_apart
        if result.attempts:
            self.last_answer = result.attempts[-1].detail

    def _outage(self) -> ReceiverError | None:
        """The error of a run in which the receiver treated all records alike and took none.

        The client stops after `breaker_batches` of that kind; a run may be shorter than that.
        """
        requests, sent = self.counts["requests"], self.counts["sent"]
        if not requests or self.told_apart:
            return None
        return ReceiverError(
            f"The receiver has accepted nothing of this run: {counted(sent, 'message')} in "
            f"{counted(requests, 'request')} (last answer: {self.last_answer}).",
            hint="Most likely it is out of order: run again later. The next run sends what is "
            "still to be sent; the submission log holds each answer.",
        )

    def result(self, notices: list[str]) -> SubmitResult:
        counts = {name: self.counts[name] for name in COUNTS}
        return SubmitResult(
            counts,
            dict(Counter(str(status or "no answer") for _, status in self.requests)),
            self.requests,
            dict(self.reasons.most_common()),
            notices,
            self._outage(),
        )
