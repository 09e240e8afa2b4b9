"""The stages of a day, in one table and in their order.

What runs a stage, offers it, shows it or lets its name through asks this table. A stage is added by
one entry here and its notebook.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage: its word, its notebook and what its function works on."""

    name: str  # one word, which the notebook, the code, the tests and the page of docs/ bear
    notebook: str  # file in notebooks/
    function: str  # `module:name` of what the notebook calls
    locks: tuple[str, ...] = ()  # settings that name the staging tables it needs for itself alone
    changes_cohort: bool = False  # afterwards other children may be in
    sends: bool = False  # it talks to the receiver

    def load(self) -> Callable[..., Any]:
        """The stage's function. It is imported here, since a stage knows more than this table."""
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
    """The words of all stages, in the order of the day."""
    return [stage.name for stage in STAGES]


def stage_named(name: str) -> Stage:
    """The stage with this word.

    Raises:
        KeyError: there is none.
    """
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise KeyError(name)


def stages_named(wanted: Iterable[str]) -> list[Stage]:
    """The stages with these words, in the order of the day; words that name none are left out."""
    chosen = set(wanted)
    return [stage for stage in STAGES if stage.name in chosen]
