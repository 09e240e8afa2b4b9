"""Days of changes in an anonymised staging table alone, where no SSD is at hand.

As authorities do in their test phases: the table changes as a nightly load would change it, so that
delta and submit have something to send. It goes through the same `load` as extract and anonymise,
which alone decides about states and hashes. The identifiable table, and whatever may go live, is
refused.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import Engine, cast, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.database.dialects import Characters
from d2i_helpers.demo.simulate import document_changes as changes
from d2i_helpers.demo.simulate.document_changes import Day
from d2i_helpers.demo.simulate.words import Draw, names_of
from d2i_helpers.document.canonical import to_text
from d2i_helpers.errors import GateError
from d2i_helpers.payload_spec import Document, Spec, load_spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging
from d2i_helpers.staging.lease import working_on
from d2i_helpers.staging.load import Child, Load
from d2i_helpers.staging.marks import LONGEST_ID
from d2i_helpers.staging.states import RowState

Progress = Callable[[int, int | None], None]

DAY_FACT = "simulated_days"
_AT_A_TIME = 500  # documents in memory


def days_in_staging(
    settings: Settings, *, days: int = 1, progress: Progress | None = None
) -> dict[str, int]:
    """Let days pass in the anonymised table: changes, additions, departures and returns.

    A day is one transaction. What happens depends on the seed, the number of the day and what the
    table holds.

    Args:
        days: how many days.
        progress: called with the days that are over and their number.

    Returns:
        Number of changes by kind, over all days; one child has one change a day.

    Raises:
        GateError: the profile sends the identifiable table, may send live, or the table holds
            children of the SSD.
        DatabaseError: there is no such table. LockError: a run works on it.
    """
    engine = database.open_database(settings)
    try:
        refuse_identifiable(engine, settings)
        spec = load_spec(settings.cms, settings.overlay_path)
        counts: Counter[str] = Counter()
        with working_on(engine, [settings.anon_table]):
            for over in range(days):
                counts.update(_one_day(engine, settings, spec))
                if progress:
                    progress(over + 1, days)
        return dict(counts)
    finally:
        engine.dispose()


# -------------------------------------------------------------------------------------- whose it is
def refuse_identifiable(engine: Engine, settings: Settings) -> None:
    """Make sure that the table is an anonymised one, and goes nowhere but to a test.

    Raises:
        GateError: it may be identifiable, or go live.
    """
    hint = "Use a profile with `source: anonymised` and `endpoint: test` or `simulated`."
    if settings.source != "anonymised":
        raise GateError("The identifiable staging table is never changed by hand.", hint=hint)
    if settings.endpoint == "live":
        raise GateError("This profile may send live, so nothing is made up in it.", hint=hint)
    staging = Staging(engine, settings.anon_table)
    original, person = tables.staging_table(settings.staging_table), tables.ssd_table("ssd_person")
    with database.reading(engine) as connection:
        database.require_staging(connection, staging.name)
        for table, key in ((original, original.c.person_id), (person, person.c.pers_person_id)):
            if not database.has_table(connection, table):
                continue
            ids = select(cast(key, Characters(LONGEST_ID)))  # an SSD may have numbers
            shared = select(staging.table.c.id).where(staging.table.c.person_id.in_(ids))
            if connection.execute(shared.limit(1)).first() is not None:
                raise GateError(
                    f"`{staging.name}` holds ids that stand in `{table.name}` too, so it is no "
                    "anonymised copy.",
                    hint="Check `anon_table`. Nothing was changed.",
                )


# -------------------------------------------------------------------------------------------- a day
def _one_day(engine: Engine, settings: Settings, spec: Spec) -> Counter[str]:
    counts: Counter[str] = Counter()
    load = Load(engine, settings.anon_table, spec, settings, Counter())
    load.rehash_if_needed()
    with database.transaction(engine) as connection:
        number = int(load.staging.fact(connection, DAY_FACT) or 0) + 1
        seed = settings.simulate_seed
        draw = Draw(seed, "staging day", number)
        day = Day(spec, draw, names_of(seed), settings.today, number)
        load.begin(connection)
        live, gone = people(connection, load.staging)
        order = draw.several(live, len(live))
        for person_id in _leavers(order, counts):
            row = load.staging.lookup(connection, [person_id], lock=True)[person_id]
            counts["children left"] += load.staging.mark_gone(connection, [row.id], load.now)
        children = [
            *_changed(connection, load.staging, day, order, counts),
            *_added(connection, load.staging, day, order, counts),
            *_back(connection, load.staging, day, gone, len(live), counts),
        ]
        people_of_day = [child.person_id for child in children]
        rows = load.staging.lookup(connection, people_of_day, lock=True)
        load.write(connection, load.compare(connection, children, rows).changes, rows)
        load.staging.set_fact(connection, DAY_FACT, str(number))
    return counts


def _at_least_one(share: float, total: int) -> int:
    return min(total, max(1, round(share * total)))


def people(connection: Connection, staging: Staging) -> tuple[list[str], list[str]]:
    """Ids of the live rows and of those that are gone, sorted here: databases sort text apart."""
    t = staging.table.c
    found: dict[bool, list[str]] = {True: [], False: []}
    for row in connection.execute(select(t.person_id, staging.state.label("state"))):
        found[row.state == RowState.DELETED].append(row.person_id)
    return sorted(found[False]), sorted(found[True])


def _leavers(order: list[str], counts: Counter[str]) -> list[str]:
    """The children who leave; they are taken out of the order. Somebody always stays."""
    number = min(_at_least_one(changes.LEAVERS, len(order)), max(0, len(order) - 1))
    counts["children left"] += 0
    return [order.pop() for _ in range(number)]


def documents(
    connection: Connection, staging: Staging, person_ids: Sequence[str]
) -> Iterator[tuple[str, str | None, Document]]:
    """(id, legacy id, document) of these children in this order, as far as it is JSON."""
    t = staging.table.c
    for start in range(0, len(person_ids), _AT_A_TIME):
        part = list(person_ids[start : start + _AT_A_TIME])
        wanted = select(t.person_id, t.legacy_id, t.json_payload).where(t.person_id.in_(part))
        rows = {row.person_id: row for row in connection.execute(wanted)}
        for person_id in part:
            document = _parsed(rows[person_id].json_payload)
            if document is not None:
                yield person_id, rows[person_id].legacy_id, document


def _parsed(text: Any) -> Document | None:
    try:
        document = orjson.loads(text)
    except (ValueError, TypeError):
        return None
    return document if isinstance(document, dict) else None


def _changed(
    connection: Connection, staging: Staging, day: Day, order: Sequence[str], counts: Counter[str]
) -> list[Child]:
    """Try the changes on children in random order until each change has had its share."""
    wanted = {
        name: _at_least_one(share, len(order)) for name, (_, share) in changes.CHANGES.items()
    }
    counts.update(dict.fromkeys(wanted, 0))
    children = []
    for person_id, legacy_id, document in documents(connection, staging, order):
        if name := _change(day, document, [name for name, left in wanted.items() if left]):
            wanted[name] -= 1
            counts[name] += 1
            children.append(_child(day, person_id, legacy_id, document))
        if not any(wanted.values()):
            break
    return children


def _change(day: Day, document: Document, names: Sequence[str]) -> str | None:
    """The name of the first change that fitted, made; None: none did.

    A document that other software damaged is left alone.
    """
    try:
        return next((name for name in names if changes.CHANGES[name][0](day, document)), None)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def _added(
    connection: Connection, staging: Staging, day: Day, order: Sequence[str], counts: Counter[str]
) -> list[Child]:
    """New children, each like one who is there."""
    counts["children added"] += 0
    children = []
    for _, _, document in documents(
        connection,
        staging,
        day.draw.several(order, _at_least_one(changes.NEW_CHILDREN, len(order))),
    ):
        try:
            made = changes.another_child(day, document)
        except (ValueError, TypeError, AttributeError, KeyError):
            continue  # a document that other software damaged
        person_id = str(made[day.spec.root.key or ""])
        children.append(_child(day, person_id, None, made))
        counts["children added"] += 1
    return children


def _back(
    connection: Connection,
    staging: Staging,
    day: Day,
    gone: Sequence[str],
    total: int,
    counts: Counter[str],
) -> list[Child]:
    """Children who left before today and are there again, with the document that they had."""
    counts["children back"] += 0
    chosen = day.draw.several(gone, min(len(gone), _at_least_one(changes.BACK, total)))
    children = [_child(day, *found) for found in documents(connection, staging, chosen)]
    counts["children back"] += len(children)
    return children


def _child(day: Day, person_id: str, legacy_id: str | None, document: Document) -> Child:
    # items of other software that cannot be compared stay as they are
    with contextlib.suppress(TypeError, AttributeError):
        changes.in_order(day.spec.root, document)
    return Child(person_id, legacy_id, document, to_text(document))
