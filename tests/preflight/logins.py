"""A PostgreSQL login that may do only what is granted, and statements run by the owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from d2i_helpers import database


def do(engine: Engine, *statements: str) -> None:
    """Run statements in one transaction."""
    with database.transaction(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))


@contextmanager
def limited_login(engine: Engine, name: str, *grants: str) -> Iterator[str]:
    """URL of the engine's database for a new login with these grants."""
    do(
        engine,
        f"drop role if exists {name}",
        f"create role {name} login password 'limited'",
        "revoke create on schema public from public",
        *grants,
    )
    url = engine.url.set(username=name, password="limited")
    yield url.render_as_string(hide_password=False)
    do(engine, f"drop owned by {name}", f"drop role {name}")
