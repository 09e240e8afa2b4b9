"""The command line: help, values, clear errors and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from d2i_helpers.cli import cli, main, read_parameters
from d2i_helpers.cli import commands as module
from d2i_helpers.errors import GateError, RecordError, SettingsError, help_page
from d2i_helpers.kernel_protocol import RUN_ID_VARIABLE
from d2i_helpers.privacy import human_present as attended
from d2i_helpers.runs.records import StageRecord
from d2i_helpers.settings import ENV_PREFIX
from d2i_helpers.stages import names
from tests.runs.test_report import make_record


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def exit_code(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["d2i", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("words", [[], ["runs"], ["spec"], ["simulate"]])
def test_nothing_shows_help_and_runs_nothing(words: list[str]) -> None:
    shown = CliRunner().invoke(cli, words)
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-P", ""],
        ["run", "--params="],
        ["run", "--resume", ""],
        ["run", "--outputs", "", "--stages", "delta"],
        ["--workbook", "", "run"],
        ["runs", "verify", "--head", ""],
        ["runs", "show", ""],
        ["schedule", "-P", ""],
        ["new", ""],
    ],
)
def test_a_variable_that_nobody_set_stands_for_nothing(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its empty text would be the demo, a new run, the working directory or no head at all."""
    assert exit_code(monkeypatch, *words) == 2
    assert "it is empty" in capsys.readouterr().err


def test_help_is_not_slowed_by_what_it_does_not_need() -> None:
    code = (
        "import sys; sys.argv = ['d2i', '--help']\n"
        "from d2i_helpers.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'pydantic', 'papermill', 'pandas', 'rich', 'yaml', 'nbformat'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_the_help_names_every_stage() -> None:
    shown = CliRunner().invoke(cli, ["run", "--help"]).output
    assert ", ".join(names()) in " ".join(shown.split())


def test_a_stop_while_the_program_is_read_in_leaves_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop)\n"
        "from d2i_helpers.__main__ import main\n"
        "main()"
    )
    stopped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (stopped.returncode, stopped.stderr) == (130, "Stopped.\n")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("la_code", "001", "001"),
        ("la_code", "'012'", "012"),
        ("person_ids", "[0123, NO]", "[0123, NO]"),
        ("live_approver", "Jo: head of service", "Jo: head of service"),
        ("live_approver", "1e3", "1e3"),
        ("ssd_schema", "null", None),
        ("cleared_fields", "null", "null"),
        ("outputs_dir", r"C:\new\today", r"C:\new\today"),
        ("batch_size", "7", 7),
        ("batch_size", "010", 10),
        ("pause_seconds", "0.5", 0.5),
        ("dry_run", "true", True),
        ("volatile_ids", "no", False),
        ("run_date", "2026-08-10", "2026-08-10"),
        ("run_date", "", None),
        ("batch_size", "many", "many"),
        ("fase", "full", "full"),
    ],
)
def test_a_value_is_what_its_parameter_is_declared_to_be(
    name: str, text: str, value: object
) -> None:
    assert read_parameters(None, (f"{name}={text}",)) == {name: value}


def test_a_value_may_hold_an_equals_sign_and_a_name_a_hyphen() -> None:
    assert read_parameters(None, ("database-url=mssql://h/d?driver=x",)) == {
        "database_url": "mssql://h/d?driver=x"
    }
    with pytest.raises(SettingsError, match="not NAME=VALUE"):
        read_parameters(None, ("phase",))


def test_a_profile_outside_the_project_is_taken_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("phase: full\n")
    assert read_parameters(str(path), ())["profile"] == str(path)
    assert read_parameters("live", ())["profile"] == "live"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "-p", "fase=full"], 3, "Did you mean `phase`?"),
        (["run", "-P", "nowhere"], 3, "There is no profile nowhere.yaml"),
        (["run", "--stages", "extrakt"], 3, "There is no stage `extrakt`"),
        (["runs", "show", "20260810T020000-abcd"], 15, "There is no run record"),
        (["run", "--resume", "20260810T020000-abcd"], 15, "There is no run record"),
        (["nonsense"], 2, "No such command"),
        (["run", "--nonsense"], 2, "No such option"),
    ],
)
def test_errors_are_one_message_with_their_own_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(module, "_first_demo", lambda *_: None)
    assert exit_code(monkeypatch, *words) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err + shown.out
    assert (help_page(code) in shown.err) is (code != 2)  # click shows its own


def test_a_params_file_with_a_typo_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("phase: full\n  la_code: 1\n")
    assert exit_code(monkeypatch, "check", "--params", str(path)) == 3
    assert "mine.yaml, line 2, is not valid YAML" in capsys.readouterr().err


def test_a_missing_database_is_named_by_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"database_url=sqlite:///{tmp_path / 'nowhere.sqlite'}"
    assert exit_code(monkeypatch, "check", "-p", url) == 4
    assert "nowhere.sqlite" in capsys.readouterr().out


def test_a_fault_of_the_program_shows_no_text_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("Anna Smith")

    monkeypatch.setattr(module, "_first_demo", broken)
    assert exit_code(monkeypatch, "run") == 1
    said = capsys.readouterr().err
    assert "KeyError" in said
    assert "Anna" not in said


def test_spec_commands_print_what_they_promise() -> None:
    schema = CliRunner().invoke(cli, ["spec", "schema"])
    assert json.loads(schema.output)["$schema"].endswith("2020-12/schema")
    assert "is sound" in CliRunner().invoke(cli, ["spec", "check"]).output


