"""Which table may go to which endpoint: one case a rule."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from d2i_helpers.errors import GateError
from d2i_helpers.settings import Settings
from d2i_helpers.submit import gates

DFE = "https://pp-api.education.gov.uk"
TEST = {
    "endpoint": "test",
    "source": "anonymised",
    "api_base_url": f"{DFE}/children-in-social-care-data-receiver-test/1",
    "token_url": "https://login.example.org/token",
}
LIVE = {
    "endpoint": "live",
    "source": "identifiable",
    "la_code": "301",
    "api_base_url": f"{DFE}/children-in-social-care-data-receiver/1",
    "token_url": "https://login.example.org/token",
    "live_approver": "A. Director",
    "live_approved_on": dt.date(2026, 8, 1),
    "live_la_code": "301",
}


@pytest.mark.parametrize("good", [{}, {"source": "anonymised"}, TEST, LIVE])
def test_what_agrees_may_go(good: dict[str, Any]) -> None:
    decided = gates.decide(Settings(**good))
    gates.require(decided)
    assert decided.allowed
    assert decided.endpoint == good.get("endpoint", "simulated")
    assert decided.address
    assert not decided.reason


def test_the_sign_off_is_in_the_decision() -> None:
    decided = gates.decide(Settings(**LIVE))
    assert decided.sign_off == "A. Director, 1 August 2026, for authority 301"
    assert decided.host == "pp-api.education.gov.uk"


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        (TEST, {"source": "identifiable"}, "identifiable table"),
        (TEST, {"api_base_url": LIVE["api_base_url"]}, "live receiver"),
        (TEST, {"api_base_url": "http://example.org/1"}, "https"),
        (TEST, {"api_base_url": None}, "missing"),
        (TEST, {"token_url": None}, "missing"),
        (LIVE, {"source": "anonymised"}, "anonymised table"),
        (LIVE, {"api_base_url": TEST["api_base_url"]}, "test receiver"),
        (LIVE, {"live_approver": None}, "live_approver"),
        (LIVE, {"live_approver": "  "}, "live_approver"),
        (LIVE, {"live_approved_on": None}, "live_approved_on"),
        (LIVE, {"live_la_code": None}, "live_la_code"),
        (LIVE, {"live_la_code": "302"}, "another authority"),
        (LIVE, {"la_code": "000", "live_la_code": "000"}, "no authority has"),
        (LIVE, {"live_approved_on": dt.date(2999, 1, 1)}, "future"),
        (LIVE, {"token_url": "http://login.example.org/token"}, "https"),
        ({}, {"api_base_url": "https://example.org/1"}, "on this machine"),
        ({}, {"api_base_url": "http://127.0.0.1.example.org/1"}, "on this machine"),
    ],
)
def test_what_disagrees_is_refused(base: dict[str, Any], change: dict[str, Any], said: str) -> None:
    decided = gates.decide(Settings(**{**base, **change}))
    assert not decided.allowed
    assert not decided.address
    assert said in decided.reason
    with pytest.raises(GateError, match=said):
        gates.require(decided)
