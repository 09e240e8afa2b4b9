"""A fictional child as the database holds it, and the edits of a day to its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from d2i_helpers.demo.simulate.world import Child, Row, World, later

Rows = dict[str, list[Row]]


@dataclass
class Edits:
    """Changes of a day to stored rows; new rows are collected in the world."""

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
class StoredChild:
    """A child with all its rows at the start of the day."""

    world: World
    edits: Edits
    rows: Rows
    child: Child

    @property
    def person(self) -> Row:
        """The person's row."""
        return self.rows["ssd_person"][0]

    def rows_of(self, table: str) -> list[Row]:
        """The child's rows of a table; an empty list where there are none."""
        return self.rows.get(table, [])

    def recent_day(self, days: int = 3) -> dt.datetime:
        """Today or a few days before."""
        return later(self.world.today, -self.world.draw.between(0, days))

    def referrals_in_window(self) -> list[Row]:
        """Referrals that overlap the window; none for a child who is too old or not yet born."""
        born = self.child.dob
        if born is None or born > self.world.today or self.world.age(born) > 25:
            return []
        return [row for row in self.rows_of("ssd_cin_episodes") if self._touches(row)]

    def _touches(self, row: Row) -> bool:
        begun, ended = row["cine_referral_date"], row["cine_close_date"]
        return begun is not None and (ended is None or ended >= self.world.window_start)

    def open_referrals(self) -> list[Row]:
        """The open ones of `referrals_in_window`."""
        return [row for row in self.referrals_in_window() if row["cine_close_date"] is None]

    def rows_under(self, table: str, column: str, referrals: Iterable[Row]) -> list[Row]:
        """Rows of a table that belong to one of the referrals."""
        keys = {row["cine_referral_id"] for row in referrals}
        return [row for row in self.rows_of(table) if row[column] in keys]

    def in_care(self) -> bool:
        """Whether the child is in care today."""
        return any(
            row["clae_cla_episode_ceased_date"] is None for row in self.rows_of("ssd_cla_episodes")
        )


def stored_child(world: World, edits: Edits, rows: Rows) -> StoredChild:
    """Make a child from its stored rows."""
    person = rows["ssd_person"][0]
    sex = (person["pers_sex"] or "U").strip().upper()[:1]
    return StoredChild(world, edits, rows, Child(person["pers_person_id"], person["pers_dob"], sex))
