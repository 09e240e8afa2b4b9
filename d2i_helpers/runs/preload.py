"""An IPython extension that imports what a notebook will import, while its kernel starts.

The kernel is as fresh as any: its namespace is empty and no cell has run in it; the modules are
loaded before the notebook asks for them, that is all.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

MODULES_VARIABLE = "D2I_KERNEL_MODULES"


def load_ipython_extension(_shell: Any) -> None:
    """Import the modules that the runner named (modules of this package only)."""
    for name in filter(None, os.environ.pop(MODULES_VARIABLE, "").split(",")):
        try:
            importlib.import_module(name)
        except Exception:  # the notebook's own import meets it again and shows it
            return
