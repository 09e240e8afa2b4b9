"""What is generated from the payload specification: the JSON Schema and the pages of the docs.

Two schemas (JSON Schema 2020-12): of a whole document, and of a delta (`partial`), in which fields
may be null and blocks may be marked as purged. `write_pages` writes docs/payload.md and
docs/code_lists.md, and the tables in docs/specification.md and docs/cohort.md, which are committed;
tests hold that they are current. The schemas of the specification's own files are in `schema`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from d2i_helpers.payload_spec.loading import Spec, load_spec, with_taken_out
from d2i_helpers.payload_spec.model import PURGE, Block, Field
from d2i_helpers.payload_spec.registry import (
    ANONYMISING_RULES,
    INCLUSION_SETS,
    ROW_RULES,
    TRANSFORMS,
    RowRule,
)
from d2i_helpers.payload_spec.schema import Schema, key_tables

# The form alone. `format: date` checks that the day exists (no 30 February).
_DATE = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
REGENERATE = "d2i spec docs"
SYSTEMS = ("systemc", "mosaic", "eclipse", "azeus")  # those with an overlay of their own

# what a delta may say of a field or block that the specification does not know: that it is gone
_MARK: Schema = {
    "type": "object",
    "properties": {PURGE: {"const": True}},
    "required": [PURGE],
    "maxProperties": 2,  # the mark, and the key of an item
}
_ERASED: Schema = {"anyOf": [{"type": "null"}, _MARK, {"type": "array", "items": _MARK}]}


# ----------------------------------------------------------------------------------- JSON Schema
def json_schema(spec: Spec, *, partial: bool = False) -> Schema:
    """The JSON Schema 2020-12 of one child's document, or of a delta of one.

    Args:
        spec: the specification, overlays applied.
        partial: for a delta: null for a field that is gone, a block or item as its key with
            ``purge: true``, a child that is gone as its identifiers with ``purge: true``. What is
            no longer in the specification, or never was, may be erased in the same way.
    """
    subject = "delta" if partial else "document"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{subject} of one child, specification {spec.version}",
        **_block_schema(with_taken_out(spec) if partial else spec.root, partial),
    }


def _block_schema(block: Block, partial: bool) -> Schema:
    properties: dict[str, Schema] = {}
    for field in block.fields:
        properties[field.name] = _field_schema(field, nullable=partial and not field.mandatory)
    if block.purge:
        properties[PURGE] = {"type": "boolean"}
    for child in block.values:
        items = {"type": "array", "items": _block_schema(child, partial)}
        properties[child.name] = _nullable(items) if partial else items
    for child in block.blocks:
        inner = _block_schema(child, partial)
        is_list = child.kind == "list"
        held: Schema = {"type": "array", "items": inner} if is_list else inner
        # what has no flag cannot be marked: as all content of the block above, it goes as null
        properties[child.name] = _nullable(held) if partial and not child.purge else held
    required = [field.name for field in block.fields if field.mandatory]
    schema: Schema = {
        "type": "object",
        "description": block.meaning,
        "properties": properties,
        "required": required,
        "additionalProperties": _ERASED if partial else False,
    }
    schema.update(_purged(block, partial))
    return schema


def _purged(block: Block, partial: bool) -> Schema:
    """A purged block holds its identifiers only; any other the blocks that are always sent."""
    always = [child.name for child in block.blocks if child.always_sent]
    if not block.purge or not (partial or always):
        return {}
    is_purged = {"properties": {PURGE: {"const": True}}, "required": [PURGE]}
    ids = [f.name for f in block.fields if f.mandatory or block.kind == "root"]
    condition: Schema = {"if": is_purged, "then": {"propertyNames": {"enum": [*ids, PURGE]}}}
    if always:
        condition["else"] = {"required": always}
    return condition


def _field_schema(field: Field, *, nullable: bool) -> Schema:
    if field.type == "codes":
        schema: Schema = {"type": "array", "items": _code_schema(field), "uniqueItems": True}
        if field.default:
            schema["minItems"] = 1
        if field.max_items:
            schema["maxItems"] = field.max_items
        alone = [str(code) for code in field.options.get("alone") or ()]
        if alone:
            schema["if"] = {"contains": {"enum": alone}}
            schema["then"] = {"maxItems": 1}
    elif field.type == "boolean":
        schema = {"type": "boolean"}
    elif field.type == "integer":
        limits = {"minimum": field.minimum, "maximum": field.maximum}
        schema = {"type": "integer", **{k: v for k, v in limits.items() if v is not None}}
    elif field.type == "date":
        schema = {"type": "string", "format": "date", "pattern": _DATE}
    elif field.codes:
        schema = _code_schema(field)
    else:
        schema = {"type": "string", "minLength": 1}
        if field.max_length:
            schema["maxLength"] = field.max_length
        if field.pattern:
            schema["pattern"] = _whole(field.pattern)
    return {"description": field.meaning, **(_nullable(schema) if nullable else schema)}


def _whole(pattern: str) -> str:
    """A pattern that JSON Schema matches with the whole value; by itself it looks for a part."""
    anchored = pattern.startswith("^") and pattern.endswith("$") and "|" not in pattern
    return pattern if anchored else f"^(?:{pattern})$"


def _code_schema(field: Field) -> Schema:
    return {"type": "string", "enum": list(field.codes.codes)} if field.codes else {}


def _nullable(schema: Schema) -> Schema:
    """The same schema, with null allowed."""
    changed = {**schema, "type": [schema["type"], "null"]}
    if "enum" in changed:
        changed["enum"] = [*changed["enum"], None]
    return changed


# ----------------------------------------------------------------------------------------- pages
_PAYLOAD_HEAD = """# The payload, field by field

