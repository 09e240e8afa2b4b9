"""Reading the SSD: children in pages by id, and for each page one query a source.

Only needed columns are read, and without types: a value comes as the driver gives it and is judged
in Python, so that no damaged value stops a query and every database answers alike. A source that
hangs on another is found through sub-queries up to the person, never with a query a child.
"""

from __future__ import annotations

import functools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import compress
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    column,
    func,
    null,
    select,
    true,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import dialects, shards
from d2i_helpers.database.tables import SSD_SCHEMA
from d2i_helpers.document.source_rows import (
    Read,
    ReadPlan,
    SourceRow,
    few_tables_at_once,
    key_text,
)
from d2i_helpers.errors import DatabaseError, SettingsError
from d2i_helpers.extract.apart import to_be_read_apart
from d2i_helpers.extract.id_types import IdTypes, Kind, Place
from d2i_helpers.extract.spelling import as_parents_spell, respelt_ids
from d2i_helpers.payload_spec import Source, Spec
from d2i_helpers.plain_english import subject
from d2i_helpers.settings import Settings

FINGERPRINT = "d2i_fingerprint"  # the last column of a row, where the database hashes it
STATUTORY = "(statutory cohort)"  # stands for its table among the queries
_BLANKS = ("\t", "\n", "\r", "\xa0")  # beside the blank itself
_AS_A_BLANK = str.maketrans(dict.fromkeys(_BLANKS, " "))


@dataclass(frozen=True)
class Gaps:
    """What the deployed SSD lacks of what a plan reads."""

    required: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReadPage:
    """Raw rows of some children: their own, and those of every query."""

    persons: list[SourceRow]
    found: dict[Read, list[SourceRow]]
    statutory: list[Any] | None  # person ids of the statutory cohort, where one is set
    # the rows as the database gave them, from which fingerprints are made; None: it could not hand
    # over some value, so that the rows are not as another query would give them
    as_given: dict[Read, list[SourceRow]] | None = None


@dataclass(frozen=True)
class WrittenIds:
    """Person ids that are written in more than one way.

    Databases do not agree on whether outer blanks and capitals make two ids of one. What this
    database takes for one id, or what differs by outer blanks alone, is looked at here. A blank is
    what `key_text` takes away at the ends; few databases take away all of that.
    """

    alike: frozenset[str] = frozenset()  # ids, without blanks, that stand for several persons
    with_blanks: dict[str, set[str]] = field(default_factory=dict)  # by `_one` of the id
    fold: bool = False  # ids that differ in capitals alone are one

    @classmethod
    def read(cls, connection: Connection, reader: SourceReader) -> WrittenIds:
        """Ask every table with person ids; one pass over each column."""
        person, fold = reader.plan.person, reader.folds_capitals(connection)
        with_blanks: dict[str, set[str]] = {}
        of_persons: set[str] = set()
        for table_name, name in reader.person_columns():
            source, text = reader.id_column(table_name, name)
            asked = ids_with_blanks(reader.engine, source, text, *reader.mine(text))
            for raw in _texts(connection, reader.engine, asked):
                if (key := key_text(raw)) is not None and key != raw:
                    with_blanks.setdefault(_one(key, fold=fold), set()).add(raw)
                    if (table_name, name) == (person.table, person.key):
                        of_persons.add(key)
        source, text = reader.id_column(person.table, person.key)
        variants = _several(
            connection, reader.engine, source, text, of_persons, with_blanks, fold=fold
        )
        asked = repeated_ids(source, text, *reader.mine(text))
        repeated = _texts(connection, reader.engine, asked)
        for some in database.in_batches(repeated):
            written = select(text.label("id")).select_from(source)
            written = written.where(_trimmed(text).in_(list(some)))
            variants += _texts(connection, reader.engine, written)
        connection.rollback()
        return cls(alike(variants), with_blanks, fold)

    def forms(self, raw: Any) -> set[str]:
        """Every form in which an id is written, beside the given one."""
        key = key_text(raw)
        if key is None:
            return set()
        written = self.with_blanks.get(_one(key, fold=self.fold), set())
        return {key, *written} - {raw} if type(raw) is str else {*written}

    def in_bounds(self, raw: Sequence[Any]) -> bool:
        """Whether all rows of these persons lie between the first and the last of their ids."""
        if not self.with_blanks:
            return True
        keys = (key_text(value) for value in raw)
        return not any(key is not None and self.is_with_blanks(key) for key in keys)

    def is_with_blanks(self, key: str) -> bool:
        """Whether some table has blanks around an id, which is given without them."""
        return bool(self.with_blanks) and _one(key, fold=self.fold) in self.with_blanks


