"""Ids that differ in capitals alone, on a database that takes them for one, as SQL Server does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.schema import CreateTable

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.sources import SourceReader
from d2i_helpers.payload_spec import Spec, load_spec
from d2i_helpers.staging import Staging, attention
from tests.database import day


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec()


@pytest.fixture
def folds(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSD tables whose ids are compared without capitals, as collations of SQL Server do.

    Only SQLite can be told so by column. It is asked for before the fixture `ssd`, which makes the
    tables that are missing.
    """
    if engine.dialect.name == "mssql":
        return  # the usual collations do
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


@pytest.fixture
def staging_folds(engine: Engine, folds: None) -> None:
    """Our own tables as well, as the collation of their database makes them."""
    if engine.dialect.name == "mssql":
        return
    ours = [tables.staging_table("ssd_api_data_staging"), *tables.our_tables().tables.values()]
    with database.transaction(engine) as connection:
        for table in ours:
            made = str(CreateTable(table).compile(engine)).replace("staging.", "")
            connection.exec_driver_sql(re.sub(r"(VARCHAR\(\d+\))", r"\1 COLLATE NOCASE", made))
            for index in table.indexes:
                unique = "unique" if index.unique else ""
                columns = ", ".join(column.name for column in index.columns)
                connection.exec_driver_sql(
                    f"create {unique} index {index.name} on {table.name} ({columns})"
                )


def rename(engine: Engine, old: str, new: str) -> None:
    places = {"ssd_person": "pers_person_id", "ssd_cin_episodes": "cine_person_id",
              "ssd_cin_plans": "cinp_person_id"}  # fmt: skip
    with database.transaction(engine) as connection:
        for table, column in places.items():
            id_column = tables.ssd_table(table).c[column]
            connection.execute(
                update(tables.ssd_table(table)).where(id_column == old).values({column: new})
            )


