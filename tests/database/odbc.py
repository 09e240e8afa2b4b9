"""A driver that behaves as pyodbc does with SQL Server, over a file of SQLite.

What it takes is T-SQL, which sqlglot reads strictly and turns into SQLite's. Of pyodbc it has what
a run can trip over:

- with `fast_executemany`, a parameter whose type was not set is described by the server. SQL Server
  says a type only where the parameter stands beside a column or is the value of one; where it
  cannot say one of them, every parameter of the statement becomes VARCHAR(255), in which a longer
  text is an error and a letter that the code page lacks a question mark
  (sp_describe_undeclared_parameters; `params.cpp` of pyodbc);
- where a statement for many rows, or with a null, `cannot_be_described`, its transaction is ended
  and it goes on in a new one, without an error (a server that is not SQL Server does so where the
  condition of an UPDATE or DELETE names a column with its table);
- the number of rows is -1 after many rows;
- text is compared without regard to capitals.

Errors that a test wants are put into `faults`.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlalchemy import Engine, NullPool, create_engine, inspect
from sqlalchemy.dialects.mssql.pyodbc import MSDialect_pyodbc
from sqlalchemy.schema import CreateTable
from sqlglot import exp

from d2i_helpers.database import tables
from d2i_helpers.demo.simulate import ssd_rows

URL = "mssql+pyodbc://@server/HDM?driver=ODBC+Driver+18+for+SQL+Server"
SQL_BIGINT, SQL_DOUBLE, SQL_VARBINARY, SQL_VARCHAR, SQL_WVARCHAR = -5, 8, -3, 12, -9
SQL_TYPE_TIMESTAMP = 93
_GUESS = (SQL_VARCHAR, 255, 0)
# what SQLAlchemy asks a new server, and what a SQL Server 2016 says
_ANSWERS = {
    "SERVERPROPERTY('ProductVersion')": "13.0.6300.2",
    "schema_name()": "dbo",
    "test max support": "test max support",
    "fn_listextendedproperty": None,
    "user_name()": "svc",
    "sys.system_views": "dm_exec_sessions",
    "transaction_isolation_level": "READ COMMITTED",
}
_NOTHING = re.compile(
    r"(?i)\s*(?:set (?:lock_timeout|transaction isolation|xact_abort|deadlock_priority)|exec\()"
)


class Error(Exception):
    """As pyodbc raises it: a state and a text."""


class DatabaseError(Error):
    """An error of the database."""


class OperationalError(DatabaseError):
    """Of the connection or the server."""


class ProgrammingError(DatabaseError):
    """Of the statement or its parameters."""


class DataError(DatabaseError):
    """Of a value."""


class IntegrityError(DatabaseError):
    """Of a key."""


def server_error(number: int, state: str, text: str) -> Error:
    """An error as Microsoft's driver words it."""
    said = f"[{state}] [Microsoft][ODBC Driver 18 for SQL Server][SQL Server]{text} ({number})"
    return OperationalError(state, f"{said} (SQLExecDirectW)")


class Driver:
    """Stands in the place of the module `pyodbc`."""

    paramstyle, apilevel, threadsafety, version, pooling = "qmark", "2.0", 1, "5.2.0", False
    Error, DatabaseError, OperationalError = Error, DatabaseError, OperationalError
    ProgrammingError, DataError, IntegrityError = ProgrammingError, DataError, IntegrityError
    InterfaceError = NotSupportedError = InternalError = Warning = Error
    Binary, BinaryNull = bytearray, object()
    STRING, BINARY, NUMBER, DATETIME = str, bytearray, float, dt.datetime
    SQL_BIGINT, SQL_DOUBLE, SQL_VARBINARY = SQL_BIGINT, SQL_DOUBLE, SQL_VARBINARY
    SQL_VARCHAR, SQL_WVARCHAR, SQL_TYPE_TIMESTAMP = SQL_VARCHAR, SQL_WVARCHAR, SQL_TYPE_TIMESTAMP

    def __init__(self, path: Path) -> None:
        self.path = path
        self.untyped: list[str] = []  # statements of which the server had to say a type
        self.cannot_be_described = _names_a_table
        self.statements: list[str] = []
        # called with each statement and its rows; may raise, and gives the rows that are written
        self.faults: list[Callable[[str, list[Any]], list[Any] | None]] = []
        self.fetch_faults: list[Callable[[str], None]] = []
        self.plain = create_engine(f"sqlite:///{path}", poolclass=NullPool)  # leaves none open
        self.catalogue = FakeCatalogue(self)

    class Cursor:
        """What SQLAlchemy looks at before it has a cursor."""

        nextset = None

    def connect(self, *_: Any, **__: Any) -> Connection:
        return Connection(self)


