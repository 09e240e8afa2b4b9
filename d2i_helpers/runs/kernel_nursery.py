"""The nursery: one warm process, from which the kernels of a run are forked.

Started as `python -m d2i_helpers.runs.kernel_nursery SOCKET MODULES`. It imports what a kernel
and the run's notebooks need, once, and then serves the runner over one private pair of sockets. It
never runs a notebook's code, so each fork is as fresh as a process of its own: its namespace is
empty and no cell has run.

A fork copies only the thread that forks. A second thread could hold a lock that the copy would
never get, so the nursery refuses to fork if there is one. The runner then starts kernels afresh.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from d2i_helpers import garbage

PARENT_VARIABLE = "JPY_PARENT_PID"  # ipykernel ends its process when this parent is gone

MOST_BYTES = 1 << 20  # of one message; the system's own limit is lower


def main() -> None:
    """Serve the runner until it is gone; in a forked process: be the kernel."""
    control = socket.socket(fileno=int(sys.argv[1]))
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # ipykernel reads it while it is imported
    from d2i_helpers.runs import kernel_startup

    for name in filter(None, sys.argv[2].split(",")):
        with contextlib.suppress(Exception):  # the notebook's own import raises it again
            importlib.import_module(name)
    garbage.leave_out_for_good()
    asked = serve(control)
    control.close()
    if asked is not None:
        become_kernel(asked)
        kernel_startup.main()


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Answer the runner's requests.

    Returns:
        In a forked process: the request for this kernel. In the nursery: None, when the runner
        is gone; its kernels are ended then.
    """
    codes: dict[int, int | None] = {}  # exit codes by kernel, None while it runs
    while True:
        try:
            message = control.recv(MOST_BYTES)
        except OSError:
            message = b""
        if not message:
            end_kernels(pid for pid, code in codes.items() if code is None)
            return None
        asked = json.loads(message)
        if asked["ask"] == "start":
            if threads_here() > 1:
                answer: dict[str, Any] = {"pid": None}
            elif pid := os.fork():
                codes[pid] = None
                answer = {"pid": pid}
            else:
                return asked
        else:
            pid = asked["pid"]
            if codes[pid] is None:
                codes[pid] = exit_code(pid)
            if asked["ask"] == "signal" and codes[pid] is None:
                os.kill(pid, asked["signal"])  # not yet reaped, so the number is still its own
            answer = {"code": codes[pid]}
        with contextlib.suppress(OSError):  # the runner is gone: the next read says so
            control.send(json.dumps({**answer, "number": asked["number"]}).encode())


def threads_here() -> int:
    """Number of threads of this process, those of C libraries too where the system tells them."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


def exit_code(pid: int) -> int | None:
    """Exit code of a child process, which is reaped then; None: it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def end_kernels(pids: Iterable[int]) -> None:
    """Kill these kernels and whatever they started in their own sessions."""
    for pid in pids:
        for kill in (os.killpg, os.kill):  # a fork of a moment ago may not lead a group yet
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def become_kernel(asked: dict[str, Any]) -> None:
    """Take on the session, outputs, variables, folder and randomness of a new kernel process."""
    os.setsid()  # as jupyter_client starts kernels: an interrupt goes to the whole group
    said = os.open(asked["said"], os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.close(said)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.environ[PARENT_VARIABLE] = str(os.getppid())
    os.chdir(asked["folder"])
    sys.argv[1:] = asked["arguments"]
    # `random` seeds itself anew in a fork, and OpenSSL too; numpy's old generator does not
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


if __name__ == "__main__":
    main()
