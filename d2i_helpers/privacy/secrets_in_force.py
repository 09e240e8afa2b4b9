"""Every secret that this process knows, for the redactor: ours, and what the environment holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.url_secrets import key_parts, url_secrets

# names under which other software keeps secrets (PGPASSWORD, AIRFLOW__…__SECRET_KEY, GH_TOKEN)
_SECRET_NAME = re.compile(
    r"(?i)(?:password|passwd|pwd|passphrase|secret|secret_key|token|api_?key)$"
)
_SHORTEST = 8  # of a value that only its variable's name calls a secret
_ADDRESSES = ("database_url", "proxy", "api_base_url", "token_url")


def secrets_in_force(secrets: Secrets, settings: Settings | None = None) -> list[str]:
    """Secrets of the store, of addresses and of variables whose names say that they are secrets.

    Args:
        settings: of the run; None where only the environment is known.
    """
    return list(dict.fromkeys([*secrets.values(), *_of_settings(settings), *_of_environment()]))


def _of_settings(settings: Settings | None) -> Iterator[str]:
    if settings is None:
        return
    for name in _ADDRESSES:
        yield from url_secrets(getattr(settings, name) or "")
    yield from url_secrets(settings.webhook_url or "")
    yield from key_parts(settings.webhook_url or "")


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        is_file = Path(value).is_absolute()  # one that holds the secret
        if "://" in value:
            yield from url_secrets(value)
        elif _SECRET_NAME.search(name) and len(value) >= _SHORTEST and not is_file:
            yield value
    yield from key_parts(os.environ.get("D2I_WEBHOOK_URL", ""))