Generated from the specification (version {version}); do not edit. Regenerate with

    {command}

*Item* is the number in the DfE's list. *Rule* says how the stored value is read; a value that
cannot be used is left out and reported, never cut. Absent data is left out, never sent as null,
but for the defaults named here. Code lists are in [code_lists.md](code_lists.md), the rules of who
and what is in are in [cohort.md](cohort.md), and every key of the specification is in
[specification.md](specification.md).
"""


def payload_page(spec: Spec) -> str:
    """The text of docs/payload.md: each block with its fields, sources, rules and limits."""
    lines = [_PAYLOAD_HEAD.format(version=spec.version, command=REGENERATE)]
    for name, entry in spec.request.items():
        text = f"Item {entry.get('item')}, `{name}`: {entry.get('meaning', '')}"
        lines += [f"{text}. It travels in the address of the request, not in the document.", ""]
    for block in spec.blocks.values():
        lines += [f"## {block.name}", "", *_about(block, spec), ""]
        if block.fields:
            lines += ["| item | field | meaning | source | rule | limits |"]
            lines += ["|---|---|---|---|---|---|"]
            lines += [_row(block, field, spec) for field in block.fields]
            lines += [""]
    return "\n".join([*lines, *_gaps_section(spec)]).rstrip() + "\n"


def _gaps_section(spec: Spec) -> Iterator[str]:
    """The known gaps of each system, and those that the authority's overlay adds."""
    by_system = {name: load_spec(name).known_gaps for name in SYSTEMS}
    listed = [pair for gaps in by_system.values() for pair in gaps.items()]
    by_system["ours"] = dict(pair for pair in spec.known_gaps.items() if pair not in listed)
    yield "## Known gaps"
    yield ""
    yield "What the standard loads of each system leave empty or incomplete. Preflight and the"
    yield "extract notebook say it for the system of the profile."
    yield ""
    yield "| system | block or field | why |"
    yield "|---|---|---|"
    for system, gaps in by_system.items():
        for place, why in gaps.items():
            yield f"| {system} | `{place}` | {why} |"


