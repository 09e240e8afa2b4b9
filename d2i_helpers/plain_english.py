"""Numbers with their words in plain English: one child, two children, none refused."""

from __future__ import annotations

from collections.abc import Iterable

_MANY = {"child": "children", "entry": "entries", "ledger entry": "ledger entries"}


def counted(number: float, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 child``, ``0 children``, ``1,542 children``.

    Args:
        one: the noun for one.
        many: for every other number; without it as usual.
    """
    return f"{number:,} {one if number == 1 else many or _MANY.get(one, f'{one}s')}"


def verb(number: float, one: str, many: str) -> str:
    """The form of a verb that goes with a number."""
    return one if number == 1 else many


_VERBS = {
    "is": "are",
    "was": "were",
    "has": "have",
    "needs": "need",
    "holds": "hold",
    "waits": "wait",
}


def subject(number: float, one: str, is_: str = "is") -> str:
    """A number with its noun and verb: ``1 child is``, ``2 children are``.

    Args:
        one: the noun for one.
        is_: the verb for one, a key of the list above.
    """
    return f"{counted(number, one)} {is_ if number == 1 else _VERBS[is_]}"


def needs_attention(number: float) -> str:
    """``1 child needs attention``, ``2 children need attention``."""
    return f"{subject(number, 'child', 'needs')} attention"


def none_or(number: float) -> str:
    """The number, or ``none``."""
    return f"{number:,}" if number else "none"


def in_a_row(names: Iterable[str]) -> str:
    """Names as a sentence has them: ``a``, ``a and b``, ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
