"""Notebooks are thin, carry no outputs and declare their parameters."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from d2i_helpers.settings import Settings
from d2i_helpers.stages import STAGES, Stage

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MOST_CELLS, MOST_LINES = 9, 12


def cells(notebook: Path, kind: str = "code") -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def parameters(notebook: Path) -> list[dict[str, Any]]:
    return [c for c in cells(notebook) if "parameters" in c["metadata"].get("tags", [])]


def test_the_five_stages_and_those_for_people_are_there() -> None:
    assert {p.stem for p in NOTEBOOKS} == {
        *(Path(stage.notebook).stem for stage in STAGES),
        "data_quality", "explore_payloads", "review_runs", "simulate_changes",
    }  # fmt: skip


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_notebook_of_a_stage_calls_its_function(stage: Stage) -> None:
    module, _, function = stage.function.partition(":")
    assert callable(stage.load())
    text = "\n".join(map(source, cells(Path(__file__).parents[2] / "notebooks" / stage.notebook)))
    assert re.search(
        rf"from {module.rpartition('.')[0]} import .*\b{module.split('.')[-1]}\b", text
    )
    assert f"{module.split('.')[-1]}.{function}(" in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_outputs_are_kept(notebook: Path) -> None:
    for cell in cells(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_thin(notebook: Path) -> None:
    code = cells(notebook)
    assert len(code) <= MOST_CELLS
    for cell in code:
        text = source(cell)
        assert len(text.splitlines()) <= MOST_LINES
        kinds = {type(node) for node in ast.walk(ast.parse(text))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Try, ast.Lambda}
        assert not re.search(r"\b(select|insert|update|delete)\b.+\b(from|into|set)\b", text, re.I)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_one_cell_of_parameters_literals_with_a_comment_each(notebook: Path) -> None:
    (cell,) = parameters(notebook)
    lines = source(cell).splitlines()
    tree = ast.parse(source(cell))
    assert len(tree.body) == len(lines)
    for statement, line in zip(tree.body, lines, strict=True):
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        assert re.search(r"\S  # \S", line), line


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_parameters_of_stages_are_settings(notebook: Path) -> None:
    if not notebook.stem[:2].isdigit():
        pytest.skip("a notebook for people has parameters of its own")
    (cell,) = parameters(notebook)
    names = [statement.targets[0].id for statement in ast.parse(source(cell)).body]
    assert names[0] == "profile"
    assert names[-1] == "overrides"
    assert set(names) - {"overrides"} <= set(Settings.model_fields)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_opens_with_purpose_inputs_and_outputs(notebook: Path) -> None:
    title = source(cells(notebook, "markdown")[0])
    assert title.startswith("# ")
    for word in ("**Purpose.**", "**Inputs.**", "**Outputs.**"):
        assert word in title
