"""Extract in shards: several processes leave what one process leaves, and count what it counts.

Two staging tables are filled from one source: the first by shards that run at once, the second by
one process that reads everybody. The source and its edits are those of `test_marks`.
"""

from __future__ import annotations

import datetime as dt
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, func, select, text

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import D2IError, SettingsError
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract import unchanged
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.runs.day import run_day
from d2i_helpers.staging import figures_of_all, marks, pending_changes
from d2i_helpers.staging.load import Load
from tests.extract.test_marks import FULL, MARKED, SETTINGS, Twice, _clear, _edit, _plan

TALLIES = ("filled", "missing", "unusable")
ANSWER = "stopped"


class Killed(BaseException):
    """A shard ends here, whatever it was doing."""


class Sharded(Twice):
    """The first table is worked on by shards, each on an engine of its own."""

    def __init__(self, engine: Engine, make_settings: Callable[..., Any]) -> None:
        super().__init__(engine, make_settings)
        self.one_after_another = False
        self.engines = {number: self._engine() for number in range(1, 5)}

    def settings(self, staging: str, **more: Any) -> Any:
        given = {
            "run_date": self.day.isoformat(), "guard_min_children": 1000, **self.more, **more,
        }  # fmt: skip
        return self.make_settings(staging_table=staging, **given)

    def _engine(self) -> Engine:
        return database.open_database(self.make_settings())

    def close(self) -> None:
        for engine in self.engines.values():
            engine.dispose()

    def in_shards(self, of: int, killed: dict[int, int] | None = None) -> list[dict[str, Any]]:
        """Run all shards at once; gives what each of them says.

        Args:
            killed: after how many statements a shard ends, by its number.
        """
        said: dict[int, dict[str, Any]] = {}
        wait = 0.5 if killed else 20

        def one(number: int) -> None:
            settings = self.settings(MARKED, shard=f"{number}/{of}", shard_wait=wait)
            try:
                with ended_after(self.engines[number], (killed or {}).get(number)):
                    found = extract.run(self.engines[number], settings, load_spec(settings.cms))
                said[number] = tallies(found)
            except D2IError as error:
                said[number] = {
                    ANSWER: re.sub(r" The guards judged .*? together\.", "", str(error))
                }
            except Killed:
                pass

        threads = [threading.Thread(target=one, args=(k,)) for k in range(1, of + 1)]
        for thread in threads:
            thread.start()
            self._pass_time(thread)
        for thread in threads:
            thread.join()
        return [said[number] for number in sorted(said)]

    def _pass_time(self, thread: threading.Thread) -> None:
        """Between the beginnings of two shards: nothing, or until the first waits at its guards."""
        before = self._last_posted()
        while self.one_after_another and thread.is_alive() and self._last_posted() == before:
            time.sleep(0.02)

    def _last_posted(self) -> Any:
        posted = select(func.max(tables.shard_figures.c.posted_at))
        with database.reading(self.engine) as connection:
            there = database.has_table(connection, tables.shard_figures)
            return connection.execute(posted).scalar() if there else None

    def compare_shards(self, of: int) -> None:
        said = self.in_shards(of)
        whole = self._tallies_of_one()
        if ANSWER in whole:
            assert all(one == whole for one in said), "one verdict of all"
        else:
            assert len(said) == of
            together = summed(said)
            together.pop("read_anew"), whole.pop("read_anew")  # the one process reads all
            assert together == whole
        assert self._kept(MARKED) == self._kept(FULL)

    def _tallies_of_one(self) -> dict[str, Any]:
        settings = self.settings(FULL, reassess=True)
        try:
            return tallies(extract.run(self.engine, settings, load_spec(settings.cms)))
        except D2IError as error:
            return {ANSWER: str(error)}


def ended_after(engine: Engine, statements: int | None) -> Any:
    """The block ends at its n-th statement; what it does after that, such as going, still works."""
    import contextlib

    @contextlib.contextmanager
    def ending() -> Iterator[None]:
        left = [statements]

        def count(*_: Any) -> None:
            if left[0] is not None:
                left[0] -= 1
                if left[0] <= 0:
                    left[0] = None
                    raise Killed

        event.listen(engine, "before_cursor_execute", count)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", count)

    return ending()


