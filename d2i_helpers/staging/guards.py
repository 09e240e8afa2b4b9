"""Guards: a day that looks wrong stops before a single staging row is written.

SSD tables are rebuilt every night. A rebuild that fails half-way leaves them empty or half full,
and a bad release changes every document; without a guard either would be sent faithfully. One table
of nineteen that is empty hardly shows in a total, so tables and blocks are judged each for itself.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from d2i_helpers.errors import GuardError
from d2i_helpers.payload_spec import Block, Spec
from d2i_helpers.plain_english import counted
from d2i_helpers.settings import Settings

MADE_ANEW = "fictional_source_made_anew"  # fact of a staging table: other children than it holds
ENOUGH_VALUES = 20  # of a column, before it is judged
THE_GREATER_PART = 0.5  # of a column's values: so many unusable ones are worth a notice
FEW = 3  # that many rows of a table, or items of a block, may go without a question


@dataclass(frozen=True)
class RowCount:
    """How many rows a source table held when extract last completed, and how many it holds now."""

    before: int
    today: int


@dataclass(frozen=True)
class ValueCount:
    """How many values a source column held in so many rows, before and now."""

    rows_before: int
    before: int
    rows: int
    values: int

    @property
    def expected(self) -> float:
        """Values that today's rows would hold if the column were as full as before.

        Rows that are gone are judged as rows; more rows need not hold more values.
        """
        share = self.rows / self.rows_before if self.rows_before else 0
        return self.before * min(1, share)


@dataclass(frozen=True)
class ItemLoss:
    """How many items of a block the children who stay had, and how many of these are gone."""

    before: int
    gone: int
    tables: frozenset[str] = frozenset()  # source tables that the items are found by


@dataclass(frozen=True)
class ColumnUse:
    """How many values a source column holds, and how many of these cannot be used."""

    name: str  # table.column
    filled: int
    unusable: int
    rule: str  # that most of them break
    rows: int  # that were looked at

    def __str__(self) -> str:
        share = self.unusable / self.filled
        return (
            f"{self.unusable:,} of {self.filled:,} values of {self.name} cannot be used "
            f"({share:.0%}: {self.rule})"
        )


@dataclass(frozen=True)
class Figures:
    """What a day would do, counted before anything is written."""

    staged: int  # children staged and not deleted, before today
    gone: int = 0  # of these, no longer in the cohort
    changed: int = 0  # of these, with another document
    found: int = 0  # children that the source gave today
    persons: int = 0  # persons whom the source held when extract last completed, in or out
    items: Mapping[str, ItemLoss] = field(default_factory=dict)  # by block
    rows: Mapping[str, RowCount] = field(default_factory=dict)  # by source table
    values: Mapping[str, ValueCount] = field(default_factory=dict)  # by table.column
    columns: Sequence[ColumnUse] = ()
    window_before: dt.date | None = None  # start of the window when documents were last made
    window_today: dt.date | None = None
    made_anew: bool = False  # the source is a fictional one, made anew since the last run


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong."""

    said: str  # with its figures
    parameter: str  # what allows it for one run,
    value: float | str  # set to this: a share, or the name of a table

    def __str__(self) -> str:
        return self.said


def of_all(parts: Sequence[Figures]) -> Figures:
    """The figures of several shards as those of one process.

    Children, items and values are added up; what each of them counted of the whole source is the
    same in all, or the lower number where the source changed in between.
    """
    first = parts[0]
    items: dict[str, ItemLoss] = {}
    rows: dict[str, RowCount] = {}
    values: dict[str, ValueCount] = {}
    columns: dict[str, ColumnUse] = {}
    for part in parts:
        for name, loss in part.items.items():
            known = items.get(name, ItemLoss(0, 0))
            items[name] = ItemLoss(
                known.before + loss.before, known.gone + loss.gone, known.tables | loss.tables
            )
        for name, count in part.rows.items():
            one = rows.get(name, count)
            rows[name] = RowCount(max(one.before, count.before), min(one.today, count.today))
        for name, held in part.values.items():
            old = values.get(name, ValueCount(0, 0, 0, 0))
            values[name] = ValueCount(
                held.rows_before, held.before, old.rows + held.rows, old.values + held.values
            )
        for use in part.columns:
            sofar = columns.get(use.name, replace(use, filled=0, unusable=0, rows=0))
            columns[use.name] = replace(
                sofar,
                filled=sofar.filled + use.filled,
                unusable=sofar.unusable + use.unusable,
                rows=sofar.rows + use.rows,
            )
    return replace(
        first,
        staged=sum(part.staged for part in parts),
        gone=sum(part.gone for part in parts),
        changed=sum(part.changed for part in parts),
        found=sum(part.found for part in parts),
        persons=max(part.persons for part in parts),
        items=items,
        rows=rows,
        values=values,
        columns=tuple(columns.values()),
        window_before=min(
            (part.window_before for part in parts if part.window_before), default=None
        ),
        made_anew=any(part.made_anew for part in parts),
    )


