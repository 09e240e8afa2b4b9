"""How many values each source column holds, and how many of them cannot be used.

One damaged value is reported and left out. Where it is nearly every value of a column (sex stored
as 1 and 2, dates in an unknown form), the column is not what the specification takes it for, and
what the receiver holds of it would go. Placeholders, and what the system is known to leave empty or
incomplete, do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from d2i_helpers.document.assembly import SAYS_NOTHING, Assembler
from d2i_helpers.document.driver_values import is_unreadable_date, read_text
from d2i_helpers.document.source_rows import Read, ReadPlan, SourceRow, date_text
from d2i_helpers.extract.filters import date_columns
from d2i_helpers.payload_spec import Spec
from d2i_helpers.staging.guards import ColumnUse

Rules = Mapping[tuple[str, str], tuple[int, list[str]]]  # (path, rule) to a count and examples


class DateColumns:
    """Dates as they are stored, in every row that is read: they decide which rows count at all."""

    def __init__(self, spec: Spec, plan: ReadPlan) -> None:
        """Find the date columns of every query, but those with a known gap."""
        is_date = date_columns(spec)
        gaps = {
            (spec.sources[field.source].table, field.column)
            for block, field in spec.fields()
            if spec.known_gap(block, field)
        }
        self._places: dict[Read, list[tuple[str, int]]] = {
            read: [
                (name, place)
                for place, name in enumerate(columns)
                if name in is_date and (read.table, name) not in gaps
            ]
            for read, columns in plan.reads.items()
        }
        self._words = spec.placeholders
        self._filled: Counter[tuple[Read, str]] = Counter()
        self._unusable: Counter[tuple[Read, str]] = Counter()
        self._rows: Counter[Read] = Counter()

    def look(self, found: Mapping[Read, list[SourceRow]]) -> None:
        """Count the values of a page's raw rows."""
        for read, places in self._places.items():
            rows = found.get(read) or ()
            self._rows[read] += len(rows)
            for name, place in places:
                values = [row[place] for row in rows if row[place] is not None]
                no_day = [value for value in values if date_text(value) is None]
                unusable = sum(map(self._is_wrong, no_day))
                self._filled[read, name] += len(values) - len(no_day) + unusable
                self._unusable[read, name] += unusable

    def _is_wrong(self, value: Any) -> bool:
        """Whether it says something: no blank, placeholder or word for "not known"."""
        text, _ = read_text(value)
        return is_unreadable_date(value) and (text or "").upper() not in self._words

    def uses(self) -> Iterator[ColumnUse]:
        """The figures of each column; of several ways to a table, the one that met most values."""
        rising = sorted(self._filled.items(), key=lambda item: item[1])
        for (table, name), read in {(read.table, name): read for (read, name), _ in rising}.items():
            filled, unusable = self._filled[read, name], self._unusable[read, name]
            yield ColumnUse(f"{table}.{name}", filled, unusable, "not a date", self._rows[read])


def uses_of_fields(spec: Spec, assembler: Assembler, rules: Rules) -> Iterator[ColumnUse]:
    """The figures of each field's column (but dates) from what the documents were made of."""
    tallies = assembler.tallies()
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
