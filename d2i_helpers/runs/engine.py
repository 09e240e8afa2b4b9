"""The papermill engine ``d2i``: `papermill --engine d2i …`, and what the runner uses.

papermill loads this module while it is itself being imported (entry point ``papermill.engine``),
so nothing of papermill is imported here until a notebook runs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INJECTED = "injected-parameters"  # papermill's tag of the cell that it adds
NOT_SAVED = "[not saved]"
# papermill reads notebooks from these stores as well, and loads their packages where they are
# installed; a run's notebooks are files
_STORES = ("azure", "boto3", "gcsfs", "github")


class RecordEngine:
    """One fresh, private kernel per notebook; see `kernel.run_notebook` for what it promises."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str | None,
        output_path: str | None = None,
        *,
        record_path: str | None = None,
        input_path: str | None = None,
        time_limit: float | None = None,
        execution_timeout: float | None = None,
        start_timeout: float = 60,
        kernel: Any = None,
        on_display: Any = None,
        stop_reason: Any = None,
        clean: Any = None,
        **_papermills_own: Any,
    ) -> Any:
        """What papermill calls.

        Args:
            kernel_name: ignored; the kernel is always this Python.
            record_path: where the executed copy goes when papermill itself is to write nothing
                (papermill writes in place, readable by everybody).
            input_path: shown in the executed copy.
            time_limit: seconds for the whole notebook; ``execution_timeout`` is papermill's word.
            kernel: a `kernel_pool.Kernel` that was started ahead.
        """
        from d2i_helpers.runs.kernel import run_notebook

        _check_parameters(nb, Path(input_path).name if input_path else "The notebook")
        sources = _keep_private(nb)
        path = record_path or output_path
        about = nb.metadata.papermill
        about["input_path"] = Path(input_path).name if input_path else None
        about["output_path"] = Path(path).name if path else None
        about["engine"] = "d2i"
        return run_notebook(
            nb,
            path,
            time_limit=time_limit or execution_timeout,
            start_timeout=start_timeout,
            kernel=kernel,
            on_display=on_display,
            stop_reason=stop_reason,
            clean=clean,
            sources=sources,
        )

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """Notebooks need not name a kernel."""
        return name or "python3"

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """Only Python."""
        return language or "python"


def _check_parameters(nb: Any, name: str) -> None:
    """Refuse parameters that must not be used, before the notebook with them is saved.

    Refused are names that neither the notebook nor this project declares (papermill only logs them,
    and a typo would run the day with the default), and addresses that hold a password.

    Raises:
        SettingsError: names each refused parameter.
    """
    parameters = nb.metadata.papermill.get("parameters") or {}
    if not parameters:
        return
    from d2i_helpers.errors import SettingsError
    from d2i_helpers.runs.plan import declared_in
    from d2i_helpers.settings import Settings, check_addresses

    overrides = parameters.get("overrides")
    check_addresses(parameters)
    check_addresses(overrides if isinstance(overrides, Mapping) else {})
    unknown = sorted(set(parameters) - declared_in(nb.cells, name) - set(Settings.model_fields))
    if unknown:
        raise SettingsError(
            f"{name} has no place for the parameter {', '.join(unknown)}.",
            hint="Its parameters cell names its own; docs/parameters.md lists all others.",
        )


def _keep_private(nb: Any) -> dict[int, str]:
    """Remove from the notebook the values of parameters that no copy may hold.

    papermill writes all parameters into a cell and into the metadata.

    Returns:
        By the number of a cell, the source to execute in its place.
    """
    from papermill.translators import translate_parameters

    given = dict(nb.metadata.papermill.get("parameters") or {})
    masked = _masked(given)
    tags = [cell.get("metadata", {}).get("tags", ()) for cell in nb.cells]
    place = next((n for n, names in enumerate(tags) if INJECTED in names), None)
    if masked == given or place is None:
        return {}
    cell = nb.cells[place]
    sources = {place: cell.source}
    cell.source = translate_parameters("python3", "python", masked, "Parameters")
    nb.metadata.papermill["parameters"] = masked
    return sources


def _masked(given: Mapping[str, Any]) -> dict[str, Any]:
    from d2i_helpers.runs.plan import NEVER_SAVED

    private = {*NEVER_SAVED, "person_id"}  # person_id is a parameter of explore_payloads
    masked: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            masked[name] = _masked(value)
        elif value is not None and (
            name in private or (isinstance(value, str) and any(word in value for word in private))
        ):
            masked[name] = NOT_SAVED  # not None: that would mean all children
        else:
            masked[name] = value
    return masked


def load() -> None:
    """Import what runs a notebook, without the packages of stores that no run reads from."""
    hidden = {name: None for name in _STORES if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type] # None: not to be found
    try:
        importlib.import_module("d2i_helpers.runs.kernel")
    finally:
        for name in hidden:
            del sys.modules[name]


def execute(notebook: Path, record_path: Path, parameters: dict[str, Any], **options: Any) -> None:
    """Run one notebook through papermill on this engine; keep the executed copy in any case.

    Args:
        parameters: for its `parameters` cell.
        options: as for `kernel.run_notebook`, without ``path``.

    Raises:
        PapermillExecutionError: a cell raised an error.
        D2IError: as for `kernel.run_notebook`.
    """
    import papermill
    from papermill.engines import papermill_engines

    papermill_engines.register("d2i", RecordEngine)  # also where the project is not installed
    papermill.execute_notebook(
        str(notebook),
        None,
        parameters=parameters,
        engine_name="d2i",
        kernel_name="python3",
        language="python",
        progress_bar=False,
        record_path=str(record_path),
        **options,
    )
