"""The access token: OAuth2 client credentials, renewed before it ends, shared by all threads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import requests
import urllib3.exceptions as low
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from d2i_helpers.api.answers import Answer, http_date
from d2i_helpers.api.transport import (
    NOT_TRUSTED,
    PROXY_LOGIN,
    Network,
    problem_of,
    tries,
)
from d2i_helpers.endpoint import Endpoint
from d2i_helpers.errors import TokenError
from d2i_helpers.settings import Settings

LEEWAY_SECONDS = 60.0  # a token that ends sooner is renewed first
_CHECK = "Check D2I_CLIENT_ID, D2I_CLIENT_SECRET, `token_scope` and `token_url`."
_HINTS = {
    NOT_TRUSTED: "Where a proxy opens encrypted traffic, give its CA with `ca_bundle`.",
    PROXY_LOGIN: "Set D2I_PROXY_USER and D2I_PROXY_PASSWORD.",
}
# what a token endpoint may answer (RFC 6749, 5.2); other words could be anything and are not shown
_KNOWN_ERRORS = {
    "invalid_request": "something that it needs was not sent",
    "invalid_client": "the client id or the secret is wrong or has run out",
    "invalid_grant": "the credentials are not accepted",
    "unauthorized_client": "this client may not ask for a token",
    "unsupported_grant_type": "it does not know client credentials",
    "invalid_scope": "the scope is wrong",
}


class _Again(Exception):
    """The token endpoint could not answer now; holds no text of its answer."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.problem, self.wait = problem, wait


class TokenSource:
    """Fetches, keeps and renews the token."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        network: Network,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint, self._settings, self._network, self._now = endpoint, settings, network, now
        self._session = OAuth2Session(
            endpoint.client_id,
            endpoint.client_secret,
            scope=endpoint.token_scope,
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - a method's name
        )
        network.prepare(self._session)
        self._session.register_compliance_hook("access_token_response", self._look)
        self._token, self._renew_at = "", 0.0
        #: seconds by which the token endpoint's clock is ahead of this one; None before an answer
        self.clock_skew: float | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def current(self) -> str:
        """A token that is good for now; fetched where there is none or it is about to end.

        Raises:
            TokenError: none could be had.
        """
        with self._lock:
            if not self._token or self._now() >= self._renew_at:
                self._fetch()
            return self._token

    def renewed(self, refused: str) -> str:
        """Another token than the one that the API has just refused.

        Raises:
            TokenError: none could be had.
        """
        with self._lock:
            if self._token == refused:  # else another thread has renewed it meanwhile
                self._fetch()
            return self._token

    @property
    def seconds_left(self) -> float:
        """Seconds until the token is renewed; infinite where its answer did not say."""
        return self._renew_at - self._now()

    def _look(self, response: requests.Response) -> requests.Response:
        """Sees the raw answer before the library parses it, which would quote it in its errors."""
        date = http_date(response.headers.get("date", ""))
        if date is not None:
            self.clock_skew = date - self._now()
        if response.status_code == 429 or response.status_code >= 500:
            answer = Answer(response.status_code, headers=dict(response.headers.lower_items()))
            raise _Again(f"HTTP {response.status_code}", answer.retry_after(self._now()))
        if response.status_code == 407:
            raise TokenError("No access token: the proxy wants a login.", hint=_HINTS[PROXY_LOGIN])
        return response

    def _fetch(self) -> None:
        problem = ""
        try:
            for attempt in tries(self._settings, self._wait_for):
                with attempt:
                    found = self._ask()
        except _Again as again:
            problem = again.problem
        if problem:
            raise TokenError(
                f"No access token: the token endpoint gives no answer ({problem}).",
                hint=_HINTS.get(problem, "Check `token_url`, `proxy` and the network."),
            )
        token, lifetime = _parts(found)
        self._token = token
        # a token that lives for less than the leeway must not be fetched again for each request
        leeway = 0.0 if lifetime is None else min(LEEWAY_SECONDS, lifetime / 4)
        self._renew_at = float("inf") if lifetime is None else self._now() + lifetime - leeway

    def _wait_for(self, error: Exception) -> bool | float:
        """For stamina: whether to try again, and after how many seconds where that was said."""
        if not isinstance(error, _Again) or error.problem in _HINTS:
            return False
        return min(error.wait, self._settings.wait_max) if error.wait else True

    def _ask(self) -> Any:
        """Ask once; every error without the library's text, which may hold the secret."""
        said = ""
        try:
            return self._session.fetch_token(
                self._endpoint.token_url,
                grant_type="client_credentials",
                **self._network.options,
            )
        except OAuthError as error:
            said = _KNOWN_ERRORS.get(str(error.error), "it refused the request")
        except json.JSONDecodeError:  # before the next: requests derives its own from both
            said = "its answer is not that of a token endpoint"
        except (requests.RequestException, low.HTTPError, OSError) as error:
            again = _Again(problem_of(error))
        except (TypeError, ValueError, AttributeError):
            said = "its answer is not that of a token endpoint"
        if said:
            raise TokenError(f"No access token: {said}.", hint=_CHECK)
        raise again


def _parts(found: Any) -> tuple[str, float | None]:
    """The token and its lifetime in seconds (None where that was not said)."""
    token = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(token, str) or not token or not token.isprintable() or " " in token:
        raise TokenError("No access token: the answer of the endpoint holds none.", hint=_CHECK)
    try:
        lifetime = float(found["expires_in"])
    except (KeyError, TypeError, ValueError):
        return token, None
    return token, max(0.0, lifetime)
