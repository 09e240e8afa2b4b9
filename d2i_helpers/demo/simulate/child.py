"""A fictional child as the database holds it, with what a day does to its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from d2i_helpers.demo.simulate.world import Child, Row, World, later

Rows = dict[str, list[Row]]


@dataclass
class Edits:
    """What a day does to rows that are there; new rows gather in the world."""

    updates: list[tuple[str, str, Row]] = field(default_factory=list)  # table, key, new values
    deletes: list[tuple[str, str]] = field(default_factory=list)  # table, key
    leavers: list[tuple[str, Rows]] = field(default_factory=list)  # person, all rows

    def update(self, table: str, row: Row, **values: object) -> None:
        """Change a row; its key is its first column, or the person id."""
        self.updates.append((table, key_of(table, row), values))


def key_of(table: str, row: Row) -> str:
    """The key of a row."""
    return row["pers_person_id" if table == "ssd_person" else next(iter(row))]


@dataclass
class Held:
    """A child with all its rows, as the day finds it."""

    world: World
    edits: Edits
    rows: Rows
    child: Child

    @property
    def person(self) -> Row:
        """The person's row."""
        return self.rows["ssd_person"][0]

    def of(self, table: str) -> list[Row]:
        """Rows of a table; none is an empty list."""
        return self.rows.get(table, [])

    def recently(self, days: int = 3) -> dt.datetime:
        """Today or a few days before."""
        return later(self.world.today, -self.world.draw.between(0, days))

    def seen(self) -> list[Row]:
        """Referrals of a child of the right age that touch the window."""
        born = self.child.dob
        if born is None or born > self.world.today or self.world.age(born) > 25:
            return []
        return [row for row in self.of("ssd_cin_episodes") if self._touches(row)]

    def _touches(self, row: Row) -> bool:
        begun, ended = row["cine_referral_date"], row["cine_close_date"]
        return begun is not None and (ended is None or ended >= self.world.window_start)

    def open(self) -> list[Row]:
        """Of those, the ones that are open."""
        return [row for row in self.seen() if row["cine_close_date"] is None]

    def under(self, table: str, column: str, referrals: Iterable[Row]) -> list[Row]:
        """Rows of a table that belong to one of the referrals."""
        keys = {row["cine_referral_id"] for row in referrals}
        return [row for row in self.of(table) if row[column] in keys]

    def in_care(self) -> bool:
        """Whether the child is in care today."""
        return any(
            row["clae_cla_episode_ceased_date"] is None for row in self.of("ssd_cla_episodes")
        )


def held(world: World, edits: Edits, rows: Rows) -> Held:
    """A child from the rows that the database holds."""
    person = rows["ssd_person"][0]
    sex = (person["pers_sex"] or "U").strip().upper()[:1]
    return Held(world, edits, rows, Child(person["pers_person_id"], person["pers_dob"], sex))
