"""What extract does to the staging table, day by day, and what it refuses."""

from __future__ import annotations

import datetime as dt
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, delete, event, insert, inspect, select, text, update

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import DatabaseError, GuardError, SettingsError
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.sources import ReadPage, SourceReader
from d2i_helpers.payload_spec import Spec, load_spec


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec()


def _fill(ssd: Any, count: int, first: int = 1) -> list[str]:
    ids = [f"P{number:04d}" for number in range(first, first + count)]
    ssd.add("ssd_person", *({"pers_person_id": i, "pers_dob": "2012-05-17"} for i in ids))
    ssd.add(
        "ssd_cin_episodes",
        *(
            {
                "cine_referral_id": f"R{i}",
                "cine_person_id": i,
                "cine_referral_date": "2025-01-01",
            }
            for i in ids
        ),
    )
    return ids


@contextmanager
def writes(engine: Engine) -> Iterator[list[str]]:
    """The statements that change something while the block runs."""
    seen: list[str] = []

    def listen(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        changes = statement.split(None, 1)[0].lower() in {"insert", "update", "delete", "create"}
        if changes and "d2i_run_lock" not in statement.lower():
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", listen)


def _change(engine: Engine, table: str, values: dict[str, Any], **where: Any) -> None:
    target = tables.ssd_table(table)
    with database.transaction(engine) as connection:
        conditions = [target.c[name] == value for name, value in where.items()]
        connection.execute(update(target).where(*conditions).values(values))


def _drop(engine: Engine, table: str, **where: Any) -> None:
    target = tables.ssd_table(table)
    with database.transaction(engine) as connection:
        conditions = [target.c[name] == value for name, value in where.items()]
        connection.execute(delete(target).where(*conditions))


def test_a_second_run_without_changes_writes_nothing(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    ids = _fill(ssd, 25)
    settings = make_settings(chunk_size=7)
    first = extract.run(engine, settings, spec)
    assert first.counts["new"] == first.counts["persons_read"] == 25
    assert sorted(ssd.documents()) == ids
    with writes(engine) as seen:
        second = extract.run(engine, settings, spec)
    assert seen == []
    assert second.counts["unchanged"] == 25
    assert sum(second.counts[name] for name in ("new", "updated", "gone", "back")) == 0


def test_a_page_does_not_outlive_the_next_one(
    ssd: Any,
    engine: Engine,
    make_settings: Callable,
    spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its rows are free without a search for cycles, which comes seldom while extract runs."""
    _fill(ssd, 6)
    pages: list[weakref.ref[ReadPage]] = []
    alive: list[int] = []
    read = SourceReader.batches

    def counted(reader: SourceReader, *given: Any) -> Iterator[ReadPage]:
        for page in read(reader, *given):
            pages.append(weakref.ref(page))
            alive.append(sum(one() is not None for one in pages))
            yield page
            del page

    monkeypatch.setattr(SourceReader, "batches", counted)
    gc.disable()
    try:
        extract.run(engine, make_settings(chunk_size=1), spec)
    finally:
        gc.enable()
    assert len(alive) == 6 and max(alive) <= 2


def test_a_day_of_changes(ssd: Any, engine: Engine, make_settings: Callable, spec: Spec) -> None:
    _fill(ssd, 30)
    settings = make_settings(chunk_size=7)
    extract.run(engine, settings, spec)
    _fill(ssd, 1, first=99)
    _change(engine, "ssd_person", {"pers_surname": "Changed"}, pers_person_id="P0003")
    _drop(engine, "ssd_cin_episodes", cine_person_id="P0005")
    with writes(engine) as seen:
        day = extract.run(engine, settings, spec)
    assert {k: v for k, v in day.counts.items() if v} == {
        "persons_read": 31, "eligible": 31, "in_cohort": 30,
        "new": 1, "updated": 1, "gone": 1, "left_the_cohort": 1, "unchanged": 28,
    }  # fmt: skip
    assert not [s for s in seen if "update" in s.lower() and "d2i" in s.lower()]
    staged = ssd.staged()
    assert staged["P0005"]["row_state"] == "deleted"
    assert staged["P0003"]["document"]["child_details"]["surname"] == "Changed"
    with database.reading(engine) as connection:
        assert connection.execute(select(tables.landing)).all() == []
        held = connection.execute(select(tables.inclusion.c.person_id, tables.inclusion.c.reasons))
        reasons = {row.person_id: row.reasons for row in held}
    assert "P0005" not in reasons
    assert reasons["P0099"] == "active_referral,waiting_assessment"

    ssd.add("ssd_cin_episodes", {"cine_referral_id": "RP0005", "cine_person_id": "P0005",
                                 "cine_referral_date": "2025-01-01"})  # fmt: skip
    back = extract.run(engine, settings, spec)
    assert back.counts["back"] == 1 and back.counts["gone"] == 0


def test_reasons_follow_even_when_the_document_stays(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 3)
    extract.run(engine, make_settings(), spec)
    ssd.add("ssd_cin_plans", {"cinp_cin_plan_id": "x", "cinp_person_id": "P0002",
                              "cinp_cin_plan_start_date": "2025-01-01"})  # fmt: skip
    before = ssd.staged()
    result = extract.run(engine, make_settings(), spec)
    assert result.counts["unchanged"] == 3 and result.reasons["cin_plan"] == 1
    assert ssd.staged() == before
    with database.reading(engine) as connection:
        held = connection.execute(
            select(tables.inclusion.c.reasons).where(tables.inclusion.c.person_id == "P0002")
        ).scalar()
    assert held == "active_referral,waiting_assessment,cin_plan"


def test_a_guard_leaves_the_staging_table_as_it_was(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 30)
    extract.run(engine, make_settings(), spec)
    _fill(ssd, 2, first=90)
    before = ssd.staged()
    _drop(engine, "ssd_cin_episodes", cine_person_id="P0001")
    for number in range(2, 7):
        _drop(engine, "ssd_cin_episodes", cine_person_id=f"P{number:04d}")
    with pytest.raises(GuardError, match="6 of 30 children would be marked deleted"):
        extract.run(engine, make_settings(), spec)
    assert ssd.staged() == before
    with database.reading(engine) as connection:
        assert connection.execute(select(tables.landing)).all() == []
    once = make_settings(max_deleted_share=0.2, allow_fewer_rows="ssd_cin_episodes")
    allowed = extract.run(engine, once, spec)
    assert allowed.counts["gone"] == 6 and allowed.counts["new"] == 2


def test_an_empty_source_stops(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 3)
    extract.run(engine, make_settings(), spec)
    _drop(engine, "ssd_person")
    with pytest.raises(GuardError, match="no children at all"):
        extract.run(engine, make_settings(), spec)
    assert len(ssd.documents()) == 3


def test_the_guard_judges_each_block_by_its_own_items(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    ids = _fill(ssd, 30)
    plans = [
        {"cinp_cin_plan_id": f"N{i}", "cinp_referral_id": f"R{i}", "cinp_person_id": i,
         "cinp_cin_plan_start_date": "2025-01-01"} for i in ids
    ]  # fmt: skip
    ssd.add("ssd_cin_plans", *plans)
    extract.run(engine, make_settings(), spec)
    for i in ids[:3]:
        _change(engine, "ssd_cin_plans", {"cinp_referral_id": None}, cinp_cin_plan_id=f"N{i}")
    assert extract.run(engine, make_settings(), spec).counts["updated"] == 3
    before = ssd.staged()
    for i in ids[3:7]:
        _change(engine, "ssd_cin_plans", {"cinp_referral_id": None}, cinp_cin_plan_id=f"N{i}")
    with pytest.raises(GuardError, match="4 of 27 child_in_need_plans") as caught:
        extract.run(engine, make_settings(), spec)
    assert "-p max_purged_items_share=0.15." in caught.value.hint
    assert ssd.staged() == before
    allowed = extract.run(engine, make_settings(max_purged_items_share=0.15), spec)
    assert allowed.counts["updated"] == 4


def test_the_jump_of_the_window_is_named(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 3)
    extract.run(engine, make_settings(run_date="2026-03-31"), spec)
    result = extract.run(engine, make_settings(run_date="2026-04-01"), spec)
    assert result.notices == [
        "The window's start moved from 2023-04-01 to 2024-04-01. "
        "This is the jump expected each 1 April."
    ]


def test_a_pilot_leaves_everybody_else_alone(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 5)
    extract.run(engine, make_settings(), spec)
    _change(engine, "ssd_person", {"pers_surname": "New"})
    result = extract.run(engine, make_settings(person_ids="P0002,P0004,nobody"), spec)
    assert result.counts["persons_read"] == result.counts["updated"] == 2
    assert result.counts["gone"] == 0
    changed = [i for i, d in ssd.documents().items() if d["child_details"].get("surname")]
    assert sorted(changed) == ["P0002", "P0004"]


def test_ids_of_a_pilot_that_fit_nobody_are_named_masked(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 4)
    result = extract.run(engine, make_settings(person_ids="P0002,nobody-of-ours"), spec)
    assert any("1 of the 2 ids in `person_ids` fits no person" in said for said in result.notices)
    assert "nobody-of-ours" not in "".join(result.notices)
    assert result.counts["need_attention"] == 1  # a child may be meant who is not sent now
    assert set(ssd.documents()) == {"P0002"}


def test_a_pilot_of_nobody_ends_before_anything_is_written(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 2)
    with pytest.raises(SettingsError, match="No person in the source"):
        extract.run(engine, make_settings(person_ids="0001,0002"), spec)
    assert not inspect(engine).has_table("ssd_api_data_staging")


def test_only_the_statutory_cohort(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 4)
    extract.run(engine, make_settings(), spec)
    with database.transaction(engine) as connection:
        connection.execute(text("create table stat_cohort (person_id varchar(48))"))
        connection.execute(text("insert into stat_cohort values ('P0001'), ('P0003 '), (null)"))
    limited = make_settings(statutory_cohort_table="stat_cohort", chunk_size=2)
    result = extract.run(engine, limited, spec)
    assert result.counts["gone"] == 2
    assert result.left_out["not in the statutory cohort"] == 2
    assert sorted(ssd.documents()) == ["P0001", "P0003"]


def test_header_only(ssd: Any, engine: Engine, make_settings: Callable, spec: Spec) -> None:
    _fill(ssd, 2)
    extract.run(engine, make_settings(extract_scope="header"), spec)
    assert set(ssd.documents()["P0001"]) == {"la_child_id", "child_details", "purge"}


def test_ids_that_are_no_ids(ssd: Any, engine: Engine, make_settings: Callable, spec: Spec) -> None:
    if engine.dialect.name == "mssql":
        pytest.skip("its keys take an id and the same with blanks behind it for one")
    _fill(ssd, 2)
    born = {"pers_dob": "2012-05-17"}
    ssd.add(
        "ssd_person",
        {"pers_person_id": "   ", **born},
        {"pers_person_id": "P0001 ", **born},
        {"pers_person_id": " P0002", **born},
        {"pers_person_id": "X" * 21, **born},
    )
    for key in ("   ", "P0001 ", " P0002", "X" * 21):
        ssd.add(
            "ssd_cin_episodes",
            {"cine_referral_id": f"R{key}", "cine_person_id": key,
             "cine_referral_date": "2025-01-01"},
        )  # fmt: skip
    for size in (1, 100):
        result = extract.run(engine, make_settings(chunk_size=size), spec)
        assert ssd.documents() == {}, "nobody can say which rows are whose"
        assert result.counts["without_id"] == result.counts["refused"] == 1
        assert result.counts["left_out"] == 4
        assert result.counts["need_attention"] == 6
    rules = {row["rule"]: row for row in result.problems}
    assert rules["too long"]["children"] == "…XX"
    assert rules["is another child's too, but for blanks or capitals"]["count"] == 4


def test_a_document_that_is_not_valid_is_kept_from_sending(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from d2i_helpers.document.validation import Problem, Validator

    _fill(ssd, 2)
    fault = Problem("social_care_episodes[0].referral_date", "not a date")
    monkeypatch.setattr(Validator, "accepts", lambda _s, d: d["la_child_id"] != "P0002")
    monkeypatch.setattr(
        Validator, "problems", lambda _s, d: [fault] if d["la_child_id"] == "P0002" else []
    )
    result = extract.run(engine, make_settings(), spec)
    staged = ssd.staged()
    assert staged["P0001"]["submission_status"] == "pending"
    assert staged["P0002"]["submission_status"] == "error"
    assert "social_care_episodes[0].referral_date: not a date" in staged["P0002"]["api_response"]
    assert result.counts["not_valid"] == 1
    assert {"field": "social_care_episodes[].referral_date", "rule": "not a date", "count": 1,
            "children": "…02"} in result.problems  # fmt: skip


def test_a_child_that_cannot_be_assembled_costs_nobody_else_the_day(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from d2i_helpers.document.assembly import Assembler

    _fill(ssd, 3)
    extract.run(engine, make_settings(), spec)
    real = Assembler.assemble

    def assemble(self: Any, row: Any, person_id: str, page: Any) -> Any:
        if person_id == "P0002":
            raise ValueError("SECRET")
        return real(self, row, person_id, page)

    monkeypatch.setattr(Assembler, "assemble", assemble)
    result = extract.run(engine, make_settings(reassess=True), spec)
    assert result.counts["refused"] == 1 and result.counts["gone"] == 0
    assert "SECRET" not in repr(result)
    assert len(ssd.documents()) == 3


def test_a_stale_landing_is_emptied_and_the_day_made_anew(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 3)
    extract.run(engine, make_settings(), spec)
    stale = {"staging_table": "ssd_api_data_staging", "person_id": "P0001", "json_payload": "{}",
             "current_hash": bytes(32), "reasons": "none"}  # fmt: skip
    with database.transaction(engine) as connection:
        connection.execute(insert(tables.landing), [stale])
    before = ssd.staged()
    extract.run(engine, make_settings(), spec)
    assert ssd.staged() == before
    with database.reading(engine) as connection:
        assert connection.execute(select(tables.landing)).all() == []


def test_missing_tables_and_columns_are_all_named(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    with database.transaction(engine) as connection:
        connection.execute(text("drop table ssd_disability"))
        connection.execute(text("alter table ssd_sdq_scores drop column csdq_sdq_score"))
        connection.execute(text("drop table ssd_linked_identifiers"))
    with pytest.raises(DatabaseError) as caught:
        extract.run(engine, make_settings(), spec)
    assert "ssd_disability" in str(caught.value)
    assert "ssd_sdq_scores.csdq_sdq_score" in str(caught.value)
    assert "ssd_linked_identifiers" not in str(caught.value)


def test_a_missing_optional_table_is_a_warning(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 1)
    with database.transaction(engine) as connection:
        connection.execute(text("drop table ssd_linked_identifiers"))
    result = extract.run(engine, make_settings(), spec)
    assert result.warnings == ["ssd_linked_identifiers is not there and is taken as empty"]
    assert result.counts["new"] == 1


def test_a_table_filled_by_other_software_is_taken_over(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 3)
    extract.run(engine, make_settings(), spec)
    table = tables.staging_table("ssd_api_data_staging")
    with database.transaction(engine) as connection:
        connection.execute(update(table).values(current_hash=bytes(32)))
        connection.execute(delete(tables.facts))
    result = extract.run(engine, make_settings(), spec)
    assert result.counts["rehashed"] == 3
    assert result.counts["unchanged"] == 3


def test_volatile_ids_do_not_count_as_a_change(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 3)
    settings = make_settings(volatile_ids=True)
    extract.run(engine, settings, spec)
    _change(engine, "ssd_cin_episodes", {"cine_referral_id": "NEW"}, cine_referral_id="RP0001")
    assert extract.run(engine, settings, spec).counts["unchanged"] == 3
    assert extract.run(engine, make_settings(), spec).counts["updated"] == 1


def test_progress_ends_with_everybody(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    _fill(ssd, 12)
    seen: list[tuple[int, int | None]] = []
    extract.run(
        engine, make_settings(chunk_size=5), spec, progress=lambda done, of: seen.append((done, of))
    )
    assert seen[-1] == (12, 12)


def test_a_day_that_python_cannot_hold_is_read_as_text(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    if engine.dialect.name == "mssql":
        pytest.skip("it holds no day that Python does not")
    _fill(ssd, 2)
    is_postgres = engine.dialect.name == "postgresql"
    day = "'infinity'" if is_postgres else "'99999-01-01'"
    with database.transaction(engine) as connection:
        connection.execute(
            text(
                "update ssd_cin_episodes set cine_close_date = "  # noqa: S608
                f"{day} where cine_person_id = 'P0002'"
            )
        )
    result = extract.run(engine, make_settings(), spec)
    if is_postgres:  # without an end, as the word says
        assert result.counts["new"] == 2
        assert [row["rule"] for row in result.problems] == ["placeholder"]
        return
    assert (result.counts["new"], result.counts["left_out"]) == (1, 1)
    assert [(row["field"], row["rule"]) for row in result.problems] == [
        ("ssd_cin_episodes.cine_close_date", "cannot be read (whether it overlaps the window)")
    ]


def test_a_child_in_error_is_judged_anew_though_its_document_did_not_change(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever waits is checked by today's specification before it is sent, in either direction."""
    from d2i_helpers.delta import stage as delta_stage
    from d2i_helpers.document.validation import Problem, Validator

    _fill(ssd, 2)
    settings, fault = make_settings(), Problem("child_details", "of an older specification")
    with monkeypatch.context() as older:
        older.setattr(Validator, "accepts", lambda _s, d: d["la_child_id"] != "P0002")
        older.setattr(
            Validator, "problems", lambda _s, d: [fault] if d["la_child_id"] == "P0002" else []
        )
        extract.run(engine, settings, spec)
    assert extract.run(engine, settings, spec).counts["unchanged"] == 2
    assert delta_stage.run(engine, settings, spec).counts["written"] == 2
    assert all(row["partial_json_payload"] for row in ssd.staged().values())
    with monkeypatch.context() as stricter:
        stricter.setattr(Validator, "problems", lambda _s, _d: [fault])
        stricter.setattr(Validator, "accepts", lambda _s, _d: False)
        stricter.setattr(Validator, "fingerprint", 1)
        assert delta_stage.run(engine, settings, spec).counts["not_valid"] == 2
    assert {row["submission_status"] for row in ssd.staged().values()} == {"error"}


def test_delta_checks_again_only_what_the_same_checks_did_not_accept(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from d2i_helpers.delta import stage as delta_stage
    from d2i_helpers.document.validation import Problem, Validator

    _fill(ssd, 4)
    settings, accepts = make_settings(), Validator.accepts
    with monkeypatch.context() as older:
        older.setattr(Validator, "accepts", lambda _s, d: d["la_child_id"] != "P0002")
        older.setattr(Validator, "problems", lambda *_: [Problem("child_details", "a fault")])
        extract.run(engine, settings, spec)
    checked: list[str] = []

    def noted(self: Validator, document: dict[str, Any]) -> bool:
        checked.append(document["la_child_id"])
        return accepts(self, document)

    monkeypatch.setattr(Validator, "accepts", noted)
    texts = {child: row["json_payload"] for child, row in ssd.staged().items()}
    t = tables.staging_table("ssd_api_data_staging")
    with database.transaction(engine) as connection:
        for child, text in (("P0003", texts["P0003"] + " "), ("P0004", texts["P0001"])):
            changed = update(t).where(t.c.person_id == child)
            connection.execute(changed.values(json_payload=text))
    counts = delta_stage.run(engine, settings, spec).counts
    assert (counts["written"], counts["altered"]) == (3, 1)
    assert checked == ["P0002", "P0003"], "refused, or not the text that extract wrote"
    partials = {child: row["partial_json_payload"] for child, row in ssd.staged().items()}
    assert partials["P0001"] == texts["P0001"]

    checked.clear()
    monkeypatch.setattr(Validator, "fingerprint", 1)  # of another specification
    delta_stage.run(engine, settings, spec)
    assert checked == ["P0001", "P0002", "P0003"]
    assert partials == {
        child: row["partial_json_payload"] for child, row in ssd.staged().items()
    }, "a document that goes as it stands is what the delta from nothing is"


def test_an_accepted_document_goes_as_it_stands_only_to_a_receiver_that_holds_nothing(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    """Also where the submission log knows nothing of the child, as of a table that was adopted."""
    from d2i_helpers.delta import stage as delta_stage
    from d2i_helpers.document.canonical import content_hash, to_text

    _fill(ssd, 2)
    extract.run(engine, settings := make_settings(), spec)
    document = orjson.loads(ssd.staged()["P0002"]["json_payload"])
    document["social_care_episodes"] = [{"social_care_episode_id": "GONE", "purge": False}]
    t, name = tables.staging_table("ssd_api_data_staging"), "ssd_api_data_staging"
    acknowledged = {"previous_json_payload": t.c.json_payload, "previous_hash": t.c.current_hash}
    unknown = {
        "staging_table": name, "person_id": "P0002", "run_id": "r", "batch_id": "b",
        "kind": "document", "document": to_text(document), "state": "unknown",
        "document_hash": content_hash(spec, document), "sent_at": dt.datetime(2026, 1, 1),
    }  # fmt: skip
    with database.transaction(engine) as connection:
        connection.execute(update(t).where(t.c.person_id == "P0001").values(acknowledged))
        connection.execute(insert(tables.journal), unknown)
    assert delta_stage.run(engine, settings, spec).counts["nothing_to_send"] == 1
    assert '"GONE","purge":true' in ssd.staged()["P0002"]["partial_json_payload"]


def test_a_document_that_another_hand_changed_is_written_anew(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec
) -> None:
    """Its hash was kept, the source did not change: the text itself is compared."""
    _fill(ssd, 4)
    settings = make_settings()
    extract.run(engine, settings, spec)
    before = ssd.documents()
    t = tables.staging_table("ssd_api_data_staging")
    with database.transaction(engine) as connection:
        for person_id, content in (("P0002", b'{"la_child_id": "P0002"}'), ("P0003", b"no JSON")):
            changed = update(t).where(t.c.person_id == person_id)
            connection.execute(changed.values(json_payload=content.decode()))
    day = extract.run(engine, settings, spec)
    assert (day.counts["altered"], day.counts["unchanged"], day.counts["updated"]) == (2, 2, 2)
    assert any("changed by other software" in notice for notice in day.notices)
    assert ssd.documents() == before
    with writes(engine) as seen:
        assert extract.run(engine, settings, spec).counts["altered"] == 0
    assert seen == []


def test_delta_takes_the_word_of_a_mark_and_not_what_another_hand_wrote(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark says which text a hash was made from: the hash need not be made once more."""
    from d2i_helpers.delta import stage as delta_stage
    from d2i_helpers.document.canonical import TextHasher

    _fill(ssd, 4)
    settings = make_settings()
    extract.run(engine, settings, spec)
    t, m = tables.staging_table("ssd_api_data_staging"), tables.marks
    stored = select(t.c.json_payload).where(t.c.person_id == "P0002")
    with database.transaction(engine) as connection:
        text = connection.execute(stored).scalar_one().replace("-05-", "-06-")
        changed = update(t).where(t.c.person_id == "P0002").values(json_payload=text)
        connection.execute(changed)  # its hash is kept
        changed = update(t).where(t.c.person_id == "P0003").values(current_hash=b"3" * 32)
        connection.execute(changed)  # its text is kept
        connection.execute(delete(m).where(m.c.person_id == "P0004"))
    made: list[str] = []
    matches = TextHasher.matches

    def noted(self: TextHasher, text: str, *given: Any) -> bool:
        made.append(text[text.index("P000") :][:5])
        return matches(self, text, *given)

    monkeypatch.setattr(TextHasher, "matches", noted)
    counts = delta_stage.run(engine, settings, spec).counts
    assert (counts["altered"], counts["written"]) == (2, 2)
    assert made == ["P0002", "P0003", "P0004"]  # P0001 by its mark
    assert {i for i, row in ssd.staged().items() if row["partial_json_payload"]} == {
        "P0001", "P0004",
    }  # fmt: skip
