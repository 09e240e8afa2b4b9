"""The two staging tables mixed up in a profile: no real child's data go out as anonymised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, delete, select

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.database.tables import facts, staging_table
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.demo import simulate
from d2i_helpers.errors import GateError
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import staged
from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import simulated_endpoint

SPEC = load_spec("systemc")
SECRETS = Secrets(pseudonym_key=SecretStr("k" * 32))
ORIGINAL, TWIN = "ssd_api_data_staging", "ssd_api_data_staging_anon"
SWAPPED = {"staging_table": TWIN, "anon_table": ORIGINAL}
Make = Callable[..., Settings]


@pytest.fixture
def filled(engine: Engine, make_settings: Make) -> Make:
    """Both tables as a day leaves them."""
    settings = make_settings()
    simulate.init(settings, children=12)
    extract.run(engine, settings, SPEC)
    anonymise.run(engine, settings, SECRETS, SPEC)
    return make_settings


def rows(engine: Engine) -> list[Any]:
    with database.reading(engine) as connection:
        return [
            tuple(row)
            for name in (ORIGINAL, TWIN)
            for row in connection.execute(select(staging_table(name)).order_by("id"))
        ]


@pytest.mark.parametrize("earlier_release", [False, True])
def test_no_stage_works_with_the_two_names_swapped(
    engine: Engine, filled: Make, earlier_release: bool
) -> None:
    if earlier_release:  # which did not note what a table holds
        with database.transaction(engine) as connection:
            connection.execute(delete(facts).where(facts.c.name == "holds"))
    before = rows(engine)
    as_anonymised = filled(source="anonymised", **SWAPPED)
    as_identifiable = filled(source="identifiable", **SWAPPED)
    endpoint = simulated_endpoint("http://127.0.0.1:9", "000")  # nobody is to be asked there
    stages = (
        lambda: extract.run(engine, as_identifiable, SPEC),
        lambda: anonymise.run(engine, as_identifiable, SECRETS, SPEC),
        lambda: delta_stage.run(engine, as_anonymised, SPEC),
        lambda: submit.run(engine, as_anonymised, SPEC, endpoint),
        lambda: delta_stage.run(engine, as_identifiable, SPEC),
        lambda: submit.run(engine, as_identifiable, SPEC, endpoint),
    )
    for stage in stages:
        with pytest.raises(GateError, match="mixed up"):
            stage()
    assert rows(engine) == before
    found = [check for check in staged.checks(engine, as_anonymised) if check.status == "fail"]
    assert [check.name for check in found] == ["staging contents"]
    assert found[0].error_name == "GateError"


def test_the_right_names_pass_and_so_does_a_table_that_was_emptied(
    engine: Engine, filled: Make
) -> None:
    for source in ("identifiable", "anonymised"):
        delta_stage.run(engine, filled(source=source), SPEC)
    assert "staging contents" not in {c.name for c in staged.checks(engine, filled())}
    with database.transaction(engine) as connection:
        connection.execute(delete(staging_table(TWIN)))
    extract.run(engine, filled(staging_table=TWIN, anon_table="another"), SPEC)
    with pytest.raises(GateError):
        delta_stage.run(engine, filled(source="anonymised"), SPEC)


def test_of_a_table_of_other_software_nothing_is_known(engine: Engine, filled: Make) -> None:
    with database.transaction(engine) as connection:
        connection.execute(delete(facts))
    for source in ("identifiable", "anonymised"):
        delta_stage.run(engine, filled(source=source), SPEC)


def test_a_table_goes_by_one_spelling_of_its_name(engine: Engine, filled: Make) -> None:
    """Else nothing of what is kept beside it is found, where a database ignores capitals."""
    before = rows(engine)
    for settings in (
        filled(staging_table=ORIGINAL.upper()),
        filled(staging_table="another", anon_table=ORIGINAL.upper(), source="anonymised"),
    ):
        for stage in (extract.run, delta_stage.run):
            if stage is extract.run and settings.source == "anonymised":
                continue
            with pytest.raises(GateError, match=f"known as {ORIGINAL}"):
                stage(engine, settings, SPEC)
        if engine.dialect.name != "postgresql":  # there nothing has the name in these capitals
            failed = [one.name for one in staged.checks(engine, settings) if one.status == "fail"]
            assert failed == ["staging contents"]
    assert rows(engine) == before
