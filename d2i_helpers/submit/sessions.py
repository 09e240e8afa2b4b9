"""HTTP sessions that limit the time and size of an answer, and report failures in fixed words.

The libraries count a time-out anew with every byte that comes, read headers and redirects of any
length, and unpack what is compressed without a limit. Here a whole answer (status line,
informational answers, headers, body) has to come within the read time-out, and has a size limit on
the wire and another one when it is unpacked. The client, the token and the webhook use this.

No exception of the libraries gets out of `exchange`: each holds the request, token and body too.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import requests
import urllib3.exceptions as low
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.poolmanager import ProxyManager

from d2i_helpers.submit.answers import Answer

MAX_ANSWER_BYTES = 10_000_000  # unpacked; 100 receipts are 6 KB: more than this is no answer
_MAX_WIRE_BYTES = MAX_ANSWER_BYTES + 1_000_000  # with headers, and what encodes a body in chunks

NOT_TRUSTED = "the certificate is not trusted"
PROXY_LOGIN = "the proxy wants a login"
PROXY_WINDOWS = "the proxy takes only Windows logins (NTLM, Negotiate)"
PROXY_OTHER = "the proxy takes no Basic login"
TIMED_OUT = "time-out waiting for an answer"
TOO_LONG = "the answer is too long"
_WAYS_ROUND = (
    "This program logs in with Basic only. Ways round it: ask IT to let this machine reach the "
    "addresses of the API and of the token without a login, or to allow Basic for a service "
    "account; or run a proxy on this machine that logs in for it, such as px or cntlm, and give "
    "its address as `proxy`."
)
#: what to do about a problem that no repeat can heal
PROBLEM_HINTS = {
    NOT_TRUSTED: "Where a proxy opens encrypted traffic, give its CA with `ca_bundle`.",
    PROXY_LOGIN: "Set D2I_PROXY_USER and D2I_PROXY_PASSWORD; where they are set, the proxy does "
    "not accept them.",
    PROXY_WINDOWS: _WAYS_ROUND,
    PROXY_OTHER: _WAYS_ROUND,
}
# all that a request can end with; ValueError: an address or a header that cannot be written
_FAILURES = (
    requests.RequestException, low.HTTPError, http.client.HTTPException, OSError, ValueError,
)  # fmt: skip
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z]+)(?=\s|,|$)")


class _TooLong(OSError):
    """More bytes came than an answer may have."""


class _NoTunnel(OSError):
    """A proxy wants a login before it connects; with its header `Proxy-Authenticate`."""

    def __init__(self, offered: str) -> None:
        super().__init__("no tunnel")
        self.offered = offered


# ------------------------------------------------------------------------------ one answer
class _Ending(io.RawIOBase):
    """What comes on a socket, for a limited time and up to a limited number of bytes."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._ends_at = time.monotonic() + seconds
        self._left = _MAX_WIRE_BYTES

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Replaces the socket's own `makefile`, which `http.client` calls."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = self._ends_at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError(TIMED_OUT)
        self._connection.settimeout(seconds)
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise _TooLong(TOO_LONG)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that ends; informational ones before it are skipped, whatever their number."""

    def __init__(self, connection: socket.socket, seconds: float, **options: Any) -> None:
        self._of_tunnel = True  # until `begin` is called, which only a proxy's answer never is
        super().__init__(_Ending(connection, seconds), **options)  # type: ignore[arg-type]

    def begin(self) -> None:
        self._of_tunnel = False
        super().begin()  # the library skips 100 itself
        while 100 < self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]
            super().begin()

    def _read_status(self) -> tuple[str, int, str]:
        line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        if self._of_tunnel and line[1] == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            headers = http.client.parse_headers(self.fp)
            raise _NoTunnel(", ".join(headers.get_all("proxy-authenticate", [])))
        return line


class _EndingConnection:
    """Gives a connection of urllib3 answers that end within its time-out."""

    timeout: float | None

    def response_class(self, connection: socket.socket, **options: Any) -> _Response:
        """Called by `http.client` when the request is out: for an answer, or that of a proxy."""
        return _Response(connection, self.timeout or 60.0, **options)


class _HTTPConnection(_EndingConnection, HTTPConnection):  # type: ignore[misc]
    pass


class _HTTPSConnection(_EndingConnection, HTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


# ---------------------------------------------------------------------------------- sessions
class _Adapter(HTTPAdapter):
    """Connections whose answers end; repeats are this project's own, never those of the pool."""

    poolmanager: PoolManager

    def __init__(self, pool: int) -> None:
        super().__init__(pool_connections=2, pool_maxsize=pool, max_retries=0)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(proxy, **options)
        if type(manager) is ProxyManager:  # not that of SOCKS, which has connections of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager


