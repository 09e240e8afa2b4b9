"""The process of a kernel: ipykernel, but without the port that it opens on the machine.

Started as `python -m d2i_helpers.runs.kernel_process -f CONNECTION_FILE`. ipykernel collects what
forked processes print over a TCP port on loopback, also where its own sockets are private: any user
of the machine could connect to it. Notebooks of a run fork nothing that prints.
"""

from __future__ import annotations

from typing import Any

from ipykernel import kernelapp
from ipykernel.iostream import IOPubThread


class _WithoutPort(IOPubThread):
    """ipykernel's sender of outputs, without the port for what forked processes print."""

    def __init__(self, socket: Any, pipe: bool = False, **options: Any) -> None:
        super().__init__(socket, pipe=False, **options)


def main() -> None:
    """Serve one kernel until it is told to end, or its parent process is gone."""
    kernelapp.IOPubThread = _WithoutPort  # type: ignore[misc, assignment] # its only way in
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
