"""Pictures and tables in one style, as HTML that shows wherever a saved notebook is opened.

A notebook that was executed elsewhere opens untrusted: scripts, style sheets, widgets and inline
SVG are dropped there. So a picture is an image with its numbers in the alternative text, and a
table has inline styles. The SVG is written here, because to import a plotting library would cost
each run more than to draw; it stands in the page as readable text, so that the search for
identities reads what it shows.

Colours are those of Okabe and Ito, which colour-blind people can tell apart, and each has a
pattern of its own for print. The ground is solid: an image does not take over the page's colours.
"""

from __future__ import annotations

import datetime as dt
import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from d2i_helpers.notebook.told import breakable

Number = int | float

WIDTH = 400  # units of a picture, which are pixels where the screen is wide enough
_MARGIN, _INNER = 10, WIDTH - 20
_MOST_LETTERS = 44  # of a label; the whole one stands in the alternative text
_AS_IT_IS = " '/:=;,.()-"  # characters that need no escape in the address of an image

# dark where the page is: an image is told the scheme of the page that it stands in
_STYLE = (
    "<style>.g{fill:#fff}.t{fill:#1b1f24}.s{fill:#4d5661}.e{stroke:#1b1f24}.l{stroke:#c9ced4}"
    "text{font:13px system-ui,sans-serif}"
    "@media(prefers-color-scheme:dark){.g{fill:#1c2126}.t{fill:#e6e9ec}.s{fill:#b3bcc6}"
    ".e{stroke:#e6e9ec}.l{stroke:#4a525b}}</style>"
)


class Look(NamedTuple):
    """How one kind of thing is drawn: its colour, the pattern over it, the mark of a point."""

    name: str  # of the pattern in the picture
    colour: str
    pattern: str  # path in a square of 8 units; empty: the plain colour
    mark: str  # a key of `_MARKS`


_PLAIN = Look("plain", "#56b4e9", "", "round")
_GOOD = Look("good", "#009e73", "", "round")
_REFUSED = Look("refused", "#d55e00", "M0 8L8 0M-2 2L2 -2M6 10L10 6", "cross")
_FAILED = Look("failed", "#d55e00", "M0 2H8M0 6H8", "cross")
_WARN = Look("warn", "#e69f00", "M0 0L8 8M0 8L8 0", "triangle")
_OPEN = Look("open", "#cc79a7", "M4 3v2M0 7v2M8 7v2", "square")
_REST = Look("rest", "#c9ced4", "M0 4H8", "round")
_LOOKS = {
    **dict.fromkeys(("acknowledged", "completed", "pass", "accepted", "at rest"), _GOOD),
    **dict.fromkeys(("refused", "error", "damaged"), _REFUSED),
    **dict.fromkeys(("failed", "fail", "server error"), _FAILED),
    **dict.fromkeys(("attention", "warn", "not valid", "held back"), _WARN),
    **dict.fromkeys(("unknown", "interrupted", "no answer"), _OPEN),
    **dict.fromkeys(("unsent", "pending", "skipped", "running"), _REST),
}
_MARKS = {
    "round": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "cross": "M-4 -2L-2 -4L0 -2L2 -4L4 -2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0Z",
    "triangle": "M0 -5L5 4H-5Z",
    "square": "M-4 -4H4V4H-4Z",
}


def look_of(kind: str) -> Look:
    """How a kind is drawn: what was refused never looks like what was acknowledged.

    Args:
        kind: an outcome, a status or any other word; unknown ones are all drawn alike.
    """
    known = _LOOKS.get(kind) or _LOOKS.get(kind.rpartition(", ")[2])
    return known or _PLAIN


