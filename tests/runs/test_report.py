"""The page of a run and the page over all runs: what they say, and that they harm nobody."""

from __future__ import annotations

import contextlib
import html
import re
from pathlib import Path
from typing import Any

import pytest

from d2i_helpers import processes
from d2i_helpers.errors import RecordError
from d2i_helpers.notebook.earlier_runs import run_before
from d2i_helpers.runs import report
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.runs.run_page import kind_of, write_run_page

GONE = {"place": processes.place(), "pid": 99999999, "born": 1.0}


def make_record(outputs: Path, number: int, **values: Any) -> RunRecord:
    run_id = f"20260810T{number:06d}-00aa"
    counts = {"in_cohort": 100 + number, "new": 1, "need_attention": 1}
    stages = [
        StageRecord("extract", "01_extract.ipynb", "completed", counts=counts),
        StageRecord("submit", "04_submit.ipynb", "completed", counts={"acknowledged": 1}),
    ]
    record = RunRecord(
        outputs / run_id, run_id, "demo", {}, {}, stages, started_at="2026-08-10T02:00:00Z"
    )
    record.environment = {"user": "nightly", "host": "d2i01", "python": "3.12.1",
                          "versions": {"d2i-workbook": "9.9.9"},
                          "git": {"commit": "c0ffee" * 6, "clean": False}}  # fmt: skip
    for name, value in {"status": "completed", "exit_code": 0, "seconds": 3.0, **values}.items():
        setattr(record, name, value)
    record.folder.mkdir(parents=True)
    record.save()
    return record


