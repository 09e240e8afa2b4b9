"""A fictional SSD, by seed and of any size, and believable days of changes to it.

`init` makes the 19 tables with all their columns; `day` lets a day pass. Both work only on tables
that this module made. The same seed, size and day give the same rows on every database.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator

from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.cohort import Window
from d2i_helpers.demo.simulate import daily_changes
from d2i_helpers.demo.simulate import families as fictional_families
from d2i_helpers.demo.simulate import ssd_rows as simulated_tables
from d2i_helpers.demo.simulate.stored_child import Edits, StoredChild, stored_child
from d2i_helpers.demo.simulate.words import Codes, Draw, names_of
from d2i_helpers.demo.simulate.world import World, professionals
from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, guards, row_counts

Progress = Callable[[int, int | None], None]

_CHILDREN_AT_A_TIME = 1000
_CHILDREN_A_PROFESSIONAL = 12
_MAX_PROFESSIONALS = 3000
_READ_AT_A_TIME = 200


def init(
    settings: Settings,
    *,
    children: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Make the fictional SSD (in place of an earlier fictional one) and the staging tables.

    Args:
        children: how many persons; `simulate_children` of the settings unless told.
        seed: another seed gives other people; `simulate_seed` of the settings unless told.
        progress: called with the children made so far and their number.

    Returns:
        Number of ``children``, then rows by table.

    Raises:
        SettingsError: fewer than one child is asked for.
        GateError: there are SSD tables that this module did not make, or the endpoint is live.
        DatabaseError: the database cannot be used.
    """
    _refuse_live(settings)
    wanted = settings.simulate_children if children is None else children
    if wanted < 1:
        raise SettingsError("A fictional SSD needs at least one child.")
    chosen = settings.simulate_seed if seed is None else seed
    engine = database.open_database(settings, create=True)
    try:
        return _init(engine, settings, wanted, chosen, progress or (lambda done, total: None))
    finally:
        engine.dispose()


