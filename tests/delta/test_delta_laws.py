"""The law of the delta, on generated documents and histories, at receivers written for this test.

`Receiver` shares no code with the package: it holds a table from the path of a block to the block's
own content, as naively as a receiver may.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from d2i_helpers.delta import apply, delta, delta_text, removed_items, with_removals
from d2i_helpers.payload_spec import Block, load_spec
from tests.delta.documents import documents, edited, foreign, histories, settled, shuffled

SPEC = load_spec()
LISTS = {block.name: block for block in SPEC.blocks.values() if block.kind == "list"}
OBJECTS = {block.name: block for block in SPEC.blocks.values() if block.kind == "object"}
VALUES = {block.name for block in SPEC.blocks.values() if block.kind == "values"}
BAGS = {"disabilities", "factors", "sdq_assessments", "care_worker_details"}
MODES = ("merge", "replace")
Path = tuple
Held = dict[Path, dict[str, Any]]


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


class Receiver:
    """A naive receiver: one row for each block, `merge` or `replace` for its own content."""

    def __init__(self, flavour: str, held: Held | None = None) -> None:
        self.flavour = flavour
        self.held: Held = dict(held or {})

    def receive(self, message: dict[str, Any] | None) -> Receiver:
        if message is not None:
            self._block((), message)
        return self

    def _block(self, path: Path, block: dict[str, Any]) -> None:
        if block.get("purge") is True:
            self.held = {p: own for p, own in self.held.items() if p[: len(path)] != path}
            return
        own = {}
        for name, value in block.items():
            if name in OBJECTS and isinstance(value, dict):
                self._block((*path, name), value)
            elif name in LISTS and isinstance(value, list):
                for item in value:
                    self._block((*path, (name, item[LISTS[name].key])), item)
            else:
                own[name] = sorted(value, key=text) if name in BAGS and value else value
        if self.flavour == "merge":
            own = {**self.held.get(path, {}), **own}
        self.held[path] = {name: value for name, value in own.items() if value is not None}


def rows(document: dict[str, Any] | None) -> Held:
    """What a receiver holds that was given nothing but this document."""
    return Receiver("replace").receive(document).held


def pieces(message: dict[str, Any]) -> tuple[set[Path], set[Path]]:
    """Paths of the blocks that a message carries, and of those that it purges."""
    carried, purged = set(), set()

    def walk(path: Path, block: dict[str, Any]) -> None:
        (purged if block.get("purge") is True else carried).add(path)
        for name, value in block.items():
            if name in OBJECTS and isinstance(value, dict):
                walk((*path, name), value)
            elif name in LISTS and isinstance(value, list):
                for item in value:
                    walk((*path, (name, item[LISTS[name].key])), item)

    walk((), message)
    return carried, purged


def without_marks(value: Any) -> Any:
    """A message without nulls and purge marks, and without the lists that held nothing else."""
    if isinstance(value, list):
        kept = [without_marks(item) for item in value]
        return [item for item in kept if item is not None]
    if not isinstance(value, dict):
        return value
    if value.get("purge") is True:
        return None
    found = {name: without_marks(part) for name, part in value.items()}
    return {
        name: part
        for name, part in found.items()
        if part is not None and not (part == [] and value[name] != [])
    }


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict | None, list[dict | None]]:
    """A current document and those that a receiver may hold: its history, sometimes nothing."""
    *before, current = draw(histories(SPEC, 2, 4))
    if draw(st.booleans()):
        before.insert(draw(st.integers(0, len(before))), None)
    return (current if draw(st.integers(0, 9)) else None), before


# ---------------------------------------------------------------------------------------- the law
@given(situation=situations())
def test_apply_of_delta_is_the_current_document_from_every_baseline(situation):
    current, baselines = situation
    message = delta(SPEC, current, *baselines)
    for base, mode in product(baselines, MODES):
        after = base if message is None else apply(SPEC, base, message, mode=mode)
        assert after == current
        assert json.dumps(after) == json.dumps(current)  # equal content, equal text
        if message is not None:
            assert apply(SPEC, after, message, mode=mode) == current


@given(situation=situations())
def test_naive_receivers_come_to_hold_the_current_document(situation):
    current, baselines = situation
    message = delta(SPEC, current, *baselines)
    for base, flavour in product(baselines, MODES):
        receiver = Receiver(flavour, rows(base)).receive(message)
        assert receiver.held == rows(current)
        assert receiver.receive(message).held == rows(current)  # the same message once more


@given(situation=situations())
def test_omitted_cleared_fields_suit_the_replacing_receiver(situation):
    current, baselines = situation
    message = delta(SPEC, current, *baselines, cleared_fields="omit")
    assert message is None or "null" not in json.dumps(message)
    for base in baselines:
        assert Receiver("replace", rows(base)).receive(message).held == rows(current)
        assert (apply(SPEC, base, message, mode="replace") if message else base) == current


@given(situation=situations())
def test_the_full_document_with_removals_does_what_the_delta_does(situation):
    current, baselines = situation
    message = delta(SPEC, current, *baselines)
    assume(current is not None)
    full = with_removals(SPEC, current, message)
    assert without_marks(full) == current
    for base, flavour in product(baselines, MODES):
        assert Receiver(flavour, rows(base)).receive(full).held == rows(current)
        assert apply(SPEC, base, full, mode=flavour) == current


@pytest.mark.parametrize("flavour", MODES)
@given(data=st.data())
def test_days_with_unknown_outcomes_end_at_the_source_document(flavour, data):
    """What the sender knows is a set of documents; what the receiver holds is one of them."""
    receiver, may_hold = Receiver(flavour), [None]
    current = data.draw(documents(SPEC))
    for _ in range(data.draw(st.integers(1, 4), label="days")):
        present = data.draw(st.integers(0, 6), label="present") > 0
        wanted = current if present else None
        message = delta(SPEC, wanted, *may_hold)
        outcome = data.draw(st.sampled_from(["known", "stored", "lost"]), label="outcome")
        if message is not None:
            if outcome != "lost":
                receiver.receive(message)
            may_hold = [wanted] if outcome == "known" else [*may_hold, wanted]
        assert receiver.held in [rows(document) for document in may_hold]
        current = data.draw(edited(SPEC, current))
    receiver.receive(delta(SPEC, current, *may_hold))
    assert receiver.held == rows(current)


# ------------------------------------------------------------------------------------- minimality
@given(situation=situations())
def test_only_changed_blocks_are_sent_and_only_what_is_gone_is_purged(situation):
    current, baselines = situation
    assume(current is not None)
    now, befores = rows(current), [rows(base) for base in baselines]
    changed = {path for path in now if any(before.get(path) != now[path] for before in befores)}
    gone = {path for before in befores for path in before if path not in now and path[:-1] in now}
    message = delta(SPEC, current, *baselines)
    if not changed and not gone:
        assert message is None
        return
    carried, purged = pieces(message)
    way_down = {path[:depth] for path in changed | gone for depth in range(len(path))}
    assert carried == changed | way_down | {(), ("child_details",)}
    assert purged == gone


@given(situation=situations())
def test_a_delta_is_part_of_the_document_but_for_marks_and_nulls(situation):
    current, baselines = situation
    message = delta(SPEC, current, *baselines)
    assume(current is not None and message is not None)
    now, befores = rows(current), [rows(base) for base in baselines]
    kept = without_marks(message)
    assert rows(kept).items() <= now.items()
    assert len(json.dumps(kept)) <= len(json.dumps(current))

    def check(path: Path, block: dict[str, Any]) -> None:
        """A null stands only where a baseline has a value and the document none."""
        for name, value in block.items():
            if value is None:
                assert name not in now[path]
                assert any(name in before.get(path, {}) for before in befores)
            elif name in OBJECTS:
                check((*path, name), value)
            elif name in LISTS:
                for item in value:
                    check((*path, (name, item[LISTS[name].key])), item)

    check((), message)


@given(document=documents(SPEC), data=st.data())
def test_the_order_of_lists_and_keys_is_no_change(document, data):
    other = data.draw(shuffled(SPEC, document))
    assert delta(SPEC, other, document) is None
    assert delta(SPEC, document, other, document) is None
    assert json.dumps(settled(SPEC, other)) == json.dumps(document)


# ----------------------------------------------------------------------------- foreign documents
@given(history=histories(SPEC, 2, 3), data=st.data())
def test_documents_of_other_software_converge_too(history, data):
    *baselines, current = [data.draw(foreign(SPEC, document)) for document in history]
    message = delta(SPEC, current, *baselines)
    for base, mode in product(baselines, MODES):
        after = settled(SPEC, base)
        if message is not None:
            after = apply(SPEC, base, message, mode=mode)
            full = with_removals(SPEC, current, message)
            assert apply(SPEC, base, full, mode=mode) == after
        assert after == settled(SPEC, current)
    assert delta(SPEC, current, current) is None
    assert not removed_items(SPEC, current, current)[0].total()


def with_numbers_for_flags(value: Any) -> Any:
    """The same with 1 for true and 0 for false, and true and false for the numbers 1 and 0."""
    if isinstance(value, dict):
        return {
            name: one if name == "purge" else with_numbers_for_flags(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [with_numbers_for_flags(one) for one in value]
    if isinstance(value, bool):
        return int(value)
    return bool(value) if value in (0, 1) else value


@given(history=histories(SPEC, 2, 3))
def test_a_number_for_a_flag_is_a_difference_though_python_takes_them_for_equal(history):
    *baselines, current = history
    baselines = [with_numbers_for_flags(one) for one in baselines]
    baselines.append(with_numbers_for_flags(current))
    assert baselines[-1] == current  # to Python
    message = delta(SPEC, current, *baselines)
    for base, mode in product(baselines, MODES):
        after = settled(SPEC, base) if message is None else apply(SPEC, base, message, mode=mode)
        assert text(after) == text(settled(SPEC, current))


@given(history=histories(SPEC, 2, 2), pick=st.sampled_from(["first", "last"]), data=st.data())
def test_a_repeated_key_converges_whichever_item_the_receiver_kept(history, pick, data):
    base, current = history
    base = data.draw(foreign(SPEC, base))
    held = kept(SPEC.root, base, pick)
    message = delta(SPEC, current, base)
    after = settled(SPEC, held) if message is None else apply(SPEC, held, message)
    assert after == current


def kept(block: Block, content: dict[str, Any], pick: str) -> dict[str, Any]:
    """The document with, of items that share a key, only the first or only the last."""
    result = dict(content)
    for inner in block.blocks:
        value = content.get(inner.name)
        if inner.kind == "object" and isinstance(value, dict):
            result[inner.name] = kept(inner, value, pick)
        elif inner.kind == "list" and isinstance(value, list):
            objects = [item for item in value if isinstance(item, dict)]
            usable = [item for item in objects if not isinstance(item.get(inner.key), list)]
            items: dict[Any, Any] = {}
            for item in usable if pick == "last" else reversed(usable):
                items[item.get(inner.key)] = kept(inner, item, pick)
            result[inner.name] = list(items.values())
    return result


@given(history=histories(SPEC, 2, 2), data=st.data())
def test_one_baseline_given_twice_is_no_other_case_than_given_once(history, data):
    """The path of its own that one baseline has says what the general one says."""
    base, current = history
    assert delta(SPEC, current, base, base) == delta(SPEC, current, base)
    base, current = data.draw(foreign(SPEC, base)), data.draw(foreign(SPEC, current))
    assert delta(SPEC, current, base, base) == delta(SPEC, current, base)


# ------------------------------------------------------------------------------------ other forms
@given(situation=situations())
def test_the_text_form_says_the_same_and_nothing_passed_in_is_changed(situation):
    current, baselines = situation
    texts = [None if one is None else json.dumps(one) for one in (current, *baselines)]
    found = delta_text(SPEC, *texts)
    expected = delta(SPEC, current, *baselines)
    assert (None if found is None else json.loads(found)) == expected
    if expected is not None:
        for base in baselines:
            apply(SPEC, base, expected)
        with_removals(SPEC, current, expected)
        assert json.loads(found) == expected
    assert texts == [None if one is None else json.dumps(one) for one in (current, *baselines)]


@given(history=histories(SPEC, 2, 2))
def test_removed_items_are_counted_as_the_rows_that_go(history):
    before, after = history
    left = rows(after)
    gone, total = removed_items(SPEC, before, after)
    assert total == by_block(rows(before))
    assert +gone == by_block(rows(before), but=left)
    everything, _ = removed_items(SPEC, before, None)
    assert everything == total
    assert removed_items(SPEC, None, after) == (Counter(), Counter())
    assert removed_items(SPEC, before, after, by_number=True)[0] == total - by_block(left)


def by_block(held: Held, but: Held | None = None) -> Counter[str]:
    """How many rows each block has, and entries each list without keys; those of `but` apart."""
    found: Counter[str] = Counter()
    for path, own in held.items():
        other = (but or {}).get(path)
        if path not in {(), ("child_details",)}:
            last = path[-1]
            found[last if isinstance(last, str) else last[0]] += other is None
        for name in VALUES:
            now = len((other or {}).get(name, ()))
            found[name] += max(0, len(own.get(name, ())) - now)
    return +found
