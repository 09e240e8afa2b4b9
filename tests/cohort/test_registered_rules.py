"""A row rule and an inclusion set are each added in one place; extract, `why` and docs follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from d2i_helpers.cohort.inclusion import has_rows
from d2i_helpers.cohort.row_rules import rules_of
from d2i_helpers.document.source_rows import unreadable
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.hand_written import parse_yaml
from d2i_helpers.notebook.why import why
from d2i_helpers.payload_spec import Source, Spec, build_spec, faults, load_spec, merge, merged_text
from d2i_helpers.payload_spec import registry as registry_module
from d2i_helpers.payload_spec.outputs import cohort_tables
from d2i_helpers.payload_spec.registry import COLUMNS, INCLUSION_SETS, ROW_RULES
from d2i_helpers.privacy import safe_words

NAMES_OF_RULES = ["overlaps", "inside", "known", "equals", "uasc_status", "uasc_current",
                  "s47_or_its_conference", "care_leaver_contact", "care_worker_gate"]  # fmt: skip
SETS_BY_LETTER = {
    "A": "active_referral", "B": "waiting_assessment", "C": "cin_plan", "D": "cp_plan",
    "E1": "looked_after_by_referral", "E2": "looked_after_by_placement", "F": "care_leaver",
    "G": "disability",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    for registry in (ROW_RULES, INCLUSION_SETS):
        monkeypatch.setattr(registry, "_rules", {name: registry[name] for name in registry})
    yield
    safe_words.vocabulary.cache_clear()


def _laid_on(overlay: str) -> dict[str, Any]:
    return merge(merged_text(), parse_yaml(overlay))


def _child(ssd: Any, person_id: str, **referral: Any) -> None:
    ssd.add("ssd_person", {"pers_person_id": person_id, "pers_dob": "2012-05-17"})
    ssd.add("ssd_cin_episodes", {"cine_referral_id": f"{person_id}R", "cine_person_id": person_id,
                                 "cine_referral_date": "2025-01-01", **referral})  # fmt: skip


def test_the_rules_and_sets_are_registered_in_their_order() -> None:
    assert list(ROW_RULES) == NAMES_OF_RULES
    assert {each.letter: each.name for each in INCLUSION_SETS.rules()} == SETS_BY_LETTER
    assert [each.letter for each in INCLUSION_SETS.rules()] == list(SETS_BY_LETTER)
    assert {each.name: each.setting for each in INCLUSION_SETS.rules() if each.setting} == {
        "cp_plan": "cp_plan_inclusion", "disability": "disability_inclusion"}  # fmt: skip


def test_a_row_rule_is_added_in_one_place(
    ssd: Any, engine: Engine, make_settings: Callable[..., Any]
) -> None:
    text = _laid_on("sources: {episodes: {where: [{rule: taken_up}]}}")
    assert any("there is no rule `taken_up`" in fault for fault in faults(text))

    @registry_module.row_rule(
        "taken_up",
        words="the referral was taken up and has an assessment",
        columns=("cine_referral_nfa",),
        looks_into={"assessments": ("cina_assessment_child_seen",)},
    )
    def _taken_up(compiler: Any, source: str) -> Any:
        key = compiler.plan.text(source, "cine_referral_id")
        refused = compiler.plan.text(source, "cine_referral_nfa")
        seen = compiler.plan.text("assessments", "cina_assessment_child_seen")

        def test(row: Any, page: Any) -> Any:
            if refused(row) == "?":
                return unreadable("ssd_cin_episodes", "cine_referral_nfa", "whether it counts")
            seen_at = (seen(found) for found in page.rows("assessments", key(row)))
            return refused(row) != "Y" and "Y" in seen_at

        return test

    assert faults(text) == []
    assert "| `rule: taken_up` | the referral was taken up" in cohort_tables()["row rules"]
    safe_words.vocabulary.cache_clear()
    assert "taken_up" in safe_words.vocabulary()
    spec = build_spec(text)
    for person_id, answer in (("A1", "N"), ("B1", "Y"), ("C1", "?")):
        _child(ssd, person_id, cine_referral_nfa=answer)
        ssd.add("ssd_cin_assessments", {
            "cina_assessment_id": f"{person_id}A", "cina_referral_id": f"{person_id}R",
            "cina_assessment_start_date": "2025-01-02", "cina_assessment_child_seen": "Y",
        })  # fmt: skip
    settings = make_settings()
    extract.run(engine, settings, spec)
    documents = ssd.documents()
    assert set(documents) == {"A1", "B1"}  # C1 is held back
    assert len(documents["A1"]["social_care_episodes"]) == 1
    assert "social_care_episodes" not in documents["B1"]
    said = {
        person_id: [row["broken"] for row in why(engine, settings, spec, person_id).rows
                    if row["source"] == "episodes"]
        for person_id in ("A1", "B1", "C1")
    }  # fmt: skip
    rule = "rule taken_up (counts if the referral was taken up and has an assessment)"
    assert said["A1"] == [[]]
    assert said["B1"] == [[rule]]
    assert said["C1"][0][0].startswith(f"{rule}: ssd_cin_episodes.cine_referral_nfa cannot be read")


def test_a_row_rule_with_columns_of_its_own_is_added_in_one_place(
    ssd: Any, engine: Engine, make_settings: Callable[..., Any]
) -> None:
    @registry_module.row_rule("lacks", takes=COLUMNS, words="every column is empty")
    def _lacks(compiler: Any, source: str, columns: list[str]) -> Any:
        readers = [compiler.plan.text(source, column) for column in columns]
        return lambda row, _page: not any(read(row) for read in readers)

    wrong = _laid_on("sources: {episodes: {where: [{lacks: cine_referral_nfa}]}}")
    assert "source `episodes`: `lacks` needs a list of one or more columns" in faults(wrong)
    unknown = _laid_on("sources: {episodes: {where: [{lacks: [cine_nothing]}]}}")
    assert any("has no column `cine_nothing`" in fault for fault in faults(unknown))
    text = _laid_on("sources: {episodes: {where: [{lacks: [cine_referral_nfa]}]}}")
    assert faults(text) == []
    _child(ssd, "A1")
    _child(ssd, "B1", cine_referral_nfa="Y")
    settings, spec = make_settings(), build_spec(text)
    extract.run(engine, settings, spec)
    has_episodes = {k: "social_care_episodes" in held for k, held in ssd.documents().items()}
    assert has_episodes == {"A1": True, "B1": False}
    (row,) = (r for r in why(engine, settings, spec, "B1").rows if r["source"] == "episodes")
    assert row["broken"] == ["lacks cine_referral_nfa"]


def test_the_columns_and_sources_of_a_rule_are_checked_in_an_overlay() -> None:
    text = _laid_on("sources: {address: {where: [{rule: uasc_current}]}}")
    assert any("has no column `immi_immigration_status_end_date`" in f for f in faults(text))
    text = merged_text()
    without = {**text, "sources": {n: s for n, s in text["sources"].items() if n != "icpc"}}
    wanted = "`s47_or_its_conference` looks into source `icpc`, which is not there"
    assert any(wanted in fault for fault in faults(without))
    for called, taking in (("overlaps", "uasc_status"), ("known", "care_worker_gate")):
        swapped = _laid_on(
            f"sources: {{episodes: {{where: [{{rule: {called}}}, {{{taking}: x}}]}}}}"
        )
        said = faults(swapped)
        assert any(f"there is no rule `{called}`" in fault for fault in said)
        assert any(f"there is no rule kind `{taking}`" in fault for fault in said)


SDQ = Source("cohort.sdq", "ssd_sdq_scores", "csdq_table_id", person="csdq_person_id",
             where=({"known": ["csdq_sdq_score"]},))  # fmt: skip


@pytest.mark.parametrize("switched_on", [True, False])
def test_an_inclusion_set_is_added_in_one_place(
    ssd: Any, engine: Engine, make_settings: Callable[..., Any], switched_on: bool
) -> None:
    @registry_module.inclusion_set(
        "scored",
        letter="H",
        words="the child has a score of any day",
        sources=(SDQ,),
        setting="care_leaver_window",  # stands in for a parameter of its own
    )
    def _scored(_inclusion: Any) -> Any:
        return lambda child: has_rows(SDQ, child.person_id, child.page)

    for person_id, score in (("A1", 7), ("B1", None)):
        ssd.add("ssd_person", {"pers_person_id": person_id, "pers_dob": "2012-05-17"})
        ssd.add("ssd_sdq_scores", {"csdq_table_id": person_id, "csdq_person_id": person_id,
                                   "csdq_sdq_score": score})  # fmt: skip
    settings, spec = make_settings(care_leaver_window=switched_on), load_spec()
    result = extract.run(engine, settings, spec)
    assert result.reasons == ({"scored": 1} if switched_on else {})
    assert set(ssd.documents()) == ({"A1"} if switched_on else set())
    said = {row["rule"]: row for row in why(engine, settings, spec, "A1").rules}
    assert said["inclusion set scored"]["holds"] is switched_on
    words = "the child has a score of any day"
    off = "switched off: `care_leaver_window`"
    assert said["inclusion set scored"]["detail"] == (words if switched_on else off)
    assert f"| `scored` | H | {words} | `care_leaver_window` |" in cohort_tables()["inclusion sets"]
    assert (SDQ.name in Documents(engine, settings, spec).plan.sources) is switched_on


def _without(registry: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {other: registry[other] for other in registry if other != name}
    monkeypatch.setattr(registry, "_rules", kept)


@pytest.mark.parametrize("name", NAMES_OF_RULES)
def test_a_rule_that_is_not_registered_is_missed(name: str, monkeypatch: Any) -> None:
    _without(ROW_RULES, name, monkeypatch)
    assert any(f"`{name}`" in fault for fault in faults(merged_text()))


def test_every_rule_of_the_specification_is_a_registered_one() -> None:
    spec: Spec = load_spec()
    used = {rule.name for source in spec.sources.values() for rule, _ in rules_of(source)}
    assert used == set(NAMES_OF_RULES)