def _about(block: Block, spec: Spec) -> Iterator[str]:
    kinds = {
        "root": "The document of one child",
        "object": "One object, or none",
        "list": f"A list of items, each known by its `{block.key}`",
        "values": "A list without keys, sent whole with the block that holds it",
    }
    parts = [f"`{block.path}`. {kinds[block.kind]}: {block.meaning}."]
    if block.always_sent:
        parts.append("It is in every message.")
    if block.purge:
        parts.append("It carries the flag `purge`: false, and true in a delta that erases it.")
    if block.person_fact:
        parts.append("A fact of the person, which `repeat_person_facts` puts on which episodes.")
    if block.order:
        dates = {field.name for field in block.fields if field.type == "date"}
        order = [_order_part(part, dates) for part in block.order]
        parts.append(f"Order: {', '.join(order)}.")
    if block.source:
        parts.append(f"Rows: {_rows_of(block.source, spec)}.")
    yield " ".join(parts)


def _order_part(part: str, dates: set[str]) -> str:
    if not part.startswith("-"):
        return part
    return f"{part[1:]} ({'newest' if part[1:] in dates else 'highest'} first)"


def _rows_of(name: str, spec: Spec) -> str:
    source = spec.sources[name]
    words = f"`{source.table}`"
    if source.via:
        words += f" by `{source.link}` of {source.via}"
    for rule in source.where:
        for rule_name, argument in rule.items():
            listed = f"`{argument}`" if isinstance(argument, str) else f"`{', '.join(argument)}`"
            words += f"; {rule_name} {listed}"
    return words


