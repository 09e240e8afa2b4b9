"""A pilot (`person_ids`) sends its own children alone, whoever else waits in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings
from d2i_helpers.submit import stage as submit
from tests.staging.test_convergence import Link
from tests.staging.world import NaiveReceiver

SPEC = load_spec()


@pytest.fixture
def children(ssd: Any) -> tuple[str, ...]:
    """The ids of some children in the cohort."""
    ids = ("A1", "A2", "A3", "A4")
    for one in ids:
        ssd.add("ssd_person", {"pers_person_id": one, "pers_dob": "2012-05-17"})
        ssd.add("ssd_cin_episodes", {"cine_referral_id": f"{one}R", "cine_person_id": one,
                                     "cine_referral_date": "2025-01-01"})  # fmt: skip
    return ids


def day(engine: Engine, settings: Settings, receiver: NaiveReceiver) -> submit.SubmitResult:
    extract.run(engine, settings, SPEC)
    delta_stage.run(engine, settings, SPEC)
    return submit.run(engine, settings, SPEC, None, client=Link(receiver, 0, 0.0))


def test_a_pilot_after_a_dry_run_sends_nobody_else(
    engine: Engine, make_settings: Callable[..., Settings], children: tuple[str, ...]
) -> None:
    receiver = NaiveReceiver("merge")
    day(engine, make_settings(dry_run=True), receiver)
    pilot = {"person_ids": [" A2", "A3"]}
    dry = day(engine, make_settings(dry_run=True, **pilot), receiver)
    assert (dry.counts["waiting_before"], receiver.held) == (2, {})
    sent = day(engine, make_settings(**pilot), receiver)
    assert set(receiver.held) == {"A2", "A3"}
    assert "Only the children in `person_ids` are sent: 2 others wait." in sent.notices
    assert (sent.counts["acknowledged"], sent.counts["still_waiting"]) == (2, 0)
    assert sent.counts["need_attention"] == 0
    again = day(engine, make_settings(**pilot), receiver)
    assert (again.counts["waiting_before"], again.counts["sent"]) == (0, 0)

    everybody = day(engine, make_settings(), receiver)
    assert set(receiver.held) == set(children)
    assert (everybody.counts["acknowledged"], everybody.notices) == (2, [])


def test_a_child_of_the_pilot_who_is_not_sent_needs_attention(
    engine: Engine, make_settings: Callable[..., Settings], children: tuple[str, ...]
) -> None:
    class Refusing(Link):
        def send(self, records: list[bytes]) -> Any:
            return self._some_refused(records)

    settings = make_settings(person_ids="A1,A2,A3,A4")
    extract.run(engine, make_settings(), SPEC)
    delta_stage.run(engine, settings, SPEC)
    client = Refusing(NaiveReceiver("merge"), 1, 0.0)
    sent = submit.run(engine, settings, SPEC, None, client=client)
    assert sent.counts["need_attention"] == sent.counts["refused"] > 0
