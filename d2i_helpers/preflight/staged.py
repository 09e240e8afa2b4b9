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
from sqlalchemy.engine import Dialect

from d2i_helpers import database
from d2i_helpers.database import dialects, tables
from d2i_helpers.database.deployment import ALTER_IT, add_columns
from d2i_helpers.database.messages import LOCK_HELD, READ_ONLY
from d2i_helpers.errors import D2IError, GateError
from d2i_helpers.plain_english import subject
from d2i_helpers.preflight.checks import FAIL, PASS, WARN, Check, failed, grants
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, contents, sent_to
from d2i_helpers.staging.contents import Contents
from d2i_helpers.staging.rehash import ONE_ROW_EACH, obstacle

TRIAL = "d2i-preflight"  # the child of the trial row, which no other transaction ever sees
_TRIAL_TIME = dt.datetime(2000, 1, 1)

_KINDS = {"staging_table": Contents.IDENTIFIABLE, "anon_table": Contents.ANONYMISED}

# why a row cannot be written whatever the table: no grant helps, and each would wait as long
_OF_ALL = (LOCK_HELD.meaning, READ_ONLY.meaning)


class _Undo(Exception):
    """Raised to roll a trial back."""


def checks(engine: Engine, settings: Settings) -> Iterator[Check]:
    """Check that our tables have all columns, and that missing tables can be made."""
    missing: list[Table] = []
    usable: list[Table] = []
    unindexed: list[Table] = []
    several_rows: list[Check] = []
    older: list[tuple[Table, list[str]]] = []
    with database.reading(engine) as connection:
        yield from _mixed_up(engine, connection, settings)
        yield from _sent_elsewhere(engine, connection, settings)
        for table in _staging_tables(settings):
            if not database.has_table(connection, table):
                missing.append(table)
            elif deployed := _other_columns(connection, settings, table):
                yield deployed
            else:
                usable.append(table)
                several_rows += _several_rows(connection, settings, table)
                if "person_id" not in database.indexed_columns(connection, table):
                    unindexed.append(table)
        for table in tables.our_tables().tables.values():
            held = database.columns_present(connection, table)
            if not held:
                missing.append(table)
            elif gone := [column.name for column in table.columns if column.name not in held]:
                older.append((table, gone))
            else:
                usable.append(table)
        ddl = _all_of(engine, settings, missing, connection)
        others = _filled_in_place_of(connection, settings, missing)
    if missing:
        yield _may_create(engine, missing, ddl, others)
    else:
        yield Check("staging tables", PASS, "all are there")
    yield from several_rows
    if older:
        yield _older(engine, settings, older)
    yield _may_write(engine, settings, usable)
    if unindexed:
        yield _without_index(engine, unindexed)


def _mixed_up(engine: Engine, connection: Connection, settings: Settings) -> Iterator[Check]:
    """Check that neither staging table holds what belongs into the other."""
    roles = [(getattr(settings, parameter), kind) for parameter, kind in _KINDS.items()]
    if not database.has_table(connection, tables.facts):
        return
    for name, wanted in roles:
        if database.has_table(connection, tables.staging_table(name)):
            try:
                contents.require(connection, Staging(engine, name), wanted)
            except GateError as error:
                yield failed("staging contents", error)
                return


def _sent_elsewhere(engine: Engine, connection: Connection, settings: Settings) -> Iterator[Check]:
    """Check that the table that is sent did not go to another receiver before."""
    if not database.has_table(connection, tables.facts):
        return
    try:
        sent_to.require(connection, Staging(engine, settings.send_table), settings)
    except GateError as error:
        yield failed("staging receiver", error)


def _filled_in_place_of(
    connection: Connection, settings: Settings, missing: Sequence[Table]
) -> list[tuple[str, str, list[str]]]:
    """Staging tables of the same kind that runs have filled here, where the profile's is missing.

    Returns:
        (parameter, table that is missing, tables that are there).
    """
    if not database.has_table(connection, tables.facts):
        return []
    ours = (settings.staging_table, settings.anon_table)
    found = []
    for parameter, kind in _KINDS.items():
        name = getattr(settings, parameter)
        if not any(table.name == name for table in missing):
            continue
        others = [
            other
            for other in contents.tables_with(connection, kind)
            if other not in ours and database.has_table(connection, tables.staging_table(other))
        ]
        if others:
            found.append((parameter, name, others))
    return found


