"""What is wrong with a specification text: every fault, named so that an analyst can mend it.

`faults` takes the merged text of payload_spec.yaml and its overlays and never raises, whatever the
text holds. It knows the shape of the file and the declared SSD tables; what is built from a good
text is in `spec`.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from d2i_helpers.payload_spec.field_checks import (
    Columns,
    column_faults,
    field_faults,
    names_in,
    nearest,
    no_such,
    shape_faults,
)
from d2i_helpers.payload_spec.model import PURGE
from d2i_helpers.payload_spec.registry import ROW_RULES

# what each key holds
TOP_KEYS: dict[str, type] = {
    "version": object, "canonical_form": int, "volatile_ids": bool,
    **dict.fromkeys(("uasc_statuses", "placeholders"), list),
    **dict.fromkeys(("sources", "request", "blocks", "code_lists", "booleans", "extra_columns",
                     "renamed_columns", "known_gaps"), dict),
}  # fmt: skip
BLOCK_KEYS: dict[str, type] = {
    **dict.fromkeys(("path", "in", "kind", "key", "source", "meaning", "notes"), str),
    **dict.fromkeys(("purge", "always_sent", "person_fact"), bool),
    "order": list, "fields": dict,
}  # fmt: skip
SOURCE_KEYS: dict[str, type] = {
    **dict.fromkeys(("table", "person", "via", "via_column", "link", "care_period", "key", "pick",
                     "notes"), str),
    **dict.fromkeys(("where", "order", "columns"), list),
    "optional": bool,
}  # fmt: skip
CODE_LIST_KEYS: dict[str, type] = {"codes": dict, "aliases": dict, "retired": list, "notes": str}
KINDS = ("root", "object", "list", "values")
COLUMN_TYPES = ("text", "datetime", "integer", "float")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


@functools.cache
def declared_columns() -> Mapping[str, frozenset[str]]:
    """The columns of the declared SSD tables, by table."""
    text = resources.files("d2i_helpers").joinpath("ssd_tables.csv").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(row["table"], set()).add(row["column"])
    return {table: frozenset(columns) for table, columns in found.items()}


def faults(text: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a (merged) specification text, one sentence part each."""
    found = shape_faults(text, TOP_KEYS, "the specification")
    needed = ("version", "canonical_form", "sources", "blocks", "code_lists")
    found += [f"`{name}` is missing" for name in needed if name not in text]
    words = text.get("booleans", {})
    for word, listed in words.items() if isinstance(words, Mapping) else ():
        if not isinstance(word, bool) or not isinstance(listed, list):
            found.append("`booleans` must be a table of true and false with a list of words each")
    tables = ("sources", "blocks", "code_lists", "extra_columns", "renamed_columns", "known_gaps")
    if any(not isinstance(text.get(name, {}), Mapping) for name in tables) or any(
        name not in text for name in needed
    ):
        return found
    found += _extra_faults(text)
    columns = _columns(text)
    for name, entry in text["code_lists"].items():
        found += _code_list_faults(f"code list `{name}`", entry)
    for name, entry in text["sources"].items():
        found += _source_faults(f"source `{name}`", entry, text["sources"], columns)
    roots = [
        n for n, e in text["blocks"].items() if isinstance(e, Mapping) and e.get("kind") == "root"
    ]
    if len(roots) != 1:
        found.append(f"there must be one block of kind root, there are {len(roots)}")
    for name, entry in text["blocks"].items():
        found += _block_faults(name, entry, text, columns)
    found += _repeated(text)
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------------------ tables and columns
def _columns(text: Mapping[str, Any]) -> Columns:
    found = {table: set(columns) for table, columns in declared_columns().items()}
    for table, extra in (text.get("extra_columns") or {}).items():
        if isinstance(extra, Mapping):
            found.setdefault(str(table), set()).update(map(str, extra))
    return found


