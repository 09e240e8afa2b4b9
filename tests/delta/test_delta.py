"""The delta on hand-worked pairs: what is sent, to the letter."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from d2i_helpers.delta import apply, delta, delta_text, removed_items, with_removals
from d2i_helpers.errors import ChildErrors
from d2i_helpers.payload_spec import load_spec
from tests.delta.documents import settled

SPEC = load_spec()
IDS = {"la_child_id": "C1", "mis_child_id": "M1", "purge": False}
DETAILS = {"surname": "O'Brien", "sex": "F", "disabilities": ["NONE"], "purge": False}
PLAN_A = {"child_in_need_plan_id": "A", "start_date": "2025-05-01", "purge": False}
PLAN_B = {"child_in_need_plan_id": "B", "start_date": "2025-04-01", "purge": False}
WORKERS = [
    {"worker_id": "SW1", "start_date": "2025-06-01"},
    {"worker_id": "SW1", "start_date": "2025-01-01", "end_date": "2025-06-01"},
]
EPISODE = {
    "social_care_episode_id": "E1",
    "referral_date": "2025-04-01",
    "closure_date": "2025-09-01",
    "care_worker_details": WORKERS,
    "child_in_need_plans": [PLAN_A, PLAN_B],
    "adoption": {"matched_date": "2025-07-01", "purge": False},
    "purge": False,
}
OWN = {name: EPISODE[name] for name in list(EPISODE)[:4]} | {"purge": False}
OTHER = {"social_care_episode_id": "E0", "referral_date": "2024-05-01", "purge": False}
SDQ = {
    "sdq_assessments": [
        {"date": "2025-05-05", "score": 9},
        {"date": "2025-02-02", "score": 12},
    ],
    "purge": False,
}
BASE = {
    **IDS,
    "child_details": DETAILS,
    "health_and_wellbeing": SDQ,
    "social_care_episodes": [EPISODE, OTHER],
}


def changed(**episode: Any) -> dict[str, Any]:
    """BASE with keys of its first episode set, or taken out where the value is None."""
    document = copy.deepcopy(BASE)
    target = document["social_care_episodes"][0]
    target.update(episode)
    for name in [name for name, value in target.items() if value is None]:
        del target[name]
    return document


def message(*episodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What must be sent: the ids, child_details, and the episodes given."""
    return {**IDS, "child_details": DETAILS, **more} | (
        {"social_care_episodes": list(episodes)} if episodes else {}
    )


def test_nothing_changed_is_nothing_to_send():
    assert delta(SPEC, BASE, copy.deepcopy(BASE)) is None
    assert delta(SPEC, BASE, copy.deepcopy(BASE), copy.deepcopy(BASE)) is None


def test_a_child_that_the_receiver_does_not_hold_goes_whole():
    assert delta(SPEC, BASE, None) == BASE
    assert delta(SPEC, BASE) == BASE


def test_a_null_in_the_document_is_as_if_it_were_not_there():
    with_null = changed()
    with_null["social_care_episodes"][0]["closure_reason"] = None
    with_null["mis_child_id"] = "M1"
    assert delta(SPEC, with_null, BASE) is None
    assert delta(SPEC, with_null, None) == BASE


def test_a_changed_field_sends_its_block_with_its_lists_without_keys_and_nothing_nested():
    current = changed(referral_date="2025-03-31")
    assert delta(SPEC, current, BASE) == message({**OWN, "referral_date": "2025-03-31"})


def test_a_reopened_episode_sends_null_for_the_closure_date_that_is_gone():
    current = changed(closure_date=None)
    own = {name: value for name, value in OWN.items() if name != "closure_date"}
    assert delta(SPEC, current, BASE) == message({**own, "closure_date": None})
    assert delta(SPEC, current, BASE, cleared_fields="omit") == message(own)


def test_a_changed_item_brings_its_own_fields_and_those_of_the_blocks_above_it():
    plan = {**PLAN_A, "end_date": "2025-08-01"}
    current = changed(child_in_need_plans=[plan, PLAN_B])
    assert delta(SPEC, current, BASE) == message({**OWN, "child_in_need_plans": [plan]})


def test_a_removed_item_is_its_key_and_the_mark():
    mark = {"child_in_need_plan_id": "B", "purge": True}
    one_left = changed(child_in_need_plans=[PLAN_A])
    assert delta(SPEC, one_left, BASE) == message({**OWN, "child_in_need_plans": [mark]})
    none_left = changed(child_in_need_plans=None)
    marks = [{"child_in_need_plan_id": "A", "purge": True}, mark]
    assert delta(SPEC, none_left, BASE) == message({**OWN, "child_in_need_plans": marks})


def test_an_item_with_another_key_is_one_gone_and_one_new():
    plan = {**PLAN_B, "child_in_need_plan_id": "C"}
    current = changed(child_in_need_plans=[PLAN_A, plan])
    mark = {"child_in_need_plan_id": "B", "purge": True}
    assert delta(SPEC, current, BASE) == message({**OWN, "child_in_need_plans": [plan, mark]})


