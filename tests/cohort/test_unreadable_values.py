"""Unreadable is not absent: a child of whom it cannot be said what the source has is held back.

The tables hold texts, so that every database takes a date that is none. The run date is 10 August
2026; the window goes from 1 April 2024 to 11 August 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, column, insert, select, table, text, update
from sqlalchemy.dialects import mssql

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.database import tables
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.written_ids import repeated_ids
from d2i_helpers.notebook import display
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Secrets
from d2i_helpers.staging import Staging, attention, utc_now
from d2i_helpers.submit import stage as submit
from tests import servers
from tests.staging.test_convergence import Link
from tests.staging.world import NaiveReceiver

SPEC = load_spec()
STAGING, TWIN = "ssd_api_data_staging", "ssd_api_data_staging_anon"
NO_DATE = "31/02/2025"
# rows of one child that is in every list; K stands for its id
ROWS: dict[str, dict[str, str]] = {
    "ssd_person": {"pers_person_id": "K", "pers_dob": "2008-05-05", "pers_sex": "F"},
    "ssd_cin_episodes": {
        "cine_referral_id": "KR", "cine_person_id": "K", "cine_referral_date": "2025-01-05",
    },
    "ssd_cin_assessments": {
        "cina_assessment_id": "KA", "cina_referral_id": "KR", "cina_person_id": "K",
        "cina_assessment_start_date": "2025-01-06",
    },
    "ssd_cin_plans": {
        "cinp_cin_plan_id": "KN", "cinp_referral_id": "KR", "cinp_person_id": "K",
        "cinp_cin_plan_start_date": "2025-01-07", "cinp_cin_plan_end_date": "2026-06-01",
    },
    "ssd_cp_plans": {
        "cppl_cp_plan_id": "KP", "cppl_referral_id": "KR", "cppl_person_id": "K",
        "cppl_cp_plan_start_date": "2025-01-08",
    },
    "ssd_s47_enquiry": {
        "s47e_s47_enquiry_id": "KS", "s47e_referral_id": "KR", "s47e_person_id": "K",
        "s47e_s47_start_date": "2023-01-09", "s47e_s47_end_date": "2023-01-10",
    },
    "ssd_initial_cp_conference": {
        "icpc_icpc_id": "KI", "icpc_s47_enquiry_id": "KS", "icpc_person_id": "K",
        "icpc_icpc_date": "2025-01-10",
    },
    "ssd_cla_episodes": {
        "clae_cla_episode_id": "KC", "clae_person_id": "K", "clae_referral_id": "KR",
        "clae_cla_id": "KL", "clae_cla_placement_id": "KM",
        "clae_cla_episode_start_date": "2025-01-11",
    },
    "ssd_cla_placement": {
        "clap_cla_placement_id": "KM", "clap_cla_id": "KL", "clap_person_id": "K",
        "clap_cla_placement_start_date": "2025-01-11",
    },
    "ssd_permanence": {
        "perm_table_id": "KT", "perm_person_id": "K", "perm_cla_id": "KL",
        "perm_matched_date": "2025-02-01",
    },
    "ssd_care_leavers": {
        "clea_table_id": "KV", "clea_person_id": "K",
        "clea_care_leaver_latest_contact": "2025-03-01",
    },
    "ssd_sdq_scores": {
        "csdq_table_id": "KQ", "csdq_person_id": "K", "csdq_sdq_completed_date": "2025-04-01",
        "csdq_sdq_score": "7",
    },
    "ssd_immigration_status": {
        "immi_immigration_status_id": "KU", "immi_person_id": "K",
        "immi_immigration_status": "UASC", "immi_immigration_status_end_date": "2026-01-01",
    },
    "ssd_professionals": {
        "prof_professional_id": "KW", "prof_staff_id": "KW",
        "prof_social_worker_registration_no": "SW1",
    },
    "ssd_involvements": {
        "invo_involvements_id": "KX", "invo_professional_id": "KW", "invo_referral_id": "KR",
        "invo_professional_role_id": "CW", "invo_involvement_start_date": "2025-01-12",
    },
}  # fmt: skip
DECIDING = [
    ("ssd_person", "pers_dob"),
    ("ssd_cin_episodes", "cine_referral_date"),
    ("ssd_cin_episodes", "cine_close_date"),
    ("ssd_cin_assessments", "cina_assessment_start_date"),
    ("ssd_cin_plans", "cinp_cin_plan_start_date"),
    ("ssd_cin_plans", "cinp_cin_plan_end_date"),
    ("ssd_cp_plans", "cppl_cp_plan_start_date"),
    ("ssd_cp_plans", "cppl_cp_plan_end_date"),
    ("ssd_s47_enquiry", "s47e_s47_start_date"),
    ("ssd_s47_enquiry", "s47e_s47_end_date"),
    ("ssd_initial_cp_conference", "icpc_icpc_date"),
    ("ssd_cla_placement", "clap_cla_placement_start_date"),
    ("ssd_cla_placement", "clap_cla_placement_end_date"),
    ("ssd_permanence", "perm_matched_date"),
    ("ssd_sdq_scores", "csdq_sdq_completed_date"),
    ("ssd_immigration_status", "immi_immigration_status_end_date"),
    ("ssd_involvements", "invo_involvement_start_date"),
    ("ssd_involvements", "invo_involvement_end_date"),
]


class World:
    """An SSD of texts, a receiver, and the days between them."""

    def __init__(self, engine: Engine, make_settings: Callable[..., Any]) -> None:
        self.engine, self.make_settings = engine, make_settings
        self.receiver = NaiveReceiver("replace")
        any_text = servers.text_type(engine, 100)
        with database.transaction(engine) as connection:
            for known in tables.ssd_metadata().tables.values():
                columns = ", ".join(f"{c.name} {any_text}" for c in known.columns)
                connection.execute(text(f"create table {known.name} ({columns})"))

    def settings(self, **more: Any) -> Any:
        return self.make_settings(run_date="2026-08-10", guard_min_children=1000, **more)

    def add(self, name: str, **values: Any) -> None:
        with database.transaction(self.engine) as connection:
            connection.execute(insert(table(name, *map(column, values))).values(**values))

    def add_child(self, child: str, only: tuple[str, ...] = tuple(ROWS)) -> None:
        for name in only:
            row = ROWS[name]
            self.add(name, **{c: v.replace("K", child, 1) if v[:1] == "K" else v
                              for c, v in row.items()})  # fmt: skip

    def change(self, name: str, child: str, **values: Any) -> None:
        key = next(c for c in ROWS[name] if ROWS[name][c].startswith("K"))
        held = table(name, column(key), *map(column, values))
        with database.transaction(self.engine) as connection:
            statement = held.update().where(held.c[key].like(f"{child}%")).values(**values)
            assert connection.execute(statement).rowcount == 1

    def extract(self, **more: Any) -> Any:
        return extract.run(self.engine, self.settings(**more), SPEC)

    def send(self, **more: Any) -> tuple[dict[str, int], dict[str, int]]:
        settings = self.settings(**more)
        prepared = delta_stage.run(self.engine, settings, SPEC).counts
        link = Link(self.receiver, 0, 0.0)
        return prepared, submit.run(self.engine, settings, SPEC, None, client=link).counts

    def row(self, child: str, name: str = STAGING) -> Any:
        t = tables.staging_table(name)
        with database.reading(self.engine) as connection:
            return connection.execute(select(t).where(t.c.person_id == child)).one_or_none()

    def noted(self, name: str = STAGING) -> list[Any]:
        with database.reading(self.engine) as connection:
            return attention.read(connection, Staging(self.engine, name))


@pytest.fixture
def world(engine: Engine, make_settings: Callable[..., Any]) -> Iterator[World]:
    yield World(engine, make_settings)


@pytest.mark.database_in_turn
@pytest.mark.parametrize(("name", "damaged"), DECIDING, ids=[c for _, c in DECIDING])
def test_a_child_whose_place_hangs_on_an_unreadable_date_keeps_what_is_held(
    world: World, name: str, damaged: str
) -> None:
    world.add_child("A")
    world.add_child("B")
    usual = ROWS[name].get(damaged)
    if name == "ssd_s47_enquiry":  # else its conference settles it
        usual = {"s47e_s47_start_date": "2025-01-09"}.get(damaged)
        world.change(name, "A", s47e_s47_start_date="2025-01-09", s47e_s47_end_date=None)
        world.change("ssd_initial_cp_conference", "A", icpc_icpc_date="2020-01-10")
    world.extract()
    world.send()
    held, before = dict(world.receiver.held["A"]), world.row("A")
    assert before.submission_status == "sent"

    world.change(name, "A", **{damaged: NO_DATE})
    world.change("ssd_person", "A", pers_sex="M")
    world.change("ssd_person", "B", pers_sex="M")
    day = world.extract()
    prepared, sent = world.send()
    assert world.receiver.held["A"] == held
    assert day.counts["held_back"] == day.counts["need_attention"] == 1
    assert prepared["need_attention"] == sent["need_attention"] == 1
    assert sent["acknowledged"] == 1, "the other child has its day"
    row = world.row("A")
    assert row.api_response.startswith(f"held back: {name}.{damaged} cannot be read (")
    assert NO_DATE not in row.api_response
    assert (row.json_payload, row.row_state) == (before.json_payload, before.row_state)
    assert {(n.person_id, n.source_table, n.source_column) for n in world.noted()} == {
        ("A", name, damaged)
    }

    world.change(name, "A", **{damaged: usual})
    day = world.extract()
    assert (day.counts["released"], day.counts["need_attention"]) == (1, 0)
    _, sent = world.send()
    assert sent["acknowledged"] == 1
    assert world.receiver.held["A"][("child_details",)]["sex"] == "M"
    assert world.noted() == []


def test_a_release_without_a_change_gives_the_row_its_receipt_back(world: World) -> None:
    world.add_child("A")
    world.extract()
    world.send()
    before = world.row("A")
    world.change("ssd_person", "A", pers_dob=NO_DATE)
    world.extract()
    world.extract()
    world.change("ssd_person", "A", pers_dob=ROWS["ssd_person"]["pers_dob"])
    world.extract()
    assert world.row("A") == before


def test_a_child_that_was_never_staged_is_left_out_and_named(world: World) -> None:
    world.add_child("A")
    world.change("ssd_person", "A", pers_dob=NO_DATE)
    day = world.extract()
    assert (day.counts["left_out"], day.counts["need_attention"]) == (1, 1)
    assert world.row("A") is None
    assert [(n.person_id, n.outcome) for n in world.noted()] == [("A", "left out")]
    _need_attention_after(world, 1)
    world.change("ssd_person", "A", pers_dob="2008-05-05")
    assert world.extract().counts["new"] == 1
    assert world.noted() == []
    _need_attention_after(world, 0)


def test_a_child_with_two_values_that_cannot_be_read_is_left_out_once(world: World) -> None:
    world.add_child("A", FEW)
    world.change("ssd_person", "A", pers_dob=NO_DATE)
    world.change("ssd_cin_episodes", "A", cine_close_date=NO_DATE)
    assert world.extract().counts["left_out"] == 1
    assert len(world.noted()) == 2
    _need_attention_after(world, 1)


def _need_attention_after(world: World, children: int) -> None:
    """A run of delta and submit alone tells of those of whom extract found nothing to send."""
    for dry_run in (True, False):
        prepared, sent = world.send(dry_run=dry_run)
        assert prepared["need_attention"] == sent["need_attention"] == children


def test_nothing_that_waited_is_sent_of_a_child_who_is_held_back(world: World) -> None:
    """Neither a message that was prepared before, nor the purge of a child who had left."""
    world.add_child("A")
    world.add_child("B")
    world.extract()
    world.send()
    held = dict(world.receiver.held)
    world.change("ssd_person", "A", pers_sex="M")
    world.change("ssd_person", "B", pers_dob="1990-01-01")
    assert world.extract().counts["aged_out"] == 1
    delta_stage.run(world.engine, world.settings(), SPEC)
    assert world.row("A").partial_json_payload and world.row("B").partial_json_payload

    world.change("ssd_cin_episodes", "A", cine_referral_date=NO_DATE)
    world.change("ssd_person", "B", pers_dob=NO_DATE)
    assert world.extract().counts["held_back"] == 2
    link = Link(world.receiver, 0, 0.0)
    counts = submit.run(world.engine, world.settings(), SPEC, None, client=link).counts
    assert (counts["sent"], counts["held_back"], counts["need_attention"]) == (0, 2, 2)
    assert world.receiver.held == held

    world.change("ssd_cin_episodes", "A", cine_referral_date="2025-01-05")
    world.change("ssd_person", "B", pers_dob="1990-01-01")
    world.extract()
    world.send()
    assert world.receiver.held["A"][("child_details",)]["sex"] == "M"
    assert set(world.receiver.held) == {"A"}


@pytest.mark.database_in_turn
@pytest.mark.parametrize(
    ("changes", "is_in"),
    [
        # too old, whatever the referral says
        ([("ssd_person", {"pers_dob": "1990-01-01"}),
          ("ssd_cin_episodes", {"cine_referral_date": NO_DATE})], False),
        # in no set, whatever the age is
        ([("ssd_person", {"pers_dob": NO_DATE}),
          ("ssd_cin_episodes", {"cine_close_date": "2020-01-01"})], False),
        # ended before the window, whenever it began
        ([("ssd_cin_episodes", {"cine_referral_date": NO_DATE, "cine_close_date": "2020-01-01"}),
          ], False),
        # a due date is not asked for where the birth date is known
        ([("ssd_person", {"pers_expected_dob": NO_DATE})], True),
        # a day that stands for "none" is no damage
        ([("ssd_cin_episodes", {"cine_close_date": "1900-01-01"})], True),
        ([("ssd_cin_episodes", {"cine_close_date": "9999-12-31"})], True),
    ],
)  # fmt: skip
def test_what_another_value_settles_does_not_hang_on_an_unreadable_one(
    world: World, changes: list, is_in: bool
) -> None:
    world.add_child("A", only=("ssd_person", "ssd_cin_episodes"))
    for name, values in changes:
        world.change(name, "A", **values)
    day = world.extract()
    assert day.counts["need_attention"] == 0
    assert (world.row("A") is not None) is is_in


def test_an_item_is_out_for_certain_where_another_condition_says_so(world: World) -> None:
    world.add_child("A")
    world.change("ssd_involvements", "A", invo_professional_role_id="XX",
                 invo_involvement_start_date=NO_DATE)  # fmt: skip
    world.change("ssd_immigration_status", "A", immi_immigration_status="refugee",
                 immi_immigration_status_end_date=NO_DATE)  # fmt: skip
    assert world.extract().counts["need_attention"] == 0


def test_a_choice_between_rows_that_hangs_on_an_unreadable_date(world: World) -> None:
    world.add_child("A")
    world.extract()
    world.add("ssd_care_leavers", clea_table_id="AV2", clea_person_id="A",
              clea_care_leaver_latest_contact=NO_DATE)  # fmt: skip
    assert world.extract().counts["held_back"] == 1
    assert [n.source_column for n in world.noted()] == ["clea_care_leaver_latest_contact"]
    assert [n.rule for n in world.noted()] == ["cannot be read (which row comes first)"]


@pytest.mark.parametrize("started", ["2025-01-01", "2025-02-01"])
def test_an_open_row_comes_before_one_whose_end_cannot_be_read(world: World, started: str) -> None:
    """Whichever of the two began later: what cannot be read is an end all the same."""
    world.add_child("A")
    world.change("ssd_immigration_status", "A", immi_immigration_status_end_date=None,
                 immi_immigration_status_start_date="2025-01-11")  # fmt: skip
    world.extract()
    before = world.row("A")
    world.add("ssd_cla_episodes", clae_cla_episode_id="AC2", clae_cla_placement_id="AM",
              clae_cla_episode_start_date=f"{started} 10:00", clae_cla_episode_ceased_reason="E3",
              clae_cla_episode_ceased_date=NO_DATE)  # fmt: skip
    world.add("ssd_immigration_status", immi_immigration_status_id="AU2", immi_person_id="A",
              immi_immigration_status="UASC", immi_immigration_status_start_date=started,
              immi_immigration_status_end_date=NO_DATE)  # fmt: skip
    assert world.extract().counts["need_attention"] == 0
    assert world.row("A") == before


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("ssd_cla_episodes", "clae_cla_id"),  # leads to placements
        ("ssd_s47_enquiry", "s47e_s47_enquiry_id"),  # to the conference, by which it is in
        ("ssd_involvements", "invo_professional_id"),
        ("ssd_professionals", "prof_social_worker_registration_no"),
    ],
)
def test_what_an_unreadable_id_may_lead_to_is_kept(world: World, name: str, damaged: str) -> None:
    if world.engine.dialect.name != "sqlite":
        pytest.skip("only SQLite keeps bytes in a column of texts")
    world.add_child("A")
    world.extract()
    world.send()
    held = dict(world.receiver.held["A"])
    damaged_column = column(damaged)
    whole = table(name, damaged_column)

    def write(value: Any) -> None:
        with database.transaction(world.engine) as connection:
            connection.execute(update(whole).values({damaged_column: value}))

    write(b"\xff41")
    assert world.extract().counts["held_back"] == 1
    assert {(n.source_table, n.source_column) for n in world.noted()} == {(name, damaged)}
    world.send()
    assert world.receiver.held["A"] == held
    write(ROWS[name][damaged].replace("K", "A", 1))
    assert world.extract().counts["need_attention"] == 0


def test_the_twin_of_a_child_who_is_held_back_stays_as_well(world: World) -> None:
    secrets = Secrets(pseudonym_key="k" * 40)
    anonymised = {"source": "anonymised"}

    def scramble() -> dict[str, int]:
        return anonymise.run(world.engine, world.settings(**anonymised), secrets, SPEC).counts

    world.add_child("A")
    world.add_child("B")
    world.extract()
    scramble()
    world.send(**anonymised)
    held = dict(world.receiver.held)
    assert len(held) == 2
    world.change("ssd_person", "A", pers_dob=NO_DATE, pers_sex="M")
    world.extract()
    counts = scramble()
    assert (counts["held_back"], counts["gone"], counts["need_attention"]) == (1, 0, 1)
    _, sent = world.send(**anonymised)
    assert (sent["sent"], sent["need_attention"]) == (0, 1)
    assert world.receiver.held == held
    world.change("ssd_person", "A", pers_dob="2008-05-05")
    world.extract()
    assert scramble()["held_back"] == 0
    _, sent = world.send(**anonymised)
    assert (sent["acknowledged"], sent["need_attention"]) == (1, 0)


# --------------------------------------------------------------------------- ids that are alike
FEW = ("ssd_person", "ssd_cin_episodes")


@pytest.mark.parametrize("chunk_size", [1, 100])
@pytest.mark.parametrize("other", ["A ", " A", "A\t", " A "])
def test_two_children_whose_ids_differ_by_outer_blanks_are_never_mixed(
    world: World, other: str, chunk_size: int
) -> None:
    world.add_child("A", FEW)
    world.add_child("B", FEW)
    world.extract(chunk_size=chunk_size)
    world.send()
    held = dict(world.receiver.held)
    world.add("ssd_person", pers_person_id=other, pers_dob="2011-01-01", pers_surname="Other")
    world.add("ssd_cin_episodes", cine_referral_id="OR", cine_person_id=other,
              cine_referral_date="2025-01-01")  # fmt: skip
    day = world.extract(chunk_size=chunk_size)
    assert day.counts["held_back"] == day.counts["need_attention"] == 2
    assert day.counts["gone"] == day.counts["updated"] == 0
    assert sum(n.children for n in world.noted()) == 2
    _, sent = world.send()
    assert sent["sent"] == 0 and world.receiver.held == held


def test_two_different_persons_with_one_id_are_both_held_back(world: World) -> None:
    world.add_child("A", FEW)
    world.add("ssd_person", pers_person_id="A", pers_dob="2011-01-01", pers_surname="Other")
    day = world.extract()
    assert (day.counts["left_out"], day.counts["new"]) == (2, 0)


def test_a_row_that_is_there_twice_costs_nobody_the_day(world: World) -> None:
    world.add_child("A", FEW)
    world.add("ssd_person", **{**ROWS["ssd_person"], "pers_person_id": "A"})
    day = world.extract()
    assert (day.counts["new"], day.counts["refused"], day.counts["need_attention"]) == (1, 1, 1)
    _need_attention_after(world, 1)


def test_capitals_make_two_ids_where_the_database_says_so(world: World) -> None:
    world.add_child("A", FEW)
    world.add_child("a", FEW)
    day = world.extract()
    assert (day.counts["new"], day.counts["need_attention"]) == (2, 0)


# what Python takes for a blank, and no database does by itself
OTHER_BLANKS = ["\vB", "B\x1f", "B\x85", "\u2003B", "B\u3000"]


@pytest.mark.parametrize(
    ("written", "in_person"),
    [
        *((id_, there) for id_ in (" B", "B ", "\tB", "\xa0B") for there in (False, True)),
        *((id_, False) for id_ in OTHER_BLANKS),  # of the person itself such an id is refused
    ],
)
def test_an_id_with_blanks_in_one_table_alone_is_joined_on_every_page(
    world: World, written: str, in_person: bool
) -> None:
    for child in "ABC":
        world.add_child(child)
    world.add("ssd_person", pers_person_id="A0", pers_dob="2011-01-01")
    if in_person:
        world.change("ssd_person", "B", pers_person_id=written)
    else:
        world.change("ssd_cin_episodes", "BR", cine_person_id=written)
        world.change("ssd_sdq_scores", "BQ", csdq_person_id=written)
    world.extract(chunk_size=1)
    document = world.row("B").json_payload
    for expected in ('"social_care_episode_id":"BR"', '"sdq_assessments"', '"BA"', '"BM"'):
        assert expected in document, expected
    assert world.extract(chunk_size=100).counts["unchanged"] == 3


@pytest.mark.parametrize("written", ["\ufeffA", "A\u200b"])
def test_an_id_with_characters_that_cannot_be_seen_is_not_sent_as_another_one(
    world: World, written: str
) -> None:
    """Its document would say that it is A's."""
    world.add_child("A", FEW)
    world.add("ssd_person", **{**ROWS["ssd_person"], "pers_person_id": written})
    world.add("ssd_cin_plans", **{**ROWS["ssd_cin_plans"], "cinp_person_id": written})
    day = world.extract()
    assert (day.counts["new"], day.counts["refused"]) == (1, 1)
    assert "cannot be seen" in str(day.problems)


