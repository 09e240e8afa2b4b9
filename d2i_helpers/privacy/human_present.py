"""Whether a person sits at this notebook: only then may values of a child be shown.

JupyterLab and VS Code set variables for their kernels, but every program started from there
inherits them, such as papermill in a cell or a terminal. So the program that started this kernel is
checked as well: it must be JupyterLab or VS Code, and not one that runs notebooks without a person.
"""

from __future__ import annotations

import os
import re
import sys

from d2i_helpers.errors import GateError
from d2i_helpers.kernel_protocol import RUN_ID_VARIABLE

_VARIABLES = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD")
_KERNEL = re.compile(r"ipykernel")  # on Windows the kernel has a launcher of its own in between
_WITH_A_PERSON = re.compile(r"(?i)jupyter|vscode|\bcode\b|extensionhost")
_WITHOUT = re.compile(r"(?i)papermill|nbconvert|nbclient|execute|airflow|d2i_helpers")
_MOST_STEPS = 3


def is_human_present() -> bool:
    """True only if a program that a person works in started this kernel; False if in doubt."""
    if not any(os.environ.get(name) for name in _VARIABLES):
        return False
    command = _started_by()
    return bool(_WITH_A_PERSON.search(command)) and not _WITHOUT.search(command)


def is_at_a_terminal() -> bool:
    """True only if a person types the command and reads the answer, and nothing is piped or saved.

    A notebook's cell has a terminal too, whose output is saved. So no notebook, and nothing that
    runs notebooks, may be among the programs above this one.
    """
    if os.environ.get(RUN_ID_VARIABLE):
        return False
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        return False
    commands = _ancestors()
    return commands is not None and not any(
        _KERNEL.search(command) or _WITHOUT.search(command) for command in commands
    )


def require_terminal() -> None:
    """Refuse to show anything that might be saved or read by somebody else.

    Raises:
        GateError: there is no person at a terminal, or the output goes somewhere else.
    """
    if not is_at_a_terminal():
        raise GateError(
            "Whole ids are shown to a person at a terminal only.",
            hint="Type the command in a terminal, without `|` and `>`. The notebooks' lists have "
            "the same with masked ids.",
        )


def _ancestors() -> list[str] | None:
    """The command lines of all parent programs, as far as they may be read."""
    import psutil

    commands = []
    try:
        for process in psutil.Process().parents():
            try:
                commands.append(" ".join(process.cmdline()))
            except (psutil.AccessDenied, psutil.ZombieProcess):
                continue  # such as a process of the system
    except psutil.Error:
        return None
    return commands


def _started_by() -> str:
    """The command line of the program that started this kernel; empty where it cannot be read."""
    import psutil

    try:
        process = psutil.Process().parent()
        for _ in range(_MOST_STEPS):
            if process is None:
                return ""
            command = " ".join(process.cmdline())
            if not _KERNEL.search(command):
                return command
            process = process.parent()
    except psutil.Error:
        return ""
    return ""
