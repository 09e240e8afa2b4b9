"""Until when a document holds if no row changes.

Rules compare dates with the first and the last day of the window. The first day changes on 1 April
only, when everything is made anew (`salt`). The last one moves every day: what a rule says of a
date changes, if at all, when the last day reaches the date, or passes it by a day. The same holds
for the birthdays at ages that rules name. Each date of a child's rows is looked at, whether or not
a rule compares it with anything.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d2i_helpers.cohort import Window
from d2i_helpers.cohort.inclusion import AGES, birthday
from d2i_helpers.document.source_rows import Read, ReadPlan, SourceRow, date_text
from d2i_helpers.extract.filters import date_columns
from d2i_helpers.extract.per_person import Numbers, NumbersOfDates, PerPerson
from d2i_helpers.payload_spec import Spec

FOREVER = dt.date.max.toordinal()


class ValidUntil:
    """Compiled once a run for a specification and a window."""

    def __init__(
        self, spec: Spec, plan: ReadPlan, window: Window, births: Sequence[str] = ()
    ) -> None:
        """``births``: columns of the person with a date from which an age is counted."""
        is_date = date_columns(spec)
        self._window = window
        self._births = set(births)
        self._of_days = NumbersOfDates(self._of_day)
        self._of_births = NumbersOfDates(self._of_birth)
        self._person = plan.read_of(plan.person.name)
        self._places = {
            read: [(name, place) for place, name in enumerate(columns) if name in is_date]
            for read, columns in plan.reads.items()
        }

    def days(
        self,
        found: Mapping[Read, Sequence[SourceRow]],
        sums: PerPerson,
    ) -> Numbers:
        """The last day of a run, as an ordinal, for which each person's document holds.

        Args:
            found: the raw rows of every query.
            sums: made of the same rows' keys; it says who the persons are.
        """
        until = np.full(len(sums.persons), FOREVER, np.int64)
        for read, places in self._places.items():
            rows = found.get(read) or ()
            of_rows = self._of_rows(read, places, rows)
            if of_rows is not None:
                reached = sums.of(read, of_rows, least=True, nothing=FOREVER)
                until = np.minimum(until, reached)
        return until

    def _of_rows(
        self, read: Read, places: Sequence[tuple[str, int]], rows: Sequence[SourceRow]
    ) -> Numbers | None:
        """The same for each row of a query; None where nothing lies ahead."""
        until: Numbers | None = None
        for name, place in places:
            is_birth = read == self._person and name in self._births
            runs = (self._of_births if is_birth else self._of_days).of_column(rows, place)
            if len(runs) and runs.min() < FOREVER:
                until = runs if until is None else np.minimum(until, runs)
        return until

    def _of_day(self, value: Any) -> int:
        """The last day of a run for which a raw date holds."""
        day = date_text(value)
        return self._last_run(day if day is not None and day >= self._window.last else None)

    def _of_birth(self, value: Any) -> int:
        """The same for a date from which an age is counted."""
        return self._last_run(_next_birthday(date_text(value), self._window.last))

    def _last_run(self, day: str | None) -> int:
        """The last day of a run before the window's end comes to a day, or passes it."""
        if day is None:
            return FOREVER
        date, end = dt.date.fromisoformat(day), self._window.end
        changes = date if date > end else end + dt.timedelta(days=1)  # the end at which it may
        return changes.toordinal() - 2  # the window ends on the day after the run


def _next_birthday(born: str | None, last: str) -> str | None:
    """The first day from ``last`` on that counts: the birth itself, or an age that rules name."""
    if born is None:
        return None
    days = (born, *(birthday(born, age).isoformat() for age in AGES))
    return min((day for day in days if day >= last), default=None)
