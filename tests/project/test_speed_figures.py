"""The benchmark of all stages: what it makes of its figures, and that docs/speed.md shows them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def run() -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(BENCHMARKS))
        before = set(sys.modules)
        import run

        yield run
        beside = {path.stem for path in BENCHMARKS.glob("*.py")}
        for name in (set(sys.modules) - before) & beside:
            del sys.modules[name]


def _figures(cpu: float = 1.0, memory: float = 100.0) -> dict[str, Any]:
    one = {"cpu": cpu, "memory": memory, "statements": 10.0, "children": 50.0}
    stages = ("extract", "anonymise", "send")
    return {name: dict(one) for name in (*stages, "floor of extract", "floor of send", "simple")}


def test_ratios_compare_with_floors_of_the_same_day_and_growth_with_a_smaller_size(
    run: Any,
) -> None:
    small, large = _figures(), _figures(cpu=10.0, memory=110.0)
    large["floor of extract"]["cpu"] = 4.0
    large["simple"]["cpu"] = 20.0
    large["anonymise"]["memory"] = 130.0
    small["simple"]["cpu"] = 0.1  # too little to compare with
    by_size = {"100": dict.fromkeys(run.DAYS, small), "1000": dict.fromkeys(run.DAYS, large)}
    made = run.ratios({"sqlite": by_size})
    assert made["sqlite 1000 usual extract : floor"] == 2.5
    assert made["sqlite 1000 usual send : simple"] == 0.5
    assert "sqlite 100 usual send : simple" not in made
    assert made["sqlite 1000 usual day : floors"] == 2.14
    assert made["sqlite usual growth"] == 1.0
    assert made["sqlite usual memory : memory"] == 1.3


def test_memory_is_compared_with_ten_thousand_persons(run: Any) -> None:
    sizes = {"2000": 50.0, "10000": 100.0, "20000": 110.0, "100000": 120.0}
    by_size = {size: dict.fromkeys(run.DAYS, _figures(memory=mb)) for size, mb in sizes.items()}
    assert run.ratios({"sqlite": by_size})["sqlite first memory : memory"] == 1.2


def test_a_ratio_that_is_worse_by_more_than_half_is_named(run: Any) -> None:
    kept = {"a": 3.0, "b": 3.0, "gone": 1.0}
    assert run.worse({"a": 4.4, "b": 4.6, "new": 9.0}, kept) == ["b: 4.6 (kept: 3.0)"]


def test_the_page_shows_the_figures_that_are_kept(run: Any) -> None:
    kept = json.loads(run.FIGURES.read_text(encoding="utf-8"))["figures"]
    page = run.PAGE.read_text(encoding="utf-8")
    assert run.page_with(page, run.table(kept)) == page
