"""Checks that are quick because most documents are good: they say what the thorough ones say."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from d2i_helpers.delta import delta
from d2i_helpers.document.canonical import (
    content_hash,
    hash_of_assembled,
    hash_of_plain,
    text_hasher,
    to_text,
)
from d2i_helpers.document.validation import Validator
from d2i_helpers.payload_spec import PURGE, load_spec
from tests.delta.documents import documents, edited, foreign

SPEC = load_spec()
VALIDATOR = Validator(SPEC)


@settings(max_examples=20)
@given(st.data(), st.booleans())
def test_a_text_matches_its_own_hash_and_no_other(data: st.DataObject, volatile: bool) -> None:
    hasher = text_hasher(SPEC, volatile)
    document = data.draw(documents(SPEC))
    texts = [
        to_text(one)
        for one in (
            document,
            data.draw(edited(SPEC, document)),
            data.draw(foreign(SPEC, document)),
            turned_round(document),
            {**document, "score": 1.0, "other": None},
        )
    ]
    for text in texts:
        for other in texts:
            assert hasher.matches(text, hasher(other)) == (hasher(text) == hasher(other))
        assert hasher.matches(text, hasher(text), orjson.loads(text))
        assert not hasher.matches(text, None)
    for made in (document, turned_round(document)):  # without nulls and floats, keys once a list
        hashed = hash_of_assembled(SPEC, made, volatile_ids=volatile)
        assert hashed == content_hash(SPEC, made, volatile_ids=volatile)
        assert hashed == hash_of_plain(SPEC, made, volatile_ids=volatile)
        for spoiled in (with_keys_twice(made), without_a_key(made)):
            hashed = hash_of_plain(SPEC, spoiled, volatile_ids=volatile)
            assert hashed == content_hash(SPEC, spoiled, volatile_ids=volatile)
    assert not hasher.matches("[]", hasher(texts[0]))
    assert not hasher.matches("{", hasher(texts[0]))


def turned_round(held: Any) -> Any:
    """The same with its keys and lists in the opposite order."""
    if isinstance(held, list):
        return [turned_round(one) for one in reversed(held)]
    if isinstance(held, dict):
        return {name: turned_round(held[name]) for name in reversed(held)}
    return held


KEYS = {block.key for block in SPEC.blocks.values() if block.kind == "list"}


def with_keys_twice(held: Any) -> Any:
    """The same with another item for each that there is, of the same key."""
    if isinstance(held, dict):
        return {name: with_keys_twice(value) for name, value in held.items()}
    if not isinstance(held, list) or not all(isinstance(item, dict) for item in held):
        return held
    others = [{key: item[key] for key in KEYS if key in item} for item in held]
    return [*map(with_keys_twice, held), *others]


def without_a_key(held: Any) -> Any:
    """The same with a first item in each list that has no key."""
    if isinstance(held, dict):
        return {name: without_a_key(value) for name, value in held.items()}
    if not isinstance(held, list) or not all(isinstance(item, dict) for item in held):
        return held
    items = [without_a_key(item) for item in held]
    items[0] = {name: value for name, value in items[0].items() if name not in KEYS}
    return items


@settings(max_examples=20)
@given(st.data())
def test_a_document_is_accepted_if_it_has_no_problem(data: st.DataObject) -> None:
    document = data.draw(documents(SPEC))
    blocks = list(blocks_of(document))
    spoiled = [document, data.draw(foreign(SPEC, document))]
    assert VALIDATOR.accepts(document) == (not VALIDATOR.problems(document))
    for change in ("purge", "twice", "unknown"):
        chosen = data.draw(st.sampled_from(blocks))
        copied = orjson.loads(orjson.dumps(document))
        spoil(blocks_of(copied), blocks.index(chosen), change)
        spoiled.append(copied)
    for one in spoiled:
        parsed = orjson.loads(orjson.dumps(one))
        assert VALIDATOR.accepts(parsed) == (not VALIDATOR.problems(parsed))
        if VALIDATOR.accepts(parsed):  # then a first message is the document as it stands
            assert to_text(delta(SPEC, parsed, None)) == to_text(parsed)


def blocks_of(held: Any) -> Any:
    """Every object in a document, the document itself first."""
    if isinstance(held, dict):
        yield held
        for value in held.values():
            yield from blocks_of(value)
    elif isinstance(held, list):
        for one in held:
            yield from blocks_of(one)


def spoil(blocks: Any, place: int, change: str) -> None:
    """Break a rule in one of the objects."""
    for number, block in enumerate(blocks):
        if number != place:
            continue
        if change == "purge":
            block[PURGE] = True
        elif change == "unknown":
            block["nobody_knows"] = 1
        else:
            for value in block.values():
                if isinstance(value, list) and value and isinstance(value[0], dict):
                    value.append(value[0])
        return
