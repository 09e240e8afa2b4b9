"""The client: sends batches of documents and finds an outcome for each record, whatever happens.

It knows HTTP only, no database. The outcome table is in docs/api.md; what an answer means is
decided in `outcomes`, what is known of each record is kept in `results`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from d2i_helpers.errors import D2IError, ReceiverError, TokenError
from d2i_helpers.settings import Secrets, Settings, load_secrets
from d2i_helpers.settings.receipts import receipt_pattern
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit.answers import Answer, http_date
from d2i_helpers.submit.endpoint import Endpoint
from d2i_helpers.submit.outcomes import RETRIED, Kind, Verdict, verdict
from d2i_helpers.submit.results import BatchResult, Delivery
from d2i_helpers.submit.token import TokenSource
from d2i_helpers.submit.transport import Network, Pace, Pacer, Wire, tries

# stamina reports each retry to the log; without a handler Python would print its bare event name
logging.getLogger("stamina").addHandler(logging.NullHandler())

# A firewall's 403 or a crash can be due to one record. Parts of a batch are then tried on their
# own, until so many requests in a row were in vain without one that got through. After a batch of
# which nothing got through the next ones are searched less: most likely everybody is refused.
MAX_IN_VAIN = 24
LEAST_IN_VAIN = 6
_SEARCHED = frozenset({Kind.BLOCKED, Kind.CRASHED})
_USED_UP = {Kind.BLOCKED: Outcome.FAILED, Kind.BUSY: Outcome.FAILED}


@dataclass(frozen=True)
class _Part:
    """The records of one request."""

    positions: tuple[int, ...]
    once: Kind | None = None  # this kind of answer was already waited for: no retry for it


class _Again(Exception):
    """An answer after which the request is tried again; for stamina."""

    def __init__(self, meaning: Verdict, answer: Answer) -> None:
        super().__init__(meaning.kind.value)
        self.meaning, self.answer = meaning, answer


class Client:
    """Sends batches to one endpoint; several threads may use one client.

    Its pause, its token and its count of failed batches are shared by all threads.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        secrets: Secrets | None = None,
        *,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        may_send: Callable[[], None] | None = None,
    ) -> None:
        """``now`` (seconds since 1970), ``steady`` and ``sleep`` are for tests.

        Pauses are counted by ``steady``: were the clock set back by an hour, they would last one.

        ``may_send`` is asked before each request; what it raises ends the sending.

        Raises:
            SettingsError: the CA bundle is not there.
        """
        if secrets is None and settings.proxy:
            secrets = load_secrets()
        network = Network.of(settings, secrets, endpoint)
        self.endpoint = endpoint
        self._settings, self._now, self._may_send = settings, now, may_send
        self._tokens = TokenSource(endpoint, settings, network, now=now)
        self._wire = Wire(network, endpoint)
        self._receipt = receipt_pattern(settings.receipt_form)
        self._pacer = Pacer(Pace.of(settings).pause, steady, sleep)
        self._lock = threading.Lock()
        self._failed_batches = 0
        self._stopped: D2IError | None = None
        self._skew: float | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()
        self._tokens.close()

    def check_token(self) -> float:
        """Get a token, as preflight does; seconds until it will be renewed.

        Raises:
            TokenError: none could be had.
        """
        self._tokens.current()
        return self._tokens.seconds_left

    @property
    def clock_skew(self) -> float | None:
        """Seconds by which the receiver's clock is ahead of this one; None before an answer.

        Of the API where it has answered, else of the token endpoint.
        """
        return self._tokens.clock_skew if self._skew is None else self._skew

    def try_empty(self) -> Verdict:
        """Post an array without a record, of which nothing can be stored; what the answer means.

        Raises:
            TokenError: no token could be had, or a fresh one is not accepted.
        """
        return self._post(Delivery([]), _Part(()))

    def send(self, records: Sequence[bytes]) -> BatchResult:
        """Send records (each the JSON of one child) and find an outcome for every one.

        They go in one request where `batch_size` and `max_batch_bytes` allow it. Nothing is
        raised for what the receiver or the network does: `BatchResult.stop` then says why the run
        must end, and records that were not stored for certain are UNSENT.
        """
        delivery = Delivery(records)
        stop = self._stopped
        try:
            if stop is None:
                self._deliver(delivery)
        except (ReceiverError, TokenError) as error:
            stop = error
        if stop is not None:
            delivery.settle_rest(stop.message)
        stop = stop or self._count(delivery)
        with self._lock:
            self._stopped = self._stopped or stop
        return delivery.result(stop)

    def _count(self, delivery: Delivery) -> ReceiverError | None:
        """The circuit breaker: stop after `breaker_batches` in a row with no stored record."""
        if not delivery.requests:
            return None
        with self._lock:
            self._failed_batches = 0 if delivery.any_stored else self._failed_batches + 1
            if self._failed_batches < self._settings.breaker_batches:
                return None
            number = self._failed_batches
        last = delivery.attempts[-1]
        return ReceiverError(
            f"The receiver has accepted nothing of the last {number} batches "
            f"(last answer: {last.detail}).",
            hint="What was not sent stays pending. The submission log holds each answer; "
            "`breaker_batches` says how many batches may fail.",
        )

    # ------------------------------------------------------------------------------- one batch
    def _deliver(self, delivery: Delivery) -> None:
        parts = deque(self._portions(delivery))
        in_vain, most = 0, max(LEAST_IN_VAIN, MAX_IN_VAIN // (1 + self._failed_batches))
        while parts:
            if self._stopped is not None:  # by another thread
                raise self._stopped
            part = _next(parts, in_vain)
            meaning = self._post(delivery, part)
            parts.extendleft(reversed(self._settle(delivery, part, meaning)))
            in_vain = in_vain + 1 if meaning.kind in _SEARCHED else 0
            if in_vain > most and not delivery.any_stored:
                given_up = [part for part in parts if part.once is not None]
                parts = deque(part for part in parts if part.once is None)
                rest = [position for part in given_up for position in part.positions]
                delivery.settle(rest, _USED_UP.get(meaning.kind, Outcome.UNKNOWN), meaning.detail)
                in_vain = 0

    def _portions(self, delivery: Delivery) -> Iterable[_Part]:
        """The records in requests that keep to `batch_size` and `max_batch_bytes`."""
        limit, most = self._settings.max_batch_bytes, self._settings.batch_size
        portion: list[int] = []
        size = 2  # the brackets
        for position, content in enumerate(delivery.contents):
            if len(content) + 2 > limit:
                detail = f"{len(content)} bytes: larger than `max_batch_bytes` on its own"
                delivery.settle((position,), Outcome.REFUSED, detail)
                continue
            full = len(portion) >= most or size + len(content) > limit
            if portion and full:
                yield _Part(tuple(portion))
                portion, size = [], 2
            portion.append(position)
            size += len(content) + 1
        if portion:
            yield _Part(tuple(portion))

    def _settle(self, delivery: Delivery, part: _Part, meaning: Verdict) -> list[_Part]:
        """Settle the records that are decided; gives the parts that must be sent again."""
        positions, kind = part.positions, meaning.kind
        if kind is Kind.ACCEPTED:
            delivery.acknowledge(positions, meaning.references)
            return []
        if kind is Kind.PARTLY:
            delivery.acknowledge(positions, meaning.references)
            pairs = zip(positions, meaning.references, strict=True)
            doubtful = [position for position, reference in pairs if reference is None]
            delivery.settle(doubtful, Outcome.UNKNOWN, meaning.detail)
            return []
        if kind is Kind.NAMED:
            for index, reason in meaning.named.items():
                delivery.settle((positions[index],), Outcome.REFUSED, reason)
            rest = tuple(p for index, p in enumerate(positions) if index not in meaning.named)
            return [_Part(rest)] if rest else []
        if kind in (Kind.UNNAMED, Kind.TOO_LARGE) and len(positions) > 1:
            return _halves(positions, None)
        if kind in _SEARCHED and len(positions) > 1:
            return _halves(positions, kind)
        if kind in (Kind.UNNAMED, Kind.TOO_LARGE, Kind.EMPTY):
            delivery.settle(positions, Outcome.REFUSED, meaning.detail)
        elif kind is Kind.NOT_REACHED:
            raise ReceiverError(
                f"The receiver cannot be reached: {meaning.detail}.", hint=meaning.hint
            )
        elif kind in (Kind.FATAL, Kind.ELSEWHERE):
            raise ReceiverError(f"The receiver takes nothing: {meaning.detail}.", hint=meaning.hint)
        else:
            delivery.settle(positions, _USED_UP.get(kind, Outcome.UNKNOWN), meaning.detail)
        return []

    # ----------------------------------------------------------------------------- one request
    def _post(self, delivery: Delivery, part: _Part) -> Verdict:
        """Post a part until its answer settles something or the attempts are used up.

        An answer that a single record may have caused counts more than a later network failure:
        that failure must not cost the other records their day.
        """
        searched = None
        try:
            for attempt in tries(self._settings, self._wait_for):
                with attempt:
                    meaning, answer = self._post_with_token(delivery, part)
                    if meaning.kind in RETRIED and meaning.kind is not part.once:
                        searched = meaning if meaning.kind in _SEARCHED else searched
                        raise _Again(meaning, answer)
                    return meaning
        except _Again as used_up:
            return searched or used_up.meaning
        raise AssertionError("stamina ends with a result or an exception")

    def _wait_for(self, error: Exception) -> bool | float:
        """For stamina: whether to try again, and after how many seconds where that was said."""
        if not isinstance(error, _Again):
            return False
        asked = error.answer.retry_after(self._now())
        if not asked:
            return True
        wait = min(asked, self._settings.wait_max)
        self._pacer.hold(wait)  # the other threads too
        return wait

    def _post_with_token(self, delivery: Delivery, part: _Part) -> tuple[Verdict, Answer]:
        """Post once; with one fresh token where the first is not accepted."""
        token = self._tokens.current()
        meaning, answer = self._post_once(delivery, part, token)
        if meaning.kind is Kind.UNAUTHORISED:
            meaning, answer = self._post_once(delivery, part, self._tokens.renewed(token))
        if meaning.kind is Kind.UNAUTHORISED:
            raise TokenError(
                "The receiver does not accept a fresh token (HTTP 401).",
                hint="Check D2I_SUPPLIER_KEY, `token_scope`, and that the client may use this API.",
            )
        return meaning, answer

    def _post_once(self, delivery: Delivery, part: _Part, token: str) -> tuple[Verdict, Answer]:
        self._pacer.wait()
        try:
            if self._may_send is not None:
                self._may_send()
            answer = self._wire.post(delivery.body(part.positions), token)
        finally:
            self._pacer.done()
        date = http_date((answer.headers or {}).get("date", ""))
        if date is not None:
            self._skew = date - self._now()
        meaning = verdict(answer, len(part.positions), self._receipt)
        delivery.note(part.positions, answer, meaning)
        return meaning, answer


def _next(parts: deque[_Part], in_vain: int) -> _Part:
    """Take the part to send next: the first; while a culprit is searched for, a small or large one.

    Then small parts and now and again a large one: whether the bad records are scattered or side
    by side, one of the two soon gets through.
    """
    if not in_vain:
        return parts.popleft()
    pick = max if in_vain % 3 == 2 else min
    part = pick(parts, key=lambda candidate: len(candidate.positions))
    parts.remove(part)
    return part


def _halves(positions: tuple[int, ...], once: Kind | None) -> list[_Part]:
    middle = (len(positions) + 1) // 2
    return [_Part(positions[:middle], once), _Part(positions[middle:], once)]
