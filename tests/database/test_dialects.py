"""What each database is told that another is not, and that a new one needs a class and no more."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest
from sqlalchemy import (
    CHAR,
    INTEGER,
    NVARCHAR,
    VARCHAR,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    cast,
    create_engine,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import mssql, oracle, postgresql, registry, sqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter

from d2i_helpers import database, settings
from d2i_helpers.database import dialects, tables
from d2i_helpers.database.dialects import registry as registry_of_dialects
from d2i_helpers.errors import DatabaseError

SQLALCHEMY = {"sqlite": sqlite, "postgresql": postgresql, "mssql": mssql, "oracle": oracle}
ROWS = Table("t", MetaData(), Column("a", Integer))
LIMITS: Any = types.SimpleNamespace(lock_timeout=60, statement_timeout=600, connect_timeout=15)
NO_LIMITS: Any = types.SimpleNamespace(lock_timeout=0, statement_timeout=0, connect_timeout=15)


class Driver:
    """Stands for the connection of any driver, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.timeout = self.call_timeout = None

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cursor(self) -> Driver:
        return self

    def execute(self, statement: str) -> None:
        self.told.append(statement)

    def set_progress_handler(self, handler: Callable[[], bool], steps: int) -> None:
        self.told.append(f"looks at the time: {handler()}")

    def commit(self) -> None:
        self.told.append("commit")

    def close(self) -> None:
        pass


def session(dialect: dialects.Portable, limits: Any) -> list[str]:
    """What a new connection is told."""
    driver = Driver()
    dialect.set_up_connection(driver, limits, {})
    limited = {"timeout": driver.timeout, "call_timeout": driver.call_timeout}
    return driver.told + [f"{name}={value}" for name, value in limited.items() if value is not None]


def copied(dialect: dialects.Portable) -> list[Any] | None:
    """What a driver is given to copy a row; None where it is given none."""
    driver = MagicMock()
    cursor = driver.cursor.return_value.__enter__.return_value
    cursor.rowcount = 1
    try:
        dialect.copy_rows(driver, "s.t", ["a", "b"], [(1, "x")])
    except NotImplementedError:
        return None
    written = cursor.copy.return_value.__enter__.return_value.write_row
    return [cursor.copy.call_args.args, written.call_args.args]


def told_before_ddl(dialect: dialects.Portable) -> list[str]:
    """What a transaction is told in which tables are made."""
    connection = MagicMock()
    dialect.begin_ddl(connection)
    return [call.args[0] for call in connection.exec_driver_sql.call_args_list]


def has_listeners(dialect: dialects.Portable, limits: Any) -> bool:
    engine = create_engine("sqlite://")
    dialect.limit_statements(engine, limits)
    return bool(engine.dispatch.before_cursor_execute and engine.dispatch.after_cursor_execute)


def types_are_told(dialect: dialects.Portable) -> bool:
    engine = create_engine("sqlite://")
    engine.dialect.driver = "pyodbc"
    dialect.type_parameters(engine)
    return bool(engine.dispatch.before_cursor_execute)


def transactions_are_guarded(dialect: dialects.Portable) -> bool:
    engine = create_engine("sqlite://")
    engine.dialect.driver = "pyodbc"
    dialect.guard_transactions(engine)
    return bool(engine.dispatch.commit)


def changes_url(dialect: dialects.Portable, address: str) -> bool:
    """Whether a URL is not taken as it is: a file is not there, or an ODBC driver is looked for."""
    profile: Any = types.SimpleNamespace(path=lambda name: Path("/no/such/folder") / name)
    url = make_url(address)
    try:
        return dialect.prepare_url(url, profile, create=False) != url
    except DatabaseError:
        return True


