"""Children who need attention, and why: written by the stage that found it, read by people.

A child who is held back has an entry for as long as nothing of it may be sent; `Staging.held_back`
is the one place that says so to those who send. Its row says the same in `api_response`, and says
again what it said before once the child is released.

A shard reads and removes the entries of its own children only.

What the staging rows and the journal say themselves (documents that are not valid, refusals,
outcomes that are unknown) is not written a second time: `listed` unites all of it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, bindparam, delete, or_, select, update
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import attention, journal
from d2i_helpers.payload_spec import Spec
from d2i_helpers.settings import WHOLE, Shard
from d2i_helpers.staging.rows import Staging, utc_now
from d2i_helpers.staging.states import Status, Unsent

# what became of children beside the words of `states.Unsent`
NOT_VALID, NOT_TAKEN, UNKNOWN = "not valid", "not taken by the receiver", "outcome unknown"
SETTLED_NEXT = "the receiver may hold either document; the next run settles it"
NOT_SENT = "not sent: "  # how `api_response` begins where we sent nothing
MASKED_IDS = 3  # examples of each reason
_POSITION = re.compile(r"\[\d+\]")  # of an item in a list
_RESPONSE_CHARACTERS = 4000
_ID_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One reason why a child needs attention; holds no value of the child beside its id."""

    person_id: str | None  # None: persons without an id
    outcome: str  # a word of `states.Unsent`
    rule: str
    source_table: str | None = None
    source_column: str | None = None
    path: str | None = None  # of a field of the document
    children: int = 1

    def __str__(self) -> str:
        place = f"{self.source_table}.{self.source_column} " if self.source_table else ""
        return f"{place}{self.rule}"


def add(
    connection: Connection, staging: Staging, stage: str, entries: Iterable[Entry], run_id: str
) -> None:
    """Write the entries of a stage that are new, and hold back the children that they name.

    Comes before anything of the run can be sent.
    """
    entries = list(entries)
    before = {_key(row) for row in _rows(connection, staging, stage)}
    new = [entry for entry in entries if _key(entry) not in before]
    if not new:
        return
    now = utc_now()
    changed = {entry.person_id for entry in new}
    held = [e for e in entries if e.outcome == Unsent.HELD_BACK and e.person_id in changed]
    responses = _hold(connection, staging, held)
    rows = [
        {
            "staging_table": staging.name,
            "person_id": _kept_id(entry.person_id),
            "stage": stage,
            "outcome": str(entry.outcome),
            "rule": entry.rule,
            "source_table": entry.source_table,
            "source_column": entry.source_column,
            "path": entry.path,
            "children": entry.children,
            "first_noted_at": now,
            "run_id": run_id,
            "replaced_response": responses.get(entry.person_id or ""),
        }
        for entry in new
    ]
    database.insert_rows(connection, attention, rows)


def remove_others(
    connection: Connection,
    staging: Staging,
    stage: str,
    entries: Iterable[Entry],
    *,
    only: Collection[str] = (),
) -> int:
    """Remove the entries of a stage that no longer hold; release children whom nothing else holds.

    Args:
        entries: all that hold today.
        only: look at these children alone (a pilot); empty: at all.

    Returns:
        Number of children that were released.
    """
    kept = {_key(entry) for entry in entries}
    wanted = {_kept_id(person_id) for person_id in only}
    old = [
        row
        for row in _rows(connection, staging, stage)
        if _key(row) not in kept and (not wanted or row.person_id in wanted)
    ]
    for part in database.in_batches([row.id for row in old]):
        connection.execute(delete(attention).where(attention.c.id.in_(part)))
    released = [row for row in old if row.outcome == Unsent.HELD_BACK]
    return _release(connection, staging, released)


