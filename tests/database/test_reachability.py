"""Which step to a SQL Server fails: its name, its port, its instance."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.exc import OperationalError

from d2i_helpers import database
from d2i_helpers.database import dialects, reachability
from d2i_helpers.database.messages import HOST_UNKNOWN, NO_INSTANCE, NOTHING_LISTENS, situation_of
from d2i_helpers.errors import DatabaseError


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A SQL Server Browser that knows the instance CMS only; to another name it says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        monkeypatch.setattr(reachability, "_BROWSER_PORT", server.getsockname()[1])
        monkeypatch.setattr(reachability, "SECONDS", 0.2)

        def answer() -> None:
            try:
                question, asker = server.recvfrom(4096)
            except OSError:
                return
            if question == b"\x04CMS\0":
                server.sendto(b"\x05\x10\0ServerName;SRV;InstanceName;CMS;tcp;1444;;", asker)

        thread = threading.Thread(target=answer)
        thread.start()
        yield b""
        thread.join()


def test_a_port_that_answers_is_no_fault(open_port: int) -> None:
    assert reachability.of_sql_server("127.0.0.1", open_port, None) is None


def test_a_closed_port(closed_port: int) -> None:
    assert reachability.of_sql_server("127.0.0.1", closed_port, None) is NOTHING_LISTENS


def test_an_unknown_name() -> None:
    assert reachability.of_sql_server("no-such-host.invalid", None, None) is HOST_UNKNOWN


@pytest.mark.parametrize(("instance", "expected"), [("CMS", None), ("OTHER", NO_INSTANCE)])
def test_an_instance_is_asked_for_at_the_browser(
    browser: bytes, instance: str, expected: object
) -> None:
    assert reachability.of_sql_server("127.0.0.1", None, instance) is expected


def test_a_port_needs_no_browser(open_port: int) -> None:
    assert reachability.of_sql_server("127.0.0.1", open_port, "OTHER") is None


def test_the_cause_replaces_the_drivers_time_out(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine("sqlite://")
    url = make_url(f"mssql+pyodbc://d2i@127.0.0.1:{closed_port}/HDM")
    monkeypatch.setattr(engine, "url", url)
    monkeypatch.setattr(dialects, "of", lambda _: dialects.named("mssql"))
    late = OperationalError("", {}, Exception("HYT00", "Login timeout expired (0)"))

    def refuse(*_: object) -> Dialect:
        raise late

    monkeypatch.setattr(engine, "raw_connection", refuse)
    monkeypatch.setattr(engine, "begin", refuse)
    with pytest.raises(DatabaseError, match="Nothing listens on that port") as caught:
        database.ping(engine)
    assert caught.value.hint == NOTHING_LISTENS.advice


def test_the_causes_are_those_of_the_table() -> None:
    """So that a driver that does tell them apart says the same sentence."""
    assert situation_of(Exception("could not translate host name")) is HOST_UNKNOWN
    assert situation_of(Exception("connection refused")) is NOTHING_LISTENS
    assert situation_of(Exception("error locating server/instance")) is NO_INSTANCE
