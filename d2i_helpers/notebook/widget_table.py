"""A table of up to 20,000 rows that a person can sort, filter and search in JupyterLab or VS Code.

What a person types is looked for in all rows by pandas, and at most `MOST_SHOWN` of what fits is
handed to the table widget: with 20,000 rows in the browser each click took a second.

The output is one bundle. The widget in it lives only as long as the kernel; its state is not saved.
What a saved notebook, a page or a run record keeps is the static table beside it, with masked ids
and with the words of this project only. So whole ids are shown, and never kept.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from d2i_helpers.errors import D2IError
from d2i_helpers.notebook import display
from d2i_helpers.staging.attention import mask

if TYPE_CHECKING:
    import pandas as pd

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
MOST_SHOWN = 200  # rows in the widget
MOST_KEPT = 20  # rows of the static table
MOST_CHOICES = 15  # different words of a column that a list of choices offers
LIBRARIES = ("ipywidgets", "anywidget", "itables")
HOW_TO_INSTALL = (
    "install the widgets and restart JupyterLab: "
    'python -m pip install -c constraints.txt "d2i-workbook[lab]"'
)
INSTALL = f"To sort, filter and search this table, {HOW_TO_INSTALL}"
_ALL = "all"
_AS_GIVEN = "the given order"

Pick = Callable[[Any], str]  # from the label of a row to HTML


def show(
    rows: pd.DataFrame,
    title: str,
    *,
    identities: Sequence[str] = (),
    filters: Sequence[str] = (),
    on_pick: Pick | None = None,
    most_kept: int = MOST_KEPT,
) -> FilteredTable | None:
    """Show a table; as a widget only where a person sits at the notebook.

    Args:
        rows: the rows in the order in which they are first shown.
        title: what the rows are.
        identities: columns with ids; the static table masks them.
        filters: columns to choose a word from; more than `MOST_CHOICES` words are not offered.
        on_pick: gives the HTML to show below the table when a person picks the row with a label of
            the index. It is shown in the widget only, so it may hold values of the child.
        most_kept: rows of the static table.

    Returns:
        The table, for whoever wants to work on with its filter; None where there is no widget.
    """
    bundle = _static(rows, title, identities, most_kept)
    table = None
    if display.may_show_identifiers():
        if has_libraries():
            table = FilteredTable(rows, title, filters=filters, on_pick=on_pick)
            view = table.box._repr_mimebundle_()[WIDGET_MIME]
            bundle = {WIDGET_MIME: view, **bundle}
        else:
            add_sentence(bundle, INSTALL)
    display.publish(bundle)
    return table


def has_libraries() -> bool:
    """Whether the widget libraries are installed; they come with the extra `lab`."""
    return all(find_spec(name) is not None for name in LIBRARIES)


def add_sentence(bundle: dict[str, Any], sentence: str) -> None:
    """Say something below what a bundle shows, in its HTML and in its plain text."""
    bundle["text/html"] += f"<p>{html.escape(sentence)}</p>"
    bundle["text/plain"] += f"\n{sentence}"


def _static(rows: pd.DataFrame, title: str, identities: Sequence[str], most: int) -> dict[str, Any]:
    """The first rows as HTML and plain text, without ids."""
    import pandas as pd

    first = rows.head(most).astype(object)
    first = first.where(first.notna(), None)
    for name in identities:
        masked = [mask(str(value)) if value is not None else None for value in first[name]]
        first[name] = pd.Series(masked, index=first.index, dtype=object)  # a None stays a None
    if rows.empty:
        return {"text/plain": f"{title}: none", "text/html": f"<p>{html.escape(title)}: none</p>"}
    if len(rows) > most:
        title = f"{title}: the first {most:,} of {len(rows):,}"
    listed = first.values.tolist()
    return display.bundle_of_rows(title, [str(name) for name in first.columns], listed)


class FilteredTable:
    """The widget: words to search for, lists to choose from, an order, the table, what was picked.

    Args:
        rows: as of `show`; `filters` and `on_pick` too.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        title: str,
        *,
        filters: Sequence[str] = (),
        on_pick: Pick | None = None,
    ) -> None:
        import ipywidgets as widgets
        from itables.widget import ITable

        self.rows, self.fitting = rows, rows
        self._on_pick = on_pick
        self._words = _searchable(rows)
        wide = widgets.Layout(width="auto", min_width="14em")
        uncut = {"description_width": "initial"}  # else a label has room for one short word
        self.search = widgets.Text(
            description="Search", placeholder="any words, in any column", layout=wide
        )
        self.choices = {
            name: widgets.Dropdown(
                options=[_ALL, *words], description=name.capitalize(), layout=wide, style=uncut
            )
            for name in filters
            if (words := _words_of(rows[name]))
        }
        columns = [str(name) for name in rows.columns]
        self.order = widgets.Dropdown(
            options=[_AS_GIVEN, *columns], description="Sort by", layout=wide
        )
        self.largest_first = widgets.ToggleButton(
            description="largest first", value=True, layout=widgets.Layout(width="auto")
        )
        self.said = widgets.HTML()
        self.picked = widgets.HTML()
        no_controls = dict.fromkeys(("topStart", "topEnd", "bottomStart"))
        self._options: dict[str, Any] = {
            "ordering": False,  # of what is shown only, which would mislead; `Sort by` sorts all
            "select": "single",
            "scrollX": True,
            "layout": {**no_controls, "bottomEnd": "paging"},
            "style": "width:100%;margin:0",
            "showIndex": False,
        }
        self.table = ITable(self._shown(), **self._options)
        self._say()
        controls = [self.search, *self.choices.values(), self.order, self.largest_first]
        for control in controls:
            control.observe(self._renew, names="value")
        self.table.observe(self._pick, names="selected_rows")
        heading = widgets.HTML(f"<strong>{html.escape(title)}</strong>")
        row = widgets.HBox(controls, layout=widgets.Layout(flex_flow="row wrap"))
        self.box = widgets.VBox([heading, row, self.said, self.table, self.picked])

    def _shown(self) -> pd.DataFrame:
        return self.fitting.head(MOST_SHOWN)

    def _renew(self, _change: Any = None) -> None:
        """Look for what fits, put it in order and show it."""
        chosen = {name: box.value for name, box in self.choices.items() if box.value != _ALL}
        fits = _fitting(self.rows, self._words, self.search.value, chosen)
        self.fitting = self.rows[fits]
        if self.order.value != _AS_GIVEN:
            self.fitting = self.fitting.sort_values(
                self.order.value,
                ascending=not self.largest_first.value,
                kind="stable",
                na_position="last",
            )
        self.table.update(self._shown(), selected_rows=[], **self._options)
        self._say()

    def _say(self) -> None:
        """How many fit, and how many of them are shown."""
        fit, all_rows = len(self.fitting), len(self.rows)
        said = f"{fit:,} of {all_rows:,} fit"
        if fit > MOST_SHOWN:
            said += f"; the first {MOST_SHOWN:,} are shown: search or choose to see others"
        if self._on_pick is not None:
            said += ". Click a row to see more of it"
        self.said.value = f"<span role='status'>{said}.</span>"

    def _pick(self, change: Any) -> None:
        """Show what the picked row stands for."""
        if not change["new"] or self._on_pick is None:
            return  # an empty selection comes before each new one
        label = self.fitting.index[change["new"][0]]
        try:
            self.picked.value = self._on_pick(label)
        except D2IError as error:
            said = " ".join(filter(None, (error.message, error.hint)))
            self.picked.value = f"<p><strong>{html.escape(said)}</strong></p>"


def _searchable(rows: pd.DataFrame) -> pd.Series:
    """All that stands in a row, in lower case, to search in."""
    import pandas as pd

    texts = rows.astype(object).where(rows.notna(), "").astype(str)
    joined = [" ".join(row).lower() for row in texts.to_numpy().tolist()]
    return pd.Series(joined, index=rows.index)


def _words_of(column: pd.Series) -> list[str]:
    """The different words of a column, most frequent first; none where there are too many."""
    words = list(map(str, column.dropna().value_counts().index))
    return words if len(words) <= MOST_CHOICES else []


def _fitting(
    rows: pd.DataFrame, words: pd.Series, search: str, chosen: dict[str, str]
) -> pd.Series:
    """For each row whether it has every word that is searched for, and the chosen words."""
    import pandas as pd

    fits = pd.Series(True, index=rows.index)
    for word in search.lower().split():
        fits &= words.str.contains(word, regex=False)
    for name, wanted in chosen.items():
        fits &= rows[name].astype(str) == wanted
    return fits
