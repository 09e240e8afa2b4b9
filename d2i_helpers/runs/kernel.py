"""Run one notebook in one fresh kernel, with private transport, true status and one time limit.

papermill's own client does none of this. Measured with papermill 2.7: after a time-out or the death
of the kernel its saved notebook shows every cell as completed; a cell that calls ``sys.exit`` ends
the notebook without an error; the kernel listens on TCP ports of the machine; files are written in
place and readable by everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.engines import NotebookExecutionManager

from d2i_helpers.errors import D2IError, KernelDied, NotebookError, NotebookTimeout
from d2i_helpers.files import write_atomic
from d2i_helpers.runs.kernel_pool import Kernel, start_kernel

MOST_PRINTED = 1_000_000  # characters of a notebook's prints that are kept
GRACE_SECONDS = 5.0  # in which a notebook that was told to stop may end its transaction

OnDisplay = Callable[[Mapping[str, Any]], None]
Clean = Callable[[int, Any], Any]  # (number of the cell, its outputs) to clean outputs
StopReason = Callable[[], D2IError | None]


class RecordManager(NotebookExecutionManager):
    """papermill's record of the cells: saved whole or not at all, no failure marked as success.

    Each save is clean, so that a killed runner never leaves a copy with identities or secrets.
    """

    output_path: str | None

    def __init__(self, nb: NotebookNode, path: str | None, clean: Clean | None = None) -> None:
        super().__init__(nb, output_path=path, progress_bar=False, autosave_cell_every=0)
        self.clean = clean
        self._cleaned: dict[int, tuple[str, Any]] = {}  # outputs as written, and clean
        self.last_words: Callable[[], str] = str  # of the kernel; str() says nothing

    def save(self, **kwargs: Any) -> None:
        """Write the notebook as it stands; `durable` only when it is done."""
        if kwargs.get("nb"):
            self.nb = kwargs["nb"]
        if self.output_path:
            text = nbformat.writes(self._clean_copy() if self.clean else self.nb)
            durable = kwargs.get("durable", False)
            write_atomic(Path(self.output_path), text.encode(), durable=durable)

    def _clean_copy(self) -> NotebookNode:
        """The notebook with clean outputs; unchanged outputs are not cleaned again."""
        cells = []
        for number, cell in enumerate(self.nb.cells):
            if not cell.get("outputs"):
                cells.append(cell)
                continue
            written = json.dumps(cell.outputs)
            before = self._cleaned.get(number)
            if before is None or before[0] != written:
                assert self.clean is not None
                clean = nbformat.from_dict(self.clean(number, json.loads(written)))
                before = self._cleaned[number] = (written, clean)
            cells.append(nbformat.from_dict({**cell, "outputs": before[1]}))
        return nbformat.from_dict({**self.nb, "cells": cells})

    def fail(self, index: int, error: D2IError) -> None:
        """Mark the cell as failed, with an error of ours as its output."""
        cell = self.nb.cells[index]
        said = self.last_words() if isinstance(error, KernelDied) else ""
        if said:
            cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=said))
        cell.outputs.append(
            nbformat.v4.new_output(
                "error",
                ename=type(error).__name__,
                evalue=str(error),
                traceback=error._render_traceback_(),
            )
        )
        self.cell_exception(cell, cell_index=index)

    def cell_complete(self, cell: NotebookNode, cell_index: int | None = None, **_: Any) -> None:
        """Time and status of the cell; saved with the start of the next one."""
        path, self.output_path = self.output_path, None
        super().cell_complete(cell, cell_index)
        self.output_path = path

    def notebook_complete(self, **_: Any) -> None:
        """Times of the whole; cells that never ran stay `pending`, unlike in papermill."""
        self.end_time = self.now()
        about = self.nb.metadata.papermill
        about["end_time"] = self.end_time.isoformat()
        about["duration"] = (self.end_time - self.start_time).total_seconds()
        self.save(durable=True)


class RecordClient(NotebookClient):
    """Runs cells, hands on what they display, and stops when it is told to."""

    on_display: OnDisplay | None = None
    stop_reason: StopReason | None = None
    must_be_killed = True  # the kernel is not ready yet, stuck, or dead
    was_ended = False  # by a cell that called IPython's `exit`
    printed = 0  # characters that the notebook has printed

    def process_message(self, msg: Any, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Show the runner what a cell displays (counts, progress), then keep it as an output."""
        if self.on_display and msg["msg_type"] in ("display_data", "update_display_data"):
            self.on_display(msg["content"].get("data") or {})
        if msg["msg_type"] == "stream" and not self._may_print(msg["content"]):
            return None
        return super().process_message(msg, cell, cell_index)

    def see_reply(self, execute_reply: Any, **_: Any) -> None:
        """Note that a cell asked its kernel to end (nbclient's hook for every cell that ran)."""
        payload = execute_reply["content"].get("payload") or ()
        self.was_ended |= any(part.get("source") == "ask_exit" for part in payload)

    def _may_print(self, content: dict[str, Any]) -> bool:
        """Cut off endless output of a notebook, which would fill memory and disk."""
        before, self.printed = self.printed, self.printed + len(content["text"])
        if self.printed > MOST_PRINTED:
            kept = content["text"][: max(0, MOST_PRINTED - before)]
            content["text"] = f"{kept}\n[cut off: the notebook printed too much]\n"
        return before <= MOST_PRINTED

    async def _async_poll_kernel_alive(self) -> None:
        """nbclient's check that the kernel lives, and beside it whether the run has to stop."""
        while not await self._is_over():
            await asyncio.sleep(0.5)
        if self.task_poll_for_reply is not None:
            self.task_poll_for_reply.cancel()

    async def _is_over(self) -> bool:
        if self.stop_reason and self.stop_reason():
            return True
        try:
            await self._async_check_alive()
        except DeadKernelError:
            return True
        return False


