"""Preflight on real databases: each check passes, warns or fails as it should, and changes nothing.

What it asks of the receiver is tested in `api/test_preflight_receiver.py`.
"""

from __future__ import annotations

import shutil
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, inspect, select, text

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import DatabaseError, SettingsError, SpecificationError
from d2i_helpers.preflight import machine, receiving
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.preflight.checks import FAIL, PASS, SKIPPED, WARN, Check
from d2i_helpers.preflight.profile import checks as profile_checks
from d2i_helpers.settings import Secrets, Settings, load_settings, project_root
from d2i_helpers.staging import Staging
from d2i_helpers.staging import contents as contents_of
from d2i_helpers.staging.contents import Contents
from tests.preflight.logins import do, limited_login

STAGING = "ssd_api_data_staging"


def look(settings: Any) -> dict[str, Check]:
    return {check.name: check for check in preflight.run(settings)}


@pytest.fixture
def staged(engine: Engine, ssd: Any) -> Engine:
    """An SSD and all staging tables, empty."""
    database.create_staging(engine, STAGING, f"{STAGING}_anon")
    return engine


def contents(engine: Engine) -> dict[str, int]:
    """Every table that is there, with its number of rows."""
    names = inspect(engine).get_table_names()
    with database.reading(engine) as connection:
        return {
            name: connection.execute(select(func.count()).select_from(text(name))).scalar_one()
            for name in names
        }


def test_everything_passes_and_nothing_is_left_changed(
    staged: Engine, make_settings: Callable
) -> None:
    before = contents(staged)
    checks = preflight.run(make_settings())
    assert {check.status for check in checks} == {PASS}, checks
    assert preflight.error_of(checks) is None
    assert preflight.counts(checks)[PASS] == len(checks) > 10
    assert contents(staged) == before


