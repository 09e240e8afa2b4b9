"""What travels: a child's message, the batch it is in, and what came back for it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from d2i_helpers.staging.states import Outcome


@dataclass(slots=True)  # not frozen, which takes three times as long to make
class Message:
    """What is to be sent of one child, with the document and the hashes it was made from."""

    row_id: int
    person_id: str
    kind: str  # document | purge
    text: str  # the partial document
    json_payload: str  # the whole document
    current_hash: bytes | None
    previous_hash: bytes | None


@dataclass(frozen=True)
class Batch:
    """Messages that travel together, under one id in journal and log."""

    id: str
    run_id: str
    phase: str
    messages: tuple[Message, ...] = field(default_factory=tuple)
    altered: int = 0  # rows that another hand changed after delta: not sent, and marked


@dataclass(slots=True)  # not frozen, as above
class RecordResult:
    """How sending one record (the JSON of one message) ended."""

    outcome: Outcome
    detail: str = ""  # path and rule, or the reason; never a value
    reference: str | None = None  # the receiver's receipt


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request, or the part of its records that came out of it alike.

    A request that names three of 100 records gives four attempts of one `number`: one for each
    named record and one for the 97 that were not stored because of them.
    """

    number: int  # of the request, from 1
    positions: tuple[int, ...]  # of the records in their batch
    outcome: Outcome  # as this request left them; UNSENT: not stored, and sent again
    http_status: int | None
    detail: str
    correlation_id: str | None
    started_at: dt.datetime  # UTC, without a zone
    milliseconds: int
