"""The HTML page of an executed notebook: one file, no scripts or fonts from anywhere else."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

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


def write_page(notebook: Path) -> Path:
    """Write the notebook's page beside it.

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
    title = next((_heading(c.source) for c in nb.cells if c.cell_type == "markdown"), notebook.stem)
    resources = {"metadata": {"name": title}}
    with warnings.catch_warnings():
        # a template of nbconvert asks for ids of cells in notebooks older than format 4.5
        warnings.filterwarnings("ignore", category=FutureWarning, module="nbconvert")
        body, _ = exporter.from_notebook_node(nb, resources=resources)
    body = _SCRIPT.sub("", body)
    body = body.replace("<head>", f"<head>{_NOTHING_ELSE}", 1)
    page = notebook.with_suffix(".html")
    write_atomic(page, body.replace("</head>", f"{_DARK}</head>", 1).encode())
    return page


def _heading(source: str) -> str:
    return source.strip().splitlines()[0].lstrip("# ") if source.strip() else ""
