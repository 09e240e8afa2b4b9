"""A document as a tree and beside another one: whole for a screen, its shape for what is kept."""

from __future__ import annotations

import re
from typing import Any

from d2i_helpers import delta
from d2i_helpers.notebook.comparison import CHANGED, GONE, NEW, SAME, as_part, compare, side_by_side
from d2i_helpers.notebook.document_tree import tree
from d2i_helpers.payload_spec import load_spec

SPEC = load_spec()


def document(**details: Any) -> dict[str, Any]:
    """A child with two referrals, a questionnaire and a plan."""
    return {
        "la_child_id": "K100001",
        "child_details": {
            "first_name": "<b>Zoë</b>", "date_of_birth": "2015-03-02", "ethnicity": "WBRI",
            "disabilities": ["HAND", "MOB"], "uasc_flag": False, "purge": False, **details,
        },
        "health_and_wellbeing": {
            "sdq_assessments": [{"date": "2026-01-05", "score": 17}], "purge": False,
        },
        "social_care_episodes": [
            {"social_care_episode_id": "R2", "referral_date": "2026-02-01", "referral_source": "1A",
             "purge": False},
            {"social_care_episode_id": "R1", "referral_date": "2025-02-01", "purge": False,
             "child_in_need_plans": [{"child_in_need_plan_id": "P1", "start_date": "2025-03-01",
                                      "purge": False}]},
        ],
        "purge": False,
    }  # fmt: skip


IDENTIFYING = ("K100001", "Zoë", "2015-03-02", "WBRI", "HAND", "R1", "2026-01-05", "17", "P1")


def test_a_tree_shows_everything_with_the_meaning_of_codes() -> None:
    shown = tree(document(), SPEC, whole=True)
    for value in ("&lt;b&gt;Zoë&lt;/b&gt;", "WBRI (White British)", "P1", "2025-03-01"):
        assert value in shown, value
    assert "<b>" not in shown
    assert shown.count("<details") == shown.count("</details>") > 5


def test_what_is_kept_of_it_is_its_shape() -> None:
    lines = compare(SPEC, document(), document(first_name="Anna Maria", sex="F"))
    kept = tree(document(), SPEC, whole=False) + side_by_side(lines, whole=False)
    for value in (*IDENTIFYING, "Anna"):
        assert not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", kept), value
    assert "text, 10 characters" in kept
    assert "one of the 20 of ethnicity" in kept
    assert "2 of the" in kept  # codes of a list
    assert "1A (family member, relative or carer)" in kept  # says nothing of the child


def test_a_field_of_other_software_is_shown_and_not_kept() -> None:
    foreign = document(nickname="Bobby")
    assert "Bobby" in tree(foreign, SPEC, whole=True)
    assert "Bobby" not in tree(foreign, SPEC, whole=False)


def test_each_difference_is_said_in_a_word() -> None:
    today = document(first_name="Anna", sex="F", date_of_birth=None)
    today["child_details"]["disabilities"] = ["MOB", "HAND"]  # the same in another order
    today["social_care_episodes"].reverse()
    del today["social_care_episodes"][0]["child_in_need_plans"]
    today["health_and_wellbeing"]["sdq_assessments"].insert(0, {"date": "2026-05-01", "score": 9})
    marks = {(line.path, line.where.whole): line.mark for line in compare(SPEC, document(), today)}
    differ = {path: mark for (path, _), mark in marks.items() if mark != SAME}
    assert differ == {
        "child_details.first_name": CHANGED,
        "child_details.date_of_birth": GONE,
        "child_details.sex": NEW,
        "health_and_wellbeing.sdq_assessments.date": NEW,
        "health_and_wellbeing.sdq_assessments.score": NEW,
        "social_care_episodes.child_in_need_plans.child_in_need_plan_id": GONE,
        "social_care_episodes.child_in_need_plans.start_date": GONE,
    }
    shown = side_by_side(compare(SPEC, document(), today), whole=True)
    assert ">changed<" in shown and "Anna" in shown and 'scope="row"' in shown


def test_of_nobody_it_says_that_there_is_no_document() -> None:
    nobody = compare(SPEC, None, None)
    assert as_part(nobody).said == ("There is none: neither today nor acknowledged.",)
    assert "neither today nor acknowledged" in side_by_side(nobody, whole=True)
    alike = compare(SPEC, document(), document())
    assert as_part(alike).said == ("Today's document is the acknowledged one.",)


def test_they_differ_exactly_where_delta_has_something_to_send() -> None:
    """What the comparison calls the same is what no message is sent for."""
    for today in (document(), document(first_name="Anna"), document(disabilities=["MOB", "HAND"])):
        for before in (document(), document(uasc_flag=0)):  # a flag as other software may send it
            differs = any(line.mark != SAME for line in compare(SPEC, before, today))
            assert differs == (delta.delta(SPEC, today, before) is not None)
