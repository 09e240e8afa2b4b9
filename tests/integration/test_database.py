"""The same tables on every database."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, insert, select, text

from d2i_helpers import database, preflight, settings, tables
from d2i_helpers.errors import DatabaseError


def test_staging_tables_are_created_once(engine: Engine) -> None:
    created = database.create_staging(engine, "ssd_api_data_staging", "ssd_api_data_staging_anon")
    assert "ssd_api_data_staging_anon" in created
    assert (
        database.create_staging(engine, "ssd_api_data_staging", "ssd_api_data_staging_anon") == []
    )


def test_every_ssd_table_can_be_made_and_read(engine: Engine) -> None:
    with database.transaction(engine) as connection:
        tables.ssd_metadata().create_all(connection)
    with database.reading(engine) as connection:
        for table in tables.ssd_metadata().tables.values():
            assert connection.execute(select(table)).all() == []
    assert len(tables.ssd_metadata().tables) == 19


def test_a_database_error_never_shows_a_value(engine: Engine) -> None:
    database.create_staging(engine, "ssd_api_data_staging")
    row = {"person_id": "CANARY-1", "json_payload": "CANARY-2", "submission_status": "pending"}
    table = tables.staging_table("ssd_api_data_staging")
    with pytest.raises(DatabaseError) as caught, database.transaction(engine) as connection:
        connection.execute(insert(table), [row, row])
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_table_is_named(engine: Engine) -> None:
    with pytest.raises(DatabaseError, match="ssd_person"), database.reading(engine) as connection:
        connection.execute(select(tables.ssd_table("ssd_person")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("alter table ssd_api_data_staging drop column legacy_id", "no column legacy_id"),
        ("alter table ssd_api_data_staging alter column json_payload type jsonb "
         "using json_payload::jsonb", "keeps json_payload in a JSON type"),
    ],
)  # fmt: skip
def test_a_staging_table_that_cannot_be_used_is_refused_at_once(
    engine: Engine, make_settings: Callable[..., settings.Settings], change: str, said: str
) -> None:
    if "jsonb" in change and engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL has a type for JSON that is no text")
    name = "ssd_api_data_staging"
    database.create_staging(engine, name)
    with database.transaction(engine) as connection:
        connection.execute(text(change))
    with pytest.raises(DatabaseError, match=said):
        database.create_staging(engine, name)
    checks = {check.name: check for check in preflight.run(make_settings())}
    assert checks["staging columns"].status == preflight.FAIL
    assert said in checks["staging columns"].detail
