"""Kernels that only this user can reach, started ahead of the notebooks that they will run.

A kernel needs a second or two to start and to import what its notebook imports. On Linux one warm
process does that for a whole run, and the kernels are forked from it (`kernel_nursery`). Elsewhere
the next kernels start on the machine's other cores while one notebook works. Each still runs one
notebook only.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from d2i_helpers.database.plain_message import without_values
from d2i_helpers.errors import RecordError
from d2i_helpers.files import file_lock
from d2i_helpers.kernel_protocol import MODULES_VARIABLE
from d2i_helpers.runs import kernel_forks

PACKAGE = "d2i_helpers"
FOLDER_PREFIX = "d2i-kernel-"
IN_USE_FILE = "in-use"  # locked by the runner as long as it lives
LONGEST_SOCKET_PATH = 80  # macOS allows 104 bytes, and the kernel adds some
END_SECONDS = 1.0  # in which a kernel that was asked to end should end; most need a third
SAID_FILE = "said.txt"  # what the process writes to its own stdout and stderr
LAST_LINES = 30  # kept of that file if the kernel died
AHEAD = 2  # kernels that are started ahead while one works: as many as two cores can start


class _ThisPython(KernelSpecManager):
    """Runs a notebook on the runner's own Python, whatever kernels this user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=make_ipkernel_cmd(kernel_forks.START_MODULE),
            display_name="Python",
            language="python",
            metadata={"supported_encryption": ["curve"]},
        )


@dataclass
class Kernel:
    """A kernel process that is starting or waits, and the folder of its sockets."""

    manager: AsyncKernelManager
    folder: Path
    # holds a lock that marks the folder as needed while this process lives
    in_use: contextlib.ExitStack

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return bool(run_sync(self.manager.is_alive)())

    def last_words(self) -> str:
        """The end of what the process wrote outside of its notebook, in known words only."""
        try:
            said = (self.folder / SAID_FILE).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(without_values(line) for line in said.splitlines()[-LAST_LINES:])

    def discard(self, *, ask_first: bool = False) -> None:
        """End the process where it still runs, and remove its files.

        Args:
            ask_first: ask it to end by itself. About one kernel in ten hangs then;
                jupyter_client's own shutdown would wait for it for three seconds and more.
        """
        # "no kernel is running", or its sockets are closed already: as wanted. A start that Ctrl-C
        # cut off may settle jupyter_client's `ready` before the shutdown, which is done by then
        with contextlib.suppress(RuntimeError, zmq.ZMQError, asyncio.InvalidStateError):
            if self.manager.has_kernel:
                if ask_first:
                    run_sync(_ask_to_end)(self.manager)
                run_sync(self.manager.shutdown_kernel)(now=True)
        self.in_use.close()
        shutil.rmtree(self.folder, ignore_errors=True)


async def _ask_to_end(manager: AsyncKernelManager) -> None:
    await manager.request_shutdown()
    give_up = time.monotonic() + END_SECONDS
    while time.monotonic() < give_up and await manager.is_alive():
        await asyncio.sleep(0.02)


def start_kernel(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    modules: Sequence[str] = (),
    nursery: kernel_forks.Nursery | None = None,
) -> Kernel:
    """Start a kernel process; this does not wait until it is ready.

    Its sockets are in a folder with mode 0700 where the system has such sockets (``ipc``). Windows
    has not: there the transport is TCP on loopback, signed and, where libzmq can, encrypted.

    Args:
        folder: its working directory.
        environment: variables on top of this process's own.
        modules: modules of this package to import before it is ready.
        nursery: what to fork it from; None: a fresh process.
    """
    private = _private_folder()
    in_use = contextlib.ExitStack()
    in_use.enter_context(file_lock(private / IN_USE_FILE))
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=_ThisPython(),
        connection_file=str(private / "kernel.json"),
    )
    if os.name != "nt":
        manager.transport = "ipc"
        manager.ip = str(private / "socket")
    elif manager.has_trait("transport_encryption") and zmq.has("curve"):
        manager.transport_encryption = "auto"
    kernel = Kernel(manager, private, in_use)
    if nursery is not None:
        provisioner = kernel_forks.ForkProvisioner(kernel_spec=manager.kernel_spec, parent=manager)
        manager.provisioner, provisioner.nursery = provisioner, nursery
    variables = {
        **os.environ,
        "IPYTHONDIR": str(private),  # no start-up files of this user in a record
        MODULES_VARIABLE: ",".join(modules),
        **(environment or {}),
    }
    try:
        options = [
            # no file for the history of what was typed: it would hold what a record must not
            "--HistoryManager.hist_file=:memory:",
            "--IPKernelApp.extra_extensions=d2i_helpers.runs.kernel_startup",
        ]
        with (private / SAID_FILE).open("wb") as said:
            # what the process writes outside of the notebook (ipykernel's log, C libraries) must
            # not reach the run's console: it may quote a row
            run_sync(manager.start_kernel)(
                extra_arguments=options, env=variables, cwd=str(folder), stdout=said, stderr=said
            )
    except BaseException:
        kernel.discard()
        raise
    return kernel