def item_losses(
    spec: Spec, before: Mapping[str, int], gone: Mapping[str, int]
) -> dict[str, ItemLoss]:
    """The figures of each block from counts by the block's name (see `delta.removed_items`)."""
    tables = _tables_of_blocks(spec, spec.root, frozenset())
    return {
        name: ItemLoss(count, gone.get(name, 0), tables.get(name, frozenset()))
        for name, count in before.items()
    }


def _tables_of_blocks(spec: Spec, block: Block, above: frozenset[str]) -> dict[str, frozenset[str]]:
    """The tables by whose rows the items of each block inside this one are found.

    The person's own table is none of them: children who are gone are counted as such.
    """
    person = spec.sources[spec.root.source or ""].table
    tables_by_block: dict[str, frozenset[str]] = {}
    for inner in (*block.values, *block.blocks):
        tables, source = set(above), spec.sources.get(inner.source or "")
        while source is not None:
            tables.add(source.table)
            source = spec.sources.get(source.via or "")
        inside = _tables_of_blocks(spec, inner, frozenset(tables - {person}))
        if not tables - {person} and not inner.always_sent:
            # made of nothing but what is in it
            tables = {table for names in inside.values() for table in names}
        tables_by_block[inner.name] = frozenset(tables - {person})
        tables_by_block |= inside
    return tables_by_block


# ---------------------------------------------------------------------------------------- judging
def findings(figures: Figures, settings: Settings) -> list[Finding]:
    """What looks wrong about this day.

    Where there are few children (fewer than `guard_min_children`), no share is judged, only a
    source that gives nobody and a table that has become empty.
    """
    enough = settings.guard_min_children
    shares = max(figures.staged, figures.persons) >= enough
    wrong = row_findings(figures.rows, settings, shares=shares)
    tables = {finding.value for finding in wrong}  # whose values are gone with their rows
    values = {n: v for n, v in figures.values.items() if n.rpartition(".")[0] not in tables}
    wrong += value_findings(values, settings, shares=shares)
    wrong += column_findings(figures.columns, settings)
    named = {finding.value for finding in wrong}
    empty = figures.staged > 0 and figures.found == 0 and figures.gone == figures.staged
    if figures.staged >= enough or empty:
        wrong += _child_findings(figures, settings)
    return wrong + (_item_findings(figures, settings, named) if shares else [])


def row_findings(
    rows: Mapping[str, RowCount], settings: Settings, *, shares: bool = True
) -> list[Finding]:
    """The source tables that have lost too many rows.

    A table that held more than a few rows and is empty is always one, whatever the share.

    Args:
        rows: by the table's name.
        shares: also judge how many rows of a table are gone where some are left.
    """
    wrong: list[Finding] = []
    for name, count in rows.items():
        lost = count.before - count.today
        if lost <= FEW or name in settings.allow_fewer_rows:
            continue
        if count.today == 0:
            said = f"{name} is empty and held {count.before:,} rows after the last completed run"
        elif shares and lost / count.before > settings.max_lost_rows_share:
            said = (
                f"{name} holds {counted(count.today, 'row')} and held {count.before:,} after the "
                f"last completed run ({lost / count.before:.0%} fewer; `max_lost_rows_share` "
                f"allows {settings.max_lost_rows_share:.0%})"
            )
        else:
            continue
        wrong.append(Finding(said, "allow_fewer_rows", name))
    return wrong


def value_findings(
    values: Mapping[str, ValueCount], settings: Settings, *, shares: bool
) -> list[Finding]:
    """The source columns that have lost too many values in rows that are still there.

    Such a release loses no row and no item, and the receiver would be told to clear the field. A
    column that held more than a few values and is empty is always one, whatever the share.

    Args:
        values: by table and column.
        shares: also judge how many values are gone where some are left.
    """
    wrong: list[Finding] = []
    for name, count in values.items():
        lost = count.expected - count.values
        allowed = {name, name.rpartition(".")[0]} & set(settings.allow_fewer_rows)
        if lost <= FEW or allowed:
            continue
        if count.values == 0:
            said = (
                f"{name} is empty in all {count.rows:,} rows and held {count.before:,} values "
                "after the last completed run"
            )
        elif shares and lost / count.expected > settings.max_lost_rows_share:
            said = (
                f"{name} holds {counted(count.values, 'value')} in {counted(count.rows, 'row')} "
                f"and held {count.before:,} in {count.rows_before:,} after the last completed run "
                f"({lost / count.expected:.0%} fewer; `max_lost_rows_share` allows "
                f"{settings.max_lost_rows_share:.0%})"
            )
        else:
            continue
        wrong.append(Finding(said, "allow_fewer_rows", name))
    return wrong


def column_findings(columns: Iterable[ColumnUse], settings: Settings) -> list[Finding]:
    """The columns of which too many values cannot be used, on a first load as well."""
    limit = settings.max_unusable_share
    return [
        Finding(
            f"{column}; `max_unusable_share` allows {limit:.0%}",
            "max_unusable_share",
            _rounded_up(column.unusable, column.filled),
        )
        for column in columns
        if column.filled >= ENOUGH_VALUES and column.unusable / column.filled > limit
    ]


