"""A small world for convergence tests: a source that changes, and an independent receiver.

The receiver here knows nothing of `delta.apply`: one row a block, merged or replaced.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Engine, delete, select

from d2i_helpers import database
from d2i_helpers.database.shards import shard_of
from d2i_helpers.database.tables import journal, our_tables
from d2i_helpers.document.canonical import canonical_name, content_hash, text_hasher, to_text
from d2i_helpers.document.validation import Validator
from d2i_helpers.payload_spec import Block, load_spec
from d2i_helpers.settings import Shard
from d2i_helpers.staging import Staged, Staging, attention, marks, outbox, rehash_all
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.evidence import CANONICAL_FACT
from d2i_helpers.staging.load import write
from d2i_helpers.staging.states import Unsent

SPEC = load_spec()
VALIDATOR = Validator(SPEC)
Document = dict[str, Any]
Path = tuple

LISTS = {b.name: b.key for b in SPEC.blocks.values() if b.kind == "list"}
OBJECTS = {b.name for b in SPEC.blocks.values() if b.kind == "object"}
VALUES = {b.name for b in SPEC.blocks.values() if b.kind == "values"}
EPISODE_LISTS = [b for b in SPEC.blocks["social_care_episodes"].blocks if b.kind == "list"]


class NaiveReceiver:
    """Keeps one row a block; `merge`: key by key, `replace`: own content whole."""

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self.held: dict[str, dict[Path, Document]] = {}
        self.stored: Counter[str] = Counter()

    def store(self, message: Document) -> None:
        child = message["la_child_id"]
        self.stored[child] += 1
        rows = self.held.setdefault(child, {})
        self._block(rows, (), message)
        if not rows:
            del self.held[child]

    def _block(self, rows: dict[Path, Document], path: Path, block: Document) -> None:
        if block.get("purge") is True:
            for held in [p for p in rows if p[: len(path)] == path]:
                del rows[held]
            return
        own = {}
        for name, value in block.items():
            if name in OBJECTS and isinstance(value, dict):
                self._block(rows, (*path, name), value)
            elif name in LISTS and isinstance(value, list):
                for item in value:
                    self._block(rows, (*path, (name, item[LISTS[name]])), item)
            else:
                own[name] = value
        if self.flavour == "merge":
            own = {**rows.get(path, {}), **own}
        rows[path] = {k: _bag(v) for k, v in own.items() if v is not None}


def _bag(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value, key=lambda item: json.dumps(item, sort_keys=True))
    return value


def rows_of(document: Document) -> dict[Path, Document]:
    """The rows of a receiver that was given nothing but this document."""
    fresh = NaiveReceiver("replace")
    fresh.store(document)
    return fresh.held.get(document["la_child_id"], {})


class Source:
    """Fictional children whose documents change by a seeded hand."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.children: dict[str, Document] = {}
        self.away: dict[str, Document] = {}
        self.unreadable: set[str] = set()  # a value that decides whether they are in
        self.number = 0

    def _next(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def _date(self) -> str:
        return str(dt.date(2025, 1, 1) + dt.timedelta(days=self.random.randrange(500)))

    def add(self) -> None:
        child = self._next("C")
        self.children[child] = {
            "la_child_id": child,
            "purge": False,
            "child_details": {
                "first_name": self.random.choice(["Zoë", "O'Brien", "李", 'Quote"d']),
                "sex": "F",
                "disabilities": ["NONE"],
                "uasc_flag": False,
                "purge": False,
            },
        }
        for _ in range(self.random.randrange(3)):
            self.edit(child)

    def edit(self, child: str) -> None:
        """One random change, which may also do nothing or undo an earlier one."""
        document = copy.deepcopy(self.children[child])
        draw = self.random.random
        details = document["child_details"]
        episodes = document.setdefault("social_care_episodes", [])
        if draw() < 0.2:
            details["postcode"] = self.random.choice(["AB1 2CD", "EF3 4GH"])
        if draw() < 0.1:
            details.pop("postcode", None)
        if draw() < 0.2:
            scores = [{"date": self._date(), "score": self.random.randrange(41)}]
            document["health_and_wellbeing"] = {"sdq_assessments": scores, "purge": False}
        if draw() < 0.1:
            document.pop("health_and_wellbeing", None)
        if draw() < 0.4 or not episodes:
            episodes.append(self._episode())
        if draw() < 0.15 and len(episodes) > 1:
            episodes.pop(self.random.randrange(len(episodes)))
        if episodes and draw() < 0.7:
            self._edit_episode(self.random.choice(episodes))
        if not episodes:
            document.pop("social_care_episodes")
        self.children[child] = tidy(SPEC.root, document)

    def _episode(self) -> Document:
        return {
            "social_care_episode_id": self._next("E"),
            "referral_date": self._date(),
            "purge": False,
        }

    def _edit_episode(self, episode: Document) -> None:
        draw = self.random.random
        block = self.random.choice(EPISODE_LISTS)
        items = episode.setdefault(block.name, [])
        if draw() < 0.5 or not items:
            extra = {"factors": ["1A"]} if "factors" in {f.name for f in block.fields} else {}
            items.append(
                {block.key: self._next("I"), "start_date": self._date(), "purge": False, **extra}
            )
        elif draw() < 0.5:
            items.pop(self.random.randrange(len(items)))
        else:
            self.random.choice(items)["start_date"] = self._date()
        if not items:
            episode.pop(block.name)
        if draw() < 0.2:
            episode["adoption"] = {"matched_date": self._date(), "purge": False}
        elif draw() < 0.2:
            episode.pop("adoption", None)
        if draw() < 0.2:
            episode["care_worker_details"] = [
                {"worker_id": f"SW{self.random.randrange(3)}", "start_date": self._date()}
            ]
        elif draw() < 0.2:
            episode.pop("care_worker_details", None)
        if draw() < 0.3:
            episode["closure_date"] = self._date()
        elif draw() < 0.3:
            episode.pop("closure_date", None)

    def leave(self, child: str) -> None:
        self.away[child] = self.children.pop(child)

    def come_back(self, child: str) -> None:
        self.children[child] = self.away.pop(child)

    def damage(self, child: str) -> None:
        """A value can no longer be read, whether the child is in or away."""
        self.unreadable.add(child)

    def mend(self, child: str) -> None:
        self.unreadable.discard(child)


def tidy(block: Block, content: Document) -> Document:
    """Items in the order of the specification."""
    for child in (*block.values, *block.blocks):
        held = content.get(child.name)
        if isinstance(held, dict):
            tidy(child, held)
        elif isinstance(held, list):
            content[child.name] = child.sorted_items([tidy(child, item) for item in held])
    return content


HASHER = text_hasher(SPEC)


def extract(engine: Engine, staging: Staging, source: Source, *, chunk: int = 3) -> None:
    """What the extract stage does with the staging table, without an SSD.

    Of the children of the table's shard.
    """
    unreadable = [child for child in source.unreadable if is_of(staging.shard, child)]
    children = [
        document
        for child, document in source.children.items()
        if child not in source.unreadable and is_of(staging.shard, child)
    ]
    entries = [Entry(child, Unsent.HELD_BACK, "cannot be read") for child in unreadable]
    with database.transaction(engine) as connection:
        attention.add(connection, staging, "extract", entries, "run")
    with database.reading(engine) as connection:
        stored = staging.fact(connection, CANONICAL_FACT)
    if stored != (wanted := canonical_name(SPEC, volatile_ids=False)):
        rehash_all(staging, HASHER, wanted)
    for start in range(0, len(children), chunk):
        with database.transaction(engine) as connection:
            write(connection, staging, [staged(d) for d in children[start : start + chunk]])
    known = [staged(document) for document in children]
    marks.put(staging, [mark(one) for one in known if is_marked(one)], among_others=True)
    with database.transaction(engine) as connection:
        t, present = staging.table.c, {*source.children, *source.unreadable}
        live = connection.execute(
            select(t.id, t.person_id).where(~staging.is_deleted, *staging.mine)
        ).all()
        staging.mark_gone(connection, [row.id for row in live if row.person_id not in present])
    with database.transaction(engine) as connection:
        attention.remove_others(connection, staging, "extract", entries)


def is_of(shard: Shard, child: str | None) -> bool:
    """Whether a child is in a shard, as the databases of these tests say it."""
    return shard_of(child, shard.of) == shard


def staged(document: Document) -> Staged:
    child = document["la_child_id"]
    return Staged(child, None, to_text(document), content_hash(SPEC, document))


def is_marked(one: Staged) -> bool:
    """Every other child has a mark, as in a table that was filled before there were any."""
    return one.hash[0] % 2 == 0


def mark(one: Staged) -> marks.Mark:
    accepted = VALIDATOR.accepts(orjson.loads(one.payload))
    return marks.Mark(
        one.person_id, 0, dt.date.max, b"", (), one.hash,
        marks.text_fingerprint(one.payload), VALIDATOR.fingerprint if accepted else None,
    )  # fmt: skip


def clear(engine: Engine, staging: Staging) -> None:
    """Empty every table between two histories."""
    database.create_staging(engine, staging.name)
    with database.transaction(engine) as connection:
        for table in (staging.table, *our_tables().tables.values()):
            connection.execute(delete(table))


def assert_converged(
    engine: Engine, staging: Staging, source: Source, receiver: NaiveReceiver
) -> None:
    """The law: the receiver holds exactly the source, and the tables say so."""
    assert not source.unreadable
    expected = {child: rows_of(document) for child, document in source.children.items()}
    assert receiver.held == expected
    with database.reading(engine) as connection:
        assert connection.execute(select(journal)).all() == []
        assert outbox.count_due(connection, staging) == 0
        rows = connection.execute(select(staging.table)).all()
    assert {r.person_id for r in rows if r.row_state != "deleted"} == set(source.children)
    for row in rows:
        if row.row_state == "deleted":
            assert row.previous_json_payload is None
        else:
            assert (row.row_state, row.submission_status.lower()) == ("unchanged", "sent")
            assert row.current_hash == row.previous_hash
            assert orjson.loads(row.previous_json_payload) == source.children[row.person_id]
            assert orjson.loads(row.json_payload) == source.children[row.person_id]


def assert_held_back(
    engine: Engine,
    staging: Staging,
    source: Source,
    receiver: NaiveReceiver,
    before: dict[str, dict[Path, Document]],
) -> None:
    """The law while values cannot be read: equal to the source, or as before and named.

    Args:
        before: what the receiver held when the last run began.
    """
    for child in {*source.children, *source.away, *receiver.held}:
        held = receiver.held.get(child)
        if child in source.unreadable:
            assert held == before.get(child), "something was sent of a child who is held back"
        else:
            document = source.children.get(child)
            assert held == (rows_of(document) if document else None)
    with database.reading(engine) as connection:
        named = {entry.person_id for entry in attention.read(connection, staging)}
        rows = connection.execute(select(staging.table)).all()
    assert named == source.unreadable
    for row in rows:
        assert (row.api_response or "").startswith("held back: ") == (row.person_id in named)


def messages(bodies: Sequence[bytes]) -> list[Document]:
    return [orjson.loads(body) for body in bodies]