def said(number: Number) -> str:
    """A number as it is written: 1,542 and 0.4."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def heading(title: str) -> str:
    """The title over a picture, as HTML."""
    return f'<p style="margin:0.8em 0 0.2em"><strong>{html.escape(title)}</strong></p>'


# ------------------------------------------------------------------------------------- pictures
def bars(title: str, items: Sequence[tuple[str, Number]], *, whole: Number | None = None) -> str:
    """A horizontal bar for each name, with its number, as HTML.

    Args:
        title: what is counted.
        items: name and number, drawn in this order; a name that is an outcome has its look.
        whole: the number that fills the width; without it the highest.
    """
    row, bar = 38, 12
    most = max([whole or 1, *(number for _, number in items)])
    parts, looks = [], [look_of(name) for name, _ in items]
    for place, ((name, number), look) in enumerate(zip(items, looks, strict=True)):
        top = 8 + row * place
        parts.append(_text(_MARGIN, top + 13, name))
        parts.append(_text(WIDTH - _MARGIN, top + 13, said(number), anchor="end", bold=True))
        length = max(0.0, (_INNER) * number / most)
        if number > 0:
            parts.append(_box(_MARGIN, top + 18, max(length, 1.5), bar, look))
    alt = f"{title}: " + "; ".join(f"{name} {said(number)}" for name, number in items)
    return heading(title) + _image(parts, looks, 10 + row * len(items), alt)


@dataclass(frozen=True)
class Column:
    """One column of a picture over time: when it begins, and its numbers by kind."""

    label: str
    numbers: Mapping[str, Number]


def columns(title: str, shown: Sequence[Column], unit: str) -> str:
    """Upright columns in order of time, each divided by kind, with a key of the kinds.

    Args:
        title: what is counted.
        shown: the columns, from left to right.
        unit: what the numbers count, for the alternative text, such as "requests".
    """
    kinds = list(dict.fromkeys(kind for column in shown for kind in column.numbers))
    looks = {kind: look_of(kind) for kind in kinds}
    most = nice(max(sum(column.numbers.values()) for column in shown))
    left, bottom, height = 46, 150, 130
    wide = (WIDTH - left - _MARGIN) / max(1, len(shown))
    parts = _scale(most, left, bottom, height)
    for place, column in enumerate(shown):
        top: float = bottom
        for kind in kinds:
            tall = height * column.numbers.get(kind, 0) / most
            top -= tall
            if tall:
                width = max(1.0, min(wide - 1, 40))
                parts.append(_box(left + wide * place, top, width, tall, looks[kind]))
    parts += _ends(left, bottom + 18, shown[0].label, shown[-1].label if len(shown) > 1 else "")
    totals = {kind: sum(column.numbers.get(kind, 0) for column in shown) for kind in kinds}
    key, end = _key(totals, looks, bottom + 30)
    each = "; ".join(
        f"{column.label} {', '.join(f'{said(n)} {kind}' for kind, n in column.numbers.items())}"
        for column in shown
        if column.numbers
    )
    whole = ", ".join(f"{said(number)} {kind}" for kind, number in totals.items())
    alt = f"{title}. All {unit}: {whole}. By time: {each}."
    return heading(title) + _image([*parts, *key], list(looks.values()), end, alt)


class Point(NamedTuple):
    """One point of a picture over time."""

    at: dt.datetime
    number: Number
    kind: str  # an outcome, which gives the mark its look


def over_time(title: str, points: Sequence[Point], unit: str) -> str:
    """Points joined by a line, from 0 to the highest; each kind has a mark and a colour.

    Args:
        title: what is measured.
        points: in order of time.
        unit: of the numbers, for the alternative text.
    """
    if not points:
        return heading(title) + '<p style="margin:0.2em 0">Nothing to show yet.</p>'
    looks = {point.kind: look_of(point.kind) for point in points}
    left, bottom, height = 56, 160, 140
    most = nice(max(point.number for point in points))
    first, last = points[0].at, points[-1].at
    span = (last - first).total_seconds() or 1

    def place(point: Point) -> tuple[float, float]:
        across = (point.at - first).total_seconds() / span if len(points) > 1 else 0.5
        return left + 8 + across * (WIDTH - left - 24), bottom - height * point.number / most

    parts = _scale(most, left, bottom, height)
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(place, points))
    parts.append(f"<path class='e' d='M{line}' fill='none' stroke-width='1' opacity='.5'/>")
    # what did not go well is drawn last, on top
    for point in sorted(points, key=lambda point: looks[point.kind] is not _GOOD):
        parts.append(_mark(*place(point), looks[point.kind]))
    begin, until = f"{first:%d %b %Y}", f"{last:%d %b %Y}"
    parts += _ends(left, bottom + 18, begin, until if until != begin else "")
    totals = {kind: sum(1 for point in points if point.kind == kind) for kind in looks}
    key, end = _key(totals, looks, bottom + 30, as_marks=True)
    numbers = [point.number for point in points]
    alt = (
        f"{title}, in {unit}: {len(points)} from {begin} to {until}, "
        f"least {said(min(numbers))}, most {said(max(numbers))}, last {said(numbers[-1])}. "
        + ", ".join(f"{number} {kind}" for kind, number in totals.items())
        + "."
    )
    return heading(title) + _image([*parts, *key], [], end, alt)


# ---------------------------------------------------------------------------------------- parts
def _text(x: float, y: float, text: str, *, anchor: str = "", bold: bool = False) -> str:
    short = text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
    at = f" text-anchor='{anchor}'" if anchor else ""
    weight = " font-weight='600'" if bold else ""
    return f"<text class='t' x='{x:g}' y='{y:g}'{at}{weight}>{html.escape(short)}</text>"


def _box(x: float, y: float, width: float, height: float, look: Look) -> str:
    fill = f"url(#{look.name})" if look.pattern else look.colour
    return (
        f"<rect class='e' x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' "
        f"fill='{fill}' stroke-width='.8'/>"
    )


def _mark(x: float, y: float, look: Look) -> str:
    return (
        f"<path class='e' transform='translate({x:.1f} {y:.1f})' d='{_MARKS[look.mark]}' "
        f"fill='{look.colour}'/>"
    )


def nice(most: Number) -> Number:
    """The end of a scale: the next of 1, 2, 4, 6, 8 and 10 times a power of ten, so none is cut."""
    unit = 10 ** math.floor(math.log10(most)) if most > 0 else 1
    return next(top for n in (1, 2, 4, 6, 8, 10) if (top := n * unit) >= most)


def _scale(most: Number, left: float, bottom: float, height: float) -> list[str]:
    """Lines across at nothing, the half and the whole, with their numbers."""
    parts = []
    for share in (0.0, 0.5, 1.0):
        y, number = bottom - height * share, most * share
        shown = f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"
        parts.append(
            f"<path class='l' d='M{left} {y:g}H{WIDTH - _MARGIN}'/>"
            f"<text class='s' x='{left - 6}' y='{y + 4:g}' text-anchor='end'>{shown}</text>"
        )
    return parts


def _ends(left: float, y: float, first: str, last: str) -> list[str]:
    parts = [f"<text class='s' x='{left}' y='{y:g}'>{html.escape(first)}</text>"]
    if last:
        parts.append(
            f"<text class='s' x='{WIDTH - _MARGIN}' y='{y:g}' text-anchor='end'>"
            f"{html.escape(last)}</text>"
        )
    return parts


def _key(
    totals: Mapping[str, Number], looks: Mapping[str, Look], top: float, *, as_marks: bool = False
) -> tuple[list[str], float]:
    """Each kind with its look and its number. Returns the parts and where they end."""
    parts = []
    for place, (kind, number) in enumerate(totals.items()):
        y = top + 22 * place
        look = looks[kind]
        mark = _mark(_MARGIN + 7, y + 7, look) if as_marks else _box(_MARGIN, y, 14, 14, look)
        parts.append(mark)
        parts.append(_text(_MARGIN + 22, y + 12, f"{kind}: {said(number)}"))
    return parts, top + 22 * len(totals) + 4


def _image(parts: Sequence[str], looks: Sequence[Look], height: float, alt: str) -> str:
    patterns = "".join(
        f"<pattern id='{look.name}' width='8' height='8' patternUnits='userSpaceOnUse'>"
        f"<rect width='8' height='8' fill='{look.colour}'/>"
        f"<path d='{look.pattern}' stroke='#1b1f24' stroke-width='1.3' fill='none'/></pattern>"
        for look in dict.fromkeys(looks)
        if look.pattern
    )
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:g}' "
        f"width='{WIDTH}' height='{height:g}'>{_STYLE}<defs>{patterns}</defs>"
        f"<rect class='g' width='100%' height='100%' rx='4'/>{''.join(parts)}</svg>"
    )
    return (
        f'<p style="margin:0.2em 0"><img alt="{html.escape(alt)}" width="{WIDTH}" '
        f'style="max-width:100%;height:auto" '
        f'src="data:image/svg+xml,{quote(svg, safe=_AS_IT_IS)}"></p>'
    )


# --------------------------------------------------------------------------------------- tables
_TABLE = "border-collapse:collapse;font-size:0.95em;margin:0.3em 0;min-width:18em"
# the name of a field, table, column or parameter; whatever else a text is, a search for it finds it
_NAME = re.compile(r"[a-z0-9]+(?:\[\])?(?:[._]+[a-z0-9]+(?:\[\])?)+", re.ASCII)
_CELL = "padding:0.25em 0.9em 0.25em 0;border-bottom:1px solid rgba(128,128,128,.4)"
_CELL += ";vertical-align:top;background:none;white-space:normal"
_CAPTION = "caption-side:top;text-align:left;padding:0.5em 0 0.2em;font-weight:bold"
_CAPTION += ";color:inherit;font-size:1em;font-style:normal"
# so many columns fit on a phone where all but the first are numbers; else two do. A page shows the
# rows of wider tables as cards
_MOST_NUMBERS = 4


def _in_lines(text: str) -> str:
    """A text as HTML; a long name may go on in the next line behind a dot or an underscore."""
    return breakable(text) if _NAME.fullmatch(text) else html.escape(text)


def table(
    title: str,
    names: Sequence[str],
    cells: Sequence[Sequence[str]],
    right: Sequence[bool] | None = None,
) -> str:
    """A table as HTML, without colours of its own, read aloud by column and row.

    Args:
        title: its caption; empty: none.
        names: headers of the columns; an empty one heads nothing.
        cells: rows of texts; the first of each row is its header.
        right: which columns are numbers.
    """
    align = ["right" if number else "left" for number in right or [False] * len(names)]

    def cell(place: int, text: str, tag: str, more: str = "") -> str:
        weight = ";font-weight:normal" if tag == "th" and "row" in more else ""
        numeric = ";font-variant-numeric:tabular-nums" if align[place] == "right" else ""
        style = f"{_CELL};text-align:{align[place]}{weight}{numeric}"
        return f'<{tag}{more} style="{style}">{_in_lines(text)}</{tag}>'

    head = "".join(
        cell(place, name, "th" if name else "td", ' scope="col"' if name else "")
        for place, name in enumerate(names)
    )
    body = ""
    for row in cells:
        inner = cell(0, row[0], "th", ' scope="row"') if row and row[0] else cell(0, "", "td")
        for place in range(1, len(row)):
            said_by = f' data-name="{html.escape(names[place])}"' if names[place] else ""
            inner += cell(place, row[place], "td", said_by)
        body += f"<tr>{inner}</tr>"
    fits = len(names) <= (_MOST_NUMBERS if right and all(right[1:]) else 2)
    kind = "d2i" if fits else "d2i wide"
    caption = f'<caption style="{_CAPTION}">{html.escape(title)}</caption>' if title else ""
    heads = f"<thead><tr>{head}</tr></thead>" if any(names) else ""
    return f'<table class="{kind}" style="{_TABLE}">{caption}{heads}<tbody>{body}</tbody></table>'
