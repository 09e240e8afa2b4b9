"""The demo's notebooks run in a fresh checkout: their data is made where there is none yet."""

from __future__ import annotations

import os

from d2i_helpers.kernel_protocol import RUN_ID_VARIABLE
from d2i_helpers.settings import Settings


def make_first_data(settings: Settings) -> None:
    """Make the demo's fictional SSD where there is none yet, and say so; for a notebook's set-up.

    In a run it does nothing: `d2i run` has done it before the first notebook.
    """
    if os.environ.get(RUN_ID_VARIABLE):
        return
    from d2i_helpers.demo import simulate

    simulate.make_first_data(settings, print)
