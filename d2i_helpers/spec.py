"""The payload specification: read, overlaid, checked; the shape of a document and of its blocks.

`payload_spec.yaml` is the single place that knows a field. Everything else asks this module. The
JSON Schema and the documentation page made from it are in `spec_outputs`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from d2i_helpers.errors import SpecificationError

Document = dict[str, Any]
PURGE = "purge"

FIELD_KEYS = {
    "item", "meaning", "source", "column", "also", "transform", "type", "codes", "default", "alone",
    "max_items", "max_length", "minimum", "maximum", "pattern", "mandatory", "volatile", "anonymise",
    "keys", "sentences", "not_before", "code_map", "notes",
}  # fmt: skip
BLOCK_KEYS = {
    "path", "in", "kind", "key", "source", "purge", "always_sent", "person_fact", "order",
    "meaning", "fields", "notes",
}  # fmt: skip
SOURCE_KEYS = {
    "table", "person", "via", "via_column", "link", "care_period", "key", "where", "order", "pick",
    "columns", "optional",
}  # fmt: skip
TYPES = ("string", "date", "boolean", "integer", "codes")
KINDS = ("root", "object", "list", "values")


@dataclass(frozen=True)
class CodeList:
    """Codes that may be sent, with what sources write instead and what is no longer accepted."""

    name: str
    codes: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    retired: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Field:
    """One field of a block: where it comes from and what it may hold."""

    name: str
    path: str  # such as social_care_episodes[].referral_date
    source: str  # name of a source
    column: str
    transform: str
    type: str
    item: int | None = None  # number in the DfE's list
    meaning: str = ""
    mandatory: bool = False
    volatile: bool = False  # left out of change detection where the profile says so
    anonymise: str = ""
    codes: CodeList | None = None
    max_length: int | None = None
    max_items: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    default: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)  # what only its transform reads


@dataclass(frozen=True, eq=False)
class Block:
    """What can be sent, replaced and (where `purge`) erased on its own; or a list inside one."""

    name: str  # its key in the document; the root's is "child"
    path: str
    kind: str  # root | object | list | values
    source: str | None
    key: str | None
    purge: bool
    always_sent: bool
    person_fact: bool
    order: tuple[str, ...]
    meaning: str
    fields: tuple[Field, ...]
    values: tuple[Block, ...] = ()  # lists without keys, sent with this block
    blocks: tuple[Block, ...] = ()  # blocks nested in it, judged each for itself

    def sorted_items(self, items: Iterable[Document]) -> list[Document]:
        """Items in the one order that their content gives: `order`, then the whole content."""
        return sorted(items, key=self._sort_key)

    def _sort_key(self, item: Document) -> tuple:
        keys: list[Any] = []
        for part in self.order:
            value = item.get(part.lstrip("-"))
            keys.append((value is None, _Reversed(value) if part.startswith("-") else value))
        return (*keys, json.dumps(item, sort_keys=True, default=str))


@functools.total_ordering
class _Reversed:
    """Wraps a value so that it sorts from high to low."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and self.value == other.value

    def __lt__(self, other: _Reversed) -> bool:
        if self.value is None or other.value is None:
            return False
        return other.value < self.value


@dataclass(frozen=True)
class Source:
    """Rows that a block or a field is made from; see the notes in payload_spec.yaml."""

    name: str
    table: str
    key: str
    person: str | None = None
    via: str | None = None
    via_column: str | None = None
    link: str | None = None
    care_period: str | None = None
    where: tuple[Mapping[str, Any], ...] = ()
    order: tuple[str, ...] = ()
    pick_first: bool = False
    columns: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Spec:
    """The whole specification with its overlays applied."""

    version: str
    canonical_form: int
    volatile_ids: bool  # whether the source renumbers items, so that ids say nothing of a change
    root: Block
    blocks: Mapping[str, Block]  # by name, root included, parents first
    sources: Mapping[str, Source]
    code_lists: Mapping[str, CodeList]
    booleans: Mapping[str, bool]  # upper-case word to its meaning
    uasc_statuses: frozenset[str]
    placeholders: frozenset[str]
    request: Mapping[str, Mapping[str, Any]]
    fingerprint: str  # SHA-256 of the merged text, for the run record

    def fields(self) -> Iterator[tuple[Block, Field]]:
        """Every field with the block that it stands in, in the order of the document."""
        for block in self.blocks.values():
            for one in block.fields:
                yield block, one

    def columns(self) -> dict[str, set[str]]:
        """The SSD columns that are read, by table."""
        wanted: dict[str, set[str]] = {}
        for source in self.sources.values():
            wanted.setdefault(source.table, set()).update(source_columns(source))
        for _, one in self.fields():
            table = self.sources[one.source].table
            extra = (one.column, one.options.get("also"), one.options.get("not_before"))
            wanted[table].update(column for column in extra if column)
        for source in self.sources.values():
            if source.via and source.via_column:
                wanted[self.sources[source.via].table].add(source.via_column)
        return wanted


