"""What a run will do, checked before anything runs: stages, notebooks and their parameters."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2i_helpers import stages
from d2i_helpers.errors import SettingsError
from d2i_helpers.kernel_protocol import (
    HOLDER_VARIABLE,
    LOG_LEVEL_VARIABLE,
    PERSON_IDS_VARIABLE,
    RUN_ID_VARIABLE,
    WITHOUT_KEYRING_VARIABLE,
)
from d2i_helpers.privacy.safe_words import saved_setting
from d2i_helpers.settings import Settings, has_keyring
from d2i_helpers.staging.lease import this_holder

# ids of children, and an address whose path is a key: saved in no notebook and no record
NEVER_SAVED = ("person_ids", "webhook_url")


@dataclass(frozen=True)
class Step:
    """One stage with its notebook and the notebook's parameters."""

    stage: str
    notebook: Path
    parameters: Mapping[str, Any]


def stages_in_order(wanted: Sequence[str] | None) -> list[str]:
    """The stages to run, in the order of the day: those wanted, or all with preflight first.

    Raises:
        SettingsError: there is no such stage.
    """
    known = stages.names()
    if wanted is None:
        return known
    chosen = [name.strip().lower() for name in wanted if name.strip()]
    unknown = [name for name in chosen if name not in known]
    hint = f"Stages: {', '.join(known)}."
    if unknown:
        raise SettingsError(f"There is no stage `{unknown[0]}`.", hint=hint)
    if not chosen:
        raise SettingsError("No stage is named.", hint=hint)
    return [name for name in known if name in chosen]


def make_plan(
    to_run: Sequence[str], folder: Path, given: Mapping[str, Any], settings: Settings, run_id: str
) -> list[Step]:
    """Each stage with its notebook and parameters.

    A notebook gets `profile`, `run_id`, and of the given parameters those that its `parameters`
    cell declares by name; the others go into its `overrides`.

    Raises:
        SettingsError: a notebook is missing, or has no place for a parameter.
    """
    return [
        _step(
            name, folder / stages.stage_named(name).notebook, {**given, "run_id": run_id}, settings
        )
        for name in to_run
    ]


def _step(stage: str, notebook: Path, given: Mapping[str, Any], settings: Settings) -> Step:
    declared = declared_parameters(notebook)
    needed = {"profile", "overrides"} - declared
    if needed:
        raise SettingsError(
            f"{notebook.name}: its parameters cell does not declare {' and '.join(sorted(needed))}."
        )
    given = {k: v for k, v in given.items() if k not in NEVER_SAVED and v is not None}
    own = {name: value for name, value in given.items() if name in declared}
    others = {name: value for name, value in given.items() if name not in declared}
    return Step(stage, notebook, {"profile": settings.profile, **own, "overrides": others})


def declared_parameters(notebook: Path) -> set[str]:
    """Names in the notebook's one cell with the tag ``parameters``.

    Raises:
        SettingsError: the file is missing, is no notebook, or has not exactly one such cell.
    """
    try:
        cells = json.loads(notebook.read_bytes())["cells"]
    except FileNotFoundError:
        raise SettingsError(
            f"There is no notebook {notebook.name} in {notebook.parent}.",
            hint="Start d2i in the project's folder, which holds notebooks/ and params/.",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{notebook.name} is not a notebook.") from None
    return declared_in(cells, notebook.name)


def declared_in(cells: Sequence[Mapping[str, Any]], name: str) -> set[str]:
    """Names that the one cell with the tag ``parameters`` declares.

    Args:
        name: of the notebook, for the message.

    Raises:
        SettingsError: there is not exactly one such cell, or it is not Python.
    """
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise SettingsError(
            f"{name} has {len(tagged)} cells with the tag `parameters`, and needs one."
        )
    try:
        tree = ast.parse("".join(tagged[0]["source"]))
    except SyntaxError:
        raise SettingsError(f"{name}: its parameters cell is not valid Python.") from None
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def worked_tables(to_run: Sequence[str], settings: Settings) -> list[str]:
    """Staging tables on which no other run may work during these stages."""
    locks = {name for stage in stages.stages_named(to_run) for name in stage.locks}
    return sorted({getattr(settings, name) for name in locks})


def kernel_environment(settings: Settings, run_id: str) -> dict[str, str]:
    """Variables for the kernels: who runs them, and what may not be saved as a parameter."""
    variables = {
        RUN_ID_VARIABLE: run_id,
        HOLDER_VARIABLE: this_holder(),
        LOG_LEVEL_VARIABLE: settings.log_level,
    }
    if not has_keyring():
        variables[WITHOUT_KEYRING_VARIABLE] = "yes"
    if settings.person_ids:
        variables[PERSON_IDS_VARIABLE] = json.dumps(settings.person_ids)
    return variables


def saved_parameters(settings: Settings) -> dict[str, Any]:
    """Every parameter in force, as the run record keeps it."""
    return {
        name: saved_setting(name, getattr(settings, name))
        for name in type(settings).model_fields
        if name != "run_id"
    }


def default_parameters() -> dict[str, Any]:
    """What every parameter is where nobody gives it, as a run record would keep it."""
    return {
        name: saved_setting(name, field.default)
        for name, field in Settings.model_fields.items()
        if name != "run_id"
    }
