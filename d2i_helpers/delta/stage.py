"""The delta stage: decide for every waiting row what is sent, and write it to the staging table.

Each document is validated, compared with everything that the receiver may hold (the acknowledged
document and those of unknown outcome), and the difference is stored. Rows that did not change are
never read.

In a table that this project fills no text is believed without its hash. A document that was altered
is not sent; an altered baseline is put back where the acknowledged document still stands in the
row, and else the whole document goes and the child is named as one that needs attention.
"""

from __future__ import annotations

import contextlib
import functools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson
from sqlalchemy import ColumnElement, Engine, and_, not_, select
from sqlalchemy.engine import Connection

from d2i_helpers import database, delta
from d2i_helpers.database.tables import journal, notes, submission_log
from d2i_helpers.document.canonical import (
    canonical_name,
    ids_are_volatile,
    text_hasher,
    to_text,
)
from d2i_helpers.document.validation import Validator, firewall_warnings
from d2i_helpers.garbage import few_collections
from d2i_helpers.payload_spec import Document, Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import (
    Staging,
    attention,
    contents,
    guards,
    in_flight,
    outbox,
    own_blocks,
    same,
)
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.contents import Contents
from d2i_helpers.staging.evidence import (
    CANONICAL_FACT,
    DOCUMENT,
    PURGE,
    Hasher,
    LastSent,
    baseline,
)
from d2i_helpers.staging.guards import Figures
from d2i_helpers.staging.lease import BY_HAND, working_on
from d2i_helpers.staging.messages import Message
from d2i_helpers.staging.outbox import Due
from d2i_helpers.staging.states import Doubtful, Status

PAGE = 500
# rows, from which on the database is told to count its tables, where they are this part of all
MANY, ONE_IN = 4 * PAGE, 10
STAGE = "delta"  # whose entries of d2i_attention these are
IN_DOUBT = "the acknowledged document was changed: sent whole, items that went may stay there"
ROW_MISSING = "the receiver holds the child by the submission log, and its staging row is gone"
COUNTS = (
    "ready_to_send", "whole_documents", "changes", "child_removals", "nothing_to_send",
    "held_back", "not_valid", "unreadable", "altered", "in_doubt", "rows_missing",
    "baselines_put_back", "unknown_after_a_stop", "written", "firewall_warnings",
    "characters_whole", "characters_to_send", "waiting_before", "need_attention",
)  # fmt: skip


# what can become of a row, as it is counted
KINDS = (
    "whole_documents", "changes", "child_removals", "nothing_to_send", "not_valid", "unreadable",
    "altered",
)  # fmt: skip


