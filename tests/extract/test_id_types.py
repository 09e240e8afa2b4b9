"""Ids that are numbers in one table, text in a second and UUIDs in a third, as systems have."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    Numeric,
    Table,
    Uuid,
    insert,
    select,
)
from sqlalchemy.types import TypeEngine

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.database.dialects import Characters
from d2i_helpers.errors import DatabaseError
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents, reading_plan
from d2i_helpers.payload_spec import Spec, load_spec
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.settings import Settings
from tests.database import day

Place = tuple[str, str]
Rows = dict[str, list[dict[str, Any]]]
TEXT = Characters(48)
NUMBERS: tuple[TypeEngine, ...] = (
    Integer(), TEXT, Numeric(12, 2), TEXT, BigInteger(), Float(53), Numeric(12, 0),
)  # fmt: skip
UUIDS: tuple[TypeEngine, ...] = (Uuid(), TEXT, TEXT)
MIXTURES: dict[str, tuple[TypeEngine, ...]] = {
    "persons' are whole numbers": NUMBERS,
    "persons' are text": NUMBERS[1:] + NUMBERS[:1],
    "persons' have decimals": NUMBERS[2:] + NUMBERS[:2],
    "all but persons' are UUIDs": UUIDS,
    "all but persons' are UUIDs or text": UUIDS[1:] + UUIDS[:1],
}
CHILDREN, PAGE = 15, 4


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec()


def compared(settings: Settings, spec: Spec) -> list[tuple[Place, Place]]:
    """Each two columns of ids of which one is looked for in the other."""
    person = ("ssd_person", "pers_person_id")
    pairs = {}
    for read in reading_plan(settings, spec).reads:
        place = (read.table, read.by)
        for step in read.chain:
            pairs[place, (step.table, step.value)] = None
            place = (step.table, step.by)
        pairs[place, person] = None
    return list(pairs)


def id_places(settings: Settings, spec: Spec) -> list[Place]:
    """Every column of them; the persons' own first."""
    pairs = compared(settings, spec)
    return list(dict.fromkeys([pairs[0][1], *(place for pair in pairs for place in pair)]))


def in_capitals(rows: Rows, types: Mapping[Place, TypeEngine], pairs: list) -> Rows:
    """The rows, with the UUIDs in columns of text in capitals if only UUIDs are beside them."""
    beside: dict[Place, set[bool]] = {}
    for one, other in pairs:
        beside.setdefault(one, set()).add(isinstance(types[other], Uuid))
        beside.setdefault(other, set()).add(isinstance(types[one], Uuid))
    places = [p for p, uuids in beside.items() if types[p] is TEXT and uuids == {True}]
    own = {(table.name, c.name) for table in tables.ssd_metadata().tables.values()
           for c in table.primary_key}  # fmt: skip
    return with_ids(rows, [p for p in places if p not in own], lambda value, _: value.upper())


def rows_of(engine: Engine) -> Rows:
    """Every row of a fictional SSD."""
    with database.reading(engine) as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in tables.ssd_metadata().sorted_tables
        }


def is_a_persons(place: Place) -> bool:
    return "_person_id" in place[1]


class Ids:
    """Gives each id another one, the same for the same; as numbers they sort otherwise."""

    def __init__(self, mixture: str) -> None:
        self.with_uuids = "UUID" in mixture
        self.numbers: dict[str, int] = {}

    def __call__(self, old: str, place: Place) -> str:
        if self.with_uuids and not is_a_persons(place):
            return str(uuid.uuid5(uuid.NAMESPACE_OID, old))
        count = len(self.numbers)
        return str(self.numbers.setdefault(old, 7 * count * count + 3))


def with_ids(rows: Rows, places: list[Place], new_id: Callable[[str, Place], str]) -> Rows:
    return {
        table: [
            {
                name: new_id(value, (table, name))
                if (table, name) in places and value is not None
                else value
                for name, value in row.items()
            }
            for row in some
        ]
        for table, some in rows.items()
    }


