"""What `Client.send` hands back, and the bookkeeping while it works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from d2i_helpers.errors import D2IError
from d2i_helpers.staging.messages import Attempt, RecordResult
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit.answers import Answer
from d2i_helpers.submit.outcomes import MAYBE_STORED, Kind, Verdict

_TAKEN_FOR_EMPTY = 204  # a refusal of the request, whatever was in it


@dataclass
class BatchResult:
    """How one call of `send` ended."""

    results: list[RecordResult]
    attempts: list[Attempt]
    stop: D2IError | None = None  # TokenError or ReceiverError: record the results, end the run

    @property
    def requests(self) -> int:
        """Requests that were made."""
        return len({attempt.number for attempt in self.attempts})

    @property
    def told_apart(self) -> bool:
        """Whether the receiver took a record, or refused one that it named or had alone.

        Otherwise it said the same of all records: then nothing is known to be wrong with one.
        """
        if any(record.outcome is Outcome.ACKNOWLEDGED for record in self.results):
            return True
        return any(
            attempt.outcome is Outcome.REFUSED and attempt.http_status != _TAKEN_FOR_EMPTY
            for attempt in self.attempts
        )


@dataclass
class Delivery:
    """The records of one call of `send` on their way to an outcome."""

    contents: Sequence[bytes]
    attempts: list[Attempt] = field(default_factory=list)
    results: dict[int, RecordResult] = field(
        default_factory=dict
    )  # of what is decided, by position
    requests: int = 0
    maybe_stored: set[int] = field(default_factory=set)  # positions; in any of the requests

    def body(self, positions: Iterable[int]) -> bytes:
        """The JSON array of these records."""
        parts = [self.contents[position] for position in positions] or [b""]
        parts[0] = b"[" + parts[0]  # on the parts, so that the whole is copied once
        parts[-1] += b"]"
        return b",".join(parts)

    def note(self, positions: tuple[int, ...], answer: Answer, meaning: Verdict) -> None:
        """Log a request that was made, and what it may have done at the receiver."""
        self.requests += 1
        if meaning.kind in MAYBE_STORED:
            self.maybe_stored.update(positions)
        named = {positions[index]: reason for index, reason in meaning.named.items()}
        for position, reason in named.items():
            self._log((position,), answer, Outcome.REFUSED, reason)
        taken: tuple[int, ...] = ()
        if meaning.kind is Kind.PARTLY:
            taken = tuple(p for p, ref in zip(positions, meaning.references, strict=True) if ref)
            self._log(taken, answer, Outcome.ACKNOWLEDGED, "")
        rest = tuple(p for p in positions if p not in named and p not in set(taken))
        if rest:
            self._log(rest, answer, _left_as(meaning, len(positions)), meaning.detail)

    def _log(
        self, positions: tuple[int, ...], answer: Answer, outcome: Outcome, detail: str
    ) -> None:
        self.attempts.append(
            Attempt(
                number=self.requests,
                positions=positions,
                outcome=outcome,
                http_status=answer.status,
                detail=detail,
                correlation_id=answer.correlation_id,
                started_at=answer.started_at,
                milliseconds=answer.milliseconds,
            )
        )

    def acknowledge(self, positions: tuple[int, ...], references: Sequence[str | None]) -> None:
        """Note that the receiver has stored the records that have a reference."""
        for position, reference in zip(positions, references, strict=True):
            if reference is not None:
                self.results[position] = RecordResult(Outcome.ACKNOWLEDGED, reference=reference)

    def settle(self, positions: Iterable[int], outcome: Outcome, detail: str) -> None:
        """Give these records their outcome: they will not be sent again.

        A record of which any request may have been stored cannot end better than UNKNOWN: the
        refusal of a later request says nothing of the earlier one.
        """
        for position in positions:
            ended = Outcome.UNKNOWN if position in self.maybe_stored else outcome
            self.results[position] = RecordResult(ended, detail)

    def settle_rest(self, detail: str) -> None:
        """At the end of a run: records without an outcome were not stored, or are unknown."""
        rest = [place for place in range(len(self.contents)) if place not in self.results]
        self.settle(rest, Outcome.UNSENT, detail)

    @property
    def any_stored(self) -> bool:
        """Whether the receiver has acknowledged any of the records."""
        return any(r.outcome is Outcome.ACKNOWLEDGED for r in self.results.values())

    def result(self, stop: D2IError | None) -> BatchResult:
        """Everything as it ended; each record has an outcome."""
        unsent = RecordResult(Outcome.UNSENT)
        results = [self.results.get(place, unsent) for place in range(len(self.contents))]
        return BatchResult(results, self.attempts, stop)


def _left_as(meaning: Verdict, count: int) -> Outcome:
    """What a request did to the records that it did not name."""
    if meaning.kind is Kind.ACCEPTED:
        return Outcome.ACKNOWLEDGED
    if meaning.kind in MAYBE_STORED:
        return Outcome.UNKNOWN
    if meaning.kind is Kind.EMPTY:
        return Outcome.REFUSED
    if meaning.kind in (Kind.UNNAMED, Kind.TOO_LARGE) and count == 1:
        return Outcome.REFUSED
    if meaning.kind in (Kind.BLOCKED, Kind.BUSY):
        return Outcome.FAILED
    return Outcome.UNSENT
