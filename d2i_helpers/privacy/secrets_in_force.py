"""Every secret that this process knows, for the redactor: ours, and what the environment holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from d2i_helpers.errors import D2IError
from d2i_helpers.settings import Secrets, Settings, parameters_in_environment
from d2i_helpers.settings.addresses import ADDRESSES, address_parts, secrets_in_text

# names under which other software keeps secrets (PGPASSWORD, AIRFLOW__…__SECRET_KEY, GH_TOKEN)
_SECRET_NAME = re.compile(
    r"(?i)(?:password|passwd|pwd|passphrase|secret|secret_key|token|api_?key)$"
)
_SHORTEST = 8  # of a value that only its variable's name calls a secret


def secrets_in_force(secrets: Secrets, settings: Settings | None = None) -> list[str]:
    """Secrets of the store, of addresses and of variables whose names say that they are secrets.

    Args:
        settings: of the run; None where only the environment and `.env` are known.
    """
    addresses = _of_settings(settings) if settings else _of_own_environment()
    found = [*secrets.values(), *_logins(secrets), *addresses, *_of_environment()]
    return [text for text in dict.fromkeys(found) if text and text != "***"]


def _logins(secrets: Secrets) -> Iterator[str]:
    """Users with their passwords, as the header of a login holds them."""
    for user, password in (("proxy_user", "proxy_password"), ("client_id", "client_secret")):
        pair = getattr(secrets, user), getattr(secrets, password)
        if all(pair):
            yield ":".join(part.get_secret_value() for part in pair)


def _of_settings(settings: Settings) -> Iterator[str]:
    for name in ADDRESSES:
        yield from _of_address(name, getattr(settings, name))


def _of_own_environment() -> Iterator[str]:
    try:
        found = parameters_in_environment()
    except D2IError:  # whoever reads them next says what is wrong; other secrets are known
        return
    for name in ADDRESSES:
        yield from _of_address(name, found.get(name))


def _of_address(name: str, url: str | None) -> Iterator[str]:
    if url:
        parts = address_parts(name, url)
        yield from (*parts.secrets, *parts.doubtful)


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        is_file = Path(value).is_absolute()  # one that holds the secret
        yield from secrets_in_text(value)
        if "://" in value:
            continue
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST and not is_file:
            yield value
