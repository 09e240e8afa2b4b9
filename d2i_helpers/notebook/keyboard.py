"""What a person at the keyboard sees, and no saved notebook keeps: in a widget without state."""

from __future__ import annotations

import html
from typing import Any

from d2i_helpers.notebook import display
from d2i_helpers.notebook.widget_table import INSTALL, WIDGET_MIME, has_libraries

ONLY_HERE = "shown where a person sits at the notebook, and not saved"


def show_text(title: str, text: str, what: str) -> None:
    """Show a text that may hold values of children, to be copied.

    Args:
        title: stands above it.
        text: what only a person at the keyboard sees.
        what: what it is; a saved notebook says this in its place.
    """
    said = f"{what}: {ONLY_HERE}."
    bundle: dict[str, Any] = {"text/plain": said, "text/html": f"<p>{html.escape(said)}</p>"}
    if display.may_show_identifiers():
        if has_libraries():
            bundle = {WIDGET_MIME: _view(title, text), **bundle}
        else:
            bundle["text/plain"] += f"\n{INSTALL}"
            bundle["text/html"] += f"<p>{html.escape(INSTALL)}</p>"
    display.publish(bundle)


def _view(title: str, text: str) -> Any:
    import ipywidgets as widgets

    rows = min(30, text.count("\n") + 2)
    wide = widgets.Layout(width="100%", max_width="60em")
    area = widgets.Textarea(value=text, rows=rows, layout=wide, description="")
    heading = widgets.HTML(f"<strong>{html.escape(title)}</strong>")
    return widgets.VBox([heading, area])._repr_mimebundle_()[WIDGET_MIME]
