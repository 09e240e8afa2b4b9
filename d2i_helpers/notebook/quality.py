"""Data quality for the weekly meeting: which field is worst, whose it is, and whom to look at.

`look` takes one look at the source, as extract would; the other functions make tables of it. Tables
hold ids, values and names of teams. `widget_table` shows them to a person at the keyboard only, and
what a notebook keeps of them is masked.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Engine

from d2i_helpers.document.assembly import LEFT_OUT, SAYS_NOTHING
from d2i_helpers.document.codes import NOT_IN_LIST
from d2i_helpers.document.driver_values import PLACEHOLDER
from d2i_helpers.errors import SettingsError
from d2i_helpers.extract import findings, teams
from d2i_helpers.extract.code_use import CodeUse, code_uses
from d2i_helpers.extract.findings import Findings, Progress
from d2i_helpers.payload_spec import Field, Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, attention

if TYPE_CHECKING:
    import pandas as pd

MISSING = "missing"
NO_TEAM = "no team"
_MISSING_WORD = f"{MISSING} ({PLACEHOLDER})"
_SURE = 1.96  # standard deviations: 95 per cent


@dataclass
class Quality:
    """One look at the data quality of a cohort."""

    engine: Engine
    settings: Settings
    spec: Spec
    found: Findings
    teams: dict[str, str]  # by the child's id
    reasons: list[attention.Reason] = field(default_factory=list)  # who needs attention, and why

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """The fields of the specification by path."""
        return {each.path: each for _, each in self.spec.fields()}

    @functools.cached_property
    def gaps(self) -> set[str]:
        """Paths of the fields that this system is known to leave empty."""
        return {f.path for b, f in self.spec.fields() if self.spec.known_gap(b, f)}

    @functools.cached_property
    def team_of(self) -> np.ndarray[Any, Any]:
        """The team of each child of the cohort."""
        return np.array([self.teams.get(one, NO_TEAM) for one in self.found.people], dtype=object)

    @functools.cached_property
    def code_uses(self) -> list[CodeUse]:
        """Every value of every code column."""
        return code_uses(self.engine, self.spec)

    @functools.cached_property
    def wrong(self) -> list[tuple[str, str, str]]:
        """(child, path, what is wrong) of everything, each once."""
        return _everything_wrong(self)

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return {f.path: f"{block.name}.{f.name}" for block, f in self.spec.fields()} | {
            block.path: block.name for block in self.spec.blocks.values()
        }

    def name(self, path: str) -> str:
        """A field as overlays name it: block.field; any other path as it is."""
        return self._names.get(path, path)

    def place(self, path: str) -> str:
        """Table and column of the source that a field is read from; a path that is one already."""
        if (known := self.fields.get(path)) is not None:
            return f"{self.spec.sources[known.source].table}.{known.column}"
        for block in self.spec.blocks.values():
            if block.path == path and block.source:
                return self.spec.sources[block.source].table
        return path


def look(
    engine: Engine, settings: Settings, spec: Spec, *, progress: Progress | None = None
) -> Quality:
    """Look at every child of the cohort; nothing is written.

    Args:
        progress: called with (persons looked at, all).

    Raises:
        DatabaseError: required tables or columns of the SSD are missing.
    """
    found = findings.find(engine, settings, spec, progress=progress)
    reasons = attention.everything(Staging(engine, settings.staging_table), spec)
    return Quality(engine, settings, spec, found, teams.teams_of(engine, spec), reasons)


# ---------------------------------------------------------------------------------------- fields
def fields(quality: Quality) -> pd.DataFrame:
    """A row a field, the worst first: what was expected, missing, unusable, and whose it is.

    The worst is the one whose share of bad values is surely the greatest (the lower end of Wilson's
    interval), so that one of one does not come before 76 of 427. Fields that this system is known
    to leave empty come last.

    Returns:
        Columns ``field``, ``per cent good``, ``missing``, ``unusable``, ``expected``,
        ``worst team``, ``its values`` (bad ones), ``source``, ``known gap``.
    """
    import pandas as pd

    rows = []
    for path, fault in quality.found.faults.items():
        bad = fault.missing + fault.wrong
        expected, total = int(fault.expected.sum()), int(bad.sum())
        team, most = _worst_team(quality, bad)
        rows.append(
            {
                "field": quality.name(path),
                "per cent good": round(100 * (1 - total / expected), 1) if expected else None,
                "missing": int(fault.missing.sum()),
                "unusable": int(fault.wrong.sum()),
                "expected": expected,
                "worst team": team,
                "its values": most,
                "source": quality.place(path),
                "known gap": True if path in quality.gaps else None,
                "sure": 0.0 if path in quality.gaps else surely_bad(total, expected),
            }
        )
    table = pd.DataFrame(rows).sort_values("sure", ascending=False, kind="stable")
    return table.drop(columns="sure").reset_index(drop=True)


def surely_bad(bad: int, total: int) -> float:
    """The lower end of Wilson's 95 % interval of a share; 0 where there is nothing."""
    if not bad:
        return 0.0
    share, squared = bad / total, _SURE**2
    middle = share + squared / (2 * total)
    half = _SURE * ((share * (1 - share) + squared / (4 * total)) / total) ** 0.5
    return (middle - half) / (1 + squared / total)


