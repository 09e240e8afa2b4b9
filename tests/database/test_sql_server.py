"""All stages through a driver that behaves as pyodbc does: types, counted rows, retries."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, bindparam, delete, func, select, update

from d2i_helpers import database, settings
from d2i_helpers.database import retries, tables
from d2i_helpers.database.dialects.sql_server import SQLServer
from d2i_helpers.errors import DatabaseError
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.staging import Staging, attention, in_flight, outbox
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.messages import Message
from d2i_helpers.staging.outbox import Due
from d2i_helpers.staging.states import Unsent
from tests.database import day, odbc

HASH = b"h" * 32
MakeSettings = Callable[..., settings.Settings]


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(retries, "_LONGEST_WAIT_SECONDS", 0.001)


@pytest.fixture
def database_url(driver: odbc.Driver) -> str:
    """What `make_settings` of all tests points at."""
    return odbc.URL


def test_days_on_it_send_what_is_in_the_source(
    driver: odbc.Driver, make_settings: MakeSettings
) -> None:
    here = make_settings(chunk_size=20)
    day.fill(here, 60)
    engine = database.open_database(here)
    first = day.run(engine, here)
    assert first["extract"]["new"] > 20
    day.pass_a_day(here)
    second = day.run(engine, here)
    assert second["extract"]["unchanged"] > 10
    assert driver.untyped == []
    engine.dispose()


@pytest.mark.parametrize("blank", [9, 11, 0x85, 0xA0, 0x2003])
def test_ids_with_any_blank_at_their_ends_are_found(
    driver: odbc.Driver, make_settings: MakeSettings, blank: int
) -> None:
    here = make_settings(chunk_size=3)
    day.fill(here, 12)
    engine = database.open_database(here)
    spec = load_spec()
    new = extract.run(engine, here, spec).counts["new"]
    assert new > 3
    with driver.plain.begin() as connection:
        connection.exec_driver_sql(
            "update ssd_cin_episodes set cine_person_id = char(?) || cine_person_id", (blank,)
        )
    counts = extract.run(engine, here, spec).counts
    assert (counts["unchanged"], counts["gone"], counts["updated"]) == (new, 0, 0)
    engine.dispose()


def test_ids_in_varchar_are_asked_for_in_varchar(
    driver: odbc.Driver, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the server converts the column, past its index and by another order of texts."""
    here = make_settings(chunk_size=5)
    day.fill(here, 12)
    with driver.plain.begin() as connection:
        connection.exec_driver_sql("pragma writable_schema = 1")
        for name in ("pers_person_id", "cine_person_id"):
            connection.exec_driver_sql(
                "update sqlite_master set sql = replace(sql, ? || ' NVARCHAR', ? || ' VARCHAR')",
                (name, name),
            )
        # a letter that the code page lacks
        connection.exec_driver_sql(
            "update ssd_cin_episodes set cine_person_id = 'Ł' || cine_person_id "
            "where cine_person_id = (select min(pers_person_id) from ssd_person)"
        )
        connection.exec_driver_sql(
            "update ssd_person set pers_person_id = 'Ł' || pers_person_id "
            "where pers_person_id = (select min(pers_person_id) from ssd_person)"
        )
    driver.plain.dispose()  # it knows the tables as they were
    asked: list[tuple[str, tuple[Any, ...], list[Any]]] = []
    execute = odbc.Cursor.execute

    def look(cursor: odbc.Cursor, statement: str, parameters: Any = ()) -> Any:
        asked.append((statement, tuple(parameters), cursor.types or []))
        return execute(cursor, statement, parameters)

    monkeypatch.setattr(odbc.Cursor, "execute", look)
    engine = database.open_database(here)
    counts = extract.run(engine, here, load_spec()).counts
    assert counts["persons_read"] == 12
    engine.dispose()
    narrow = 0
    for statement, parameters, types in asked:
        if not re.search(r"(pers|cine)_person_id (>=|<=|IN \(\?)", statement):
            continue
        for value, kind in zip(parameters, types, strict=True):
            wanted = odbc.SQL_VARCHAR if value.isascii() else odbc.SQL_WVARCHAR
            assert kind[0] == wanted, statement
            narrow += kind[0] == odbc.SQL_VARCHAR
    assert narrow > 5


