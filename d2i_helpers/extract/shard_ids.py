"""Whether every shard takes an id for that of one and the same shard."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import shards
from d2i_helpers.document.source_rows import key_text
from d2i_helpers.errors import SettingsError
from d2i_helpers.extract.deployed_tables import DeployedTables, source_table
from d2i_helpers.extract.sources import fetched
from d2i_helpers.plain_english import subject


def require_clear_ids(deployed: DeployedTables, connection: Connection) -> None:
    """See that no id changes its shard on its way into the staging table.

    It is staged without what surrounds it, and may be written otherwise than when first staged.
    Where the database and Python could see that differently, one shard would stage a child whom
    another one takes for gone. So every shard looks at all ids, and all come to one answer.

    Raises:
        SettingsError: there are such ids.
    """
    if deployed.settings.part.is_whole:
        return
    fold, person = deployed.folds_capitals(connection), deployed.plan.person
    source = source_table(person.table)
    ids = select(deployed.expression(source, person.table, person.key)).select_from(source)
    try:
        found = database.read_again(
            connection, lambda: [row[0] for row in fetched(connection.execute(ids))]
        )
    except deployed.unreadable as error:
        if not database.may_be_about_a_value(error):
            raise
        found = [None]
        unclear = 1
    else:
        unclear = sum(not _is_clear(value, fold=fold) for value in found)
    connection.rollback()
    if unclear:
        raise SettingsError(
            f"`shard`: {subject(unclear, 'id', 'has')} characters, or a type, that the "
            f"database and this program may take differently, so shards cannot be told apart.",
            hint="Run without `shard`, or correct the ids in the source: outer characters that "
            "cannot be seen, letters beyond ASCII, decimal places.",
        )


def _is_clear(value: Any, *, fold: bool) -> bool:
    """Whether an id is of one shard for sure, as the database has it and as it is staged.

    Args:
        fold: whether the database takes capitals alike; beyond ASCII it does so in its own way.
    """
    if value is None or type(value) in (int, uuid.UUID):
        return True
    if isinstance(value, float | Decimal):
        return value % 1 == 0
    if not isinstance(value, str):
        return False
    return (key_text(value) or "") == value.strip(shards.BLANKS) and (not fold or value.isascii())
