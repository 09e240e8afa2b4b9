"""The analyst's desk: find children, look at one, see what goes tomorrow. Nothing is written.

What `notebooks/explore_payloads.ipynb` calls. A person's screen gets values, in widgets; what is
kept in the notebook, and what a run without a person shows, has none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from d2i_helpers import database, delta
from d2i_helpers.notebook import (
    child_page,
    children,
    comparison,
    display,
    explore,
    on_screen,
    tomorrow,
    widget_table,
)
from d2i_helpers.notebook.document_tree import tree
from d2i_helpers.notebook.explore import StagedChild
from d2i_helpers.notebook.told import Part, as_html, as_text, fitting, folded
from d2i_helpers.notebook.why import Why, why
from d2i_helpers.payload_spec import Document, load_spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, attention
from d2i_helpers.staging.attention import Reason

if TYPE_CHECKING:
    import pandas as pd

_FIRST_PARTS = 4  # of a child's page that come before its document
_NOBODY = (
    "Nobody is staged yet, so there is no child to show. Run the extract stage "
    "(`d2i run --stages extract`), or name a child in `person_id`: why it is in or out is read "
    "from the source."
)


@dataclass(frozen=True)
class Subject:
    """One child with everything that is known of it."""

    staged: StagedChild
    why: Why
    reasons: list[Reason]
    today: Document | None  # what the receiver is to hold; None: nothing
    message: Document | None  # what brings it there; None: nothing is to be sent
    lines: list[comparison.Line]

    @functools.cached_property
    def parts(self) -> list[Part]:
        """What is to be said of the child."""
        return child_page.parts(self.staged, self.why, self.reasons)

    @property
    def all_parts(self) -> list[Part]:
        """The same with what differs from the acknowledged document, where no tree can be shown."""
        differs = comparison.as_part(self.lines)
        return [*self.parts[:_FIRST_PARTS], differs, *self.parts[_FIRST_PARTS:]]


class Desk:
    """What an analyst works at."""

    def __init__(self, settings: Settings, *, show_identifiers: bool = True) -> None:
        """``show_identifiers``: False: a person's screen, too, gets no value and no whole id."""
        self.settings, self.may_show = settings, show_identifiers
        self.spec = load_spec(settings.cms, settings.overlay_path)
        self.engine = database.open_database(settings)
        self.staging = Staging(self.engine, settings.send_table)

    # ---------------------------------------------------------------------------------- find
    def overview(self) -> dict[str, int]:
        """Children by state and status."""
        return explore.overview(self.engine, self.settings)

    def find(self) -> None:
        """Show the table of all children; picking a row shows the child."""
        rows = children.table(self.staging, self.spec, self.settings.today)
        self._table(rows, "Children", children.FILTERS)

    def _page(self, person_id: str) -> str:
        """Everything about a child as HTML, for a person's screen."""
        subject = self.subject(person_id)
        return fitting(page(subject, self.spec, whole=True))

    # ----------------------------------------------------------------------------- one child
    def subject(self, person_id: str | int | None = None) -> Subject:
        """One child; without an id the first that waits to be sent, else the first.

        Raises:
            SettingsError, D2IError: as of `explore.child`.
        """
        staged = explore.child(self.engine, self.settings, person_id)
        answer = why(self.engine, self.settings, self.spec, staged.person_id)
        reasons = [
            reason
            for reason in attention.everything(self.staging, self.spec)
            if reason.person_id == staged.person_id
        ]
        today = self._today(staged, answer)
        held = staged.acknowledged
        message = staged.partial
        if message is None or today != staged.document:
            message = delta.delta(
                self.spec, today, held, cleared_fields=self.settings.cleared_fields
            )
        lines = comparison.compare(self.spec, held, today)
        return Subject(staged, answer, reasons, today, message, lines)

    def _today(self, staged: StagedChild, answer: Why) -> Document | None:
        """What the source gives today; of the twin, and of who is held back, what is staged."""
        if self.settings.send_table != self.settings.staging_table:
            return None if staged.row_state == "deleted" else staged.document
        if answer.is_in:
            return answer.document
        held_back = staged.to_send == children.HELD_BACK
        return staged.document if held_back else None

    def _is_nobody(self, person_id: str | int | None) -> bool:
        """Whether no child is named and none is staged, as in a workbook that never ran."""
        return person_id is None and not self.overview()

    def child(self, person_id: str | int | None = None) -> None:
        """Show how a child stands, why it is in or out, what is wrong, what was sent."""
        if self._is_nobody(person_id):
            display.publish({"text/plain": _NOBODY})
            return
        parts = self.subject(person_id).parts
        self._show(
            as_html(parts, whole=True), as_html(parts, whole=False), as_text(parts, whole=False)
        )

    def document(self, person_id: str | int | None = None) -> None:
        """Show today's document as a tree that folds."""
        if self._is_nobody(person_id):
            return
        today = self.subject(person_id).today
        whole, kept = (tree(today, self.spec, whole=whole) for whole in (True, False))
        self._show(whole, kept, "The document as a tree; open the page or JupyterLab to see it.")

    def compare(self, person_id: str | int | None = None) -> None:
        """Show today's document beside the acknowledged one, and the delta beside both."""
        if self._is_nobody(person_id):
            return
        subject = self.subject(person_id)
        whole, kept = (beside(subject, self.spec, whole=whole) for whole in (True, False))
        part = comparison.as_part(subject.lines)
        self._show(whole, kept, as_text([part], whole=False))

    # ------------------------------------------------------------------------------ tomorrow
    def tomorrow(self) -> None:
        """Show what the next run would send if it started now; each child in a table to search."""
        going = tomorrow.preview(
            self.engine, self.settings, self.spec, progress=display.progress("persons")
        )
        parts = tomorrow.parts(going)
        kept = fitting(as_html(parts, whole=False))
        display.publish({"text/plain": as_text(parts, whole=False), "text/html": kept})
        self._table(tomorrow.table(going), "Children tomorrow", ("would be sent",))

    def _table(self, rows: pd.DataFrame, title: str, filters: Sequence[str]) -> None:
        """Show a table of children; picking a row shows the child."""
        pick = None
        if self.may_show:
            pick = lambda row: self._page(str(rows.at[row, "child"]))  # noqa: E731
        else:
            rows["child"] = [attention.mask(one) for one in rows["child"]]
        widget_table.show(rows, title, identities=["child"], filters=filters, on_pick=pick)

    def _show(self, whole: str, kept: str, plain: str) -> None:
        on_screen.show(whole, kept, plain, may_show=self.may_show)


def beside(subject: Subject, spec: Any, *, whole: bool) -> str:
    """Today's document against the acknowledged one, and the delta beside it, as HTML."""
    message = tree(subject.message, spec, whole=whole, with_meanings=False)
    columns = (
        comparison.side_by_side(subject.lines, whole=whole),
        f"<p><strong>What would be sent</strong></p>{message}",
    )
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">'
        + "".join(f'<div style="flex:1 1 18em;min-width:0">{column}</div>' for column in columns)
        + "</div>"
    )


def page(subject: Subject, spec: Any, *, whole: bool) -> str:
    """Everything about a child as HTML."""
    first, rest = subject.parts[:_FIRST_PARTS], subject.parts[_FIRST_PARTS:]
    return (
        as_html(first, whole=whole)
        + folded("Today beside the acknowledged document, and the delta",
                 beside(subject, spec, whole=whole), is_open=True)
        + folded("Today's document", tree(subject.today, spec, whole=whole))
        + as_html(rest, whole=whole)
    )  # fmt: skip


__all__ = ["Desk", "Subject", "beside", "page"]
