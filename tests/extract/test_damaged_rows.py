"""Rows damaged at random, any column of any table: extract never crashes and sends nothing wrong.

The tables are made without types and keys, so that SQLite holds any value in any column and
PostgreSQL any text.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, Text, column, insert, select, table, text

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.document.validation import Validator
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from tests import servers

ODD_TEXTS = [
    None, "", " ", "\t\n", "x", "x" * 5000, "🎈 balloon", "O'Brien; drop table ssd_person --",
    "0x41", "2025-13-45", "31/02/2025", "2025-01-01T25:61:00", "2025-06-01", "1900-01-01",
    "9999-12-31 23:59:59", "0000-00-00", "-1", "3.5", "1e400", "NaN", "null", "NULL", "[]", "{",
    '{"1A": "Yes"}', '["1A", null, "1A", 7, {"x": []}]', "[[[[[[1]]]]]]", '"text"', "SSD_PH",
    "UN99", "UN10", "true", "１２", "RC1 - Adopted", "\u200b1A\u200b", "A" * 13, "K1", "k1 ",
    "1A", "U", "CW", "42", "T" * 48, "é" * 20, "\ufeff2025-01-01", "١٢٣", "Y", "n", "5A/5B",
]  # fmt: skip
ODD_VALUES = [
    0, 1, -1, 40, 41, 10**15, 2**62, 3.5, float("inf"), -0.0, b"", b"\xff\xfe", b"2025-01-01",
    b"1A", True, 1e300,
]  # fmt: skip
DAYS = ["2012-05-17", "2025-01-01", "2025-06-01 10:00:00", "2024-04-01", "2026-08-11", "2019-02-28"]
KEYS = {f"K{number}" for number in range(1000)}
SANE = {
    "pers_sex": ["M", "F"], "pers_ethnicity": ["WBRI"], "pers_upn": ["A123456789012"],
    "link_identifier_type": ["Former Unique Pupil Number"], "disa_disability_code": ["MOB", "LD"],
    "immi_immigration_status": ["U", "UASC"], "addr_address_postcode": ["AB1 2CD"],
    "csdq_sdq_score": ["7"], "cinf_assessment_factors_json": ['["1A"]'],
    "invo_professional_role_id": ["CW"], "clap_cla_placement_type": ["U6"],
}  # fmt: skip


def _blank_tables(engine: Engine) -> None:
    """The SSD's tables without any type, key or index."""
    kind = "" if engine.dialect.name == "sqlite" else f" {servers.text_type(engine, None)}"
    with database.transaction(engine) as connection:
        for known in tables.ssd_metadata().tables.values():
            columns = ", ".join(f"{c.name}{kind}" for c in known.columns)
            connection.execute(text(f"create table {known.name} ({columns})"))


def _rows(seed: int, number: int, odd: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of some children; one column in six of every row is damaged, and few dates.

    Nearly every date decides something, and one that cannot be read holds its child back.
    """
    chance = random.Random(seed)
    keys = {row["column"]: row["references"] or row["key"] for row in tables.ssd_columns()}
    types = {row["column"]: row["type"] for row in tables.ssd_columns()}
    names = list(tables.ssd_metadata().tables.values())
    made: dict[str, list[dict[str, Any]]] = {}
    for place in range(number):
        known = names[place % len(names)]
        row: dict[str, Any] = {}
        for one in known.columns:
            if keys[one.name]:  # few ids, so that the rows of all tables meet
                row[one.name] = f"K{chance.randrange(max(number // 60, 3))}"
            elif types[one.name] == "datetime":
                row[one.name] = chance.choice(DAYS)
            else:
                row[one.name] = chance.choice(SANE.get(one.name, ["text", None]))
            if chance.random() < (1 / 80 if types[one.name] == "datetime" else 1 / 6):
                row[one.name] = chance.choice(odd)
        if known.name == "ssd_person" and row["pers_person_id"] in KEYS:
            row["pers_person_id"] = f"K{len(made.get(known.name, ()))}"  # nobody twice
        made.setdefault(known.name, []).append(row)
    return made


def _run(engine: Engine, make_settings: Callable[..., Any], seed: int, number: int) -> None:
    _blank_tables(engine)
    odd = ODD_TEXTS + (ODD_VALUES if engine.dialect.name == "sqlite" else [])
    # pyodbc has the server say the types otherwise
    any_text = Text() if engine.dialect.name == "mssql" else None
    with database.transaction(engine) as connection:
        for name, rows in _rows(seed, number, odd).items():
            target = table(name, *(column(c, any_text) for c in rows[0]))
            connection.execute(insert(target), rows)
    spec = load_spec()
    settings = make_settings(
        chunk_size=9, run_date="2026-08-10", max_deleted_share=1.0, max_unusable_share=1.0
    )
    result = extract.run(engine, settings, spec)
    assert result.counts["persons_read"] > number / 19 / 2
    assert result.counts["new"] > 0
    assert result.counts["left_out"] > 0
    crashed = [row for row in result.problems if "cannot be assembled" in row["rule"]]
    assert not crashed
    assert len(result.problems) > 20, "the damage was not noticed"
    check = Validator(spec)
    staged = tables.staging_table("ssd_api_data_staging")
    with database.reading(engine) as connection:
        for (payload,) in connection.execute(select(staged.c.json_payload)):
            assert check.problems(orjson.loads(payload)) == []
    again = extract.run(engine, settings, spec)
    assert again.counts["unchanged"] == result.counts["new"]
    assert again.counts["updated"] == again.counts["gone"] == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_rows(engine: Engine, make_settings: Callable[..., Any], seed: int) -> None:
    _run(engine, make_settings, seed, 800)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
def test_ten_thousand_damaged_rows(
    engine: Engine, make_settings: Callable[..., Any], seed: int
) -> None:
    _run(engine, make_settings, seed, 10_000)


def test_text_that_is_not_utf8_is_left_out(
    make_settings: Callable[..., Any], engine: Engine
) -> None:
    """SQLite hands such text over with an error, on which everything is read as bytes."""
    if engine.dialect.name != "sqlite":
        pytest.skip("only SQLite stores text without looking at it")
    _blank_tables(engine)
    with database.transaction(engine) as connection:
        connection.execute(
            text(
                "insert into ssd_person (pers_person_id, pers_dob, pers_surname, pers_forename) "
                "values ('K1', '2012-05-17', cast(x'4fff' as text), 'Ann')"
            )
        )
        connection.execute(
            text(
                "insert into ssd_cin_episodes (cine_referral_id, cine_person_id, "
                "cine_referral_date) values (17, 'K1', '2025-01-01')"
            )
        )
    result = extract.run(engine, make_settings(), load_spec())
    assert result.counts["new"] == 1
    assert [row["rule"] for row in result.problems] == ["not readable text"]
