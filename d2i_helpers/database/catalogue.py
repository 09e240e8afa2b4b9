"""What is deployed: schemas, tables, columns and indexes, as the database itself says.

A question to the catalogue of SQL Server costs more than reading a page of children, so all tables
that this project knows are asked for at once, and the answers are kept: by engine, until a
statement of this engine makes, changes or drops something.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import JSON, Engine, Float, Integer, MetaData, Numeric, Table, Uuid, event, inspect
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.engine.reflection import Inspector, ObjectKind
from sqlalchemy.types import TypeEngine

from d2i_helpers.database import dialects, tables
from d2i_helpers.database.dialects import Characters

_CHANGES = ("create", "alter", "drop", "exec")  # how a statement begins that changes the catalogue
# in a connection's notes, until its transaction ends: the answers since its last change
_CHANGED = "d2i_catalogue_changed"
_NOT_TEXT = (JSON, Integer, Numeric, Float, Uuid)  # that a column of ours may be deployed as


@dataclass
class _Answers:
    """What the catalogue said, by schema."""

    columns: dict[str | None, dict[str, list[Any]]] = field(default_factory=dict)
    indexed: dict[str | None, dict[str, set[str]]] = field(default_factory=dict)

    def forget(self) -> None:
        self.columns.clear()
        self.indexed.clear()


_KEPT: WeakKeyDictionary[Dialect, _Answers] = WeakKeyDictionary()


def keep_answers(engine: Engine) -> None:
    """Keep what the catalogue says to this engine, until the engine changes it."""
    answers = _KEPT[engine.dialect] = _Answers()

    @event.listens_for(engine, "after_cursor_execute")
    def _look(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:8].lower().startswith(_CHANGES):
            connection.info[_CHANGED] = _Answers()

    def _end(connection: Connection) -> None:
        # a lost connection has no notes to look at, and nothing of its transaction is kept
        if connection.invalidated or connection.info.pop(_CHANGED, None) is not None:
            answers.forget()

    event.listen(engine, "commit", _end)
    event.listen(engine, "rollback", _end)


def forget_answers(engine: Engine) -> None:
    """Ask anew from now on: another program may have changed what is deployed."""
    if (kept := _KEPT.get(engine.dialect)) is not None:
        kept.forget()


def _answers(connection: Connection) -> _Answers:
    """The answers that hold for this connection; it alone sees what its transaction changed."""
    return connection.info.get(_CHANGED) or _KEPT.get(connection.dialect) or _Answers()


def has_table(connection: Connection, table: Table) -> bool:
    """Whether the table is there, in the schema that the profile gives."""
    return table.name.lower() in _columns(connection, table)


def real_schema(connection: Connection, table: Table) -> str | None:
    """The profile's schema, for which the table has a placeholder."""
    return connection.get_execution_options()["schema_translate_map"].get(table.schema)


def quoted_name(connection: Connection, table: Table) -> str:
    """The deployed table with the profile's schema, quoted where needed."""
    deployed = Table(table.name, MetaData(), schema=real_schema(connection, table))
    return connection.dialect.identifier_preparer.format_table(deployed)


def columns_present(connection: Connection, table: Table) -> set[str]:
    """Names of the columns that the deployed table has, lower case; empty where it is missing."""
    found = _columns(connection, table).get(table.name.lower(), [])
    return {column["name"].lower() for column in found}


def column_types(connection: Connection, table: Table) -> dict[str, TypeEngine[Any]]:
    """Type of each column of the deployed table, by its name in lower case."""
    found = _columns(connection, table).get(table.name.lower(), [])
    return {column["name"].lower(): column["type"] for column in found}


def columns_not_of_text(connection: Connection, table: Table) -> list[str]:
    """Columns that should hold text and are deployed as JSON, numbers or UUIDs."""
    wanted = {column.name for column in table.columns if isinstance(column.type, Characters)}
    found = _columns(connection, table).get(table.name.lower(), [])
    return sorted(
        column["name"]
        for column in found
        if column["name"].lower() in wanted and isinstance(column["type"], _NOT_TEXT)
    )


