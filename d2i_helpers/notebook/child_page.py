"""One child in words: how it stands, why it is in or out, what is wrong with it, what was sent.

The parts are the same in a notebook and in `d2i why`.
"""

from __future__ import annotations

from typing import Any

from d2i_helpers.notebook.explore import StagedChild
from d2i_helpers.notebook.told import Cell, Part, Told, Words
from d2i_helpers.notebook.why import UNSAID, Evidence, Problem, Why
from d2i_helpers.staging.attention import Reason, mask
from d2i_helpers.staging.evidence import PURGE


def parts(child: StagedChild, answer: Why, reasons: list[Reason]) -> list[Part]:
    """Everything that is to be said of a child, the most wanted first.

    Args:
        child: what is staged of it.
        answer: what the rules say of it.
        reasons: why it needs attention.
    """
    return [
        standing(child, answer, reasons),
        in_or_out(answer),
        rows_that_decide(answer),
        problems(answer, reasons),
        history(child),
        rows_left_out(answer),
        missing(answer),
    ]


def standing(child: StagedChild, answer: Why, reasons: list[Reason]) -> Part:
    """Where the child stands, and what is the matter, in a few sentences."""
    named = Told(f"Child {child.person_id}", f"Child {mask(child.person_id)}")
    staged = f"Staged: {child.row_state}, {child.submission_status}. To be sent: {child.to_send}."
    if child.document is None:
        staged = "Not staged, so nothing of it is sent."
    said: list[Words] = [staged, verdict(answer)]
    said += [f"Needs attention: {reason_in_words(reason)}." for reason in reasons]
    if child.answer:
        said.append(Told(f"Last answer: {child.answer}", "There is an answer to the last attempt."))
    return Part("How it stands", (named, *said))


def verdict(answer: Why) -> str:
    """In or out, and by what, in one sentence."""
    if not answer.sets:
        return "Out: no such person is in ssd_person."
    sets = [one.name for one in answer.sets if one.holds is True]
    if answer.is_in:
        return f"In the cohort by {', '.join(sets)}."
    rules = [rule for rule in answer.rules if not rule["rule"].startswith("inclusion set ")]
    doubts = [rule for rule in rules if rule["holds"] == UNSAID]
    is_out = any(rule["holds"] is False for rule in rules)
    in_no_set = not sets and not any("inclusion set" in rule["rule"] for rule in doubts)
    if doubts and not is_out and not in_no_set:
        why = dict.fromkeys(rule["detail"] for rule in doubts)
        return f"Whether it is in cannot be said, so nothing of it changes: {'; '.join(why)}."
    against = [
        f"{rule['rule']}: {'no' if rule['holds'] is False else rule['holds']}"
        + (f" ({rule['detail']})" if rule["detail"] else "")
        for rule in rules
        if rule["holds"] is not True
    ]
    if in_no_set:
        against.append("it is in no inclusion set")
    return f"Out: {'; '.join(against)}."


def reason_in_words(reason: Reason) -> str:
    """Why a child needs attention; paths, columns and rules, no value."""
    column = f"{reason.source_table}.{reason.source_column}" if reason.source_table else ""
    where = ", ".join(filter(None, (reason.path, column)))
    return f"{reason.what}: {where} {reason.rule}" if where else f"{reason.what}: {reason.rule}"


def in_or_out(answer: Why) -> Part:
    """Each rule's verdict, and why a no is a no."""
    said: tuple[Words, ...] = ()
    if answer.window is not None:
        said = (
            Told(
                f"The window is {answer.window.first} to {answer.window.last}.",
                "The window begins on 1 April two financial years ago.",
            ),
        )
    rows: list[tuple[Cell, ...]] = [
        (rule["rule"], rule["holds"], rule["detail"])
        for rule in answer.rules
        if not rule["rule"].startswith("inclusion set ")
    ]
    rows += [(f"set {one.name}", one.holds, one.because) for one in answer.sets]
    return Part("Why it is in or out", said, ("rule", "holds", "because"), tuple(rows))


