"""Rows of one child to its document, as the specification says; no field is named here.

An `Assembler` is compiled once a run. What cannot be used is left out of the document and reported
as (path, rule), never with its value. An item without a usable key is left out; of two items with
one key the first in the list's order stays.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from d2i_helpers.rows import Page, Plan, Row
from d2i_helpers.spec import PURGE, Block, Document, Field, Spec
from d2i_helpers.transforms import compile_transform

LEFT_OUT = "item left out: no usable value in a mandatory field"
DUPLICATE = "item left out: its key is in the list already"
_MOST_REMEMBERED = 20_000

Problem = tuple[str, str]  # path without list positions, rule
Rows = Callable[[Row, str, Page], Sequence[Row]]


@dataclass
class Tally:
    """How often a field was filled, and how often it could have been."""

    rows: int = 0
    filled: int = 0
    unusable: int = 0


class _Remembered(dict):
    """Answers of a transform that looks at nothing but its value."""

    def __init__(self, transform: Callable[..., tuple]) -> None:
        self._transform = transform

    def __missing__(self, value: Any) -> tuple[Any, str | None]:
        answer = self._transform(value, None)
        if type(value) in (str, dt.datetime, dt.date):
            if len(self) >= _MOST_REMEMBERED:
                self.clear()
            self[value] = answer
        return answer


class _FieldMaker:
    """One field, compiled: where its raw value stands and what turns it into what is sent."""

    __slots__ = (
        "at",
        "default",
        "mandatory",
        "name",
        "path",
        "remembered",
        "rows",
        "slow",
        "tally",
    )

    def __init__(self, field: Field, block_source: str, spec: Spec, plan: Plan) -> None:
        self.name, self.path, self.mandatory = field.name, field.path, field.mandatory
        self.default, self.tally = field.default, Tally()
        self.at = plan.at(field.source, field.column)
        transform = compile_transform(field, spec)
        alone = not (field.options.get("also") or field.options.get("not_before"))
        repeats = bool(field.codes) or field.type in ("date", "boolean", "integer")
        elsewhere = field.source != block_source
        self.rows = route(plan, field.source, block_source) if elsewhere else None
        self.remembered = None
        if alone and repeats and field.type != "codes" and not elsewhere:
            self.remembered = _Remembered(transform)
        self.slow = self._from_rows(field, transform, plan)

    def _from_rows(self, field: Field, transform: Callable, plan: Plan) -> Callable:
        """A function of rows to (value, problem): of all for code lists, else the first usable."""
        at = self.at
        columns = {
            name: plan.at(field.source, name)
            for option in ("also", "not_before")
            if (name := field.options.get(option))
        }

        def lookup(row: Row) -> Callable[[str], Any] | None:
            return (lambda name: row[columns[name]]) if columns else None

        def codes(rows: Sequence[Row]) -> tuple[Any, str | None]:
            return transform(tuple(row[at] for row in rows), None) if rows else (None, None)

        def first_usable(rows: Sequence[Row]) -> tuple[Any, str | None]:
            first_problem = None
            for row in rows:
                value, problem = transform(row[at], lookup(row))
                if value is not None:
                    return value, problem
                first_problem = first_problem or problem
            return None, first_problem

        return codes if field.type == "codes" else first_usable


def route(plan: Plan, wanted: str, start: str) -> Rows:
    """How to get from a row of one source to the rows of another, link by link.

    Sources of the person are looked up by the person's id from anywhere.
    """
    names: list[str] = []
    name = wanted
    while name != start:
        names.append(name)
        if plan.sources[name].person:
            break
        name = plan.sources[name].via or start
    steps: list[tuple[str, int | None]] = []
    for name in reversed(names):
        source = plan.sources[name]
        parent = plan.sources.get(source.via or "")
        by_person = source.person or parent is None
        steps.append(
            (name, None if by_person else plan.at(parent.name, source.via_column or parent.key))
        )
    if len(steps) == 1:
        return _one_step(*steps[0])
    hops = [_one_step(*step) for step in steps]

    def walk(row: Row, person_id: str, page: Page) -> Sequence[Row]:
        rows: list[Row] = [row]
        for hop in hops:
            reached = {id(new): new for one in rows for new in hop(one, person_id, page)}
            rows = list(reached.values())
        return rows

    return walk


def _one_step(source: str, place: int | None) -> Rows:
    if place is None:
        return lambda _row, person_id, page: page.found[source].get(person_id, ())

    def step(row: Row, _person_id: str, page: Page) -> Sequence[Row]:
        key = row[place]
        if type(key) is not str:
            return page.by_any(source, key)
        found = page.found[source]
        return found.get(key) or found.get(key.strip(), ())

    return step


class _BlockMaker:
    """One block, compiled with the lists and blocks that belong to it."""

    def __init__(self, block: Block, parent: Block | None, assembler: Assembler) -> None:
        plan, spec = assembler.plan, assembler.spec
        self.block, self.assembler = block, assembler
        parent_source = assembler.source_of[parent.name] if parent else plan.person.name
        source = block.source or parent_source
        assembler.source_of[block.name] = source
        same_row = parent is None or source == parent_source
        self.rows = None if same_row else route(plan, source, parent_source)
        self.fields = [_FieldMaker(one, source, spec, plan) for one in block.fields]
        self.quick = [(f, f.name, f.at, f.remembered, f.rows, f.slow, f.tally) for f in self.fields]
        self.built = 0
        self.defaults = [(f.name, f.default) for f in self.fields if f.default is not None]
        self.mandatory = [f.name for f in self.fields if f.mandatory]
        inner = [b for b in (*block.values, *block.blocks) if assembler.includes(b)]
        makers = [_BlockMaker(one, block, assembler) for one in inner]
        once = assembler.once_per_child and block.kind == "list"
        self.inner = [m for m in makers if not (once and m.block.person_fact)]
        self.once = [m for m in makers if once and m.block.person_fact]
        self.end_field = _end_field(block, spec)
        self.order = [(part.lstrip("-"), part.startswith("-")) for part in reversed(block.order)]

    # -------------------------------------------------------------------------------- one row
    def item(self, row: Row, person_id: str, page: Page) -> Document | None:
        """The object that one row gives; None where a mandatory field has no usable value."""
        built: Document = {}
        problems = self.assembler.problems
        for maker, name, at, remembered, rows, slow, tally in self.quick:
            if remembered is not None:
                value = row[at]
                if value is None:
                    continue
                value, problem = remembered[value]
            elif rows is None:
                value, problem = slow((row,))
            else:
                value, problem = slow(rows(row, person_id, page))
            if problem is not None:
                problems.append((maker.path, problem))
            if value is not None:
                tally.filled += 1
                built[name] = value
            elif problem is not None:
                tally.unusable += 1
        self.built += 1
        for name in self.mandatory:
            if name not in built:
                problems.append((self.block.path, LEFT_OUT))
                return None
        for name, default in self.defaults:
            if name not in built:
                built[name] = list(default) if isinstance(default, list) else default
        for maker in self.inner:
            held = maker.make(row, person_id, page)
            if held is not None:
                built[maker.block.name] = held
        return built

    # -------------------------------------------------------------------------------- the block
    def make(self, row: Row, person_id: str, page: Page) -> Any:
        """What stands in the document for this block; None where it is left out."""
        kind = self.block.kind
        if kind == "object":
            return self._object(row, person_id, page)
        rows = self.rows(row, person_id, page) if self.rows else (row,)
        if not rows:
            return None
        items = []
        for one in rows:
            built = self.item(one, person_id, page)
            if built:
                items.append(built)
        if not items:
            return None
        if len(items) > 1:
            items = self._sorted(items)
        if kind == "list":
            items = self._unique(items)
            if self.block.purge:
                for built in items:
                    built[PURGE] = False
            self.assembler.items += len(items)
        if self.once:
            self._add_once(items, row, person_id, page)
        return items

    def _object(self, row: Row, person_id: str, page: Page) -> Document | None:
        if self.rows:
            rows = self.rows(row, person_id, page)
            built = self.item(rows[0], person_id, page) if rows else None
        else:
            built = self.item(row, person_id, page)
        if not built and not self.block.always_sent:
            return None
        built = built or {}
        if self.block.purge:
            built[PURGE] = False
        if not self.block.always_sent:
            self.assembler.items += 1
        return built

    def _unique(self, items: list[Document]) -> list[Document]:
        key = self.block.key
        kept = {}
        for built in items:
            if kept.setdefault(built[key], built) is not built:
                self.assembler.problems.append((self.block.path, DUPLICATE))
        return items if len(kept) == len(items) else list(kept.values())

    def _sorted(self, items: list[Document]) -> list[Document]:
        """As `Block.sorted_items`, which settles what is still equal by the whole content."""
        for name, descending in self.order:
            items = sorted(
                items,
                # what is missing comes last both ways
                key=lambda i, n=name, d=descending: ((n not in i) != d, i.get(n, "")),
                reverse=descending,
            )
        names = [name for name, _ in self.order]
        keys = [[item.get(name) for name in names] for item in items]
        if any(left == right for left, right in itertools.pairwise(keys)):
            return self.block.sorted_items(items)
        return items

    def _add_once(self, items: list[Document], row: Row, person_id: str, page: Page) -> None:
        """Facts of the person on one item only: the first that is open, else the first."""
        chosen = next((item for item in items if self.end_field not in item), items[0])
        for maker in self.once:
            held = maker.make(row, person_id, page)
            if held is not None:
                chosen[maker.block.name] = held


def _end_field(block: Block, spec: Spec) -> str | None:
    """The field that says when an item ended: it is read from the end of the source's span."""
    source = spec.sources.get(block.source or "")
    ends = [
        entry["overlaps"][1] for entry in (source.where if source else ()) if "overlaps" in entry
    ]
    return next((field.name for field in block.fields if field.column in ends), None)


