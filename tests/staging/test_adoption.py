"""A staging table as D2I's own scripts deploy and fill it, adopted on each engine."""

from __future__ import annotations

import copy
import datetime as dt
import json
import types
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, func, inspect, select, text

from d2i_helpers import database
from d2i_helpers.cli import cli
from d2i_helpers.database import tables
from d2i_helpers.delta import stage as delta
from d2i_helpers.document.canonical import text_hasher
from d2i_helpers.document.validation import Validator
from d2i_helpers.errors import DatabaseError
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.staging import Staging, adoption
from d2i_helpers.staging.attention import everything
from tests.staging.world import NaiveReceiver, rows_of

STAGING = "ssd_api_data_staging"
TABLE = tables.staging_table(STAGING)
SPEC = load_spec()
ADOPT = ["adopt", "-p", "cms=generic"]


def deploy(engine: Engine) -> None:
    """The table as deployed: other types and defaults, nothing required, no index on the child."""
    if engine.dialect.name == "postgresql":
        key, json_type, time, now, blob = "bigserial", "jsonb", "timestamptz", "now()", "bytea"
    elif engine.dialect.name == "mssql":
        key, json_type, time, now, blob = (
            "int identity", "nvarchar(max)", "datetime", "getdate()", "varbinary(32)",
        )  # fmt: skip
    else:
        key, json_type, time, blob = "integer", "text", "datetime", "blob"
        now = "current_timestamp"
    legacy = "" if engine.dialect.name == "postgresql" else "legacy_id varchar(36),"
    with database.transaction(engine) as connection:
        for name in (STAGING, f"{STAGING}_anon"):
            connection.execute(
                text(
                    f"create table {name} (id {key} primary key, person_id varchar(48), {legacy} "
                    f"previous_json_payload {json_type}, json_payload {json_type} not null, "
                    f"partial_json_payload {json_type}, current_hash {blob}, previous_hash {blob}, "
                    "submission_status varchar(50) default 'Pending', "
                    f"submission_timestamp {time} default {now}, api_response "
                    f"{'text' if json_type == 'jsonb' else json_type}, "
                    "row_state varchar(10) default 'New', "
                    f"last_updated {time} default {now})"
                )
            )


def put(engine: Engine, person_id: str | None, document: Any, **columns: Any) -> None:
    """A row as D2I's SQL writes it: the defaults, and hashes of its own making."""
    row = {"person_id": person_id, "json_payload": document, "current_hash": b"t" * 32, **columns}
    marks = {
        name: f"cast(:{name} as jsonb)"
        if name.endswith("payload") and engine.dialect.name == "postgresql"
        else f":{name}"
        for name in row
    }
    given = {n: json.dumps(v) if isinstance(v, dict) else v for n, v in row.items()}
    values = f"({', '.join(row)}) values ({', '.join(marks.values())})"
    statement = f"insert into {STAGING} {values}"
    with database.transaction(engine) as connection:
        connection.execute(text(statement), given)


def alter(engine: Engine, settings: Any) -> str:
    """Run the script that the DBA gets."""
    script, error = preflight.ddl_script(settings)
    assert error is None
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    with database.transaction(engine) as connection:
        for part in "\n".join([*lines, ""]).split(";\n"):
            if part.strip():
                connection.execute(text(part))
    return script


def fill(ssd: Any, *person_ids: str) -> None:
    for one in person_ids:
        ssd.add("ssd_person", {"pers_person_id": one, "pers_dob": "2012-05-17"})
        referral = {"cine_referral_date": "2025-01-01", "cine_person_id": one}
        ssd.add("ssd_cin_episodes", {"cine_referral_id": f"R{one}", **referral})


@pytest.fixture
def documents(engine: Engine, ssd: Any, make_settings: Callable) -> dict[str, dict[str, Any]]:
    """What our extract makes of six children; no staging table is left."""
    fill(ssd, *(f"P00{n}" for n in range(1, 7)))
    extract.run(engine, make_settings(), SPEC)
    found = ssd.documents()
    ours = [STAGING, *(table.name for table in tables.our_tables().tables.values())]
    with database.transaction(engine) as connection:
        for name in ours:
            connection.execute(text(f"drop table {name}"))
    return found


