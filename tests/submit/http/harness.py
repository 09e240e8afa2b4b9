"""A client and a receiver (or any other server) that talk over real HTTP; no database is needed."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson
import requests

from d2i_helpers.demo import receiver
from d2i_helpers.demo.receiver import server as receiver_server
from d2i_helpers.demo.receiver import serving as receiver_process
from d2i_helpers.demo.receiver.app import create_app
from d2i_helpers.demo.receiver.faults import make_faults
from d2i_helpers.demo.receiver.store import Store
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings
from d2i_helpers.submit.endpoint import Endpoint, simulated_endpoint


def record(child: str, **details: Any) -> bytes:
    """A good record; ``sex="Q"`` makes it one that the receiver refuses."""
    known = {
        "first_name": "Zofia",
        "surname": "O'Brien-Szymańska",
        "date_of_birth": "2014-05-06",
        "sex": "F",
        "ethnicity": "WBRI",
        "postcode": "AB1 2CD",
        "purge": False,
    }
    child_details = {k: v for k, v in {**known, **details}.items() if v is not None}
    return orjson.dumps({"la_child_id": child, "purge": False, "child_details": child_details})


def batch(count: int, *, bad: tuple[int, ...] = ()) -> list[bytes]:
    """Records c0, c1, …; those at the positions ``bad`` break a rule."""
    return [record(f"c{n}", **({"sex": "Q"} if n in bad else {})) for n in range(count)]


class Served:
    """A receiver that is running in this process, and its admin view."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.address = endpoint.token_url.split("/simulated/")[0]

    def get(self, path: str) -> Any:
        answer = requests.get(self.address + path, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def documents(self) -> dict[str, Any]:
        return self.get("/admin/documents")

    def posts(self) -> list[dict[str, Any]]:
        """Requests to the children endpoint."""
        return [r for r in self.get("/admin/requests") if r["path"].endswith("/children")]

    def times_stored(self, child: str) -> int:
        return len(self.get(f"/admin/received/{child}"))


@contextmanager
def in_thread(work: Callable[[int, Callable[[int], None]], None]) -> Iterator[int]:
    """A server in a thread of this process; gives its port.

    ``work(until, ready)`` serves until the descriptor's other end is closed.
    """
    reading, writing = os.pipe()
    ports: queue.Queue[int | BaseException] = queue.Queue()

    def run() -> None:
        try:
            work(reading, ports.put)
        except BaseException as error:
            ports.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        port = ports.get(timeout=60)
        if isinstance(port, BaseException):
            raise port
        yield port
    finally:
        os.close(writing)
        thread.join(30)
        os.close(reading)


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """The receiver as `d2i receiver` serves it, but in a thread."""
    config = receiver.Config.of(settings)
    with in_thread(
        lambda until, ready: receiver_process._serve(config, ready, until=until)
    ) as port:
        yield Served(simulated_endpoint(f"http://127.0.0.1:{port}", settings.la_code))


class Switchboard:
    """One server for many tests: each puts its own application behind it."""

    def __init__(self) -> None:
        self.app: Any = None
        self.port = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def serve(self, until: int, ready: Callable[[int], None]) -> None:
        with receiver_server.listen("127.0.0.1", 0) as listening:
            receiver_server.serve_app(self, listening, ready, until=until)

    @contextmanager
    def playing(self, settings: Settings, faults: dict[str, Any] | None) -> Iterator[Served]:
        """A receiver with its own store, tokens and faults."""
        store = Store(settings.receiver_store)
        self.app = create_app(
            store,
            load_spec(),
            la_code=settings.la_code,
            merge=settings.receiver_merge,
            faults=make_faults(faults or {}),
        )
        try:
            yield Served(simulated_endpoint(f"http://127.0.0.1:{self.port}", settings.la_code))
        finally:
            store.close()


class Wall:
    """A clock whose sleeps take no time; notes them."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds


class RawServer:
    """Answers each connection's requests with bytes that a function gives; notes what came.

    ``answer(head, body)`` gives bytes, or pieces that are sent one after the other for as long as
    the client takes them; None cuts the connection.

    Args:
        context: speak TLS from the beginning.
        beyond: be a proxy that opens every tunnel, and speak TLS beyond it.
    """

    def __init__(
        self,
        answer: Callable[[str, bytes], bytes | Iterable[bytes] | None],
        context: ssl.SSLContext | None = None,
        beyond: ssl.SSLContext | None = None,
    ) -> None:
        self._answer, self._context, self._beyond = answer, context, beyond
        self.seen: list[tuple[str, bytes]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._talk, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        context = self._context or self._beyond
        if self._beyond:
            with connection.makefile("rb") as stream:
                self.seen.append((self._head(stream), b""))
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if context:
            try:
                connection = context.wrap_socket(connection, server_side=True)
            except OSError:  # the client does not trust us
                connection.close()
                return
            self._open.append(connection)
        with connection, connection.makefile("rb") as stream:
            try:
                while head := self._head(stream):
                    length = [
                        int(line.split(":")[1])
                        for line in head.lower().splitlines()
                        if line.startswith("content-length:")
                    ]
                    body = stream.read(length[0]) if length else b""
                    self.seen.append((head, body))
                    answer = self._answer(head, body)
                    if answer is None:
                        return
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        connection.sendall(piece)
            except OSError:
                return

    @staticmethod
    def _head(stream: Any) -> str:
        lines = []
        while (line := stream.readline()) not in (b"", b"\r\n"):
            lines.append(line.decode())
        return "".join(lines)

    def close_listening(self) -> None:
        """Refuse every new connection from now on."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def close(self) -> None:
        self.close_listening()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


def answer(status: int, body: bytes = b"", headers: str = "") -> bytes:
    """An HTTP answer; ``headers`` are whole lines, each with its line end."""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def token_answer(**changes: Any) -> bytes:
    """What a token endpoint says."""
    content = {"access_token": "raw-token", "token_type": "Bearer", "expires_in": 3600, **changes}
    return answer(200, orjson.dumps(content), "Content-Type: application/json\r\n")