def indexed_columns(connection: Connection, table: Table) -> set[str]:
    """Columns that some index or key of the deployed table begins with, lower case.

    Of our own tables nobody asks but of one or two, so they are asked for one by one.
    """
    schema = real_schema(connection, table)
    return _kept_of(
        _answers(connection).indexed,
        schema,
        _asked_with(table.name) if table.name in _ssd_names() else [table.name],
        lambda names: _first_columns(connection, schema, names),
    ).get(table.name.lower(), set())


def views(connection: Connection, table: Table) -> set[str]:
    """Names of the views in the schema of a table, lower case."""
    names = inspect(connection).get_view_names(schema=real_schema(connection, table))
    return {name.lower() for name in names}


def has_schema(connection: Connection, schema: str | None) -> bool:
    """Whether the schema is there; None is the login's own."""
    if schema is None:
        return True
    return schema.lower() in {name.lower() for name in inspect(connection).get_schema_names()}


def _columns(connection: Connection, table: Table) -> dict[str, list[Any]]:
    """The columns of all known tables of the schema that are there, by name in lower case."""
    schema = real_schema(connection, table)

    def ask(names: Sequence[str]) -> dict[str, list[Any]]:
        look = inspect(connection)
        found = look.get_multi_columns(schema=schema, filter_names=names, kind=ObjectKind.ANY)
        return {name.lower(): columns for (_, name), columns in found.items()}

    return _kept_of(_answers(connection).columns, schema, _asked_with(table.name), ask)


def _kept_of(
    kept: dict[str | None, dict[str, Any]],
    schema: str | None,
    names: Iterable[str],
    ask: Callable[[Sequence[str]], dict[str, Any]],
) -> dict[str, Any]:
    """The answers on a schema; asks of these names where they were not asked for.

    Args:
        names: what is asked for, with others of which the answers are likely to be wanted.
    """
    answers = kept.setdefault(schema, {})
    new = sorted(name for name in names if _asked(name) not in answers)
    if new:
        answers |= {_asked(name): None for name in new} | ask(new)
    return answers


def _asked(name: str) -> str:
    return f"asked for {name.lower()}"  # no table has a blank in its name


def _first_columns(
    connection: Connection, schema: str | None, names: Sequence[str]
) -> dict[str, set[str]]:
    """The first column of each index and key, by table; both in lower case."""
    asked = dialects.of(connection).first_columns_query(schema, names)
    found: Iterable[Any] = (
        _first_columns_of_library(inspect(connection), schema, names)
        if asked is None
        else connection.execute(asked)
    )
    begins: dict[str, set[str]] = {}
    for table, column in found:
        if column:  # an index on an expression has no name there
            begins.setdefault(table.lower(), set()).add(column.lower())
    return begins


def _first_columns_of_library(
    look: Inspector, schema: str | None, names: Sequence[str]
) -> Iterator[tuple[str, str | None]]:
    wanted: dict[str, Any] = {"schema": schema, "filter_names": names, "kind": ObjectKind.ANY}
    for (_, table), indexes in look.get_multi_indexes(**wanted).items():
        for index in indexes:
            yield table, next(iter(index["column_names"]), None)
    for (_, table), key in look.get_multi_pk_constraint(**wanted).items():
        yield table, next(iter(key["constrained_columns"] if key else ()), None)
    with suppress(NotImplementedError):  # not every dialect tells its unique constraints apart
        for (_, table), constraints in look.get_multi_unique_constraints(**wanted).items():
            for constraint in constraints:
                yield table, next(iter(constraint["column_names"]), None)


def _asked_with(name: str) -> set[str]:
    """The tables that are asked for with one: all of the SSD, or all of this project's own."""
    return {*(_ssd_names() if name in _ssd_names() else _own_names()), name}


@functools.cache
def _ssd_names() -> frozenset[str]:
    return frozenset(table.name for table in tables.ssd_metadata().tables.values())


@functools.cache
def _own_names() -> frozenset[str]:
    ours = {table.name for table in tables.our_tables().tables.values()}
    return frozenset(ours | {"ssd_api_data_staging", "ssd_api_data_staging_anon"})
