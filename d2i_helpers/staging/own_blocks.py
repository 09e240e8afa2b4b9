"""Blocks of an authority's own: what it takes to erase them once the overlay has lost them.

A block goes at the receiver by its key and a mark. Of a block that an overlay adds, nothing but the
overlay says what its key is. So it is noted with the staging table while the overlay names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import orjson
from sqlalchemy.engine import Connection

from d2i_helpers.payload_spec import Block, Field, Spec, load_spec
from d2i_helpers.staging.rows import Staging

_FACT = "own_block "  # with which the names of these facts begin


@dataclass(frozen=True, slots=True)
class OwnBlock:
    """A block that the published specification has not, as far as its marks need it."""

    name: str
    holder: str  # the block that it stands in
    kind: str  # object | list
    key: str | None  # of the items of a list


def own_blocks(spec: Spec) -> list[OwnBlock]:
    """The blocks of a specification that are the authority's own and go by marks."""
    published = {(holder.name, block.name) for holder, block in _with_holders(load_spec())}
    return [
        OwnBlock(block.name, holder.name, block.kind, block.key)
        for holder, block in _with_holders(spec)
        if block.purge and (holder.name, block.name) not in published
    ]


def _with_holders(spec: Spec) -> Iterator[tuple[Block, Block]]:
    return ((holder, block) for holder in spec.blocks.values() for block in holder.blocks)


def note(connection: Connection, staging: Staging, blocks: Iterable[OwnBlock]) -> None:
    """Keep what their marks need, for as long as the staging table is there."""
    for block in blocks:
        named = f"{block.holder}.{block.name}".encode()
        name = _FACT + hashlib.sha256(named).hexdigest()[:16]
        staging.set_fact(connection, name, orjson.dumps(asdict(block)).decode())


def with_noted(connection: Connection, staging: Staging, spec: Spec) -> Spec:
    """The specification as messages are made from it: with the own blocks that it had before.

    No document of today holds any of them.
    """
    noted = staging.facts_like(connection, _FACT).values()
    known = [OwnBlock(**orjson.loads(text)) for text in noted]
    today = own_blocks(spec) if known else []
    lost = [one for one in known if one not in today]
    return replace(spec, root=_with(spec.root, lost)) if lost else spec


def _with(block: Block, lost: list[OwnBlock]) -> Block:
    names = {field.name for field in block.fields}
    names |= {inner.name for inner in (*block.values, *block.blocks)}
    back = [_made(one, block) for one in lost if one.holder == block.name and one.name not in names]
    return replace(block, blocks=(*(_with(inner, lost) for inner in block.blocks), *back))


def _made(lost: OwnBlock, holder: Block) -> Block:
    path = lost.name if holder.path == "$" else f"{holder.path}.{lost.name}"
    path += "[]" if lost.kind == "list" else ""
    key = (
        Field(
            name=lost.key, path=f"{path}.{lost.key}", source="", column="", transform="id",
            type="string", mandatory=True,
        ),
    ) if lost.key else ()  # fmt: skip
    return Block(lost.name, path, lost.kind, key=lost.key, purge=True, fields=key)
