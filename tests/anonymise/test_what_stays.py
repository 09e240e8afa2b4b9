"""Documents that stay: after any day the twin is what it would be if all were made anew."""

from __future__ import annotations

import copy
import random
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.anonymise import documents as documents_of_twin
from d2i_helpers.anonymise.digests import DIGESTS, Seal, keyed_digest
from d2i_helpers.database import tables
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.payload_spec import Document
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, attention
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.states import Unsent
from tests.anonymise.test_anonymise import (
    IDENTIFIABLE,
    KEY,
    SPEC,
    TWIN,
    acknowledge,
    gone,
    originals,
    rows,
    run,
    stage,
)

PERSON = ("first_name", "surname", "date_of_birth")


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(chunk_size=4)


def as_it_is(engine: Engine) -> Any:
    """The twin, who needs attention in it, and what is kept of the last time.

    What is kept of children who are held back is left out: it stays if it was there before.
    """
    beside = tables.attention.c
    held_back = select(beside.staging_table, beside.person_id, beside.rule)
    with database.reading(engine) as connection:
        notes = connection.execute(select(tables.anonymised)).all()
        entries = sorted(map(tuple, connection.execute(held_back)))
    held = {entry[:2] for entry in entries}
    kept = {
        (note.staging_table, note.person_id): (
            bytes(note.document_hash),
            note.document_size,
            None if note.compared is None else bytes(note.compared),
        )
        for note in notes
        if (note.staging_table, note.person_id) not in held
    }
    return rows(engine), entries, kept


def forget(engine: Engine) -> None:
    with database.transaction(engine) as connection:
        connection.execute(tables.anonymised.delete())


def day(engine: Engine, settings: Settings) -> Counter[str]:
    """Anonymise, and once more with nothing kept: it must find nothing to write."""
    counts = Counter(run(engine, settings))
    before = as_it_is(engine)
    forget(engine)
    run(engine, settings)
    assert as_it_is(engine) == before
    return counts


def details_of_twin(engine: Engine, wanted: str) -> list[Document]:
    live = [row for row in rows(engine).values() if row.row_state != "deleted"]
    parsed = [orjson.loads(row.json_payload).get("child_details", {}) for row in live]
    return [details for details in parsed if wanted in details]


def put(engine: Engine, table: str, person_id: str, **values: Any) -> None:
    t = tables.staging_table(table)
    with database.transaction(engine) as connection:
        connection.execute(update(t).where(t.c.person_id == person_id).values(**values))


def hold(engine: Engine, *person_ids: str) -> None:
    """Hold these children back, and nobody else."""
    source = Staging(engine, IDENTIFIABLE)
    entries = [Entry(one, Unsent.HELD_BACK, "id_shared") for one in person_ids]
    with database.transaction(engine) as connection:
        attention.add(connection, source, "extract", entries, "a-run")
        attention.remove_others(connection, source, "extract", entries)


# --------------------------------------------------------------------------------- what is made
def test_only_documents_of_children_who_changed_are_made(
    engine: Engine, settings: Settings
) -> None:
    documents = originals(settings)
    stage(engine, documents)
    assert day(engine, settings)["anonymised"] == 10
    documents[2]["child_details"]["surname"] = "Somebodyelse"
    stage(engine, documents)
    gone(engine, "P-1005")
    counts = day(engine, settings)
    assert counts == {
        "children_read": 1, "anonymised": 1, "updated": 1, "gone": 1, "unchanged": 8,
        "documents_searched": 1, "values_searched": counts["values_searched"],
    }  # fmt: skip


def test_what_was_kept_by_an_earlier_release_is_made_once_more(
    engine: Engine, settings: Settings
) -> None:
    documents = originals(settings)
    stage(engine, documents)
    run(engine, settings)
    with database.transaction(engine) as connection:
        connection.execute(update(tables.anonymised).values(compared=None))
    assert run(engine, settings) == {"unchanged": 10}
    for anonymised in (10, 1):
        documents[2]["child_details"]["surname"] += "x"
        stage(engine, documents)
        assert run(engine, settings)["anonymised"] == anonymised