def run_notebook(
    nb: NotebookNode,
    path: str | None,
    *,
    time_limit: float | None = None,
    start_timeout: float = 60,
    kernel: Kernel | None = None,
    on_display: OnDisplay | None = None,
    stop_reason: StopReason | None = None,
    clean: Clean | None = None,
    sources: Mapping[int, str] | None = None,
) -> NotebookNode:
    """Run every cell of the notebook in a fresh kernel and keep the executed copy at ``path``.

    If a cell raises an error, the notebook is marked with it; the caller looks for it there.

    Args:
        time_limit: seconds for the whole notebook.
        start_timeout: seconds for the kernel to start.
        kernel: one that was started ahead, for this notebook only; None: one is started here, in
            the working directory.
        on_display: called with the data of everything that a cell displays.
        stop_reason: asked twice a second; an error that it returns ends the notebook.
        clean: takes identities and secrets out of a cell's outputs before they are saved.
        sources: by the number of a cell, the source to execute in its place; never saved.

    Raises:
        NotebookTimeout: the limit passed; the cell is marked.
        KernelDied: the kernel ended, or never started.
        NotebookError: the notebook ended itself before its last cell.
        D2IError: the error that ``stop_reason`` returned.
    """
    book = RecordManager(nb, path, clean)
    book.notebook_start()
    limit, client = _Limit(time_limit), None
    try:
        kernel = kernel or start_kernel(Path.cwd())
        book.last_words = kernel.last_words
        client = RecordClient(
            nb,
            km=kernel.manager,
            kernel_name="python3",
            startup_timeout=int(start_timeout),
            raise_on_iopub_timeout=True,  # else lost outputs would pass as an empty cell
            timeout_func=limit.left,
            store_widget_state=False,  # it holds the rows that a widget shows
        )
        client.on_display, client.stop_reason = on_display, stop_reason
        client.on_cell_executed = client.see_reply
        with _ready(client, book):
            _run_cells(client, book, limit, sources or {})
    except KeyboardInterrupt:
        run_sync(_forget_what_is_half_done)()
        raise
    finally:
        if client is not None and client.kc is not None:
            client.kc.stop_channels()
        if kernel is not None:
            kernel.discard(ask_first=client is not None and not client.must_be_killed)
        book.notebook_complete()
    return nb


async def _forget_what_is_half_done() -> None:
    """Let asyncio not log what a stop tore apart on nbclient's loop: nobody will ask for it.

    A stop comes in the middle of the loop. Its tasks end while the kernel is ended, each with an
    error, and asyncio would print them with tracebacks below the run's own message.
    """
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _about: None)