def test_a_child_whose_id_is_written_otherwise_than_yesterday_is_the_same_child(
    staging_folds: None, ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    """The receiver knows the staged id; under the other one it would hold the child twice."""
    settings = make_settings()
    fill(ssd, "ab1", person="ab1", referral="r-ab1")
    fill(ssd, "ab2", person="ab2", referral="r-ab2")
    assert day.run(engine, settings)["submit"]["acknowledged"] == 2
    rename(engine, "ab1", "AB1")
    quiet = extract.run(engine, settings, spec)
    assert (quiet.counts["unchanged"], quiet.counts["gone"]) == (2, 0)
    assert any("what is staged, which the receiver knows, stays" in said for said in quiet.notices)
    with database.transaction(engine) as connection:
        connection.exec_driver_sql("update ssd_person set pers_forename = 'Ada'")
    fill(ssd, "ab3", person="ab3", referral="r-ab3")
    counts = day.run(engine, settings)
    assert counts["submit"]["acknowledged"] == 3
    documents = ssd.documents()
    assert documents.keys() == {"ab1", "ab2", "ab3"}
    assert documents["ab1"]["la_child_id"] == "ab1"
    assert documents["ab1"]["child_details"]["first_name"] == "Ada"


def test_a_child_who_is_held_back_under_another_spelling_keeps_its_row(
    staging_folds: None, ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    if engine.dialect.name == "mssql":
        pytest.skip("a column of dates takes no text there")
    settings = make_settings()
    fill(ssd, "ab1", person="ab1", referral="r-ab1")
    day.run(engine, settings)
    rename(engine, "ab1", "AB1")
    with database.transaction(engine) as connection:
        connection.exec_driver_sql("update ssd_person set pers_dob = 'no date'")
    counts = extract.run(engine, settings, spec).counts
    assert (counts["held_back"], counts["gone"]) == (1, 0)
    with database.reading(engine) as connection:
        held = attention.held_back(connection, Staging(engine, settings.staging_table))
    assert held == ["ab1"]
    assert ssd.staged()["ab1"]["api_response"].startswith("held back: ")


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


@pytest.mark.parametrize("chunk_size", [1, 500])
def test_what_a_child_has_does_not_depend_on_how_others_of_its_page_are_written(
    folds: None, ssd: Any, chunk_size: int, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    """One worker of two children, whose number one of them has in other capitals."""
    for child, worker in (("ab1", "w1"), ("ab2", "W1"), ("ab3", "W3")):
        fill(ssd, child, person=child, referral=f"r-{child}")
        involved = {"invo_professional_id": worker, "invo_professional_role_id": "CW"}
        since = {"invo_referral_id": f"r-{child}", "invo_involvement_start_date": "2025-01-10"}
        ssd.add("ssd_involvements", {"invo_involvements_id": f"i-{child}", **involved, **since})
    for worker in ("w1", "W3"):
        number = {"prof_social_worker_registration_no": f"SW{worker}"}
        ssd.add("ssd_professionals", {"prof_professional_id": worker, **number})
    extract.run(engine, make_settings(chunk_size=chunk_size), spec)
    workers = {
        child: [one["worker_id"] for one in held["social_care_episodes"][0]["care_worker_details"]]
        for child, held in ssd.documents().items()
    }
    assert workers == {"ab1": ["SWw1"], "ab2": ["SWw1"], "ab3": ["SWW3"]}


def test_a_row_that_fits_two_persons_is_given_to_neither(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database gives the rows of both for each; nothing of them can be told apart."""
    if engine.dialect.name == "mssql":
        pytest.skip("capitals do not make two ids there")
    monkeypatch.setattr(database, "takes_capitals_alike", lambda _connection: True)
    fill(ssd, "ab1", person="Ab1", referral="r-ab1")
    fill(ssd, "AB1", person="AB1", referral="r-AB1")
    extract.run(engine, make_settings(), spec)
    found = {name: plans(held) for name, held in ssd.documents().items()}
    assert found == {"AB1": ["plan-AB1"]}  # the row of Ab1 is not given to either


def test_where_capitals_make_two_ids_the_rows_are_nobodys(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    if engine.dialect.name == "mssql":
        pytest.skip("capitals do not make two ids there")
    fill(ssd, "ab1", person="AB1", referral="r-ab1")
    extract.run(engine, make_settings(), spec)
    assert ssd.documents() == {}


def test_the_statutory_cohort_is_compared_in_the_same_way(
    folds: None, ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    fill(ssd, "ab1", person="ab1", referral="r-ab1")
    with database.transaction(engine) as connection:
        collation = "collate nocase" if engine.dialect.name == "sqlite" else ""
        connection.exec_driver_sql(
            f"create table d2i_statutory (person_id varchar(48) {collation})"
        )
        connection.exec_driver_sql("insert into d2i_statutory values ('AB1')")
    extract.run(engine, make_settings(statutory_cohort_table="d2i_statutory"), spec)
    assert ssd.documents().keys() == {"ab1"}


@pytest.mark.parametrize("chunk_size", [1, 2, 500])
@pytest.mark.parametrize("written", [" AB1", "\u2003aB1", "AB1\t"])
def test_an_id_with_other_capitals_and_blanks_is_found_too(
    folds: None,
    ssd: Any,
    written: str,
    chunk_size: int,
    engine: Engine,
    make_settings: Callable,
    spec: Spec,
) -> None:
    """It is asked for by the person's id, of which it differs in both."""
    for child in ("aa0", "ab1", "ac2"):
        fill(ssd, child, person=written if child == "ab1" else child, referral=f"r-{child}")
    extract.run(engine, make_settings(chunk_size=chunk_size), spec)
    documents = ssd.documents()
    assert {name: plans(held) for name, held in documents.items()} == {
        name: [f"plan-{name}"] for name in ("aa0", "ab1", "ac2")
    }


@pytest.mark.parametrize("chunk_size", [1, 500])
def test_ids_that_differ_in_capitals_and_blanks_do_not_mix_children_up(
    folds: None, ssd: Any, chunk_size: int, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    """The database joins `r1` to `R1` and not to one with a blank before it."""
    fill(ssd, "aa0", person="aa0", referral="r1")
    fill(ssd, "ab1", person="ab1", referral=" r1")
    with database.transaction(engine) as connection:
        for child, referral in (("aa0", "R1"), ("ab1", " r1")):
            connection.exec_driver_sql(
                f"update ssd_cin_episodes set cine_referral_id = '{referral}' "  # noqa: S608
                f"where cine_person_id = '{child}'"
            )
    extract.run(engine, make_settings(chunk_size=chunk_size), spec)
    documents = ssd.documents()
    assert {name: plans(held) for name, held in documents.items()} == {
        "aa0": ["plan-aa0"], "ab1": ["plan-ab1"],
    }  # fmt: skip


@pytest.mark.parametrize("other", [" AB1", "\u2003AB1"])
def test_persons_whose_ids_differ_in_capitals_and_blanks_are_both_held_back(
    folds: None, ssd: Any, other: str, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    fill(ssd, "ab1", person="ab1", referral="r-ab1")
    fill(ssd, "ac2", person="ac2", referral="r-ac2")
    fill(ssd, other, person=other, referral=f"r-{other}")
    day = extract.run(engine, make_settings(), spec)
    assert (day.counts["new"], day.counts["left_out"], day.counts["need_attention"]) == (1, 2, 2)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 2])
def test_more_persons_of_one_id_than_a_page_holds_end_too(
    folds: None,
    ssd: Any,
    chunk_size: int,
    is_known: bool,
    engine: Engine,
    make_settings: Callable,
    spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database sorts them in any order, and a page could begin where the last one did."""
    if not is_known:  # as ids that differ in accents, say
        monkeypatch.setattr(SourceReader, "_compared", lambda _reader, _connection, raw: raw)
    persons = tables.ssd_table("ssd_person")
    collation = "collate nocase" if engine.dialect.name == "sqlite" else ""
    columns = ", ".join(f"{one.name} varchar(48) {collation}" for one in persons.c)
    with database.transaction(engine) as connection:
        connection.exec_driver_sql("drop table ssd_person")
        connection.exec_driver_sql(f"create table ssd_person ({columns})")  # without a key
    for child in ("ab1", "ac2"):
        fill(ssd, child, person=child, referral=f"r-{child}")
    for other in ("AB1", "Ab1"):
        ssd.add("ssd_person", {"pers_person_id": other, "pers_dob": "2012-05-17"})
    reader = Documents(engine, make_settings(chunk_size=chunk_size), spec).reader
    with database.reading(engine) as connection:
        pages = itertools.islice(reader.batches(connection), 20)
        found = [row[0] for page in pages for row in page.persons]
    assert set(found) == {"ab1", "AB1", "Ab1", "ac2"}
    assert len(found) == 4 if is_known else len(found) < 20
