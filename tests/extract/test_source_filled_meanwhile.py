"""The load of the SSD runs while extract reads: nothing that it takes away for a moment is missed.

Each test fills a source, and changes it when a page has been read. What is staged in the end is
what an extract of the source at rest stages in a table of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, column, delete, insert, select, table

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import GuardError, SourceMovesError
from d2i_helpers.extract import read_twice
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.sources import SourceReader
from d2i_helpers.extract.whole_tables import WholeTables
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.staging import Staging, attention
from d2i_helpers.staging.load import Load
from tests.extract.test_marks import Twice

SPEC = load_spec()
CHILDREN = ["A", "B", "C", "D", "E", "F"]
STAGED, AT_REST = "staged", "staged_at_rest"
PLANS = "ssd_cp_plans"
TOO_OLD = "1950-05-05"


class Loads:
    """A source whose load runs at moments that a test chooses."""

    def __init__(self, twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
        self.twice, self.engine = twice, twice.engine
        self.steps: dict[int, Callable[[], Any]] = {}  # before which page, counted from 0
        self.away: list[Callable[[], None]] = []  # how to put back what is away
        self.page = -1
        self.every: Callable[[int], Any] = lambda _page: None
        self.goes_on_in_looks = False  # else what is looked at for a moment stays as it is
        self._looks = False
        make_page, look = SourceReader._batch, Documents._fingerprints_now

        def batch(reader: SourceReader, *given: Any) -> Any:
            self.every(self.page + 1)
            if self.goes_on_in_looks or not self._looks:
                self.page += 1
                self.steps.get(self.page, lambda: None)()
            return make_page(reader, *given)

        def look_at_once(documents: Documents, *given: Any, **more: Any) -> Any:
            self._looks = True
            try:
                return look(documents, *given, **more)
            finally:
                self._looks = False

        monkeypatch.setattr(SourceReader, "_batch", batch)
        monkeypatch.setattr(Documents, "_fingerprints_now", look_at_once)

    def taken(self, name: str, **where: Any) -> Callable[[], None]:
        """Take rows of a table away; gives how to put them back."""
        names = [c.name for c in tables.ssd_table(name).columns]
        held = table(name, *map(column, names))
        these = [held.c[key] == value for key, value in where.items()]
        with database.transaction(self.engine) as connection:
            rows = [dict(r) for r in connection.execute(select(held).where(*these)).mappings()]
            connection.execute(delete(held).where(*these))
        assert rows

        def put_back() -> None:
            with database.transaction(self.engine) as connection:
                connection.execute(insert(held), rows)

        return put_back

    def emptied_for_a_page(self, name: str, page: int, pages: int = 1, **where: Any) -> None:
        """Take rows away before a page, and put them back before the next one, or a later one."""

        def take() -> None:
            put_back = self.taken(name, **where)
            self.away.append(put_back)
            self.then(page + pages, lambda: (put_back(), self.away.remove(put_back)))

        self.then(page, take)

    def end(self) -> None:
        """The load ends, whatever it was at."""
        for put_back in self.away:
            put_back()
        self.steps, self.away = {}, []

    def then(self, page: int, step: Callable[[], Any]) -> None:
        """Do something before a page, after what is done there already."""
        before = self.steps.get(page, lambda: None)
        self.steps[page] = lambda: (before(), step())

    def run(self, staging: str = STAGED, **more: Any) -> extract.ExtractResult:
        settings = self.twice.settings(staging, chunk_size=2, **more)
        return extract.run(self.engine, settings, SPEC)

    def staged(self, staging: str = STAGED) -> dict[str, tuple[Any, ...]]:
        """Document and state of each child."""
        t = tables.staging_table(staging).c
        chosen = select(t.person_id, t.json_payload, t.row_state, t.submission_status)
        with database.reading(self.engine) as connection:
            return {row[0]: tuple(row)[1:] for row in connection.execute(chosen)}

    def assert_as_at_rest(self) -> None:
        """What is staged equals what a full extract of the source as it stands stages."""
        self.steps, self.every = {}, lambda _page: None
        self.run(AT_REST, reassess=True)
        documents = {one: kept[0] for one, kept in self.staged().items() if kept[1] != "deleted"}
        assert documents == {one: kept[0] for one, kept in self.staged(AT_REST).items()}

    def held_back(self) -> set[str | None]:
        """Who is named as one that needs attention."""
        with database.reading(self.engine) as connection:
            named = attention.read(connection, Staging(self.engine, STAGED))
        return {entry.person_id for entry in named}


@pytest.fixture
def loads(
    engine: Engine, make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Loads:
    twice = Twice(engine, make_settings)
    twice.add_children(CHILDREN)
    for child in CHILDREN:
        twice.change("ssd_person", "pers_person_id", child, pers_dob="2010-05-05")
    return Loads(twice, monkeypatch)


def changed(loads: Loads) -> None:
    """Another sex, which the whole document of each child shows."""
    for child in CHILDREN:
        loads.twice.change("ssd_person", "pers_person_id", child, pers_sex="M")
    loads.page = -1


def test_a_table_that_is_empty_for_a_page_of_a_first_load_is_read_again(loads: Loads) -> None:
    loads.emptied_for_a_page(PLANS, 1)
    result = loads.run()
    assert result.counts["held_back"] == result.counts["left_out"] == 0
    loads.assert_as_at_rest()


def test_a_table_that_is_empty_for_a_page_of_a_usual_day_takes_nothing_away(loads: Loads) -> None:
    loads.run()
    changed(loads)
    loads.emptied_for_a_page(PLANS, 1)
    result = loads.run()
    assert result.counts["need_attention"] == 0
    assert result.counts["updated"] == len(CHILDREN)
    loads.assert_as_at_rest()


def test_a_person_who_is_not_there_for_a_moment_is_not_gone(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load of the persons commits while the tables are read, and ends later."""
    loads.run()
    loads.twice.change("ssd_person", "pers_person_id", "A", pers_sex="M")
    loads.page = -1
    loads.steps[0] = loads.taken("ssd_person", pers_person_id="B")
    result = loads.run()
    assert (result.counts["gone"], result.counts["updated"]) == (0, 1)
    loads.assert_as_at_rest()


