"""The same tables on every database."""

from __future__ import annotations

import datetime as dt
import os
import sys
import threading
import types
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote_plus

import pytest
from sqlalchemy import (
    Engine,
    LargeBinary,
    cast,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
)

from d2i_helpers import database, settings
from d2i_helpers.database import tables, writes
from d2i_helpers.database.catalogue import quoted_name
from d2i_helpers.errors import DatabaseError
from d2i_helpers.preflight import stage as preflight


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("D2I_") and not name.startswith("D2I_TEST_"):
            monkeypatch.delenv(name)


def test_staging_tables_are_created_once(engine: Engine) -> None:
    created = database.create_staging(engine, "ssd_api_data_staging", "ssd_api_data_staging_anon")
    assert "ssd_api_data_staging_anon" in created
    assert (
        database.create_staging(engine, "ssd_api_data_staging", "ssd_api_data_staging_anon") == []
    )


def test_runs_that_begin_together_make_the_tables_between_them(
    engine: Engine, make_settings: Callable
) -> None:
    makers = [database.open_database(make_settings()) for _ in range(3)]
    begin = threading.Barrier(len(makers))

    def make(one: Engine) -> None:
        begin.wait(30)
        database.create_staging(one, "ssd_api_data_staging")

    with ThreadPoolExecutor(len(makers)) as pool:
        assert list(pool.map(make, makers)) == [None] * len(makers)
    for one in makers:
        one.dispose()
    assert database.create_staging(engine, "ssd_api_data_staging") == []