def _init(
    engine: Engine, settings: Settings, wanted: int, seed: int, progress: Progress
) -> dict[str, int]:
    world = _world(settings, seed, Draw(seed, "init"), number=10_000_000)
    professionals(world, min(_MAX_PROFESSIONALS, max(12, wanted // _CHILDREN_A_PROFESSIONAL)))
    first = world.rows["ssd_professionals"][0]
    witness = f"{first['prof_professional_id']} {first['prof_professional_name']}"
    counts: Counter[str] = Counter()
    with database.transaction(engine) as connection:
        simulated_tables.refuse_real_ssd(connection)
        simulated_tables.recreate(connection)
        facts = {"seed": seed, "children": wanted, "day": 0, "witness": witness}
        simulated_tables.write_marker(connection, {"state": simulated_tables.LOADING, **facts})
        _flush(connection, world, counts)
    database.create_staging(engine, settings.staging_table, settings.anon_table)
    made = 0
    progress(made, wanted)
    while made < wanted:
        goal = min(wanted, made + _CHILDREN_AT_A_TIME)
        while made < goal:
            made += fictional_families.add_family(world, wanted - made)
        with database.transaction(engine) as connection:
            _flush(connection, world, counts)
        progress(made, wanted)
    with database.transaction(engine) as connection:
        _somebody_away(connection, world, wanted)
        simulated_tables.create_indexes(connection)
        finished = {"state": simulated_tables.READY, "number": world.number}
        simulated_tables.write_marker(connection, finished)
    _tell_the_guards(engine, settings)
    return {"children": made, **dict(sorted(counts.items()))}


def _tell_the_guards(engine: Engine, settings: Settings) -> None:
    """Note that the source now holds other children, so that the next run stops and says why."""
    staging = Staging(engine, settings.staging_table)
    with database.transaction(engine) as connection:
        row_counts.forget(connection, staging.name)
        if staging.count(connection, ~staging.is_deleted):
            staging.set_fact(connection, guards.MADE_ANEW, "yes")


def still_staged(settings: Settings) -> int:
    """Number of children that the staging table holds from before the fictional SSD was made."""
    engine = database.open_database(settings)
    try:
        staging = Staging(engine, settings.staging_table)
        with database.reading(engine) as connection:
            return staging.count(connection, ~staging.is_deleted)
    finally:
        engine.dispose()


def _world(settings: Settings, seed: int, draw: Draw, *, number: int) -> World:
    today = dt.datetime.combine(settings.today, dt.time())
    start = dt.datetime.combine(Window.for_date(settings.today).start, dt.time())
    return World(draw, names_of(seed), Codes(), today, start, number)


def _flush(connection: Connection, world: World, counts: Counter[str]) -> None:
    """Write what was made so far and forget it."""
    simulated_tables.insert_rows(connection, world.rows)
    counts.update({name: len(rows) for name, rows in world.rows.items()})
    world.rows.clear()


def _somebody_away(connection: Connection, world: World, wanted: int) -> None:
    """Add a child who left before the first day, so that somebody can come back on that day."""
    if wanted >= 20:
        fictional_families.add_open_case(world)
        person_id = world.rows["ssd_person"][0]["pers_person_id"]
        simulated_tables.keep_away(connection, person_id, world.rows, 0)
        world.rows.clear()


def day(settings: Settings, *, days: int = 1, progress: Progress | None = None) -> dict[str, int]:
    """Let days pass in the fictional SSD: about three children in a hundred change on each.

    A day is one transaction. What happens depends on the seed, the number of the day and the rows
    that are there; new rows are dated by the settings' day.

    Args:
        days: how many days.
        progress: called with the days that are over and their number.

    Returns:
        Number of changes by kind, over all days; one child has one change a day.

    Raises:
        GateError: there is no fictional SSD here, or the endpoint is live.
        DatabaseError: a date column holds something that is no date.
    """
    _refuse_live(settings)
    counts: Counter[str] = Counter()
    engine = database.open_database(settings)
    try:
        for over in range(days):
            counts.update(_one_day(engine, settings))
            if progress:
                progress(over + 1, days)
    finally:
        engine.dispose()
    return dict(counts)


def _one_day(engine: Engine, settings: Settings) -> dict[str, int]:
    facts = simulated_tables.open_simulated(engine)
    seed, number = int(facts["seed"]), int(facts["day"]) + 1
    draw = Draw(seed, "day", number)
    world = _world(settings, seed, draw, number=int(facts["number"]))
    with database.transaction(engine) as connection:
        people = simulated_tables.column_values(connection, "ssd_person", "pers_person_id")
        world.professionals = simulated_tables.column_values(
            connection, "ssd_professionals", "prof_professional_id"
        )
        counts, edits = _change_some(connection, world, people)
        for _ in range(_at_least_one(daily_changes.NEW_CHILDREN, len(people))):
            fictional_families.add_new_child(world)
            counts["children added"] += 1
        wanted_back = _at_least_one(daily_changes.BACK, len(people))
        for rows in simulated_tables.take_back(connection, number, wanted_back):
            simulated_tables.insert_rows(connection, rows)
            counts["children back"] += 1
        simulated_tables.apply(connection, edits.updates, edits.deletes)
        for person_id, rows in edits.leavers:
            simulated_tables.delete_child(connection, rows)
            simulated_tables.keep_away(connection, person_id, rows, number)
        simulated_tables.insert_rows(connection, world.rows)
        simulated_tables.make_keys_anew(connection, number)
        simulated_tables.write_marker(connection, {"day": number, "number": world.number})
    return counts


def _change_some(
    connection: Connection, world: World, people: list[str]
) -> tuple[dict[str, int], Edits]:
    """Try the changes on children in random order until each change has had its share."""
    edits = Edits()
    wanted = {
        name: _at_least_one(share, len(people)) for name, (_, share) in daily_changes.ALWAYS.items()
    }
    for name, (_, share) in daily_changes.SOMETIMES.items():
        wanted[name] = int(share * len(people) + world.draw.between(0, 99) / 100)
    changes = {**daily_changes.ALWAYS, **daily_changes.SOMETIMES}
    counts = {"children added": 0, "children back": 0, **dict.fromkeys(wanted, 0)}
    for stored in _in_random_order(connection, world, edits, people):
        for name in [name for name, left in wanted.items() if left]:
            if _fits(changes[name][0], stored):
                wanted[name] -= 1
                counts[name] += 1
                break
        if not any(wanted.values()):
            break
    return counts, edits


def _fits(change: daily_changes.Change, stored: StoredChild) -> bool:
    """Make a change where it fits; in rows that somebody damaged none does, and nothing is noted.

    The functions of `daily_changes` take rows as `init` makes them: a date that is null or an
    unknown word can end them anywhere.
    """
    edits, rows = stored.edits, stored.world.rows
    updates, deletes, leavers = len(edits.updates), len(edits.deletes), len(edits.leavers)
    added = {name: len(of_table) for name, of_table in rows.items()}
    try:
        return change(stored)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError):
        del edits.updates[updates:], edits.deletes[deletes:], edits.leavers[leavers:]
        for name, of_table in rows.items():
            del of_table[added.get(name, 0) :]
        return False


def _in_random_order(
    connection: Connection, world: World, edits: Edits, people: list[str]
) -> Iterator[StoredChild]:
    """Children with all their rows; of a large SSD a fifth, so a rare change may not occur."""
    order = world.draw.several(people, max(_READ_AT_A_TIME * 15, len(people) // 5))
    for start in range(0, len(order), _READ_AT_A_TIME):
        part = order[start : start + _READ_AT_A_TIME]
        for rows in simulated_tables.read_children(connection, part).values():
            yield stored_child(world, edits, rows)


def _at_least_one(share: float, total: int) -> int:
    return max(1, round(share * total))


def _refuse_live(settings: Settings) -> None:
    if settings.endpoint == "live":
        raise GateError(
            "Fictional data is not made with a profile whose endpoint is live.",
            hint="Use the demo profile, or one with endpoint: simulated.",
        )
