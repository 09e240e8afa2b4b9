"""Making tables, and the scripts by which a database administrator makes them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import (
    DDL,
    Column,
    Engine,
    Index,
    MetaData,
    Table,
    delete,
    exists,
    func,
    null,
    select,
    update,
)
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from d2i_helpers.database import dialects, tables
from d2i_helpers.database.catalogue import (
    columns_not_of_text,
    columns_present,
    forget_answers,
    has_table,
    indexed_columns,
    quoted_name,
    real_schema,
)
from d2i_helpers.database.retries import in_transaction
from d2i_helpers.database.transactions import transaction
from d2i_helpers.errors import DatabaseError

ALTER_IT = (
    "`d2i check --ddl` prints the script by which a DBA alters the table; its rows are kept. Or "
    "name another table in `staging_table`."
)


_FURTHER_LOOKS = 3  # before the last one, whose error is shown
Made = TypeVar("Made")


def create_staging(engine: Engine, *names: str) -> list[str]:
    """Create the staging tables of these names and this project's own, where they are missing.

    Nothing that is there is altered, except that two indexes are added where this login may:
    without that on the person id every answer costs a search through the whole table, and without
    that of unsettled rows a day on which nothing changed does. Columns that a
    newer version of this project needs are added to its own tables.

    Returns:
        Names of the tables that were created.

    Raises:
        DatabaseError: a staging table is there that lacks columns or keeps texts in another type.
    """

    def create(connection: Connection) -> list[str]:
        created = []
        for table in map(tables.staging_table, names):
            if not has_table(connection, table):
                table.create(connection, checkfirst=False)
                _index_unsettled(connection, table)
                created.append(table.name)
            else:
                _refuse_other_columns(connection, table)
        return created + _create_ours(connection)

    created = make_missing(engine, create)
    for name in set(names) - set(created):
        with suppress(DatabaseError):  # preflight says so, with the statement for a DBA
            _add_indexes(engine, tables.staging_table(name))
    return created


def make_missing(engine: Engine, make: Callable[[Connection], Made]) -> Made:
    """Make tables that are missing, where another run may make the same in this moment.

    A database refuses the second maker, who looks again and finds what is there by then. A table
    is there with its indexes or not at all, as nobody would add them later; but on Oracle, where
    each statement that makes something commits.

    Args:
        make: looks what is missing and makes it, in one transaction; from its beginning each time.

    Raises:
        DatabaseError: the database refused it each time.
    """

    def look_and_make(connection: Connection) -> Made:
        dialects.of(connection).begin_ddl(connection)
        return make(connection)

    for _ in range(_FURTHER_LOOKS):
        with suppress(DatabaseError):
            return in_transaction(engine, look_and_make)
        forget_answers(engine)
    return in_transaction(engine, look_and_make)


def require_staging(connection: Connection, name: str) -> None:
    """See that a staging table is there and can hold the documents.

    Raises:
        DatabaseError: it is not there, lacks columns or keeps texts in another type.
    """
    table = tables.staging_table(name)
    if not has_table(connection, table):
        raise DatabaseError(
            f"There is no table {name}.",
            hint="Check `staging_table` and `staging_schema`.",
        )
    _refuse_other_columns(connection, table)


def _refuse_other_columns(connection: Connection, table: Table) -> None:
    """Stop before anything is read where a deployed staging table cannot hold the documents."""
    gone = sorted({column.name for column in table.columns} - columns_present(connection, table))
    if gone:
        raise DatabaseError(
            f"{table.name} has no column {', '.join(gone)}.",
            hint=ALTER_IT,
        )
    if other := columns_not_of_text(connection, table):
        raise DatabaseError(
            f"{table.name} keeps {', '.join(other)} in a type that is no text.",
            hint=ALTER_IT,
        )


def _create_ours(connection: Connection) -> list[str]:
    """Create this project's own tables, and add the columns that an older version's lack."""
    ours = tables.our_tables().tables.values()
    # asked before the first is made, because the answers no longer hold then
    present = {table: columns_present(connection, table) for table in ours}
    created = []
    for table, columns in present.items():
        if not columns:
            table.create(connection, checkfirst=False)
            created.append(table.name)
        elif missing := [c for c in table.columns if c.name not in columns]:
            add_columns(connection, table, missing)
    return created


def add_columns(connection: Connection, table: Table, missing: Sequence[Column]) -> None:
    """Add columns of ours to a table that an older version made."""
    name = quoted_name(connection, table)
    for column in missing:
        said = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(DDL(f"alter table {name} add {said}"))


def _add_indexes(engine: Engine, table: Table) -> None:
    with transaction(engine) as connection:
        indexed = indexed_columns(connection, table)
        schema = real_schema(connection, table)
        if "person_id" not in indexed:
            connection.execute(_index(schema, table.name, "person_id"))
        if tables.UNSETTLED_COLUMN not in indexed:
            _index_unsettled(connection, table)


def _index_unsettled(connection: Connection, table: Table) -> None:
    schema = real_schema(connection, table)
    for statement in _unsettled_statements(connection.dialect, schema, table):
        connection.execute(DDL(statement.replace("%", "%%")))


def _unsettled_statements(dialect: Dialect, schema: str | None, table: Table) -> list[str]:
    """The statement that makes the index of unsettled rows, where a database takes such an index.

    Written here and not by SQLAlchemy's `Index`, which would load the drivers of every database
    that it is told about.
    """
    if not dialects.of_library(dialect).partial_indexes:
        return []
    index = Index(
        tables.unsettled_index_name(table), _deployed(table, schema).c[tables.UNSETTLED_COLUMN]
    )
    condition = dialect.statement_compiler(dialect, None).process(
        tables.unsettled(table), include_table=False, literal_binds=True
    )
    return [f"{CreateIndex(index).compile(dialect=dialect)} WHERE {condition}"]


# ------------------------------------------------------------------- scripts for an administrator
def _deployed(table: Table, schema: str | None) -> Table:
    """The table in a schema; None is the login's own, which SQLAlchemy's types do not know."""
    own: Any = schema
    return table.to_metadata(MetaData(), schema=own)


def _name(dialect: Dialect, schema: str | None, table: Table) -> str:
    """The table with its schema, quoted where needed."""
    preparer = _for_scripts(dialect).identifier_preparer
    return preparer.format_table(_deployed(table, schema))


def index_statement(dialect: Dialect, schema: str | None, table: str, column: str) -> str:
    """The statement by which a database administrator makes an index on one column."""
    said = _index(schema, table, column).compile(dialect=_for_scripts(dialect))
    return f"{' '.join(str(said).split())};"


def table_statements(dialect: Dialect, schema: str | None, table: Table) -> list[str]:
    """The statements that make a table of ours with its indexes."""
    deployed = _deployed(table, schema)
    indexes = sorted(deployed.indexes, key=lambda index: str(index.name))
    parts: list[Any] = [CreateTable(deployed), *(CreateIndex(index) for index in indexes)]
    said = [str(part.compile(dialect=_for_scripts(dialect))) for part in parts]
    if tables.UNSETTLED_COLUMN in table.columns:
        said += _unsettled_statements(_for_scripts(dialect), schema, table)
    return [f"{one.strip()};" for one in said]


def column_statement(dialect: Dialect, schema: str | None, table: Table, name: str) -> str:
    """The statement that adds a column to a deployed table; it may be empty in the rows there."""
    column = Column(name, table.columns[name].type)
    said = CreateColumn(column).compile(dialect=_for_scripts(dialect))
    return f"alter table {_name(dialect, schema, table)} add {said};"


def text_statements(
    dialect: Dialect, schema: str | None, table: Table, columns: Sequence[str]
) -> list[str]:
    """The statements that turn columns into text, where a database has such; rows are kept."""
    quote = _for_scripts(dialect).identifier_preparer.quote
    ours = dialects.of_library(dialect)
    return ours.text_statements(_name(dialect, schema, table), [quote(name) for name in columns])


def repeated_row_statements(dialect: Dialect, schema: str | None, table: Table) -> list[str]:
    """The statements that leave one row a person: the newest, with what was sent last.

    Where the newest row was not sent itself, the newest of the others that was is its baseline.
    """
    deployed = _deployed(table, schema)
    newer, sent, last = (deployed.alias(name) for name in ("newer", "sent", "last"))
    is_not_newest = exists().where(
        newer.c.person_id == deployed.c.person_id, newer.c.id > deployed.c.id
    )
    number = (
        select(func.max(sent.c.id))
        .where(
            sent.c.person_id == deployed.c.person_id,
            sent.c.id < deployed.c.id,
            func.lower(sent.c.submission_status) == "sent",
        )
        .scalar_subquery()
        .correlate(deployed)
    )
    document = select(last.c.json_payload).where(last.c.id == number).scalar_subquery()
    keep = (
        update(deployed)
        .where(
            ~is_not_newest,
            func.lower(func.coalesce(deployed.c.submission_status, "-")) != "sent",
            number.is_not(None),
        )
        .values(previous_json_payload=document.correlate(deployed), previous_hash=null())
    )
    statements = (keep, delete(deployed).where(is_not_newest))
    written = _for_scripts(dialect)
    literal = {"literal_binds": True}
    return [f"{s.compile(dialect=written, compile_kwargs=literal)};" for s in statements]


def schema_statements(
    dialect: Dialect, schema: str | None, login: str | None, *, is_there: bool
) -> list[str]:
    """The statements that make a schema of the profile and let the login use it."""
    if schema is None:
        return []
    quoted = _for_scripts(dialect).identifier_preparer.quote_identifier
    login = quoted(login) if login else None
    ours = dialects.of_library(dialect)
    return ours.schema_statements(quoted(schema), login, is_there=is_there)


def grant_statements(
    dialect: Dialect, schema: str | None, table: Table, login: str | None, rights: Sequence[str]
) -> list[str]:
    """The statements that let a login use a table.

    Args:
        login: as the database calls it; None where it is not known, or needs no grant.
        rights: such as select, insert.
    """
    if login is None:
        return []
    quoted = _for_scripts(dialect).identifier_preparer.quote_identifier(login)
    ours = dialects.of_library(dialect)
    return ours.grant_statements(_name(dialect, schema, table), quoted, rights)


def counter_grants(connection: Connection, table: Table, login: str | None) -> list[str]:
    """The grants that a login needs to count up the key of a deployed table, beside the table's."""
    name = _name(connection.dialect, real_schema(connection, table), table)
    query = dialects.of(connection).counter_query(name)
    if query is None or login is None or not has_table(connection, table):
        return []
    counter = connection.execute(query).scalar()
    quoted = _for_scripts(connection.dialect).identifier_preparer.quote_identifier(login)
    return [f"grant usage on sequence {counter} to {quoted};"] if counter else []


def login_name(connection: Connection) -> str | None:
    """What the database calls the login that is connected; None where nobody has to grant it."""
    dialect = dialects.of(connection)
    query = dialect.login_query()
    if query is None:
        return None
    name = connection.execute(query).scalar_one()
    return None if name in dialect.owners else name


def _for_scripts(dialect: Dialect) -> Dialect:
    return dialects.of_library(dialect).for_scripts(dialect)


def _index(schema: str | None, table: str, column: str) -> CreateIndex:
    target = Table(table, MetaData(), Column(column), schema=schema)
    # names are unique within a schema on some databases
    name = f"ix_d2i_{zlib.crc32(f'{table}.{column}'.encode()):08x}_{column}"
    return CreateIndex(Index(name[: tables.LONGEST_NAME], target.c[column]))
