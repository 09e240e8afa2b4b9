"""The pass over whole tables: packed by the database or row by row, it finds the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, column, insert, table, text

from d2i_helpers import database
from d2i_helpers.database import dialects, packed_rows, tables
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.whole_tables import WholeTables
from d2i_helpers.payload_spec import load_spec

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


def _found(engine: Engine, settings: Any) -> dict[str, Any]:
    reader = Documents(engine, settings, SPEC).reader
    reader.check()
    whole = WholeTables(reader)
    with database.reading(engine) as connection:
        whole.read(connection)
        written = whole.written_ids(connection)
    return {
        "fingerprints": dict(
            zip(whole.persons.tolist(), whole.fingerprints.tolist(), strict=True)
        ),
        "rows": whole.rows,
        "blanks": written.with_blanks,
        "alike": written.alike,
        "counts": (whole.without_id, whole.unreadable_id, whole.repeated.tolist()),
    }  # fmt: skip


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
    packed = _found(engine, make_settings())
    assert len(packed["fingerprints"]) > 1
    assert ("ssd_person" in by_row) == (kind not in PACKED)
    assert "ssd_disability" not in by_row
    monkeypatch.setattr(dialects.PostgreSQL, "packed", dialects.Portable.packed)
    assert packed == _found(engine, make_settings())


def test_a_packed_row_is_read_back() -> None:
    numbers = np.array([5, -1, 2**62], ">i8").tobytes()
    packed = packed_rows.unpacked([numbers, 2, 3, "a\x01\x01b", "c\x01d\x01e"])
    assert packed == packed_rows.Unpacked(
        [["a", "", "b"], ["c", "d", "e"]], [1, 0], packed_rows.array("q", [5, -1, 2**62])
    )


@pytest.mark.parametrize("joined", ["a\x01b\x01c\x01d", "a\x01b", b"a\x01b\x01c"])
def test_texts_that_cannot_be_told_apart_are_not_taken(joined: Any) -> None:
    assert packed_rows.unpacked([bytes(24), 3, joined]) is None
