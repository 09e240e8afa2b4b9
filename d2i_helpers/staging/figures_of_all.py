"""The figures of all shards, so that guards judge a day and not the part of one process.

Each shard posts its figures and waits for those that are at work. Who is not at work is waited for
only a short while after this shard began, and then the day is judged without it: a shard that was
killed costs only itself. What a shard posted earlier on the day counts, unless a guard stopped it
before this shard began, in which case nothing of it was written.

The stages come in one order in each run, so a shard that has posted for a later one has passed this
one, or left it out; it is not waited for. Otherwise two shards could wait for each other.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, delete, insert, select
from sqlalchemy.engine import Connection

from d2i_helpers import database, stages
from d2i_helpers.database.tables import shard_figures
from d2i_helpers.plain_english import counted
from d2i_helpers.settings import Settings, Shard
from d2i_helpers.staging import guards
from d2i_helpers.staging.guards import Figures
from d2i_helpers.staging.lease import Held, held_by_shards
from d2i_helpers.staging.rows import Staging

LOOK_SECONDS = 0.3  # between two looks at what the others have posted
LONGEST_PART = 0.5  # of the time that a stage may take, for a shard that lives and says nothing


@dataclass(frozen=True)
class Posted:
    """What one shard posted."""

    figures: Figures
    more: dict[str, Any] = field(default_factory=dict)  # of the stage itself; JSON


@dataclass(frozen=True)
class Gathered:
    """What is known of a day when it is judged."""

    parts: Mapping[Shard, Posted]
    missing: tuple[Shard, ...] = ()  # shards that said nothing of the day

    @property
    def figures(self) -> Figures:
        """The figures of all as one."""
        if len(self.parts) == 1:
            return next(iter(self.parts.values())).figures
        return guards.of_all([part.figures for part in self.parts.values()])

    @property
    def notices(self) -> list[str]:
        """What the notebook says of how the day was judged; nothing where one process has all."""
        if len(self.parts) == 1 and not self.missing:
            return []
        if not self.missing:
            return [f"The guards judged all {len(self.parts)} shards together."]
        names = ", ".join(map(str, self.missing))
        return [
            f"The guards judged {counted(len(self.parts), 'shard')} together, without {names}: "
            "no run is at work there, and none posted its figures today."
        ]


_OF_POSTED = TypeAdapter(Posted)


def gather(
    staging: Staging,
    stage: str,
    settings: Settings,
    figures: Figures,
    more: Mapping[str, Any] | None = None,
) -> Gathered:
    """Post the figures of this shard, and wait for those of the others.

    Args:
        staging: the table on which this run holds the lease of its shard.
        stage: whose guard it is.
        settings: the day, and for how long is waited.
        figures: of this shard.
        more: further numbers of it; anything that is JSON.

    Returns:
        The figures of all shards that are known; for the whole its own.

    Raises:
        LockError: the lease was lost while it waited.
        DatabaseError: the database cannot be read or written.
    """
    part = Posted(figures, dict(more or {}))
    if staging.shard.is_whole:
        return Gathered({staging.shard: part})
    day, began = settings.today.isoformat(), time.monotonic()
    staging.in_transaction(lambda connection: _post(connection, staging, stage, day, part))
    while True:
        with database.reading(staging.engine) as connection:
            now = _look(connection, staging, stage, day, settings.shard_wait)
        too_long = time.monotonic() - began > LONGEST_PART * settings.stage_timeout
        if not now.awaited or too_long:
            return Gathered(now.parts, now.missing)
        time.sleep(LOOK_SECONDS)


def note_stop(staging: Staging, stage: str) -> None:
    """Note that the guard stopped this shard: a shard that begins later need not judge it again."""
    if staging.shard.is_whole:
        return

    def note(connection: Connection) -> None:
        this = _these(staging, stage) & (shard_figures.c.shard == str(staging.shard))
        values = connection.execute(select(shard_figures).where(this)).mappings().one()
        connection.execute(delete(shard_figures).where(this))
        stopped_at = database.utc_now(connection)
        connection.execute(insert(shard_figures).values({**values, "stopped_at": stopped_at}))

    staging.in_transaction(note)


@dataclass(frozen=True)
class _State:
    """What is posted at one moment."""

    parts: dict[Shard, Posted]
    missing: tuple[Shard, ...]
    awaited: bool  # somebody may still post


def _these(staging: Staging, stage: str) -> Any:
    return (shard_figures.c.staging_table == staging.name) & (shard_figures.c.stage == stage)


def _post(connection: Connection, staging: Staging, stage: str, day: str, part: Posted) -> None:
    mine = held_by_shards(connection, staging.name)[staging.shard]
    this = _these(staging, stage) & (shard_figures.c.shard == str(staging.shard))
    connection.execute(delete(shard_figures).where(this))
    connection.execute(
        insert(shard_figures).values(
            staging_table=staging.name,
            stage=stage,
            shard=str(staging.shard),
            day=day,
            run_id=mine.run_id,
            holder=mine.holder,
            posted_at=database.utc_now(connection),
            figures=_OF_POSTED.dump_json(part).decode(),
        )
    )


def _look(
    connection: Connection, staging: Staging, stage: str, day: str, patience: float
) -> _State:
    """What the shards have posted, and whether one of them is to be waited for."""
    order, own = stages.names(), staging.shard
    # the leases first: who gives his back in between has posted before that
    leases = held_by_shards(connection, staging.name)
    now = database.utc_now(connection)
    posted: dict[str, list[Row]] = {}
    for row in connection.execute(
        select(shard_figures).where(shard_figures.c.staging_table == staging.name)
    ):
        posted.setdefault(row.shard, []).append(row)
    began = leases[own].acquired_at
    may_begin = now < began + dt.timedelta(seconds=patience)
    parts: dict[Shard, Posted] = {}
    missing: list[Shard] = []
    awaited = False
    for shard in (Shard(number, own.of) for number in range(1, own.of + 1)):
        rows, lease = posted.get(str(shard), []), leases.get(shard)
        passed = [row for row in rows if order.index(row.stage) >= order.index(stage)]
        if lease is not None and lease.is_alive:
            awaited |= not any(_is_of(row, lease, began) for row in passed)
        else:
            awaited |= may_begin and not any(row.posted_at >= began for row in passed)
        this = next((row for row in rows if row.stage == stage), None)
        if this is not None and this.day == day and _counts(this, lease, began):
            parts[shard] = _OF_POSTED.validate_json(this.figures)
        else:
            missing.append(shard)
    return _State(parts, tuple(missing), awaited)


def _is_of(row: Row, lease: Held, began: dt.datetime) -> bool:
    """Whether who is at work on a shard posted this.

    Stages that are run by hand have a lease each, of one process.
    """
    same_process = row.holder == lease.holder and row.posted_at >= began
    return (row.run_id, row.holder) == lease.by or same_process


def _counts(row: Row, lease: Held | None, began: dt.datetime) -> bool:
    """Whether figures of the day are part of what is judged now."""
    if lease is not None and lease.is_alive and (row.run_id, row.holder) == lease.by:
        return True
    return row.stopped_at is None or row.stopped_at >= began
