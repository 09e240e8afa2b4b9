"""A pilot (`person_ids`) sends its own children alone, whoever else waits in the table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, update

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.errors import GuardError
from d2i_helpers.extract import stage as extract
from d2i_helpers.notebook import tomorrow
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


def test_a_child_of_the_pilot_who_has_left_since_is_not_sent(
    ssd: Any, engine: Engine, make_settings: Callable[..., Settings], children: tuple[str, ...]
) -> None:
    """What the dry run staged of the child is no longer what the source says."""
    day(engine, make_settings(dry_run=True), receiver := NaiveReceiver("merge"))
    with database.transaction(engine) as connection:
        referrals = tables.ssd_table("ssd_cin_episodes")
        left = referrals.c.cine_person_id.in_(["A1", "A2"])
        closed = dt.datetime(2020, 1, 1)
        connection.execute(update(referrals).where(left).values(cine_close_date=closed))
    pilot = make_settings(person_ids="A2,A3,nobody")
    assert [one.person_id for one in tomorrow.preview(engine, pilot, SPEC).going] == ["A3"]
    gone = extract.run(engine, pilot, SPEC).counts
    assert (gone["gone"], gone["left_the_cohort"], gone["need_attention"]) == (1, 1, 1)
    day(engine, pilot, receiver)
    assert set(receiver.held) == {"A3"}
    states = {one: row["row_state"] for one, row in ssd.staged().items()}
    assert states == {"A1": "new", "A2": "deleted", "A3": "unchanged", "A4": "new"}
    day(engine, make_settings(max_deleted_share=1), receiver)
    assert set(receiver.held) == {"A3", "A4"}


def test_a_pilot_of_whom_too_many_have_left_is_stopped(
    engine: Engine, make_settings: Callable[..., Settings], children: tuple[str, ...]
) -> None:
    """As where a table has lost what they are in by; the others are not looked at."""
    extract.run(engine, make_settings(), SPEC)
    with database.transaction(engine) as connection:
        referrals = tables.ssd_table("ssd_cin_episodes")
        connection.execute(update(referrals).values(cine_close_date=dt.datetime(2020, 1, 1)))
    pilot = {"person_ids": children[:3], "guard_min_children": 4}
    with pytest.raises(GuardError, match="3 of 4 children would be marked deleted"):
        extract.run(engine, make_settings(**pilot), SPEC)
    allowed = extract.run(engine, make_settings(**pilot, max_deleted_share=0.8), SPEC)
    assert allowed.counts["gone"] == 3
