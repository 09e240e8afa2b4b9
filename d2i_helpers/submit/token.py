"""The access token: OAuth2 client credentials, renewed before it ends, shared by all threads."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from d2i_helpers.errors import TokenError
from d2i_helpers.settings import Settings
from d2i_helpers.submit.answers import Answer, content_of, http_date
from d2i_helpers.submit.endpoint import Endpoint
from d2i_helpers.submit.sessions import PROBLEM_HINTS, TOO_LONG, exchange
from d2i_helpers.submit.transport import Network, tries

LEEWAY_SECONDS = 60.0  # a token that ends sooner is renewed first
_TOKEN = re.compile(r"[!-~]{1,20000}", re.ASCII)  # what a header can hold
_CHECK = "Check D2I_CLIENT_ID, D2I_CLIENT_SECRET, `token_scope` and `token_url`."
_CHECK_ADDRESS = "Check `token_url`, and whether a proxy or a filter on the way answers instead."
# what a token endpoint may answer (RFC 6749, 5.2); other words could be anything and are not shown
_KNOWN_ERRORS = {
    "invalid_request": "something that it needs was not sent",
    "invalid_client": "the client id or the secret is wrong or has run out",
    "invalid_grant": "the credentials are not accepted",
    "unauthorized_client": "this client may not ask for a token",
    "unsupported_grant_type": "it does not know client credentials",
    "invalid_scope": "the scope is wrong",
}
_TRY_AGAIN = frozenset({"temporarily_unavailable", "server_error"})  # by their meaning
# numbers of Microsoft's sign-in service, which say more than the words above
_AADSTS = re.compile(r"AADSTS(\d{4,8})(?!\d)")
_NUMBERS = {
    "70011": "the scope is wrong",
    "90002": "there is no such tenant: `token_url` is wrong",
    "500011": "the scope's application is not known in this tenant",
    "700016": "the client id is not known in this tenant",
    "1002012": "the scope does not end in `/.default`",
    "7000215": "the secret is wrong; often its id was copied instead of its value",
    "7000222": "the secret has run out",
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
        self._session = network.session()
        self._token, self._renew_at = "", 0.0
        #: seconds by which the token endpoint's clock is ahead of this one; None before an answer
        self.clock_skew: float | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def current(self) -> str:
        """A valid token; a new one is fetched where there is none or it is about to expire.

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

    def _fetch(self) -> None:
        problem = ""
        try:
            for attempt in tries(self._settings, self._wait_for):
                with attempt:
                    token, lifetime = self._ask()
        except _Again as again:
            problem = again.problem
        if problem:
            raise TokenError(
                f"No access token: the token endpoint gives no answer ({problem}).",
                hint=PROBLEM_HINTS.get(problem, "Check `token_url`, `proxy` and the network."),
            )
        self._token = token
        # a token that lives for less than the leeway must not be fetched again for each request
        leeway = 0.0 if lifetime is None else min(LEEWAY_SECONDS, lifetime / 4)
        self._renew_at = float("inf") if lifetime is None else self._now() + lifetime - leeway

    def _wait_for(self, error: Exception) -> bool | float:
        """For stamina: whether to try again, and after how many seconds where that was said."""
        if not isinstance(error, _Again) or error.problem in PROBLEM_HINTS:
            return False
        return min(error.wait, self._settings.wait_max) if error.wait else True

    def _ask(self) -> tuple[str, float | None]:
        """Ask once; the token and its lifetime in seconds (None where that was not said)."""
        endpoint = self._endpoint
        form = {  # RFC 6749, 4.4.2 and 2.3.1
            "grant_type": "client_credentials",
            "scope": endpoint.token_scope or None,  # requests leaves out what is None
            "client_id": endpoint.client_id,
            "client_secret": endpoint.client_secret,
        }
        answer = exchange(
            self._session,
            endpoint.token_url,
            timeout=self._network.timeout,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8",
            },
            data=form,
            **self._network.options,
        )
        date = http_date((answer.headers or {}).get("date", ""))
        if date is not None:
            self.clock_skew = date - self._now()
        return _token_in(answer, self._now())


def _token_in(answer: Answer, now: float) -> tuple[str, float | None]:
    """The token in an answer and its lifetime in seconds (None where that was not said).

    Nothing of the answer's text gets into an error, as it may quote the secret.

    Raises:
        _Again: it could not answer now. TokenError: it said no, or is no token endpoint.
    """
    status = answer.status
    if status is None:
        raise _Again(answer.problem)
    if answer.problem in PROBLEM_HINTS:  # a proxy's login
        raise TokenError(
            f"No access token: {answer.problem} (HTTP {status}).",
            hint=PROBLEM_HINTS[answer.problem],
        )
    content = content_of(answer.body)
    said = content.get("error") if isinstance(content, dict) else None
    number = _number_of(content)
    told = f"HTTP {status}" + (f", AADSTS{number}" if number else "")
    if status in (408, 429) or status >= 500 or (isinstance(said, str) and said in _TRY_AGAIN):
        raise _Again(told, answer.retry_after(now))
    if answer.problem and answer.problem != TOO_LONG and status < 300:
        raise _Again(answer.problem)
    if said:
        why = _KNOWN_ERRORS.get(said) if isinstance(said, str) else None
        why = _NUMBERS.get(number) or why or "it refused the request"
        raise TokenError(f"No access token: {why} ({told}).", hint=_CHECK)
    if status >= 300 or not isinstance(content, dict):
        raise TokenError(
            f"No access token: the answer is not that of a token endpoint ({told}).",
            hint=_CHECK_ADDRESS,
        )
    token = content.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise TokenError("No access token: the answer of the endpoint holds none.", hint=_CHECK)
    return token, _seconds(content.get("expires_in"))


def _number_of(content: Any) -> str:
    """The digits of an error code of Microsoft's sign-in service; "" where there is none."""
    if not isinstance(content, dict):
        return ""
    mark = _AADSTS.search(str(content.get("error_description", ""))[:10_000])
    if mark:
        return mark[1]
    codes = content.get("error_codes")
    code = codes[0] if isinstance(codes, list) and codes else None
    return f"{code:.0f}" if isinstance(code, float) and 1e3 <= code < 1e8 else ""


def _seconds(said: Any) -> float | None:
    """A lifetime, given as a number or as text; None where it cannot be read."""
    try:
        seconds = float(said) if isinstance(said, float | str) else math.nan
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
