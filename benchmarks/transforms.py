"""Speed of transforms, hash and validation on one core: `python benchmarks/transforms.py`.

One child is taken as 40 raw values of the kinds that a child with six episodes has; half of the
dates and codes repeat from child to child, ids and names never do.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable
from typing import Any

from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.document.transforms import compile_transform
from d2i_helpers.document.validation import Validator, firewall_warnings
from d2i_helpers.payload_spec import load_spec

CHILDREN = 20_000
SEED = 1

VALUES: dict[str, Callable[[random.Random], Any]] = {
    "id": lambda r: str(r.randrange(10**9)),
    "text": lambda r: f"Name{r.randrange(10**6)}",
    "date": lambda r: dt.datetime(2024, 1, 1) + dt.timedelta(days=r.randrange(900)),
    "boolean": lambda r: r.choice("YN"),
    "integer": lambda r: r.randrange(41),
    "postcode": lambda r: f"AB{r.randrange(1, 99)} {r.randrange(9)}DE",
    "upn": lambda r: f"A{r.randrange(10**12):012d}",
    "upn_reason": lambda r: r.choice([None, "UN3"]),
    "present": lambda r: r.choice([None, "U"]),
    "json_flag": lambda r: r.choice(['{"CP_CONFERENCE_FLAG": "Y"}', "No further action"]),
    "code_json": lambda r: r.choice(['["1A","2B"]', '{"4B":"Yes"}', '["16A",null]']),
}


def raw_values() -> dict[str, list[Any]]:
    """Raw values by the path of each field."""
    numbers = random.Random(SEED)
    found = {}
    for _, field in load_spec().fields():
        make = VALUES.get(field.transform)
        if make is None:
            codes = [*field.codes.codes, *(f"{code} - text" for code in field.codes.codes)]
            make = lambda r, codes=codes: r.choice(codes)  # noqa: E731
        found[field.path] = [make(numbers) for _ in range(CHILDREN)]
    return found


def timed(work: Callable[[], Any]) -> float:
    """Processor seconds that one call takes, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def document(number: int) -> dict[str, Any]:
    """A document of about 2 KB, of the size of a child with some history."""
    plans = [
        {"child_in_need_plan_id": f"{number}p{n}", "start_date": "2025-01-01", "purge": False}
        for n in range(3)
    ]
    episode = {"referral_date": "2024-05-01", "referral_source": "1A", "purge": False}
    return {
        "la_child_id": str(number),
        "purge": False,
        "child_details": {
            "first_name": "Name", "surname": "Name", "date_of_birth": "2015-01-01", "sex": "F",
            "disabilities": ["NONE"], "uasc_flag": False, "purge": False,
        },
        "social_care_episodes": [
            {"social_care_episode_id": f"{number}e{n}", **episode, "child_in_need_plans": plans}
            for n in range(6)
        ],
    }  # fmt: skip


def main() -> None:
    """Print the figures."""
    spec = load_spec()
    values = raw_values()
    by_transform: dict[str, list[float]] = {}
    for _, field in spec.fields():
        transform, column = compile_transform(field, spec), values[field.path]
        lookup = {"pers_upn": None}.get
        seconds = timed(lambda t=transform, c=column, k=lookup: [t(value, k) for value in c])
        by_transform.setdefault(field.transform, []).append(seconds / CHILDREN * 1e9)
    print(f"{CHILDREN} values a field; nanoseconds a value")
    for name, figures in sorted(by_transform.items()):
        print(f"  {name:12} {sum(figures) / len(figures):7.0f}")
    mean = sum(map(sum, by_transform.values())) / sum(map(len, by_transform.values()))
    rate = 1e9 / (40 * mean)
    print(f"mean over all fields {mean:.0f} ns; at 40 values a child {rate:,.0f} children/s")

    documents = [document(n) for n in range(2_000)]
    texts = [to_text(one) for one in documents]
    size = sum(map(len, texts)) / len(texts)
    validator = Validator(spec)
    works: dict[str, Callable[[], Any]] = {
        "to_text": lambda: [to_text(one) for one in documents],
        "hash": lambda: [content_hash(spec, one) for one in documents],
        "hash, volatile ids": lambda: [content_hash(spec, d, volatile_ids=True) for d in documents],
        "validation": lambda: [validator.problems(one) for one in documents],
        "firewall warnings": lambda: [firewall_warnings(one) for one in texts],
    }
    print(f"documents of {size:.0f} bytes, a second")
    for name, work in works.items():
        print(f"  {name:20} {len(documents) / timed(work):10,.0f}")


if __name__ == "__main__":
    main()
