"""Another hand in the tables: whatever it changes, the receiver comes to equal the source, or the
run says that it cannot know.

Each edit is made at five moments of a day, and the source then does one of three things: a child
for each case, with another beside it for edits that mix two rows. The world is a staging table
that this project fills, with a receiver of the tests' own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, column, delete, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from d2i_helpers import database
from d2i_helpers.database.tables import journal, notes
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import to_text
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, attention
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import stage as submit
from tests.staging.test_convergence import answered
from tests.staging.world import (
    HASHER,
    SPEC,
    NaiveReceiver,
    Source,
    clear,
    extract,
    messages,
    rows_of,
)

TABLE = "ssd_api_data_staging"
NEVER = {"surname": "WRITTEN-BY-ANOTHER-HAND"}


def document(person: str, *plans: str, **details: Any) -> dict[str, Any]:
    items = [{"child_in_need_plan_id": p, "start_date": "2026-01-01", "purge": False}
             for p in plans]  # fmt: skip
    episode = {"social_care_episode_id": f"E{person}", "referral_date": "2026-01-01",
               "purge": False, "child_in_need_plans": items}  # fmt: skip
    own = {"first_name": "Zoë", "sex": "F", "disabilities": ["NONE"], "uasc_flag": False}
    return {
        "la_child_id": person,
        "purge": False,
        "child_details": {**own, **details, "purge": False},
        "social_care_episodes": [episode],
    }


@dataclass(frozen=True)
class Case:
    """A child whose row is edited at one moment, and what the source does about the child."""

    moment: str
    change: str

    @property
    def child(self) -> str:
        return f"{MOMENTS.index(self.moment)}-{CHANGES.index(self.change)}"

    @property
    def other(self) -> str:
        return f"{self.child}-other"


MOMENTS = ("at rest", "before delta", "before submit", "after submit", "outcome unknown")
CHANGES = ("stays", "loses a plan", "leaves")
CASES = [Case(moment, change) for moment in MOMENTS for change in CHANGES]


class World:
    """A source, the tables, and the receiver; days pass in it."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.staging = Staging(engine, TABLE, HASHER)
        clear(engine, self.staging)
        self.source, self.receiver = Source(1), NaiveReceiver("merge")
        for case in CASES:
            self.source.children[case.child] = document(case.child, "A", "B")
            self.source.children[case.other] = document(case.other, "F")
        self.unanswered: set[str] = set()  # children of whom the answer is lost
        self.first_partials: dict[str, str] = {}
        self.attention = 0  # of all stages together
        self.sent: list[dict[str, Any]] = []

    def delta(self) -> None:
        counts = delta_stage.run(self.engine, self.settings, SPEC).counts
        self.attention += counts["need_attention"]

    def submit(self) -> None:
        def post(records: list[bytes]) -> Any:
            self.sent += messages(records)
            for message in messages(records):
                self.receiver.store(message)
            lost = [m["la_child_id"] in self.unanswered for m in messages(records)]
            return answered([Outcome.UNKNOWN if x else Outcome.ACKNOWLEDGED for x in lost])

        client = type("Client", (), {"send": staticmethod(post)})()
        counts = submit.run(self.engine, self.settings, SPEC, None, client=client).counts
        self.attention += counts["need_attention"]

    def day(self) -> None:
        extract(self.engine, self.staging, self.source)
        self.delta()
        self.submit()

    def edit(self, edit: Edit, *moments: str) -> None:
        for case in CASES:
            if case.moment in moments:
                with suppress(IntegrityError), self.engine.begin() as connection:
                    edit(self, connection, case)

    def change(self) -> None:
        for case in CASES:
            if case.change == "loses a plan":
                self.source.children[case.child] = document(case.child, "A")
            elif case.change == "leaves":
                self.source.leave(case.child)

    def row(self, connection: Connection, person: str) -> Any:
        t = self.staging.table
        return connection.execute(select(t).where(t.c.person_id == person)).one()

    def write(self, connection: Connection, person: str, **columns: Any) -> None:
        # the column without its table: what speaks T-SQL may end a transaction otherwise
        mine = column("person_id") == person
        connection.execute(update(self.staging.table).where(mine).values(**columns))

    def named(self) -> set[str]:
        """Children of whom the list says that nobody knows what the receiver holds."""
        with database.reading(self.engine) as connection:
            return {entry.person_id for entry in attention.read(connection, self.staging)}

    def differing(self) -> set[str]:
        """Children of whom the receiver does not hold what the source says."""
        wanted = {child: rows_of(d) for child, d in self.source.children.items()}
        children = wanted.keys() | self.receiver.held.keys()
        return {c for c in children if wanted.get(c) != self.receiver.held.get(c)}


