"""Which class is that of which database."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.engine import Connection, Dialect, make_url

from d2i_helpers.database.dialects.portable import Portable
from d2i_helpers.errors import SettingsError

_REGISTERED: dict[str, Portable] = {}
DialectClass = TypeVar("DialectClass", bound=type[Portable])


def register(dialect: DialectClass) -> DialectClass:
    """Mark a class as that of the database it names."""
    _REGISTERED[dialect.name] = dialect()
    return dialect


def named(name: str) -> Portable:
    """The dialect of a database by SQLAlchemy's name for it, such as mssql."""
    return _REGISTERED.get(name) or Portable()


def of(database: Engine | Connection) -> Portable:
    """The dialect of an engine or a connection."""
    return named(database.dialect.name)


def of_library(dialect: Dialect) -> Portable:
    """The dialect that belongs to SQLAlchemy's own."""
    return named(dialect.name)


def sqlalchemy_dialect(name: str) -> Dialect:
    """SQLAlchemy's dialect of a database that has a class here; needs no driver.

    Raises:
        SettingsError: there is no class of that name.
    """
    if name not in _REGISTERED:
        known = ", ".join(sorted(_REGISTERED))
        raise SettingsError(f"`{name}` is no database that is known here.", hint=f"Known: {known}.")
    return make_url(f"{name}://").get_dialect()()


def login_named(url: str, name: str) -> str | None:
    """What a database calls the login in an address, where that is of the one with this name."""
    address = make_url(url)
    if address.get_backend_name() != name or not address.username:
        return None
    return named(name).login_called(address.username)


def registered() -> list[Portable]:
    """The dialects that have a class of their own."""
    return list(_REGISTERED.values())
