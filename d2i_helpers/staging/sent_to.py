"""To which receiver a staging table goes: what one acknowledged, another one does not hold.

A row that says `sent` is not sent again, whichever receiver took it. So after a rehearsal on one
machine the DfE would never get the children, and what went elsewhere for one day would be missing
at the DfE for good; no exit code would say so. Submit notes which receiver acknowledged something,
and sends the table to no other one. Of a table that other software, or only an earlier release,
has sent nothing is known.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from d2i_helpers.errors import GateError
from d2i_helpers.settings import Settings
from d2i_helpers.staging.rows import Staging

_FACT = "sent_to"


def note(connection: Connection, staging: Staging, settings: Settings) -> None:
    """Note that the profile's receiver has acknowledged something of a table."""
    staging.set_fact(connection, _FACT, _receiver(settings))


def require(connection: Connection, staging: Staging, settings: Settings) -> bool:
    """See that no other receiver than the profile's has acknowledged something of a table.

    Returns:
        Whether it is noted already that this one has.

    Raises:
        GateError: another one has.
    """
    before, now = staging.fact(connection, _FACT), _receiver(settings)
    if before in (None, now):
        return before == now
    table = "anon_table" if settings.source == "anonymised" else "staging_table"
    raise GateError(
        f"The table {staging.name} went to another receiver before ({before}) than this profile's "
        f"({now}), which would never get what that one has acknowledged.",
        hint="Correct `endpoint` or `la_code`. Where this receiver is to get everybody, name "
        f"another `{table}`: all are staged there anew, and sent whole.",
    )


def _receiver(settings: Settings) -> str:
    """The receiver in words. Its address may change; and it keeps each authority by itself."""
    return f"{settings.endpoint}, authority {settings.la_code}"
