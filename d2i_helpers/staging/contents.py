"""Whose data a staging table holds: real children's, or those of their anonymised twins.

Which table is which is said by two names in the profile, and the gate goes by these. Mixed up, real
children's data would go to a test receiver as anonymised. So the stage that fills a table notes
what it puts there, and every stage that reads or fills a table compares. Of a table that only other
software filled nothing is known.

All that is kept beside a table goes by its name as the profile writes it. Where a database takes
`STAGING` and `staging` for one table, another spelling would find nothing of it: neither what it
holds, nor what is on the wire, nor who else works on it. So there is one spelling.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import inspect, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
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
        GateError: it does, or it is known by its name in other capitals.
    """
    held = known(connection, staging)
    if held is None:
        _require_spelling(connection, staging)
    if held in (None, contents) or not staging.count(connection):
        return
    raise GateError(
        f"The table {staging.name} holds {_WORDS[held]}, and this profile takes it for the "
        f"{contents} one.",
        hint="`staging_table` and `anon_table` are mixed up, or one names a table of another use.",
    )


def _require_spelling(connection: Connection, staging: Staging) -> None:
    """See that a table of which nothing is known has no facts by its name in other capitals."""
    noted = connection.execute(select(facts.c.staging_table).distinct()).scalars()
    others = {one for one in noted if one != staging.name and one.lower() == staging.name.lower()}
    if not others:
        return
    schema = database.real_schema(connection, staging.table)
    apart = {*inspect(connection).get_table_names(schema=schema)}  # both, where capitals count
    for other in sorted(others):
        if not {other, staging.name} <= apart:
            raise GateError(
                f"The table {staging.name} is known as {other} to what is kept beside it.",
                hint=f"Write `{other}` in the profile, in these capitals.",
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
