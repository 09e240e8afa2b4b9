"""Secrets: environment, `.env`, a secrets directory or the OS keyring; never a parameter."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import SecretStr

from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import BYTE_ORDER_MARK, Unreadable, read_text
from d2i_helpers.kernel_protocol import WITHOUT_KEYRING_VARIABLE
from d2i_helpers.settings.environment import (
    SECRETS_DIRECTORY,
    process_variables,
    refuse_unknown,
    unknown_names,
    variables_in_dotenv,
)
from d2i_helpers.settings.model import ENV_PREFIX, Secrets

# a blank may be a password's own; whoever types one cannot type a line break
_AS_WRITTEN = frozenset({"database_password", "proxy_password"})
_PASSWORD_EDGES = "\r\n" + BYTE_ORDER_MARK
SHORTEST_LEDGER_KEY = 16  # characters
_CURLY = frozenset("‘’‚‛“”„‟")
_HOW = "Set it again, typed or pasted as plain text, without quotes from a word processor."


def load_secrets() -> Secrets:
    """The secrets in force: environment, ``.env``, secrets directory, then the OS keyring.

    Line breaks and a byte-order mark around a secret are removed; blanks too, except around
    passwords.

    Raises:
        SettingsError: a file cannot be read, or a secret holds what no header, key or login may;
            names each of these secrets, never its value.
    """
    places = (process_variables(), variables_in_dotenv(), _in_directory())
    held = {name: secret for name in Secrets.model_fields if (secret := _first(name, places))}
    cleaned = {name: _without_edges(name, text) for name, text in held.items()}
    faults = [
        f"{ENV_PREFIX}{name.upper()} {said}"
        for name, text in cleaned.items()
        for said in _faults(name, text)
    ]
    if faults:
        raise SettingsError(f"Secrets that cannot be used: {'; '.join(faults)}.", hint=_HOW)
    return Secrets(**{name: SecretStr(text) for name, text in cleaned.items() if text})


def ledger_key(secrets: Secrets) -> bytes | None:
    """The key that entries are sealed with; None where there is none.

    Raises:
        SettingsError: it is too short to be a secret.
    """
    if secrets.ledger_key is None:
        return None
    key = secrets.ledger_key.get_secret_value().strip()
    if len(key) < SHORTEST_LEDGER_KEY:
        raise SettingsError(
            f"The ledger key has fewer than {SHORTEST_LEDGER_KEY} characters and could be guessed.",
            hint='Make one with: python -c "import secrets; print(secrets.token_hex(32))"',
        )
    return key.encode()


def _first(name: str, places: tuple[Mapping[str, str], ...]) -> str | None:
    variable = f"{ENV_PREFIX}{name.upper()}"
    for place in places:
        if variable in place:
            return place[variable]
    return _from_keyring(name)


def _without_edges(name: str, text: str) -> str:
    if name in _AS_WRITTEN:
        return text.strip(_PASSWORD_EDGES)
    before = None
    while before != text:  # a mark may stand before or after blanks
        before, text = text, text.strip().strip(BYTE_ORDER_MARK)
    return text


def _faults(name: str, text: str) -> Iterator[str]:
    """What is wrong with a secret. The words hold no character of it."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        yield "holds a line break or another control character"
    if name == "database_password":  # the database's own business, in any script
        return
    if _CURLY.intersection(text):
        yield "holds curly quotes"
    elif BYTE_ORDER_MARK in text:
        yield "holds a byte-order mark"
    else:
        try:
            text.encode("latin-1")
        except UnicodeEncodeError:
            yield "holds a letter that no HTTP header can carry"


def _in_directory() -> dict[str, str]:
    """Secrets that are files of a folder, by file name in capitals.

    Raises:
        SettingsError: the folder is not there, a file cannot be read, or its name is near to that
            of a secret that is not there, such as one to which an editor added `.txt`.
    """
    named = os.environ.get(SECRETS_DIRECTORY)
    if not named:
        return {}
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise SettingsError(
            f"{SECRETS_DIRECTORY} names a folder that is not there.",
            hint="Correct it, or take it out of the environment.",
        )
    files = {
        path.name.upper(): path
        for path in sorted(folder.iterdir())
        if path.name.upper().startswith(ENV_PREFIX) and path.is_file()
    }
    # beside the secret itself it is an old copy
    slips = [name for name, near in unknown_names(files).items() if near and near not in files]
    refuse_unknown(dict.fromkeys(slips, ""), f"The folder of {SECRETS_DIRECTORY}")
    return {name: _file_text(path) for name, path in files.items()}


def _file_text(path: Path) -> str:
    try:
        return read_text(path)
    except Unreadable as error:
        raise SettingsError(f"The secret {path.name}{error.said}.", hint=error.hint) from None
    except OSError as error:
        raise SettingsError(
            f"The secret {path.name} cannot be read ({error.strerror or type(error).__name__})."
        ) from None


def has_keyring() -> bool:
    """Whether `keyring` is installed and the system has a keyring, as a headless one has not."""
    try:
        import keyring
        from keyring.backends import fail
    except ImportError:
        return False
    try:
        return not isinstance(keyring.get_keyring(), fail.Keyring)
    except Exception:  # its own settings are wrong: whoever asks it for a secret is told
        return True


def _from_keyring(name: str) -> str | None:
    """A secret from the operating system's keyring, where the optional `keyring` is installed."""
    if os.environ.get(WITHOUT_KEYRING_VARIABLE):  # to look for one takes a quarter of a second
        return None
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        return keyring.get_password("d2i-workbook", name)
    except KeyringError:  # none there, or it is locked: nothing found
        return None
