"""What `d2i check` says where encryption with a PostgreSQL fails: psycopg's own words, for real.

The server here speaks only the beginning of PostgreSQL's protocol: whether it encrypts, and TLS.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from d2i_helpers import database
from d2i_helpers.errors import DatabaseError

Serve = Callable[[ssl.SSLContext | None], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that offers TLS, or none; gives its port."""
    listening: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(tls: ssl.SSLContext | None) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def answer() -> None:
            with contextlib.suppress(OSError):  # closed at the end, or the client hung up
                while True:
                    client, _ = server.accept()
                    with client, contextlib.suppress(OSError):
                        client.settimeout(5)
                        client.recv(8)  # the request for TLS
                        client.sendall(b"S" if tls else b"N")
                        if tls:
                            with tls.wrap_socket(client, server_side=True) as encrypted:
                                encrypted.recv(1024)

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return int(server.getsockname()[1])

    yield start
    for server in listening:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join()


NO_TLS = "The server offers no encryption, and `sslmode` asks for it"
UNKNOWN = "The server's certificate is not trusted"
OTHER_NAME = "The server's certificate is of another name than the one that the server is called by"
NO_FILE = "The file with the CA's certificate is not there"


@pytest.mark.parametrize(
    ("offers", "host", "query", "said", "advice"),
    [
        (False, "127.0.0.1", "sslmode=require", NO_TLS, "ssl = on"),
        (False, "127.0.0.1", "sslmode=verify-full&sslrootcert={ca}", NO_TLS, "ssl = on"),
        (True, "127.0.0.1", "sslmode=verify-full&sslrootcert=system", UNKNOWN, "`sslrootcert`"),
        (True, "127.0.0.1", "sslmode=verify-ca&sslrootcert={other}", UNKNOWN, "`sslrootcert`"),
        (True, "localhost", "sslmode=verify-full&sslrootcert={ca}", OTHER_NAME, "Name the server"),
        (True, "127.0.0.1", "sslmode=verify-full&sslrootcert={none}", NO_FILE, "`sslrootcert`"),
        # trusted, so that the protocol goes on, which this server does not know
        (True, "127.0.0.1", "sslmode=verify-full&sslrootcert={ca}", None, ""),
        (True, "127.0.0.1", "sslmode=require", None, ""),
    ],
)
def test_each_way_in_which_encryption_fails_is_told_apart(
    serve: Serve, certificate: Path, tls: ssl.SSLContext, tmp_path: Path, make_settings: Callable,
    offers: bool, host: str, query: str, said: str | None, advice: str,
) -> None:  # fmt: skip
    port = serve(tls if offers else None)
    files = {"ca": certificate / "cert.pem", "other": another_ca(tmp_path), "none": tmp_path / "no"}
    address = f"postgresql+psycopg://d2i@{host}:{port}/ssd?{query.format(**files)}"
    engine = database.open_database(make_settings(database_url=address))
    with pytest.raises(DatabaseError) as caught:
        database.ping(engine)
    engine.dispose()
    sentences = (NO_TLS, UNKNOWN, OTHER_NAME, NO_FILE)
    found = [sentence for sentence in sentences if caught.value.message.startswith(sentence)]
    assert found == ([said] if said else [])
    assert advice in str(caught.value.hint)
    assert str(tmp_path) not in str(caught.value)


def another_ca(folder: Path) -> Path:
    """A file with a CA that has nothing to do with the server."""
    import certifi

    first = Path(certifi.where()).read_text(encoding="ascii").partition("-----END CERT")
    path = folder / "other.pem"
    begin = first[0][first[0].index("-----BEGIN") :]
    path.write_text(f"{begin}-----END CERTIFICATE-----\n", encoding="ascii")
    return path


def test_a_server_that_wants_encryption_is_told_from_one_that_accepts_nobody() -> None:
    from d2i_helpers.database.messages import situation_of

    entry = 'FATAL: no pg_hba.conf entry for host "10.0.0.9", user "d2i", database "ssd"'

    def meaning(*attempts: str) -> Any:
        found = situation_of(Exception("\n".join(f"{entry}, {how}" for how in attempts)))
        return found and found.meaning

    assert "no unencrypted connection" in meaning("no encryption")
    accepts_nobody = "The server accepts no connection from this machine, user and database"
    assert meaning("SSL encryption", "no encryption") == accepts_nobody
    assert meaning("SSL encryption") == accepts_nobody
