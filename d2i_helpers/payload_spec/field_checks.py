"""What is wrong with one field of a specification text, and the words that all checks share."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from d2i_helpers.payload_spec.patterns import whole_match
from d2i_helpers.payload_spec.registry import ANONYMISING_RULES, TRANSFORMS

# what each key of a field holds
FIELD_KEYS: dict[str, type] = {
    **dict.fromkeys(
        ("meaning", "source", "column", "also", "transform", "type", "codes", "anonymise",
         "pattern", "not_before", "notes"), str),
    **dict.fromkeys(("max_items", "max_length", "minimum", "maximum"), int),
    **dict.fromkeys(("mandatory", "volatile", "optional", "default_if_unusable"), bool),
    **dict.fromkeys(("alone", "keys"), list),
    **dict.fromkeys(("sentences", "code_map"), dict),
    **dict.fromkeys(("item", "default"), object),
}  # fmt: skip
TYPES = ("string", "date", "boolean", "integer", "codes")
Columns = Mapping[str, Collection[str]]  # by table


# ----------------------------------------------------------------------------------------- words
def nearest(word: Any, known: Iterable[str]) -> str:
    """The words " (did you mean `x`?)" where a known word is near, else nothing."""
    near = difflib.get_close_matches(str(word), sorted(map(str, known)), n=1, cutoff=0.75)
    return f" (did you mean `{near[0]}`?)" if near else ""


_SHAPES = {
    str: "a name or text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table of names",
}


def shape_faults(entry: Any, allowed: Mapping[str, type], where: str) -> list[str]:
    """A fault for each key that is not allowed or holds something of another shape."""
    if not isinstance(entry, Mapping):
        return [f"{where} must be a table of names"]
    found = []
    for key, value in entry.items():
        expected = allowed.get(key) if isinstance(key, str) else None
        if expected is None:
            found.append(f"{where}: unknown key `{key}`{nearest(key, allowed)}")
        elif not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            found.append(f"{where}: `{key}` must be {_SHAPES.get(expected, 'given')}")
        elif isinstance(value, list) and not all(isinstance(n, str | int | dict) for n in value):
            found.append(f"{where}: `{key}` must be a list of names")
    return found


def no_such(what: str, name: Any, known: Iterable[str], where: str) -> list[str]:
    """The fault that a name is not known, with the nearest that is."""
    return [f"{where}: there is no {what} `{name}`{nearest(name, known)}"]


def names_in(value: Any) -> list[str]:
    """The names in a list; anything else in it is passed over."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def column_faults(where: str, table: Any, names: Iterable[Any], columns: Columns) -> Iterator[str]:
    """A fault for each column that neither the SSD nor `extra_columns` declares."""
    known = columns.get(table) if isinstance(table, str) else None
    for name in names:
        if known is not None and name not in known:
            yield (
                f"{where}: table `{table}` has no column `{name}`{nearest(name, known)}; "
                "one of your own goes into `extra_columns`"
            )


# ----------------------------------------------------------------------------------------- fields
def field_faults(
    where: str, entry: Any, block: Mapping[str, Any], text: Mapping[str, Any], columns: Columns
) -> list[str]:
    """Everything that is wrong with one field of a block."""
    found = shape_faults(entry, FIELD_KEYS, where)
    if found:
        return found
    missing = [k for k in ("column", "transform", "anonymise") if k not in entry]
    if missing:  # where two or more are, a name may have been mistyped that was to be changed
        others = [n for n, other in block["fields"].items() if other is not entry]
        meant = nearest(where.strip("`").rpartition(".")[2], others) if missing[1:] else ""
        found += [f"{where}{meant}: `{k}` is missing" for k in missing]
    name = entry.get("source") or block.get("source")
    source = text["sources"].get(name) if isinstance(name, str) else None
    if source is None:
        found += no_such("source", name, text["sources"], where)
    elif isinstance(source, Mapping):
        named = [entry[k] for k in ("column", "also", "not_before") if entry.get(k)]
        found += column_faults(where, source.get("table"), named, columns)
    kind = _type_faults(where, entry, found)
    found += _code_faults(where, entry, text)
    found += _limit_faults(where, entry, kind)
    return found


