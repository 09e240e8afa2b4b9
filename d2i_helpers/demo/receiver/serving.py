"""Serve the simulated DfE API: in a process of its own for a run, or by hand.

A run sends the process its configuration as one line on standard input. The process ends when that
input ends, so it never outlives the run, even one that is killed, on any system.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from d2i_helpers.errors import D2IError, ReceiverError, error_named
from d2i_helpers.submit.endpoint import Endpoint, endpoint_for, simulated_endpoint

if TYPE_CHECKING:  # the server's process starts without what settings import
    from d2i_helpers.settings import Settings

HOST = "127.0.0.1"
START_SECONDS = 60.0  # a busy machine may be slow; ready after about one second otherwise
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Config:
    """What the server's process needs to know; paths are absolute."""

    store: str
    la_code: str | None
    merge: Literal["merge", "replace"]
    port: int = 0
    faults: str | None = None
    cms: str = "generic"
    overlay: str | None = None

    @classmethod
    def of(
        cls, settings: Settings, *, port: int | None = None, faults: Path | str | None = None
    ) -> Config:
        """The profile's configuration; ``port`` and ``faults`` replace its own where given."""
        if faults is None and settings.receiver_faults:
            faults = settings.path(settings.receiver_faults)
        return cls(
            store=str(settings.path(settings.receiver_store)),
            la_code=settings.la_code,
            merge=settings.receiver_merge,
            port=settings.receiver_port if port is None else port,
            faults=None if faults is None else str(Path(faults).absolute()),
            cms=settings.cms,
            overlay=str(settings.path(settings.spec_overlay)) if settings.spec_overlay else None,
        )


# ------------------------------------------------------------------------------- for a run
@contextmanager
def running(settings: Settings, *, faults: Path | str | None = None) -> Iterator[Endpoint]:
    """The profile's endpoint, with the simulated receiver running for as long as it is used.

    A receiver is started only for ``endpoint: simulated`` without an `api_base_url`; any other
    endpoint is already there.

    Raises:
        SettingsError: the endpoint, the store or the faults file cannot be used.
        ReceiverError: the receiver did not start.
    """
    if settings.endpoint != "simulated" or settings.api_base_url:
        from d2i_helpers.settings import load_secrets

        yield endpoint_for(settings, load_secrets())
        return
    process = _start(Config.of(settings, faults=faults))
    try:
        port = _wait_until_ready(process)
        yield simulated_endpoint(f"http://{HOST}:{port}", settings.la_code)
    finally:
        _stop(process)


def _start(config: Config) -> subprocess.Popen[bytes]:
    # in a process group of its own, so that Ctrl+C reaches the run first and then ends the server
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        }
    process = subprocess.Popen(
        [sys.executable, "-m", "d2i_helpers.demo.receiver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # else a notebook would show it and a run record keep it
        **options,
    )
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it ended at once: reading will tell
        process.stdin.write(json.dumps(asdict(config)).encode() + b"\n")
        process.stdin.flush()
    return process


def _wait_until_ready(process: subprocess.Popen[bytes]) -> int:
    """The port that the server listens on."""
    said: list[bytes] = []
    output = process.stdout
    assert output is not None
    reader = threading.Thread(target=lambda: said.append(output.readline()), daemon=True)
    reader.start()
    reader.join(START_SECONDS)
    try:
        answer = json.loads(said[0])
        if "port" in answer:
            return int(answer["port"])
        error_class = error_named(answer["error"]) or ReceiverError
        error = error_class(answer["message"], hint=answer["hint"])
    except (IndexError, ValueError, KeyError):
        error = ReceiverError(
            "The simulated receiver did not start.", hint="`d2i receiver` by hand shows why."
        )
    raise error


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server by closing its input, or by force where that is not enough."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    process.stdout.close()


# --------------------------------------------------------------------------------- by hand
def serve(
    settings: Settings,
    *,
    port: int | None = None,
    faults: Path | str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the profile's store until Ctrl+C.

    Args:
        port: port to listen on; None: the profile's; 0: any free one.
        faults: file of faults, instead of the profile's.
        ready: called with the address once it listens.

    Raises:
        SettingsError: the port is taken, or the store or the faults file cannot be used.
    """
    with contextlib.suppress(KeyboardInterrupt):
        _serve(
            Config.of(settings, port=port, faults=faults),
            lambda number: ready(f"http://{HOST}:{number}") if ready else None,
        )


def _serve(config: Config, ready: Callable[[int], None], *, until: int | None = None) -> None:
    """Serve until a signal, or until the other end of the file descriptor ``until`` is closed."""
    from d2i_helpers.demo.receiver.app import create_app
    from d2i_helpers.demo.receiver.faults import read_faults
    from d2i_helpers.demo.receiver.server import listen, serve_app
    from d2i_helpers.demo.receiver.store import Store
    from d2i_helpers.payload_spec import load_spec

    faults = read_faults(config.faults)
    spec = load_spec(config.cms, config.overlay)
    listening = listen(HOST, config.port)
    try:
        store = Store(config.store)
        try:
            app = create_app(store, spec, la_code=config.la_code, merge=config.merge, faults=faults)
            serve_app(app, listening, ready, until=until)
        finally:
            store.close()
    finally:
        listening.close()


def main() -> int:
    """The process that `running` starts."""
    if sys.stdin is None or sys.stdin.isatty():
        print("Start the simulated receiver with `d2i receiver`.", file=sys.stderr)
        return 2

    def say(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    try:
        config = Config(**json.loads(_first_line(sys.stdin.fileno())))
        _serve(config, lambda port: say({"port": port}), until=sys.stdin.fileno())
    except D2IError as error:
        say({"error": type(error).__name__, "message": error.message, "hint": error.hint})
        return error.exit_code
    return 0


def _first_line(descriptor: int) -> bytes:
    """One line, read without a buffer, because a thread reads on from the same descriptor."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line