def read(connection: Connection, staging: Staging) -> list[Any]:
    """The entries of every stage, in the order in which they were noted."""
    statement = select(attention).where(
        attention.c.staging_table == staging.name, *staging.mine_by(attention.c.person_id)
    )
    return list(connection.execute(statement.order_by(attention.c.id)))


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one child needs attention, wherever that is written; for `listed`."""

    person_id: str | None
    what: str  # what became of the child
    rule: str
    source_table: str | None = None
    source_column: str | None = None
    path: str | None = None
    children: int = 1
    noted_at: dt.datetime | None = None  # UTC
    run_id: str | None = None


def listed(connection: Connection, staging: Staging, spec: Spec) -> list[Reason]:
    """Every child who needs attention, with each reason. Whole ids: never for a record.

    Of the shard's children.
    """
    reasons = [
        Reason(
            row.person_id, row.outcome, row.rule, row.source_table, row.source_column,
            row.path, row.children, row.first_noted_at, row.run_id,
        )
        for row in read(connection, staging)
    ]  # fmt: skip
    t = staging.table.c
    in_error = select(t.person_id, t.api_response, t.last_updated).where(
        staging.status == database.constant(Status.ERROR),
        or_(~staging.is_deleted, staging.held),
        ~staging.held_back,
        ~staging.in_flight,
        *staging.mine,
    )
    places = {field.path: (spec.sources[field.source].table, field.column)
              for _, field in spec.fields()}  # fmt: skip
    for row in connection.execute(in_error.order_by(t.id)):
        reasons += _reasons_of(row, places)
    unknown = select(journal.c.person_id, journal.c.sent_at, journal.c.run_id).where(
        journal.c.staging_table == staging.name, *staging.mine_by(journal.c.person_id)
    )
    for row in connection.execute(unknown.order_by(journal.c.id)):
        reasons.append(
            Reason(row.person_id, UNKNOWN, SETTLED_NEXT, noted_at=row.sent_at, run_id=row.run_id)
        )
    return reasons


def everything(staging: Staging, spec: Spec) -> list[Reason]:
    """What `listed` gives; nothing where the tables are not there yet."""
    with database.reading(staging.engine) as connection:
        tables = (staging.table, attention, journal)
        if all(database.has_table(connection, table) for table in tables):
            return listed(connection, staging, spec)
    return []


def shown(engine: Engine, table: str, spec: Spec, shard: Shard = WHOLE) -> list[dict[str, Any]]:
    """The same for a record: one row for each reason, with a count and a few masked ids.

    Args:
        shard: whose children are listed.
    """
    counts: Counter[tuple] = Counter()
    masked: dict[tuple, list[str]] = {}
    for reason in everything(Staging(engine, table, shard=shard), spec):
        why = (
            reason.what, reason.rule, reason.source_table, reason.source_column, reason.path,
        )  # fmt: skip
        counts[why] += reason.children
        examples = masked.setdefault(why, [])
        if reason.person_id and len(examples) < MASKED_IDS:
            shown_id = mask(reason.person_id)
            examples += [] if shown_id in examples else [shown_id]
    names = ("what", "rule", "table", "column", "field")
    return [
        {**dict(zip(names, why, strict=True)), "children": count, "who": ", ".join(masked[why])}
        for why, count in counts.most_common()
    ]


def mask(person_id: str) -> str:
    """The last two characters of an id; none of a short id, which two would give away."""
    return f"…{person_id[-2:]}" if len(person_id) > 3 else "…"


def _reasons_of(row: Any, places: Mapping[str, tuple[str, str]]) -> list[Reason]:
    """What a row in error says: paths and rules of its document, or the receiver's answer."""
    said = (row.api_response or "").strip()
    ours = said.startswith(NOT_SENT)
    reasons = []
    for part in said.removeprefix(NOT_SENT).split("; ") if ours else [said]:
        path, colon, rule = part.partition(": ")
        path = _POSITION.sub("[]", path)
        table, column = places.get(path, (None, None))
        if not colon or " " in path:
            path, rule = None, part
        reasons.append(
            Reason(
                row.person_id, NOT_VALID if ours else NOT_TAKEN, rule or "no reason was given",
                table, column, path, noted_at=row.last_updated,
            )
        )  # fmt: skip
    return reasons


def held_back(connection: Connection, staging: Staging) -> list[str]:
    """Ids of all children who are held back."""
    statement = select(attention.c.person_id).where(
        attention.c.staging_table == staging.name,
        attention.c.outcome == Unsent.HELD_BACK.value,
        *staging.mine_by(attention.c.person_id),
    )
    return sorted(set(connection.execute(statement).scalars()))


def _rows(connection: Connection, staging: Staging, stage: str) -> Sequence[Any]:
    """The entries of a stage, of the shard's children."""
    return connection.execute(
        select(attention).where(
            attention.c.staging_table == staging.name,
            attention.c.stage == stage,
            *staging.mine_by(attention.c.person_id),
        )
    ).all()


def _key(entry: Any) -> tuple:
    """What makes two entries the same one, whether from the table or not."""
    return (
        _kept_id(entry.person_id), str(entry.outcome), entry.rule, entry.source_table,
        entry.source_column, entry.path, entry.children,
    )  # fmt: skip


def _kept_id(person_id: str | None) -> str | None:
    """An id as it is kept: cut where the table takes no longer one. Such an id is never sent."""
    return person_id[:_ID_CHARACTERS] if person_id else None


def _hold(
    connection: Connection, staging: Staging, entries: Sequence[Entry]
) -> dict[str, str | None]:
    """Let the rows of these children say why nothing is sent; what they said before is the answer.

    A row that says already that its child is held back keeps what was kept of it.
    """
    reasons: dict[str, list[str]] = {}
    for entry in entries:
        reasons.setdefault(entry.person_id or "", []).append(str(entry))
    t = staging.table.c
    said = database.locking(select(t.person_id, t.api_response), staging.table)
    staged = dict(map(tuple, database.rows_among(connection, said, t.person_id, list(reasons))))
    kept = select(attention.c.person_id, attention.c.replaced_response).where(
        attention.c.staging_table == staging.name,
        attention.c.outcome == Unsent.HELD_BACK.value,
    )
    before: dict[str, str | None] = staged | dict(
        map(tuple, database.rows_among(connection, kept, attention.c.person_id, list(reasons)))
    )
    responses = {
        person_id: f"{Unsent.HELD_BACK}: {'; '.join(why)}"[:_RESPONSE_CHARACTERS]
        for person_id, why in reasons.items()
    }
    _respond(connection, staging, {one: responses[one] for one in staged if one in responses})
    return before


def _respond(connection: Connection, staging: Staging, responses: Mapping[str, str | None]) -> None:
    """Write `api_response` of these children, who are staged."""
    t = staging.table.c
    database.update_each(
        connection,
        update(staging.table).values(api_response=bindparam("said")),
        [{"person": person_id, "said": said} for person_id, said in responses.items()],
        key=("person", t.person_id),
        written={"said": t.api_response},
    )


def _release(connection: Connection, staging: Staging, released: Sequence[Any]) -> int:
    """Let rows say again what they said before, unless something new was said or holds them."""
    t = staging.table.c
    by_person = {row.person_id: row.replaced_response for row in released}
    still = select(t.person_id).where(
        t.api_response.like(f"{Unsent.HELD_BACK}: %"), ~staging.held_back
    )
    held = database.locking(still, staging.table)
    people = [one for (one,) in database.rows_among(connection, held, t.person_id, list(by_person))]
    _respond(connection, staging, {one: by_person[one] for one in people if one in by_person})
    return len(by_person)
