"""An analyst asks why: the answer names every rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from d2i_helpers.errors import GateError
from d2i_helpers.extract.reasons import RECORDED, why
from d2i_helpers.spec import load_spec


def _verdicts(answer: Any) -> dict[str, bool]:
    return {row["rule"]: row["holds"] for row in answer.rules}


def test_every_rule_has_a_verdict(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "2012-05-17", "pers_sex": "X"})
    ssd.add("ssd_cin_episodes",
            {"cine_referral_id": "R1", "cine_person_id": "A1", "cine_referral_date": "2025-01-01"},
            {"cine_referral_id": "R2", "cine_person_id": "A1", "cine_referral_date": "2019-01-01",
             "cine_close_date": "2020-01-01"})  # fmt: skip
    answer = why(engine, make_settings(), load_spec(), "A1")
    assert answer.is_in
    assert _verdicts(answer)["of age between 2024-04-01 and 2026-08-11"]
    assert _verdicts(answer)["inclusion set active_referral"]
    assert not _verdicts(answer)["inclusion set cp_plan"]
    rows = {row["key"]: row for row in answer.rows if row["source"] == "episodes"}
    assert rows["R1"]["counts"] and not rows["R2"]["counts"]
    assert rows["R2"]["broken"] == ["overlaps cine_referral_date, cine_close_date"]
    missing = {row["field"]: row["why"] for row in answer.fields}
    assert missing["child_details.sex"] == "not in code list"
    assert missing["child_details.surname"] == "empty in the source"
    assert answer.document["social_care_episodes"][0]["social_care_episode_id"] == "R1"


def test_a_child_that_is_out(ssd: Any, engine: Engine, make_settings: Callable) -> None:
    ssd.add("ssd_person", {"pers_person_id": "A1", "pers_dob": "1990-05-17"})
    answer = why(engine, make_settings(), load_spec(), "A1")
    assert not answer.is_in
    details = {row["rule"]: row["detail"] for row in answer.rules}
    assert "26 or older before the window" in details.values()
    assert not why(engine, make_settings(), load_spec(), "nobody").is_in


def test_a_recorded_run_may_not_ask(
    engine: Engine, make_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RECORDED, "1")
    with pytest.raises(GateError):
        why(engine, make_settings(), load_spec(), "A1")