def _worst_team(quality: Quality, bad: np.ndarray[Any, Any]) -> tuple[str | None, int]:
    """The team with most bad values of a field, and how many."""
    counts: Counter[str] = Counter()
    at = np.flatnonzero(bad)
    for name, number in zip(quality.team_of[at], bad[at], strict=True):
        counts[name] += int(number)
    return min(counts.items(), key=lambda pair: (-pair[1], pair[0])) if counts else (None, 0)


def sentences(quality: Quality, *, name_teams: bool = False) -> list[str]:
    """What the tables say, in words; without an id.

    Args:
        name_teams: for a person's eyes only.
    """
    found, table = quality.found, fields(quality)
    with_problems = len({one for one, *_ in quality.wrong})
    said = [
        f"{with_problems:,} of {len(found.people):,} children have something missing or wrong, "
        f"in {int((table['missing'] + table['unusable'] > 0).sum())} of {len(table)} fields."
    ]
    worst = [
        row
        for row in table.to_dict("records")
        if row["known gap"] is None and row["missing"] + row["unusable"]
    ]
    for number, row in enumerate(worst[:3]):
        whose = f"{row['worst team']}, the team with most," if name_teams else "the team with most"
        said.append(
            f"{'Then' if number else 'Worst'}: {row['field']} ({row['source']}): "
            f"{row['missing'] + row['unusable']:,} of {row['expected']:,} are missing or cannot be "
            f"used; {whose} has {row['its values']:,}."
        )
    return said


# ----------------------------------------------------------------------------------------- teams
def chosen_field(quality: Quality, path: str | None) -> str:
    """The field that is asked for, by its name, its last word or its path; without one the worst.

    Raises:
        SettingsError: there is no such field, or several are meant.
    """
    path = str(fields(quality)["field"].iloc[0]) if path is None else path
    fitting = [
        known
        for known in quality.fields
        if path in (known, quality.name(known), quality.fields[known].name)
    ]
    if len(fitting) != 1:
        number = "no field" if not fitting else f"{len(fitting)} fields"
        names = ", ".join(map(quality.name, fitting))
        meant = f"One of {names}." if fitting else "The table of fields has the names of all."
        raise SettingsError(f"`field` names {number}.", hint=meant)
    return fitting[0]


