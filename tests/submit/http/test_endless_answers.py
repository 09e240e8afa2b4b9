"""Answers without an end, in time or in size: for documents, for the token and for the webhook.

Without a limit these tests would not fail but hang, or take gigabytes; the time-out of a test then
ends them.
"""

from __future__ import annotations

import functools
import gzip
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from d2i_helpers.errors import TokenError
from d2i_helpers.runs import ledger, records, summary
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.settings import Secrets
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit.client import Client
from d2i_helpers.submit.endpoint import Endpoint, simulated_endpoint
from d2i_helpers.submit.sessions import MAX_ANSWER_BYTES
from d2i_helpers.submit.transport import Network, Wire
from tests.submit.http.harness import answer, batch, token_answer

OK = b"HTTP/1.1 200 OK\r\n"
SECONDS = 0.25  # the read time-out
RECEIPT = "2026-08-10_02:15:07.31_0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70.json"
RECEIPTS = f'["{RECEIPT}", "{RECEIPT}"]'.encode()


def drip(beginning: bytes, drop: bytes) -> Iterator[bytes]:
    """A beginning, and then a little now and again, far within any time-out of one read."""
    yield beginning
    while True:
        time.sleep(0.01)
        yield drop


def flood(beginning: bytes, wave: bytes) -> Iterator[bytes]:
    """A beginning, and then more and more as fast as it is taken."""
    yield beginning
    while True:
        yield wave * (65_536 // len(wave) + 1)


ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "status line": lambda: drip(b"HTTP/1.1 200 ", b"O"),
    "header": lambda: drip(OK + b"X-Slow: ", b"a"),
    "headers": lambda: drip(OK, b"X: 1\r\n"),
    "continue": lambda: drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early hints": lambda: drip(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "flood of continue": lambda: flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "flood of processing": lambda: flood(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "body": lambda: drip(OK + b"Content-Length: 999\r\n\r\n[", b" "),
    "body until the end": lambda: drip(OK + b"Connection: close\r\n\r\n[", b" "),
    "chunks": lambda: drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "length of a chunk": lambda: drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": lambda: drip(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n"),
    "flood of body": lambda: flood(OK + b"Connection: close\r\n\r\n[", b" "),
    "flood of chunks": lambda: flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "page of an error": lambda: drip(b"HTTP/1.1 400 X\r\nContent-Length: 999\r\n\r\n[", b" "),
    "page of a redirect": lambda: flood(
        b"HTTP/1.1 302 X\r\nLocation: /x\r\nConnection: close\r\n\r\n", b"<p>"
    ),
}


@functools.cache
def compressed(encoding: str) -> bytes:
    """Zeros of twelve times the limit, small on the wire."""
    zeros = bytes(12 * MAX_ANSWER_BYTES)
    if encoding == "deflate":
        return zlib.compress(zeros)
    once = gzip.compress(zeros, 6)
    return gzip.compress(once) if "," in encoding else once


def bomb(encoding: str, status: int, form: str) -> bytes:
    body = compressed(encoding)
    head = f"HTTP/1.1 {status} X\r\nContent-Encoding: {encoding}\r\nLocation: /x\r\n"
    if form == "chunked":
        whole = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + whole
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


