"""A document as a tree that folds: each block with its fields, and what each field means.

Where a document may not be shown, the tree shows its shape: which blocks and fields are there, of
what kind and how long. The kinds come from the payload specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2i_helpers.notebook.told import Told, as_words, breakable, folded, html_table
from d2i_helpers.payload_spec import PURGE, Block, Document, Field, Spec
from d2i_helpers.privacy.safe_words import safe_label

# code lists that say something of the process and nothing of the child: their words may be kept
_OF_THE_PROCESS = frozenset({"referral_source", "upn_unknown_reason"})
_MOST_ITEMS_OPEN = 3  # a longer list is folded


def tree(document: Document | None, spec: Spec, *, whole: bool, with_meanings: bool = True) -> str:
    """The document as HTML; a message, too, whose marks for what is gone are said in words.

    Args:
        whole: for a person's screen, with values.
        with_meanings: say of each field what it means.
    """
    if not document:
        return "<p>Nothing.</p>"
    return _Tree(whole, with_meanings).block(spec.root, document)


def told(field: Field | None, value: Any) -> Told:
    """One value of a document: with the meaning of its code, and as its shape."""
    return Told(_whole(field, value), shape(field, value))


def shape(field: Field | None, value: Any) -> str:
    """What may be kept of a value: its kind and its length."""
    if value is None:
        return "taken away"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field is not None and field.codes is not None:
        return _shape_of_codes(field, value)
    if isinstance(value, list | Mapping):
        return f"{len(value)} parts"
    if isinstance(value, int | float):
        return "number"
    if field is not None and field.type == "date":
        return "date"
    kind = "id" if field is not None and field.transform == "id" else "text"
    return f"{kind}, {len(str(value))} characters"


def _shape_of_codes(field: Field, value: Any) -> str:
    assert field.codes is not None
    codes = [str(code) for code in (value if isinstance(value, list) else [value])]
    listed = f"of the {len(field.codes.codes)} of {field.codes.name}"
    unknown = [code for code in codes if code not in field.codes.codes]
    if unknown:
        return f"{len(unknown)} codes that are not {listed}"
    if field.codes.name in _OF_THE_PROCESS:
        return "; ".join(_meaning(field, code) for code in codes)
    return f"{len(codes)} {listed}" if isinstance(value, list) else f"one {listed}"


def _whole(field: Field | None, value: Any) -> str:
    if value is None:
        return "taken away"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(_whole(field, part) for part in value) or "none"
    if field is not None and field.codes is not None:
        return _meaning(field, str(value))
    return str(value)


def _meaning(field: Field, code: str) -> str:
    """A code with its words."""
    assert field.codes is not None
    words = field.codes.codes.get(code)
    if words is None:
        return f"{code} (not in the list)"
    return f"{code} ({words})" if words and words != code else code


# ------------------------------------------------------------------------------------------ blocks
@dataclass(frozen=True)
class _Tree:
    """How a tree is written."""

    whole: bool
    with_meanings: bool

    def block(self, block: Block, held: Mapping[str, Any]) -> str:
        """The fields of a block as a table, and what is nested in it below."""
        fields = {field.name: field for field in block.fields}
        inner = {part.name: part for part in (*block.values, *block.blocks)}
        rows = []
        for name, value in held.items():
            if name == PURGE or (name in inner and isinstance(value, list | Mapping)):
                continue
            field = fields.get(name)
            label = name if field is not None or self.whole else safe_label(name)
            shown = as_words(told(field, value), whole=self.whole)
            meaning = field.meaning if field else "not in the specification"
            row = (label, shown, meaning) if self.with_meanings else (label, shown)
            rows.append([breakable(part) for part in row])
        said = "" if held.get(PURGE) is not True else "<p><strong>to be erased</strong></p>"
        header = ("field", "value", "meaning") if self.with_meanings else ("field", "value")
        table = html_table(block.path, header, rows) if rows else ""
        nested = (
            self._nested(part, held[name])
            for name, part in inner.items()
            if isinstance(held.get(name), list | Mapping)
        )
        return said + table + "".join(nested)

    def _nested(self, block: Block, value: Any) -> str:
        if isinstance(value, Mapping):
            return folded(block.name, self.block(block, value), is_open=True)
        items = [item for item in value if isinstance(item, Mapping)]
        parts = [
            folded(
                item_title(block, item, number, whole=self.whole),
                self.block(block, item),
                is_open=len(items) <= _MOST_ITEMS_OPEN,
            )
            for number, item in enumerate(items, start=1)
        ]
        return folded(f"{block.name}: {len(items):,}", "".join(parts), is_open=True)


def item_title(block: Block, item: Mapping[str, Any], number: int, *, whole: bool) -> str:
    """What an item of a list is called: its number, its id and its first dates."""
    said = f"{number}."
    if whole:
        days = [item[f.name] for f in block.fields if f.type == "date" and item.get(f.name)]
        named = [str(item[block.key])] if block.key and block.key in item else []
        said = " ".join([said, *named, *(["from", str(days[0])] if days else [])])
    return f"{said} (to be erased)" if item.get(PURGE) is True else said


def field_of(spec: Spec, path: Sequence[str]) -> Field | None:
    """The field at a path of names, such as `("child_details", "sex")`."""
    wanted = ".".join(path)
    for _, field in spec.fields():
        if field.path.replace("[]", "") == wanted:
            return field
    return None