def what_it_says(dialect: dialects.Portable) -> dict[str, Any]:
    """All that a dialect answers, the parts of statements as the text that is sent."""
    library: Any = SQLALCHEMY[dialect.name]

    def sql(statement: Any, to: Any = None) -> str:
        written = {"dialect": to or library.dialect(), "compile_kwargs": {"literal_binds": True}}
        try:
            return " ".join(str(statement.compile(**written)).split())
        except CompileError as error:  # a hint that belongs to another database
            return f"{error}"

    login, capitals = dialect.login_query(), dialect.capitals_query()
    counter = dialect.counter_query("s.t")
    held = database.locking(select(ROWS), ROWS)
    counted = Table(
        "c",
        MetaData(),
        Column("id", dialects.RowNumber()),
        Column("x", dialects.Characters()),
        words := Column("w", dialects.Characters(48)),
        Column("h", LargeBinary(32)),
    )
    connected: Any = types.SimpleNamespace(name=dialect.name, server_version_info=(16, 2))
    schema = dialect.schema_statements
    hashed = dialect.row_fingerprint([ROWS.c.a, words], [INTEGER(), None], (16, 2))
    packed = dialect.packed(select(ROWS.c.a, words), 16)
    return {
        "password": (dialect.takes_password, dialect.password_without_login),
        "url": [changes_url(dialect, f"any+pyodbc://{place}/x") for place in ("", "server")],
        "looks itself": dialect.why_unreachable(make_url("any://127.0.0.1:1/x")) is not None,
        "pyodbc": dialect.engine_options("pyodbc", LIMITS),
        "driver": dialect.engine_options("any", LIMITS),
        "driver without limits": dialect.engine_options("any", NO_LIMITS),
        "session": session(dialect, LIMITS),
        "session without limits": session(dialect, NO_LIMITS),
        "listeners": (has_listeners(dialect, LIMITS), has_listeners(dialect, NO_LIMITS)),
        "types are told": types_are_told(dialect),
        "guarded": transactions_are_guarded(dialect),
        "list": dialect.most_in_list,
        "errors": [
            code
            for code in (
                "1205",
                "40P01",
                "ORA-00060",
                "SQLITE_BUSY_SNAPSHOT",
                "08S01",
                "57P01",
                "ORA-03113",
                "HYT00",
            )
            if dialect.passes([code])
        ],
        "lost": [code for code in ("1205", "08S01", "57P01", "ORA-03113") if dialect.lost([code])],
        "at once": dialect.hands_over_at_once,
        "fingerprint": None if hashed is None else sql(hashed),
        "copies": (sorted(dialect.copies_rows), copied(dialect)),
        "first columns": [
            str(asked)
            if (asked := dialect.first_columns_query(schema, ["t"])) is not None
            else None
            for schema in ("s", None)
        ],
        "may copy": None if (asked := dialect.copy_query("s.t")) is None else sql(asked),
        "not plain": None if (odd := dialect.is_not_plain(words)) is None else sql(odd),
        "compared": [dialect.as_compared(text) for text in (" a ", "a\t")],
        "packed": None if packed is None else sql(packed),
        "shard": None if (number := dialect.shard_hash(words)) is None else sql(number),
        "counts": dialect.counts_rows_of_many,
        "footprint": (
            sql(dialect.footprint(words)),
            [n for n in ("é🎈", 2, 3) if dialect.fits(n, "é🎈")],
        ),
        "size": sql(dialect.size_of(words)),
        "size of ascii": dialect.size_of_ascii(2),
        "text": sql(dialect.as_raw_text(ROWS.c.a)),
        "whole numbers": sql(dialect.without_zero_decimals(ROWS.c.a, cast(ROWS.c.a, Text()))),
        "now": sql(dialect.utc_now()),
        "server": dialect.server(connected),
        "held": sql(held),
        "among": [
            str(dialect.among(ROWS.c.a, "ids", known).compile(dialect=library.dialect()))
            for known in (Text(), None)
        ],
        "beside": [
            str(kind)
            for of in (CHAR(20), VARCHAR(48), NVARCHAR(48), None)
            if (kind := dialect.beside(of)) is not None
        ],
        "types among": [
            str(part.type)
            for part in visitors.iterate(dialect.among(ROWS.c.a, "ids", VARCHAR(48)))
            if isinstance(part, BindParameter)
        ],
        "numbered": (
            str(dialect.numbered(ROWS.c.a).compile(dialect=library.dialect())),
            dialect.numbers([3, 5, 9]),
        ),
        "partial": dialect.partial_indexes,
        "begins ddl": told_before_ddl(dialect),
        "undoes ddl": dialect.undoes_ddl,
        "counts when told": dialect.counts_when_told,
        "table": sql(CreateTable(counted), dialect.for_scripts(library.dialect())),
        "login": (None if login is None else sql(login), sorted(dialect.owners)),
        "login called": [dialect.login_called(name) for name in ("ssd", '"Ssd"')],
        "capitals": None if capitals is None else sql(capitals),
        "new schema": schema("s", "u", is_there=False),
        "schema": (schema("s", "u", is_there=True), schema("s", None, is_there=True)),
        "grant": dialect.grant_statements("s.t", "u", ["select", "insert"]),
        "hides": dialect.hides_tables,
        "to text": dialect.text_statements("s.t", ["a", "b"]),
        "counter": None if counter is None else sql(counter),
    }


