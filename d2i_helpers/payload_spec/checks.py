"""What is wrong with a specification text: every fault, named so that an analyst can mend it.

`faults` takes the merged text of payload_spec.yaml and its overlays and never raises, whatever the
text holds. The schema says what each key may hold (`shape`). This module
checks references between entries, and what a rule asks of the entry that names it. It skips entries
of wrong shape.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from d2i_helpers.payload_spec.model import PURGE, plain_word
from d2i_helpers.payload_spec.patterns import whole_match
from d2i_helpers.payload_spec.registry import ANONYMISING_RULES, ROW_RULES, TRANSFORMS
from d2i_helpers.payload_spec.schema import declared_columns
from d2i_helpers.payload_spec.shape import nearest, no_such, shape_faults

Entry = Mapping[str, Any]
# the first three must be there
_TABLES = ("sources", "blocks", "code_lists", "extra_columns", "renamed_columns", "known_gaps")
_NO_LINEAR_TIME = (
    "`pattern` is not a regular expression that can be matched in linear time: without look-around "
    "such as (?=…) or (?<!…), references back such as \\1, and repeats of large repeats; "
    "`max_length` limits the length"
)


def faults(text: Entry) -> list[str]:
    """Everything that is wrong with a (merged) specification text, one sentence part each."""
    of_shape = shape_faults(text)
    said = [fault.sentence for fault in of_shape]
    misshapen = {fault.entry for fault in of_shape}
    if None not in misshapen and all(isinstance(text.get(n), Mapping) for n in _TABLES[:3]):
        said += _References(text, misshapen).faults()
    return list(dict.fromkeys(said))


class _References:
    """The checks of references. Of entries in ``misshapen``, only the names are used."""

    def __init__(self, text: Entry, misshapen: Collection[Any]) -> None:
        self._misshapen = misshapen
        self._text = {n: held for n in _TABLES if isinstance(held := text.get(n, {}), Mapping)}
        self._sources, self._blocks = text["sources"], text["blocks"]
        self._teams = () if "teams" in {e[0] for e in misshapen if e} else text.get("teams") or ()
        self._booleans = {} if () in misshapen else text.get("booleans") or {}
        self._columns: dict[str, set[str]] = {t: {*c} for t, c in declared_columns().items()}
        for table, extra in self._sound("extra_columns"):
            self._columns.setdefault(table, set()).update(extra)

    def faults(self) -> Iterator[str]:
        """All faults, one sentence part each."""
        yield from self._of_names()
        words = [(w, str(truth).lower()) for truth, ws in self._booleans.items() for w in ws]
        yield from _read_as_one("booleans", words)
        for name, entry in self._sound("code_lists"):
            yield from _of_code_list(f"code list `{name}`", entry)
        for name, entry in self._sound("sources"):
            yield from self._of_source(f"source `{name}`", entry)
        yield from self._of_teams()
        blocks = self._sound("blocks")
        roots = [name for name, entry in blocks if entry["kind"] == "root"]
        if len(roots) != 1:
            yield f"there must be one block of kind root, there are {len(roots)}"
        claimed: dict[str, str] = {}  # by number of the DfE's list
        for name, entry in blocks:
            yield from self._of_block(name, entry)
            for field, about in self._sound("blocks", name, "fields"):
                yield from self._of_field(f"field `{name}.{field}`", about, entry)
                number, here = str(about.get("item", "")), f"`{name}.{field}`"
                if number and claimed.setdefault(number, here) != here:
                    yield f"item {number} is claimed by {claimed[number]} and by {here}"

    def _sound(self, *path: str) -> list[tuple[str, Entry]]:
        """The entries of a table whose shape is right, by name; ``path`` leads to the table."""
        held: Any = self._text
        for step in path:
            held = held.get(step, {})
        return [(name, e) for name, e in held.items() if (*path, str(name)) not in self._misshapen]

    def _of_names(self) -> Iterator[str]:
        """Faults in `renamed_columns` and `known_gaps`."""
        for table, renamed in self._sound("renamed_columns"):
            known = self._columns.get(table, ())
            for column in [name for name in renamed if name not in known]:
                yield no_such("column", column, known, f"renamed_columns of `{table}`")
        places = {*self._blocks}
        for name, entry in self._blocks.items():
            fields = entry.get("fields") if isinstance(entry, Mapping) else None
            if isinstance(fields, Mapping):
                places |= {f"{name}.{field}" for field in fields}
        for place, _ in self._sound("known_gaps"):
            if place not in places:
                yield no_such("block or field", place, places, "known_gaps")

    def _of_columns(self, where: str, table: Any, names: Iterable[Any]) -> Iterator[str]:
        """Faults for columns that neither the SSD nor `extra_columns` declares."""
        known = self._columns.get(table) if isinstance(table, str) else None
        for name in names:
            if known is not None and name not in known:
                yield (
                    f"{where}: table `{table}` has no column `{name}`{nearest(name, known)}; "
                    "one of your own goes into `extra_columns`"
                )

    # ------------------------------------------------------------------------------------ sources
    def _of_source(self, where: str, entry: Entry) -> Iterator[str]:
        table = entry["table"]
        if table not in self._columns:
            yield no_such("SSD table", table, self._columns, where)
        if "via" in entry:
            parent = self._sources.get(entry["via"])
            if not isinstance(parent, Mapping):
                yield no_such("source", entry["via"], self._sources, f"{where}, via")
            elif "via_column" in entry:
                yield from self._of_columns(where, parent.get("table"), [entry["via_column"]])
            if _circular(entry, self._sources, "via"):
                yield f"{where}: its `via` leads back to itself"
            if isinstance(parent, Mapping):
                leads_here = [entry.get("via_column", parent.get("key"))]
                yield from _of_passing_key(f"{where}, via", parent, leads_here)
        named = [entry[k] for k in ("person", "link", "care_period") if k in entry]
        words = [word for part in entry.get("order", ()) for word in part.split()]
        named += [word.lstrip("-") for word in words if word not in {"open", "first"}]
        for rule in entry.get("where", ()):
            named += [column for name in rule if name != "rule" for column in rule[name]]
            if "rule" in rule:
                called = ROW_RULES[rule["rule"]]
                named += called.columns
                for other in called.looks_into:
                    if not isinstance(self._sources.get(other), Mapping):
                        missing = f"looks into source `{other}`, which is not there"
                        yield f"{where}: `{called.name}` {missing}"
        named += entry.get("columns", ())
        yield from _of_passing_key(where, entry, named)
        yield from self._of_columns(where, table, [entry["key"], *named])

    def _of_teams(self) -> Iterator[str]:
        for entry in self._teams:
            if (table := entry["table"]) not in self._columns:
                yield no_such("SSD table", table, self._columns, "teams")
            named = [name for key, name in entry.items() if key != "table"]
            yield from self._of_columns("teams", table, named)

    # --------------------------------------------------------------------------- blocks and fields
    def _of_block(self, name: str, entry: Entry) -> Iterator[str]:
        where, fields = f"block `{name}`", entry["fields"]
        if entry["kind"] in {"root", "list"}:
            key = fields.get(entry.get("key"))
            if not isinstance(key, Mapping):
                yield f"{where}: its `key` must be one of its fields"
            elif not key.get("mandatory"):
                yield f"{where}: its key `{entry['key']}` must be `mandatory: true`"
            elif entry["kind"] == "root":
                yield from self._of_child_id(where, entry, key)
        if entry["kind"] == "root" and not entry.get("purge"):
            yield f"{where}: it must be `purge: true`, else a child that is gone stays there"
        yield from self._of_path(where, name, entry)
        if entry["kind"] != "root" and entry.get("in") not in self._blocks:
            yield no_such("block", entry.get("in"), self._blocks, f"{where}, in")
        elif entry["kind"] != "root" and _circular(entry, self._blocks, "in"):
            yield f"{where}: its `in` leads back to itself"
        if entry.get("source") and entry["source"] not in self._sources:
            yield no_such("source", entry["source"], self._sources, where)
        for part in entry.get("order", ()):
            if part.lstrip("-") not in fields:
                yield f"{where}: `order` names `{part}`, which is not one of its fields"
        inside = {
            n for n, e in self._blocks.items() if isinstance(e, Mapping) and e.get("in") == name
        }
        for field in fields:
            if field in {PURGE, *inside}:
                yield f"{where}: the name `{field}` is taken, it cannot be a field's"

    def _of_path(self, where: str, name: str, entry: Entry) -> Iterator[str]:
        """A path that is not where the block is: what is found in it would be told of another."""
        above, place = self._blocks.get(entry.get("in")), "$"
        if entry["kind"] != "root":
            if not isinstance(above, Mapping) or not isinstance(above.get("path"), str):
                return
            begin = "" if above["path"] == "$" else f"{above['path']}."
            place = f"{begin}{name}{'' if entry['kind'] == 'object' else '[]'}"
        if entry["path"] != place:
            yield f"{where}: its `path` must be `{place}`, by its name, `in` and `kind`"

    def _of_child_id(self, where: str, entry: Entry, key: Entry) -> Iterator[str]:
        """Another id than the one by which persons are told apart: two may share it, or it moves.

        To the receiver two persons would be one child, and go both when one of them does.
        """
        source = self._sources.get(entry.get("source"))
        told_apart_by = source.get("key") if isinstance(source, Mapping) else None
        others = key.get("source") not in (None, entry.get("source"))
        if told_apart_by and (others or key.get("column") not in (None, told_apart_by)):
            yield (
                f"{where}: its key `{entry['key']}` must be read from `{told_apart_by}`, by which "
                "persons are told apart"
            )

    def _of_field(self, where: str, entry: Entry, block: Entry) -> Iterator[str]:
        name = entry.get("source") or block.get("source")
        source = self._sources.get(name)
        if source is None:
            yield no_such("source", name, self._sources, where)
        elif isinstance(source, Mapping):
            named = [entry[k] for k in ("column", "also", "not_before") if entry.get(k)]
            yield from self._of_columns(where, source.get("table"), named)
            yield from _of_passing_key(where, source, named)
        for key in ("expected_with", "expected_without"):
            # an overlay may have taken the other field out; a name near to another one is a slip
            other, known = entry.get(key), block["fields"]
            if other and other not in known and nearest(other, known):
                yield no_such("field", other, known, f"{where}, {key}")
        yield from _of_rules(where, entry)
        yield from self._of_codes(where, entry)
        yield from _of_limits(where, entry)
        yield from _of_default(where, entry)

    def _of_codes(self, where: str, entry: Entry) -> Iterator[str]:
        code_map = entry.get("code_map", {})
        if "codes" not in entry:
            if code_map:
                yield f"{where}: `code_map` is for fields with `codes`"
            return
        lists = self._text["code_lists"]
        if entry["codes"] not in lists:
            yield no_such("code list", entry["codes"], lists, where)
        if entry["codes"] not in dict(self._sound("code_lists")):
            return
        listed = [str(code) for code in lists[entry["codes"]]["codes"]]
        known, longest = {*listed}, max(listed, key=len, default="")
        if len(longest) > entry.get("max_length", len(longest)):
            yield f"{where}: `{longest}` of its list is longer than `max_length`"
        for local, code in code_map.items():
            if code != "" and str(code) not in known:
                yield f"{where}: code_map sends `{local}` to `{code}`, which is not in the list"
        yield from _read_as_one(f"{where}, code_map", code_map.items())
        default = entry.get("default", [])
        named = [*(default if isinstance(default, list) else [default]), *entry.get("alone", ())]
        for code in [code for code in named if str(code) not in known]:
            yield f"{where}: `{code}` (default or alone) is not in the list"


def _circular(entry: Any, others: Entry, link: str) -> bool:
    """Whether following ``link`` from entry to entry never ends."""
    for _ in range(len(others) + 1):
        following = entry.get(link) if isinstance(entry, Mapping) else None
        if not isinstance(following, str):
            return False
        entry = others.get(following, {})
    return True


def _of_passing_key(where: str, source: Entry, columns: Iterable[Any]) -> Iterator[str]:
    """What hangs on the key of a source though each load makes it anew."""
    if not source.get("lasting_key", True) and (key := source.get("key")) in columns:
        why = "each load makes it anew (`lasting_key: false`)"
        yield f"{where}: `{key}` is not to be used, as {why}"


def _read_as_one(where: str, words: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    """Words of a source that are one, as case and blanks do not count, and mean different codes."""
    known: dict[str, tuple[Any, Any]] = {}
    for word, code in words:
        before, meant = known.setdefault(plain_word(word), (word, code))
        if str(meant) != str(code):
            meanings = f"`{meant}` and `{code}`"
            yield f"{where}: `{before}` and `{word}` are read as one, and mean {meanings}"


def _of_code_list(where: str, entry: Entry) -> Iterator[str]:
    known, aliases = {str(code) for code in entry["codes"]}, entry.get("aliases", {})
    for alias, code in aliases.items():
        if str(code) not in known:
            yield f"{where}: alias `{alias}` is for `{code}`, which is not in the list"
    codes = [(code, code) for code in entry["codes"]]
    yield from _read_as_one(where, [*codes, *aliases.items()])
    for code in sorted(known.intersection(map(str, entry.get("retired", ())))):
        yield f"{where}: `{code}` is both in the list and retired"


def _of_rules(where: str, entry: Entry) -> Iterator[str]:
    """Faults in what the transform and the anonymising rule need of the field."""
    transform, rule = TRANSFORMS[entry["transform"]], ANONYMISING_RULES[entry["anonymise"]]
    makes = transform.makes
    if entry.get("type", makes) != makes:
        yield f"{where}: transform `{transform.name}` makes type {makes}, not {entry['type']}"
    if rule.type not in (None, makes):
        yield f"{where}: anonymise rule `{rule.name}` is not for type {makes}"
    if transform.needs and not any(entry.get(key) for key in transform.needs):
        needed = " or ".join(f"`{key}`" for key in transform.needs)
        yield f"{where}: its transform needs {needed}"
    yield from _of_keys_passed_over(where, entry)
    expected = {"boolean": bool, "integer": int, "codes": list}.get(makes, str)
    default = entry.get("default")
    if default is not None and (
        not isinstance(default, expected) or (expected is int and isinstance(default, bool))
    ):
        yield f"{where}: `default` must be a {makes}"
    if entry.get("default_if_unusable") and default is None:
        yield f"{where}: `default_if_unusable` is for fields with a `default`"


def _of_keys_passed_over(where: str, entry: Entry) -> Iterator[str]:
    """Faults of keys that other transforms read, and this field's does not: nothing would come."""
    transform = TRANSFORMS[entry["transform"]]
    readers: dict[str, list[str]] = {}
    for rule in TRANSFORMS.rules():
        for key in rule.takes:
            readers.setdefault(key, []).append(f"`{rule.name}`")
    for key, names in readers.items():
        if entry.get(key) is not None and key not in transform.takes:
            yield (
                f"{where}: transform `{transform.name}` does not read `{key}`, which is for "
                f"{' or '.join(names)}"
            )