def _extra_faults(text: Mapping[str, Any]) -> Iterator[str]:
    for table, extra in (text.get("extra_columns") or {}).items():
        where = f"extra_columns of `{table}`"
        if not isinstance(extra, Mapping):
            yield f"{where} must be a table of column: type"
            continue
        for column, kind in extra.items():
            if kind not in COLUMN_TYPES:
                yield f"{where}: type of `{column}` must be one of {', '.join(COLUMN_TYPES)}"
    for table, renamed in (text.get("renamed_columns") or {}).items():
        where = f"renamed_columns of `{table}`"
        if not isinstance(renamed, Mapping):
            yield f"{where} must be a table of column: the name it has here"
            continue
        known = _columns(text).get(str(table), ())
        for column, here in renamed.items():
            if column not in known:
                yield from no_such("column", column, known, where)
            if not isinstance(here, str):
                yield f"{where}: the other name of `{column}` must be a name"
    paths = {*text["blocks"]} | {
        f"{block}.{name}"
        for block, entry in text["blocks"].items()
        if isinstance(entry, Mapping) and isinstance(entry.get("fields"), Mapping)
        for name in entry["fields"]
    }
    for path in text.get("known_gaps") or {}:
        if path not in paths:
            yield from no_such("block or field", path, paths, "known_gaps")


# ------------------------------------------------------------------------------------- code lists
def _code_list_faults(where: str, entry: Any) -> list[str]:
    found = shape_faults(entry, CODE_LIST_KEYS, where)
    if found:
        return found
    codes = entry.get("codes")
    if not codes:
        return [f"{where}: `codes` must be a table of code: meaning"]
    for code in [*codes, *entry.get("aliases", ()), *entry.get("retired", ())]:
        if not isinstance(code, str) and (isinstance(code, bool) or not isinstance(code, int)):
            found.append(f"{where}: put the code that YAML reads as `{code}` in quotes")
    known = {str(code) for code in codes}
    for alias, code in (entry.get("aliases") or {}).items():
        if str(code) not in known:
            found.append(f"{where}: alias `{alias}` is for `{code}`, which is not in the list")
    both = known.intersection(map(str, entry.get("retired") or ()))
    found += [f"{where}: `{code}` is both in the list and retired" for code in sorted(both)]
    return found


# ---------------------------------------------------------------------------------------- sources
def _source_faults(
    where: str, entry: Any, sources: Mapping[str, Any], columns: Columns
) -> list[str]:
    found = shape_faults(entry, SOURCE_KEYS, where)
    if found:
        return found
    found += [f"{where}: `{key}` is missing" for key in ("table", "key") if key not in entry]
    table = entry.get("table")
    if "table" in entry and table not in columns:
        found += no_such("SSD table", table, columns, where)
    if "person" not in entry and "via" not in entry:
        found.append(f"{where}: needs `person`, or `via` and `link`")
    own = [entry[k] for k in ("key", "person", "link", "care_period") if k in entry]
    if "via" in entry:
        parent = sources.get(entry["via"])
        if not isinstance(parent, Mapping):
            found += no_such("source", entry["via"], sources, f"{where}, via")
        elif "via_column" in entry:
            found += column_faults(where, parent.get("table"), [entry["via_column"]], columns)
        if "link" not in entry:
            found.append(f"{where}: `via` needs `link`")
        if _circular(entry, sources):
            found.append(f"{where}: its `via` leads back to itself")
    if entry.get("pick", "first") != "first":
        found.append(f"{where}: `pick` can only be `first`")
    for part in entry.get("order", ()):
        words = str(part).split()
        own += [word.lstrip("-") for word in words if word not in {"open", "first"}]
        if not own or not words or words[-1] in {"open", "first"}:
            found.append(f"{where}: `order` must be a list of columns")
    rules, named = _where_faults(where, entry.get("where", []), sources)
    found += rules
    named += names_in(entry.get("columns"))
    return found + list(column_faults(where, table, [*own, *named], columns))


def _circular(entry: Mapping[str, Any], others: Mapping[str, Any], link: str = "via") -> bool:
    """Whether following ``link`` from entry to entry never ends."""
    for _ in range(len(others) + 1):
        following = entry.get(link) if isinstance(entry, Mapping) else None
        if not isinstance(following, str):
            return False
        entry = others.get(following, {})
    return True