class Assembler:
    """Makes documents; compiled once for a specification, a plan and the settings that steer it.

    Args:
        header_only: only the ids and the blocks that are always sent.
        once_per_child: facts of the person on one item instead of on every item.
    """

    def __init__(
        self, spec: Spec, plan: Plan, *, header_only: bool = False, once_per_child: bool = False
    ) -> None:
        self.spec, self.plan = spec, plan
        self.header_only, self.once_per_child = header_only, once_per_child
        self.source_of: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.items = 0  # items and blocks of the last document that could be purged each
        self._root = _BlockMaker(spec.root, None, self)

    def includes(self, block: Block) -> bool:
        """Whether this block is made at all."""
        return block.always_sent or not self.header_only

    def assemble(
        self, row: Row, person_id: str, page: Page
    ) -> tuple[Document | None, list[Problem]]:
        """The document of one child and what was left out of it.

        Args:
            row: the child's own row.
            person_id: the child's id as text, under which the page holds its rows.
            page: all rows of the child (and of others).

        Returns:
            The document, None where the child's own id cannot be used; and (path, rule) of
            everything that was left out.
        """
        self.problems = []
        self.items = 0
        document = self._root.item(row, person_id, page)
        if document is not None and self.spec.root.purge:
            document[PURGE] = False
        return document, self.problems

    def tallies(self) -> dict[str, Tally]:
        """How often each field was filled so far, by path, in the order of the document."""
        found: dict[str, Tally] = {}

        def collect(maker: _BlockMaker) -> None:
            for one in maker.fields:
                found[one.path] = Tally(maker.built, one.tally.filled, one.tally.unusable)
            for inner in (*maker.inner, *maker.once):
                collect(inner)

        collect(self._root)
        return found


def sources_of(spec: Spec, *, header_only: bool = False) -> set[str]:
    """The sources that the documents are made from, without what those hang on."""
    wanted = {spec.root.source or ""}
    for block in spec.blocks.values():
        if header_only and not (block.kind == "root" or block.always_sent):
            continue
        wanted.update({block.source or ""}, {field.source for field in block.fields})
    return wanted - {""}
