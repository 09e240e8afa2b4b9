"""One POST at a time on the wire: sessions, proxies, certificates, pacing, and what came back.

Nothing here raises for what the network does: `Wire.post` always gives an `Answer`. No exception of
`requests` gets out, because each holds the request with its token and its body.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import requests
import stamina
import urllib3.exceptions as low
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from d2i_helpers.api.answers import Answer
from d2i_helpers.endpoint import Endpoint
from d2i_helpers.errors import SettingsError
from d2i_helpers.settings import Secrets, Settings

MAX_ANSWER_BYTES = 10_000_000  # 100 references are 6 KB; more than this is no answer of the API
NOT_TRUSTED = "the certificate is not trusted"
PROXY_LOGIN = "the proxy wants a login"
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


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
class Network:
    """How to reach the outside: the same for the token and for the documents."""

    options: Mapping[str, Any]  # of each request
    user_agent: str
    trust_env: bool  # proxy and CA variables of the environment
    pool: int

    @classmethod
    def of(cls, settings: Settings, secrets: Secrets | None, endpoint: Endpoint) -> Network:
        """The network as the profile describes it.

        Raises:
            SettingsError: the CA bundle is not there.
        """
        options: dict[str, Any] = {
            "timeout": (settings.connect_timeout_api, settings.read_timeout_api),
            "allow_redirects": False,  # a redirected POST loses its body, or takes the token along
        }
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
            options, settings.user_agent, not endpoint.on_loopback, max(1, settings.max_in_flight)
        )

    def prepare(self, session: requests.Session) -> None:
        """Set up a session; repeats are this project's own, never those of the pool below."""
        session.trust_env = self.trust_env
        session.headers["User-Agent"] = self.user_agent
        for scheme in ("https://", "http://"):
            session.mount(
                scheme, HTTPAdapter(pool_connections=2, pool_maxsize=self.pool, max_retries=0)
            )


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
    before that: then the receiver has certainly stored nothing.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.taken = content, False

    def __len__(self) -> int:
        return len(self.content)

    def __iter__(self) -> Iterator[bytes]:
        self.taken = True
        yield self.content


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
        self._session = requests.Session()
        network.prepare(self._session)
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
        """Post a JSON array once."""
        body = _Body(content)
        started = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        clock = time.perf_counter()
        status, headers, answer, problem = None, None, b"", ""
        try:
            with self._session.post(
                self._url, data=body, auth=_Bearer(token), stream=True, **self._network.options
            ) as response:
                status, headers = response.status_code, dict(response.headers.lower_items())
                answer, problem = self._read(response)
        except (requests.RequestException, low.HTTPError, OSError) as error:
            problem = problem_of(error)
        return Answer(
            status=status,
            body=answer,
            headers=headers,
            problem=problem,
            on_the_wire=body.taken,
            started_at=started,
            milliseconds=round((time.perf_counter() - clock) * 1000),
        )

    def _read(self, response: requests.Response) -> tuple[bytes, str]:
        """The answer's body, and what was wrong with it; never longer than the read time-out."""
        deadline = time.monotonic() + self._network.options["timeout"][1]
        body = bytearray()
        try:
            for chunk in response.iter_content(65536):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return b"", "the answer is too long"
                if time.monotonic() > deadline:
                    return b"", "the answer took too long"
        except (requests.RequestException, low.HTTPError, OSError):
            return b"", "the answer broke off"
        return bytes(body), ""


def problem_of(error: BaseException) -> str:
    """Why there was no answer, in fixed words: the library's text may hold what was sent."""
    chain = list(_causes(error))
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return NOT_TRUSTED
        tunnel = _TUNNEL.search(str(one)) if isinstance(one, OSError) else None
        if tunnel:
            code = tunnel.group(1)
            return PROXY_LOGIN if code == "407" else f"the proxy refused the connection ({code})"
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        ((requests.exceptions.ProxyError, low.ProxyError), "the proxy cannot be reached"),
        (low.NameResolutionError, "the host's name cannot be found"),
        (low.NewConnectionError, "the connection was refused, or there is no way there"),
        (
            (requests.exceptions.ConnectTimeout, low.ConnectTimeoutError),
            "time-out while connecting",
        ),
        ((requests.ReadTimeout, low.ReadTimeoutError), "time-out waiting for an answer"),
        ((requests.exceptions.SSLError, ssl.SSLError), "the encrypted connection failed"),
    )
    for kind, words in kinds:
        if any(isinstance(one, kind) for one in chain):
            return words
    return "the connection broke"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception with everything that it wraps, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [*one.args, one.__cause__, one.__context__]
        with contextlib.suppress(AttributeError):
            waiting.append(one.reason)  # type: ignore[attr-defined]
