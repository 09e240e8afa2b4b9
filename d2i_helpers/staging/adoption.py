"""Adopting a staging table that other software filled: what that means, and doing it.

The first stage that needs it adopts a table by itself (`rehash.rehash_if_needed`). Here a person
sees beforehand what it would do. What is counted comes from the same function that does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Engine, bindparam, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import facts
from d2i_helpers.document.canonical import ids_are_volatile, text_hasher
from d2i_helpers.document.validation import Validator
from d2i_helpers.errors import DatabaseError
from d2i_helpers.payload_spec import Document, Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging.evidence import CANONICAL_FACT, Hasher
from d2i_helpers.staging.lease import working_on
from d2i_helpers.staging.rehash import (
    ONE_ROW_EACH,
    baseline_is_doubtful,
    is_purge,
    obstacle,
    rehash_if_needed,
    rehashed,
)
from d2i_helpers.staging.rows import Staging
from d2i_helpers.staging.states import RowState, Status, read_row_state, read_status

_ROWS_AT_A_TIME = 500


@dataclass
class Adoption:
    """What adopting a table would do; counts and masked ids only."""

    table: str
    adopted_before: bool = False
    rows: int = 0
    states: Counter[tuple[str, str]] = field(default_factory=Counter)  # words as they are stored
    hashes_changed: int = 0
    first_run: Counter[str] = field(default_factory=Counter)  # messages by kind
    doubts: Counter[str] = field(default_factory=Counter)  # rows by what cannot be said of them
    obstacle: str | None = None  # why the table cannot be adopted as it stands


# what cannot be promised of a row, in words
TAKEN_AT_ITS_WORD = "say sent without a baseline: their document is taken for what was received"
OTHER_BASELINE = "say sent with another baseline: their document is taken for what was received"
UNSURE_BASELINE = (
    "wait with a baseline: D2I's SQL writes there what was staged, whether it was received or not; "
    "their whole document is sent"
)
PURGED = (
    "say sent, and their last message was a purge: whether the receiver holds the child is not "
    "said; their whole document is sent"
)
GONE_UNSENT = "are deleted without a baseline: no purge is sent, whatever the receiver holds"
UNREADABLE = "hold a document that is no JSON: the next extract writes it anew"
UNKNOWN_WORD = "have a row_state or submission_status that nobody knows: they count as waiting"


def examine(engine: Engine, settings: Settings, spec: Spec, table: str) -> Adoption:
    """What adopting a staging table would do; nothing is written.

    Args:
        table: name of the staging table.

    Raises:
        DatabaseError: the table is not there, lacks columns or keeps documents as JSON.
    """
    staging = Staging(engine, table)
    hasher = text_hasher(spec, ids_are_volatile(spec, settings))
    work = _Examination(Adoption(table), hasher, Validator(spec))
    with database.reading(engine) as connection:
        database.require_staging(connection, table)
        known = database.has_table(connection, facts)
        found = work.adoption
        found.adopted_before = known and staging.fact(connection, CANONICAL_FACT) is not None
        found.obstacle = obstacle(connection, staging)
        for row in _rows(connection, staging):
            work.look(row)
    return work.adoption


def adopt(engine: Engine, settings: Settings, spec: Spec, table: str) -> int:
    """Adopt a staging table: from then on it is this project's.

    Returns:
        Number of rows whose hashes or baseline changed.

    Raises:
        DatabaseError: the table cannot be used as it stands; says what to do.
        LockError: a run works on it.
    """
    staging = Staging(engine, table)
    with database.reading(engine) as connection:
        database.require_staging(connection, table)
    database.create_staging(engine, table)
    with working_on(engine, [table]):
        return rehash_if_needed(staging, spec, ids_are_volatile(spec, settings))


def require_adoptable(found: Adoption) -> None:
    """Stop where a table cannot be adopted as it stands.

    Raises:
        DatabaseError: says why, and what to do.
    """
    if found.obstacle:
        raise DatabaseError(
            f"{found.table} cannot be adopted: {found.obstacle}.", hint=ONE_ROW_EACH
        )


def _rows(connection: Connection, staging: Staging) -> Iterator[Any]:
    t, last = staging.table.c, -1
    statement = (
        select(
            t.id, t.json_payload, t.previous_json_payload, t.partial_json_payload, t.current_hash,
            t.previous_hash, t.row_state, t.submission_status,
        )
        .where(t.id > bindparam("last"))
        .order_by(t.id)
        .limit(_ROWS_AT_A_TIME)
    )  # fmt: skip
    while rows := connection.execute(statement, {"last": last}).all():
        yield from rows
        last = rows[-1].id


@dataclass
class _Examination:
    """What is the same for every row."""

    adoption: Adoption
    hasher: Hasher
    validator: Validator

    def look(self, row: Any) -> None:
        """Count what becomes of one row."""
        found = self.adoption
        found.rows += 1
        found.states[_word(row.row_state), _word(row.submission_status)] += 1
        if found.adopted_before:
            return
        new = rehashed(row, self.hasher, taken_over=True)
        before = (database.as_bytes(row.current_hash), database.as_bytes(row.previous_hash))
        found.hashes_changed += before != (new["current_hash"], new["previous_hash"])
        found.doubts.update(_doubts(row, new))
        found.first_run[self._message(row, new)] += 1

    def _message(self, row: Any, new: dict[str, Any]) -> str:
        """What delta and submit would send of the row, the source left aside."""
        held = new["previous_json_payload"] is not None
        if read_row_state(row.row_state) is RowState.DELETED:
            return "purges" if held else "nothing"
        if new["current_hash"] is None:
            return "unreadable"
        if new["current_hash"] == new["previous_hash"] and not baseline_is_doubtful(row):
            return "nothing"
        if self.validator.problems(_object(row.json_payload)):
            return "not_valid"
        return "changes" if held else "whole_documents"


def _word(stored: str | None) -> str:
    """A state as it is stored, shortened: it is another software's own."""
    return (stored or "").strip()[:20] or "(empty)"


def _doubts(row: Any, new: dict[str, Any]) -> Iterator[str]:
    state, status = read_row_state(row.row_state), read_status(row.submission_status)
    known_word = (row.submission_status or "").strip().lower() in list(Status)
    if state is None or not known_word:
        yield UNKNOWN_WORD
    if new["current_hash"] is None:
        yield UNREADABLE
    if state is RowState.DELETED:
        if row.previous_json_payload is None:
            yield GONE_UNSENT
    elif status is Status.SENT:
        if is_purge(row.partial_json_payload):
            yield PURGED
        elif row.previous_json_payload is None:
            yield TAKEN_AT_ITS_WORD
        elif new["previous_json_payload"] != row.previous_json_payload:
            yield OTHER_BASELINE
    elif baseline_is_doubtful(row):
        yield UNSURE_BASELINE


def _object(text: str) -> Document:
    """The JSON object of a text; an empty one where it is none."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