def put(engine: Engine, rows: Rows, types: Mapping[Place, TypeEngine]) -> None:
    """Make the SSD with these rows, with ids of these types."""
    metadata = MetaData(schema=tables.SSD_SCHEMA)
    for table in tables.ssd_metadata().sorted_tables:
        columns = [
            Column(
                c.name,
                types.get((table.name, c.name), c.type),
                primary_key=c.primary_key,
                autoincrement=False,
            )
            for c in table.columns
        ]
        Table(table.name, metadata, *columns)
    with database.transaction(engine) as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        for table in metadata.sorted_tables:
            if rows[table.name]:
                given = [typed(row, table) for row in rows[table.name]]
                connection.execute(insert(table), given)


def typed(row: dict[str, Any], table: Table) -> dict[str, Any]:
    """A row with its ids as Python has them."""
    found = dict(row)
    for column in table.columns:
        value = row[column.name]
        if not isinstance(value, str):
            continue
        if isinstance(column.type, Uuid):
            found[column.name] = uuid.UUID(value)
        elif isinstance(column.type, Integer | Numeric | Float):
            found[column.name] = int(value)
    return found


@pytest.fixture
def days(
    make_settings: Callable, tmp_path: Path, spec: Spec
) -> Iterator[Callable[[str], tuple[Rows, dict[str, Any]]]]:
    """Gives the rows of the next day with new ids, and the documents that they make as text."""
    world, plain = ({"database_url": f"sqlite:///{tmp_path / name}.sqlite"} for name in "wp")
    ids: dict[str, Ids] = {}
    engines: list[Engine] = []

    def opened(place: dict[str, str]) -> Engine:
        engines.append(database.open_database(make_settings(**place), create=True))
        return engines[-1]

    def next_day(mixture: str) -> tuple[Rows, dict[str, Any]]:
        settings = make_settings(**world)
        if not engines:
            day.fill(settings, CHILDREN)
        else:
            day.pass_a_day(settings)
        places = id_places(settings, spec)
        new_id = ids.setdefault(mixture, Ids(mixture))
        rows = with_ids(rows_of(opened(world)), places, new_id)
        all_text = opened(plain)
        put(all_text, rows, dict.fromkeys(places, TEXT))
        at_text = make_settings(**plain)
        extract.run(all_text, at_text, spec)
        return rows, day.staged(all_text, at_text)

    yield next_day
    for engine in engines:
        engine.dispose()


def written(documents: dict[str, Any], engine: Engine) -> str:
    """The documents as text; SQL Server writes the letters of a UUID as capitals."""
    text = json.dumps(documents, sort_keys=True)
    return text.lower() if engine.dialect.name == "mssql" else text


def types_of(mixture: str, places: list[Place]) -> dict[Place, TypeEngine]:
    kinds, types = MIXTURES[mixture], {}
    for number, place in enumerate(places):
        here = NUMBERS if is_a_persons(place) and "all but" in mixture else kinds
        types[place] = here[number % len(here)]
    return types


@pytest.mark.database_in_turn
@pytest.mark.parametrize("mixture", MIXTURES)
def test_ids_of_several_types_make_the_documents_that_texts_make(
    engine: Engine, make_settings: Callable, spec: Spec, days: Callable, mixture: str
) -> None:
    if "UUID" in mixture and engine.dialect.name == "sqlite":
        pytest.skip("no type for UUIDs")
    settings = make_settings(chunk_size=PAGE, max_changed_share=1, max_deleted_share=1)
    types = types_of(mixture, id_places(settings, spec))
    for _ in range(2):
        rows, expected = days(mixture)
        put(engine, in_capitals(rows, types, compared(settings, spec)), types)
        database.forget_answers(engine)
        extract.run(engine, settings, spec)
        assert written(day.staged(engine, settings), engine) == written(expected, engine)
    child = next(iter(expected))
    pilot = make_settings(person_ids=[child, "nobody", "0" + child])
    assert extract.run(engine, pilot, spec).counts["unchanged"] == 1


