"""A column whose values nearly all cannot be used stops a run, on a first load as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import GuardError
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.per_person import NumbersOfDates
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import source
from d2i_helpers.preflight import stage as preflight

LONG_AGO = "1801-01-01"  # read as a date, and of no year that can be meant


def _fill(ssd: Any, count: int = 30, referred: str = "2025-01-01", **values: Any) -> None:
    """Children with a referral; ``values`` stand in their own rows."""
    ids = [f"P{number:02d}" for number in range(count)]
    person = {"pers_dob": "2012-05-17", "pers_sex": "F", **values}
    ssd.add("ssd_person", *({"pers_person_id": i, **person} for i in ids))
    ssd.add("ssd_cin_episodes", *(
        {"cine_referral_id": f"R{i}", "cine_person_id": i, "cine_referral_date": referred}
        for i in ids))  # fmt: skip


@pytest.mark.database_in_turn
@pytest.mark.parametrize(
    ("damage", "column"),
    [
        ({"pers_sex": "1"}, "ssd_person.pers_sex"),
        ({"pers_ethnicity": "White British"}, "ssd_person.pers_ethnicity"),
        ({"pers_dob": LONG_AGO}, "ssd_person.pers_dob"),
        ({"referred": LONG_AGO}, "ssd_cin_episodes.cine_referral_date"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_first_load_of_an_unusable_column_leaves_nothing(
    ssd: Any, engine: Engine, make_settings: Callable, damage: dict[str, str], column: str
) -> None:
    _fill(ssd, **damage)
    with pytest.raises(GuardError, match=f"30 of 30 values of {column} cannot be used") as caught:
        extract.run(engine, make_settings(chunk_size=7), load_spec())
    assert "-p max_unusable_share=1.00" in caught.value.hint
    assert ssd.staged() == {}
    with database.reading(engine) as connection:
        assert not connection.execute(select(func.count()).select_from(tables.inclusion)).scalar()
        assert not connection.execute(select(func.count()).select_from(tables.source_rows)).scalar()
    allowed = extract.run(engine, make_settings(max_unusable_share=1), load_spec())
    assert [notice for notice in allowed.notices if column in notice]


def test_a_column_that_becomes_unusable_changes_nothing(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    _fill(ssd)
    extract.run(engine, make_settings(), load_spec())
    before = ssd.staged()
    person = tables.ssd_table("ssd_person")
    with database.transaction(engine) as connection:
        some = person.c.pers_person_id >= "P14"  # 16 of 30
        connection.execute(update(person).where(some).values(pers_sex="2"))
    with pytest.raises(GuardError, match=r"16 of 30 values of ssd_person\.pers_sex"):
        extract.run(engine, make_settings(max_changed_share=1), load_spec())
    assert ssd.staged() == before
    once = make_settings(max_changed_share=1, max_unusable_share=0.54)
    assert len(extract.run(engine, once, load_spec()).notices) == 1


@pytest.mark.database_in_turn
@pytest.mark.parametrize(
    "parameters",
    [
        {"count": 19, "pers_sex": "1"},  # too few to say so
        {"pers_sex": "??"},
        {"pers_upn": "UN1"},
        {"pers_ethnicity": "unknown"},
        {"pers_expected_dob": "1900-01-01"},
        {"pers_sex": None},
    ],
    ids=str,
)
def test_what_says_nothing_and_what_is_little_stops_nobody(
    ssd: Any, engine: Engine, make_settings: Callable, parameters: dict[str, Any]
) -> None:
    _fill(ssd, **parameters)
    assert extract.run(engine, make_settings(), load_spec()).notices == []


def test_a_known_gap_of_the_system_does_not_count(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    """Eclipse may write anything where the reason for having no number belongs."""
    _fill(ssd, pers_upn_unknown="NO UPN")
    with pytest.raises(GuardError, match=r"ssd_person\.pers_upn_unknown"):
        extract.run(engine, make_settings(), load_spec())
    gap = load_spec("eclipse")
    assert extract.run(engine, make_settings(cms="eclipse"), gap).notices == []


def test_preflight_sees_it_in_its_sample(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    def look(**parameters: Any) -> preflight.Check:
        found = source.checks(engine, make_settings(**parameters), load_spec())
        return next(check for check in found if check.name == "source values")

    assert look().status == preflight.PASS  # nobody there yet
    _fill(ssd, pers_sex="1")
    check = look()
    assert check.status == preflight.WARN
    assert "30 of 30 values of ssd_person.pers_sex" in check.detail
    assert "-p max_unusable_share=1.00" in check.advice
    assert look(max_unusable_share=1).status == preflight.WARN
    with database.reading(engine) as connection:
        assert not database.has_table(connection, tables.landing)  # it leaves nothing behind


def test_the_number_of_a_date_is_made_once_for_equal_values_of_one_type() -> None:
    """1 and True are equal as keys, and say different things; a structure is no key at all."""
    seen: list[Any] = []

    def number(value: Any) -> int:
        seen.append(value)
        return len(repr(value))

    numbers = NumbersOfDates(number)
    column = [("2024-01-01",), (1,), ("2024-01-01",), (True,), (None,), (None,)]
    assert list(numbers.of_column(column, 0)) == [12, 1, 12, 4, 4, 4]
    assert seen == ["2024-01-01", 1, True, None]
    assert list(numbers.of_column([("2024-01-01",), ({"a": 1},)], 0)) == [12, 8]
