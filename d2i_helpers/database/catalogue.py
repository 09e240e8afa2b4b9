"""What is deployed: schemas, tables, columns and indexes, as the database itself says."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import JSON, Table, inspect
from sqlalchemy.engine import Connection


def has_table(connection: Connection, table: Table) -> bool:
    """Whether the table is there, in the schema that the profile gives."""
    return inspect(connection).has_table(table.name, schema=real_schema(connection, table))


def real_schema(connection: Connection, table: Table) -> str | None:
    """The profile's schema, for which the table has a placeholder."""
    return connection.get_execution_options()["schema_translate_map"].get(table.schema)


def columns_present(connection: Connection, table: Table) -> set[str]:
    """Names of the columns that the deployed table has, lower case; empty where it is missing."""
    if not has_table(connection, table):
        return set()
    found = inspect(connection).get_columns(table.name, schema=real_schema(connection, table))
    return {column["name"].lower() for column in found}


def json_columns(connection: Connection, table: Table) -> list[str]:
    """Columns of the deployed table that hold JSON as a structure and not as text."""
    found = inspect(connection).get_columns(table.name, schema=real_schema(connection, table))
    return sorted(column["name"] for column in found if isinstance(column["type"], JSON))


def indexed_columns(connection: Connection, table: Table) -> set[str]:
    """Columns that some index or key of the deployed table begins with, lower case."""
    look, schema = inspect(connection), real_schema(connection, table)
    if not has_table(connection, table):
        return set()
    found: list[list[str | None]] = [
        index["column_names"] for index in look.get_indexes(table.name, schema=schema)
    ]
    found.append([*look.get_pk_constraint(table.name, schema=schema)["constrained_columns"]])
    with suppress(NotImplementedError):  # not every dialect tells its unique constraints apart
        unique = look.get_unique_constraints(table.name, schema=schema)
        found += [[*constraint["column_names"]] for constraint in unique]
    # an index on an expression has no name there
    return {columns[0].lower() for columns in found if columns and columns[0]}


def has_schema(connection: Connection, schema: str | None) -> bool:
    """Whether the schema is there; None is the login's own."""
    if schema is None:
        return True
    return schema.lower() in {name.lower() for name in inspect(connection).get_schema_names()}
