"""Why a server cannot be reached, looked at step by step where the driver only says "too late".

Microsoft's driver tries again until the time to connect is over and then says no more than that,
whether the name is unknown, the port closed or the instance not there.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from d2i_helpers.database.messages import HOST_UNKNOWN, NO_INSTANCE, NOTHING_LISTENS, Situation

SECONDS = 3.0  # for each step; a server that answers at all does so at once
_BROWSER_PORT = 1434
_ASK_FOR_INSTANCE = b"\x04"  # CLNT_UCAST_INST of the SQL Server Resolution Protocol (MC-SQLR)
_ANSWER = b"\x05"


def of_sql_server(host: str, port: int | None, instance: str | None) -> Situation | None:
    """Look for the host, then for its instance or port.

    Args:
        host: name or address, without instance and port.
        port: None for the usual one, 1433.
        instance: asked for at the SQL Server Browser, unless a port is given.

    Returns:
        What is wrong; None where somebody answers.
    """
    try:
        addresses = socket.getaddrinfo(host, port or 1433, type=socket.SOCK_STREAM)
    except OSError:
        return HOST_UNKNOWN
    places = [address[4] for address in addresses]
    if instance and port is None:
        return None if _browser_knows(places, instance) else NO_INSTANCE
    return None if any(_listens(place) for place in places) else NOTHING_LISTENS


def _listens(place: Sequence[object]) -> bool:
    try:
        with socket.create_connection((str(place[0]), int(str(place[1]))), timeout=SECONDS):
            return True
    except OSError:
        return False


def _browser_knows(places: Sequence[Sequence[object]], instance: str) -> bool:
    """Whether the SQL Server Browser of the host answers for an instance of this name."""
    question = _ASK_FOR_INSTANCE + instance.encode("ascii", "replace") + b"\0"
    for place in places:
        family = socket.AF_INET6 if ":" in str(place[0]) else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as browser:
            browser.settimeout(SECONDS)
            try:
                browser.connect((str(place[0]), _BROWSER_PORT))
                browser.send(question)
                if browser.recv(4096).startswith(_ANSWER):
                    return True
            except OSError:  # nothing there, or no answer in time
                continue
    return False
