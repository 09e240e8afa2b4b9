"""Attacks on run records and their ledger, by what the attacker can write to.

Each attack is made on a ledger with an old completed run, a failed run, a pruned run, a run that
was killed, and a last completed run. Then a real run follows, which must not cover it up. What
nobody can see is a test here as well: `docs/run_record.md` says the same.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, event, select, text, update

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.errors import D2IError
from d2i_helpers.runs import ledger, records, retention, verification
from d2i_helpers.runs.bookkeeping import Book
from d2i_helpers.runs.database_ledger import DatabaseLedger, folder_mark
from d2i_helpers.runs.records import RunRecord, StageRecord
from d2i_helpers.runs.verification import Findings, Head, verify

KEY = b"the ledger key of this test"
NUMBERS = itertools.count()
OPTIONS: dict[str, Any] = {
    "execution_options": {"schema_translate_map": {tables.STAGING_SCHEMA: None}}
}
Attack = Callable[["World"], None]


class World:
    """A folder of run records with its database, as real runs leave them."""

    def __init__(self, outputs: Path, engine: Any, key: bytes | None = None) -> None:
        self.outputs, self.engine = outputs, engine
        self.known = DatabaseLedger(engine, "mark", "demo")
        self.book = Book(outputs, "mark", self.known, key)
        self.old, self.failed = self.run(), self.run("failed", 6)
        self.pruned = self.run()
        retention.prune(self.book, [self.pruned], reason="old")
        self.killed = self.begin(pid=99999999).run_id
        self.run()  # closes it
        self.last = self.run()
        self.head = ledger.head(outputs)

    def begin(self, **process: Any) -> RunRecord:
        record = make_record(self.outputs, **process)
        self.book.enter(ledger.STARTED, record)
        return record

    def run(self, status: str = "completed", exit_code: int = 0) -> str:
        record = self.begin()
        for _ in self.book.close_interrupted(except_for=record.run_id):
            pass
        self.book.enter(ledger.FINISHED, finished(record, status, exit_code))
        return record.run_id

    def find(self, **options: Any) -> Findings:
        return verify(self.outputs, [self.known], key=self.book.key, **options)

    # ------------------------------------------------------------------ what an attacker does
    @property
    def path(self) -> Path:
        return self.outputs / ledger.LEDGER_FILE

    @property
    def chain(self) -> list[dict[str, Any]]:
        return [entry for entry in ledger.entries(self.outputs) if entry]

    def write(self, chain: list[dict[str, Any]], *, rechain: bool = False) -> None:
        """Write the ledger; rechain: number it and compute all hashes anew, as we would."""
        if rechain:
            before = ledger.START
            for number, entry in enumerate(chain, 1):
                entry |= {"entry": number, "before": before}
                entry["hash"] = before = ledger.entry_hash(entry)
        self.path.write_text("".join(f"{ledger.as_line(entry)}\n" for entry in chain))

    def add(self, kind: str, run_id: str, **changes: Any) -> None:
        """Add an entry that is correctly chained; the record is as it is now."""
        record = records.read(self.outputs / run_id)
        record.status = changes.pop("status", record.status)
        record.exit_code = changes.pop("exit_code", record.exit_code)
        first = ledger.first_by_run(self.chain).get(run_id, {})
        ledger.append(
            self.outputs, kind, record, **{"database": first.get("database", "mark"), **changes}
        )

    def forge(self, run_id: str) -> None:
        """Rewrite a record as if it had sent more children, with the hashes of its files."""
        record = records.read(self.outputs / run_id)
        notebook = record.folder / "01_extract.ipynb"
        notebook.write_text(json.dumps({"cells": [], "forged": True}))
        record.stages[0].counts = {"sent": 9999}
        record.hash_files()
        record.save()

    def lines_of(self, run_id: str) -> list[int]:
        return [n for n, entry in enumerate(self.chain) if entry.get("run_id") == run_id]

    def change_row(self, run_id: str, **values: Any) -> None:
        """Change the last row of a run in the database."""
        digest = ledger.last_by_run(self.chain)[run_id]["hash"]
        this = tables.ledger_entries.c.digest == digest
        with database.transaction(self.engine) as connection:
            if values:
                connection.execute(update(tables.ledger_entries).where(this).values(**values))
            else:
                connection.execute(delete(tables.ledger_entries).where(this))

    def copy_to_database(self) -> None:
        """Make the database the same as the file, as if it had never been otherwise."""
        with database.transaction(self.engine) as connection:
            connection.execute(delete(tables.ledger_entries))
        self.known.add(self.outputs, self.chain, self.chain, late=False)


def make_record(outputs: Path, **process: Any) -> RunRecord:
    # runs of tests begin in the same second, where chance alone would give two the same id
    run_id = f"{records.new_run_id()[:-4]}{next(NUMBERS):04x}"
    record = RunRecord(
        folder=outputs / run_id,
        run_id=run_id,
        profile="demo",
        parameters={"phase": "delta"},
        given={},
        stages=[StageRecord("extract", "01_extract.ipynb", "completed")],
    )
    records.create(record)
    record.process |= process
    record.save()
    (record.folder / "01_extract.ipynb").write_text(json.dumps({"cells": [], "run": run_id}))
    return record


def finished(record: RunRecord, status: str = "completed", exit_code: int = 0) -> RunRecord:
    record.status, record.exit_code = status, exit_code
    records.finish(record)
    return record


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda number: None)
    monkeypatch.setattr(records, "RESERVE_BYTES", 1)
    monkeypatch.setattr(verification, "LOOK_AGAIN_SECONDS", ())  # nobody else is at work


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Any]:
    """Makes a world with a database in memory: what is attacked is the folder."""
    engine = create_engine("sqlite://", **OPTIONS)
    yield lambda key=None: World(tmp_path / "outputs", engine, key)
    engine.dispose()


@pytest.fixture
def real_world(tmp_path: Path, engine: Engine) -> World:
    """A world with a database of each kind."""
    return World(tmp_path / "outputs", engine)


# --------------------------------------------------------------- who can write to the folder only
OUTPUTS_ONLY: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    OUTPUTS_ONLY[function.__name__] = function
    return function


@attack
def finish_the_old_run_again(world: World) -> None:
    world.forge(world.old)
    world.add(ledger.FINISHED, world.old)


@attack
def close_the_old_run(world: World) -> None:
    world.forge(world.old)
    world.add(ledger.CLOSED, world.old, status="interrupted")


@attack
def finish_the_failed_run_as_completed(world: World) -> None:
    record = records.read(world.outputs / world.failed)
    finished(record)
    world.add(ledger.FINISHED, world.failed)


@attack
def start_the_old_run_again(world: World) -> None:
    world.add(ledger.STARTED, world.old, status="running")


@attack
def start_and_finish_the_old_run_again(world: World) -> None:
    world.forge(world.old)
    world.add(ledger.STARTED, world.old, status="running", exit_code=None)
    world.add(ledger.FINISHED, world.old)


@attack
def resume_the_completed_run(world: World) -> None:
    world.forge(world.old)
    world.add(ledger.RESUMED, world.old, status="running", process={"pid": 99999999})


@attack
def resume_the_failed_run(world: World) -> None:
    world.forge(world.failed)
    world.add(ledger.RESUMED, world.failed, status="running", process={"pid": 99999999})


@attack
def resume_and_finish_the_failed_run(world: World) -> None:
    world.add(ledger.RESUMED, world.failed, status="running", exit_code=None)
    finished(records.read(world.outputs / world.failed))
    world.add(ledger.FINISHED, world.failed)


@attack
def prune_the_old_run(world: World) -> None:
    world.add(ledger.PRUNED, world.old, reason="older than 400 days")
    shutil.rmtree(world.outputs / world.old)


@attack
def prune_the_last_run(world: World) -> None:
    world.add(ledger.PRUNED, world.last, reason="older than 400 days")
    shutil.rmtree(world.outputs / world.last)


@attack
def prune_twice(world: World) -> None:
    entry = ledger.last_by_run(world.chain)[world.pruned]
    again = {**entry, "entry": len(world.chain) + 1, "before": world.chain[-1]["hash"]}
    again["hash"] = ledger.entry_hash(again)
    world.write([*world.chain, again])


@attack
def bring_a_pruned_run_back(world: World) -> None:
    shutil.copytree(world.outputs / world.old, world.outputs / world.pruned)


@attack
def seal_without_a_key(world: World) -> None:
    ledger.append(world.outputs, ledger.SEALED, None, database="mark")


@attack
def add_an_unknown_kind(world: World) -> None:
    world.add("corrected", world.old)


@attack
def add_an_entry_of_no_run(world: World) -> None:
    entry = {**world.chain[-1], "run_id": "../../elsewhere"}
    world.write([*world.chain, entry], rechain=True)


@attack
def add_an_entry_that_names_another_database(world: World) -> None:
    world.forge(world.killed)
    finished(records.read(world.outputs / world.killed))
    world.add(ledger.FINISHED, world.killed, database="nowhere")


@attack
def add_an_entry_that_names_no_database(world: World) -> None:
    finished(records.read(world.outputs / world.killed))
    world.add(ledger.FINISHED, world.killed, database="")


@attack
def add_a_run_of_last_year(world: World) -> None:
    run_id = "20251122T020000-aaaa"
    record = make_record(world.outputs)
    target = world.outputs / run_id
    record.folder.rename(target)
    record.folder, record.run_id = target, run_id
    record.save()
    world.add(ledger.STARTED, run_id, status="running")
    finished(record)
    world.add(ledger.FINISHED, run_id)


@attack
def add_an_entry_of_the_past(world: World) -> None:
    finished(records.read(world.outputs / world.killed))
    world.add(ledger.FINISHED, world.killed, at="2026-01-01T02:00:00Z")


@attack
def add_an_entry_of_the_future(world: World) -> None:
    finished(records.read(world.outputs / world.killed))
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
    world.add(ledger.FINISHED, world.killed, at=later.isoformat(timespec="seconds"))


@attack
def edit_a_notebook(world: World) -> None:
    (world.outputs / world.old / "01_extract.ipynb").write_text("{}")


@attack
def edit_a_record(world: World) -> None:
    world.forge(world.old)


@attack
def edit_a_record_and_its_entry(world: World) -> None:
    world.forge(world.old)
    chain = world.chain
    place = world.lines_of(world.old)[-1]
    chain[place]["record_sha256"] = records.sha256_of(world.outputs / world.old / "run.json")
    chain[place]["hash"] = ledger.entry_hash(chain[place])
    world.write(chain)


@attack
def edit_a_record_and_compute_the_whole_chain_anew(world: World) -> None:
    world.forge(world.old)
    chain = world.chain
    place = world.lines_of(world.old)[-1]
    chain[place]["record_sha256"] = records.sha256_of(world.outputs / world.old / "run.json")
    world.write(chain, rechain=True)


@attack
def edit_the_last_run_and_its_entry(world: World) -> None:
    world.forge(world.last)
    chain = world.chain
    chain[-1]["record_sha256"] = records.sha256_of(world.outputs / world.last / "run.json")
    world.write(chain, rechain=True)


@attack
def edit_the_first_entry(world: World) -> None:
    chain = world.chain
    chain[0]["at"] = chain[1]["at"]
    chain[0]["host"] = "another"
    world.write(chain, rechain=True)


@attack
def edit_the_reason_of_a_tombstone(world: World) -> None:
    chain = world.chain
    chain[world.lines_of(world.pruned)[-1]]["reason"] = "asked for by the DfE"
    world.write(chain, rechain=True)


@attack
def remove_an_entry(world: World) -> None:
    chain = world.chain
    del chain[world.lines_of(world.old)[-1]]
    world.write(chain)


@attack
def remove_an_entry_and_compute_the_rest_anew(world: World) -> None:
    chain = world.chain
    del chain[world.lines_of(world.failed)[-1]]
    world.write(chain, rechain=True)


@attack
def remove_a_run_with_its_lines(world: World) -> None:
    places = world.lines_of(world.failed)
    shutil.rmtree(world.outputs / world.failed)
    world.write([e for n, e in enumerate(world.chain) if n not in places], rechain=True)


@attack
def remove_a_run_without_its_lines(world: World) -> None:
    shutil.rmtree(world.outputs / world.old)


@attack
def remove_the_last_run_with_its_lines(world: World) -> None:
    places = world.lines_of(world.last)
    shutil.rmtree(world.outputs / world.last)
    world.write([e for n, e in enumerate(world.chain) if n not in places])


@attack
def cut_off_the_end(world: World) -> None:
    world.write(world.chain[:-1])


@attack
def cut_off_all_but_the_first_run(world: World) -> None:
    for folder in records.folders(world.outputs):
        if folder.name != world.old:
            shutil.rmtree(folder)
    world.write(world.chain[:2])


@attack
def swap_two_entries(world: World) -> None:
    chain = world.chain
    chain[1], chain[2] = chain[2], chain[1]
    world.write(chain)


@attack
def swap_two_entries_and_compute_the_rest_anew(world: World) -> None:
    chain = world.chain
    chain[-3], chain[-2] = chain[-2], chain[-3]
    world.write(chain, rechain=True)


@attack
def repeat_an_entry(world: World) -> None:
    world.write([*world.chain, dict(world.chain[1])], rechain=True)


@attack
def put_garbage_between(world: World) -> None:
    lines = world.path.read_bytes().splitlines(keepends=True)
    world.path.write_bytes(b"".join([*lines[:2], b"[]\n", *lines[2:]]))


@attack
def remove_the_ledger(world: World) -> None:
    world.path.unlink()


@attack
def remove_everything(world: World) -> None:
    shutil.rmtree(world.outputs)
    world.outputs.mkdir()


@attack
def replace_everything_with_a_made_up_history(world: World) -> None:
    shutil.rmtree(world.outputs)
    without = Book(world.outputs, "mark", None)
    for _ in range(3):
        record = make_record(world.outputs)
        without.enter(ledger.STARTED, record)
        without.enter(ledger.FINISHED, finished(record))


@attack
def replace_a_record_by_a_link_to_a_copy(world: World) -> None:
    elsewhere = world.outputs.parent / "copy"
    (world.outputs / world.old).rename(elsewhere)
    (world.outputs / world.old).symlink_to(elsewhere)


@attack
def replace_a_notebook_by_a_link_to_a_copy(world: World) -> None:
    notebook = world.outputs / world.old / "01_extract.ipynb"
    elsewhere = world.outputs.parent / "copy.ipynb"
    notebook.rename(elsewhere)
    notebook.symlink_to(elsewhere)


@attack
def replace_run_json_by_a_link(world: World) -> None:
    path = world.outputs / world.old / "run.json"
    elsewhere = world.outputs.parent / "copy.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@attack
def add_a_file(world: World) -> None:
    (world.outputs / world.old / "05_more.ipynb").write_text("{}")


@attack
def add_a_hidden_file(world: World) -> None:
    (world.outputs / world.old / ".writing-note").write_text("x")


@attack
def add_a_reserve(world: World) -> None:
    (world.outputs / world.old / ".reserve").write_text("x")


@attack
def add_a_folder(world: World) -> None:
    (world.outputs / world.old / "more").mkdir()


@attack
def add_a_link(world: World) -> None:
    (world.outputs / world.old / "02_anonymise.html").symlink_to("/etc/hostname")


@attack
def add_a_pipe_in_place_of_a_page(world: World) -> None:
    notebook = world.outputs / world.old / "01_extract.ipynb"
    notebook.unlink()
    os.mkfifo(notebook)


@attack
def rename_a_record(world: World) -> None:
    (world.outputs / world.old).rename(world.outputs / "20261122T020000-3f9a")


@attack
def move_a_record_away(world: World) -> None:
    (world.outputs / world.old).rename(world.outputs / "backup")


@attack
def swap_two_records(world: World) -> None:
    a, b, spare = (world.outputs / name for name in (world.old, world.last, "spare"))
    a.rename(spare)
    b.rename(a)
    spare.rename(b)


@attack
def change_what_a_killed_run_was_asked(world: World) -> None:
    record = records.read(world.outputs / world.killed)
    record.parameters["phase"] = "full"
    record.save()


@pytest.mark.parametrize("name", OUTPUTS_ONLY)
def test_who_can_write_to_the_folder_only_is_found_out(make_world: Any, name: str) -> None:
    world = make_world()
    if name in _BEFORE_THE_KILLED_RUN_IS_CLOSED:
        world.killed = world.begin(pid=99999999).run_id
    assert (world.find().faults, world.find().open_points) == ([], [])
    OUTPUTS_ONLY[name](world)
    first = world.find().faults
    assert first
    for _ in range(2):
        try:
            world.run()
        except D2IError as error:  # a damaged ledger is not written to: nothing is covered up
            assert "damaged" in error.message or "symbolic link" in error.message
        assert world.find().faults, "a later run covered it up"


_BEFORE_THE_KILLED_RUN_IS_CLOSED = {
    "add_an_entry_that_names_another_database",
    "add_an_entry_that_names_no_database",
    "add_an_entry_of_the_past",
    "add_an_entry_of_the_future",
    "change_what_a_killed_run_was_asked",
}


def test_a_ledger_that_is_a_link_is_found_out_and_not_written_through(make_world: Any) -> None:
    world = make_world()
    elsewhere = world.outputs.parent / "copy.jsonl"
    world.path.rename(elsewhere)
    world.path.symlink_to(elsewhere)
    assert "is a symbolic link" in str(world.find().faults[0])
    before = elsewhere.read_bytes()
    with pytest.raises(D2IError, match="symbolic link"):
        world.run()
    assert elsewhere.read_bytes() == before


# ---- what such a person can do, and what verify says of it
def invent_the_end_of_a_killed_run(world: World) -> None:
    world.killed = world.begin(pid=99999999).run_id
    finished(records.read(world.outputs / world.killed))
    world.add(ledger.FINISHED, world.killed)


def invent_a_run(world: World) -> None:
    record = make_record(world.outputs)
    world.killed = record.run_id
    world.add(ledger.STARTED, record.run_id)
    finished(record)
    world.add(ledger.FINISHED, record.run_id)


def invent_a_run_in_another_database(world: World) -> None:
    record = make_record(world.outputs)
    world.killed = record.run_id
    world.add(ledger.STARTED, record.run_id, database="elsewhere")
    finished(record)
    world.add(ledger.FINISHED, record.run_id)


INVENTIONS = [invent_the_end_of_a_killed_run, invent_a_run, invent_a_run_in_another_database]


@pytest.mark.parametrize("invent", INVENTIONS)
def test_an_invention_rests_on_the_file_alone_and_is_named_for_ever(
    make_world: Any, invent: Attack
) -> None:
    world = make_world()
    invent(world)
    for _ in range(3):
        found = world.find()
        assert found.faults == []
        if invent is invent_a_run_in_another_database:
            assert any("2 of" in point for point in found.open_points)
        else:
            assert any(world.killed in point for point in found.open_points)
        world.run()


@pytest.mark.parametrize("invent", INVENTIONS)
def test_with_a_ledger_key_an_invention_is_found_out(make_world: Any, invent: Attack) -> None:
    world = make_world(KEY)
    invent(world)
    for _ in range(3):
        assert any("without the ledger key" in str(fault) for fault in world.find().faults)
        world.run()
    rows = world.known.rows(world.outputs, world.chain)
    forged = [entry for entry in world.chain if "seal" not in entry]
    assert forged and not any(entry["hash"] in rows for entry in forged)


def test_what_a_killed_run_had_not_ended_can_be_changed_unseen_until_it_is_closed(
    make_world: Any,
) -> None:
    world = make_world()
    world.killed = world.begin(pid=99999999).run_id
    world.forge(world.killed)
    assert world.find().faults == []
    world.run()
    assert records.read(world.outputs / world.killed).status == "interrupted"
    assert (world.find().faults, world.find().open_points) == ([], [])


def test_a_file_that_was_laid_into_a_running_record_is_not_vouched_for(make_world: Any) -> None:
    world = make_world()
    record = world.begin()
    (record.folder / "evidence.html").write_text("x")
    (record.folder / "01_extract.html").symlink_to("/etc/hostname")
    world.book.enter(ledger.FINISHED, finished(record))
    said = [str(fault) for fault in world.find().faults]
    assert said == [f"{record.run_id}: 01_extract.html was added",
                    f"{record.run_id}: evidence.html was added"]  # fmt: skip


def test_an_altered_run_is_neither_resumed_nor_pruned(make_world: Any) -> None:
    world = make_world()
    resume_and_finish_the_failed_run(world)
    assert not world.book.agrees_on(world.failed)
    with pytest.raises(D2IError, match="is not pruned"):
        retention.prune(world.book, [world.failed], reason="old")
    assert (world.outputs / world.failed).is_dir()


# ------------------------------------------------------------- who can write to the database only
DATABASE_ONLY: dict[str, Attack] = {
    "remove a row": lambda world: world.change_row(world.old),
    "edit a row": lambda world: world.change_row(world.old, content='{"entry": 2}'),
    "edit a row beyond reading": lambda world: world.change_row(world.old, content="["),
    "edit a row and its hash": lambda world: _edit_row_and_hash(world),
    "move a row to another ledger": lambda world: world.change_row(
        world.old, ledger="x", folder="y", digest="0" * 64
    ),
    "add a row": lambda world: _add_row(world),
    "add a row of an old run": lambda world: _add_row(world, run_id=world.old),
    "add another ledger for this folder": lambda world: _add_row(world, ledger="other"),
}


def _edit_row_and_hash(world: World) -> None:
    entry = {**ledger.last_by_run(world.chain)[world.old], "status": "failed"}
    entry["hash"] = ledger.entry_hash(entry)
    world.change_row(world.old, content=ledger.as_line(entry), digest=entry["hash"])


def _add_row(world: World, **changes: Any) -> None:
    entry = {**world.chain[-1], "entry": len(world.chain) + 1, "before": world.chain[-1]["hash"]}
    entry["run_id"] = changes.get("run_id", records.new_run_id())
    entry["hash"] = ledger.entry_hash(entry)
    values = {
        "digest": entry["hash"],
        "ledger": changes.get("ledger", ledger.name_of(world.chain)),
        "folder": folder_mark(world.outputs),
        "entry": entry["entry"],
        "late": 0,
        "content": ledger.as_line(entry),
    }
    with database.transaction(world.engine) as connection:
        connection.execute(tables.ledger_entries.insert().values(**values))


@pytest.mark.parametrize("name", DATABASE_ONLY)
def test_who_can_write_to_the_database_only_is_found_out(real_world: World, name: str) -> None:
    world = real_world
    before = world.path.read_bytes()
    DATABASE_ONLY[name](world)
    assert world.find().faults
    world.run()
    found = world.find()
    assert found.faults or found.open_points
    assert world.path.read_bytes().startswith(before)  # history is as it was


@pytest.mark.parametrize("last", [1, 3, 99])
def test_rows_removed_at_the_end_are_entered_again_and_named(make_world: Any, last: int) -> None:
    world = make_world()
    for entry in world.chain[-last:]:
        with database.transaction(world.engine) as connection:
            table = tables.ledger_entries
            connection.execute(delete(table).where(table.c.digest == entry["hash"]))
    for _ in range(2):
        found = world.find()
        assert found.faults or found.open_points
        world.run()


def test_a_login_that_may_only_select_and_insert_does_and_can_take_nothing_back(
    tmp_path: Path, engine: Engine
) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no logins")
    role = f"d2i_{uuid.uuid4().hex[:8]}"
    with database.transaction(engine) as connection:
        tables.ledger_entries.create(connection)
        connection.execute(text(f"create role {role}"))
        connection.execute(text(f"grant select, insert on d2i_ledger to {role}"))
    limited = create_engine(engine.url, **OPTIONS)
    event.listen(limited, "connect", lambda raw, _: _act_as(raw, role))
    try:
        world = World(tmp_path / "outputs", limited)
        assert (world.find().faults, world.find().open_points) == ([], [])
        for statement in (update(tables.ledger_entries).values(late=1),
                          delete(tables.ledger_entries)):  # fmt: skip
            with (
                pytest.raises(D2IError, match="42501"),
                database.transaction(limited) as connection,
            ):
                connection.execute(statement)
    finally:
        limited.dispose()
        with database.transaction(engine) as connection:
            connection.execute(text(f"drop owned by {role}"))
            connection.execute(text(f"drop role {role}"))


def _act_as(raw: Any, role: str) -> None:
    with raw.cursor() as cursor:
        cursor.execute(f"set role {role}")
    raw.commit()


# ----------------------------------------------------------------------- who can write to both
def forge_an_old_run(world: World) -> None:
    world.forge(world.old)
    chain = world.chain
    place = world.lines_of(world.old)[-1]
    chain[place]["record_sha256"] = records.sha256_of(world.outputs / world.old / "run.json")
    world.write(chain, rechain=True)


def remove_an_old_run(world: World) -> None:
    remove_a_run_with_its_lines(world)


def forge_the_last_run(world: World) -> None:
    edit_the_last_run_and_its_entry(world)


def make_everything_up(world: World) -> None:
    replace_everything_with_a_made_up_history(world)


def invent_a_run_in_both(world: World) -> None:
    invent_a_run(world)


def take_all_seals_away(world: World) -> None:
    forge_an_old_run(world)
    world.write([{k: v for k, v in e.items() if k != "seal"} for e in world.chain], rechain=True)


BOTH: list[Attack] = [
    forge_an_old_run,
    remove_an_old_run,
    forge_the_last_run,
    make_everything_up,
    invent_a_run_in_both,
    take_all_seals_away,
]


@pytest.mark.parametrize("change", BOTH)
def test_who_can_write_to_both_is_found_out_by_the_ledger_key(
    make_world: Any, change: Attack
) -> None:
    world = make_world(KEY)
    assert (world.find().faults, world.find().open_points) == ([], [])
    change(world)
    world.copy_to_database()
    for _ in range(3):
        assert any("the ledger key" in str(fault) for fault in world.find().faults)
        world.run()


@pytest.mark.parametrize("change", BOTH)
def test_who_can_write_to_both_is_not_seen_without_the_key_but_by_a_head(
    make_world: Any, change: Attack
) -> None:
    world = make_world()
    head = world.head
    change(world)
    world.copy_to_database()
    found = world.find()
    assert (found.faults, found.open_points) == ([], [])
    world.run()
    assert world.find().faults == []
    by_head = world.find(heads=[Head(head["hash"], head["entry"])]).faults
    assert bool(by_head) == (change is not invent_a_run_in_both)  # which came after the head


def test_both_can_be_set_back_together_unseen_but_not_behind_a_head(make_world: Any) -> None:
    world = make_world(KEY)
    remove_the_last_run_with_its_lines(world)
    world.copy_to_database()
    assert (world.find().faults, world.find().open_points) == ([], [])
    world.run()
    assert world.find().faults == []
    assert world.find(heads=[Head(world.head["hash"], world.head["entry"])]).faults


def test_who_has_the_key_too_is_seen_by_a_head_only(make_world: Any) -> None:
    world = make_world(KEY)
    forge_an_old_run(world)
    chain = world.chain
    for entry in chain:
        entry["seal"] = ledger.seal_of(entry["hash"], KEY)
    world.write(chain)
    world.copy_to_database()
    assert (world.find().faults, world.find().open_points) == ([], [])
    assert world.find(heads=[Head(world.head["hash"], world.head["entry"])]).faults


@pytest.mark.parametrize("number", [1, 4, 8])
def test_an_entry_that_the_key_did_not_make_is_never_entered_later(
    make_world: Any, number: int
) -> None:
    """A forged line stays outside the database, however many runs follow."""
    world = make_world(KEY)
    for _ in range(number):
        invent_a_run(world)
    for _ in range(2):
        world.run()
    with database.reading(world.engine) as connection:
        stored = connection.execute(select(tables.ledger_entries.c.content)).scalars().all()
    assert all("seal" in json.loads(content) for content in stored)


def test_a_folder_whose_name_is_no_text_has_a_mark_of_its_own(tmp_path: Path) -> None:
    """As a machine of other letters left it: bytes that are no UTF-8."""
    names = [b"stra\xdfe", b"stra\xe9e", b"strasse"]
    marks = {folder_mark(tmp_path / os.fsdecode(name)) for name in names}
    assert len(marks) == len(names)