@dataclass
class DeltaResult:
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
    """The results for one page of waiting rows."""

    messages: list[Message] = field(default_factory=list)
    equal: list[Due] = field(default_factory=list)
    nothing_held: list[Due] = field(default_factory=list)
    refused: list[tuple[Due, str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    altered: list[int] = field(default_factory=list)
    repaired: list[Due] = field(default_factory=list)  # with the baseline that is to be put back


class _Unreadable(Exception):
    """A stored document is no JSON object."""


class _Altered(Exception):
    """A stored document is not what its hash says, or that of another child."""


def run(
    engine: Engine,
    settings: Settings,
    spec: Spec,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> DeltaResult:
    """Write `partial_json_payload` of every row that waits; idempotent.

    Raises:
        GuardError: an unusual share of the children would be purged or changed.
        GateError: the table holds real children and the profile says anonymised, or the reverse.
        DatabaseError: the staging table cannot be used. LockError: another run works on it.
    """
    with working_on(engine, [settings.send_table], settings.part), few_collections():
        database.create_staging(engine, settings.send_table)
        return _prepare(engine, settings, spec, progress)


def _prepare(
    engine: Engine,
    settings: Settings,
    spec: Spec,
    progress: Callable[[int, int | None], None] | None,
) -> DeltaResult:
    staging = _staging(engine, settings, spec)
    # without an overlay there is none, and to read the published specification takes 0.1 s
    if settings.spec_overlay and (own := own_blocks.own_blocks(spec)):
        staging.in_transaction(lambda connection: own_blocks.note(connection, staging, own))
    with database.reading(engine) as connection:
        contents.require(connection, staging, Contents(settings.source))
        of_messages = own_blocks.with_noted(connection, staging, spec)
    lost = in_flight.recover(staging)
    counts: Counter[str] = Counter({"unknown_after_a_stop": lost})
    result = DeltaResult({}, notices=_guard(staging, settings, spec))

    with database.reading(engine) as connection:
        rows = outbox.due_rows(connection, staging)
        much_is_new = len(rows) >= MANY and len(rows) * ONE_IN >= staging.count(
            connection, *staging.mine
        )
    work = _Work(of_messages, Validator(spec), settings, counts, Counter(), staging.hasher)
    for start in range(0, len(rows), PAGE):
        page = rows[start : start + PAGE].tolist()
        staging.in_transaction(functools.partial(_write_page, staging, work, page))
        if much_is_new and start == PAGE:
            _renew_statistics(staging)
        if progress:
            progress(start + len(page), len(rows))
    if much_is_new:
        _renew_statistics(staging)
    staging.in_transaction(
        lambda connection: _name_doubts(connection, staging, settings, work.in_doubt)
    )
    with database.reading(engine) as connection:
        due, ready = outbox.count_waiting(connection, staging)
        held_back = counts["held_back"] = staging.count_held_back(connection)
        counts["need_attention"] = outbox.left_behind(
            connection, staging, due=due, on_its_way=ready, held_back=held_back
        )
        named = Counter(row.outcome for row in attention.read(connection, staging))
    counts["ready_to_send"] = ready
    counts["in_doubt"], counts["rows_missing"] = named[Doubtful.BASELINE], named[Doubtful.ROW]
    counts["waiting_before"] = len(rows)
    result.counts = {name: counts[name] for name in COUNTS}
    result.notices += staging.moves.notices()
    result.problems = dict(work.problems.most_common())
    return result


def _renew_statistics(staging: Staging) -> None:
    """Two pages after the beginning, and for submit at the end, of a day on which much is written.

    On a first load every row gets its note in this stage, and a database that still takes the notes
    for few would read all of them for each page and each request. On other days they are known.
    """
    database.renew_statistics(staging.engine, [notes])


def _write_page(
    staging: Staging, work: _Work, row_numbers: list[int], connection: Connection
) -> None:
    """Decide what is sent of these rows, and write it."""
    work.begin(row_numbers[0])
    rows = outbox.due(connection, staging, row_numbers)
    if not rows:
        return
    page = work.page(rows, work.last_sent(connection, staging, rows))
    _put_back(connection, staging, page.repaired)
    work.counts["written"] += outbox.write_messages(connection, staging, rows, page.messages)
    outbox.settle_equal(connection, staging, page.equal)
    outbox.settle_gone(connection, staging, page.nothing_held)
    outbox.refuse(connection, staging, page.refused)
    staging.mark_unreadable(connection, page.unreadable)
    staging.mark_unreadable(
        connection,
        page.altered,
        "json_payload is not the document that its hash or its row says",
    )


@dataclass(frozen=True, slots=True)
class Decided:
    """What delta would do with a row."""

    row: Due
    kind: str  # the count of `COUNTS` that it would add to
    message: Message | None = None
    reason: str | None = None  # why the document may not be sent


class Decisions:
    """Decides of rows as the stage does, for whoever wants to know it; nothing is written."""

    def __init__(self, staging: Staging, settings: Settings, spec: Spec) -> None:
        """Make them ready.

        Args:
            staging: with a hasher where the table's hashes are in today's form.
            settings: what is sent.
            spec: as `own_blocks.with_noted` gives it.
        """
        self._staging = staging
        self._work = _Work(spec, Validator(spec), settings, Counter(), Counter(), staging.hasher)

    def of(self, connection: Connection, rows: list[Due]) -> list[Decided]:
        """What is decided of each row, which may stand nowhere yet."""
        last = self._work.last_sent(connection, self._staging, rows)
        return [self._of(row, last) for row in rows]

    def _of(self, row: Due, last: Mapping[str, LastSent]) -> Decided:
        counts = self._work.counts
        counts.clear()
        page = self._work.page([row], last)
        kind = next((kind for kind in KINDS if counts[kind]), "nothing_to_send")
        message = next(iter(page.messages), None)
        return Decided(row, kind, message, next((why for _, why in page.refused), None))


def _staging(engine: Engine, settings: Settings, spec: Spec) -> Staging:
    """The table, with a hasher where its hashes are in the form of today's specification."""
    volatile = ids_are_volatile(spec, settings)
    staging = Staging(engine, settings.send_table, shard=settings.part)
    with database.reading(engine) as connection:
        stored = staging.fact(connection, CANONICAL_FACT)
    if stored == canonical_name(spec, volatile):
        staging.hasher = text_hasher(spec, volatile)
    return staging


def _name_doubts(
    connection: Connection, staging: Staging, settings: Settings, in_doubt: set[str]
) -> None:
    """Keep the list of children of whom nobody can say what the receiver holds.

    A child stays on it until the receiver has acknowledged that it erased the child, or somebody
    who knows takes it off.
    """
    before = {
        row.person_id
        for row in attention.read(connection, staging)
        if (row.stage, row.outcome) == (STAGE, Doubtful.BASELINE)
    }
    missing = staging.evidence.rows_missing(
        connection, *staging.mine_by(submission_log.c.person_id)
    )
    last = staging.evidence.last_sent(connection, sorted(before))
    still = {person_id for person_id in before if last.get(person_id, LastSent()).kind != PURGE}
    entries = [
        *(Entry(person_id, Doubtful.BASELINE, IN_DOUBT) for person_id in sorted(in_doubt | still)),
        *(Entry(person_id, Doubtful.ROW, ROW_MISSING) for person_id in missing),
    ]
    attention.add(connection, staging, STAGE, entries, settings.run_id or BY_HAND)
    attention.remove_others(connection, staging, STAGE, entries)


def _put_back(connection: Connection, staging: Staging, rows: Sequence[Due]) -> None:
    staging.put_baselines(
        connection,
        [
            {
                "row": row.id,
                "previous_json_payload": row.previous_json_payload,
                "previous_hash": row.previous_hash,
            }
            for row in rows
        ],
    )


def _guard(staging: Staging, settings: Settings, spec: Spec) -> list[str]:
    """Guard what was not prepared before; a table that other software filled has no other guard.

    A shard judges the whole table, as one process would: all that the day changed stands there. The
    shard that writes first has judged all of it, and any other judges what is left of that day, of
    which no figure is larger. So none waits for another one.
    """
    t = staging.table.c
    # notes outlive their message, so they have to be of what is staged now
    noted = (
        select(notes.c.person_id)
        .where(
            staging.noted,
            notes.c.partial_kind == DOCUMENT,
            same(notes.c.partial_current_hash, t.current_hash),
        )
        .exists()
    )
    purge_noted = and_(
        t.partial_json_payload.is_not(None),
        select(notes.c.person_id).where(staging.noted, notes.c.partial_kind == PURGE).exists(),
    )

    def sent_before(kind: str) -> ColumnElement[bool]:
        """What is staged now was on the wire already, with an unknown outcome, and has no note."""
        entry = journal.c
        return staging.in_flight.where(entry.kind == kind, entry.document_hash == t.current_hash)

    changed = and_(
        not_(staging.is_deleted),
        not_(staging.held_back),
        staging.acknowledged,
        staging.status != database.constant(Status.SENT),
        t.partial_json_payload.is_(None),
        not_(noted),
        not_(sent_before(DOCUMENT)),
    )
    gone = (
        staging.is_deleted,
        staging.acknowledged,
        not_(purge_noted),
        not_(sent_before(PURGE)),
        not_(staging.held_back),
    )
    with database.reading(staging.engine) as connection:
        found = staging.count_of_unsettled(
            connection,
            gone=and_(*gone),
            changed=changed,
            never_sent=not_(staging.acknowledged),
            deleted=staging.is_deleted,
        )
        figures = Figures(staged=0, gone=found["gone"], changed=found["changed"])
        if figures.gone or figures.changed:  # else there is nothing to judge
            rows = staging.count(connection)
            figures = replace(
                figures, staged=rows - found["never_sent"], found=rows - found["deleted"]
            )
            if figures.staged >= settings.guard_min_children:
                losses = _item_losses(connection, staging, settings, spec, changed)
                figures = replace(figures, items=losses)
    return guards.check(figures, settings)


def _item_losses(
    connection: Connection,
    staging: Staging,
    settings: Settings,
    spec: Spec,
    changed: ColumnElement[bool],
) -> dict[str, guards.ItemLoss]:
    """What would be purged from children who stay, block by block.

    The items of children who did not change are counted only where those of the changed ones alone
    are over the limit: their documents are otherwise never read.
    """
    volatile = ids_are_volatile(spec, settings)
    stays = and_(not_(staging.is_deleted), staging.acknowledged)
    gone: Counter[str] = Counter()
    before: Counter[str] = Counter()
    for held, current in _documents(connection, staging, staging.unsettled, changed):
        lost, had = delta.removed_items(spec, held, current, by_number=volatile)
        gone.update(lost)
        before.update(had)
    losses = guards.item_losses(spec, before, gone)
    if not guards.findings(Figures(staged=settings.guard_min_children, items=losses), settings):
        return losses
    for held, _ in _documents(connection, staging, stays, not_(changed)):
        before.update(delta.removed_items(spec, held, None)[1])
    return guards.item_losses(spec, before, gone)


def _documents(
    connection: Connection, staging: Staging, *wanted: ColumnElement[bool]
) -> Iterator[tuple[Document, Document]]:
    """Acknowledged and staged documents of rows where both can be read."""
    t = staging.table.c
    chosen = connection.execute(select(t.id).where(*wanted).order_by(t.id)).scalars()
    rows = array("q", chosen)
    documents = select(t.previous_json_payload, t.json_payload).where(
        database.numbered(staging.engine, t.id), *wanted
    )
    for start in range(0, len(rows), PAGE):
        page = database.numbers(staging.engine, rows[start : start + PAGE])
        for held, current in connection.execute(documents, page).all():
            with contextlib.suppress(_Unreadable):
                yield _parsed(held), _parsed(current)


@dataclass
class _Work:
    """What is the same for every row of a run."""

    spec: Spec  # as `own_blocks.with_noted` gives it
    validator: Validator
    settings: Settings
    counts: Counter[str]
    problems: Counter[str]
    hasher: Hasher | None  # None: nobody here can say what this table's hashes were made from
    in_doubt: set[str] = field(default_factory=set)  # children
    _kept: tuple[int, Counter[str], Counter[str], set[str]] | None = None

    def begin(self, page: int) -> None:
        """Begin a page; where it is begun again, forget what was counted of it before."""
        if self._kept is None or self._kept[0] != page:
            self._kept = (page, Counter(self.counts), Counter(self.problems), set(self.in_doubt))
            return
        _, counts, problems, in_doubt = self._kept
        for now, before in ((self.counts, counts), (self.problems, problems)):
            now.clear()
            now.update(before)
        self.in_doubt.clear()
        self.in_doubt.update(in_doubt)

    @functools.cached_property
    def rows_bear_ids(self) -> bool:
        """Whether a document has the id of its row as it is; an overlay may write it otherwise."""
        root = self.spec.root
        return next(field for field in root.fields if field.name == root.key).transform == "id"

    def last_sent(
        self, connection: Connection, staging: Staging, rows: list[Due]
    ) -> dict[str, LastSent]:
        """What the submission log says of these children."""
        return staging.evidence.last_sent(connection, [row.person_id for row in rows])

    def page(self, rows: list[Due], last: Mapping[str, LastSent]) -> _Page:
        page = _Page()
        for row in rows:
            try:
                self._row(row, last.get(row.person_id), page)
            except _Unreadable:
                self.counts["unreadable"] += 1
                page.unreadable.append(row.id)
            except _Altered:
                self.counts["altered"] += 1
                page.altered.append(row.id)
        return page

    def _row(self, row: Due, last: LastSent | None, page: _Page) -> None:
        accepted = not row.deleted and self._was_accepted(row)
        if accepted and last is None and row.holds_nothing:
            self._message(row, row.json_payload, page)  # `delta` would give the same text
            return
        current = None if row.deleted else self._current(row, proved=accepted)
        if current is not None and not accepted and (reason := self._invalid(current)):
            page.refused.append((row, reason))
            return
        row, baselines, in_doubt = self._baselines(row, last, page)
        partial = delta.delta(
            self.spec, current, *baselines, cleared_fields=self.settings.cleared_fields
        )
        if partial is None:
            self.counts["nothing_to_send"] += 1
            (page.nothing_held if row.deleted else page.equal).append(row)
            return
        if in_doubt and not row.deleted:  # a child that is gone is removed whatever was held of it
            self.in_doubt.add(row.person_id)
        self._message(row, to_text(partial), page)

    def _was_accepted(self, row: Due) -> bool:
        """Whether the document is as extract made it, and these very checks accepted it then."""
        return self.hasher is not None and row.was_accepted(self.validator.fingerprint)

    def _message(self, row: Due, text: str, page: _Page) -> None:
        page.messages.append(
            Message(
                row_id=row.id,
                person_id=row.person_id,
                kind=PURGE if row.deleted else DOCUMENT,
                text=text,
                json_payload=row.json_payload,
                current_hash=row.current_hash,
                previous_hash=row.previous_hash,
            )
        )
        self._count(row, text)

    def _current(self, row: Due, *, proved: bool = False) -> Document:
        """Today's document; ``proved``: that it is the child's, and what its hash says."""
        document = _parsed(row.json_payload)
        if proved or self.hasher is None:
            return document
        another = self.rows_bear_ids and document.get(self.spec.root.key or "") != row.person_id
        if another or not self._has_hash(row, row.json_payload, row.current_hash, document):
            raise _Altered
        return document

    def _has_hash(
        self, row: Due, text: str, digest: bytes | None, document: Document | None = None
    ) -> bool:
        """Whether a text of the row has this hash, by its notes or by making the hash."""
        assert self.hasher is not None
        return row.is_noted(text, digest) or self.hasher.matches(text, digest, document)

    def _invalid(self, document: Document) -> str | None:
        """Paths and rules that the document breaks, or None."""
        if self.validator.accepts(document):
            return None
        problems = self.validator.problems(document)
        self.counts["not_valid"] += 1
        self.problems.update(f"{problem.path}: {problem.rule}" for problem in problems)
        return "; ".join(f"{problem.path}: {problem.rule}" for problem in problems)

    def _baselines(
        self, row: Due, last: LastSent | None, page: _Page
    ) -> tuple[Due, list[Document | None], bool]:
        """The row, every document that the receiver may hold, and whether that is in doubt.

        None among the documents stands for nothing. Where other software filled the table it is
        among them unless the baseline is what was acknowledged last: D2I's SQL keeps there what it
        staged before, sent or not. The row comes with the baseline that the
        evidence gives. In doubt, what is sent has to be right for a receiver that holds nothing as
        well, so the whole document goes, with the marks for what an altered document names and
        today's does not: most of it is mostly what the receiver holds. Of a child that is gone the
        ids are enough.
        """
        row, sure = self._with_baseline(row, last, page)
        texts = [row.previous_json_payload, *(text for text, _ in row.in_flight)]
        documents: list[Document | None] = []
        for text in texts:
            try:
                documents.append(_parsed(text) if text and text.strip() else None)
            except _Unreadable:
                sure = False
        if sure:
            if self.hasher is None and not _is_what_was_acknowledged(row, last):
                documents.append(None)
            return row, documents, False
        if row.deleted:
            return row, [self._ids(row)], True
        usable = [d for d in documents if d is not None and not self.validator.problems(d)]
        return row, [None, *usable], True

    def _with_baseline(self, row: Due, last: LastSent | None, page: _Page) -> tuple[Due, bool]:
        """The row with what the receiver acknowledged, and whether all that it may hold is known.

        An acknowledged document that was altered is put back in the row where it is to be had.
        """
        if self.hasher is None:
            return row, True
        held = baseline(row, last, functools.partial(self._has_hash, row))
        sure = held.sure and not (last and last.journal_lost)
        sure = sure and all(
            text is None or self.hasher.matches(text, digest) for text, digest in row.in_flight
        )
        before = (row.previous_json_payload, row.previous_hash)
        if held.sure and before != (held.text, held.hash):
            self.counts["baselines_put_back"] += 1
            row = replace(row, previous_json_payload=held.text, previous_hash=held.hash)
            page.repaired.append(row)
        return row, sure

    def _ids(self, row: Due) -> Document:
        """The ids to remove a child by, where none of its documents can be relied on."""
        key = self.spec.root.key or "la_child_id"
        with contextlib.suppress(_Unreadable, _Altered):
            document = self._current(row)
            if document.get(key):
                return document
        return {key: row.person_id}

    def _count(self, row: Due, text: str) -> None:
        if row.deleted:
            self.counts["child_removals"] += 1
            return
        first = row.previous_json_payload is None and not row.in_flight
        self.counts["whole_documents" if first else "changes"] += 1
        self.counts["characters_whole"] += len(row.json_payload)
        self.counts["characters_to_send"] += len(text)
        self.counts["firewall_warnings"] += bool(firewall_warnings(text))


def _is_what_was_acknowledged(row: Due, last: LastSent | None) -> bool:
    """Whether a baseline bears the hash of the document that was acknowledged last."""
    if last is None or last.kind != DOCUMENT:  # after a purge the receiver holds nothing
        return False
    return last.hash is not None and last.hash == row.previous_hash


def _parsed(text: str) -> Document:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _Unreadable from None
    if not isinstance(document, dict):
        raise _Unreadable
    return document
