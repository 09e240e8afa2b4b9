"""Marks: what extract found of each person, kept with the fingerprint of the rows it was found in.

A mark holds while the fingerprint is the same, its day has not passed, and what it depends on
beside the rows (the salt) is the same. It says what extract would find again, so the person need
not be read. It never says what is staged: a mark holds only while its document is staged, and as it
was written. Marks can be removed at any time; it costs one full extract.

Which salt and day marks are of is kept for each shard by itself, so that a shard with another salt
says nothing of the others' children. What was kept for shards of another number, or for the whole,
counts only if all of it agrees.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import compress

import orjson
import xxhash
from sqlalchemy import ColumnElement, and_, case, delete, or_, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import inclusion, marks
from d2i_helpers.settings import WHOLE, Shard, read_shard
from d2i_helpers.staging.lease import take_turn
from d2i_helpers.staging.rows import Staging
from d2i_helpers.staging.states import RowState

LONGEST_ID = 48  # characters of a child's id in the tables; a longer one has no mark
_FACTS = "marks_"  # with which the names of both begin
_SALT_FACT, _DAY_FACT = f"{_FACTS}salt", f"{_FACTS}day"  # behind them the shard, if it is one
_AT_A_TIME = 1000  # marks in memory

Problems = tuple[tuple[str, str], ...]  # (path, rule) of what was left out of a document


@dataclass(slots=True)
class Mark:
    """What was found of a person."""

    person_id: str
    fingerprint: int  # of the source rows
    valid_until: dt.date  # last day of a run for which it holds
    counts: bytes  # as `extract.documents` counts and writes them
    problems: Problems = ()
    current_hash: bytes | None = None  # of the document; None: not in the cohort
    text_fingerprint: int | None = None  # of the document's text
    accepted_by: int | None = None  # `Validator.fingerprint` of the checks that the text passed
    reasons: str = ""  # inclusion sets, comma-separated
    left_out: str | None = None  # why the person is not in the cohort


@dataclass(frozen=True)
class Held:
    """Some marks, and what is staged of the same persons; column by column."""

    person_ids: Sequence[str]
    holds: Sequence[int]  # 1 where the mark holds if the source rows and the staged text are as was
    fingerprints: Sequence[int]
    counts: Sequence[bytes]
    problems: Sequence[str | None]  # as `problems_of` reads them
    text_fingerprints: Sequence[int | None]
    reasons: Sequence[str | None]
    left_out: Sequence[str | None]
    row_ids: Sequence[int | None]  # None where the person is not in the cohort; `texts` too
    texts: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.person_ids)

    def only(self, wanted: Sequence[bool]) -> Held:
        """Those marks for which a truth value is given."""
        if all(wanted):
            return self
        columns = (getattr(self, column.name) for column in fields(self))
        return Held(*(list(compress(column, wanted)) for column in columns))

    def as_staged(self) -> list[bool]:
        """Of each mark whether the text that is staged is the one that was marked."""
        return [
            text is None or one == text_fingerprint(text)
            for text, one in zip(self.texts, self.text_fingerprints, strict=True)
        ]


def text_fingerprint(text: str) -> int:
    """The hash of a stored text, as a signed number of 64 bits."""
    number = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
    return number - (1 << 64) if number >> 63 else number


def begin(
    staging: Staging, salt: str, day: dt.date, *, anew: bool = False
) -> tuple[bool, list[Made]]:
    """Take the marks of the table if they hold for this salt, else remove them.

    Args:
        salt: what documents depend on beside their rows.
        day: the day of the run; marks that a run for a later day made say nothing of it.
        anew: remove them in any case.

    Returns:
        Whether there may be marks that hold; and what those that were there before are of.
    """

    def look(connection: Connection) -> tuple[bool, list[Made]]:
        take_turn(connection, staging.name, staging.shard)
        kept = _kept(connection, staging)
        holds = not anew and _hold(kept, staging.shard, salt, day)
        others = any(one.of not in (1, staging.shard.of) for one in kept)
        if not holds:
            # what shards of another number left is not told apart by children: all of it goes
            mine = () if others else staging.mine_by(marks.c.person_id)
            connection.execute(delete(marks).where(marks.c.staging_table == staging.name, *mine))
        now = _kept_from_now(kept, staging.shard, Made(salt, day.isoformat()), holds=holds)
        _keep(connection, staging, kept, now)
        return holds, list(kept.values())

    return staging.in_transaction(look)


def hold(connection: Connection, staging: Staging, salt: str, day: dt.date) -> bool:
    """Whether the marks of the shard's children were made for this salt, and for no later day."""
    return _hold(_kept(connection, staging), staging.shard, salt, day)


@dataclass(frozen=True)
class Made:
    """What the marks of a shard are of."""

    salt: str
    day: str  # of the last run, YYYY-MM-DD


def made(connection: Connection, staging: Staging) -> list[Made]:
    """What the marks that are kept are of: one for the whole, or one for each shard."""
    return list(_kept(connection, staging).values())


