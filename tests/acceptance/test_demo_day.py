"""Three days of the demo, held byte by byte: a change of structure may not change what is made.

What is approved lies beside this file. Where a change is meant to change it, look at which part
differs, run `python -m tests.acceptance.test_demo_day`, and commit the new file with the reason.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine, select

from d2i_helpers import database
from d2i_helpers.database.tables import staging_table, submission_log
from d2i_helpers.demo import receiver, simulate
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Secrets, Settings, load_settings
from d2i_helpers.stages import stage_named

APPROVED = Path(__file__).with_name("demo_day.json")
DAYS = ("2026-03-10", "2026-03-11", "2026-03-12")
SECRETS = Secrets(pseudonym_key=SecretStr("not a secret: it makes fictional children only" * 2))


def three_days(folder: Path) -> dict[str, Any]:
    """Digests and counts of each day: documents, twin, messages and what was written down."""
    found = {}
    for number, day in enumerate(DAYS):
        settings = load_settings(
            {"profile": "demo"},
            database_url=f"sqlite:///{folder / 'ssd.sqlite'}",
            receiver_store=str(folder / "receiver.sqlite"),
            run_date=day,
            simulate_children=150,
        )
        simulate.day(settings) if number else simulate.init(settings)
        engine = database.open_database(settings)
        try:
            found[day] = _one_day(engine, settings)
        finally:
            engine.dispose()
    return found


def _one_day(engine: Engine, settings: Settings) -> dict[str, Any]:
    spec = load_spec(settings.cms, settings.overlay_path)
    run = {name: stage_named(name).load() for name in ("extract", "anonymise", "delta", "submit")}
    counts = {"extract": run["extract"](engine, settings, spec).counts}
    documents = _digests(engine, settings.staging_table, "json_payload", "current_hash")
    counts["anonymise"] = run["anonymise"](engine, settings, SECRETS, spec).counts
    twin = _digests(engine, settings.anon_table, "json_payload", "current_hash")
    counts["delta"] = run["delta"](engine, settings, spec).counts
    deltas = _digests(engine, settings.staging_table, "partial_json_payload")
    with receiver.running(settings) as endpoint:
        counts["submit"] = run["submit"](engine, settings, spec, endpoint).counts
    with database.reading(engine) as connection:
        log = select(submission_log.c.person_id, submission_log.c.body_hash).order_by(
            submission_log.c.person_id, submission_log.c.id
        )
        sent = _digest(connection.execute(log))
    states = _digests(engine, settings.staging_table, "row_state", "submission_status")
    return {"documents": documents, "twin": twin, "deltas": deltas, "sent": sent,
            "states": states, "counts": counts}  # fmt: skip


def _digests(engine: Engine, table: str, *columns: str) -> str:
    t = staging_table(table).c
    query = select(t.person_id, *(t[name] for name in columns)).order_by(t.person_id)
    with database.reading(engine) as connection:
        return _digest(connection.execute(query))


def _digest(rows: Iterable[Any]) -> str:
    content = "\n".join(repr(tuple(row)) for row in rows)
    return hashlib.sha256(content.encode()).hexdigest()


def test_three_days_of_the_demo_are_what_was_approved(tmp_path: Path) -> None:
    assert three_days(tmp_path) == json.loads(APPROVED.read_text(encoding="utf-8"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        APPROVED.write_text(json.dumps(three_days(Path(scratch)), indent=1) + "\n", "utf-8")