def tallies(result: extract.ExtractResult) -> dict[str, Any]:
    """What shards add up to: counts of children, fields and problems."""
    return {
        "counts": Counter(result.counts),
        "read_anew": Counter(persons=result.read_anew),
        "reasons": Counter(result.reasons),
        "left_out": Counter(result.left_out),
        "problems": Counter({(p["field"], p["rule"]): p["count"] for p in result.problems}),
        **{
            name: Counter({field["field"]: int(field[name]) for field in result.quality})
            for name in TALLIES
        },
    }


def summed(said: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for one in said:
        for name, counter in one.items():
            total.setdefault(name, Counter()).update(counter)
    return total


@pytest.fixture
def sharded(
    engine: Engine, make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sharded]:
    _prepare(engine, monkeypatch)
    world = Sharded(engine, make_settings)
    yield world
    world.close()


def _prepare(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite is not worked on in shards")
    monkeypatch.setattr(unchanged, "_MOST_CHANGED", 1.0)
    monkeypatch.setattr(figures_of_all, "LOOK_SECONDS", 0.02)


def _history(world: Sharded, seed: int, steps: int) -> None:
    """Days with random edits; as many shards as it comes, or one process for all."""
    chance = random.Random(seed)
    world.add_children(list("ABCDEFG"))
    layouts = _plan().tables
    world.compare_shards(chance.choice([2, 3]))
    for _ in range(steps):
        for _ in range(chance.choice([0, 1, 2, 4])):
            _edit(world, chance, layouts)
        if chance.random() < 0.3:
            world.more = dict(chance.choice([{}, *SETTINGS]))
        if chance.random() < 0.2:
            world.compare()
        else:
            world.compare_shards(chance.choice([2, 2, 3, 4]))


@given(seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_histories(
    make_settings: Callable[..., Any], engine: Engine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    _prepare(engine, monkeypatch)
    _clear(engine)
    world = Sharded(engine, make_settings)
    _history(world, seed, 1)
    world.close()


@pytest.mark.long
@pytest.mark.timeout(0)
def test_long_histories(
    make_settings: Callable[..., Any], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(engine, monkeypatch)
    for seed in range(60):
        _clear(engine)
        world = Sharded(engine, make_settings)
        _history(world, seed, 6)
        world.close()


def _two_days(world: Sharded) -> None:
    """A first load, and a day on which a child leaves, one comes and one is changed."""
    world.add_children(list("ABCDEFGH"))
    world.compare_shards(2)
    world.add_children(["I"])
    world.change("ssd_person", "pers_person_id", "B", pers_forename="Otherwise")
    with database.transaction(world.engine) as connection:
        connection.execute(text("delete from ssd_person where pers_person_id = 'C'"))
    world.one_after_another = True
    world.compare_shards(2)
    said = world.in_shards(2)
    assert all(one["counts"]["persons_read"] for one in said), "both have children"
    assert summed(said)["read_anew"]["persons"] == 0, "marks of all of them are there"


def test_two_days(sharded: Sharded) -> None:
    _two_days(sharded)


def is_open(given: Any) -> bool:
    return isinstance(given, Connection)


def _everybody(*_: Any, **__: Any) -> tuple[()]:
    return ()


@pytest.mark.long
@pytest.mark.parametrize("where", ["unseen", "clear", "marks"])
def test_a_shard_that_is_left_out_somewhere_is_noticed(
    sharded: Sharded, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What marks another shard's children gone, or takes away its changes or marks, shows."""

    def by_everybody(do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any, **more: Any) -> Any:
            staging = next(getattr(one, "staging", one) for one in given if not is_open(one))
            mine, staging.mine, staging.mine_by = staging.mine, (), _everybody
            try:
                found = do(*given, **more)
                return found if found is None else iter(list(found))
            finally:
                del staging.mine_by
                staging.mine = mine

        return done

    holder, name = {
        "unseen": (Load, "unseen"), "clear": (pending_changes, "clear"), "marks": (marks, "stored"),
    }[where]  # fmt: skip
    original = getattr(holder, name)
    monkeypatch.setattr(holder, name, by_everybody(original))
    with pytest.raises(AssertionError):
        test_two_days(sharded)


@pytest.mark.parametrize(
    "statements", [45, *(pytest.param(n, marks=pytest.mark.long) for n in (5, 25, 60))]
)
def test_a_killed_shard_costs_only_itself_and_a_restart_makes_all_whole(
    sharded: Sharded, statements: int
) -> None:
    children = [f"{letter}{number}" for letter in "AB" for number in range(6)]
    sharded.add_children(children)
    sharded.compare_shards(2)
    for child in children:
        sharded.change("ssd_person", "pers_person_id", child, pers_forename="Otherwise")
    sharded.more = {"max_changed_share": 1}
    (alive,) = sharded.in_shards(2, killed={2: statements})
    assert alive["counts"]["updated"] == alive["counts"]["in_cohort"] > 0
    assert summed(sharded.in_shards(2))["counts"]["unchanged"] >= alive["counts"]["in_cohort"]
    sharded._tallies_of_one()
    assert sharded._kept(MARKED) == sharded._kept(FULL)


def test_marks_hold_for_the_whole_only_if_all_shards_agree(sharded: Sharded) -> None:
    """And for shards of another number; one shard's new settings say nothing of the others."""

    def read(of: int, *numbers: int, **more: Any) -> list[int]:
        found = []
        for number in numbers or range(1, of + 1):
            part = f"{number}/{of}" if of > 1 else None
            found.append(sharded._run(MARKED, shard=part, shard_wait=0, **more)[1])
        return found

    sharded.add_children(list("ABCDEFGH"))
    assert read(1) == [8]
    assert read(2, 1) == [0], "what one process knows, a shard knows"
    assert read(3, 1) == [0]
    other = {"care_worker_roles": "QQ"}
    anew = read(2, 1, **other)
    assert anew[0] > 0
    assert read(2, 2) == [8 - anew[0]], "what three shards kept is not told apart by these two"
    assert read(2, 1, **other) == [0]
    assert read(1, **other) == [8], "the second shard's are of the old settings"


def test_what_the_next_day_is_compared_with_is_of_the_whole(sharded: Sharded) -> None:
    """A shard alone keeps nothing of that, and all shards together judge as one process."""
    sharded.add_children([f"{letter}{n}" for letter in "ABCD" for n in range(10)])
    sharded.compare_shards(3)
    names = ("d2i_source_rows", "d2i_source_values")
    before = sharded._kept(MARKED)
    sharded.day += dt.timedelta(days=1)
    sharded._run(MARKED, shard="1/3", shard_wait=0)
    assert [sharded._kept(MARKED)[name] for name in names] == [before[name] for name in names]
    sharded.in_shards(2), sharded._tallies_of_one()
    sharded.more = {"guard_min_children": 20}
    with database.transaction(sharded.engine) as connection:
        connection.execute(text("update ssd_person set pers_sex = null where pers_person_id < 'C'"))
    sharded.compare_shards(2)
    assert ANSWER in sharded._tallies_of_one()


def test_an_id_of_which_the_shard_is_not_clear_stops_every_shard(sharded: Sharded) -> None:
    sharded.add_children(list("ABCD"))
    sharded.in_shards(2)
    sharded.change("ssd_person", "pers_person_id", "A", pers_person_id="A\u2003")
    for number in (1, 2):
        with pytest.raises(SettingsError, match="1 id has characters, or a type"):
            settings = sharded.settings(MARKED, shard=f"{number}/2")
            extract.run(sharded.engine, settings, load_spec())
    assert {row.row_state for row in sharded._kept(MARKED)["staged"]} == {"new"}


@pytest.mark.parametrize(
    "with_it", [{"person_ids": "A"}, {"phase_data": "many_fake"}, {"pseudonym_key_mode": "fresh"}]
)
def test_what_is_for_one_process_is_refused_with_a_shard(
    make_settings: Callable[..., Any], with_it: dict[str, str]
) -> None:
    with pytest.raises(SettingsError, match=f"shard cannot be given .*{next(iter(with_it))}"):
        make_settings(shard="1/2", **with_it)


def test_sqlite_is_refused_before_there_is_a_record(
    engine: Engine, make_settings: Callable[..., Any], tmp_path: Path
) -> None:
    if engine.dialect.name != "sqlite":
        return
    url = str(engine.url)
    with pytest.raises(SettingsError, match="one writer at a time"):
        run_day({"database_url": url, "shard": "1/2"}, ["extract"], tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()
