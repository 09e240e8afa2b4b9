"""Whether a person sits at this notebook: only then may values of a child be shown.

JupyterLab and VS Code set variables for their kernels, but whatever is started from there inherits
them, papermill in a cell or a terminal too. So the program that started this kernel is asked for as
well: it must be one of those, and none that runs notebooks without a person.
"""

from __future__ import annotations

import os
import re

_VARIABLES = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD")
_KERNEL = re.compile(r"ipykernel")  # on Windows the kernel's own launcher stands in between
_WITH_A_PERSON = re.compile(r"(?i)jupyter|vscode|\bcode\b|extensionhost")
_WITHOUT = re.compile(r"(?i)papermill|nbconvert|nbclient|execute|airflow|d2i_helpers")
_MOST_STEPS = 3


def is_attended() -> bool:
    """True only where a person's program started this kernel; False whenever that is not sure."""
    if not any(os.environ.get(name) for name in _VARIABLES):
        return False
    command = _started_by()
    return bool(_WITH_A_PERSON.search(command)) and not _WITHOUT.search(command)


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