class Connection:
    """One connection; a transaction begins with the first statement that writes."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.autocommit, self.timeout = driver, False, 0
        self.raw = sqlite3.connect(
            driver.path, timeout=5, detect_types=sqlite3.PARSE_DECLTYPES, check_same_thread=False
        )
        self.raw.execute("pragma journal_mode=wal")
        self.raw.execute("pragma synchronous=off")
        self.raw.create_function("SYSUTCDATETIME", 0, lambda: _as_text(_now()))
        self.raw.create_function("LEN", 1, lambda t: None if t is None else len(t.rstrip(" ")))
        self.raw.create_function("DATALENGTH", 1, lambda t: None if t is None else 2 * len(t))
        self.gone = self.has_lock = False

    def add_output_converter(self, *_: Any) -> None:
        pass

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.has_lock = False  # it goes with the transaction
        self.raw.commit()

    def rollback(self) -> None:
        self.has_lock = False
        self.raw.rollback()

    def close(self) -> None:
        self.raw.close()


class Cursor:
    """One cursor."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.driver = connection, connection.driver
        self.fast_executemany, self.types, self.rowcount = False, None, -1
        self.description: Any = None
        self._rows: list[Any] = []
        self._said = ""

    def setinputsizes(self, types: Sequence[Any]) -> None:
        self.types = [one if one and isinstance(one[0], int) else None for one in types]

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        types, self.types = self.types, None
        self._begin(statement)
        if self._answered(statement):
            return self
        if None in parameters:
            self._describe(statement)
        rows = self._hurt(statement, [tuple(parameters)])
        bound = []
        for place, value in enumerate(parameters):
            kind = types[place] if types and place < len(types) else None
            if kind is None and value is None:  # pyodbc has nothing to go by but the server
                self.driver.untyped.append(statement)
                kind = _GUESS
            bound.append(_bound(value, kind or _kind_of(value)))
        if rows:
            found = self._run(_as_sqlite(statement), bound)
            self.rowcount = found.rowcount
            self._keep(found)
        return self

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        types, self.types = self.types, None
        self._begin(statement)
        self._describe(statement)
        width = len(rows[0])
        types = list(types or [None] * width)
        if self.fast_executemany and None in types:
            self.driver.untyped.append(statement)
            described = _described(statement)
            types = [kind or (None if described else _GUESS) for kind in types]
        bound = [
            tuple(_bound(v, k or _kind_of(v)) for v, k in zip(row, types, strict=True))
            for row in rows
        ]
        for row in self._hurt(statement, bound):
            self._run(_as_sqlite(statement), row)
        self.rowcount = -1

    def _begin(self, statement: str) -> None:
        if self.connection.gone:
            raise OperationalError("08S01", "[08S01] Communication link failure (0) (SQLExecute)")
        self._said, self.description, self._rows = statement, None, []
        self.driver.statements.append(statement)

    def _describe(self, statement: str) -> None:
        if self.driver.cannot_be_described(statement):
            self.connection.rollback()

    def _hurt(self, statement: str, rows: list[Any]) -> list[Any]:
        for fault in list(self.driver.faults):
            left = fault(statement, rows)
            rows = rows if left is None else left
        return rows

    def _answered(self, statement: str) -> bool:
        if _NOTHING.match(statement):
            return True
        if statement.lstrip().upper().startswith("CREATE TABLE"):
            self.connection.raw.execute(_create_table(statement, self.driver.plain))
            return True
        if "sp_getapplock" in statement and self.connection.raw.in_transaction:
            self.connection.has_lock = True
            return True
        answers = {
            "@@trancount": int(self.connection.raw.in_transaction),
            "applock_mode": "IntentShared" if self.connection.has_lock else "NoLock",
            **_ANSWERS,
        }
        for words, answer in answers.items():
            if words in statement:
                self._rows = [(answer,)]
                self.description = [("answer", None, None, None, None, None, None)]
                return True
        return False

    def _run(self, statement: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        try:
            return self.connection.raw.execute(statement, parameters)
        except sqlite3.IntegrityError as error:
            raise IntegrityError("23000", f"[23000] Violation of a key (2627) {error}") from None
        except sqlite3.Error as error:
            raise ProgrammingError("42000", f"[42000] {error}: {statement}") from None

    def _keep(self, found: sqlite3.Cursor) -> None:
        self.description = found.description
        if self.description:
            self._rows = found.fetchall()

    def fetchall(self) -> list[Any]:
        self._may_fail()
        rows, self._rows = self._rows, []
        return rows

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def _may_fail(self) -> None:
        for fault in list(self.driver.fetch_faults):
            fault(self._said)

    def fetchmany(self, size: int = 1) -> list[Any]:
        self._may_fail()
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    def nextset(self) -> bool:
        return False

    def close(self) -> None:
        self._rows = []


def _names_a_table(statement: str) -> bool:
    """Whether a parameter is compared with a column that has its table's name before it."""
    _, _, condition = statement.partition(" WHERE ")
    is_change = statement.startswith(("UPDATE", "DELETE"))
    return is_change and bool(re.search(r"\.\w+ (=|IN) \(?\?", condition))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def _as_text(moment: dt.datetime) -> str:
    return moment.isoformat(sep=" ", timespec="microseconds")


def _kind_of(value: Any) -> tuple[int, int, int]:
    """How pyodbc binds a value alone: by its Python type."""
    kinds: dict[type, int] = {int: SQL_BIGINT, float: SQL_DOUBLE, dt.datetime: SQL_TYPE_TIMESTAMP}
    if isinstance(value, bytes | bytearray):
        return SQL_VARBINARY, 0, 0
    return kinds.get(type(value), SQL_WVARCHAR), 0, 0


def _bound(value: Any, kind: tuple[int, int, int]) -> Any:
    """The value as the server gets it.

    Raises:
        ProgrammingError: it does not fit the type that was set.
    """
    if value is None or value is Driver.BinaryNull:
        return None
    number, size, _ = kind
    allowed: dict[int, tuple[type, ...]] = {
        SQL_BIGINT: (int,), SQL_DOUBLE: (int, float), SQL_TYPE_TIMESTAMP: (dt.datetime,),
        SQL_VARBINARY: (bytes, bytearray), SQL_WVARCHAR: (str,), SQL_VARCHAR: (str,),
    }  # fmt: skip
    if number == SQL_VARCHAR and not isinstance(value, str):
        value = str(value)
    if not isinstance(value, allowed[number]):
        raise ProgrammingError("HY105", f"[HY105] Invalid parameter type: {type(value).__name__}")
    if isinstance(value, dt.datetime):
        return _as_text(value)
    if isinstance(value, str):
        units = len(value.encode("utf-16-le", "surrogatepass"))
        if size and units > 2 * size:
            said = f"String data, right truncation: length {units} buffer {2 * size}"
            raise ProgrammingError(said, "HY000")
        if number == SQL_VARCHAR:
            return value.encode("cp1252", "replace").decode("cp1252")
    elif isinstance(value, bytes | bytearray) and size and len(value) > size:
        raise ProgrammingError(f"Binary data, right truncation: length {len(value)}", "HY000")
    return value


def _described(statement: str) -> bool:
    """Whether SQL Server could say the type of each parameter: it stands beside a column."""
    (tree,) = sqlglot.parse(statement, dialect="tsql", error_level=sqlglot.ErrorLevel.RAISE)
    assert tree is not None
    for place in tree.find_all(exp.Placeholder):
        parent = place.parent
        beside = isinstance(parent, exp.Predicate | exp.EQ) and isinstance(
            parent.this if parent.this is not place else parent.expression, exp.Column
        )
        if not (beside or isinstance(parent, exp.Tuple)):
            return False
    return True


@functools.cache
def _as_sqlite(statement: str) -> str:
    """The statement as SQLite takes it; T-SQL that is none is an error."""
    (tree,) = sqlglot.parse(statement, dialect="tsql", error_level=sqlglot.ErrorLevel.RAISE)
    assert tree is not None
    return tree.transform(_plainer).sql("sqlite")


def _plainer(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.National):
        return exp.Literal.string(node.this)
    if isinstance(node, exp.Convert | exp.TimeToStr):
        return exp.cast(node.this if isinstance(node, exp.TimeToStr) else node.expression, "text")
    if isinstance(node, exp.Length):
        return exp.Anonymous(this="LEN", expressions=[node.this.transform(_plainer)])
    if isinstance(node, exp.Like) and "[" in str(node.expression.this):
        pattern = exp.Literal.string(str(node.expression.this).replace("%", "*"))
        by_code = node.this.find(exp.Collate)
        assert by_code is not None and by_code.expression.name.endswith("_BIN2")
        return exp.Glob(this=by_code.this.transform(_plainer), expression=pattern)
    if isinstance(node, exp.DataType):
        node.set("expressions", None)  # the length: max is none of SQLite's
    if isinstance(node, exp.Table | exp.Column):
        node.set("db", None)
        node.set("hints", None)
    return node


def _create_table(statement: str, plain: Engine) -> str:
    """A table of ours as SQLite makes it: counted up by itself, text without regard to capitals."""
    match = re.match(r"(?i)\s*create table (?:\[?\w+\]?\.)?\[?(\w+)\]?", statement)
    assert match is not None
    name = match[1]
    known = {
        table.name: table
        for table in (
            *tables.ssd_metadata().tables.values(), *tables.our_tables().tables.values(),
            ssd_rows.marker, ssd_rows.away,
        )
    }  # fmt: skip
    if name.startswith("ssd_api_data_staging"):
        known[name] = tables.staging_table(name)
    if name not in known:
        return _as_sqlite(statement)
    target = known[name].to_metadata(type(known[name].metadata)(), schema=None)  # type: ignore[arg-type]
    said = str(CreateTable(target).compile(plain))
    said = re.sub(r"VARCHAR\(", "NVARCHAR(", said)  # as it is made there
    return re.sub(r"(NVARCHAR\(\d+\)|TEXT)", r"\1 COLLATE NOCASE", said)


def in_place_of_pyodbc(file: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver of a file, which is found where pyodbc is asked for, and its catalogue."""
    driver = Driver(file)
    monkeypatch.setitem(sys.modules, "pyodbc", driver)
    driver.catalogue.put_in_place(monkeypatch)
    return driver


class FakeCatalogue:
    """What SQLAlchemy would read from INFORMATION_SCHEMA and sys, read from the SQLite file."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.asked: list[str] = []

    def put_in_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every engine of SQL Server ask here."""
        for name in ("has_table", "get_columns", "get_indexes", "get_pk_constraint"):
            monkeypatch.setattr(MSDialect_pyodbc, name, self._about_a_table(name))
        for name in ("get_columns", "get_indexes", "get_pk_constraint"):
            many = name.replace("get_", "get_multi_")
            monkeypatch.setattr(MSDialect_pyodbc, many, self._about_tables(name), raising=False)
        monkeypatch.setattr(
            MSDialect_pyodbc, "has_multi_table", self._which_are_there, raising=False
        )
        monkeypatch.setattr(MSDialect_pyodbc, "get_schema_names", lambda *_, **__: ["dbo"])
        monkeypatch.setattr(MSDialect_pyodbc, "get_table_names", lambda *_, **__: self._tables())
        monkeypatch.setattr(MSDialect_pyodbc, "get_view_names", lambda *_, **__: [])

    def _about_a_table(self, what: str) -> Callable[..., Any]:
        def ask(dialect: Any, connection: Any, name: str, schema: Any = None, **_: Any) -> Any:
            self.asked.append(what)
            return getattr(inspect(self.driver.plain), what)(name)

        return ask

    def _about_tables(self, what: str) -> Callable[..., Any]:
        def ask(
            dialect: Any, connection: Any, *, schema: Any = None, filter_names: Any = None, **_: Any
        ) -> Any:
            self.asked.append(what)
            look = inspect(self.driver.plain)
            there = look.get_table_names()
            names = there if filter_names is None else [n for n in filter_names if n in there]
            return {(schema, name): getattr(look, what)(name) for name in names}.items()

        return ask

    def _tables(self) -> list[str]:
        return inspect(self.driver.plain).get_table_names()

    def _which_are_there(
        self, connection: Any, names: Sequence[str], schema: Any = None, **_: Any
    ) -> Any:
        self.asked.append("has_multi_table")
        look = inspect(self.driver.plain)
        return {(schema, name): look.has_table(name) for name in names}.items()


def _moment(raw: bytes) -> Any:
    try:
        return dt.datetime.fromisoformat(raw.decode())
    except ValueError:
        return raw.decode()


sqlite3.register_converter("DATETIME", _moment)
