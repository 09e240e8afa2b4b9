"""Documents put together from rows: a default stands only for nothing in the source."""

from __future__ import annotations

from typing import Any

import pytest

from d2i_helpers.cohort import inclusion_sources
from d2i_helpers.cohort.row_rules import rule_columns
from d2i_helpers.document.assembly import Assembler
from d2i_helpers.document.source_rows import Page, ReadPlan, unreadable
from d2i_helpers.payload_spec import Document, Field, Spec, load_spec
from d2i_helpers.settings import Settings

SPEC = load_spec()
WITH_DEFAULT = [field for _, field in SPEC.fields() if field.default is not None]
KEY = "K1"  # of every row in these tests, so that all rows belong together
ABSENT = "absent"


def _page(spec: Spec, field: Field, *values: Any) -> tuple[ReadPlan, Page]:
    """A child with a row of every source; ``values`` stand in the field's column, a row each."""
    plan = ReadPlan(spec, None, inclusion_sources(Settings()), rule_columns(spec))
    page = Page([])
    for name in plan.sources:
        columns = len(plan.reads[plan.read_of(name)])
        rows = [[KEY] * columns for _ in (values if name == field.source else (None,))]
        page.found[name] = {KEY: rows}
        for row, value in zip(rows, values, strict=False):
            if name == field.source:
                row[plan.at(name, field.column)] = value
    return plan, page


def _assembled(spec: Spec, field: Field, *values: Any) -> tuple[Assembler, Document, set[str]]:
    """The document of that child."""
    plan, page = _page(spec, field, *values)
    assembler = Assembler(spec, plan)
    person = page.found[plan.person.name][KEY][0]
    document, problems = assembler.assemble(person, KEY, page)
    assert document is not None
    return assembler, document, {rule for path, rule in problems if path == field.path}


def _sent(document: Document, path: str) -> Any:
    held: Any = document
    for name in path.split("."):
        held = held.get(name.removesuffix("[]"), ABSENT)
        if name.endswith("[]"):
            held = held[0]
    return held


def _field(path: str) -> Field:
    return next(field for _, field in SPEC.fields() if field.path == path)


def test_there_are_fields_with_a_default() -> None:
    assert {f.name for f in WITH_DEFAULT} >= {"sex", "disabilities", "uasc_flag", "factors"}


@pytest.mark.parametrize("field", WITH_DEFAULT, ids=lambda field: field.path)
@pytest.mark.parametrize("nothing", [None, "", "  ", float("nan")])
def test_nothing_in_the_source_gives_the_default(field: Field, nothing: Any) -> None:
    assembler, document, rules = _assembled(SPEC, field, nothing)
    assert _sent(document, field.path) == field.default
    assert not rules
    tally = assembler.tallies()[field.path]
    assert (tally.filled, tally.unusable) == (0, 0)


UNREADABLE = [b"\xff\xfe", {"a": b"?"}]
NOT_IN_ANY_LIST = ["Autism / Asperger", "??"]  # `present` takes any text: its source chose the rows


@pytest.mark.parametrize(
    ("field", "garbage"),
    [
        pytest.param(field, garbage, id=f"{field.name}-{garbage}")
        for field in WITH_DEFAULT
        for garbage in UNREADABLE + (NOT_IN_ANY_LIST if field.transform != "present" else [])
    ],
)
def test_what_cannot_be_used_is_reported_and_never_taken_for_none(
    field: Field, garbage: Any
) -> None:
    assembler, document, rules = _assembled(SPEC, field, garbage)
    expected = field.default if field.default_if_unusable else ABSENT
    assert _sent(document, field.path) == expected
    assert len(rules) == 1
    tally = assembler.tallies()[field.path]
    assert (tally.filled, tally.unusable) == (0, 1)


def test_only_a_default_that_says_not_known_stands_for_what_cannot_be_used() -> None:
    assert [f.default for f in WITH_DEFAULT if f.default_if_unusable] == ["U"]


@pytest.mark.parametrize(
    ("path", "values", "sent"),
    [
        ("child_details.disabilities", ["AUT", "Autism / Asperger"], ["AUT"]),
        ("child_details.disabilities", ["NONE", "Autism / Asperger"], ABSENT),
        ("child_details.disabilities", ["NONE", None], ["NONE"]),
        ("child_details.disabilities", [None, "??"], ABSENT),
        ("social_care_episodes[].child_and_family_assessments[].factors",
         ['["1A"]', '["9'], ["1A"]),
        ("social_care_episodes[].child_and_family_assessments[].factors",
         ['["21"]', '["9'], ABSENT),
        ("social_care_episodes[].child_and_family_assessments[].factors", ['{"1A": "No"}'], []),
    ],
)  # fmt: skip
def test_a_list_never_says_less_than_its_rows(path: str, values: list[Any], sent: Any) -> None:
    _, document, _ = _assembled(SPEC, _field(path), *values)
    assert _sent(document, path) == sent


def test_a_link_with_blanks_around_it_leads_to_its_rows() -> None:
    episode_id = _field("social_care_episodes[].social_care_episode_id")
    _, document, _ = _assembled(SPEC, episode_id, f" {KEY} ")
    assert document["social_care_episodes"][0]["child_and_family_assessments"]


def test_a_doubt_about_a_block_without_rows_is_met() -> None:
    plan, page = _page(SPEC, _field("la_child_id"), KEY)
    doubt = unreadable("ssd_cin_assessments", "cina_assessment_start_date", "whether it counts")
    page.found["assessments"] = {}
    page.doubts["assessments"] = {KEY: [doubt]}
    Assembler(SPEC, plan).assemble(page.found[plan.person.name][KEY][0], KEY, page)
    assert page.met == [doubt]
