"""Turn the rows of one child into its document, as the specification says; it names all fields.

An `Assembler` is compiled once a run. A value that cannot be used is left out of the document and
reported as (path, rule), never with the value. A default is used only where the source holds
nothing. An item without a usable key is left out; of two items with the same key, the first in the
list's order stays.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from d2i_helpers.document.driver_values import PLACEHOLDER, UNREADABLE, Remembered, Result
from d2i_helpers.document.field_values import FieldMaker, links, route
from d2i_helpers.document.source_rows import Page, ReadPlan, SourceRow, unreadable
from d2i_helpers.document.transforms import UN_CODE_AS_UPN
from d2i_helpers.payload_spec import PURGE, Block, Document, Spec

LEFT_OUT = "item left out: no usable value in a mandatory field"
DUPLICATE = "item left out: its key is in the list already"

# Problems of values that systems write where they know none.
SAYS_NOTHING = frozenset({PLACEHOLDER, UN_CODE_AS_UPN})

FieldProblem = tuple[str, str]  # path without list positions, rule


@dataclass(frozen=True)
class Tally:
    """How often a field was filled, and how often it could have been."""

    rows: int
    filled: int
    unusable: int
    wrong: int  # those of the unusable values that are more than placeholders


class _BlockMaker:
    """Makes one block; compiled together with the lists and blocks inside it."""

    def __init__(self, block: Block, parent: Block | None, assembler: Assembler) -> None:
        plan, spec = assembler.plan, assembler.spec
        self.block, self.assembler = block, assembler
        self.built, self.kept = assembler.count_at(), assembler.count_at()
        parent_source = assembler.source_of[parent.name] if parent else plan.person.name
        source = block.source or parent_source
        assembler.source_of[block.name] = source
        self.rows = None if source == parent_source else route(plan, source, parent_source)
        way = links(plan, source, parent_source)
        # the one link to the rows without which there is no such block; None: not so simple
        self.link = way[0] if len(way) == 1 and not block.always_sent else None
        self.fields = [
            FieldMaker(field, source, spec, plan, assembler.shared) for field in block.fields
        ]
        self.places = {
            id(f): (assembler.count_at(), assembler.count_at(), assembler.count_at())
            for f in self.fields
        }
        # grouped by how a value is made, so that the loops over them need not check
        self.direct = [(f, f.name, f.at, f.direct, self.filled(f)) for f in self.fields if f.direct]
        self.remembered = [
            (f, f.name, f.at, f.remembered, self.filled(f))
            for f in self.fields
            if f.remembered is not None
        ]
        self.routed = [(f, f.name, f.routed, self.filled(f)) for f in self.fields if f.routed]
        self.defaults = [field for field in block.fields if field.default is not None]
        self.mandatory = [field.name for field in block.fields if field.mandatory]
        wanted = [b for b in (*block.values, *block.blocks) if assembler.includes(b)]
        makers = [_BlockMaker(inner, block, assembler) for inner in wanted]
        once = assembler.once_per_child and block.kind == "list"
        self.inner = [m for m in makers if not (once and m.block.person_fact)]
        self.once = [m for m in makers if once and m.block.person_fact]
        self.end_field = _end_field(block, spec)

    def filled(self, maker: FieldMaker) -> int:
        """Where it is counted that a field was filled."""
        return self.places[id(maker)][0]

    # -------------------------------------------------------------------------------- one row
    def item(self, row: SourceRow, person_id: str, page: Page) -> Document | None:
        """Make the object of one row; None where a mandatory field has no usable value."""
        built: Document = {}
        counts = self.assembler.counts
        counts[self.built] += 1
        reported_before = len(self.assembler.problems)
        for maker, name, at, direct, filled in self.direct:
            raw = row[at]
            value, problem = direct(raw, row)
            if value is not None:
                built[name] = value
                counts[filled] += 1
            if problem is not None:
                self._report(maker, value, problem)
        for maker, name, at, remembered, filled in self.remembered:
            raw = row[at]
            if raw is None:
                continue
            try:
                value, problem = remembered[raw]
            except TypeError:
                value, problem = remembered.anew(raw)
            if value is not None:
                built[name] = value
                counts[filled] += 1
            if problem is not None:
                self._report(maker, value, problem)
        for maker, name, routed, filled in self.routed:
            value, problem = routed(row, person_id, page)
            if value is not None:
                built[name] = value
                counts[filled] += 1
            if problem is not None:
                self._report(maker, value, problem)
        for name in self.mandatory:
            if name not in built:
                self._note_unreadable(name, self.assembler.problems[reported_before:], page)
                self.assembler.problems.append((self.block.path, LEFT_OUT))
                return None
        if self.defaults:
            self._add_defaults(built, self.assembler.problems[reported_before:])
        found, doubts = page.found, page.doubts
        for inner in self.inner:
            if inner.link is not None and inner.link[0] not in doubts:
                source, place = inner.link
                key = person_id if place is None else row[place]
                by_key = found[source]
                # most rows have none of most blocks: seen here, that costs no call
                if type(key) is str and key not in by_key and key.strip() not in by_key:
                    continue
            held = inner.make(row, person_id, page)
            if held is not None:
                built[inner.block.name] = held
        return built

    def _add_defaults(self, built: Document, problems: list[FieldProblem]) -> None:
        """Add defaults where the source holds nothing.

        Where it holds a value that cannot be used, a default would claim that there is none. So the
        field stays out, unless its default means "not known" (`default_if_unusable`).
        """
        unusable = {path for path, _ in problems}
        for field in self.defaults:
            if field.name in built or (field.path in unusable and not field.default_if_unusable):
                continue
            default = field.default
            built[field.name] = list(default) if isinstance(default, list) else default

    def _note_unreadable(self, name: str, problems: list[FieldProblem], page: Page) -> None:
        """Note a doubt where an item is left out because a value cannot be read.

        A value that was read and breaks a rule is no doubt: it can never be sent, and never was.
        """
        field = next(field for field in self.block.fields if field.name == name)
        if any(path == field.path and rule in UNREADABLE for path, rule in problems):
            table = self.assembler.plan.sources[field.source].table
            page.met.append(unreadable(table, field.column, "whether the item is sent"))

    def _report(self, maker: FieldMaker, value: Any, problem: str) -> None:
        if value is None:
            _, unusable, wrong = self.places[id(maker)]
            self.assembler.counts[unusable] += 1
            self.assembler.counts[wrong] += problem not in SAYS_NOTHING
        self.assembler.problems.append((maker.path, problem))

    # ------------------------------------------------------------------------------ the block
    def make(self, row: SourceRow, person_id: str, page: Page) -> Any:
        """Make this block's part of the document; None where it is left out."""
        if self.block.kind == "object":
            return self._object(row, person_id, page)
        rows = self.rows(row, person_id, page) if self.rows else (row,)
        if not rows:
            return None
        items = [built for item in rows if (built := self.item(item, person_id, page))]
        if len(items) > 1:
            items = self.block.sorted_items(items)
        if self.block.kind == "list":
            if len(items) > 1:
                items = self._unique(items)
            if self.block.purge:
                for built in items:
                    built[PURGE] = False
        if items:
            self.assembler.counts[self.kept] += len(items)
        if self.once and items:
            self._add_once(items, row, person_id, page)
        return items or None

    def _object(self, row: SourceRow, person_id: str, page: Page) -> Document | None:
        block = self.block
        rows: Sequence[SourceRow] = (row,)
        if self.rows:
            rows = self.rows(row, person_id, page)
        built = self.item(rows[0], person_id, page) if rows else None
        if not built:
            if not block.always_sent:
                return None
            built = {}
        if block.purge:
            built[PURGE] = False
        if not block.always_sent:
            self.assembler.counts[self.kept] += 1
        return built

    def _unique(self, items: list[Document]) -> list[Document]:
        key = self.block.key or ""
        kept: dict[str, Document] = {}
        for built in items:
            if kept.setdefault(built[key], built) is not built:
                self.assembler.problems.append((self.block.path, DUPLICATE))
        return items if len(kept) == len(items) else list(kept.values())

    def _add_once(self, items: list[Document], row: SourceRow, person_id: str, page: Page) -> None:
        """Put facts of the person on one item only: the first open one, else the first."""
        chosen = next((item for item in items if self.end_field not in item), items[0])
        for maker in self.once:
            held = maker.make(row, person_id, page)
            if held is not None:
                chosen[maker.block.name] = held


