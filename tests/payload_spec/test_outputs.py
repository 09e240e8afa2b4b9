"""The generated pages are current and hold every field; what the overlays of the systems say."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2i_helpers.document.validation import Validator
from d2i_helpers.payload_spec import build_spec, load_spec, merge, merged_text
from d2i_helpers.payload_spec.outputs import code_list_page, payload_page, write_pages

SPEC = load_spec()
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "text"),
    [("payload.md", payload_page(SPEC)), ("code_lists.md", code_list_page(SPEC))],
)
def test_the_committed_page_is_current(name: str, text: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == text, "run `d2i spec docs`"


def test_the_page_has_every_field_with_its_number_source_and_meaning() -> None:
    rows = [line for line in payload_page(SPEC).splitlines() if line.startswith("| ")]
    for _, field in SPEC.fields():
        number = "" if field.item is None else str(field.item)
        start = f"| {number} | `{field.name}` | {field.meaning} | "
        source = f"`{SPEC.sources[field.source].table}.{field.column}`"
        assert any(row.startswith(start) and source in row for row in rows), field.path


def test_all_numbers_of_the_list_are_there_once() -> None:
    numbers = [field.item for _, field in SPEC.fields() if field.item is not None]
    assert sorted(numbers) == list(range(2, 56))
    assert SPEC.request["la_code"]["item"] == 1


def test_every_code_list_is_on_its_page_and_used() -> None:
    page = code_list_page(SPEC)
    used = {field.codes.name for _, field in SPEC.fields() if field.codes}
    assert used == set(SPEC.code_lists)
    for codes in SPEC.code_lists.values():
        assert f"## {codes.name}\n" in page
        assert all(f"| {code} | {meaning} |" in page for code, meaning in codes.codes.items())


def test_pages_are_written_where_asked(tmp_path: Path) -> None:
    assert {path.name for path in write_pages(tmp_path)} == {"payload.md", "code_lists.md"}


def test_what_the_systems_lack_or_name_differently() -> None:
    systemc, mosaic, eclipse = (load_spec(cms) for cms in ("systemc", "mosaic", "eclipse"))
    assert systemc.volatile_ids
    assert not (SPEC.volatile_ids or mosaic.volatile_ids or eclipse.volatile_ids)
    assert mosaic.renamed_columns["ssd_cin_plans"]["cinp_cin_plan_id"] == "cin_plan_id"
    assert mosaic.sources["professionals"].optional
    assert "DQ" in eclipse.code_lists["placement_type"].retired
    assert len({spec.fingerprint for spec in (SPEC, systemc, mosaic, eclipse)}) == 4


@pytest.mark.parametrize("cms", ["systemc", "mosaic", "eclipse"])
def test_a_system_never_changes_what_may_be_sent(cms: str) -> None:
    theirs = load_spec(cms)
    assert [field.path for _, field in theirs.fields()] == [f.path for _, f in SPEC.fields()]
    for name, codes in SPEC.code_lists.items():
        assert theirs.code_lists[name].codes == codes.codes


@pytest.mark.parametrize("pattern", ["[A-Z]+", "^[A-Z]+", "^A$|^B$", "[A-Z]+$"])
def test_the_schema_of_a_field_matches_a_pattern_with_the_whole_value(pattern: str) -> None:
    overlay = {"blocks": {"child_details": {"fields": {"surname": {"pattern": pattern}}}}}
    validator = Validator(build_spec(merge(merged_text(), overlay)))
    for surname, fits in (("A", True), ("A1", False), ("1A", False)):
        document = {"la_child_id": "1", "purge": False}
        document["child_details"] = {"surname": surname, "purge": False}
        assert validator.accepts(document) is fits
