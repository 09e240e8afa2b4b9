"""A staging table goes to one receiver: another one would never get what the first acknowledged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.demo import simulate
from d2i_helpers.errors import GateError
from d2i_helpers.extract import stage as extract
from d2i_helpers.notebook import tomorrow
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import staged
from d2i_helpers.settings import Settings
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.results import BatchResult
from tests.staging.test_convergence import Link, answered
from tests.staging.world import NaiveReceiver

SPEC = load_spec()
ADDRESS = "https://receiver.example.org"
LIVE = {
    "endpoint": "live", "la_code": "301", "live_la_code": "301", "live_approver": "A. Manager",
    "live_approved_on": "2020-01-01", "api_base_url": f"{ADDRESS}/1", "token_url": f"{ADDRESS}/t",
    "token_scope": "s",
}  # fmt: skip


class Refusing(Link):
    """Refuses everything."""

    def send(self, records: list[bytes]) -> BatchResult:
        return answered([Outcome.REFUSED] * len(records))


def day(engine: Engine, settings: Settings, receiver: NaiveReceiver) -> dict[str, int]:
    extract.run(engine, settings, SPEC)
    delta_stage.run(engine, settings, SPEC)
    return submit.run(engine, settings, SPEC, None, client=Link(receiver, 0, 0.0)).counts


def failed_checks(engine: Engine, settings: Settings) -> list[str]:
    return [check.name for check in staged.checks(engine, settings) if check.status == "fail"]


OTHERS = {"endpoint": {}, "authority": {**LIVE, "la_code": "302", "live_la_code": "302"}}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_one_receiver_has_is_not_taken_for_what_another_one_has(
    engine: Engine, make_settings: Callable[..., Settings], other: dict[str, str]
) -> None:
    first = make_settings(**other)
    simulate.init(make_settings(), children=12)
    rehearsed, live = NaiveReceiver("merge"), NaiveReceiver("merge")
    counts = day(engine, first, rehearsed)
    assert counts["acknowledged"] == len(rehearsed.held) > 0
    assert day(engine, first, rehearsed)["need_attention"] == 0

    for dry_run in (True, False):
        with pytest.raises(GateError, match="went to another receiver before"):
            day(engine, make_settings(**LIVE, dry_run=dry_run), live)
    assert failed_checks(engine, first) == []
    assert failed_checks(engine, make_settings(**LIVE)) == ["staging receiver"]
    assert isinstance(tomorrow.preview(engine, make_settings(**LIVE), SPEC).stop, GateError)
    assert live.held == {}

    anew = make_settings(**LIVE, staging_table="ssd_api_live")
    assert day(engine, anew, live)["acknowledged"] == len(live.held)
    assert live.held == rehearsed.held


def test_a_table_of_which_nothing_was_acknowledged_may_go_anywhere(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    """As where the first requests go to a wrong address, which refuses them."""
    simulate.init(make_settings(), children=12)
    day(engine, make_settings(dry_run=True), NaiveReceiver("merge"))
    client = Refusing(NaiveReceiver("merge"), 0, 0.0)
    assert submit.run(engine, make_settings(), SPEC, None, client=client).counts["refused"] > 0
    live = NaiveReceiver("merge")
    assert day(engine, make_settings(**LIVE), live)["acknowledged"] == len(live.held)
