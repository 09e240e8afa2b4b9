"""Checks of the receiver: gate, token, an answer, and its clock.

The parameter `preflight_probe` says how far these checks go. An empty array holds no record, so the
receiver cannot store anything of it. The fake record has a fixed id and is purged at once. If that
purge is lost, the next preflight purges the same id.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from d2i_helpers import delta
from d2i_helpers.demo.receiver.faults import read_faults
from d2i_helpers.document.validation import Validator
from d2i_helpers.errors import D2IError
from d2i_helpers.payload_spec import PURGE, Document, Spec
from d2i_helpers.preflight.checks import FAIL, PASS, SKIPPED, WARN, Check, failed
from d2i_helpers.preflight.machine import clock
from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import gates
from d2i_helpers.submit.client import Client
from d2i_helpers.submit.endpoint import endpoint_for
from d2i_helpers.submit.outcomes import Kind, Verdict
from d2i_helpers.submit.results import BatchResult

FAKE_CHILD = "d2i-preflight"  # no authority gives such an id
FAKE_RECORD: Document = {
    "la_child_id": FAKE_CHILD,
    "mis_child_id": FAKE_CHILD,
    PURGE: False,
    "child_details": {
        "unique_pupil_number_unknown_reason": "UN1",
        "first_name": "Preflight",
        "surname": "Fictional",
        "date_of_birth": "2015-01-01",
        "sex": "U",
        "ethnicity": "NOBT",
        "disabilities": ["NONE"],
        PURGE: False,
    },
}
_ANSWERED = frozenset({Kind.EMPTY, Kind.ACCEPTED, Kind.NAMED, Kind.UNNAMED})  # to an empty request
_ODD = frozenset({Kind.BUSY, Kind.CRASHED, Kind.UNREADABLE, Kind.TOO_LARGE})
_LOOK = "Try again later; docs/api.md says what each answer means."


def checks(settings: Settings, secrets: Secrets, spec: Spec | None) -> list[Check]:
    """Check gate, token, answer and clock. Behind a closed gate the receiver is not asked."""
    decision = gates.decide(settings)
    if not decision.allowed:
        error = decision.error()
        return [failed("gate", error), Check("receiver", SKIPPED, "the gate is closed")]
    passed = [Check("gate", PASS, f"the {settings.source} table may go to {decision.address}")]
    if settings.endpoint == "simulated" and not (settings.api_base_url or settings.receiver_port):
        return [*passed, _own_receiver(settings)]
    try:
        endpoint = endpoint_for(settings, secrets)
        client = Client(endpoint, settings, secrets)
    except D2IError as error:
        return [*passed, failed("token", error), _not_asked("there is no token")]
    with client:
        return [*passed, *_ask(client, settings, spec)]


def _own_receiver(settings: Settings) -> Check:
    """Check the file of faults of the simulated receiver that a run starts."""
    try:
        read_faults(settings.path(settings.receiver_faults) if settings.receiver_faults else None)
    except D2IError as error:
        return failed("receiver", error)
    return Check("receiver", PASS, "simulated, started on this machine when it is needed")


def _ask(client: Client, settings: Settings, spec: Spec | None) -> Iterator[Check]:
    try:
        left = client.check_token()
    except D2IError as error:
        yield failed("token", error)
        yield _not_asked("there is no token")
        return
    lifetime = f", good for {left / 60:,.0f} minutes" if left < float("inf") else ""
    yield Check("token", PASS, f"{settings.endpoint}: a token was given{lifetime}")
    yield from _probe(client, settings, spec)
    if client.clock_skew is not None:
        yield clock("receiver clock", client.clock_skew, "the receiver")


def _not_asked(why: str) -> Check:
    return Check("receiver", SKIPPED, f"not asked: {why}")


def _probe(client: Client, settings: Settings, spec: Spec | None) -> Iterator[Check]:
    wanted = settings.preflight_probe
    if wanted == "token":
        yield _not_asked("`preflight_probe` stops at the token")
        return
    if settings.dry_run:
        yield _not_asked("a dry run sends nothing")
        return
    if wanted == "record" and settings.endpoint == "live":
        yield Check(
            "fake record",
            WARN,
            "not sent: no fake record goes to the live receiver",
            "Set `preflight_probe: empty` in this profile; `record_even_live` allows it.",
        )
        wanted = "empty"
    try:
        answered = _judged(client.try_empty())
    except D2IError as error:
        yield failed("receiver", error)
        return
    yield answered
    if wanted != "empty" and answered.status == PASS and spec is not None:
        yield _fake_record(client, spec)


def _judged(verdict: Verdict) -> Check:
    """Judge the answer to an array without a record."""
    said = verdict.detail or "HTTP 200"
    if verdict.kind in _ANSWERED:
        return Check("receiver", PASS, f"it answers an empty request as it should ({said})")
    if verdict.kind in _ODD:
        return Check("receiver", WARN, f"it answers an empty request with {said}", _LOOK)
    return Check("receiver", FAIL, said, verdict.hint or _LOOK, "ReceiverError")


def _fake_record(client: Client, spec: Spec) -> Check:
    """Have one fake record stored and purged again."""
    name = "fake record"
    problems = Validator(spec).problems(FAKE_RECORD)
    if problems:
        said = "not sent: this specification wants more of a record than the fake one has"
        return Check(name, WARN, said, "Set `preflight_probe: empty`.")
    stored = client.send([orjson.dumps(FAKE_RECORD)])
    outcome = stored.results[0].outcome
    if outcome in (Outcome.UNSENT, Outcome.FAILED):
        return _refused(name, stored)
    if outcome is Outcome.REFUSED:
        said = f"the receiver refuses it ({stored.results[0].detail})"
        advice = "Ask the DfE whether the schema has changed; documents may be refused alike."
        return Check(name, WARN, said, advice)
    purge = delta.delta(spec, None, FAKE_RECORD)
    purged = client.send([orjson.dumps(purge)])
    if purged.results[0].outcome is not Outcome.ACKNOWLEDGED:
        said = f"it may still be held as {FAKE_CHILD} ({purged.results[0].detail})"
        return Check(name, WARN, said, "The next preflight purges it again.")
    if outcome is not Outcome.ACKNOWLEDGED:
        return _refused(name, stored)
    return Check(name, PASS, "stored with a reference, and purged again")


def _refused(name: str, result: BatchResult) -> Check:
    if result.stop is not None:
        return failed(name, result.stop)
    return Check(name, FAIL, result.results[0].detail, _LOOK, "ReceiverError")
