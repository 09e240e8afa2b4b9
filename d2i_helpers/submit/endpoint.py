"""Where documents go: addresses and credentials of the receiver, real or simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from d2i_helpers.errors import SettingsError

if TYPE_CHECKING:  # the simulated receiver's process starts without what settings import
    from d2i_helpers.settings import Secrets, Settings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

# The simulated receiver listens on loopback only and holds fictional children. These are therefore
# no secrets; they are fixed so that a receiver started by hand fits the demo profile.
SIMULATED_BASE_PATH = "/children-in-social-care-data-receiver-test/1"
SIMULATED_TOKEN_PATH = "/simulated/oauth2/v2.0/token"  # noqa: S105 - a path
SIMULATED_SCOPE = "api://d2i-simulated/.default"
SIMULATED_CLIENT_ID = "d2i-simulated-client"
SIMULATED_CLIENT_SECRET = "known-to-everybody-on-loopback"  # noqa: S105 - see above
SIMULATED_SUPPLIER_KEY = "simulated-supplier-key"


@dataclass(frozen=True)
class Endpoint:
    """A receiver: two addresses and what it asks for. Credentials are left out of its repr."""

    base_url: str  # without the authority's code
    token_url: str
    token_scope: str
    la_code: str  # three digits
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    supplier_key: str = field(repr=False)

    @property
    def children_url(self) -> str:
        """Where an authority's documents are posted to."""
        return f"{self.base_url.rstrip('/')}/children_social_care_data/{self.la_code}/children"

    @property
    def on_loopback(self) -> bool:
        """Whether documents stay on this machine."""
        return is_loopback(self.base_url)


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine itself."""
    return (urlsplit(url).hostname or "") in LOOPBACK


def simulated_endpoint(
    address: str, la_code: str, *, base_url: str | None = None, token_url: str | None = None
) -> Endpoint:
    """The endpoint of a simulated receiver at ``address``, such as ``http://127.0.0.1:8089``."""
    return Endpoint(
        base_url=base_url or address + SIMULATED_BASE_PATH,
        token_url=token_url or address + SIMULATED_TOKEN_PATH,
        token_scope=SIMULATED_SCOPE,
        la_code=la_code,
        client_id=SIMULATED_CLIENT_ID,
        client_secret=SIMULATED_CLIENT_SECRET,
        supplier_key=SIMULATED_SUPPLIER_KEY,
    )


def endpoint_for(settings: Settings, secrets: Secrets) -> Endpoint:
    """The endpoint that the profile names.

    For ``endpoint: simulated`` the address is `api_base_url` or the fixed `receiver_port`, and must
    be on loopback; its credentials are the fixed ones, so that real ones are never sent there.

    Raises:
        SettingsError: an address or a secret is missing or cannot be used; lists each.
    """
    if settings.endpoint == "simulated":
        return _simulated(settings)
    needed = {
        "api_base_url": settings.api_base_url,
        "token_url": settings.token_url,
        "token_scope": settings.token_scope,
    }
    held = {
        name: secret.get_secret_value()
        for name in ("client_id", "client_secret", "supplier_key")
        if (secret := getattr(secrets, name)) is not None
    }
    missing = [f"`{name}`" for name, value in needed.items() if not value]
    missing += [
        f"D2I_{name.upper()}"
        for name in ("client_id", "client_secret", "supplier_key")
        if not held.get(name)
    ]
    if missing:
        raise SettingsError(
            f"The {settings.endpoint} endpoint cannot be used without {', '.join(missing)}.",
            hint="Names in `quotes` are parameters of the profile; the others are secrets, set "
            "in the environment or in .env.",
        )
    for name in ("api_base_url", "token_url"):
        _check_url(name, needed[name] or "")
    return Endpoint(
        base_url=needed["api_base_url"] or "",
        token_url=needed["token_url"] or "",
        token_scope=needed["token_scope"] or "",
        la_code=settings.la_code,
        **held,
    )


def _check_url(name: str, url: str) -> None:
    """A usable address: encrypted unless it is on this machine, and without credentials in it."""
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        good = False
    if not good or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))):
        raise SettingsError(
            f"`{name}` must be an address such as https://host/path, and https.",
            hint="No user name, question mark or # in it; credentials are secrets.",
        )


def _simulated(settings: Settings) -> Endpoint:
    base = settings.api_base_url
    if base is None:
        if not settings.receiver_port:
            raise SettingsError(
                "The simulated receiver has no address before it is started.",
                hint="`d2i run` starts it by itself; for one started by hand set `receiver_port`.",
            )
        return simulated_endpoint(f"http://127.0.0.1:{settings.receiver_port}", settings.la_code)
    _check_url("api_base_url", base)
    parts = urlsplit(base)
    address = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    token_url = settings.token_url or address + SIMULATED_TOKEN_PATH
    _check_url("token_url", token_url)
    if not (is_loopback(base) and is_loopback(token_url)):
        raise SettingsError(
            "`endpoint: simulated` is on this machine, but an address of the profile is not.",
            hint="For the DfE's test service set `endpoint: test`.",
        )
    return simulated_endpoint(address, settings.la_code, base_url=base, token_url=token_url)
