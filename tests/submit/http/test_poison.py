"""Bad records among many, through staging: only they end in error, each with a reason.

The receiver refuses what our own validation lets pass, in every way that it can, and one request in
twenty goes wrong at random. The long form has 10,000 children on each database:
`pytest -m long tests/submit/http/test_poison.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, event, select

from d2i_helpers import database
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.staging import Staged, Staging
from d2i_helpers.staging.load import write
from d2i_helpers.submit import stage as submit
from tests.submit.http.harness import Served, Switchboard, record

TABLE = "ssd_api_data_staging"
SPEC = load_spec()
# kinds of poison: what the receiver does to a request with such a child, and what is said of it
POISON: dict[str, tuple[dict[str, Any], str]] = {
    "named": ({"refuse": "named"}, "child_details.sex: not in code list"),
    "unnamed": ({"refuse": "unnamed"}, "HTTP 400: refused, without naming a record"),
    "blocked": ({"status": 403}, "HTTP 403: access refused, or stopped by the firewall"),
    "large": ({"status": 413}, "HTTP 413: too large"),
}
RANDOM = (
    {"drop": "after", "name": "lost answer"},
    {"drop": "before"},
    {"status": 503},
    {"status": 429, "headers": {"Retry-After": "0"}},
    {"expire_tokens": True},
)


def stage(engine: Engine, children: Iterable[str]) -> dict[str, Any]:
    """Documents of these children in the staging table, as extract leaves them."""
    documents = {child: orjson.loads(record(child)) for child in children}
    database.create_staging(engine, TABLE)
    with database.transaction(engine) as connection:
        rows = [
            Staged(child, None, to_text(document), content_hash(SPEC, document))
            for child, document in documents.items()
        ]
        write(connection, Staging(engine, TABLE), rows)
    return documents


def rows_of(engine: Engine) -> dict[str, Any]:
    table = Staging(engine, TABLE).table
    with database.reading(engine) as connection:
        return {row.person_id: row for row in connection.execute(select(table))}


class Day:
    """Children, some of them poison, and a receiver with faults."""

    def __init__(
        self, engine: Engine, make_settings: Callable, board: Switchboard, folder: Path
    ) -> None:
        self.engine, self.board = engine, board
        self.settings = make_settings(
            receiver_store=str(folder / "receiver.sqlite"),
            pause_seconds=0,
            attempts=8,
            wait_initial=0.001,
            wait_max=0.01,
            guard_min_children=10**6,
        )

    def send(self, faults: list[dict[str, Any]]) -> tuple[submit.SubmitResult, Served]:
        delta_stage.run(self.engine, self.settings, SPEC)
        with self.board.playing(self.settings, {"seed": 3, "faults": faults}) as served:
            result = submit.run(self.engine, self.settings, SPEC, served.endpoint)
            self.posts, self.held = served.posts(), served.documents()
        return result, served


@pytest.fixture
def day(engine: Engine, make_settings: Callable, switchboard: Switchboard, tmp_path: Path) -> Day:
    return Day(engine, make_settings, switchboard, tmp_path)


def poisoned(children: list[str], every: int) -> dict[str, str]:
    """One in so many children, in turn of each kind."""
    kinds = list(POISON)
    chosen = children[every // 2 :: every]
    return {child: kinds[number % len(kinds)] for number, child in enumerate(chosen)}


def check(day: Day, count: int, every: int, share: float) -> submit.SubmitResult:
    children = [f"k{n}" for n in range(count)]
    documents = stage(day.engine, children)
    poison = poisoned(children, every)
    bad = [
        {"child": [child for child, one in poison.items() if one == kind], **play}
        for kind, (play, _) in POISON.items()
        if kind in poison.values()
    ]
    faults = [{"share": share, **play} for play in RANDOM] if share else []
    # the first that fits is played: a bad record stays bad, whatever else happens
    result, _ = day.send([*bad, *faults])

    rows = rows_of(day.engine)
    wrong = {child: row for child, row in rows.items() if row.submission_status != "sent"}
    assert wrong.keys() == poison.keys()
    for child, row in wrong.items():
        assert row.submission_status == "error"
        # a network fault on the way leaves it open whether it was stored
        said = row.api_response.removeprefix("outcome unknown: ")
        assert said == POISON[poison[child]][1]
    good = {child: documents[child] for child in children if child not in poison}
    assert day.held == good
    stored: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for post in day.posts:
        if post["stored"]:
            stored.update(post["ids"])
            if "lost answer" in post["fault"]:
                lost.update(post["ids"])
    assert stored == {child: 1 + lost[child] for child in good}
    assert result.counts["acknowledged"] == len(good)
    assert result.counts["requests"] == len(day.posts)
    if share:
        played = {name for post in day.posts for name in post["fault"].split("; ")}
        assert len(played) > 2, "too few faults were played"

    # the next day only the poison is tried again; and once it is no poison, all is well
    result, _ = day.send(bad)
    assert result.counts["waiting_before"] == len(poison)
    result, _ = day.send([])
    assert day.held == documents
    assert {row.submission_status for row in rows_of(day.engine).values()} == {"sent"}
    return result


def test_one_in_a_hundred(day: Day) -> None:
    check(day, 800, 100, share=0.02)


def test_fifty_in_a_hundred(day: Day) -> None:
    check(day, 100, 2, share=0)


def test_what_a_batch_became_is_written_after_rows_in_bulk(day: Day) -> None:
    issued: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if written := re.match(r"(?:INSERT INTO|UPDATE) (\S+)", statement):
            issued.append(written[1].rpartition(".")[2])

    stage(day.engine, ["k0", "k1", "k2"])  # few, so that their log is not copied
    delta_stage.run(day.engine, day.settings, SPEC)
    refused = [{"child": ["k1"], "refuse": "named"}]
    with day.board.playing(day.settings, {"seed": 3, "faults": refused}) as served:
        event.listen(day.engine, "before_cursor_execute", note)
        counts = submit.run(day.engine, day.settings, SPEC, served.endpoint).counts
    assert (counts["acknowledged"], counts["refused"]) == (2, 1)
    # the errors, the log, the acknowledged rows, which receiver took them; then the lease ends
    assert issued[-4:] == [TABLE, "d2i_submission_log", TABLE, "d2i_facts"]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_one_in_a_hundred_of_10000(day: Day) -> None:
    check(day, 10_000, 100, share=0.01)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_one_in_10000(day: Day) -> None:
    check(day, 10_000, 10_000, share=0.01)


def test_a_dry_run_sends_nothing_and_says_how_much_would_go(day: Day) -> None:
    documents = stage(day.engine, [f"k{n}" for n in range(150)])
    day.settings = day.settings.model_copy(update={"dry_run": True})
    result, _ = day.send([])
    assert day.posts == []
    size = sum(len(to_text(document)) for document in documents.values())
    assert result.counts["waiting_before"] == 150
    assert result.counts["characters"] == size
    (said,) = result.notices
    assert f"150 messages of {size:,} characters together would go in 2 requests" in said
    assert {row.submission_status for row in rows_of(day.engine).values()} == {"pending"}


@pytest.mark.parametrize(("kind", "most"), [("named", 1), ("unnamed", 14), ("blocked", 26)])
def test_one_bad_record_costs_few_requests(day: Day, kind: str, most: int) -> None:
    """Above the one that its batch takes anyway; a blocked one is tried `attempts` times first."""
    children = [f"k{n}" for n in range(200)]
    stage(day.engine, children)
    result, _ = day.send([{"child": "k137", **POISON[kind][0]}])
    assert result.counts["acknowledged"] == 199
    assert result.counts["requests"] - 2 <= most
