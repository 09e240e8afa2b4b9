"""What preflight asks of a receiver, over real HTTP: every way it can pass, warn and fail."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from d2i_helpers.document.validation import Validator
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import receiving
from d2i_helpers.preflight import stage as preflight
from d2i_helpers.preflight.checks import FAIL, PASS, SKIPPED, WARN, Check
from d2i_helpers.settings import Secrets
from d2i_helpers.submit.endpoint import (
    SIMULATED_CLIENT_ID,
    SIMULATED_CLIENT_SECRET,
    SIMULATED_SCOPE,
    SIMULATED_SUPPLIER_KEY,
)
from tests.submit.http.harness import Served, answer, token_answer

SPEC = load_spec()
SECRETS = Secrets(
    client_id=SIMULATED_CLIENT_ID,
    client_secret=SIMULATED_CLIENT_SECRET,
    supplier_key=SIMULATED_SUPPLIER_KEY,
)
LIVE = {
    "endpoint": "live",
    "source": "identifiable",
    "live_approver": "A. Director",
    "live_approved_on": "2026-01-01",
    "live_la_code": "000",
    "token_scope": SIMULATED_SCOPE,
}
Look = Callable[..., dict[str, Check]]


@pytest.fixture
def look(api_settings, switchboard) -> Iterator[Callable[..., tuple[dict[str, Check], Served]]]:
    """Preflight's checks of a receiver that plays faults, and that receiver."""
    with ExitStack() as stack:

        def go(faults: dict[str, Any] | None = None, **parameters: Any) -> Any:
            served = stack.enter_context(switchboard.playing(api_settings(), faults))
            live = parameters.get("endpoint") == "live"  # whose address has no `-test` in it
            addresses = {
                "api_base_url": served.address if live else served.endpoint.base_url,
                "token_url": served.endpoint.token_url,
            }
            settings = api_settings(**{**addresses, **parameters})
            found = receiving.checks(settings, SECRETS, SPEC)
            return {check.name: check for check in found}, served

        yield go


def status(found: dict[str, Check]) -> dict[str, str]:
    for check in found.values():  # what to do stands beside whatever did not pass
        assert bool(check.advice) or check.status not in (WARN, FAIL), check
    return {name: check.status for name, check in found.items()}


def test_a_token_is_enough_where_no_more_is_asked_for(look) -> None:
    found, served = look()
    assert status(found) == {
        "gate": PASS, "token": PASS, "receiver": SKIPPED, "receiver clock": PASS,
    }  # fmt: skip
    assert "good for" in found["token"].detail
    assert served.posts() == []


def test_an_empty_request_shows_that_the_receiver_answers(look) -> None:
    found, served = look(preflight_probe="empty")
    assert set(status(found).values()) == {PASS}
    assert "HTTP 204" in found["receiver"].detail
    (post,) = served.posts()
    assert (post["records"], post["stored"]) == (0, False)


def test_the_fake_record_is_stored_and_purged_again(look) -> None:
    assert Validator(SPEC).problems(receiving.FAKE_RECORD) == []
    found, served = look(preflight_probe="record")
    assert set(status(found).values()) == {PASS}
    assert served.times_stored(receiving.FAKE_CHILD) == 2
    assert served.documents() == {}


def test_a_purge_that_is_lost_warns_and_the_next_preflight_purges(look) -> None:
    found, served = look({"faults": [{"request": 3, "status": 400}]}, preflight_probe="record")
    assert status(found)["fake record"] == WARN
    assert receiving.FAKE_CHILD in found["fake record"].detail
    assert list(served.documents()) == [receiving.FAKE_CHILD]
    found, served = look(preflight_probe="record")  # the same store
    assert status(found)["fake record"] == PASS
    assert served.documents() == {}


def test_a_fake_record_that_may_be_stored_is_purged_too(look) -> None:
    fault = {"request": [2, 3, 4], "status": 500, "store": True}
    found, served = look({"faults": [fault]}, preflight_probe="record")
    assert status(found)["fake record"] == FAIL
    assert served.documents() == {}


def test_a_fake_record_that_is_refused_warns(look) -> None:
    fault = {"child": receiving.FAKE_CHILD, "refuse": "named"}
    found, _ = look({"faults": [fault]}, preflight_probe="record")
    assert status(found)["fake record"] == WARN
    assert "child_details.sex: not in code list" in found["fake record"].detail


def test_a_fake_record_that_is_blocked_fails(look) -> None:
    fault = {"child": receiving.FAKE_CHILD, "status": 403}
    found, _ = look({"faults": [fault]}, preflight_probe="record")
    assert (found["fake record"].status, found["fake record"].error_name) == (FAIL, "ReceiverError")