def test_a_person_who_goes_between_the_readings_comes_back(loads: Loads) -> None:
    loads.run()
    changed(loads)
    loads.emptied_for_a_page("ssd_person", 1, pers_person_id="C")
    result = loads.run()
    assert (result.counts["gone"], result.counts["updated"]) == (0, len(CHILDREN))
    loads.assert_as_at_rest()


@pytest.mark.parametrize("first", [True, False])
def test_a_load_that_does_not_end_stops_the_run_and_stages_nothing(
    loads: Loads, first: bool
) -> None:
    if not first:
        loads.run()
        changed(loads)
    before = {} if first else loads.staged()
    put = iter(range(1000))

    def fill(_page: int) -> None:
        rows = [
            {"cppl_cp_plan_id": f"N{next(put)}", "cppl_person_id": "nobody"}
            for _ in range(read_twice._FEW)
        ]
        loads.twice.put(PLANS, rows)

    loads.every = fill
    with pytest.raises(SourceMovesError) as refused:
        loads.run()
    assert refused.value.exit_code == 19
    assert f"{PLANS} " in str(refused.value)
    assert loads.staged() == before
    loads.every = lambda _page: None
    loads.run()
    loads.assert_as_at_rest()


@pytest.mark.parametrize(
    "before, after, is_filled",
    [(3, 0, True), (3, 4, False), (30, 20, False), (30, 19, True), (0, 11, True),
     (50_000, 49_950, False), (50_000, 50_051, True)],
)  # fmt: skip
def test_what_is_a_load_and_what_is_daily_work(before: int, after: int, is_filled: bool) -> None:
    """A table of few rows that is empty now is being filled, however few they were."""
    assert read_twice.ReadTwice(rows={PLANS: (before, after)}).is_being_filled is is_filled


def test_a_source_that_is_never_at_rest_holds_back_whom_it_writes_to(loads: Loads) -> None:
    """Views over a system where people work: another child changes in each reading."""
    loads.run()
    changed(loads)
    before = loads.staged()["C"]

    def write(page: int) -> None:
        postcode = f"AB1 {page % 10}C{chr(ord('D') + page // 10)}"
        child = CHILDREN[page // 3]
        loads.twice.change("ssd_address", "addr_table_id", child, addr_address_postcode=postcode)

    loads.every = write
    result = loads.run()
    assert result.counts["held_back"] == result.counts["need_attention"] == 1
    assert loads.held_back() == {"C"}
    assert any("written to while it was read" in notice for notice in result.notices)
    assert loads.staged()["C"] == before
    assert result.counts["updated"] == len(CHILDREN) - 1
    loads.every = lambda _page: None
    assert loads.run().counts["released"] == 1
    loads.assert_as_at_rest()


def test_rows_that_are_other_ones_at_each_look_hold_nobody_back(loads: Loads) -> None:
    """A view that makes a value anew whenever it is read: to wait would be for ever."""
    loads.run()
    changed(loads)

    looks = iter(range(100))

    def write(_page: int) -> None:
        look = next(looks)
        postcode = f"AB1 {look % 10}C{chr(ord('D') + look // 10)}"
        loads.twice.change("ssd_address", "addr_table_id", "A", addr_address_postcode=postcode)

    loads.every = write
    result = loads.run()
    assert (result.counts["need_attention"], result.counts["updated"]) == (0, len(CHILDREN))
    assert any("other ones each time" in notice for notice in result.notices)


def test_a_load_that_meets_one_page_in_each_reading_holds_its_children_back(loads: Loads) -> None:
    loads.run()
    changed(loads)
    before = loads.staged()
    loads.goes_on_in_looks = True  # the last table is full again just after its page
    for page, name in ((0, PLANS), (3, "ssd_disability"), (6, "ssd_address")):
        loads.emptied_for_a_page(name, page)
    result = loads.run()
    assert loads.held_back() == {"A", "B"}
    assert (result.counts["held_back"], result.counts["updated"]) == (2, 4)
    assert {one: loads.staged()[one] for one in "AB"} == {one: before[one] for one in "AB"}


LOADED = [PLANS, "ssd_disability", "ssd_address", "ssd_cin_episodes", "ssd_person", "ssd_cin_plans"]


@given(data=st.data())
@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_load_at_any_moment_takes_nothing_away(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    """Tables lack rows for some pages each, and have them again: nobody loses anything by it.

    Each document is then the one from before, or that of the source at rest.
    """
    monkeypatch.setattr(read_twice, "_FEW", 0)
    loads.steps, loads.page = {}, -1
    loads.run()  # what an example before this one held back
    for child in data.draw(st.sets(st.sampled_from(CHILDREN), min_size=3)):
        sex = data.draw(st.sampled_from("FMU"))
        loads.twice.change("ssd_person", "pers_person_id", child, pers_sex=sex)
    before, loads.page = loads.staged(), -1
    for name in data.draw(st.sets(st.sampled_from(LOADED), min_size=1, max_size=4)):
        page, pages = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 2))
        loads.emptied_for_a_page(name, page, pages)
    try:
        loads.run()
    except (SourceMovesError, GuardError):
        assert loads.staged() == before
    after = loads.staged()
    loads.end()
    loads.run(AT_REST, reassess=True)
    at_rest = loads.staged(AT_REST)
    for child in CHILDREN:
        assert after[child][0] in (before[child][0], at_rest[child][0])
        assert after[child][1] != "deleted"
    loads.run()
    loads.assert_as_at_rest()