def _one(key: str, *, fold: bool) -> str:
    """What an id has in common with all that are the same id but for blanks."""
    return key.casefold() if fold else key


def alike(variants: Iterable[str]) -> frozenset[str]:
    """Of ids that the database takes for repeated, those that are not written alike."""
    spelt: dict[str, Counter[str]] = {}
    for raw in variants:
        spelt.setdefault((key_text(raw) or "").casefold(), Counter())[raw] += 1
    # a blank within an id is one of several to the query, and nothing that ids have in common
    inside = Counter(key.translate(_AS_A_BLANK) for key in spelt)
    mixed = (
        counter
        for key, counter in spelt.items()
        if len(counter) > 1 or (counter.total() == 1 and inside[key.translate(_AS_A_BLANK)] == 1)
    )
    return frozenset(key for counter in mixed for raw in counter if (key := key_text(raw)))


def ids_with_blanks(
    engine: Engine, source: Table, text: ColumnElement, *mine: ColumnElement[bool]
) -> Select:
    """Ids of a column that may have blanks at their ends; the caller looks at each.

    Args:
        mine: the condition that an id is of the shard's children, for databases that have no
            pattern for all blanks: ids with others are not told apart by it.
    """
    asked = select(text.label("id")).select_from(source).distinct()
    not_plain = dialects.of(engine).is_not_plain(text)
    return (
        asked.where(text != _trimmed(text), *mine) if not_plain is None else asked.where(not_plain)
    )


def _several(
    connection: Connection,
    engine: Engine,
    source: Table,
    text: ColumnElement,
    keys: Iterable[str],
    with_blanks: Mapping[str, set[str]],
    *,
    fold: bool,
) -> list[str]:
    """The ids of a column, as they are written, that several of its rows have but for blanks."""
    forms = sorted({form for key in keys for form in (key, *with_blanks[_one(key, fold=fold)])})
    found: dict[str, list[str]] = {}
    for some in database.in_batches(forms):
        written = select(text.label("id")).select_from(source).where(text.in_(some))
        for raw in _texts(connection, engine, written):
            found.setdefault(_one(key_text(raw) or "", fold=fold), []).append(raw)
    return [raw for raws in found.values() if len(raws) > 1 for raw in raws]


def repeated_ids(source: Table, text: ColumnElement, *conditions: ColumnElement[bool]) -> Select:
    """Ids without blanks that the database finds more than once in a column.

    Grouped over a sub-query: SQL Server takes a parameter in GROUP BY for another expression.

    Args:
        conditions: on the rows that are looked at.
    """
    given = select(_trimmed(text).label("id")).select_from(source).where(text.is_not(None))
    ids = given.where(*conditions).subquery()
    return select(ids.c.id).group_by(ids.c.id).having(func.count() > 1)


def _trimmed(text: ColumnElement) -> ColumnElement:
    for blank in _BLANKS:
        text = func.replace(text, blank, " ")
    return func.ltrim(func.rtrim(text))


def _texts(connection: Connection, engine: Engine, ids: Select) -> list[str]:
    """The one column of a query as texts; what is no text is left out."""
    found = []
    inner = ids.subquery()
    for (raw,) in connection.execute(select(database.as_raw_text(engine, inner.c.id))):
        if isinstance(raw, bytes | memoryview):
            try:
                raw = bytes(raw).decode()
            except UnicodeDecodeError:
                continue
        if raw is not None:
            found.append(str(raw))
    return found


