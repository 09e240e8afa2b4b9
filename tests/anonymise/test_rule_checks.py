"""A field that cannot be anonymised is found before the night, whatever is wrong with its rule."""

from __future__ import annotations

import pytest

from d2i_helpers.anonymise.rule_checks import require_rules
from d2i_helpers.anonymise.rules import score_range
from d2i_helpers.errors import SpecificationError
from d2i_helpers.hand_written import parse_yaml
from d2i_helpers.payload_spec import Spec, build_spec, load_spec, merge, merged_text
from d2i_helpers.payload_spec.outputs import SYSTEMS
from d2i_helpers.payload_spec.shape import typed


def with_field(entry: str) -> Spec:
    """The specification with a further field of the child's details."""
    fields = f"{{ours: {{meaning: ours, column: pers_gender, {entry}}}}}"
    overlay = parse_yaml(f"blocks: {{child_details: {{fields: {fields}}}}}")
    return build_spec(typed(merge(merged_text(), overlay)))


@pytest.mark.parametrize("system", ["generic", *SYSTEMS])
def test_the_rules_of_the_specification_can_be_used(system: str) -> None:
    require_rules(load_spec(system))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("transform: text, anonymise: code", "has no code list to draw from"),
        ("transform: text, anonymise: drop, mandatory: true", "may not be dropped"),
        ("transform: id, anonymise: item_id, max_length: 6", "is too short for pseudonyms"),
        ("transform: id, anonymise: item_id, pattern: '[0-9]+'", "fits the pattern"),
        ("transform: text, anonymise: first_name, max_length: 2", "Only 0 made-up names"),
        ("transform: text, anonymise: surname, pattern: '[a-z]+'", "Only 0 made-up names"),
        ("transform: text, anonymise: postcode, max_length: 4", "child_details.ours: too long"),
        ("transform: text, anonymise: postcode, pattern: '[A-Z]+'", "child_details.ours: wrong"),
        ("transform: text, anonymise: upn, max_length: 10", "child_details.ours: too long"),
    ],
)
def test_a_rule_that_cannot_be_used_is_found_with_what_to_do(entry: str, said: str) -> None:
    with pytest.raises(SpecificationError) as caught:
        require_rules(with_field(entry))
    assert said in caught.value.message


@pytest.mark.parametrize(
    "entry",
    [
        "transform: text, anonymise: first_name, max_length: 5",
        "transform: text, anonymise: surname, pattern: '[^0-9]+'",
        "transform: text, anonymise: drop, max_length: 2",
        "transform: integer, anonymise: score, minimum: 50",
        "transform: integer, anonymise: score, maximum: 5",
        "transform: text, anonymise: worker_id",
    ],
)
def test_a_rule_that_leaves_room_is_taken(entry: str) -> None:
    require_rules(with_field(entry))


def test_points_have_a_range_whatever_limits_are_named() -> None:
    field = with_field("transform: integer, anonymise: score, minimum: 50").blocks["child_details"]
    assert score_range(field.fields[-1]) == (50, 90)


def with_one_code(entry: str) -> Spec:
    """The specification with a further field whose code list has one code."""
    overlay = parse_yaml(
        "code_lists: {one: {codes: {A: only}}}\n"
        "blocks: {child_details: {fields: {ours: "
        f"{{column: pers_gender, transform: code, codes: one, {entry}}}}}}}}}"
    )
    return build_spec(typed(merge(merged_text(), overlay)))


def test_a_code_list_of_one_code_says_what_to_do() -> None:
    with pytest.raises(SpecificationError, match="too short to draw from") as caught:
        require_rules(with_one_code("anonymise: code"))
    assert "`anonymise: drop`" in caught.value.hint
    require_rules(with_one_code("anonymise: drop"))
    require_rules(with_one_code("anonymise: drop, default: A"))
