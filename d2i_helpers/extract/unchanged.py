"""Which persons have to be read: those whose rows, or what else a document depends on, changed.

One pass over the source tables gives each person's fingerprint. Where the mark of an earlier run
has the same one, and still holds, the person would be found as before, and is not read. Where all
have to be read, it is said why.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.salt import differences, salt
from d2i_helpers.extract.whole_tables import WholeTables
from d2i_helpers.plain_english import in_a_row
from d2i_helpers.staging import Staging, marks, row_counts

# Where more of the marks that come first have changed, everybody is read: a page by its bounds
# costs less than one by a list of ids.
_MOST_CHANGED = 0.5

Same = np.ndarray[Any, np.dtype[np.bool_]]
Take = Callable[[marks.Held], None]


@dataclass(frozen=True)
class Changed:
    """The persons who have to be read."""

    ids: list[Any]  # as the database holds them
    strangers: list[str]  # ids with a mark that no person has any more


@dataclass(frozen=True)
class Everybody:
    """Everybody has to be read."""

    why: str  # a part of a sentence, without a child's data
    may_change_documents: bool = False  # what they are made with is not as in the last run


NO_MARKS = Everybody("no earlier run has kept what it found")
REASSESSED = Everybody("`reassess` is set")
MOST_HAVE_CHANGED = Everybody("the rows of more than half of them have changed")
_A_LATER_DAY = Everybody("the last run was for a later day")
_NOT_HANDED_OVER = Everybody("the driver cannot hand over a value of a table as a whole")
_SEVERAL_TYPES = Everybody("ids of one column are of several types")
_NOBODY = Everybody("the source holds no person")


def why_marks_do_not_hold(kept: Sequence[marks.Made], today_salt: str, day: dt.date) -> Everybody:
    """Why marks say nothing of a day.

    Args:
        kept: what they are of.
    """
    named = dict.fromkeys(name for one in kept for name in differences(one.salt, today_salt))
    if named:
        return Everybody(f"since the last run {in_a_row(named)} changed", True)
    if any(one.day > day.isoformat() for one in kept):
        return _A_LATER_DAY
    return NO_MARKS


def salt_of(documents: Documents) -> str:
    """The salt of a run; `check` of the reader comes before it."""
    reader = documents.reader
    return salt(reader.engine, documents.settings, documents.spec, documents.window,
                reader.reads_as())  # fmt: skip


def read_whole(
    connection: Connection, documents: Documents, staging: Staging
) -> WholeTables | Everybody:
    """Read every table from beginning to end; where that says nothing of persons, why.

    Raises:
        DatabaseError: the database refused a query.
    """
    tables = WholeTables(documents.reader, row_counts.stored(connection, staging.name))
    try:
        tables.read(connection)
    except documents.reader.deployed.unreadable as error:
        # a value that the driver cannot hand over; pages find out which
        if not database.may_be_about_a_value(error):
            raise
        connection.rollback()
        return _NOT_HANDED_OVER
    if tables.unclear:
        return _SEVERAL_TYPES
    return tables if len(tables.persons) else _NOBODY


def find_changed(
    connection: Connection,
    documents: Documents,
    tables: WholeTables,
    staging: Staging,
    day: dt.date,
    take: Take,
) -> Changed | Everybody:
    """Compare today's rows with the marks.

    Args:
        tables: as they are today.
        day: of the run.
        take: called with the marks of persons who need not be read, in parts; only if there is a
            result.
    """
    compared = _compare(connection, tables, staging, day, take)
    connection.commit()
    if compared is None:
        return MOST_HAVE_CHANGED
    same, strangers = compared
    documents.counts["without_id"] += tables.without_id + tables.unreadable_id
    documents.counts["persons_read"] += tables.unreadable_id
    ids = [] if same.all() else tables.raw_ids(connection, ~same)
    return Changed(ids, strangers)


def _compare(
    connection: Connection, tables: WholeTables, staging: Staging, day: dt.date, take: Take
) -> tuple[Same, list[str]] | None:
    """For each person whether all is as marked; and marked ids that are gone. None: read all."""
    same = np.zeros(len(tables.persons), bool)
    strangers: list[str] = []
    for number, part in enumerate(marks.stored(connection, staging, day)):
        places, there = tables.places(part.person_ids)
        held = there & (tables.fingerprints[places] == np.array(part.fingerprints, np.int64))
        held &= np.array(part.holds, bool) & np.array(part.as_staged(), bool)
        if not number and np.count_nonzero(~held) > _MOST_CHANGED * len(held):
            return None
        same[places[held]] = True
        strangers += compress(part.person_ids, (~there).tolist())
        take(part.only(held.tolist()))
    return same, strangers
