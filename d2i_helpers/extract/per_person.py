"""What is counted of source rows, added up for the persons that the rows belong to.

A row belongs to the persons to whom its query leads: by the person's id in it, or link by link.
The sums are made for many persons at once, column by column, with the same steps for a page's rows
and for whole tables. Ids are compared as their texts are (`key_text`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d2i_helpers.document.driver_values import Remembered
from d2i_helpers.document.source_rows import Link, Read, ReadPlan, key_text

Numbers = np.ndarray[Any, np.dtype[np.int64]]
# of persons; four bytes, as there is one for each row on which others hang
Places = np.ndarray[Any, np.dtype[np.int32]]
Either = np.ndarray[Any, np.dtype[Any]]
NO_KEY = 0  # of an empty or unreadable id; Python's hash of an empty text


@dataclass(frozen=True)
class Groups:
    """Rows with equal keys beside one another."""

    keys: Either  # each once, sorted
    order: Numbers  # the numbers of the rows, in the order of their keys
    starts: Numbers  # where the rows of each key begin in that order

    @classmethod
    def of(cls, keys: Either) -> Groups:
        """Sort some keys."""
        order = np.argsort(keys)  # rows of one key in any order, which sorts twice as fast
        keys = keys[order]
        new = np.ones(len(keys), bool)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        starts = np.flatnonzero(new)
        return cls(keys[starts], order, starts)

    def combined(self, values: Numbers, combine: np.ufunc) -> Numbers:
        """What the values of each key's rows come to."""
        values = values[self.order]
        return combine.reduceat(values, self.starts, axis=0) if len(self.starts) else values


@dataclass(frozen=True)
class Keyed:
    """Some rows of a table: the columns by which they are found or lead to others, as numbers."""

    count: int = 0
    keys: Mapping[str, Numbers] = field(default_factory=dict)  # by column
    # the rows of a page are sorted once, since several things are added up; None: each time, as
    # whole tables would hold as much memory again
    remembered: dict[str, Groups] | None = None

    def of(self, column: str) -> Numbers:
        """The keys in a column; none where the table or the column is not there."""
        return self.keys.get(column, np.zeros(self.count, np.int64))

    def groups(self, column: str) -> Groups:
        """The rows by their key in a column."""
        if self.remembered is None:
            return Groups.of(self.of(column))
        if column not in self.remembered:
            self.remembered[column] = Groups.of(self.of(column))
        return self.remembered[column]


class NumbersOfDates(Remembered[int]):
    """A number for each raw value of date columns."""

    def of_column(self, rows: Sequence[Sequence[Any]], place: int) -> Numbers:
        """The number of each row's value at a place."""
        try:
            numbers = map(self.__getitem__, map(operator.itemgetter(place), rows))
            return np.fromiter(numbers, np.int64, len(rows))
        except TypeError:  # a structure, as some drivers read JSON, is no key
            return np.array([self.of(row[place]) for row in rows], np.int64)


def key_numbers(values: Sequence[Any], *, fold: bool = False, blanks: bool = True) -> Numbers:
    """A number for each raw id, equal for equal texts; they hold for this process alone.

    Args:
        fold: ids that differ in capitals alone are equal.
        blanks: whether there may be a blank in some id; where not, all are texts.
    """
    if not fold and not (blanks and needs_a_look(values)):
        return np.fromiter(map(hash, values), np.int64, len(values))
    texts = (key_text(value) or "" for value in values)
    numbers = (hash(text.casefold() if fold else text) for text in texts)
    return np.fromiter(numbers, np.int64, len(values))


def needs_a_look(values: Sequence[Any]) -> bool:
    """Whether some value is no text, or has outer blanks; without a step of Python for each."""
    try:
        together = "".join(values)
    except TypeError:  # a null, or a number
        return True
    if not together or together.split(None, 1) == [together]:  # a search for any blank is faster
        return False
    return list(map(str.strip, values)) != list(values)


def keyed(rows: Sequence[Sequence[Any]], places: Mapping[str, int], *, fold: bool = False) -> Keyed:
    """The keys of rows in memory.

    Args:
        places: by column, where it is in a row.
    """
    columns = {
        name: key_numbers([row[place] for row in rows], fold=fold) for name, place in places.items()
    }
    return Keyed(len(rows), columns, {})


class KeysOfQueries(dict[Read, Keyed]):
    """The keys of the rows of a page's queries, made when they are asked for.

    An object of its own: if its user handed itself to `PerPerson`, page after page would stay in
    memory until Python looks for cycles.
    """

    def __init__(
        self, plan: ReadPlan, rows: Mapping[Read, Sequence[Sequence[Any]]], *, fold: bool
    ) -> None:
        """``fold``: ids that differ in capitals alone are equal."""
        super().__init__()
        self._plan, self._rows, self._fold = plan, rows, fold

    def __missing__(self, read: Read) -> Keyed:
        places = {name: self._plan.place(read, name) for name in self._plan.key_columns(read.table)}
        self[read] = made = keyed(self._rows[read], places, fold=self._fold)
        return made


