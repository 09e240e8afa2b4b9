"""The delta stage: decide for every waiting row what is sent, and write it to the staging table.

Each document is validated, compared with everything that the receiver may hold (the acknowledged
document and those of unknown outcome), and the difference is stored. Rows that did not change are
never read.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Engine, and_, bindparam, not_, select
from sqlalchemy.engine import Connection

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
    result = PrepareResult({}, notices=_guard(outbox, settings, spec))
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


def _guard(outbox: Outbox, settings: Settings, spec: Spec) -> list[str]:
    """Judge what was not prepared before: a table that other software filled has no other guard."""
    staging, t = outbox.staging, outbox.table.c
    noted = notes.select().where(outbox.noted).exists()
    purge_noted = notes.select().where(outbox.noted, notes.c.partial_kind == PURGE).exists()
    changed = and_(
        not_(staging.is_deleted),
        not_(staging.held_back),
        staging.acknowledged,
        staging.status != Status.SENT.value,
        t.partial_json_payload.is_(None),
        not_(noted),
    )
    with database.reading(outbox.engine) as connection:
        staged = staging.count(connection, staging.acknowledged)
        judged = staged >= settings.guard_min_children
        figures = Figures(
            staged=staged,
            found=staging.count(connection, not_(staging.is_deleted)),
            gone=staging.count(
                connection,
                staging.is_deleted,
                staging.acknowledged,
                not_(purge_noted),
                not_(staging.held_back),
            ),
            changed=staging.count(connection, changed),
            items=_item_losses(connection, outbox, settings, spec, changed) if judged else {},
        )
    return guards.check(figures, settings)


def _item_losses(
    connection: Connection,
    outbox: Outbox,
    settings: Settings,
    spec: Spec,
    changed: ColumnElement[bool],
) -> dict[str, guards.ItemLoss]:
    """What would be purged from children who stay, block by block.

    The items of children who did not change are counted only where those of the changed ones alone
    are over the limit: their documents are otherwise never read.
    """
    volatile = spec.volatile_ids if settings.volatile_ids is None else settings.volatile_ids
    stays = and_(not_(outbox.staging.is_deleted), outbox.staging.acknowledged)
    gone: Counter[str] = Counter()
    before: Counter[str] = Counter()
    for held, current in _documents(connection, outbox, changed):
        lost, had = delta.removed_items(spec, held, current, by_number=volatile)
        gone.update(lost)
        before.update(had)
    losses = guards.item_losses(spec, before, gone)
    if not guards.findings(Figures(staged=settings.guard_min_children, items=losses), settings):
        return losses
    for held, _ in _documents(connection, outbox, and_(stays, not_(changed))):
        before.update(delta.removed_items(spec, held, None)[1])
    return guards.item_losses(spec, before, gone)


def _documents(
    connection: Connection, outbox: Outbox, wanted: ColumnElement[bool]
) -> Iterator[tuple[Document, Document]]:
    """What the receiver acknowledged and what is staged, of rows of which both can be read."""
    t, last = outbox.table.c, 0
    statement = (
        select(t.id, t.previous_json_payload, t.json_payload)
        .where(t.id > bindparam("last"), wanted)
        .order_by(t.id)
        .limit(PAGE)
    )
    while rows := connection.execute(statement, {"last": last}).all():
        for row in rows:
            with contextlib.suppress(_Unreadable):
                yield _parsed(row.previous_json_payload), _parsed(row.json_payload)
        last = rows[-1].id


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