def _hold(kept: dict[Shard, Made], shard: Shard, salt: str, day: dt.date) -> bool:
    others = any(one.of not in (1, shard.of) for one in kept)
    if shard in kept and not (shard.is_whole or others):
        relevant = [kept[shard]]
    elif shard.is_whole or others:
        relevant = list(kept.values()) if _covers_all(kept) else []
    else:
        relevant = [kept[WHOLE]] if WHOLE in kept else []
    return bool(relevant) and all(
        made.salt == salt and made.day <= day.isoformat() for made in relevant
    )


def _covers_all(kept: dict[Shard, Made]) -> bool:
    numbers = {one.of for one in kept}
    return any(all(Shard(k, of) in kept for k in range(1, of + 1)) for of in numbers)


def _kept_from_now(
    kept: dict[Shard, Made], shard: Shard, made: Made, *, holds: bool
) -> dict[Shard, Made]:
    """What is kept once a shard has begun: of the whole, and of shards of one number."""
    if shard.is_whole:
        return {WHOLE: made}
    now = {one: old for one, old in kept.items() if one.of in (1, shard.of)}
    if len(now) < len(kept):  # shards of another number; all agreed, or all marks are gone
        days = max(old.day for old in kept.values())
        now = {WHOLE: Made(made.salt, days)} if holds else {}
    now[shard] = made
    if all(Shard(number, shard.of) in now for number in range(1, shard.of + 1)):
        now.pop(WHOLE, None)  # nobody's marks are of it any more
    return now


def _kept(connection: Connection, staging: Staging) -> dict[Shard, Made]:
    found: dict[Shard, dict[str, str]] = {}
    for name, value in staging.facts_like(connection, _FACTS).items():
        kind, _, shard = name.partition(" ")
        found.setdefault(read_shard(shard), {})[kind] = value
    return {
        shard: Made(both[_SALT_FACT], both[_DAY_FACT])
        for shard, both in found.items()
        if {_SALT_FACT, _DAY_FACT} <= both.keys()
    }


def _keep(
    connection: Connection, staging: Staging, before: dict[Shard, Made], now: dict[Shard, Made]
) -> None:
    for shard in before.keys() - now.keys():
        for name in (_SALT_FACT, _DAY_FACT):
            staging.forget_fact(connection, _of_shard(name, shard))
    for shard, made in now.items():
        staging.set_fact(connection, _of_shard(_SALT_FACT, shard), made.salt)
        staging.set_fact(connection, _of_shard(_DAY_FACT, shard), made.day)


def _of_shard(name: str, shard: Shard) -> str:
    return name if shard.is_whole else f"{name} {shard}"


def stored(connection: Connection, staging: Staging, day: dt.date) -> Iterator[Held]:
    """Every mark, in parts, and whether it holds on a day.

    A mark of a child does only if the child's row is live, says that it holds the marked document,
    and the inclusion sets on record are the marked ones.
    """
    m, t, i = marks.c, staging.table.c, inclusion.c
    staged = and_(
        t.person_id == m.person_id, t.current_hash == m.current_hash, staging.state.in_(_live())
    )
    recorded = and_(i.staging_table == m.staging_table, i.person_id == m.person_id)
    as_was = or_(m.current_hash.is_(None), and_(t.id.is_not(None), i.reasons == m.reasons))
    holds = case((and_(m.valid_until >= day.isoformat(), as_was), 1), else_=0)
    statement = (
        select(
            m.person_id, holds.label("holds"), m.fingerprint, m.counts, m.problems,
            m.text_fingerprint, m.reasons, m.left_out, t.id.label("row_id"),
            t.json_payload.label("text"),
        )
        .select_from(marks.outerjoin(staging.table, staged).outerjoin(inclusion, recorded))
        .where(m.staging_table == staging.name, *staging.mine_by(m.person_id))
    )  # fmt: skip
    for part in database.streamed(connection, statement, _AT_A_TIME):
        yield Held(*zip(*part, strict=True))


def fingerprints(
    connection: Connection, staging: Staging, person_ids: Sequence[str]
) -> dict[str, int]:
    """The marked fingerprints of those persons of whom is staged what was found with them.

    Of a person who was not in the cohort nothing is staged.
    """
    m, t = marks.c, staging.table.c
    live = and_(t.person_id == m.person_id, staging.state.in_(_live()))
    nothing = and_(m.current_hash.is_(None), t.id.is_(None))
    statement = (
        select(m.person_id, m.fingerprint)
        .select_from(marks.outerjoin(staging.table, live))
        .where(m.staging_table == staging.name, or_(nothing, t.current_hash == m.current_hash))
    )
    found = database.rows_among(connection, statement, m.person_id, person_ids)
    return {row.person_id: row.fingerprint for row in found}


def _live() -> list[ColumnElement[str]]:
    """The states of a row whose child is in the cohort."""
    return [database.constant(s) for s in RowState if s is not RowState.DELETED]


def problems_of(kept: str | None) -> Problems:
    """What was left out of a document, from the text that a mark keeps."""
    return tuple(map(tuple, orjson.loads(kept))) if kept else ()


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
            "accepted_by": mark.accepted_by,
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
    of_table = delete(marks).where(marks.c.staging_table == staging.name)
    database.delete_among(connection, of_table, marks.c.person_id, person_ids)
