"""What a database knows of how many rows its tables have, by which it chooses its plans."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import DDL, Engine, Table

from d2i_helpers.database import dialects
from d2i_helpers.database.catalogue import quoted_name
from d2i_helpers.database.transactions import transaction
from d2i_helpers.errors import DatabaseError


def renew_statistics(engine: Engine, tables: Sequence[Table]) -> None:
    """Let the database count tables anew that were filled just now.

    A database that counts by itself does so some time later, and until then takes a full table for
    an empty one. Nothing happens on databases that need no telling, and where the login may not do
    it or another session is at it: statistics make a day faster and nothing else.
    """
    dialect = dialects.of(engine)
    if not dialect.counts_when_told:
        return
    for table in tables:
        with suppress(DatabaseError), transaction(engine) as connection:
            name = quoted_name(connection, table)
            connection.execute(DDL(f"analyze {name}".replace("%", "%%")))