def rows_that_decide(answer: Why) -> Part:
    """The rows that the inclusion sets look at, each once."""
    looked_at: dict[tuple[Any, ...], tuple[Evidence, dict[str, str]]] = {}
    for one in answer.sets:
        for row in one.rows:
            key = (row.table, row.key, *row.values.items())
            _, by_set = looked_at.setdefault(key, (row, {}))
            by_set[one.name] = "counts" if row.counts else ", ".join(row.because)
    rows = []
    for row, by_set in looked_at.values():
        said = dict.fromkeys(by_set.values())
        together = "; ".join(
            f"{words} ({', '.join(n for n, w in by_set.items() if w == words)})" for words in said
        )
        rows.append((row.table, _key(row.key), _values(row), together))
    header = ("table", "row", "dates and links", "what it says of each set")
    return Part("Rows and dates that decided it", _none(rows), header, tuple(rows))


def problems(answer: Why, reasons: list[Reason]) -> Part:
    """What is wrong, with the stored value that is to blame."""
    rows: list[tuple[Cell, ...]] = [_problem(one) for one in answer.problems]
    known = {(one.path, one.rule) for one in answer.problems}
    rows += [
        (
            _place(reason.path or ""),
            reason.rule,
            f"{reason.source_table}.{reason.source_column}" if reason.source_table else "",
            "",
            "",
        )
        for reason in reasons
        if (reason.path, reason.rule) not in known
        and (f"{reason.source_table}.{reason.source_column}", reason.rule) not in known
    ]
    header = ("field", "what is wrong", "stored in", "row", "stored value")
    return Part("What is wrong", _none(rows), header, tuple(rows))


def _problem(one: Problem) -> tuple[Cell, ...]:
    value: Cell = "" if one.value is None else Told(one.value, f"{len(one.value)} characters")
    column = f"{one.table}.{one.column}" if one.table else ""
    return _place(one.path), one.rule, column, _key(one.key), value


def _place(path: str) -> str:
    return "the document" if path == "$" else path


def history(child: StagedChild) -> Part:
    """Each attempt to send the child, with answer and receipt."""
    rows = tuple(
        (
            Told(*[f"{attempt['started_at'].at:%Y-%m-%d %H:%M}"] * 2),  # our own time
            "removal" if attempt["kind"] == PURGE else f"document ({attempt['phase']})",
            attempt["which"],
            attempt["outcome"],
            attempt["http_status"],
            Told(attempt["detail"] or "", "an answer" if attempt["detail"] else ""),
            Told(attempt["reference"] or "", "a receipt" if attempt["reference"] else ""),
        )
        for attempt in child.attempts
    )
    header = ("when (UTC)", "sent", "which document", "outcome", "HTTP", "answer", "receipt")
    said: tuple[Words, ...] = () if rows else ("Nothing was sent yet.",)
    return Part("What was sent, and the answers", said, header, rows)


def rows_left_out(answer: Why) -> Part:
    """Rows that are no item of the document, and why."""
    rows = tuple(
        (row.table, _key(row.key), _values(row), "; ".join(row.because))
        for _, row in answer.left_out
    )
    header = ("table", "row", "dates and links", "why it does not count")
    return Part("Rows that are left out of the document", _none(rows), header, rows, is_open=False)


def missing(answer: Why) -> Part:
    """Fields without a value of their own."""
    rows = tuple((row["field"], row["why"]) for row in answer.fields)
    return Part("Fields that are missing", _none(rows), ("field", "why"), rows, is_open=False)


def _none(rows: Any) -> tuple[Words, ...]:
    return () if rows else ("None.",)


def _key(key: str | None) -> Cell:
    return Told(key, "…") if key else ""


def _values(row: Evidence) -> Cell:
    whole = ", ".join(f"{column} {value}" for column, value in row.values.items())
    return Told(whole, ", ".join(row.values))
