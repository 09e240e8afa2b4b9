"""Tampering with records and the ledger: `verify` names each."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from d2i_helpers import tables
from d2i_helpers.errors import RecordError
from d2i_helpers.runs import anchor, ledger, records, retention
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.runs.verification import verify

Outputs = Path


def make_run(outputs: Path, number: int) -> str:
    """A finished run as the runner leaves it, without running anything."""
    run_id = f"20260810T02000{number}-00a{number}"
    record = RunRecord(
        folder=outputs / run_id,
        run_id=run_id,
        profile="demo",
        parameters={"phase": "delta"},
        given={},
        stages=[StageRecord("extract", "01_extract.ipynb", "completed")],
    )
    records.create(record)
    ledger.append(outputs, ledger.STARTED, record)
    (record.folder / "01_extract.ipynb").write_text(json.dumps({"cells": [], "run": number}))
    record.status, record.exit_code = "completed", 0
    records.finish(record)
    ledger.append(outputs, ledger.FINISHED, record)
    return run_id


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    for number in range(1, 5):
        make_run(folder, number)
    return folder


@pytest.fixture
def ids(outputs: Path) -> list[str]:
    return [folder.name for folder in records.folders(outputs)]


def lines(outputs: Path) -> list[bytes]:
    return (outputs / ledger.LEDGER_FILE).read_bytes().splitlines(keepends=True)


def rewrite(outputs: Path, content: list[bytes]) -> None:
    (outputs / ledger.LEDGER_FILE).write_bytes(b"".join(content))


def said(outputs: Path) -> str:
    return "\n".join(str(fault) for fault in verify(outputs))


def test_untouched_records_verify(outputs: Path, ids: list[str]) -> None:
    assert len(ids) == 4
    assert verify(outputs) == []


def test_one_changed_byte_of_a_notebook_is_named(outputs: Path, ids: list[str]) -> None:
    notebook = outputs / ids[0] / "01_extract.ipynb"
    content = bytearray(notebook.read_bytes())
    content[5] ^= 1
    notebook.write_bytes(content)
    assert said(outputs) == f"{ids[0]}: 01_extract.ipynb was altered"


def test_a_deleted_record_is_named(outputs: Path, ids: list[str]) -> None:
    shutil.rmtree(outputs / ids[1])
    assert said(outputs) == f"{ids[1]}: the record is missing"


def test_two_swapped_records_are_named(outputs: Path, ids: list[str]) -> None:
    a, b, spare = outputs / ids[0], outputs / ids[2], outputs / "spare"
    a.rename(spare), b.rename(a), spare.rename(b)
    found = said(outputs)
    assert f"{ids[0]}: the folder holds the record of run {ids[2]}" in found
    assert f"{ids[2]}: the folder holds the record of run {ids[0]}" in found


def test_an_edited_run_json_is_named(outputs: Path, ids: list[str]) -> None:
    _edit_record(outputs / ids[2])
    assert said(outputs) == f"{ids[2]}: run.json was altered"


def _edit_record(folder: Path) -> str:
    """Change a parameter in run.json; its new hash."""
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"delta"', '"full"'))
    return records.sha256_of(path)


@pytest.mark.parametrize("number", [0, 3])
def test_an_edited_run_json_with_its_hash_is_named(
    outputs: Path, ids: list[str], number: int
) -> None:
    digest = _edit_record(outputs / ids[number])
    content = lines(outputs)
    place = 2 * number + 1
    entry = json.loads(content[place])
    content[place] = json.dumps({**entry, "record_sha256": digest}).encode() + b"\n"
    rewrite(outputs, content)
    assert f"run {ids[number]}, finished): the entry was altered" in said(outputs)


def test_an_entry_with_a_recomputed_hash_is_named(outputs: Path, ids: list[str]) -> None:
    digest = _edit_record(outputs / ids[0])
    content = lines(outputs)
    entry = {**json.loads(content[1]), "record_sha256": digest}
    entry["hash"] = ledger.entry_hash(entry)
    content[1] = json.dumps(entry).encode() + b"\n"
    rewrite(outputs, content)
    assert "entry 2 was altered or replaced" in said(outputs)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: [*content[:2], content[4], content[3], content[2], *content[5:]],
        lambda content: [*content[:3], *content[4:]],
        lambda content: [*content[:3], content[1], *content[3:]],
        lambda content: content[1:],
        lambda content: [*content[:3], b"{}\n", *content[3:]],
        lambda content: [*content[:3], b"no json\n", *content[4:]],
    ],
    ids=["reordered", "removed", "repeated", "first removed", "added", "damaged"],
)
def test_a_changed_order_of_entries_is_named(
    outputs: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    rewrite(outputs, change(lines(outputs)))
    assert "ledger line" in said(outputs)


def test_added_and_missing_files_and_records_are_named(outputs: Path, ids: list[str]) -> None:
    (outputs / ids[0] / "more.txt").write_text("x")
    (outputs / ids[1] / "01_extract.ipynb").unlink()
    shutil.copytree(outputs / ids[2], outputs / "20260811T020000-abcd")
    (outputs / ids[3] / "run.json").unlink()
    found = said(outputs)
    assert f"{ids[0]}: more.txt was added" in found
    assert f"{ids[1]}: 01_extract.ipynb is missing" in found
    assert "20260811T020000-abcd: the record was added" in found
    assert f"{ids[3]}: run.json is missing or damaged" in found


def test_a_shortened_ledger_is_noticed_by_the_database(outputs: Path, ids: list[str]) -> None:
    engine = create_engine("sqlite://").execution_options(
        schema_translate_map={tables.STAGING_SCHEMA: None}
    )
    anchor.keep(outputs, engine, "ssd_api_data_staging")
    assert verify(outputs, engine) == []
    make_run(outputs, 5)  # a ledger that grew meanwhile is fine
    assert verify(outputs, engine) == []
    shutil.rmtree(outputs / ids[3])
    shutil.rmtree(records.folders(outputs)[-1])
    rewrite(outputs, lines(outputs)[:6])
    assert verify(outputs) == []
    assert "entry 8, which the database knows, is missing" in str(verify(outputs, engine)[0])
    (outputs / ledger.LEDGER_FILE).unlink()
    assert any(fault.where == "ledger" for fault in verify(outputs, engine))
    engine.dispose()


@pytest.mark.parametrize("left", [0, 6], ids=["begun anew", "cut off"])
def test_a_later_run_does_not_cover_up_that_records_are_gone(
    outputs: Path, ids: list[str], left: int
) -> None:
    engine = create_engine("sqlite://").execution_options(
        schema_translate_map={tables.STAGING_SCHEMA: None}
    )
    anchor.keep(outputs, engine, "ssd_api_data_staging")
    rewrite(outputs, lines(outputs)[:left])
    for folder in records.folders(outputs)[left // 2 :]:
        shutil.rmtree(folder)
    make_run(outputs, 7)
    assert verify(outputs) == []
    for _ in range(2):
        anchor.keep(outputs, engine, "ssd_api_data_staging")
        assert ["entry 8, which" in str(fault) for fault in verify(outputs, engine)] == [True]
    elsewhere = outputs.parent / "other"  # another ledger with the same database is none of it
    make_run(elsewhere, 8)
    assert verify(elsewhere, engine) == []
    engine.dispose()


def test_a_head_that_was_kept_elsewhere_shows_what_is_missing(outputs: Path) -> None:
    head = ledger.head(outputs)
    assert head is not None and head["entry"] == 8
    assert verify(outputs, head=head["hash"]) == []
    make_run(outputs, 5)
    assert verify(outputs, head=head["hash"]) == []
    rewrite(outputs, lines(outputs)[:6])
    assert any(head["hash"][:12] in str(fault) for fault in verify(outputs, head=head["hash"]))


def test_a_pruned_record_leaves_a_tombstone(outputs: Path, ids: list[str]) -> None:
    assert retention.prune(outputs, ids[:2], reason="older than 90 days") == ids[:2]
    assert [f.name for f in records.folders(outputs)] == ids[2:]
    assert verify(outputs) == []
    make_run(outputs, 6)
    assert verify(outputs) == []
    tombstone = ledger.last_by_run(outputs)[ids[0]]
    assert (tombstone["kind"], tombstone["reason"]) == ("pruned", "older than 90 days")


def test_an_altered_record_is_not_pruned_away(outputs: Path, ids: list[str]) -> None:
    _edit_record(outputs / ids[0])
    with pytest.raises(RecordError, match="not pruned"):
        retention.prune(outputs, [ids[0]], reason="old")
    assert (outputs / ids[0]).is_dir()


def test_a_torn_last_line_is_cut_off_by_the_next_entry(outputs: Path) -> None:
    with (outputs / ledger.LEDGER_FILE).open("ab") as file:
        file.write(b'{"entry": 9, "at"')
    assert verify(outputs) == []
    make_run(outputs, 5)
    assert verify(outputs) == []
    assert len(ledger.entries(outputs)) == 10


def test_a_run_of_another_machine_counts_as_dead_once_all_its_limits_have_passed(
    outputs: Path, ids: list[str]
) -> None:
    record = records.read(outputs / ids[0])
    record.status, record.parameters["stage_timeout"] = "running", 7200
    record.process["place"] = "another:1:2"
    now = dt.datetime.now(dt.UTC)
    for hours, state in ((2, "running"), (4, "interrupted")):
        record.started_at = (now - dt.timedelta(hours=hours)).isoformat(timespec="seconds")
        assert records.state_of(record) == state


def test_a_killed_run_is_closed_once(outputs: Path) -> None:
    run_id = "20260810T030000-0bad"
    record = RunRecord(
        outputs / run_id, run_id, "demo", {}, {}, [StageRecord("extract", "01_extract.ipynb")]
    )
    records.create(record)
    record.stages[0].status = "running"
    record.save()
    ledger.append(outputs, ledger.STARTED, record)
    assert ledger.close_interrupted(outputs) == []  # this process is alive
    record.process["pid"] = 99999999
    record.save()
    assert verify(outputs) == []
    assert ledger.close_interrupted(outputs) == [run_id]
    assert ledger.close_interrupted(outputs) == []
    closed = records.read(outputs / run_id)
    assert (closed.status, closed.exit_code) == ("interrupted", None)
    assert closed.stages[0].status == "interrupted"
    assert verify(outputs) == []
