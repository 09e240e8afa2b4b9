"""A run that is tried again where what was in its way may be gone in a while.

For schedulers that start a command once a night. Airflow and a Dask cluster count tries themselves,
by the same table of exit codes (`errors.WHAT_NEXT`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from d2i_helpers.errors import STOPPED_EXIT, D2IError, Next, what_next
from d2i_helpers.runs.records import RunRecord
from d2i_helpers.stages import stages_again

Run = Callable[[Sequence[str] | None], RunRecord]  # runs these stages; None: the whole day


def run_with_tries(
    run: Run,
    stages: Sequence[str] | None,
    *,
    tries: int,
    minutes: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> RunRecord:
    """Run, and again after a while where the exit code says that this may help.

    Each try is a run of its own with a record of its own.

    Args:
        stages: of the first try; the next ones run `stages_again` of them.
        tries: how often it begins at most, from 1.
        minutes: between two tries.
        say: is told before each wait.
        sleep: waits for so many seconds.

    Returns:
        The record of the last try.

    Raises:
        D2IError: as the last try raised it.
    """
    number = 1
    while True:
        exit_code, ended = _attempt(run, stages)
        if number == tries or not may_help(exit_code):
            if isinstance(ended, D2IError):
                raise ended
            return ended
        number += 1
        why = f"{ended} " if isinstance(ended, D2IError) else ""
        say(
            f"{why}Exit code {exit_code}: what was in the way may be gone in a while. Again in "
            f"{minutes:g} minutes, try {number} of {tries}."
        )
        sleep(minutes * 60)
        stages = stages_again(stages) if stages is not None else None


def _attempt(run: Run, stages: Sequence[str] | None) -> tuple[int, RunRecord | D2IError]:
    """One try: its exit code, and its record or why there is none."""
    try:
        record = run(stages)
    except D2IError as error:
        return error.exit_code, error
    return record.exit_code or 0, record


def may_help(exit_code: int) -> bool:
    """Whether another try may end otherwise. Who stopped a run does not want another one."""
    return what_next(exit_code) is Next.AGAIN and exit_code != STOPPED_EXIT
