"""What notebooks show: counts, tables of counts, bars, progress. Safe by construction.

People who must not see a child's identity read saved notebooks, so everything shown here goes
through `safe_words` first. What it looks like is the business of `pictures`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from d2i_helpers.kernel_protocol import (
    ATTENTION_TITLE,
    COUNTS_MIME,
    FIELDS_TITLE,
    GATE_MIME,
    NOTICES_MIME,
    PROBLEMS_TITLE,
    PROGRESS_MIME,
    RUN_ID_VARIABLE,
)
from d2i_helpers.notebook import pictures
from d2i_helpers.plain_english import counted, needs_attention, verb
from d2i_helpers.privacy.human_present import is_human_present
from d2i_helpers.privacy.safe_words import (
    safe_label,
    safe_sentence,
    safe_title,
    safe_value,
    shown_setting,
)

Number = int | float
_MOST_REASONS = 40  # rows of a list of reasons
_MOST_COLUMNS = 30  # of a picture of requests over time


def _publish(
    data: Mapping[str, Any], *, display_id: str | None = None, update: bool = False
) -> None:
    """Display in a notebook; print the plain text elsewhere."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        print(data["text/plain"])
        return
    transient = {"display_id": display_id} if display_id else None
    shell.display_pub.publish(data=dict(data), transient=transient, update=update)


def counts(title: str, mapping: Mapping[str, Any]) -> None:
    """Show counts with their names; the runner also writes them into the run record.

    Args:
        title: what is counted.
        mapping: name to number; safe words are shown too, but do not count as counts.
    """
    _counts(title, mapping, closing=False)


def closing(
    stage: str, mapping: Mapping[str, Number], before: Mapping[str, Number] | None = None
) -> None:
    """Show the closing counts of a stage; the run's summary repeats them.

    Args:
        before: the same counts of an earlier run, to stand beside them.
    """
    title = f"{stage.capitalize()}: what came out"
    if before is None:
        _counts(title, mapping, closing=True)
        return
    data = {"title": safe_title(title), "counts": _numbers(mapping), "closing": True}
    rows = [(name, number, before.get(name)) for name, number in _numbers(mapping).items()]
    _publish({**_compared(title, ("this run", "run before"), rows), COUNTS_MIME: data})


def states(
    before: Mapping[str, int], after: Mapping[str, int], *, beside_others: bool = False
) -> None:
    """Show the rows of a staging table by state, before a stage and after it.

    Args:
        beside_others: the stage worked on one shard, and others may have written meanwhile.
    """
    names = sorted({*before, *after})
    title = "Rows of the staging table by state" + (", all shards" if beside_others else "")
    if not names:
        _publish({"text/plain": f"{title}: none"})
        return
    rows = [(name, after.get(name, 0), before.get(name, 0)) for name in names]
    _publish(_compared(title, ("after", "before"), rows))


def _compared(
    title: str, names: tuple[str, str], rows: Sequence[tuple[str, Number, Number | None]]
) -> dict[str, Any]:
    """A table of numbers beside others, with the difference."""
    title, header = safe_title(title), ("", *names, "change")
    cells = [
        (
            _spoken(safe_label(name)),
            safe_value(now),
            safe_value(then),
            f"{now - then:+,}" if then is not None and now != then else "",
        )
        for name, now, then in rows
    ]
    right = [False, True, True, True]
    return {
        "text/plain": _plain(title, header, cells),
        "text/html": pictures.table(title, header, cells, right),
    }


def remark(text: str) -> None:
    """Show a sentence."""
    _publish({"text/plain": safe_sentence(text)})


def _counts(title: str, mapping: Mapping[str, Any], *, closing: bool) -> None:
    if not mapping:
        _publish({"text/plain": f"{safe_title(title)}: none"})
        return
    numbers = _numbers(mapping)
    data = {"title": safe_title(title), "counts": numbers, "closing": closing}
    rows = [(_spoken(str(name)), value) for name, value in mapping.items()]
    header = ("", "count" if len(numbers) == len(mapping) else "")
    _show_rows(title, header, rows, **{COUNTS_MIME: data})


