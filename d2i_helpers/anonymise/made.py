"""What the twin was last made from, so that a day on which nothing changed costs one question.

A shard looks at all originals, and keeps what it made: whose pseudonym is of it.

For each live row of both staging tables are kept: hash and size of its document, and a mark of all
that a twin depends on beside the documents. A row of the original does not name that of the twin,
so nobody is linked by them. Where anything differs (a child changed, came or left, other software
wrote to either table, the key, a rule or a setting is another one), the whole twin is made anew.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, literal, or_, select
from sqlalchemy.engine import Connection

from d2i_helpers import __version__, database
from d2i_helpers.anonymise.keyed import Keyed
from d2i_helpers.database.tables import anonymised
from d2i_helpers.payload_spec import Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging

RULES = 1  # raise it when the same original and key give another document


class Made:
    """What is kept of both tables.

    Args:
        source: the staging table with the originals.
        twin: the anonymised one.
        depends_on: a text of all that the twin depends on beside originals and key.
        key: the pseudonym key.
    """

    def __init__(self, source: Staging, twin: Staging, depends_on: str, key: bytes) -> None:
        self._source, self._twin = source, twin
        shard = "" if twin.shard.is_whole else f"{twin.shard} "
        self._in_making = f"{shard}in the making, {source.name}"[:64]
        self.made_by = Keyed(key).digest(b"made\0" + depends_on.encode()).hex()

    def holds(self, connection: Connection) -> bool:
        """Whether both tables hold what they held when the twin was last made."""
        originals = and_(~self._source.is_deleted, ~self._source.held_back)
        return not (
            self._differs(connection, self._source, originals)
            or self._differs(connection, self._twin, and_(~self._twin.is_deleted, *self._twin.mine))
            or self._is_gone(connection, self._source)
            or self._is_gone(connection, self._twin)
        )

    def _differs(
        self, connection: Connection, staging: Staging, which: ColumnElement[bool]
    ) -> bool:
        """Whether one of these rows is not as it was, or was not there."""
        t, k = staging.table.c, anonymised.c
        kept = and_(k.staging_table == staging.name, k.person_id == t.person_id)
        differs = or_(
            k.person_id.is_(None),
            k.made_by != self.made_by,
            t.current_hash.is_(None),
            k.document_hash != t.current_hash,
            k.document_size != database.size_of(connection, t.json_payload),
        )
        rows = staging.table.outerjoin(anonymised, kept)
        statement = select(func.count()).select_from(rows).where(which, differs)
        return connection.execute(statement).scalar_one() > 0

    def _is_gone(self, connection: Connection, staging: Staging) -> bool:
        """Whether a child that was there is there no more."""
        t, k = staging.table.c, anonymised.c
        is_there = exists(
            select(t.id).where(
                t.person_id == k.person_id, or_(~staging.is_deleted, staging.held_back)
            )
        )
        mine = staging.mine_by(k.person_id)
        statement = select(func.count()).where(k.staging_table == staging.name, ~is_there, *mine)
        return connection.execute(statement).scalar_one() > 0

    def forget(self, connection: Connection, is_mine: Callable[[str], bool]) -> None:
        """Keep nothing: what follows makes the twin anew, or that of a shard.

        Args:
            is_mine: whether the shard makes the twin of a child, by the child's id.
        """
        k = anonymised.c
        names = [self._twin.name, self._in_making]
        if self._twin.shard.is_whole:
            names.append(self._source.name)
        else:
            noted = select(k.person_id).where(k.staging_table == self._source.name)
            mine = [one for one in connection.execute(noted).scalars() if is_mine(one)]
            for ids in database.in_batches(mine):
                of_source = (k.staging_table == self._source.name, k.person_id.in_(ids))
                connection.execute(delete(anonymised).where(*of_source))
        of_twin = self._twin.mine_by(k.person_id)
        for name in names:
            whose = of_twin if name == self._twin.name else ()
            connection.execute(delete(anonymised).where(k.staging_table == name, *whose))

    def note_originals(self, connection: Connection, rows: Sequence[Any]) -> None:
        """Note originals as they were read, under another name until `finish`.

        Args:
            rows: `person_id`, `current_hash` and `size`; one without a hash is read each time.
        """
        database.insert_rows(
            connection,
            anonymised,
            [
                {
                    "staging_table": self._in_making,
                    "person_id": row.person_id,
                    "document_hash": database.as_bytes(row.current_hash),
                    "document_size": row.size,
                    "made_by": self.made_by,
                }
                for row in rows
                if row.current_hash is not None and row.size is not None
            ],
        )

    def finish(self, connection: Connection) -> None:
        """Note the twin as it was written; the notes of both tables hold from now on.

        Originals are read in the order of their pseudonyms, and their notes came in that order. It
        would show whose twin is whose, so they are copied in the order of their own ids.
        """
        k, t = anonymised.c, self._twin.table.c
        notes = [k.person_id, k.document_hash, k.document_size, k.made_by]
        in_making = k.staging_table == self._in_making
        twin = [t.person_id, t.current_hash, database.size_of(connection, t.json_payload)]
        live = and_(~self._twin.is_deleted, t.current_hash.is_not(None), *self._twin.mine)
        for rows in (
            select(literal(self._source.name), *notes).where(in_making).order_by(k.person_id),
            select(literal(self._twin.name), *twin, literal(self.made_by)).where(live),
        ):
            names = [column.name for column in k]
            connection.execute(insert(anonymised).from_select(names, rows))
        connection.execute(delete(anonymised).where(in_making))


def depends_on(spec: Spec, settings: Settings, window_start: str, form: str) -> str:
    """All that a twin depends on beside the originals and the key.

    Args:
        window_start: first day of the window, which decides which way dates move.
        form: the name of the canonical form of the twin's hashes.
    """
    # the names that are drawn are Faker's
    versions = (RULES, __version__, importlib.metadata.version("faker"))
    tables = (settings.staging_table, settings.anon_table)
    shift = settings.max_date_shift_days
    return repr((*versions, spec.fingerprint, form, *tables, window_start, shift))


__all__ = ["Made", "depends_on"]
