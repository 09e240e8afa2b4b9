"""An IPython extension: guards the kernel, and imports what its notebook will import.

The kernel is as fresh as any: its namespace is empty and no cell has run in it; the modules are
loaded before the notebook asks for them, that is all.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from d2i_helpers.runs import kernel_guard

MODULES_VARIABLE = "D2I_KERNEL_MODULES"


def load_ipython_extension(shell: Any) -> None:
    """Guard the kernel; import the modules that the runner named (of this package only)."""
    kernel_guard.install(shell)
    for name in filter(None, os.environ.pop(MODULES_VARIABLE, "").split(",")):
        try:
            importlib.import_module(name)
        except Exception:  # the notebook's own import meets it again and shows it
            return
