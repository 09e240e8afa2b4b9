"""The fictional SSD in the database: whose tables they are; loading, reading and changing rows.

`d2i_simulated` marks SSD tables that `simulate` made; without it they are somebody's real SSD and
are never touched. `d2i_simulated_away` keeps the rows of children who left, until they come back.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.database.dialects import Characters
from d2i_helpers.errors import DatabaseError, GateError

Row = dict[str, Any]
Rows = dict[str, list[Row]]  # rows by table

_OWN = MetaData(schema=tables.SSD_SCHEMA)
LOADING, READY = "loading", "ready"  # the `state` of a fictional SSD, in its marker
KEYS_OF_A_LOAD = {
    "ssd_linked_identifiers": "link_table_id",
    "ssd_care_leavers": "clea_table_id",
}
_KEYS = uuid.UUID("d2100000-0000-4000-8000-000000000000")  # so that a day's keys are the same again
_KEYS_AT_A_TIME = 400  # in one IN list: below every engine's limit of parameters

marker = Table(
    "d2i_simulated",
    _OWN,
    Column("name", Characters(40), primary_key=True),
    Column("value", Characters(200), nullable=False),
)

away = Table(
    "d2i_simulated_away",
    _OWN,
    Column("person_id", Characters(48), primary_key=True),
    Column("left_on_day", Integer, nullable=False),
    Column("source_rows", Characters(), nullable=False),  # JSON: table to rows
)

# The column that leads to the person, in each table that has one.
PERSON_COLUMNS = {
    row["table"]: row["column"]
    for row in tables.ssd_columns()
    if row["references"] == "ssd_person.pers_person_id"
} | {"ssd_person": "pers_person_id"}
# Two tables are reached through another one: (own column, the other table, its column). The
# person id in ssd_permanence may be the former one, as SystemC writes it.
_THROUGH = {
    "ssd_assessment_factors": ("cinf_assessment_id", "ssd_cin_assessments", "cina_assessment_id"),
    "ssd_permanence": ("perm_cla_id", "ssd_cla_episodes", "clae_cla_id"),
}


# ---------------------------------------------------------------------------------- whose tables
def refuse_real_ssd(connection: Connection) -> None:
    """Make sure that the SSD tables are missing, or were made by `simulate`.

    Raises:
        GateError: there are SSD tables that `simulate` did not make, or that were loaded anew.
    """
    present = [table for table in _ssd() if database.has_table(connection, table)]
    if not present:
        return
    facts = read_marker(connection)
    full = [table for table in present if _any_row(connection, table)]
    if facts and (not full or is_witnessed(connection, facts.get("witness", ""))):
        return
    raise GateError(
        f"The database holds {len(present)} SSD tables that `d2i simulate` did not make.",
        hint="They may be a real SSD and are left alone. Give a database_url (or ssd_schema) of "
        "its own for fictional data.",
    )


def _ssd() -> list[Table]:
    return list(tables.ssd_metadata().tables.values())


def _any_row(connection: Connection, table: Table) -> bool:
    return connection.execute(select(*table.primary_key.columns).limit(1)).first() is not None


def is_witnessed(connection: Connection, witness: str) -> bool:
    """Whether the first professional that `simulate` made is still there: no real load has run.

    Args:
        witness: what the marker says of it.
    """
    table = tables.ssd_table("ssd_professionals")
    if not database.has_table(connection, table):
        return False
    wanted = select(table.c.prof_professional_name).where(
        table.c.prof_professional_id == witness.partition(" ")[0]
    )
    return connection.execute(wanted).scalar() == (witness.partition(" ")[2] or None)


def read_marker(connection: Connection) -> dict[str, str]:
    """The facts that `simulate` noted about its tables; empty where it made none."""
    if not database.has_table(connection, marker):
        return {}
    return {row.name: row.value for row in connection.execute(select(marker))}


def write_marker(connection: Connection, facts: Mapping[str, object]) -> None:
    """Write facts, replacing those of the same names."""
    connection.execute(delete(marker).where(marker.c.name.in_(list(facts))))
    database.insert_rows(
        connection, marker, [{"name": k, "value": str(v)} for k, v in facts.items()]
    )


# --------------------------------------------------------------------------------------- loading
def recreate(connection: Connection) -> None:
    """Replace the tables that `refuse_real_ssd` let pass by empty SSD tables and own tables."""
    for table in (*_ssd(), marker, away):
        table.drop(connection, checkfirst=True)
    for table in (*_ssd(), marker, away):
        connection.execute(CreateTable(table))  # without its indexes: loading is faster


def create_indexes(connection: Connection) -> None:
    """Create the indexes of the SSD tables after they are loaded."""
    for table in _ssd():
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(connection)


def insert_rows(connection: Connection, rows: Mapping[str, list[Row]]) -> int:
    """Insert rows by table and return how many; each row holds all columns in the table's order.

    The statement is compiled once and handed to the driver with all rows. That takes half the time
    of a SQLAlchemy insert, which looks at each value. The rows are changed: dates become what the
    driver takes.
    """
    for name, of_table in rows.items():
        if of_table:
            _hand_over(connection, tables.ssd_table(name), of_table)
    return sum(len(of_table) for of_table in rows.values())


def _hand_over(connection: Connection, table: Table, rows: list[Row]) -> None:
    dialect = connection.dialect
    statement = insert(table).compile(
        dialect=dialect,
        column_keys=[column.name for column in table.columns],
        schema_translate_map=connection.get_execution_options()["schema_translate_map"],
        render_schema_translate=True,
    )
    for column in table.columns:
        convert = column.type.dialect_impl(dialect).bind_processor(dialect)
        if convert:
            _convert(rows, column.name, convert)
    given = [tuple(row.values()) for row in rows] if statement.positional else rows
    database.hand_over(connection, table, str(statement), given)


def _convert(rows: list[Row], column: str, convert: Callable[[Any], Any]) -> None:
    known: dict[Any, Any] = {None: None}  # many rows share few days
    for row in rows:
        value = row[column]
        if value not in known:
            known[value] = convert(value)
        row[column] = known[value]


# --------------------------------------------------------------------------- reading and changing
def column_values(connection: Connection, table: str, column: str) -> list[str]:
    """All values of a key column, sorted here because databases sort text differently."""
    wanted = select(tables.ssd_table(table).c[column])
    return sorted(connection.execute(wanted).scalars())


def read_children(connection: Connection, person_ids: Sequence[str]) -> dict[str, Rows]:
    """All rows of these children by person and table, in the order of their keys."""
    rows_of_person: dict[str, Rows] = {person_id: {} for person_id in person_ids}
    for name, column in PERSON_COLUMNS.items():
        if name not in _THROUGH:
            for row in _rows_where(connection, name, column, person_ids):
                rows_of_person[row[column]].setdefault(name, []).append(row)
    for name, (column, through, leads) in _THROUGH.items():
        owner = {
            row[leads]: person_id
            for person_id, rows in rows_of_person.items()
            for row in rows.get(through, ())
        }
        for row in _rows_where(connection, name, column, sorted(owner)):
            rows_of_person[owner[row[column]]].setdefault(name, []).append(row)
    return rows_of_person


def _rows_where(
    connection: Connection, name: str, column: str, values: Sequence[str]
) -> Iterable[Row]:
    table = tables.ssd_table(name)
    key = _key(table)
    rows: list[Row] = []
    for start in range(0, len(values), _KEYS_AT_A_TIME):
        part = list(values[start : start + _KEYS_AT_A_TIME])
        these = table.c[column].in_(part)
        try:
            rows += [dict(row) for row in connection.execute(select(table).where(these)).mappings()]
        except (ValueError, TypeError):  # SQLite keeps any text in a date column
            raise _not_a_date(connection, table, these) from None
    return sorted(rows, key=lambda row: row[key])


def _not_a_date(connection: Connection, table: Table, these: ColumnElement[bool]) -> DatabaseError:
    """The error that names the columns in which these rows hold something that is no date."""
    columns = []
    for column in table.columns:
        try:
            connection.execute(select(column).where(these)).all()
        except (ValueError, TypeError):
            columns.append(f"`{column.name}`")
    return DatabaseError(
        f"`{table.name}` holds something in {', '.join(columns) or 'a column'} that is no date, so "
        "no day can pass in the fictional data.",
        hint="Put a date such as 2026-08-10 or null there, or make the data anew with "
        "`d2i simulate init`.",
    )


def _key(table: Table) -> str:
    """The first column of the key, which alone is unique in a fictional SSD."""
    return next(iter(table.primary_key.columns)).name


def apply(
    connection: Connection,
    updates: Iterable[tuple[str, str, Row]],
    deletes: Iterable[tuple[str, str]],
) -> None:
    """Change rows (table, key, new values) and delete rows (table, key)."""
    for name, value, columns in updates:
        table = tables.ssd_table(name)
        this_row = database.plain_name(table.c[_key(table)]) == value
        connection.execute(update(table).where(this_row).values(columns))
    for name, value in deletes:
        table = tables.ssd_table(name)
        connection.execute(delete(table).where(table.c[_key(table)] == value))


def make_keys_anew(connection: Connection, day: int) -> None:
    """Give rows other keys where SystemC's load of the SSD does so each night (`NEWID()`)."""
    for name, key in KEYS_OF_A_LOAD.items():
        for held in column_values(connection, name, key):
            new = str(uuid.uuid5(_KEYS, f"{day} {held}"))
            apply(connection, [(name, held, {key: new})], ())


