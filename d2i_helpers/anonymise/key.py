"""The secret that pseudonyms are made with: from the secret store, or new for one run.

It is never written to a database, a parameter or a record. Only the demo, whose children are
fictional and whose receiver is on this machine, may keep one in a file of its own.
"""

from __future__ import annotations

import secrets as random_source
from pathlib import Path

from d2i_helpers import files
from d2i_helpers.anonymise.keyed import Keyed
from d2i_helpers.errors import SettingsError
from d2i_helpers.settings import ENV_PREFIX, Secrets, Settings

KEY_BYTES = 32
SHORTEST = 16  # characters; what `secrets.token_hex(32)` makes has 64
_MAKE = 'python -c "import secrets; print(secrets.token_hex(32))"'


def pseudonym_key(settings: Settings, secrets: Secrets) -> bytes:
    """The key of this run.

    With ``pseudonym_key_mode: fresh`` a new one that is forgotten with the run; else the one in the
    secret store. Where there is none and the receiver is the simulated one, a key is made once and
    kept in ``demo/pseudonym.key`` in the outputs folder, readable by its owner only.

    Raises:
        SettingsError: there is no key, or it is too short to be a secret.
    """
    require_key(settings, secrets)
    if settings.pseudonym_key_mode == "fresh":
        return random_source.token_bytes(KEY_BYTES)
    if secrets.pseudonym_key is not None:
        return secrets.pseudonym_key.get_secret_value().encode()
    return _demo_key(settings.path(settings.outputs_dir) / "demo" / "pseudonym.key")


def require_key(settings: Settings, secrets: Secrets) -> None:
    """Refuse settings under which `pseudonym_key` would find none; nothing is made or written.

    Raises:
        SettingsError: there is no key, or it is too short to be a secret.
    """
    if settings.pseudonym_key_mode == "fresh":
        return
    if secrets.pseudonym_key is not None:
        if len(secrets.pseudonym_key.get_secret_value()) < SHORTEST:
            raise SettingsError(
                f"The pseudonym key has fewer than {SHORTEST} characters and could be guessed.",
                hint=f"Make one with {_MAKE}.",
            )
    elif settings.endpoint != "simulated":
        raise SettingsError(
            "There is no pseudonym key, and `pseudonym_key_mode: kept` needs one.",
            hint=f"Make one with {_MAKE} and set it as {ENV_PREFIX}PSEUDONYM_KEY in the "
            "environment, in .env or in the keyring; keep it, or every child gets a new pseudonym.",
        )


def _demo_key(path: Path) -> bytes:
    if not path.is_file():
        files.make_private_folder(path.parent)
        files.write_atomic(path, random_source.token_hex(KEY_BYTES).encode())
    return path.read_bytes().strip()


def mark(key: bytes) -> str:
    """A text by which another key is noticed; the key cannot be computed from it."""
    return Keyed(key).digest(b"mark").hex()[:24]
