"""A run that is tried again: after which exit codes, how often, and with which stages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from d2i_helpers.cli import cli
from d2i_helpers.errors import (
    WHAT_NEXT,
    D2IError,
    DatabaseError,
    Next,
    ReceiverError,
    SettingsError,
)
from d2i_helpers.runs import day, records
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.runs.tries import may_help, run_with_tries

Ended = int | D2IError  # the exit code of a run with a record, or why there is none


class Nights:
    """A run that ends as it is told, one end after the other."""

    def __init__(self, folder: Path, *ends: Ended) -> None:
        self.folder, self.ends = folder, list(ends)
        self.stages: list[Sequence[str] | None] = []
        self.slept: list[float] = []
        self.said: list[str] = []

    def run(self, stages: Sequence[str] | None) -> RunRecord:
        self.stages.append(stages)
        ended = self.ends.pop(0)
        if isinstance(ended, D2IError):
            raise ended
        record = RunRecord(
            folder=self.folder / f"run-{len(self.stages)}",
            run_id=f"run-{len(self.stages)}",
            profile="demo",
            parameters={},
            given={},
            stages=[StageRecord("extract", "01_extract.ipynb")],
            exit_code=ended,
        )
        records.create(record)
        return record

    def go(self, tries: int, stages: Sequence[str] | None = None) -> int | None:
        record = run_with_tries(
            self.run, stages, tries=tries, minutes=20, say=self.said.append,
            sleep=self.slept.append,
        )  # fmt: skip
        return record.exit_code


@pytest.mark.parametrize(
    ("ends", "tries", "last", "runs"),
    [
        ([0], 3, 0, 1),
        ([19], 1, 19, 1),
        ([19, 9, 0], 3, 0, 3),
        ([4, 4, 4], 3, 4, 3),
        ([6], 3, 6, 1),  # a guard: somebody has to look first
        ([20], 3, 20, 1),  # complete: the same children would be found
        ([130], 3, 130, 1),  # stopped by somebody
        ([19, 6], 3, 6, 2),
        ([DatabaseError("away"), 0], 2, 0, 2),
    ],
)
def test_it_begins_anew_only_where_another_try_may_help(
    ends: list[Ended], tries: int, last: int, runs: int, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, *ends)
    assert nights.go(tries) == last
    assert len(nights.stages) == runs
    assert nights.slept == [20 * 60] * (runs - 1)
    assert len(nights.said) == runs - 1


def test_the_last_error_is_that_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        Nights(tmp_path, SettingsError("a slip"), 0).go(3)
    nights = Nights(tmp_path, DatabaseError("away"), ReceiverError("down"))
    with pytest.raises(ReceiverError):
        nights.go(2)
    assert nights.said == [
        "away Exit code 4: what was in the way may be gone in a while. Again in 20 minutes, "
        "try 2 of 2."
    ]


@pytest.mark.parametrize(
    ("first", "next_"),
    [
        (None, None),
        (["submit"], ["delta", "submit"]),
        (["delta", "submit"], ["delta", "submit"]),
        (["extract"], ["extract"]),
    ],
)
def test_submit_is_tried_again_with_delta(
    first: list[str] | None, next_: list[str] | None, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, 9, 9, 0)
    nights.go(3, first)
    assert nights.stages == [first, next_, next_]


def test_the_page_of_runs_lists_the_exit_codes_after_which_another_try_may_help() -> None:
    page = (Path(__file__).parents[2] / "docs" / "running.md").read_text(encoding="utf-8")
    listed = page.split("exit codes ", 1)[1].split(" (", 1)[0]
    codes = {int(word) for word in listed.replace(" and ", ", ").split(", ")}
    assert codes == {code for code, after in WHAT_NEXT.items() if after is Next.AGAIN} - {130}
    assert all(map(may_help, codes))


def test_the_command_shows_each_try_and_says_the_summary_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = Nights(tmp_path, 19, DatabaseError("away"), 0)

    def run_day(_parameters: object, stages: Sequence[str] | None, *_: object, **__: object):
        return nights.run(stages)

    monkeypatch.setattr(day, "run_day", run_day)
    monkeypatch.setenv("D2I_DATABASE_URL", "sqlite:///:memory:")
    words = ["run", "--stages", "submit", "--tries", "3", "--wait", "0", "--summary", "json"]
    shown = CliRunner().invoke(cli, words, standalone_mode=False)
    assert shown.return_value == 0
    assert json.loads(shown.stdout)["run_id"] == "run-3"
    assert nights.stages == [["submit"], ["delta", "submit"], ["delta", "submit"]]
    assert "run-1" in shown.stderr
    assert "away Exit code 4" in shown.stderr


def test_a_database_that_comes_while_the_command_waits_is_found(tmp_path: Path) -> None:
    """Two runs of one process, each with a record of its own."""
    away, source = tmp_path / "away.sqlite", tmp_path / "source.sqlite"
    command = [sys.executable, "-m", "d2i_helpers"]
    here = ["-p", f"outputs_dir={tmp_path / 'records'}",
            "-p", f"receiver_store={tmp_path / 'receiver.sqlite'}"]  # fmt: skip
    made = [*command, "simulate", "init", "--children", "20"]
    subprocess.run([*made, *here, "-p", f"database_url=sqlite:///{away}"], check=True)
    begun = [*command, "run", "--stages", "extract", "--tries", "2", "--wait", "0.02"]
    night = subprocess.Popen(
        [*begun, *here, "-p", f"database_url=sqlite:///{source}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    seen = []
    for line in night.stdout or ():
        seen.append(line)
        if "try 2 of 2" in line:
            away.replace(source)
    assert night.wait(120) == 0, "".join(seen)
    assert len(list((tmp_path / "records").glob("20*/run.json"))) == 2