def delete_child(connection: Connection, rows: Rows) -> None:
    """Delete all rows of a child."""
    for name, of_table in rows.items():
        key = _key(tables.ssd_table(name))
        apply(connection, (), ((name, row[key]) for row in of_table))


# ------------------------------------------------------------------------------------------ away
def keep_away(connection: Connection, person_id: str, rows: Rows, day: int) -> None:
    """Store the rows of a child who left, until it comes back."""
    text = json.dumps(rows, default=_date_text, ensure_ascii=False)
    database.insert_rows(
        connection, away, [{"person_id": person_id, "left_on_day": day, "source_rows": text}]
    )


def take_back(connection: Connection, day: int, count: int) -> list[Rows]:
    """Take out the rows of the children who left longest ago, before ``day``."""
    wanted = select(away).where(away.c.left_on_day < day)
    gone = sorted(
        connection.execute(wanted).all(), key=lambda row: (row.left_on_day, row.person_id)
    )[:count]
    for row in gone:
        connection.execute(delete(away).where(away.c.person_id == row.person_id))
    return [_with_dates(json.loads(row.source_rows)) for row in gone]


def _date_text(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _with_dates(rows: Rows) -> Rows:
    for name, of_table in rows.items():
        dates = [c.name for c in tables.ssd_table(name).columns if isinstance(c.type, DateTime)]
        for row in of_table:
            for column in dates:
                if row[column] is not None:
                    row[column] = dt.datetime.fromisoformat(row[column])
    return rows


def open_simulated(engine: Engine) -> dict[str, str]:
    """The marker of a finished fictional SSD.

    Raises:
        GateError: `simulate` did not make these tables, or did not finish.
    """
    with database.reading(engine) as connection:
        facts = read_marker(connection)
        if facts:
            refuse_real_ssd(connection)
    if facts.get("state") != READY:
        raise GateError(
            "There is no fictional SSD in this database that `d2i simulate` could change.",
            hint="Make one with `d2i simulate init`; a real SSD is never changed.",
        )
    return facts