def _row(block: Block, field: Field, spec: Spec) -> str:
    source = spec.sources[field.source]
    origin = f"`{source.table}.{field.column}`"
    if field.options.get("also"):
        origin += f", `{field.options['also']}`"
    rule = TRANSFORMS[field.transform].words
    if field.options.get("not_before"):
        rule += f"; left out where before `{field.options['not_before']}`"
    if field.options.get("code_map"):
        rule += "; the authority's own codes are mapped first"
    if field.name == block.key or field.mandatory:
        rule += "; mandatory"
    if field.default is not None:
        nothing = "nothing usable" if field.default_if_unusable else "nothing"
        rule += f"; `{_json(field.default)}` where the source holds {nothing}"
    if field.may_be_empty:
        rule += "; may be empty"
    if field.expected_with:
        rule += f"; expected where `{field.expected_with}` is filled"
    if field.expected_without:
        rule += f"; expected where `{field.expected_without}` is empty"
    item = field.item if field.item is not None else ""
    cells = [str(item), f"`{field.name}`", field.meaning, origin, rule, _limits(field)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _limits(field: Field) -> str:
    said = []
    if field.codes:
        said.append(f"[{field.codes.name}](code_lists.md#{field.codes.name})")
    elif field.max_length:
        said.append(f"at most {field.max_length} characters")
    if field.max_items:
        said.append(f"at most {field.max_items} codes")
    if field.options.get("alone"):
        said.append(f"{', '.join(map(str, field.options['alone']))} only alone")
    if field.minimum is not None or field.maximum is not None:
        said.append(f"{field.minimum} to {field.maximum}")
    if field.pattern:
        said.append(f"`{field.pattern}`")
    if field.type in {"boolean", "date", "integer"}:
        said.insert(0, field.type)
    return ", ".join(said)


def _json(value: Any) -> str:
    words = {True: "true", False: "false"}
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return words[value] if isinstance(value, bool) else str(value)


def code_list_page(spec: Spec) -> str:
    """The text of docs/code_lists.md: what may be sent, what is read as it, what is retired."""
    lines = [
        "# Code lists",
        "",
        "Generated from the specification; do not edit. A code is recognised bare or as the first",
        "whole word of a description, in any case. An authority's own codes go into `code_map` of",
        "a field (see [specification.md](specification.md)).",
        "",
    ]
    for codes in spec.code_lists.values():
        users = [field.path for _, field in spec.fields() if field.codes is codes]
        lines += [f"## {codes.name}", "", f"Used by {', '.join(f'`{u}`' for u in users)}.", ""]
        lines += ["| code | meaning |", "|---|---|"]
        lines += [f"| {code} | {meaning} |" for code, meaning in codes.codes.items()]
        if codes.aliases:
            read = ", ".join(f"{alias} as {code}" for alias, code in codes.aliases.items())
            lines += ["", f"Also read: {read}."]
        if codes.retired:
            lines += ["", f"Retired, left out and reported: {', '.join(sorted(codes.retired))}."]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def specification_tables() -> dict[str, str]:
    """The generated parts of docs/specification.md, by name."""
    return key_tables() | rule_tables()


def rule_tables() -> dict[str, str]:
    """The tables of rules in docs/specification.md, by name."""
    transforms = ["| transform | reads | problems it reports |", "|---|---|---|"]
    for rule in TRANSFORMS.rules():
        cells = (f"`{rule.name}`", rule.reads or rule.words, ", ".join(rule.problems))
        transforms.append(f"| {' | '.join(cells)} |")
    anonymising = ["| rule | for | what the copy holds |", "|---|---|---|"]
    for stand_in in ANONYMISING_RULES.rules():
        anonymising.append(f"| `{stand_in.name}` | {stand_in.type or 'any'} | {stand_in.words} |")
    return {"transforms": "\n".join(transforms), "anonymising": "\n".join(anonymising)}


def cohort_tables() -> dict[str, str]:
    """The tables of rules in docs/cohort.md, by the name of the part that holds each."""
    sets = ["| name | set | who is in it | switched on by |", "|---|---|---|---|"]
    for each_set in INCLUSION_SETS.rules():
        setting = f"`{each_set.setting}`" if each_set.setting else ""
        sets.append(f"| `{each_set.name}` | {each_set.letter} | {each_set.words} | {setting} |")
    rules = ["| rule | a row counts if | columns it looks at | sources it looks into |"]
    rules += ["|---|---|---|---|", *map(_rule_row, ROW_RULES.rules())]
    return {"inclusion sets": "\n".join(sets), "row rules": "\n".join(rules)}


def _rule_row(rule: RowRule) -> str:
    name = f"`{rule.name}`" if rule.takes else f"`rule: {rule.name}`"
    columns = rule.takes or ", ".join(f"`{column}`" for column in rule.columns)
    others = ", ".join(f"`{source}`" for source in rule.looks_into)
    return f"| {name} | {rule.words} | {columns} | {others} |"


def with_generated(page: str, parts: Mapping[str, str]) -> str:
    """The page with its generated parts renewed.

    A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. Parts that are not in
    the page are ignored.
    """
    for name, text in parts.items():
        start, end = f"<!-- generated: {name} -->", "<!-- end -->"
        before, marker, rest = page.partition(start)
        if marker:
            page = f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def renew_page(path: Path, parts: Mapping[str, str]) -> list[Path]:
    """Renew the generated parts of a hand-written page; gives its path, where it is there."""
    if not path.is_file():
        return []
    page = with_generated(path.read_text(encoding="utf-8"), parts)
    path.write_text(page, encoding="utf-8", newline="\n")
    return [path]


def write_pages(folder: str | Path = "docs", spec: Spec | None = None) -> list[Path]:
    """Write the generated pages into a folder, of the specification without overlays by default."""
    spec = spec or load_spec()
    pages = {"payload.md": payload_page(spec), "code_lists.md": code_list_page(spec)}
    written = renew_page(Path(folder) / "specification.md", specification_tables())
    written += renew_page(Path(folder) / "cohort.md", cohort_tables())
    for name, text in pages.items():
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8", newline="\n")
        written.append(path)
    return written
