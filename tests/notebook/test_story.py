"""The story of a notebook: one sentence, the funnel, the run before, how it ended."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython
import pytest
from sqlalchemy import Engine, insert

from d2i_helpers import database
from d2i_helpers.database.tables import staging_table
from d2i_helpers.errors import ChildErrors, GuardError
from d2i_helpers.notebook import display, story
from d2i_helpers.notebook.earlier_runs import (
    EarlierRun,
    counts_so_far,
    kind_of_run,
    run_before,
)
from d2i_helpers.notebook.opening import Notebook
from d2i_helpers.settings import Settings
from d2i_helpers.staging import overview

EXTRACT = {
    "persons_read": 2000, "eligible": 1700, "in_cohort": 1542, "new": 10, "updated": 20,
    "unchanged": 1512, "gone": 1, "need_attention": 2,
}  # fmt: skip
SUBMIT = {"sent": 31, "requests": 1, "acknowledged": 31, "refused": 0, "need_attention": 2}


def test_a_run_is_one_sentence() -> None:
    counts = {"extract": EXTRACT, "delta": {"ready_to_send": 31}, "submit": SUBMIT}
    assert story.sentence_of_run(counts) == (
        "1,542 children, 31 changed, 31 acknowledged, none refused, 2 need attention."
    )
    one = {"extract": {"in_cohort": 1, "new": 1, "need_attention": 1}}
    assert story.sentence_of_run(one) == "1 child, 1 changed, 1 needs attention."
    dry = {"submit": {"waiting_before": 31, "need_attention": 0}}
    assert story.sentence_of_run(dry, is_dry=True) == (
        "31 to send and nothing sent, none need attention."
    )
    preflight = {"preflight": {"pass": 18, "warn": 1, "fail": 0}}
    assert story.sentence_of_run(preflight) == "19 checks, 1 with a warning, none failed."
    assert story.sentence_of_run({}) == ""


@pytest.mark.parametrize(
    ("stage", "counts", "is_dry", "said"),
    [
        ("submit", SUBMIT, False, "31 children sent in 1 request, 31 acknowledged, none refused, "
         "2 need attention."),
        ("submit", {"sent": 1, "requests": 2, "unknown": 1, "need_attention": 1}, False,
         "1 child sent in 2 requests, none acknowledged, none refused, 1 unknown, "
         "1 needs attention."),
        ("submit", {"waiting_before": 1}, True,
         "Dry run, nothing was sent, 1 child would be sent."),
        ("submit", {}, False, "Nothing to send, none need attention."),
        ("delta", {"ready_to_send": 1, "changes": 1}, False, "1 message to send, none whole, "
         "1 with changes only, none to remove a child, none need attention."),
        ("anonymise", {"unchanged": 5}, False,
         "Nothing changed, 5 children in the twin as before."),
        ("anonymise", {"unchanged": 5, "gone": 1}, False, "0 documents made anonymous, "
         "1 changed in the twin, none with an identity left in, none need attention."),
        ("a stage of one's own", {"swept": 4}, False, ""),
    ],
)  # fmt: skip
def test_a_stage_is_one_sentence(
    stage: str, counts: dict[str, int], is_dry: bool, said: str
) -> None:
    assert story.sentence_of_stage(stage, counts, is_dry=is_dry) == said


def test_the_funnel_goes_as_far_as_the_stages_have_come() -> None:
    assert story.funnel({"extract": EXTRACT}) == [
        ("persons", 2000), ("eligible by age", 1700), ("in the cohort", 1542),
        ("documents staged", 1542),
    ]  # fmt: skip
    whole = story.funnel({"extract": EXTRACT, "delta": {"ready_to_send": 31}, "submit": SUBMIT})
    assert whole[-2:] == [("to send", 31), ("acknowledged", 31)]
    assert story.funnel({"preflight": {"pass": 3}}) == []


# ----------------------------------------------------------------------------- the run before
def before_extract(settings: Settings) -> EarlierRun | None:
    outputs = settings.path(settings.outputs_dir)
    return run_before(outputs, kind_of_run(settings), settings.run_id, "extract")


def make(outputs: Path, hour: int, **changed: Any) -> str:
    """A record as a run leaves it; `hour` says which is the newest."""
    run_id = f"20260810T{hour:02d}0000-00aa"
    extract = {"name": "extract", "status": "completed", "counts": {"in_cohort": hour}}
    record = {
        "profile": "demo", "status": "completed", "parameters": {"dry_run": False},
        "stages": [extract], **changed,
    }  # fmt: skip
    (outputs / run_id).mkdir(parents=True)
    (outputs / run_id / "run.json").write_text(json.dumps(record))
    return run_id


def test_the_run_before_is_the_last_completed_one_of_its_kind(
    tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    outputs = tmp_path / "outputs"
    assert before_extract(make_settings()) is None
    before = make(outputs, 1)
    make(outputs, 2, status="failed")
    make(outputs, 3, profile="phase5_live")
    make(outputs, 4, parameters={"dry_run": True})
    make(outputs, 5, parameters={"person_ids": "3 ids"})
    make(outputs, 6, stages=[{"name": "delta", "status": "completed", "counts": {"changes": 1}}])
    (outputs / "20260810T070000-00aa").mkdir()  # no record, and one that is none
    (outputs / make(outputs, 8) / "run.json").write_text('{"stages": 3}')
    ours = make(outputs, 9, status="running")
    settings = make_settings(run_id=ours)
    found = before_extract(settings)
    assert found is not None and (found.run_id, found.counts) == (
        before,
        {"extract": {"in_cohort": 1}},
    )
    dry = before_extract(make_settings(run_id=ours, dry_run=True))
    assert dry is not None and dry.counts == {"extract": {"in_cohort": 4}}
    pilot = before_extract(make_settings(run_id=ours, person_ids="A1,A2,A3"))
    assert pilot is not None and pilot.counts == {"extract": {"in_cohort": 5}}
    assert counts_so_far(settings) == {"extract": {"in_cohort": 9}}
    assert counts_so_far(make_settings(run_id="../../etc")) == {}


def test_of_a_record_only_numbers_are_taken(
    tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    counts = {"in_cohort": 3, "Anna Smith": "Anna Smith", "new": None, "gone": True}
    make(tmp_path / "outputs", 1, stages=[
        {"name": "extract", "status": "completed", "counts": counts}, "no stage",
    ])  # fmt: skip
    found = before_extract(make_settings())
    assert found is not None and found.counts == {"extract": {"in_cohort": 3}}


# ------------------------------------------------------------------------------- the notebook
class Shell:
    """What a notebook's shell does with outputs: those with a name can be brought up to date."""

    def __init__(self) -> None:
        self.display_pub = SimpleNamespace(publish=self.publish)
        self.events = SimpleNamespace(register=self.register)
        self.shown: dict[str, dict[str, Any]] = {}
        self.after_cell: Callable[[Any], None] = print

    def publish(self, data: dict[str, Any], transient: Any, update: bool) -> None:
        name = transient["display_id"] if transient else str(len(self.shown))
        assert update == (name in self.shown)
        self.shown[name] = data

    def register(self, event: str, function: Callable[[Any], None]) -> None:
        assert event == "post_run_cell"
        self.after_cell = function

    def ends_with(self, error: BaseException | None) -> None:
        self.after_cell(SimpleNamespace(error_in_exec=error))

    @property
    def heading(self) -> str:
        return next(iter(self.shown.values()))["text/plain"]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: made)
    return made