def test_generated_pages_go_into_a_new_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "not" / "there"
    assert exit_code(monkeypatch, "spec", "docs", "--folder", str(folder)) == 0
    written = {path.name for path in folder.iterdir()}
    assert {"payload.md", "code_lists.md", "parameters.md"} <= written
    capsys.readouterr()
    assert exit_code(monkeypatch, "spec", "docs", "--folder", str(folder / "payload.md")) == 3
    said = capsys.readouterr().err
    assert "could not be written" in said and "--folder" in said


def test_whole_ids_are_shown_at_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Piped, kept, or in a recorded run: the command refuses before it opens anything."""
    assert exit_code(monkeypatch, "attention", "-P", "demo") == GateError.exit_code
    assert "at a terminal only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("led_here", "shown"),
    [
        (["bash", "sshd"], True),
        (["bash", "python -m ipykernel_launcher -f x.json"], False),
        (["sh -c d2i attention", "papermill a b"], False),
        (["airflow worker"], False),
        (None, False),
    ],
)
def test_no_notebook_and_no_scheduler_counts_as_a_terminal(
    monkeypatch: pytest.MonkeyPatch, led_here: list[str] | None, shown: bool
) -> None:
    terminal = type("Terminal", (), {"isatty": lambda _self: True})()
    monkeypatch.setattr(attended.sys, "stdin", terminal)
    monkeypatch.setattr(attended.sys, "stdout", terminal)
    monkeypatch.setattr(attended, "_ancestors", lambda: led_here)
    monkeypatch.delenv(RUN_ID_VARIABLE, raising=False)
    assert attended.is_at_a_terminal() is shown
    monkeypatch.setenv(RUN_ID_VARIABLE, "run")
    assert attended.is_at_a_terminal() is False


def test_the_command_reads_notebooks_without_the_grammar_of_addresses() -> None:
    code = (
        "from d2i_helpers.cli import commands\n"
        "def look():\n"
        "    import sys, nbformat\n"
        "    nbformat.validate(nbformat.v4.new_notebook())\n"
        "    print([name for name in sys.modules if name.split('.')[0] == 'lark'])\n"
        "commands._run_command = look\n"
        "commands.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("command", ["list", "show", "verify", "report", "seal"])
def test_a_folder_of_records_that_is_not_there_is_no_empty_one(
    tmp_path: Path, command: str
) -> None:
    given = ["runs", command, "--outputs", str(tmp_path / "nowhere")]
    fault = CliRunner().invoke(cli, given).exception
    assert isinstance(fault, RecordError) and "There is no folder" in fault.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["list", "show", "prune --keep-days 9"])
def test_records_of_another_account_are_no_fault_of_the_program(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    words = command.split()
    assert exit_code(monkeypatch, "runs", *words, "--outputs", str(tmp_path)) == 15
    assert "cannot be read (Permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "edited",
    [
        {"error": "x"}, {"error": {"no": "message"}}, {"seconds": "x"}, {"status": []},
        {"warnings": 3}, {"status": "running", "started_at": "x", "process": {"place": "other"}},
        {"stages": [StageRecord("extract", "1.ipynb", counts={"new": "x"})]},  # type: ignore
        {"stages": [StageRecord("extract", "1.ipynb", counts=3)]},  # type: ignore
        {"stages": [StageRecord("extract", "1.ipynb", seconds="x")]},  # type: ignore
    ],
)  # fmt: skip
def test_a_record_that_was_edited_hides_no_other_one(
    edited: dict[str, Any], tmp_path: Path
) -> None:
    good, record = make_record(tmp_path, 1), make_record(tmp_path, 2, **edited)
    said = CliRunner().invoke(cli, ["runs", "list", "--outputs", str(tmp_path)])
    assert said.exit_code == 0 and good.run_id in said.output
    given = ["runs", "show", record.run_id, "--outputs", str(tmp_path)]
    fault = CliRunner().invoke(cli, given).exception
    assert isinstance(fault, RecordError) and "not as this version knows it" in fault.message


@pytest.mark.parametrize("days", ["400000", "9999999"])  # a year of three figures, and none
def test_no_record_is_older_than_a_number_of_days_beyond_all_years(
    days: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "20261101T020000-0a0a0a0a").mkdir()
    words = ["prune", "--keep-days", days, "--outputs", str(tmp_path)]
    assert exit_code(monkeypatch, "runs", *words) == 2
    assert "20261101T020000" not in capsys.readouterr().out


def test_a_file_that_this_account_may_not_use_has_the_exit_code_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "ssd.sqlite"))

    monkeypatch.setattr("d2i_helpers.settings.load_settings", refuse)
    assert exit_code(monkeypatch, "check") == 15
    assert "may not use ssd.sqlite" in capsys.readouterr().err


def test_an_empty_folder_is_not_called_intact(tmp_path: Path) -> None:
    said = CliRunner().invoke(cli, ["runs", "verify", "--no-database", "--outputs", str(tmp_path)])
    assert "Nothing to verify" in said.output and "intact" not in said.output


def test_entries_of_a_schedule_that_cannot_be_written_are_no_fault_of_the_program(
    tmp_path: Path,
) -> None:
    file = tmp_path / "file"
    file.touch()
    for to in (file, file / "below"):
        fault = CliRunner().invoke(cli, ["schedule", "--for", "cron", "--to", str(to)]).exception
        assert isinstance(fault, SettingsError) and "could not be written" in fault.message
