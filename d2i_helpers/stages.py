"""The stages of a day, in one table and in their order.

Runner, command line, displays and word list take the stages from this table. To add a stage, add
one entry here and its notebook.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage: its name, its notebook, its function and what it locks."""

    name: str  # one word, the same in notebook, code, tests and docs
    notebook: str  # file in notebooks/
    function: str  # `module:name` of the function that the notebook calls
    locks: tuple[str, ...] = ()  # settings that name the staging tables it locks
    changes_cohort: bool = False  # other children may be in the cohort afterwards
    sends: bool = False  # it talks to the receiver

    def load(self) -> Callable[..., Any]:
        """The stage's function, imported only now, because it depends on this table."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)


STAGES: tuple[Stage, ...] = (
    Stage("preflight", "00_preflight.ipynb", "d2i_helpers.preflight.stage:run"),
    Stage(
        "extract",
        "01_extract.ipynb",
        "d2i_helpers.extract.stage:run",
        locks=("staging_table",),
        changes_cohort=True,
    ),
    Stage(
        "anonymise",
        "02_anonymise.ipynb",
        "d2i_helpers.anonymise.stage:run",
        locks=("staging_table", "anon_table"),
    ),
    Stage("delta", "03_delta.ipynb", "d2i_helpers.delta.stage:run", locks=("send_table",)),
    Stage(
        "submit",
        "04_submit.ipynb",
        "d2i_helpers.submit.stage:run",
        locks=("send_table",),
        sends=True,
    ),
)


def names() -> list[str]:
    """The names of all stages, in the order of the day."""
    return [stage.name for stage in STAGES]


def stage_named(name: str) -> Stage:
    """The stage with this name.

    Raises:
        KeyError: there is none.
    """
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise KeyError(name)


def stages_named(wanted: Iterable[str]) -> list[Stage]:
    """The stages with these names, in the order of the day; unknown names are left out."""
    chosen = set(wanted)
    return [stage for stage in STAGES if stage.name in chosen]


def stages_again(wanted: Sequence[str]) -> list[str]:
    """The stages of a further try: submit comes with delta.

    A message that is on its way when submit fails has an unknown outcome, and only delta makes
    messages that are right for every document that the receiver may hold.
    """
    alone = "submit" in wanted and "delta" not in wanted
    return ["delta", *wanted] if alone else list(wanted)
