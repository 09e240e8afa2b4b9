"""Which persons have to be read: those whose rows, or what else a document depends on, changed.

One pass over the source tables gives each person's fingerprint. Where the mark of an earlier run
has the same one, and still holds, the person would be found as before, and is not read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.salt import salt
from d2i_helpers.extract.whole_tables import WholeTables
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, marks, row_counts

# Where more persons than this have changed, all are read: a page by its bounds costs less than one
# by a list of ids.
_MOST_CHANGED = 0.5

Take = Callable[[marks.Held], None]


@dataclass(frozen=True)
class Changed:
    """The persons who have to be read."""

    ids: list[Any]  # as the database holds them
    strangers: list[str]  # ids with a mark that no person has any more
    rows: dict[str, int]  # number of rows of each source table


def salt_of(documents: Documents) -> str:
    """The salt of a run; `check` of the reader comes before it."""
    reader = documents.reader
    return salt(reader.engine, documents.settings, documents.spec, documents.window,
                reader.reads_as())  # fmt: skip


def find_changed(
    connection: Connection, documents: Documents, staging: Staging, settings: Settings, take: Take
) -> Changed | None:
    """Compare today's rows with the marks.

    Args:
        take: called with the marks of persons who need not be read, in parts; only if there is a
            result.

    Returns:
        None where everybody has to be read.

    Raises:
        DatabaseError: the database refused a query.
    """
    tables = WholeTables(documents.reader, row_counts.stored(connection, staging.name))
    try:
        tables.read(connection)
    except documents.reader.unreadable as error:
        # a value that the driver cannot hand over; pages find out which
        if not database.may_be_about_a_value(error):
            raise
        connection.rollback()
        return None
    if tables.unclear or not len(tables.persons):
        return None
    same, strangers = _look_at_marks(connection, tables, staging, settings.today)
    if np.count_nonzero(~same) > _MOST_CHANGED * len(same):
        return None
    same[:] = False
    for part in marks.valid(connection, staging, settings.today):
        places, there = tables.places(part.person_ids)
        prints = np.array(part.fingerprints, np.int64)
        held = there & (tables.fingerprints[places] == prints) & np.array(part.as_staged(), bool)
        same[places[held]] = True
        take(part.only(held.tolist()))
    connection.rollback()
    documents.counts["without_id"] += tables.without_id + tables.unreadable_id
    documents.counts["persons_read"] += tables.unreadable_id
    ids = [] if same.all() else tables.raw_ids(connection, ~same)
    if ids:
        documents.reader.take_written(tables.written_ids(connection))
    return Changed(ids, strangers, tables.rows)


def _look_at_marks(
    connection: Connection, tables: WholeTables, staging: Staging, day: dt.date
) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], list[str]]:
    """For each person whether its mark has the same fingerprint; and marked ids that are gone."""
    same = np.zeros(len(tables.persons), bool)
    strangers: list[str] = []
    for part in marks.stored(connection, staging, day):
        person_ids, prints, holds = zip(*part, strict=True)
        places, there = tables.places(person_ids)
        strangers += [one for one, known in zip(person_ids, there, strict=True) if not known]
        alike = tables.fingerprints[places] == np.array(prints, np.int64)
        same[places[there & alike & np.array(holds, bool)]] = True
    connection.rollback()
    return same, strangers