@dataclass(frozen=True)
class _Owners:
    """The person to whom each key of a column leads, where it leads to one at most."""

    keys: Numbers  # sorted
    persons: Places  # -1 for nobody

    @classmethod
    def of(cls, keys: Numbers, persons: Places) -> _Owners | None:
        """Put them in order; None where a key comes twice."""
        order = np.argsort(keys)
        keys = keys[order]
        if (keys[1:] == keys[:-1]).any():
            return None
        return cls(keys, persons[order])

    def of_keys(self, wanted: Numbers) -> Places:
        """The place of the person to whom each key leads, or -1."""
        return _look_up(self.keys, self.persons, wanted, -1)


class PerPerson:
    """Adds up what is counted of rows, for the persons to whom they belong.

    Most rows hang on one row above, as keys are usually unique. Then it is found out once to whom
    such a key leads, and not for each query again.
    """

    def __init__(self, persons: Numbers, rows_of: Callable[[Read], Keyed]) -> None:
        """
        Args:
            persons: their keys; answers come in this order.
            rows_of: the rows of a query by which others are reached.
        """
        self.persons, self._rows_of = persons, rows_of
        self._owners: dict[tuple[Link, ...], _Owners | None] = {}

    def of(self, read: Read, values: Numbers, *, least: bool = False, nothing: int = 0) -> Numbers:
        """The values of a query's rows, added up for each person; sums may run over 64 bits.

        Args:
            values: a row for each row of the query.
            least: take the least of the values in place of their sum.
            nothing: what a person without rows has; with `least` no value is greater.

        Returns:
            A row for each person, with the columns of ``values``.
        """
        combine = np.minimum if least else np.add
        groups = self._rows_of(read).groups(read.by)
        found = groups.combined(values, combine)
        chain = read.chain
        # link by link while a key may lead to several persons, as a professional's does
        while (owners := self._owners_of(chain)) is None and chain:
            step, chain = chain[0], chain[1:]
            parent = self._rows_of(Read(step.table, step.by, chain))
            reached = _look_up(groups.keys, found, parent.of(step.value), nothing)
            groups = parent.groups(step.by)
            found = groups.combined(reached, combine)
        if owners is None:  # two persons have one key, and each has all of its rows
            return _look_up(groups.keys, found, self.persons, nothing)
        persons = owners.of_keys(groups.keys)
        if chain:  # else each key is a person's own
            by_person = Groups.of(persons)
            persons, found = by_person.keys, by_person.combined(found, combine)
        made = np.full((len(self.persons), *values.shape[1:]), nothing, np.int64)
        are_there = persons >= 0
        made[persons[are_there]] = found[are_there]
        return made

    def keep_for(self, reads: Iterable[Read]) -> None:
        """Forget to whom keys lead, but for those by which the rows of these queries are found."""
        used = {read.chain[start:] for read in reads for start in range(len(read.chain) + 1)}
        self._owners = {chain: found for chain, found in self._owners.items() if chain in used}

    def _owners_of(self, chain: tuple[Link, ...]) -> _Owners | None:
        """To whom the keys lead by which rows hang on a chain; None where one leads to several."""
        if chain not in self._owners:
            self._owners[chain] = self._find_owners(chain)
        return self._owners[chain]

    def _find_owners(self, chain: tuple[Link, ...]) -> _Owners | None:
        if not chain:
            return _Owners.of(self.persons, np.arange(len(self.persons), dtype=np.int32))
        step, above = chain[0], self._owners_of(chain[1:])
        if above is None:
            return None
        rows = self._rows_of(Read(step.table, step.by, chain[1:]))
        keys = rows.of(step.value)
        are_keys = keys != NO_KEY
        persons = above.of_keys(rows.of(step.by))
        if not are_keys.all():
            keys, persons = keys[are_keys], persons[are_keys]
        return _Owners.of(keys, persons)


def _look_up(keys: Either, values: Either, wanted: Numbers, nothing: int) -> Either:
    """The value of each wanted key; `nothing` where there is none, or no key."""
    if not len(keys):
        return np.full((len(wanted), *values.shape[1:]), nothing, values.dtype)
    places = np.searchsorted(keys, wanted)
    np.minimum(places, len(keys) - 1, out=places)
    are_others = keys[places] != wanted
    are_others |= wanted == NO_KEY
    found = values[places]
    found[are_others] = nothing
    return found
