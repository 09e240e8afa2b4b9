"""Records and ledger on object storage: many machines, one chain; what waits, and what is refused.

The storage is a folder (`file://`) where machines are folders of one process, and fsspec's memory.
A real S3 server was tried by hand: docs/object_storage.md.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, create_engine

from d2i_helpers.cli import runs
from d2i_helpers.database import tables
from d2i_helpers.errors import D2IError, SettingsError, StorageError
from d2i_helpers.files import TEMPORARY_PREFIX
from d2i_helpers.runs import ledger, object_storage, records, retention, verification
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.runs.database_ledger import DatabaseLedger
from d2i_helpers.runs.execution import Run
from d2i_helpers.runs.object_storage import ObjectStorage, Taken
from d2i_helpers.runs.records import RunRecord
from d2i_helpers.runs.shared_book import SharedBook
from d2i_helpers.runs.shared_records import SharedRecords
from d2i_helpers.runs.verification import Findings
from d2i_helpers.settings import load_settings
from tests.runs.many_writers import begin

pytest.importorskip("fsspec", reason="the extra of an object storage is not installed")
Machine = Callable[[str], SharedBook]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "LOOK_AGAIN_SECONDS", ())
    monkeypatch.setattr(object_storage, "WAIT_SECONDS", 0.001)
    monkeypatch.setattr(records, "RESERVE_BYTES", 1)


@pytest.fixture
def known() -> Iterator[Engine]:
    engine = create_engine("sqlite://").execution_options(
        schema_translate_map={tables.STAGING_SCHEMA: None}
    )
    yield engine
    engine.dispose()


@pytest.fixture
def machine(tmp_path: Path, known: Engine) -> Machine:
    """Makes a machine by its name: a folder of its own, and the storage and database of all."""

    def made(name: str) -> SharedBook:
        shared = SharedRecords(ObjectStorage(f"file://{tmp_path}/storage"))
        database = DatabaseLedger(known, "mark", "demo")
        return SharedBook(tmp_path / name, "mark", database, None, shared)

    return made


def work(book: Book, number: int, status: str = "completed", code: int = 0) -> RunRecord:
    """A run from its beginning to its end."""
    record = begin(book, number)
    return ended(book, record, status, code)


def ended(book: Book, record: RunRecord, status: str = "completed", code: int = 0) -> RunRecord:
    notebook = record.folder / "01_extract.ipynb"
    notebook.write_text(json.dumps({"cells": [], "run": record.run_id}))
    record.status, record.exit_code = status, code
    records.finish(record)
    assert book.enter(ledger.FINISHED, record) is None
    return record


def find(book: SharedBook) -> Findings:
    assert book.database is not None
    return verification.verify(book.shared, [book.database])


def clean(book: SharedBook) -> bool:
    found = find(book)
    assert ([str(fault) for fault in found.faults], found.open_points) == ([], [])
    return True


# --------------------------------------------------------------------------- one chain, whoever
def test_machines_that_write_in_turn_and_at_once_keep_one_chain(machine: Machine) -> None:
    one, other = machine("one"), machine("other")
    first = begin(one, 1)
    second = begin(other, 2)
    ended(one, first)
    ended(other, second)
    assert [entry and entry["entry"] for entry in one.shared.entries()] == [1, 2, 3, 4]
    assert one.shared.ids() == sorted([first.run_id, second.run_id])
    assert ledger.entries(other.outputs) == one.shared.entries()
    assert len(ledger.entries(one.outputs)) == 3  # until it writes or compares
    assert one.disagreement() is None
    assert clean(one) and clean(other)


def test_of_writers_at_the_same_moment_each_number_goes_to_one(tmp_path: Path) -> None:
    books = []
    for name in range(4):  # without a database, which would let them wait for each other
        shared = SharedRecords(ObjectStorage(f"file://{tmp_path}/storage"))
        books.append(SharedBook(tmp_path / str(name), "mark", None, None, shared))
    gate, failed = threading.Barrier(len(books)), []

    def write(number: int, book: SharedBook) -> None:
        record = RunRecord(book.outputs / f"{records.new_run_id()[:-4]}{number:04x}", "", "demo",
                           {}, {}, [])  # fmt: skip
        record.run_id = record.folder.name
        records.create(record)
        gate.wait()
        for _ in range(5):
            if why := book.enter(ledger.STARTED, record) != "the database cannot be opened":
                failed.append(why)

    threads = [threading.Thread(target=write, args=pair) for pair in enumerate(books)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain = [entry for entry in books[0].shared.entries() if entry]
    assert failed == []
    assert [entry["entry"] for entry in chain] == list(range(1, 21))
    assert all(b["before"] == a["hash"] for a, b in itertools.pairwise(chain))


def test_a_storage_that_lets_a_second_writer_replace_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = machine("one").shared.storage
    storage.prove()
    storage.prove()  # also where the proof is there already
    monkeypatch.setattr(object_storage, "_link", Path.write_bytes)
    with pytest.raises(SettingsError, match="lets a second writer replace"):
        storage.prove()


def test_an_answer_that_was_lost_is_no_other_writer(machine: Machine) -> None:
    storage = machine("one").shared.storage
    storage.create("ledger/00000001.json", b"mine")
    storage.create("ledger/00000001.json", b"mine")
    with pytest.raises(Taken):
        storage.create("ledger/00000001.json", b"another's")


def test_memory_as_a_storage_refuses_a_second_writer_too() -> None:
    storage = ObjectStorage("memory://d2i-of-a-test")
    storage.prove()
    storage.put("runs/a/run.json", b"1")
    storage.put("runs/a/run.json", b"2")
    assert storage.get(["runs/a/run.json", "runs/a/gone"]) == {"runs/a/run.json": b"2"}
    assert storage.names("runs/a") == ["run.json"]
    assert storage.names("elsewhere") == []
    storage.remove(["runs/a/run.json", "runs/a/gone"])
    assert storage.names("runs/a") == []


# ------------------------------------------------------------------------ a machine that is killed
def test_a_killed_run_is_closed_by_the_next_run_of_its_machine(machine: Machine) -> None:
    one, other = machine("one"), machine("other")
    killed = begin(one, 1, pid=99999999)
    work(other, 2)
    assert list(other.close_interrupted()) == []  # it has not its folder
    assert clean(other)
    work(one, 3)
    (said,) = one.close_interrupted()
    assert killed.run_id in said
    with one.shared.at(killed.run_id) as copy:
        assert copy is not None and records.read(copy).status == "interrupted"
    assert clean(other)


def test_a_run_that_was_killed_between_storage_and_database_is_named_and_completed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(path: Path, entry: ledger.Entry) -> int:
        raise Killed

    one, other = machine("one"), machine("other")
    work(one, 1)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(ledger, "write", killed)
        begin(one, 2)
    found = find(other)
    assert found.faults == []
    assert "is not in the database yet" in found.open_points[0]
    work(other, 3)
    found = find(other)
    assert found.faults == []
    assert "by a later run" in found.open_points[0]
    assert "is not on the object storage yet" in found.open_points[1]
    assert len(found.open_points) == 2


# ----------------------------------------------------------------------- a storage that is away
class Away(Exception):
    """What a library says of a storage that does not answer, with a key in it."""

    def __str__(self) -> str:
        return "https://user:SECRET@storage"


@contextlib.contextmanager
def away() -> Iterator[None]:
    """A storage that does not take anything while the block runs."""

    def fails(*args: Any, **options: Any) -> Any:
        raise Away

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(object_storage, "_link", fails)
        patched.setattr(object_storage, "write_atomic", fails)
        yield


def test_what_a_storage_that_is_away_misses_waits_and_is_named(machine: Machine) -> None:
    one, other = machine("one"), machine("other")
    old = work(one, 1)
    begun = begin(one, 2)
    with away():
        for each in (begun, _not_entered(one, 3)):
            each.status, each.exit_code = "completed", 0
            records.finish(each)
            why = one.enter(ledger.FINISHED, each)
            assert why and "cannot be reached" in why and "SECRET" not in why
        with pytest.raises(StorageError) as refused:
            retention.prune(one, [old.run_id], reason="old")
        assert "SECRET" not in str(refused.value)
    assert len(one.waiting) == 3
    assert clean(other)  # nothing of it is there yet, and nothing is missing
    assert one.bring_waiting() == 3
    found = find(other)
    assert found.faults == []
    assert ["waited in the folder of its run" in point for point in found.open_points] == [True] * 3
    assert len(one.waiting) == 0 and one.bring_waiting() == 0


def _not_entered(book: SharedBook, number: int) -> RunRecord:
    """A run that begins while the storage is away."""
    run_id = f"{records.new_run_id()[:-4]}{number:04x}"
    record = RunRecord(book.outputs / run_id, run_id, "demo", {}, {}, [])
    records.create(record)
    assert book.enter(ledger.STARTED, record)
    return record


def test_an_event_that_was_entered_before_its_process_was_killed_is_not_entered_twice(
    machine: Machine,
) -> None:
    one = machine("one")
    with away():
        _not_entered(one, 1)
    ((file, event),) = one.waiting.events()
    one.bring_waiting()
    file.write_text(json.dumps(event))
    assert one.bring_waiting() == 1
    assert len(one.waiting) == 0
    assert [entry and entry["kind"] for entry in one.shared.entries()] == ["started"]


def test_what_a_killed_process_left_unfinished_is_no_event_that_waits(machine: Machine) -> None:
    one = machine("one")
    work(one, 1)
    one.waiting.add(ledger.FINISHED, {"run_id": "x"})
    (one.outputs / ".waiting" / f"{TEMPORARY_PREFIX}0a1b2c3d-00000002.json").write_bytes(b"")
    one.waiting.add(ledger.FINISHED, {"run_id": "y"})
    assert [event["run_id"] for _, event in one.waiting.events()] == ["x", "y"]
    assert len(one.waiting) == 2


def test_no_event_waits_for_a_year(machine: Machine) -> None:
    one = machine("one")
    record = begin(one, 1)
    facts = {**ledger.facts_of(record), "database": "mark", "since": "2025-11-29T02:00:00Z"}
    with ledger.held(one.outputs) as path:
        one._enter_next(path, ledger.FINISHED, {**facts, "status": "failed", "exit_code": 6})
    assert any("no event waits so long" in str(fault) for fault in find(one).faults)


# ------------------------------------------------------------------------------- what verify sees
def alter_an_entry(storage: Path, run_id: str) -> None:
    path = storage / "ledger" / "00000002.json"
    path.write_text(path.read_text().replace("completed", "failed"))


def remove_the_last_entry(storage: Path, run_id: str) -> None:
    (storage / "ledger" / "00000004.json").unlink()


def remove_an_entry_in_between(storage: Path, run_id: str) -> None:
    (storage / "ledger" / "00000002.json").unlink()


def alter_a_notebook(storage: Path, run_id: str) -> None:
    (storage / "runs" / run_id / "01_extract.ipynb").write_text("{}")


def add_a_file(storage: Path, run_id: str) -> None:
    (storage / "runs" / run_id / "more.txt").write_text("x")


def remove_a_record(storage: Path, run_id: str) -> None:
    for path in (storage / "runs" / run_id).iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("attack", "found"),
    [
        (alter_an_entry, "the entry was altered"),
        (remove_the_last_entry, "the database of demo knows it and the file does not"),
        (remove_an_entry_in_between, "is not an entry"),
        (alter_a_notebook, "01_extract.ipynb was altered"),
        (add_a_file, "more.txt was added"),
        (remove_a_record, "the record is missing"),
    ],
)
def test_what_is_changed_on_the_storage_is_named(
    machine: Machine, tmp_path: Path, attack: Callable[[Path, str], None], found: str
) -> None:
    one = machine("one")
    run_id = work(one, 1).run_id
    work(one, 2)
    attack(tmp_path / "storage", run_id)
    assert any(found in str(fault) for fault in find(machine("auditor")).faults)


def test_a_folder_with_another_ledger_is_refused_and_its_own_is_not_lost(
    machine: Machine, tmp_path: Path
) -> None:
    one, other = machine("one"), machine("other")
    work(one, 1)
    other.shared = SharedRecords(ObjectStorage(f"file://{tmp_path}/another"))
    work(other, 2)
    other.shared = one.shared
    record = _not_entered(other, 3)
    assert "is not the one on the object storage" in str(other.enter(ledger.FINISHED, record))
    assert len(other.waiting) == 2
    assert clean(one)


@pytest.mark.parametrize("change", [("completed", "failed"), ('"before":"', '"before":"0')])
def test_nobody_goes_on_from_a_ledger_that_was_changed(
    machine: Machine, tmp_path: Path, change: tuple[str, str]
) -> None:
    one = machine("one")
    work(one, 1)
    path = tmp_path / "storage" / "ledger" / "00000002.json"
    entry = json.loads(path.read_text().replace(*change))
    if change[0] != "completed":
        entry["hash"] = ledger.entry_hash(entry)
    path.write_text(json.dumps(entry))
    record = _not_entered(machine("new"), 2)
    assert "The ledger on the object storage is damaged." in str(
        machine("new").enter(ledger.FINISHED, record)
    )


def test_a_ledger_of_a_folder_becomes_that_of_a_new_storage(
    machine: Machine, tmp_path: Path
) -> None:
    one = machine("one")
    old = work(one, 1)
    one.shared = SharedRecords(ObjectStorage(f"file://{tmp_path}/another"))
    work(one, 2)
    assert [entry and entry["entry"] for entry in one.shared.entries()] == [1, 2, 3, 4]
    assert clean(one)
    assert old.run_id in one.shared.ids()


def of_a_folder(folder: Path, known: Engine, *numbers: int) -> None:
    """Runs of a folder, before it has a storage."""
    folder.mkdir()
    alone = Book(folder, "mark", DatabaseLedger(known, "mark", "demo"), None)
    for number in numbers:
        work(alone, number)


def test_a_ledger_whose_way_to_a_new_storage_was_cut_short_goes_on_from_there(
    machine: Machine, known: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_folder(tmp_path / "one", known, 1, 2)
    one, create = machine("one"), SharedRecords.create

    def cut_short(shared: SharedRecords, entry: ledger.Entry) -> None:
        if entry["entry"] == 3:
            raise StorageError("away")
        create(shared, entry)

    with monkeypatch.context() as patch:
        patch.setattr(SharedRecords, "create", cut_short)
        with pytest.raises(StorageError, match="away"):
            one.refresh()
    one.refresh()
    assert [entry and entry["entry"] for entry in one.shared.entries()] == [1, 2, 3, 4]
    work(one, 3)
    assert clean(one)
    (tmp_path / "storage" / "ledger" / "00000006.json").unlink()
    with pytest.raises(StorageError):  # later on no folder brings back what was removed
        machine("one").refresh()


def test_of_two_folders_the_ledger_of_one_becomes_that_of_a_new_storage(
    machine: Machine, known: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("one", "other"), start=1):
        of_a_folder(tmp_path / name, known, number)
    one, other = machine("one"), machine("other")
    with monkeypatch.context() as patch:  # the other one looked before there was any entry
        patch.setattr(SharedRecords, "_last_number", lambda _: 0)
        one.refresh()
        with pytest.raises(StorageError, match="is not the one on the object storage"):
            other.refresh()
    assert [entry and entry["entry"] for entry in one.shared.entries()] == [1, 2]
    assert clean(one)  # no record of the other one is there
    with pytest.raises(StorageError, match="is not the one on the object storage"):
        other.refresh()
    assert clean(one)


def test_a_pruned_record_leaves_storage_and_folder(machine: Machine) -> None:
    one, other = machine("one"), machine("other")
    mine, theirs = work(one, 1), work(other, 2)
    both = [mine.run_id, theirs.run_id]
    assert retention.prune(other, both, reason="old") == both
    assert other.shared.ids() == [] or clean(other)
    assert not theirs.folder.exists()
    assert retention.prune(one, both, reason="old") == []
    assert clean(one)


# --------------------------------------------------------------------------------- the commands
def test_the_commands_read_and_carry_over(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine("one")
    run_id = work(one, 1).run_id
    (tmp_path / "database.sqlite").touch()
    monkeypatch.setenv("D2I_DATABASE_URL", f"sqlite:///{tmp_path}/database.sqlite")
    where = ["-p", f"records_url={one.shared.place}", "-p", f"outputs_dir={one.outputs}"]

    def said(*words: str) -> str:
        done = CliRunner().invoke(runs, [*words, *where])
        assert done.exception is None, done.exception
        return done.output

    assert "1 record and 2 ledger entries are intact" in said("verify", "--no-database")
    assert "0 events were carried over" in said("push")
    assert "1 record." in said("fetch", "--to", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "index.html").is_file()
    assert (tmp_path / "copy" / run_id / "01_extract.ipynb").is_file()
    assert verification.verify(tmp_path / "copy").faults == []
    again = CliRunner().invoke(runs, ["fetch", "--to", str(tmp_path / "copy"), *where])
    assert isinstance(again.exception, D2IError)
    bare = CliRunner().invoke(runs, ["push", *where[2:]])
    assert isinstance(bare.exception, SettingsError)


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEY:SECRET@bucket/folder",
        "s3://SECRET@bucket/folder",
        "abfs://container@account.dfs.core.windows.net/x?sig=SECRET",
        "az://user:SECRET@container/x",
        "https://bucket.s3.amazonaws.com/SECRET",
        "s3:///",
        "s3://[SECRET",
        "s3://[SECRET]/folder",
        "s3://KEY:SECRET\u2100@bucket",  # urlsplit takes no letter that stands for "a/c"
        "/mnt/records/SECRET",
    ],
)
def test_an_address_with_a_key_or_of_no_kind_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(None, records_url=url)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["s3://bucket/la/", "abfs://records@account.dfs.core.windows.net/la", "gs://b", None]
)
def test_addresses_that_are_taken(url: str | None) -> None:
    assert load_settings(None, records_url=url).records_url == (url and url.rstrip("/"))


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(object_storage.importlib, "import_module", missing)
    with pytest.raises(SettingsError, match="a package that is not installed") as refused:
        ObjectStorage("gs://bucket")
    assert "gcs" in refused.value.hint


def test_a_run_that_has_just_begun_may_lack_its_files_and_one_of_an_hour_ago_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine("one")
    record = begin(one, 1)
    one.shared.remove(record.run_id)
    found = find(one)
    assert found.faults == []
    assert "is not on the object storage yet" in found.open_points[0]
    monkeypatch.setattr(ledger, "LOCK_SECONDS", 0)
    assert [str(fault) for fault in find(one).faults] == [f"{record.run_id}: the record is missing"]


@pytest.mark.parametrize("is_compared", [True, False])
def test_a_notebook_is_carried_over_only_after_it_was_compared_with_the_cohort(
    machine: Machine, is_compared: bool
) -> None:
    record = begin(machine("one"), 1)
    (record.folder / "01_extract.ipynb").write_text("{}")
    pushed: list[list[str]] = []
    run = SimpleNamespace(
        shared=SimpleNamespace(push=lambda folder, names: pushed.append(names)),
        is_storage_away=False,
        leaks=SimpleNamespace(missed=not is_compared),
        record=record,
    )
    Run._carry_over(cast(Run, run), record.stages[0])
    assert pushed == [["01_extract.ipynb"] if is_compared else []]