Edit = Callable[[World, Connection, Case], None]


def altered(text: str | None) -> str:
    """The document without plan B and with a surname that no source ever gave."""
    changed = orjson.loads(text) if text else document("nobody", "A")
    if "child_details" in changed:
        changed["child_details"].update(NEVER)
    for episode in changed.get("social_care_episodes", ()):
        episode.get("child_in_need_plans", [])[1:] = []
    return to_text(changed)


def partial_edited(world: World, connection: Connection, case: Case) -> None:
    row = world.row(connection, case.child)
    world.write(connection, case.child, partial_json_payload=altered(row.partial_json_payload))


def partial_swapped(world: World, connection: Connection, case: Case) -> None:
    mine, other = world.row(connection, case.child), world.row(connection, case.other)
    world.write(connection, case.child, partial_json_payload=other.partial_json_payload)
    world.write(connection, case.other, partial_json_payload=mine.partial_json_payload)


def partial_nulled(world: World, connection: Connection, case: Case) -> None:
    world.write(connection, case.child, partial_json_payload=None)


def older_partial_restored(world: World, connection: Connection, case: Case) -> None:
    world.write(connection, case.child, partial_json_payload=world.first_partials[case.child])


def document_edited(world: World, connection: Connection, case: Case) -> None:
    world.write(
        connection, case.child, json_payload=altered(world.row(connection, case.child).json_payload)
    )


def document_and_hash_edited(world: World, connection: Connection, case: Case) -> None:
    text = altered(world.row(connection, case.child).json_payload)
    world.write(connection, case.child, json_payload=text, current_hash=HASHER(text))


def documents_swapped(world: World, connection: Connection, case: Case) -> None:
    mine, other = world.row(connection, case.child), world.row(connection, case.other)
    world.write(connection, case.child, json_payload=other.json_payload)
    world.write(connection, case.other, json_payload=mine.json_payload)


def documents_and_hashes_swapped(world: World, connection: Connection, case: Case) -> None:
    mine, other = world.row(connection, case.child), world.row(connection, case.other)
    held = "json_payload", "current_hash"
    world.write(connection, case.child, **{name: getattr(other, name) for name in held})
    world.write(connection, case.other, **{name: getattr(mine, name) for name in held})


def baseline_edited(world: World, connection: Connection, case: Case) -> None:
    text = altered(world.row(connection, case.child).previous_json_payload)
    world.write(connection, case.child, previous_json_payload=text)


def baseline_hash_edited(world: World, connection: Connection, case: Case) -> None:
    world.write(connection, case.child, previous_hash=b"\x07" * 32)


def baseline_and_hash_edited(world: World, connection: Connection, case: Case) -> None:
    text = altered(world.row(connection, case.child).previous_json_payload)
    world.write(connection, case.child, previous_json_payload=text, previous_hash=HASHER(text))


def baseline_nulled(world: World, connection: Connection, case: Case) -> None:
    world.write(connection, case.child, previous_json_payload=None)


def baseline_and_hash_nulled(world: World, connection: Connection, case: Case) -> None:
    world.write(connection, case.child, previous_json_payload=None, previous_hash=None)


def baselines_swapped(world: World, connection: Connection, case: Case) -> None:
    mine, other = world.row(connection, case.child), world.row(connection, case.other)
    held = "previous_json_payload", "previous_hash"
    world.write(connection, case.child, **{name: getattr(other, name) for name in held})
    world.write(connection, case.other, **{name: getattr(mine, name) for name in held})