def test_ids_of_all_lengths_are_asked_for_in_one(
    driver: odbc.Driver, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else pyodbc gives each its own length, and the server plans each list of ids anew."""
    here = make_settings(chunk_size=5)
    day.fill(here, 24)
    asked: list[tuple[str, list[Any]]] = []
    execute = odbc.Cursor.execute

    def look(cursor: odbc.Cursor, statement: str, parameters: Any = ()) -> Any:
        asked.append((statement, cursor.types or []))
        return execute(cursor, statement, parameters)

    monkeypatch.setattr(odbc.Cursor, "execute", look)
    engine = database.open_database(here)
    extract.run(engine, here, load_spec())
    with driver.plain.begin() as connection:  # fewer than most, who would be read by pages
        connection.exec_driver_sql(
            "update ssd_person set pers_person_id = pers_person_id || '-and-longer' "
            "where pers_person_id in (select pers_person_id from ssd_person limit 4)"
        )
    extract.run(engine, here, load_spec())
    engine.dispose()
    of_pages = [pair for pair in asked if re.search(r"t\d\.\w+ (>=|<=|IN \(\?)", pair[0])]
    for kind in (">= ?", "IN (?"):
        assert sum(kind in statement for statement, _ in of_pages) > 20, kind
    assert {one for _, types in of_pages for one in types} == {(odbc.SQL_WVARCHAR, 48, 0)}


def rows_of(count: int) -> list[dict[str, Any]]:
    names = ["Łucja 李", "محمد", "Zoë", "x" * 100_000]
    return [
        {"person_id": f"P{n}", "json_payload": names[n % 4], "submission_status": "pending",
         "current_hash": None if n % 2 else bytes(32)}
        for n in range(count)
    ]  # fmt: skip


STAGING = tables.staging_table("ssd_api_data_staging")
BY_NUMBER = update(STAGING).where(STAGING.c.id == bindparam("row"))


@pytest.fixture
def engine(driver: odbc.Driver, make_settings: MakeSettings) -> Iterator[Engine]:
    opened = database.open_database(make_settings())
    database.create_staging(opened, STAGING.name)
    yield opened
    opened.dispose()


def write(engine: Engine, rows: list[dict[str, Any]]) -> None:
    with database.transaction(engine) as connection:
        database.insert_rows(connection, STAGING, rows)


def count(engine: Engine) -> int:
    with database.reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(STAGING)).scalar_one()


def test_letters_of_all_languages_and_long_texts_come_back(engine: Engine) -> None:
    write(engine, rows_of(8))
    with database.reading(engine) as connection:
        stored = connection.execute(select(STAGING.c.json_payload).order_by(STAGING.c.id)).scalars()
        assert list(stored) == [row["json_payload"] for row in rows_of(8)]


def test_an_insert_that_stops_half_way_is_an_error_and_leaves_nothing(
    engine: Engine, driver: odbc.Driver
) -> None:
    driver.faults.append(lambda said, rows: rows[:3] if said.startswith("INSERT") else None)
    with pytest.raises(DatabaseError, match="took 3 of 5 rows") as caught:
        write(engine, rows_of(5))
    assert caught.value.passes  # whoever has the chunk may do it again
    driver.faults.clear()
    assert count(engine) == 0


@pytest.mark.parametrize("column", ["json_payload", "current_hash"])
def test_an_update_that_stops_half_way_is_an_error(
    engine: Engine, driver: odbc.Driver, column: str
) -> None:
    write(engine, rows_of(4))
    value = "🎈 new  " if column == "json_payload" else b"\1" * 32
    rows = [{"row": n, "new": value} for n in range(1, 5)]
    statement = update(STAGING).values({column: bindparam("new")})

    def run() -> None:
        with database.transaction(engine) as connection:
            written = {"new": STAGING.c[column]}
            database.update_each(
                connection, statement, rows, key=("row", STAGING.c.id), written=written
            )

    driver.faults.append(lambda said, some: some[:-1] if said.startswith("UPDATE") else None)
    with pytest.raises(DatabaseError, match="took 3 of 4 rows"):
        run()
    driver.faults.clear()
    run()


def refuse(connection: Connection, staging: Staging) -> None:
    due = [Due(n, f"P{n}", HASH, None, False, "{}", None) for n in range(1, 5)]
    outbox.refuse(connection, staging, [(row, "a rule") for row in due])


def mark_error(connection: Connection, staging: Staging) -> None:
    sent = [Message(n, f"P{n}", "document", "{}", "{}", HASH, None) for n in range(1, 5)]
    in_flight._mark_error(connection, staging, [(one, "no") for one in sent], lost=True)


def hold_back(connection: Connection, staging: Staging) -> None:
    entries = [Entry(f"P{n}", Unsent.HELD_BACK, "cannot be read") for n in range(1, 5)]
    attention.add(connection, staging, "extract", entries, "run")


def release(connection: Connection, staging: Staging) -> None:
    attention.remove_others(connection, staging, "extract", [])


@pytest.mark.parametrize("step", [refuse, mark_error, hold_back, release])
def test_what_is_said_of_children_is_compared_with_what_was_meant(
    engine: Engine, driver: odbc.Driver, step: Callable[[Connection, Staging], None]
) -> None:
    staging = Staging(engine, STAGING.name)
    known = {"row_state": "new", "submission_status": "pending", "current_hash": HASH}
    write(engine, [{**row, "person_id": f"P{n}", **known} for n, row in enumerate(rows_of(4), 1)])
    if step is release:
        with database.transaction(engine) as connection:
            hold_back(connection, staging)
    driver.faults.append(lambda said, some: some[:-1] if said.startswith("UPDATE") else None)
    with (
        pytest.raises(DatabaseError, match="took 3 of 4 rows"),
        database.transaction(engine) as connection,
    ):
        step(connection, staging)
    driver.faults.clear()
    with database.transaction(engine) as connection:
        step(connection, staging)
        said = connection.execute(select(STAGING.c.api_response)).scalars().all()
    assert len(set(said)) == 1 and (said[0] is None) is (step is release)


def update_as_it_was(engine: Engine) -> None:
    """The kind of statement that delta had: a parameter of which SQL Server cannot say the type."""
    not_gone = func.lower(func.coalesce(STAGING.c.row_state, "")) != "deleted"
    statement = update(STAGING).where(not_gone).values(json_payload=bindparam("new"))
    rows = [{"row": n, "new": "李" * 1000} for n in range(1, 4)]
    with database.transaction(engine) as connection:
        database.update_each(
            connection, statement, rows, key=("row", STAGING.c.id),
            written={"new": STAGING.c.json_payload},
        )  # fmt: skip


@pytest.mark.parametrize("types_are_told", [True, False])
def test_a_long_text_needs_the_types_of_all_parameters(
    driver: odbc.Driver, make_settings: MakeSettings, types_are_told: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not types_are_told:  # the mutant
        monkeypatch.setattr(SQLServer, "type_parameters", lambda *_: None)
    engine = database.open_database(make_settings())
    database.create_staging(engine, STAGING.name)
    write(engine, [{**row, "json_payload": "{}"} for row in rows_of(3)])
    if types_are_told:
        update_as_it_was(engine)
        assert driver.untyped == []
    else:
        with pytest.raises(DatabaseError, match="longer than its column"):
            update_as_it_was(engine)
        assert driver.untyped
    engine.dispose()


def ending(driver: odbc.Driver, times: int, error: Callable[[], Exception]) -> None:
    """Let that many inserts of rows end in an error."""
    left = [times]

    def fault(said: str, rows: list[Any]) -> None:
        if said.startswith("INSERT INTO [dbo].ssd_api") and left[0]:
            left[0] -= 1
            raise error()

    driver.faults.append(fault)


DEADLOCK = functools.partial(odbc.server_error, 1205, "40001", "Rerun the transaction.")
BLOCKED = functools.partial(odbc.server_error, 1222, "42000", "Lock request time out period.")
LOST = functools.partial(odbc.server_error, 10054, "08S01", "Communication link failure")
RIGHT = functools.partial(odbc.server_error, 229, "42000", "The INSERT permission was denied")


@pytest.mark.parametrize("error", [DEADLOCK, BLOCKED, LOST])
def test_a_chunk_is_done_again_where_the_database_ended_it(
    engine: Engine, driver: odbc.Driver, error: Callable[[], Exception], no_waiting: None
) -> None:
    ending(driver, 2, error)
    done: list[int] = []

    def chunk(connection: Connection) -> int:
        done.append(1)
        database.insert_rows(connection, STAGING, rows_of(3))
        return 3

    assert database.in_transaction(engine, chunk) == 3
    assert (len(done), count(engine)) == (3, 3)


def test_what_is_ended_each_time_ends_the_run_and_says_so(
    engine: Engine, driver: odbc.Driver, no_waiting: None
) -> None:
    ending(driver, 99, DEADLOCK)
    with pytest.raises(DatabaseError, match=r"deadlock.*It was tried 4 times"):
        database.in_transaction(
            engine, lambda connection: database.insert_rows(connection, STAGING, rows_of(2))
        )
    assert count(engine) == 0


@pytest.mark.parametrize("given", [[{"row": 2, "new": "x"}] * 2, {"row": 2, "new": None}])
def test_a_transaction_that_the_server_ended_unsaid_is_an_error(
    engine: Engine, driver: odbc.Driver, no_waiting: None, given: Any
) -> None:
    write(engine, rows_of(2))
    left = [4]

    def some(said: str) -> bool:
        left[0] -= said.startswith("UPDATE")
        return said.startswith("UPDATE") and left[0] >= 0

    def work(connection: Connection) -> None:
        connection.execute(delete(STAGING).where(STAGING.c.person_id == "P0"))
        connection.execute(BY_NUMBER.values(api_response=bindparam("new")), given)

    driver.cannot_be_described = some
    with pytest.raises(DatabaseError, match=r"in its middle.*It was tried 4 times"):
        database.in_transaction(engine, work)
    assert count(engine) == 2
    database.in_transaction(engine, work)
    assert count(engine) == 1


def test_a_missing_right_is_not_tried_again(
    engine: Engine, driver: odbc.Driver, no_waiting: None
) -> None:
    ending(driver, 1, RIGHT)
    with pytest.raises(DatabaseError, match="lacks a right"):
        database.in_transaction(
            engine, lambda connection: database.insert_rows(connection, STAGING, rows_of(2))
        )


@pytest.mark.parametrize("error", [DEADLOCK, LOST])
def test_rows_that_were_not_fetched_are_read_again_and_never_as_text(
    driver: odbc.Driver, make_settings: MakeSettings, error: Callable[[], Exception],
    no_waiting: None,
) -> None:  # fmt: skip
    here = make_settings(chunk_size=20)
    day.fill(here, 30)
    engine = database.open_database(here)
    whole = extract.run(engine, here, load_spec()).counts["in_cohort"]
    seen: list[str] = []

    def fault(said: str) -> None:
        if "ssd_cin_episodes" in said and said not in seen:
            seen.append(said)
            raise error()

    driver.fetch_faults.append(fault)
    driver.statements.clear()
    for reassess in (False, True):  # who changed is looked for; everybody is read
        seen.clear()
        one = here.model_copy(update={"reassess": reassess})
        again = extract.run(engine, one, load_spec()).counts
        assert seen
        assert (again["in_cohort"], again["unchanged"], again["gone"]) == (whole, whole, 0)
    as_text = [said for said in driver.statements if "convert(nvarchar(max), t0" in said]
    assert as_text == []
    engine.dispose()


def test_the_catalogue_is_asked_for_all_tables_at_once(
    driver: odbc.Driver, make_settings: MakeSettings
) -> None:
    here = make_settings()
    day.fill(here, 5)
    driver.catalogue.asked.clear()
    preflight.run(here)
    assert len(driver.catalogue.asked) <= 12, driver.catalogue.asked
