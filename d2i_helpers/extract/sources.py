"""Reading the SSD: children in pages by id, and for each page one query a source.

Only needed columns are read, and without types: a value comes as the driver gives it and is judged
in Python, so that no damaged value stops a query and every database answers alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

from sqlalchemy import (
    Engine,
    Text,
    func,
    select,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import dialects
from d2i_helpers.document.source_rows import (
    Read,
    ReadPlan,
    SourceRow,
    few_tables_at_once,
    key_text,
)
from d2i_helpers.extract.apart import compared, to_be_read_apart
from d2i_helpers.extract.deployed_tables import DeployedTables, source_table
from d2i_helpers.extract.id_types import Kind
from d2i_helpers.extract.page_queries import PageQueries
from d2i_helpers.extract.spelling import as_parents_spell, respelt_ids
from d2i_helpers.extract.written_ids import WrittenIds
from d2i_helpers.payload_spec import Spec
from d2i_helpers.settings import Settings

STATUTORY = "(statutory cohort)"  # stands for its table among the queries


@dataclass(frozen=True)
class ReadPage:
    """Raw rows of some children: their own, and those of every query."""

    persons: list[SourceRow]
    found: dict[Read, list[SourceRow]]
    statutory: list[Any] | None  # person ids of the statutory cohort, where one is set
    # the rows as the database gave them, from which fingerprints are made; None: it could not hand
    # over some value, so that the rows are not as another query would give them
    as_given: dict[Read, list[SourceRow]] | None = None


class SourceReader:
    """Reads what a plan needs from the SSD of a profile."""

    def __init__(self, engine: Engine, settings: Settings, spec: Spec, plan: ReadPlan) -> None:
        self.engine, self.settings, self.plan = engine, settings, plan
        self.deployed = DeployedTables(engine, settings, spec, plan)
        self._types, self._person_at = self.deployed.types, self.deployed.person_at
        self._statements = PageQueries(self.deployed)
        self._dialect = dialects.of(engine)
        self._person_read = plan.read_of(plan.person.name)
        self._id_at = plan.at(plan.person.name, plan.person.key)
        self.written = WrittenIds()  # how ids are written; known once batches are read
        self._knows_written = False
        self._exact = True  # whether every value of the page came as the driver gives it

    @functools.cached_property
    def queries(self) -> list[Read]:
        """Every query of a page, that of the statutory cohort too, in the order of fingerprints.

        A pass over whole tables goes in this order as well, so few of them are to be in memory.
        """
        own = [Read(STATUTORY, "person_id")] if self.settings.statutory_cohort_table else []
        return few_tables_at_once([*self.plan.reads, *own])

    def reads_as(self) -> Any:
        """All that the values of a row depend on beside the database; for the salt."""
        return self.queries, self.deployed.reads_as()

    def count_without_id(self, connection: Connection) -> int:
        """Rows of persons whose id is null; no page holds them. They are of the first shard."""
        if not self.settings.part.is_first:
            return 0
        person = self.plan.person
        source = source_table(person.table)
        statement = select(func.count()).select_from(source)
        key = self.deployed.column(source, person.table, person.key)
        return connection.execute(statement.where(key.is_(None))).scalar_one()

    def count(self, connection: Connection) -> int | None:
        """Number of persons to be read, for the progress bar."""
        if self.settings.person_ids:
            return len(set(self.settings.person_ids))
        person = self.plan.person
        source, text = self.deployed.id_column(person.table, person.key)
        counting = select(func.count()).select_from(source).where(*self.deployed.mine(text))
        return connection.execute(counting).scalar_one()

    def without_person(self, connection: Connection) -> list[str]:
        """Ids of `person_ids` that no person has, sorted; compared as the database compares."""
        wanted = sorted(set(self.settings.person_ids))
        place = self.plan.at(self.plan.person.name, self.plan.person.key)
        held: set[str] = set()
        for ids in database.in_batches(wanted):
            given = self._as_parameters(connection, self._types.values(self._person_at, ids), ids)
            rows = self._rows(connection, self._person_read, "ids", given)
            held |= {(key_text(row[place]) or "").casefold() for row in rows}
        connection.commit()
        return [person_id for person_id in wanted if person_id.strip().casefold() not in held]

    def take_written(self, written: WrittenIds) -> None:
        """How ids are written, where somebody else has seen it."""
        self.written, self._knows_written = written, True

    def batches(
        self, connection: Connection, only: Sequence[Any] | None = None
    ) -> Iterator[ReadPage]:
        """Pages of children in the order of their ids; those of `person_ids` where it is set.

        Args:
            only: the raw ids of the children to read; None: those of `person_ids`, else all.
        """
        for page in self._pages(connection, only):
            yield from self._parted(connection, page)

    def _parted(self, connection: Connection, page: ReadPage) -> Iterator[ReadPage]:
        """A page without the children who are read apart, and a page for each of these."""
        ids = [row[self._id_at] for row in page.persons]
        keys = [key_text(one) for one in ids]
        fold = self.deployed.folds_capitals(connection)
        apart = (
            to_be_read_apart(self.plan, ids, page.found, self._dialect.as_compared, fold=fold)
            if len(set(keys)) > 1
            else None
        )
        if not apart:
            yield page
            return
        if any(stays := [key not in apart for key in keys]):
            yield _without(page, self._person_read, stays)
        for key in sorted(apart):
            self._exact = True
            # no others of that id, who come with a page of their own
            persons = [row for row, one in zip(page.persons, keys, strict=True) if one == key]
            given = self._in_every_form(connection, [row[self._id_at] for row in persons])
            yield self._batch(connection, "ids", given, persons)

    def _pages(self, connection: Connection, only: Sequence[Any] | None) -> Iterator[ReadPage]:
        self.deployed.folds_capitals(connection)
        if not self._knows_written:
            # it ends the reading transaction
            self.take_written(WrittenIds.read(connection, self.deployed))
        if only is not None:
            for raw in database.in_batches(only, self._ids_at_a_time):
                self._exact = True
                yield self._batch(connection, "ids", self._in_every_form(connection, raw), None)
            return
        if self.settings.person_ids:
            wanted = sorted(set(self.settings.person_ids))
            for ids in database.in_batches(wanted, self._ids_at_a_time):
                self._exact = True
                every_form = {form for value in ids for form in (value, *self.written.forms(value))}
                raw = self._types.values(self._person_at, sorted(every_form))
                yield self._batch(
                    connection, "ids", self._as_parameters(connection, raw, every_form), None
                )
            return
        first: Any = None
        firsts: set[Any] = set()
        while True:
            self._exact = True
            persons, following = self._persons(connection, first, firsts)
            if not persons:
                return
            raw = [row[self._id_at] for row in persons]
            if self._in_bounds(raw):
                bounds = {"first": raw[0], "last": raw[-1]} | self._only(raw)
                yield self._batch(connection, " ".join(bounds), bounds, persons)
            else:
                yield from self._batches_of_forms(connection, persons, raw)
            if following is None:
                return
            first = following

    def _in_bounds(self, raw: Sequence[Any]) -> bool:
        """Whether all rows of these persons lie between the first and the last of their ids.

        PostgreSQL gives an id of the type CHAR with the blanks that fill it up and casts it without
        them, so that the persons' table shows none. In a column of another type such an id comes
        before the first.
        """
        return self.written.in_bounds(raw) and not any(
            isinstance(one, str) and self._dialect.as_compared(one) != key_text(one) for one in raw
        )

    def _only(self, raw: list[Any]) -> dict[str, Any]:
        """The ids of a shard's page beside its bounds, so that no other table hashes them anew."""
        return {} if self.settings.part.is_whole else {"ids": self._listed(raw)}

    def _listed(self, raw: Iterable[Any]) -> Any:
        """Ids of the persons' own type as a parameter; made once for all queries of a page."""
        return self._dialect.listed(raw, self._types.of_values(self._person_at))

    @property
    def _ids_at_a_time(self) -> int:
        return min(self.settings.chunk_size, database.most_in_list())

    def _batches_of_forms(
        self, connection: Connection, persons: list[SourceRow], raw: list[Any]
    ) -> Iterator[ReadPage]:
        """Batches of children whose id is written with outer blanks in one table or another.

        Rows of one id come together, and ids that are alike but for blanks as far as one page holds
        them: a person who is there twice is told by the page.
        """
        by_key: dict[str, list[tuple[Any, SourceRow]]] = {}
        for pair in zip(raw, persons, strict=True):
            by_key.setdefault(key_text(pair[0]) or "", []).append(pair)
        for keys in database.in_batches(sorted(by_key), self._ids_at_a_time):
            some = [pair for key in keys for pair in by_key[key]]
            given = self._in_every_form(connection, [one for one, _ in some])
            yield self._batch(connection, "ids", given, [person for _, person in some])

    def _in_every_form(self, connection: Connection, raw: Sequence[Any]) -> dict[str, Any]:
        """Some persons' raw ids as parameters, with every form in which they are written."""
        forms = {form: None for one in raw for form in self.written.forms(one)}
        texts = {*forms, *(text for one in raw if (text := key_text(one)) is not None)}
        if self._types.kind(self._person_at) not in (Kind.NUMBER, Kind.UUID):
            raw = list(dict.fromkeys((*raw, *forms)))
        return self._as_parameters(connection, raw, texts)

    def _as_parameters(
        self, connection: Connection, raw: Iterable[Any], texts: Iterable[str]
    ) -> dict[str, Any]:
        """Some persons' ids, for columns of the type of theirs and as texts for all others."""
        of_text = {*texts}
        if self.deployed.folds_capitals(connection):
            of_text |= {text.lower() for text in of_text}
        return {"ids": self._listed(raw), "texts": self._dialect.listed(sorted(of_text), Text())}

    def _persons(
        self, connection: Connection, first: Any, firsts: set[Any]
    ) -> tuple[list[SourceRow], Any]:
        """Rows of the next children and the first id after them; equal ids are never parted.

        Args:
            firsts: the ids that pages began with, to which the next one is added. What is one id
                to the database for other reasons than are known here (accents, say) comes in any
                order: no page begins twice with one.
        """
        read, place = self._person_read, self._id_at
        whole = self.settings.part.is_whole
        limit = 1 + (self.settings.chunk_size if whole else self._ids_at_a_time)
        while True:
            kind = "page" if first is None else "page first"
            rows = self._rows(
                connection, read, kind, {} if first is None else {"first": first}, limit
            )
            if len(rows) < limit:
                return rows, None
            following = rows[-1][place]
            one, end = self._compared(connection, following), len(rows)
            while end and self._compared(connection, rows[end - 1][place]) == one:
                end -= 1  # they come together, at the end
            kept = rows[:end]
            if kept and following not in firsts:
                firsts.add(following)
                return kept, following
            limit *= 2

    def _compared(self, connection: Connection, raw: Any) -> Any:
        fold = self.deployed.folds_capitals(connection)
        return compared(raw, self._dialect.as_compared, fold=fold)

    def _batch(
        self, connection: Connection, kind: str, parameters: dict, persons: list[SourceRow] | None
    ) -> ReadPage:
        found: dict[Read, list[SourceRow]] = {}
        for read in self.plan.reads:
            if read == self._person_read and persons is not None:
                found[read] = persons
            else:
                found[read] = self._rows(connection, read, kind, parameters)
        statutory = None
        if self.settings.statutory_cohort_table:
            statutory = self._statutory(connection, kind, parameters)
        connection.commit()  # ends the reading transaction: no locks, no old snapshot
        as_given = dict(found) if self._exact else None
        if self.deployed.folds_capitals(connection):
            people = found[self._person_read]
            found = as_parents_spell(self.plan, people, found)
            ids = [row[self._id_at] for row in people]
            statutory = statutory and respelt_ids(statutory, ids)
        return ReadPage(found[self._person_read], found, statutory, as_given)

    def _rows(
        self,
        connection: Connection,
        read: Read,
        kind: str,
        parameters: dict[str, Any],
        limit: int | None = None,
    ) -> list[SourceRow]:
        """The rows of a query; again where the database ended it, and never in part.

        Raises:
            DatabaseError: the database refused the query, or ended it each time.
        """
        if not self.deployed.has_way(read):
            return []

        def fetch(as_text: frozenset[str], only: str | None = None) -> list[SourceRow]:
            statement = self._statements.statement(read, kind, limit, as_text, only)
            return database.read_again(
                connection, lambda: fetched(connection.execute(statement, parameters))
            )

        try:
            return fetch(frozenset())
        except self.deployed.unreadable as error:
            if not database.may_be_about_a_value(error):
                raise
            connection.rollback()
        self._exact = False
        return fetch(self._unreadable_columns(connection, read, fetch))

    def _unreadable_columns(
        self, connection: Connection, read: Read, fetch: Callable[..., list[SourceRow]]
    ) -> frozenset[str]:
        """Columns with a value that the driver cannot turn into a Python one, each tried alone."""
        found = set()
        for name in self.plan.reads[read]:
            try:
                fetch(frozenset(), name)
            except self.deployed.unreadable as error:
                if not database.may_be_about_a_value(error):
                    raise
                connection.rollback()
                found.add(name)
        return frozenset(found)

    def _statutory(self, connection: Connection, kind: str, parameters: dict) -> list[Any]:
        statement = self._statements.statutory(kind)
        return database.read_again(
            connection, lambda: [row[0] for row in connection.execute(statement, parameters)]
        )


def _without(page: ReadPage, persons: Read, stay: Sequence[bool]) -> ReadPage:
    """A page with some of its persons; rows of the others are left where they are."""
    found = {**page.found, persons: list(compress(page.found[persons], stay))}
    as_given = page.as_given
    if as_given is not None:
        as_given = {**as_given, persons: list(compress(as_given[persons], stay))}
    return replace(page, persons=found[persons], found=found, as_given=as_given)


def fetched(result: Any) -> list[SourceRow]:
    """The driver's own rows: nothing is left to convert, and they are read by position.

    Closed where a value cannot be handed over too: SQLite would go on to show the connection the
    database as it was then, and a stage would not find its own lease.
    """
    try:
        return result.cursor.fetchall()
    finally:
        result.close()
