"""Days in an anonymised table alone, and records broken on purpose."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from pydantic import SecretStr
from sqlalchemy import Engine, select

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise_stage
from d2i_helpers.database import tables
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.demo import receiver, simulate
from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.extract import stage as extract_stage
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Secrets, Settings, load_settings
from d2i_helpers.submit import stage as submit_stage

MakeSettings = Callable[..., Settings]
KEY = Secrets(pseudonym_key=SecretStr("a secret of the test, long enough"))
SPEC = load_spec("systemc")  # as the demo profile has it
FOR_TESTS = {"source": "anonymised", "endpoint": "simulated", "pause_seconds": 0}


def make_twin(engine: Engine, settings: Settings) -> None:
    """An anonymised table of a fictional SSD, and nothing else: the SSD is taken away."""
    simulate.init(settings, children=40)
    extract_stage.run(engine, settings, SPEC)
    anonymise_stage.run(engine, settings, KEY, SPEC)
    with database.transaction(engine) as connection:
        tables.ssd_metadata().drop_all(connection)
        tables.staging_table(settings.staging_table).drop(connection)


def rows_of(engine: Engine, settings: Settings) -> dict[str, Any]:
    table = tables.staging_table(settings.anon_table)
    with database.reading(engine) as connection:
        return {row.person_id: row for row in connection.execute(select(table))}


def send(engine: Engine, settings: Settings, service: Any) -> dict[str, int]:
    delta_stage.run(engine, settings, SPEC)
    return submit_stage.run(engine, settings, SPEC, service).counts


def held_by(service: Any) -> Any:
    host = service.base_url.split("/simulated")[0].split("/api")[0]
    return requests.get("/".join(host.split("/")[:3]) + "/admin/documents", timeout=30).json()


def test_after_each_day_delta_and_submit_make_the_receiver_equal_to_the_table(
    engine: Engine, make_settings: MakeSettings
) -> None:
    settings = make_settings(**FOR_TESTS)
    make_twin(engine, settings)
    happened: dict[str, int] = {}
    with receiver.running(settings) as service:
        send(engine, settings, service)
        for day in range(1, 3):
            changes = simulate.days_in_staging(settings)
            waiting = [
                r for r in rows_of(engine, settings).values() if r.submission_status != "sent"
            ]
            gone = changes["children left"]
            assert len(waiting) == sum(changes.values()) - gone, f"day {day}"
            counts = send(engine, settings, service)
            assert counts["acknowledged"] == sum(changes.values())
            rows = rows_of(engine, settings)
            live = {k: orjson.loads(r.json_payload) for k, r in rows.items()
                    if r.row_state != "deleted"}  # fmt: skip
            assert held_by(service) == live
            happened = {k: happened.get(k, 0) + n for k, n in changes.items()}
    assert min(happened.values()) > 0, happened  # every kind has happened, also a return
    assert sum(key.startswith("SIM") for key in live) > 0


@pytest.fixture(scope="module")
def twin_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with an anonymised table alone."""
    folder = tmp_path_factory.mktemp("twin")
    settings = settings_for(folder / "twin.sqlite")
    engine = database.open_database(settings, create=True)
    make_twin(engine, settings)
    engine.dispose()
    return folder / "twin.sqlite"


def settings_for(path: Path, **more: Any) -> Settings:
    given = {
        "database_url": f"sqlite:///{path}",
        "run_date": "2026-08-10",
        "outputs_dir": str(path.parent / "outputs"),
        "receiver_store": str(path.parent / "receiver.sqlite"),
    }
    return load_settings(None, **{**given, **FOR_TESTS, **more})


def copy_of(twin_file: Path, tmp_path: Path, name: str) -> Path:
    return Path(shutil.copy(twin_file, tmp_path / name))


def test_the_same_seed_gives_the_same_days(twin_file: Path, tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = settings_for(copy_of(twin_file, tmp_path, name), simulate_seed=seed)
        changes = simulate.days_in_staging(settings, days=2)
        engine = database.open_database(settings)
        rows = rows_of(engine, settings)
        engine.dispose()
        contents.append(
            (changes, {k: (r.json_payload, r.row_state, r.current_hash) for k, r in rows.items()})
        )
    assert contents[0] == contents[1]
    assert contents[0][1] != contents[2][1]


def test_what_may_be_identifiable_or_go_live_is_refused_and_stays_as_it_is(
    twin_file: Path, tmp_path: Path
) -> None:
    path = copy_of(twin_file, tmp_path, "a")
    for wrong in ({"source": "identifiable"}, {"endpoint": "live"}):
        with pytest.raises(GateError):
            simulate.days_in_staging(settings_for(path, **wrong))
        with pytest.raises(GateError):
            simulate.break_records(settings_for(path, **wrong), ["42 factors"])
    # a name is no proof: the table that is called the anonymised one holds ids of the SSD
    settings = settings_for(path)
    engine = database.open_database(settings)
    before = rows_of(engine, settings)
    person = tables.ssd_table("ssd_person")
    with database.transaction(engine) as connection:
        person.create(connection)
        connection.execute(person.insert(), {"pers_person_id": min(before)})
    with pytest.raises(GateError, match="no anonymised copy"):
        simulate.days_in_staging(settings)
    assert rows_of(engine, settings) == before
    engine.dispose()


EXPECTED = {
    "future dates": None,  # right in form: the receiver is asked
    "42 factors": "factors: too many items",
    "disabilities as a bare word": "disabilities: wrong type",
    "purge keys removed": "purge: wrong type",
    "ids renamed": "social_care_episode_id: missing",
    "states reset": None,  # the log says what the receiver holds
}


def test_each_broken_record_is_told_by_its_rule_and_all_others_are_sent(
    twin_file: Path, tmp_path: Path
) -> None:
    settings = settings_for(copy_of(twin_file, tmp_path, "a"))
    engine = database.open_database(settings)
    with receiver.running(settings) as service:
        send(engine, settings, service)
        assert set(EXPECTED) == set(simulate.KINDS)
        broken = simulate.break_records(settings, list(simulate.KINDS), children=2)
        assert broken == dict.fromkeys(simulate.KINDS, 2)
        waiting = {k for k, r in rows_of(engine, settings).items() if r.submission_status != "sent"}
        assert len(waiting) == 12
        counts = send(engine, settings, service)
    assert counts["acknowledged"] == 2  # the future dates; what was reset is known to be there
    said = [
        r.api_response for r in rows_of(engine, settings).values() if r.submission_status == "error"
    ]
    engine.dispose()
    assert len(said) == 8
    for rule in filter(None, EXPECTED.values()):
        assert sum(rule in text for text in said) == 2, (rule, said)


def test_a_kind_that_is_not_known_is_named(twin_file: Path) -> None:
    with pytest.raises(SettingsError, match="broken like `43 factors`"):
        simulate.break_records(settings_for(twin_file), ["43 factors"])