def test_a_removed_episode_takes_what_is_under_it_along_in_one_mark():
    current = {**BASE, "social_care_episodes": [OTHER]}
    mark = {"social_care_episode_id": "E1", "purge": True}
    assert delta(SPEC, current, BASE) == message(mark)
    gone, held = removed_items(SPEC, BASE, current)
    episode = {"child_in_need_plans": 2, "care_worker_details": 2, "adoption": 1}
    assert +gone == {"social_care_episodes": 1, **episode}
    assert +held == {
        "social_care_episodes": 2, **episode, "health_and_wellbeing": 1, "sdq_assessments": 2,
    }  # fmt: skip
    gone, _ = removed_items(
        SPEC,
        BASE,
        {**BASE, "social_care_episodes": [OTHER, {**OTHER, "social_care_episode_id": "E2"}]},
        by_number=True,
    )
    assert gone == episode  # one episode for another, by number


def test_a_removed_object_is_the_mark_alone():
    assert delta(SPEC, changed(adoption=None), BASE) == message(
        {**OWN, "adoption": {"purge": True}}
    )
    current = {name: value for name, value in BASE.items() if name != "health_and_wellbeing"}
    assert delta(SPEC, current, BASE) == message(health_and_wellbeing={"purge": True})


def test_a_withdrawn_questionnaire_sends_the_list_that_is_left():
    left = {"sdq_assessments": SDQ["sdq_assessments"][1:], "purge": False}
    current = {**BASE, "health_and_wellbeing": left}
    assert delta(SPEC, current, BASE) == message(health_and_wellbeing=left)


def test_workers_with_two_spells_are_sent_as_one_list():
    ended = [{**WORKERS[0], "end_date": "2025-08-01"}, WORKERS[1]]
    current = changed(care_worker_details=ended)
    assert delta(SPEC, current, BASE) == message({**OWN, "care_worker_details": ended})
    own = {name: value for name, value in OWN.items() if name != "care_worker_details"}
    gone = delta(SPEC, changed(care_worker_details=None), BASE)
    assert gone == message({**own, "care_worker_details": None})


def test_a_changed_name_sends_child_details_alone_with_its_apostrophe():
    details = {**DETAILS, "surname": "O'Brien-Łukasz"}
    assert delta(SPEC, {**BASE, "child_details": details}, BASE) == {
        **IDS,
        "child_details": details,
    }


def test_a_child_that_is_gone_is_its_ids_and_the_mark():
    purge = {"la_child_id": "C1", "mis_child_id": "M1", "purge": True}
    assert delta(SPEC, None, BASE) == purge
    assert delta(SPEC, None, None, BASE) == purge
    assert delta(SPEC, None, None) is None
    without = {name: value for name, value in BASE.items() if name != "mis_child_id"}
    assert delta(SPEC, None, without) == {"la_child_id": "C1", "purge": True}
    assert apply(SPEC, BASE, purge) is None


def test_the_receiver_may_hold_either_of_two_documents():
    """Yesterday's message added plan C and timed out; today C is gone and A has ended."""
    plan_c = {"child_in_need_plan_id": "C", "start_date": "2025-06-01", "purge": False}
    attempted = changed(child_in_need_plans=[plan_c, PLAN_A, PLAN_B])
    ended = {**PLAN_A, "end_date": "2025-08-01"}
    current = changed(child_in_need_plans=[ended, PLAN_B])
    mark = {"child_in_need_plan_id": "C", "purge": True}
    sent = delta(SPEC, current, BASE, attempted)
    assert sent == message({**OWN, "child_in_need_plans": [ended, mark]})
    assert apply(SPEC, BASE, sent) == apply(SPEC, attempted, sent) == current


def test_the_receiver_may_hold_a_document_or_nothing():
    current = changed(child_in_need_plans=[PLAN_A], closure_date=None)
    sent = delta(SPEC, current, None, BASE)
    episode, other = sent["social_care_episodes"]
    assert other == OTHER
    assert episode["closure_date"] is None
    assert episode["child_in_need_plans"] == [
        PLAN_A,
        {"child_in_need_plan_id": "B", "purge": True},
    ]
    assert episode["adoption"] == EPISODE["adoption"]
    assert apply(SPEC, None, sent) == apply(SPEC, BASE, sent) == current


def test_the_receiver_may_hold_the_same_in_another_order_or_nothing():
    turned = changed(child_in_need_plans=[PLAN_B, PLAN_A])
    assert delta(SPEC, BASE, turned) is None
    sent = delta(SPEC, BASE, None, turned)
    assert sent == BASE


def test_full_phase_sends_the_document_with_what_is_gone():
    current = changed(child_in_need_plans=[PLAN_A], closure_date=None, adoption=None)
    full = with_removals(SPEC, current, delta(SPEC, current, BASE))
    expected = copy.deepcopy(current)
    expected["social_care_episodes"][0] |= {
        "closure_date": None,
        "adoption": {"purge": True},
        "child_in_need_plans": [PLAN_A, {"child_in_need_plan_id": "B", "purge": True}],
    }
    assert full == expected
    assert with_removals(SPEC, current, None) == current


