"""The table of cases in docs/cohort.md. `python -m tests.cohort.cases_page` writes it anew."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from d2i_helpers.payload_spec.outputs import with_generated
from tests.cohort.cases import ABSENT, CASES, Case

PAGE = Path(__file__).parents[2] / "docs" / "cohort.md"


def case_tables() -> str:
    """The cases, a table for each part of the rules."""
    lines: list[str] = []
    for part, cases in itertools.groupby(CASES, lambda case: case.about):
        lines += [f"### {part}", "", "| case | the SSD holds | comes out |", "|---|---|---|"]
        lines += [*map(_row, cases), ""]
    return "\n".join(lines).rstrip()


def _row(case: Case) -> str:
    child = case.child("K")
    held = "; ".join(f"{table}: {_values(values)}" for table, values in child.rows)
    if not child.is_in:
        outcome = "out"
    else:
        sets = f" by {', '.join(f'`{name}`' for name in child.sets)}" if child.sets else ""
        sent = (f"`{path}` {_sent(value)}" for path, value in child.expected.items())
        outcome = "; ".join([f"in{sets}", *sent])
    if case.settings:
        pairs = ", ".join(f"`{name}: {_word(value)}`" for name, value in case.settings.items())
        held = f"with {pairs}: {held}"
    cells = (case.name.replace("_", " "), held, outcome)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(values: dict[str, Any]) -> str:
    """The columns of a row that hold something, without the prefix of their table."""
    pairs = ((name.split("_", 1)[1], value) for name, value in values.items() if value is not None)
    return ", ".join(f"{name} `{_word(value)}`" for name, value in pairs)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sent(value: Any) -> str:
    if value is ABSENT:
        return "is absent"
    return f"is `{json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_generated(page, {"cases": case_tables()}), encoding="utf-8", newline="\n")
