"""What travels: a child's message, what became of it, each attempt, and the batch they are in."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from d2i_helpers.staging.states import Outcome


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One child's message, journalled and about to leave."""

    row_id: int
    person_id: str
    kind: str
    current_hash: bytes | None
    json_payload: str
    partial: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one message in the end."""

    message: Outgoing
    outcome: Outcome
    detail: str = ""  # path and rule, or the reason; never a value


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One attempt to send one child's message, as the submission log keeps it."""

    message: Outgoing
    attempt: int
    outcome: Outcome
    body_hash: bytes
    started_at: dt.datetime
    milliseconds: int
    http_status: int | None = None
    reference: str | None = None
    correlation_id: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Batch:
    """Messages that travel together, under one id in journal and log."""

    id: str
    run_id: str
    phase: str
    messages: tuple[Outgoing, ...] = field(default_factory=tuple)
    altered: int = 0  # rows that another hand changed after delta: not sent, and marked
