"""What the runner costs: a run of all stages against bare papermill on the same notebooks.

    python benchmarks/runner_overhead.py [rounds]

The runner also locks, redacts, hashes, writes pages and keeps the ledger. On Linux it forks its
kernels from one warm process; a third column has kernels started afresh, as on other systems.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable

import papermill

from d2i_helpers.demo import simulate
from d2i_helpers.runs import kernel_forks
from d2i_helpers.runs.day import run_day
from d2i_helpers.settings import load_settings, project_root
from d2i_helpers.stages import STAGES


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds of one call, and CPU seconds with its child processes."""
    began, used = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - began, sum(os.times()[:4]) - used


def main(rounds: int) -> None:
    """Print the least of each over all rounds: another program on the machine only adds."""
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

        def afresh() -> None:
            kernel_forks.CAN_FORK = False
            run_day(given)
            kernel_forks.CAN_FORK = can_fork

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

        can_fork = kernel_forks.CAN_FORK
        ways = {"bare papermill": bare, "runner, kernels afresh": afresh}
        if can_fork:
            ways["runner, kernels forked"] = lambda: run_day(given)
        took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, work in ways.items():
                took[way].append(seconds(work))
    for way, rows in took.items():
        wall, cpu = (min(column) for column in zip(*rows, strict=True))
        print(f"{way}: {wall:.1f} s, {cpu:.1f} s of CPU ({len(names)} notebooks, quiet day)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
