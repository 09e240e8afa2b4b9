"""Two documents of one child side by side: what the receiver acknowledged, and today's.

Items are matched by their keys, as delta matches them; entries of lists without keys by their
content. Each difference is said in a word, so that it does not hang on a colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import orjson

from d2i_helpers.notebook.document_tree import field_of, told
from d2i_helpers.notebook.told import Part, Told, as_words, breakable, folded, html_table
from d2i_helpers.payload_spec import PURGE, Block, Document, Field, Spec

_NO_DOCUMENT = "There is none: neither today nor acknowledged."
SAME, CHANGED, NEW, GONE = "same", "changed", "new", "gone"
# a colour beside the word: the bar shows on light and dark grounds alike
_COLOURS = {CHANGED: "#d55e00", NEW: "#009e73", GONE: "#cc79a7"}


@dataclass(frozen=True, slots=True)
class Line:
    """One field of one item, in both documents."""

    where: Told  # the item
    path: str  # as the specification writes it
    field: Field | None
    before: Any  # None: not there
    today: Any

    @property
    def name(self) -> str:
        """The path, without what the item says already."""
        return self.path.rpartition(".")[2] if self.where.whole else self.path

    @property
    def mark(self) -> str:
        """What became of it."""
        # 1 is no yes, though Python takes the two for equal
        flags = [isinstance(value, bool) for value in (self.before, self.today)]
        if self.before == self.today and flags[0] == flags[1]:
            return SAME
        if self.before is None:
            return NEW
        return GONE if self.today is None else CHANGED


def compare(spec: Spec, before: Document | None, today: Document | None) -> list[Line]:
    """Every field that either document has, in the order of the specification."""
    top = Told("", "")
    return list(_block(spec, spec.root, before or {}, today or {}, (), top))


def _block(
    spec: Spec,
    block: Block,
    before: Mapping[str, Any],
    today: Mapping[str, Any],
    path: tuple[str, ...],
    where: Told,
) -> Iterator[Line]:
    inner = {part.name: part for part in (*block.values, *block.blocks)}
    names = dict.fromkeys((*(field.name for field in block.fields), *before, *today))
    for name in names:
        one, other = before.get(name), today.get(name)
        if name == PURGE or (one is None and other is None):
            continue
        here = (*path, name)
        part = inner.get(name)
        if part is None:
            field = field_of(spec, here)
            yield Line(where, ".".join(here), field, _in_order(one), _in_order(other))
        elif part.kind == "object":
            yield from _block(spec, part, _object(one), _object(other), here, where)
        else:
            yield from _items(spec, part, _list(one), _list(other), here, where)


def _in_order(value: Any) -> Any:
    """Lists of codes say the same in any order."""
    return sorted(value, key=str) if isinstance(value, list) else value


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _items(
    spec: Spec,
    block: Block,
    before: list[Mapping[str, Any]],
    today: list[Mapping[str, Any]],
    path: tuple[str, ...],
    where: Told,
) -> Iterator[Line]:
    pairs = _by_key(block.key, before, today) if block.key else _by_content(before, today)
    for number, (one, other) in enumerate(pairs, start=1):
        item = one or other or {}
        named = str(item.get(block.key)) if block.key else str(number)
        here = Told(
            f"{where.whole} {block.name} {named}".strip(),
            f"{where.kept} {block.name} {number}".strip(),
        )
        yield from _block(spec, block, one or {}, other or {}, path, here)


Pair = tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]


def _by_key(
    key: str, before: list[Mapping[str, Any]], today: list[Mapping[str, Any]]
) -> list[Pair]:
    """Today's items with the ones of before that have their key; then those that are gone."""
    held = {str(item.get(key)): item for item in before}
    pairs: list[Pair] = [(held.pop(str(item.get(key)), None), item) for item in today]
    return [*pairs, *((item, None) for item in held.values())]


def _by_content(before: list[Mapping[str, Any]], today: list[Mapping[str, Any]]) -> list[Pair]:
    one, other = (
        [orjson.dumps(i, option=orjson.OPT_SORT_KEYS) for i in x] for x in (before, today)
    )
    pairs: list[Pair] = []
    for _, i1, i2, j1, j2 in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        old, new = before[i1:i2], today[j1:j2]
        for at in range(max(len(old), len(new))):
            pairs.append((old[at] if at < len(old) else None, new[at] if at < len(new) else None))
    return pairs


def as_part(lines: Sequence[Line]) -> Part:
    """The differences as a part of an answer."""
    rows = tuple(
        (
            line.name,
            line.where,
            line.mark,
            *(
                "" if value is None else told(line.field, value)
                for value in (line.before, line.today)
            ),
        )
        for line in lines
        if line.mark != SAME
    )
    header = ("field", "item", "what", "acknowledged", "today")
    same = "Today's document is the acknowledged one." if lines else _NO_DOCUMENT
    said = () if rows else (same,)
    return Part("What differs from the acknowledged document", said, header, rows)


# --------------------------------------------------------------------------------------------- HTML
def side_by_side(lines: Sequence[Line], *, whole: bool) -> str:
    """The differences as a table, and what is the same folded below."""
    differ = [line for line in lines if line.mark != SAME]
    alike = [line for line in lines if line.mark == SAME]
    caption = "What differs between the acknowledged document and today's"
    header = ("field", "what", "acknowledged", "today")
    shown = f"<p>{'The two are the same.' if lines else _NO_DOCUMENT}</p>"
    if differ:
        shown = html_table(caption, header, [_row(line, whole=whole) for line in differ])
    rest = ""
    if alike:
        same = html_table("What is the same", header, [_row(line, whole=whole) for line in alike])
        rest = folded(f"{len(alike):,} fields are the same", same)
    return shown + rest


def _row(line: Line, *, whole: bool) -> list[str]:
    where = as_words(line.where, whole=whole)
    field = breakable(line.name) + (f"<br><small>{breakable(where)}</small>" if where else "")
    colour = _COLOURS.get(line.mark)
    bar = f"border-left:0.4em solid {colour};padding-left:0.4em" if colour else ""
    mark = f'<span style="{bar}">{line.mark}</span>'
    return [field, mark, *(_value(line.field, v, whole=whole) for v in (line.before, line.today))]


def _value(field: Field | None, value: Any, *, whole: bool) -> str:
    return "" if value is None else breakable(as_words(told(field, value), whole=whole))
