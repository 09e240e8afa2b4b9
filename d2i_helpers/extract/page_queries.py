"""The statements that read the rows of a page of children.

A source that hangs on another is found through sub-queries up to the person, never with a query a
child.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, bindparam, select, true
from sqlalchemy import column as untyped

from d2i_helpers import database
from d2i_helpers.database import dialects
from d2i_helpers.document.source_rows import Read
from d2i_helpers.extract.deployed_tables import DeployedTables, source_table
from d2i_helpers.extract.id_types import Place


class PageQueries:
    """The statements that read the rows of a page of children.

    What is known of a page is said by its *kind*: words of `page first last ids`.
    """

    def __init__(self, deployed: DeployedTables) -> None:
        self._deployed, self._types = deployed, deployed.types
        self._plan = deployed.plan
        self._dialect = dialects.of(deployed.engine)
        self._made: dict[Any, Select] = {}

    def statement(
        self,
        read: Read,
        kind: str,
        limit: int | None = None,
        as_text: frozenset[str] = frozenset(),
        only: str | None = None,
    ) -> Select:
        """The statement for the rows of a query of a page; the same one for each page of its kind.

        Args:
            limit: the most rows; those with the lowest ids then.
            as_text: columns with values that the driver cannot turn into Python's.
            only: the one column that is wanted; None for all that are read.
        """
        key = (read, kind, limit, as_text, only)
        if key not in self._made:
            self._made[key] = self._build(read, kind, limit, as_text, only)
        return self._made[key]

    def statutory(self, kind: str) -> Select:
        """The ids of a page's children that the table of the statutory cohort holds."""
        name = self._deployed.settings.statutory_cohort_table or ""
        person: ColumnElement = untyped("person_id")
        condition = self._of_persons(kind, person, (name, "person_id"))
        return select(person).select_from(source_table(name)).where(condition)

    def _build(
        self, read: Read, kind: str, limit: int | None, as_text: frozenset[str], only: str | None
    ) -> Select:
        source = source_table(read.table).alias("t0")
        wanted: list[ColumnElement] = []
        for name in self._plan.reads[read] if only is None else [only]:
            one = self._deployed.expression(source, read.table, name)
            if name in as_text:
                one = database.as_raw_text(self._deployed.engine, one)
            wanted.append(one.label(name))
        if only is None and not as_text and self._deployed.hashes_there:
            wanted.append(self._deployed.fingerprint(source, read.table))
        statement = select(*wanted).select_from(source)
        by = self._deployed.column(source, read.table, read.by)
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
        by_above = self._deployed.column(source, step.table, step.by)
        test = self._membership(by_above, above, kind, depth + 1)
        value_at = (step.table, step.value)
        value = self._types.compared(self._deployed.column(source, *value_at), value_at, at)
        return self._types.compared(by, at, value_at).in_(
            select(value).select_from(source).where(test)
        )

    def _of_persons(self, kind: str, column: ColumnElement, place: Place) -> ColumnElement[bool]:
        """The condition that a column holds the id of a person of the page.

        The bounds of a page are ids of the persons' own type, and in its order: a column of another
        type is looked for among the persons.
        """
        person = self._deployed.person_at
        mine = () if "ids" in kind else self._deployed.mine_of(column, place)
        if not kind or self._types.alike(place, person):
            return and_(self._condition(kind, column, place), *mine)
        compared = self._types.compared(column, place, person)
        if kind == "ids":
            as_deployed = self._types.deployed(place) if compared is column else None
            return self._dialect.among(
                compared, "texts", self._dialect.beside(as_deployed) or Text()
            )
        source = source_table(person[0]).alias("persons")
        own = self._deployed.column(source, *person)
        ids = select(self._types.compared(own, person, place)).select_from(source)
        return and_(compared.in_(ids.where(self._condition(kind, own, person))), *mine)

    def _condition(self, kind: str, person: ColumnElement, place: Place) -> ColumnElement[bool]:
        """The condition on a person id: a list, the bounds of a page, or both."""
        beside = self._dialect.beside(self._types.deployed(place))
        parts: list[ColumnElement[bool]] = [person.is_not(None)] if kind.startswith("page") else []
        if "first" in kind:
            parts.append(person >= bindparam("first", type_=beside))
        if "last" in kind:
            parts.append(person <= bindparam("last", type_=beside))
        if "ids" in kind:
            own = self._types.of_values(self._deployed.person_at)
            parts.append(self._dialect.among(person, "ids", beside or own))
        return and_(*parts) if parts else true()
