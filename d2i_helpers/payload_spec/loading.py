"""The payload specification: read, overlaid, checked; the shape of a document and of its blocks.

`payload_spec.yaml` is the single place that knows a field. Everything else asks this module. What
is generated from it is in `outputs`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from d2i_helpers.errors import SpecificationError
from d2i_helpers.hand_written import Unreadable, parse_yaml, read_text
from d2i_helpers.payload_spec.checks import faults
from d2i_helpers.payload_spec.model import Block, CodeList, Field, Source, Team, plain_word
from d2i_helpers.payload_spec.registry import TRANSFORMS
from d2i_helpers.payload_spec.shape import typed
from d2i_helpers.payload_spec.taken_out import NotThere, not_there


@dataclass(frozen=True, eq=False)
class Spec:
    """The whole specification with its overlays applied."""

    version: str
    canonical_form: int
    volatile_ids: bool  # whether the source renumbers items, so that ids say nothing of a change
    root: Block
    blocks: Mapping[str, Block]  # by name, root included, parents first
    sources: Mapping[str, Source]
    teams: tuple[Team, ...]  # the first that names a child's team counts
    code_lists: Mapping[str, CodeList]
    booleans: Mapping[str, bool]  # upper-case word to its meaning
    uasc_statuses: frozenset[str]
    placeholders: frozenset[str]
    request: Mapping[str, Mapping[str, Any]]
    renamed_columns: Mapping[str, Mapping[str, str]]  # by table: what a column is called here
    known_gaps: Mapping[str, str]  # block or field: why this system leaves it empty
    fingerprint: str  # SHA-256 of the merged text, for the run record

    def fields(self) -> Iterator[tuple[Block, Field]]:
        """Every field with its block, in the order of the document."""
        for block in self.blocks.values():
            for field in block.fields:
                yield block, field

    def known_gap(self, block: Block, field: Field) -> str | None:
        """Why this system leaves the field or its whole block empty; None if it is not known to."""
        named = self.known_gaps.get(f"{block.name}.{field.name}")
        return named or self.known_gaps.get(block.name)


# ------------------------------------------------------------------------------------- reading
def load_spec(cms: str = "generic", overlay: str | Path | None = None) -> Spec:
    """The specification for a case-management system, with the LA's own overlay on top.

    Args:
        cms: name of a file in ``d2i_helpers/payload_spec/overlays/``; ``generic`` has none.
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
    slips = [one.slip for one in takes_out_nothing(cms, overlay) if one.slip]
    return build_spec(merged_text(cms, overlay), slips)


def takes_out_nothing(cms: str, overlay: str | Path | None) -> list[NotThere]:
    """Each `null` of an authority's overlay of which nothing is there that it could take out.

    Raises:
        SpecificationError: a file is missing, is not YAML, or is no table of names.
    """
    if not overlay:
        return []
    # what the system's overlay has taken out already may be taken out once more
    known = merge(merged_text(), merged_text(cms))
    return not_there(known, typed(_read(Path(overlay), Path(overlay).name)))


def merged_text(cms: str = "generic", overlay: str | Path | None = None) -> dict[str, Any]:
    """The text of the specification with its overlays merged, not yet checked.

    Raises:
        SpecificationError: a file is missing, is not YAML, or is no table of names.
    """
    merged = _read(resources.files(__package__).joinpath("payload_spec.yaml"), "payload_spec.yaml")
    if cms != "generic":
        name = f"overlays/{cms}.yaml"
        merged = merge(merged, _read(resources.files(__package__).joinpath(name), name))
    if overlay:
        ours = _read(Path(overlay), Path(overlay).name)
        merged = _without_gaps_of_what_went(merge(merged, ours), merged, ours)
    return typed(merged)


def _without_gaps_of_what_went(
    text: dict[str, Any], before: Mapping[str, Any], ours: Mapping[str, Any]
) -> dict[str, Any]:
    """The merged text without the system's gaps of blocks and fields that an overlay took out.

    Gaps that the overlay itself names stay, so that a slip in them is found.
    """
    gaps, named = text.get("known_gaps"), ours.get("known_gaps")
    if not isinstance(gaps, Mapping):
        return text
    named = named if isinstance(named, Mapping) else {}
    went = {place for place in gaps if _is_there(before, place) and not _is_there(text, place)}
    return {
        **text,
        "known_gaps": {p: why for p, why in gaps.items() if p in named or p not in went},
    }


def _is_there(text: Mapping[str, Any], place: str) -> bool:
    """Whether a text has a block, or with a dot a field of it."""
    block, _, field = place.partition(".")
    held: Any = text
    for name in ("blocks", block, "fields", field) if field else ("blocks", block):
        held = held.get(name) if isinstance(held, Mapping) else None
    return held is not None


