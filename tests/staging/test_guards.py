"""A day that looks wrong stops, with the figures and the parameter that allows it."""

from __future__ import annotations

import datetime as dt

import pytest

from d2i_helpers.errors import GuardError
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import guards
from d2i_helpers.staging.guards import ColumnUse, Figures, ItemLoss, RowCount


def test_an_ordinary_day_passes() -> None:
    assert guards.check(Figures(staged=1000, gone=5, changed=30, found=1010), Settings()) == []


@pytest.mark.parametrize(
    ("figures", "parameter"),
    [
        (Figures(staged=1000, gone=101, found=900), "max_deleted_share=0.11"),
        (Figures(staged=1000, changed=501, found=1000), "max_changed_share=0.51"),
        (
            Figures(staged=1000, changed=20, found=1000, items={"cin_plans": ItemLoss(100, 30)}),
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


def _rows(**counts: tuple[int, int]) -> Figures:
    rows = {name: RowCount(*count) for name, count in counts.items()}
    return Figures(staged=300, found=300, rows=rows)


@pytest.mark.parametrize(("before", "today"), [(100, 90), (100, 250), (8, 5), (3, 0), (0, 0)])
def test_a_table_may_lose_a_few_rows(before: int, today: int) -> None:
    assert guards.check(_rows(ssd_cp_plans=(before, today)), Settings()) == []


@pytest.mark.parametrize(
    ("before", "today"), [(100, 89), (8, 4), (8, 0), (4, 0), (100_000, 80_000)]
)
def test_a_table_that_lost_more_stops(before: int, today: int) -> None:
    with pytest.raises(GuardError, match="ssd_cp_plans") as caught:
        guards.check(_rows(ssd_cp_plans=(before, today)), Settings())
    assert f"{before:,}" in caught.value.message
    assert "-p allow_fewer_rows=ssd_cp_plans." in caught.value.hint
    once = Settings(allow_fewer_rows=("ssd_cp_plans",))
    assert guards.check(_rows(ssd_cp_plans=(before, today)), once) == []


def test_an_empty_table_stops_whatever_the_shares() -> None:
    """Also where few children are staged, and on a first load after a table was emptied by hand."""
    every = Settings(
        max_lost_rows_share=1, max_purged_items_share=1, max_changed_share=1, max_deleted_share=1
    )
    for staged in (0, 5, 300):
        figures = Figures(staged=staged, found=5, rows={"ssd_cp_plans": RowCount(4, 0)})
        with pytest.raises(GuardError, match="ssd_cp_plans is empty and held 4 rows"):
            guards.check(figures, every)


def test_several_tables_are_all_named_and_allowed_by_one_parameter() -> None:
    figures = _rows(ssd_cp_plans=(40, 0), ssd_address=(300, 150), ssd_person=(300, 299))
    with pytest.raises(GuardError) as caught:
        guards.check(figures, Settings())
    assert "ssd_cp_plans" in caught.value.message and "ssd_address" in caught.value.message
    assert "ssd_person" not in caught.value.message
    assert "-p allow_fewer_rows=ssd_cp_plans,ssd_address." in caught.value.hint


def test_a_block_hides_behind_no_other() -> None:
    items = {"cin_plans": ItemLoss(9_000, 0), "cp_plans": ItemLoss(40, 5)}
    with pytest.raises(GuardError, match="5 of 40 cp_plans would be purged"):
        guards.check(Figures(staged=300, found=300, items=items), Settings())
    items["cp_plans"] = ItemLoss(20, 3)
    assert guards.check(Figures(staged=300, found=300, items=items), Settings()) == []


def test_a_few_items_of_every_block_are_many() -> None:
    items = {f"block{n}": ItemLoss(20, 3) for n in range(9)}
    with pytest.raises(GuardError, match="27 of 180 items"):
        guards.check(Figures(staged=300, found=300, items=items), Settings())


def test_what_is_found_by_a_table_may_go_with_its_rows() -> None:
    items = {"cp_plans": ItemLoss(40, 40, frozenset({"ssd_cp_plans", "ssd_cin_episodes"}))}
    rows = {"ssd_cp_plans": RowCount(40, 0)}
    figures = Figures(staged=300, found=300, items=items, rows=rows)
    with pytest.raises(GuardError, match="40 of 40 cp_plans") as caught:
        guards.check(figures, Settings())
    assert "max_purged_items_share" not in caught.value.hint
    assert guards.check(figures, Settings(allow_fewer_rows=("ssd_cp_plans",))) == []


def test_each_block_knows_the_tables_that_it_is_found_by() -> None:
    spec = load_spec()
    names = {block.name for block in spec.blocks.values()} - {spec.root.name}
    losses = guards.item_losses(spec, dict.fromkeys(names, 1), {})
    assert losses["child_protection_plans"].tables == {"ssd_cp_plans", "ssd_cin_episodes"}
    assert losses["health_and_wellbeing"].tables == {"ssd_sdq_scores"}
    assert {name for name, loss in losses.items() if not loss.tables} == {"child_details"}


def _column(filled: int, unusable: int) -> Figures:
    use = ColumnUse("ssd_person.pers_sex", filled, unusable, "not in code list", rows=filled)
    return Figures(staged=0, found=300, columns=[use])


@pytest.mark.parametrize(("filled", "unusable"), [(20, 10), (19, 19), (300, 0), (0, 0)])
def test_a_column_of_which_half_can_be_used_passes(filled: int, unusable: int) -> None:
    assert guards.check(_column(filled, unusable), Settings()) == []


@pytest.mark.parametrize(("filled", "unusable"), [(20, 11), (300, 299)])
def test_a_column_that_is_mostly_unusable_stops(filled: int, unusable: int) -> None:
    with pytest.raises(GuardError, match=f"{unusable} of {filled} values of ssd_person.pers_sex"):
        guards.check(_column(filled, unusable), Settings())
    allowed = guards.check(_column(filled, unusable), Settings(max_unusable_share=1))
    assert len(allowed) == 1 and "not in code list" in allowed[0]
