"""How JupyterLab reads and saves the workbook's notebooks: opening one does not change it.

JupyterLab writes the name of the kernel and the version of Python into a notebook's metadata as
soon as it is open, marks the notebook as changed, and saves them. So a notebook gets them when it
is read, and loses them when it is saved: a saved notebook differs where somebody changed it.

This is an extension of Jupyter's server. An installation puts `jupyter_server_config.json` where
Jupyter looks for the extensions of its environment. Notebooks in other folders than that of a
workbook are read and saved as ever.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ipykernel.ipkernel import IPythonKernel

from d2i_helpers.settings import is_workbook

# as the notebooks have it in the repository
SAVED: dict[str, Any] = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Where Jupyter finds the extension."""
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Let the server read and save notebooks so. There is a hook for saving, and none for reading.

    Args:
        server: Jupyter's `ServerApp`.
    """
    files, kernels = server.contents_manager, server.kernel_spec_manager
    files.register_pre_save_hook(as_saved)
    read = files.get

    async def get(path: str, *args: Any, **options: Any) -> Any:
        model = read(path, *args, **options)
        model = await model if inspect.isawaitable(model) else model
        metadata = _metadata_of(files, model, path)
        if metadata is not None:
            shown = kernels.get_kernel_spec(SAVED["kernelspec"]["name"]).display_name
            metadata["kernelspec"] = {**SAVED["kernelspec"], "display_name": shown}
            metadata["language_info"] = dict(IPythonKernel.language_info)
        return model

    files.get = get


def as_saved(*, model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Take out of a notebook what JupyterLab wrote into it; called before it is saved."""
    metadata = _metadata_of(contents_manager, model, path)
    if metadata is not None:
        metadata.update({name: dict(held) for name, held in SAVED.items()})


def _metadata_of(files: Any, model: Any, path: str) -> dict[str, Any] | None:
    """The metadata of a workbook's notebook for Python 3; None of anything else."""
    content = model.get("content") if model.get("type") == "notebook" else None
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict):
        return None
    folder = Path(files.root_dir, path.strip("/")).parent
    kernel = metadata.get("kernelspec")
    is_python = isinstance(kernel, dict) and kernel.get("name") == SAVED["kernelspec"]["name"]
    is_ours = folder.name == "notebooks" and is_workbook(folder.parent)
    return metadata if is_python and is_ours else None