def by_team(quality: Quality, path: str | None = None) -> pd.DataFrame:
    """A row a team, the most bad values first.

    Args:
        path: of one field; None: all fields but those that this system is known to leave empty.

    Returns:
        Columns ``team``, ``children``, ``expected``, ``missing``, ``unusable``, ``per cent good``.
    """
    import pandas as pd

    wanted = [path] if path else [p for p in quality.found.faults if p not in quality.gaps]
    numbers = {"children": np.ones(len(quality.found.people), np.int64)}
    for name in ("expected", "missing", "wrong"):
        parts = [getattr(quality.found.faults[p], name) for p in wanted if quality.found.faults]
        numbers["unusable" if name == "wrong" else name] = sum(parts) if parts else []
    table = pd.DataFrame({"team": quality.team_of, **numbers})
    table = table.groupby("team", as_index=False).sum()
    table["bad"] = table["missing"] + table["unusable"]
    expected = table["expected"].where(table["expected"] > 0)
    table["per cent good"] = (100 - 100 * table["bad"] / expected).round(1)
    table = table.sort_values(["bad", "team"], ascending=[False, True])
    return table.drop(columns="bad").reset_index(drop=True)


# -------------------------------------------------------------------------------------- problems
def problems(quality: Quality) -> pd.DataFrame:
    """A row for each place and rule: how many children, and the team with most of them.

    Returns:
        Columns ``what is wrong``, ``source``, ``field``, ``children``, ``teams``, ``worst team``,
        ``its children``; the most children first.
    """
    table = children(quality)
    if table.empty:
        return table
    groups = table.groupby(["what is wrong", "source", "field"], as_index=False)
    by_place = groups.agg(
        children=("child", "nunique"),
        teams=("team", "nunique"),
        **{"worst team": ("team", _most_frequent), "its children": ("team", _highest_count)},
    )
    order = ["children", "what is wrong", "field"]
    return by_place.sort_values(order, ascending=[False, True, True]).reset_index(drop=True)


def _most_frequent(names: Any) -> str:
    counts = Counter(names)
    return min(counts, key=lambda name: (-counts[name], name))


def _highest_count(names: Any) -> int:
    return max(Counter(names).values())


# -------------------------------------------------------------------------------------- children
def children(quality: Quality, path: str | None = None) -> pd.DataFrame:
    """A row for each child and thing that is wrong, children with most of them first.

    Args:
        path: of one field; None: of all, but what is missing where this system is known to have
            nothing.

    Returns:
        Columns ``child``, ``team``, ``what is wrong``, ``field``, ``source``.
    """
    import pandas as pd

    rows = [row for row in quality.wrong if path in (None, row[1])]
    table = pd.DataFrame(rows, columns=["child", "field", "what is wrong"])
    table["team"] = [quality.teams.get(one, NO_TEAM) for one in table["child"]]
    paths = table["field"].unique()
    table["source"] = table["field"].map({path: quality.place(path) for path in paths})
    table["field"] = table["field"].map({path: quality.name(path) for path in paths})
    number = table.groupby("child")["child"].transform("size")
    table = table.assign(number=number).sort_values(
        ["number", "child", "field", "what is wrong"], ascending=[False, True, True, True]
    )
    names = ["child", "team", "what is wrong", "field", "source"]
    return table[names].reset_index(drop=True)


def _everything_wrong(quality: Quality) -> list[tuple[str, str, str]]:
    rows: dict[tuple[str, str, str], None] = {}
    empty: set[tuple[str, str]] = set()
    for path, fault in quality.found.faults.items():
        if path in quality.gaps:
            continue
        for at in np.flatnonzero(fault.missing).tolist():
            empty.add((quality.found.people[at], path))
    for problem in quality.found.problems:
        here = (problem.person_id, problem.path)
        if problem.rule == LEFT_OUT:
            continue  # the field that it lacks is reported itself
        if problem.rule in SAYS_NOTHING and here not in empty:
            continue  # it says that there is nothing, where nothing is expected
        rows[(*here, _said(problem.rule))] = None
        empty.discard(here)
    for person_id, path in sorted(empty):
        rows[person_id, path, MISSING] = None
    for reason in quality.reasons:
        if reason.what in (attention.NOT_VALID, attention.NOT_TAKEN, attention.UNKNOWN):
            where = reason.path or "the document"
            rows[reason.person_id or "", where, f"{reason.what}: {reason.rule}"] = None
    return list(rows)


def _said(rule: str) -> str:
    return _MISSING_WORD if rule == PLACEHOLDER else rule


