"""Source rows of a page of children: which columns are read, and how rows are linked.

A `ReadPlan` is compiled once a run from the sources of the specification. A `Page` holds the rows
of some hundred children, filtered and sorted as the sources say, and finds them by person id or by
the column that links a row to its parent. Nothing here knows a database, a table or a field by its
name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from d2i_helpers.document.driver_values import (
    Remembered,
    is_unreadable_date,
    read_date,
    read_text,
    time_of_day,
)
from d2i_helpers.payload_spec import Source, Spec, source_columns

SourceRow = Sequence[Any]  # as the driver gives it, one value a column
ReadText = Callable[[SourceRow], str | None]  # one value of a row as text
_NO_ROWS: tuple[SourceRow, ...] = ()


def _day(value: Any) -> str | None:
    day, _ = read_date(value)
    return day.isoformat() if day else None


def _moment(value: Any) -> str | None:
    day = _day(value)
    return day and f"{day} {time_of_day(value) or _MIDNIGHT}"


_MIDNIGHT = "00:00:00.000000"
DATES = Remembered(_day)  # for loops over many rows; raises TypeError for a structure: `date_text`
_MOMENTS = Remembered(_moment)


def date_text(value: Any) -> str | None:
    """A raw value as text YYYY-MM-DD; None where it is empty, unreadable or stands for "none"."""
    try:
        return DATES[value]
    except TypeError:  # a structure, as some drivers read JSON
        return None


def moment_text(value: Any) -> str | None:
    """A raw value as text of its day and time that sorts; None where `date_text` gives none.

    A day without a time counts as its midnight, as databases take it.
    """
    try:
        return _MOMENTS[value]
    except TypeError:  # as in `date_text`
        return None


def key_text(value: Any) -> str | None:
    """A raw id as text without outer blanks, so that number and text columns can be joined."""
    if type(value) is str and value and not value[0].isspace() and not value[-1].isspace():
        return value
    return read_text(value)[0]


@dataclass(frozen=True)
class Doubt:
    """Why a question about a row cannot be answered: the value that decides cannot be read.

    A doubt is falsy, so that it never counts as a yes. Where a no is meant, test ``is False``.
    """

    table: str
    column: str
    rule: str  # what is wrong, and what depends on it; never the value

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.table}.{self.column} {self.rule}"


Verdict = bool | Doubt


def unreadable(table: str, column: str, decides: str) -> Doubt:
    """The doubt about a value that cannot be read; ``decides``: what depends on it."""
    return Doubt(table, column, f"cannot be read ({decides})")


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """No if one of them is a no, else the first doubt, else yes."""
    doubt: Verdict = True
    for verdict in verdicts:
        if verdict is False:
            return False
        if verdict is not True and doubt is True:
            doubt = verdict
    return doubt


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Yes if one of them is a yes, else the first doubt, else no."""
    doubt: Verdict = False
    for verdict in verdicts:
        if verdict is True:
            return True
        if verdict is not False and doubt is False:
            doubt = verdict
    return doubt


@dataclass(frozen=True)
class Link:
    """One link from a table towards the person: rows of `table` by `by`, giving `value`."""

    table: str
    value: str
    by: str


@dataclass(frozen=True)
class Read:
    """One query: rows of `table` whose `by` is a person of the page, or reaches one by `chain`."""

    table: str
    by: str
    chain: tuple[Link, ...] = ()

    @functools.cached_property
    def tables(self) -> frozenset[str]:
        """The tables by which its rows are found, and its own."""
        return frozenset((self.table, *(step.table for step in self.chain)))


def few_tables_at_once(reads: Iterable[Read]) -> list[Read]:
    """Some queries in an order in which few tables have to be held at the same time.

    Next comes always the one for which the fewest tables are missing, and of these the one after
    which the fewest are still needed.
    """
    left, held, ordered = list(reads), frozenset[str](), list[Read]()
    while left:
        following = min(left, key=functools.partial(_held_with, left, held))
        left.remove(following)
        ordered.append(following)
        held = (held | following.tables) & _tables(left)
    return ordered


