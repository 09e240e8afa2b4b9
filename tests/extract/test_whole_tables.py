"""The pass over whole tables: packed by the database or row by row, it finds the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, column, insert, select, table, text

from d2i_helpers import database
from d2i_helpers.database import dialects, packed_rows, tables
from d2i_helpers.database.dialects.postgresql import PostgreSQL
from d2i_helpers.document.source_rows import Read, few_tables_at_once
from d2i_helpers.errors import DatabaseError
from d2i_helpers.extract.deployed_tables import source_table
from d2i_helpers.extract.documents import Documents, reading_plan
from d2i_helpers.extract.whole_tables import WholeTables
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings

SPEC = load_spec()
TEXTS = ["A", "B", "B", " A", "A ", "\tB", "", " ", None, None, "É", "\xa0É", "A\nB", "0", "\x02"]
# by the type of the ids: those of persons and of referrals
IDS: dict[str, list[Any]] = {
    "varchar(40)": TEXTS,
    "varchar(20)": [*TEXTS, f"A{packed_rows.SEPARATOR}B"],
    "char(12)": ["A", "B ", " C", None],
    "bigint": [7, -7, 0, 2**60, None],
    "numeric(20, 2)": [7, 8, None],
    "uuid": [uuid.UUID(int=7), uuid.UUID(int=2**127 + 10), None],
}

PACKED = ("varchar(40)", "bigint", "uuid")  # the others have other blanks or decimals as text


def _fill(engine: Engine, kind: str) -> None:
    ids = {"pers_person_id", "cine_person_id", "cine_referral_id", "cinp_referral_id"}
    with database.transaction(engine) as connection:
        for known in tables.ssd_metadata().tables.values():
            names = [c.name for c in known.columns]
            columns = ", ".join(f"{n} {kind if n in ids else 'varchar(40)'}" for n in names)
            connection.execute(text(f"create table {known.name} ({columns})"))
        for name, *here in (
            ("ssd_person", "pers_person_id", "pers_forename"),
            ("ssd_cin_episodes", "cine_person_id", "cine_referral_id"),
            ("ssd_cin_plans", "cinp_referral_id", "cinp_cin_plan_id"),
        ):
            held = table(name, *map(column, here))
            for number, value in enumerate(IDS[kind]):
                both = [value, value if here[1] in ids else f"of {number}"]
                connection.execute(insert(held).values(dict(zip(here, both, strict=True))))


def _found(engine: Engine, settings: Any, before: dict[str, int]) -> dict[str, Any]:
    reader = Documents(engine, settings, SPEC).reader
    reader.deployed.check()
    whole = WholeTables(reader, before)
    with database.reading(engine) as connection:
        whole.read(connection)
        written = whole.written_ids(connection)
    assert set(whole.rows) >= set(reader.plan.tables), "each table is read and counted"
    assert not whole._tables, "and no longer in memory"
    return {
        "fingerprints": dict(
            zip(whole.persons.tolist(), whole.fingerprints.tolist(), strict=True)
        ),
        "rows": whole.rows,
        "blanks": written.with_blanks,
        "alike": written.alike,
        "counts": (whole.without_id, whole.unreadable_id, whole.repeated.tolist()),
    }  # fmt: skip


def test_few_tables_are_held_at_once() -> None:
    reads = list(reading_plan(Settings(), SPEC).reads)
    ordered = few_tables_at_once(reads)
    assert sorted(map(str, ordered)) == sorted(map(str, reads))
    assert _most_held(reads) > 4, "else this test would hold for any order"
    assert _most_held(ordered) <= 3
    assert few_tables_at_once(ordered) == ordered, "the order does not depend on itself"


def _most_held(reads: list[Read]) -> int:
    """Tables that are needed at a query, or before it and after it."""
    needed = [read.tables for read in reads]
    return max(
        len(here | frozenset().union(*needed[:at]) & frozenset().union(*needed[at:]))
        for at, here in enumerate(needed)
    )


@pytest.mark.parametrize("kind", IDS)
def test_packed_tables_say_what_their_rows_say(
    engine: Engine, make_settings: Callable, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("no other database packs rows")
    by_row: list[str] = []
    row_by_row = WholeTables._row_by_row

    def noted(self: WholeTables, connection: Any, table: str) -> Any:
        by_row.append(table)
        return row_by_row(self, connection, table)

    monkeypatch.setattr(WholeTables, "_row_by_row", noted)
    _fill(engine, kind)
    packed = _found(
        engine, make_settings(), dict.fromkeys(reading_plan(Settings(), SPEC).tables, 9)
    )
    assert len(packed["fingerprints"]) > 1
    assert ("ssd_person" in by_row) == (kind not in PACKED)
    assert "ssd_disability" not in by_row
    assert packed == _found(engine, make_settings(), {}), "in several packs"
    monkeypatch.setattr(PostgreSQL, "packed", dialects.Portable.packed)
    assert packed == _found(engine, make_settings(), {})


def test_a_packed_row_is_read_back() -> None:
    numbers = np.array([5, -1, 2**62], ">i8").tobytes()
    packed = packed_rows.unpacked([numbers, 2, 3, "a\x01\x01b", "c\x01d\x01e"])
    assert packed_rows.unpacked([None, 0, None]) == packed_rows.Unpacked(
        [[]], [0], [False], packed_rows.array("q")
    )
    assert packed == packed_rows.Unpacked(
        [["a", "", "b"], ["c", "d", "e"]],
        [1, 0],
        [False, False],
        packed_rows.array("q", [5, -1, 2**62]),
    )


@pytest.mark.parametrize("text", ["", "A", " A", "A\\n", "\\x1fA", "\\xa0A", "\\u3000A", "AB-1_2"])
def test_blanks_at_an_edge_are_never_overlooked(text: str) -> None:
    packed = packed_rows.unpacked([bytes(24), 3, f"B\x01{text}\x01C"])
    assert packed is not None
    assert packed.blanks == [text.strip() != text]


@pytest.mark.parametrize("joined", ["a\x01b\x01c\x01d", "a\x01b", b"a\x01b\x01c"])
def test_texts_that_cannot_be_told_apart_are_not_taken(joined: Any) -> None:
    assert packed_rows.unpacked([bytes(24), 3, joined]) is None


# by the type of a column: values that differ, some of which PostgreSQL's own hash takes for one
VALUES: dict[str, list[str]] = {
    "varchar(20)": ["a", "A", "a ", "", "\u00e4", "a\u0308", "1"],
    'varchar(20) collate "any_case"': ["a", "A", "b"],
    "char(3)": ["a", "A", "b"],
    "integer": ["0", "1", "-1"],
    "bigint": ["0", "858993459200000", "858997754167297"],  # of which 32 bits are folded alike
    "numeric(20, 4)": ["1.0", "1.0001", "-1"],
    "numeric": ["1.0", "1.00", "NaN"],
    "double precision": ["0", "-0", "NaN"],
    "boolean": ["true", "false"],
    "date": ["2026-01-01", "2026-01-02", "infinity"],
    "timestamp": ["2026-01-01", "2026-01-01 00:00:00.000001", "infinity",
                  "2027-03-22 01:17:39.2", "2027-03-22 02:29:14.167297"],
    "timestamptz": ["2026-01-01 00:00+00", "2026-01-01 00:00+01"],
    "time": ["10:00", "22:00"],
    "interval": ["1 mon", "30 days"],
    "uuid": [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))],
    "json": ['{"a": 1}', '{"a":1}'],
    "bytea": ["\\x00", "\\x0000"],
}  # fmt: skip


def test_no_two_values_have_one_fingerprint(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("no other database makes fingerprints")
    values = {name: VALUES[name] for name in _kinds_of(engine)}
    with database.transaction(engine) as connection:
        columns = [f"c{number} {kind}" for number, kind in enumerate(values)]
        connection.execute(text(f"create table of_types ({', '.join(columns)})"))
        for number, (kind, some) in enumerate(values.items()):
            given = f"cast(cast(:value as text) as {kind.partition(' collate')[0]})"
            statement = text(f"insert into of_types (c{number}) select {given}")
            connection.execute(statement, [{"value": value} for value in some])
        connection.execute(text("insert into of_types (c0) values (null)"))
        held = table("of_types", *(column(f"c{number}") for number in range(len(values))))
        types = database.column_types(connection, source_table("of_types"))
        made = database.row_fingerprint(engine, [*held.c], [types[c.name] for c in held.c])
        assert made is not None
        prints = [*connection.scalars(select(made).select_from(held))]
    assert len(set(prints)) == len(prints) == 1 + sum(map(len, values.values()))


def _kinds_of(engine: Engine) -> list[str]:
    """The types of `VALUES`; a collation that takes texts for one only where the server can."""
    try:
        with database.transaction(engine) as connection:
            connection.execute(text(
                "create collation any_case (provider = icu, locale = 'und-u-ks-level2', "
                "deterministic = false)"
            ))  # fmt: skip
    except DatabaseError:
        return [kind for kind in VALUES if "any_case" not in kind]
    return [*VALUES]
