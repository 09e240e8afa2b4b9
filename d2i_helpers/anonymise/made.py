"""What the twin was last made from, so that only the documents of children who changed are made.

A shard looks at all originals, and keeps what it made: whose pseudonym is of it.

For each live row of both staging tables are kept: hash and size of its document, a mark of all that
a twin depends on beside the documents, and, sealed under the key, digests of what the leak check
compares between children. A row of the original does not name that of the twin, so nobody is linked
by them. Where both rows are as they were, the child's document stays, and the digests stand for it
in the check of all against all. A child's document is made anew where either row differs (the child
changed, other software wrote to one of the tables), where the key, a rule or a setting is another
one, and where it was drawn as it is because of what another child has.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.engine import Connection

from d2i_helpers import __version__, database
from d2i_helpers.anonymise.digests import Seal, keyed_digest
from d2i_helpers.anonymise.keyed import Keyed
from d2i_helpers.database.tables import anonymised
from d2i_helpers.payload_spec import Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging
from d2i_helpers.staging.states import RowState, read_row_state

_ROWS_AT_A_TIME = 1000
_SEEN_BY = "originals seen by shard "  # how the name of a shard's fact begins
_NOT_STAGED = (RowState.DELETED, None)  # a row in such a state is written anew
# raise it when the same original and key give another document, or other digests are kept of it
RULES = 2


class Noted(NamedTuple):
    """A row of one of the tables."""

    id: int
    person_id: str
    compared: bytes  # what the leak check compares of it; nothing: it has to be read


class OfTwin(NamedTuple):
    """A document of the twin that was made."""

    hash: bytes
    compared: bytes | None  # what the leak check compares of it; None: it is read each time
    new_text: str | None  # of a row that was not there before; None: the text may be another one


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
        self.made_by = Keyed(key).digest(b"made\0" + depends_on.encode()).hex()
        self._seal, self._digest = Seal(key), keyed_digest(key)
        self._some_stayed = False
        self._looked_at = 0  # a number made of the originals, which is the same in any order
        self._of_source = and_(~source.is_deleted, ~source.held_back)
        self._of_twin = and_(~twin.is_deleted, ~twin.held_back, *twin.mine)

    def live(self, connection: Connection) -> int | None:
        """How many children's documents stay, if both tables hold what they held at the last time.

        None: one of them does not. Of a whole twin the originals are counted, of a shard its rows.
        """
        originals = self._as_noted(connection, self._source, self._of_source)
        if originals is None:
            return None
        twins = self._as_noted(connection, self._twin, self._of_twin)
        if twins is None or not self._knows_originals(connection):
            return None
        return originals if self._twin.shard.is_whole else twins

    def _knows_originals(self, connection: Connection) -> bool:
        """Whether a shard has compared its twins with the originals as they are now.

        Their notes do not say so: whichever shard made the twin of one noted it.
        """
        if self._twin.shard.is_whole:
            return True
        t = self._source.table.c
        statement = select(t.person_id, t.current_hash).where(self._of_source)
        self._looked_at = 0
        for rows in database.streamed(connection, statement, _ROWS_AT_A_TIME):
            for row in rows:
                self._look_at(row)
        return self._twin.fact(connection, self._fact) == self._seen

    def _look_at(self, original: Any) -> None:
        document_hash = database.as_bytes(original.current_hash) or b""
        self._looked_at += self._digest(f"{document_hash.hex()} {original.person_id}")

    @property
    def _fact(self) -> str:
        return f"{_SEEN_BY}{self._twin.shard.number}"

    @property
    def _seen(self) -> str:
        return f"{self._twin.shard} {self._looked_at}"

    def _as_noted(
        self, connection: Connection, staging: Staging, which: ColumnElement[bool]
    ) -> int | None:
        """Number of these rows, if each is as it was and none is gone; else None."""
        rows = staging.table.outerjoin(anonymised, _noted(staging))
        same = func.sum(case((self._is_same(connection, staging), 1), else_=0))
        statement = select(func.count(), same).select_from(rows).where(which)
        live, as_they_were = connection.execute(statement).one()
        if live > int(as_they_were or 0):
            return None
        k = anonymised.c
        notes = select(func.count()).where(
            k.staging_table == staging.name, *staging.mine_by(k.person_id)
        )
        # as many notes as rows that have one: then nobody has to be looked for
        if connection.execute(notes).scalar_one() > live and self._is_gone(connection, staging):
            return None
        return live

    def _is_same(self, connection: Connection, staging: Staging) -> ColumnElement[bool]:
        """A row is as its note says (a condition)."""
        t, k = staging.table.c, anonymised.c
        return and_(
            k.made_by == self.made_by,
            k.document_hash == t.current_hash,
            k.document_size == database.size_of(connection, t.json_payload),
        )

    def _is_gone(self, connection: Connection, staging: Staging) -> bool:
        """Whether a child that was there is there no more."""
        mine = staging.mine_by(anonymised.c.person_id)
        gone = select(func.count()).where(*_of_gone(staging), *mine)
        return connection.execute(gone).scalar_one() > 0

    # ------------------------------------------------------------------ what need not be made anew
    def originals(self, connection: Connection) -> Iterator[Noted]:
        """Rows of all originals, with what is kept of those that are as they were."""
        self._looked_at = 0
        for row in self._rows(connection, self._source, self._of_source):
            self._look_at(row)
            yield Noted(row.id, row.person_id, self._opened(row) if row.compared else b"")

    def twins(self, connection: Connection) -> Iterator[Noted]:
        """Rows of the twin that are as they were, of which enough is kept."""
        for row in self._rows(connection, self._twin, self._of_twin):
            if row.compared and read_row_state(row.row_state) not in _NOT_STAGED:
                yield Noted(row.id, row.person_id, self._opened(row))

    def _opened(self, row: Any) -> bytes:
        return self._seal.turn(row.compared, bytes(row.current_hash), row.person_id)

    def _rows(
        self, connection: Connection, staging: Staging, which: ColumnElement[bool]
    ) -> Iterator[Any]:
        t, k = staging.table.c, anonymised.c
        compared = case((self._is_same(connection, staging), k.compared))
        statement = (
            select(t.id, t.person_id, t.row_state, t.current_hash, compared.label("compared"))
            .select_from(staging.table.outerjoin(anonymised, _noted(staging)))
            .where(which)
        )
        for rows in database.streamed(connection, statement, _ROWS_AT_A_TIME):
            yield from rows

    def forget(self, connection: Connection, is_mine: Callable[[str], bool]) -> None:
        """Keep nothing: what follows makes the twin anew, or that of a shard.

        Args:
            is_mine: whether the shard makes the twin of a child, by the child's id.
        """
        k = anonymised.c
        of_twin = [k.staging_table == self._twin.name, *self._twin.mine_by(k.person_id)]
        connection.execute(delete(anonymised).where(*of_twin))
        of_source = k.staging_table == self._source.name
        if self._twin.shard.is_whole:
            connection.execute(delete(anonymised).where(of_source))
            return
        noted = select(k.person_id).where(of_source)
        mine = [one for one in connection.execute(noted).scalars() if is_mine(one)]
        _forget(connection, self._source, mine)

    def forget_some(
        self, connection: Connection, person_ids: Sequence[str], pseudonyms: Sequence[str]
    ) -> None:
        """Forget children whose documents are made anew, by their ids in both tables."""
        self._some_stayed = True
        _forget(connection, self._source, person_ids)
        _forget(connection, self._twin, pseudonyms)

    def note_originals(
        self, connection: Connection, rows: Sequence[tuple[Any, bytes | None]]
    ) -> None:
        """Note originals as they were read.

        Args:
            rows: `person_id`, `current_hash` and `size`; one without a hash is read each time.
                Beside each what the leak check compares of it; None: it is read each time as well
                when anything changed.
        """
        database.insert_rows(
            connection,
            anonymised,
            [
                self._note(
                    self._source.name, row.person_id, bytes(row.current_hash), row.size, compared
                )
                for row, compared in rows
                if row.current_hash is not None and row.size is not None
            ],
        )

    def note_twins(self, connection: Connection, made: Mapping[str, OfTwin]) -> None:
        """Note documents of the twin that were made.

        Args:
            made: by pseudonym. Where a row has another hash, because it was refused, it is not
                noted.
        """
        if self._some_stayed:  # one that bears another child's id may be that of a child who left
            others = [pseudonym for pseudonym, one in made.items() if one.compared is None]
            _forget(connection, self._twin, others)
        sizes = {
            pseudonym: size
            for pseudonym, one in made.items()
            if one.new_text is not None
            and (size := database.size_of_text(connection, one.new_text)) is not None
        }
        sizes |= self._stored_sizes(connection, {p: made[p] for p in made.keys() - sizes.keys()})
        database.insert_rows(
            connection,
            anonymised,
            [
                self._note(self._twin.name, pseudonym, one.hash, sizes[pseudonym], one.compared)
                for pseudonym, one in made.items()
                if pseudonym in sizes
            ],
        )

    def _stored_sizes(self, connection: Connection, made: Mapping[str, OfTwin]) -> dict[str, int]:
        """The sizes of these documents as the database has them, without those that it has not."""
        t = self._twin.table.c
        statement = select(
            t.person_id, t.current_hash, database.size_of(connection, t.json_payload).label("size")
        )
        return {
            row.person_id: row.size
            for row in database.rows_among(connection, statement, t.person_id, list(made))
            if database.as_bytes(row.current_hash) == made[row.person_id].hash
        }

    def _note(
        self, name: str, person_id: str, document_hash: bytes, size: int, compared: bytes | None
    ) -> dict[str, Any]:
        return {
            "staging_table": name,
            "person_id": person_id,
            "document_hash": document_hash,
            "document_size": size,
            "made_by": self.made_by,
            "compared": compared and self._seal.turn(compared, document_hash, person_id),
        }

    def finish(self, connection: Connection, is_mine: Callable[[str], bool]) -> None:
        """Let the notes of both tables hold from now on.

        Rows of the twin that were not made today have none, but for those that stayed: what is
        noted of a row says that its original is there as well.

        Args:
            is_mine: as for `forget`.
        """
        if not self._twin.shard.is_whole:
            self._twin.set_fact(connection, self._fact, self._seen)
        if not self._some_stayed:  # then all notes are of today
            return
        self._forget_gone(connection, self._source, is_mine)
        self._forget_gone(connection, self._twin, lambda _pseudonym: True)

    def _forget_gone(
        self, connection: Connection, staging: Staging, is_mine: Callable[[str], bool]
    ) -> None:
        """Forget the children of one table who are there no more."""
        k = anonymised.c
        noted = select(k.person_id).where(*_of_gone(staging), *staging.mine_by(k.person_id))
        gone = [one for one in connection.execute(noted).scalars() if is_mine(one)]
        _forget(connection, staging, gone)


def _forget(connection: Connection, staging: Staging, person_ids: Sequence[str]) -> None:
    """Keep nothing of these children of one table."""
    of_table = delete(anonymised).where(anonymised.c.staging_table == staging.name)
    database.delete_among(connection, of_table, anonymised.c.person_id, person_ids)


def _noted(staging: Staging) -> ColumnElement[bool]:
    """Joins the notes to the rows of a table."""
    k = anonymised.c
    return and_(k.staging_table == staging.name, k.person_id == staging.table.c.person_id)


def _of_gone(staging: Staging) -> tuple[ColumnElement[bool], ...]:
    """A note is of a child who is there no more."""
    t, k = staging.table.c, anonymised.c
    is_there = exists(
        select(t.id).where(t.person_id == k.person_id, or_(~staging.is_deleted, staging.held_back))
    )
    return (k.staging_table == staging.name, ~is_there)


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


__all__ = ["Made", "Noted", "OfTwin", "depends_on"]
