"""The rows of a page beside the persons that they belong to: fingerprints, and figures of dates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2i_helpers.document.source_rows import Read
from d2i_helpers.extract.columns import DateColumns
from d2i_helpers.extract.fingerprints import mixed, of_database, row_fingerprints
from d2i_helpers.extract.per_person import (
    Keyed,
    KeysOfQueries,
    Numbers,
    PerPerson,
    key_numbers,
)
from d2i_helpers.extract.sources import STATUTORY, ReadPage, SourceReader
from d2i_helpers.extract.valid_until import ValidUntil


class PageRows:
    """The raw rows of one page."""

    def __init__(
        self, reader: SourceReader, batch: ReadPage, person_ids: Sequence[str], *, fold: bool
    ) -> None:
        """``person_ids``: those of whom something is asked, in that order in each answer."""
        self._reader, self._batch = reader, batch
        self._keys = KeysOfQueries(reader.plan, batch.found, fold=fold)
        if (ids := batch.statutory) is not None:
            statutory = Keyed(len(ids), {"person_id": key_numbers(ids, fold=fold)})
            self._keys[Read(STATUTORY, "person_id")] = statutory
        persons = key_numbers(person_ids, fold=fold)
        self._sums_of = PerPerson(persons, self._keys.__getitem__)
        self._sums: dict[Read, Numbers] = {}  # of the hashes of a query's rows, a number a person

    def figures(self, dates: DateColumns) -> Numbers:
        """The figures of the date columns, a row a person.

        What the fingerprints need is added up in the same pass over the rows.
        """
        found = np.zeros((len(self._sums_of.persons), dates.size), np.int64)
        for read, rows in self._batch.found.items():
            start, of_rows = dates.figures(read, rows)
            end = start + of_rows.shape[1]
            hashes = self._hashes(read)
            if hashes is not None:
                of_rows = np.column_stack((of_rows, hashes))
            sums = self._sums_of.of(read, of_rows)
            found[:, start:end] = sums[:, : end - start]
            if hashes is not None:
                self._sums[read] = sums[:, -1].copy()
        return found

    def valid_until(self, until: ValidUntil) -> Numbers:
        """The last day for which each person's document holds, as an ordinal."""
        return until.days(self._batch.found, self._sums_of)

    def fingerprints(self) -> Numbers | None:
        """The fingerprint of each person; None where the database could not hand over a value."""
        if self._batch.as_given is None:
            return None
        return mixed(map(self._sum, self._reader.queries), len(self._sums_of.persons))

    def _sum(self, read: Read) -> Numbers:
        """The hashes of a query's rows, added up for each person."""
        if read not in self._sums:
            hashes = self._hashes(read)
            assert hashes is not None
            self._sums[read] = self._sums_of.of(read, hashes)
        return self._sums[read]

    def _hashes(self, read: Read) -> Numbers | None:
        """The hash of each row as the database gave it; None where it could not hand one over."""
        if read.table == STATUTORY:
            return np.ones(self._keys[read].count, np.int64)
        given = self._batch.as_given
        if given is None:
            return None
        rows = given[read]
        if self._reader.deployed.hashes_there:
            return of_database(np.array([row[-1] for row in rows], np.int64))
        return row_fingerprints(rows)
