"""Which rows count: the `where` of the specification, compiled to functions of a row.

Each rule is one function, which makes the test of a row. It registers itself with its words and
with the columns and sources that it looks at; no other module has to know it. docs/cohort.md gives
the reason for each. A test has three answers, because an unreadable value is not an absent one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from d2i_helpers.cohort.inclusion import Window
from d2i_helpers.document.driver_values import is_unreadable_date, is_unreadable_text, read_text
from d2i_helpers.document.source_rows import (
    DATES,
    Page,
    ReadPlan,
    SourceRow,
    Verdict,
    all_of,
    any_of,
    date_text,
    unreadable,
)
from d2i_helpers.payload_spec import Source, Spec
from d2i_helpers.payload_spec.registry import COLUMNS, ROW_RULES, SPAN, WORDS, RowRule, row_rule
from d2i_helpers.settings import Settings

# True, False, or a `Doubt` where the answer depends on a value that cannot be read
Test = Callable[[SourceRow, Page], Verdict]


class AllOf:
    """A test of several conditions that can name those that a row does not meet."""

    def __init__(self, conditions: Mapping[str, Test]) -> None:
        self._conditions, self._tests = conditions, tuple(conditions.values())

    def __call__(self, row: SourceRow, page: Page) -> Verdict:
        doubt: Verdict = True
        for test in self._tests:
            verdict = test(row, page)
            if verdict is False:
                return False
            if doubt is True:
                doubt = verdict
        return doubt

    def broken(self, row: SourceRow, page: Page) -> list[str]:
        """The conditions, in words, that do not hold or cannot be decided."""
        verdicts = {words: test(row, page) for words, test in self._conditions.items()}
        return [in_words(words, v) for words, v in verdicts.items() if v is not True]


def in_words(entry: str, verdict: Verdict) -> str:
    """A condition that does not hold, or the reason why it cannot be decided."""
    return entry if verdict is False else f"{entry}: {verdict}"


_SEPARATED = re.compile(r"\s*[-–—:|]\s*|\s{2,}|\t|\s*\(")
_NOT_WORD = re.compile(r"[\W_]+")


def rules_of(source: Source) -> list[tuple[RowRule, list[Any]]]:
    """The rules of a source's `where`, each with its arguments: one, or none."""
    return [
        (ROW_RULES[argument], []) if name == "rule" else (ROW_RULES[name], [argument])
        for entry in source.where
        for name, argument in entry.items()
    ]


def rule_columns(spec: Spec) -> dict[str, tuple[str, ...]]:
    """The columns, by source, that rules need beyond those that `where` lists."""
    needed: dict[str, tuple[str, ...]] = {}
    for source in spec.sources.values():
        for rule, _ in rules_of(source):
            needed[source.name] = (*needed.get(source.name, ()), *rule.columns)
            for source_name, columns in rule.looks_into.items():
                named = (column(spec) if callable(column) else column for column in columns)
                needed[source_name] = (*needed.get(source_name, ()), *named)
    return needed


def with_rule_sources(spec: Spec, names: Iterable[str]) -> set[str]:
    """The sources and those that they need: parents, and sources that their rules look into."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in needed or name not in spec.sources:
            continue
        needed.add(name)
        source = spec.sources[name]
        waiting += [source.via] if source.via else []
        waiting += looks_into(source)
    return needed


def looks_into(source: Source) -> list[str]:
    """The sources whose rows must be there before this source's rules can be tested."""
    return [name for rule, _ in rules_of(source) for name in rule.looks_into]