def _numbers(mapping: Mapping[str, Any]) -> dict[str, Number]:
    return {safe_label(str(name)): n for name, n in mapping.items() if _is_number(n)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spoken(name: str) -> str:
    """`children_sent` as people write it; the path of a field stays as it is."""
    return name if "." in name or "[" in name else name.replace("_", " ")


def table(rows: Iterable[Any], title: str = "", counts: Mapping[str, Number] | None = None) -> None:
    """Show rows (mappings, dataclasses or named tuples) of numbers and known words.

    Any other text is shown as ``(hidden)``.

    Args:
        rows: the rows; the first one names the columns.
        title: what they are.
        counts: what the run record keeps of them, by a name each.
    """
    listed = [_as_mapping(row) for row in rows]
    header = list(dict.fromkeys(name for row in listed for name in row))
    if not listed:
        _publish({"text/plain": f"{safe_title(title)}: none" if title else "None."})
        return
    cells = [[row.get(name) for name in header] for row in listed]
    more: dict[str, Any] = {}
    if counts:
        kept = {safe_label(name): number for name, number in counts.items()}
        more = {COUNTS_MIME: {"title": safe_title(title), "counts": kept, "closing": False}}
    _show_rows(title, [_spoken(str(name)) for name in header], cells, **more)


def _as_mapping(row: Any) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if dataclasses.is_dataclass(row):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return row._asdict()


def quality(rows: Iterable[Any]) -> None:
    """Show for each field how many children have it, the worst filled first.

    The run record keeps the per cent, for the trend.
    """
    listed = list(rows)
    kept = {row["field"]: n for row in listed if (n := row.get("per cent")) is not None}
    worst_first = sorted(listed, key=lambda row: kept.get(row["field"], 100.0))
    table(worst_first, FIELDS_TITLE, kept)


def known_gaps(gaps: Mapping[str, str]) -> None:
    """Show what this case-management system cannot give, by block or field, and why."""
    sentences = [f"{place}: {why}" for place, why in gaps.items()]
    _sentences("Known gaps of this system", sentences, "No known gaps of this system.")


def problems(rows: Iterable[Any] | Mapping[str, Number]) -> None:
    """Show problems by field and rule with the number of children; never a value or a child.

    The run record keeps the numbers, for the trend.
    """
    if isinstance(rows, Mapping):
        rows = [{"problem": name, "children": number} for name, number in rows.items()]
    listed = list(rows)
    kept = {f"{row['field']}: {row['rule']}": row["count"] for row in listed if "rule" in row}
    table(listed, PROBLEMS_TITLE, kept)


def warnings(messages: Iterable[str]) -> None:
    """Show the warnings of a stage as a list, or say that there are none."""
    _sentences("Warnings", messages, "No warnings.")


def notices(
    messages: Iterable[str],
    counts: Mapping[str, Number] | None = None,
    *,
    for_console: Iterable[str] = (),
) -> None:
    """Show what a stage reports about the day, or say that there is nothing.

    Args:
        messages: shown in the notebook.
        counts: the stage's closing counts; children who need attention add a message.
        for_console: messages that are also repeated on the run's console and in its record.
    """
    repeated = [safe_sentence(message) for message in for_console]
    said = [*messages, *repeated]
    if needy := (counts or {}).get("need_attention", 0):
        said.append(f"{needs_attention(needy)}; the list below says why.")
    nothing = "Nothing out of the ordinary."
    _sentences("Notices", said, nothing, **{NOTICES_MIME: repeated})


def how_many_were_read(anew: int, persons: int, why: str = "") -> None:
    """Say how many persons extract read and judged; of the others nothing had changed.

    Args:
        why: why all of them were read, or so many; a part of a sentence.
    """
    said = f"All {counted(persons, 'person')} were read and judged"
    if anew < persons:
        said = (
            f"{anew:,} of {counted(persons, 'person')} {verb(anew, 'was', 'were')} read and "
            "judged; the rows of the others are as they were"
        )
    _publish({"text/plain": f"{said}: {safe_sentence(why)}." if why else f"{said}."})


def attention(rows: Iterable[Mapping[str, Any]]) -> None:
    """Show who needs attention, and why: rows of `staging.attention.shown`, with masked ids.

    The run record keeps only numbers of children, by outcome, place and rule.
    """
    title, listed = ATTENTION_TITLE, list(rows)
    if not listed:
        _publish({"text/plain": "Nobody needs attention."})
        return
    numbers: Counter[str] = Counter()
    for row in listed:
        place = f"{row['table']}.{row['column']}" if row["table"] else row["field"] or ""
        parts = (row["what"], safe_label(place), safe_label(row["rule"]))
        numbers[": ".join(filter(None, parts))] += row["children"]
    header = list(listed[0])
    shown = [[row[name] for name in header] for row in listed[:_MOST_REASONS]]
    if rest := sum(row["children"] for row in listed[_MOST_REASONS:]):
        shown.append(["further reasons", *[None] * (len(header) - 3), rest, None])
    data = {"title": title, "counts": dict(numbers), "closing": False}
    _show_rows(title, header, shown, **{COUNTS_MIME: data})


def _sentences(title: str, messages: Iterable[str], nothing: str, **more: Any) -> None:
    safe = [safe_sentence(message) for message in messages]
    if not safe:
        _publish({"text/plain": nothing})
        return
    items = "".join(f"<li>{html.escape(message)}</li>" for message in safe)
    _publish(
        {
            "text/plain": "\n".join([f"{title}:", *(f"- {message}" for message in safe)]),
            "text/html": f"<p><strong>{title}</strong></p><ul>{items}</ul>",
            **more,
        }
    )


def checks(results: Iterable[Any]) -> None:
    """Show preflight's checks: name, status, what was found and what to do."""
    header = ("check", "status", "found", "advice")
    rows = [
        [safe_sentence(str(getattr(check, part) or "")) for part in ("name", "status", "detail")]
        + [safe_sentence(check.advice or "")]
        for check in results
    ]
    title = "Checks"
    _publish(
        {
            "text/plain": _plain(title, header, rows),
            "text/html": pictures.table(title, header, rows),
        }
    )


def gate(decision: Any) -> None:
    """Show what a gate decided (a `gates.Decision`), refusals too; the run record keeps it."""
    held = {k: v for k, v in dataclasses.asdict(decision).items() if k != "hint"}
    said = {**held, "allowed": "yes" if decision.allowed else "no"}
    said["dry_run"] = "yes: nothing is sent" if decision.dry_run else "no"
    rows = [(_spoken(name), safe_sentence(text)) for name, text in said.items() if text]
    title, header = "May this data go there?", ("", "")
    _publish(
        {
            "text/plain": _plain(title, header, rows),
            "text/html": pictures.table(title, header, rows),
            GATE_MIME: held,
        }
    )


def settings_table(settings: Any, *, folded: bool = False) -> None:
    """Show the parameters in force: those that differ from the defaults first, the rest folded.

    Secrets are not parameters. Of person ids the number is shown, of URLs no password.

    Args:
        folded: fold all of it, where people come for something else.
    """
    changed: list[tuple[str, ...]] = []
    usual: list[tuple[str, ...]] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        row = (name, shown_setting(name, value), field.description or "")
        (usual if value == field.get_default() else changed).append(row)
    header, title = ("parameter", "value", "meaning"), "Parameters in force"
    more = _details(f"{len(usual)} more, as by default", pictures.table("", header, usual))
    shown = pictures.table("" if folded else title, header, changed) + more
    _publish(
        {
            "text/plain": _plain(title, header, changed + usual),
            "text/html": _details(title, shown) if folded else shown,
        }
    )


def _details(summary: str, inner: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>{inner}</details>"


# ------------------------------------------------------------------------------------- rendering
def _show_rows(
    title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], **more: Any
) -> None:
    """Show a table; title, header and cells are made safe here."""
    _publish({**bundle_of_rows(title, header, rows), **more})


def publish(
    bundle: Mapping[str, Any], *, display_id: str | None = None, update: bool = False
) -> None:
    """Display a bundle of one output in several forms; print its plain text where there is none.

    Args:
        display_id: a name by which the output can be brought up to date later.
        update: bring the output with that name up to date.
    """
    _publish(bundle, display_id=display_id, update=update)


def bundle_of_rows(
    title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> dict[str, str]:
    """A table as plain text and HTML; title, header and cells are made safe here."""
    title, names = safe_title(title), [safe_label(name) for name in header]
    cells = [[safe_value(value) for value in row] for row in rows]
    right = [all(_is_number(row[i]) or row[i] is None for row in rows) for i in range(len(names))]
    return {
        "text/plain": _plain(title, names, cells),
        "text/html": pictures.table(title, names, cells, right),
    }


def _plain(title: str, names: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max([len(n), *(len(row[i]) for row in cells)]) for i, n in enumerate(names)]
    lines = [title] if title else []
    for row in (names, *cells) if any(names) else cells:
        lines.append("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)


def bars(title: str, mapping: Mapping[str, Number]) -> None:
    """Show a horizontal bar for each name, with a version in plain text.

    Args:
        title: what is counted.
        mapping: name to number, drawn in this order.
    """
    title = safe_title(title)
    items = [(_spoken(safe_label(str(k))), n) for k, n in mapping.items() if _is_number(n)]
    if not items:
        _publish({"text/plain": f"{title}: nothing to show"})
        return
    most = max(1, *(number for _, number in items))
    plain = [(name, "▇" * round(24 * n / most), safe_value(n)) for name, n in items]
    _publish(
        {
            "text/plain": _plain(title, ("", "", ""), plain),
            "text/html": pictures.bars(title, items),
        }
    )


def requests(sent: Sequence[tuple[dt.datetime, int | None]]) -> None:
    """Show the requests of a stage over time, by what was answered.

    Args:
        sent: for each request its start (UTC) and the HTTP status; None: there was no answer.
    """
    title = "Requests over time"
    if not sent:
        _publish({"text/plain": f"{title}: none"})
        return
    first, last = min(at for at, _ in sent), max(at for at, _ in sent)
    step = max((last - first) / _MOST_COLUMNS, dt.timedelta(seconds=1))
    held: list[Counter[str]] = [Counter() for _ in range(int((last - first) / step) + 1)]
    for at, status in sent:
        held[int((at - first) / step)][_answered(status)] += 1
    shown = [
        pictures.Column(f"{first + place * step:%H:%M:%S}", numbers)
        for place, numbers in enumerate(held)
    ]
    lines = [(c.label, ", ".join(f"{n} {kind}" for kind, n in c.numbers.items())) for c in shown]
    _publish(
        {
            "text/plain": _plain(title, ("", ""), [line for line in lines if line[1]]),
            "text/html": pictures.columns(f"{title} (UTC)", shown, "requests"),
        }
    )


def _answered(status: int | None) -> str:
    """The answer to a request in a word."""
    if status is None:
        return "no answer"
    if status < 300:
        return "accepted"
    return "refused" if status < 500 else "server error"


def progress(label: str, *, every: float = 0.25) -> Callable[[int, int | None], None]:
    """A function to call with (done, total); the saved notebook keeps only the last state.

    Args:
        label: what is counted, such as "children read".
        every: least number of seconds between two displays.
    """
    name, display_id = safe_label(label), f"progress-{uuid.uuid4().hex[:12]}"
    last: list[float] = []  # when something was shown, and how much was done then

    def show(done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if last and (done == last[1] or (now - last[0] < every and done != total)):
            return
        of = f" of {total:,}" if total is not None else ""
        data = {
            PROGRESS_MIME: {"label": name, "done": int(done), "total": total},
            "text/plain": f"{name}: {done:,}{of}",
        }
        _publish(data, display_id=display_id, update=bool(last))
        last[:] = [now, done]

    return show


# ---------------------------------------------------------------------------------- for analysts
def may_show_identifiers() -> bool:
    """True only if a person sits at the notebook; never in a recorded run."""
    if os.environ.get(RUN_ID_VARIABLE):
        return False
    return is_human_present()
