"""The delta stage: decide for every waiting row what is sent, and write it to the staging table.

Each document is validated, compared with everything that the receiver may hold (the acknowledged
document and those of unknown outcome), and the difference is stored. Rows that did not change are
never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Engine, and_, not_

from d2i_helpers import database, delta
from d2i_helpers.payload.canonical import to_text
from d2i_helpers.payload.validation import Validator, firewall_warnings
from d2i_helpers.settings import Settings
from d2i_helpers.spec import Document, Spec
from d2i_helpers.staging import Staging, guards
from d2i_helpers.staging.guards import Figures
from d2i_helpers.staging.in_flight import InFlight
from d2i_helpers.staging.lease import working_on
from d2i_helpers.staging.outbox import DOCUMENT, PURGE, Due, Outbox, Partial
from d2i_helpers.states import Status
from d2i_helpers.tables import notes

PAGE = 500


@dataclass
class PrepareResult:
    """What the delta stage found; numbers and rules only."""

    counts: dict[str, int]
    problems: dict[str, int] = field(default_factory=dict)  # path and rule -> documents
    notices: list[str] = field(default_factory=list)

    @property
    def messages(self) -> dict[str, int]:
        """Messages by kind."""
        kinds = ("whole_documents", "changes", "child_removals")
        return {kind: self.counts[kind] for kind in kinds}


@dataclass
class _Page:
    """What one page of waiting rows comes to."""

    partials: list[Partial] = field(default_factory=list)
    equal: list[Due] = field(default_factory=list)
    nothing_held: list[Due] = field(default_factory=list)
    refused: list[tuple[Due, str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)


class _Unreadable(Exception):
    """A stored document is no JSON object."""


def run(
    engine: Engine,
    settings: Settings,
    spec: Spec,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> PrepareResult:
    """Write `partial_json_payload` of every row that waits; idempotent.

    Raises:
        GuardError: an unusual share of the children would be purged or changed.
        DatabaseError: the staging table cannot be used. LockError: another run works on it.
    """
    database.create_staging(engine, settings.send_table)
    with working_on(engine, [settings.send_table]):
        return _prepare(engine, settings, spec, progress)


def _prepare(
    engine: Engine,
    settings: Settings,
    spec: Spec,
    progress: Callable[[int, int | None], None] | None,
) -> PrepareResult:
    outbox = Outbox(Staging(engine, settings.send_table))
    lost = InFlight(outbox).recover()
    counts: Counter[str] = Counter({"unknown_after_a_stop": lost})
    result = PrepareResult({}, notices=_guard(outbox, settings))
    with database.transaction(engine) as connection:
        outbox.staging.mark_unreadable(connection, outbox.staging.damaged(connection))
        total = outbox.staging.count(connection, outbox.is_due)
        counts["held_back"] = outbox.staging.count(connection, outbox.staging.held_back)
    work = _Work(spec, Validator(spec), settings, counts, Counter())
    last, done = 0, 0
    while True:
        with database.transaction(engine) as connection:
            rows = outbox.due(connection, last, PAGE)
            if not rows:
                break
            page = work.page(rows)
            counts["written"] += outbox.write_partials(connection, page.partials)
            outbox.settle_equal(connection, page.equal)
            outbox.settle_gone(connection, page.nothing_held)
            outbox.refuse(connection, page.refused)
            outbox.staging.mark_unreadable(connection, page.unreadable)
        last, done = rows[-1].id, done + len(rows)
        if progress:
            progress(done, total)
    result.counts = _in_order(counts, total)
    result.problems = dict(work.problems.most_common())
    return result


def _in_order(counts: Counter[str], waiting: int) -> dict[str, int]:
    names = (
        "whole_documents", "changes", "child_removals", "nothing_to_send", "written",
        "firewall_warnings", "baselines_unreadable", "unknown_after_a_stop",
        "not_valid", "unreadable", "held_back", "characters_whole", "characters_to_send",
    )  # fmt: skip
    unsent = ("not_valid", "unreadable", "baselines_unreadable", "held_back")
    attention = sum(counts[name] for name in unsent)
    return {
        "waiting": waiting,
        **{name: counts[name] for name in names},
        "need_attention": attention,
    }


def _guard(outbox: Outbox, settings: Settings) -> list[str]:
    """Judge what was not prepared before: a table that other software filled has no other guard."""
    staging, t = outbox.staging, outbox.table.c
    noted = notes.select().where(outbox.noted).exists()
    purge_noted = notes.select().where(outbox.noted, notes.c.partial_kind == PURGE).exists()
    with database.reading(outbox.engine) as connection:
        figures = Figures(
            staged=staging.count(connection, staging.acknowledged),
            found=staging.count(connection, not_(staging.is_deleted)),
            gone=staging.count(
                connection, staging.is_deleted, staging.acknowledged, not_(purge_noted)
            ),
            changed=staging.count(
                connection,
                and_(not_(staging.is_deleted), staging.acknowledged),
                staging.status != Status.SENT.value,
                t.partial_json_payload.is_(None),
                not_(noted),
            ),
        )
    return guards.check(figures, settings)


@dataclass
class _Work:
    """What is the same for every row of a run."""

    spec: Spec
    validator: Validator
    settings: Settings
    counts: Counter[str]
    problems: Counter[str]

    def page(self, rows: list[Due]) -> _Page:
        page = _Page()
        for row in rows:
            try:
                self._row(row, page)
            except _Unreadable:
                self.counts["unreadable"] += 1
                page.unreadable.append(row.id)
        return page

    def _row(self, row: Due, page: _Page) -> None:
        current = None if row.deleted else _parsed(row.json_payload)
        if current is not None and (reason := self._invalid(current)):
            page.refused.append((row, reason))
            return
        partial = delta.delta(
            self.spec,
            current,
            *self._baselines(row),
            cleared_fields=self.settings.cleared_fields,
        )
        if partial is None:
            self.counts["nothing_to_send"] += 1
            (page.nothing_held if row.deleted else page.equal).append(row)
            return
        text = to_text(partial)
        page.partials.append(Partial(row, PURGE if row.deleted else DOCUMENT, text))
        self._count(row, text)

    def _invalid(self, document: Document) -> str | None:
        """Paths and rules that the document breaks, or None."""
        found = self.validator.problems(document)
        if not found:
            return None
        self.counts["not_valid"] += 1
        self.problems.update(f"{problem.path}: {problem.rule}" for problem in found)
        return "; ".join(f"{problem.path}: {problem.rule}" for problem in found)

    def _baselines(self, row: Due) -> list[Document | None]:
        """Every document that the receiver may hold; None stands for nothing."""
        texts: list[Any] = [row.previous_json_payload, *row.in_flight]
        documents: list[Document | None] = []
        for text in texts:
            try:
                documents.append(_parsed(text) if text and text.strip() else None)
            except _Unreadable:
                # what it held can no longer be named for removal; the whole document goes
                self.counts["baselines_unreadable"] += 1
                documents.append(None)
        return documents

    def _count(self, row: Due, text: str) -> None:
        if row.deleted:
            self.counts["child_removals"] += 1
            return
        first = row.previous_json_payload is None and not row.in_flight
        self.counts["whole_documents" if first else "changes"] += 1
        self.counts["characters_whole"] += len(row.json_payload)
        self.counts["characters_to_send"] += len(text)
        self.counts["firewall_warnings"] += bool(firewall_warnings(text))


def _parsed(text: str) -> Document:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _Unreadable from None
    if not isinstance(document, dict):
        raise _Unreadable
    return document
