"""The canonical form: what makes two documents the same, and what does not."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import orjson
import pytest

from d2i_helpers.document.canonical import canonical_bytes, canonical_name, content_hash, to_text
from d2i_helpers.payload_spec import build_spec, load_spec, merged_text

SPEC = load_spec()


def document() -> dict[str, Any]:
    return {
        "la_child_id": "1",
        "purge": False,
        "child_details": {"first_name": "Zoë", "disabilities": ["HAND", "MOB"], "purge": False},
        "health_and_wellbeing": {
            "sdq_assessments": [{"date": "2025-01-01", "score": 3}, {"date": "2024-01-01"}],
            "purge": False,
        },
        "social_care_episodes": [
            {
                "social_care_episode_id": "e1",
                "referral_date": "2025-02-01",
                "child_in_need_plans": [
                    {"child_in_need_plan_id": "p1", "start_date": "2025-03-01", "purge": False},
                    {"child_in_need_plan_id": "p2", "start_date": "2025-04-01", "purge": False},
                ],
                "purge": False,
            },
            {"social_care_episode_id": "e2", "referral_date": "2024-02-01", "purge": False},
        ],
    }


def same(changed: dict, *, volatile: bool = False) -> bool:
    return content_hash(SPEC, changed, volatile_ids=volatile) == content_hash(
        SPEC, document(), volatile_ids=volatile
    )


def test_the_hash_is_sha256_of_sorted_compact_json() -> None:
    small = {"la_child_id": "1", "child_details": {"sex": "U", "purge": False}, "purge": False}
    text = b'{"child_details":{"purge":false,"sex":"U"},"la_child_id":"1","purge":false}'
    assert canonical_bytes(SPEC, small) == text
    assert content_hash(SPEC, small) == hashlib.sha256(text).digest()
    assert len(content_hash(SPEC, small)) == 32


def test_stored_text_keeps_the_order_of_keys_and_letters_as_they_are() -> None:
    assert to_text({"b": 1, "a": "Zoë"}) == '{"b":1,"a":"Zoë"}'


@pytest.mark.parametrize("volatile", [False, True])
def test_the_order_of_keys_and_lists_does_not_matter(volatile: bool) -> None:
    turned = document()
    turned["child_details"] = dict(reversed(turned["child_details"].items()))
    turned["child_details"]["disabilities"].reverse()
    turned["health_and_wellbeing"]["sdq_assessments"].reverse()
    turned["social_care_episodes"][0]["child_in_need_plans"].reverse()
    turned["social_care_episodes"].reverse()
    before = copy.deepcopy(turned)
    assert same(dict(reversed(turned.items())), volatile=volatile)
    assert turned == before  # and nothing was changed in passing


@pytest.mark.parametrize("volatile", [False, True])
def test_a_duplicate_matters(volatile: bool) -> None:
    twice = document()
    items = twice["health_and_wellbeing"]["sdq_assessments"]
    items.append(items[0])
    assert not same(twice, volatile=volatile)


@pytest.mark.parametrize("volatile", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["child_details"].update(first_name="Zoe"),
        lambda d: d["child_details"]["disabilities"].append("VIS"),
        lambda d: d["social_care_episodes"][0].update(referral_date="2025-02-02"),
        lambda d: d["social_care_episodes"][0].update(closure_date="2025-02-02"),
        lambda d: d["social_care_episodes"][0]["child_in_need_plans"].pop(),
        lambda d: d["social_care_episodes"][1].update(child_in_need_plans=[]),
        lambda d: d.update(la_child_id="2"),
    ],
)
def test_a_change_of_content_matters(change: Any, volatile: bool) -> None:
    changed = document()
    change(changed)
    assert not same(changed, volatile=volatile)


def test_new_item_ids_matter_only_where_they_are_not_volatile() -> None:
    renumbered = document()
    for episode in renumbered["social_care_episodes"]:
        episode["social_care_episode_id"] += "x"
        for plan in episode.get("child_in_need_plans", ()):
            plan["child_in_need_plan_id"] += "x"
    assert not same(renumbered)
    assert same(renumbered, volatile=True)


def test_two_items_that_differ_by_id_only_count_as_two_where_ids_are_volatile() -> None:
    one = {"la_child_id": "1", "social_care_episodes": [{"social_care_episode_id": "a"}]}
    two = copy.deepcopy(one)
    two["social_care_episodes"].append({"social_care_episode_id": "b"})
    assert canonical_bytes(SPEC, one, True) != canonical_bytes(SPEC, two, True)


def test_volatile_or_not_is_never_the_same_form() -> None:
    assert content_hash(SPEC, document()) != content_hash(SPEC, document(), volatile_ids=True)


def test_a_null_is_as_good_as_nothing_and_no_float_is_left() -> None:
    child = {"la_child_id": "1", "child_details": {"sex": None, "score": 17.0, "part": 0.5}}
    held = orjson.loads(canonical_bytes(SPEC, child))
    assert held == {"la_child_id": "1", "child_details": {"score": 17, "part": "0.5"}}
    assert type(held["child_details"]["score"]) is int


def test_the_form_has_a_name_that_an_upgrade_changes() -> None:
    newer = build_spec({**merged_text(), "canonical_form": 7})
    assert canonical_name(SPEC, False) == "1"
    assert canonical_name(SPEC, True) == "1v"
    assert canonical_name(newer, False) == "7"
