"""The HTML page of an executed notebook: one file, no scripts or fonts from anywhere else."""

from __future__ import annotations

import functools
import re
import threading
import warnings
from pathlib import Path
from typing import Any

from d2i_helpers.files import write_atomic

_TEMPLATES = Path(__file__).parent / "templates"  # `record` is the template of a page
# an output may hold a script of its own
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)
# a terminal that prints the page must not obey it
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ONE_AT_A_TIME = threading.Lock()  # the exporter holds what belongs to the page that it makes


def write_page(notebook: Path, remark: str = "") -> Path:
    """Write the notebook's page beside it.

    Args:
        remark: added to the page's heading, such as that the run was a dry run.

    Returns:
        The page, named as the notebook with ``.html``.

    Raises:
        RecordError: it could not be written.
    """
    import nbformat

    nb = nbformat.read(notebook, as_version=4)
    title = _remark(nb, remark) or notebook.stem
    resources = {"metadata": {"name": title}}
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        # a template of nbconvert asks for ids of cells in notebooks older than format 4.5
        warnings.filterwarnings("ignore", category=FutureWarning, module="nbconvert")
        body, _ = _exporter().from_notebook_node(nb, resources=resources)
    page = notebook.with_suffix(".html")
    write_atomic(page, _CONTROLS.sub("", _SCRIPT.sub("", body)).encode())
    return page


@functools.cache
def _exporter() -> Any:
    """One for all pages: most of the time of a page went into reading its templates."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="record", extra_template_basedirs=[str(_TEMPLATES)])
    # a widget needs scripts; beside each stands HTML that says the same
    exporter.config.NbConvertBase.display_data_priority = [
        "text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain",
    ]  # fmt: skip
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    return exporter


def _remark(nb: Any, remark: str) -> str:
    """Put the remark into the notebook's heading, and return the heading; empty without one."""
    from nbformat.v4 import new_markdown_cell

    cell = next((cell for cell in nb.cells if cell.cell_type == "markdown"), None)
    lines = cell.source.strip().splitlines() if cell is not None else []
    if remark:
        first = lines[0] if lines and lines[0].startswith("#") else "# Run"
        heading = f"{first} ({remark})"
        text = "\n".join([heading, *(lines[1:] if first != "# Run" else lines)])
        if cell is None:
            nb.cells.insert(0, new_markdown_cell(text))
        else:
            cell.source = text
        return heading.lstrip("# ")
    return lines[0].lstrip("# ") if lines else ""
