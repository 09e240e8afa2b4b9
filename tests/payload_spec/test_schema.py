"""The published schemas are current, and an editor that goes by them takes what is right."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

import d2i_helpers.payload_spec
from d2i_helpers.payload_spec import faults, load_spec, merged_text
from d2i_helpers.payload_spec.schema import (
    OVERLAY,
    SPECIFICATION,
    inlined,
    overlay_schema,
    renew_schemas,
    specification_schema,
    under,
)

TEXT = merged_text()
FOLDER = Path(d2i_helpers.payload_spec.__file__).parent
FILES = [FOLDER / "payload_spec.yaml", *sorted((FOLDER / "overlays").glob("*.yaml"))]


def as_an_editor(text: str) -> Any:
    """A file of YAML as editors read it: numbers and truth by their looks, keys as text."""

    def keys_as_text(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                str(name).lower() if isinstance(name, bool) else str(name): keys_as_text(held)
                for name, held in value.items()
            }
        return [keys_as_text(held) for held in value] if isinstance(value, list) else value

    return keys_as_text(yaml.safe_load(text))


def said(schema: dict[str, Any], content: Any) -> list[str]:
    errors = jsonschema_rs.Draft7Validator(schema).iter_errors(content)
    return [f"{error.instance_path}: {error.message}" for error in errors]


def test_the_published_schemas_are_current(tmp_path: Path) -> None:
    renew_schemas(TEXT, tmp_path)
    for name in (SPECIFICATION, OVERLAY):
        new, published = ((folder / name).read_text("utf-8") for folder in (tmp_path, FOLDER))
        assert new == published, "run `d2i spec docs`"
        assert jsonschema_rs.meta.is_valid(json.loads(published))
    assert renew_schemas(TEXT, tmp_path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_names_its_schema_and_is_right_by_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    schema = (path.parent / named[1]).resolve()
    assert schema == FOLDER / (SPECIFICATION if path == FILES[0] else OVERLAY)
    assert said(yaml.safe_load(schema.read_text("utf-8")), as_an_editor(text)) == []


@pytest.mark.parametrize(
    ("overlay", "wrong"),
    [
        ("blocks: {child_details: {fields: {sex: null, surname: {pattern: null}}}}", False),
        ("blocks: {child_details: null}\nsources: {sdq: {order: null}}", False),
        ("blocks: {ours: {fields: {nationality: {transform: code}}}}", False),
        ("code_lists: {sex: {codes: {1: one}, retired: [2]}}\nvolatile_ids: true", False),
        ("blocks: {child_details: {fields: {sex: {transform: cod}}}}", True),
        ("blocks: {child_details: {fields: {sex: {colunm: x}}}}", True),
        ("blocks: {child_details: {kind: thing}}", True),
        ("sources: {sdq: {where: [{overlaps: [one]}]}}", True),
        ("sources: {sdq: {where: [{rule: uasc}]}}", True),
        ("sources: {sdq: {optional: perhaps}}", True),
        ("blokcs: {}", True),
    ],
)
def test_an_overlay_is_judged_in_parts(overlay: str, wrong: bool) -> None:
    errors = said(overlay_schema(TEXT), as_an_editor(overlay))
    assert bool(errors) is wrong, errors


def test_an_overlay_is_offered_the_names_of_the_specification() -> None:
    schema = overlay_schema(TEXT)
    for block in load_spec().blocks.values():
        offered = schema["properties"]["blocks"]["properties"][block.name]
        (fields,) = [part for part in offered["allOf"] if "properties" in part]
        named = fields["properties"]["fields"]["properties"]
        assert {name: part["description"] for name, part in named.items()} == {
            field.name: field.meaning for field in block.fields
        }
    field = schema["$defs"]["field"]["properties"]
    assert field["codes"]["examples"] == list(TEXT["code_lists"])
    assert field["source"]["examples"] == list(TEXT["sources"])
    assert field["column"]["$ref"] == "#/$defs/column"
    assert {"prof_staff_id", "pers_sex"} <= set(schema["$defs"]["column"]["examples"])
    assert set(schema["properties"]["sources"]["properties"]) == set(TEXT["sources"])


def test_every_key_is_explained() -> None:
    def unexplained(part: dict[str, Any], path: str) -> list[str]:
        inner = part.get("properties", {})
        own = [f"{path}.{key}" for key, held in inner.items() if not held.get("description")]
        deeper = [(held, f"{path}.{key}") for key, held in inner.items()]
        deeper += [(under(part, "any"), f"{path}.*")] if under(part, "any") else []
        return own + [found for held, at in deeper for found in unexplained(held, at)]

    assert unexplained(inlined(specification_schema()), "") == []


def test_what_is_nested_too_deeply_is_a_fault_and_no_failure() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for key, value in (("placeholders", deep), ("version", "\ud800")):
        said = ["the specification is nested too deeply, or holds what is no text"]
        assert faults({**TEXT, key: value}) == said
