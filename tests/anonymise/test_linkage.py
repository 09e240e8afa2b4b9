"""How far somebody gets who holds the original table and the anonymised one, but not the key.

docs/privacy.md states these bounds. The attacks are the simple ones of the literature: match by the
order of ids, by the nearest date, by codes, by intervals; and by what the tables show beside the
documents: order and times of rows, sizes, the order on the wire. Each guesses the most likely
original of every anonymised child, and is scored by the share of right guesses.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, delete, select

from d2i_helpers import database
from d2i_helpers.anonymise import fake_documents
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.database.tables import facts, notes, submission_log
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.payload_spec import Document, load_spec
from d2i_helpers.privacy.identities import collector
from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.staging import Staged, Staging, utc_now
from d2i_helpers.staging.load import write
from d2i_helpers.staging.messages import Attempt, RecordResult
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.results import BatchResult

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


# ------------------------------------------------------------------------ the tables as they stand
KEY = "a secret of the test, long enough"
MOST_BY_CHANCE = 6  # right guesses in a random order: one on average, more than six once in 12,000
FIRST_LOAD, DAYS, A_DAY = 240, 12, 5


class Tables:
    """An identifiable table and its twin, filled day by day; and what somebody sees of the two."""

    def __init__(self, engine: Engine, settings: Settings, documents: list[Document]) -> None:
        self.engine, self.settings = engine, settings
        self.documents = documents
        self.original = Staging(engine, settings.staging_table)
        self.twin = Staging(engine, settings.anon_table)
        self.child_id = Pseudonymiser(
            SPEC, KEY.encode(), max_shift_days=HALF_YEAR, window_start=START
        ).child_id
        database.create_staging(engine, settings.staging_table)

    def stage(self, documents: Sequence[Document], staging: Staging | None = None) -> None:
        """Write documents in this order."""
        rows = [
            Staged(one["la_child_id"], None, to_text(one), content_hash(SPEC, one))
            for one in documents
        ]
        staging = staging or self.original
        with database.transaction(self.engine) as connection:
            write(connection, staging, rows)

    def anonymise(self) -> None:
        secrets = Secrets(pseudonym_key=SecretStr(KEY))
        anonymise.run(self.engine, self.settings, secrets, SPEC)

    def rows(self, staging: Staging, *order: str) -> list[Any]:
        """All rows; without an order as the database hands them out."""
        t = staging.table.c
        statement = select(t.id, t.person_id, t.last_updated, t.json_payload)
        with database.reading(self.engine) as connection:
            return list(connection.execute(statement.order_by(*(t[name] for name in order))))

    def found(self, originals: Sequence[str], pseudonyms: Sequence[str]) -> int:
        """Children found again by counting: the nth pseudonym is taken for the nth original."""
        assert len(originals) == len(pseudonyms) > 100
        assert {self.child_id(one) for one in originals} == set(pseudonyms)
        pairs = zip(originals, pseudonyms, strict=True)
        return sum(self.child_id(one) == pseudonym for one, pseudonym in pairs)

    def found_by(self, *order: str) -> int:
        """The same for the rows of the two tables in an order."""
        return self.found(
            [row.person_id for row in self.rows(self.original, *order)],
            [row.person_id for row in self.rows(self.twin, *order)],
        )


@pytest.fixture
def stored(
    engine: Engine, make_settings: Callable[..., Settings], tables: tuple[list[Document], ...]
) -> Tables:
    settings = make_settings(source="anonymised", chunk_size=50, batch_size=40, run_date=START)
    return Tables(engine, settings, tables[0][: FIRST_LOAD + DAYS * A_DAY])


def test_the_order_of_rows_links_nobody(stored: Tables) -> None:
    stored.stage(stored.documents)
    stored.anonymise()
    changed = [
        {**one, "child_details": {**one["child_details"], "surname": "Somebodyelse"}}
        for one in stored.documents[::2]
    ]
    for _ in ("the first load", "and after changes, which some databases write as new rows"):
        assert stored.found_by("id") <= MOST_BY_CHANCE
        assert stored.found_by() <= MOST_BY_CHANCE
        assert stored.found_by("last_updated", "id") <= MOST_BY_CHANCE
        stored.stage(changed)
        stored.anonymise()


def test_rows_of_one_run_bear_one_time(stored: Tables) -> None:
    stored.stage(stored.documents)
    stored.anonymise()
    assert len({row.last_updated for row in stored.rows(stored.twin)}) == 1


def test_of_later_arrivals_only_the_day_shows(stored: Tables) -> None:
    """Who came on a day is among those who came on that day; within it the order says nothing."""
    for last in range(FIRST_LOAD, len(stored.documents) + 1, A_DAY):
        stored.stage(stored.documents[:last])
        stored.anonymise()
    assert stored.found_by("id") <= 2 * (1 + DAYS)  # chance: one a day


def test_rows_of_an_earlier_release_lose_their_order(stored: Tables) -> None:
    stored.stage(stored.documents)
    stored.anonymise()
    before = {row.person_id: row.json_payload for row in stored.rows(stored.twin)}
    with database.transaction(stored.engine) as connection:
        connection.execute(delete(stored.twin.table))
        connection.execute(delete(facts).where(facts.c.name == "row_order"))
    in_order = [orjson.loads(before[stored.child_id(d["la_child_id"])]) for d in stored.documents]
    stored.stage(in_order, stored.twin)
    assert stored.found_by("id") == len(stored.documents)

    stored.anonymise()
    assert stored.found_by("id") <= MOST_BY_CHANCE
    assert {row.person_id: row.json_payload for row in stored.rows(stored.twin)} == before


def test_the_order_on_the_wire_and_in_the_log_links_nobody(stored: Tables) -> None:
    stored.stage(stored.documents)
    stored.anonymise()
    delta_stage.run(stored.engine, stored.settings, SPEC)
    with database.reading(stored.engine) as connection:
        noted = list(connection.execute(select(notes.c.person_id)).scalars())
    sent: list[str] = []

    def post(bodies: list[bytes]) -> BatchResult:
        sent.extend(orjson.loads(body)["la_child_id"] for body in bodies)
        return acknowledged(len(bodies))

    client: Any = type("Client", (), {"send": staticmethod(post)})()
    endpoint: Any = None
    counts = submit.run(stored.engine, stored.settings, SPEC, endpoint, client=client).counts
    assert counts["acknowledged"] == len(stored.documents)
    with database.reading(stored.engine) as connection:
        log = select(submission_log.c.person_id).order_by(submission_log.c.id)
        logged = list(connection.execute(log).scalars())
    originals = [one["la_child_id"] for one in stored.documents]
    for order in (noted, sent, logged):
        assert stored.found(originals, order) <= MOST_BY_CHANCE


def acknowledged(count: int) -> BatchResult:
    """The receiver has taken everything."""
    now, taken = utc_now(), Outcome.ACKNOWLEDGED
    results = [RecordResult(taken, "", "ref") for _ in range(count)]
    return BatchResult(results, [Attempt(1, tuple(range(count)), taken, 200, "", None, now, 1)])


def test_sizes_do_link_as_the_documentation_says(stored: Tables) -> None:
    """Sizes follow from the structure, which is kept: no bound is claimed."""
    stored.stage(stored.documents)
    stored.anonymise()

    def by_size(staging: Staging) -> list[str]:
        rows = sorted(stored.rows(staging), key=lambda row: len(row.json_payload))
        return [row.person_id for row in rows]

    assert stored.found(by_size(stored.original), by_size(stored.twin)) > 10 * MOST_BY_CHANCE
