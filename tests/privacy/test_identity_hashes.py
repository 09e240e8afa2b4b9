"""The look-up by digests names the same hits as a search with all identifiers in memory."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event, func, insert, select, update

from d2i_helpers import database
from d2i_helpers.database.tables import identifier_hashes, identifiers_taken, staging_table
from d2i_helpers.errors import DatabaseError
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy import identity_hashes
from d2i_helpers.privacy.identities import cohort_identifiers
from d2i_helpers.privacy.identity_hashes import DigestsInMemory, KeptDigests
from d2i_helpers.privacy.redaction import Redactor, forms_of
from d2i_helpers.runs.leaks import LeakCheck
from d2i_helpers.settings import Settings, Shard
from tests.privacy.full_search import FullSearch

TODAY = dt.date(2026, 8, 10)
ALLOWED = ["demo Harrow 2026-08-10", "ssd_api_data_staging"]
SPEC = load_spec()
NAME = "ssd_api_data_staging"
OTHER = "another_staging"

# short words, so that they meet: in identifiers, in plain words, in what is allowed
NAMES = st.sampled_from(
    ["Anna", "Li", "O", "Brien", "May", "Harrow", "Ng", "van", "der", "Berg", "Zoë", "Łucja",
     "Núñez", "ID", "x", "Table", "ß"]
)  # fmt: skip
IDENTIFIERS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=7).map(" ".join),
    st.sampled_from(
        [
            "O'Brien-Ng",
            "AB12 3DE",
            "AB1 2DE",
            "123",
            "4567",
            "1234567",
            "12345678",
            "20120503",
            "P-1000",
            "A123456789012",
            "2012-05-03",
            "2025-11-30",
            "2026-08-10",
            "",
            "–",
        ]
    ),
)
PARTS = st.one_of(
    IDENTIFIERS,
    NAMES,
    NAMES.map(str.upper),
    st.sampled_from(
        [
            "\\n",
            "\\u0142ucja",
            "%C5%81ucja",
            "3 May 2012",
            "May 3, 2012",
            "03/05/2012",
            "0.1234567",
            "date(2012, 5, 3)",
            "A1234 5678 9012",
            "A-123456789012",
            "OBrien",
            "vanderBerg",
            "&#39;",
            "x" * 9,
            "image/png",
            "30.11.2025",
            "count",
            "12",
        ]
    ),
)
TEXTS = st.lists(
    st.tuples(PARTS, st.sampled_from([" ", "", "-", "\\n", "'", " _ ", ", ", "         ", "\n"])),
    max_size=14,
).map(lambda parts: "".join(part + between for part, between in parts))


@given(st.lists(IDENTIFIERS, max_size=8), st.lists(TEXTS, min_size=1, max_size=3))
def test_look_ups_find_what_the_full_search_finds(identifiers: list[str], texts: list[str]) -> None:
    search = FullSearch(identifiers, allowed=ALLOWED, today=TODAY)
    of_forms = Redactor(identifiers, allowed=ALLOWED, today=TODAY)
    digests = DigestsInMemory(identifiers)
    of_digests = Redactor(known=digests.known, allowed=ALLOWED, today=TODAY)
    expected = [search.redact(unicodedata.normalize("NFC", text)) for text in texts]
    for redactor in (of_forms, of_digests):
        assert [redactor.redact(text) for text in texts] == expected
        whole = redactor.redact_json({"cells": texts})
        assert whole == ({"cells": [text for text, _ in expected]}, sum(n for _, n in expected))


# ---------------------------------------------------------------------------------- in a database
class World:
    """A staging table that anybody writes: extract, submit, other software, a DBA."""

    def __init__(self, engine: Engine, settings: Settings, seed: int) -> None:
        self.engine, self.settings, self.draw = engine, settings, random.Random(seed)
        self.table = staging_table(NAME)
        self.ids = [f"P-10{number}" for number in range(20)]
        database.create_staging(engine, NAME, OTHER)

    def document(self, person_id: str) -> dict[str, Any]:
        """A staged document and its hash, as columns of the current one."""
        details = {
            "first_name": self.draw.choice(["Anna", "Mary Ann", "Zoë", "May", "Li"]),
            "surname": self.draw.choice(["O'Brien", "van der Berg van Loon", "Ng", "Harrow"]),
            "date_of_birth": f"20{self.draw.randint(10, 25)}-05-03",
            "postcode": self.draw.choice(["AB12 3DE", "AB1 2DE"]),
        }
        only_here = f"M-{self.draw.randint(10**6, 10**9)}"  # in this version of this document
        held = {"la_child_id": person_id, "mis_child_id": only_here, "child_details": details}
        text = orjson.dumps(held).decode()
        if self.draw.random() < 0.1:
            text = "no document"
        hashed = hashlib.sha256(text.encode()).digest() if self.draw.random() < 0.7 else None
        return {"json_payload": text, "current_hash": hashed}

    def edit(self) -> None:
        """One thing that happens to a row."""
        t, person_id = self.table, self.draw.choice(self.ids)
        here = t.c.person_id == person_id
        acknowledged = {
            "previous_json_payload": t.c.json_payload, "previous_hash": t.c.current_hash,
        }  # fmt: skip
        change = self.draw.choice(
            [
                self.document(person_id),
                self.document(person_id),
                acknowledged,
                {"previous_json_payload": None, "previous_hash": None},
                {
                    "previous_json_payload": self.document(person_id)["json_payload"],
                    "previous_hash": None,
                },
                {"legacy_id": f"L-{self.draw.randint(10000, 10009)}"},
                {"row_state": "deleted"},
                None,
            ]
        )
        with database.transaction(self.engine) as connection:
            is_there = connection.execute(select(func.count()).where(here)).scalar()
            if change is None:
                connection.execute(delete(t).where(here))
            elif is_there:
                connection.execute(update(t).where(here).values(change))
            else:
                new = {"person_id": person_id, "submission_status": "pending"}
                connection.execute(insert(t).values(**new, **self.document(person_id)))

    def kept_forms(self) -> int:
        """How many rows of both tables of digests there are."""
        with database.reading(self.engine) as connection:
            return sum(
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (identifier_hashes, identifiers_taken)
            )


def all_forms(engine: Engine, settings: Settings) -> set[str]:
    """Every form of today's cohort, from its documents."""
    return {form for one in cohort_identifiers(engine, settings) for form in forms_of(one)}


