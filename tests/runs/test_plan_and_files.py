"""What a run is made of before it runs, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from d2i_helpers import files, processes
from d2i_helpers.errors import D2IError, NotebookError, RecordError, SettingsError
from d2i_helpers.kernel_protocol import WITHOUT_KEYRING_VARIABLE
from d2i_helpers.runs import engine, plan, records
from d2i_helpers.runs.outcome import error_of, fault_of, redact_file
from d2i_helpers.settings import load_settings


def notebook(path: Path, *sources: str, tag: str = "parameters") -> Path:
    cells = [
        {"cell_type": "code", "metadata": {"tags": [tag]}, "source": source} for source in sources
    ]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def test_stages_come_in_the_order_of_the_day() -> None:
    assert plan.stages_in_order(["submit", " Delta ", "submit"]) == ["delta", "submit"]
    with pytest.raises(SettingsError, match="No stage is named"):
        plan.stages_in_order([""])
    assert plan.stages_in_order(None) == ["preflight", "extract", "anonymise", "delta", "submit"]
    assert plan.stages_in_order(["preflight"]) == ["preflight"]


def test_declared_parameters_are_read_without_running_anything(tmp_path: Path) -> None:
    source = 'a = 1  # one\nb: str | None = None\n(c) = "x"\nprint("no")'
    assert plan.declared_parameters(notebook(tmp_path / "n.ipynb", source)) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("sources", "said"),
    [(("a = 1", "b = 2"), "has 2 cells"), ((), "has 0 cells"), (("a =",), "not valid Python")],
)
def test_a_notebook_without_one_good_parameters_cell_is_refused(
    tmp_path: Path, sources: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        plan.declared_parameters(notebook(tmp_path / "n.ipynb", *sources))


def test_a_missing_or_broken_notebook_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no notebook x\.ipynb"):
        plan.declared_parameters(tmp_path / "x.ipynb")
    (tmp_path / "x.ipynb").write_text("{")
    with pytest.raises(SettingsError, match="is not a notebook"):
        plan.declared_parameters(tmp_path / "x.ipynb")


def test_leases_cover_the_tables_that_are_written() -> None:
    class Settings:
        staging_table, anon_table, send_table = "real", "anon", "anon"

    def tables(*stages: str) -> list[str]:
        return plan.worked_tables(stages, Settings())  # type: ignore[arg-type]

    assert tables("preflight") == []
    assert tables("extract") == ["real"]
    assert tables("anonymise") == ["anon", "real"]
    assert tables("delta", "submit") == ["anon"]


@pytest.mark.parametrize("there", [True, False])
def test_kernels_are_told_that_there_is_no_keyring(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "has_keyring", lambda: there)
    told = plan.kernel_environment(load_settings(None, run_date="2026-08-10"), "a-run")
    assert (WITHOUT_KEYRING_VARIABLE in told) is not there


def test_what_a_run_needs_no_store_for_stays_to_be_had_afterwards() -> None:
    before = {name: sys.modules.get(name) for name in engine._STORES}
    engine.load()
    assert {name: sys.modules.get(name) for name in engine._STORES} == before
    assert None not in [sys.modules.get(name, "not loaded") for name in engine._STORES]


def test_an_atomic_write_is_private_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    files.write_atomic(path, b"old")
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_private_folder_takes_no_rights_from_a_file_or_from_a_folder_of_everybody(
    tmp_path: Path,
) -> None:
    file, shared, ours = tmp_path / "passwd", tmp_path / "tmp", tmp_path / "outputs"
    file.touch(0o644)
    with pytest.raises(RecordError, match="is a file, and a folder is needed"):
        files.make_private_folder(file)
    shared.mkdir()
    shared.chmod(0o1777)
    ours.mkdir(0o755)
    for folder in (shared, ours):
        files.make_private_folder(folder)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file, shared, ours)]
    assert modes == [0o644, 0o1777, 0o700]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EFBIG, "larger than this account")]
)
def test_a_full_disk_leaves_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    path = tmp_path / "run.json"
    files.write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(number, "as the system says it")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RecordError, match=said):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_bytes(b"one\n")
    with pytest.raises(RecordError, match=said):
        files.append_line(ledger, b"two")
    assert ledger.read_bytes() == b"one\n"


def test_a_record_can_be_ended_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = records.RunRecord(tmp_path / "r", "20260810T020000-00aa", "demo", {}, {}, [])
    records.create(record)
    reserve = record.folder / records.RESERVE_FILE
    assert reserve.stat().st_size == records.RESERVE_BYTES
    write = records.write_atomic

    def full(path: Path, content: bytes, **options: Any) -> None:
        if reserve.exists():
            raise RecordError("The disk is full.")
        write(path, content, **options)

    monkeypatch.setattr(records, "write_atomic", full)
    record.status = "failed"
    record.save()
    assert records.read(record.folder).status == "failed"


def test_a_run_that_cannot_begin_on_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RecordError("The disk is full.")

    monkeypatch.setattr(records, "write_atomic", full)
    with pytest.raises(RecordError, match="full"):
        records.create(records.RunRecord(tmp_path / "r", "r", "demo", {}, {}, []))
    assert list(tmp_path.iterdir()) == []


def test_a_file_lock_keeps_another_process_out(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = (
        "import sys; from pathlib import Path; from d2i_helpers.files import file_lock\n"
        "with file_lock(Path(sys.argv[1]), wait_seconds=0.1): pass"
    )
    command = [sys.executable, "-c", code, str(path)]
    with files.file_lock(path):
        assert b"held by another" in subprocess.run(command, capture_output=True).stderr
    assert subprocess.run(command).returncode == 0


def test_a_file_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = (
        "import sys, time; from pathlib import Path; from d2i_helpers.files import file_lock\n"
        "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(RecordError, match="held by another"),
            files.file_lock(path, wait_seconds=0),
        ):
            pass
        holder.kill()
    with files.file_lock(path, wait_seconds=0):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_lock_is_released_by_another_thread_too(tmp_path: Path) -> None:
    lock = contextlib.ExitStack()
    lock.enter_context(files.file_lock(tmp_path / ".lock"))
    releasing = threading.Thread(target=lock.close)
    releasing.start()
    releasing.join()
    with files.file_lock(tmp_path / ".lock", wait_seconds=0):
        pass


def test_run_ids_sort_by_time_and_match_their_pattern() -> None:
    made = [records.new_run_id() for _ in range(200)]
    assert all(records.RUN_ID.fullmatch(run_id) for run_id in made)
    assert len(set(made)) == len(made)  # with four digits this would fail once in four times
    assert records.is_run_id("20261122T020000-3f9a")  # as earlier releases named theirs
    assert not records.is_run_id("20261122T020000-3f9a5")


def test_this_process_is_alive_and_others_are_judged_by_their_place() -> None:
    me = processes.this_process()
    assert processes.may_be_alive(me)
    assert not processes.may_be_alive({**me, "pid": 99999999})
    assert not processes.may_be_alive({**me, "born": me["born"] - 100})
    assert processes.may_be_alive({**me, "place": "another-host:1:2"})


class _CellFailed(Exception):
    def __init__(self, ename: str, evalue: str) -> None:
        super().__init__(evalue)
        self.ename, self.evalue, self.exec_count = ename, evalue, 3


def test_a_notebooks_error_becomes_ours_without_its_values() -> None:
    ours = error_of(_CellFailed("TokenError", "No token. Ask the DfE."), "04_submit.ipynb")
    assert (ours.exit_code, ours.message) == (8, "No token. Ask the DfE.")
    theirs = error_of(_CellFailed("KeyError", "'Anna Smith'"), "04_submit.ipynb")
    assert isinstance(theirs, NotebookError)
    assert str(theirs).startswith("04_submit.ipynb, cell 3 failed with KeyError.")
    assert "Anna" not in str(theirs)
    odd = error_of(_CellFailed("Anna Smith", ""), "04_submit.ipynb")
    assert "Anna" not in str(odd)


def test_a_fault_of_the_program_is_told_without_its_text() -> None:
    try:
        plan.declared_parameters(None)  # type: ignore[arg-type]
    except AttributeError as error:
        told = fault_of(error)
    assert type(told) is D2IError
    assert "AttributeError in plan.py, line" in told.message


def test_a_file_of_another_account_is_no_fault_of_the_program(tmp_path: Path) -> None:
    refused = PermissionError(13, "Permission denied", str(tmp_path / "ledger.jsonl"))
    told = fault_of(refused)
    assert (type(told), told.exit_code) == (RecordError, 15)
    assert told.message == "This account may not use ledger.jsonl (Permission denied)."
    assert fault_of(PermissionError(1, "not permitted")).exit_code == 1  # of no file


def test_a_path_that_cannot_be_is_no_fault_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        (tmp_path / ("a" * 300)).stat()
    told = fault_of(caught.value)
    assert (type(told), told.exit_code) == (RecordError, 15)
    assert told.message == f"{'a' * 100} cannot be used (File name too long)."
    assert fault_of(FileNotFoundError(2, "not there", "a")).exit_code == 1


def test_redaction_rewrites_a_copy_only_where_it_found_something(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "print('Anna')")
    before = path.stat().st_mtime_ns
    assert redact_file(path, lambda text: (text, 0)) == 0
    assert path.stat().st_mtime_ns == before
    assert redact_file(path, lambda text: (text.replace("Anna", "[redacted]"), 1)) == 1
    assert "Anna" not in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError):
        redact_file(path, lambda _: ("{", 1))


def test_a_windows_that_does_not_say_who_this_is_ends_no_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "pwd", None)  # there is none on Windows
    assert isinstance(records.environment_facts(Path.cwd())["user"], str)
