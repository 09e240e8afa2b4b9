"""Checks of a profile and its variables: places left to fill in, misspelt names, keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

from d2i_helpers.anonymise.key import require_key
from d2i_helpers.errors import SettingsError
from d2i_helpers.preflight.checks import FAIL, PASS, WARN, Check, failed
from d2i_helpers.privacy.secrets_in_force import secrets_not_sought
from d2i_helpers.settings import Secrets, Settings, ledger_key, unknown_variables

NOBODYS_CODE = "000"  # of the shipped profiles; no authority has it
# the words that stand in the shipped profiles where something is to be filled in
_SHIPPED = re.compile(r"(?<![A-Za-z0-9_])(SERVER|DATABASE|TENANT|SCOPE)(?![A-Za-z0-9_])")
# the words that people write in such places themselves
_USUAL = re.compile(
    r"<[^<>]*>"
    r"|\b(?:change|replace)[-_ ]?me\b|\byour[-_ ][a-z]|\b(?:todo|tbc|tbd|xxx+)\b"
    r"|(?:^|[@./])example(?:\.(?:com|org|net))?(?=[/:]|$)"
    r"|\.(?:example|invalid)(?=[/:]|$)",
    re.IGNORECASE,
)
_UNTRIED = ("azeus",)  # systems of which nobody here has seen one
_OF_A_RECEIVER = ("api_base_url", "token_url", "token_scope")
_OF_A_DATABASE = ("database_url", "sql_server", "sql_server_database")


def checks(settings: Settings, secrets: Secrets) -> Iterator[Check]:
    """Check for places left to fill in, unknown names, and keys."""
    yield _left_open(settings)
    if settings.la_code == NOBODYS_CODE and settings.endpoint == "test":  # the gate looks at live
        said = f"`la_code` is {NOBODYS_CODE}, which no authority has"
        yield Check("authority", WARN, said, "Write your own, of three digits, into the profile.")
    if settings.cms in _UNTRIED:
        said = f"`cms: {settings.cms}` is known by name only: it has never been compared with one"
        advice = (
            "Compare the documents of a few children with the system (`explore_payloads`) before "
            "anything is sent, and name other columns or codes in a `spec_overlay`."
        )
        yield Check("system", WARN, said, advice)
    yield from _unknown_variables()
    yield from _pseudonym_key(settings, secrets)
    yield from _secrets_not_sought(settings, secrets)
    try:
        ledger_key(secrets)
    except SettingsError as error:
        yield failed("ledger key", error)


def _secrets_not_sought(settings: Settings, secrets: Secrets) -> Iterator[Check]:
    """Name the secrets that are too short or too plain to be searched for in records."""
    names = secrets_not_sought(secrets, settings)
    if names:
        said = f"too short or too plain a word to be searched for in records: {', '.join(names)}"
        advice = "Have another one set, of 8 characters or more that are no word."
        yield Check("secrets", WARN, said, advice)


def _left_open(settings: Settings) -> Check:
    """Check that no parameter still holds a word that stands for something to fill in."""
    left = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if settings.endpoint == "simulated" and name in _OF_A_RECEIVER:
            continue
        if settings.sql_server and name == "database_url":  # made of the parts
            continue
        if isinstance(value, str) and (_USUAL.search(value) or _is_shipped(name, value)):
            left.append(f"`{name}`")
    if not left:
        return Check("filled in", PASS, "no parameter is left to be filled in")
    said = f"still to be filled in: {', '.join(left)}"
    advice = "Write your own into the profile; the token's address and scope come from the DfE."
    return Check("filled in", FAIL, said, advice, SettingsError.__name__)


def _is_shipped(name: str, value: str) -> bool:
    return name in (*_OF_A_RECEIVER, *_OF_A_DATABASE) and bool(_SHIPPED.search(value))


def _unknown_variables() -> Iterator[Check]:
    """Warn of names near to no known one: other software may use them. (Slips end a run.)"""
    unknown = unknown_variables()
    if unknown:
        said = f"no setting has the name {', '.join(unknown)}"
        advice = "Take it out of the environment; docs/parameters.md lists all names."
        yield Check("variables", WARN, said, advice)


def _pseudonym_key(settings: Settings, secrets: Secrets) -> Iterator[Check]:
    try:
        require_key(settings, secrets)
    except SettingsError as error:
        needed = settings.source == "anonymised" or secrets.pseudonym_key is not None
        if needed:
            yield failed("pseudonym key", error)
            return
        advice = f"{error.hint} Or leave the stage out, with --stages."
        yield Check("pseudonym key", WARN, f"{error.message} anonymise would fail.", advice)
    else:
        yield Check("pseudonym key", PASS, f"pseudonyms: {settings.pseudonym_key_mode} key")
