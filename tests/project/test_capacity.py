"""The simulation of a night of many authorities, and that docs/capacity.md shows its figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def country() -> Any:
    pytest.importorskip("simpy", reason="the nights are NOT tested: install the extra `test` anew")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(BENCHMARKS))
        before = set(sys.modules)
        import country

        yield country
        beside = {path.stem for path in BENCHMARKS.glob("*.py")}
        for name in (set(sys.modules) - before) & beside:
            del sys.modules[name]


@pytest.fixture(scope="module")
def nights(country: Any) -> Any:
    return sys.modules["nights"]


def job(
    nights: Any, authority: int = 0, client: float = 7.0, messages: int = 0, **other: Any
) -> Any:
    return nights.Job(authority, client, 0.0, 0.0, messages, **other)


@st.composite
def loads(draw: st.DrawFn) -> list[tuple[float, float, int]]:
    """Seconds on the machine, seconds on the database server, messages."""
    seconds = st.integers(1, 400).map(lambda n: n / 4)
    return draw(st.lists(st.tuples(seconds, seconds, st.integers(0, 900)), min_size=1, max_size=8))


def jobs_of(nights: Any, given: list[tuple[float, float, int]]) -> list[Any]:
    return [
        nights.Job(n, client, server, 10.0, messages, again=(1.0, 1.0, 0.0))
        for n, (client, server, messages) in enumerate(given)
    ]


# ------------------------------------------------------------------------------ worked by hand
def test_a_run_computes_then_sends_with_an_answer_and_a_pause_each(nights: Any) -> None:
    setup = nights.Setup(at_once=1, requests_a_minute=None, round_trip=0.01, answer=0.5, pause=2.0)
    runs = [nights.Job(n, 7.0, 2.0, 100.0, 250, idle=1.5) for n in range(2)]
    # 1.5 s idle, 7 + 2 s of computing, 1 s of round trips, three answers with two pauses between
    came = nights.night(runs, setup)
    assert came.ended == pytest.approx(2 * (1.5 + 7 + 2 + 1 + 3 * 0.5 + 2 * 2.0))
    assert (len(came.posts), came.busy, came.database_busy) == (6, 14.0, 4.0)
    assert came.runs == {0: 1, 1: 1}


def test_shards_pause_longer_and_their_authority_is_complete_with_the_last(nights: Any) -> None:
    setup = nights.Setup(at_once=1, requests_a_minute=None, answer=0.5, pause=2.0)
    shards = [job(nights, messages=200, processes=2) for _ in range(2)]
    came = nights.night(shards, setup)
    assert came.served == {0: pytest.approx(2 * (7 + 0.5 + 2 * 2.0 + 0.5))}
    came = nights.night(shards, setup, nights.Faults(database=(8, 9000)))
    assert (came.runs, came.served, came.lost) == ({0: 1}, {}, {0})


def test_a_night_is_ended_after_twenty_hours(nights: Any) -> None:
    came = nights.night([job(nights, 0), job(nights, 1, client=80_000.0)], nights.Setup())
    assert (came.ended, came.served, came.lost) == (20 * 3600, {0: pytest.approx(7)}, {1})


def test_runs_share_cores_and_the_database_may_be_on_the_same(nights: Any) -> None:
    runs = [nights.Job(n, 8.0, 4.0, 0.0, 0) for n in range(2)]
    one_core = nights.Setup(cores=1, at_once=2, database_cores=0)
    assert nights.night(runs, one_core).ended == pytest.approx(24.0)
    other_server = nights.Setup(cores=2, at_once=2, database_cores=1)
    # slices of 4 and 2 s: the second run waits 2 s for the server, once
    assert nights.night(runs, other_server).ended == pytest.approx(14.0)


def test_a_request_too_many_waits_as_retry_after_says(nights: Any) -> None:
    setup = nights.Setup(at_once=1, requests_a_minute=1, answer=0.5, pause=0.5)
    came = nights.night([job(nights, client=0.0, messages=200)], setup)
    # taken at 0; refused at 1.0, answered at 1.5, and told to wait for 59 s
    assert came.posts == [0.0, 60.5]
    assert (came.refused, came.ended) == (1, 61.0)


def test_a_machine_that_is_off_begins_its_runs_anew(nights: Any) -> None:
    setup = nights.Setup(at_once=1, requests_a_minute=None)
    off = nights.Faults(machine=(6.0, 100.0))
    came = nights.night([job(nights, 0), job(nights, 1)], setup, off)
    assert came.ended == pytest.approx(100 + 7 + 7)
    assert came.runs == {0: 1, 1: 1}
    two = nights.Setup(machines=2, at_once=1, requests_a_minute=None)
    both = nights.night([job(nights, 0), job(nights, 1)], two, off)
    assert both.ended == pytest.approx(7 + 7)  # the other machine takes it over


def test_a_killed_run_is_tried_again_after_five_minutes(nights: Any) -> None:
    came = nights.night([job(nights)], nights.Setup(), nights.Faults(killed=(5.0,)))
    assert came.ended == pytest.approx(5 + 300 + 7)
    three = [job(nights, 0, 5.0), job(nights, 1, 20.0), job(nights, 2, 20.0)]
    setup = nights.Setup(cores=2, at_once=2, requests_a_minute=None)
    came = nights.night(three, setup, nights.Faults(killed=(12.0,)))
    assert came.served == {n: pytest.approx(at) for n, at in ((0, 5), (1, 12 + 300 + 20), (2, 25))}


def test_a_machine_that_is_off_takes_no_run_from_the_list(nights: Any) -> None:
    """It was idle when it went off; the other one does what is tried again."""
    setup = nights.Setup(machines=2, at_once=1, requests_a_minute=None)
    faults = nights.Faults(machine=(10, 1000), killed=(12.0,))
    came = nights.night([job(nights, 0), job(nights, 1, client=20.0)], setup, faults)
    assert came.served[1] == pytest.approx(12 + 300 + 20)


def test_what_stays_down_for_longer_than_all_tries_costs_the_night(nights: Any) -> None:
    short, long = nights.Faults(database=(0, 2000)), nights.Faults(database=(0, 2200))
    came = nights.night([job(nights)], nights.Setup(), short)
    assert (came.ended, came.lost) == (pytest.approx(300 + 600 + 1200 + 7), set())
    assert nights.night([job(nights)], nights.Setup(), long).lost == {0}


def test_an_api_that_is_down_ends_the_run_and_a_later_try_only_sends(nights: Any) -> None:
    run = job(nights, client=50.0, messages=100, again=(3.0, 0.0, 0.0))
    came = nights.night([run], nights.Setup(answer=0.5), nights.Faults(api=(0, 200)))
    four_attempts = 4 * 0.5 + 5 + 10 + 20
    assert came.posts == [pytest.approx(50 + four_attempts + 300 + 3)]
    assert came.refused == 4


# --------------------------------------------------------------------------------- what holds
@settings(max_examples=40, deadline=None)
@given(loads(), st.integers(1, 8), st.integers(1, 5))
def test_the_api_never_takes_more_requests_a_minute_than_it_may(
    nights: Any, load: list[tuple[float, float, int]], limit: int, at_once: int
) -> None:
    setup = nights.Setup(at_once=at_once, requests_a_minute=limit, pause=0.5)
    posts = nights.night(jobs_of(nights, load), setup).posts
    assert posts == sorted(posts)
    later = zip(posts, posts[limit:], strict=False)
    assert all(after - before >= 60 for before, after in later)


@settings(max_examples=40, deadline=None)
@given(loads(), st.integers(1, 30), st.data())
def test_each_authority_is_served_once_or_waits_and_no_message_is_forgotten(
    nights: Any, load: list[tuple[float, float, int]], limit: int, data: st.DataObject
) -> None:
    span = st.none() | st.tuples(st.integers(0, 300), st.integers(301, 9000))
    faults = nights.Faults(*(data.draw(span) for _ in range(3)), killed=(40.0, 41.0))
    setup = nights.Setup(machines=2, at_once=2, requests_a_minute=limit)
    came = nights.night(jobs_of(nights, load), setup, faults)
    assert came.served.keys() | came.lost == set(range(len(load)))
    assert not came.served.keys() & came.lost
    assert all(number == 1 for number in came.runs.values())
    served = sum(messages for n, (_, _, messages) in enumerate(load) if n in came.served)
    assert served <= 100 * len(came.posts) + sum(came.left.values())


@settings(max_examples=40, deadline=None)
@given(loads(), st.integers(1, 4))
def test_more_cores_never_end_later(
    nights: Any, load: list[tuple[float, float, int]], cores: int
) -> None:
    def ended(number: int) -> float:
        setup = nights.Setup(cores=number, at_once=number, database_cores=number,
                             requests_a_minute=None)  # fmt: skip
        return float(nights.night(jobs_of(nights, load), setup).ended)

    assert ended(cores + 1) <= ended(cores) + 1e-6


@given(st.integers(1, 20), st.integers(1, 600))
def test_runs_that_pause_as_advised_keep_to_the_limit(
    nights: Any, at_once: int, limit: int
) -> None:
    setup = nights.Setup(at_once=at_once, requests_a_minute=limit)
    a_minute = at_once * 60 / (setup.pause_seconds + setup.answer)
    assert a_minute <= limit * 1.000001 or setup.pause_seconds == nights.LONGEST_PAUSE


# -------------------------------------------------------------------------------- the country
def test_153_authorities_are_spread_as_published(country: Any) -> None:
    sizes = country.made_sizes()
    assert (len(sizes), sizes) == (153, sorted(sizes))
    assert sum(sizes) == pytest.approx(402_400, rel=0.001)
    assert sizes[-1] == pytest.approx(11_250, rel=0.05)


def test_a_published_table_is_read_and_a_wrong_one_refused(country: Any, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    rows = ["time_period,geographic_level,old_la_code,at_31_march",
            "2025,National,,402398", "2025,Local authority,201,69", "2024,Local authority,201,70",
            "2025,Local authority,202,c"]  # fmt: skip
    file.write_text("\n".join(rows), encoding="utf-8-sig")
    assert country.sizes_of(file, "at_31_march") == [69]
    with pytest.raises(SystemExit, match="needs the columns"):
        country.sizes_of(file, "number")
    file.write_text("\n".join([*rows, rows[2]]), encoding="utf-8")
    with pytest.raises(SystemExit, match="more than once"):
        country.sizes_of(file, "at_31_march")


def test_shards_divide_what_each_person_costs_and_all_messages(country: Any) -> None:
    line = {
        "client": [5.0, 0.001],
        "server": [1.0, 0.0],
        "statements": [10.0, 0.0],
        "messages": 0.5,
    }
    cost = {"days": dict.fromkeys(("first", "quiet", "usual"), line), "in_cohort": 0.7, "idle": 0.0}
    whole = country.Country((9001,), cost).jobs(0, 1.0)
    shards = country.Country((9001,), cost, shard_persons=3001).jobs(0, 1.0)
    assert [one.messages for one in whole] == [4501]
    assert sorted(one.messages for one in shards) == [1500, 1500, 1501]
    assert sum(one.client for one in shards) == pytest.approx(whole[0].client + 2 * 5.0)
    assert {one.processes for one in shards} == {3}


@pytest.fixture(scope="module")
def kept(country: Any) -> Any:
    return json.loads(country.FIGURES.read_text(encoding="utf-8"))


def test_the_page_shows_the_figures_that_are_kept(country: Any, kept: Any) -> None:
    page = country.PAGE.read_text(encoding="utf-8")
    assert country.page_with(page, kept) == page


def test_the_figures_that_are_kept_come_of_the_constants_that_are_kept(
    country: Any, nights: Any, kept: Any
) -> None:
    cost = list(kept["constants"].values())[-1]
    whole = country.Country.of(country.made_sizes(), cost, 3.0)
    assert kept["country"]["persons"] == sum(whole.persons)
    for kind in ("usual", "first"):
        came = country.shown(whole.night(kind, nights.Setup()), nights.Setup())
        assert came == {name: kept["country"]["nights"][kind][name] for name in came}
    assert kept["country"]["week"] == country.rounded(country.week(whole, nights.Setup()))
