"""One pass over every source table: keys and fingerprints of all rows, and nothing else of them.

Each table is read once, from beginning to end, whatever the number of children. Eight bytes a row
and eight a key stay in memory, until no other table hangs on it. A shard reads all rows too, and
adds up those of its own children: to ask the database whose each row is would cost more than the
rows.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Select, Text, cast, column, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import dialects, packed_rows
from d2i_helpers.document.source_rows import Read, key_text
from d2i_helpers.extract.deployed_tables import source_table
from d2i_helpers.extract.fingerprints import mixed, of_database, row_fingerprints
from d2i_helpers.extract.per_person import (
    NO_KEY,
    Keyed,
    Numbers,
    PerPerson,
    key_numbers,
    needs_a_look,
)
from d2i_helpers.extract.sources import STATUTORY, SourceReader
from d2i_helpers.extract.written_ids import WrittenIds, alike

_AT_A_TIME = 1000  # rows in memory; more do not stay in the cache of a processor
_ROWS_A_PACK = 8_000  # at most, as far as the last count tells, where a database packs rows
_MANY = 1_000_000  # rows of a table that nobody has counted yet


@dataclass(frozen=True)
class _Table:
    """Keys and fingerprints of the rows of a table, in the same order."""

    keyed: Keyed
    hashes: Numbers


@dataclass(frozen=True)
class _Part:
    """Some of a table's rows."""

    ids: Mapping[str, Sequence[Any]]  # by column: those by which rows are found or lead to others
    nulls: Mapping[str, int]  # how many of them are null
    blanks: Mapping[str, bool]  # whether there may be a blank in one, or one that is no text
    hashes: Numbers  # the fingerprint of each row


