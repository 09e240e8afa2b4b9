"""One POST at a time on the wire: proxies, certificates, pacing and attempts."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import requests
import stamina
from requests.auth import AuthBase

from d2i_helpers.errors import SettingsError
from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.submit.answers import Answer
from d2i_helpers.submit.endpoint import Endpoint
from d2i_helpers.submit.sessions import Session, exchange

_PIECE = 65_536  # bytes of a body that are put on the wire at a time


def tries(settings: Settings, wait_for: Callable[[Exception], bool | float]) -> Any:
    """The attempts at one request, with the waits between them that the parameters ask for.

    Args:
        wait_for: whether to try again after an error; seconds where the answer said how long.
    """
    return stamina.retry_context(
        on=wait_for,
        attempts=settings.attempts,
        timeout=None,
        wait_initial=settings.wait_initial,
        wait_max=settings.wait_max,
        wait_jitter=settings.wait_initial / 2,
    )


@dataclass(frozen=True)
class Pace:
    """How fast one process may send, so that all shards of an authority keep to its limits."""

    pause: float  # seconds between two requests
    in_flight: int  # requests under way at once

    @classmethod
    def of(cls, settings: Settings) -> Pace:
        """The authority's limits, or the part of them that falls to one shard of several.

        At least one request: where there are more shards than `max_in_flight`, their pauses, which
        are so many times as long, keep the rate.
        """
        shards = settings.part.of
        return cls(settings.pause_seconds * shards, max(1, settings.max_in_flight // shards))


@dataclass(frozen=True)
class Network:
    """How to reach the outside: the same for the token and for the documents."""

    options: Mapping[str, Any]  # of each request
    timeout: tuple[float, float]  # seconds to connect, and for the whole answer
    user_agent: str
    trust_env: bool  # proxy and CA variables of the environment
    pool: int

    @classmethod
    def of(cls, settings: Settings, secrets: Secrets | None, endpoint: Endpoint) -> Network:
        """The network as the profile describes it.

        Raises:
            SettingsError: the CA bundle is not there.
        """
        options: dict[str, Any] = {}
        # given with each request, because `requests` lets the environment win over a session
        if settings.ca_bundle:
            bundle = settings.path(settings.ca_bundle)
            if not bundle.exists():
                raise SettingsError(f"`ca_bundle`: there is no file {bundle.name}.")
            options["verify"] = str(bundle)
        if settings.proxy and settings.endpoint != "simulated":
            proxy = _with_login(settings.proxy, secrets)
            options["proxies"] = {"http": proxy, "https": proxy}
        return cls(
            options,
            (settings.connect_timeout_api, settings.read_timeout_api),
            settings.user_agent,
            not endpoint.on_loopback,
            Pace.of(settings).in_flight,
        )

    def session(self) -> Session:
        """A new session."""
        session = Session(self.pool)
        session.trust_env = self.trust_env
        session.headers["User-Agent"] = self.user_agent
        return session


def _with_login(proxy: str, secrets: Secrets | None) -> str:
    """The proxy's URL with the user and password from the secrets, where there are any."""
    if secrets is None or secrets.proxy_user is None:
        return proxy
    parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    login = quote(secrets.proxy_user.get_secret_value(), safe="")
    if secrets.proxy_password is not None:
        login += ":" + quote(secrets.proxy_password.get_secret_value(), safe="")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, f"{login}@{host}", parts.path, "", ""))


class Pacer:
    """Keeps the pause between two requests, over all threads of a client."""

    def __init__(
        self, pause: float, now: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._pause, self._now, self._sleep = pause, now, sleep
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleep until the next request may start."""
        with self._lock:
            now = self._now()
            start = max(now, self._free_at)
            self._free_at = start + self._pause
        if start > now:
            self._sleep(start - now)

    def hold(self, seconds: float) -> None:
        """No thread may start a request before so many seconds from now."""
        with self._lock:
            self._free_at = max(self._free_at, self._now() + seconds)

    def done(self) -> None:
        """A request has ended: the pause counts from here."""
        self.hold(self._pause)


class _Body:
    """A request body that knows whether any of it was taken to be put on the wire.

    A name that is not found, a refused connection, a TLS handshake or a proxy that fails all come
    before that: then the receiver has certainly stored nothing. Sending has a time limit too, as a
    receiver that takes a few bytes now and then would hold the run otherwise.
    """

    def __init__(self, content: bytes, seconds: float) -> None:
        self.content, self.taken, self._seconds = content, False, seconds

    def __len__(self) -> int:
        return len(self.content)

    def __iter__(self) -> Iterator[bytes]:
        self.taken = True
        ends_at = time.monotonic() + self._seconds
        for start in range(0, len(self.content), _PIECE):
            if time.monotonic() > ends_at:
                raise TimeoutError("sending took too long")
            yield self.content[start : start + _PIECE]


class _Bearer(AuthBase):
    """Sets the token; as an auth object, so that a ``.netrc`` file cannot replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Wire:
    """The pooled session that documents are posted through; safe to use from several threads."""

    def __init__(self, network: Network, endpoint: Endpoint) -> None:
        self._network, self._url = network, endpoint.children_url
        self._session = network.session()
        self._session.headers.update(
            {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "SupplierKey": endpoint.supplier_key,
            }
        )

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def post(self, content: bytes, token: str) -> Answer:
        """Post a JSON array once; never raises for what the network does."""
        body = _Body(content, self._network.timeout[1])
        answer = exchange(
            self._session,
            self._url,
            timeout=self._network.timeout,
            auth=_Bearer(token),
            data=body,
            **self._network.options,
        )
        return dataclasses.replace(answer, on_the_wire=body.taken)