def test_the_heading_says_at_the_top_how_the_notebook_ended(
    shell: Shell, make_settings: Callable[..., Settings], engine: Engine
) -> None:
    settings = make_settings(run_id="20260811T020000-00aa", dry_run=True)
    notebook = Notebook(settings, "extract")
    notebook.show_heading()
    assert "outcome: at work" in shell.heading and "dry run: yes" in shell.heading
    shell.ends_with(None)
    assert "outcome: at work" in shell.heading
    notebook.close(EXTRACT)
    assert shell.heading.startswith("1,542 children in the cohort, 10 new")
    assert "outcome: completed" in shell.heading
    assert "in the cohort  1,542" in shell.heading
    shell.ends_with(ChildErrors("2 children need attention"))
    assert "outcome: attention" in shell.heading
    assert shell.heading.startswith("1,542 children")
    shell.ends_with(GuardError("The day looks wrong."))
    assert "outcome: failed" in shell.heading
    assert shell.heading.startswith("Failed with GuardError: The day looks wrong.")
    shell.ends_with(ValueError("Anna Smith"))
    assert "Failed with ValueError" in shell.heading and "Anna" not in shell.heading


def test_states_stand_before_and_after(
    shell: Shell, make_settings: Callable[..., Settings], engine: Engine
) -> None:
    settings = make_settings(source="identifiable")
    database.create_staging(engine, settings.staging_table)
    table = staging_table(settings.staging_table)

    def stage(person: str, **values: Any) -> None:
        row = {"person_id": person, "json_payload": "{}", "row_state": "new",
               "submission_status": "pending", **values}  # fmt: skip
        with database.transaction(engine) as connection:
            connection.execute(insert(table).values(row))

    settled = {"row_state": "Unchanged", "submission_status": "Sent", "current_hash": b"1",
               "previous_hash": b"1", "previous_json_payload": "{}"}  # fmt: skip
    stage("A1", **settled)
    stage("A2")
    notebook = Notebook(settings, "delta")
    stage("A3", **settled)
    stage("A4", **{**settled, "previous_hash": b"2"})  # says so, and contradicts itself
    assert overview.by_state(engine, settings.staging_table) == {
        "new, pending": 1, "unchanged, sent": 3,
    }  # fmt: skip
    notebook.close({"ready_to_send": 1})
    said = "\n".join(output["text/plain"] for output in shell.shown.values())
    assert "unchanged, sent  3      1       +2" in said
    assert "new, pending     1      1\n" in said


def test_a_database_that_is_away_stops_no_heading(
    shell: Shell, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(database_url=f"sqlite:///{tmp_path / 'no' / 'such.sqlite'}")
    Notebook(settings, "delta").show_heading()
    assert "outcome: at work" in shell.heading


def test_requests_over_time_tell_answers_apart(shell: Shell) -> None:
    start = dt.datetime(2026, 8, 10, 2)
    second = dt.timedelta(seconds=1)
    display.requests([(start, 200), (start + 9 * second, 422), (start + 9 * second, None),
                      (start + 90 * second, 503)])  # fmt: skip
    shown = shell.shown["0"]
    assert "All requests: 1 accepted, 1 refused, 1 no answer, 1 server error" in shown["text/html"]
    assert "02:00:09  1 refused, 1 no answer" in shown["text/plain"]
