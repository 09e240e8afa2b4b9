"""What an overlay makes of the specification is said entry by entry."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from d2i_helpers.cli import cli
from d2i_helpers.errors import SpecificationError
from d2i_helpers.hand_written import parse_yaml
from d2i_helpers.payload_spec import merge, merged_text
from d2i_helpers.payload_spec.differences import differences
from d2i_helpers.payload_spec.shape import typed

TEXT = merged_text()
NEW = "{meaning: x, column: pers_gender, transform: text, anonymise: drop}"


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        (f"blocks: {{child_details: {{fields: {{gender: {NEW}}}}}}}",
         ["adds field `child_details.gender`"]),
        (f"blocks: {{child_details: {{fields: {{first_name: {NEW}}}}}}}",  # a name that is taken
         ["changes field `child_details.first_name`: `meaning`, `column`, `anonymise`"]),
        ("blocks: {child_details: {fields: {postcode: null}}, adoption: null}",
         ["takes out block `adoption`", "takes out field `child_details.postcode`"]),
        ("blocks: {sdq_assessments: {order: [date]}}",
         ["changes block `sdq_assessments`: `order`"]),
        ("code_lists: {sex: {aliases: {MALE: M}}, mine: {codes: {A: a}}}",
         ["changes code list `sex`: `aliases`", "adds code list `mine`"]),
        ("sources: {address: {pick: null}}", ["changes source `address`: `pick`"]),
        ("version: '1'\nplaceholders: [x]", ["changes `placeholders`, `version`"]),
        ("version: '0.9'", []),
    ],
)  # fmt: skip
def test_each_entry_is_named_with_what_becomes_of_it(overlay: str, said: list[str]) -> None:
    assert differences(TEXT, typed(merge(TEXT, parse_yaml(overlay)))) == said


def test_the_check_says_it(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text("blocks: {child_details: {fields: {sex: {code_map: {Male: M}}}}}")
    given = ["spec", "check", "-p", f"spec_overlay={overlay}"]
    answer = CliRunner().invoke(cli, given)
    assert answer.exit_code == 0
    assert "Your overlay changes field `child_details.sex`: `code_map`." in answer.output


def test_the_check_says_where_nothing_differs_and_refuses_an_empty_file(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    given = ["spec", "check", "-p", f"spec_overlay={overlay}"]
    overlay.write_text("# every line is a comment yet\n")
    assert "Your overlay changes nothing." in CliRunner().invoke(cli, given).output
    assert "Your overlay" not in CliRunner().invoke(cli, given[:2]).output
    overlay.write_text("\n")
    fault = CliRunner().invoke(cli, given).exception
    assert isinstance(fault, SpecificationError) and "ours.yaml is empty" in fault.message


def test_the_check_says_what_is_taken_out_and_not_there(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text("blocks: {child_details: {fields: {shoe_size: null}}}")
    answer = CliRunner().invoke(cli, ["spec", "check", "-p", f"spec_overlay={overlay}"])
    assert answer.exit_code == 0
    assert "takes out field `child_details.shoe_size`, and there is none." in answer.output
