"""How far somebody gets who holds the original table and the anonymised one, but not the key.

docs/privacy.md states these bounds. The attacks are the simple ones of the literature: match by the
order of ids, by the nearest date, by codes, by intervals; each guesses the most likely original of
every anonymised child, and is scored by the share of right guesses.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from typing import Any

import pytest

from d2i_helpers.anonymise import fake_documents
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.privacy.identities import collector
from d2i_helpers.spec import Document, load_spec

SPEC = load_spec()
START = dt.date(2024, 4, 1)
CHILDREN = 600
YEARS = 16  # over which their births are spread
HALF_YEAR = 183
CHANCE = 1 / CHILDREN
CODES = {field.path for _, field in SPEC.fields() if field.codes}
DATES = {field.name for _, field in SPEC.fields() if field.type == "date"}


@pytest.fixture(scope="module")
def tables() -> tuple[list[Document], list[Document]]:
    """Originals and their pseudonyms, at the same places."""
    chance = random.Random(7)
    originals = []
    for number, one in enumerate(fake_documents.documents(SPEC, START, CHILDREN)):
        one["la_child_id"] = str(100_000 + 7 * number)  # as a system counts up
        details = one["child_details"]
        details.pop("expected_date_of_birth", None)
        born = START - dt.timedelta(chance.randrange(YEARS * 365))
        details["date_of_birth"] = born.isoformat()
        originals.append(one)
    pseudonyms = Pseudonymiser(SPEC, b"k" * 32, max_shift_days=HALF_YEAR, window_start=START)
    collect = collector(SPEC)
    made = [pseudonyms.document(one["la_child_id"], one, collect(one)) for one in originals]
    return originals, made


def share_of_right_guesses(guess: Callable[[int], int]) -> float:
    return sum(guess(place) == place for place in range(CHILDREN)) / CHILDREN


def nearest(made: Any, originals: list, distance: Callable[[Any, Any], float]) -> int:
    """The first of the originals with the smallest distance."""
    return min(range(len(originals)), key=lambda place: (distance(made, originals[place]), place))


def ordinals(document: Any) -> list[int]:
    found: list[int] = []
    if type(document) is dict:
        for name, held in document.items():
            if name in DATES:
                found.append(dt.date.fromisoformat(held).toordinal())
            else:
                found += ordinals(held)
    elif type(document) is list:
        for item in document:
            found += ordinals(item)
    return sorted(found)


def codes(document: Any, path: str = "") -> dict[str, str]:
    """The first code at each path."""
    found: dict[str, str] = {}
    for name, held in document.items():
        here = f"{path}{name}"
        if here in CODES:
            found[here] = str(held)
        elif type(held) is dict:
            found = {**codes(held, f"{here}."), **found}
        elif type(held) is list and held and type(held[0]) is dict:
            found = {**codes(held[0], f"{here}[]."), **found}
    return found


def test_ids_link_nobody(tables: tuple[list[Document], list[Document]]) -> None:
    originals, made = tables
    real = {one["la_child_id"] for one in originals}
    assert not real & {one["la_child_id"] for one in made}
    order = sorted(range(CHILDREN), key=lambda place: made[place]["la_child_id"])
    rank = {place: position for position, place in enumerate(order)}
    assert share_of_right_guesses(lambda place: rank[place]) <= 6 * CHANCE


def test_codes_link_nobody(tables: tuple[list[Document], list[Document]]) -> None:
    """Of the codes that a child has; that it has them is structure, see below."""
    originals, made = tables
    real, pseudo = [codes(one) for one in originals], [codes(one) for one in made]
    personal = ("child_details.sex", "child_details.ethnicity", "child_details.disabilities")

    def unlike(one: dict[str, str], other: dict[str, str]) -> float:
        return sum(one.get(path) != other.get(path) for path in personal)

    right = share_of_right_guesses(lambda place: nearest(pseudo[place], real, unlike))
    assert right <= 6 * CHANCE


def test_a_birth_date_links_no_better_than_one_in_the_children_of_a_half_year(
    tables: tuple[list[Document], list[Document]],
) -> None:
    originals, made = tables
    births = [
        dt.date.fromisoformat(one["child_details"]["date_of_birth"]).toordinal()
        for one in originals
    ]
    shifted = [
        dt.date.fromisoformat(one["child_details"]["date_of_birth"]).toordinal() for one in made
    ]
    born_in_a_half_year = CHILDREN * HALF_YEAR / (YEARS * 365)  # 19 here
    for step in (1, HALF_YEAR // 2, HALF_YEAR):  # guesses of the shift: least, middle, most
        right = share_of_right_guesses(
            lambda place, step=step: nearest(shifted[place] + step, births, lambda a, b: abs(a - b))
        )
        assert right <= 2 / born_in_a_half_year


def test_intervals_do_link_as_the_documentation_says(
    tables: tuple[list[Document], list[Document]],
) -> None:
    """Intervals are kept, which whoever holds the original table can use: no bound is claimed."""
    originals, made = tables

    def steps(document: Document) -> tuple[int, ...]:
        days = ordinals(document)
        return tuple(day - days[0] for day in days)

    real, pseudo = [steps(one) for one in originals], [steps(one) for one in made]
    right = share_of_right_guesses(lambda place: real.index(pseudo[place]))
    assert right > 0.9
