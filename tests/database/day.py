"""The stages of a day, one after the other in this process, on the database of the settings."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import Engine, select

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.database.tables import staging_table
from d2i_helpers.delta import stage as delta
from d2i_helpers.demo import simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.notebook import explore
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy.identity_hashes import KeptDigests
from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.staging import overview
from d2i_helpers.submit import stage as submit
from tests.submit.http.harness import serving

KEY = SecretStr("11" * 32)


def run(engine: Engine, settings: Settings) -> dict[str, dict[str, int]]:
    """Extract, anonymise, delta and submit; the counts of each stage, and the receiver's documents.

    Raises:
        AssertionError: what the receiver holds is not what is staged.
    """
    spec = load_spec(settings.cms)
    counts = {"extract": extract.run(engine, settings, spec).counts}
    digests = KeptDigests(engine, settings.staging_table, spec)  # as the runner keeps them
    assert digests.bring_up_to_date() == counts["extract"]["new"] + counts["extract"]["updated"]
    assert digests.known(["wNOBODY"]) == set()
    secrets = Secrets(pseudonym_key=KEY)
    counts["anonymise"] = anonymise.run(engine, settings, secrets, spec).counts
    counts["delta"] = delta.run(engine, settings, spec).counts
    with serving(settings) as served:
        sent = submit.run(engine, settings, spec, served.endpoint)
        counts["submit"] = sent.counts
        held = served.documents()
    assert held == staged(engine, settings)
    assert explore.overview(engine, settings)
    assert overview.by_state(engine, settings.send_table) == explore.overview(engine, settings)
    assert explore.child(engine, settings).document
    return counts


def staged(engine: Engine, settings: Settings) -> dict[str, Any]:
    """The documents of all children who are in, by id."""
    t = staging_table(settings.send_table).c
    with database.reading(engine) as connection:
        rows = connection.execute(select(t.person_id, t.json_payload, t.row_state)).all()
    return {row.person_id: orjson.loads(row.json_payload) for row in rows if row[2] != "deleted"}


def fill(settings: Settings, children: int) -> None:
    """Make a fictional SSD."""
    simulate.init(settings, children=children)


def pass_a_day(settings: Settings) -> None:
    """Let a day pass in it."""
    simulate.day(settings)
