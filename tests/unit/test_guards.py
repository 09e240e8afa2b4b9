"""A day that looks wrong stops, with the figures and the parameter that allows it."""

from __future__ import annotations

import datetime as dt

import pytest

from d2i_helpers.errors import GuardError
from d2i_helpers.settings import Settings
from d2i_helpers.staging import guards
from d2i_helpers.staging.guards import Figures


def test_an_ordinary_day_passes() -> None:
    assert guards.check(Figures(staged=1000, gone=5, changed=30, found=1010), Settings()) == []


@pytest.mark.parametrize(
    ("figures", "parameter"),
    [
        (Figures(staged=1000, gone=101, found=900), "max_deleted_share=0.11"),
        (Figures(staged=1000, changed=501, found=1000), "max_changed_share=0.51"),
        (
            Figures(staged=1000, changed=20, found=1000, items_before=100, items_gone=30),
            "max_purged_items_share=0.30",
        ),
    ],
)
def test_a_share_over_its_limit_stops(figures: Figures, parameter: str) -> None:
    with pytest.raises(GuardError, match=parameter):
        guards.check(figures, Settings())


def test_the_limit_itself_is_allowed() -> None:
    assert guards.check(Figures(staged=1000, gone=100, found=900), Settings()) == []


def test_the_hint_is_enough_to_pass() -> None:
    figures = Figures(staged=977, gone=333, found=644)
    with pytest.raises(GuardError) as caught:
        guards.check(figures, Settings())
    share = float(caught.value.hint.split("=")[1].rstrip("."))
    assert guards.check(figures, Settings(max_deleted_share=share)) == []


def test_an_empty_source_stops_even_a_small_table() -> None:
    with pytest.raises(GuardError, match="no children at all"):
        guards.check(Figures(staged=3, gone=3, found=0), Settings())


def test_a_small_table_is_not_judged_by_shares() -> None:
    assert guards.check(Figures(staged=3, gone=2, found=1), Settings()) == []


def test_the_first_load_is_no_change() -> None:
    assert guards.check(Figures(staged=0, found=1000), Settings()) == []


def test_the_first_of_april_is_named_whether_it_passes_or_not() -> None:
    window = {"window_before": dt.date(2023, 4, 1), "window_today": dt.date(2024, 4, 1)}
    assert (
        "1 April" in guards.check(Figures(staged=100, changed=9, found=99, **window), Settings())[0]
    )
    with pytest.raises(GuardError, match="expected each 1 April"):
        guards.check(Figures(staged=100, changed=99, found=100, **window), Settings())
