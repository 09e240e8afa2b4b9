"""How the code columns of the source are written: each value, how often, and what it is read as.

Whole columns are looked at, also rows of persons who are not in the cohort: a `code_map` is
written for a column. A value may be anything, a name too, so it is for a person's eyes only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Engine

from d2i_helpers import database
from d2i_helpers.document.codes import (
    MALFORMED,
    MatchCode,
    Matched,
    code_matcher,
    read_json_codes,
    split_codes,
)
from d2i_helpers.document.transforms import UPN_AS_REASON, usable_upn
from d2i_helpers.extract.whole_columns import name_here, texts
from d2i_helpers.payload_spec import Field, Spec


@dataclass(frozen=True)
class CodeUse:
    """One value of a code column."""

    field: Field
    table: str
    value: str  # as it is stored, without outer blanks
    rows: int  # how often it occurs
    code: str | None  # what it is read as
    problem: str | None  # the rule that it breaks


def code_uses(engine: Engine, spec: Spec) -> list[CodeUse]:
    """Every value of every column with codes, the most frequent of each column first.

    A table or a column that is not there holds no value.
    """
    uses: list[CodeUse] = []
    with database.reading(engine) as connection:
        for _, field in spec.fields():
            table = spec.sources[field.source].table
            name = name_here(connection, spec, table, field.column) if field.codes else None
            if name:
                column = texts(connection, engine, table, [name])
                stored = Counter(value for (value,) in column if value is not None)
                uses += _of_column(field, spec, table, stored)
    return uses


def _of_column(field: Field, spec: Spec, table: str, stored: Counter[str]) -> Iterator[CodeUse]:
    assert field.codes is not None
    match = code_matcher(field.codes, field.options.get("code_map"), spec.placeholders)
    rows: Counter[Written] = Counter()
    for text, count in stored.items():
        for each in _read(field, spec, match, text):
            rows[each] += count
    by_frequency = sorted(rows.items(), key=lambda pair: (-pair[1], pair[0].value))
    for (value, code, problem), count in by_frequency:
        if problem and usable_upn(value):
            problem = UPN_AS_REASON
        yield CodeUse(field, table, value, count, code, problem)


class Written(NamedTuple):
    """A code as it is written, what it is read as, and the rule that it breaks."""

    value: str
    code: str | None
    problem: str | None


def _read(field: Field, spec: Spec, match: MatchCode, text: str) -> list[Written]:
    """The codes that stand in a stored text."""
    met: list[Written] = []

    def noting(value: Any) -> Matched:
        matched = match(value)
        met.append(Written(str(value).strip(), *matched))
        return matched

    if field.transform == "code_json":
        _, problem = read_json_codes(text, noting, spec.booleans)
        if problem == MALFORMED:
            return [Written(text, None, MALFORMED)]
    elif field.transform == "code_set":
        split_codes(text, noting)
    else:
        noting(text)
    if len(met) > 1 and met[0].value == text:
        parts = met[1:]  # the whole was tried first; where its parts are codes, it is a list
        return met[:1] if any(part.problem for part in parts) else parts
    return met