def rule_of(wrong: str) -> str:
    """The rule behind what the tables call wrong."""
    return PLACEHOLDER if wrong == _MISSING_WORD else wrong


def offences(
    quality: Quality, person_id: str | None = None, *, progress: Progress | None = None
) -> list[findings.Offence]:
    """The stored values behind the problems of a child, or of all. For a person's eyes only."""
    chosen = [p for p in quality.found.problems if person_id in (None, p.person_id)]
    return list(
        findings.offences(quality.engine, quality.settings, quality.spec, chosen, progress=progress)
    )


# ----------------------------------------------------------------------------------------- codes
def codes(quality: Quality) -> pd.DataFrame:
    """What stands in code columns and is no code: each value, and how many rows have it.

    Returns:
        Columns ``value``, ``rows``, ``what is wrong``, ``field``, ``source``.
    """
    import pandas as pd

    rows = [
        (
            use.value,
            use.rows,
            use.problem,
            quality.name(use.field.path),
            quality.place(use.field.path),
        )
        for use in quality.code_uses
        if use.problem
    ]
    return pd.DataFrame(rows, columns=["value", "rows", "what is wrong", "field", "source"])


def code_lists(quality: Quality) -> pd.DataFrame:
    """For each code column how many values are read as a code, and how many as none.

    Returns:
        Columns ``field``, ``codes``, ``in use``, ``rows``, ``unknown values``, ``rows with one``.
    """
    import pandas as pd

    rows = []
    for path in dict.fromkeys(use.field.path for use in quality.code_uses):
        here = [use for use in quality.code_uses if use.field.path == path]
        unknown = [use for use in here if use.problem not in (None, PLACEHOLDER)]
        codes_of = here[0].field.codes
        rows.append(
            (
                quality.name(path),
                len(codes_of.codes) if codes_of else 0,
                len({use.code for use in here if use.code}),
                sum(use.rows for use in here),
                len(unknown),
                sum(use.rows for use in unknown),
            )
        )
    names = ["field", "codes", "in use", "rows", "unknown values", "rows with one"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("rows with one", ascending=False, kind="stable")


def code_map(quality: Quality) -> str:
    """The part of an overlay, as YAML, in which the unknown values can be given their codes.

    Each line is a comment until somebody has decided: a guess that is sent unseen would be worse
    than a value that is left out. So what is pasted as it is changes nothing.
    """
    lines = [
        "# Paste this into your overlay (`spec_overlay`). For each value that has a code,",
        '# write the code and take away the first #. An empty code ("") leaves the value out.',
        "blocks:",
    ]
    unknown = [use for use in quality.code_uses if use.problem == NOT_IN_LIST]
    for block in quality.spec.blocks.values():
        fields_here = [
            (each, values)
            for each in block.fields
            if (values := [use for use in unknown if use.field.path == each.path])
        ]
        if fields_here:
            lines += [f"  {block.name}:", "    fields:"]
        for each, values in fields_here:
            lines += [f"      {each.name}:", "        code_map:"]
            held = each.options.get("code_map") or {}
            lines += [f"          {_quoted(own)}: {_quoted(code)}" for own, code in held.items()]
            lines += [f"          # {_line(use)}" for use in values]
    return "\n".join(lines if unknown else ["# Every value is read as a code."]) + "\n"


def _quoted(text: Any) -> str:
    """A text as YAML: what is quoted in JSON is quoted in YAML."""
    return json.dumps(str(text), ensure_ascii=False)


def _line(use: CodeUse) -> str:
    codes_of = use.field.codes.codes if use.field.codes else {}
    meanings = {meaning.lower(): code for code, meaning in codes_of.items()}
    near = difflib.get_close_matches(use.value.lower(), meanings, n=1, cutoff=0.5)
    guess = f"; perhaps {meanings[near[0]]}, {near[0]}" if near else ""
    code = meanings[near[0]] if near else ""
    rows = f"{use.rows:,} row{'s' if use.rows > 1 else ''}"
    return f"{_quoted(use.value)}: {_quoted(code)}  # {rows}{guess}"
