"""The fictional SSD on every engine: complete, the same by seed, never over a real one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import DateTime, Engine, delete, func, insert, inspect, select, text, update
from sqlalchemy.schema import CreateSchema

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.demo import simulate
from d2i_helpers.demo.simulate import daily_changes, stage
from d2i_helpers.demo.simulate import ssd_rows as simulated_tables
from d2i_helpers.errors import DatabaseError, GateError, SettingsError
from d2i_helpers.settings import Settings

MakeSettings = Callable[..., Settings]


def contents(engine: Engine) -> dict[str, list[tuple]]:
    """All rows of all SSD tables, sorted."""
    with database.reading(engine) as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in tables.ssd_metadata().tables.values()
        }


def count(engine: Engine, table: str) -> int:
    with database.reading(engine) as connection:
        return connection.execute(
            select(func.count()).select_from(tables.ssd_table(table))
        ).scalar()


def persons(engine: Engine) -> set[str]:
    with database.reading(engine) as connection:
        return set(simulated_tables.column_values(connection, "ssd_person", "pers_person_id"))


# ------------------------------------------------------------------------------------------ init
def test_a_thousand_children_fill_every_column_and_few_change_on_a_day(
    make_settings: MakeSettings, engine: Engine
) -> None:
    made = simulate.init(make_settings(), children=1000)
    assert made["children"] == made["ssd_person"] == count(engine, "ssd_person") == 1000
    rows = contents(engine)
    assert len(rows) == 19
    empty = [
        column.name
        for table in tables.ssd_metadata().tables.values()
        for place, column in enumerate(table.columns)
        if all(row[place] is None for row in rows[table.name])
    ]
    assert empty == []
    assert 20 <= sum(simulate.day(make_settings()).values()) <= 50  # 2 to 5 in a hundred


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(
    make_settings: MakeSettings, engine: Engine
) -> None:
    settings = make_settings()
    simulate.init(settings, children=40)
    first = contents(engine)
    simulate.day(settings)
    simulate.init(settings, children=40)
    assert contents(engine) == first
    simulate.init(settings, children=40, seed=2)
    assert contents(engine)["ssd_person"] != first["ssd_person"]


def test_the_number_made_at_a_time_does_not_matter(
    make_settings: MakeSettings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    simulate.init(settings, children=40)
    whole = contents(engine)
    monkeypatch.setattr(stage, "_CHILDREN_AT_A_TIME", 7)
    simulate.init(settings, children=40)
    assert contents(engine) == whole


def test_init_makes_the_staging_tables_and_tells_its_progress(
    make_settings: MakeSettings, engine: Engine
) -> None:
    settings = make_settings()
    told: list[tuple[int, int | None]] = []
    simulate.init(settings, children=5, progress=lambda *sign: told.append(sign))
    assert told == [(0, 5), (5, 5)]
    with database.reading(engine) as connection:
        for name in (settings.staging_table, settings.anon_table):
            assert database.has_table(connection, tables.staging_table(name))


def test_the_tables_go_into_the_schema_of_the_profile(
    make_settings: MakeSettings, engine: Engine
) -> None:
    schema = "main" if engine.dialect.name == "sqlite" else "fictional"
    if schema == "fictional":
        with database.transaction(engine) as connection:
            connection.execute(CreateSchema(schema))
    settings = make_settings(ssd_schema=schema)
    simulate.init(settings, children=20)
    simulate.day(settings)
    with engine.connect() as connection:
        found = set(inspect(connection).get_table_names(schema=schema))
    assert {"ssd_person", "ssd_permanence", "d2i_simulated", "d2i_simulated_away"} <= found


@pytest.mark.parametrize("children", [0, -1])
def test_init_refuses_no_children(make_settings: MakeSettings, children: int) -> None:
    with pytest.raises(SettingsError, match="at least one"):
        simulate.init(make_settings(), children=children)


# ------------------------------------------------------------------- a real SSD is left alone
def real_ssd(engine: Engine) -> None:
    with database.transaction(engine) as connection:
        tables.ssd_metadata().create_all(connection)
        row = {"pers_person_id": "1", "pers_surname": "Real"}
        connection.execute(insert(tables.ssd_table("ssd_person")), [row])


def test_a_real_ssd_is_neither_overwritten_nor_changed(
    make_settings: MakeSettings, engine: Engine
) -> None:
    real_ssd(engine)
    before = contents(engine)
    with pytest.raises(GateError, match="did not make") as refused:
        simulate.init(make_settings(), children=5)
    assert "database_url" in refused.value.hint
    with pytest.raises(GateError, match="no fictional SSD"):
        simulate.day(make_settings())
    assert contents(engine) == before


def test_empty_tables_that_somebody_else_made_are_left_alone(
    make_settings: MakeSettings, engine: Engine
) -> None:
    with database.transaction(engine) as connection:
        tables.ssd_table("ssd_person").create(connection)
    with pytest.raises(GateError, match="1 SSD tables"):
        simulate.init(make_settings(), children=5)


def test_a_real_load_over_a_fictional_ssd_is_noticed(
    make_settings: MakeSettings, engine: Engine
) -> None:
    settings = make_settings()
    simulate.init(settings, children=5)
    with database.transaction(engine) as connection:  # what a nightly load does
        connection.execute(delete(tables.ssd_table("ssd_professionals")))
    for step in (lambda: simulate.init(settings, children=5), lambda: simulate.day(settings)):
        with pytest.raises(GateError, match="did not make"):
            step()


def test_an_init_that_was_cut_short_is_made_again_but_has_no_days(
    make_settings: MakeSettings, engine: Engine
) -> None:
    settings = make_settings()
    simulate.init(settings, children=30)
    with database.transaction(engine) as connection:
        simulated_tables.write_marker(connection, {"state": "loading"})
    with pytest.raises(GateError, match="no fictional SSD"):
        simulate.day(settings)
    assert simulate.init(settings, children=30)["children"] == 30
    simulate.day(settings)


def test_a_live_profile_gets_no_fictional_data(make_settings: MakeSettings) -> None:
    live = make_settings(endpoint="live")
    for step in (simulate.init, simulate.day):
        with pytest.raises(GateError, match="live"):
            step(live)


# ------------------------------------------------------------------------------------------- days
def test_the_same_days_give_the_same_rows_on_every_engine(
    make_settings: MakeSettings, engine: Engine, tmp_path: Path
) -> None:
    here, there = make_settings(), make_settings(database_url=f"sqlite:///{tmp_path / 'b.sqlite'}")
    simulate.init(here, children=100)
    counts = simulate.day(here), simulate.day(here)
    simulate.init(there, children=100)
    assert simulate.day(there, days=2) == {k: counts[0][k] + counts[1][k] for k in counts[0]}
    other = database.open_database(there)
    try:
        assert contents(other) == contents(engine)
    finally:
        other.dispose()


def test_a_day_makes_the_keys_anew_that_systemc_makes_anew(
    make_settings: MakeSettings, engine: Engine
) -> None:
    settings = make_settings()
    simulate.init(settings, children=200)
    nights = []
    for _ in range(2):
        simulate.day(settings)
        with database.reading(engine) as connection:
            nights.append(
                {
                    name: simulated_tables.column_values(connection, name, key)
                    for name, key in simulated_tables.KEYS_OF_A_LOAD.items()
                }
            )
    for name in simulated_tables.KEYS_OF_A_LOAD:
        assert nights[0][name] and nights[1][name]
        assert set(nights[0][name]).isdisjoint(nights[1][name])


def test_a_hundred_children_have_each_kind_of_change_on_a_day(make_settings: MakeSettings) -> None:
    settings = make_settings()
    simulate.init(settings, children=100)
    counts = simulate.day(settings)
    sometimes = daily_changes.SOMETIMES
    assert {kind for kind, number in counts.items() if not number} <= set(sometimes)
    assert sum(counts.values()) < 25


def test_a_child_who_left_comes_back_with_the_same_rows(
    make_settings: MakeSettings, engine: Engine
) -> None:
    settings = make_settings()
    simulate.init(settings, children=100)
    before, rows_before = persons(engine), contents(engine)
    assert simulate.day(settings)["children left"] == 1
    (leaver,) = before - persons(engine)
    left_anything = [
        name
        for name, column in simulated_tables.PERSON_COLUMNS.items()
        if leaver in _column(engine, name, column)
    ]
    assert left_anything == []
    simulate.day(settings)
    assert leaver in persons(engine)
    after = contents(engine)
    for name, column in simulated_tables.PERSON_COLUMNS.items():
        assert _of(before=rows_before, name=name, column=column, person=leaver) == _of(
            before=after, name=name, column=column, person=leaver
        )


def _column(engine: Engine, table: str, column: str) -> set[Any]:
    with database.reading(engine) as connection:
        return set(connection.execute(select(tables.ssd_table(table).c[column])).scalars())


def _of(*, before: dict[str, list[tuple]], name: str, column: str, person: str) -> list[tuple]:
    place = [c.name for c in tables.ssd_table(name).columns].index(column)
    return [row for row in before[name] if row[place] == person]


def test_no_row_is_left_without_its_child(make_settings: MakeSettings, engine: Engine) -> None:
    settings = make_settings()
    simulate.init(settings, children=100)
    simulate.day(settings, days=4)
    known = persons(engine)
    for name, column in simulated_tables.PERSON_COLUMNS.items():
        if name != "ssd_permanence":  # some name the former id, as SystemC does
            assert _column(engine, name, column) <= known, name
    assessments = _column(engine, "ssd_cin_assessments", "cina_assessment_id")
    assert _column(engine, "ssd_assessment_factors", "cinf_assessment_id") <= assessments
    periods = _column(engine, "ssd_cla_episodes", "clae_cla_id")
    assert _column(engine, "ssd_permanence", "perm_cla_id") <= periods
    assert _column(engine, "ssd_cla_placement", "clap_cla_id") == periods


def test_a_day_that_fails_changes_nothing(
    make_settings: MakeSettings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    simulate.init(settings, children=40)
    before = contents(engine)

    def refuse(*_: object) -> None:
        raise RuntimeError("the plug is pulled")

    monkeypatch.setattr(simulated_tables, "keep_away", refuse)
    with pytest.raises(RuntimeError):
        simulate.day(settings)
    monkeypatch.undo()
    assert contents(engine) == before


def test_days_pass_where_nothing_is_left_to_change(
    make_settings: MakeSettings, engine: Engine
) -> None:
    settings = make_settings()
    simulate.init(settings, children=1)
    for _ in range(3):
        simulate.day(settings)
    with database.transaction(engine) as connection:
        connection.execute(update(tables.ssd_table("ssd_person")).values(pers_dob=None))
    assert simulate.day(settings)["children added"] == 1


@pytest.mark.parametrize("value", ["31/12/2024", 20241231])
def test_something_that_is_no_date_is_named_by_its_column(
    make_settings: MakeSettings, engine: Engine, value: str | int
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("only SQLite keeps anything in a date column")
    settings = make_settings()
    simulate.init(settings, children=40)
    with database.transaction(engine) as connection:
        connection.execute(
            text("update ssd_cin_episodes set cine_referral_date = :value"), {"value": value}
        )
    before = count(engine, "ssd_person")
    with pytest.raises(DatabaseError) as raised:
        simulate.day(settings)
    assert "`ssd_cin_episodes`" in str(raised.value) and "`cine_referral_date`" in str(raised.value)
    assert str(value) not in str(raised.value)
    assert count(engine, "ssd_person") == before


@pytest.mark.parametrize("year", [1, 9999])
def test_the_first_and_the_last_day_of_the_calendar_stop_no_day(
    make_settings: MakeSettings, engine: Engine, year: int
) -> None:
    settings = make_settings()
    simulate.init(settings, children=60)
    day = dt.datetime(year, 1, 1) if year == 1 else dt.datetime(year, 12, 31)
    with database.transaction(engine) as connection:
        for table in tables.ssd_metadata().tables.values():
            dates = [c.name for c in table.columns if isinstance(c.type, DateTime)]
            if dates:
                connection.execute(update(table).values(dict.fromkeys(dates, day)))
    assert simulate.day(settings, days=3)["children added"]
