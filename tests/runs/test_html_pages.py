"""The page of a notebook: it can be read anywhere, runs nothing and loads nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from d2i_helpers.runs.html_pages import write_page
from d2i_helpers.runs.kernel import run_notebook


def test_a_page_runs_no_script_and_loads_nothing(tmp_path: Path) -> None:
    html = "<b>4 sent</b><script src='https://example.org/x.js'>evil()</script>\x1b]0;owned\x07"
    output = new_output("display_data", {"text/html": html})
    cells = [new_markdown_cell("# Delta\n\n$x^2$"), new_code_cell("1 + 1", outputs=[output])]
    path = tmp_path / "03_delta.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    page = write_page(path).read_text(encoding="utf-8")
    assert "<b>4 sent</b>" in page
    assert re.search("<h1[^>]*>Delta", page)
    for unwanted in ("<script", "evil", "example.org", "MathJax", "mermaid", "\x1b", "\x07"):
        assert unwanted.lower() not in page.lower(), unwanted
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert page.index("default-src 'none'") < page.index("<title>")
    assert "prefers-color-scheme: dark" in page


def test_a_notebook_without_a_heading_gets_one_with_the_remark(tmp_path: Path) -> None:
    path = tmp_path / "tidy.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), path)
    assert "<title>tidy</title>" in write_page(path).read_text(encoding="utf-8")
    page = write_page(path, "dry run").read_text(encoding="utf-8")
    assert "<title>Run (dry run)</title>" in page
    assert re.search(r"<h1[^>]*>Run \(dry run\)", page)


def test_of_a_widget_the_page_shows_what_stands_beside_it_and_no_state_is_saved(
    tmp_path: Path,
) -> None:
    """A widget's state holds the rows that it shows, and without scripts it is blank."""
    pytest.importorskip("ipywidgets", reason="the extra `lab` is not installed")
    source = (
        "import ipywidgets; from IPython.display import display\n"
        "text = ipywidgets.Text(value='whole id 4711')\n"
        "bundle = {**text._repr_mimebundle_(), 'text/html': '<b>masked</b>'}\n"
        "display(bundle, raw=True)"
    )
    cell = new_code_cell(source, metadata={"papermill": {}})
    nb = new_notebook(cells=[cell], metadata={"papermill": {}})
    path = tmp_path / "widget.ipynb"
    run_notebook(nb, str(path))
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert "application/vnd.jupyter.widget-view+json" in saved["cells"][0]["outputs"][0]["data"]
    assert "widgets" not in saved["metadata"]
    page = write_page(path).read_text(encoding="utf-8")
    assert "<b>masked</b>" in page and "widget-view" not in page