def _read(path: Any, name: str) -> dict[str, Any]:
    try:
        written = read_text(path)
        content = parse_yaml(written)
    except FileNotFoundError:
        raise SpecificationError(
            f"There is no specification file {name}.",
            hint="Check `spec_overlay`: a path is seen from the workbook's folder, such as "
            "params/ours.yaml.",
        ) from None
    except Unreadable as error:
        raise SpecificationError(f"{name}{error.said}.", hint=error.hint) from None
    except OSError as error:
        raise SpecificationError(
            f"{name} cannot be read ({error.strerror or type(error).__name__}).",
            hint="Check `spec_overlay`.",
        ) from None
    if not written.strip():  # as a save to a full disk leaves it; its fields would be erased
        raise SpecificationError(
            f"{name} is empty.",
            hint="Put back what it held. If nothing is to differ, take `spec_overlay` out of the "
            "profile.",
        )
    if content is None:  # nothing but comments: nothing differs
        return {}
    if not isinstance(content, dict):
        raise SpecificationError(f"{name} must be a table of names.")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base`` key by key; a value of None takes the key out."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            held = merged.get(key)
            merged[key] = merge(held if isinstance(held, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def build_spec(text: Mapping[str, Any], further_faults: Sequence[str] = ()) -> Spec:
    """A specification from its (merged) text.

    Args:
        text: merged, with its types.
        further_faults: what was found in an overlay before it was merged.

    Raises:
        SpecificationError: lists every fault that `faults` finds, and the further ones.
    """
    said = [*faults(text), *further_faults]
    if said:
        raise SpecificationError(
            "The specification has faults: " + "; ".join(said) + ".",
            hint="docs/specification.md explains every key.",
        )
    lists = {
        name: CodeList(
            name,
            {str(code): str(meaning) for code, meaning in entry["codes"].items()},
            {plain_word(k): str(v) for k, v in (entry.get("aliases") or {}).items()},
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
        teams=tuple(Team(**entry) for entry in text.get("teams") or ()),
        code_lists=lists,
        booleans={str(w).upper(): bool(truth) for truth, ws in words.items() for w in ws},
        uasc_statuses=frozenset(str(s).upper() for s in text.get("uasc_statuses") or ()),
        placeholders=frozenset(str(s).upper() for s in text.get("placeholders") or ()),
        request=text.get("request") or {},
        renamed_columns=text.get("renamed_columns") or {},
        known_gaps=text.get("known_gaps") or {},
        fingerprint=hashlib.sha256(
            json.dumps(_text_keys(text), sort_keys=True, default=str).encode()
        ).hexdigest(),
    )


# ------------------------------------------------------------------------ what was taken out
@functools.lru_cache(maxsize=8)
def with_taken_out(spec: Spec) -> Block:
    """The root block of a specification with what an overlay took out of the published one.

    The receiver knows all that is published, and may hold what was sent before it was taken out.
    So a message has to be able to erase it. No document of today holds any of it.
    """
    return _with_taken_out(spec.root, load_spec().root)


def _with_taken_out(block: Block, published: Block) -> Block:
    inner = (*block.values, *block.blocks)
    names = {field.name for field in block.fields} | {part.name for part in inner}
    before = {part.name: part for part in (*published.values, *published.blocks)}
    inside = {part.name: part for part in inner}
    for name, part in before.items():
        if name not in names:
            inside[name] = part
        elif name in inside and inside[name].kind == part.kind:
            inside[name] = _with_taken_out(inside[name], part)
    taken = [replace(f, mandatory=False) for f in published.fields if f.name not in names]
    return replace(
        block,
        fields=(*block.fields, *taken),
        values=tuple(part for part in inside.values() if part.kind == "values"),
        blocks=tuple(part for part in inside.values() if part.kind != "values"),
    )


def _text_keys(value: Any) -> Any:
    """The same with every key as text, so that `10` and `"10"` can be sorted."""
    if isinstance(value, Mapping):
        return {str(key): _text_keys(inner) for key, inner in value.items()}
    return [_text_keys(inner) for inner in value] if isinstance(value, list) else value


def _source(name: str, entry: Mapping[str, Any]) -> Source:
    return Source(name=name, pick_first="pick" in entry, **_held(entry, Source))


def _held(entry: Mapping[str, Any], made: type) -> dict[str, Any]:
    """The keys of an entry that are attributes of a class; lists become tuples."""
    names = {attribute.name for attribute in fields(made)}
    return {
        key: tuple(value) if isinstance(value, list) and key != "default" else value
        for key, value in entry.items()
        if key in names
    }


def _field(
    name: str, entry: Mapping[str, Any], block: Mapping[str, Any], lists: Mapping[str, CodeList]
) -> Field:
    prefix = "" if block["path"] == "$" else f"{block['path']}."
    held = _held(entry, Field)
    made = {
        "source": block.get("source"),
        "type": TRANSFORMS[entry["transform"]].makes,
        **held,
        "meaning": str(entry.get("meaning", "")),
        "codes": lists[entry["codes"]] if "codes" in entry else None,
        "options": {key: value for key, value in entry.items() if key not in held},
    }
    return Field(name=name, path=f"{prefix}{name}", **made)


def _blocks(entries: Mapping[str, Any], lists: Mapping[str, CodeList]) -> dict[str, Block]:
    """Blocks by name, parents before what is nested in them."""

    def build(name: str) -> Block:
        entry = entries[name]
        inner = [build(child) for child, e in entries.items() if e.get("in") == name]
        made = {
            **_held(entry, Block),
            "meaning": str(entry.get("meaning", "")),
            "fields": tuple(_field(n, e, entry, lists) for n, e in entry["fields"].items()),
            "values": tuple(block for block in inner if block.kind == "values"),
            "blocks": tuple(block for block in inner if block.kind != "values"),
        }
        return Block(name=name, **made)

    def walk(block: Block) -> Iterator[Block]:
        yield block
        for child in (*block.values, *block.blocks):
            yield from walk(child)

    root = build(next(name for name, entry in entries.items() if entry["kind"] == "root"))
    return {block.name: block for block in walk(root)}
