"""Serve an ASGI application on a socket of this machine, until a signal or the end of its input."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from d2i_helpers.errors import SettingsError


class _Protocol(H11Protocol):
    """Shows the application its connection, so that a fault can cut it."""

    def connection_made(  # type: ignore[override] # a TCP server has no other transport
        self, transport: asyncio.Transport
    ) -> None:
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def serve_app(
    app: Any,
    listening: socket.socket,
    ready: Callable[[int], None],
    *,
    until: int | None = None,
) -> None:
    """Serve until a signal, or until the other end of the file descriptor ``until`` is closed.

    Args:
        ready: called with the port once requests are taken.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, lambda: ready(listening.getsockname()[1]))
    if until is not None:
        threading.Thread(target=_end_with, args=(until, server), daemon=True).start()
    server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to a port; 0 for any free one.

    Raises:
        SettingsError: the port is taken or not allowed.
    """
    # asyncio switches off the delay of small packets only where the protocol is named
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere the option lets two servers share a port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise SettingsError(
            f"Port {port} is taken or not allowed.", hint="Choose another `--port`; 0: any free."
        ) from None
    return listening


def _end_with(descriptor: int, server: uvicorn.Server) -> None:
    """Stop the server once the other end of its input is closed."""
    with contextlib.suppress(OSError):
        while os.read(descriptor, 4096):
            pass
    server.should_exit = True