def statements_for_nothing_there(
    dialect: Dialect, settings: Settings, login: str | None
) -> tuple[str, ...]:
    """What makes every table of ours and lets a login use it, as if nothing were there."""
    beside = settings.staging_schema == settings.ssd_schema
    return _statements(dialect, settings, _all_tables(settings), login, schema_is_there=beside)


def _staging_tables(settings: Settings) -> list[Table]:
    return [tables.staging_table(name) for name in (settings.staging_table, settings.anon_table)]


def _all_tables(settings: Settings) -> list[Table]:
    return [*_staging_tables(settings), *tables.our_tables().tables.values()]


def _all_of(
    engine: Engine, settings: Settings, wanted: Sequence[Table], connection: Connection
) -> tuple[str, ...]:
    """Statements that make these tables here and let this login write them."""
    login = database.login_name(connection)
    is_there = database.has_schema(connection, settings.staging_schema)
    statements = _statements(engine.dialect, settings, wanted, login, schema_is_there=is_there)
    if wanted and dialects.of(engine).hides_tables:
        return (*_HIDDEN, *statements)
    return statements


def _statements(
    dialect: Dialect,
    settings: Settings,
    wanted: Sequence[Table],
    login: str | None,
    *,
    schema_is_there: bool,
) -> tuple[str, ...]:
    schema = settings.staging_schema
    statements: list[str] = []
    if wanted:
        statements += database.schema_statements(dialect, schema, login, is_there=schema_is_there)
    for table in wanted:
        statements.append(f"-- {table.name}: {tables.purpose(table)}")
        statements += database.table_statements(dialect, schema, table)
        statements += database.grant_statements(dialect, schema, table, login, tables.rights(table))
    return tuple(statements)


_HIDDEN = (
    "-- A table that a login has no right to looks missing to it. Where one is there already,",
    "-- leave out what makes it and its indexes, and run the grant.",
)
_KEPT = (
    "-- Columns that are missing are added, and columns of JSON, numbers or UUIDs become text: a",
    "-- hash is made of a text as it was written, and ids are compared as texts. Every row stays.",
    "-- D2I's own SQL goes on working: what it inserts as jsonb is stored as text. A query that",
    "-- looks into a document (->, ->>, @>) then needs a cast, such as json_payload::jsonb.",
    "-- An index or a view over such a column has to be dropped first.",
)


def _other_columns(connection: Connection, settings: Settings, table: Table) -> Check | None:
    """A deployed staging table that cannot hold the documents, with what alters it."""
    held = database.columns_present(connection, table)
    gone = sorted({column.name for column in table.columns} - held)
    other = database.columns_not_of_text(connection, table)
    if not gone and not other:
        return None
    dialect, schema = connection.dialect, settings.staging_schema
    said = []
    if gone:
        said.append(f"has no column {', '.join(gone)}")
    if other:
        said.append(f"keeps {', '.join(other)} in a type that is no text")
    ddl = [
        *(_KEPT if other else ()),
        *(database.column_statement(dialect, schema, table, name) for name in gone),
        *database.text_statements(dialect, schema, table, other),
        *database.grant_statements(
            dialect, schema, table, login := database.login_name(connection), tables.rights(table)
        ),
        *database.counter_grants(connection, table, login),
    ]
    return Check(
        "staging columns",
        FAIL,
        f"{table.name} {' and '.join(said)}",
        ALTER_IT,
        "DatabaseError",
        tuple(ddl),
    )


def _several_rows(connection: Connection, settings: Settings, table: Table) -> Iterator[Check]:
    """A table that other software filled with more than one row of a person."""
    why = obstacle(connection, Staging(connection.engine, table.name))
    if why is None:
        return
    ddl = (
        "-- The newest row of each person is kept, with the document that was sent last; the older",
        "-- ones are deleted. Keep a copy of the table first. Rows without a person_id stay; have",
        "-- somebody look at them.",
        *database.repeated_row_statements(connection.dialect, settings.staging_schema, table),
    )
    yield Check("staging rows", FAIL, f"in {table.name} {why}", ONE_ROW_EACH, "DatabaseError", ddl)


