"""Every secret that this process knows, its own and those of the environment, in every form.

Forms are plain text, URLs, JSON, HTML, Python, ODBC and base64. A text may mix them (a partly
encoded URL inside JSON inside HTML), so whole texts are not compared. Instead, each character of a
secret is looked for in each form that it can take.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from d2i_helpers import stages
from d2i_helpers.errors import D2IError
from d2i_helpers.privacy.plain_words import PLAIN_WORDS
from d2i_helpers.settings import Secrets, Settings, parameters_in_environment
from d2i_helpers.settings.addresses import ADDRESSES, address_parts, secrets_in_text
from d2i_helpers.settings.model import ENV_PREFIX

# names under which other software keeps secrets (PGPASSWORD, AIRFLOW__…__SECRET_KEY, GH_TOKEN,
# AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_CONNECTION_STRING)
_SECRET_NAME = re.compile(
    r"(?i)(?:password|passwd|pwd|passphrase|secret|secret_key|token|api_?key|access_key|account_key"
    r"|connection_string)$"
)
_SHORTEST = 8  # characters of a value that is a secret only by its variable's name
_SHORTEST_SOUGHT = 3  # fewer characters occur everywhere
_AMPERSAND = "&(?:amp;)*"  # HTML within HTML
INSIDE_WORDS = 6  # characters of a secret that is also looked for inside words
_DATABASES = "sqlite postgresql psycopg mssql pyodbc sqlserver oracle oracledb"


def secrets_in_force(secrets: Secrets, settings: Settings | None = None) -> list[str]:
    """Secrets of the store, of addresses, and of variables that are secret by their name.

    Secrets that cannot be told from plain text are left out, see `secrets_not_sought`.

    Args:
        settings: the settings of the run; None where only the environment and `.env` are known.
    """
    addresses = _of_settings(settings) if settings else _of_own_environment()
    secret_texts = [*secrets.values(), *_logins(secrets), *addresses, *_of_environment()]
    return [text for text in dict.fromkeys(secret_texts) if text != "***" and can_be_sought(text)]


def is_name_of_a_secret(name: str) -> bool:
    """Whether a variable's name says that it holds a secret, of whatever software it is."""
    return _SECRET_NAME.search(name) is not None


