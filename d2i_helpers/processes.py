"""Which process is meant, on which machine, whether it may still be alive, and what it leaves."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from pathlib import Path
from typing import Any


@functools.cache
def place() -> str:
    """Name of the place where process numbers are unique: this machine, or this container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return ":".join(parts)


def this_process() -> dict[str, Any]:
    """What identifies this process, even after its number was given to another one."""
    return {"place": place(), "pid": os.getpid(), "born": birth(os.getpid())}


def leave_no_core() -> None:
    """See that this process, and what it starts, leaves no image of its memory when it crashes.

    Such a file (``core``, mostly in the working directory) holds rows of children and secrets as
    they stood in memory. Windows has no such limit.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    hardest = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hardest))


def birth(pid: int) -> float | None:
    """When a process was started, in seconds; None if there is none with that number.

    On Linux it is in clock ticks since the machine started, a clock that nobody can set.
    """
    with contextlib.suppress(OSError):
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if told[0] in "ZX" else float(told[19])  # it is dead; only its number is left
    if Path("/proc/self/stat").exists():
        return None
    import psutil

    try:
        return round(psutil.Process(pid).create_time(), 2)
    except psutil.NoSuchProcess:
        return None


def may_be_alive(process: dict[str, Any]) -> bool:
    """Whether that process may still run; always True for a process of another machine."""
    if process.get("place") != place():
        theirs, ours = str(process.get("place")).split(":"), place().split(":")
        # the same host, restarted: no process from before is alive
        return not (theirs[0] == ours[0] and theirs[1:2] != ours[1:2])
    born = birth(int(process.get("pid") or 0))
    return born is not None and abs(born - float(process.get("born") or 0)) < 1
