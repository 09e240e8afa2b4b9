"""Starts a notebook's kernel with the modules that the notebook imports already loaded.

Run as ``python -m d2i_helpers.kernel_main -f CONNECTION_FILE``. The kernel is as fresh as any: its
namespace is empty and nothing has run in it; the imports alone are done before it is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

MODULES_VARIABLE = "D2I_KERNEL_MODULES"


def load_modules(names: str) -> None:
    """Import the comma-separated modules; what cannot be imported is left for the notebook to say.

    Args:
        names: modules of this package only.
    """
    for name in filter(None, names.split(",")):
        try:
            importlib.import_module(name)
        except Exception:  # the notebook's own import meets it again and shows it
            return


def runner_is_gone() -> bool:
    """Whether the process that started this kernel ended while it was loading."""
    parent = os.environ.get("JPY_PARENT_PID")
    return os.name != "nt" and parent is not None and os.getppid() != int(parent)


def main() -> None:
    """Load, then be a kernel until the runner ends it."""
    if sys.path and sys.path[0] == str(Path.cwd()):
        sys.path[0] = ""  # as in every kernel: the working directory, wherever it moves
    load_modules(os.environ.pop(MODULES_VARIABLE, ""))
    if runner_is_gone():
        return
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    main()