def _where_faults(
    where: str, rules: Any, sources: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """(faults, columns needed) of the rules of a source."""
    if not all(isinstance(rule, Mapping) for rule in rules):
        return [f"{where}: `where` must be a list of rules"], []
    found: list[str] = []
    named: list[str] = []
    for kind, argument in (pair for rule in rules for pair in rule.items()):
        if kind == "rule":
            called = ROW_RULES.get(argument)
            if called is None or called.takes:
                found += no_such("rule", argument, _names_of_rules(called=True), where)
                continue
            named += called.columns
            found += [
                f"{where}: `{called.name}` looks into source `{other}`, which is not there"
                for other in called.looks_into
                if not isinstance(sources.get(other), Mapping)
            ]
            continue
        rule = ROW_RULES.get(kind)
        if rule is None or not rule.takes:
            found += no_such("rule kind", kind, [*_names_of_rules(called=False), "rule"], where)
        elif not rule.accepts(argument):
            found.append(f"{where}: `{kind}` needs {rule.takes}")
        else:
            named += map(str, argument)
    return found, named


def _names_of_rules(*, called: bool) -> list[str]:
    """The row rules that `rule: name` calls, or those that take columns."""
    return [rule.name for rule in ROW_RULES.rules() if bool(rule.takes) is not called]


# ----------------------------------------------------------------------------- blocks and fields
def _block_faults(name: Any, entry: Any, text: Mapping[str, Any], columns: Columns) -> list[str]:
    where = f"block `{name}`"
    found = shape_faults(entry, BLOCK_KEYS, where)
    if found:
        return found
    missing = [k for k in ("path", "kind", "fields") if k not in entry]
    if missing:
        meant = nearest(name, (n for n in text["blocks"] if n != name))
        return [f"{where}{meant}: `{k}` is missing" for k in missing]
    if entry["kind"] not in KINDS:
        found.append(f"{where}: kind must be one of {', '.join(KINDS)}")
    if entry["kind"] in {"root", "list"}:
        key = entry["fields"].get(entry.get("key"))
        if not isinstance(key, Mapping):
            found.append(f"{where}: its `key` must be one of its fields")
        elif not key.get("mandatory"):
            found.append(f"{where}: its key `{entry['key']}` must be `mandatory: true`")
    if entry["kind"] != "root" and entry.get("in") not in text["blocks"]:
        found += no_such("block", entry.get("in"), text["blocks"], f"{where}, in")
    elif entry["kind"] != "root" and _circular(entry, text["blocks"], "in"):
        found.append(f"{where}: its `in` leads back to itself")
    if entry.get("source") and entry["source"] not in text["sources"]:
        found += no_such("source", entry["source"], text["sources"], where)
    for part in entry.get("order", ()):
        if str(part).lstrip("-") not in entry["fields"]:
            found.append(f"{where}: `order` names `{part}`, which is not one of its fields")
    for field_name, one in entry["fields"].items():
        if not isinstance(field_name, str) or not _NAME.fullmatch(field_name):
            found.append(f"{where}: field name `{field_name}` must be small letters, figures and _")
        if field_name == PURGE or _is_inside(field_name, name, text["blocks"]):
            found.append(f"{where}: the name `{field_name}` is taken, it cannot be a field's")
        found += field_faults(f"field `{name}.{field_name}`", one, entry, text, columns)
    return found


def _is_inside(child: Any, parent: Any, blocks: Mapping[str, Any]) -> bool:
    entry = blocks.get(child)
    return isinstance(entry, Mapping) and entry.get("in") == parent


def _repeated(text: Mapping[str, Any]) -> Iterator[str]:
    """Numbers of the DfE's list that two fields claim."""
    seen: dict[Any, str] = {}
    for block, entry in text["blocks"].items():
        fields = entry.get("fields") if isinstance(entry, Mapping) else None
        for name, one in fields.items() if isinstance(fields, Mapping) else ():
            item = one.get("item") if isinstance(one, Mapping) else None
            if item is None:
                continue
            where = f"`{block}.{name}`"
            if str(item) in seen:
                yield f"item {item} is claimed by {seen[str(item)]} and by {where}"
            seen.setdefault(str(item), where)
