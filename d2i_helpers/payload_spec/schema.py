"""The JSON Schemas of the specification's own files: payload_spec.yaml and overlays of it.

Editors use the two published schemas to complete and explain those files. `shape` uses the first to
read and check a specification. `payload_spec.schema.json` is written by hand, except for names and
shapes of rules, which come from the registries. `overlay.schema.json` is generated. `d2i spec docs`
renews both; a test fails when they are not current.
"""

from __future__ import annotations

import copy
import csv
import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from d2i_helpers.payload_spec.registry import (
    ANONYMISING_RULES,
    COLUMNS,
    ROW_RULES,
    SPAN,
    TRANSFORMS,
    WORDS,
)

Schema = dict[str, Any]

SPECIFICATION = "payload_spec.schema.json"
OVERLAY = "overlay.schema.json"
# never empty: no row would count, or all would
_COLUMN_NAMES: Schema = {"type": "array", "minItems": 1, "items": {"type": "string"}}
_TEXT = ["string", "number", "boolean"]
_TAKES: Mapping[str, Schema] = {
    SPAN: {**_COLUMN_NAMES, "minItems": 2, "maxItems": 2},
    COLUMNS: _COLUMN_NAMES,
    WORDS: {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "type": ["array", *_TEXT],
            "minItems": 1,
            "items": {"type": _TEXT},
        },
    },
}
_NEEDED = ("required", "anyOf", "dependencies")  # what a whole specification must hold
_TABLES = ("properties", "$defs")  # tables of schemas; their keys are names, not keywords


@functools.cache
def declared_columns() -> Mapping[str, frozenset[str]]:
    """The columns of the declared SSD tables, by table."""
    text = resources.files("d2i_helpers").joinpath("ssd_tables.csv").read_text(encoding="utf-8")
    columns: dict[str, set[str]] = {}
    for row in csv.DictReader(text.splitlines()):
        columns.setdefault(row["table"], set()).add(row["column"])
    return {table: frozenset(names) for table, names in columns.items()}


@functools.cache
def _written() -> Schema:
    text = resources.files(__package__).joinpath(SPECIFICATION).read_text(encoding="utf-8")
    made: Schema = json.loads(text)
    return made


@functools.cache
def published() -> Schema:
    """The published schema of a specification, inlined; not to be changed."""
    return inlined(_written())


def specification_schema() -> Schema:
    """The schema of a whole specification, with the rules that are registered now."""
    schema = copy.deepcopy(_written())
    schema["$defs"] |= _rules()
    return schema


