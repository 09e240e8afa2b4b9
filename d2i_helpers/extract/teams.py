"""Which team works with each child, from the columns that the specification names (`teams`).

For data quality only: a team's name may hold a person's, and nothing of it is sent or saved.
"""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.document.source_rows import date_text, key_text
from d2i_helpers.extract.whole_columns import name_here, texts
from d2i_helpers.payload_spec import Spec, Team


def teams_of(engine: Engine, spec: Spec) -> dict[str, str]:
    """The team of each person who has one, by the person's id.

    A table or a column that is not there names no team.
    """
    found: dict[str, str] = {}
    with database.reading(engine) as connection:
        for team in spec.teams:
            for person_id, name in _of_table(connection, engine, spec, team).items():
                found.setdefault(person_id, name)
    return found


def _of_table(connection: Connection, engine: Engine, spec: Spec, team: Team) -> dict[str, str]:
    """The team of each person by one table: of the row that is not ended, else of the newest."""
    asked = (team.person, team.column, team.newest, team.ended)
    there = [name and name_here(connection, spec, team.table, name) for name in asked]
    if not (there[0] and there[1]):
        return {}
    best: dict[str, tuple[bool, str, str]] = {}
    for row in texts(connection, engine, team.table, [name for name in there if name]):
        values = iter(row)
        person_id, name, newest, ended = (next(values) if column else None for column in there)
        if (key := key_text(person_id)) and name:
            # a date that is not there decides nothing
            rank = (date_text(ended) is None, date_text(newest) or "", name)
            best[key] = max(best.get(key, rank), rank)
    return {person_id: rank[-1] for person_id, rank in best.items()}