def _held_with(left: Sequence[Read], held: frozenset[str], read: Read) -> tuple[int, int]:
    """How many tables a query adds to those that are held, and how many are needed after it."""
    still = _tables([other for other in left if other != read])
    return len(read.tables - held), len((held | read.tables) & still)


def _tables(reads: Iterable[Read]) -> frozenset[str]:
    return frozenset[str]().union(*(read.tables for read in reads))


class ReadPlan:
    """What is read for each source, and the position of each column in a row.

    Args:
        spec: the specification.
        wanted: names of the specification's sources that are needed; None: all of them.
        extra: further sources by name (those of the inclusion sets).
        columns: further columns by source, such as those that a named rule looks at.
    """

    def __init__(
        self,
        spec: Spec,
        wanted: Iterable[str] | None = None,
        extra: Mapping[str, Source] | None = None,
        columns: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        # in the order of the specification, so that a statement is the same text in each run
        chosen = set(wanted or spec.sources)
        named = {name: source for name, source in spec.sources.items() if name in chosen}
        self.sources = {**named, **_with_keys_that_last(extra or {}, spec)}
        self.person = spec.sources[str(spec.root.source)]
        self._columns: dict[Read, dict[str, int]] = {}
        # one layout for all queries of a table: a row is the same row, whichever query gives it
        self._layouts: dict[str, dict[str, int]] = {}
        self._wanted: dict[Read, set[str]] = {}
        self._read_of: dict[str, Read] = {}
        for name, source in self.sources.items():
            read = self._query(source)
            self._read_of[name] = read
            self._want(read, [read.by, *sorted(source_columns(source))])
            self._want(read, sorted((columns or {}).get(name, ())))
            parent = self.sources.get(source.via or "")
            if parent is not None:
                self._want(self._query(parent), [source.via_column or parent.key])
        for _, field in spec.fields():
            if field.source in self.sources:
                asked = (field.column, field.options.get("also"), field.options.get("not_before"))
                self._want(self._read_of[field.source], [c for c in asked if c])
        # sources with `care_period` need two more queries: their rows by the person's periods of
        # care, and the owners of the periods that the rows by person id name
        self.care_period_reads: dict[str, Read] = {}
        self.owner_reads: dict[str, Read] = {}
        for name, source in self.sources.items():
            if source.care_period:
                self._care_periods(name, source)

    def _query(self, source: Source) -> Read:
        if source.person:
            return Read(source.table, source.person)
        # the checks of the specification make sure of both
        assert source.via is not None and source.link is not None
        parent = self.sources[source.via]
        above = self._query(parent)
        step = Link(above.table, source.via_column or parent.key, above.by)
        return Read(source.table, source.link, (step, *above.chain))

    def _care_periods(self, name: str, source: Source) -> None:
        episodes = self.sources[CARE_PERIODS]
        assert source.care_period and source.person and episodes.person
        to_person = Link(episodes.table, CARE_PERIOD, episodes.person)
        read = Read(source.table, source.care_period, (to_person,))
        self._want(read, self._wanted[self._read_of[name]])
        self.care_period_reads[name] = read
        named = Link(source.table, source.care_period, source.person)
        owners = Read(episodes.table, CARE_PERIOD, (named,))
        self._want(owners, self._wanted[self._read_of[CARE_PERIODS]])
        self.owner_reads[name] = owners

    def _want(self, read: Read, names: Iterable[str]) -> None:
        layout = self._layouts.setdefault(read.table, {})
        positions = self._columns.setdefault(read, layout)
        for name in names:
            positions.setdefault(name, len(positions))
            self._wanted.setdefault(read, set()).add(name)

    @property
    def reads(self) -> dict[Read, tuple[str, ...]]:
        """Every query with its columns in the order of the rows."""
        return {read: tuple(positions) for read, positions in self._columns.items()}

    def wanted(self, read: Read) -> tuple[str, ...]:
        """The columns of a query that its own sources look at, in the order of the rows."""
        return tuple(name for name in self._columns[read] if name in self._wanted[read])

    @property
    def tables(self) -> dict[str, tuple[str, ...]]:
        """The columns that are read of each table, in the order of the rows."""
        return {table: tuple(layout) for table, layout in self._layouts.items()}

    def key_columns(self, table: str) -> tuple[str, ...]:
        """The columns by which rows of a table are found or lead to others."""
        found: dict[str, None] = {}
        for read in self._columns:
            ends = [(read.table, read.by)]
            for step in read.chain:
                ends += [(step.table, step.value), (step.table, step.by)]
            found.update((name, None) for owner, name in ends if owner == table)
        return tuple(found)

    def read_of(self, source: str) -> Read:
        """The query that gives the rows of a source."""
        return self._read_of[source]

    def place(self, read: Read, column: str) -> int:
        """Position of a column in the rows of a query."""
        return self._columns[read][column]

    def at(self, source: str, column: str) -> int:
        """Position of a column in the rows of a source."""
        return self.place(self._read_of[source], column)

    def date(self, source: str, column: str) -> Callable[[SourceRow], str | None]:
        """A function from a row to the column's value as date text."""
        place = self.at(source, column)
        return lambda row: date_text(row[place])

    def key(self, source: str) -> Callable[[SourceRow], str | None]:
        """A function from a row to its key as text; to None where that does not last."""
        if not self.sources[source].lasting_key:
            return lambda _row: None
        return self.text(source, self.sources[source].key)

    def text(self, source: str, column: str) -> Callable[[SourceRow], str | None]:
        """A function from a row to the column's value as text without outer blanks."""
        place = self.at(source, column)
        return lambda row: key_text(row[place])


def _with_keys_that_last(extra: Mapping[str, Source], spec: Spec) -> dict[str, Source]:
    """Further sources; where a key of the specification does not last, theirs does not either."""
    passing = {(one.table, one.key) for one in spec.sources.values() if not one.lasting_key}
    return {
        name: replace(source, lasting_key=(source.table, source.key) not in passing)
        for name, source in extra.items()
    }


# The source that gives a person's periods of care, for sources with `care_period`. Its rows are
# those that the inclusion sets look at.
CARE_PERIODS = "cohort.cla_episodes"
CARE_PERIOD = "clae_cla_id"


class Page:
    """Rows of some children, by source and by the text of the column they are looked up by."""

    def __init__(self, persons: Sequence[SourceRow]) -> None:
        self.persons = persons
        self.found: dict[str, dict[str, list[SourceRow]]] = {}  # by source, then by key
        # doubts about the rows under a key; only sources that have some
        self.doubts: dict[str, dict[str, list[Doubt]]] = {}
        self.met: list[Doubt] = []  # the doubts that were noted by `meet`

    def meet(self, source: str, key: str | None) -> None:
        """Note the doubts about the rows of a source for a person id or link value."""
        self.met += self.doubts[source].get(key or "", ())

    def doubt(self, source: str, key: str | None) -> Verdict:
        """The first doubt about the rows of a source for a person id or link value; else False."""
        doubts = self.doubts.get(source)
        return next(iter(doubts.get(key or "", ())), False) if doubts else False

    def rows(self, source: str, key: str | None) -> Sequence[SourceRow]:
        """Rows of a source for a person id or link value, filtered and sorted."""
        return self.found[source].get(key or "", _NO_ROWS)

    def by_any(self, source: str, key: Any) -> Sequence[SourceRow]:
        """As `rows`, for a raw link value of any type."""
        return self.found[source].get(key_text(key) or "", _NO_ROWS)


def grouped(rows: Iterable[SourceRow], place: int) -> dict[str, list[SourceRow]]:
    """Rows grouped by the text in one column; rows without a text there are left out."""
    by_text: dict[str, list[SourceRow]] = {}
    for row in rows:
        key = row[place]
        if type(key) is not str or key != key.strip() or not key:
            key = key_text(key)
            if key is None:
                continue
        try:
            by_text[key].append(row)
        except KeyError:
            by_text[key] = [row]
    return by_text


def sorter(
    plan: ReadPlan, source: Source, is_date: Callable[[str], bool]
) -> Callable[[list[SourceRow]], list[SourceRow]] | None:
    """A function that gives rows of a source in its `order`; None where the order does not matter.

    Dates go by day and time. Nulls come last (first with `open`), unreadable values last of all.
    Ties are broken by the row's key, if that lasts, and then by its whole content, so that the
    order never depends on how the database delivers rows.
    """
    if not (source.order or source.pick_first):
        return None
    passes: list[tuple[Callable[[SourceRow], Any], bool]] = []
    for part in reversed((*source.order, *([source.key] if source.lasting_key else []))):
        words = part.split()
        mode = words.pop(0) if words[0] in {"open", "first"} else ""
        descending = mode == "open" or words[0].startswith("-")
        readers = [_reader(plan, source, word.lstrip("-"), is_date) for word in words]
        if mode == "open":
            readers = [_open_or_not(readers[0], plan.at(source.name, words[0]))]
        passes.append((_sort_key(readers, nulls_high=descending == (mode == "open")), descending))

    own_key = passes[0][0] if source.lasting_key else None

    def in_order(rows: list[SourceRow]) -> list[SourceRow]:
        # the key of a row decides before its content, unless another row has it too
        if own_key is None or len(set(map(own_key, rows))) < len(rows):
            rows = sorted(rows, key=_content)
        for key, reverse in passes:
            rows = sorted(rows, key=key, reverse=reverse)
        return rows

    return in_order


def overtaking(
    plan: ReadPlan, source: Source, is_date: Callable[[str], bool]
) -> Callable[[SourceRow, SourceRow], Doubt | None] | None:
    """A function that says why another row might come before the first one in `order`.

    It is called with (first row, other row) and gives a doubt if an unreadable date decides which
    of the two comes first, else None. There is no function (None) where the order holds no date.
    """
    parts: list[tuple[str, list[tuple[str, int, ReadText]]]] = []
    for part in source.order:
        words = part.split()
        mode = words.pop(0) if words[0] in {"open", "first"} else ""
        names = [word.lstrip("-") for word in words]
        parts.append(
            (mode, [(n, plan.at(source.name, n), _reader(plan, source, n, is_date)) for n in names])
        )
    if not any(is_date(name) for _, columns in parts for name, _, _ in columns):
        return None

    def read(columns: list[tuple[str, int, ReadText]], row: SourceRow) -> str | Doubt | None:
        for name, place, reader in columns:
            value = reader(row)
            if value is not None:
                return value
            if is_date(name) and is_unreadable_date(row[place]):
                return unreadable(source.table, name, "which row comes first")
        return None

    def overtakes(first: SourceRow, later: SourceRow) -> Doubt | None:
        for mode, columns in parts:
            first_value, later_value = read(columns, first), read(columns, later)
            if mode == "open" and first_value is None and later_value is not None:
                return None  # nothing comes before a row that is open
            for value in (first_value, later_value):
                if isinstance(value, Doubt):
                    return value
            if first_value != later_value:
                return None
        return None

    return overtakes


def _reader(
    plan: ReadPlan, source: Source, column: str, is_date: Callable[[str], bool]
) -> ReadText:
    if not is_date(column):
        return plan.text(source.name, column)
    place = plan.at(source.name, column)
    return lambda row: moment_text(row[place])


def _open_or_not(read: ReadText, place: int) -> ReadText:
    """Reads an end that cannot be read as one before all others: its row is not open."""
    return lambda row: read(row) or ("" if is_unreadable_date(row[place]) else None)


def _sort_key(readers: list[ReadText], *, nulls_high: bool) -> Callable[[SourceRow], Any]:
    def key(row: SourceRow) -> tuple[bool, str]:
        value = next((v for reader in readers if (v := reader(row)) is not None), None)
        return ((value is None) == nulls_high, value or "")

    return key


def _content(row: SourceRow) -> list[str]:
    return [str(value) for value in row]
