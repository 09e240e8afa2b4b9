"""The script for a database administrator: run as it is printed, and enough for a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, inspect

from d2i_helpers import database
from d2i_helpers.cli import cli
from d2i_helpers.database import tables
from d2i_helpers.database.dialects.postgresql import PostgreSQL
from d2i_helpers.demo import simulate
from d2i_helpers.errors import DatabaseError, SettingsError
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.runs.day import run_day
from d2i_helpers.settings import Settings
from tests.preflight.logins import do, limited_login

STAGING = "ssd_api_data_staging"
NOTHING = "-- nothing to do"


def statements_of(script: str) -> list[str]:
    """The statements of the script, as a DBA's tool would run them one by one."""
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [part.strip() for part in "\n".join([*lines, ""]).split(";\n") if part.strip()]


@pytest.fixture
def staged(engine: Engine, ssd: Any) -> Engine:
    """An SSD and all staging tables, empty."""
    database.create_staging(engine, STAGING, f"{STAGING}_anon")
    return engine


def script_for(settings: Settings) -> str:
    found, error = preflight.ddl_script(settings)
    assert error is None
    return found


@pytest.fixture
def granted_nothing(
    engine: Engine, make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings of a login that may nothing, beside an SSD.

    SQLite has no logins; there it is the file itself.
    """
    simulate.init(make_settings(), children=12)
    ssd = {table.name for table in tables.ssd_metadata().tables.values()}
    ours = set(inspect(engine).get_table_names()) - ssd
    do(engine, *(f"drop table {name}" for name in sorted(ours)))
    if engine.dialect.name == "sqlite":
        yield make_settings()
        return
    with limited_login(engine, "d2i_granted") as url:
        monkeypatch.setenv("D2I_DATABASE_URL", url)
        yield make_settings()


def test_the_whole_script_lets_a_login_run_that_might_nothing(
    engine: Engine, granted_nothing: Settings
) -> None:
    """Made without asking the database; then nothing is missing, and nothing more is allowed."""
    done = CliRunner().invoke(cli, ["check", "--ddl", engine.dialect.name])
    assert done.exit_code == 0
    for statement in statements_of(done.output):
        do(engine, statement)
    assert script_for(granted_nothing) == NOTHING
    if engine.dialect.name == "sqlite":
        return
    before = set(inspect(engine).get_table_names())
    given = {"outputs_dir": granted_nothing.outputs_dir, "run_date": "2026-08-10",
             "receiver_store": granted_nothing.receiver_store, "receiver_port": 0}  # fmt: skip
    record = run_day(given)
    assert record.exit_code == 0, record.error
    assert set(inspect(engine).get_table_names()) == before
    login = database.open_database(granted_nothing)
    for forbidden in (
        "delete from d2i_submission_log",
        "update d2i_submission_log set outcome = 'acknowledged'",
        "delete from d2i_ledger",
        "update d2i_ledger set content = ''",
        "update d2i_row_notes set partial_kind = 'purge'",
        "update ssd_person set pers_upn = null",
        "delete from ssd_person",
        "create table more (id integer)",
    ):
        with pytest.raises(DatabaseError, match="right"):
            do(login, forbidden)
    login.dispose()


def test_the_script_makes_what_is_missing(engine: Engine, granted_nothing: Settings) -> None:
    if engine.dialect.name == "postgresql":
        do(engine, "grant select on all tables in schema public to d2i_granted")
    statements = statements_of(script_for(granted_nothing))
    made = sum(statement.lower().startswith("create table") for statement in statements)
    assert made == 2 + len(tables.our_tables().tables)
    for statement in statements:
        do(engine, statement)
    assert script_for(granted_nothing) == NOTHING


def test_the_script_mends_columns_indexes_and_rights(
    staged: Engine, make_settings: Callable
) -> None:
    do(staged, "alter table d2i_row_notes drop column partial_digest")
    do(staged, f"alter table {STAGING} drop column api_response")
    unique = next(i for i in tables.staging_table(f"{STAGING}_anon").indexes if i.unique)
    do(staged, f"drop index {unique.name}", "drop table d2i_facts")
    do(staged, "drop index ix_ssd_ssd_cin_plans_cinp_referral_id")
    found = script_for(make_settings())
    for name in (
        "api_response",
        f"{STAGING}_anon",
        "d2i_facts",
        "cinp_referral_id",
        "partial_digest",
    ):
        assert name in found
    for statement in statements_of(found):
        do(staged, statement)
    assert script_for(make_settings()) == NOTHING


def test_the_script_has_the_schema_of_the_profile(
    engine: Engine, ssd: Any, make_settings: Callable
) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no schemas")
    settings = make_settings(staging_schema="Staging Area")
    for statement in statements_of(script_for(settings)):
        do(engine, statement)
    assert script_for(settings) == NOTHING
    assert "d2i_facts" in inspect(engine).get_table_names(schema="Staging Area")


def test_what_the_script_cannot_do_is_not_called_nothing(
    engine: Engine, make_settings: Callable
) -> None:
    database.create_staging(engine, STAGING, f"{STAGING}_anon")
    found = script_for(make_settings())
    assert "-- source tables: missing: ssd_" in found and statements_of(found) == []
    assert "nothing to do" not in found


def test_a_database_that_does_not_answer_gets_the_whole_script(
    postgres_url: str, make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2I_DATABASE_URL", "postgresql+psycopg://svc@127.0.0.1:1/d")
    settings = make_settings()
    found, error = preflight.ddl_script(settings)
    assert isinstance(error, DatabaseError)
    assert "-- tables: the database cannot be reached" in found
    statements = statements_of(found)
    for name in (STAGING, f"{STAGING}_anon", *tables.our_tables().tables):
        assert any(f"TABLE {name.rpartition('.')[2]} (" in statement for statement in statements)
    assert any('to "svc"' in statement for statement in statements)
    done = CliRunner().invoke(cli, ["check", "--ddl"])
    assert "CREATE TABLE d2i_facts" in done.output


def test_every_table_of_ours_has_its_least_rights_and_its_purpose() -> None:
    for table in tables.our_tables().tables.values():
        assert table.name in tables._USES
    for name in ("d2i_ledger", "d2i_submission_log"):
        table = tables.our_tables().tables[f"{tables.STAGING_SCHEMA}.{name}"]
        assert tables.rights(table) == ("select", "insert")


@pytest.mark.parametrize(
    ("dialect", "words"),
    [
        ("mssql", ["NVARCHAR(max)", "IDENTITY", "to [D2I_LOGIN]", "[my team]", "exec('create"]),
        ("oracle", ["CLOB", "IDENTITY", 'to "D2I_LOGIN"', "current_hash RAW(32)"]),
        ("postgresql", ["TEXT", "BYTEA", 'grant usage on schema "my team"']),
        ("sqlite", ["TEXT", "BLOB"]),
    ],
)
def test_the_whole_script_speaks_any_dialect(dialect: str, words: list[str]) -> None:
    found = preflight.whole_script(Settings(staging_schema="my team"), dialect)
    assert all(word in found for word in words), found
    for unheard in ("NTEXT", "IMAGE"):
        assert unheard not in found
    names = re.findall(r"(?:TABLE|INDEX) (\S+)|^\t(\w+) ", found, re.MULTILINE)
    bare = [part.rpartition(".")[2] for pair in names for part in pair if part]
    assert len(bare) > 100
    assert max(map(len, bare)) <= 30, "longer than an Oracle before 12.2 takes"
    assert ("D2I_LOGIN" in found) == (dialect != "sqlite")
    assert len(statements_of(found)) > 35


def test_a_login_that_the_profile_names_is_granted() -> None:
    settings = Settings(database_url="mssql+pyodbc://svc@srv/d?driver=X")
    assert "to [svc];" in preflight.whole_script(settings, "mssql")
    assert 'to "D2I_LOGIN";' in preflight.whole_script(settings, "oracle")
    with pytest.raises(SettingsError, match="`db2` is no database"):
        preflight.whole_script(settings, "db2")


@pytest.mark.parametrize(("typed", "granted"), [("d2i_run", "D2I_RUN"), ("%22Mixed%22", "Mixed")])
def test_a_login_of_oracle_is_granted_by_the_name_that_the_database_has(
    typed: str, granted: str
) -> None:
    settings = Settings(database_url=f"oracle+oracledb://{typed}@srv/?service_name=x")
    assert f' to "{granted}";' in preflight.whole_script(settings, "oracle")


def test_a_table_that_a_login_may_not_see_is_granted_and_not_only_made(
    staged: Engine, make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL Server and Oracle show a login only what it may use."""
    if staged.dialect.name != "postgresql":
        pytest.skip("SQLite has no logins")
    do(staged, "drop table ssd_person", "drop table d2i_facts")
    assert "looks missing" not in script_for(make_settings())
    monkeypatch.setattr(PostgreSQL, "hides_tables", True)
    found = script_for(make_settings())
    assert found.count("looks missing") == 2
    assert 'grant select on ssd_person to "postgres";' in found
    assert "and run the grant" in found
