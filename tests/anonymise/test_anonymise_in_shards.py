"""Anonymise in shards: the twin that several processes make is the one that one process makes."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from d2i_helpers import database
from d2i_helpers.anonymise import keyed
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.anonymise.documents import AnonymousDocuments
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.anonymise.upn import PupilNumbers
from d2i_helpers.database import shards, tables
from d2i_helpers.errors import D2IError
from d2i_helpers.settings import Settings, Shard
from d2i_helpers.staging import Staging, attention, figures_of_all
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.load import Load
from d2i_helpers.staging.states import Unsent
from tests.anonymise.test_anonymise import (
    IDENTIFIABLE,
    KEY,
    SPEC,
    TWIN,
    gone,
    originals,
    rows,
    stage,
)

OF_ONE = f"{TWIN}_of_one"


class Twins:
    """The twin that shards make, and the one that one process makes of the same originals."""

    def __init__(self, engine: Engine, make_settings: Callable[..., Settings]) -> None:
        self.engine, self._make = engine, make_settings
        self._notes: dict[str, list[dict[str, Any]]] = {}
        self.engines = [database.open_database(make_settings()) for _ in range(3)]

    def close(self) -> None:
        for engine in self.engines:
            engine.dispose()

    def in_shards(self, of: int) -> Counter[str]:
        said: list[Counter[str]] = []

        def one(number: int) -> None:
            settings = self._make(chunk_size=4, shard=f"{number}/{of}")
            with contextlib.suppress(D2IError):  # then it has said nothing
                result = anonymise.run(self.engines[number - 1], settings, KEY, SPEC)
                said.append(Counter(result.counts))

        threads = [threading.Thread(target=one, args=(k,)) for k in range(1, of + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(said) == of
        return sum(said, Counter())

    def in_turn(self, of: int) -> None:
        """One shard after the other."""
        for number in range(1, of + 1):
            settings = self._make(chunk_size=4, shard=f"{number}/{of}", shard_wait=0)
            anonymise.run(self.engines[number - 1], settings, KEY, SPEC)

    def with_notes_of(self, twin: str) -> None:
        """Put what was kept of one twin in place of what is kept of the other.

        Both are made of the same originals, of which is kept what the last twin was made from.
        """
        with database.transaction(self.engine) as connection:
            notes = connection.execute(select(tables.anonymised)).mappings().all()
            self._notes[OF_ONE if twin == TWIN else TWIN] = [dict(note) for note in notes]
            connection.execute(tables.anonymised.delete())
            database.insert_rows(connection, tables.anonymised, self._notes.get(twin, []))

    def compare(self, of: int) -> Counter[str]:
        together = self.in_shards(of)
        self.with_notes_of(OF_ONE)
        settings = self._make(chunk_size=4, anon_table=OF_ONE)
        alone = Counter(anonymise.run(self.engine, settings, KEY, SPEC).counts)
        del together["redrawn"], alone["redrawn"]  # where each shard meets the same value
        self.with_notes_of(TWIN)
        assert together == +alone
        assert self.kept(TWIN) == self.kept(OF_ONE)
        return together

    def kept(self, twin: str) -> list[Any]:
        beside = tables.attention.c
        with database.reading(self.engine) as connection:
            held = select(beside.person_id, beside.rule).where(beside.staging_table == twin)
            entries = sorted(map(tuple, connection.execute(held)))
        return [
            {
                person_id: (row.json_payload, row.current_hash, row.row_state, row.legacy_id)
                for person_id, row in rows(self.engine, twin).items()
            },
            entries,
        ]


@pytest.fixture
def twins(
    engine: Engine, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Twins]:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite is not worked on in shards")
    monkeypatch.setattr(figures_of_all, "LOOK_SECONDS", 0.02)
    made = Twins(engine, make_settings)
    yield made
    made.close()


def _days(twins: Twins) -> None:
    documents = originals(Settings(), 12)
    key = keyed.Keyed(KEY.values()[0].encode())
    with_number = [d for d in documents if "unique_pupil_number" in d["child_details"]]
    for one in with_number[:4]:
        # what would be drawn for one child another one really has, mostly of another shard
        drawn = PupilNumbers(key).pseudonym(one["child_details"]["unique_pupil_number"])
        other = copy.deepcopy(one)
        other["la_child_id"] = f"P-2{one['la_child_id'][-3:]}"
        other["child_details"]["unique_pupil_number"] = drawn
        documents.append(other)
    stage(twins.engine, documents)
    assert twins.compare(3)["new"] == 16
    twins.in_shards(3)
    assert +twins.in_shards(3) == {"unchanged": 16}, "nothing has changed, and nothing is made"
    documents[0]["child_details"]["first_name"] = "Otherwise"
    stage(twins.engine, documents[:1])
    gone(twins.engine, "P-1003")
    staging = Staging(twins.engine, IDENTIFIABLE)
    with database.transaction(twins.engine) as connection:
        held = [Entry("P-1004", Unsent.HELD_BACK, "a rule"), Entry("P-1005", Unsent.HELD_BACK, "b")]
        attention.add(connection, staging, "extract", held, "run")
        t = staging.table
        broken = update(t).where(t.c.person_id == "P-1006").values(json_payload="no JSON")
        connection.execute(broken)
    told = twins.compare(2)
    assert (told["gone"], told["held_back"], told["unreadable"]) == (1, 2, 1)
    assert told["children_read"] < 8, "the others' documents stay"
    with database.transaction(twins.engine) as connection:
        attention.remove_others(connection, staging, "extract", [])
    stage(twins.engine, documents)
    twins.compare(3)


def test_days(twins: Twins) -> None:
    _days(twins)


def test_a_shard_that_comes_later_looks_at_what_others_noted(twins: Twins) -> None:
    """Else its twin could bear what a child of another shard has since today."""
    documents = originals(Settings(), 12)
    stage(twins.engine, documents)
    twins.in_turn(2)
    key = keyed.Keyed(KEY.values()[0].encode())
    with database.reading(twins.engine) as connection:
        is_first = shards.whose(connection, Shard(1, 2))
        with_number = [d for d in documents if "unique_pupil_number" in d["child_details"]]
        of_first, of_second = (
            next(d for d in with_number if is_first(pseudonym_of(d)) is one)
            for one in (True, False)
        )
    made_up = PupilNumbers(key).pseudonym(of_second["child_details"]["unique_pupil_number"])
    assert made_up in _texts(twins)
    of_first["child_details"]["unique_pupil_number"] = made_up
    stage(twins.engine, [of_first])
    twins.in_turn(2)
    assert made_up not in _texts(twins)


def pseudonym_of(document: dict[str, Any]) -> str:
    """The id that the twin of a child has."""
    made = Pseudonymiser(
        SPEC, KEY.values()[0].encode(), max_shift_days=1, window_start=dt.date(2026, 4, 1)
    )
    return made.child_id(document["la_child_id"])


def _texts(twins: Twins) -> str:
    return "".join(row.json_payload for row in rows(twins.engine).values())


@pytest.mark.long
@pytest.mark.parametrize("where", ["others", "unseen"])
def test_what_is_left_out_is_noticed(
    twins: Twins, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "others":  # the leak check knows the shard's originals alone
        monkeypatch.setattr(AnonymousDocuments, "read_others", lambda *_: None)
    else:

        def of_all(load: Load, *given: Any) -> Any:
            load.staging.mine = ()
            return unseen(load, *given)

        unseen = Load.unseen
        monkeypatch.setattr(Load, "unseen", of_all)
    with pytest.raises(AssertionError):
        _days(twins)


def test_a_shard_of_ids_that_are_in_no_table_is_the_one_of_the_database(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        return
    twin = Staging(engine, TWIN, shard=Shard(2, 3))
    stage(engine, originals(Settings(), 20), TWIN)
    with database.reading(engine) as connection:
        is_mine = shards.whose(connection, twin.shard)
        mine = set(connection.execute(select(twin.table.c.person_id).where(*twin.mine)).scalars())
    assert 0 < len(mine) < 20
    assert {one for one in rows(engine) if is_mine(one)} == mine
