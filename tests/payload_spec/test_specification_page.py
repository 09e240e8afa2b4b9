"""docs/specification.md names every key, transform, problem and rule, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from d2i_helpers.document import codes, transforms
from d2i_helpers.document import driver_values as raw
from d2i_helpers.payload_spec import load_spec, merged_text
from d2i_helpers.payload_spec.outputs import (
    SYSTEMS,
    cohort_tables,
    specification_tables,
    with_generated,
)
from d2i_helpers.payload_spec.registry import ANONYMISING_RULES, ROW_RULES, TRANSFORMS
from d2i_helpers.payload_spec.schema import specification_schema

PAGE = (Path(__file__).parents[2] / "docs" / "specification.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.split("## Worked examples")[1], re.DOTALL)
SCHEMA = specification_schema()
ENTRIES = SCHEMA["$defs"]


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Keys at the top", SCHEMA["properties"]),
        ("Keys of a source", ENTRIES["source"]["properties"]),
        ("Keys of a block", ENTRIES["block"]["properties"]),
        ("Keys of a field", ENTRIES["field"]["properties"]),
        ("Keys of a code list", ENTRIES["code_list"]["properties"]),
        ("Transforms", TRANSFORMS),
        ("Rules of the anonymised copy", ANONYMISING_RULES),
    ],
)
def test_every_key_is_explained(title: str, keys: dict) -> None:
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(named) == sorted(keys)


def test_the_tables_of_rules_are_current() -> None:
    assert with_generated(PAGE, specification_tables()) == PAGE, "run `d2i spec docs`"
    assert PAGE.count("<!-- generated: ") == len(specification_tables())


def test_the_tables_of_the_cohort_are_current() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cohort.md").read_text(encoding="utf-8")
    assert with_generated(page, cohort_tables()) == page, "run `d2i spec docs`"
    assert all(f"<!-- generated: {name} -->" in page for name in cohort_tables())


def test_every_problem_that_a_transform_reports_is_named() -> None:
    modules = (raw, codes, transforms)
    rules = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"\w+( \w+)+", value)
    }
    unusual = {raw.WRONG_TYPE}  # a structure where a driver never gives one
    assert len(rules) > 15
    assert [rule for rule in sorted(rules - unusual) if rule not in section("Transforms")] == []


@pytest.mark.parametrize("system", ["generic", *SYSTEMS])
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_worked_examples_are_good_overlays(example: str, system: str, tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text(example, encoding="utf-8")
    differs = load_spec(system, overlay).fingerprint != load_spec(system).fingerprint
    assert differs or (system == "mosaic" and "renamed_columns" in example)  # it says the same


def test_there_are_examples_and_named_rules() -> None:
    assert len(EXAMPLES) == 9
    used = {
        kind if kind != "rule" else argument
        for source in merged_text()["sources"].values()
        for entry in source.get("where", [])
        for kind, argument in entry.items()
    }
    assert used == set(ROW_RULES)