CHEAPER_PAGES = (
    "select set_config('random_page_cost', '1.1', false) "
    "where current_setting('random_page_cost') = '4'"
)
ORACLE_SESSION = (
    "alter session set nls_sort = binary nls_date_format = 'SYYYY-MM-DD HH24:MI:SS' "
    "nls_timestamp_format = 'SYYYY-MM-DD HH24:MI:SS.FF6' "
    "nls_timestamp_tz_format = 'SYYYY-MM-DD HH24:MI:SS.FF6 TZH:TZM'"
)
NO_SESSION: dict[str, Any] = {"session": [], "session without limits": []}
FIRST_COLUMNS = (
    "select c.relname, a.attname from pg_catalog.pg_index i "
    "join pg_catalog.pg_class c on c.oid = i.indrelid "
    "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
    "join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] "
    "where c.relname = any(cast(:names as text[])) and "
)

SAID: dict[str, dict[str, Any]] = {
    "sqlite": {
        "password": (False, False),
        "url": [True, True],
        "looks itself": False,
        "pyodbc": {"connect_args": {"timeout": 60}},
        "driver": {"connect_args": {"timeout": 60}},
        "driver without limits": {"connect_args": {"timeout": 2_000_000}},
        "session": ["pragma journal_mode=wal", "pragma synchronous=full",
                    "pragma temp_store=memory",
                    "looks at the time: False"],
        "session without limits": ["pragma journal_mode=wal", "pragma synchronous=full",
                                   "pragma temp_store=memory"],
        "listeners": (True, False),
        "types are told": False,
        "guarded": False,
        "list": 900,
        "errors": ["SQLITE_BUSY_SNAPSHOT"],
        "lost": [],
        "at once": False,
        "fingerprint": None,
        "copies": ([], None),
        "first columns": [None, None],
        "may copy": None,
        "not plain": "(c.w glob '*[^!-~]*') OR instr(c.w, char(0)) > 0",
        "compared": [" a ", "a\t"],
        "packed": None,
        "shard": None,
        "counts": True,
        "footprint": ("c.w", ["é🎈"]),
        "size": "length(CAST(c.w AS BLOB))",
        "size of ascii": 2,
        "text": "CAST(t.a AS BLOB)",
        "whole numbers": "CASE WHEN (t.a = CAST(t.a AS INTEGER)) THEN CAST(CAST(t.a AS INTEGER) "
                         "AS TEXT) ELSE CAST(t.a AS TEXT) END",
        "now": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
        "server": "sqlite 16.2",
        "held": "SELECT t.a FROM t",
        "among": ["t.a IN (__[POSTCOMPILE_ids])", "t.a IN (__[POSTCOMPILE_ids])"],
        "beside": [],
        "types among": ["INTEGER"],
        "numbered": ("t.a IN (__[POSTCOMPILE_numbers])", {"numbers": [3, 5, 9, 9]}),
        "partial": True,
        "begins ddl": ["begin immediate"],
        "undoes ddl": False,
        "counts when told": False,
        "table": "CREATE TABLE c ( id INTEGER, x TEXT, w VARCHAR(48), h BLOB )",
        "login": (None, []),
        "login called": ["ssd", '"Ssd"'],
        "capitals": None,
        "new schema": [],
        "schema": ([], []),
        "grant": [],
        "hides": False,
        "to text": [],
        "counter": None,
    },
    "postgresql": {
        "password": (True, True),
        "url": [False, False],
        "looks itself": False,
        "pyodbc": {"connect_args": {"connect_timeout": 15}},
        "driver": {"connect_args": {"connect_timeout": 15}},
        "driver without limits": {"connect_args": {"connect_timeout": 15}},
        "session": ["set timezone = 'UTC'", "set statement_timeout = 600000",
                    "set lock_timeout = 60000", CHEAPER_PAGES, "commit"],
        "session without limits": ["set timezone = 'UTC'", "set statement_timeout = 0",
                                   "set lock_timeout = 0", CHEAPER_PAGES, "commit"],
        "listeners": (False, False),
        "types are told": False,
        "guarded": False,
        "list": 900,
        "errors": ["40P01", "57P01"],
        "lost": ["57P01"],
        "at once": True,
        "fingerprint": 'hash_record_extended(row(t.a, CAST(c.w AS TEXT) COLLATE "C"), 0)',
        "copies": (["psycopg"], [("COPY s.t (a, b) FROM STDIN",), ((1, "x"),)]),
        "first columns": [
            f"{FIRST_COLUMNS}n.nspname = :schema",
            f"{FIRST_COLUMNS}pg_catalog.pg_table_is_visible(c.oid)",
        ],
        "may copy": "SELECT CASE WHEN row_security_active(CAST('s.t' AS REGCLASS)) THEN 0 ELSE 1 "
                    "END AS anon_1",
        "not plain": 'c.w COLLATE "C" ~ \'[^!-~]\'',
        "compared": [" a ", "a\t"],
        "packed": (
            "SELECT string_agg(int8send(anon_1.w), CAST('' AS BYTEA)) AS string_agg_1, "
            "count(anon_1.a) AS count_1, "
            "string_agg(coalesce(anon_1.a, ''), chr(1)) AS string_agg_2 FROM "
            "(SELECT t.a AS a, c.w AS w FROM t, c LIMIT ALL OFFSET 0) AS anon_1 "
            "GROUP BY anon_1.w & 15"
        ),
        "shard": (
            "CAST(CAST('x' || substr(encode(sha256(convert_to(c.w, 'UTF8')), 'hex'), 1, 8)"
            " AS BIT(32)) AS BIGINT)"
        ),
        "counts": True,
        "footprint": ("c.w", ["é🎈"]),
        "size": "octet_length(c.w)",
        "size of ascii": 2,
        "text": "CAST(t.a AS TEXT)",
        "whole numbers": "CASE WHEN (t.a = CAST(t.a AS NUMERIC(38, 0))) THEN "
                         "CAST(CAST(t.a AS NUMERIC(38, 0)) "
                         "AS TEXT) ELSE CAST(t.a AS TEXT) END",
        "now": "timezone('utc', clock_timestamp())",
        "server": "postgresql 16.2",
        "held": "SELECT t.a FROM t FOR UPDATE OF t",
        "among": ["t.a IN (SELECT unnest(%(ids)s :: TEXT[]) AS unnest_1)",
                  "t.a IN (__[POSTCOMPILE_ids])"],
        "beside": [],
        "types among": ["NULL"],
        "numbered": (
            "t.a IN (SELECT unnest(%(numbers)s :: BIGINT[]) AS unnest_1)",
            {"numbers": "{3,5,9}"},
        ),
        "partial": True,
        "begins ddl": [],
        "undoes ddl": True,
        "counts when told": True,
        "table": "CREATE TABLE c ( id BIGINT, x TEXT, w VARCHAR(48), h BYTEA )",
        "login": ("SELECT CURRENT_USER AS current_user_1", []),
        "login called": ["ssd", '"Ssd"'],
        "capitals": None,
        "new schema": ["create schema s;", "grant usage on schema s to u;"],
        "schema": (["grant usage on schema s to u;"], []),
        "grant": ["grant select, insert on s.t to u;"],
        "hides": False,
        "to text": ["alter table s.t\n  alter column a type text using a::text,\n"
                    "  alter column b type text using b::text;"],
        "counter": "select pg_get_serial_sequence('s.t', 'id') from pg_attribute where "
                   "attrelid = cast('s.t' as regclass) and attname = 'id' and attidentity = ''",
    },
    "mssql": {
        "password": (True, False),
        "url": [False, True],
        "looks itself": True,
        "pyodbc": {"fast_executemany": True, "connect_args": {"timeout": 15}},
        "driver": {},
        "driver without limits": {},
        "session": ["set lock_timeout 60000", "set transaction isolation level read committed",
                    "set xact_abort off", "set deadlock_priority low", "commit", "timeout=600"],
        "session without limits": ["set lock_timeout -1",
                                   "set transaction isolation level read committed",
                                   "set xact_abort off", "set deadlock_priority low", "commit",
                                   "timeout=0"],
        "listeners": (False, False),
        "types are told": True,
        "guarded": True,
        "list": 900,
        "errors": ["1205", "08S01"],
        "lost": ["08S01"],
        "at once": False,
        "fingerprint": None,
        "copies": ([], None),
        "first columns": [None, None],
        "may copy": None,
        "not plain": (
            "(rtrim(c.w) COLLATE Latin1_General_100_BIN2) LIKE N'%[^!-~]%'"
        ),
        "compared": [" a", "a\t"],
        "packed": None,
        "shard": "CAST(substring(hashbytes('SHA2_256', c.w), 1, 4) AS BIGINT)",
        "counts": False,
        "footprint": ("len(c.w)", [2, 3]),
        "size": "datalength(c.w)",
        "size of ascii": None,
        "text": "convert(nvarchar(max), t.a, 121)",
        "whole numbers": "CASE WHEN (t.a = CAST(t.a AS NUMERIC(38, 0))) THEN "
                         "CAST(CAST(t.a AS NUMERIC(38, 0)) "
                         "AS TEXT) ELSE CAST(t.a AS TEXT) END",
        "now": "sysutcdatetime()",
        "server": "mssql 16.2",
        "held": "SELECT t.a FROM t with (updlock, rowlock)",
        "among": ["t.a IN (__[POSTCOMPILE_ids])", "t.a IN (__[POSTCOMPILE_ids])"],
        "beside": ["VARCHAR(20)", "VARCHAR(48)", "NVARCHAR(48)"],
        "types among": ["VARCHAR(48)"],
        "numbered": ("t.a BETWEEN :lowest AND :highest", {"lowest": 3, "highest": 9}),
        "partial": False,
        "begins ddl": [],
        "undoes ddl": True,
        "counts when told": False,
        "table": "CREATE TABLE c ( id BIGINT NULL, x NVARCHAR(max) NULL, w NVARCHAR(48) NULL, "
        "h VARBINARY(32) NULL )",
        "login": ("SELECT user_name() AS user_name_1", ["dbo"]),
        "login called": ["ssd", '"Ssd"'],
        "capitals": "SELECT case when N'a' = N'A' then 1 else 0 end",
        "new schema": ["exec('create schema s');"],
        "schema": ([], []),
        "grant": ["grant select, insert on s.t to u;"],
        "hides": True,
        "to text": [],
        "counter": None,
    },
    "oracle": {
        "password": (True, False),
        "url": [False, False],
        "looks itself": False,
        "pyodbc": {},
        "driver": {},
        "driver without limits": {},
        "session": [ORACLE_SESSION, "call_timeout=600000"],
        "session without limits": [ORACLE_SESSION, "call_timeout=0"],
        "listeners": (False, False),
        "types are told": False,
        "guarded": False,
        "list": 900,
        "errors": ["ORA-00060", "ORA-03113"],
        "lost": ["ORA-03113"],
        "at once": False,
        "fingerprint": None,
        "copies": ([], None),
        "first columns": [None, None],
        "may copy": None,
        "not plain": "REGEXP_LIKE(c.w, '[^!-~]')",
        "compared": [" a ", "a\t"],
        "packed": None,
        "shard": "to_number(substr(rawtohex(standard_hash(c.w, 'SHA256')), 1, 8), 'XXXXXXXX')",
        "counts": True,
        "footprint": ("c.w", ["é🎈"]),
        "size": "length(c.w)",
        "size of ascii": 2,
        "text": "to_clob(t.a)",
        "whole numbers": "CASE WHEN (t.a = CAST(t.a AS NUMERIC(38, 0))) THEN "
                         "CAST(CAST(t.a AS NUMERIC(38, 0)) "
                         "AS CLOB) ELSE CAST(t.a AS CLOB) END",
        "now": "sys_extract_utc(systimestamp())",
        "server": "oracle 16.2",
        "held": "SELECT t.a FROM t FOR UPDATE OF t.a",
        "among": ["t.a IN (__[POSTCOMPILE_ids])", "t.a IN (__[POSTCOMPILE_ids])"],
        "beside": [],
        "types among": ["INTEGER"],
        "numbered": ("t.a IN (__[POSTCOMPILE_numbers])", {"numbers": [3, 5, 9, 9]}),
        "partial": False,
        "begins ddl": [],
        "undoes ddl": False,
        "counts when told": False,
        "table": "CREATE TABLE c ( id NUMBER(19), x CLOB, w VARCHAR2(48 CHAR), h BLOB )",
        "login": ("SELECT user FROM dual", []),
        "login called": ["SSD", "Ssd"],
        "capitals": None,
        "new schema": [],
        "schema": ([], []),
        "grant": ["grant select, insert on s.t to u;"],
        "hides": True,
        "to text": [],
        "counter": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_a_database_is_told(name: str) -> None:
    assert what_it_says(dialects.named(name)) == SAID[name]


def test_every_class_is_held_here() -> None:
    assert {dialect.name for dialect in dialects.registered()} == set(SAID)


@pytest.mark.parametrize("library", [postgresql, mssql, oracle], ids=lambda of: of.__name__)
def test_the_database_itself_counts_up_every_row_number(library: Any) -> None:
    """A sequence beside the table would need a grant of its own, and Oracle would make none."""
    ours = [tables.staging_table("s"), *tables.our_tables().tables.values()]
    counted = [table for table in ours if "id" in table.columns]
    assert len(counted) > 2
    for table in counted:
        assert "IDENTITY" in str(CreateTable(table).compile(dialect=library.dialect())), table.name


PAIRS = list(itertools.combinations([dialects.Portable(), *dialects.registered()], 2))


def differences(first: type, second: type) -> Iterator[str]:
    for name in sorted({*vars(first), *vars(second)}):
        plain = name == "name" or name.startswith("__")
        if not plain and getattr(first, name, None) is not getattr(second, name, None):
            yield name


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda of: type(of).__name__)
def test_a_method_that_is_swapped_is_noticed(
    first: dialects.Portable, second: dialects.Portable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each difference of two classes shows in what is held above, so none can be mixed up."""
    swapped = 0
    for name in differences(type(first), type(second)):
        with monkeypatch.context() as patch:
            ours = [(one, other) for one, other in ((first, second), (second, first)) if one.name]
            theirs = [getattr(type(other), name) for _, other in ours]
            for (one, _), method in zip(ours, theirs, strict=True):
                patch.setattr(type(one), name, method)
            assert any(what_it_says(one) != SAID[one.name] for one, _ in ours), name
        swapped += 1
    assert swapped


def test_no_list_is_longer_than_the_shortest_that_a_database_takes() -> None:
    assert [len(part) for part in database.in_batches(range(2000))] == [900, 900, 200]
    assert [len(part) for part in database.in_batches(range(5), 2)] == [2, 2, 1]


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mssql", "oracle"])
def test_lists_have_few_lengths_and_none_is_too_long(name: str) -> None:
    """A driver keeps what it knows of each statement; each other length is another statement."""
    lists = [dialects.named(name).listed(range(number), None) for number in range(901)]
    assert [len(one) for one in lists[:6]] == [0, 1, 2, 4, 4, 8]
    assert sorted({len(one) for one in lists}) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900]
    assert all(set(one) == set(range(number)) for number, one in enumerate(lists))


def test_a_database_without_a_class_is_treated_as_portable() -> None:
    unknown = dialects.named("mysql")
    assert type(unknown) is dialects.Portable
    assert unknown.engine_options("any", LIMITS) == {} and session(unknown, LIMITS) == []
    assert str(unknown.utc_now()) == "CURRENT_TIMESTAMP"


class ShelfOfSQLAlchemy(SQLiteDialect_pysqlite):
    """A fifth database, as SQLAlchemy knows it."""

    name = "shelf"
    supports_statement_cache = True


class Shelf(dialects.Portable):
    """The fifth database, as this project is told about it."""

    name = "shelf"
    takes_password = False
    row_number = Integer()
    most_in_list = 3
    opened: ClassVar[list[int]] = []

    def set_up_connection(self, connection: Any, settings: Any, info: dict[Any, Any]) -> None:
        self.opened.append(settings.lock_timeout)

    def utc_now(self) -> Any:
        return select(text("'2026-08-10 03:00:00'")).scalar_subquery()


def test_a_fifth_database_takes_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register("shelf", __name__, "ShelfOfSQLAlchemy")
    monkeypatch.setattr(registry_of_dialects, "_REGISTERED", {**registry_of_dialects._REGISTERED})
    dialects.register(Shelf)
    monkeypatch.setenv("D2I_DATABASE_URL", f"shelf:///{tmp_path / 'shelf.db'}")
    engine = database.open_database(settings.load_settings(lock_timeout=7))
    name = "ssd_api_data_staging"
    staging = tables.staging_table(name)
    assert name in database.create_staging(engine, name)
    row = {"json_payload": "{}", "submission_status": "pending"}
    with database.transaction(engine) as connection:
        connection.execute(insert(staging), [{**row, "person_id": str(n)} for n in range(2)])
    with database.reading(engine) as connection:
        held = database.locking(select(staging.c.id, staging.c.person_id), staging)
        assert connection.execute(held).all() == [(1, "0"), (2, "1")]
        assert database.utc_now(connection).isoformat() == "2026-08-10T03:00:00"
        assert database.login_name(connection) is None
    assert database.ping(engine).startswith("shelf 3.")
    assert Shelf.opened and set(Shelf.opened) == {7}
    assert [len(part) for part in database.in_batches(range(7))] == [3, 3, 1]
    grants = database.grant_statements(engine.dialect, None, staging, "u", ["select"])
    assert grants == [f'grant select on {name} to "u";']
    engine.dispose()
