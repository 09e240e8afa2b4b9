"""Every secret that this process knows, for the redactor: ours, and what the environment holds."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from d2i_helpers import stages
from d2i_helpers.errors import D2IError
from d2i_helpers.privacy.plain_words import PLAIN_WORDS
from d2i_helpers.privacy.secret_forms import INSIDE_WORDS
from d2i_helpers.settings import Secrets, Settings, parameters_in_environment
from d2i_helpers.settings.addresses import ADDRESSES, address_parts, secrets_in_text
from d2i_helpers.settings.model import ENV_PREFIX

# names under which other software keeps secrets (PGPASSWORD, AIRFLOW__…__SECRET_KEY, GH_TOKEN)
_SECRET_NAME = re.compile(
    r"(?i)(?:password|passwd|pwd|passphrase|secret|secret_key|token|api_?key)$"
)
_SHORTEST = 8  # of a value that only its variable's name calls a secret
_SHORTEST_SOUGHT = 3  # fewer characters stand everywhere
_DATABASES = "sqlite postgresql psycopg mssql pyodbc sqlserver oracle oracledb"


def secrets_in_force(secrets: Secrets, settings: Settings | None = None) -> list[str]:
    """Secrets of the store, of addresses and of variables whose names say that they are secrets.

    Those that no search could tell from plain text are left out, see `secrets_not_sought`.

    Args:
        settings: of the run; None where only the environment and `.env` are known.
    """
    addresses = _of_settings(settings) if settings else _of_own_environment()
    found = [*secrets.values(), *_logins(secrets), *addresses, *_of_environment()]
    return [text for text in dict.fromkeys(found) if text != "***" and can_be_sought(text)]


def secrets_not_sought(secrets: Secrets, settings: Settings) -> list[str]:
    """Where the secrets stand that no search could tell from what every record holds.

    Returns:
        Names of variables and of parameters; never a value.
    """
    stored = {
        f"{ENV_PREFIX}{name.upper()}": [secret.get_secret_value()]
        for name in Secrets.model_fields
        if (secret := getattr(secrets, name)) is not None
    }
    addresses = {
        f"`{name}`": list(_of_address(name, getattr(settings, name)))
        for name in ADDRESSES
        if name != "webhook_url"  # a short path of one is seldom a key
    }
    return [
        name
        for name, texts in (stored | addresses).items()
        if any(text and not can_be_sought(text) for text in texts)
    ]


def can_be_sought(secret: str) -> bool:
    """Whether a search for this secret would find the secret, and not what every record holds."""
    if len(secret) < _SHORTEST_SOUGHT:
        return False
    plain = secret.casefold()
    return plain not in _everyday_words() and not (
        len(secret) >= INSIDE_WORDS and any(plain in word for word in _everyday_words())
    )


@functools.cache
def _everyday_words() -> frozenset[str]:
    """Words that stand in every record: parameters, names of tables, stages, plain English."""
    defaults = (field.default for field in Settings.model_fields.values())
    texts = [text for text in defaults if isinstance(text, str)]
    names = [*stages.names(), *Settings.model_fields, *Secrets.model_fields]
    text = " ".join([*PLAIN_WORDS, *names, *texts, _DATABASES])
    return frozenset(re.findall(r"[^\W_]+", text.casefold())) | frozenset(text.casefold().split())


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
