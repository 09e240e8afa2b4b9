"""The identifiers of a cohort, for the search of executed notebooks and logs."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from sqlalchemy import Engine, bindparam, case, null, select

from d2i_helpers import database
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy.identities import Identity, collector
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, same

_PAGE = 1000


def cohort_identifiers(engine: Engine, settings: Settings) -> Iterator[str]:
    """Everything that identifies a child in the staging table, as `redaction.Redactor` takes it.

    Ids, names, full names both ways round, pupil numbers, postcodes, birth dates; of the document
    staged now and, where it differs, of the one that the receiver acknowledged; of children who
    left as well. A value that several children share comes several times.
    """
    staging = Staging(engine, settings.staging_table)
    collect = collector(load_spec(settings.cms, settings.overlay_path))
    t = staging.table.c
    moved = case((same(t.current_hash, t.previous_hash), null()), else_=t.previous_json_payload)
    statement = (
        select(t.id, t.person_id, t.legacy_id, t.json_payload, moved.label("earlier"))
        .where(t.id > bindparam("last"))
        .order_by(t.id)
        .limit(_PAGE)
    )
    last = -1
    with database.reading(engine) as connection:
        if not database.has_table(connection, staging.table):
            return
        while rows := connection.execute(statement, {"last": last}).all():
            last = rows[-1].id
            for row in rows:
                yield from filter(None, (row.person_id, row.legacy_id))
                for text in filter(None, (row.json_payload, row.earlier)):
                    try:
                        document = orjson.loads(text)
                    except ValueError:
                        continue
                    yield from _of(collect(document))


def _of(identity: Identity) -> Iterator[str]:
    first = next(identity.of("first_name"), None)
    last = next(identity.of("surname"), None)
    if first and last:
        yield f"{first} {last}"
        yield f"{last} {first}"
    for _, value, _ in identity.values:
        yield value
