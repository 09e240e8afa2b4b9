"""What identifies a child in a document, according to the anonymising rule of each field.

Pseudonyms, leak check and redaction of records share this one list, so that none of them forgets a
field. `cohort_identifiers` gives the identifiers of a whole staging table, for the search of
executed notebooks and logs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Engine, bindparam, case, null, select

from d2i_helpers import database
from d2i_helpers.payload_spec import Block, Document, Spec, load_spec
from d2i_helpers.privacy.redaction import normal
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, same

IDS = frozenset({"child_id", "item_id", "worker_id", "upn"})
NAMES = frozenset({"first_name", "surname"})
IDENTIFYING = IDS | NAMES | {"postcode", "birth_date"}
_ROWS_AT_A_TIME = 1000


@dataclass(slots=True)
class Identity:
    """Identifying values of one document, as text."""

    values: list[tuple[str, str, str]] = field(default_factory=list)  # rule, value, normal form
    dates: set[str] = field(default_factory=set)  # all dates, births included

    def of(self, *rules: str) -> Iterator[str]:
        """Values of fields with these rules."""
        return (value for rule, value, _ in self.values if rule in rules)


_Collect = Callable[[Any, Identity], None]


@functools.lru_cache(maxsize=8)
def collector(spec: Spec) -> Callable[[Document], Identity]:
    """A function that collects the identifying values of a document of this specification."""
    walk = _block(spec.root)

    def collect(document: Document) -> Identity:
        identity = Identity()
        walk(document, identity)
        return identity

    return collect


def _block(block: Block) -> _Collect:
    # only identifying fields and dates: most fields are neither, and one look-up skips them
    fields: dict[str, tuple[str | None, bool, _Collect | None]] = {
        field.name: (
            field.anonymise if field.anonymise in IDENTIFYING else None,
            field.type == "date",
            None,
        )
        for field in block.fields
        if field.anonymise in IDENTIFYING or field.type == "date"
    }
    for child in (*block.values, *block.blocks):
        fields[child.name] = (None, False, _block(child))

    def walk(held: Any, identity: Identity) -> None:
        if type(held) is list:
            for item in held:
                walk(item, identity)
            return
        if type(held) is not dict:
            return
        values, days = identity.values, identity.dates
        for name, value in held.items():
            field = fields.get(name)
            if field is None:
                continue
            rule, is_date, inner = field
            if inner is not None:
                inner(value, identity)
                continue
            if is_date and type(value) is str:
                days.add(value)
            if rule is not None and value is not None and value != "":
                value = value if type(value) is str else str(value)
                values.append((rule, value, normal(value)))

    return walk


@functools.lru_cache(maxsize=8)
def person_reader(spec: Spec) -> Callable[[Document], str | None]:
    """A function of a document that gives full name and birth date in one text, in normal form.

    It gives None where first name, surname or birth date is missing.
    """
    places: dict[str, list[tuple[str, str]]] = {}
    for block, spec_field in spec.fields():
        if block.kind in {"root", "object"}:
            name = "" if block.kind == "root" else block.name
            places.setdefault(spec_field.anonymise, []).append((name, spec_field.name))
    wanted = [places.get(rule, []) for rule in ("first_name", "surname", "birth_date")]

    def person(document: Document) -> str | None:
        found = []
        for fields in wanted:
            for block, name in fields:
                held = document.get(block) if block else document
                value = held.get(name) if type(held) is dict else None
                if type(value) is str and value:
                    found.append(value)
                    break
            else:
                return None
        first, last, born = found
        return f"{_normal_name(first)}|{_normal_name(last)}|{born}"

    return person


_normal_name = functools.lru_cache(maxsize=20_000)(normal)  # names repeat, the made-up ones most


# ------------------------------------------------------------------------- of a whole cohort
def cohort_identifiers(engine: Engine, settings: Settings) -> Iterator[str]:
    """Everything that identifies a child in the staging table, as `redaction.Redactor` takes it.

    These are ids, names, full names both ways round, pupil numbers, postcodes and birth dates. They
    come from the staged document and, where it differs, from the acknowledged one, also of children
    who left. A value that several children share is given several times.
    """
    staging = Staging(engine, settings.staging_table)
    collect = collector(load_spec(settings.cms, settings.overlay_path))
    t = staging.table.c
    statement = (
        select(t.id, *identifying_columns(staging))
        .where(t.id > bindparam("last"))
        .order_by(t.id)
        .limit(_ROWS_AT_A_TIME)
    )
    last = -1
    with database.reading(engine) as connection:
        if not database.has_table(connection, staging.table):
            return
        while rows := connection.execute(statement, {"last": last}).all():
            last = rows[-1].id
            for row in rows:
                yield from identifiers_of(row, collect)


def identifying_columns(staging: Staging) -> list[ColumnElement]:
    """What `identifiers_of` reads of a staging row."""
    t = staging.table.c
    moved = case((same(t.current_hash, t.previous_hash), null()), else_=t.previous_json_payload)
    return [t.person_id, t.legacy_id, t.json_payload, moved.label("earlier")]


def identifiers_of(row: Any, collect: Callable[[Document], Identity]) -> Iterator[str]:
    """What identifies the child of one staging row.

    Args:
        row: with `identifying_columns`.
        collect: what `collector` gave.
    """
    yield from map(str, filter(None, (row.person_id, row.legacy_id)))
    for text in filter(None, (row.json_payload, row.earlier)):
        try:
            document = orjson.loads(text)
        except ValueError:
            continue
        yield from _texts_of(collect(document))


def _texts_of(identity: Identity) -> Iterator[str]:
    first = next(identity.of("first_name"), None)
    last = next(identity.of("surname"), None)
    if first and last:
        yield f"{first} {last}"
        yield f"{last} {first}"
    for _, value, _ in identity.values:
        yield value