BOMBS = [
    ("gzip", 200, "whole"),
    ("gzip", 200, "chunked"),
    ("deflate", 200, "whole"),
    ("gzip, gzip", 200, "whole"),
    ("gzip", 400, "whole"),
    ("gzip", 302, "whole"),
]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """The test may not take more than a few times the largest answer."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * MAX_ANSWER_BYTES


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    run_id = "20260810T020000-00aa"
    stage = StageRecord("submit", "04_submit.ipynb", "completed", counts={"sent": 3})
    made = RunRecord(tmp_path / run_id, run_id, "demo", {"phase": "delta"}, {}, [stage])
    records.create(made)
    ledger.append(tmp_path, ledger.STARTED, made)
    return made


def send(make: Callable[[], Any], raw: Any, api_settings: Any, seconds: float = SECONDS) -> Any:
    """Two records to a server that gives a token and then that answer."""
    server = raw(lambda head, body: token_answer() if "/token" in head else make())
    settings = api_settings(read_timeout_api=seconds, attempts=1)
    with Client(simulated_endpoint(server.address, "000"), settings) as client:
        return client.send(batch(2))


@pytest.mark.parametrize("name", ENDLESS)
def test_documents(raw, api_settings, name):
    result = send(ENDLESS[name], raw, api_settings)
    decided = {"page of an error": Outcome.REFUSED}
    expected = decided.get(name, Outcome.UNKNOWN)
    assert [one.outcome for one in result.results] == [expected] * 2


@pytest.mark.parametrize("name", [name for name in ENDLESS if name.startswith("flood")])
def test_a_flood_ends_by_its_size(raw, api_settings, name):
    """Long before the time is up; else it would fill the memory until then."""
    result = send(ENDLESS[name], raw, api_settings, seconds=600)
    assert "the answer is too long" in result.results[0].detail


@pytest.mark.parametrize("name", ENDLESS)
def test_a_token(raw, api_settings, name):
    server = raw(lambda head, body: ENDLESS[name]())
    settings = api_settings(read_timeout_api=SECONDS, attempts=1)
    with (
        Client(simulated_endpoint(server.address, "000"), settings) as client,
        pytest.raises(TokenError),
    ):
        client.check_token()
    assert len(server.seen) == 1


@pytest.mark.parametrize("name", ENDLESS)
def test_a_webhook(raw, record, monkeypatch, name):
    monkeypatch.setattr(summary, "WEBHOOK_SECONDS", SECONDS)
    server = raw(lambda head, body: ENDLESS[name]())
    said = summary.post(f"{server.address}/key", record, None, None)
    taken = ("body", "chunks", "length of a chunk", "trailers", "flood of body", "flood of chunks")
    if name.startswith(taken):  # its status had come
        assert said is None
    else:
        assert said is not None
        assert said.startswith("The webhook ")


@pytest.mark.parametrize(("encoding", "status", "form"), BOMBS)
def test_a_bomb_in_the_place_of_receipts(raw, api_settings, encoding, status, form, request):
    content = bomb(encoding, status, form)
    request.getfixturevalue("little_memory")
    result = send(lambda: content, raw, api_settings)
    if status == 200:
        assert "too long" in result.results[0].detail
    expected = {200: Outcome.UNKNOWN, 302: Outcome.UNKNOWN, 400: Outcome.REFUSED}[status]
    assert [one.outcome for one in result.results] == [expected] * 2


@pytest.mark.parametrize(("encoding", "status", "form"), BOMBS)
def test_a_bomb_in_the_place_of_a_token(raw, api_settings, encoding, status, form, request):
    content = bomb(encoding, status, form)
    request.getfixturevalue("little_memory")
    server = raw(lambda head, body: content)
    with (
        Client(simulated_endpoint(server.address, "000"), api_settings(attempts=1)) as client,
        pytest.raises(TokenError),
    ):
        client.check_token()


@pytest.mark.parametrize(("encoding", "status", "form"), BOMBS)
def test_a_bomb_from_a_webhook(raw, record, encoding, status, form, request):
    content = bomb(encoding, status, form)
    request.getfixturevalue("little_memory")
    server = raw(lambda head, body: content)
    said = summary.post(f"{server.address}/key", record, None, None)
    assert said == (None if status == 200 else f"The webhook answered {status}.")


@pytest.mark.parametrize("way", ["encrypted", "tunnel", "proxy"])
@pytest.mark.parametrize("name", ["status line", "header", "flood of continue", "body", "chunks"])
def test_whatever_way_it_comes(raw, api_settings, certificate, tls: ssl.SSLContext, way, name):
    tokens = raw(lambda head, body: token_answer())
    settings = {"ca_bundle": str(certificate / "cert.pem"), "read_timeout_api": SECONDS}

    def answering(head: str, body: bytes) -> Any:
        return token_answer() if "/token" in head.splitlines()[0] else ENDLESS[name]()

    if way == "encrypted":
        server = raw(answering, tls)
        urls = (f"https://127.0.0.1:{server.port}", tokens.address + "/token")
    elif way == "tunnel":
        server = raw(answering, beyond=tls)
        urls = ("https://127.0.0.1:1", "https://127.0.0.1:1/token")
        settings["proxy"] = server.address
    else:
        server = raw(answering)
        urls = ("http://api.invalid/1", "http://login.invalid/token")
        settings["proxy"] = server.address
    endpoint = Endpoint(*urls, "x/.default", "000", "i", "s", "k")
    settings = api_settings(endpoint="test", attempts=1, **settings)
    with Client(endpoint, settings, Secrets()) as client:
        result = client.send(batch(2))
    assert [one.outcome for one in result.results] == [Outcome.UNKNOWN] * 2
    assert result.stop is None


@pytest.mark.parametrize("name", ["status line", "header", "flood of body"])
def test_a_proxy_that_never_opens_its_tunnel(raw, api_settings, name):
    """Nothing of the documents was sent by then."""
    proxy = raw(lambda head, body: ENDLESS[name]() if "CONNECT" in head else token_answer())
    endpoint = Endpoint(
        "https://api.invalid", "http://login.invalid/token", "x/.default", "000", "i", "s", "k"
    )
    settings = api_settings(
        endpoint="test", proxy=proxy.address, connect_timeout_api=SECONDS, attempts=1
    )
    with Client(endpoint, settings, Secrets()) as client:
        result = client.send(batch(2))
    assert [one.outcome for one in result.results] == [Outcome.UNSENT] * 2
    assert result.stop is not None


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_the_answer_after_informational_ones_is_the_answer(raw, api_settings, status):
    before = f"HTTP/1.1 {status} X\r\nLink: x\r\n\r\n".encode() * 3
    result = send(lambda: before + answer(200, RECEIPTS), raw, api_settings)
    assert [one.outcome for one in result.results] == [Outcome.ACKNOWLEDGED] * 2


def test_an_answer_without_any_final_status_is_unknown(raw, api_settings):
    """A switch of protocols was never asked for; what it means for the records, nobody knows."""
    result = send(lambda: b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n", raw, api_settings)
    assert [one.outcome for one in result.results] == [Outcome.UNKNOWN] * 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_connection_is_used_again_after_an_answer_that_ended(raw, api_settings, count):
    """The limit is of one answer, not of a connection."""
    server = raw(lambda head, body: token_answer() if "/token" in head else answer(200, RECEIPTS))
    with Client(
        simulated_endpoint(server.address, "000"), api_settings(read_timeout_api=SECONDS)
    ) as client:
        for _ in range(count):
            assert client.send(batch(2)).results[0].outcome is Outcome.ACKNOWLEDGED
            time.sleep(2 * SECONDS / 3)
    assert len(server.seen) == 1 + count


def test_a_receiver_that_takes_the_documents_a_few_bytes_at_a_time(api_settings):
    """Its window is small and it hardly reads: sending ends as well."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def sip() -> None:
            connection, _ = listening.accept()
            with connection:
                while not done.is_set() and connection.recv(512):
                    time.sleep(0.01)

        thread = threading.Thread(target=sip)
        thread.start()
        endpoint = simulated_endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}", "000")
        settings = api_settings(read_timeout_api=SECONDS, connect_timeout_api=2)
        wire = Wire(Network.of(settings, None, endpoint), endpoint)
        found = wire.post(b"[" + b" " * 60_000_000 + b"]", "token")
        wire.close()
        done.set()
        thread.join()
    assert found.status is None
    assert found.on_the_wire
