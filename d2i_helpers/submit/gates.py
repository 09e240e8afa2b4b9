"""Gates: which table may go to which endpoint, decided before anything is sent.

Identifiable data leaves only when profile, table, endpoint and sign-off agree. The rules::

    | endpoint  | table        | what else must hold                                             |
    |-----------|--------------|-----------------------------------------------------------------|
    | simulated | either       | the address is on this machine                                  |
    | test      | anonymised   | HTTPS; a DfE address must be that of its test receiver          |
    | live      | identifiable | HTTPS; not the test receiver; an approver, a day, the LA's code |
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from d2i_helpers.errors import GateError
from d2i_helpers.settings import Settings
from d2i_helpers.submit.endpoint import is_loopback

DFE_DOMAIN = "education.gov.uk"
TEST_MARK = "receiver-test"  # in the path of the DfE's test receiver


@dataclass(frozen=True)
class Decision:
    """What a gate decided, for the notebook and the run record."""

    allowed: bool
    endpoint: str  # simulated | test | live
    table: str  # identifiable | anonymised
    dry_run: bool  # nothing is sent, whatever was decided
    host: str  # of the receiver; empty for one that the run starts itself
    address: str = ""  # what kind of receiver the address is; empty where it is refused
    sign_off: str = ""  # who allowed it, when and for whom
    reason: str = ""  # why it is refused: which two things disagree
    hint: str = ""

    def error(self) -> GateError:
        """The refusal as an error."""
        return GateError(self.reason, hint=self.hint)


def decide(settings: Settings) -> Decision:
    """Decide whether this table may go to this endpoint; a refusal is a decision too."""
    host = urlsplit(settings.api_base_url or "").hostname or ""
    decided = Decision(False, settings.endpoint, settings.source, settings.dry_run, host)
    rules: dict[str, Callable[[Settings], dict[str, Any]]] = {
        "simulated": _simulated,
        "test": _test,
        "live": _live,
    }
    try:
        return replace(decided, allowed=True, **rules[settings.endpoint](settings))
    except GateError as refusal:
        return replace(decided, reason=refusal.message, hint=refusal.hint)


def require(decision: Decision) -> None:
    """End the stage where the gate refuses.

    Raises:
        GateError: it does; the message says which two things disagree.
    """
    if not decision.allowed:
        raise decision.error()


def _simulated(settings: Settings) -> dict[str, str]:
    if settings.api_base_url and not is_loopback(settings.api_base_url):
        raise GateError(
            "The simulated endpoint must be on this machine, and `api_base_url` is not.",
            hint="Take `api_base_url` out, or set `endpoint: test` or `live`.",
        )
    return {"address": "a receiver on this machine", "sign_off": "not needed"}


def _test(settings: Settings) -> dict[str, str]:
    if settings.source != "anonymised":
        raise GateError(
            "The identifiable table may not go to a test endpoint.",
            hint="Set `source: anonymised`.",
        )
    _require_https(settings)
    if _is_dfe(settings) and TEST_MARK not in urlsplit(settings.api_base_url or "").path:
        raise GateError(
            "`endpoint: test` has the address of the DfE's live receiver.",
            hint=f"The test receiver's address holds `{TEST_MARK}`.",
        )
    return {"address": "a test receiver", "sign_off": "not needed for anonymised data"}


def _live(settings: Settings) -> dict[str, str]:
    if settings.source != "identifiable":
        raise GateError(
            "The anonymised table may not go to the live endpoint: its children do not exist.",
            hint="Set `source: identifiable`, or `endpoint: test`.",
        )
    _require_https(settings)
    if TEST_MARK in urlsplit(settings.api_base_url or "").path:
        raise GateError(
            "`endpoint: live` has the address of the DfE's test receiver.",
            hint="Identifiable data may not go there. Correct `api_base_url` or `endpoint`.",
        )
    missing = [
        name
        for name in ("live_approver", "live_approved_on", "live_la_code")
        if not str(getattr(settings, name) or "").strip()
    ]
    if missing:
        named = ", ".join(f"`{name}`" for name in missing)
        raise GateError(
            f"Sending live needs a sign-off, and {named} is missing.",
            hint="Set them in the profile or the environment once the approver has agreed.",
        )
    if settings.live_la_code != settings.la_code:
        raise GateError(
            "The sign-off is for another authority: `live_la_code` and `la_code` differ.",
            hint="Correct the one that is wrong.",
        )
    if settings.la_code == "000" and not is_loopback(settings.api_base_url or ""):
        raise GateError(
            "`la_code` is 000, which no authority has.",
            hint="Write your authority's code of three digits into the profile.",
        )
    if settings.live_approved_on and settings.live_approved_on > dt.date.today():
        raise GateError("The sign-off's date `live_approved_on` lies in the future.")
    return {
        "address": "the live receiver",
        "sign_off": _signed(settings),
    }


def _signed(settings: Settings) -> str:
    day = settings.live_approved_on
    when = f"{day.day} {day:%B %Y}" if day else ""
    return f"{settings.live_approver}, {when}, for authority {settings.live_la_code}"


def _require_https(settings: Settings) -> None:
    for name in ("api_base_url", "token_url"):
        url = getattr(settings, name)
        if not url:
            raise GateError(
                f"`{name}` is missing.", hint=f"`endpoint: {settings.endpoint}` needs it."
            )
        if urlsplit(url).scheme != "https" and not is_loopback(url):
            raise GateError(f"`{name}` must begin with https://.")


def _is_dfe(settings: Settings) -> bool:
    host = urlsplit(settings.api_base_url or "").hostname or ""
    return host == DFE_DOMAIN or host.endswith(f".{DFE_DOMAIN}")