def source_columns(source: Source) -> set[str]:
    """The columns that a source needs of its own table to find, filter, sort and tie rows."""
    named = {source.key, source.person, source.link, source.care_period, *source.columns}
    for rule in source.where:
        for kind, argument in rule.items():
            if kind != "rule":
                named.update(argument)
    for part in source.order:
        named.update(word.lstrip("-") for word in part.split() if word not in {"open", "first"})
    return {column for column in named if column}


# ------------------------------------------------------------------------------------- reading
def load_spec(cms: str = "generic", overlay: str | Path | None = None) -> Spec:
    """The specification for a case-management system, with the LA's own overlay on top.

    Args:
        cms: name of a file in ``d2i_helpers/overlays/``; ``generic`` has none.
        overlay: an LA's own overlay file.

    Raises:
        SpecificationError: a file is missing or wrong; the message lists every fault.
    """
    return _cached(cms, str(overlay) if overlay else None, _stamp(overlay))


def _stamp(overlay: str | Path | None) -> float | None:
    try:
        return Path(overlay).stat().st_mtime if overlay else None
    except OSError:
        return None


@functools.lru_cache(maxsize=8)
def _cached(cms: str, overlay: str | None, _stamp: float | None) -> Spec:
    merged = _read(resources.files(__package__).joinpath("payload_spec.yaml"), "payload_spec.yaml")
    if cms != "generic":
        name = f"overlays/{cms}.yaml"
        merged = merge(merged, _read(resources.files(__package__).joinpath(name), name))
    if overlay:
        merged = merge(merged, _read(Path(overlay), Path(overlay).name))
    return build_spec(merged)


