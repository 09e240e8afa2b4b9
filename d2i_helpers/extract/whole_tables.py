"""One pass over every source table: keys and fingerprints of all rows, and nothing else of them.

Each table is read once, from beginning to end, whatever the number of children; a shard reads the
rows of its own. Sixteen bytes a row and key stay in memory.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Select, column, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import dialects
from d2i_helpers.document.source_rows import Read, key_text
from d2i_helpers.extract.fingerprints import fingerprints, row_fingerprints
from d2i_helpers.extract.per_person import NO_KEY, Keyed, Numbers, as_numbers, key_numbers
from d2i_helpers.extract.sources import STATUTORY, SourceReader, WrittenIds, alike, source_table

_AT_A_TIME = 5000  # rows in memory


@dataclass(frozen=True)
class _Table:
    """Keys and fingerprints of the rows of a table, in the same order."""

    keyed: Keyed
    hashes: Numbers


class WholeTables:
    """What a pass over all tables found."""

    def __init__(self, reader: SourceReader) -> None:
        self._reader = reader
        self._tables: dict[str, _Table] = {}
        self._with_blanks: dict[str, set[str]] = {}  # ids, by the id without its outer blanks
        self._fold = False
        self.rows: dict[str, int] = {}  # by table
        self.without_id = 0  # persons whose id is null
        self.unreadable_id = 0  # persons whose id is blank or cannot be read
        self.persons = np.zeros(0, np.int64)  # the key of each person once, sorted
        self.fingerprints = np.zeros(0, np.int64)  # of each of them
        self.repeated = np.zeros(0, np.int64)  # keys of several persons
        self.unclear = False  # an id in the statutory cohort cannot be read

    def read(self, connection: Connection) -> None:
        """Read every table.

        Raises:
            DatabaseError: the database ended a query each time.
            Exception: the driver cannot hand over a value (`SourceReader.unreadable`).
        """
        reader, plan = self._reader, self._reader.plan
        self._fold = reader.folds_capitals(connection)
        persons_at: dict[str, list[str]] = {table: [] for table in plan.tables}
        for table, name in reader.person_columns():
            persons_at.setdefault(table, []).append(name)
        for table in plan.tables:
            if not reader.is_there(table):
                self.rows[table] = 0
                continue
            read = functools.partial(self._read, connection, table, persons_at[table])
            found = database.read_again(connection, read)
            self._tables[table], self.rows[table] = found, found.keyed.count
        if statutory := reader.settings.statutory_cohort_table:
            self._read_statutory(connection, statutory)
        connection.rollback()
        self._find_persons()

    def _find_persons(self) -> None:
        person, reader = self._reader.plan.person, self._reader
        keys = self._tables[person.table].keyed.of(person.key)
        self.persons, times = np.unique(keys[keys != NO_KEY], return_counts=True)
        self.repeated = self.persons[times > 1]
        self.unreadable_id = int((keys == NO_KEY).sum()) - self.without_id
        self.fingerprints = fingerprints(reader.queries, self._hashes, self._keyed, self.persons)

    def _keyed(self, read: Read) -> Keyed:
        table = self._tables.get(read.table)
        return table.keyed if table else Keyed()

    def _hashes(self, read: Read) -> Numbers:
        table = self._tables.get(read.table)
        return table.hashes if table else np.zeros(0, np.int64)

    def _read(self, connection: Connection, table: str, persons_at: Sequence[str]) -> _Table:
        reader = self._reader
        layout, keys = reader.plan.tables[table], reader.plan.key_columns(table)
        source = source_table(table)
        names = keys if reader.hashes_there else layout
        wanted: list[ColumnElement] = [
            reader.expression(source, table, name).label(name) for name in names
        ]
        if reader.hashes_there:
            wanted.append(reader.fingerprint(source, table))
        places = {name: names.index(name) for name in keys}
        numbers: dict[str, array[int]] = {name: array("q") for name in keys}
        hashes = array("q" if reader.hashes_there else "Q")
        is_person = table == reader.plan.person.table
        nulls = 0
        statement = select(*wanted).select_from(source).where(*reader.of_shard(source, table))
        for rows in _parts(connection, statement):
            for name, place in places.items():
                values = [row[place] for row in rows]
                numbers[name].extend(key_numbers(values, fold=self._fold))
                if name in persons_at:
                    self._note_blanks(values)
                if is_person and name == reader.plan.person.key:
                    nulls += values.count(None)
            hashes.extend([row[-1] for row in rows] if reader.hashes_there
                          else row_fingerprints(rows))  # fmt: skip
        if is_person:
            self.without_id = nulls
        keyed = Keyed(len(hashes), {name: as_numbers(one) for name, one in numbers.items()})
        return _Table(keyed, as_numbers(hashes))

    def _read_statutory(self, connection: Connection, name: str) -> None:
        person: ColumnElement = column("person_id")
        mine = self._reader.mine(self._reader.types.text(person, (name, "person_id")))
        statement = select(person).select_from(source_table(name)).where(*mine)
        values = database.read_again(
            connection,
            lambda: [row[0] for rows in _parts(connection, statement) for row in rows],
        )
        self._note_blanks(values)
        keys = as_numbers(key_numbers(values, fold=self._fold))
        self.unclear = any(v is not None and k == NO_KEY for v, k in zip(values, keys, strict=True))
        keyed = Keyed(len(values), {"person_id": keys})
        self._tables[STATUTORY] = _Table(keyed, np.ones(len(values), np.int64))

    def _note_blanks(self, values: Sequence[Any]) -> None:
        texts = [value for value in values if type(value) is str]
        if list(map(str.strip, texts)) == texts:
            return
        for value in texts:
            if (key := key_text(value)) is not None and key != value:
                self._with_blanks.setdefault(key, set()).add(value)

    # ------------------------------------------------------------------------ what follows of it
    def written_ids(self, connection: Connection) -> WrittenIds:
        """How ids are written, as `WrittenIds.read` would find it."""
        if self._fold:  # what the database takes for one id, it alone can say
            return WrittenIds.read(connection, self._reader)
        repeated = set(self.repeated.tolist())
        variants: list[str] = []
        if repeated:
            for ids in self._ids(connection):
                keys = key_numbers(ids, fold=self._fold)
                pairs = zip(ids, keys, strict=True)
                variants += [str(raw) for raw, key in pairs if key in repeated]
        return WrittenIds(alike(variants), self._with_blanks)

    def places(self, person_ids: Sequence[str]) -> tuple[Numbers, Numbers]:
        """Where these persons are among `persons`, and whether they are there at all."""
        keys = as_numbers(key_numbers(person_ids, fold=self._fold))
        if not len(self.persons):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        places = np.minimum(np.searchsorted(self.persons, keys), len(self.persons) - 1)
        return places, self.persons[places] == keys

    def raw_ids(self, connection: Connection, wanted: Any) -> list[Any]:
        """The ids of some persons as the database holds them, one each.

        Args:
            wanted: a truth value for each of `persons`.
        """
        left = np.array(wanted)
        found: list[Any] = []
        for ids in self._ids(connection):
            places, there = self.places(ids)
            for number in np.flatnonzero(there & left[places]):
                if left[places[number]]:  # of ids that are alike one leads to the others
                    left[places[number]] = False
                    found.append(ids[number])
        return found

    def _ids(self, connection: Connection) -> Iterator[list[Any]]:
        person = self._reader.plan.person
        source = source_table(person.table)
        key = self._reader.expression(source, person.table, person.key)
        mine = self._reader.of_shard(source, person.table)
        for rows in _parts(connection, select(key).select_from(source).where(*mine)):
            yield [row[0] for row in rows]
        connection.rollback()


def _parts(connection: Connection, statement: Select) -> Iterator[list[Any]]:
    """The rows of a statement, some at a time, and never all of them in memory."""
    if dialects.of(connection).hands_over_at_once:
        yield from map(list, database.streamed(connection, statement, _AT_A_TIME))
        return
    result = connection.execute(statement)
    cursor: Any = result.cursor  # the driver's own rows, as `SourceReader` fetches them
    try:
        while rows := cursor.fetchmany(_AT_A_TIME):
            yield rows
    finally:
        result.close()  # also at a value that cannot be handed over, as `SourceReader` does
