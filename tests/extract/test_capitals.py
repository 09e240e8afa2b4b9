"""Ids that differ in capitals alone, on a database that takes them for one, as SQL Server does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.schema import CreateTable

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import Spec, load_spec


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec()


@pytest.fixture
def folds(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSD tables whose ids are compared without capitals, as collations of SQL Server do.

    Only SQLite can be told so by column. It is asked for before the fixture `ssd`, which makes the
    tables that are missing.
    """
    if engine.dialect.name != "sqlite":
        pytest.skip("no collation without capitals")
    with database.transaction(engine) as connection:
        for table in tables.ssd_metadata().sorted_tables:
            made = str(CreateTable(table).compile(engine)).replace("ssd.ssd_", "ssd_")
            connection.exec_driver_sql(re.sub(r"(VARCHAR\(\d+\))", r"\1 COLLATE NOCASE", made))
    monkeypatch.setattr(database, "takes_capitals_alike", lambda _connection: True)


def fill(ssd: Any, child: str, *, person: str, referral: str) -> None:
    """A child with a plan; the ids in the rows that hang on it are written as given."""
    ssd.add("ssd_person", {"pers_person_id": child, "pers_dob": "2012-05-17"})
    ssd.add(
        "ssd_cin_episodes",
        {
            "cine_referral_id": f"r-{child}",
            "cine_person_id": person,
            "cine_referral_date": "2025-01-01",
        },
    )
    ssd.add(
        "ssd_cin_plans",
        {
            "cinp_cin_plan_id": f"plan-{child}",
            "cinp_referral_id": referral,
            "cinp_person_id": person,
            "cinp_cin_plan_start_date": "2025-02-01",
        },
    )


def plans(document: dict[str, Any]) -> list[str]:
    episodes = document["social_care_episodes"]
    found = [plan for episode in episodes for plan in episode.get("child_in_need_plans", ())]
    return [plan["child_in_need_plan_id"] for plan in found]


@pytest.mark.parametrize("chunk_size", [1, 500])
def test_rows_belong_to_the_child_that_the_database_joins_them_to(
    folds: None, ssd: Any, chunk_size: int, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    fill(ssd, "ab1", person="AB1", referral="R-AB1")
    fill(ssd, "Ab2", person="Ab2", referral="r-Ab2")
    extract.run(engine, make_settings(chunk_size=chunk_size), spec)
    documents = ssd.documents()
    assert documents.keys() == {"ab1", "Ab2"}
    assert {name: plans(held) for name, held in documents.items()} == {
        "ab1": ["plan-ab1"], "Ab2": ["plan-Ab2"],
    }  # fmt: skip
    # what is sent is written as in its own row
    assert documents["ab1"]["social_care_episodes"][0]["social_care_episode_id"] == "r-ab1"


def test_a_row_that_fits_two_persons_is_given_to_neither(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database gives the rows of both for each; nothing of them can be told apart."""
    monkeypatch.setattr(database, "takes_capitals_alike", lambda _connection: True)
    fill(ssd, "ab1", person="Ab1", referral="r-ab1")
    fill(ssd, "AB1", person="AB1", referral="r-AB1")
    extract.run(engine, make_settings(), spec)
    found = {name: plans(held) for name, held in ssd.documents().items()}
    assert found == {"AB1": ["plan-AB1"]}  # the row of Ab1 is not given to either


def test_where_capitals_make_two_ids_the_rows_are_nobodys(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    fill(ssd, "ab1", person="AB1", referral="r-ab1")
    extract.run(engine, make_settings(), spec)
    assert ssd.documents() == {}


def test_the_statutory_cohort_is_compared_in_the_same_way(
    folds: None, ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    fill(ssd, "ab1", person="ab1", referral="r-ab1")
    with database.transaction(engine) as connection:
        connection.exec_driver_sql(
            "create table d2i_statutory (person_id varchar(48) collate nocase)"
        )
        connection.exec_driver_sql("insert into d2i_statutory values ('AB1')")
    extract.run(engine, make_settings(statutory_cohort_table="d2i_statutory"), spec)
    assert ssd.documents().keys() == {"ab1"}
