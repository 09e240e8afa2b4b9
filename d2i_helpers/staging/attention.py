"""Children who need attention, and why: written by the stage that found it, read by people.

A child who is held back has an entry for as long as nothing of it may be sent; `Staging.held_back`
is the one place that says so to those who send. Its row says the same in `api_response`, and says
again what it said before once the child is released.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.staging.rows import Staging, utc_now
from d2i_helpers.states import Unsent
from d2i_helpers.tables import attention

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
    """Write those of a stage's entries that are not there yet, and hold back whom they name.

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
    connection.execute(insert(attention), rows)


def remove_others(
    connection: Connection,
    staging: Staging,
    stage: str,
    entries: Iterable[Entry],
    *,
    only: Collection[str] = (),
) -> int:
    """Take out the entries of a stage that no longer hold, and release whom nothing else holds.

    Args:
        entries: all that hold today.
        only: look at these children alone (a pilot); empty: at all.

    Returns:
        Number of children that were released.
    """
    kept = {_key(entry) for entry in entries}
    wanted = {_kept_id(one) for one in only}
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
    statement = select(attention).where(attention.c.staging_table == staging.name)
    return list(connection.execute(statement.order_by(attention.c.id)))


def held_back(connection: Connection, staging: Staging) -> list[str]:
    """Ids of all children who are held back."""
    statement = select(attention.c.person_id).where(
        attention.c.staging_table == staging.name,
        attention.c.outcome == Unsent.HELD_BACK.value,
    )
    return sorted(set(connection.execute(statement).scalars()))


def _rows(connection: Connection, staging: Staging, stage: str) -> Sequence[Any]:
    return connection.execute(
        select(attention).where(
            attention.c.staging_table == staging.name, attention.c.stage == stage
        )
    ).all()


def _key(one: Any) -> tuple:
    return (
        _kept_id(one.person_id), str(one.outcome), one.rule, one.source_table, one.source_column,
        one.path, one.children,
    )  # fmt: skip


def _kept_id(person_id: str | None) -> str | None:
    """An id as it is kept: one that no table could hold is shortened, which nobody sends."""
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
    before: dict[str, str | None] = {}
    for ids in database.in_batches(list(reasons)):
        kept = select(attention.c.person_id, attention.c.replaced_response).where(
            attention.c.staging_table == staging.name,
            attention.c.outcome == Unsent.HELD_BACK.value,
            attention.c.person_id.in_(ids),
        )
        said = select(t.person_id, t.api_response).where(t.person_id.in_(ids))
        before.update(tuple(row) for row in connection.execute(said))
        before.update(tuple(row) for row in connection.execute(kept))
    rows = [
        {"person": one, "said": f"{Unsent.HELD_BACK}: {'; '.join(why)}"[:_RESPONSE_CHARACTERS]}
        for one, why in reasons.items()
    ]
    if rows:
        connection.execute(
            update(staging.table)
            .where(t.person_id == bindparam("person"))
            .values(api_response=bindparam("said")),
            rows,
        )
    return before


def _release(connection: Connection, staging: Staging, released: Sequence[Any]) -> int:
    """Let rows say again what they said before, unless something new was said or holds them."""
    t = staging.table.c
    by_person = {row.person_id: row.replaced_response for row in released}
    rows = [{"person": one, "said": said} for one, said in by_person.items()]
    if rows:
        connection.execute(
            update(staging.table)
            .where(
                t.person_id == bindparam("person"),
                t.api_response.like(f"{Unsent.HELD_BACK}: %"),
                ~staging.held_back,
            )
            .values(api_response=bindparam("said")),
            rows,
        )
    return len(rows)
