"""Marks: what extract found of each person, kept with the fingerprint of the rows it was found in.

A mark holds while the fingerprint is the same, its day has not passed, and what it depends on
beside the rows (the salt) is the same. It says what extract would find again, so the person need
not be read. It never says what is staged: `valid` gives only marks whose document is staged, and as
it was written. Marks can be removed at any time; it costs one full extract.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import xxhash
from sqlalchemy import and_, case, delete, or_, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import inclusion, marks
from d2i_helpers.staging.rows import Staging
from d2i_helpers.staging.states import RowState

LONGEST_ID = 48  # characters of a child's id in the tables; a longer one has no mark
_SALT_FACT, _DAY_FACT = "marks_salt", "marks_day"
_AT_A_TIME = 2000  # marks in memory

Problems = tuple[tuple[str, str], ...]  # (path, rule) of what was left out of a document


@dataclass(slots=True)
class Mark:
    """What was found of a person."""

    person_id: str
    fingerprint: int  # of the source rows
    valid_until: dt.date  # last day of a run for which it holds
    counts: bytes  # numbers of 16 bits, as `extract.documents` counts
    problems: Problems = ()
    current_hash: bytes | None = None  # of the document; None: not in the cohort
    text_fingerprint: int | None = None  # of the document's text
    reasons: str = ""  # inclusion sets, comma-separated
    left_out: str | None = None  # why the person is not in the cohort


def text_fingerprint(text: str) -> int:
    """The hash of a stored text, as a signed number of 64 bits."""
    number = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
    return number - (1 << 64) if number >> 63 else number


def begin(staging: Staging, salt: str, day: dt.date, *, anew: bool = False) -> bool:
    """Take the marks of the table if they hold for this salt, else remove them.

    Args:
        salt: what documents depend on beside their rows.
        day: the day of the run; marks that a run for a later day made say nothing of it.
        anew: remove them in any case.

    Returns:
        Whether there may be marks that hold.
    """

    def look(connection: Connection) -> bool:
        holds = not anew and hold(connection, staging, salt, day)
        if not holds:
            connection.execute(delete(marks).where(marks.c.staging_table == staging.name))
            staging.set_fact(connection, _SALT_FACT, salt)
        staging.set_fact(connection, _DAY_FACT, day.isoformat())
        return holds

    return staging.in_transaction(look)


def hold(connection: Connection, staging: Staging, salt: str, day: dt.date) -> bool:
    """Whether the marks of the table were made for this salt, and for no later day."""
    made_for = staging.fact(connection, _DAY_FACT)
    same_salt = staging.fact(connection, _SALT_FACT) == salt
    return same_salt and made_for is not None and made_for <= day.isoformat()


def stored(connection: Connection, staging: Staging, day: dt.date) -> Iterator[Sequence[Any]]:
    """`person_id`, `fingerprint` and `holds` (1 where the day has not passed) of every mark."""
    m = marks.c
    holds = case((m.valid_until >= day.isoformat(), 1), else_=0).label("holds")
    statement = select(m.person_id, m.fingerprint, holds).where(m.staging_table == staging.name)
    return database.streamed(connection, statement, _AT_A_TIME)


def valid(connection: Connection, staging: Staging, day: dt.date) -> Iterator[Sequence[Any]]:
    """The marks that hold on a day, if the person's source rows are the same; in parts.

    A mark of a child comes only if the child's row is live, says that it holds the marked document,
    and the inclusion sets on record are the marked ones.

    Returns:
        Rows with the columns of a mark, and of the staging row `row_id` and `text` (both null where
        the person is not in the cohort).
    """
    m, t, i = marks.c, staging.table.c, inclusion.c
    live = [database.constant(s) for s in RowState if s is not RowState.DELETED]
    staged = and_(
        t.person_id == m.person_id,
        t.current_hash == m.current_hash,
        staging.state.in_(live),
    )
    recorded = and_(i.staging_table == m.staging_table, i.person_id == m.person_id)
    statement = (
        select(
            m.person_id, m.fingerprint, m.counts, m.problems, m.text_fingerprint, m.reasons,
            m.left_out, t.id.label("row_id"), t.json_payload.label("text"),
        )
        .select_from(marks.outerjoin(staging.table, staged).outerjoin(inclusion, recorded))
        .where(
            m.staging_table == staging.name,
            m.valid_until >= day.isoformat(),
            or_(m.current_hash.is_(None), and_(t.id.is_not(None), i.reasons == m.reasons)),
        )
    )  # fmt: skip
    return database.streamed(connection, statement, _AT_A_TIME)


def problems_of(mark: Any) -> Problems:
    """What was left out of the document of a row of `valid`."""
    return tuple(map(tuple, orjson.loads(mark.problems))) if mark.problems else ()


def put(staging: Staging, found: Sequence[Mark], *, among_others: bool) -> None:
    """Keep what was found of some persons, in the place of what was kept of them.

    Args:
        among_others: whether older marks may be there.
    """
    rows = [
        {
            "staging_table": staging.name,
            "person_id": mark.person_id,
            "fingerprint": mark.fingerprint,
            "valid_until": mark.valid_until.isoformat(),
            "current_hash": mark.current_hash,
            "text_fingerprint": mark.text_fingerprint,
            "reasons": mark.reasons or None,
            "left_out": mark.left_out,
            "problems": orjson.dumps(mark.problems).decode() if mark.problems else None,
            "counts": mark.counts,
        }
        for mark in found
    ]

    def write(connection: Connection) -> None:
        if among_others:
            remove(connection, staging, [mark.person_id for mark in found])
        database.insert_rows(connection, marks, rows)

    if rows:
        staging.in_transaction(write)


def remove(connection: Connection, staging: Staging, person_ids: Sequence[str]) -> None:
    """Remove the marks of these persons."""
    for some in database.in_batches(person_ids):
        connection.execute(
            delete(marks).where(marks.c.staging_table == staging.name, marks.c.person_id.in_(some))
        )