class WholeTables:
    """What a pass over all tables found."""

    def __init__(self, reader: SourceReader, before: Mapping[str, int]) -> None:
        """``before``: how many rows each table had when they were last counted."""
        self._reader, self._deployed, self._before = reader, reader.deployed, before
        self._tables: dict[str, _Table] = {}
        self._with_blanks: dict[str, set[str]] = {}  # ids, by the id without its outer blanks
        self._fold = False
        self.rows: dict[str, int] = {}  # by table
        self.without_id = 0  # persons whose id is null
        self.unreadable_id = 0  # persons whose id is blank or cannot be read
        self.persons = np.zeros(0, np.int64)  # the key of each person once, sorted
        self.fingerprints = np.zeros(0, np.int64)  # of each of them
        self.repeated = np.zeros(0, np.int64)  # keys of several persons
        # an id in the statutory cohort cannot be read, or persons' ids are of several types
        self.unclear = False
        self._kinds: set[type] = set()  # of persons' ids

    def read(self, connection: Connection) -> None:
        """Read every table.

        Raises:
            DatabaseError: the database ended a query each time.
            Exception: the driver cannot hand over a value (`DeployedTables.unreadable`).
        """
        reader = self._reader
        self._fold = self._deployed.folds_capitals(connection)
        if statutory := reader.settings.statutory_cohort_table:
            self._read_statutory(connection, statutory)
        self._find_persons(connection)
        sums = PerPerson(self.persons, functools.partial(self._keyed, connection))
        self.fingerprints = mixed(self._sums(connection, sums), len(self.persons))
        connection.commit()

    def _find_persons(self, connection: Connection) -> None:
        self._table(connection, self._reader.plan.person.table)
        keys = self._person_keys(connection)
        self.persons, times = np.unique(keys[keys != NO_KEY], return_counts=True)
        self.repeated = self.persons[times > 1]
        self.unreadable_id = int((keys == NO_KEY).sum()) - self.without_id

    def _sums(self, connection: Connection, sums: PerPerson) -> Iterator[Numbers]:
        """For every query of the plan its rows' hashes, added up a person.

        A table is read when the first query needs it, and let go after the last one.
        """
        queries = self._reader.queries
        own = [read.table for read in queries]
        needed = [read.tables for read in queries]
        for number, table in enumerate(own):
            found = self._table(connection, table)
            yield sums.of(queries[number], found.hashes)
            if table not in own[number + 1 :]:  # others may still hang on its keys
                self._tables[table] = replace(found, hashes=np.zeros(0, np.int64))
            for no_longer in needed[number].difference(*needed[number + 1 :]):
                self._tables.pop(no_longer, None)
            sums.keep_for(queries[number + 1 :])

    def _person_keys(self, connection: Connection) -> Numbers:
        """The key of each person who is to be looked at."""
        person = self._reader.plan.person
        if self._reader.settings.part.is_whole:
            return self._tables[person.table].keyed.of(person.key)
        self.without_id = 0
        keys = [np.zeros(0, np.int64)]
        for ids in self._ids(connection):
            keys.append(key_numbers(ids, fold=self._fold))
            self.without_id += ids.count(None)
        return np.concatenate(keys)

    def _keyed(self, connection: Connection, read: Read) -> Keyed:
        return self._table(connection, read.table).keyed

    def _table(self, connection: Connection, table: str) -> _Table:
        """A table, which is read where it is not in memory."""
        if table not in self._tables:
            found = database.read_again(connection, lambda: self._read(connection, table))
            self._tables[table], self.rows[table] = found, found.keyed.count
            if not self._deployed.is_there(table):
                # it may be, with none of the columns that are read
                self.rows[table] = self._deployed.row_count(connection, table)
        return self._tables[table]

    def _read(self, connection: Connection, table: str) -> _Table:
        if not self._deployed.is_there(table):
            return _Table(Keyed(), np.zeros(0, np.int64))
        persons_at = [name for at, name in self._deployed.person_columns() if at == table]
        packed = self._packed(connection, table)
        found = None if packed is None else self._put_together(table, persons_at, packed)
        if found is None:
            found = self._put_together(table, persons_at, self._row_by_row(connection, table))
        assert found is not None
        return found

    def _put_together(
        self, table: str, persons_at: Sequence[str], parts: Iterator[_Part | None]
    ) -> _Table | None:
        """The keys and fingerprints of all parts; None as soon as there is none of a part."""
        person = self._reader.plan.person
        # arrays that grow where they are: to join parts at the end would take the place of both
        numbers = {name: array("q") for name in self._reader.plan.key_columns(table)}
        hashes = array("q")
        nulls = 0
        for part in parts:
            if part is None:
                return None
            for name, values in part.ids.items():
                blanks = part.blanks[name]
                keys = key_numbers(values, fold=self._fold, blanks=blanks)
                numbers[name].frombytes(keys.tobytes())
                if blanks and name in persons_at:
                    self._note_blanks(values)
                if (table, name) == (person.table, person.key):
                    nulls += part.nulls[name]
                    self._note_kinds(values)
            hashes.frombytes(part.hashes.tobytes())
        if table == person.table:
            self.without_id = nulls
        columns = {name: np.frombuffer(held, np.int64) for name, held in numbers.items()}
        return _Table(Keyed(len(hashes), columns), np.frombuffer(hashes, np.int64))

    def _packed(self, connection: Connection, table: str) -> Iterator[_Part | None] | None:
        """A table's rows as the database packs them; None where it does not.

        In place of a part comes None where its rows cannot be told apart.
        """
        reader = self._reader
        keys = reader.plan.key_columns(table)
        if not (
            self._deployed.hashes_there
            and all(self._deployed.is_packable(table, name) for name in keys)
        ):
            return None
        source = source_table(table)
        texts = [
            cast(self._deployed.expression(source, table, name), Text()).label(name)
            for name in keys
        ]
        rows = select(*texts, self._deployed.fingerprint(source, table)).select_from(source)
        packs = 1 << (self._before.get(table, _MANY) // _ROWS_A_PACK).bit_length()
        statement = dialects.of(connection).packed(rows, packs)
        return None if statement is None else _unpacked(connection, statement, keys)

    def _row_by_row(self, connection: Connection, table: str) -> Iterator[_Part]:
        """A table's rows one by one, as every database gives them."""
        reader = self._reader
        layout, keys = reader.plan.tables[table], reader.plan.key_columns(table)
        source = source_table(table)
        names = keys if self._deployed.hashes_there else layout
        wanted: list[ColumnElement] = [
            self._deployed.expression(source, table, name).label(name) for name in names
        ]
        if self._deployed.hashes_there:
            wanted.append(self._deployed.fingerprint(source, table))
        places = {name: names.index(name) for name in keys}
        for rows in _parts(connection, select(*wanted).select_from(source)):
            ids = {name: [row[place] for row in rows] for name, place in places.items()}
            blanks = {name: needs_a_look(values) for name, values in ids.items()}
            nulls = {name: blanks[name] and values.count(None) for name, values in ids.items()}
            hashes = (
                of_database(np.array([row[-1] for row in rows], np.int64))
                if self._deployed.hashes_there
                else row_fingerprints(rows)
            )
            yield _Part(ids, nulls, blanks, hashes)

    def _read_statutory(self, connection: Connection, name: str) -> None:
        person: ColumnElement = column("person_id")
        statement = select(person).select_from(source_table(name))
        values = database.read_again(
            connection,
            lambda: [row[0] for rows in _parts(connection, statement) for row in rows],
        )
        self._note_blanks(values)
        keys = key_numbers(values, fold=self._fold)
        self.unclear = any(v is not None and k == NO_KEY for v, k in zip(values, keys, strict=True))
        keyed = Keyed(len(values), {"person_id": keys})
        self._tables[STATUTORY] = _Table(keyed, np.ones(len(values), np.int64))

    def _note_kinds(self, values: Sequence[Any]) -> None:
        """See whether ids are of one type that can be compared with ids of other tables.

        SQLite keeps any value in any column: a number or bytes beside the text of the same id.
        Which of their rows come together depends on the page.
        """
        self._kinds.update(map(type, values))
        kinds = self._kinds - {type(None)}
        self.unclear |= len(kinds) > 1 or bool(kinds & {bytes, bytearray, memoryview})

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
            return WrittenIds.read(connection, self._deployed)
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
        keys = key_numbers(person_ids, fold=self._fold)
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
        """The ids of the persons who are to be looked at, as the database holds them."""
        person = self._reader.plan.person
        source, text = self._deployed.id_column(person.table, person.key)
        key = self._deployed.expression(source, person.table, person.key)
        for rows in _parts(
            connection, select(key).select_from(source).where(*self._deployed.mine(text))
        ):
            yield [row[0] for row in rows]
        connection.commit()


def _unpacked(
    connection: Connection, statement: Select, keys: Sequence[str]
) -> Iterator[_Part | None]:
    """The parts of a packed table; None in place of one whose rows cannot be told apart."""
    for packs in database.streamed(connection, statement, 1):
        for pack in packs:
            found = packed_rows.unpacked(pack)
            if found is None:
                yield None
                return
            yield _Part(
                dict(zip(keys, found.texts, strict=True)),
                dict(zip(keys, found.nulls, strict=True)),
                dict(zip(keys, found.blanks, strict=True)),
                of_database(np.asarray(found.numbers, np.int64)),
            )


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