class Session(requests.Session):
    """A session whose answers end; it follows no redirect."""

    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter(pool))

    def get_redirect_target(self, _: requests.Response) -> str | None:
        """None: else the library reads the body of a redirect whole, even of one not followed."""
        return None


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """A login that adds nothing; without it a ``.netrc`` file would add one."""
    return request


def exchange(
    session: Session, url: str, *, timeout: tuple[float, float], auth: Any = None, **options: Any
) -> Answer:
    """Post once and read the answer; never raises for what the network or the other end does.

    Args:
        timeout: seconds to connect, and seconds for the whole answer once the request is out.
        auth: sets the login, as for `requests`.
        options: further ones of `requests.Session.post`.
    """
    started = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    clock = time.perf_counter()
    status, headers, body, problem = None, None, b"", ""
    try:
        with session.post(
            url,
            auth=auth or _as_it_is,
            timeout=timeout,
            stream=True,
            allow_redirects=False,  # a redirected POST loses its body, or takes the token along
            **options,
        ) as response:
            status, headers = response.status_code, dict(response.headers.lower_items())
            body, problem = _read(response)
    except _FAILURES as error:
        problem = problem_of(error)
    if status == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        problem = proxy_problem((headers or {}).get("proxy-authenticate", ""))
    return Answer(
        status=status,
        body=body,
        headers=headers,
        problem=problem,
        started_at=started,
        milliseconds=round((time.perf_counter() - clock) * 1000),
    )


def _read(response: requests.Response) -> tuple[bytes, str]:
    """The answer's body, unpacked, and what was wrong with it."""
    body = bytearray()
    try:
        for chunk in response.iter_content(65536):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                return b"", TOO_LONG
    except _FAILURES as error:
        causes = list(_causes(error))
        if any(isinstance(cause, _TooLong) for cause in causes):
            return b"", TOO_LONG
        late = (TimeoutError, low.ReadTimeoutError)
        return b"", (
            "the answer took too long"
            if any(isinstance(cause, late) for cause in causes)
            else "the answer broke off"
        )
    return bytes(body), ""


# --------------------------------------------------------------------------------- problems
_PROBLEMS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (_TooLong, TOO_LONG),
    ((requests.exceptions.ProxyError, low.ProxyError), "the proxy cannot be reached"),
    (low.NameResolutionError, "the host's name cannot be found"),
    (low.NewConnectionError, "the connection was refused, or there is no way there"),
    ((requests.exceptions.ConnectTimeout, low.ConnectTimeoutError), "time-out while connecting"),
    ((requests.ReadTimeout, low.ReadTimeoutError, TimeoutError), TIMED_OUT),
    ((requests.exceptions.SSLError, ssl.SSLError), "the encrypted connection failed"),
    (
        (
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidSchema,
            requests.exceptions.InvalidURL,
            low.LocationValueError,
        ),
        "an address is not one of http or https",
    ),
    (ValueError, "the address or a header of the request cannot be used"),
)


def problem_of(error: BaseException) -> str:
    """Why there was no answer, in fixed words: the library's text may hold what was sent."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NOT_TRUSTED
        if isinstance(cause, _NoTunnel):
            return proxy_problem(cause.offered)
        tunnel = _TUNNEL.search(str(cause)) if isinstance(cause, OSError) else None
        if tunnel:
            return f"the proxy refused the connection ({tunnel[1]})"
    for error_class, words in _PROBLEMS:
        if any(isinstance(cause, error_class) for cause in causes):
            return words
    return "the connection broke"


def proxy_problem(offered: str) -> str:
    """What a proxy that answers with 407 asks for.

    Args:
        offered: its header `Proxy-Authenticate`.
    """
    schemes = {word.lower() for word in _SCHEME.findall(re.sub(r'"[^"]*"', "", offered))}
    if not schemes or "basic" in schemes:
        return PROXY_LOGIN
    return PROXY_WINDOWS if schemes & {"ntlm", "negotiate", "kerberos"} else PROXY_OTHER


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception with everything that it wraps, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [*cause.args, cause.__cause__, cause.__context__]
        with contextlib.suppress(AttributeError):
            waiting.append(cause.reason)  # type: ignore[attr-defined]
