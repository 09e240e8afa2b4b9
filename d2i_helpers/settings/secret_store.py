"""Secrets: environment, `.env`, a secrets directory or the OS keyring; never a parameter."""

from __future__ import annotations

import os

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from d2i_helpers.settings.model import ENV_PREFIX, project_root


class Secrets(BaseSettings):
    """Everything that must never be saved or shown; `SecretStr` masks each in every repr."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_password: SecretStr | None = None
    client_id: SecretStr | None = None
    client_secret: SecretStr | None = None
    supplier_key: SecretStr | None = None
    pseudonym_key: SecretStr | None = None
    proxy_user: SecretStr | None = None
    proxy_password: SecretStr | None = None

    def values(self) -> list[str]:
        """All secrets in force as plain text, for the redactor only."""
        held = (getattr(self, name) for name in type(self).model_fields)
        return [secret.get_secret_value() for secret in held if secret is not None]


def load_secrets() -> Secrets:
    """The secrets in force: environment, ``.env``, secrets directory, then the OS keyring."""
    directory = os.environ.get(f"{ENV_PREFIX}SECRETS_DIR")
    secrets = Secrets(
        _env_file=project_root() / ".env", _secrets_dir=directory if directory else None
    )
    missing = [name for name in Secrets.model_fields if getattr(secrets, name) is None]
    held = {name: _from_keyring(name) for name in missing}
    return secrets.model_copy(update={k: SecretStr(v) for k, v in held.items() if v})


def _from_keyring(name: str) -> str | None:
    """A secret from the operating system's keyring, where the optional `keyring` is installed."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        return keyring.get_password("d2i-workbook", name)
    except KeyringError:  # headless machines have no keyring: nothing found there
        return None