# ------------------------------------------------------------------ what other children really have
@pytest.mark.parametrize("many", [False, True])
def test_a_document_that_stays_never_bears_what_a_new_child_has(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    if many:
        monkeypatch.setattr(documents_of_twin, "_LIKELY_TO_MEET", 1)
    documents = originals(settings)
    stage(engine, documents)
    run(engine, settings)
    before = rows(engine)
    drawn = details_of_twin(engine, "unique_pupil_number")[0]["unique_pupil_number"]
    met = {name: details_of_twin(engine, "date_of_birth")[-1][name] for name in PERSON}
    one, other = ({"la_child_id": f"P-{n}", "child_details": {}} for n in (2000, 2001))
    one["child_details"]["unique_pupil_number"] = drawn
    other["child_details"] |= met
    stage(engine, [one, other])
    counts = day(engine, settings)
    assert (counts["redrawn"], counts["anonymised"]) == (2, 4)
    assert not any(drawn in row.json_payload for row in rows(engine).values())
    assert not [d for d in details_of_twin(engine, "surname") if met.items() <= d.items()]
    gone(engine, "P-2000", "P-2001")
    day(engine, settings)  # what stood in the way is there no more
    after = rows(engine)
    assert {name: after[name].json_payload for name in before} == {
        name: row.json_payload for name, row in before.items()
    }


def test_a_new_document_never_bears_what_a_child_has_whose_document_stays(
    engine: Engine, settings: Settings
) -> None:
    documents = originals(settings)
    stage(engine, documents)
    run(engine, settings)
    details = details_of_twin(engine, "unique_pupil_number")
    real = next(d for d in documents if "unique_pupil_number" in d["child_details"])
    number = details[0]["unique_pupil_number"]  # some child's, by the key
    forget(engine)
    holder: Document = {"la_child_id": "P-2000", "child_details": {"unique_pupil_number": number}}
    without = copy.deepcopy(documents)
    for document in without:
        document["child_details"].pop("unique_pupil_number", None)
    stage(engine, [*without, holder])
    run(engine, settings)
    assert real["child_details"]["unique_pupil_number"]
    stage(engine, documents)
    assert day(engine, settings)["redrawn"] == 1
    assert not any(number in row.json_payload for row in rows(engine).values())


# ------------------------------------------------------------------------------------- any days
def change_something(engine: Engine, documents: list[Document], dice: random.Random) -> None:
    """One thing that may happen to originals or twin from one day to the next."""
    at = dice.randrange(len(documents))
    document, person_id = documents[at], documents[at]["la_child_id"]
    pseudonym = dice.choice(sorted(rows(engine)))
    numbers = details_of_twin(engine, "unique_pupil_number")
    persons = details_of_twin(engine, "date_of_birth")
    match dice.randrange(11):
        case 0:
            document["child_details"]["surname"] = f"Name{dice.random()}"
        case 1 if numbers:  # what was drawn for somebody, somebody really has
            number = dice.choice(numbers)["unique_pupil_number"]
            document["child_details"]["unique_pupil_number"] = number
        case 2 if persons:
            person = dice.choice(persons)
            document["child_details"] |= {name: person[name] for name in PERSON}
        case 3:
            document["mis_child_id"] = f"L-{dice.randrange(5)}"
        case 4:
            return gone(engine, person_id)
        case 5:
            return hold(engine, person_id)
        case 6:
            return hold(engine)
        case 7:
            return put(engine, IDENTIFIABLE, person_id, json_payload="no JSON")
        case 8:  # the document of somebody else, by another hand
            other = orjson.dumps(dice.choice(documents)).decode()
            return put(engine, IDENTIFIABLE, person_id, json_payload=other, current_hash=None)
        case 9:
            values = [{"json_payload": "{}"}, {"current_hash": None}, {"row_state": "deleted"},
                      {"current_hash": b"1" * 32}]  # fmt: skip
            return put(engine, TWIN, pseudonym, **dice.choice(values))
        case _:
            return acknowledge(engine)
    stage(engine, [document])


def test_a_document_of_a_child_who_left_may_come_with_another_row(
    engine: Engine, settings: Settings
) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    former = rows(engine, IDENTIFIABLE)["P-1003"].json_payload
    gone(engine, "P-1003")
    put(engine, IDENTIFIABLE, "P-1004", json_payload=former, current_hash=None)
    assert day(engine, settings)["gone"] == 1


@pytest.mark.parametrize("number", range(10))
def test_two_rows_with_one_childs_document_are_seen_in_an_empty_twin(
    engine: Engine, settings: Settings, number: int
) -> None:
    """Whichever of the rows comes first, on one page or on two."""
    documents = originals(settings)
    stage(engine, documents)
    twice = to_text(documents[3])
    put(engine, IDENTIFIABLE, f"P-{1000 + number}", json_payload=twice, current_hash=None)
    counts = day(engine, settings)
    assert (counts["new"], counts["duplicates"]) == ((10, 0) if number == 3 else (9, 1))


def test_an_original_that_is_written_while_the_twin_is_made_is_made_anew(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = originals(settings)
    stage(engine, documents)
    t = tables.staging_table(IDENTIFIABLE)
    documents[3]["child_details"]["surname"] = "Somebodyelse"
    new = {"json_payload": to_text(documents[3]), "current_hash": content_hash(SPEC, documents[3])}

    def meanwhile(_documents: Any, connection: Connection) -> None:
        connection.execute(update(t).where(t.c.person_id == "P-1003").values(**new))

    with monkeypatch.context() as patch:
        patch.setattr(documents_of_twin.AnonymousDocuments, "read_others", meanwhile)
        assert run(engine, settings)["new"] == 10
    counts = day(engine, settings)
    assert (counts["anonymised"], counts["updated"], counts["unchanged"]) == (1, 1, 9)


def test_the_twin_of_a_child_who_left_while_it_was_held_back_leaves_afterwards(
    engine: Engine, settings: Settings
) -> None:
    documents = originals(settings)
    stage(engine, documents)
    run(engine, settings)
    forget(engine)
    hold(engine, "P-1003")
    assert day(engine, settings)["held_back"] == 1
    gone(engine, "P-1003")
    assert day(engine, settings)["held_back"] == 1
    hold(engine)
    assert day(engine, settings)["gone"] == 1


def test_the_twin_of_a_child_whose_row_was_broken_leaves_with_it(
    engine: Engine, settings: Settings
) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    put(engine, IDENTIFIABLE, "P-1003", json_payload="no JSON")
    assert run(engine, settings)["unreadable"] == 1
    gone(engine, "P-1003")
    assert day(engine, settings)["gone"] == 1


@pytest.mark.database_in_turn
@pytest.mark.parametrize("seed", range(4))
def test_any_days(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    if dice.random() < 0.5:
        monkeypatch.setattr(documents_of_twin, "_LIKELY_TO_MEET", 1)
    documents = originals(settings, 8)
    stage(engine, documents)
    run(engine, settings)
    for _ in range(8):
        for _ in range(dice.randrange(4)):
            change_something(engine, documents, dice)
        day(engine, settings)


def test_what_is_kept_says_nothing_without_the_key() -> None:
    key = KEY.values()[0].encode()
    texts = ["P-1000", "ZOË|BRIEN|2012-05-03", ""]
    digests = [keyed_digest(key)(text) for text in texts]
    assert digests == [keyed_digest(key)(text) for text in texts]
    assert not set(digests) & {keyed_digest(key + b"x")(text) for text in texts}
    held = array(DIGESTS, digests).tobytes()
    sealed = Seal(key).turn(held, b"h" * 32, "P-1000")
    assert Seal(key).turn(sealed, b"h" * 32, "P-1000") == held
    others = [
        Seal(key).turn(held, b"h" * 32, "P-1001"),
        Seal(key).turn(held, b"i" * 32, "P-1000"),
        Seal(key + b"x").turn(held, b"h" * 32, "P-1000"),
    ]
    for other in (held, *others):  # no byte tells another one, but by chance
        assert sum(a == b for a, b in zip(sealed, other, strict=True)) < 6
    assert Seal(key).turn(b"", b"h" * 32, "P-1000") == b""
