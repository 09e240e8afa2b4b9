"""Pages of runs from templates: one look, nothing loaded, no control code in any text."""

from __future__ import annotations

import datetime as dt
import functools
import html
import re
from typing import Any

import jinja2

from d2i_helpers.database.plain_message import without_controls

# what a message puts between backticks: a name, a setting, a command
_CODE = re.compile(r"`([^`\n]+)`")


def render(template: str, **values: Any) -> bytes:
    """A page from a template of this package; every text in it is escaped.

    Args:
        template: name of a file in `templates`.
        values: what the template names; it marks what is HTML already with `plain | safe`.
    """
    return _templates().get_template(template).render(**values).encode()


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=_plain,
    )
    environment.filters |= {"plain": _plain, "said": said, "took": took, "when": when}
    return environment


def _plain(value: Any) -> Any:
    """A value without codes that a terminal would obey."""
    if type(value) is not str or value.isprintable():
        return value
    return without_controls(value)


def said(message: Any) -> str:
    """A message as HTML, with what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", html.escape(str(_plain(message))))


def when(time: str | None) -> str:
    """A time of a record as people read it: ``10 Aug 2026, 02:00 UTC``."""
    if not time:
        return ""
    try:
        return f"{dt.datetime.fromisoformat(time):%d %b %Y, %H:%M} UTC"
    except ValueError:
        return str(time)


def took(seconds: float | None) -> str:
    """A duration: ``12 s``, ``3.4 min``."""
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
