"""Person ids that are written in more than one way: with blanks at their ends, or in capitals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, Table, func, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import dialects
from d2i_helpers.document.source_rows import key_text
from d2i_helpers.extract.deployed_tables import DeployedTables

_BLANKS = ("\t", "\n", "\r", "\xa0")  # beside the blank itself
_AS_A_BLANK = str.maketrans(dict.fromkeys(_BLANKS, " "))


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
    def read(cls, connection: Connection, deployed: DeployedTables) -> WrittenIds:
        """Ask every table with person ids; one pass over each column."""
        person, fold = deployed.plan.person, deployed.folds_capitals(connection)
        with_blanks: dict[str, set[str]] = {}
        of_persons: set[str] = set()
        for table_name, name in deployed.person_columns():
            source, text = deployed.id_column(table_name, name)
            asked = ids_with_blanks(deployed.engine, source, text, *deployed.mine(text))
            for raw in _texts(connection, deployed.engine, asked):
                if (key := key_text(raw)) is not None and key != raw:
                    with_blanks.setdefault(_one(key, fold=fold), set()).add(raw)
                    if (table_name, name) == (person.table, person.key):
                        of_persons.add(key)
        source, text = deployed.id_column(person.table, person.key)
        variants = _several(
            connection, deployed.engine, source, text, of_persons, with_blanks, fold=fold
        )
        asked = repeated_ids(source, text, *deployed.mine(text))
        repeated = _texts(connection, deployed.engine, asked)
        for some in database.in_batches(repeated):
            written = select(text.label("id")).select_from(source)
            written = written.where(_trimmed(text).in_(list(some)))
            variants += _texts(connection, deployed.engine, written)
        connection.commit()
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
