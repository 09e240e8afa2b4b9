"""The runner's side of the nursery: starts it, has kernels forked, and asks after them.

See `kernel_nursery` for the process itself. jupyter_client's own provisioner does the rest, with a
`ForkedKernel` where it would have a `subprocess.Popen`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.provisioning import LocalProvisioner

CAN_FORK = sys.platform == "linux"  # macOS forks, but its own libraries may crash in the copy
MOST_BYTES = 65536  # of one answer
ANSWER_SECONDS = 60.0  # in which the nursery should answer; it imports for a second or two first
# what numpy computes with starts its threads when it is loaded, and the nursery must have none
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
START_MODULE = "d2i_helpers.runs.kernel_startup"
NURSERY_MODULE = "d2i_helpers.runs.kernel_nursery"


class NurseryGone(Exception):
    """There is no nursery any more, or it cannot fork."""


class Nursery:
    """The warm process that kernels are forked from.

    It ends with this process, however that ends, and takes its kernels along.

    Args:
        folder: working directory of the kernels.
        environment: all variables, as the kernels will have them.
        modules: what it imports beside what every kernel needs.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], modules: Iterable[str]
    ) -> None:
        self._lock = threading.Lock()  # jupyter_client may ask from another thread
        # a message is sent and received whole or not at all, whenever a Ctrl-C comes
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(ANSWER_SECONDS)
        self._number = 0  # of the latest request
        command = make_ipkernel_cmd(NURSERY_MODULE)
        command = command[: command.index(NURSERY_MODULE) + 1]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), ",".join(modules)],
                cwd=folder,
                env={**environment, **ONE_THREAD},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C at the terminal is for the runner
            )

    def start(
        self, arguments: list[str], environment: Mapping[str, str], folder: str, said: str
    ) -> ForkedKernel:
        """Fork a kernel.

        Args:
            arguments: of the kernel's command line.
            environment: all its variables.
            folder: its working directory.
            said: file for what it writes to its own stdout and stderr.

        Raises:
            NurseryGone: it cannot be forked; start it afresh.
        """
        about = {"arguments": arguments, "environment": dict(environment)}
        pid = self.ask("start", **about, folder=folder, said=said)["pid"]
        if pid is None:
            raise NurseryGone
        return ForkedKernel(pid, self)

    def ask(self, what: str, **about: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            NurseryGone: none came.
        """
        with self._lock:
            self._number += 1
            message = json.dumps({"ask": what, "number": self._number, **about}).encode()
            with contextlib.suppress(OSError):  # a time-out too
                self._ours.send(message)
                while said := self._ours.recv(MOST_BYTES):
                    answer = json.loads(said)
                    # an earlier one is for a request during which the run was stopped
                    if answer["number"] == self._number:
                        return answer
            self._end()
            raise NurseryGone

    def close(self) -> None:
        """End it, and the kernels that are left of it."""
        with self._lock:
            self._ours.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(ANSWER_SECONDS)
            self._end()

    def _end(self) -> None:
        self._ours.close()
        self.process.kill()
        self.process.wait()


class ForkedKernel:
    """A kernel process as jupyter_client wants it: what it uses of `subprocess.Popen`.

    It is a child of the nursery, which alone can tell its exit code.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid, self._nursery = pid, nursery
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._ask("poll")

    def wait(self) -> int | None:
        """Its exit code. jupyter_client calls this only when it has ended."""
        return self._ask("poll")

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone."""
        self._ask("signal", signal=number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _ask(self, what: str, **about: Any) -> int | None:
        if self.returncode is None:
            try:
                self.returncode = self._nursery.ask(what, pid=self.pid, **about)["code"]
            except NurseryGone:  # kernels end within a second of their parent
                self.returncode = -signal.SIGKILL
        return self.returncode


class ForkProvisioner(LocalProvisioner):
    """Has the kernel forked from the nursery; starts it afresh where that cannot be."""

    nursery: Nursery
    process: Any
    pid: Any
    pgid: Any

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel with the options of this command line."""
        arguments = cmd[cmd.index(START_MODULE) + 1 :]
        folder, said = str(kwargs["cwd"]), kwargs["stdout"].name
        try:
            self.process = self.nursery.start(arguments, kwargs["env"], folder, os.fspath(said))
        except NurseryGone:
            return await super().launch_kernel(cmd, **kwargs)
        # it becomes the leader of its group in a moment; until then a signal goes to it alone
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs["cwd"]
        return self.connection_info
