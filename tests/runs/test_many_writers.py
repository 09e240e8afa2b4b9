"""Several processes on one folder of records: one chain, and no fault that `verify` finds."""

from __future__ import annotations

import collections
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from d2i_helpers.database import tables
from d2i_helpers.errors import DatabaseError, LockError, RecordError
from d2i_helpers.files import file_lock
from d2i_helpers.runs import ledger, records, retention, verification
from d2i_helpers.runs.bookkeeping import CLOSING_LOCK, Book
from d2i_helpers.runs.database_ledger import DatabaseLedger
from d2i_helpers.runs.verification import Findings
from d2i_helpers.settings import project_root
from tests.runs.many_writers import RUNS, begin, end, open_book

PROCESSES = 3


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    engine = create_engine("sqlite://").execution_options(
        schema_translate_map={tables.STAGING_SCHEMA: None}
    )
    yield Book(tmp_path / "outputs", "mark", DatabaseLedger(engine, "mark", "demo"))
    engine.dispose()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "LOOK_AGAIN_SECONDS", (0.02, 0.2))


def find(book: Book) -> Findings:
    assert book.database is not None
    return verification.verify(book.outputs, [book.database])


def kinds(book: Book) -> dict[str, list[str]]:
    """The events of each run, in order."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for entry in ledger.entries(book.outputs):
        assert entry is not None
        found[entry["run_id"]].append(entry["kind"])
    return found


def test_many_processes_keep_one_chain_in_which_each_thing_happens_once(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    old = [begin(book, 900 + number) for number in range(4)]
    for record in old:
        end(book, record)
    failed, killed = begin(book, 910), [begin(book, 920 + n, pid=99999999) for n in range(3)]
    end(book, failed, "failed", 6)
    words = [sys.executable, "-m", "tests.runs.many_writers", str(tmp_path)]
    meanwhile = []
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(PROCESSES):
            started.append(subprocess.Popen([*words, str(number)], cwd=project_root()))
            stack.callback(started[-1].wait)
            stack.callback(started[-1].kill)
        while len(list(tmp_path.glob("ready*"))) < PROCESSES:
            assert all(process.poll() is None for process in started)
            time.sleep(0.01)
        (tmp_path / "go").touch()
        while any(process.poll() is None for process in started):
            meanwhile += find(book).faults
            assert book.disagreement() is None
            time.sleep(0.4)
        assert [process.returncode for process in started] == [0] * PROCESSES
    found, by_run = find(book), kinds(book)
    assert (meanwhile, found.faults, found.open_points) == ([], [], [])
    assert len(records.folders(book.outputs)) == 1 + len(killed) + PROCESSES * RUNS
    assert all(by_run[record.run_id] == ["started", "finished", "pruned"] for record in old)
    assert all(by_run[record.run_id] == ["started", "closed"] for record in killed)
    assert by_run[failed.run_id] == ["started", "finished", "resumed", "finished"]
    assert book.database is not None
    book.database._engine.dispose()


def test_the_entry_is_in_the_file_before_the_database_shows_it_and_under_the_lock(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    add, write = DatabaseLedger.adding, ledger.write

    def adding(*args: Any, **options: Any) -> Any:
        order.append("transaction")
        return add(*args, **options)

    def writing(path: Path, entry: ledger.Entry) -> int:
        order.append("file")
        with (
            pytest.raises(RecordError, match="held by another process"),
            file_lock(path.parent / ledger.LOCK_FILE, wait_seconds=0),
        ):
            pass
        return write(path, entry)

    monkeypatch.setattr(DatabaseLedger, "adding", adding)
    monkeypatch.setattr(ledger, "write", writing)
    begin(book, 1)
    assert order == ["transaction", "file"]


class Killed(BaseException):
    """The process ends here, and so does its connection to the database."""


@pytest.mark.parametrize("has_the_file_it", [False, True])
def test_a_run_that_is_killed_while_it_enters_its_end_is_completed_by_the_next_one(
    book: Book, monkeypatch: pytest.MonkeyPatch, has_the_file_it: bool
) -> None:
    record, write = begin(book, 1, pid=99999999), ledger.write

    def killed(path: Path, entry: ledger.Entry) -> int:
        if has_the_file_it:
            write(path, entry)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(ledger, "write", killed)
        end(book, record)
    found = find(book)
    assert found.faults == []
    assert ["is not in the database yet" in point for point in found.open_points] == (
        [True] if has_the_file_it else []
    )
    following = begin(book, 2)
    assert len(list(book.close_interrupted())) == (0 if has_the_file_it else 1)
    end(book, following)
    assert kinds(book)[record.run_id] == ["started", "finished" if has_the_file_it else "closed"]
    found = find(book)
    assert found.faults == []
    assert ["by a later run" in point for point in found.open_points] == (
        [True] if has_the_file_it else []
    )


@pytest.mark.parametrize("has_committed", [False, True])
def test_a_tombstone_is_in_both_or_in_none_although_the_end_of_the_transaction_failed(
    book: Book, monkeypatch: pytest.MonkeyPatch, has_committed: bool
) -> None:
    record, add = begin(book, 1), DatabaseLedger.adding
    end(book, record)

    @contextlib.contextmanager
    def lost(*args: Any) -> Iterator[None]:
        with add(*args):
            yield
            if not has_committed:
                raise DatabaseError("The connection was lost.")
        raise DatabaseError("The connection was lost.")

    with monkeypatch.context() as patched, pytest.raises(DatabaseError):
        patched.setattr(DatabaseLedger, "adding", lost)
        retention.prune(book, [record.run_id], reason="old")
    expected = ["started", "finished", *(["pruned"] if has_committed else [])]
    assert kinds(book)[record.run_id] == expected
    retention.prune(book, [record.run_id], reason="old")
    assert not record.folder.exists()
    assert (find(book).faults, find(book).open_points) == ([], [])


def test_of_two_resumes_the_second_is_refused_even_when_the_first_has_ended(book: Book) -> None:
    failed = begin(book, 1)
    end(book, failed, "failed", 6)
    seen = ledger.last_by_run(ledger.entries(book.outputs))[failed.run_id]["hash"]
    stale = records.read(failed.folder)
    failed.status = stale.status = "running"
    book.enter(ledger.RESUMED, failed, after=seen)
    with pytest.raises(LockError, match="it was resumed"):
        book.enter(ledger.RESUMED, stale, after=seen)
    end(book, failed, "failed", 6)
    with pytest.raises(LockError, match="it was finished"):
        book.enter(ledger.RESUMED, stale, after=seen)
    assert kinds(book)[failed.run_id] == ["started", "finished", "resumed", "finished"]


def test_a_run_that_is_resumed_while_it_is_to_be_pruned_stays(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = begin(book, 1)
    end(book, failed, "failed", 6)
    agrees_on = Book.agrees_on

    def while_it_is_resumed(self: Book, run_id: str) -> bool:
        agrees = agrees_on(self, run_id)
        failed.status = "running"
        self.enter(ledger.RESUMED, failed)
        return agrees

    monkeypatch.setattr(Book, "agrees_on", while_it_is_resumed)
    assert retention.prune(book, [failed.run_id], reason="old") == []
    assert failed.folder.exists()


def test_whoever_prunes_waits_for_those_who_close_and_prune(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, said = begin(book, 1), []
    end(book, record)

    def another(self: Book, run_id: str) -> bool:
        with (
            pytest.raises(RecordError, match="held by another process") as refused,
            file_lock(self.outputs / CLOSING_LOCK, wait_seconds=0),
        ):
            pass
        said.append(refused)
        return True

    monkeypatch.setattr(Book, "agrees_on", another)
    assert retention.prune(book, [record.run_id], reason="old") == [record.run_id]
    assert said
    assert retention.prune(book, [record.run_id], reason="old") == []  # as another process did


# ------------------------------------------------------------------ reading while others write
def meanwhile(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, happens: Any) -> None:
    """Let something happen once, just before a function is called."""
    function, once = getattr(owner, name), [happens]

    def called(*args: Any, **options: Any) -> Any:
        while once:
            once.pop()()
        return function(*args, **options)

    monkeypatch.setattr(owner, name, called)


def test_what_other_runs_do_while_verify_reads_is_no_fault(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, failed = begin(book, 1), begin(book, 2)
    end(book, old)
    end(book, failed, "failed", 6)

    def others() -> None:
        retention.prune(book, [old.run_id], reason="old")
        failed.status = "running"
        book.enter(ledger.RESUMED, failed)
        end(book, failed)
        end(book, begin(book, 3))

    meanwhile(monkeypatch, records, "folders", others)
    found = find(book)
    assert (found.faults, found.open_points) == ([], [])


def test_a_fault_stays_one_whatever_other_runs_do(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = begin(book, 1)
    end(book, record)
    (record.folder / "added.txt").write_text("x")
    meanwhile(monkeypatch, records, "folders", lambda: end(book, begin(book, 2)))
    assert [str(fault) for fault in find(book).faults] == [f"{record.run_id}: added.txt was added"]


def test_what_other_runs_do_while_a_run_compares_is_no_disagreement(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(book, begin(book, 1))
    meanwhile(monkeypatch, DatabaseLedger, "rows", lambda: end(book, begin(book, 2)))
    assert book.disagreement() is None


@pytest.mark.parametrize(
    "look",
    [
        lambda book: book.disagreement() or "",
        lambda book: "".join(map(str, find(book).faults + find(book).open_points)),
    ],
    ids=["disagreement", "verify"],
)
def test_an_entry_that_is_about_to_be_committed_is_waited_for(
    look: Callable[[Book], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = open_book(tmp_path)
    record, reached = begin(book, 1), threading.Event()
    end(book, record)
    write = ledger.write

    def slowly(path: Path, entry: ledger.Entry) -> int:
        size = write(path, entry)
        reached.set()
        time.sleep(0.1)
        return size

    monkeypatch.setattr(ledger, "write", slowly)
    pruning = threading.Thread(target=retention.prune, args=(book, [record.run_id]),
                               kwargs={"reason": "old"})  # fmt: skip
    pruning.start()
    reached.wait(10)
    found = look(book)
    pruning.join()
    assert found == ""
    assert book.database is not None
    book.database._engine.dispose()


def test_the_record_of_a_run_that_is_beginning_is_an_open_point_and_later_a_fault(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(book, begin(book, 1))
    record = records.RunRecord(book.outputs / records.new_run_id(), "", "demo", {}, {}, [])
    records.create(record)
    (found,) = find(book).open_points
    assert "its run is beginning, or the record was added" in found
    assert find(book).faults == []
    monkeypatch.setattr(ledger, "LOCK_SECONDS", 0)
    (fault,) = find(book).faults
    assert "the ledger knows no such run" in str(fault)
