"""Whose data a staging table holds: real children's, or those of their anonymised twins.

Which table is which is said by two names in the profile, and the gate goes by these. Mixed up, real
children's data would go to a test receiver as anonymised. So the stage that fills a table notes
what it puts there, and every stage that reads or fills a table compares. Of a table that only other
software filled nothing is known.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.engine import Connection

from d2i_helpers.database.tables import facts
from d2i_helpers.errors import GateError
from d2i_helpers.staging.rows import Staging


class Contents(StrEnum):
    """What a staging table holds, in the words of the parameter `source`."""

    IDENTIFIABLE = "identifiable"
    ANONYMISED = "anonymised"


_FACT = "holds"
# facts that only extract or only anonymise keeps: earlier releases did not note what a table holds
_OF_EXTRACT = ("window_start", "marks_salt")  # of shards with the shard behind it
_OF_ANONYMISE = ("row_order", "pseudonym_mark")
_WORDS = {
    Contents.IDENTIFIABLE: "real children's documents",
    Contents.ANONYMISED: "anonymised documents",
}


def claim(staging: Staging, contents: Contents) -> None:
    """Note what a table holds, before a stage fills it.

    Raises:
        GateError: it holds the other kind.
    """

    def note(connection: Connection) -> None:
        require(connection, staging, contents)
        staging.set_fact(connection, _FACT, contents)

    staging.in_transaction(note)


def require(connection: Connection, staging: Staging, contents: Contents) -> None:
    """See that a table does not hold the other kind.

    Raises:
        GateError: it does.
    """
    held = known(connection, staging)
    if held in (None, contents) or not staging.count(connection):
        return
    raise GateError(
        f"The table {staging.name} holds {_WORDS[held]}, and this profile takes it for the "
        f"{contents} one.",
        hint="`staging_table` and `anon_table` are mixed up, or one names a table of another use.",
    )


def tables_with(connection: Connection, contents: Contents) -> list[str]:
    """The staging tables of which it was noted that they hold this kind, by name."""
    column = facts.c
    noted = select(column.staging_table).where(column.name == _FACT, column.value == contents.value)
    return list(connection.execute(noted.order_by(column.staging_table)).scalars())


def known(connection: Connection, staging: Staging) -> Contents | None:
    """What the table holds by what was noted; None where that is not known."""
    said = staging.facts_like(connection, "")
    noted = said.get(_FACT)
    if noted in set(Contents):
        return Contents(noted)
    if any(name.startswith(_OF_EXTRACT) for name in said):
        return Contents.IDENTIFIABLE
    return Contents.ANONYMISED if any(name in _OF_ANONYMISE for name in said) else None
