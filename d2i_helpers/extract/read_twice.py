"""Whether the source stood still while it was read.

The load of an SSD empties a table and fills it again, and it may run late. A document that is made
in between lacks what was not there at that moment, and the receiver would be told to remove it. So
all persons are read twice: once with the tables as a whole (`whole_tables`), and those who have to
be looked at once more with their page. Where the two differ, nobody can say which was right.

A person who has no mark in any case (an id that is another one's too, two rows) is not compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d2i_helpers.extract.per_person import Numbers
from d2i_helpers.extract.whole_tables import WholeTables
from d2i_helpers.plain_english import counted

# Rows that a table may gain or lose meanwhile in a source that is never at rest; more is a load.
_SHARE, _FEW = 0.001, 10


@dataclass
class ReadTwice:
    """What one reading of the source found to have moved.

    Args:
        tables: what the pass over the whole tables found; None: there could be none.
        earlier: the reading before this one. A person whose page says the same in both has stood
            still, whatever the tables as a whole say.
        staged: gives for persons the fingerprint of the page from which their staged documents
            were made. Whose page is as it was then has stood still too: nothing can be lost by it.
            The tables as a whole may say otherwise each night, as they join ids on which rows hang
            and that the database tells apart by a blank.
    """

    tables: WholeTables | None = None
    earlier: ReadTwice | None = None
    staged: Callable[[Sequence[str]], Mapping[str, int]] = lambda _person_ids: {}
    moved: dict[str, int] = field(default_factory=dict)  # the fingerprint of the page, by person
    as_staged: set[str] = field(default_factory=set)  # of these who was staged from the same page
    lost: frozenset[int] = frozenset()  # keys of persons who were there, and then were not
    newly_lost: bool = False  # whether there are any who were not lost in the reading before
    restless: set[str] = field(default_factory=set)  # persons whose rows are others at each look
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)  # of tables: before and after

    @functools.cached_property
    def _met(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each person of the tables as a whole whether it was found once more."""
        assert self.tables is not None
        return np.zeros(len(self.tables.persons), bool)

    def meet(self, person_ids: Sequence[str]) -> None:
        """Note that these persons were found, with their page or by their marks."""
        if self.tables is not None:
            places, there = self.tables.places(person_ids)
            self._met[places[there]] = True

    def differing(self, person_ids: Sequence[str], fingerprints: Numbers) -> set[str]:
        """Of these persons those of whom nobody can say which rows they have.

        Args:
            fingerprints: of the rows of their pages, in the same order.
        """
        if self.tables is None or not person_ids:
            return set()
        places, there = self.tables.places(person_ids)
        same = there.copy()
        same[there] = self.tables.fingerprints[places[there]] == fingerprints[there]
        moved = {person_ids[at]: int(fingerprints[at]) for at in np.flatnonzero(~same).tolist()}
        self.moved |= moved
        if moved and not self.earlier:  # what this run itself has marked is not to be asked
            staged = self.staged([*moved])
            self.as_staged |= {one for one, page in moved.items() if staged.get(one) == page}
        return {person_id for person_id in moved if not self._as_before(person_id)}

    def _as_before(self, person_id: str) -> bool:
        """Whether the page said the same of a person in the reading before, or when staged."""
        before = self.earlier.moved if self.earlier else {}
        return person_id in self.as_staged or before.get(person_id) == self.moved[person_id]

    def moved_each_time(self, person_ids: Iterable[str]) -> list[str]:
        """Of these persons those who moved in the two readings before, in order.

        A view may make a key or a time anew whenever it is read. To wait until such rows stand
        still would hold the person back for ever.
        """
        second = self.earlier
        first = second.earlier if second else None
        if not (first and second):
            return []
        return sorted(first.moved.keys() & second.moved.keys() & {*person_ids})

    def end(self, counts: Mapping[str, int]) -> None:
        """Compare what is left once all pages are read.

        Args:
            counts: rows of each table now.
        """
        if self.tables is None:
            return
        lost_before = self.earlier.lost if self.earlier else frozenset()
        lost = frozenset(self.tables.persons[~self._met].tolist())
        self.lost, self.newly_lost = lost, bool(lost - lost_before)
        before = self.tables.rows
        self.rows = {
            name: (before[name], count)
            for name, count in counts.items()
            if name in before and before[name] != count
        }

    @property
    def stood_still(self) -> bool:
        """Whether nobody moved but who had moved in the same way before."""
        return not self.rows and not self.newly_lost and all(map(self._as_before, self.moved))

    @property
    def is_being_filled(self) -> bool:
        """Whether so much came or went that the source is being loaded."""
        return self.newly_lost or any(
            not after or abs(after - before) > max(_FEW, _SHARE * before)
            for before, after in self.rows.values()
        )

    def said(self) -> str:
        """What moved, as a part of a sentence."""
        said = [
            f"{name} {before:,} to {counted(after, 'row')}"
            for name, (before, after) in sorted(self.rows.items())
        ]
        return ", ".join(said) or f"{counted(len(self.lost), 'person')} no longer there"