def _private_folder() -> Path:
    """A new folder that only this user can open, with a path that is short enough for sockets."""
    base = Path(tempfile.gettempdir())
    if os.name != "nt" and len(str(base / FOLDER_PREFIX)) + 8 > LONGEST_SOCKET_PATH:
        base = Path("/tmp")
    return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))


def remove_left_folders() -> int:
    """Remove the folders of kernels whose runner was killed before it could do so.

    They hold sockets and the key of a kernel that is gone; no data of a child.

    Returns:
        How many were removed.
    """
    removed = 0
    for base in {Path(tempfile.gettempdir()), Path("/tmp")}:
        for folder in base.glob(f"{FOLDER_PREFIX}*"):
            mark = folder / IN_USE_FILE
            # another user's folder cannot be opened; one without the file is just being made
            with contextlib.suppress(RecordError, OSError):
                if mark.is_file():
                    with file_lock(mark, wait_seconds=0):
                        pass
                    shutil.rmtree(folder)
                    removed += 1
    return removed


class KernelPool:
    """Kernels for some notebooks in order, a few of them started ahead.

    Args:
        notebooks: in the order in which they will be taken.
        folder: working directory of the kernels.
        environment: variables for them.
    """

    def __init__(
        self, notebooks: Sequence[Path], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._notebooks = list(notebooks)
        self._folder, self._environment = folder, environment
        self._waiting: list[Kernel] = []
        self._nursery: kernel_forks.Nursery | None = None
        remove_left_folders()
        if kernel_forks.CAN_FORK and len(notebooks) > 1:
            self._start_nursery()  # and no kernel yet: it would wait until the nursery is warm
        else:
            self._fill(1 + AHEAD)

    def _start_nursery(self) -> None:
        modules = dict.fromkeys(m for path in self._notebooks for m in imported_modules(path))
        with contextlib.suppress(OSError):  # no memory for it: each kernel starts afresh
            self._nursery = kernel_forks.Nursery(
                self._folder, {**os.environ, **self._environment}, modules
            )

    def _fill(self, number: int) -> None:
        while self._notebooks and len(self._waiting) < number:
            modules = imported_modules(self._notebooks.pop(0))
            self._waiting.append(
                start_kernel(self._folder, self._environment, modules, self._nursery)
            )

    def take(self) -> Kernel:
        """The next notebook's kernel; the ones after it are started."""
        self._fill(1)
        kernel = self._waiting.pop(0)
        self._fill(AHEAD)
        return kernel

    def close(self) -> None:
        """End the kernels that nobody took."""
        for kernel in self._waiting:
            kernel.discard()
        self._waiting.clear()
        self._notebooks.clear()
        if self._nursery is not None:
            self._nursery.close()


def imported_modules(notebook: Path) -> list[str]:
    """Modules of this package that the notebook's cells import, in their order."""
    modules: dict[str, None] = {}
    for cell in json.loads(notebook.read_bytes())["cells"]:
        if cell["cell_type"] != "code":
            continue
        try:
            tree = ast.parse("".join(cell["source"]))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if isinstance(node, ast.ImportFrom) and module.split(".")[0] == PACKAGE:
                modules.update((_module_of(module, alias.name), None) for alias in node.names)
    return list(modules)


def _module_of(module: str, name: str) -> str:
    """What ``from module import name`` loads: a module in a package, else the module itself."""
    folder = Path(__file__).parents[1].joinpath(*module.split(".")[1:])
    is_module = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
    return f"{module}.{name}" if is_module else module
