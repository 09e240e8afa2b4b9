"""Shards: the same child in the same one, whatever its id is stored as; each child in one."""

from __future__ import annotations

import pytest
import sqlglot
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, select
from sqlalchemy.dialects import mssql, oracle

from d2i_helpers import database
from d2i_helpers.database import dialects, shards
from d2i_helpers.errors import SettingsError
from d2i_helpers.settings import WHOLE, Shard, read_shard
from d2i_helpers.staging import Staging

TEXTS = Table("texts", MetaData(), Column("id", Integer), Column("person", String(50)))
NUMBERS = Table("numbers", MetaData(), Column("id", Integer), Column("person", Integer))
IDS = [*map(str, range(40)), "AbC", " abc\t", "A1-b2", "", None]


def test_a_shard_is_written_as_two_numbers() -> None:
    assert read_shard(" 2/4 ") == Shard(2, 4)
    assert read_shard(None) == read_shard("") == WHOLE
    assert str(Shard(2, 4)) == "2/4"
    for wrong in ("0/4", "5/4", "2", "2/", "-1/2", "1/257", "2/4/6", "two"):
        with pytest.raises(ValueError, match=r"written k/n.*k from 1 to n"):
            read_shard(wrong)


def test_every_person_is_of_one_shard_and_of_the_same_as_text_and_number(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        with pytest.raises(SettingsError, match="one writer at a time"):
            shards.condition(engine, Shard(1, 2), TEXTS.c.person)
        assert shards.condition(engine, WHOLE, TEXTS.c.person) == ()
        return
    encoding = "utf-16-le" if engine.dialect.name == "mssql" else "utf-8"
    with database.transaction(engine) as connection:
        for table in (TEXTS, NUMBERS):
            table.create(connection)
        rows = [{"id": number, "person": one} for number, one in enumerate(IDS)]
        connection.execute(insert(TEXTS), rows)
        connection.execute(insert(NUMBERS), [{"id": n, "person": n} for n in range(40)])
        for of in (2, 3):
            found: list[int] = []
            for number in range(1, of + 1):
                shard = Shard(number, of)
                mine = shards.condition(engine, shard, TEXTS.c.person)
                of_text = list(connection.execute(select(TEXTS.c.id).where(*mine)).scalars())
                assert sorted(of_text) == [
                    n for n, one in enumerate(IDS) if shards.shard_of(one, of, encoding) == shard
                ]
                mine = shards.condition(engine, shard, NUMBERS.c.person)
                of_number = connection.execute(select(NUMBERS.c.id).where(*mine)).scalars()
                assert sorted(of_number) == sorted(n for n in of_text if n < 40)
                found += of_text
            assert sorted(found) == list(range(len(IDS)))


def test_the_expressions_of_the_others_are_read_by_a_parser_of_their_language() -> None:
    for name, module in (("mssql", mssql), ("oracle", oracle)):
        number = dialects.named(name).shard_hash(TEXTS.c.person)
        text = str(select(number).compile(dialect=module.dialect()))
        sqlglot.parse_one(text, dialect={"mssql": "tsql"}.get(name, name))


def test_the_whole_of_a_staging_table_has_no_condition(engine: Engine) -> None:
    assert Staging(engine, "ssd_api_data_staging").mine == ()
    if engine.dialect.name != "sqlite":
        assert len(Staging(engine, "ssd_api_data_staging", shard=Shard(1, 2)).mine) == 1
