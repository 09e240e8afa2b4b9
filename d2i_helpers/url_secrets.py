"""What in an address is a secret: a password, a key in the query, a connection string of ODBC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

HIDDEN = "…"
_LOGIN = re.compile(r"(?<=://)([^/?#@\s]*):([^/?#\s]*)(?=@)")
_NAMES = (
    r"password|passwd|pwd|passphrase|secret|client_secret|token|access_token|sig|sas|api_?key|key"
)
_IN_QUERY = re.compile(rf"(?i)(?<=[?&])({_NAMES})=([^&#\s]*)")
_ODBC = re.compile(r"(?i)(?<=[?&])(odbc_connect)=([^&#\s]*)")
_ODBC_PASSWORD = re.compile(r"(?i)(?:^|;)\s*(?:pwd|password)\s*=\s*(\{[^}]*\}|[^;]*)")


def url_secrets(url: str) -> list[str]:
    """Passwords and keys that stand in an address, as they are written and decoded.

    Never raises: what is no address has what looks like secrets taken all the same.
    """
    return list(dict.fromkeys(found for found in _found(url) if found and found != "***"))


def _found(url: str) -> Iterator[str]:
    for match in _LOGIN.finditer(url):
        yield from (match[2], unquote(match[2]))
    for match in _IN_QUERY.finditer(url):
        yield from (match[2], unquote_plus(match[2]))
    for match in _ODBC.finditer(url):
        for secret in _ODBC_PASSWORD.findall(unquote_plus(match[2])):
            yield from (secret, secret.strip("{}"))


def without_secrets(url: str) -> str:
    """The address with dots in place of its secrets."""
    url = _LOGIN.sub(rf"\1:{HIDDEN}", url)
    url = _IN_QUERY.sub(rf"\1={HIDDEN}", url)
    return _ODBC.sub(rf"\1={HIDDEN}", url)


def key_parts(url: str) -> list[str]:
    """Long parts of path and query: in the address of a webhook they are its key."""
    try:
        parts = urlsplit(url)
        query = [value for _, value in parse_qsl(parts.query)]
    except ValueError:
        return []
    return [part for part in (*parts.path.split("/"), *query) if len(part) >= 8]
