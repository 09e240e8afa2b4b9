"""Deltas per second on changed pairs of documents of about 4 KB, text in to text out.

    python benchmarks/delta.py [--pairs 150] [--seconds 10] [--json]

The floor is `orjson.loads` of both texts: nobody who is given two texts can be faster. Every
competitor runs on the same pairs, from text to text, in one process and by turns, so that a machine
that is busy for a moment slows all of them. deepdiff and jsondiff (the extra `bench`) only describe
a difference: no receiver could make anything of what they find.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import functools
import gc
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

from d2i_helpers.delta import delta, delta_text
from d2i_helpers.payload_spec import PURGE, Block, Document, Field, load_spec

SPEC = load_spec()
SIZE = 4096
Pair = tuple[bytes, bytes]


def sample(field: Field, chance: random.Random) -> Any:
    """A value of the kind that the field holds."""
    if field.type == "codes":
        return sorted(chance.sample(sorted(field.codes.codes), 2))
    if field.codes is not None:
        return chance.choice(sorted(field.codes.codes))
    if field.type == "date":
        return str(datetime.date(2024, 4, 1) + datetime.timedelta(chance.randrange(730)))
    if field.type == "boolean":
        return chance.random() < 0.5
    if field.type == "integer":
        return chance.randrange(40)
    return f"{chance.randrange(10**12):013d}"[: min(field.max_length or 13, 13)]


def made(block: Block, chance: random.Random) -> Document:
    """A block with all its fields, its lists without keys, and no block nested in it."""
    content: Document = {one.name: sample(one, chance) for one in block.fields}
    if block.purge:
        content[PURGE] = False
    for inner in block.values:
        items = [made(inner, chance) for _ in range(chance.randint(1, 3))]
        content[inner.name] = inner.sorted_items(items)
    return content


def changed(document: Document, chance: random.Random) -> Document:
    """The document after a believable day: one to three edits in one of its episodes."""
    after = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        episode = chance.choice(after["social_care_episodes"])
        lists = [name for name, value in episode.items() if type(value) is list and value]
        name = chance.choice(lists)
        block, items = SPEC.blocks[name], episode[name]
        edit = chance.choice(["field", "field", "clear", "add", "remove", "details", "episode"])
        if edit == "field":
            one = chance.choice([one for one in block.fields if one.name != block.key])
            chance.choice(items)[one.name] = sample(one, chance)
        elif edit == "clear":
            chance.choice(items).pop(block.fields[-1].name, None)
        elif edit == "add":
            items.append(made(block, chance))
        elif edit == "remove" and len(items) > 1:
            items.pop(chance.randrange(len(items)))
        elif edit == "details":
            after["child_details"]["postcode"] = sample(SPEC.blocks["child"].fields[0], chance)
        else:
            episode["closure_date"] = sample(SPEC.blocks["social_care_episodes"].fields[1], chance)
        episode[name] = block.sorted_items(items)
    return after


def story(chance: random.Random) -> Document:
    """A child of SIZE bytes: some episodes, and of each kind of item few or many."""
    root = SPEC.root
    document = made(root, chance)
    for block in root.blocks:
        if block.kind == "object":
            document[block.name] = made(block, chance)
    episodes = SPEC.blocks["social_care_episodes"]
    held = [made(episodes, chance) for _ in range(chance.randint(1, 3))]
    document[episodes.name] = episodes.sorted_items(held)
    often = [chance.random() ** 2 for _ in episodes.blocks]
    while len(orjson.dumps(document)) < SIZE:
        (block,) = chance.choices(episodes.blocks, often)
        content = chance.choice(document[episodes.name])
        if block.kind == "object":
            content[block.name] = made(block, chance)
        else:
            items = [*content.get(block.name, ()), made(block, chance)]
            content[block.name] = block.sorted_items(items)
    return document


def pairs(count: int, seed: int = 4) -> list[Pair]:
    """Texts before and after a day, of about SIZE bytes each; the same for the same seed."""
    chance = random.Random(seed)
    found: list[Pair] = []
    while len(found) < count:
        before = story(chance)
        after = changed(before, chance)
        if after != before:
            found.append((orjson.dumps(before), orjson.dumps(after)))
    return found


def competitors() -> dict[str, Callable[[bytes, bytes], Any]]:
    """What is timed, by name; the general libraries where they are installed."""

    def floor(before: bytes, after: bytes) -> None:
        orjson.loads(before)
        orjson.loads(after)

    found = {"floor": floor, "delta": lambda before, after: delta_text(SPEC, after, before)}
    try:
        from deepdiff import DeepDiff

        def deep(before: bytes, after: bytes, **options: Any) -> str:
            return DeepDiff(orjson.loads(before), orjson.loads(after), **options).to_json()

        found["deepdiff"] = deep
        found["deepdiff, any order"] = functools.partial(deep, ignore_order=True)
    except ImportError:
        print("deepdiff is not installed: pip install -e .[bench]", file=sys.stderr)
    try:
        import jsondiff

        found["jsondiff"] = lambda before, after: jsondiff.diff(
            orjson.loads(before), orjson.loads(after), dump=True
        )
    except ImportError:
        print("jsondiff is not installed: pip install -e .[bench]", file=sys.stderr)
    return found


def measure(found: list[Pair], seconds: float) -> dict[str, float]:
    """Mean over the pairs of the median time over the rounds, in microseconds, by competitor.

    Each pair meets all competitors in turn. Those that take more than a millisecond sit out after
    the third round, or there would be no rounds enough for the others.
    """
    todo = competitors()
    taken: dict[str, list[list[int]]] = {name: [[] for _ in found] for name in todo}
    end = time.perf_counter() + seconds
    rounds = 0
    gc.disable()
    while rounds < 5 or time.perf_counter() < end:
        for position, (before, after) in enumerate(found):
            for name, one in todo.items():
                start = time.perf_counter_ns()
                one(before, after)
                taken[name][position].append(time.perf_counter_ns() - start)
            if position % 50 == 0:
                gc.collect()
        rounds += 1
        if rounds == 3:
            slow = [n for n in todo if statistics.median(min(one) for one in taken[n]) > 1e6]
            todo = {name: one for name, one in todo.items() if name not in slow}
    gc.enable()
    return {
        name: statistics.mean(statistics.median(one) for one in times) / 1000
        for name, times in taken.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = pairs(given.pairs)
    for before, after in found:
        assert delta(SPEC, orjson.loads(after), orjson.loads(before)) is not None
    sizes = [len(after) for _, after in found]
    messages = [len(delta_text(SPEC, after, before)) for before, after in found]
    medians = measure(found, given.seconds)
    floor = medians["floor"]
    result = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "pairs": len(found),
        "document_bytes": statistics.mean(sizes),
        "message_bytes": statistics.mean(messages),
        "microseconds": medians,
        "deltas_per_second": 1e6 / medians["delta"],
        "ratio_to_floor": {name: value / floor for name, value in medians.items()},
        "times_faster_than": {name: value / medians["delta"] for name, value in medians.items()},
    }
    if given.json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"{len(found)} pairs of {statistics.mean(sizes):.0f} bytes, "
        f"messages of {statistics.mean(messages):.0f} bytes"
    )
    print(f"{'':22}{'µs a pair':>12}{'× floor':>10}{'delta is faster':>18}")
    for name, value in medians.items():
        times = f"{value / medians['delta']:.1f}×"
        print(f"{name:22}{value:12.1f}{value / floor:10.2f}{times:>18}")
    print(f"{1e6 / medians['delta']:,.0f} deltas a second")


if __name__ == "__main__":
    main()
