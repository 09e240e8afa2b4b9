"""A SQL Server named by its parts, as people there know them, in place of a database URL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL

from d2i_helpers.errors import SettingsError

if TYPE_CHECKING:
    from d2i_helpers.settings.model import Settings

SERVER = "sql_server"
PREFIX = "sql_server_"
# `host`, `host\instance` and `host,port`, as Management Studio takes them
_TYPED = re.compile(r"([\w.-]+|\(localdb\))(?:\\([\w$#-]+)|,\s*(\d{1,5}))?")
_ENCRYPT = {"mandatory": "yes", "strict": "strict", "optional": "no"}
_INTENT = {"read_write": None, "read_only": "ReadOnly"}


def parts_decide(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the database is named by its parts, and not by `database_url`.

    Args:
        layers: the parameters by where they come from; a later one wins.

    Raises:
        SettingsError: the layer that decides names both.
    """
    for layer in reversed(layers):
        by_url = layer.get("database_url") is not None
        by_parts = layer.get(SERVER) is not None
        if by_url and by_parts:
            raise SettingsError(
                "Both `database_url` and `sql_server` are given.",
                hint="Name the database by one of the two, and take the other out.",
            )
        if by_url or by_parts:
            return by_parts
    return False


def refuse_parts_without_server(layers: Sequence[Mapping[str, Any]]) -> None:
    """Raise `SettingsError` where a part is given and no server in any layer.

    Where a later layer gives a `database_url`, the parts below it have no say and may stay.
    """
    if any(layer.get(SERVER) is not None for layer in layers):
        return
    parts = sorted({name for layer in layers for name in layer if name.startswith(PREFIX)})
    if parts:
        raise SettingsError(
            f"`{parts[0]}` is given, and no `sql_server`.",
            hint="Name the server in `sql_server`; or take this parameter out and use "
            "`database_url` alone.",
        )


def database_url(settings: Settings) -> str:
    r"""The URL that the parts of a SQL Server stand for; it holds no password.

    The driver stays open where none is named: the newest on the machine is taken when the
    connection is opened. Without a login it is the Windows account that the process runs as.

    Raises:
        SettingsError: a part is missing, or two parts disagree.
    """
    host, instance, port = _place(settings)
    if settings.sql_server_database is None:
        raise SettingsError(
            "`sql_server` is given, and no `sql_server_database`.",
            hint="Name the database that holds the SSD.",
        )
    if "\\" in (settings.sql_server_login or ""):
        raise SettingsError(
            "`sql_server_login` is a Windows account, which no password logs in.",
            hint="Take it out, and run as that account (of the schedule, or with runas).",
        )
    query = {
        "driver": settings.sql_server_driver,
        "Trusted_Connection": None if settings.sql_server_login else "yes",
        "Encrypt": _ENCRYPT[settings.sql_server_encrypt],
        "TrustServerCertificate": "yes" if settings.sql_server_trust_certificate else None,
        "HostNameInCertificate": settings.sql_server_certificate_name,
        "ApplicationIntent": _INTENT[settings.sql_server_intent],
    }
    return URL.create(
        "mssql+pyodbc",
        username=settings.sql_server_login,
        host=f"{host}\\{instance}" if instance else host,
        port=port,
        database=settings.sql_server_database,
        query={name: value for name, value in query.items() if value is not None},
    ).render_as_string(hide_password=False)


def _place(settings: Settings) -> tuple[str, str | None, int | None]:
    """Host, instance and port; what is typed with the server counts as if given on its own."""
    typed = _TYPED.fullmatch((settings.sql_server or "").strip())
    if typed is None:
        raise SettingsError(
            "`sql_server` is no name of a server.",
            hint=r"Write `host`, `host\instance` or `host,port`; other parts have parameters of "
            "their own.",
        )
    host, instance, port = typed.groups()
    instance = _one_of("sql_server_instance", instance, settings.sql_server_instance)
    port = _one_of("sql_server_port", port and int(port), settings.sql_server_port)
    if instance and port:
        raise SettingsError(
            "An instance and a port are given for `sql_server`.",
            hint="Give one: a port leads to one instance, whatever its name.",
        )
    return host, instance, port


def _one_of(name: str, typed: Any, given: Any) -> Any:
    """The part that is given in one place, or alike in both."""
    if typed is not None and given is not None and typed != given:
        raise SettingsError(
            f"`{name}` is another than what stands in `sql_server`.", hint="Give it once."
        )
    return given if typed is None else typed
