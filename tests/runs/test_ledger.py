"""Tampering with records and the ledger: `verify` names each."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine

from d2i_helpers.cli import runs
from d2i_helpers.database import tables
from d2i_helpers.errors import DatabaseError, RecordError, SettingsError
from d2i_helpers.files import file_lock
from d2i_helpers.runs import ledger, records, retention, sequence, verification
from d2i_helpers.runs.bookkeeping import CLOSING_LOCK, Book
from d2i_helpers.runs.database_ledger import DatabaseLedger
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.runs.verification import Findings, Head
from d2i_helpers.settings import Secrets, ledger_key

MARK = "the database"
NUMBERS = itertools.count()


def begin_run(book: Book, **process: Any) -> RunRecord:
    """A run as the runner begins it, without running anything."""
    # runs of tests begin in the same second, where chance alone would give two the same id
    run_id = f"{records.new_run_id()[:-4]}{next(NUMBERS):04x}"
    record = RunRecord(
        folder=book.outputs / run_id,
        run_id=run_id,
        profile="demo",
        parameters={"phase": "delta"},
        given={},
        stages=[StageRecord("extract", "01_extract.ipynb", "completed")],
    )
    records.create(record)
    record.process |= process
    record.save()
    book.enter(ledger.STARTED, record)
    (record.folder / "01_extract.ipynb").write_text(json.dumps({"cells": [], "run": run_id}))
    return record


def end_run(book: Book, record: RunRecord, status: str = "completed", exit_code: int = 0) -> str:
    """The end of a run as the runner enters it."""
    record.status, record.exit_code = status, exit_code
    records.finish(record)
    book.enter(ledger.FINISHED, record)
    return record.run_id


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    monkeypatch.setattr(verification, "LOOK_AGAIN_SECONDS", ())  # nobody else is at work
    engine = create_engine("sqlite://").execution_options(
        schema_translate_map={tables.STAGING_SCHEMA: None}
    )
    yield Book(tmp_path / "outputs", MARK, DatabaseLedger(engine, MARK, "demo"))
    engine.dispose()


def find(book: Book, **options: Any) -> Findings:
    """What `verify` finds with the database."""
    assert book.database is not None
    return verification.verify(book.outputs, [book.database], key=book.key, **options)


@pytest.fixture
def ids(book: Book) -> list[str]:
    """Four finished runs, in the order of the ledger."""
    return [end_run(book, begin_run(book)) for _ in range(4)]


@pytest.fixture
def outputs(book: Book, ids: list[str]) -> Path:
    return book.outputs


def lines(outputs: Path) -> list[bytes]:
    return (outputs / ledger.LEDGER_FILE).read_bytes().splitlines(keepends=True)


def rewrite(outputs: Path, content: list[bytes]) -> None:
    (outputs / ledger.LEDGER_FILE).write_bytes(b"".join(content))


def said(outputs: Path) -> str:
    return "\n".join(str(fault) for fault in verification.verify(outputs).faults)


def test_untouched_records_verify(outputs: Path, ids: list[str]) -> None:
    assert len(ids) == 4
    assert said(outputs) == ""


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


@pytest.mark.parametrize("name", ["files", "parameters"])
def test_a_run_json_with_something_else_for_a_table_is_named(
    outputs: Path, ids: list[str], name: str
) -> None:
    path = outputs / ids[2] / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: None}))
    assert said(outputs).startswith(f"{ids[2]}: run.json is missing or damaged")


@pytest.mark.parametrize("name", ["hash", "kind", "database"])
def test_an_entry_with_a_list_for_a_word_is_named(outputs: Path, ids: list[str], name: str) -> None:
    content = lines(outputs)
    content[5] = json.dumps({**json.loads(content[5]), name: []}).encode() + b"\n"
    rewrite(outputs, content)
    assert "ledger line 6: is not an entry: it was altered" in said(outputs)


def test_an_entry_of_no_kind_is_named_and_stops_nobody(book: Book, ids: list[str]) -> None:
    bare = {k: v for k, v in json.loads(lines(book.outputs)[5]).items() if k != "kind"}
    bare["hash"] = ledger.entry_hash(bare)
    content = lines(book.outputs)
    content[5] = json.dumps(bare).encode() + b"\n"
    rewrite(book.outputs, content)
    assert "ledger line 6: is not an entry: it was altered" in said(book.outputs)
    assert book.disagreement() == "entries that the database knows are missing or were altered"


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


def test_what_was_compared_is_said(book: Book, outputs: Path) -> None:
    alone = verification.verify(outputs)
    assert (alone.faults, alone.compared) == ([], [])
    assert alone.open_points[0].startswith("Not compared with the database")
    found = find(book)
    assert (found.faults, found.open_points) == ([], [])
    assert found.compared == [
        "Compared with the database of demo: 8 of 8 entries (ledger lines 1-8)."
    ]


def test_a_head_that_was_kept_elsewhere_shows_what_is_missing(
    book: Book, outputs: Path, tmp_path: Path
) -> None:
    head = ledger.head(outputs)
    assert head is not None and head["entry"] == 8
    mail = tmp_path / "mail.txt"
    mail.write_text(f'Done.\n{{"status":"completed","ledger":{json.dumps(head)}}}\n')
    for given in (head["hash"], str(mail)):
        heads = verification.read_heads(given)
        assert heads[0].digest == head["hash"]
        assert verification.verify(outputs, heads=heads).faults == []
    assert verification.read_heads(str(mail)) == [Head(head["hash"], 8)]
    end_run(book, begin_run(book))
    assert verification.verify(outputs, heads=heads).faults == []
    rewrite(outputs, lines(outputs)[:6])
    faults = verification.verify(outputs, heads=heads).faults
    assert any(head["hash"][:12] in str(fault) for fault in faults)
    mail.write_text("nothing here")
    for given in (str(mail), "no such file"):
        with pytest.raises(RecordError, match="head"):
            verification.read_heads(given)


def test_a_ledger_from_before_the_one_in_the_database_proves_nothing_and_says_what_to_do(
    outputs: Path, ids: list[str]
) -> None:
    before, old = ledger.START, []
    for entry in ledger.entries(outputs):
        assert entry is not None
        bare = {k: v for k, v in entry.items() if k not in ("database", "asked_sha256", "hash")}
        bare["before"] = before
        before = bare["hash"] = ledger.entry_hash(bare)
        old.append(ledger.as_line(bare).encode() + b"\n")
    rewrite(outputs, old)
    shown = CliRunner().invoke(runs, ["verify", "--no-database", "--outputs", str(outputs)])
    assert isinstance(shown.exception, RecordError)
    assert "a version that kept its ledger in a file only" in shown.exception.hint
    for run_id in ids:
        assert f"{run_id}: no entry of this run is to be believed" in shown.output


def test_a_pruned_record_leaves_a_tombstone(book: Book, ids: list[str]) -> None:
    assert retention.prune(book, ids[:2], reason="older than 90 days") == ids[:2]
    assert {f.name for f in records.folders(book.outputs)} == set(ids[2:])
    assert find(book).faults == []
    end_run(book, begin_run(book))
    assert (find(book).faults, find(book).open_points) == ([], [])
    tombstone = ledger.last_by_run(ledger.entries(book.outputs))[ids[0]]
    assert (tombstone["kind"], tombstone["reason"]) == ("pruned", "older than 90 days")


def test_an_altered_record_is_not_pruned_away(book: Book, outputs: Path, ids: list[str]) -> None:
    _edit_record(outputs / ids[0])
    with pytest.raises(RecordError, match="not pruned"):
        retention.prune(book, [ids[0]], reason="old")
    assert (outputs / ids[0]).is_dir()


def test_a_record_that_is_kept_does_not_keep_the_others(
    book: Book, outputs: Path, ids: list[str]
) -> None:
    """Else one doubtful night would end every clean-up from then on."""
    _edit_record(outputs / ids[0])
    with pytest.raises(RecordError, match=rf"{ids[0]} is not pruned.* 2 records removed"):
        retention.prune(book, ids[:3], reason="old")
    assert {f.name for f in records.folders(outputs)} == {ids[0], ids[3]}


def test_a_torn_last_line_is_cut_off_by_the_next_entry(book: Book, outputs: Path) -> None:
    with (outputs / ledger.LEDGER_FILE).open("ab") as file:
        file.write(b'{"entry": 9, "at"')
    assert find(book).faults == []
    end_run(book, begin_run(book))
    assert find(book).faults == []
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


def test_a_killed_run_is_closed_once(book: Book) -> None:
    alive, dead = begin_run(book), begin_run(book, pid=99999999)
    dead.stages[0].status = "running"
    dead.save()
    assert find(book).faults == []
    (closed,) = book.close_interrupted()
    assert f"Run {dead.run_id} had been interrupted" in closed
    assert list(book.close_interrupted()) == []
    record = records.read(dead.folder)
    assert (record.status, record.exit_code) == ("interrupted", None)
    assert record.stages[0].status == "interrupted"
    assert records.read(alive.folder).status == "running"
    assert find(book).faults == []


def test_two_runs_that_begin_together_close_a_killed_run_once(book: Book) -> None:
    dead = [begin_run(book, pid=99999999) for _ in range(2)]
    one, other = book.close_interrupted(), book.close_interrupted()
    said = [next(one), next(other)]  # each has seen both, and has closed one
    assert [*one, *other] == []
    assert all(record.run_id in words for record, words in zip(dead, said, strict=True))
    assert find(book).faults == []


def test_closers_wait_for_each_other(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_run(book, pid=99999999)
    close, said = Book._close, []

    def while_another_one_tries(self: Book, run_id: str, entry: Any) -> Iterator[str]:
        with (
            pytest.raises(RecordError, match="held by another process"),
            file_lock(self.outputs / CLOSING_LOCK, wait_seconds=0),
        ):
            pass
        return close(self, run_id, entry)

    monkeypatch.setattr(Book, "_close", while_another_one_tries)
    said += book.close_interrupted()
    assert len(said) == 1


def test_a_run_that_was_killed_before_its_end_was_entered_counts_as_interrupted(
    book: Book,
) -> None:
    record = begin_run(book, pid=99999999)
    record.status, record.exit_code = "completed", 0
    records.finish(record)
    assert list(book.close_interrupted())
    assert records.read(record.folder).status == "interrupted"
    assert find(book).faults == []


def test_a_run_that_holds_a_lease_is_not_closed_whatever_its_record_says(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = begin_run(book, pid=99999999)
    monkeypatch.setattr(DatabaseLedger, "holds_lease", lambda self, run_id: True)
    assert list(book.close_interrupted()) == []
    assert records.read(record.folder).status == "running"


class Away(DatabaseLedger):
    """A database that nobody can reach."""

    def rows(self, *args: Any) -> Any:
        raise DatabaseError("The server is away.")

    def add(self, *args: Any, **options: Any) -> Any:
        raise DatabaseError("The server is away.")

    def adding(self, *args: Any, **options: Any) -> Any:
        raise DatabaseError("The server is away.")


@pytest.mark.parametrize("gone_altogether", [True, False])
def test_what_the_database_missed_is_entered_by_the_next_run(
    book: Book, ids: list[str], gone_altogether: bool
) -> None:
    known = book.database
    assert known is not None
    book.database = None if gone_altogether else Away(known._engine, MARK, "demo")
    record = begin_run(book)
    assert book.enter(ledger.FINISHED, _completed(record))  # says why it waits
    book.database = known
    found = find(book)
    assert found.faults == []
    assert [record.run_id in point for point in found.open_points] == [True, True]
    assert "is not in the database yet" in found.open_points[0]
    end_run(book, begin_run(book))
    found = find(book)
    assert found.faults == []
    assert ["entered into the database by a later run" in p for p in found.open_points] == [
        True,
        True,
    ]


def _completed(record: RunRecord) -> RunRecord:
    record.status, record.exit_code = "completed", 0
    records.finish(record)
    return record


def test_without_the_database_nothing_is_pruned_resumed_or_closed(
    book: Book, ids: list[str]
) -> None:
    failed, killed = begin_run(book), begin_run(book, pid=99999999)
    end_run(book, failed, "failed", 6)
    known, before = book.database, lines(book.outputs)
    assert known is not None
    for away in (None, Away(known._engine, MARK, "demo")):
        book.database = away
        with pytest.raises((DatabaseError, RecordError)):
            retention.prune(book, ids[:1], reason="old")
        failed.status = "running"
        with pytest.raises(DatabaseError):
            book.enter(ledger.RESUMED, failed)
        assert all("is not closed" in said for said in book.close_interrupted())
    assert lines(book.outputs) == before
    assert records.read(killed.folder).status == "running"
    assert (book.outputs / ids[0]).is_dir()


def test_an_entry_that_the_database_refuses_at_the_last_moment_is_taken_back(
    book: Book, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lines(book.outputs)
    monkeypatch.setattr(DatabaseLedger, "adding", Away.adding)
    with pytest.raises(DatabaseError):
        retention.prune(book, ids[:1], reason="old")
    assert lines(book.outputs) == before
    assert (book.outputs / ids[0]).is_dir()


def test_a_record_of_another_database_is_kept_by_prune_and_named_by_verify(
    book: Book, ids: list[str]
) -> None:
    other_engine = create_engine("sqlite://").execution_options(
        schema_translate_map={tables.STAGING_SCHEMA: None}
    )
    other = Book(book.outputs, "other", DatabaseLedger(other_engine, "other", "live"))
    theirs = end_run(other, begin_run(other))
    assert retention.prune(book, [theirs, ids[0]], reason="old") == [ids[0]]
    found = find(book)
    assert found.faults == []
    assert found.open_points == [
        "Not compared with a database: 2 of 11 entries (ledger lines 9-10). The database that "
        "they name was not reached."
    ]
    assert book.database is not None and other.database is not None
    both = verification.verify(book.outputs, [book.database, other.database])
    assert (both.faults, both.open_points) == ([], [])
    other_engine.dispose()


def test_a_ledger_key_seals_each_entry_and_the_history_before_on_demand(
    book: Book, ids: list[str]
) -> None:
    book.key = b"k" * 32
    end_run(book, begin_run(book))
    unsealed = [str(fault) for fault in find(book).faults]
    assert len(unsealed) >= 8 and all("without the ledger key" in s for s in unsealed[:8])
    assert find_without_key(book).open_points == [
        "The seals were not checked: no ledger key is given."
    ]
    book.seal_history()
    end_run(book, begin_run(book))
    assert (find(book).faults, find(book).open_points) == ([], [])
    book.key = b"another key, as long as that one"
    assert any("its seal is not of this ledger key" in str(fault) for fault in find(book).faults)


def find_without_key(book: Book) -> Findings:
    assert book.database is not None
    return verification.verify(book.outputs, [book.database])


def test_a_ledger_key_that_could_be_guessed_is_refused() -> None:
    assert ledger_key(Secrets()) is None
    with pytest.raises(SettingsError, match="fewer than 16"):
        ledger_key(Secrets(ledger_key="short"))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["../../x", "20261122T020000-3f9a/..", "", "\x1b[2J",
                                  "20261122T020000-3f9a\n", "20269922T020000-3f9a",
                                  "\u0662\u0660261122T020000-3f9a"])  # fmt: skip
def test_what_is_no_id_makes_no_path(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecordError, match="is not the id of a run") as caught:
        records.folder_of(tmp_path, text)
    assert "\x1b" not in str(caught.value)


def test_clocks_may_differ_a_little_and_no_more(book: Book, ids: list[str]) -> None:
    chain = ledger.entries(book.outputs)
    assert sequence.chain_faults(chain) == []
    first, last = chain[0], chain[-1]
    assert first is not None and last is not None
    begun = dt.datetime.fromisoformat(first["at"])
    for seconds, number in ((-200, 0), (-400, 1), (400, 1)):
        moved = (begun + dt.timedelta(seconds=seconds)).isoformat()
        changed = {**last, "at": moved}
        changed["hash"] = ledger.entry_hash(changed)
        assert len(sequence.chain_faults([*chain[:-1], changed])) == number


def test_rows_of_a_ledger_that_was_begun_anew_can_be_deleted_by_the_name_that_is_said(
    book: Book, ids: list[str]
) -> None:
    assert book.database is not None
    shutil.rmtree(book.outputs)
    end_run(book, begin_run(book))
    (fault,) = find(book).faults
    named = re.search(r"knows the ledger (\w+) of 8 entries", fault.problem)
    assert named is not None
    with book.database._engine.begin() as connection:
        there = tables.ledger_entries
        connection.execute(there.delete().where(there.c.ledger == named[1]))
    assert find(book).faults == []


@pytest.mark.parametrize("days", [366, -4000, 2])
@pytest.mark.parametrize("ago", [1, 500])  # 500: the wrong time has come by now
def test_a_clock_that_was_wrong_for_a_night_makes_that_night_doubtful_and_no_other(
    book: Book, days: int, ago: int
) -> None:
    """Else no run could be resumed, closed or pruned until the wrong time has come."""
    for _ in range(4):
        end_run(book, begin_run(book))
    chain = [dict(entry) for entry in ledger.entries(book.outputs) if entry]
    before, begun = ledger.START, dt.datetime.now(dt.UTC) - dt.timedelta(days=ago)
    for place, entry in enumerate(chain):
        at = begun + dt.timedelta(hours=place, days=days if place in (2, 3) else 0)
        entry |= {"at": at.isoformat(), "before": before}
        if entry["kind"] == ledger.STARTED:
            run_id = at.strftime("%Y%m%dT%H%M%S") + entry["run_id"][15:]
        entry["run_id"] = run_id
        entry["hash"] = before = ledger.entry_hash(entry)
    assert {fault.line for fault in sequence.chain_faults(chain)} == {3, 4}


def test_an_old_line_at_the_end_is_named_and_not_the_one_before_it(book: Book) -> None:
    end_run(book, begin_run(book))
    chain = [dict(entry) for entry in ledger.entries(book.outputs) if entry]
    old = dt.datetime.fromisoformat(chain[0]["at"]) - dt.timedelta(days=3)
    chain[1]["at"] = old.isoformat()
    chain[1]["hash"] = ledger.entry_hash(chain[1])
    (fault,) = sequence.chain_faults(chain)
    assert fault.line == 2
    assert "older than line 1" in fault.problem