def _older(
    engine: Engine, settings: Settings, found: Sequence[tuple[Table, Sequence[str]]]
) -> Check:
    """Tables of ours that an older version made; the next run adds what they lack, where it may."""
    named = ", ".join(f"{table.name}.{name}" for table, gone in found for name in gone)
    said = f"missing in tables that an older version made: {named}"
    schema = settings.staging_schema
    ddl = tuple(
        database.column_statement(engine.dialect, schema, table, name)
        for table, gone in found
        for name in gone
    )
    may = _may_add(engine, found)
    if may is False:
        return Check(
            "our columns",
            FAIL,
            f"{said}; this user may not add them",
            "Have a DBA run what `d2i check --ddl` prints.",
            "DatabaseError",
            ddl,
        )
    where = (
        "" if may else ", where this login may; else have a DBA run what `d2i check --ddl` prints"
    )
    return Check("our columns", WARN, said, f"The next run adds them{where}.", ddl=ddl)


def _may_add(engine: Engine, found: Sequence[tuple[Table, Sequence[str]]]) -> bool | None:
    """Whether this login may add columns, tried and rolled back; None where that is not to be."""
    if not dialects.of(engine).undoes_ddl:
        return None
    try:
        with database.transaction(engine) as connection:
            for table, gone in found:
                add_columns(connection, table, [table.columns[name] for name in gone])
            raise _Undo
    except _Undo:
        return True
    except D2IError:
        return False


def _may_create(
    engine: Engine,
    missing: Sequence[Table],
    ddl: tuple[str, ...],
    others: Sequence[tuple[str, str, list[str]]],
) -> Check:
    """Try to make a table, and drop it again.

    Args:
        others: as of `_filled_in_place_of`.
    """
    said = f"{subject(len(missing), 'table')} not there yet and will be made"
    if len(missing) <= len(_KINDS):
        said += f": {', '.join(table.name for table in missing)}"
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
    if not others:
        return Check("staging tables", PASS, said, ddl=ddl)
    slips = [
        f"`{parameter}` names {name}, which is not there; runs here have filled {', '.join(held)}"
        for parameter, name, held in others
    ]
    advice = (
        "If that one is meant, correct the name: a new table knows nothing of what the receiver "
        "holds, so that all are sent anew and nobody who left is erased."
    )
    return Check("staging tables", WARN, f"{said}. {'; '.join(slips)}", advice, ddl=ddl)


def _may_write(engine: Engine, settings: Settings, usable: Sequence[Table]) -> Check:
    refused: list[Table] = []
    why = ""
    for table in usable:
        try:
            _try_to_write(engine, table)
        except D2IError as error:
            if error.message.startswith(_OF_ALL):
                return Check(
                    "rights to write", FAIL, f"could not be tried on {table.name}. {error.message}",
                    error.hint, "DatabaseError",
                )  # fmt: skip
            refused.append(table)
            why = why or error.message
    if not refused:
        return Check("rights to write", PASS, f"tried on {len(usable)} tables and rolled back")
    return Check(
        "rights to write",
        FAIL,
        f"cannot be written: {', '.join(table.name for table in refused)}. {why}",
        "Have a DBA run what `d2i check --ddl` prints: it grants no more than a run needs. A "
        "column of your own that must be filled needs a default.",
        "DatabaseError",
        grants(engine, settings.staging_schema, [(t, tables.rights(t)) for t in refused]),
    )


def _try_to_write(engine: Engine, table: Table) -> None:
    """Insert a row, and try an update and a delete of no row, as far as a run does such things.

    All of it is rolled back.

    Raises:
        DatabaseError: the database refuses one of them.
    """
    counted = table.autoincrement_column
    row = {c.name: _filler(c) for c in table.columns if not c.nullable and c is not counted}
    last = list(table.columns)[-1]
    with contextlib.suppress(_Undo), database.transaction(engine) as connection:
        connection.execute(insert(table), row)
        if "update" in tables.rights(table):
            connection.execute(update(table).where(false()).values({last.name: last}))
        if "delete" in tables.rights(table):
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
                engine.dialect, database.real_schema(connection, table), table.name, "person_id"
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