def column_notices(columns: Iterable[ColumnUse]) -> list[str]:
    """Notices about columns that are mostly unusable, where a parameter allows that."""
    return [
        str(column)
        for column in columns
        if column.filled >= ENOUGH_VALUES and column.unusable / column.filled > THE_GREATER_PART
    ]


def _child_findings(figures: Figures, settings: Settings) -> list[Finding]:
    shares = [
        ("children would be marked deleted", figures.gone, "max_deleted_share"),
        ("children would change", figures.changed, "max_changed_share"),
    ]
    return [
        _over(what, count, figures.staged, parameter, getattr(settings, parameter))
        for what, count, parameter in shares
        if figures.staged and count / figures.staged > getattr(settings, parameter)
    ]


def _item_findings(figures: Figures, settings: Settings, named: set[float | str]) -> list[Finding]:
    """The blocks that would lose too many items, or all of them together.

    What is found by a table whose rows may go may go with them; where such a table is `named`
    already, its parameter allows both.
    """
    limit, allowed = settings.max_purged_items_share, set(settings.allow_fewer_rows)
    judged = {name: loss for name, loss in figures.items.items() if not allowed & loss.tables}
    over = {
        name: loss
        for name, loss in judged.items()
        if loss.gone > FEW and loss.gone / loss.before > limit
    }
    wrong: list[Finding] = []
    for name, loss in over.items():
        finding = _over(
            f"{name} would be purged from children who stay",
            loss.gone,
            loss.before,
            "max_purged_items_share",
            limit,
        )
        if tables := sorted(loss.tables.intersection(map(str, named))):
            finding = Finding(finding.said, "allow_fewer_rows", tables[0])
        wrong.append(finding)
    gone = sum(loss.gone for loss in judged.values())
    before = sum(loss.before for loss in judged.values())
    if not over and gone > FEW and gone / before > limit:
        what = "items would go from children who stay"
        wrong.append(_over(what, gone, before, "max_purged_items_share", limit))
    return wrong


def _over(what: str, count: int, of: int, parameter: str, limit: float) -> Finding:
    """A share that is over its limit. To allow it takes that share, rounded up to hundredths."""
    said = f"{count:,} of {of:,} {what} ({count / of:.0%}; `{parameter}` allows {limit:.0%})"
    return Finding(said, parameter, _rounded_up(count, of))


def _rounded_up(count: int, of: int) -> float:
    return -(-count * 100 // of) / 100


def window_moved(figures: Figures) -> str | None:
    """The sentence that names the yearly jump of the window, on the day that it happens."""
    before, today = figures.window_before, figures.window_today
    if before is None or today is None or before == today:
        return None
    expected = " This is the jump expected each 1 April." if today > before else ""
    return f"The window's start moved from {before} to {today}.{expected}"


def check(figures: Figures, settings: Settings) -> list[str]:
    """Stop a day that looks wrong.

    Returns:
        Notices for the notebook, such as that the window moved.

    Raises:
        GuardError: something is over its limit; names each, and the parameter that allows it once.
    """
    moved = window_moved(figures)
    wrong = findings(figures, settings)
    if not wrong:
        return [*([moved] if moved else []), *column_notices(figures.columns)]
    raise GuardError(
        f"Stopped before anything was written: {'; '.join(f.said for f in wrong)}. "
        f"{moved or _cause(figures, wrong)}",
        hint=how_to_allow(wrong) + (FRESH_START if figures.made_anew else ""),
    )


FRESH_START = (
    " For a fresh start instead, remove the database and the receiver's store together, and make "
    "the fictional data again."
)


UNUSABLE = (
    "Is it stored in another form, or are the codes your own? A `code_map` or another `column` in "
    "`spec_overlay` says so."
)


def _cause(figures: Figures, wrong: list[Finding]) -> str:
    if figures.made_anew:
        return (
            "The fictional SSD was made anew: the staging table still holds the children of the "
            "earlier one, whom the receiver would now be asked to erase."
        )
    if all(finding.parameter == "max_unusable_share" for finding in wrong):
        return UNUSABLE
    if figures.staged and figures.found == 0:
        return "The source gave no children at all: was the SSD rebuilt?"
    return "Was the SSD rebuilt completely, or has a release changed it?"


def how_to_allow(wrong: list[Finding]) -> str:
    """What to type so that one run goes on in spite of these findings."""
    values: dict[str, list[float | str]] = {}
    for finding in wrong:
        known = values.setdefault(finding.parameter, [])
        if finding.value not in known:
            known.append(finding.value)
    typed = " ".join(
        f"-p {parameter}={_typed(allowed)}" for parameter, allowed in sorted(values.items())
    )
    return f"If the day is right, allow it for one run with {typed}."


def _typed(values: list[float | str]) -> str:
    shares = [value for value in values if not isinstance(value, str)]
    return f"{max(shares):.2f}" if shares else ",".join(map(str, values))
