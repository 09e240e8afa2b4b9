"""Whatever the seed and the day: fictional families are believable and fit the deployed columns."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import DateTime

from d2i_helpers.cohort import Window
from d2i_helpers.database import tables
from d2i_helpers.demo.simulate import families as fictional_families
from d2i_helpers.demo.simulate.words import Codes, Draw, names_of
from d2i_helpers.demo.simulate.world import World, professionals

Rows = dict[str, list[dict[str, Any]]]
CHILDREN = 60
EXAMPLES = settings(max_examples=max(20, settings.default.max_examples // 5))


def made(seed: int, today: dt.date, children: int = CHILDREN) -> Rows:
    """Rows of so many children."""
    start = dt.datetime.combine(Window.for_date(today).start, dt.time())
    now = dt.datetime.combine(today, dt.time())
    world = World(Draw(seed), names_of(1), Codes(), now, start, 10_000_000)
    professionals(world, 12)
    count = 0
    while count < children:
        count += fictional_families.add_family(world, children - count)
    assert count == children
    return world.rows


seeds = st.integers(0, 10**6)
days = st.dates(dt.date(2024, 1, 1), dt.date(2030, 12, 31)) | st.just(dt.date(2028, 2, 29))


@EXAMPLES
@given(seeds, days)
def test_rows_fit_the_deployed_columns(seed: int, today: dt.date) -> None:
    tomorrow = dt.datetime.combine(today, dt.time()) + dt.timedelta(days=1)
    ahead = {"pers_dob", "pers_expected_dob", "icpc_icpc_target_date"}
    for name, rows in made(seed, today).items():
        columns = tables.ssd_table(name).columns
        keys = [row[next(iter(tables.ssd_table(name).primary_key.columns)).name] for row in rows]
        assert len(set(keys)) == len(keys), name
        for row in rows:
            assert list(row) == [column.name for column in columns]  # inserting relies on it
            for column in columns:
                value, length = row[column.name], getattr(column.type, "length", None)
                assert value is not None or column.nullable, column.name
                assert not (length and value) or len(value) <= length, column.name
                if isinstance(column.type, DateTime) and value and column.name not in ahead:
                    assert value < tomorrow, column.name


@EXAMPLES
@given(seeds, days)
def test_spans_run_forward_and_rows_belong_to_the_same_child(seed: int, today: dt.date) -> None:
    rows = made(seed, today)
    for table, begun, ended in (
        ("ssd_cin_episodes", "cine_referral_date", "cine_close_date"),
        ("ssd_cin_assessments", "cina_assessment_start_date", "cina_assessment_auth_date"),
        ("ssd_cin_plans", "cinp_cin_plan_start_date", "cinp_cin_plan_end_date"),
        ("ssd_cp_plans", "cppl_cp_plan_start_date", "cppl_cp_plan_end_date"),
        ("ssd_s47_enquiry", "s47e_s47_start_date", "s47e_s47_end_date"),
        ("ssd_involvements", "invo_involvement_start_date", "invo_involvement_end_date"),
        ("ssd_cla_episodes", "clae_cla_episode_start_date", "clae_cla_episode_ceased_date"),
        ("ssd_address", "addr_address_start_date", "addr_address_end_date"),
    ):
        for row in rows.get(table, []):
            if row[begun] and row[ended]:
                assert row[begun].date() <= row[ended].date(), table
    owner = {row["cine_referral_id"]: row["cine_person_id"] for row in rows["ssd_cin_episodes"]}
    for table, referral, person in (
        ("ssd_cin_assessments", "cina_referral_id", "cina_person_id"),
        ("ssd_cin_plans", "cinp_referral_id", "cinp_person_id"),
        ("ssd_s47_enquiry", "s47e_referral_id", "s47e_person_id"),
        ("ssd_cp_plans", "cppl_referral_id", "cppl_person_id"),
        ("ssd_cla_episodes", "clae_referral_id", "clae_person_id"),
        ("ssd_involvements", "invo_referral_id", "invo_person_id"),
    ):
        for row in rows.get(table, []):
            assert row[referral] is None or owner[row[referral]] == row[person], table


def code(stored: str) -> str:
    """The code at the start of a stored value."""
    return re.match(r"\s*([A-Za-z0-9]+)", stored).group(1).upper()


@EXAMPLES
@given(seeds, days)
def test_periods_of_care_are_unbroken(seed: int, today: dt.date) -> None:
    rows = made(seed, today)
    places = {row["clap_cla_placement_id"]: row for row in rows.get("ssd_cla_placement", [])}
    periods = defaultdict(list)
    for row in rows.get("ssd_cla_episodes", []):
        periods[row["clae_cla_id"]].append(row)
    for period, spells in periods.items():
        spells.sort(
            key=lambda row: (row["clae_cla_episode_start_date"], row["clae_cla_episode_id"])
        )
        reasons = [code(row["clae_cla_episode_start_reason"]) for row in spells]
        assert reasons[0] == "S" and "S" not in reasons[1:]
        for before, after in pairwise(spells):
            assert before["clae_cla_episode_ceased_date"] == after["clae_cla_episode_start_date"]
            same = before["clae_cla_placement_id"] == after["clae_cla_placement_id"]
            assert same == (code(after["clae_cla_episode_start_reason"]) == "L")
        for row in spells:
            place = places[row["clae_cla_placement_id"]]
            assert place["clap_cla_id"] == period
            assert place["clap_cla_placement_start_date"] <= row["clae_cla_episode_start_date"]
            open_spell = row["clae_cla_episode_ceased_date"] is None
            assert open_spell == (row["clae_cla_episode_ceased_reason"] is None)


def test_brothers_and_sisters_share_name_and_address() -> None:
    rows = made(7, dt.date(2026, 8, 10), children=600)
    homes = defaultdict(set)
    for row in rows["ssd_address"]:
        if row["addr_address_end_date"] is None and row["addr_address_postcode"]:
            homes[row["addr_address_postcode"].replace(" ", "").upper()].add(row["addr_person_id"])
    surname = {row["pers_person_id"]: row["pers_surname"] for row in rows["ssd_person"]}
    families = [home for home in homes.values() if len(home) > 1]
    alike = [len({surname[person] for person in home}) == 1 for home in families]
    assert len(families) > 60
    assert sum(alike) > 0.7 * len(alike)


def test_all_kinds_of_children_are_there() -> None:
    today = dt.datetime(2026, 8, 10)
    rows = made(7, today.date(), children=1500)
    person = rows["ssd_person"]
    ages = Counter(
        (today - row["pers_dob"]).days // 366 for row in person if row["pers_dob"] is not None
    )
    assert all(ages[age] for age in range(26))
    unborn = [row for row in person if row["pers_expected_dob"]]
    assert any(row["pers_expected_dob"] > today for row in unborn)
    assert any(row["pers_expected_dob"] <= today and row["pers_dob"] is None for row in unborn)
    assert any(row["pers_dob"] is None and row["pers_expected_dob"] is None for row in person)
    statuses = {row["immi_immigration_status"] for row in rows["ssd_immigration_status"]}
    assert {"U", "UASC", "Unaccompanied Asylum Seeking Child"} <= statuses
    factors = [row["cinf_assessment_factors_json"] for row in rows["ssd_assessment_factors"]]
    assert any(text and text[0] == "{" for text in factors)  # the older object
    assert any(text and text[0] == "[" and text[-1] != "]" for text in factors)  # broken
    outcomes = {row["s47e_s47_outcome_json"] for row in rows["ssd_s47_enquiry"]}
    assert "No further action" in outcomes  # a sentence, as Mosaic writes it
    identifiers = {row["link_identifier_value"] for row in rows["ssd_linked_identifiers"]}
    assert "SSD_PH" in identifiers
    assert all(re.fullmatch(r"[0-9]{8}", row["pers_person_id"]) for row in person)
