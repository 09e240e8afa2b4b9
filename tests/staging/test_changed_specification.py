"""The specification changes between two nights: the receiver comes to hold today's documents.

What an overlay takes out of the specification may still be held by the receiver, and is erased by
the marks of its own block. An overlay can also change what a hash is made from; nobody is in doubt
because of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from d2i_helpers.delta import apply
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import canonical_name, content_hash
from d2i_helpers.document.validation import Validator
from d2i_helpers.errors import GuardError
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import Spec, load_spec
from d2i_helpers.settings import Settings
from d2i_helpers.submit import stage as submit
from tests.staging import world
from tests.staging.test_convergence import Link
from tests.staging.world import NaiveReceiver, rows_of

TAKEN_OUT = {
    "a field": "blocks: {child_details: {fields: {ethnicity: null}}}",
    "a field of an item": "blocks: {social_care_episodes: {fields: {referral_source: null}}}",
    "an object": "blocks: {adoption: null}",
    "a list": "blocks: {section_47_assessments: null}",
    "a list without keys": "blocks: {care_worker_details: null}",
    "an object with its list": "blocks: {health_and_wellbeing: null, sdq_assessments: null}",
    "the episodes": "blocks: {social_care_episodes: null, care_worker_details: null, "
    "child_and_family_assessments: null, child_in_need_plans: null, section_47_assessments: null, "
    "child_protection_plans: null, child_looked_after_placements: null, adoption: null, "
    "care_leavers: null}",
}
RECEIVERS = [("merge", "null", "delta"), ("replace", "omit", "delta"), ("merge", "null", "full")]


def each_with_a_receiver(overlays: dict[str, str]) -> list[Any]:
    """Each overlay with a receiver; with the others where long tests are asked for."""
    return [
        pytest.param(
            overlay, *receiver, id="-".join((name, *receiver)),
            marks=() if at % len(RECEIVERS) == of else pytest.mark.long,
        )
        for at, (name, overlay) in enumerate(overlays.items())
        for of, receiver in enumerate(RECEIVERS)
    ]  # fmt: skip


def fill(ssd: Any) -> None:
    """Two children with something in each of the blocks above."""
    for person in ("P1", "P2"):
        born = {"pers_dob": "2012-05-17", "pers_ethnicity": "WBRI"}
        ssd.add("ssd_person", {"pers_person_id": person, **born})
        referral = {"cine_referral_date": "2025-01-01", "cine_referral_source_code": "1A"}
        ssd.add(
            "ssd_cin_episodes",
            {"cine_referral_id": f"R{person}", "cine_person_id": person, **referral},
        )
        for number, ended in enumerate(("2025-03-09", "2025-02-09")):
            enquiry = {"s47e_s47_enquiry_id": f"S{number}{person}", "s47e_person_id": person}
            dates = {"s47e_s47_start_date": "2025-02-01", "s47e_s47_end_date": ended}
            ssd.add("ssd_s47_enquiry", {**enquiry, "s47e_referral_id": f"R{person}", **dates})
        ssd.add(
            "ssd_sdq_scores",
            {
                "csdq_table_id": f"Q{person}",
                "csdq_person_id": person,
                "csdq_sdq_score": "12",
                "csdq_sdq_completed_date": "2025-03-01",
            },
        )
        plan = {"cinp_cin_plan_id": f"C{person}", "cinp_cin_plan_start_date": "2025-01-10"}
        ssd.add("ssd_cin_plans", {**plan, "cinp_referral_id": f"R{person}"})
        worker = {"prof_professional_id": f"W{person}"}
        ssd.add("ssd_professionals", {**worker, "prof_social_worker_registration_no": "SW1"})
        involved = {"invo_professional_id": f"W{person}", "invo_professional_role_id": "CW"}
        since = {"invo_referral_id": f"R{person}", "invo_involvement_start_date": "2025-01-10"}
        ssd.add("ssd_involvements", {"invo_involvements_id": f"I{person}", **involved, **since})
        matched = {"perm_person_id": person, "perm_matched_date": "2025-03-01"}
        ssd.add("ssd_permanence", {"perm_table_id": f"A{person}", **matched})


class Nights:
    """An authority whose specification changes, and its receiver."""

    def __init__(self, engine: Engine, make_settings: Callable, folder: Path) -> None:
        self.engine, self.make_settings = engine, make_settings
        self.overlay = folder / "ours.yaml"
        self.receiver = NaiveReceiver("merge")
        self.parameters: dict[str, Any] = {"cms": "generic", "guard_min_children": 100}

    def begin(self, overlay: str) -> tuple[Settings, Spec]:
        self.overlay.write_text(overlay, encoding="utf-8")
        settings = self.make_settings(spec_overlay=str(self.overlay), **self.parameters)
        return settings, load_spec(settings.cms, self.overlay)

    def play(self, overlay: str, *, loses_answers: bool = False) -> dict[str, int]:
        """One night; the counts of delta.

        Args:
            loses_answers: each request is stored, and its answer is lost.
        """
        settings, spec = self.begin(overlay)
        extract.run(self.engine, settings, spec)
        counts = delta_stage.run(self.engine, settings, spec).counts
        link = Link(self.receiver, 0, 0.0)
        if loses_answers:
            link.send = link._time_out_after  # type: ignore[method-assign]
        submit.run(self.engine, settings, spec, None, client=link)
        return counts


@pytest.fixture
def nights(ssd: Any, engine: Engine, make_settings: Callable, tmp_path: Path) -> Nights:
    fill(ssd)
    return Nights(engine, make_settings, tmp_path)


@pytest.mark.database_in_turn
@pytest.mark.parametrize(
    ("overlay", "flavour", "cleared", "phase"), each_with_a_receiver(TAKEN_OUT)
)
def test_what_is_taken_out_goes_at_the_receiver_and_comes_back(
    nights: Nights, ssd: Any, overlay: str, flavour: str, cleared: str, phase: str
) -> None:
    nights.receiver = NaiveReceiver(flavour)
    nights.parameters |= {"cleared_fields": cleared, "phase": phase}
    assert nights.play("{}")["whole_documents"] == 2
    before = copy.deepcopy(nights.receiver.held)
    for text in (overlay, "{}"):
        assert nights.play(text)["need_attention"] == 0
        documents = ssd.documents()
        assert nights.receiver.held == {one: rows_of(held) for one, held in documents.items()}
        assert (nights.receiver.held == before) is (text == "{}")


@pytest.mark.database_in_turn
@pytest.mark.parametrize("overlay", TAKEN_OUT.values(), ids=TAKEN_OUT.keys())
def test_the_receiver_of_the_rehearsal_takes_the_message_that_erases_it(
    nights: Nights, ssd: Any, overlay: str
) -> None:
    nights.play("{}")
    settings, spec = nights.begin(overlay)
    extract.run(nights.engine, settings, spec)
    before = {one: row["previous_json_payload"] for one, row in ssd.staged().items()}
    assert all(before.values())
    delta_stage.run(nights.engine, settings, spec)
    validator = Validator(spec)
    for row in ssd.staged().values():
        if text := row["partial_json_payload"]:
            assert validator.partial_problems(orjson.loads(text)) == []


@pytest.mark.database_in_turn
@pytest.mark.parametrize("overlay", TAKEN_OUT.values(), ids=TAKEN_OUT.keys())
def test_a_document_keeps_its_hash_where_a_block_is_taken_out(
    nights: Nights, ssd: Any, overlay: str
) -> None:
    nights.play("{}")
    documents = ssd.documents()
    _, spec = nights.begin(overlay)
    for volatile in (False, True):
        assert canonical_name(spec, volatile) == canonical_name(load_spec(), volatile)
        for document in documents.values():
            before = content_hash(load_spec(), document, volatile_ids=volatile)
            assert content_hash(spec, document, volatile_ids=volatile) == before


OWN_SOURCE = "sources: {legs: {table: ssd_linked_identifiers, person: link_person_id, "
OWN_SOURCE += "key: link_table_id, order: [link_table_id]}}\n"
OWN_FIELDS = (
    "note: {source: legs, column: link_identifier_type, transform: text, anonymise: drop}, "
    "leg_id: {source: legs, column: link_identifier_value, transform: id, mandatory: true, "
    "anonymise: drop}"
)
OWN = {
    "a list": "blocks: {legs: {path: 'legs[]', in: child, kind: list, key: leg_id, purge: true, "
    f"source: legs, fields: {{{OWN_FIELDS}}}}}}}",
    "an object": "blocks: {legs: {path: legs, in: child, kind: object, purge: true, "
    f"source: legs, fields: {{{OWN_FIELDS}}}}}}}",
    "a list in the child's details": "blocks: {legs: {path: 'child_details.legs[]', "
    "in: child_details, kind: list, key: leg_id, purge: true, source: legs, "
    f"fields: {{{OWN_FIELDS}}}}}}}",
}


@pytest.mark.database_in_turn
@pytest.mark.parametrize(("overlay", "flavour", "cleared", "phase"), each_with_a_receiver(OWN))
def test_a_block_of_the_authoritys_own_is_erased_by_its_marks_once_it_is_deleted(
    nights: Nights, ssd: Any, monkeypatch: pytest.MonkeyPatch, overlay: str, flavour: str,
    cleared: str, phase: str,
) -> None:  # fmt: skip
    """The receiver keeps it by itself, so a `null` in its holder would not reach it."""
    for person in ("P1", "P2"):
        for number in "12":
            own = {"link_person_id": person, "link_table_id": f"L{number}{person}"}
            said = {"link_identifier_type": "left", "link_identifier_value": f"{number}{person}"}
            ssd.add("ssd_linked_identifiers", own | said)
    if "kind: list" in overlay:
        monkeypatch.setitem(world.LISTS, "legs", "leg_id")
    else:
        monkeypatch.setattr(world, "OBJECTS", world.OBJECTS | {"legs"})
    nights.receiver = NaiveReceiver(flavour)
    nights.parameters |= {"cleared_fields": cleared, "phase": phase}
    for text in (OWN_SOURCE + overlay, "{}", OWN_SOURCE + overlay, "{}"):
        assert nights.play(text)["need_attention"] == 0
        documents = ssd.documents()
        assert nights.receiver.held == {one: rows_of(held) for one, held in documents.items()}
        has_own = [
            any("legs" in str(path) for path in rows) for rows in nights.receiver.held.values()
        ]
        assert has_own == [text != "{}"] * 2
        assert nights.play(text)["ready_to_send"] == 0


@pytest.mark.database_in_turn
@pytest.mark.parametrize("mode", ["merge", "replace"])
@pytest.mark.parametrize("overlay", OWN.values(), ids=OWN.keys())
def test_the_receiver_of_the_rehearsal_erases_what_its_specification_never_had(
    nights: Nights, ssd: Any, overlay: str, mode: str
) -> None:
    own = {"link_person_id": "P1", "link_table_id": "L1"}
    said = {"link_identifier_type": "left", "link_identifier_value": "1"}
    ssd.add("ssd_linked_identifiers", own | said)
    nights.play(OWN_SOURCE + overlay)
    before = ssd.staged()["P1"]["document"]
    settings, spec = nights.begin("{}")
    extract.run(nights.engine, settings, spec)
    delta_stage.run(nights.engine, settings, spec)
    row = ssd.staged()["P1"]
    message = orjson.loads(row["partial_json_payload"])
    assert b'"purge":true' in orjson.dumps(message)
    assert Validator(spec).partial_problems(message) == []
    assert apply(spec, before, message, mode=mode) == row["document"]


OTHER_HASHES = {
    "a field is volatile": "blocks: {social_care_episodes: {fields: {referral_source: "
    "{volatile: true}}}}",
    "a field is not": "blocks: {section_47_assessments: {fields: {section_47_assessment_id: "
    "{volatile: false}}}}",
}


@pytest.mark.parametrize("overlay", OTHER_HASHES.values(), ids=OTHER_HASHES.keys())
def test_nobody_is_in_doubt_because_hashes_are_made_otherwise(
    nights: Nights, ssd: Any, overlay: str
) -> None:
    nights.parameters |= {"volatile_ids": True}
    nights.play("{}", loses_answers=True)  # the receiver may hold what the journal has, or nothing
    assert nights.play(overlay)["in_doubt"] == 0
    assert nights.play(overlay)["need_attention"] == 0
    assert nights.receiver.held == {one: rows_of(held) for one, held in ssd.documents().items()}


def test_a_form_of_hashes_has_a_name_of_its_own_where_it_is_another_one(nights: Nights) -> None:
    names = {canonical_name(nights.begin(one)[1], True) for one in OTHER_HASHES.values()}
    assert len(names | {canonical_name(load_spec(), True)}) == 3
    for overlay in OTHER_HASHES.values():  # nothing is left out where ids count
        assert canonical_name(nights.begin(overlay)[1], False) == "1"


NUMBER = "{}"
FLAG = (
    "blocks: {sdq_assessments: {fields: {score: {transform: boolean, type: boolean, "
    "minimum: null, maximum: null, anonymise: flag}}}}"
)


def as_json(held: dict[str, Any]) -> dict[str, Any]:
    """What is held of each child, each block as JSON, which tells 1 from true."""
    return {
        child: {path: orjson.dumps(own, option=orjson.OPT_SORT_KEYS) for path, own in rows.items()}
        for child, rows in held.items()
    }


@pytest.mark.database_in_turn
@pytest.mark.parametrize("score", ["0", "1"])
@pytest.mark.parametrize("loses_answers", [False, True])
def test_a_number_becomes_a_flag_though_python_takes_one_for_the_other(
    nights: Nights, engine: Engine, ssd: Any, score: str, loses_answers: bool
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"update ssd_sdq_scores set csdq_sdq_score = '{score}'")  # noqa: S608
    nights.play(NUMBER, loses_answers=loses_answers)
    for overlay in (FLAG, NUMBER):
        assert nights.play(overlay)["need_attention"] == 0
        wanted = {one: rows_of(held) for one, held in ssd.documents().items()}
        assert as_json(nights.receiver.held) == as_json(wanted)
        assert nights.play(overlay)["ready_to_send"] == 0


def test_a_guard_that_stops_the_day_says_that_the_specification_is_another_one(
    nights: Nights,
) -> None:
    nights.play("{}")
    nights.parameters |= {"guard_min_children": 1}
    settings, spec = nights.begin(TAKEN_OUT["a list"])
    with pytest.raises(GuardError) as caught:
        extract.run(nights.engine, settings, spec)
    assert "Or is it meant? Since the last run the specification" in caught.value.message