def everything_of_the_row_edited(world: World, connection: Connection, case: Case) -> None:
    text = altered(world.row(connection, case.child).json_payload)
    digest = HASHER(text)
    texts = {"json_payload": text, "previous_json_payload": text}
    states = {"row_state": "unchanged", "submission_status": "sent"}
    hashes = {"current_hash": digest, "previous_hash": digest}
    world.write(connection, case.child, **texts, **hashes, **states)


def texts_given_what_has_no_hash(world: World, connection: Connection, case: Case) -> None:
    row = world.row(connection, case.child)
    for name, odd in (("json_payload", "1e30"), ("previous_json_payload", "[" * 300 + "]" * 300)):
        text = getattr(row, name) or to_text(document(case.child))
        world.write(connection, case.child, **{name: f'{{"odd":{odd},{text[1:]}'})


def row_state_set_to(state: str | None) -> Edit:
    return lambda world, connection, case: world.write(connection, case.child, row_state=state)


def status_set_to(status: str) -> Edit:
    return lambda world, connection, case: world.write(
        connection, case.child, submission_status=status
    )


def row_deleted(world: World, connection: Connection, case: Case) -> None:
    t = world.staging.table
    connection.execute(delete(t).where(t.c.person_id == case.child))


def row_duplicated(world: World, connection: Connection, case: Case) -> None:
    row = world.row(connection, case.child)._asdict()
    del row["id"]  # the table counts it up
    connection.execute(insert(world.staging.table).values(row))


def notes_deleted(world: World, connection: Connection, case: Case) -> None:
    connection.execute(delete(notes).where(notes.c.person_id == case.child))


def notes_edited(world: World, connection: Connection, case: Case) -> None:
    connection.execute(
        update(notes).where(notes.c.person_id == case.child).values(partial_digest=b"\x07" * 32)
    )


def journal_deleted(world: World, connection: Connection, case: Case) -> None:
    connection.execute(delete(journal).where(journal.c.person_id == case.child))


def journal_edited(world: World, connection: Connection, case: Case) -> None:
    for row in connection.execute(select(journal).where(journal.c.person_id == case.child)).all():
        connection.execute(
            update(journal).where(journal.c.id == row.id).values(document=altered(row.document))
        )


def api_response_edited(world: World, connection: Connection, case: Case) -> None:
    world.write(connection, case.child, api_response="all is well")


EDITS: dict[str, Edit] = {
    edit.__name__.replace("_", " "): edit
    for edit in (
        partial_edited, partial_swapped, partial_nulled, older_partial_restored, document_edited,
        document_and_hash_edited, documents_swapped,
        documents_and_hashes_swapped, baseline_edited, baseline_hash_edited,
        baseline_and_hash_edited, baseline_nulled, baseline_and_hash_nulled, baselines_swapped,
        everything_of_the_row_edited, texts_given_what_has_no_hash, row_deleted, row_duplicated,
        notes_deleted, notes_edited, journal_deleted, journal_edited, api_response_edited,
    )
}  # fmt: skip
EDITS |= {
    f"row_state {state}": row_state_set_to(state)
    for state in ("new", "updated", "unchanged", "deleted", "nonsense", None)
}
EDITS |= {
    f"status {status or 'blank'}": status_set_to(status)
    for status in ("sent", "pending", "error", "nonsense", "")
}

# Where nothing that is left says which items the receiver holds: the only text that did is gone.
# Then the child is named, and sent whole where it still is in the source.
_CHANGED = {Case("before delta", "loses a plan")}
_WAITING = _CHANGED | {Case("before submit", "loses a plan")}
LOST: dict[str, set[Case]] = {
    "baseline edited": _CHANGED,
    "baseline nulled": _CHANGED,
    "baseline and hash edited": _WAITING,
    "baseline and hash nulled": _WAITING,
    "baselines swapped": _WAITING,
    "everything of the row edited": _WAITING | {Case("at rest", "loses a plan")},
    "texts given what has no hash": _WAITING | {Case("at rest", "loses a plan")},
    "row deleted": {
        Case(moment, change) for moment in MOMENTS[:3] for change in ("loses a plan", "leaves")
    },
}