def test_tables_that_are_missing_will_be_made(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    before = contents(engine)
    found = look(make_settings())
    assert found["staging tables"].status == PASS
    assert "will be made" in found["staging tables"].detail
    assert contents(engine) == before


def test_a_slip_in_the_name_of_a_staging_table_is_noticed(
    ssd: Any, engine: Engine, make_settings: Callable
) -> None:
    settings = make_settings()
    database.create_staging(engine, settings.staging_table)
    contents_of.claim(Staging(engine, settings.staging_table), Contents.IDENTIFIABLE)
    slip = look(make_settings(staging_table="ssd_api_data_stagin"))["staging tables"]
    assert slip.status == WARN
    assert "`staging_table` names ssd_api_data_stagin, which is not there" in slip.detail
    assert f"filled {settings.staging_table}" in slip.detail
    assert look(settings)["staging tables"].status == PASS  # the twin alone is missing
    named = look(make_settings(statutory_cohort_table="cohrt"))["source tables"]
    assert (named.status, "`statutory_cohort_table`" in named.advice) == (FAIL, True)


def test_a_database_that_is_not_there_fails_with_its_own_code(make_settings: Callable) -> None:
    settings = make_settings(database_url="sqlite:///nowhere/at-all.sqlite")
    found = look(settings)
    assert found["database"].status == FAIL
    assert found["tables"].status == SKIPPED
    with pytest.raises(DatabaseError, match="at-all"):
        preflight.require(list(found.values()))


def test_a_specification_that_is_wrong_fails(make_settings: Callable, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("blocks: {no_such_block: {}}", encoding="utf-8")
    checks = preflight.run(make_settings(spec_overlay=str(overlay)))
    assert isinstance(preflight.error_of(checks), SpecificationError)


def test_a_missing_index_is_named_with_the_statement_that_makes_it(
    staged: Engine, make_settings: Callable
) -> None:
    do(staged, "drop index ix_ssd_ssd_cin_plans_cinp_referral_id")
    check = look(make_settings())["source indexes"]
    assert check.status == WARN
    assert check.detail.endswith("children: ssd_cin_plans.cinp_referral_id")
    assert check.advice
    (statement,) = check.ddl
    do(staged, statement)
    assert look(make_settings())["source indexes"].status == PASS


def test_a_view_is_not_asked_for_an_index(staged: Engine, make_settings: Callable) -> None:
    """No database makes one on a plain view; SQL Server answers error 1939."""
    do(staged, "drop index ix_ssd_ssd_cin_plans_cinp_referral_id")
    do(staged, "alter table ssd_address rename to cms_address")
    do(staged, "create view ssd_address as select * from cms_address")
    check = look(make_settings())["source indexes"]
    assert check.detail.endswith("children: ssd_cin_plans.cinp_referral_id")
    (statement,) = check.ddl
    do(staged, statement)
    check = look(make_settings())["source indexes"]
    assert (check.status, check.ddl) == (PASS, ())
    assert check.detail.endswith("behind the views ssd_address")


def test_the_index_on_the_child_of_a_deployed_table_is_warned_of_and_made_by_the_next_run(
    staged: Engine, make_settings: Callable
) -> None:
    do(staged, f"drop index ux_{STAGING}_person")
    check = look(make_settings())["staging index"]
    assert check.status == WARN
    assert "person_id" in check.ddl[0]
    assert database.create_staging(staged, STAGING) == []
    assert "staging index" not in look(make_settings())
    assert database.create_staging(staged, STAGING) == []  # not a second one
    indexes = inspect(staged).get_indexes(STAGING)
    assert sum(index["column_names"] == ["person_id"] for index in indexes) == 1
    do(staged, f"drop index {next(i['name'] for i in indexes if i['name'].startswith('ix_d2i'))}")
    do(staged, check.ddl[0])
    assert "staging index" not in look(make_settings())


def test_a_staging_table_without_a_column_fails(staged: Engine, make_settings: Callable) -> None:
    do(staged, f"alter table {STAGING} drop column api_response")
    check = look(make_settings())["staging columns"]
    assert (check.status, check.error_name) == (FAIL, "DatabaseError")
    assert check.detail == f"{STAGING} has no column api_response"


def test_a_table_that_cannot_be_written_fails(staged: Engine, make_settings: Callable) -> None:
    do(staged, f"alter table {STAGING}_anon add column team varchar(5) not null default 'a'")
    assert look(make_settings())["rights to write"].status == PASS  # filled by itself
    if staged.dialect.name == "sqlite":
        do(
            staged,
            f"create trigger no_rows before insert on {STAGING}_anon "
            "begin select raise(abort, 'no'); end",
        )
    else:
        do(staged, f"alter table {STAGING}_anon alter column team drop default")
    check = look(make_settings())["rights to write"]
    assert (check.status, check.error_name) == (FAIL, "DatabaseError")
    assert f"cannot be written: {STAGING}_anon." in check.detail
    assert "GRANT" in check.advice.upper()


@pytest.fixture
def limited(
    staged: Engine, make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings of a PostgreSQL login that may do only what is granted."""
    if staged.dialect.name != "postgresql":
        pytest.skip("SQLite has no logins")
    reading = "grant select on all tables in schema public to d2i_limited"
    with limited_login(staged, "d2i_limited", reading) as url:
        monkeypatch.setenv("D2I_DATABASE_URL", url)
        yield make_settings()


def test_rights_that_a_login_lacks_are_named(staged: Engine, limited: Any) -> None:
    found = look(limited)
    assert found["rights to read"].status == PASS
    assert found["rights to write"].status == FAIL
    assert STAGING in found["rights to write"].detail
    assert "d2i_in_flight" in found["rights to write"].detail
    do(
        staged,
        "grant insert, update, delete on all tables in schema public to d2i_limited",
        "grant usage on all sequences in schema public to d2i_limited",
        f"revoke delete on {STAGING} from d2i_limited",
        "revoke select on ssd_person from d2i_limited",
    )
    found = look(limited)
    assert found["rights to read"].detail == "cannot be read: ssd_person"
    assert found["rights to read"].status == FAIL
    assert f"cannot be written: {STAGING}." in found["rights to write"].detail
    do(staged, "drop table d2i_run_lock")
    missing = look(limited)["staging tables"]
    assert missing.status == FAIL
    assert missing.detail == "missing: d2i_run_lock; this user may not create tables"


def test_a_table_that_somebody_holds_is_waited_for_once(
    staged: Engine, make_settings: Callable
) -> None:
    """SQLite locks the whole database: with a wait for each table a check took a quarter hour."""
    settings = make_settings(lock_timeout=1)
    if staged.dialect.name != "sqlite":
        held = "lock table ssd_api_data_staging in exclusive mode"
    else:
        held = "begin immediate"
    with staged.connect() as analyst:
        analyst.exec_driver_sql(held)
        begun = time.monotonic()
        found = look(settings)["rights to write"]
        assert time.monotonic() - begun < 5
        analyst.rollback()
    assert found.status == FAIL
    assert "Another transaction held" in found.detail
    assert "lock_timeout" in found.advice and "--ddl" not in found.advice


def test_a_database_that_can_only_be_read_is_named_as_such(
    staged: Engine, make_settings: Callable
) -> None:
    if staged.dialect.name != "postgresql":
        pytest.skip("only a setting of PostgreSQL makes it so")
    name = staged.url.database
    do(staged, f'alter database "{name}" set default_transaction_read_only = on')
    found = look(make_settings())["rights to write"]
    assert "The database can only be read" in found.detail
    assert "Name a database that can be written" in found.advice


def test_columns_of_a_new_release_are_added_where_the_login_may(
    staged: Engine, make_settings: Callable
) -> None:
    do(staged, "alter table d2i_marks drop column accepted_by")
    found = look(make_settings())["our columns"]
    assert found.status == WARN
    if staged.dialect.name != "sqlite":
        assert found.advice == "The next run adds them."
    with database.reading(staged) as connection:  # it was tried, and undone
        assert "accepted_by" not in database.columns_present(connection, tables.marks)
    database.create_staging(staged, STAGING)
    assert "our columns" not in look(make_settings())


def test_columns_of_a_new_release_that_the_login_may_not_add_fail(
    staged: Engine, limited: Settings
) -> None:
    """Else a check after an update would pass, and the night would end."""
    do(
        staged,
        "grant insert, update, delete on all tables in schema public to d2i_limited",
        "grant usage on all sequences in schema public to d2i_limited",
        "alter table d2i_marks drop column accepted_by",
    )
    found = look(limited)["our columns"]
    assert (found.status, found.error_name) == (FAIL, "DatabaseError")
    assert "d2i_marks.accepted_by; this user may not add them" in found.detail
    engine = database.open_database(limited)
    with pytest.raises(DatabaseError, match="lacks a right") as refused:
        database.create_staging(engine, STAGING)
    assert "d2i check --ddl" in str(refused.value.hint)
    engine.dispose()
    script, _ = preflight.ddl_script(limited)
    do(staged, *(line for line in script.splitlines() if line and not line.startswith("--")))
    assert {check.status for check in preflight.run(limited)} == {PASS}


# ------------------------------------------------------------------------------- the machine
@pytest.mark.parametrize(
    ("skew", "status"),
    [(0, PASS), (-59, PASS), (61, WARN), (-3000, WARN), (3601, FAIL), (-86400, FAIL)],
)
def test_a_clock_that_is_apart_warns_and_then_fails(skew: float, status: str) -> None:
    check = machine.clock("receiver clock", skew, "the receiver")
    assert check.status == status
    assert bool(check.advice) == (status != PASS)
    if status != PASS:
        assert ("ahead of" if skew > 0 else "behind") in check.detail


@pytest.mark.parametrize(("free", "status"), [(10**10, PASS), (10**8, WARN), (10**6, FAIL)])
def test_a_full_disk_warns_and_then_fails(
    make_settings: Callable, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free))
    check = machine.disk(make_settings())
    assert check.status == status
    assert bool(check.advice) == (status != PASS)


def test_outputs_that_cannot_be_written_fail(
    make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    check = machine.disk(make_settings())
    assert (check.status, check.error_name) == (FAIL, "RecordError")


@pytest.mark.parametrize(("held", "status"), [("0.0.1", WARN), (None, FAIL)])
def test_packages_that_are_old_or_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, held: str | None, status: str
) -> None:
    (check,) = machine.versions()
    assert check.status == PASS
    assert "sqlalchemy" in check.detail
    real = machine._installed
    monkeypatch.setattr(
        machine, "_installed", lambda name: held if name.lower() == "papermill" else real(name)
    )
    (check,) = machine.versions()
    assert (check.status, bool(check.advice)) == (status, True)
    assert "papermill" in check.detail
    assert "orjson" not in check.detail


def test_a_guard_that_is_switched_off_warns(make_settings: Callable) -> None:
    assert machine.guards(make_settings()).status == PASS
    check = machine.guards(make_settings(max_deleted_share=1, max_changed_share=1.0))
    assert check.status == WARN
    assert check.detail == "switched off: max_deleted_share, max_changed_share"
    check = machine.guards(make_settings(allow_fewer_rows="ssd_cp_plans"))
    assert (check.status, check.detail) == (WARN, "switched off: allow_fewer_rows")


def test_every_table_that_is_written_is_tried() -> None:
    """A filler for each kind of column: a new one must not slip through as a wrong value."""
    from d2i_helpers.preflight import staged as module

    for table in (tables.staging_table(STAGING), *tables.our_tables().tables.values()):
        for column in table.columns:
            assert isinstance(module._filler(column), column.type.python_type)


def test_the_script_grants_what_a_login_lacks(staged: Engine, limited: Settings) -> None:
    do(staged, "revoke select on ssd_person from d2i_limited")
    script, _ = preflight.ddl_script(limited)
    for statement in script.splitlines():
        assert statement.startswith(("grant ", "-- ")) or not statement
        do(staged, *([] if statement[:2] in ("--", "") else [statement]))
    assert preflight.ddl_script(limited) == ("-- nothing to do", None)
    assert {check.status for check in preflight.run(limited)} == {PASS}


@pytest.mark.parametrize(
    "profile", sorted(p.stem for p in (project_root() / "params").glob("phase*.yaml"))
)
def test_what_a_shipped_profile_leaves_open_is_named(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D2I_DATABASE_URL", raising=False)
    settings = load_settings({"profile": profile})
    found = {check.name: check for check in profile_checks(settings, Secrets())}
    assert found["filled in"].status == FAIL
    for name in ("sql_server", "sql_server_database", "token_url", "token_scope"):
        assert f"`{name}`" in found["filled in"].detail
    assert "authority" in found or settings.endpoint == "live"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("live_approver", "<name>", FAIL),
        ("ssd_schema", "CHANGE_ME", FAIL),
        ("live_approver", "tbc", FAIL),
        ("proxy", "http://proxy.example.com:8080", FAIL),
        ("webhook_url", "https://example.org/hook", FAIL),
        ("proxy", "http://proxy.council.gov.uk:8080", PASS),
        ("live_approver", "Todd Xu, service manager", PASS),
        ("ssd_schema", "SERVER", PASS),  # a word for addresses only
    ],
)
def test_words_that_stand_for_something_to_fill_in(name: str, value: str, status: str) -> None:
    found = {c.name: c for c in profile_checks(Settings(**{name: value}), Secrets())}
    assert found["filled in"].status == status
    assert value not in found["filled in"].detail


def test_a_variable_that_nobody_knows_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2I_ABCDEFGH", "canary")
    found = {c.name: c for c in profile_checks(Settings(), Secrets())}
    assert found["variables"].status == WARN
    assert "D2I_ABCDEFGH" in found["variables"].detail
    assert "canary" not in str(found)


def test_a_system_that_nobody_has_tried_is_said_to_be_so() -> None:
    found = {c.name: c for c in profile_checks(Settings(cms="azeus"), Secrets())}
    assert (found["system"].status, "never been compared" in found["system"].detail) == (WARN, True)
    assert "system" not in {c.name for c in profile_checks(Settings(cms="mosaic"), Secrets())}


@pytest.mark.parametrize(
    ("given", "key", "status"),
    [
        ({}, None, PASS),
        ({"pseudonym_key_mode": "fresh", "endpoint": "test"}, None, PASS),
        ({"endpoint": "test", "source": "anonymised"}, None, FAIL),
        ({"endpoint": "live"}, None, WARN),
        ({"endpoint": "live"}, "short", FAIL),
        ({"endpoint": "test", "source": "anonymised"}, "k" * 16, PASS),
    ],
)
def test_the_pseudonym_key_is_looked_at_and_none_is_made(
    given: dict[str, Any], key: str | None, status: str, tmp_path: Path
) -> None:
    settings = Settings(outputs_dir=str(tmp_path), **given)
    found = {c.name: c for c in profile_checks(settings, Secrets(pseudonym_key=key))}
    assert found["pseudonym key"].status == status
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("endpoint", "status"), [("simulated", FAIL), ("test", WARN)])
def test_a_field_that_cannot_be_anonymised_is_found_before_the_night(
    staged: Engine, make_settings: Callable, tmp_path: Path, endpoint: str, status: str
) -> None:
    overlay = tmp_path / "ours.yaml"
    field = "{meaning: x, column: pers_gender, transform: text, anonymise: code}"
    overlay.write_text(f"blocks: {{child_details: {{fields: {{ours: {field}}}}}}}")
    found = look(make_settings(spec_overlay=str(overlay), endpoint=endpoint))
    check = found["anonymising rules"]
    assert (check.status, found["specification"].status) == (status, PASS)  # `test` has no key
    assert "`child_details.ours` has no code list" in check.detail


def test_a_field_that_is_to_be_taken_out_and_is_not_there_is_told(
    staged: Engine, make_settings: Callable, tmp_path: Path
) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text("blocks: {child_details: {fields: {shoe_size: null}}}")
    found = look(make_settings(spec_overlay=str(overlay)))
    assert (found["specification"].status, found["overlay"].status) == (PASS, WARN)
    assert "`child_details.shoe_size`" in found["overlay"].detail
    assert "overlay" not in look(make_settings())


@pytest.mark.parametrize("name", sorted(Secrets.model_fields))
def test_a_secret_that_cannot_be_used_fails_by_its_name(
    staged: Engine, make_settings: Callable, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = make_settings()
    monkeypatch.setenv(f"D2I_{name.upper()}", "canary\ncanary")
    found = look(settings)
    assert found["secrets"].status == FAIL
    assert f"D2I_{name.upper()}" in found["secrets"].detail
    assert "canary" not in str(found)
    assert preflight.error_of(list(found.values())).exit_code == SettingsError.exit_code


def test_tables_that_are_missing_are_not_said_to_be_in_order(
    staged: Engine, make_settings: Callable
) -> None:
    do(staged, "drop table ssd_cp_plans")
    found = look(make_settings())
    assert found["source tables"].status == FAIL
    for name in ("rights to read", "source indexes"):
        assert found[name].status == SKIPPED
        assert "not checked: ssd_cp_plans" in found[name].detail


@pytest.mark.parametrize(("ids", "status"), [("P1", PASS), ("P1,P1x", WARN), ("P1x,P2x", FAIL)])
def test_a_pilot_of_nobody_is_seen(
    staged: Engine, ssd: Any, make_settings: Callable, ids: str, status: str
) -> None:
    ssd.add("ssd_person", {"pers_person_id": "P1"})
    found = look(make_settings(person_ids=ids))
    assert found["pilot"].status == status
    assert "P1x" not in str(found["pilot"])


def test_a_file_of_faults_that_is_none_is_seen(tmp_path: Path) -> None:
    faults = tmp_path / "faults.yaml"
    settings = Settings(receiver_faults=str(faults))
    for content, status in ((None, FAIL), ("faults: [{sttus: 500}]", FAIL), ("faults: []", PASS)):
        if content is not None:
            faults.write_text(content)
        found = {check.name: check for check in receiving.checks(settings, Secrets(), None)}
        assert found["receiver"].status == status


@pytest.mark.parametrize("password", ["x", "sa", "ssd", "postgres", "Password"])
def test_a_secret_that_every_record_holds_is_named(password: str) -> None:
    found = {c.name: c for c in profile_checks(Settings(), Secrets(proxy_password=password))}
    assert found["secrets"].status == WARN
    assert "D2I_PROXY_PASSWORD" in found["secrets"].detail
    telling = Secrets(proxy_password="Tr0ub4dor", client_id="ab-1")
    assert "secrets" not in {c.name for c in profile_checks(Settings(), telling)}


def test_a_ledger_key_that_is_too_short_is_seen_before_a_run() -> None:
    found = {c.name: c for c in profile_checks(Settings(), Secrets(ledger_key="short"))}
    assert (found["ledger key"].status, found["ledger key"].error_name) == (FAIL, "SettingsError")
    assert "ledger key" not in {
        c.name for c in profile_checks(Settings(), Secrets(ledger_key="k" * 16))
    }
