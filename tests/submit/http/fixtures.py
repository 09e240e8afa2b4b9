"""Fixtures of the tests of client and receiver; what they are made of is in `harness`."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from d2i_helpers.settings import ENV_PREFIX, Settings, load_settings
from d2i_helpers.submit.client import Client
from tests.submit.http.harness import RawServer, Served, Switchboard, in_thread


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
        answering: Callable[[str, bytes], bytes | Iterable[bytes] | None],
        context: ssl.SSLContext | None = None,
        beyond: ssl.SSLContext | None = None,
    ) -> RawServer:
        servers.append(RawServer(answering, context, beyond))
        return servers[-1]

    yield go
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed but itself."""
    x509 = pytest.importorskip("cryptography.x509")
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "d2i test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


@pytest.fixture(scope="session")
def tls(certificate: Path) -> ssl.SSLContext:
    """TLS of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context
