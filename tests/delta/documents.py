"""Hypothesis strategies: documents of the specification, edits of them, and histories of edits.

Generic over the specification: a field or block that an overlay adds is generated too.

    documents(spec)                 one document as extract builds it
    edited(spec, document)          a document that a few believable edits make of it
    histories(spec, min_size=2)     a list of documents, each an edit of the one before
    foreign(spec, document)         the same child as other software might have stored it
"""

from __future__ import annotations

import copy
import datetime
import functools
import random
import re
from typing import Any

from hypothesis import strategies as st

from d2i_helpers.delta.blocks import plan_of, settle
from d2i_helpers.payload_spec import PURGE, Block, Document, Field, Spec

TEXTS = ["Ann", "O'Brien", "Zoë", "李小龙", "Łukasz", 'a "b" \\c', "ش", "😀", "x" * 40]
SAMPLES = [
    "A12345678901B",
    "Z98765432109X",
    "B",
    "AB12 3DE",
    "M1 1AA",
    "SW1A 2AA",
    "id-1",
    "x_2",
    "7",
]
SEEDS = st.integers(0, 400)


def settled(spec: Spec, document: Document) -> Document:
    """The document as a receiver comes to hold it."""
    return settle(plan_of(spec), document)


# A draw costs much more than a value, so the content of a block comes from one drawn number. What
# matters to a delta (which blocks and items there are, what is edited) is drawn piece by piece.
def sample(field: Field, chance: random.Random) -> Any:
    """A value that the field may hold; None where the patterned samples have none for it."""
    if field.type == "codes":
        codes = sorted(set(field.codes.codes) - set(field.options.get("alone", ())))
        if field.default is not None and chance.random() < 0.3:
            return list(field.default)
        return sorted(chance.sample(codes, min(len(codes), chance.randint(1, 4))))
    if field.codes is not None:
        return chance.choice(sorted(field.codes.codes))
    if field.type == "date":
        return str(datetime.date(2024, 4, 1) + datetime.timedelta(chance.randint(0, 729)))
    if field.type == "boolean":
        return chance.random() < 0.5
    if field.type == "integer":
        low = field.minimum or 0
        return chance.randint(low, low + 99 if field.maximum is None else field.maximum)
    if field.pattern is not None:
        return chance.choice(_samples(field.pattern, field.max_length or 99) or [None])
    return chance.choice(TEXTS)[: field.max_length]


@functools.lru_cache
def _samples(pattern: str, max_length: int) -> list[str]:
    return [text for text in SAMPLES if len(text) <= max_length and re.search(pattern, text)]


def own_content(block: Block, seed: int) -> Document:
    """The fields of a block; number 0 gives only those that must be there."""
    chance = random.Random(f"{block.path} {seed}")
    content = {}
    for field in block.fields:
        if field.mandatory or field.default is not None or (seed and chance.random() < 0.7):
            content[field.name] = sample(field, chance)
    return content


def identifiers(block: Block) -> st.SearchStrategy[str]:
    """Keys of items, few enough that one comes back after it was gone."""
    return st.integers(1, 6).map(lambda number: f"{block.name[:3]}-{number}")


@st.composite
def contents(draw: st.DrawFn, block: Block) -> Document | None:
    """One block with what is in it, in the order of the specification; None where it is empty."""
    content = own_content(block, draw(SEEDS))
    if block.kind == "list":
        content[block.key] = draw(identifiers(block))
    inner = (*block.values, *block.blocks)
    if inner:
        chosen = draw(st.integers(0, 2 ** len(inner) - 1))
        for position, one in enumerate(inner):
            if one.always_sent or chosen >> position & 1:
                content[one.name] = draw(inside(one))
    return tidy_block(block, content)


def inside(block: Block) -> st.SearchStrategy[Any]:
    """What stands under the name of the block: an object, or a list of one or two items."""
    if block.kind == "object":
        return contents(block)
    return st.lists(contents(block), min_size=1, max_size=2)


def tidy_block(block: Block, content: Document | None) -> Document | None:
    """The block as extract leaves it: no nulls, nothing empty, items in order, each key once."""
    if content is None:
        return None
    tidy: Document = {}
    for field in block.fields:
        value = content.get(field.name)
        if value is not None:
            tidy[field.name] = sorted(value) if field.type == "codes" else value
    for inner in (*block.values, *block.blocks):
        held = content.get(inner.name)
        if inner.kind == "object":
            kept: Any = tidy_block(inner, held)
        else:
            found = [tidy_block(inner, item) for item in held or ()]
            items = [item for item in found if item]
            if inner.kind == "list":
                items = list({item[inner.key]: item for item in items}.values())
            kept = inner.sorted_items(items)
        if kept:
            tidy[inner.name] = kept
    empty = not tidy and not block.always_sent
    if block.purge:
        tidy[PURGE] = False
    return None if empty else tidy


def documents(spec: Spec, child_id: str = "C1") -> st.SearchStrategy[Document]:
    """Documents of one child as extract builds them."""
    return contents(spec.root).map(lambda document: {**document, spec.root.key: child_id})


