"""What a person sees on the screen, and what of it is kept in the notebook: two different things.

A widget shows it whole. Its state is never saved, so a saved notebook has the other form alone,
which holds no value of a child. Where no person sits, there is no widget.
"""

from __future__ import annotations

from typing import Any

from d2i_helpers.notebook import display
from d2i_helpers.notebook.told import fitting
from d2i_helpers.notebook.widget_table import (
    HOW_TO_INSTALL,
    WIDGET_MIME,
    add_sentence,
    has_libraries,
)

INSTALL = (
    "Values are shown by a widget, so that they are not saved with the notebook. To see them, "
    f"{HOW_TO_INSTALL}"
)


def show(whole: str, kept: str, plain: str, *, may_show: bool = True) -> None:
    """Show HTML with values to a person, and keep HTML without them.

    Args:
        whole: HTML for a person's screen.
        kept: HTML that may be saved.
        plain: the same as plain text.
        may_show: False: a person's screen, too, gets what may be saved.
    """
    bundle: dict[str, Any] = {"text/plain": plain, "text/html": fitting(kept)}
    if may_show and display.may_show_identifiers():
        if has_libraries():
            import ipywidgets as widgets

            view = widgets.HTML(fitting(whole))._repr_mimebundle_()
            bundle[WIDGET_MIME] = view[WIDGET_MIME]
        else:
            add_sentence(bundle, INSTALL)
    display.publish(bundle)
