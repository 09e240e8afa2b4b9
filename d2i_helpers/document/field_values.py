"""Compile one field: where its raw value is, and the function that makes the value to send.

Also how to get from a row of one source to the rows of another. `assembly` combines the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from d2i_helpers.document.driver_values import (
    Remembered,
    Result,
    Transform,
    is_unreadable_text,
)
from d2i_helpers.document.source_rows import (
    Doubt,
    Page,
    ReadPlan,
    SourceRow,
    key_text,
    unreadable,
)
from d2i_helpers.document.transforms import compile_transform
from d2i_helpers.payload_spec import Field, Spec

Rows = Callable[[SourceRow, str, Page], Sequence[SourceRow]]
_NO_ROWS: tuple[SourceRow, ...] = ()


class FieldMaker:
    """One field of a block; exactly one of `remembered`, `direct` and `routed` makes its value.

    `remembered`: a look-up by the raw value in the block's own row. `direct`: a function of (raw
    value, row); only transforms with `also` or `not_before` use the row. `routed`: a function of
    (row, person id, page), for values of other sources.
    """

    def __init__(
        self,
        field: Field,
        block_source: str,
        spec: Spec,
        plan: ReadPlan,
        shared: dict[str, Remembered[Result]],
    ) -> None:
        """Compile a field; ``shared`` holds the caches of transforms that several fields share."""
        self.name, self.path, self.at = field.name, field.path, plan.at(field.source, field.column)
        self.remembered: Remembered[Result] | None = None
        self.direct: Callable[[Any, SourceRow], Result] | None = None
        self.routed: Callable[[SourceRow, str, Page], Result] | None = None
        transform = compile_transform(field, spec)
        other_columns = [field.options[o] for o in ("also", "not_before") if field.options.get(o)]
        if field.source != block_source or field.type == "codes":
            self.routed = self._routed(field, transform, block_source, plan, other_columns)
        elif other_columns:
            self.direct = _with_others(transform, field.source, plan, other_columns)
        elif field.type == "date":
            self.remembered = shared.setdefault(field.transform, Remembered(transform))
        elif field.codes or field.type in ("boolean", "integer"):
            self.remembered = Remembered(transform)
        else:
            self.direct = transform

    def _routed(
        self,
        field: Field,
        transform: Transform,
        block_source: str,
        plan: ReadPlan,
        other_columns: list[str],
    ) -> Callable[[SourceRow, str, Page], Result]:
        """The value from other rows: all of them for a list of codes, else the first usable one."""
        at, reach = self.at, route(plan, field.source, block_source)
        call = (
            _with_others(transform, field.source, plan, other_columns)
            if other_columns
            else transform
        )
        if field.type == "codes":

            def codes(row: SourceRow, person_id: str, page: Page) -> Result:
                rows = reach(row, person_id, page)
                return (
                    transform(tuple([reached[at] for reached in rows]), None) if rows else _NOTHING
                )

            return codes

        def first_usable(row: SourceRow, person_id: str, page: Page) -> Result:
            first_problem = None
            for reached in reach(row, person_id, page):
                value, problem = call(reached[at], reached)
                if value is not None:
                    return value, problem
                first_problem = first_problem or problem
            return None, first_problem

        return first_usable


_NOTHING: Result = (None, None)


def _with_others(
    transform: Transform, source: str, plan: ReadPlan, other_columns: list[str]
) -> Callable[[Any, SourceRow], Result]:
    """The transform with access to other columns of the same row."""
    places = {name: plan.at(source, name) for name in other_columns}
    return lambda value, row: transform(value, lambda name: row[places[name]])


def route(plan: ReadPlan, wanted: str, start: str) -> Rows:
    """How to get from a row of one source to the rows of another, link by link.

    Rows of sources that name the person are looked up by the person's id, from any row.
    """
    hops = [_hop(name, place, _no_link(plan, name)) for name, place in links(plan, wanted, start)]
    if not hops:
        return lambda row, _person_id, _page: (row,)
    if len(hops) == 1:
        return hops[0]

    def walk(row: SourceRow, person_id: str, page: Page) -> Sequence[SourceRow]:
        rows: Sequence[SourceRow] = (row,)
        for hop in hops:
            # a row that two links lead to counts once
            rows = list(
                {id(new): new for old in rows for new in hop(old, person_id, page)}.values()
            )
        return rows

    return walk


def links(plan: ReadPlan, wanted: str, start: str) -> list[tuple[str, int | None]]:
    """The sources on the way, and where the row before each holds the value that leads to it.

    The place is None where the person's id leads there.
    """
    names: list[str] = []
    name = wanted
    while name != start:
        names.append(name)
        if plan.sources[name].person:
            break
        name = plan.sources[name].via or start
    found: list[tuple[str, int | None]] = []
    for name in reversed(names):
        source = plan.sources[name]
        parent = plan.sources.get(source.via or "")
        if source.person or parent is None:
            found.append((name, None))
        else:
            found.append((name, plan.at(parent.name, source.via_column or parent.key)))
    return found


def _no_link(plan: ReadPlan, source: str) -> Doubt:
    """The doubt about a value that would lead to rows of a source and cannot be read."""
    linked = plan.sources[source]
    parent = plan.sources.get(linked.via or "", plan.person)
    return unreadable(parent.table, linked.via_column or parent.key, "which row it leads to")


def _hop(source: str, place: int | None, no_link: Doubt) -> Rows:
    if place is None:

        def of_person(_row: SourceRow, person_id: str, page: Page) -> Sequence[SourceRow]:
            if source in page.doubts:
                page.meet(source, person_id)
            return page.found[source].get(person_id, _NO_ROWS)

        return of_person

    def hop(row: SourceRow, _person_id: str, page: Page) -> Sequence[SourceRow]:
        key = row[place]
        if source in page.doubts:
            page.meet(source, key_text(key))
        if type(key) is not str:
            if key is not None and is_unreadable_text(key):
                page.met.append(no_link)
            return page.by_any(source, key)
        by_key = page.found[source]
        return by_key.get(key) or by_key.get(key.strip()) or _NO_ROWS

    return hop