def secrets_not_sought(secrets: Secrets, settings: Settings) -> list[str]:
    """Names of the secrets that are too common a text to be searched for.

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
        if name != "webhook_url"  # a short path of a webhook is seldom a key
    }
    return [
        name
        for name, texts in (stored | addresses).items()
        if any(text and not can_be_sought(text) for text in texts)
    ]


def can_be_sought(secret: str) -> bool:
    """Whether a search would find this secret only, and not words that every record holds."""
    if len(secret) < _SHORTEST_SOUGHT:
        return False
    plain = secret.casefold()
    return plain not in _everyday_words() and not (
        len(secret) >= INSIDE_WORDS and any(plain in word for word in _everyday_words())
    )


@functools.cache
def _everyday_words() -> frozenset[str]:
    """Words that occur in every record: parameters, names of tables, stages, plain English."""
    defaults = (field.default for field in Settings.model_fields.values())
    texts = [text for text in defaults if isinstance(text, str)]
    names = [*stages.names(), *Settings.model_fields, *Secrets.model_fields]
    text = " ".join([*PLAIN_WORDS, *names, *texts, _DATABASES])
    return frozenset(re.findall(r"[^\W_]+", text.casefold())) | frozenset(text.casefold().split())


def _logins(secrets: Secrets) -> Iterator[str]:
    """User and password pairs, as the header of a login holds them."""
    for user, password in (("proxy_user", "proxy_password"), ("client_id", "client_secret")):
        pair = getattr(secrets, user), getattr(secrets, password)
        if all(pair):
            yield ":".join(part.get_secret_value() for part in pair)


def _of_settings(settings: Settings) -> Iterator[str]:
    for name in ADDRESSES:
        yield from _of_address(name, getattr(settings, name))


def _of_own_environment() -> Iterator[str]:
    try:
        parameters = parameters_in_environment()
    except D2IError:  # reported where the parameters are read; the other secrets are still known
        return
    for name in ADDRESSES:
        yield from _of_address(name, parameters.get(name))


def _of_address(name: str, url: str | None) -> Iterator[str]:
    if url:
        parts = address_parts(name, url)
        yield from (*parts.secrets, *parts.doubtful)


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        is_file = Path(value).is_absolute()  # the path of a file that holds the secret
        yield from secrets_in_text(value)
        if "://" in value:
            continue
        if is_name_of_a_secret(name) and len(value) >= _SHORTEST and not is_file:
            yield value


# ------------------------------------------------------------------ every form of a secret
def secret_patterns(secrets: Iterable[str]) -> list[re.Pattern[str]]:
    """Patterns that find the secrets however they are written, the longest secret first."""
    known = sorted({secret for secret in secrets if secret}, key=lambda s: (-len(s), s))
    return [re.compile(_pattern(secret)) for secret in known]


def _pattern(secret: str) -> str:
    plain = "".join(_character(character) for character in secret)
    if len(secret) < INSIDE_WORDS:
        return rf"(?<!\w){plain}(?!\w)"
    return "|".join([plain, *_base64_forms(secret)])


def _character(character: str) -> str:
    """A pattern for one character in each form that it can take."""
    if character.isascii() and character.isalnum():
        return character
    forms = {
        re.escape(character),
        _percent(character),
        re.escape(html.escape(character)).replace("\\&", "&").replace("&", _AMPERSAND)
        if character != "&"
        else f"{_AMPERSAND}amp;",
        rf"{_AMPERSAND}\#0*{ord(character)};",
        rf"{_AMPERSAND}\#[xX]0*{_any_case(f'{ord(character):x}')};",
        *_escapes(character),
    }
    if character == " ":
        forms |= {r"\+"}
    if character == "}":
        forms |= {r"\}\}", _percent(character) * 2}  # within the braces of ODBC
    if character == "'":
        forms |= {"''", "&apos;"}
    quoted = r"\\*" if character in "\"'\\/" else ""  # one or more levels of quoting
    return f"{quoted}(?:{'|'.join(sorted(forms, key=lambda form: (-len(form), form)))})"


def _percent(character: str) -> str:
    """Percent-encoded, once or twice, in either case."""
    encoded = quote(character, safe="")
    if encoded == character:  # Python never encodes it, but other software may
        encoded = "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    return "".join(f"%(?:25)?{_any_case(pair)}" for pair in encoded.split("%")[1:])


def _escapes(character: str) -> list[str]:
    """The character as JSON and Python escape it in quotes, at any level of quoting."""
    in_json = json.dumps(character)[1:-1]
    forms = [in_json, repr(character)[1:-1], ascii(character)[1:-1]]
    forms += [f"\\u{ord(character):04x}"] if ord(character) < 0x10000 else []
    forms += [f"\\x{ord(character):02x}"] if ord(character) < 0x100 else []
    escaped = {text for text in forms if text != character and text.startswith("\\")}
    return [
        "".join(
            r"\\+" if part == "\\" else _any_case(part) if len(part) > 1 else re.escape(part)
            for part in re.findall(r"\\|[^\\]+", text)
        )
        for text in escaped
    ]


def _any_case(text: str) -> str:
    return "".join(
        f"[{c.lower()}{c.upper()}]" if c in "abcdefABCDEF" else re.escape(c) for c in text
    )


def _base64_forms(secret: str) -> list[str]:
    """The part of a base64 text that encodes the secret, wherever the secret begins in it.

    A login is encoded as ``user:password``, so the letters depend on where the password begins.
    """
    held = secret.encode("utf-8", "surrogatepass")
    forms = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + held).decode().rstrip("=")
        first = (0, 2, 3)[before]  # letters that also encode the text before
        certain = encoded[first : len(encoded) - (1 if (before + len(held)) % 3 else 0)]
        forms.append(re.escape(certain).replace(r"\+", "[+-]").replace("/", "[/_]"))
    return forms
