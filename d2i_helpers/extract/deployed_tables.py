"""The tables of the SSD as a database has them: what is there, how it is called, of which type.

A column is read without a type, so that the driver's value comes through as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Engine, MetaData, Table, func, null, select
from sqlalchemy import column as untyped
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import shards
from d2i_helpers.database.tables import SSD_SCHEMA
from d2i_helpers.document.source_rows import Read, ReadPlan
from d2i_helpers.errors import DatabaseError
from d2i_helpers.extract.id_types import IdTypes, Place
from d2i_helpers.payload_spec import Source, Spec
from d2i_helpers.settings import Settings

FINGERPRINT = "d2i_fingerprint"  # the last column of a row, where the database hashes it


@dataclass(frozen=True)
class Gaps:
    """What the deployed SSD lacks of what a plan reads."""

    required: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)


class DeployedTables:
    """The tables of the SSD that a plan reads, as a database has them."""

    def __init__(self, engine: Engine, settings: Settings, spec: Spec, plan: ReadPlan) -> None:
        self.engine, self.settings, self.spec, self.plan = engine, settings, spec, plan
        self.types = IdTypes(engine)  # of the columns with ids; known once `gaps` has looked
        self.person_at = (plan.person.table, plan.person.key)
        self._folds: bool | None = None  # whether ids that differ in capitals are one
        self._absent: set[tuple[str, str]] = set()
        self._called: dict[tuple[str, str], str] = {}  # columns with another name here
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
                hint="Check `ssd_schema`, `cms` and `statutory_cohort_table`; a `spec_overlay` can "
                "name other columns.",
            )
        return [f"{name} is not there and is taken as empty" for name in gaps.optional]

    def gaps(self) -> Gaps:
        """The tables and columns that are not there, required and optional ones apart."""
        with database.reading(self.engine) as connection:
            return self._gaps(connection)

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

    def is_there(self, table: str) -> bool:
        """Whether a table is there, with at least one of the columns that are read."""
        return any((table, name) not in self._absent for name in self.plan.tables[table])

    def has_way(self, read: Read) -> bool:
        """Whether the columns are there by which the rows of a query hang on a person."""
        return not any(
            place in self._absent
            for place in ((read.table, read.by), *((s.table, s.by) for s in read.chain))
        )

    def name_here(self, table: str, name: str) -> str | None:
        """What a column is called here, once `gaps` has looked; None where it is not there."""
        return None if (table, name) in self._absent else self._called.get((table, name), name)

    def row_counts(self, connection: Connection) -> dict[str, int]:
        """Number of rows of each table that is read, by its name; 0 where it is not there."""
        names = {read.table for read in self.plan.reads}
        return {name: self.row_count(connection, name) for name in sorted(names)}

    def counts_again(self, connection: Connection, names: Iterable[str]) -> dict[str, int]:
        """Number of rows of some tables, of those that are there; one statement."""
        counting = [
            select(func.count()).select_from(source_table(name)).scalar_subquery().label(name)
            for name in sorted(names)
            if self.is_there(name)
        ]
        found = connection.execute(select(*counting)).one()
        connection.commit()
        return dict(found._mapping)

    def row_count(self, connection: Connection, name: str) -> int:
        """Number of rows of a table; 0 where it is not there."""
        source = source_table(name)
        if not database.has_table(connection, source):
            return 0
        return connection.execute(select(func.count()).select_from(source)).scalar_one()

    def reads_as(self) -> Any:
        """All that the values of a row depend on beside the database and the queries."""
        return (
            list(self.plan.tables.items()), sorted(self._absent), sorted(self._called.items()),
            self.hashes_there,
        )  # fmt: skip

    @functools.cached_property
    def hashes_there(self) -> bool:
        """Whether the database makes the fingerprints of rows."""
        return database.row_fingerprint(self.engine, [untyped("any")], [None]) is not None

    # ---------------------------------------------------------------------------------- ids
    def folds_capitals(self, connection: Connection) -> bool:
        """Whether ids that differ in capitals alone are one to this database."""
        if self._folds is None:
            self._folds = database.takes_capitals_alike(connection) or self.types.folds_capitals(
                self._compared_columns()
            )
        return self._folds

    def _compared_columns(self) -> Iterator[tuple[Place, Place]]:
        """Each two columns of ids that are compared with one another."""
        for read in self.plan.reads:
            at = (read.table, read.by)
            for step in read.chain:
                yield at, (step.table, step.value)
                at = (step.table, step.by)
            yield at, self.person_at
        if self.settings.statutory_cohort_table:
            yield (self.settings.statutory_cohort_table, "person_id"), self.person_at

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
        return source, self.types.text(self.column(source, table_name, name), (table_name, name))

    def mine(self, text: ColumnElement) -> tuple[ColumnElement[bool], ...]:
        """The condition that an id is of the shard's children; none for the whole."""
        return shards.condition(self.engine, self.settings.part, text)

    def mine_of(self, column: ColumnElement, place: Place) -> tuple[ColumnElement[bool], ...]:
        """The same of a column of ids as it is deployed."""
        return self.mine(self.types.text(column, place))

    # ------------------------------------------------------------------------------ columns
    def expression(self, source: Any, table: str, name: str) -> ColumnElement:
        """A column of a table, or null where it is not there."""
        return null() if (table, name) in self._absent else self.column(source, table, name)

    def column(self, source: Any, table_name: str, name: str) -> ColumnElement:
        """A column without a type, so that the driver's value comes through as it is."""
        return untyped(self._called.get((table_name, name), name), _selectable=source)

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


@functools.cache  # to SQLAlchemy a statement on another object is another statement
def source_table(name: str) -> Table:
    """A table by name, of the SSD's schema unless it names one itself."""
    schema, _, bare = name.rpartition(".")
    return Table(bare, MetaData(), schema=schema or SSD_SCHEMA)
