"""Fixtures of the tests of client and receiver; what they are made of is in `harness`."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from d2i_helpers.api import Client
from d2i_helpers.settings import ENV_PREFIX, Settings, load_settings
from tests.integration.api.harness import RawServer, Served, Switchboard, in_thread


@pytest.fixture
def api_settings(tmp_path, monkeypatch) -> Callable[..., Settings]:
    """Settings that wait for next to nothing."""
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)

    def make(**parameters: Any) -> Settings:
        quick = {
            "receiver_store": str(tmp_path / "receiver.sqlite"),
            "pause_seconds": 0,
            "attempts": 3,
            "wait_initial": 0.001,
            "wait_max": 0.01,
            "read_timeout_api": 10,
        }
        return load_settings(None, **{**quick, **parameters})

    return make


@pytest.fixture(scope="session")
def switchboard() -> Iterator[Switchboard]:
    """A server that is up for the whole session."""
    board = Switchboard()
    with in_thread(board.serve) as port:
        board.port = port
        yield board


@pytest.fixture
def start(api_settings, switchboard) -> Iterator[Callable[..., tuple[Client, Served]]]:
    """Start a receiver with faults and a client of it; both end with the test."""
    with ExitStack() as stack:

        def go(faults: dict[str, Any] | None = None, **parameters: Any) -> tuple[Client, Served]:
            settings = api_settings(**parameters)
            served = stack.enter_context(switchboard.playing(settings, faults))
            return stack.enter_context(Client(served.endpoint, settings)), served

        yield go


@pytest.fixture
def raw() -> Iterator[Callable[..., RawServer]]:
    """Start servers that answer in any way; they end with the test."""
    servers: list[RawServer] = []

    def go(
        answering: Callable[[str, bytes], bytes | None], context: ssl.SSLContext | None = None
    ) -> RawServer:
        servers.append(RawServer(answering, context))
        return servers[-1]

    yield go
    for server in servers:
        server.close()
