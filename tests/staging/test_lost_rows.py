"""A source table that was emptied, half loaded or cut off from its children purges nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, delete, insert, select

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.delta import removed_items
from d2i_helpers.demo import simulate
from d2i_helpers.errors import GuardError
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import Spec, load_spec
from d2i_helpers.preflight import source
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.settings import Settings
from d2i_helpers.staging import guards

Row = dict[str, Any]
TABLES = sorted(table.name for table in tables.ssd_metadata().tables.values())


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec()


def _all_rows(engine: Engine, table: str) -> list[Row]:
    target = tables.ssd_table(table)
    with database.reading(engine) as connection:
        return [dict(row) for row in connection.execute(select(target)).mappings()]


def _replace(engine: Engine, table: str, rows: list[Row]) -> None:
    target = tables.ssd_table(table)
    with database.transaction(engine) as connection:
        connection.execute(delete(target))
        if rows:
            connection.execute(insert(target), rows)


@contextmanager
def holding(engine: Engine, table: str, rows: list[Row], before: list[Row]) -> Iterator[None]:
    """The table with these rows only, and as it was afterwards."""
    _replace(engine, table, rows)
    try:
        yield
    finally:
        _replace(engine, table, before)


def _documents(engine: Engine, settings: Settings) -> dict[str, Any]:
    table = tables.staging_table(settings.staging_table)
    wanted = select(table.c.person_id, table.c.json_payload, table.c.row_state)
    with database.reading(engine) as connection:
        rows = connection.execute(wanted).all()
    return {row.person_id: (orjson.loads(row.json_payload), row.row_state) for row in rows}


def _items_lost(spec: Spec, before: dict[str, Any], after: dict[str, Any]) -> int:
    """Children and items that the receiver would be told to erase."""
    lost = 0
    for person_id, (document, state) in before.items():
        now, new_state = after[person_id]
        lost += new_state == "deleted" != state
        lost += sum(removed_items(spec, document, now)[0].values())
    return lost


def _half_of_the_children(rows: list[Row]) -> list[Row]:
    """Rows that belong to one half of what they hang on, as a load that broke off leaves them."""
    name = next((n for n in rows[0] if n.endswith(("person_id", "referral_id", "cla_id"))), None)
    owners = sorted({str(row[name or next(iter(row))]) for row in rows})
    kept = set(owners[: len(owners) // 2])
    return [row for row in rows if str(row[name or next(iter(row))]) in kept]


def _a_random_half(rows: list[Row]) -> list[Row]:
    return random.Random(7).sample(rows, len(rows) // 2)


@pytest.mark.database_in_turn
@pytest.mark.parametrize(("children", "half"), [(25, _half_of_the_children), (80, _a_random_half)])
def test_no_table_loses_rows_in_silence(
    engine: Engine, make_settings: Callable, spec: Spec, children: int, half: Callable
) -> None:
    settings = make_settings()
    simulate.init(settings, children=children)
    extract.run(engine, settings, spec)
    before = _documents(engine, settings)
    passed = []
    for table in TABLES:
        rows = _all_rows(engine, table)
        for left in ([], half(rows) if rows else []):
            if len(rows) - len(left) <= guards.FEW:
                continue
            with holding(engine, table, left, rows):
                try:
                    extract.run(engine, settings, spec)
                except GuardError as error:
                    assert table in error.message and f"allow_fewer_rows={table}" in error.hint
                    assert _documents(engine, settings) == before
                else:
                    passed.append((table, len(rows), len(left)))
    assert not passed
    assert extract.run(engine, settings, spec).counts["unchanged"] == len(before)


def _links(spec: Spec) -> list[tuple[str, str]]:
    """Table and column of every link to what a row belongs to, where it may be empty."""
    found = {
        (one.table, name)
        for one in spec.sources.values()
        for name in (one.person, one.link)
        if name and tables.ssd_table(one.table).c[name].nullable
    }
    return sorted(found)


@pytest.mark.database_in_turn
def test_no_block_loses_items_in_silence_where_every_row_is_there(
    engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    """A release that leaves a link empty: the tables are as long as before."""
    settings = make_settings()
    simulate.init(settings, children=60)
    extract.run(engine, settings, spec)
    stopped = set()
    for table, column in _links(spec):
        rows = _all_rows(engine, table)
        cut = [{**row, column: None} if n % 2 else row for n, row in enumerate(rows)]
        before = _documents(engine, settings)
        with holding(engine, table, cut, rows):
            try:
                extract.run(engine, settings, spec)
            except GuardError as error:
                assert f"{table} holds" not in error.message
                assert f"{table} is empty" not in error.message
                assert _documents(engine, settings) == before
                stopped.add(table)
            else:
                assert _items_lost(spec, before, _documents(engine, settings)) <= guards.FEW, table
        extract.run(engine, settings.model_copy(update={"max_changed_share": 1.0}), spec)
    assert stopped >= {"ssd_cin_plans", "ssd_cin_assessments", "ssd_s47_enquiry", "ssd_cp_plans"}


def _values(document: Any, name: str = "") -> Counter[str]:
    """Number of values of each field, whatever they are nested in."""
    if isinstance(document, dict):
        return sum((_values(value, key) for key, value in document.items()), Counter())
    if isinstance(document, list):
        return sum((_values(value, name) for value in document), Counter())
    return Counter({name: int(document is not None)})


def _columns(spec: Spec) -> list[tuple[str, str]]:
    """Table and column of every field that may be empty."""
    pairs = {
        (spec.sources[field.source].table, field.column)
        for block, field in spec.fields()
        if not spec.known_gap(block, field)
    }
    return sorted((t, c) for t, c in pairs if c and tables.ssd_table(t).c[c].nullable)


@pytest.mark.database_in_turn
def test_no_column_loses_its_values_in_silence_where_every_row_is_there(
    engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    """A release that leaves a column empty, in all rows or in half: no row and no item is gone."""
    settings = make_settings()
    simulate.init(settings, children=40)
    extract.run(engine, settings, spec)
    stopped = set()
    for number, (table, column) in enumerate(_columns(spec)):
        before, rows = _documents(engine, settings), _all_rows(engine, table)
        every = 1 + number % 2
        cut = [{**row, column: None} if n % every == 0 else row for n, row in enumerate(rows)]
        with holding(engine, table, cut, rows):
            try:
                extract.run(engine, settings, spec)
            except GuardError as error:
                assert _documents(engine, settings) == before
                assert "-p " in error.hint
                stopped.add((table, column))
                continue
            after = _documents(engine, settings)
            lost: Counter[str] = Counter()
            for person_id, (document, _) in before.items():
                lost += _values(document) - _values(after[person_id][0])
            assert all(count <= guards.FEW for count in lost.values()), (table, column)
        extract.run(engine, settings.model_copy(update={"max_changed_share": 1.0}), spec)
    assert stopped >= {
        ("ssd_person", "pers_surname"),
        ("ssd_cin_plans", "cinp_cin_plan_end_date"),
        ("ssd_cin_episodes", "cine_close_date"),
        ("ssd_address", "addr_address_postcode"),
    }


def test_a_named_column_may_be_empty_for_one_run(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    _with_plans(ssd, 30)
    persons = [{**row, "pers_surname": "Fictional"} for row in _all_rows(engine, "ssd_person")]
    _replace(engine, "ssd_person", persons)
    extract.run(engine, make_settings(), spec)
    column = "ssd_person.pers_surname"
    _replace(engine, "ssd_person", [{**row, "pers_surname": None} for row in persons])
    pilot = make_settings(person_ids="P01", max_changed_share=1)
    extract.run(engine, pilot, spec)  # one child says nothing of a column
    for allowed in ("", "ssd_cin_plans", "ssd_person.pers_dob"):
        with pytest.raises(GuardError, match=f"{column} is empty in all 30 rows") as caught:
            extract.run(engine, make_settings(allow_fewer_rows=allowed, max_changed_share=1), spec)
        assert f"-p allow_fewer_rows={column}." in caught.value.hint
    once = make_settings(allow_fewer_rows=column, max_changed_share=1)
    assert extract.run(engine, once, spec).counts["updated"] == 29
    assert extract.run(engine, make_settings(), spec).counts["unchanged"] == 30  # the new measure


def test_a_column_is_judged_by_the_rows_that_are_left(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    """Rows that are gone are one loss and not two, also where they may go."""
    _with_plans(ssd, 30)
    extract.run(engine, make_settings(), spec)
    _replace(engine, "ssd_sdq_scores", _all_rows(engine, "ssd_sdq_scores")[:10])
    with pytest.raises(GuardError) as caught:
        extract.run(engine, make_settings(max_changed_share=1), spec)
    assert "csdq_sdq_score" not in caught.value.message
    once = make_settings(allow_fewer_rows="ssd_sdq_scores", max_changed_share=1)
    extract.run(engine, once, spec)


def test_a_named_table_may_be_empty_for_one_run(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    _with_plans(ssd, 30)
    extract.run(engine, make_settings(), spec)
    _replace(engine, "ssd_cin_plans", [])
    with pytest.raises(GuardError) as caught:
        extract.run(engine, make_settings(), spec)
    assert "-p allow_fewer_rows=ssd_cin_plans " in caught.value.hint
    assert "max_purged_items_share" not in caught.value.hint  # the plans go with their rows
    once = make_settings(allow_fewer_rows="ssd_cin_plans", max_changed_share=1)
    assert extract.run(engine, once, spec).counts["updated"] == 30
    assert extract.run(engine, make_settings(), spec).counts["unchanged"] == 30  # the new measure


def test_a_pilot_compares_rows_and_is_no_measure(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    _with_plans(ssd, 30)
    extract.run(engine, make_settings(), spec)
    plans = _all_rows(engine, "ssd_cin_plans")
    _replace(engine, "ssd_cin_plans", plans[:27])
    extract.run(engine, make_settings(person_ids="P01"), spec)
    _replace(engine, "ssd_cin_plans", plans[:26])
    with pytest.raises(GuardError, match="ssd_cin_plans holds 26 rows and held 30"):
        extract.run(engine, make_settings(person_ids="P01"), spec)
    with pytest.raises(GuardError, match="ssd_cin_plans holds 26 rows and held 30"):
        extract.run(engine, make_settings(), spec)


def test_tables_that_a_scope_does_not_read_keep_their_measure(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    _with_plans(ssd, 30)
    extract.run(engine, make_settings(), spec)
    _replace(engine, "ssd_sdq_scores", [])
    header = {"extract_scope": "header", "max_purged_items_share": 1, "max_changed_share": 1}
    extract.run(engine, make_settings(**header), spec)
    with pytest.raises(GuardError, match="ssd_sdq_scores is empty and held 30"):
        extract.run(engine, make_settings(max_changed_share=1), spec)


def test_a_staging_table_emptied_by_hand_is_not_filled_from_a_broken_load(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    _with_plans(ssd, 8)
    extract.run(engine, make_settings(), spec)
    with database.transaction(engine) as connection:
        connection.execute(delete(tables.staging_table("ssd_api_data_staging")))
    _replace(engine, "ssd_cin_plans", [])
    with pytest.raises(GuardError, match="ssd_cin_plans is empty and held 8 rows"):
        extract.run(engine, make_settings(), spec)
    assert ssd.staged() == {}


def test_preflight_says_what_extract_will_say(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    def look(**parameters: Any) -> preflight.Check:
        found = source.checks(engine, make_settings(**parameters), spec)
        return next(check for check in found if check.name == "source rows")

    _with_plans(ssd, 30)
    assert look().status == preflight.PASS
    extract.run(engine, make_settings(), spec)
    assert look().status == preflight.PASS
    _replace(engine, "ssd_cin_plans", [])
    _replace(engine, "ssd_sdq_scores", _all_rows(engine, "ssd_sdq_scores")[:15])
    check = look()
    assert (check.status, check.error_name) == (preflight.FAIL, "GuardError")
    with pytest.raises(GuardError) as caught:
        extract.run(engine, make_settings(), spec)
    for said in check.detail.split("; "):
        assert said in caught.value.message
    assert "-p allow_fewer_rows=ssd_cin_plans,ssd_sdq_scores." in check.advice
    assert look(allow_fewer_rows="ssd_cin_plans,ssd_sdq_scores").status == preflight.PASS


def _with_plans(ssd: Any, count: int) -> None:
    """Children with a referral, a plan and a questionnaire each."""
    ids = [f"P{number:02d}" for number in range(count)]
    ssd.add("ssd_person", *({"pers_person_id": i, "pers_dob": "2012-05-17"} for i in ids))
    ssd.add("ssd_cin_episodes", *(
        {"cine_referral_id": f"R{i}", "cine_person_id": i, "cine_referral_date": "2025-01-01"}
        for i in ids))  # fmt: skip
    ssd.add("ssd_cin_plans", *(
        {"cinp_cin_plan_id": f"N{i}", "cinp_referral_id": f"R{i}", "cinp_person_id": i,
         "cinp_cin_plan_start_date": "2025-01-01"} for i in ids))  # fmt: skip
    ssd.add("ssd_sdq_scores", *(
        {"csdq_table_id": f"S{i}", "csdq_person_id": i, "csdq_sdq_score": 12,
         "csdq_sdq_completed_date": "2025-02-01"} for i in ids))  # fmt: skip


def test_fictional_data_made_anew_says_why_the_day_stops(
    engine: Engine, make_settings: Callable[..., Settings], spec: Spec
) -> None:
    settings = make_settings()
    simulate.init(settings, children=60)
    assert simulate.still_staged(settings) == 0
    extract.run(engine, settings, spec)
    simulate.init(settings, children=30, seed=5)
    assert simulate.still_staged(settings) > 20
    for _ in range(2):
        with pytest.raises(GuardError, match="fictional SSD was made anew") as caught:
            extract.run(engine, settings, spec)
        assert "fresh start" in caught.value.hint
    seen = {check.name: check for check in preflight.run(settings)}["source rows"]
    assert seen.status == "warn" and "made anew" in seen.detail
    every = ("max_deleted_share", "max_changed_share", "max_purged_items_share")
    extract.run(engine, make_settings(**dict.fromkeys(every, 1)), spec)
    simulate.day(settings)
    notices = extract.run(engine, settings, spec).notices
    assert [said for said in notices if " gone: " not in said] == []  # as on any day
    _replace(engine, "ssd_cin_plans", [])
    with pytest.raises(GuardError, match="Was the SSD rebuilt completely"):
        extract.run(engine, settings, spec)