@pytest.mark.parametrize("seed", range(2))
def test_kept_digests_are_those_of_todays_rows_whoever_wrote_them(
    engine: Engine, make_settings: Callable[..., Settings], seed: int
) -> None:
    settings = make_settings()
    world = World(engine, settings, seed)
    kept = KeptDigests(engine, NAME, SPEC)
    ever: set[str] = set()
    for _ in range(12):
        for _ in range(world.draw.randint(0, 12)):
            world.edit()
        kept.bring_up_to_date()
        now = all_forms(engine, settings)
        ever |= now
        singles = {form for form in now if form[0] == "f" and "w" + form[1:] in now}
        assert kept.known(ever) - singles == now - singles
    with database.transaction(engine) as connection:
        connection.execute(delete(world.table))
    kept.bring_up_to_date()
    assert kept.known(ever) == set() and world.kept_forms() == 0


def test_what_did_not_change_is_not_read_again_and_what_does_not_change_is_not_written(
    engine: Engine, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(engine, make_settings(), 1)
    with database.transaction(engine) as connection:
        for person_id in world.ids:
            row = {"person_id": person_id, "submission_status": "pending", "json_payload": "{}"}
            connection.execute(insert(world.table).values(**row, current_hash=b"1" * 32))
    kept = KeptDigests(engine, NAME, SPEC)
    assert [kept.bring_up_to_date() for _ in range(2)] == [20, 0]
    before = KeptDigests(engine, NAME, SPEC)
    assert before.bring_up_to_date() == 0  # another run has the same key
    acknowledged = {"previous_json_payload": "{}", "previous_hash": b"1" * 32}
    with database.transaction(engine) as connection:
        connection.execute(update(world.table).values(acknowledged))
    assert kept.bring_up_to_date() == 0  # the same document: nothing new to learn
    monkeypatch.setattr(identity_hashes, "FORMS", 2)
    assert kept.bring_up_to_date() == 20
    held = world.kept_forms()
    assert KeptDigests(engine, OTHER, SPEC).bring_up_to_date() == 0 and held == world.kept_forms()


def test_shards_make_the_digests_of_their_children_with_one_key(
    engine: Engine, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.dialect.name == "sqlite":
        return  # it takes no shards
    settings = make_settings()
    world = World(engine, settings, 1)
    with database.transaction(engine) as connection:
        for person_id in world.ids:
            row = {"person_id": person_id, "submission_status": "pending"}
            row |= world.document(person_id) | {"current_hash": b"1" * 32}
            connection.execute(insert(world.table).values(**row))
    shards = [KeptDigests(engine, NAME, SPEC, Shard(number, 2)) for number in (1, 2)]
    made = [shards[0].bring_up_to_date()]
    # the second began before the first had made the key
    held, asked = shards[1]._staging.fact, iter([None])
    monkeypatch.setattr(shards[1]._staging, "fact", lambda *named: next(asked, held(*named)))
    made.append(shards[1].bring_up_to_date())
    assert all(made) and KeptDigests(engine, NAME, SPEC).bring_up_to_date() == 0
    singles = {form for form in all_forms(engine, settings) if form[0] == "f"}
    assert shards[0].known(all_forms(engine, settings)) >= all_forms(engine, settings) - singles
    with database.transaction(engine) as connection:
        connection.execute(delete(world.table))
    shards[0].bring_up_to_date()
    assert world.kept_forms() > 0
    shards[1].bring_up_to_date()
    assert world.kept_forms() == 0


def test_another_specification_makes_all_digests_anew(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    world = World(engine, make_settings(), 1)
    row = {"person_id": "P-1", "submission_status": "pending", "json_payload": "{}"}
    with database.transaction(engine) as connection:
        connection.execute(insert(world.table).values(**row, current_hash=b"1" * 32))
    other = replace(SPEC, blocks={"child": SPEC.root})  # no other field identifies
    assert [KeptDigests(engine, NAME, one).bring_up_to_date() for one in (SPEC, SPEC, other)] == [
        1, 0, 1,
    ]  # fmt: skip


def test_the_forms_of_an_identifier_are_those_that_digests_were_made_of() -> None:
    """Digests are kept for good: raise `identity_hashes.FORMS` when this changes."""
    assert identity_hashes.FORMS == 1
    assert [
        [*forms_of(one)] for one in ("Anna van der Berg Ng", "123", "1234567", "2012-05-03")
    ] == [
        ["wANNA VAN DER BERG NG", "fANNA", "mANNA VAN DER BERG", "wANNAVANDERBERGNG"],
        ["i123"],
        ["w1234567"],
        ["d2012-05-03"],
    ]
    assert identity_hashes.digest_of(b"key", "wANNA") == -8974446253859483649


# ---------------------------------------------------------------------------------- in the runner
SAID = "Anna van der Berg van Loon lives in AB12 3DE"


@pytest.fixture
def check(engine: Engine, make_settings: Callable[..., Settings]) -> Iterator[LeakCheck]:
    """The leak check of a run, with one child staged."""
    settings = make_settings()
    database.create_staging(engine, NAME)
    details = {"first_name": "Anna", "surname": "van der Berg van Loon", "postcode": "AB12 3DE"}
    text = orjson.dumps({"la_child_id": "P-1000", "child_details": details}).decode()
    with database.transaction(engine) as connection:
        row = {"person_id": "P-1000", "json_payload": text, "submission_status": "pending"}
        connection.execute(insert(staging_table(NAME)).values(row))
    made = LeakCheck(settings)
    yield made
    made.close()


def test_without_tables_of_ours_the_cohort_is_read(check: LeakCheck, engine: Engine) -> None:
    for table in (identifier_hashes, identifiers_taken):
        with database.transaction(engine) as connection:
            table.drop(connection)
    assert check.redact(SAID) == ("[redacted] lives in [redacted]", 2)
    assert check.compared and not check.missed


def test_a_login_that_may_only_read_reads_the_cohort(
    check: LeakCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise DatabaseError("This login may not write.")

    monkeypatch.setattr(database, "insert_rows", refuse)
    assert check.redact(SAID)[1] == 2 and check.compared


def test_while_the_database_is_away_what_is_known_stays(
    check: LeakCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check.redact(SAID)[1] == 2

    def away(*_: Any) -> None:
        raise DatabaseError("The database is away.")

    with monkeypatch.context() as patched:
        patched.setattr(database, "reading", away)
        assert check.redact(SAID)[1] == 2 and not check.missed
        assert check.redact("P-1000") == ("P-1000", 0) and check.missed
        check.renew()
        assert check.redact(SAID)[1] == 2 and check.missed and check.compared
    check.renew()
    assert check.redact("P-1000")[1] == 1 and not check.missed


def test_what_others_made_and_wrote_since_is_seen(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    check = LeakCheck(make_settings())
    assert check.redact("P-1000 P-1001") == ("P-1000 P-1001", 0) and check.compared
    row = {"json_payload": "{}", "submission_status": "pending"}
    database.create_staging(engine, NAME)
    for number in range(2):
        with database.transaction(engine) as connection:
            new = {**row, "person_id": f"P-100{number}"}
            connection.execute(insert(staging_table(NAME)).values(new))
        check.renew()
        assert check.redact("P-1000 P-1001")[1] == 1 + number
    check.close()


def test_a_log_line_of_a_look_up_asks_nothing_itself(
    check: LeakCheck, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    assert check.engine is None

    def tell(*_: Any) -> None:
        logging.getLogger("sqlalchemy.engine").warning("table ssd_api_data_staging of %s", "ann")

    event.listen(check.open(), "before_cursor_execute", tell)
    assert check.redact(SAID)[1] == 2
    assert any("table" in message for message in caplog.messages)