def test_the_statutory_cohort_knows_ids_with_blanks_too(world: World) -> None:
    for child in "ABC":
        world.add_child(child, FEW)
    with database.transaction(world.engine) as connection:
        connection.execute(text("create table stat_cohort (person_id varchar(48))"))
        connection.execute(text("insert into stat_cohort values (' C'), ('A ')"))
    world.extract(chunk_size=1, statutory_cohort_table="stat_cohort")
    assert world.row("A") is not None and world.row("C") is not None and world.row("B") is None


def test_ids_are_grouped_without_a_parameter(world: World) -> None:
    """SQL Server takes a parameter in GROUP BY for another expression and refuses the query."""
    settings = world.settings()
    documents = Documents(world.engine, settings, SPEC)
    source, written = documents.reader.deployed.id_column("ssd_person", "pers_person_id")
    said = str(repeated_ids(source, written).compile(dialect=mssql.dialect()))
    grouped = said.partition("GROUP BY")[2].partition("HAVING")[0]
    assert grouped.strip() and ":" not in grouped and "?" not in grouped


# ----------------------------------------------------------------------- who needs attention
def test_the_list_unites_what_every_place_says_of_a_child(world: World) -> None:
    """Held back, refused by us, not valid, refused by the receiver, and of unknown outcome."""
    for child in ("AAAA1", "BBBB2", "CCCC3", "DDDD4"):
        world.add_child(child, FEW)
    world.add("ssd_person", pers_person_id=" ", pers_dob="2010-01-01")
    world.extract()
    staging = Staging(world.engine, STAGING)
    t = staging.table
    with database.transaction(world.engine) as connection:
        for child, said in (
            ("BBBB2", "not sent: social_care_episodes[0].referral_date: not a date"),
            ("CCCC3", "HTTP 400: it says no"),
        ):
            connection.execute(
                update(t)
                .where(t.c.person_id == child)
                .values(submission_status="error", api_response=said)
            )
        connection.execute(
            insert(tables.journal).values(
                staging_table=STAGING, person_id="DDDD4", run_id="r", batch_id="b",
                kind="document", state="unknown", sent_at=utc_now(),
            )
        )  # fmt: skip
    world.change("ssd_person", "AAAA1", pers_dob=NO_DATE)
    world.extract()
    with database.reading(world.engine) as connection:
        reasons = {one.person_id: one for one in attention.listed(connection, staging, SPEC)}
    assert {child: one.what for child, one in reasons.items()} == {
        "AAAA1": "held back", None: "refused", "BBBB2": "not valid",
        "CCCC3": "not taken by the receiver", "DDDD4": "outcome unknown",
    }  # fmt: skip
    not_valid = reasons["BBBB2"]
    assert (not_valid.source_table, not_valid.source_column, not_valid.path, not_valid.rule) == (
        "ssd_cin_episodes", "cine_referral_date",
        "social_care_episodes[].referral_date", "not a date",
    )  # fmt: skip
    shown = attention.shown(world.engine, STAGING, SPEC)
    assert {row["who"] for row in shown} == {"…A1", "", "…B2", "…C3", "…D4"}
    assert not any("AAAA1" in str(row) for row in shown)