def test_a_run_that_is_stopped_while_it_makes_tables_leaves_none_without_its_indexes(
    engine: Engine,
) -> None:
    """Nobody would add them later, and each look into the submission log would read all of it."""
    if engine.dialect.name == "oracle":
        pytest.skip("there each such statement commits")
    ours = (tables.staging_table("ssd_api_data_staging"), *tables.our_tables().tables.values())
    wanted = {table.name: {str(index.name) for index in table.indexes} for table in ours}
    left = 0

    def stop(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal left
        left -= "INDEX" in statement
        if "INDEX" in statement and not left:
            raise KeyboardInterrupt

    def made() -> dict[str, set[str]]:
        found = inspect(engine)
        there = wanted.keys() & {*found.get_table_names()}
        return {one: {str(index["name"]) for index in found.get_indexes(one)} for one in there}

    event.listen(engine, "before_cursor_execute", stop)
    for index in range(1, 1 + sum(map(len, wanted.values()))):
        left = index
        database.forget_answers(engine)
        with pytest.raises(KeyboardInterrupt):
            database.create_staging(engine, "ssd_api_data_staging")
        assert made() == {}
    left = 0
    database.forget_answers(engine)
    database.create_staging(engine, "ssd_api_data_staging")
    assert all(made()[one] >= indexes for one, indexes in wanted.items())


def test_every_ssd_table_can_be_made_and_read(engine: Engine) -> None:
    with database.transaction(engine) as connection:
        tables.ssd_metadata().create_all(connection)
    with database.reading(engine) as connection:
        for table in tables.ssd_metadata().tables.values():
            assert connection.execute(select(table)).all() == []
    assert len(tables.ssd_metadata().tables) == 19


def test_a_database_error_never_shows_a_value(engine: Engine) -> None:
    database.create_staging(engine, "ssd_api_data_staging")
    row = {"person_id": "CANARY-1", "json_payload": "CANARY-2", "submission_status": "pending"}
    table = tables.staging_table("ssd_api_data_staging")
    with pytest.raises(DatabaseError) as caught, database.transaction(engine) as connection:
        connection.execute(insert(table), [row, row])
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_is_written_where_one_only_reads(engine: Engine) -> None:
    database.create_staging(engine, "ssd_api_data_staging")
    row = insert(tables.staging_table("ssd_api_data_staging")).values(person_id="1")
    with database.reading(engine) as connection:
        with pytest.raises(AssertionError, match="only reads"):
            connection.execute(row)
        assert connection.execute(select(func.count()).select_from(row.table)).scalar_one() == 0


def test_a_missing_table_is_named(engine: Engine) -> None:
    with pytest.raises(DatabaseError, match="ssd_person"), database.reading(engine) as connection:
        connection.execute(select(tables.ssd_table("ssd_person")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("alter table ssd_api_data_staging drop column legacy_id", "no column legacy_id"),
        ("alter table ssd_api_data_staging alter column json_payload type jsonb "
         "using json_payload::jsonb", "keeps json_payload in a type that is no text"),
        ("alter table ssd_api_data_staging alter column person_id type bigint "
         "using person_id::bigint", "keeps person_id in a type that is no text"),
    ],
)  # fmt: skip
def test_a_staging_table_that_cannot_be_used_is_refused_at_once(
    engine: Engine, make_settings: Callable[..., settings.Settings], change: str, said: str
) -> None:
    if "using" in change and engine.dialect.name != "postgresql":
        pytest.skip("the statement is PostgreSQL's")
    name = "ssd_api_data_staging"
    database.create_staging(engine, name)
    with database.transaction(engine) as connection:
        connection.execute(text(change))
    with pytest.raises(DatabaseError, match=said):
        database.create_staging(engine, name)
    checks = {check.name: check for check in preflight.run(make_settings())}
    assert checks["staging columns"].status == preflight.FAIL
    assert said in checks["staging columns"].detail


@pytest.mark.parametrize(("chosen", "used"), [(None, "1.1"), ("2.5", "2.5")])
def test_a_cost_of_pages_that_somebody_chose_stays(
    engine: Engine, make_settings: Callable[..., settings.Settings], chosen: str | None, used: str
) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("the setting is PostgreSQL's")
    login = engine.url.username
    with database.transaction(engine) as connection:
        connection.execute(text(f"alter role {login} set random_page_cost = {chosen or 'default'}"))
    try:
        another = database.open_database(make_settings())
        with database.reading(another) as connection:
            assert connection.execute(text("show random_page_cost")).scalar_one() == used
        another.dispose()
    finally:
        with database.transaction(engine) as connection:
            connection.execute(text(f"alter role {login} reset random_page_cost"))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_the_server_has_understood_is_used_again_after_a_look(engine: Engine) -> None:
    prepared = text("select count(*) from pg_prepared_statements where statement = 'select 7'")
    for _ in range(12):
        with database.transaction(engine) as connection:
            connection.execute(text("select 7"))
        with database.reading(engine) as connection:
            seen = connection.execute(prepared).scalar_one()
    assert seen == 1


def the_error(engine: Engine, statement: str) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught, database.transaction(engine) as connection:
        connection.execute(text(statement))
    return caught.value


def test_what_is_not_there_is_named_with_its_code_and_without_a_value(engine: Engine) -> None:
    error = the_error(engine, "select 'CANARY', 12 from ssd_person")
    assert error.message.startswith("A table, column or schema is not there")
    assert "ssd_person" in error.message and "docs/setup.md" in error.hint
    assert {"sqlite": "SQLITE_ERROR", "postgresql": "42P01"}[engine.dialect.name] in error.message
    database.create_staging(engine, "ssd_api_data_staging")
    values = "(person_id, json_payload, submission_status) values ('CANARY', '{}', 'pending')"
    insert_one = f"insert into ssd_api_data_staging {values}"
    with database.transaction(engine) as connection:
        connection.execute(text(insert_one))
    error = the_error(engine, insert_one)
    assert error.message.startswith("A row of that key is there already: ")
    assert "CANARY" not in str(error) and "d2i check`" not in str(error)


@pytest.mark.parametrize("reads", [False, True])
def test_a_lock_that_another_holds_ends_in_a_message(
    engine: Engine, make_settings: Callable[..., settings.Settings], reads: bool
) -> None:
    if reads and engine.dialect.name == "sqlite":
        pytest.skip("readers of SQLite do not wait for a writer")
    name = "ssd_api_data_staging"
    database.create_staging(engine, name)
    waiting = database.open_database(make_settings(lock_timeout=1))
    table = tables.staging_table(name)
    change = insert(table).values(person_id="1", json_payload="{}", submission_status="pending")
    with engine.connect() as holder:
        if reads:
            holder.execute(text(f"lock table {name} in access exclusive mode"))
        else:
            holder.execute(change)
        with pytest.raises(DatabaseError) as caught, database.transaction(waiting) as connection:
            connection.execute(select(table) if reads else change)
    waiting.dispose()
    assert caught.value.message.startswith("Another transaction held what this step needs")
    assert "lock_timeout" in caught.value.message and "run again" in caught.value.hint


def test_a_statement_without_an_end_is_ended(
    engine: Engine, make_settings: Callable[..., settings.Settings]
) -> None:
    database.create_staging(engine)  # SQLite needs a file
    limited = database.open_database(make_settings(statement_timeout=1))
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
    error = the_error(limited, endless)
    assert error.message.startswith("The statement took longer than `statement_timeout`")
    with database.reading(limited) as connection:  # the connection is still good
        assert connection.execute(text("select 7")).scalar_one() == 7
    limited.dispose()


def test_limits_have_defaults_and_can_be_taken_off(
    make_settings: Callable[..., settings.Settings], engine: Engine
) -> None:
    database.create_staging(engine)
    usual = make_settings()
    assert (usual.statement_timeout, usual.lock_timeout) == (600, 60)
    free = database.open_database(make_settings(statement_timeout=0, lock_timeout=0))
    with database.reading(free) as connection:
        if engine.dialect.name == "postgresql":
            asked = [text("show statement_timeout"), text("show lock_timeout")]
            assert [connection.execute(one).scalar_one() for one in asked] == ["0", "0"]
        else:
            found = connection.execute(text("pragma busy_timeout")).scalar_one()
            assert found > 24 * 3600 * 1000
    free.dispose()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("svc@no-such-host.invalid/d", "The server's name cannot be found"),
        ("svc@127.0.0.1:1/d", "Nothing listens on that port"),
        (None, "There is no such database"),
    ],
)
def test_a_server_that_cannot_be_had_is_told_by_its_cause(
    postgres_url: str, no_settings: None, monkeypatch: pytest.MonkeyPatch,
    place: str | None, said: str,
) -> None:  # fmt: skip
    wrong = make_url(postgres_url).set(database="canary_db")
    url = f"postgresql+psycopg://{place}" if place else wrong.render_as_string(hide_password=False)
    monkeypatch.setenv("D2I_DATABASE_URL", url)
    opened = database.open_database(settings.load_settings())
    with pytest.raises(DatabaseError) as caught:
        database.ping(opened)
    opened.dispose()
    assert caught.value.message.startswith(said)
    assert caught.value.hint
    assert "canary_db" not in str(caught.value) and "no-such-host" not in str(caught.value)


