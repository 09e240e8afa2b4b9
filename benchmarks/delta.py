"""Deltas per second on changed pairs of documents of about 4 KB, text in to text out.

    python benchmarks/delta.py [--pairs 400] [--seconds 10] [--json]

The floor is `orjson.loads` of both texts: nobody who is given two texts can be faster. Every
competitor runs on the same pairs, parsing included, in one process and by turns, so that a machine
that is busy for a moment slows all of them; the ratios are of medians over the rounds.
deepdiff and jsondiff (the extra `bench`) only find a difference: they make no message of it.
"""

from __future__ import annotations

import argparse
import copy
import datetime
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
from d2i_helpers.spec import PURGE, Block, Document, Field, load_spec

SPEC = load_spec()
SIZE = 4096
MANY = {"social_care_episodes": 2, "care_worker_details": 2, "sdq_assessments": 3}
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


def made(block: Block, chance: random.Random, many: int) -> Document:
    """A block with all its fields and with ``many`` items in each list below the episodes."""
    content: Document = {one.name: sample(one, chance) for one in block.fields}
    if block.purge:
        content[PURGE] = False
    for inner in (*block.values, *block.blocks):
        if inner.kind == "object":
            content[inner.name] = made(inner, chance, many)
        else:
            items = [made(inner, chance, many) for _ in range(MANY.get(inner.name, many))]
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
            items.append(made(block, chance, 1))
        elif edit == "remove" and len(items) > 1:
            items.pop(chance.randrange(len(items)))
        elif edit == "details":
            after["child_details"]["postcode"] = sample(SPEC.blocks["child"].fields[0], chance)
        else:
            episode["closure_date"] = sample(SPEC.blocks["social_care_episodes"].fields[1], chance)
        episode[name] = block.sorted_items(items)
    return after


def pairs(count: int, seed: int = 4) -> list[Pair]:
    """Texts before and after, of about SIZE bytes each; the same for the same seed."""
    chance = random.Random(seed)
    found: list[Pair] = []
    while len(found) < count:
        before = made(SPEC.root, chance, many=1)
        episodes = before["social_care_episodes"]
        while len(orjson.dumps(before)) < SIZE:  # more items, as a longer story has
            block = chance.choice([one for one in SPEC.blocks.values() if one.kind == "list"][1:])
            chance.choice(episodes)[block.name].append(made(block, chance, 1))
        for episode in episodes:
            for name, value in episode.items():
                if type(value) is list:
                    episode[name] = SPEC.blocks[name].sorted_items(value)
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

        found["deepdiff"] = lambda b, a: DeepDiff(orjson.loads(b), orjson.loads(a))
        found["deepdiff, any order"] = lambda b, a: DeepDiff(
            orjson.loads(b), orjson.loads(a), ignore_order=True
        )
    except ImportError:
        print("deepdiff is not installed: pip install -e .[bench]", file=sys.stderr)
    try:
        import jsondiff

        found["jsondiff"] = lambda b, a: jsondiff.diff(orjson.loads(b), orjson.loads(a))
    except ImportError:
        print("jsondiff is not installed: pip install -e .[bench]", file=sys.stderr)
    return found


def measure(found: list[Pair], seconds: float) -> dict[str, float]:
    """Median microseconds a pair for each competitor, all run by turns for ``seconds``."""
    todo = competitors()
    shares: dict[str, int] = {}
    for name, one in todo.items():  # slow ones get fewer pairs a round, so that turns stay short
        start = time.perf_counter()
        for before, after in found[:3]:
            one(before, after)
        spent = (time.perf_counter() - start) / 3
        shares[name] = max(1, min(len(found), int(0.02 / spent)))
    taken: dict[str, list[float]] = {name: [] for name in todo}
    chance = random.Random(1)
    end = time.perf_counter() + seconds
    gc.disable()
    while time.perf_counter() < end:
        for name, one in todo.items():
            batch = chance.sample(found, shares[name])
            start = time.perf_counter_ns()
            for before, after in batch:
                one(before, after)
            taken[name].append((time.perf_counter_ns() - start) / shares[name] / 1000)
        gc.collect()
    gc.enable()
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=400)
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
