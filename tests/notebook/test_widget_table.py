"""A table that a person can search, and what of it is kept: no whole id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from d2i_helpers.errors import D2IError
from d2i_helpers.notebook import display, widget_table
from d2i_helpers.notebook.widget_table import INSTALL, WIDGET_MIME, FilteredTable

N = 3000


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "child": [f"K{i:06d}" for i in range(N)],
            "state": ["new" if i % 3 else "deleted" for i in range(N)],
            "problems": [i % 7 if i else None for i in range(N)],
        },
        index=range(100, 100 + N),
    )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr(display, "publish", bundles.append)
    yield bundles


@pytest.mark.parametrize("human", [False, True])
def test_what_is_kept_holds_no_whole_id(
    rows: pd.DataFrame, shown: list[Any], monkeypatch: pytest.MonkeyPatch, human: bool
) -> None:
    monkeypatch.setattr(display, "may_show_identifiers", lambda: human)
    assert (widget_table.show(rows, "Children", identities=["child"]) is not None) == human
    (bundle,) = shown
    assert (WIDGET_MIME in bundle) == human
    assert "K000" not in json.dumps(bundle)
    assert "…02" in bundle["text/html"] and "…02" in bundle["text/plain"]
    assert "Children: the first 20 of 3,000" in bundle["text/plain"]


def test_without_the_widgets_it_says_how_to_get_them(
    rows: pd.DataFrame, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "may_show_identifiers", lambda: True)
    monkeypatch.setattr(widget_table, "find_spec", lambda _name: None)
    assert widget_table.show(rows, "Children", identities=["child"]) is None
    assert INSTALL in shown[0]["text/plain"] and WIDGET_MIME not in shown[0]


def test_all_rows_are_searched_and_sorted_and_the_picked_one_is_meant(rows: pd.DataFrame) -> None:
    picked: list[int] = []
    table = FilteredTable(
        rows, "Children", filters=["state", "child"], on_pick=lambda row: picked.append(row) or "x"
    )
    assert set(table.choices) == {"state"}  # a column of 3,000 words is no list of choices
    table.search.value = "DELETED 2999"
    assert table.fitting.empty  # every word has to fit, and this child is new
    table.search.value = "new 2999"
    assert list(table.fitting["child"]) == ["K002999"]
    assert "1 of 3,000 fit" in table.said.value
    table.search.value = ""
    table.choices["state"].value = "deleted"
    assert len(table.fitting) == N // 3
    table.order.value = "problems"
    assert table.fitting["problems"].iloc[0] == 6
    table.largest_first.value = False
    assert table.fitting["problems"].iloc[0] == 0 and pd.isna(table.fitting["problems"].iloc[-1])
    table.table.selected_rows = [1]
    assert picked == [table.fitting.index[1]]
    assert table.picked.value == "x"


def test_an_error_of_ours_is_said_in_the_place_of_the_child(rows: pd.DataFrame) -> None:
    def fail(_row: Any) -> str:
        raise D2IError("The row is gone.", hint="Run <extract>.")

    table = FilteredTable(rows, "Children", on_pick=fail)
    table.table.selected_rows = [0]
    assert "The row is gone. Run &lt;extract&gt;." in table.picked.value
