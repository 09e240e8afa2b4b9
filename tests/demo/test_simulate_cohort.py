"""The fictional SSD through the real extract: most are in, what is unusable is reported only."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine

from d2i_helpers.demo import simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings

# inclusion sets that every fictional SSD should show (docs/cohort.md)
SETS = {"active_referral", "waiting_assessment", "cin_plan", "looked_after_by_referral",
        "looked_after_by_placement", "care_leaver"}  # fmt: skip


def test_the_cohort_is_believable_and_every_document_may_be_sent(
    make_settings: Callable[..., Settings], engine: Engine
) -> None:
    settings, spec = make_settings(), load_spec()
    simulate.init(settings, children=400)
    first = extract.run(engine, settings, spec)
    assert 0.70 <= first.counts["in_cohort"] / 400 <= 0.83
    assert first.counts["eligible"] < 400
    assert first.counts["refused"] == first.counts["not_valid"] == 0
    assert set(first.reasons) >= SETS
    assert first.warnings == []  # nothing that a firewall would stop
    unusable = {row["field"] for row in first.quality if row["unusable"]}
    assert len(unusable) >= 5
    filled = {row["field"] for row in first.quality if row["filled"]}
    assert filled == {row["field"] for row in first.quality}

    changes = simulate.day(settings)
    second = extract.run(engine, settings, spec)
    touched = second.counts["new"] + second.counts["updated"]
    assert 5 <= touched <= sum(changes.values())
    assert second.counts["unchanged"] > 0.85 * first.counts["in_cohort"]
    assert second.counts["refused"] == second.counts["not_valid"] == 0