def _read(path: Any, name: str) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        raise SpecificationError(
            f"There is no specification file {name}.", hint="Check `cms` and `spec_overlay`."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SpecificationError(f"{name}{where} is not valid YAML.") from None
    if not isinstance(content, dict):
        raise SpecificationError(f"{name} must be a table of names.")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base`` key by key; a value of None takes the key out."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def build_spec(text: Mapping[str, Any]) -> Spec:
    """A specification from its (merged) text.

    Raises:
        SpecificationError: lists every fault that `faults` finds.
    """
    found = faults(text)
    if found:
        raise SpecificationError(
            "The specification has faults: " + "; ".join(found) + ".",
            hint="docs/specification.md explains every key.",
        )
    lists = {
        name: CodeList(
            name,
            {str(code): str(meaning) for code, meaning in entry["codes"].items()},
            {str(k).upper(): str(v) for k, v in (entry.get("aliases") or {}).items()},
            frozenset(str(code).upper() for code in entry.get("retired") or ()),
        )
        for name, entry in text["code_lists"].items()
    }
    sources = {name: _source(name, entry) for name, entry in text["sources"].items()}
    blocks = _blocks(text["blocks"], lists)
    words = text.get("booleans") or {}
    return Spec(
        version=str(text["version"]),
        canonical_form=int(text["canonical_form"]),
        volatile_ids=bool(text.get("volatile_ids", False)),
        root=next(block for block in blocks.values() if block.kind == "root"),
        blocks=blocks,
        sources=sources,
        code_lists=lists,
        booleans={str(w).upper(): bool(truth) for truth, ws in words.items() for w in ws},
        uasc_statuses=frozenset(str(s).upper() for s in text.get("uasc_statuses") or ()),
        placeholders=frozenset(str(s).upper() for s in text.get("placeholders") or ()),
        request=text.get("request") or {},
        fingerprint=hashlib.sha256(
            json.dumps(text, sort_keys=True, default=str).encode()
        ).hexdigest(),
    )


def _source(name: str, entry: Mapping[str, Any]) -> Source:
    return Source(
        name=name,
        table=entry["table"],
        key=entry["key"],
        person=entry.get("person"),
        via=entry.get("via"),
        via_column=entry.get("via_column"),
        link=entry.get("link"),
        care_period=entry.get("care_period"),
        where=tuple(entry.get("where") or ()),
        order=tuple(entry.get("order") or ()),
        pick_first=entry.get("pick") == "first",
        columns=tuple(entry.get("columns") or ()),
        optional=bool(entry.get("optional")),
    )


def _field(name: str, entry: Mapping[str, Any], block: Mapping[str, Any], lists: Mapping) -> Field:
    prefix = "" if block["path"] == "$" else f"{block['path']}."
    transform = entry["transform"]
    limits = ("max_length", "max_items", "minimum", "maximum", "pattern", "default", "item")
    return Field(
        name=name,
        path=f"{prefix}{name}",
        source=entry.get("source") or block["source"],
        column=entry["column"],
        transform=transform,
        type=entry.get("type") or ("date" if transform == "date" else "string"),
        meaning=str(entry.get("meaning", "")),
        mandatory=bool(entry.get("mandatory")),
        volatile=bool(entry.get("volatile")),
        anonymise=str(entry.get("anonymise", "")),
        codes=lists[entry["codes"]] if "codes" in entry else None,
        options={
            k: entry[k]
            for k in ("also", "alone", "keys", "sentences", "not_before", "code_map", "notes")
            if k in entry
        },
        **{limit: entry.get(limit) for limit in limits},
    )


def _blocks(entries: Mapping[str, Any], lists: Mapping[str, CodeList]) -> dict[str, Block]:
    """Blocks by name, parents before what is nested in them."""

    def build(name: str) -> Block:
        entry = entries[name]
        inner = [build(child) for child, e in entries.items() if e.get("in") == name]
        return Block(
            name=name,
            path=entry["path"],
            kind=entry["kind"],
            source=entry.get("source"),
            key=entry.get("key"),
            purge=bool(entry.get("purge")),
            always_sent=bool(entry.get("always_sent")),
            person_fact=bool(entry.get("person_fact")),
            order=tuple(entry.get("order") or ()),
            meaning=str(entry.get("meaning", "")),
            fields=tuple(_field(n, e, entry, lists) for n, e in entry["fields"].items()),
            values=tuple(block for block in inner if block.kind == "values"),
            blocks=tuple(block for block in inner if block.kind != "values"),
        )

    def walk(block: Block) -> Iterator[Block]:
        yield block
        for child in (*block.values, *block.blocks):
            yield from walk(child)

    root = build(next(name for name, entry in entries.items() if entry["kind"] == "root"))
    return {block.name: block for block in walk(root)}


# ------------------------------------------------------------------------------------ checking
def faults(text: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a specification text, one sentence part each."""
    missing = [
        k for k in ("version", "canonical_form", "sources", "blocks", "code_lists") if k not in text
    ]
    if missing:
        return [f"`{name}` is missing" for name in missing]
    found: list[str] = []
    for name, entry in text["sources"].items():
        found += _source_faults(name, entry, text["sources"])
    roots = [name for name, entry in text["blocks"].items() if (entry or {}).get("kind") == "root"]
    if len(roots) != 1:
        found.append(f"there must be one block of kind root, there are {len(roots)}")
    for name, entry in text["blocks"].items():
        found += _block_faults(name, entry, text)
    return found


def _unknown(entry: Any, allowed: set[str], where: str) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"{where} must be a table of names"]
    return [f"{where}: unknown key `{key}`" for key in entry if key not in allowed]


def _source_faults(name: str, entry: Any, sources: Mapping[str, Any]) -> list[str]:
    where = f"source `{name}`"
    found = _unknown(entry, SOURCE_KEYS, where)
    if found:
        return found
    found += [f"{where}: `{key}` is missing" for key in ("table", "key") if key not in entry]
    if "person" not in entry and "via" not in entry:
        found.append(f"{where}: needs `person`, or `via` and `link`")
    if "via" in entry:
        if entry["via"] not in sources:
            found.append(f"{where}: there is no source `{entry['via']}` (via)")
        if "link" not in entry:
            found.append(f"{where}: `via` needs `link`")
    return found


def _block_faults(name: str, entry: Any, text: Mapping[str, Any]) -> list[str]:
    where = f"block `{name}`"
    found = _unknown(entry, BLOCK_KEYS, where)
    if found:
        return found
    found += [
        f"{where}: `{key}` is missing" for key in ("path", "kind", "fields") if key not in entry
    ]
    if found:
        return found
    if entry["kind"] not in KINDS:
        found.append(f"{where}: kind must be one of {', '.join(KINDS)}")
    if entry["kind"] in {"root", "list"} and entry.get("key") not in entry["fields"]:
        found.append(f"{where}: its `key` must be one of its fields")
    if entry["kind"] != "root" and entry.get("in") not in text["blocks"]:
        found.append(f"{where}: `in` must name a block")
    if entry.get("source") and entry["source"] not in text["sources"]:
        found.append(f"{where}: there is no source `{entry['source']}`")
    for part in entry.get("order") or ():
        if part.lstrip("-") not in entry["fields"]:
            found.append(f"{where}: `order` names `{part}`, which is not one of its fields")
    for field_name, one in entry["fields"].items():
        found += _field_faults(f"field `{name}.{field_name}`", one, entry, text)
    return found


def _field_faults(where: str, entry: Any, block: Mapping, text: Mapping[str, Any]) -> list[str]:
    found = _unknown(entry, FIELD_KEYS, where)
    if found:
        return found
    found += [
        f"{where}: `{k}` is missing" for k in ("column", "transform", "anonymise") if k not in entry
    ]
    if entry.get("type", "string") not in TYPES:
        found.append(f"{where}: type must be one of {', '.join(TYPES)}")
    source = entry.get("source") or block.get("source")
    if source not in text["sources"]:
        found.append(f"{where}: there is no source `{source}`")
    if "codes" in entry and entry["codes"] not in text["code_lists"]:
        found.append(f"{where}: there is no code list `{entry['codes']}`")
    if entry.get("transform") in {"code", "code_set", "code_json"} and "codes" not in entry:
        found.append(f"{where}: its transform needs `codes`")
    return found
