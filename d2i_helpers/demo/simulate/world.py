"""What all fictional people share while an SSD is made: random draws, words, and the rows so far.

Also the professionals who work with them (`ssd_professionals`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from d2i_helpers.database import tables
from d2i_helpers.demo.simulate.words import Codes, Draw, Names, Weights

Row = dict[str, Any]

_BLANK: dict[str, Row] = {
    name.split(".")[-1]: {column.name: None for column in table.columns}
    for name, table in tables.ssd_metadata().tables.items()
}

_TEAMS = tuple(f"TEAM{number:03d}" for number in range(1, 25))
_JOBS = Weights({"Social Worker": 60, "Senior Social Worker": 15, "Team Manager": 6,
                 "Family Support Worker": 10, "Personal Adviser": 5,
                 "Independent Reviewing Officer": 4})  # fmt: skip
_FIRST_DAY, _LAST_DAY = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)


@dataclass
class World:
    """State that is shared while a fictional SSD is made: random draws, words, the rows so far."""

    draw: Draw
    names: Names
    codes: Codes
    today: dt.datetime  # midnight of the day of the run
    window_start: dt.datetime  # first day that the documents look back to
    number: int  # the last number given to a row; every row of every table takes the next
    rows: dict[str, list[Row]] = field(default_factory=dict)
    professionals: list[str] = field(default_factory=list)

    def add(self, table: str, **values: Any) -> Row:
        """Add a row to the table; columns that are not named stay null."""
        row = {**_BLANK[table], **values}
        self.rows.setdefault(table, []).append(row)
        return row

    def next_id(self, prefix: str = "") -> str:
        """The next row number as text of eight digits, so that ids sort by their creation."""
        self.number += 1
        return f"{prefix}{self.number:08d}"

    def team(self) -> str:
        """A team."""
        return self.draw.pick(_TEAMS)

    def worker(self) -> str | None:
        """A professional's id, or now and then None: none is recorded."""
        return None if self.draw.chance(0.03) else self.draw.pick(self.professionals)

    def coded(self, name: str, code: str, length: int) -> str:
        """A code as a source system stores it."""
        return self.codes.stored(self.draw, name, code, length)

    def yes(self, probability: float) -> str:
        """Y or N."""
        return "Y" if self.draw.chance(probability) else "N"

    def age(self, born: dt.datetime, on: dt.datetime | None = None) -> int:
        """Whole years of life on a day, today unless told."""
        day = on or self.today
        return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


@dataclass
class Family:
    """What brothers and sisters share."""

    surname: str
    ethnicity: str
    postcode: str | None
    nationality: str | None


@dataclass
class Child:
    """What further rows need to know about a fictional child."""

    person_id: str
    dob: dt.datetime | None  # as the story has it, also where it is not stored
    sex: str


def day_or_none(world: World, day: dt.datetime) -> dt.datetime | None:
    """The day, or None where it lies in the future."""
    return day if day <= world.today else None


def later(day: dt.datetime, days: int) -> dt.datetime:
    """The day so many days later, never beyond 9999-12-31, which may stand for "no end"."""
    try:
        return day + dt.timedelta(days=days)
    except OverflowError:
        return _LAST_DAY if days > 0 else _FIRST_DAY


def professionals(world: World, count: int) -> None:
    """Rows of ``ssd_professionals``; most with a Social Work England number."""
    draw = world.draw
    for _ in range(count):
        key = world.next_id("PR")
        name = f"{world.names.first(draw, draw.pick('FM'))} {world.names.last(draw)}"
        job = draw.weighted(_JOBS)
        number: str | None = f"SW{draw.between(10_000, 999_999)}"
        if draw.chance(0.06):
            number = draw.pick((None, None, "", "SSD_PH"))
        world.add(
            "ssd_professionals",
            prof_professional_id=key,
            prof_staff_id=f"staff{draw.between(1000, 99_999)}",
            prof_professional_name=name,
            prof_social_worker_registration_no=number,
            prof_agency_worker_flag=world.yes(0.18),
            prof_professional_job_title=job,
            prof_professional_caseload=draw.between(8, 26) if "Social" in job else 0,
            prof_professional_department=draw.pick(_TEAMS),
            prof_full_time_equivalency=draw.pick((1.0, 1.0, 1.0, 0.8, 0.6, 0.5)),
        )
        world.professionals.append(key)
