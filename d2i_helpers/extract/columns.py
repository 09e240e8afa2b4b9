"""How many values each source column holds, and how many of them cannot be used.

One damaged value is reported and left out. Where it is nearly every value of a column (sex stored
as 1 and 2, dates in an unknown form), the column is not what the specification takes it for, and
what the receiver holds of it would go. Placeholders, and what the system is known to leave empty or
incomplete, do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2i_helpers.document.assembly import SAYS_NOTHING, Tally
from d2i_helpers.document.driver_values import is_unreadable_date, read_text
from d2i_helpers.document.source_rows import Read, ReadPlan, SourceRow, date_text
from d2i_helpers.extract.filters import date_columns
from d2i_helpers.extract.per_person import Numbers, NumbersOfDates
from d2i_helpers.payload_spec import Spec
from d2i_helpers.staging.guards import ColumnUse

_NOTHING, _DATE, _WRONG = range(3)  # what a value of a date column says
Rules = Mapping[tuple[str, str], tuple[int, list[str]]]  # (path, rule) to a count and examples


@dataclass(frozen=True)
class _DatesOfRead:
    """The date columns of a query: where they are in a row, and where their figures are kept."""

    rows_at: int  # where the number of rows is
    columns: tuple[tuple[str, int, int], ...]  # name, place in a row, where the figures begin


class DateColumns:
    """Dates as they are stored, in every row that is read: they decide which rows count at all.

    The figures of a person are a row of numbers: for each query how many rows it gave, and for each
    of its date columns how many values it holds and how many of these cannot be used. A row that
    belongs to several persons counts for each of them.
    """

    def __init__(self, spec: Spec, plan: ReadPlan) -> None:
        """Find the date columns of every query, but those with a known gap."""
        is_date = date_columns(spec)
        gaps = {
            (spec.sources[field.source].table, field.column)
            for block, field in spec.fields()
            if spec.known_gap(block, field)
        }
        self._reads: dict[Read, _DatesOfRead] = {}
        self.size = 0  # numbers a person
        for read in plan.reads:
            rows_at, columns = self.size, []
            self.size += 1
            for name in plan.wanted(read):
                if name in is_date and (read.table, name) not in gaps:
                    columns.append((name, plan.place(read, name), self.size))
                    self.size += 2
            self._reads[read] = _DatesOfRead(rows_at, tuple(columns))
        self._words = spec.placeholders
        self._says = NumbersOfDates(self._look)

    def figures(self, read: Read, rows: Sequence[SourceRow]) -> tuple[int, Numbers]:
        """The figures of each row of a query.

        Returns:
            Where they begin among the figures of a person; and a row of numbers for each row.
        """
        dates = self._reads[read]
        counts = np.zeros((len(rows), 1 + 2 * len(dates.columns)), np.int64)
        counts[:, 0] = 1
        for _, place, at in dates.columns:
            says = self._says.of_column(rows, place)
            counts[:, at - dates.rows_at] = says != _NOTHING
            counts[:, at - dates.rows_at + 1] = says == _WRONG
        return dates.rows_at, counts

    def _look(self, value: Any) -> int:
        """What a value says: `_NOTHING` also where it is blank, or a word for "not known"."""
        if value is None:
            return _NOTHING
        if date_text(value) is not None:
            return _DATE
        text, _ = read_text(value)
        is_wrong = is_unreadable_date(value) and (text or "").upper() not in self._words
        return _WRONG if is_wrong else _NOTHING

    def uses(self, figures: Sequence[int]) -> Iterator[ColumnUse]:
        """The figures of each column; of several ways to a table, the one that met most values.

        Args:
            figures: of all persons, added up.
        """
        uses: dict[str, ColumnUse] = {}
        for read, dates in self._reads.items():
            for name, _, at in dates.columns:
                use = ColumnUse(
                    f"{read.table}.{name}", int(figures[at]), int(figures[at + 1]), "not a date",
                    int(figures[dates.rows_at]),
                )  # fmt: skip
                if use.name not in uses or use.filled >= uses[use.name].filled:
                    uses[use.name] = use
        yield from uses.values()


def uses_of_fields(spec: Spec, tallies: Mapping[str, Tally], rules: Rules) -> Iterator[ColumnUse]:
    """The figures of each field's column (but dates) from what the documents were made of.

    Args:
        tallies: by the field's path.
        rules: what was reported of the fields.
    """
    commonest: dict[str, tuple[int, str]] = {}
    for (path, rule), (count, _) in rules.items():
        if rule not in SAYS_NOTHING:
            commonest[path] = max(commonest.get(path, (0, "")), (count, rule))
    for block, field in spec.fields():
        tally = tallies.get(field.path)
        if tally is None or field.type == "date" or spec.known_gap(block, field):
            continue
        name = f"{spec.sources[field.source].table}.{field.column}"
        filled = tally.filled + tally.wrong
        rule = commonest.get(field.path, (0, "unusable"))[1]
        yield ColumnUse(name, filled, tally.wrong, rule, tally.rows)