# ----------------------------------------------------------------------------------------- edits
def standing(block: Block, content: Document) -> list[tuple[Block, Document]]:
    """Every block of a document with what the specification says of it, values items left out."""
    found = [(block, content)]
    for inner in block.blocks:
        held = content.get(inner.name)
        for item in [held] if type(held) is dict else held if type(held) is list else []:
            if type(item) is dict:
                found += standing(inner, item)
    return found


@st.composite
def edited(draw: st.DrawFn, spec: Spec, document: Document, most: int = 3) -> Document:
    """The document after up to ``most`` edits: fields set or cleared, items added, removed or
    given another key, lists and blocks emptied or filled."""
    after = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, most))):
        block, content = draw(st.sampled_from(standing(spec.root, after)))
        names = [one.name for one in block.fields if one.name != block.key]
        inner = {one.name: one for one in (*block.values, *block.blocks)}
        can_rekey = [block.key] if block.kind == "list" else []
        name = draw(st.sampled_from([*names, *inner, *inner, *can_rekey]))
        if name in inner:
            _edit_inside(draw, inner[name], content)
        elif name == block.key:
            content[name] = draw(identifiers(block))
        else:
            field = next(one for one in block.fields if one.name == name)
            keep = field.mandatory or field.default is not None
            seed = draw(SEEDS)
            content[name] = sample(field, random.Random(seed)) if seed or keep else None
    return tidy_block(spec.root, after)


def _edit_inside(draw: st.DrawFn, block: Block, content: Document) -> None:
    held = content.get(block.name)
    if block.kind == "object":
        new = inside(block) if block.always_sent else st.one_of(st.none(), inside(block))
        content[block.name] = draw(new)
    elif held and draw(st.booleans()):
        held.pop(draw(st.integers(0, len(held) - 1)))
    elif held and draw(st.integers(0, 4)) == 0:
        held.clear()
    else:
        content[block.name] = [
            *(held or ()),
            *draw(st.lists(contents(block).filter(bool), max_size=2)),
        ]


@st.composite
def histories(
    draw: st.DrawFn, spec: Spec, min_size: int = 2, max_size: int = 4
) -> list[Document | None]:
    """Documents of one child, day after day; now and then one has nothing to do with the last."""
    days = [draw(documents(spec))]
    for _ in range(draw(st.integers(min_size, max_size)) - 1):
        fresh = draw(st.integers(0, 7)) == 0
        days.append(draw(documents(spec) if fresh else edited(spec, days[-1])))
    return days


# ----------------------------------------------------------------------- what other software made
@st.composite
def shuffled(draw: st.DrawFn, spec: Spec, document: Document) -> Document:
    """The same content with every list in another order, and keys turned round."""
    after = copy.deepcopy(document)
    for block, content in standing(spec.root, after):
        codes = [one.name for one in block.fields if one.type == "codes"]
        for name in [*codes, *(one.name for one in (*block.values, *block.blocks))]:
            if type(content.get(name)) is list:
                content[name] = draw(st.permutations(content[name]))
        if draw(st.booleans()):
            turned = dict(reversed(content.items()))
            content.clear()
            content.update(turned)
    return after


@st.composite
def foreign(draw: st.DrawFn, spec: Spec, document: Document) -> Document:
    """The document with things in it that extract never writes: repeated keys, nulls, empty lists,
    unknown keys, purge flags left out, and (rarely) values of the wrong shape."""
    after = draw(shuffled(spec, document))
    for _ in range(draw(st.integers(0, 3))):
        block, content = draw(st.sampled_from(standing(spec.root, after)))
        inner = [one for one in (*block.values, *block.blocks) if not one.always_sent]
        filled = [one for one in inner if one.kind == "list" and content.get(one.name)]
        kinds = ["null", "unknown", "no flag"]
        kinds += ["empty", "shape"] if inner else []
        kinds += ["repeat"] * 4 + ["entry"] if filled else []
        kind = draw(st.sampled_from(kinds))
        among = filled if kind in {"repeat", "entry"} else inner
        chosen = draw(st.sampled_from(among)) if among else None
        if kind == "null":
            names = [one.name for one in block.fields if one.name != block.key]
            content[draw(st.sampled_from([*names, *(one.name for one in inner), "x_new"]))] = None
        elif kind == "unknown":
            content[draw(st.sampled_from(["x_new", "x_other"]))] = draw(
                st.sampled_from(["text", 7, True, ["b", "a"], {"x": 1}, {}, []])
            )
        elif kind == "no flag":
            content.pop(PURGE, None)
        elif kind == "empty":
            content[chosen.name] = {} if chosen.kind == "object" else []
        elif kind == "shape":
            content[chosen.name] = draw(st.sampled_from(["[]", "{}", {"x": 1}, 0]))
        elif type(content[chosen.name]) is list:
            held = content[chosen.name]
            if kind == "entry":
                held.append(draw(st.sampled_from(["text", None, 3, [], {}, {chosen.key: []}])))
            elif held and type(held[0]) is dict and chosen.key in held[0]:
                key = held[0][chosen.key]
                held.append({**(draw(contents(chosen)) or {}), chosen.key: key})
    return after
