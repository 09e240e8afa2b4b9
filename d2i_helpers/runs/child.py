"""A run as a child process of a program that schedules runs: its command, its end, its summary.

It imports the standard library alone, so that a scheduler's own Python can use it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

END_SECONDS = 90.0  # in which a run that was told to stop closes its record, before it is killed
_WITH_A_FILE = 'set -a; . "$0"; set +a; exec "$@"'  # the shell reads the file, and becomes the run
_PREFIX = "D2I_"


class Terminated(Exception):
    """This process was told to end (SIGTERM) while its run was going on."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    exit_code: int  # negative: the number of the signal that ended it
    summary: dict[str, Any] | None  # of `--summary json`; None where it could not say any


def written(value: Any) -> str:
    """A value as it is given on a command line (YAML)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return json.dumps(list(value))
    return str(value)


def run_command(
    python: str,
    profile: str,
    parameters: Mapping[str, Any],
    *,
    stages: str | None = None,
    leashed: bool = False,
    tries: int = 1,
) -> list[str]:
    """The command of a run that says its summary on standard output.

    Args:
        python: the Python that this package is installed in.
        parameters: of the run; those that are None are left out.
        stages: as for `--stages`; None: the whole day.
        leashed: whether the run ends with its standard input.
        tries: how often it begins at most, where another try may help.
    """
    command = [python, "-m", "d2i_helpers", "run", "--summary", "json"]
    if leashed:
        command.append("--end-with-stdin")
    command += ["--params", profile]
    if stages:
        command += ["--stages", stages]
    if tries > 1:
        command += ["--tries", str(tries)]
    for name, value in parameters.items():
        if name != "profile" and value is not None:
            command += ["-p", f"{name}={written(value)}"]
    return command


def with_variables(command: Sequence[str], env_file: str | None) -> list[str]:
    """The command under the variables of a file of NAME=value lines, which a shell reads."""
    return ["/bin/sh", "-c", _WITH_A_FILE, env_file, *command] if env_file else list(command)


def environment_of(own: Mapping[str, str]) -> dict[str, str]:
    """Variables for a run: those of this process but for `D2I_…`, and its own.

    What is set for the scheduler would count for every authority, such as the address of a
    database.
    """
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(_PREFIX)}
    return {**kept, **own}


def run_to_its_end(
    command: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    *,
    end_seconds: float = END_SECONDS,
    started: Callable[[Callable[[], None]], None] = lambda _: None,
) -> Ended:
    """Start a run and wait for its end. It never outlives this process.

    It has a session of its own, so that a signal to all processes of this one does not kill it
    while it closes its record. Its standard input is the leash: where this process is killed, that
    ends, and the run stops in order.

    Args:
        say: is called with each line that the run says, from a thread.
        end_seconds: in which the run has to end when this function is left by an exception.
        started: is called once with what tells the run to stop, from any thread.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    lines: list[str] = []
    assert process.stdin and process.stdout and process.stderr
    readers = [_reading(process.stdout, lines.append), _reading(process.stderr, say)]
    leash = process.stdin

    def let_go() -> None:
        with contextlib.suppress(OSError):
            leash.close()

    try:
        started(let_go)
        process.wait()
    finally:
        let_go()
        try:
            process.wait(end_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for reader in readers:
            reader.join(5)  # a kernel that outlived the run by a second may hold a pipe
    return Ended(process.returncode, _summary(lines))


def _reading(stream: IO[str], take: Callable[[str], None]) -> threading.Thread:
    def read() -> None:
        with stream:
            for line in stream:
                take(line.rstrip("\n"))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _summary(lines: Sequence[str]) -> dict[str, Any] | None:
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """In the block, the first SIGTERM raises `Terminated`, and further ones do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_term(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated("The task was told to end (SIGTERM).")

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