def test_an_item_that_was_stored_twice_is_sent_although_one_of_them_is_right():
    """Which of the two the receiver kept, nobody knows."""
    late = {**PLAN_B, "end_date": "2025-08-01"}
    twice = changed(child_in_need_plans=[PLAN_A, PLAN_B, late])
    sent = {**PLAN_B, "end_date": None}
    assert delta(SPEC, BASE, twice) == message({**OWN, "child_in_need_plans": [sent]})
    assert delta(SPEC, twice, copy.deepcopy(twice)) is None


def test_an_item_that_stands_twice_in_the_document_is_sent_once():
    late = {**PLAN_B, "end_date": "2025-08-01", "start_date": "2025-04-02"}
    twice = changed(child_in_need_plans=[PLAN_A, PLAN_B, late])
    assert delta(SPEC, twice, BASE) == message({**OWN, "child_in_need_plans": [late]})
    sent = delta(SPEC, twice, None)["social_care_episodes"][0]
    assert sent["child_in_need_plans"] == [PLAN_A, late]


def test_keys_that_nobody_knows_belong_to_the_block_that_they_stand_in():
    current = changed(x_local="yes")
    assert delta(SPEC, current, BASE) == message({**OWN, "x_local": "yes"})
    assert delta(SPEC, BASE, current) == message({**OWN, "x_local": None})


def test_a_block_that_was_stored_as_text_is_replaced():
    broken = {**BASE, "health_and_wellbeing": json.dumps(SDQ)}
    sent = delta(SPEC, BASE, broken)
    assert sent == message(health_and_wellbeing=SDQ)
    assert apply(SPEC, broken, sent) == BASE


def test_merge_keeps_what_a_message_leaves_out_and_replace_does_not():
    current = changed(closure_date=None)
    sent = delta(SPEC, current, BASE, cleared_fields="omit")
    assert apply(SPEC, BASE, sent, mode="merge") == BASE
    assert apply(SPEC, BASE, sent, mode="replace") == current


def test_apply_puts_lists_in_their_order():
    current = changed(child_in_need_plans=[{**PLAN_B, "start_date": "2025-06-01"}, PLAN_A])
    after = apply(SPEC, BASE, delta(SPEC, current, BASE))
    plans = after["social_care_episodes"][0]["child_in_need_plans"]
    assert [plan["child_in_need_plan_id"] for plan in plans] == ["B", "A"]
    assert [one["social_care_episode_id"] for one in after["social_care_episodes"]] == ["E1", "E0"]


def test_what_the_order_does_not_tell_apart_is_put_in_order_by_its_content():
    ends = ("2025-08-01", "2025-07-01")
    spells = [{**WORKERS[0], "end_date": end} for end in ends]
    one, other = changed(care_worker_details=spells), changed(care_worker_details=spells[::-1])
    assert delta(SPEC, one, other) is None
    assert json.dumps(settled(SPEC, one)) == json.dumps(settled(SPEC, other))


def test_a_block_that_cannot_be_purged_belongs_to_the_block_that_holds_it(tmp_path):
    """Nobody could take an item out of such a list, so it is sent whole, and null when it goes."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("blocks: {child_in_need_plans: {purge: false}}")
    spec = load_spec(overlay=overlay)
    plans = [dict(list(one.items())[:-1]) for one in (PLAN_A, PLAN_B)]  # no flag
    base = changed(child_in_need_plans=plans)
    current = changed(child_in_need_plans=plans[1:])
    assert delta(spec, current, base) == message({**OWN, "child_in_need_plans": plans[1:]})
    assert apply(spec, base, delta(spec, current, base)) == current
    assert delta(spec, changed(child_in_need_plans=plans[::-1]), base) is None
    gone = delta(spec, changed(child_in_need_plans=None), base)
    assert gone == message({**OWN, "child_in_need_plans": None})


def test_text_goes_in_and_text_comes_out():
    current = changed(child_in_need_plans=[PLAN_A])
    found = delta_text(SPEC, json.dumps(current), json.dumps(BASE).encode(), None)
    assert json.loads(found) == delta(SPEC, current, BASE, None)
    assert delta_text(SPEC, None, json.dumps(BASE)) == (
        b'{"la_child_id":"C1","mis_child_id":"M1","purge":true}'
    )
    assert delta_text(SPEC, "not even read", "not even read") is None


@pytest.mark.parametrize("text", ["{", "[]", "null", '"secret"', b"\xff", ""])
def test_a_text_that_is_no_document_is_refused_without_being_shown(text):
    good = json.dumps(BASE)
    for texts in [(text, good), (good, text)]:
        with pytest.raises(ChildErrors) as caught:
            delta_text(SPEC, *texts)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "secret" not in str(caught.value)