class SourceReader:
    """Reads what a plan needs from the SSD of a profile."""

    def __init__(self, engine: Engine, settings: Settings, spec: Spec, plan: ReadPlan) -> None:
        self.engine, self.settings, self.spec, self.plan = engine, settings, spec, plan
        self._dialect = dialects.of(engine)
        self._person_read = plan.read_of(plan.person.name)
        self._id_at = plan.at(plan.person.name, plan.person.key)
        self.written = WrittenIds()  # how ids are written; known once batches are read
        self._knows_written = False
        self._folds: bool | None = None  # whether ids that differ in capitals are one
        self._exact = True  # whether every value of the page came as the driver gives it
        self.types = IdTypes(engine)  # of the columns with ids; known once `gaps` has looked
        self._person_at = (plan.person.table, plan.person.key)
        self._absent: set[tuple[str, str]] = set()
        self._called: dict[tuple[str, str], str] = {}  # columns with another name here
        self._statements: dict[Any, Select] = {}
        # beside the driver's errors, what Python raises where a value cannot become one of its own
        self.unreadable: tuple[type[Exception], ...] = (
            *database.failures(engine), ValueError, OverflowError,
        )  # fmt: skip

    # ------------------------------------------------------------------------- what is there
    def check(self) -> list[str]:
        """Compare the deployed tables with the plan, and read what is missing as null.

        Returns:
            A warning for each optional table or column that is not there.

        Raises:
            DatabaseError: required ones are missing; lists all of them.
        """
        gaps = self.gaps()
        if gaps.required:
            raise DatabaseError(
                f"The SSD lacks {', '.join(gaps.required)}.",
                hint="Check `ssd_schema` and `cms`; a `spec_overlay` can name other columns.",
            )
        return [f"{name} is not there and is taken as empty" for name in gaps.optional]

    def gaps(self) -> Gaps:
        """The tables and columns that are not there, required and optional ones apart."""
        with database.reading(self.engine) as connection:
            return self._gaps(connection)

    def row_counts(self, connection: Connection) -> dict[str, int]:
        """Number of rows of each table that is read, by its name; 0 where it is not there."""
        names = {read.table for read in self.plan.reads}
        return {name: self.row_count(connection, name) for name in sorted(names)}

    def row_count(self, connection: Connection, name: str) -> int:
        """Number of rows of a table; 0 where it is not there."""
        source = source_table(name)
        if not database.has_table(connection, source):
            return 0
        return connection.execute(select(func.count()).select_from(source)).scalar_one()

    def name_here(self, table: str, name: str) -> str | None:
        """What a column is called here, once `gaps` has looked; None where it is not there."""
        return None if (table, name) in self._absent else self._called.get((table, name), name)

    def _gaps(self, connection: Connection) -> Gaps:
        gaps = Gaps()
        optional = self._optional_columns()
        present: dict[str, set[str]] = {}
        for read, columns in self.plan.reads.items():
            if read.table not in present:
                present[read.table] = database.columns_present(connection, source_table(read.table))
                if not present[read.table]:
                    named = gaps.optional if self._may_lack_table(read.table) else gaps.required
                    named.append(read.table)
            missing = {name for name in columns if name.lower() not in present[read.table]}
            others = self.spec.renamed_columns.get(read.table, {})
            for name in missing.intersection(others):
                if others[name].lower() in present[read.table]:
                    self._called[read.table, name] = others[name]
                    missing.remove(name)
            self._note_types(connection, read.table, columns)
            for name in sorted(missing):
                self._absent.add((read.table, name))
                label = f"{read.table}.{name}"
                if present[read.table] and label not in (*gaps.optional, *gaps.required):
                    (gaps.optional if (read.table, name) in optional else gaps.required).append(
                        label
                    )
        wanted = self.settings.statutory_cohort_table
        if wanted and "person_id" not in database.columns_present(connection, source_table(wanted)):
            gaps.required.append(f"{wanted}.person_id")
        if wanted:
            self._note_types(connection, wanted, ["person_id"])
        return gaps

    def _note_types(self, connection: Connection, table: str, columns: Iterable[str]) -> None:
        deployed = database.column_types(connection, source_table(table))
        for name in columns:
            called = self._called.get((table, name), name)
            self.types.note((table, name), deployed.get(called.lower()))

    def is_there(self, table: str) -> bool:
        """Whether a table is there, with at least one of the columns that are read."""
        return any((table, name) not in self._absent for name in self.plan.tables[table])

    def _may_lack_table(self, name: str) -> bool:
        """Whether the specification, and so the inclusion sets, can do without the table."""
        using = [source for source in self.spec.sources.values() if source.table == name]
        return all(source.optional for source in using)

    def _may_lack(self, source: Source) -> bool:
        ours = source.name in self.spec.sources
        return source.optional if ours else self._may_lack_table(source.table)

    def _optional_columns(self) -> set[tuple[str, str]]:
        """Columns that only optional sources or fields need."""
        needed: dict[tuple[str, str], bool] = {}
        for read in self.plan.reads:
            using = [s for s in self.plan.sources.values() if self.plan.read_of(s.name) == read]
            for name in self.plan.wanted(read):
                fields = [
                    one
                    for _, one in self.spec.fields()
                    if one.column == name and one.source in {s.name for s in using}
                ]
                may_lack = all(map(self._may_lack, using)) or (
                    bool(fields) and all(field.options.get("optional") for field in fields)
                )
                key = (read.table, name)
                needed[key] = needed.get(key, True) and may_lack
        return {key for key, may_lack in needed.items() if may_lack}

    # ------------------------------------------------------------------------------- reading
    def mine(self, text: ColumnElement) -> tuple[ColumnElement[bool], ...]:
        """The condition that an id is of the shard's children; none for the whole."""
        return shards.condition(self.engine, self.settings.part, text)

    def _mine(self, column: ColumnElement, place: Place) -> tuple[ColumnElement[bool], ...]:
        """The same of a column as it is deployed."""
        return self.mine(self.types.text(column, place))

    def require_clear_ids(self, connection: Connection) -> None:
        """See that no id changes its shard on its way into the staging table.

        It is staged without what surrounds it, and may be written otherwise than when first staged.
        Where the database and Python could see that differently, one shard would stage a child whom
        another one takes for gone. So every shard looks at all ids, and all come to one answer.

        Raises:
            SettingsError: there are such ids.
        """
        if self.settings.part.is_whole:
            return
        fold, person = self.folds_capitals(connection), self.plan.person
        source = source_table(person.table)
        ids = select(self.expression(source, person.table, person.key)).select_from(source)
        try:
            found = database.read_again(
                connection, lambda: [row[0] for row in _fetched(connection.execute(ids))]
            )
        except self.unreadable as error:
            if not database.may_be_about_a_value(error):
                raise
            found = [None]
            unclear = 1
        else:
            unclear = sum(not _is_clear(value, fold=fold) for value in found)
        connection.rollback()
        if unclear:
            raise SettingsError(
                f"`shard`: {subject(unclear, 'id', 'has')} characters, or a type, that the "
                f"database and this program may take differently, so shards cannot be told apart.",
                hint="Run without `shard`, or correct the ids in the source: outer characters that "
                "cannot be seen, letters beyond ASCII, decimal places.",
            )

    def count_without_id(self, connection: Connection) -> int:
        """Rows of persons whose id is null; no page holds them. They are of the first shard."""
        if not self.settings.part.is_first:
            return 0
        person = self.plan.person
        source = source_table(person.table)
        statement = select(func.count()).select_from(source)
        key = self._of(source, person.table, person.key)
        return connection.execute(statement.where(key.is_(None))).scalar_one()

    def count(self, connection: Connection) -> int | None:
        """Number of persons to be read, for the progress bar."""
        if self.settings.person_ids:
            return len(set(self.settings.person_ids))
        person = self.plan.person
        source, text = self.id_column(person.table, person.key)
        counting = select(func.count()).select_from(source).where(*self.mine(text))
        return connection.execute(counting).scalar_one()

    def without_person(self, connection: Connection) -> list[str]:
        """Ids of `person_ids` that no person has, sorted; compared as the database compares."""
        wanted = sorted(set(self.settings.person_ids))
        place = self.plan.at(self.plan.person.name, self.plan.person.key)
        held: set[str] = set()
        for ids in database.in_batches(wanted):
            given = self._as_parameters(self.types.values(self._person_at, ids), ids)
            rows = self._rows(connection, self._person_read, "ids", given)
            held |= {(key_text(row[place]) or "").casefold() for row in rows}
        connection.rollback()
        return [person_id for person_id in wanted if person_id.strip().casefold() not in held]

    def folds_capitals(self, connection: Connection) -> bool:
        """Whether ids that differ in capitals alone are one to this database."""
        if self._folds is None:
            self._folds = database.takes_capitals_alike(connection) or self.types.folds_capitals(
                self._compared_columns()
            )
        return self._folds

    @functools.cached_property
    def queries(self) -> list[Read]:
        """Every query of a page, that of the statutory cohort too, in the order of fingerprints.

        A pass over whole tables goes in this order as well, so few of them are to be in memory.
        """
        own = [Read(STATUTORY, "person_id")] if self.settings.statutory_cohort_table else []
        return few_tables_at_once([*self.plan.reads, *own])

    def reads_as(self) -> Any:
        """All that the values of a row depend on beside the database; for the salt."""
        return (
            list(self.plan.tables.items()), self.queries, sorted(self._absent),
            sorted(self._called.items()), self.hashes_there,
        )  # fmt: skip

    @functools.cached_property
    def hashes_there(self) -> bool:
        """Whether the database makes the fingerprints of rows."""
        return database.row_fingerprint(self.engine, [column("any")], [None]) is not None

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
        apart = (
            to_be_read_apart(
                self.plan, ids, page.found, self._dialect.as_compared, fold=bool(self._folds)
            )
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
            given = self._in_every_form([row[self._id_at] for row in persons])
            yield self._batch(connection, "ids", given, persons)

    def _pages(self, connection: Connection, only: Sequence[Any] | None) -> Iterator[ReadPage]:
        self.folds_capitals(connection)
        if not self._knows_written:
            # it ends the reading transaction
            self.take_written(WrittenIds.read(connection, self))
        if only is not None:
            for raw in database.in_batches(only, self._ids_at_a_time):
                self._exact = True
                yield self._batch(connection, "ids", self._in_every_form(raw), None)
            return
        if self.settings.person_ids:
            wanted = sorted(set(self.settings.person_ids))
            for ids in database.in_batches(wanted, self._ids_at_a_time):
                self._exact = True
                every_form = {form for value in ids for form in (value, *self.written.forms(value))}
                raw = self.types.values(self._person_at, sorted(every_form))
                yield self._batch(connection, "ids", self._as_parameters(raw, every_form), None)
            return
        first: Any = None
        while True:
            self._exact = True
            persons, following = self._persons(connection, first)
            if not persons:
                return
            raw = [row[self._id_at] for row in persons]
            if self.written.in_bounds(raw):
                bounds = {"first": raw[0], "last": raw[-1]} | self._only(raw)
                yield self._batch(connection, " ".join(bounds), bounds, persons)
            else:
                yield from self._batches_of_forms(connection, persons, raw)
            if following is None:
                return
            first = following

    def _only(self, raw: list[Any]) -> dict[str, Any]:
        """The ids of a shard's page beside its bounds, so that no other table hashes them anew."""
        return {} if self.settings.part.is_whole else {"ids": self._listed(raw)}

    def _listed(self, raw: Iterable[Any]) -> Any:
        """Ids of the persons' own type as a parameter; made once for all queries of a page."""
        return self._dialect.listed(raw, self.types.of_values(self._person_at))

    @property
    def _ids_at_a_time(self) -> int:
        return min(self.settings.chunk_size, database.most_in_list())

    def _batches_of_forms(
        self, connection: Connection, persons: list[SourceRow], raw: list[Any]
    ) -> Iterator[ReadPage]:
        """Batches of children whose id is written with outer blanks in one table or another.

        Ids that are alike but for blanks come together, as far as one page holds them.
        """
        together = sorted(zip(raw, persons, strict=True), key=lambda pair: key_text(pair[0]) or "")
        for some in database.in_batches(together, self._ids_at_a_time):
            given = self._in_every_form([one for one, _ in some])
            yield self._batch(connection, "ids", given, [person for _, person in some])

    def _in_every_form(self, raw: Sequence[Any]) -> dict[str, Any]:
        """Some persons' raw ids as parameters, with every form in which they are written."""
        forms = {form: None for one in raw for form in self.written.forms(one)}
        texts = {*forms, *(text for one in raw if (text := key_text(one)) is not None)}
        if self.types.kind(self._person_at) not in (Kind.NUMBER, Kind.UUID):
            raw = list(dict.fromkeys((*raw, *forms)))
        return self._as_parameters(raw, texts)

    def _as_parameters(self, raw: Iterable[Any], texts: Iterable[str]) -> dict[str, Any]:
        """Some persons' ids, for columns of the type of theirs and as texts for all others."""
        of_text = {*texts}
        if self._folds:
            of_text |= {text.lower() for text in of_text}
        return {"ids": self._listed(raw), "texts": self._dialect.listed(sorted(of_text), Text())}

    def _compared_columns(self) -> Iterator[tuple[Place, Place]]:
        """Each two columns of ids that are compared with one another."""
        for read in self.plan.reads:
            at = (read.table, read.by)
            for step in read.chain:
                yield at, (step.table, step.value)
                at = (step.table, step.by)
            yield at, self._person_at
        if self.settings.statutory_cohort_table:
            yield (self.settings.statutory_cohort_table, "person_id"), self._person_at

    def person_columns(self) -> list[tuple[str, str]]:
        """(table, column) of every column that holds person ids and is there."""
        reads = self.plan.reads
        ends = ((r.chain[-1].table, r.chain[-1].by) if r.chain else (r.table, r.by) for r in reads)
        found = [pair for pair in dict.fromkeys(ends) if pair not in self._absent]
        if self.settings.statutory_cohort_table:
            found.append((self.settings.statutory_cohort_table, "person_id"))
        return found

    def id_column(self, table_name: str, name: str) -> tuple[Table, ColumnElement]:
        """A table and a column of it as text."""
        source = source_table(table_name)
        return source, self.types.text(self._of(source, table_name, name), (table_name, name))

    def _persons(self, connection: Connection, first: Any) -> tuple[list[SourceRow], Any]:
        """Rows of the next children and the first id after them; equal ids are never parted."""
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
            kept = [row for row in rows if row[place] != following]
            if kept:
                return kept, following
            limit *= 2

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
        connection.rollback()  # ends the reading transaction: no locks, no old snapshot
        as_given = dict(found) if self._exact else None
        if self.folds_capitals(connection):
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
        if not self._has_way(read):
            return []

        def fetch(as_text: frozenset[str], only: str | None = None) -> list[SourceRow]:
            statement = self._statement(read, kind, limit, as_text, only)
            return database.read_again(
                connection, lambda: _fetched(connection.execute(statement, parameters))
            )

        try:
            return fetch(frozenset())
        except self.unreadable as error:
            if not database.may_be_about_a_value(error):
                raise
            connection.rollback()
        self._exact = False
        return fetch(self._unreadable_columns(connection, read, fetch))

    def _has_way(self, read: Read) -> bool:
        """Whether the columns are there by which the rows of a query hang on a person."""
        return not any(
            place in self._absent
            for place in ((read.table, read.by), *((s.table, s.by) for s in read.chain))
        )

    def _unreadable_columns(
        self, connection: Connection, read: Read, fetch: Callable[..., list[SourceRow]]
    ) -> frozenset[str]:
        """Columns with a value that the driver cannot turn into a Python one, each tried alone."""
        found = set()
        for name in self.plan.reads[read]:
            try:
                fetch(frozenset(), name)
            except self.unreadable as error:
                if not database.may_be_about_a_value(error):
                    raise
                connection.rollback()
                found.add(name)
        return frozenset(found)

    def _statutory(self, connection: Connection, kind: str, parameters: dict) -> list[Any]:
        name = self.settings.statutory_cohort_table or ""
        person: ColumnElement = column("person_id")
        condition = self._of_persons(kind, person, (name, "person_id"))
        statement = select(person).select_from(source_table(name)).where(condition)
        return database.read_again(
            connection, lambda: [row[0] for row in connection.execute(statement, parameters)]
        )

    def _statement(
        self,
        read: Read,
        kind: str,
        limit: int | None = None,
        as_text: frozenset[str] = frozenset(),
        only: str | None = None,
    ) -> Select:
        key = (read, kind, limit, as_text, only)
        if key not in self._statements:
            self._statements[key] = self._build(read, kind, limit, as_text, only)
        return self._statements[key]

    def _build(
        self, read: Read, kind: str, limit: int | None, as_text: frozenset[str], only: str | None
    ) -> Select:
        source = source_table(read.table).alias("t0")
        wanted: list[ColumnElement] = []
        for name in self.plan.reads[read] if only is None else [only]:
            one = self.expression(source, read.table, name)
            if name in as_text:
                one = database.as_raw_text(self.engine, one)
            wanted.append(one.label(name))
        if only is None and not as_text and self.hashes_there:
            wanted.append(self.fingerprint(source, read.table))
        statement = select(*wanted).select_from(source)
        by = self._of(source, read.table, read.by)
        statement = statement.where(self._membership(by, read, kind))
        if limit is not None:
            # in the statement's text: a parameter there becomes a count over all rows in T-SQL
            statement = statement.order_by(by).limit(limit)
        return statement

    def _membership(
        self, by: ColumnElement, read: Read, kind: str, depth: int = 1
    ) -> ColumnElement[bool]:
        """The condition on the person, carried down through a sub-query for each link."""
        at = (read.table, read.by)
        if not read.chain:
            return self._of_persons(kind, by, at)
        step = read.chain[0]
        source = source_table(step.table).alias(f"t{depth}")
        above = Read(step.table, step.by, read.chain[1:])
        test = self._membership(self._of(source, step.table, step.by), above, kind, depth + 1)
        value_at = (step.table, step.value)
        value = self.types.compared(self._of(source, *value_at), value_at, at)
        return self.types.compared(by, at, value_at).in_(
            select(value).select_from(source).where(test)
        )

    def _of_persons(self, kind: str, column: ColumnElement, place: Place) -> ColumnElement[bool]:
        """The condition that a column holds the id of a person of the page.

        The bounds of a page are ids of the persons' own type, and in its order: a column of another
        type is looked for among the persons.
        """
        person = self._person_at
        mine = () if "ids" in kind else self._mine(column, place)
        if not kind or self.types.alike(place, person):
            return and_(self._condition(kind, column), *mine)
        compared = self.types.compared(column, place, person)
        if kind == "ids":
            return self._dialect.among(compared, "texts", Text())
        source = source_table(person[0]).alias("persons")
        own = self._of(source, *person)
        ids = select(self.types.compared(own, person, place)).select_from(source)
        return and_(compared.in_(ids.where(self._condition(kind, own))), *mine)

    def _condition(self, kind: str, person: ColumnElement) -> ColumnElement[bool]:
        """The condition on a person id: a list, the bounds of a page, or both."""
        parts: list[ColumnElement[bool]] = [person.is_not(None)] if kind.startswith("page") else []
        if "first" in kind:
            parts.append(person >= bindparam("first"))
        if "last" in kind:
            parts.append(person <= bindparam("last"))
        if "ids" in kind:
            own = self.types.of_values(self._person_at)
            parts.append(self._dialect.among(person, "ids", own))
        return and_(*parts) if parts else true()

    def expression(self, source: Any, table: str, name: str) -> ColumnElement:
        """A column of a table, or null where it is not there."""
        return null() if (table, name) in self._absent else self._of(source, table, name)

    def is_packable(self, table: str, name: str) -> bool:
        """Whether the database can hand over a column of ids as one text, as they would be read."""
        return (table, name) in self._absent or self.types.is_as_python_writes((table, name))

    def fingerprint(self, source: Any, table: str) -> ColumnElement:
        """The fingerprint of a row as the database makes it, of all columns that are read."""
        names = self.plan.tables[table]
        columns = [self.expression(source, table, name) for name in names]
        types = [self.types.deployed((table, name)) for name in names]
        made = database.row_fingerprint(self.engine, columns, types)
        assert made is not None
        return made.label(FINGERPRINT)

    def _of(self, source: Any, table_name: str, name: str) -> ColumnElement:
        """A column without a type, so that the driver's value comes through as it is."""
        return column(self._called.get((table_name, name), name), _selectable=source)


def _without(page: ReadPage, persons: Read, stay: Sequence[bool]) -> ReadPage:
    """A page with some of its persons; rows of the others are left where they are."""
    found = {**page.found, persons: list(compress(page.found[persons], stay))}
    as_given = page.as_given
    if as_given is not None:
        as_given = {**as_given, persons: list(compress(as_given[persons], stay))}
    return replace(page, persons=found[persons], found=found, as_given=as_given)


def _fetched(result: Any) -> list[SourceRow]:
    """The driver's own rows: nothing is left to convert, and they are read by position.

    Closed where a value cannot be handed over too: SQLite would go on to show the connection the
    database as it was then, and a stage would not find its own lease.
    """
    try:
        return result.cursor.fetchall()
    finally:
        result.close()


def source_table(name: str) -> Table:
    """A table by name, of the SSD's schema unless it names one itself."""
    schema, _, bare = name.rpartition(".")
    return Table(bare, MetaData(), schema=schema or SSD_SCHEMA)


def _is_clear(value: Any, *, fold: bool) -> bool:
    """Whether an id is of one shard for sure, as the database has it and as it is staged.

    Args:
        fold: whether the database takes capitals alike; beyond ASCII it does so in its own way.
    """
    if value is None or type(value) in (int, uuid.UUID):
        return True
    if isinstance(value, float | Decimal):
        return value % 1 == 0
    if not isinstance(value, str):
        return False
    return (key_text(value) or "") == value.strip(shards.BLANKS) and (not fold or value.isascii())