def by_d2i(engine: Engine, documents: dict[str, dict[str, Any]]) -> None:
    """Each state that D2I's software leaves a row in, spelt as it spells them."""
    older = {n: {**d, "child_details": {**d["child_details"], "sex": "F"}} for n, d in
             documents.items()}  # fmt: skip
    kept = {"previous_json_payload": older["P003"], "previous_hash": b"p" * 32}
    put(engine, "P001", documents["P001"])
    put(engine, "P002", documents["P002"], row_state="unchanged", submission_status="sent",
        previous_json_payload=documents["P002"])  # fmt: skip
    put(engine, "P003", documents["P003"], row_state="Updated", **kept)
    put(engine, "P004", documents["P004"], row_state="Unchanged", submission_status="Sent")
    put(engine, "P005", documents["P005"], row_state="New", submission_status="error")
    put(engine, "P006", documents["P006"], row_state="Deleted", submission_status="sent",
        previous_json_payload=documents["P006"])  # fmt: skip


def test_a_deployed_table_is_adopted_and_sends_what_was_said(
    engine: Engine, ssd: Any, make_settings: Callable,
    documents: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    deploy(engine)
    by_d2i(engine, documents)
    settings = make_settings()
    if engine.dialect.name == "postgresql":
        with pytest.raises(DatabaseError, match="legacy_id") as caught:
            extract.run(engine, settings, SPEC)
        assert "d2i check --ddl" in caught.value.hint
        script = alter(engine, settings)
        assert "alter column json_payload type text using json_payload::text" in script
        assert "D2I's own SQL goes on working" in script
    assert ssd.documents() == documents
    before = inspect(engine).get_table_names()
    done = CliRunner().invoke(cli, [*ADOPT, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert inspect(engine).get_table_names() == before
    found = adoption.examine(engine, settings, SPEC, STAGING)
    assert found.states == {
        ("New", "Pending"): 1, ("unchanged", "sent"): 1, ("Updated", "Pending"): 1,
        ("Unchanged", "Sent"): 1, ("New", "error"): 1, ("Deleted", "sent"): 1,
    }  # fmt: skip
    said = {"whole_documents": 2, "changes": 1, "purges": 1, "nothing": 2}
    assert found.first_run == said
    assert found.doubts == {adoption.TAKEN_AT_ITS_WORD: 1, adoption.UNSURE_BASELINE: 1}
    assert found.hashes_changed == 6
    assert "P00" not in done.output
    done = CliRunner().invoke(cli, ADOPT)
    assert (done.exit_code, "Adopted: 6 rows" in done.output) == (0, True), done.output
    assert "nothing to adopt" in CliRunner().invoke(cli, ADOPT).output
    database.forget_answers(engine)  # another process made our tables
    result = delta.run(engine, settings, SPEC)
    assert {name: result.counts[name] for name in ("whole_documents", "changes")} == {
        name: said[name] for name in ("whole_documents", "changes")
    }
    assert result.counts["child_removals"] == said["purges"]
    assert result.counts["need_attention"] == 0
    counts = extract.run(engine, settings, SPEC).counts
    assert (counts["unchanged"], counts["back"], counts["rehashed"]) == (5, 1, 0)
    # D2I's own job goes on
    put(engine, "P009", documents["P001"])
    assert "P009" in ssd.documents()


@pytest.mark.parametrize("flavour", ["merge", "replace"])
def test_what_d2i_staged_and_never_sent_is_not_lost(
    engine: Engine, ssd: Any, make_settings: Callable,
    documents: dict[str, dict[str, Any]], flavour: str,
) -> None:  # fmt: skip
    """Its SQL keeps as a baseline what it staged: the receiver may hold an older document."""
    deploy(engine)

    def version(name: str, **details: str) -> dict[str, Any]:
        document = copy.deepcopy(documents[name])
        document["child_details"].update(details)
        return document

    received = {"P001": version("P001", surname="First"), "P002": documents["P002"]}
    unsent = version("P001", surname="Second")
    unsent["social_care_episodes"][0]["referral_source"] = "1A"
    today = copy.deepcopy(unsent)
    today["child_details"]["surname"] = "Third"
    waiting = {"row_state": "Updated", "submission_status": "error"}
    put(engine, "P001", today, previous_json_payload=unsent, **waiting)
    # of the other one, extract will find again what was staged and never sent
    back = {"previous_json_payload": version("P002", surname="Second")}
    put(engine, "P002", version("P002", surname="Third"), **back, **waiting)
    settings = make_settings()
    if engine.dialect.name == "postgresql":
        alter(engine, settings)
    else:
        database.create_staging(engine, f"{STAGING}_anon")
    with database.transaction(engine) as connection:
        for name, surname in (("P001", "Third"), ("P002", "Second")):
            connection.execute(
                text("update ssd_person set pers_surname = :surname where pers_person_id = :name"),
                {"surname": surname, "name": name},
            )
        connection.execute(
            text("update ssd_cin_episodes set cine_referral_source_code = '1A' "
                 "where cine_person_id = 'P001'")
        )  # fmt: skip
    assert adoption.adopt(engine, settings, SPEC, STAGING) == 2
    extract.run(engine, settings, SPEC)
    delta.run(engine, settings, SPEC)
    with database.reading(engine) as connection:
        messages = dict(
            connection.execute(select(TABLE.c.person_id, TABLE.c.partial_json_payload)).all()
        )
    for name in received:
        receiver = NaiveReceiver(flavour)
        receiver.store(received[name])
        receiver.store(json.loads(messages[name]))
        assert receiver.held[name] == rows_of(ssd.documents()[name])


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("held", [False, True])
def test_a_child_whose_last_message_was_a_purge_is_sent_whole(
    engine: Engine, ssd: Any, make_settings: Callable,
    documents: dict[str, dict[str, Any]], held: bool, kept: bool,
) -> None:  # fmt: skip
    """D2I's sender ends in the same state after a purge and after a document."""
    deploy(engine)
    purge = {"la_child_id": "P001", "purge": True}
    before = {"previous_json_payload": documents["P001"]} if kept else {}
    put(engine, "P001", documents["P001"], partial_json_payload=purge, **before, **SENT)
    put(engine, "P002", documents["P002"], previous_json_payload=documents["P002"],
        partial_json_payload=documents["P002"], **SENT)  # fmt: skip
    settings = make_settings()
    if engine.dialect.name == "postgresql":
        alter(engine, settings)
    else:
        database.create_staging(engine, f"{STAGING}_anon")
    found = adoption.examine(engine, settings, SPEC, STAGING)
    assert found.first_run == {"changes": 1, "nothing": 1}
    adoption.adopt(engine, settings, SPEC, STAGING)
    extract.run(engine, settings, SPEC)
    delta.run(engine, settings, SPEC)
    with database.reading(engine) as connection:
        messages = dict(
            connection.execute(select(TABLE.c.person_id, TABLE.c.partial_json_payload)).all()
        )
    receiver = NaiveReceiver("merge")
    if held:
        receiver.store(documents["P001"])
    receiver.store(json.loads(messages["P001"]))
    assert receiver.held["P001"] == rows_of(documents["P001"])
    due = everything(Staging(engine, STAGING), SPEC)
    assert [reason.person_id for reason in due] == ["P001"]


def test_a_person_with_two_rows_is_named_and_the_script_leaves_one(
    engine: Engine, ssd: Any, make_settings: Callable,
    documents: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    """As D2I's script for PostgreSQL does it: a further row for each change."""
    deploy(engine)
    old = {**documents["P001"], "mis_child_id": "older"}
    put(engine, "P001", old, row_state="unchanged", submission_status="sent")
    put(engine, "P001", documents["P001"], row_state="Updated", previous_json_payload={})
    put(engine, "P002", documents["P002"], submission_status="sent")
    put(engine, "P002", documents["P002"], submission_status="sent")
    settings = make_settings()
    if engine.dialect.name == "postgresql":
        alter(engine, settings)
    else:
        database.create_staging(engine, f"{STAGING}_anon")
    for refused in ([*ADOPT, "--dry-run"], ADOPT):
        done = CliRunner().invoke(cli, refused)
        assert isinstance(done.exception, DatabaseError)
        assert "2 persons have more than one row (…01, …02)" in done.exception.message
    with pytest.raises(DatabaseError, match="more than one row"):
        extract.run(engine, settings, SPEC)
    alter(engine, settings)
    found = adoption.examine(engine, settings, SPEC, STAGING)
    assert (found.obstacle, found.rows) == (None, 2)
    with database.reading(engine) as connection:
        rows = {r.person_id: r for r in connection.execute(select(TABLE))}
    assert json.loads(rows["P001"].json_payload) == documents["P001"]
    assert json.loads(rows["P001"].previous_json_payload) == old
    assert found.first_run == {"changes": 1, "nothing": 1}


def test_times_are_utc_whatever_the_zone_of_the_session(
    engine: Engine, ssd: Any, make_settings: Callable,
    documents: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    if engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL has times with a zone here")
    deploy(engine)
    with database.transaction(engine) as connection:
        place = engine.url.database
        connection.execute(text(f"alter database \"{place}\" set timezone to 'Australia/Perth'"))
        connection.execute(
            text("alter table ssd_person alter column pers_dob type timestamptz "
                 "using '2012-05-31 23:00:00+00'::timestamptz")
        )  # fmt: skip
    opened = database.open_database(settings := make_settings())
    alter(opened, settings)
    extract.run(opened, settings, SPEC)
    with database.reading(opened) as connection:
        now = connection.execute(text("select now()")).scalar_one()
        written = connection.execute(select(func.max(TABLE.c.last_updated))).scalar_one()
    assert abs((now - written).total_seconds()) < 600
    # the night in London, at whose beginning the child was born
    details = {d["child_details"]["date_of_birth"] for d in ssd.documents().values()}
    assert details == {"2012-06-01"}
    delta.run(opened, settings, SPEC)
    everything(Staging(opened, STAGING), SPEC)
    assert isinstance(written, dt.datetime)
    opened.dispose()


SENT = {"row_state": "unchanged", "submission_status": "sent"}
HELD = {"previous_json_payload": '{"la_child_id": "1"}'}


@pytest.mark.parametrize(
    ("columns", "doubts", "message"),
    [
        ({**SENT, **HELD}, [], "nothing"),
        ({**SENT, "previous_json_payload": "{}"}, [adoption.OTHER_BASELINE], "nothing"),
        (
            {**SENT, **HELD, "partial_json_payload": '{"purge": true}'},
            [adoption.PURGED],
            "not_valid",
        ),
        ({**SENT, "partial_json_payload": '{"purge": true}'}, [adoption.PURGED], "not_valid"),
        ({**SENT, **HELD, "partial_json_payload": '[{"purge": true}]'}, [], "nothing"),
        ({"row_state": "DELETED"}, [adoption.GONE_UNSENT], "nothing"),
        ({"row_state": "Gone"}, [adoption.UNKNOWN_WORD], "not_valid"),
        ({"submission_status": None}, [adoption.UNKNOWN_WORD], "not_valid"),
        ({"json_payload": "no JSON"}, [adoption.UNREADABLE], "unreadable"),
        (HELD, [adoption.UNSURE_BASELINE], "not_valid"),
    ],
)
def test_what_cannot_be_promised_is_said(
    columns: dict[str, Any], doubts: list[str], message: str
) -> None:
    row = {
        "id": 1, "row_state": "New", "submission_status": "Pending",
        "json_payload": '{"la_child_id":"1"}',
        **dict.fromkeys(("previous_json_payload", "partial_json_payload", "current_hash",
                         "previous_hash")),
    }  # fmt: skip
    found = adoption.Adoption(STAGING)
    work = adoption._Examination(found, text_hasher(SPEC, False), Validator(SPEC))
    work.look(types.SimpleNamespace(**{**row, **columns}))
    assert sorted(found.doubts) == doubts
    assert found.first_run == {message: 1}


def test_a_key_of_its_own_kind_is_granted_too(
    engine: Engine, ssd: Any, make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may insert into a table with a bigserial key may not count it up yet."""
    if engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL has sequences with rights of their own here")
    deploy(engine)
    alter(engine, make_settings())
    role = "d2i_counting"
    with database.transaction(engine) as connection:
        connection.execute(text(f"create role {role} login password 'limited'"))
        connection.execute(text(f"grant all on all tables in schema public to {role}"))
    url = engine.url.set(username=role, password="limited")
    monkeypatch.setenv("D2I_DATABASE_URL", url.render_as_string(hide_password=False))
    settings = make_settings()
    script = alter(engine, settings)
    assert f"grant usage on sequence public.{STAGING}_id_seq to " in script
    assert preflight.ddl_script(settings)[0] == "-- nothing to do"
    with database.transaction(engine) as connection:
        connection.execute(text(f"drop owned by {role}"))
        connection.execute(text(f"drop role {role}"))
