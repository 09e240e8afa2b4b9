"""A scan of everything written and printed by runs against receivers that quote what they got.

No secret, token or identity may stand in a log line at any level, on the console, in an error, in
the submission log's or a row's free text, in a run's counts or in preflight's words.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select

from d2i_helpers import database
from d2i_helpers.database.tables import submission_log
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.notebook import display
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.preflight import receiving
from d2i_helpers.settings import Secrets
from d2i_helpers.staging import Staged, Staging
from d2i_helpers.staging.load import write
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import Endpoint
from tests.submit.http.harness import answer, token_answer

SPEC = load_spec()
TABLE = "ssd_api_data_staging"
TOKEN = "canary-token-5f1b"
SECRETS = {
    "client_id": "canary-client-77",
    "client_secret": "canary-secret-88",
    "supplier_key": "canary-key-99",
    "proxy_user": "canary-proxy-user",
    "proxy_password": "canary-proxy-word",
}
CHILD = {
    "la_child_id": "CANARY4711",
    "purge": False,
    "child_details": {
        "unique_pupil_number": "A987654321098",
        "first_name": "Quirinia",
        "surname": "Canarywood",
        "date_of_birth": "2013-12-11",
        "postcode": "QX9 7ZJ",
        "sex": "F",
        "purge": False,
    },
}
WORDS = [TOKEN, *SECRETS.values(), "CANARY4711", "A987654321098", "Quirinia", "Canarywood",
         "2013-12-11", "QX9 7ZJ"]  # fmt: skip


def echo(status: int, head: str, body: bytes) -> bytes:
    """An answer that quotes the whole request: headers, secrets, the child."""
    quoted = orjson.dumps({"error": f"$[0].child_details: {body.decode()} {head}"})
    headers = f"x-request-id: {TOKEN} {'Quirinia'}\r\nRetry-After: 0\r\n"
    return answer(status, quoted, headers)


RECEIVERS: dict[str, Callable[[str, bytes], bytes | None]] = {
    **{str(status): lambda head, body, s=status: echo(s, head, body)
       for status in (200, 204, 400, 401, 403, 404, 413, 422, 429, 500, 503)},
    "drop": lambda head, body: None,
    "redirect": lambda head, body: answer(
        302, headers=f"Location: http://127.0.0.1:9/?{TOKEN}&{body[:60].hex()}\r\n"
    ),
    "not http": lambda head, body: b"Canarywood " + body,
}  # fmt: skip


def fill(engine: Engine) -> None:
    database.create_staging(engine, TABLE)
    with database.transaction(engine) as connection:
        document = to_text(CHILD)
        staged = Staged(CHILD["la_child_id"], None, document, content_hash(SPEC, CHILD))
        write(connection, Staging(engine, TABLE), [staged])


def texts(engine: Engine) -> str:
    """Free text that the run left in the database; ids and documents have columns of their own."""
    table = Staging(engine, TABLE).table
    with database.reading(engine) as connection:
        rows = connection.execute(select(table.c.api_response, table.c.submission_status)).all()
        log = connection.execute(
            select(submission_log.c.detail, submission_log.c.correlation_id,
                   submission_log.c.reference, submission_log.c.outcome)
        ).all()  # fmt: skip
    return repr([tuple(row) for row in (*rows, *log)])


@pytest.fixture
def spied(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger of every library at its lowest level."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "stamina", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def check(said: str) -> None:
    found = [word for word in WORDS if word in said]
    assert not found, f"{found} in {said[:2000]}"
    assert not re.search(r"Bearer \S", said)


# what is said does not hang on the database here, so the one that starts sooner will do
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", RECEIVERS)
def test_nothing_that_a_receiver_quotes_is_written_or_printed(
    raw, make_settings, engine: Engine, spied, capfd, name: str
) -> None:
    respond = RECEIVERS[name]
    seen: list[bytes] = []

    def serve(head: str, body: bytes) -> bytes | None:
        if "/token" in head.splitlines()[0]:
            return token_answer(access_token=TOKEN)
        seen.append(body)
        assert TOKEN in head  # the canaries do travel
        return respond(head, body)

    server = raw(serve)
    endpoint = Endpoint(
        base_url=server.address,
        token_url=f"{server.address}/token",
        token_scope="x/.default",
        la_code="000",
        **{name: SECRETS[name] for name in ("client_id", "client_secret", "supplier_key")},
    )
    settings = make_settings(
        attempts=2, wait_initial=0.001, wait_max=0.01, pause_seconds=0, read_timeout_api=0.5
    )
    fill(engine)
    delta_stage.run(engine, settings, SPEC)
    said: list[Any] = []
    try:
        result = submit.run(engine, settings, SPEC, endpoint)
        display.counts("Children by reason of refusal", result.reasons)
        display.closing("submit", result.counts)
        said += [result]
    except Exception as error:  # whatever it is, its text and all that hangs on it
        said += [error, error.__cause__, error.__context__, getattr(error, "hint", "")]
    assert any(b"Canarywood" in body for body in seen)
    printed = capfd.readouterr()
    check(repr(said) + spied.text + printed.out + printed.err + texts(engine))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("status", [200, 400, 401, 407, 500])
def test_nothing_that_a_token_endpoint_quotes_is_said_by_preflight(
    raw, make_settings, monkeypatch: pytest.MonkeyPatch, engine: Engine, spied, capfd, status: int
) -> None:
    server = raw(lambda head, body: echo(status, head, body))
    settings = make_settings(
        endpoint="test",
        source="anonymised",
        api_base_url=f"{server.address}/receiver-test/1",
        token_url=f"{server.address}/token",
        token_scope="x/.default",
        preflight_probe="record",
        attempts=1,
        wait_initial=0,
        wait_max=0,
    )
    found = receiving.checks(settings, Secrets(**SECRETS), SPEC)
    display.checks(found)
    assert server.seen  # the secrets did travel
    printed = capfd.readouterr()
    check(repr(found) + spied.text + printed.out + printed.err)


def test_the_scan_finds_what_is_there() -> None:
    for word in WORDS:
        with pytest.raises(AssertionError):
            check(f"some line with {word} in it")
    with pytest.raises(AssertionError):
        check("Authorization: Bearer abc")
