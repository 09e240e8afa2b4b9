"""The HTML page of an executed notebook: one file, no scripts or fonts from anywhere else."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from d2i_helpers.files import write_atomic

# what nbconvert would load from public servers
_FROM_ELSEWHERE = (
    "require_js_url",
    "mathjax_url",
    "mermaid_js_url",
    "mermaid_layout_elk_js_url",
    "jquery_url",
    "jupyter_widgets_base_url",
)
# a record is read, not run: no script of the template, and none that an output might hold
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)
# whoever prints a page to a terminal must not have it obeyed
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_NOTHING_ELSE = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:\">"
)
_DARK = """<style>
@media (prefers-color-scheme: dark) {
  body[data-jp-theme-light] { --jp-layout-color0:#16181c; --jp-layout-color1:#16181c;
    --jp-layout-color2:#23262c; --jp-content-font-color0:#f2f2f2; --jp-content-font-color1:#e4e4e4;
    --jp-content-font-color2:#c4c4c4; --jp-ui-font-color0:#f2f2f2; --jp-ui-font-color1:#e4e4e4;
    --jp-cell-editor-background:#1e2126; --jp-rendermime-table-row-background:#1d2025;
    --jp-rendermime-error-background:#3b1d1d; --jp-mirror-editor-keyword-color:#7fc79a;
    --jp-mirror-editor-string-color:#e3a08e; --jp-mirror-editor-comment-color:#8fb3c9;
    --jp-mirror-editor-variable-color:#e4e4e4; --jp-border-color2:#3a3f47;
    --jp-cell-editor-border-color:#3a3f47; --jp-mirror-editor-punctuation-color:#9db8d9;
    background:#16181c; color:#e4e4e4; }
}
@media (max-width: 48rem) {
  .jp-InputPrompt, .jp-OutputPrompt { display:none }
  main { padding:0.5rem !important }
  .jp-OutputArea-output { overflow-x:auto }
}
</style>"""


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
    from nbconvert import HTMLExporter

    nb = nbformat.read(notebook, as_version=4)
    known = set(HTMLExporter.class_trait_names())  # older versions load less from elsewhere
    exporter = HTMLExporter(**{name: "" for name in _FROM_ELSEWHERE if name in known})
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    title = _remark(nb, remark) or notebook.stem
    resources = {"metadata": {"name": title}}
    with warnings.catch_warnings():
        # a template of nbconvert asks for ids of cells in notebooks older than format 4.5
        warnings.filterwarnings("ignore", category=FutureWarning, module="nbconvert")
        body, _ = exporter.from_notebook_node(nb, resources=resources)
    body = _CONTROLS.sub("", _SCRIPT.sub("", body))
    body = body.replace("<head>", f"<head>{_NOTHING_ELSE}", 1)
    page = notebook.with_suffix(".html")
    write_atomic(page, body.replace("</head>", f"{_DARK}</head>", 1).encode())
    return page


def _heading_cell(text: str) -> Any:
    import nbformat

    return nbformat.v4.new_markdown_cell(text)


def _remark(nb: Any, remark: str) -> str:
    """The notebook's heading with the remark, which is put into it; empty where it has none."""
    cell = next((cell for cell in nb.cells if cell.cell_type == "markdown"), None)
    lines = cell.source.strip().splitlines() if cell is not None else []
    if remark:
        first = lines[0] if lines and lines[0].startswith("#") else "# Run"
        heading = f"{first} ({remark})"
        text = "\n".join([heading, *(lines[1:] if first != "# Run" else lines)])
        if cell is None:
            nb.cells.insert(0, _heading_cell(text))
        else:
            cell.source = text
        return heading.lstrip("# ")
    return lines[0].lstrip("# ") if lines else ""