class Compiler:
    """Turns the entries of `where` into tests."""

    def __init__(
        self,
        spec: Spec,
        plan: ReadPlan,
        window: Window,
        settings: Settings,
        is_date: Callable[[str], bool],
    ) -> None:
        """``is_date``: whether a column of that name holds dates."""
        self.spec, self.plan, self.window, self.settings = spec, plan, window, settings
        self.is_date = is_date

    def tests(self, source: Source) -> list[Test]:
        """One test for each entry; a row counts if all of them hold."""
        return [rule.make(self, source.name, *argument) for rule, argument in rules_of(source)]

    def unreadable_date(
        self, source: str, column: str, decides: str
    ) -> Callable[[SourceRow], Verdict]:
        """A function from a row to the doubt if its date cannot be read, else to False."""
        place = self.plan.at(source, column)
        doubt = unreadable(self.plan.sources[source].table, column, decides)

        def unread(row: SourceRow) -> Verdict:
            if date_text(row[place]) is not None:  # the usual case, from the cache
                return False
            return doubt if is_unreadable_date(row[place]) else False

        return unread

    def unreadable_text(
        self, source: str, column: str, decides: str
    ) -> Callable[[SourceRow], Verdict]:
        """The same as `unreadable_date`, for a word or a code."""
        place = self.plan.at(source, column)
        doubt = unreadable(self.plan.sources[source].table, column, decides)
        return lambda row: doubt if is_unreadable_text(row[place]) else False


def registration_column(spec: Spec) -> str:
    """The column that identifies a worker: the column of the source's mandatory field."""
    for _, field in spec.fields():
        if field.source == "professionals" and field.mandatory:
            return field.column
    return "prof_social_worker_registration_no"


# --------------------------------------------------------------------------- rules of any columns
@row_rule(
    "overlaps",
    takes=SPAN,
    dates=True,
    words="the span of the two dates overlaps the window",
)
def _overlaps(compiler: Compiler, source: str, columns: list[str]) -> Test:
    start, end = (compiler.plan.at(source, column) for column in columns)
    first, last = compiler.window.first, compiler.window.last
    question = "whether it overlaps the window"
    start_doubt, end_doubt = (compiler.unreadable_date(source, c, question) for c in columns)

    def test(row: SourceRow, _page: Page) -> Verdict:
        try:
            began, ended = DATES[row[start]], DATES[row[end]]
        except TypeError:
            began, ended = date_text(row[start]), date_text(row[end])
        if ended is not None and ended < first:
            return False
        if began is None:
            return start_doubt(row) if row[start] is not None else False
        if began > last:
            return False
        return True if ended is not None or row[end] is None else _unless(end_doubt(row))

    return test


@row_rule(
    "inside",
    takes=COLUMNS,
    dates=True,
    words="one of the dates lies in the window",
)
def _inside(compiler: Compiler, source: str, columns: list[str]) -> Test:
    places = [compiler.plan.at(source, column) for column in columns]
    question = "whether it lies in the window"
    doubts = [compiler.unreadable_date(source, column, question) for column in columns]
    contains = compiler.window.contains

    def test(row: SourceRow, _page: Page) -> Verdict:
        unread = False
        for place in places:
            day = date_text(row[place])
            if day is None:
                unread = unread or row[place] is not None
            elif contains(day):
                return True
        return any_of(doubt(row) for doubt in doubts) if unread else False

    return test


@row_rule(
    "known",
    takes=COLUMNS,
    words="every column holds something",
)
def _known(compiler: Compiler, source: str, columns: list[str]) -> Test:
    """The column holds something; a day that stands for none is nothing."""
    places = [compiler.plan.at(source, column) for column in columns]
    dates = [
        (compiler.plan.at(source, c), compiler.unreadable_date(source, c, "whether it is known"))
        for c in columns
        if compiler.is_date(c)
    ]

    def test(row: SourceRow, _page: Page) -> Verdict:
        for place in places:
            if read_text(row[place]) == (None, None):
                return False
        # of a date without doubt that is none, the day stands for none
        return all_of(date_text(row[place]) is not None or doubt(row) for place, doubt in dates)

    return test


