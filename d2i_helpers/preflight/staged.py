"""The staging tables and this project's own: columns, the right to write, the index on the child.

The first stage that needs a missing table makes it. Databases differ in how they answer questions
about rights, so rights are tried: a table is made and dropped, a row is written and rolled back.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    delete,
    false,
    insert,
    update,
)

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import D2IError
from d2i_helpers.preflight.checks import FAIL, PASS, WARN, Check, grants
from d2i_helpers.settings import Settings

TRIAL = "d2i-preflight"  # the child of the trial row, which no other transaction ever sees
_TRIAL_TIME = dt.datetime(2000, 1, 1)


class _Undo(Exception):
    """Raised to roll a trial back."""


def checks(engine: Engine, settings: Settings) -> Iterator[Check]:
    """Check that the staging tables have all columns, and that missing tables can be made."""
    missing: list[Table] = []
    usable: list[Table] = []
    unindexed: list[Table] = []
    with database.reading(engine) as connection:
        for table in _staging_tables(settings):
            held = database.columns_present(connection, table)
            gone = sorted({column.name for column in table.columns} - held)
            if not held:
                missing.append(table)
            elif gone:
                said = f"{table.name} has no column {', '.join(gone)}"
                advice = "Have a DBA run what `d2i check --ddl` prints."
                ddl = _columns(engine, settings, table, gone)
                yield Check("staging columns", FAIL, said, advice, "DatabaseError", ddl)
            elif structured := database.json_columns(connection, table):
                said = f"{table.name} keeps {', '.join(structured)} in a JSON type"
                advice = "Alter these columns to text, or name another table in `staging_table`."
                yield Check("staging columns", FAIL, said, advice, "DatabaseError")
            else:
                usable.append(table)
                if "person_id" not in database.indexed_columns(connection, table):
                    unindexed.append(table)
        for table in tables.our_tables().tables.values():
            if database.has_table(connection, table):
                usable.append(table)
            else:
                missing.append(table)
        ddl = _all_of(engine, settings, missing, connection)
    if missing:
        yield _may_create(engine, missing, ddl)
    else:
        yield Check("staging tables", PASS, "all are there")
    yield _may_write(engine, settings, usable)
    if unindexed:
        yield _without_index(engine, unindexed)


def statements_for_nothing_there(engine: Engine, settings: Settings) -> tuple[str, ...]:
    """Statements that make all our tables, for a database that cannot be asked what it has."""
    return _all_of(engine, settings, _all_tables(settings), None)


def _staging_tables(settings: Settings) -> list[Table]:
    return [tables.staging_table(name) for name in (settings.staging_table, settings.anon_table)]


def _all_tables(settings: Settings) -> list[Table]:
    return [*_staging_tables(settings), *tables.our_tables().tables.values()]


def _all_of(
    engine: Engine, settings: Settings, wanted: Sequence[Table], connection: Connection | None
) -> tuple[str, ...]:
    """Statements that make these tables and let the login write them.

    Args:
        connection: to ask for the login and the schema; None where nobody can be asked.
    """
    schema = settings.staging_schema
    login = database.login_name(connection) if connection is not None else engine.url.username
    statements: list[str] = []
    if wanted:
        is_there = connection is not None and database.has_schema(connection, schema)
        statements += database.schema_statements(engine, schema, login or None, is_there=is_there)
    for table in wanted:
        statements += database.table_statements(engine, schema, table)
        statements += database.grant_statements(
            engine, schema, table, login or None, _rights(table)
        )
    return tuple(statements)


def _rights(table: Table) -> tuple[str, ...]:
    """The rights that a run needs on the table; fewer on one that is only appended to."""
    more = () if table.info.get("append_only") else ("update", "delete")
    return ("select", "insert", *more)


def _columns(
    engine: Engine, settings: Settings, table: Table, names: Sequence[str]
) -> tuple[str, ...]:
    schema = settings.staging_schema
    return tuple(database.column_statement(engine, schema, table, name) for name in names)


def _may_create(engine: Engine, missing: Sequence[Table], ddl: tuple[str, ...]) -> Check:
    """Try to make a table, and drop it again."""
    said = f"{len(missing)} are not there yet and will be made"
    probe = Table(
        f"d2i_probe_{uuid.uuid4().hex[:12]}",
        MetaData(schema=tables.STAGING_SCHEMA),
        Column("id", Integer, primary_key=True, autoincrement=False),
    )
    try:
        with database.transaction(engine) as connection:
            probe.create(connection)
            probe.drop(connection)
    except D2IError:
        return Check(
            "staging tables",
            FAIL,
            f"missing: {', '.join(t.name for t in missing)}; this user may not create tables",
            "Have a DBA run what `d2i check --ddl` prints, or grant the right to create tables in "
            "that schema.",
            "DatabaseError",
            ddl,
        )
    return Check("staging tables", PASS, said, ddl=ddl)


def _may_write(engine: Engine, settings: Settings, usable: Sequence[Table]) -> Check:
    refused: list[Table] = []
    why = ""
    for table in usable:
        try:
            _try_to_write(engine, table)
        except D2IError as error:
            refused.append(table)
            why = why or error.message
    if not refused:
        return Check("rights to write", PASS, f"tried on {len(usable)} tables and rolled back")
    return Check(
        "rights to write",
        FAIL,
        f"cannot be written: {', '.join(table.name for table in refused)}. {why}",
        "Ask a DBA to grant INSERT, UPDATE and DELETE on them to this login (on d2i_ledger no more "
        "than INSERT and SELECT); a column of your own that must be filled needs a default.",
        "DatabaseError",
        grants(engine, settings.staging_schema, [(table, _rights(table)) for table in refused]),
    )


def _try_to_write(engine: Engine, table: Table) -> None:
    """Insert a row, and try an update and a delete of no row; then roll all of it back.

    On tables that are only appended to, the insert is enough.

    Raises:
        DatabaseError: the database refuses one of them.
    """
    counted = table.autoincrement_column
    row = {c.name: _filler(c) for c in table.columns if not c.nullable and c is not counted}
    last = list(table.columns)[-1]
    with contextlib.suppress(_Undo), database.transaction(engine) as connection:
        connection.execute(insert(table), row)
        if not table.info.get("append_only"):
            connection.execute(update(table).where(false()).values({last.name: last}))
            connection.execute(delete(table).where(false()))
        raise _Undo


def _filler(column: Column) -> Any:
    column_type = column.type
    if isinstance(column_type, Integer):
        return 0
    if isinstance(column_type, DateTime):
        return _TRIAL_TIME
    if isinstance(column_type, LargeBinary):
        return b"\0"
    length = getattr(column_type, "length", None)
    return TRIAL[:length] if length else "{}"


def _without_index(engine: Engine, unindexed: Sequence[Table]) -> Check:
    with database.reading(engine) as connection:
        ddl = tuple(
            database.index_statement(
                engine, database.real_schema(connection, table), table.name, "person_id"
            )
            for table in unindexed
        )
    return Check(
        "staging index",
        WARN,
        f"no index on person_id of {', '.join(t.name for t in unindexed)}: "
        "answers are written slowly",
        "The next run makes it, where this login may; else have a DBA run what "
        "`d2i check --ddl` prints.",
        ddl=ddl,
    )
