"""A run as a child process: its command, its end, and that it never outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d2i_helpers import errors
from d2i_helpers.cli import read_parameters
from d2i_helpers.errors import STOPPED_EXIT, WHAT_NEXT, D2IError, Next, SettingsError, what_next
from d2i_helpers.processes import birth
from d2i_helpers.runs import child
from d2i_helpers.runs.stopping import Interrupted
from d2i_helpers.runs.summary import summary_without_record
from d2i_helpers.settings import load_settings

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_every_exit_code_is_classed_and_no_other() -> None:
    """A new kind of error has to say what a scheduler does after it."""
    assert Interrupted.exit_code == STOPPED_EXIT
    codes = {kind.exit_code for kind in errors._kinds(D2IError).values()}
    assert set(WHAT_NEXT) == codes | {0, 2, STOPPED_EXIT}


def test_what_comes_after_an_exit_code() -> None:
    assert what_next(0) is Next.DONE
    assert {code for code in WHAT_NEXT if what_next(code) is Next.LOOK} == {13, 20}
    again = {4, 8, 9, 11, 12, 14, 17, 18, 19, 130}
    assert {code for code in WHAT_NEXT if what_next(code) is Next.AGAIN} == again
    for killed in (-signal.SIGTERM, -9, 137, 143):
        assert what_next(killed) is Next.AGAIN
    assert what_next(77) is Next.STOP  # of nobody's: it would end so again


def test_parameters_of_a_command_mean_the_same_to_the_run() -> None:
    given = {"profile": "x", "person_ids": ["0123", "a,b"], "dry_run": True, "la_code": "012",
             "run_date": None}  # fmt: skip
    words = child.run_command("py", "northshire", given, stages="delta,submit", leashed=True)
    assert words[:9] == ["py", "-m", "d2i_helpers", "run", "--summary", "json", "--end-with-stdin",
                         "--params", "northshire"]  # fmt: skip
    assert words[9:11] == ["--stages", "delta,submit"]
    pairs = tuple(words[at + 1] for at, word in enumerate(words) if word == "-p")
    read = load_settings(None, **read_parameters(None, pairs))
    assert (read.person_ids, read.dry_run, read.la_code) == (("0123", "a,b"), True, "012")
    assert "run_date" not in " ".join(pairs)


def test_a_run_gets_no_variable_that_was_set_for_the_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("D2I_DATABASE_URL", "of somebody else")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    made = child.environment_of({"D2I_SECRETS_DIR": "its own"})
    assert "D2I_DATABASE_URL" not in made
    assert (made["HTTPS_PROXY"], made["D2I_SECRETS_DIR"]) == ("kept", "its own")


def end_of(code: str, tmp_path: Path, *, env_file: str | None = None) -> tuple[child.Ended, list]:
    said: list[str] = []
    command = child.with_variables([sys.executable, "-c", code], env_file)
    ended = child.run_to_its_end(command, str(tmp_path), child.environment_of({}), said.append)
    return ended, said


@posix
def test_exit_code_summary_and_words_come_back(tmp_path: Path) -> None:
    variables = tmp_path / "the authority's.env"
    variables.write_text("D2I_WORD='two words'\n")
    code = (
        "import os, sys; print('{\"exit_code\": 20}'); print(os.environ['D2I_WORD'], "
        "file=sys.stderr); sys.exit(20)"
    )
    ended, said = end_of(code, tmp_path, env_file=str(variables))
    assert (ended, said) == (child.Ended(20, {"exit_code": 20}), ["two words"])
    killed, _ = end_of("import os; os.kill(os.getpid(), 9)", tmp_path)
    assert killed == child.Ended(-9, None)


LEASHED = """
import sys, time
from d2i_helpers.runs import stopping
with stopping.stoppable() as switch:
    print("ready", flush=True)
    stopping.end_with(0, seconds=float(sys.argv[1]))
    try:
        with switch.ready():
            time.sleep(60)
    except stopping.Stopped:
        open("closed", "w")
        time.sleep(float(sys.argv[2]))
        sys.exit(130)
"""


@posix
@pytest.mark.parametrize(("limit", "closing"), [("30", "0"), ("0.2", "30")])
def test_a_run_ends_with_its_input_in_order_or_after_its_time(
    limit: str, closing: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LEASHED, limit, closing]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout and process.stdout.readline() == b"ready\n"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(15) == STOPPED_EXIT
    process.stdout.close()


STARTER = """
import sys
from d2i_helpers.runs import child
with child.terminable():
    child.run_to_its_end([sys.executable, "-c", sys.argv[1], "30", "0"], ".",
                         child.environment_of({}), lambda _: None)
"""
SHOWS_ITS_PID = "import os; open('pid', 'w').write(str(os.getpid()))\n"


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_ends_in_order_with_a_task_that_is_ended(number: int, tmp_path: Path) -> None:
    """Airflow ends all processes of a task's group; the run must still close its record."""
    shows = SHOWS_ITS_PID + LEASHED.replace("time.sleep(60)", "open('up', 'w'); time.sleep(60)")
    task = subprocess.Popen([sys.executable, "-c", STARTER, shows], cwd=tmp_path,
                            stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    wait_for((tmp_path / "up").exists)
    run = int((tmp_path / "pid").read_text())
    os.killpg(task.pid, number)
    assert task.wait(15) != 0
    wait_for(lambda: birth(run) is None)
    assert (tmp_path / "closed").exists()


def wait_for(reached: object) -> None:
    assert callable(reached)
    for _ in range(300):
        if reached():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that within 15 seconds")


@posix
def test_only_the_first_signal_interrupts() -> None:
    with child.terminable():
        with pytest.raises(child.Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # while the run closes its record


def test_a_run_that_is_refused_says_so_as_a_summary_too() -> None:
    told = summary_without_record(SettingsError("There is no profile.", hint="Name one."))
    assert (told["run_id"], told["exit_code"], told["stages"]) == (None, 3, [])
    assert told["error"]["message"] == "There is no profile."
