"""What the runner costs: a run of the four stages against bare papermill on the same notebooks.

    python benchmarks/runner_overhead.py [rounds]

The runner also locks, redacts, hashes, writes pages and keeps the ledger; it starts kernels ahead.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import papermill

from d2i_helpers.demo import simulate
from d2i_helpers.runs.day import run_day
from d2i_helpers.settings import load_settings, project_root
from d2i_helpers.stages import STAGES


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(rounds: int) -> None:
    """Print the median of both, and their ratio."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        given = {
            "database_url": f"sqlite:///{folder}/ssd.sqlite",
            "receiver_store": f"{folder}/receiver.sqlite",
            "outputs_dir": f"{folder}/outputs",
        }
        simulate.init(load_settings(**given), children=200)
        names = [stage.notebook for stage in STAGES]
        run_day(given)  # the first day sends everything; then there is nothing to do

        def bare() -> None:
            for name in names:
                papermill.execute_notebook(
                    str(project_root() / "notebooks" / name),
                    f"{folder}/{name}",
                    {"overrides": given},
                    progress_bar=False,
                    kernel_name="python3",
                    cwd=str(project_root()),
                )

        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(seconds(lambda: run_day(given)))
            theirs.append(seconds(bare))
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{len(names)} notebooks: runner {a:.1f} s, bare papermill {b:.1f} s, ratio {a / b:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