def inlined(schema: Schema) -> Schema:
    """The same schema with each reference replaced by the part that it refers to."""

    def put_in(part: Any) -> Any:
        if isinstance(part, list):
            return [put_in(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        beside = {key: put_in(inner) for key, inner in part.items() if key != "$ref"}
        reference = part.get("$ref")
        return (
            put_in(schema["$defs"][reference.rpartition("/")[2]]) | beside if reference else beside
        )

    return {key: put_in(part) for key, part in schema.items() if key != "$defs"}


def under(schema: Schema, name: str | int) -> Schema:
    """The part of an inlined schema that describes the value of a key, or an item of a list."""
    held = schema.get("items") if isinstance(name, int) else schema.get("properties", {}).get(name)
    other = schema.get("additionalProperties") if held is None else held
    return other if isinstance(other, dict) else {}


# --------------------------------------------------------------------------- what is generated
def _rules() -> dict[str, Schema]:
    """The parts of the schema that depend on the registries."""
    called = [rule for rule in ROW_RULES.rules() if not rule.takes]
    shapes = {
        rule.name: {"title": rule.takes, "description": rule.words, **_TAKES[rule.takes]}
        for rule in ROW_RULES.rules()
        if rule.takes
    }
    return {
        "row_rule": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {**shapes, "rule": _named("rule", called)},
        },
        "transform": _named("transform", TRANSFORMS.rules()),
        "anonymising_rule": _named("anonymise rule", ANONYMISING_RULES.rules()),
    }


def _named(title: str, rules: Sequence[Any]) -> Schema:
    """A choice of rules by name. Editors show the words beside each name."""
    return {
        "title": title,
        "enum": [rule.name for rule in rules],
        "enumDescriptions": [rule.words for rule in rules],
    }


def overlay_schema(text: Mapping[str, Any]) -> Schema:
    """The schema of an overlay: nothing is required, and null takes an entry out.

    Args:
        text: the specification that overlays are laid on; an editor offers its names.
    """
    schema: Schema = _optional(specification_schema())
    schema["$id"] = "urn:d2i-workbook:overlay"
    schema["title"] = "An overlay of the payload specification"
    schema["description"] = "What differs from payload_spec.yaml; null takes an entry out."
    parts, tables = schema["$defs"], schema["properties"]
    columns = sorted(set().union(*declared_columns().values()))
    parts["column"] = {**parts["name"], "examples": columns}
    for part, keys in (("field", ["column"]), ("source", ["key", "person", "link", "via_column"])):
        for key in keys:
            parts[part]["properties"][key]["$ref"] = "#/$defs/column"
    for part, key, names in (
        ("source", "table", declared_columns()),
        ("source", "via", text["sources"]),
        ("block", "source", text["sources"]),
        ("field", "source", text["sources"]),
        ("field", "codes", text["code_lists"]),
    ):
        parts[part]["properties"][key]["examples"] = list(names)
    for table, part in (("sources", "source"), ("code_lists", "code_list")):
        tables[table]["properties"] = {n: {"$ref": f"#/$defs/{part}"} for n in text[table]}
    tables["blocks"]["properties"] = {
        name: _known_block(block) for name, block in text["blocks"].items()
    }
    return schema


def _known_block(block: Mapping[str, Any]) -> Schema:
    """A block of the specification, with its fields by name."""
    known = {
        name: {"$ref": "#/$defs/field", "description": field.get("meaning", "")}
        for name, field in block["fields"].items()
    }
    return {
        "description": block.get("meaning", ""),
        "allOf": [{"$ref": "#/$defs/block"}, {"properties": {"fields": {"properties": known}}}],
    }


def _optional(part: Any) -> Any:
    """A schema that requires nothing and takes null in place of an entry."""
    if isinstance(part, list):
        return [_optional(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    made: Schema = {}
    for key, value in part.items():
        if key in _TABLES:
            made[key] = {name: _optional(inner) for name, inner in value.items()}
        elif key not in _NEEDED:  # a list replaces a list, and holds nothing that is null
            made[key] = value if key == "items" else _optional(value)
    if "type" in made:
        kinds = made["type"] if isinstance(made["type"], list) else [made["type"]]
        made["type"] = [*kinds, "null"]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    return made


def renew_schemas(text: Mapping[str, Any], folder: Path | None = None) -> list[Path]:
    """Write both published schemas, and return the paths of those that changed.

    Args:
        text: the specification without overlays.
        folder: where the schemas stand; beside this module by default.
    """
    written = []
    for name, schema in ((SPECIFICATION, specification_schema()), (OVERLAY, overlay_schema(text))):
        path = (folder or Path(__file__).parent) / name
        content = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8", newline="\n")
            written.append(path)
    return written


def key_tables() -> dict[str, str]:
    """The tables of keys in docs/specification.md, by the name of the part that holds each."""
    schema = specification_schema()
    entries = {"keys at the top": schema}
    for part in ("source", "team", "block", "field", "code_list"):
        entries[f"keys of a {part.replace('_', ' ')}"] = schema["$defs"][part]
    return {name: _key_table(inlined({**schema, **entry})) for name, entry in entries.items()}


def _key_table(entry: Schema) -> str:
    rows = [f"| `{key}` | {part['description']} |" for key, part in entry["properties"].items()]
    return "\n".join(["| key | what it holds |", "|---|---|", *rows])