def test_the_shown_list_names_rule_table_and_column_and_no_child(
    world: World, capsys: pytest.CaptureFixture
) -> None:
    for number, (name, damaged) in enumerate(DECIDING):
        child = f"XXXX{number:02d}"
        world.add_child(child)
        if name == "ssd_s47_enquiry":
            world.change("ssd_initial_cp_conference", child, icpc_icpc_date="2020-01-10")
            world.change(name, child, s47e_s47_start_date="2025-01-09", s47e_s47_end_date=None)
        world.change(name, child, **{damaged: NO_DATE})
    world.extract()
    rows = attention.shown(world.engine, STAGING, SPEC)
    display.attention(rows)
    said = capsys.readouterr().out
    assert "(hidden)" not in said
    assert NO_DATE not in said and "XXXX" not in said
    for name, damaged in DECIDING:
        assert name in said and damaged in said
    display.attention([])
    assert "Nobody needs attention." in capsys.readouterr().out


def test_a_day_with_needy_children_is_not_called_ordinary(
    world: World, capsys: pytest.CaptureFixture
) -> None:
    display.notices([], {"need_attention": 0})
    assert "Nothing out of the ordinary." in capsys.readouterr().out
    display.notices([], {"need_attention": 2})
    said = capsys.readouterr().out
    assert "2 children need attention" in said and "ordinary" not in said


def test_those_who_are_gone_are_told_apart_by_reason(world: World) -> None:
    for child in "ABCDE":
        world.add_child(child, FEW)
    world.extract()
    world.change("ssd_person", "A", pers_dob="1990-01-01")
    world.change("ssd_cin_episodes", "B", cine_close_date="2020-01-01")
    with database.transaction(world.engine) as connection:
        connection.execute(text("delete from ssd_person where pers_person_id in ('C', 'D')"))
    day = world.extract()
    assert (day.counts["gone"], day.counts["aged_out"]) == (4, 1)
    assert (day.counts["left_the_cohort"], day.counts["no_longer_in_the_source"]) == (1, 2)
    said = "4 children are gone: left the cohort 1, no longer in the source 2, aged out 1."
    assert said in day.notices
