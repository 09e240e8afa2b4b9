"""Where a day's changes wait for the guards, and the inclusion reasons that go with them.

Nothing here is a state of a staging row: those are written by `staging` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import inclusion, landing
from d2i_helpers.staging import Staged, Staging

Change = tuple[Staged, str]  # a document and the child's inclusion sets, comma-separated
_ROWS_AT_A_TIME = 5000


class Seen:
    """Which staging rows the source gave today: one bit a row, whatever the number of children."""

    def __init__(self, highest: int) -> None:
        """``highest``: the last row number before today's documents are written."""
        self.highest = highest
        self._bits = bytearray(highest // 8 + 1)

    def add(self, row_id: int) -> bool:
        """Mark a row; False where it was marked already."""
        place, bit = row_id // 8, 1 << row_id % 8
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits)))
        before = self._bits[place] & bit
        self._bits[place] |= bit
        return not before

    def __contains__(self, row_id: int) -> bool:
        place = row_id // 8
        return place < len(self._bits) and bool(self._bits[place] & 1 << row_id % 8)


def unseen(staging: Staging, seen: Seen) -> Iterator[list[tuple[int, str]]]:
    """(row id, person id) of rows that are not deleted and were not seen, in pages.

    Rows that were added today have higher numbers and are not judged.
    """
    t, last = staging.table.c, 0
    statement = (
        select(t.id, t.person_id)
        .where(t.id > bindparam("last"), t.id <= seen.highest, ~staging.is_deleted)
        .order_by(t.id)
        .limit(_ROWS_AT_A_TIME)
    )
    while True:
        with database.reading(staging.engine) as connection:
            rows = connection.execute(statement, {"last": last}).all()
        if not rows:
            return
        last = rows[-1].id
        gone = [(row.id, row.person_id) for row in rows if row.id not in seen]
        if gone:
            yield gone


class Landing:
    """The landing of one staging table, and the reasons kept beside it."""

    def __init__(self, staging: Staging) -> None:
        self.staging, self.engine, self.name = staging, staging.engine, staging.name
        self._any = False  # whether something has landed since it was emptied

    def empty(self) -> None:
        """Forget what an earlier run left; writes nothing where there is nothing."""
        mine = landing.c.staging_table == self.name
        with database.transaction(self.engine) as connection:
            if connection.execute(select(func.count()).select_from(landing).where(mine)).scalar():
                connection.execute(delete(landing).where(mine))
        self._any = False

    def put(self, changes: Sequence[Change]) -> None:
        """Let a page's changes land, in one transaction."""
        rows = [
            {
                "staging_table": self.name,
                "person_id": staged.person_id,
                "legacy_id": staged.legacy_id,
                "json_payload": staged.payload,
                "current_hash": staged.hash,
                "problem": staged.problem,
                "reasons": reasons,
            }
            for staged, reasons in changes
        ]
        with database.transaction(self.engine) as connection:
            connection.execute(insert(landing), rows)
        self._any = True

    def chunks(self, size: int) -> Iterator[list[Change]]:
        """What has landed, by person id; a chunk must be removed before the next is asked for."""
        statement = (
            select(landing)
            .where(landing.c.staging_table == self.name)
            .order_by(landing.c.person_id)
            .limit(size)
        )
        while True:
            with database.reading(self.engine) as connection:
                rows = connection.execute(statement).all()
            if not rows:
                return
            yield [
                (
                    Staged(
                        row.person_id,
                        row.legacy_id,
                        row.json_payload,
                        bytes(row.current_hash),
                        row.problem,
                    ),
                    row.reasons,
                )
                for row in rows
            ]

    def remove(self, connection: Connection, changes: Sequence[Change]) -> None:
        """Take a chunk out of the landing, in the transaction that stages it."""
        ids = [staged.person_id for staged, _ in changes]
        for some in database.in_batches(ids):
            connection.execute(
                delete(landing).where(
                    landing.c.staging_table == self.name, landing.c.person_id.in_(some)
                )
            )

    def landed(self, connection: Connection, ids: Sequence[str]) -> set[str]:
        """Which of these children have landed already."""
        if not self._any:
            return set()
        return set(self._by_person(connection, landing, landing.c.person_id, ids))

    # ------------------------------------------------------------------------------ reasons
    def reasons(self, connection: Connection, ids: Sequence[str]) -> dict[str, str]:
        """The inclusion sets on record, by person id."""
        return self._by_person(connection, inclusion, inclusion.c.reasons, ids)

    def write_reasons(self, connection: Connection, changes: Sequence[Change]) -> None:
        """Record the inclusion sets of these children where they differ."""
        before = self.reasons(connection, [staged.person_id for staged, _ in changes])
        new = {s.person_id: r for s, r in changes if before.get(s.person_id) != r}
        self.forget_reasons(connection, [person_id for person_id in new if person_id in before])
        if new:
            rows = [
                {"staging_table": self.name, "person_id": person_id, "reasons": reasons}
                for person_id, reasons in new.items()
            ]
            connection.execute(insert(inclusion), rows)

    def forget_reasons(self, connection: Connection, ids: Sequence[str]) -> None:
        """Take these children out of the record."""
        for some in database.in_batches(ids):
            connection.execute(
                delete(inclusion).where(
                    inclusion.c.staging_table == self.name, inclusion.c.person_id.in_(some)
                )
            )

    def forget_all_reasons(self, connection: Connection) -> None:
        """Take every child of this staging table out of the record."""
        connection.execute(delete(inclusion).where(inclusion.c.staging_table == self.name))

    def _by_person(
        self, connection: Connection, table: Any, column: ColumnElement, ids: Sequence[str]
    ) -> dict[str, Any]:
        statement = select(table.c.person_id, column).where(
            table.c.staging_table == self.name,
            table.c.person_id.in_(bindparam("ids", expanding=True)),
        )
        found: dict[str, Any] = {}
        for some in database.in_batches(ids):
            rows = connection.execute(statement, {"ids": list(some)})
            found.update((row[0], row[1]) for row in rows)
        return found