@row_rule(
    "equals",
    takes=WORDS,
    words="each column holds one of its words, in any case, whatever the punctuation",
)
def _equals(compiler: Compiler, source: str, wanted: Mapping[str, Any]) -> Test:
    pairs = [
        (
            compiler.plan.at(source, column),
            _words(words if isinstance(words, list) else [words]),
            compiler.unreadable_text(source, column, "whether the row counts"),
        )
        for column, words in wanted.items()
    ]

    def test(row: SourceRow, _page: Page) -> Verdict:
        doubt: Verdict = True
        for place, words, unread in pairs:
            if _word(row[place]) in words:
                continue
            if (verdict := unread(row)) is False:
                return False
            doubt = verdict if doubt is True else doubt
        return doubt

    return test


# ------------------------------------------------------------------------- rules with a name
@row_rule(
    "uasc_status",
    words="the status is one of `uasc_statuses`, alone or before a dash",
    columns=("immi_immigration_status",),
)
def _uasc_status(compiler: Compiler, source: str) -> Test:
    """Status U, UASC or the long name, alone or before a dash and a description."""
    place = compiler.plan.at(source, "immi_immigration_status")
    doubt = compiler.unreadable_text(source, "immi_immigration_status", "whether the row counts")
    is_uasc = _one_of(_words(compiler.spec.uasc_statuses))
    return lambda row, _page: is_uasc(row[place]) or doubt(row)


@row_rule(
    "uasc_current",
    words="the status is open, or ended in the window or later",
    columns=("immi_immigration_status_end_date",),
)
def _uasc_current(compiler: Compiler, source: str) -> Test:
    """Open, or ended in the window or after it."""
    column = "immi_immigration_status_end_date"
    end, place = compiler.plan.date(source, column), compiler.plan.at(source, column)
    doubt = compiler.unreadable_date(source, column, "whether the status is current")
    first = compiler.window.first

    def test(row: SourceRow, _page: Page) -> Verdict:
        day = end(row)
        if day is not None:
            return day >= first
        return True if row[place] is None else _unless(doubt(row))

    return test


@row_rule(
    "s47_or_its_conference",
    words="the enquiry overlaps the window, or its latest conference lies in it",
    columns=("s47e_s47_enquiry_id", "s47e_s47_start_date", "s47e_s47_end_date"),
    looks_into={"icpc": ("icpc_icpc_date",)},
)
def _s47_or_its_conference(compiler: Compiler, source: str) -> Test:
    """The enquiry overlaps the window, or its latest conference lies in it."""
    key_column = compiler.plan.sources[source].key
    key = compiler.plan.text(source, key_column)
    spans = _overlaps(compiler, source, ["s47e_s47_start_date", "s47e_s47_end_date"])
    held = compiler.plan.date("icpc", "icpc_icpc_date")
    question = "whether the conference lies in the window"
    doubt = compiler.unreadable_date("icpc", "icpc_icpc_date", question)
    no_key = compiler.unreadable_text(source, key_column, question)
    contains = compiler.window.contains

    def latest_inside(enquiry: str | None, page: Page) -> Verdict:
        which = page.doubt("icpc", enquiry)
        if which is not False:
            return which
        conferences = page.rows("icpc", enquiry)  # latest first
        if not conferences:
            return False
        return contains(held(conferences[0])) or doubt(conferences[0])

    def test(row: SourceRow, page: Page) -> Verdict:
        overlaps = spans(row, page)
        return overlaps or any_of((latest_inside(key(row), page), overlaps, no_key(row)))

    return test


@row_rule(
    "care_leaver_contact",
    words="every row; with `care_leaver_window`, one of a contact in the window before its end",
    columns=("clea_care_leaver_latest_contact",),
)
def _care_leaver_contact(compiler: Compiler, source: str) -> Test:
    """Any row; a contact in the window where `care_leaver_window` is set (the end excluded)."""
    if not compiler.settings.care_leaver_window:
        return lambda _row, _page: True
    column = "clea_care_leaver_latest_contact"
    contact = compiler.plan.date(source, column)
    doubt = compiler.unreadable_date(source, column, "whether the contact lies in the window")
    first, last = compiler.window.first, compiler.window.last
    return lambda row, _page: (
        first <= day < last if (day := contact(row)) is not None else doubt(row)
    )