def play(world: World, edit: Edit) -> None:
    """Day 1, the day of the changes and the edits, and three quiet days."""
    extract(world.engine, world.staging, world.source)
    world.delta()
    with database.reading(world.engine) as connection:
        t = world.staging.table.c
        rows = connection.execute(select(t.person_id, t.partial_json_payload))
        world.first_partials = {row.person_id: row.partial_json_payload for row in rows}
    world.submit()
    assert world.attention == 0
    world.edit(edit, "at rest")
    world.change()
    extract(world.engine, world.staging, world.source)
    world.edit(edit, "before delta")
    world.delta()
    world.edit(edit, "before submit")
    world.unanswered = {case.child for case in CASES if case.moment == "outcome unknown"}
    world.submit()
    world.unanswered = set()
    world.edit(edit, "after submit", "outcome unknown")
    for _ in range(3):
        world.day()


@pytest.mark.database_in_turn
@pytest.mark.parametrize("name", EDITS)
def test_the_receiver_equals_the_source_or_the_child_is_named(
    name: str, engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    world = World(engine, make_settings(max_deleted_share=1, guard_min_children=10_000))
    play(world, EDITS[name])
    lost = {case.child for case in LOST.get(name, ())}
    assert world.differing() <= lost <= world.named()
    world.sent.clear()
    world.attention = 0
    world.day()
    assert world.sent == []  # the days are quiet again
    assert world.attention == 2 * len(world.named())  # delta and submit say so


def test_a_child_in_doubt_is_made_certain_by_erasing_it_and_sending_it_anew(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    world = World(engine, make_settings(max_deleted_share=1, guard_min_children=10_000))
    changed, waiting = Case("before delta", "loses a plan"), Case("at rest", "leaves")
    world.day()
    world.change()
    with engine.begin() as connection:
        row_deleted(world, connection, waiting)
    extract(engine, world.staging, world.source)
    with engine.begin() as connection:
        baseline_edited(world, connection, changed)
    world.delta()
    world.submit()
    assert world.named() == world.differing() == {changed.child, waiting.child}
    # as docs/convergence.md says
    row = {"person_id": waiting.child, "json_payload": "{}", "row_state": "deleted",
           "submission_status": "pending"}  # fmt: skip
    with engine.begin() as connection:
        world.write(connection, changed.child, row_state="deleted")
        connection.execute(insert(world.staging.table).values(row))
    world.delta()
    world.submit()
    world.day()
    assert world.differing() == world.named() == set()
    world.attention = 0
    world.day()
    assert world.attention == 0


def noted_by_sha256(world: World) -> None:
    """Note all messages and documents as releases before December 2026 did."""
    t = world.staging.table.c

    def sha256(text: str) -> bytes:
        return hashlib.sha256(text.encode()).digest()

    with world.engine.begin() as connection:
        texts = select(t.person_id, t.partial_json_payload, t.json_payload, notes.c.partial_kind)
        rows = connection.execute(texts.join_from(world.staging.table, notes, world.staging.noted))
        for row in rows.all():
            message = sha256(f"{row.partial_kind}\n{row.partial_json_payload}")
            digests = {"partial_digest": message, "document_digest": sha256(row.json_payload)}
            mine = column("person_id") == row.person_id
            connection.execute(update(notes).where(mine).values(**digests))


def test_messages_that_an_earlier_release_prepared_are_sent_and_an_edit_is_still_seen(
    engine: Engine, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(engine, make_settings(max_deleted_share=1, guard_min_children=10_000))
    extract(engine, world.staging, world.source)
    world.delta()
    noted_by_sha256(world)
    edited = Case("before submit", "loses a plan")
    with engine.begin() as connection:
        partial_edited(world, connection, edited)
    world.submit()
    assert world.attention == 1
    assert world.differing() == {edited.child}
    world.change()
    extract(engine, world.staging, world.source)
    hashed = list[str]()
    monkeypatch.setattr(type(HASHER), "matches", lambda _, text, *__: hashed.append(text) or True)
    world.attention = 0
    world.delta()
    assert not [text for text in hashed if '"B"' in text]  # notes prove what the receiver holds
    world.submit()
    assert world.attention == 0
    assert world.differing() == set()