def _end_field(block: Block, spec: Spec) -> str | None:
    """The field that says when an item ended: the one read from the end of the source's span."""
    source = spec.sources.get(block.source or "")
    rules = source.where if source else ()
    ends = [entry["overlaps"][1] for entry in rules if "overlaps" in entry]
    return next((field.name for field in block.fields if field.column in ends), None)


class Assembler:
    """Makes documents; compiled once for a specification, a read plan and two settings.

    Args:
        header_only: make only the ids and the blocks that are always sent.
        once_per_child: put facts of the person on one item instead of on every item.
    """

    def __init__(
        self, spec: Spec, plan: ReadPlan, *, header_only: bool = False, once_per_child: bool = False
    ) -> None:
        self.spec, self.plan = spec, plan
        self.header_only, self.once_per_child = header_only, once_per_child
        self.source_of: dict[str, str] = {}
        self.shared: dict[str, Remembered[Result]] = {}
        self.problems: list[FieldProblem] = []
        # what was counted while the last document was made, each thing at a place of its own: so
        # the counts of many children are added up as rows of numbers
        self.counts = array("q")
        self._root = _BlockMaker(spec.root, None, self)
        self._nothing = array("q", self.counts)
        self._kept_at = [(m.block.name, m.kept) for m in self._makers(self._root)]

    def count_at(self) -> int:
        """A new place for a count; for makers while they are compiled."""
        self.counts.append(0)
        return len(self.counts) - 1

    def includes(self, block: Block) -> bool:
        """Whether this block is made at all."""
        return block.always_sent or not self.header_only

    def assemble(
        self, row: SourceRow, person_id: str, page: Page
    ) -> tuple[Document | None, list[FieldProblem]]:
        """Make the document of one child, and list what was left out of it.

        Args:
            row: the child's own row.
            person_id: the child's id as text; the page holds its rows under this id.
            page: all rows of the child (and of others).

        Returns:
            The document, None where the child's own id cannot be used; and (path, rule) of
            everything that was left out. If `page.met` holds doubts afterwards, nobody can say what
            belongs in the document.
        """
        page.met.clear()
        self.problems = []
        self.counts[:] = self._nothing
        document = self._root.item(row, person_id, page)
        if document is not None and self.spec.root.purge:
            document[PURGE] = False
        return document, self.problems

    def tallies(self, counts: Sequence[int] | None = None) -> dict[str, Tally]:
        """How often each field was filled; by path, in the order of the document.

        Args:
            counts: the counts of some children added up; None: those of the last document.
        """
        counts = self.counts if counts is None else counts
        tallies: dict[str, Tally] = {}
        for maker in self._makers(self._root):
            for field in maker.fields:
                filled, unusable, wrong = (int(counts[at]) for at in maker.places[id(field)])
                tallies[field.path] = Tally(int(counts[maker.built]), filled, unusable, wrong)
        return tallies

    def places(self) -> dict[str, tuple[int, int, int]]:
        """Where a field's items, its values, and those that are wrong stand among the counts."""
        return {
            field.path: (maker.built, maker.places[id(field)][0], maker.places[id(field)][2])
            for maker in self._makers(self._root)
            for field in maker.fields
        }

    def items(self, counts: Sequence[int] | None = None) -> dict[str, int]:
        """Items and blocks that can be purged on their own, by the block's name; without zeros.

        Args:
            counts: as in `tallies`.
        """
        counts = self.counts if counts is None else counts
        return {name: counts[at] for name, at in self._kept_at if counts[at]}

    def _makers(self, maker: _BlockMaker) -> Iterator[_BlockMaker]:
        yield maker
        for inner in (*maker.inner, *maker.once):
            yield from self._makers(inner)


def sources_of(spec: Spec, *, header_only: bool = False) -> set[str]:
    """The sources that the documents are made from, without those that only link rows."""
    wanted = {spec.root.source or ""}
    for block in spec.blocks.values():
        if header_only and not (block.kind == "root" or block.always_sent):
            continue
        wanted.update((block.source or "", *(field.source for field in block.fields)))
    return wanted - {""}