def words(page: Path) -> str:
    """What a page says, without its elements; one blank between words."""
    body = page.read_text(encoding="utf-8").partition("<body>")[2].partition("<script>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def rows(page: Path) -> list[str]:
    """The rows of the index, as words."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"<tr data-profile.*?</tr>", text, re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in found]


def test_the_index_has_every_run_beside_the_one_before(tmp_path: Path) -> None:
    first = make_record(tmp_path, 1)
    (first.folder / "01_extract.html").write_text("page")
    make_record(tmp_path, 2, status="failed", exit_code=4, profile="<b>&",
                error={"name": "X", "message": "</script><b>no</b> & so"})  # fmt: skip
    (tmp_path / "20260810T000003-00aa").mkdir()
    last = make_record(tmp_path, 7)
    write_run_page(last)
    (tmp_path / "demo").mkdir()
    page = report.write_report(tmp_path)
    newest, damaged, failed, oldest = rows(page)
    assert "102 children" not in newest and "107 children, 1 changed, 1 acknowledged" in newest
    assert "+6 in the cohort" in newest  # beside the last completed run of its profile
    assert "nightly at d2i01" in newest
    assert "damaged" in damaged
    assert "failed , exit code 4" in failed and "</script><b>no</b> & so" in failed
    assert "in the cohort" not in oldest and "extract" in oldest
    text = page.read_text(encoding="utf-8")
    assert f'href="{last.run_id}/run.html"' in text and f'href="{first.run_id}/run.' not in text
    assert f'href="{first.run_id}/01_extract.html"' in text
    assert text.count("</script>") == 1  # a text cannot end the element
    assert not re.findall(r"""(?:src|href)=["']?\w*:?//""", text)
    assert "default-src 'none'" in text


def test_a_killed_run_is_shown_as_interrupted(tmp_path: Path) -> None:
    make_record(tmp_path, 1, status="running", exit_code=None, process=GONE)
    assert "interrupted" in rows(report.write_report(tmp_path))[0]


def test_an_empty_folder_has_an_index_too(tmp_path: Path) -> None:
    assert "No runs yet" in words(report.write_report(tmp_path / "new"))


def test_the_index_reads_no_more_than_a_year_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MOST_RUNS", 2)
    for number in (1, 2, 3):
        make_record(tmp_path, number)
    page = report.write_report(tmp_path)
    assert len(rows(page)) == 2
    assert "The newest 2 of 3 runs" in words(page)


def test_the_page_of_a_run_says_who_when_where_and_why(tmp_path: Path) -> None:
    make_record(tmp_path, 1)
    record = make_record(tmp_path, 5, status="attention", exit_code=20, error={
        "name": "ChildErrors", "message": "1 child needs attention.", "hint": "See <why>.",
    }, given={"phase": "full"}, warnings=["a note"], parameters={"dry_run": True})  # fmt: skip
    record.stages[0].details = {"Who needs attention": {"held back: pers_dob": 1}}
    (record.folder / "01_extract.html").write_text("page")
    page = write_run_page(record)
    said = words(page)
    for part in (
        f"Run {record.run_id}: attention", "105 children, 1 changed,", "1 child needs attention.",
        "To do: See <why>.", "profile demo", "started 10 Aug 2026, 02:00 UTC", "exit code 20",
        "dry run yes: nothing is sent", "who nightly", "where d2i01", "workbook 9.9.9",
        "commit c0ffeec0ffee, with changed files", "a note", "held back: pers_dob 1",
        "extract: in cohort 105 101 +4", "phase full",
    ):  # fmt: skip
        assert part in said, part
    text = page.read_text(encoding="utf-8")
    assert 'href="01_extract.html"' in text and 'href="04_submit.html"' not in text
    assert "<script" not in text and "default-src 'none'" in text


def test_what_a_message_puts_between_backticks_is_code(tmp_path: Path) -> None:
    error = {"name": "X", "message": "There is no `<phase>` & `no end.", "hint": "Try `d2i check`."}
    record = make_record(tmp_path, 1, status="failed", exit_code=3, error=error)
    told = "There is no <code>&lt;phase&gt;</code> &amp; `no end."
    for page in (write_run_page(record), report.write_report(tmp_path)):
        assert told in page.read_text(encoding="utf-8")
    assert "Try <code>d2i check</code>." in write_run_page(record).read_text(encoding="utf-8")


def test_a_record_that_was_edited_breaks_no_page(tmp_path: Path) -> None:
    """Every run renews the index, whatever stands in the records before it."""
    record = make_record(tmp_path, 1, error={"no": "message"}, seconds="long", warnings=3)
    with pytest.raises(RecordError, match="holds what no run writes"):
        write_run_page(record)
    make_record(tmp_path, 2, environment={"git": 3}, resumed=[3])
    good, edited = rows(report.write_report(tmp_path))
    assert "damaged" in edited and "completed" in good


@pytest.mark.parametrize(
    "edited",
    [
        {"seconds": float("inf")},
        {"seconds": 1e308},
        {"seconds": 10**400},
        {"profile": 1},
        {"profile": ["x"]},
        {"status": None},
        {"status": ["x"]},
        {"stages": [StageRecord("extract", "x" * 5000, "completed")]},
        {"stages": [StageRecord("submit", "4.ipynb", "completed", counts={"acknowledged": 1e400})]},
    ],
)
def test_whatever_a_record_was_given_later_runs_renew_the_index(
    edited: Any, tmp_path: Path
) -> None:
    good, record = make_record(tmp_path, 1), make_record(tmp_path, 2, **edited)
    with contextlib.suppress(RecordError, OSError):
        write_run_page(record)
    assert len(rows(report.write_report(tmp_path))) == 2
    before = run_before(tmp_path, kind_of(good), "20260810T000003-00aa")
    assert before is not None  # which the notebooks of later runs look for


def test_a_run_that_failed_after_its_checks_begins_with_the_reason(tmp_path: Path) -> None:
    checks = StageRecord("preflight", "00_preflight.ipynb", "completed", counts={"pass": 19})
    first = make_record(tmp_path, 1, stages=[checks])
    first.environment["specification"] = {"version": "0.9", "fingerprint": "5f6b" * 16}
    said = words(write_run_page(first))
    assert "specification 0.9, fingerprint " + "5f6b" * 4 + " " in said
    assert "completed 19 checks, none with a warning, none failed." in said
    error = {"name": "GuardError", "message": "Too many.", "stage": "extract"}
    make_record(tmp_path, 2, status="failed", exit_code=6, stages=[checks], error=error)
    failed, whole = rows(report.write_report(tmp_path))
    assert "Too many." in failed and "19 checks" not in failed and "as before" not in failed
    assert "19 checks" in whole
    error = {"name": "DatabaseError", "message": "No.", "stage": "preflight"}
    make_record(tmp_path, 3, status="failed", exit_code=4, stages=[checks], error=error)
    assert "19 checks" in rows(report.write_report(tmp_path))[0]
