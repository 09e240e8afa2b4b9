"""What holds for Oracle, as far as it can be tried without one: none was at hand.

There an empty text is null, names of 12.1 have 30 characters, a text of any length (CLOB) cannot be
compared, sorted or grouped, and a list takes 1,000 values.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlalchemy import Engine, distinct, event, func, select, update
from sqlalchemy.dialects import oracle
from sqlalchemy.schema import CreateIndex, CreateTable

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.database.dialects import Characters
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import script
from d2i_helpers.settings import Settings
from tests.database import day, statements
from tests.preflight.test_script import statements_of

APPROVED = (statements.APPROVED / "oracle.sql").read_text(encoding="utf-8").splitlines()
STAGING = tables.staging_table("ssd_api_data_staging")
OURS = [
    STAGING,
    tables.staging_table("ssd_api_data_staging_anon"),
    *tables.our_tables().tables.values(),
]
MOST_IN_NAME = 30
NAME_OF_COMPILED = re.compile(r"(?i)\b(?:table|index|on|constraint)\s+(?:\w+\.)?\"?(\w+)\"?")


# ----------------------------------------------------------------------------- an empty text
def take_empty_for_null(engine: Engine) -> None:
    """Let a SQLite hand out null for every empty text, and store null for one that is given."""

    @event.listens_for(engine, "connect")
    def _results(connection: Any, _: Any) -> None:
        connection.text_factory = lambda raw: raw.decode() or None

    def given(parameters: Any) -> Any:
        if isinstance(parameters, dict):
            return {name: None if value == "" else value for name, value in parameters.items()}
        return tuple(None if value == "" else value for value in parameters)

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def _parameters(
        _: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> tuple[str, Any]:
        assert "''" not in statement
        return statement, [given(one) for one in parameters] if many else given(parameters)


def write_empty_for_null(engine: Engine) -> None:
    """The empty values of the SSD as empty texts, as some systems write them."""
    number = 0
    with database.transaction(engine) as connection:
        for table in tables.ssd_metadata().sorted_tables:
            for column in table.columns:
                if isinstance(column.type, Characters) and column.nullable:
                    emptied = update(table).where(column.is_(None))
                    number += connection.execute(emptied.values({column.name: ""})).rowcount
    assert number > 50


TIMES = {"id", "submission_timestamp", "last_updated", "api_response"}
KEPT = {"submission log": tables.submission_log, "notes": tables.notes,
        "attention": tables.attention, "reasons": tables.inclusion}  # fmt: skip
OF_A_RUN = {"id", "run_id", "batch_id", "reference", "correlation_id", "started_at", "milliseconds",
            "first_noted_at"}  # fmt: skip


def stored(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """What a day left in our tables, but times and what the receiver draws."""
    wanted = {"staging": (STAGING, TIMES), **{n: (t, OF_A_RUN) for n, t in KEPT.items()}}
    found = {}
    with database.reading(engine) as connection:
        for name, (table, left_out) in wanted.items():
            columns = [column for column in table.columns if column.name not in left_out]
            rows = connection.execute(select(*columns)).mappings().all()
            found[name] = sorted((dict(row) for row in rows), key=repr)
    return found


@pytest.fixture
def two_worlds(make_settings: Callable, tmp_path: Path) -> tuple[Settings, Settings]:
    """The same fictional SSD twice, with empty texts in it."""
    as_it_is, as_null = (
        make_settings(
            database_url=f"sqlite:///{tmp_path / name}.sqlite",
            receiver_store=str(tmp_path / f"{name}.receiver"),
            max_changed_share=1, max_deleted_share=1,
        )
        for name in ("plain", "null")
    )  # fmt: skip
    day.fill(as_it_is, 15)
    engine = database.open_database(as_it_is)
    write_empty_for_null(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
    engine.dispose()
    shutil.copy(tmp_path / "plain.sqlite", tmp_path / "null.sqlite")
    return as_it_is, as_null


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_days_are_the_same_where_an_empty_text_is_null(
    two_worlds: tuple[Settings, Settings],
) -> None:
    left = []
    for settings, is_null in zip(two_worlds, (False, True), strict=True):
        engine = database.open_database(settings)
        if is_null:
            take_empty_for_null(engine)
            with engine.connect() as connection:
                assert connection.exec_driver_sql("select ?", ("",)).scalar() is None
        counts = day.run(engine, settings)
        first = stored(engine)
        day.pass_a_day(settings)
        changed = day.run(engine, settings)
        left.append((counts, first, changed, stored(engine)))
        engine.dispose()
    assert left[0] == left[1]
    assert left[0][2]["submit"]["acknowledged"] > 0


# ------------------------------------------------------------------------------------- names
def test_every_name_of_ours_fits_into_30_characters() -> None:
    written = oracle.dialect()
    names: set[str] = set()
    for table in OURS:
        names |= {table.name, *(column.name for column in table.columns)}
        names |= {str(index.name) for index in table.indexes}
        names |= {str(c.name) for c in table.constraints if c.name}
        for made in (CreateTable(table), *(CreateIndex(index) for index in table.indexes)):
            names |= set(NAME_OF_COMPILED.findall(str(made.compile(dialect=written))))
    assert len(names) > 80
    assert not {name for name in names if len(name) > MOST_IN_NAME}


def test_an_index_of_a_long_table_name_fits_too() -> None:
    table = tables.staging_table("a_staging_table_of_30_letters_")
    names = [str(index.name) for index in table.indexes]
    assert len(set(names)) == len(names) == 2
    assert max(map(len, names)) <= MOST_IN_NAME


# -------------------------------------------------------------------------------- statements
def test_the_statements_hold_nothing_that_oracle_refuses() -> None:
    """Of what sqlglot does not know; that no CLOB is compared is seen where they are captured."""
    assert len(APPROVED) > 200
    limited = [said for said in APPROVED if "FETCH FIRST" in said]
    assert limited  # of 12.1, as are the identity columns of our tables
    for said in APPROVED:
        assert "''" not in said  # it would be null
        assert not re.search(r"(?i)\blimit\b|\bwhere true\b|\bboolean\b", said)
        if "FOR UPDATE" in said:  # ORA-02014
            assert not re.search(r"FETCH FIRST|DISTINCT|GROUP BY", said)
        if said.startswith("SELECT"):
            assert " FROM " in said  # a select without one is of 23ai


def test_no_list_is_longer_than_oracle_takes() -> None:
    assert database.most_in_list() <= 1000


@pytest.mark.parametrize(
    ("wrong", "is_wrong"),
    [
        (select(STAGING.c.id).where(STAGING.c.json_payload == "x"), True),
        (select(STAGING.c.id).where(STAGING.c.json_payload < STAGING.c.api_response), True),
        (select(STAGING.c.id).where(STAGING.c.api_response.in_(["x"])), True),
        (select(STAGING.c.id).order_by(STAGING.c.json_payload.desc()), True),
        (select(STAGING.c.api_response, func.count()).group_by(STAGING.c.api_response), True),
        (select(STAGING.c.json_payload).distinct(), True),
        (select(func.count(distinct(STAGING.c.json_payload))), True),
        (update(STAGING).where(func.coalesce(STAGING.c.api_response, "x") == "y"), True),
        (select(STAGING.c.json_payload).where(STAGING.c.person_id == "1").distinct(), True),
        (select(STAGING.c.json_payload).where(STAGING.c.person_id == "1"), False),
        (select(STAGING.c.id).where(STAGING.c.json_payload.like("{%}")), False),
        (select(STAGING.c.id).where(STAGING.c.json_payload.is_(None)), False),
        (select(STAGING.c.person_id).distinct().order_by(STAGING.c.person_id), False),
        (update(STAGING).values(json_payload="x").where(STAGING.c.id == 1), False),
    ],
)  # fmt: skip
def test_a_long_text_that_is_compared_is_found(wrong: Any, is_wrong: bool) -> None:
    assert bool(statements.long_texts_compared(wrong)) is is_wrong


# -------------------------------------------------------------------------------------- DDL
def test_the_script_for_its_dba_can_be_read(make_settings: Callable) -> None:
    text = script.whole(make_settings(), load_spec(), "oracle")
    parts = statements_of(text)
    made = [part for part in parts if part.upper().startswith("CREATE TABLE")]
    assert len(made) == len(OURS)
    for part in parts:
        (parsed,) = sqlglot.parse(part, dialect="oracle", error_level=sqlglot.ErrorLevel.RAISE)
        assert not isinstance(parsed, sqlglot.exp.Command), part  # of which nothing is read
    assert "CLOB" in text and "RAW(32)" in text and "NVARCHAR" not in text
