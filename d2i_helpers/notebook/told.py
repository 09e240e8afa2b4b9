"""Answers in words: the same ones for a notebook and for a terminal.

An answer is a list of parts, each with a heading, sentences and a table. Where a word stands for a
value of a child it comes in two forms: whole, for the screen of a person, and as it may be kept in
a saved notebook. Plain text is of this project's own words.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from d2i_helpers.privacy.safe_words import safe_sentence, safe_value

TABLE = "border-collapse:collapse;font-size:0.95em;line-height:1.35;margin:0.3em 0"
CELL = (
    "padding:0.2em 0.9em 0.2em 0;border-bottom:1px solid rgba(128,128,128,.3);"
    "text-align:left;vertical-align:top;white-space:normal;overflow-wrap:break-word"
)


@dataclass(frozen=True, slots=True)
class Told:
    """Something about a child, in two forms."""

    whole: str  # for a person's screen
    kept: str  # for everything that is saved; holds no value

    def __str__(self) -> str:
        return self.kept  # where somebody forgot to ask, nothing is given away


Words = str | Told
Cell = Any  # Told, a number, yes or no, nothing, or own words


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an answer."""

    title: str
    said: tuple[Words, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    is_open: bool = True  # in a notebook; a part that is not needed at once is folded

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows), self.title


def as_words(cell: Cell, *, whole: bool) -> str:
    """A cell or a sentence as text.

    Args:
        whole: for a person's screen.
    """
    if isinstance(cell, Told):
        return cell.whole if whole else cell.kept
    if isinstance(cell, str):
        return cell if whole else safe_sentence(cell)
    return safe_value(cell)


# --------------------------------------------------------------------------------------- plain text
def as_text(parts: Iterable[Part], *, whole: bool) -> str:
    """Parts as plain text, for the plain form of an output."""
    lines: list[str] = []
    for part in parts:
        lines += [part.title, *(f"  {as_words(words, whole=whole)}" for words in part.said)]
        if part.rows:
            cells = [[as_words(cell, whole=whole) for cell in row] for row in part.rows]
            table = [list(part.header), *cells]
            widths = [max(len(row[i]) for row in table) for i in range(len(part.header))]
            for row in table:
                padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                lines.append(f"  {'  '.join(padded).rstrip()}")
        lines.append("")
    return "\n".join(lines).rstrip()


# --------------------------------------------------------------------------------------------- HTML
def as_html(parts: Iterable[Part], *, whole: bool) -> str:
    """Parts as HTML with inline styles: headings that fold, sentences and tables."""
    return "".join(_part(part, whole=whole) for part in parts)


def _part(part: Part, *, whole: bool) -> str:
    said = "".join(
        f'<p style="margin:0.2em 0">{breakable(as_words(words, whole=whole))}</p>'
        for words in part.said
    )
    cells = [[breakable(as_words(cell, whole=whole)) for cell in row] for row in part.rows]
    table = html_table(part.title, part.header, cells) if cells else ""
    return folded(part.title, said + table, is_open=part.is_open)


_IN_A_NAME = re.compile(r"(?<=[_.])(?=[A-Za-z\[])")


def breakable(text: str) -> str:
    """A text as HTML that may go on in the next line within the long name of a field."""
    return _IN_A_NAME.sub("<wbr>", html.escape(text))


def fitting(inner: str) -> str:
    """HTML no wider than the screen: what is wider scrolls by itself."""
    return f'<div style="display:grid;grid-template-columns:minmax(0,1fr)"><div>{inner}</div></div>'


def folded(title: str, inner: str, *, is_open: bool = False) -> str:
    """HTML below a heading that a click folds; it needs no script."""
    return (
        f'<details{" open" if is_open else ""} style="margin:0.4em 0">'
        f'<summary style="cursor:pointer;font-weight:bold">{breakable(title)}</summary>'
        f'<div style="margin:0.2em 0 0.6em 1em">{inner}</div></details>'
    )


def html_table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, shown: bool = False
) -> str:
    """A table of cells that are HTML already; the first cell of each row is its heading.

    Args:
        caption: what the table holds, for those who hear it read.
        shown: whether the caption is seen as well.
    """
    hidden = "" if shown else "position:absolute;left:-9999px"
    head = "".join(f'<th scope="col" style="{CELL}">{html.escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row" style="{CELL};font-weight:normal">{row[0]}</th>'
        + "".join(
            f'<td data-name="{html.escape(name)}" style="{CELL}">{cell}</td>'
            for name, cell in zip(header[1:], row[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<table class="d2i wide" style="{TABLE}">'
        f'<caption style="text-align:left;{hidden}">{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
