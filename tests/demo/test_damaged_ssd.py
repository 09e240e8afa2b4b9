"""Days pass in a fictional SSD whatever somebody did to its values: without a traceback."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import DateTime, Engine, Float, Integer, select, update

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.demo import simulate
from d2i_helpers.settings import Settings, load_settings

DATES = (None, dt.datetime(1, 1, 1), dt.datetime(1900, 1, 1), dt.datetime(9999, 12, 31))
TEXTS = (None, "", " ", "??", "{", "[1, null]", '{"a": [}', "nobody", "0", "Å\t\x0b")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = load_settings(
        None, database_url=f"sqlite:///{tmp_path / 'ssd.sqlite'}", run_date="2026-08-10"
    )
    simulate.init(made, children=40)
    yield made


def damage(engine: Engine, seed: int) -> None:
    """Another value in a third of all cells that are no keys; ids of other rows too."""
    dice = random.Random(seed)
    with database.transaction(engine) as connection:
        for table in tables.ssd_metadata().sorted_tables:
            keys = list(table.primary_key.columns)
            for row in connection.execute(select(table)).all():
                values = {
                    column.name: dice.choice(_values_of(column.type))
                    for column in table.columns
                    if column.nullable and dice.random() < 0.33
                }
                if table.name == "ssd_professionals":
                    values.pop("prof_professional_name", None)  # by which the SSD is known
                if values:
                    this = [key == getattr(row, key.name) for key in keys]
                    connection.execute(update(table).where(*this).values(values))


def _values_of(kind: object) -> tuple[object, ...]:
    if isinstance(kind, DateTime):
        return DATES
    return (None, -1, 0, 10**9) if isinstance(kind, Integer | Float) else TEXTS


@pytest.mark.parametrize("seed", range(3))
def test_days_pass_in_a_damaged_ssd(settings: Settings, seed: int) -> None:
    engine = database.open_database(settings)
    damage(engine, seed)
    changes = simulate.day(settings, days=2)
    assert changes["children added"] > 0
    engine.dispose()