def test_persons_who_go_in_each_reading_stop_the_run(loads: Loads) -> None:
    loads.run()
    changed(loads)
    before = loads.staged()

    def take(page: int) -> None:
        reading, page_of_it = divmod(page, 3)
        if page_of_it == 0:  # another one comes, so that their number stays
            loads.taken("ssd_person", pers_person_id=CHILDREN[-1 - reading])
            loads.twice.put("ssd_person", [{"pers_person_id": f"N{page}"}])

    loads.every = take
    with pytest.raises(SourceMovesError) as refused:
        loads.run()
    assert "1 person no longer there" in str(refused.value)
    assert loads.staged() == before


def test_a_page_that_always_differs_from_the_tables_costs_one_reading_more_once(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables as a whole may join ids that the database tells apart by a blank."""
    read = WholeTables.read

    def read_otherwise(whole: WholeTables, connection: Any) -> None:
        read(whole, connection)
        whole.fingerprints = whole.fingerprints + 1

    monkeypatch.setattr(WholeTables, "read", read_otherwise)
    readings = count_readings(monkeypatch)
    loads.twice.change("ssd_person", "pers_person_id", "E", pers_dob=TOO_OLD)
    result = loads.run()
    assert (result.counts["new"], result.counts["need_attention"]) == (len(CHILDREN) - 1, 0)
    assert len(readings) == 2
    result = loads.run()
    assert (result.read_anew, len(readings)) == (len(CHILDREN), 3)
    loads.twice.change("ssd_person", "pers_person_id", "A", pers_sex="M")
    result = loads.run()
    assert (result.counts["updated"], len(readings)) == (1, 5)
    assert [loads.run().counts["updated"], len(readings)] == [0, 6]
    loads.assert_as_at_rest()


def test_what_a_run_marked_that_staged_nothing_is_not_believed(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a child would go whose row was away for a moment in two nights."""
    loads.run()
    born = functools.partial(loads.twice.change, "ssd_person", "pers_person_id", "A")
    born(pers_dob=TOO_OLD)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(Load, "write_pending", _stop)
        loads.run()
    born(pers_dob="2010-05-05")
    loads.page = -1
    loads.then(0, lambda: born(pers_dob=TOO_OLD))
    discard = Load.discard  # between two readings

    def put_back(load: Load) -> None:
        discard(load)
        born(pers_dob="2010-05-05")

    monkeypatch.setattr(Load, "discard", put_back)
    assert loads.run().counts["gone"] == 0
    loads.assert_as_at_rest()


def _stop(*_given: Any) -> None:
    raise KeyboardInterrupt


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with each reading of the source."""
    readings: list[int] = []
    read = extract.Day.read
    monkeypatch.setattr(
        extract.Day, "read", lambda day, progress: readings.append(1) or read(day, progress)
    )
    return readings


def test_a_source_at_rest_is_read_once(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = count_readings(monkeypatch)
    loads.run()
    changed(loads)
    loads.run()
    loads.run()
    assert len(readings) == 3


def test_a_source_with_ids_that_differ_by_a_blank_is_read_once_from_the_second_day(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = count_readings(monkeypatch)
    loads.twice.change("ssd_cla_episodes", "clae_cla_episode_id", "B", clae_cla_id="AL ")
    loads.run()
    before = len(readings)
    for number in range(2):
        loads.twice.change("ssd_person", "pers_person_id", "C", pers_sex=str(number))
        loads.run()
        loads.run()
    assert len(readings) == before + 4
    loads.assert_as_at_rest()