class _Limit:
    """What is left of one time limit, by a clock that cannot be set."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds if seconds else None

    def left(self, _cell: NotebookNode) -> float | None:
        return None if self._end is None else max(0.05, self._end - time.monotonic())


@contextlib.contextmanager
def _ready(client: RecordClient, book: RecordManager) -> Iterator[None]:
    """Wait until the client's kernel is ready. If it never is, the first cell is marked."""
    ready = False
    try:
        with client.setup_kernel():
            ready, client.must_be_killed = True, False
            yield
    except D2IError:
        raise
    except Exception as error:
        if ready:
            raise
        died = KernelDied(
            f"The notebook's kernel died before its first cell ({type(error).__name__}).",
            hint="If it happens again, look at memory, and whether "
            f"`{Path(sys.executable).name} -m ipykernel_launcher --version` works.",
        )
        first = next((i for i, c in enumerate(book.nb.cells) if c.cell_type == "code"), None)
        if first is not None:
            book.fail(first, died)
        raise died from None


@contextlib.contextmanager
def _with_source(cell: NotebookNode, source: str | None) -> Iterator[None]:
    """Let the cell have another source while it is executed."""
    shown = cell.source
    try:
        if source is not None:
            cell.source = source
        yield
    finally:
        cell.source = shown


def _run_cells(
    client: RecordClient, book: RecordManager, limit: _Limit, sources: Mapping[int, str]
) -> None:
    for index, cell in enumerate(book.nb.cells):
        if cell.cell_type != "code":
            cell.metadata.papermill["status"] = book.COMPLETED
            continue
        book.cell_start(cell, index)
        error: D2IError | None = None
        busy = True  # whether the kernel is still in the cell
        try:
            with _with_source(cell, sources.get(index)):
                client.execute_cell(cell, index)
            error, busy = _ended_itself(client, cell), False
        except CellExecutionError:
            error, busy = _ended_itself(client, cell), False
            if error is None:
                book.cell_exception(cell, cell_index=index)
                return
        except CellTimeoutError:
            error = NotebookTimeout(
                f"The stage took longer than its limit of {limit.seconds:g} seconds.",
                hint="Raise `stage_timeout`, or find out what it waited for.",
            )
        except DeadKernelError:
            error = client.stop_reason() if client.stop_reason else None
            error = error or KernelDied(
                "The notebook's kernel died.",
                hint="Mostly the machine ran out of memory, or somebody ended the process. "
                "`d2i run --resume` goes on with this stage.",
            )
        finally:
            book.cell_complete(cell, index)
        if error:
            _stop_kernel(client, interrupt=not isinstance(error, KernelDied) and busy)
            book.fail(index, error)
            raise error


def _ended_itself(client: RecordClient, cell: NotebookNode) -> NotebookError | None:
    """The error of a cell that called `sys.exit` or `exit`; papermill counts both as success."""
    exits = [o for o in cell.outputs if o.output_type == "error" and o.ename == "SystemExit"]
    if not exits and not client.was_ended:
        return None
    return NotebookError(
        "The notebook ended itself (sys.exit or exit) before its last cell.",
        hint="Let a cell raise an error instead, so that the run can tell what happened.",
    )


def _stop_kernel(client: RecordClient, *, interrupt: bool) -> None:
    """Interrupt the kernel, so that a transaction is rolled back; kill it if it does not stop."""
    client.must_be_killed = True
    if not interrupt:
        return
    with contextlib.suppress(Exception):  # dead already, which is what is wanted
        run_sync(_interrupt)(client)  # on nbclient's own loop: the sockets belong to it


async def _interrupt(client: RecordClient) -> None:
    manager: Any = client.km  # its methods are coroutines, whatever their base class says
    channels = client.kc
    if channels is None or manager is None or not await manager.is_alive():
        return
    await manager.interrupt_kernel()
    # not the channel's own time-out: nbclient may still read from it, and a reply that it takes
    # between our poll and our read would leave us waiting for ever
    async with asyncio.timeout(GRACE_SECONDS):
        while True:
            message = await channels.iopub_channel.get_msg()
            if message["content"].get("execution_state") == "idle":
                return