def _of_limits(where: str, entry: Entry) -> Iterator[str]:
    low, high = entry.get("minimum"), entry.get("maximum")
    if low is not None and high is not None and low > high:
        yield f"{where}: `minimum` is greater than `maximum`"
    if "pattern" in entry:
        try:
            whole_match(entry["pattern"])
        except ValueError:
            yield f"{where}: {_NO_LINEAR_TIME}"


def _of_default(where: str, entry: Entry) -> Iterator[str]:
    """Faults of a default that the field itself would not take: it is sent as it stands."""
    default, makes = entry.get("default"), TRANSFORMS[entry["transform"]].makes
    if isinstance(default, str) and makes == "date" and not _is_day(default):
        yield f"{where}: `default` must be a day such as 2024-05-31"
    if isinstance(default, str) and makes == "string" and "codes" not in entry:
        if not default.strip():
            yield f"{where}: `default` is blank"
        if len(default) > entry.get("max_length", len(default)):
            yield f"{where}: `default` is longer than `max_length`"
        with contextlib.suppress(ValueError):  # a pattern that cannot be used is told above
            if "pattern" in entry and not whole_match(entry["pattern"])(default):
                yield f"{where}: `default` does not match `pattern`"
    if isinstance(default, int) and makes == "integer":
        low, high = entry.get("minimum", default), entry.get("maximum", default)
        if not low <= default <= high:
            yield f"{where}: `default` is out of the range of `minimum` and `maximum`"
    if isinstance(default, list) and len(default) > entry.get("max_items", len(default)):
        yield f"{where}: `default` has more codes than `max_items`"


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