def test_a_staging_table_with_numbers_is_altered_by_the_script_and_goes_on(
    engine: Engine, ssd: Any, make_settings: Callable, spec: Spec
) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("the script is PostgreSQL's")
    ssd.add("ssd_person", {"pers_person_id": "1204", "pers_dob": "2012-05-17"})
    referral = {"cine_referral_date": "2025-01-01", "cine_person_id": "1204"}
    ssd.add("ssd_cin_episodes", {"cine_referral_id": "R1", **referral})
    settings = make_settings()
    extract.run(engine, settings, spec)
    before = ssd.staged()
    with database.transaction(engine) as connection:
        connection.exec_driver_sql(
            f"alter table {settings.staging_table} alter person_id type bigint using "
            "person_id::bigint"
        )
    with pytest.raises(DatabaseError, match="keeps person_id in a type that is no text"):
        extract.run(engine, settings, spec)
    script, _ = preflight.ddl_script(settings)
    with database.transaction(engine) as connection:
        connection.exec_driver_sql(script)
    database.forget_answers(engine)
    assert extract.run(engine, settings, spec).counts["unchanged"] == 1
    assert ssd.staged() == before


def test_a_whole_day_with_ids_of_several_types(
    engine: Engine, make_settings: Callable, spec: Spec, days: Callable
) -> None:
    """The ids of one child are written with blanks wherever they are text."""
    settings = make_settings(chunk_size=PAGE, max_changed_share=1, max_deleted_share=1)
    types = types_of("persons' are whole numbers", id_places(settings, spec))
    sent = 0
    for _ in range(2):
        rows, expected = days("numbers alone")
        child = next(iter(expected))
        blank = with_ids(
            rows,
            [place for place, kind in types.items() if kind is TEXT and is_a_persons(place)],
            lambda value, _, child=child: f" {value}\t" if value == child else value,
        )
        put(engine, blank, types)
        database.forget_answers(engine)
        sent += day.run(engine, settings)["submit"]["acknowledged"]
        assert day.staged(engine, settings) == expected
    assert sent > len(expected)
    problems = [check for check in preflight.run(settings) if check.status == preflight.FAIL]
    assert not problems


@pytest.mark.parametrize("chunk_size", [1, 2, 500])
@pytest.mark.parametrize("filled_up", ["ssd_person", "ssd_cin_episodes"])
def test_ids_that_are_filled_up_with_blanks_in_one_table_find_their_rows(
    ssd: Any, engine: Engine, make_settings: Callable, spec: Spec, chunk_size: int, filled_up: str
) -> None:
    """Of the type CHAR, beside VARCHAR elsewhere; also where nothing but pages is read."""
    deployed = tables.ssd_table(filled_up)
    own = "pers_person_id" if filled_up == "ssd_person" else "cine_person_id"
    columns = ", ".join(
        f"{c.name} {'char' if c.name == own else 'varchar'}(12)" for c in deployed.c
    )
    children = ("a1", "a2", "a3")
    with database.transaction(engine) as connection:
        connection.exec_driver_sql(f"drop table {filled_up}")
        connection.exec_driver_sql(f"create table {filled_up} ({columns})")
    for child in children:
        filled = f"{child:<12}"  # SQLite fills nothing up
        person, parent = (filled, child) if filled_up == "ssd_person" else (child, filled)
        put_texts(engine, "ssd_person", {"pers_person_id": person, "pers_dob": "2012-05-17"})
        referral = {"cine_referral_id": f"r-{child}", "cine_referral_date": "2025-01-01"}
        put_texts(engine, "ssd_cin_episodes", {**referral, "cine_person_id": parent})
    settings = make_settings(chunk_size=chunk_size)
    documents = Documents(engine, settings, spec)
    documents.reader.deployed.check()
    with database.reading(engine) as connection:
        read = {c.person_id: c.document for page in documents.pages(connection) for c in page}
    extract.run(engine, settings, spec)
    for found in (read, ssd.documents()):
        assert {
            child: [one["social_care_episode_id"] for one in document["social_care_episodes"]]
            for child, document in found.items()
        } == {child: [f"r-{child}"] for child in children}


def put_texts(engine: Engine, name: str, row: dict[str, str]) -> None:
    """A row of texts, whatever the types of the columns."""
    with database.transaction(engine) as connection:
        connection.execute(insert(sa.table(name, *map(sa.column, row))).values(**row))
