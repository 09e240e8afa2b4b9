"""The ledger's head, kept in the database: what shows that a ledger was cut off or replaced."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.runs import ledger
from d2i_helpers.tables import facts

Chain = Sequence[dict[str, Any] | None]


@dataclass(frozen=True)
class Head:
    """A head that the database knows."""

    name: str  # the ledger's own name
    number: int
    digest: str  # hash of that entry
    folder: str  # where the ledger was


def _name(chain: Chain) -> str | None:
    """The ledger's own name: part of its first entry's hash, so that ledgers are told apart."""
    first = chain[0] if chain else None
    return f"ledger {first['hash'][:24]}" if first and "hash" in first else None


def _folder(outputs: Path) -> str:
    """What tells this folder of this machine from others, without naming it."""
    return hashlib.sha256(f"{socket.gethostname()}:{outputs.resolve()}".encode()).hexdigest()[:16]


def _known(connection: Connection) -> list[tuple[str, Head]]:
    """Every head with the staging table of its row."""
    if not database.has_table(connection, facts):
        return []
    query = select(facts).where(facts.c.name.like("ledger %"))
    found = []
    for row in connection.execute(query):
        number, digest, folder = row.value.split()
        found.append((row.staging_table, Head(row.name, int(number), digest, folder)))
    return found


def _is_there(head: Head, chain: Chain) -> bool:
    return any(entry and entry.get("hash") == head.digest for entry in chain)


def missing(outputs: Path, engine: Engine) -> list[Head]:
    """Heads of this ledger, or of one that stood in this folder, that are not in the ledger now.

    Raises:
        DatabaseError: the database cannot be read.
    """
    chain = ledger.entries(outputs)
    name, folder = _name(chain), _folder(outputs)
    with database.reading(engine) as connection:
        heads = {head for _, head in _known(connection)}
    ours = (head for head in heads if head.name == name or head.folder == folder)
    return sorted((h for h in ours if not _is_there(h, chain)), key=lambda h: (h.name, h.number))


def keep(outputs: Path, engine: Engine, staging_table: str) -> None:
    """Keep the ledger's head in the database.

    A head that the ledger does not have any more stays: it is what shows that something is wrong.

    Raises:
        DatabaseError: it could not be written.
    """
    with ledger.held(outputs), database.transaction(engine) as connection:
        chain = ledger.entries(outputs)
        name, head = _name(chain), ledger.head(outputs)
        if name is None or head is None:
            return
        if not database.has_table(connection, facts):
            facts.create(connection)
        for table, old in _known(connection):
            if (table, old.name) == (staging_table, name) and not _is_there(old, chain):
                return
        this = (facts.c.staging_table == staging_table) & (facts.c.name == name)
        connection.execute(delete(facts).where(this))
        value = f"{head['entry']} {head['hash']} {_folder(outputs)}"
        connection.execute(
            insert(facts).values(staging_table=staging_table, name=name, value=value)
        )
