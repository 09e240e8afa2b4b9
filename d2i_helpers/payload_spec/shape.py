"""Use the schema of a specification: give values their types, and name faults of shape.

Every value in a file arrives as text. `typed` makes truth values and whole numbers where the schema
asks for them, and nowhere else: codes, words, names and patterns stay as typed. A value that does
not fit stays as it is, and `shape_faults` names it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from d2i_helpers.payload_spec.registry import TRANSFORMS
from d2i_helpers.payload_spec.schema import Schema, inlined, published, specification_schema, under

_TRUTH = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)  # what JSON of the checks holds


# ----------------------------------------------------------------------------------- typed values
def typed(text: Mapping[str, Any]) -> dict[str, Any]:
    """The (merged) text of a specification with truth and whole numbers where they belong."""
    made: dict[str, Any] = _typed(text, published())
    return made


def _typed(value: Any, schema: Schema) -> Any:
    if isinstance(value, Mapping):
        keys = schema.get("properties", ())
        by_truth = True in schema.get("propertyNames", {}).get("enum", ())
        made = {
            _truth(name) if by_truth else name: _typed(held, under(schema, name))
            for name, held in value.items()
        }
        if "default" in keys and "default" in made:
            made["default"] = _default(made)
        return made
    kinds = schema.get("type", ())
    if "boolean" in kinds and "string" not in kinds:
        return _truth(value)
    return _whole(value) if "integer" in kinds else value


def _default(field: Mapping[str, Any]) -> Any:
    """The default of a field; its type follows from the field's transform."""
    transform = TRANSFORMS.get(field.get("transform"))
    made = {"boolean": _truth, "integer": _whole}.get(transform.makes if transform else "")
    return made(field["default"]) if made else field["default"]


def _truth(value: Any) -> Any:
    """True or false where that is written, else the value itself."""
    return _TRUTH.get(value.lower(), value) if isinstance(value, str) else value


def _whole(value: Any) -> Any:
    """The whole number that is written in figures, else the value itself."""
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


# ---------------------------------------------------------------------------------------- faults
class ShapeFault(NamedTuple):
    """A key or value that the schema does not allow."""

    # path of the source, block, field ... that holds it; None where nothing could be checked
    entry: tuple[str, ...] | None
    sentence: str


def nearest(word: Any, known: Iterable[Any]) -> str:
    """The words " (did you mean `x`?)" where a known word is near, else nothing."""
    near = difflib.get_close_matches(str(word), sorted(map(str, known)), n=1, cutoff=0.75)
    return f" (did you mean `{near[0]}`?)" if near else ""


def no_such(noun: str, name: Any, known: Iterable[Any], where: str) -> str:
    """The fault that a name is not known, with the nearest that is."""
    return f"{where}: there is no {noun} `{name}`{nearest(name, known)}"


def place(path: Sequence[str | int]) -> tuple[int, str]:
    """Number of steps from the top to the entry that holds a fault, and words for the entry."""
    match path:
        case ["blocks", block, "fields", field, *_]:
            return 4, f"field `{block}.{field}`"
        case ["blocks" | "sources" as table, name, *_]:
            return 2, f"{table[:-1]} `{name}`"
        case ["code_lists", name, *_]:
            return 2, f"code list `{name}`"
        case ["teams", *_]:
            return 1, "teams"
        case ["request", name, *_]:
            return 2, f"request `{name}`"
        case ["extra_columns" | "renamed_columns" as key, table, *_]:
            return 2, f"{key} of `{table}`"
    return 0, "the specification"


def shape_faults(text: Mapping[str, Any]) -> list[ShapeFault]:
    """Everything in a specification text that its schema does not allow; never raises."""
    schema = inlined(specification_schema())
    errors: dict[tuple[Any, ...], list[Any]] = {}  # by entry
    try:
        content = orjson.loads(orjson.dumps(text, option=orjson.OPT_NON_STR_KEYS))
        for error in jsonschema_rs.Draft7Validator(schema).iter_errors(content):
            steps, _ = place(error.instance_path)
            errors.setdefault(tuple(error.instance_path[:steps]), []).append(error)
    except (TypeError, ValueError):
        said = "the specification is nested too deeply, or holds what is no text"
        return [ShapeFault(None, said)]
    return [
        ShapeFault(entry, sentence)
        for entry, held in errors.items()
        for error in held
        for sentence in _sentences(error, schema, _meant(entry, held, content))
    ]


def _meant(entry: Sequence[Any], errors: Sequence[Any], content: Mapping[str, Any]) -> str:
    """The known entry nearest in name, if two keys are missing: the name may be mistyped."""
    missing = [error for error in errors if error.kind.name == "required"]
    if not entry or len(missing) < 2:
        return ""
    for step in entry[:-1]:
        content = content[step]
    return nearest(entry[-1], (name for name in content if name != entry[-1]))


def _sentences(error: Any, schema: Schema, meant: str) -> Iterator[str]:
    """One error of the validator in our words; one sentence, or one for each unknown key."""
    path, fault = error.instance_path, error.kind
    steps, where = place(path)
    parts = [schema]
    for step in path:
        parts.append(under(parts[-1], step))
    part = parts[-1]
    # the last key on the path, within the entry, whose value the schema describes in words
    key, title = "", part.get("title", "a table of names")
    for step, inner in zip(path[steps:], parts[steps + 1 :], strict=True):
        if isinstance(step, str) and "title" in inner:
            key, title = step, inner["title"]
    is_rule = "where" in path[steps:]
    match fault.name:
        case "required":
            missing = f"`{fault.property}` is missing"
            yield f"{where}{meant}: {missing}" if steps else missing
        case "anyOf":
            yield f"{where}: needs `person`, or `via` and `link`"
        case "additionalProperties" if is_rule:
            for name in fault.unexpected:
                yield no_such("rule kind", name, part["properties"], where)
        case "additionalProperties" if not path or "title" not in part:
            for name in fault.unexpected:
                yield f"{where}: unknown key `{name}`{nearest(name, part['properties'])}"
        case "propertyNames" if key == "fields":
            form = part["propertyNames"]["title"]
            yield f"{where}: field name `{fault.error.instance}` must be {form}"
        case "enum" if "title" in part:
            said = no_such(title, error.instance, part["enum"], where)
            yield said if said.endswith("?)") else f"{said}, only {', '.join(part['enum'])}"
        case "enum":
            listed = ", ".join(part["enum"])
            only = f"can only be `{listed}`" if len(part["enum"]) == 1 else ""
            yield f"{where}: `{path[-1]}` {only or f'must be one of {listed}'}"
        case "minimum":
            yield f"{where}: `{key}` must be at least {fault.limit}"
        case _ if not key:
            yield f"{where} must be {title}"
        case _:
            verb = "needs" if is_rule and key != "where" else "must be"
            yield f"{where}: `{key}` {verb} {title}"