@row_rule(
    "care_worker_gate",
    words="all five conditions of the SSDA903 hold, see Care workers",
    columns=(
        "invo_referral_id",
        "invo_professional_id",
        "invo_professional_role_id",
        "invo_involvement_start_date",
        "invo_involvement_end_date",
    ),
    looks_into={"cin_plans": (), "professionals": (registration_column,)},
)
def _care_worker_gate(compiler: Compiler, source: str) -> Test:
    """All five conditions of the SSDA903 care-worker rule (docs/cohort.md)."""
    plan = compiler.plan
    referral = plan.text(source, "invo_referral_id")
    professional = plan.text(source, "invo_professional_id")
    role = plan.at(source, "invo_professional_role_id")
    number = plan.text("professionals", registration_column(compiler.spec))
    in_role = _one_of(_words(compiler.settings.care_worker_roles))
    counts = "whether the worker counts"
    unreadable_role = compiler.unreadable_text(source, "invo_professional_role_id", counts)
    unreadable_link = compiler.unreadable_text(source, "invo_professional_id", counts)
    unreadable_number = compiler.unreadable_text(
        "professionals", registration_column(compiler.spec), counts
    )

    def planned(row: SourceRow, page: Page) -> Verdict:
        known = page.rows("cin_plans", referral(row))
        return bool(known) or page.doubt("cin_plans", referral(row))

    def registered(row: SourceRow, page: Page) -> Verdict:
        known = page.rows("professionals", professional(row))
        numbered = any_of(number(one) is not None or unreadable_number(one) for one in known)
        return numbered if known else unreadable_link(row)

    active = _at_the_end_of_march(compiler, source)
    return AllOf(
        {
            "role is not one of care_worker_roles": lambda row, _page: (
                in_role(row[role]) or unreadable_role(row)
            ),
            "no plan of the referral in the window": planned,
            "not active at the end of a financial year in the window": active,
            "professional unknown or without a registration number": registered,
        }
    )


def _at_the_end_of_march(compiler: Compiler, source: str) -> Test:
    """Whether an involvement was active on a 31 March of the window."""
    columns = ("invo_involvement_start_date", "invo_involvement_end_date")
    start, end = (compiler.plan.date(source, column) for column in columns)
    question = "whether the worker was active at the end of a financial year"
    no_start, no_end = (compiler.unreadable_date(source, column, question) for column in columns)
    days = compiler.window.census_dates

    def test(row: SourceRow, _page: Page) -> Verdict:
        began, ended = start(row), end(row)
        reached = [day for day in days if ended is None or ended >= day]
        if began is None:
            return no_start(row) if reached else False
        if not any(began <= day for day in reached):
            return False
        return True if ended is not None else _unless(no_end(row))

    return test


def _unless(doubt: Verdict) -> Verdict:
    """Yes if there is no doubt, else the doubt."""
    return True if doubt is False else doubt


def _word(value: Any) -> str:
    """A value for comparison: upper case, with one blank for punctuation and runs of blanks."""
    return _NOT_WORD.sub(" ", read_text(value)[0] or "").strip().upper()


def _words(values: Iterable[Any]) -> frozenset[str]:
    return frozenset(word for word in map(_word, values) if word)


def _one_of(words: frozenset[str]) -> Callable[[Any], bool]:
    """A function that says whether a value is one of the words, alone or before a description."""

    @functools.lru_cache(maxsize=4096)
    def of_text(text: str) -> bool:
        return _word(text) in words or _word(_SEPARATED.split(text, maxsplit=1)[0]) in words

    def of(value: Any) -> bool:
        text = value if type(value) is str else read_text(value)[0]
        return text is not None and of_text(text)

    return of