@pytest.mark.parametrize(
    ("play", "expected", "kind"),
    [
        ({"status": 400, "body": "what?"}, PASS, ""),
        ({"status": 200, "body": "[]"}, PASS, ""),
        ({"status": 200, "body": "<html>"}, WARN, ""),
        ({"status": 429}, WARN, ""),
        ({"status": 500}, WARN, ""),
        ({"status": 413}, WARN, ""),
        ({"status": 403}, FAIL, "ReceiverError"),
        ({"status": 404}, FAIL, "ReceiverError"),
        ({"status": 503}, FAIL, "ReceiverError"),
        ({"drop": "before"}, FAIL, "ReceiverError"),
        ({"status": 401}, FAIL, "TokenError"),
    ],
)
def test_what_each_answer_to_an_empty_request_means(look, play, expected, kind) -> None:
    found, served = look({"faults": [play]}, preflight_probe="record")
    assert status(found)["receiver"] == expected
    if kind:
        assert found["receiver"].error_name == kind
    if expected != PASS:
        assert "fake record" not in found  # nothing more is sent to it
    assert served.documents() == {}


def test_an_answer_that_comes_late_is_waited_for(look) -> None:
    found, served = look({"faults": [{"status": 503, "times": 2}]}, preflight_probe="empty")
    assert status(found)["receiver"] == PASS
    assert len(served.posts()) == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 401, "body": '{"error": "invalid_client"}'}, "secret is wrong"),
        ({"status": 503}, "HTTP 503"),
    ],
)
def test_a_token_that_cannot_be_had_fails_and_nothing_is_asked(look, fault, said) -> None:
    faults = {"faults": [{"endpoint": "token", **fault}]}
    found, served = look(faults, preflight_probe="record")
    assert status(found) == {"gate": PASS, "token": FAIL, "receiver": SKIPPED}
    assert found["token"].error_name == "TokenError"
    assert said in found["token"].detail
    assert served.posts() == []


def test_a_receiver_that_is_down_fails_as_a_run_would(api_settings) -> None:
    down = "http://127.0.0.1:9"
    settings = api_settings(api_base_url=f"{down}/1", token_url=f"{down}/token")
    found = receiving.checks(settings, Secrets(), SPEC)
    error = preflight.error_of(found)
    assert error is not None
    assert error.exit_code == 8


def test_secrets_that_are_missing_are_named(api_settings) -> None:
    settings = api_settings(
        endpoint="test",
        source="anonymised",
        api_base_url="https://receiver-test.example.org/1",
        token_url="https://login.example.org/token",
        token_scope="x/.default",
    )
    found = {check.name: check for check in receiving.checks(settings, Secrets(), SPEC)}
    assert (found["token"].status, found["token"].error_name) == (FAIL, "SettingsError")
    assert "D2I_SUPPLIER_KEY" in found["token"].detail


def test_a_closed_gate_fails_and_nothing_leaves(look) -> None:
    found, served = look(
        endpoint="test", source="identifiable", token_scope="x/.default", preflight_probe="record"
    )
    assert status(found) == {"gate": FAIL, "receiver": SKIPPED}
    assert preflight.error_of(list(found.values())).exit_code == 7
    assert served.get("/admin/requests") == []


def test_no_fake_record_goes_to_the_live_receiver_unless_it_is_asked_for_by_name(look) -> None:
    found, served = look(preflight_probe="record", **LIVE)
    assert status(found)["fake record"] == WARN
    assert status(found)["receiver"] == PASS
    assert [post["records"] for post in served.posts()] == [0]
    found, served = look(preflight_probe="record_even_live", **LIVE)
    assert status(found)["fake record"] == PASS
    assert served.documents() == {}


def test_a_dry_run_sends_nothing(look) -> None:
    found, served = look(preflight_probe="record", dry_run=True)
    assert status(found)["receiver"] == SKIPPED
    assert served.posts() == []


def test_the_receiver_that_a_run_starts_is_not_started_for_preflight(api_settings) -> None:
    found = receiving.checks(api_settings(), Secrets(), SPEC)
    assert [(check.name, check.status) for check in found] == [("gate", PASS), ("receiver", PASS)]


@pytest.mark.parametrize(("ahead", "expected"), [(5, PASS), (-600, WARN), (86400, FAIL)])
def test_the_clock_is_that_of_the_receivers_answers(raw, api_settings, ahead, expected) -> None:
    date = f"Date: {email.utils.formatdate(time.time() + ahead, usegmt=True)}\r\n"

    def respond(head: str, _: bytes) -> bytes:
        if "/token" in head.splitlines()[0]:
            return token_answer()
        return answer(204, headers=date)

    server = raw(respond)
    settings = api_settings(
        api_base_url=f"{server.address}/1",
        token_url=f"{server.address}/token",
        preflight_probe="empty",
    )
    found = {check.name: check for check in receiving.checks(settings, Secrets(), SPEC)}
    assert found["receiver clock"].status == expected
