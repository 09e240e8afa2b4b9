"""Gates: which table may go to which endpoint, decided before anything is sent.

Identifiable data leaves only when profile, table, endpoint and sign-off agree. The rules:

| endpoint  | table        | what else must hold                                                   |
|-----------|--------------|-----------------------------------------------------------------------|
| simulated | either       | the address is on this machine                                        |
| test      | anonymised   | HTTPS; a DfE address must be that of its test receiver                |
| live      | identifiable | HTTPS; not the test receiver; a named approver, a date, the LA's code |
"""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlsplit

from d2i_helpers.endpoint import is_loopback
from d2i_helpers.errors import GateError
from d2i_helpers.settings import Settings

DFE_DOMAIN = "education.gov.uk"
TEST_MARK = "receiver-test"  # in the path of the DfE's test receiver


def check(settings: Settings) -> dict[str, str]:
    """Decide whether this table may go to this endpoint.

    Returns:
        What was decided and why, for the notebook and the run record.

    Raises:
        GateError: it may not; the message says which two things disagree.
    """
    decided = {"endpoint": settings.endpoint, "table": settings.source}
    if settings.endpoint == "simulated":
        return decided | {"address": _simulated(settings)}
    if settings.endpoint == "test":
        return decided | _test(settings)
    return decided | _live(settings)


def _simulated(settings: Settings) -> str:
    if settings.api_base_url and not is_loopback(settings.api_base_url):
        raise GateError(
            "The simulated endpoint must be on this machine, and `api_base_url` is not.",
            hint="Take `api_base_url` out, or set `endpoint: test` or `live`.",
        )
    return "on this machine"


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
    return {"address": "a test receiver", "sign-off": "not needed for anonymised data"}


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
        if not getattr(settings, name)
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
    if settings.live_approved_on and settings.live_approved_on > dt.date.today():
        raise GateError("The sign-off's date `live_approved_on` lies in the future.")
    return {
        "address": "the live receiver",
        "sign-off": f"{settings.live_approver}, {settings.live_approved_on}, "
        f"for authority {settings.live_la_code}",
    }


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