def _type_faults(where: str, entry: Mapping[str, Any], found: list[str]) -> str | None:
    """Adds to ``found`` what is wrong with transform, type and anonymise; gives the type."""
    transform = TRANSFORMS.get(entry.get("transform"))
    kind = transform.makes if transform else None
    if "transform" in entry and transform is None:
        found += no_such("transform", entry["transform"], TRANSFORMS, where)
    if entry.get("type", "string") not in TYPES:
        found.append(f"{where}: type must be one of {', '.join(TYPES)}")
    elif kind and entry.get("type", kind) != kind:
        named = entry["transform"]
        found.append(f"{where}: transform `{named}` makes type {kind}, not {entry['type']}")
    rule = ANONYMISING_RULES.get(entry.get("anonymise"))
    if "anonymise" in entry and rule is None:
        found += no_such("anonymise rule", entry["anonymise"], ANONYMISING_RULES, where)
    elif kind and rule and rule.type not in (None, kind):
        found.append(f"{where}: anonymise rule `{rule.name}` is not for type {kind}")
    return kind


def _code_faults(where: str, entry: Mapping[str, Any], text: Mapping[str, Any]) -> Iterator[str]:
    transform = TRANSFORMS.get(entry.get("transform"))
    if transform and transform.needs and not any(entry.get(key) for key in transform.needs):
        needed = " or ".join(f"`{key}`" for key in transform.needs)
        yield f"{where}: its transform needs {needed}"
    code_map = entry.get("code_map")
    if "codes" not in entry:
        if code_map:
            yield f"{where}: `code_map` is for fields with `codes`"
        return
    lists = text["code_lists"]
    if entry["codes"] not in lists:
        yield from no_such("code list", entry["codes"], lists, where)
        return
    codes = lists[entry["codes"]]
    held = codes.get("codes") if isinstance(codes, Mapping) else None
    known = {str(code) for code in held} if isinstance(held, Mapping) else set()
    for local, code in (code_map or {}).items():
        if code not in ("", None) and str(code) not in known:
            yield f"{where}: code_map sends `{local}` to `{code}`, which is not in the list"
    named = entry.get("default")
    for code in [*(named if isinstance(named, list) else [named]), *(entry.get("alone") or ())]:
        if code is not None and str(code) not in known:
            yield f"{where}: `{code}` (default or alone) is not in the list"


def _limit_faults(where: str, entry: Mapping[str, Any], kind: str | None) -> Iterator[str]:
    for limit in ("max_length", "max_items", "minimum", "maximum"):
        value = entry.get(limit)
        if value is not None and limit.startswith("max_") and value < 1:
            yield f"{where}: `{limit}` must be at least 1"
    low, high = entry.get("minimum"), entry.get("maximum")
    if low is not None and high is not None and low > high:
        yield f"{where}: `minimum` is greater than `maximum`"
    if entry.get("pattern") is not None:
        try:
            whole_match(entry["pattern"])
        except ValueError:
            yield (
                f"{where}: `pattern` is not a regular expression that can be matched in linear "
                "time: without look-around such as (?=…) or (?<!…), references back such as \\1, "
                "and repeats of large repeats; `max_length` limits the length"
            )
    default = entry.get("default")
    if entry.get("default_if_unusable") and default is None:
        yield f"{where}: `default_if_unusable` is for fields with a `default`"
    expected = {"boolean": bool, "integer": int, "codes": list}.get(kind or "", str)
    if default is not None and (
        not isinstance(default, expected) or (expected is int and isinstance(default, bool))
    ):
        yield f"{where}: `default` must be a {kind or 'text'}"
