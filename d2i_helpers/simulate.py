"""A fictional SSD, by seed and of any size, and believable days of changes to it.

`init` makes the 19 tables with all their columns; `day` lets a day pass. Both work only on tables
that this module made. The same seed, size and day give the same rows on every database.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable

from sqlalchemy import Engine

from d2i_helpers import database, fictional_families, simulated_tables
from d2i_helpers.cohort import Window
from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.fictional_words import Codes, Draw, Names
from d2i_helpers.fictional_world import World, professionals
from d2i_helpers.settings import Settings

Progress = Callable[[int, int | None], None]

_CHILDREN_AT_A_TIME = 1000
_CHILDREN_A_PROFESSIONAL = 12
_MAX_PROFESSIONALS = 3000


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
        facts = {"state": "loading", "seed": seed, "children": wanted, "day": 0, "witness": witness}
        simulated_tables.write_marker(connection, facts)
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
        simulated_tables.write_marker(connection, {"state": "ready", "number": world.number})
    return {"children": made, **dict(sorted(counts.items()))}


def _world(settings: Settings, seed: int, draw: Draw, *, number: int) -> World:
    today = dt.datetime.combine(settings.today, dt.time())
    start = dt.datetime.combine(Window.for_date(settings.today).start, dt.time())
    return World(draw, Names(seed), Codes(), today, start, number)


def _flush(connection, world: World, counts: Counter[str]) -> None:
    """Write what was made so far and forget it."""
    simulated_tables.insert_rows(connection, world.rows)
    counts.update({name: len(rows) for name, rows in world.rows.items()})
    world.rows.clear()


def _somebody_away(connection, world: World, wanted: int) -> None:
    """A child who left before the first day, so that somebody can come back on it."""
    if wanted >= 20:
        fictional_families.add_open_case(world)
        person_id = world.rows["ssd_person"][0]["pers_person_id"]
        simulated_tables.keep_away(connection, person_id, world.rows, 0)
        world.rows.clear()


def _refuse_live(settings: Settings) -> None:
    if settings.endpoint == "live":
        raise GateError(
            "Fictional data is not made with a profile whose endpoint is live.",
            hint="Use the demo profile, or one with endpoint: simulated.",
        )