ODBC_KEYS = "DRIVER={ODBC Driver 18 for SQL Server};SERVER=srv;DATABASE=HDM"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"mssql+pyodbc:///?odbc_connect={quote_plus(ODBC_KEYS + ';UID=svc')}",
         f"{ODBC_KEYS};UID=svc;PWD={{p;w}}}}d+1%41}}"),
        (f"mssql+pyodbc:///?odbc_connect={quote_plus(ODBC_KEYS + ';UID=svc;PWD=own')}",
         f"{ODBC_KEYS};UID=svc;PWD=own"),
        (f"mssql+pyodbc:///?odbc_connect={quote_plus(ODBC_KEYS + ';Trusted_Connection=yes')}",
         f"{ODBC_KEYS};Trusted_Connection=yes"),
        (f"mssql+pyodbc:///?odbc_connect={quote_plus(ODBC_KEYS + ';UID=a;Trusted_Connection=Yes')}",
         f"{ODBC_KEYS};UID=a;Trusted_Connection=Yes"),
        (f"mssql+pyodbc:///?odbc_connect="
         f"{quote_plus(ODBC_KEYS + ';Uid=id;Authentication=ActiveDirectoryMsi;')}",
         f"{ODBC_KEYS};Uid=id;Authentication=ActiveDirectoryMsi;"),
        ("mssql+pyodbc://@srv/HDM?driver=X&Trusted_Connection=yes", None),
        ("mssql+pyodbc://srv/HDM?driver=X", None),
        ("mssql+pyodbc://svc@srv/HDM?driver=X&Authentication=ActiveDirectoryIntegrated", None),
        ("mssql+pyodbc://svc@srv/HDM?driver=X", "PWD={p;w}}d+1%41}"),
        ("mssql+pyodbc://svc@srv/HDM?driver=X&Authentication=ActiveDirectoryPassword",
         "PWD={p;w}}d+1%41}"),
    ],
)  # fmt: skip
def test_a_password_goes_only_where_a_login_needs_one(
    url: str, expected: str | None, no_settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if Microsoft's driver were there; nothing is connected
    driver = types.SimpleNamespace(version="5.2.0", paramstyle="qmark", Error=OSError, Cursor=list)
    monkeypatch.setitem(sys.modules, "pyodbc", driver)
    monkeypatch.setenv("D2I_DATABASE_PASSWORD", "p;w}d+1%41")
    monkeypatch.setenv("D2I_DATABASE_URL", url)
    opened = database.open_database(settings.load_settings())
    (said,) = opened.dialect.create_connect_args(opened.url)[0]
    if expected is None:
        assert "pwd" not in said.lower() and "d+1" not in said
    elif "odbc_connect" in url:
        assert said == expected
    else:
        assert expected in said


def test_a_connection_string_that_cannot_be_read_is_refused(
    no_settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2I_DATABASE_PASSWORD", "word-1")
    monkeypatch.setenv("D2I_DATABASE_URL", "mssql+pyodbc:///?odbc_connect=UID=x;A={open")
    with pytest.raises(DatabaseError, match="cannot be read") as caught:
        database.open_database(settings.load_settings())
    assert "open" not in str(caught.value)


def test_a_table_of_ours_from_an_older_version_gets_its_new_columns(engine: Engine) -> None:
    database.create_staging(engine, "ssd_api_data_staging")
    added = {"partial_digest", "document_digest"}
    with database.transaction(engine) as connection:
        for column in added:
            connection.execute(text(f"alter table d2i_row_notes drop column {column}"))
        assert not added & database.columns_present(connection, tables.notes)
    database.create_staging(engine, "ssd_api_data_staging")
    with database.reading(engine) as connection:
        assert connection.execute(select(tables.notes)).all() == []


def test_rows_that_are_handed_over_are_stored_as_sqlalchemy_stores_them(engine: Engine) -> None:
    """By a statement of our own: each value is what the driver gets for its column's type."""
    log = tables.submission_log
    row = {
        "staging_table": "t", "person_id": "P1", "run_id": "r", "batch_id": "b", "attempt": 1,
        "kind": "document", "phase": "delta", "document_hash": b"\x00" * 32, "body_hash": None,
        "outcome": "unknown", "started_at": dt.datetime(2026, 8, 10, 1, 2, 3),
        "detail": "Zoë\t\\N\n\\.\r\"'",
    }  # fmt: skip
    columns = [log.c[name] for name in row]
    if engine.dialect.name == "sqlite":  # which has no types: a time is what was handed over
        columns = [cast(column, LargeBinary) for column in columns]
    with database.transaction(engine) as connection:
        log.create(connection)
        connection.execute(insert(log), row)
        for number in (2, writes.FEWEST_COPIED):
            database.insert_rows(connection, log, [row] * number)
        stored = connection.execute(select(*columns).order_by(log.c.id)).all()
    assert len(stored) == 1 + 2 + writes.FEWEST_COPIED
    assert set(stored) == {stored[0]}


def test_rows_are_found_and_deleted_by_texts_of_any_letters(engine: Engine) -> None:
    odd = ['a"b', "a\\b", "\\", "{a,b}", "a, b ", "", "NULL", "'", "Zoë\n", "%s"]
    facts = tables.facts
    rows = [{"staging_table": "t", "name": one, "value": one} for one in [*odd, "a", "b", "null"]]
    with database.transaction(engine) as connection:
        facts.create(connection)
        database.insert_rows(connection, facts, rows)
        found = database.rows_among(connection, select(facts.c.value), facts.c.name, odd)
        assert sorted(row.value for row in found) == sorted(odd)
        database.delete_among(connection, delete(facts), facts.c.name, odd)
        assert set(connection.scalars(select(facts.c.name))) == {"a", "b", "null"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_row_that_a_trigger_keeps_out_of_a_copy_is_missed(engine: Engine) -> None:
    number = writes.FEWEST_COPIED
    rows = [{"staging_table": "t", "name": f"n{i}", "value": None} for i in range(number)]
    with database.transaction(engine) as connection:
        tables.facts.create(connection)
        connection.exec_driver_sql(
            "create function skip() returns trigger language plpgsql as "
            "'begin if new.name = ''n3'' then return null; end if; return new; end'"
        )
        connection.exec_driver_sql(
            "create trigger skip before insert on d2i_facts for each row execute function skip()"
        )
    with (
        pytest.raises(DatabaseError, match=f"took {number - 1} of {number} rows"),
        database.transaction(engine) as connection,
    ):
        database.insert_rows(connection, tables.facts, rows)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_rows_come_into_a_table_with_policies_too(engine: Engine) -> None:
    """PostgreSQL refuses COPY there, to a login that the policies hold for."""
    rows = [{"staging_table": "t", "name": f"n{i}", "value": "v"} for i in range(50)]
    login = f"clerk_{uuid.uuid4().hex[:8]}"
    with database.transaction(engine) as connection:
        tables.facts.create(connection)
        name = quoted_name(connection, tables.facts)
        for statement in (
            f"create role {login}",
            f"grant select, insert on {name} to {login}",
            f"alter table {name} enable row level security",
            f"create policy anyone on {name} using (true) with check (true)",
            f"set local role {login}",
        ):
            connection.exec_driver_sql(statement)
        database.insert_rows(connection, tables.facts, rows)
        stored = connection.execute(select(tables.facts.c.name)).scalars().all()
        connection.exec_driver_sql("reset role")
        connection.exec_driver_sql(f"drop owned by {login}")
        connection.exec_driver_sql(f"drop role {login}")
    assert sorted(stored) == sorted(row["name"] for row in rows)
