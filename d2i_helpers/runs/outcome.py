"""What the end of a notebook means for the run: its error, exit code and counts."""

from __future__ import annotations

import errno
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2i_helpers.errors import D2IError, NotebookError, RecordError, error_named
from d2i_helpers.files import write_atomic
from d2i_helpers.kernel_protocol import COUNTS_MIME, GATE_MIME, NOTICES_MIME
from d2i_helpers.runs.records import StageRecord

if TYPE_CHECKING:
    from d2i_helpers.workbook import OtherVersion

Redact = Callable[[str], tuple[str, int]]
_OF_NO_PROGRAM = frozenset(
    {errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EROFS, errno.ENOSPC, errno.EIO}
)


def error_of(failure: BaseException, notebook: str) -> D2IError:
    """The failure of a notebook as one of our errors, without values.

    An error of ours keeps its message. Of any other error only the class is kept, since its text
    may quote a row. The executed copy has the rest, after redaction.
    """
    if isinstance(failure, D2IError):
        return failure
    name = str(getattr(failure, "ename", type(failure).__name__))
    error_class = error_named(name)
    if error_class is not None:
        return error_class(str(getattr(failure, "evalue", "")))
    count = getattr(failure, "exec_count", None)
    where = f"{notebook}, cell {count}" if count else notebook
    if not name.isidentifier():
        name = "error"
    workbook = _other_version()
    if workbook is not None:  # its notebooks may ask for what this package has not
        return NotebookError(
            f"{where} failed with {name}, and {workbook.said}.",
            hint=f"{workbook.advice} The executed notebook shows where it failed and why.",
        )
    return NotebookError(
        f"{where} failed with {name}.", hint="The executed notebook shows where and why."
    )


def _other_version() -> OtherVersion | None:
    from d2i_helpers.workbook import other_version  # few runs need it

    try:
        return other_version()
    except D2IError:  # preflight says it
        return None


def fault_of(failure: BaseException) -> D2IError:
    """A fault of the program as an error that may be saved: its class and place, not its text.

    That this account may not look at a file is none, as where somebody else than the account of
    the night types a command; nor is a path that cannot be, or a drive that fails.
    """
    if isinstance(failure, D2IError):
        return failure
    if isinstance(failure, OSError) and isinstance(failure.filename, str):
        path = Path(failure.filename)
        if isinstance(failure, PermissionError):
            return RecordError(
                f"This account may not use {path.name} ({failure.strerror}).",
                hint=f"Type this as the account that runs the day, or give this one a right to "
                f"{path.parent}.",
            )
        if failure.errno in _OF_NO_PROGRAM:
            return RecordError(
                f"{path.name[:100]} cannot be used ({failure.strerror}).",
                hint="Correct the path, or look at the drive that it is on.",
            )
    frames = traceback.extract_tb(failure.__traceback__)
    ours = [frame for frame in frames if "d2i_helpers" in Path(frame.filename).parts]
    where = f" in {Path(ours[-1].filename).name}, line {ours[-1].lineno}" if ours else ""
    return D2IError(
        f"The program failed with {type(failure).__name__}{where}.",
        hint="This is a fault of the program. Tell whoever keeps it, with this line.",
    )


def error_entry(error: D2IError, stage: str | None = None) -> dict[str, Any]:
    """An error as the run record keeps it."""
    entry: dict[str, Any] = {
        "name": type(error).__name__,
        "message": error.message,
        "exit_code": error.exit_code,
    }
    if error.hint:
        entry["hint"] = error.hint
    if stage:
        entry["stage"] = stage
    return entry


def take_counts(stage: StageRecord, notebook: Path) -> list[str]:
    """Copy the counts and the gate's decisions from the executed notebook into the stage.

    Returns:
        The notices that the run repeats.
    """
    notices: list[str] = []
    closing: dict[str, float] = {}
    stage.details, stage.gates = {}, []
    for cell in json.loads(notebook.read_bytes())["cells"]:
        for output in cell.get("outputs", ()):
            decided = output.get("data", {}).get(GATE_MIME)
            if isinstance(decided, dict):
                stage.gates.append(decided)
            notices += map(str, output.get("data", {}).get(NOTICES_MIME) or ())
            shown = output.get("data", {}).get(COUNTS_MIME)
            if not isinstance(shown, dict):
                continue
            stage.details.setdefault(shown["title"], {}).update(shown["counts"])
            if shown.get("closing"):
                closing.update(shown["counts"])
    stage.counts = closing
    return notices


def redact_file(notebook: Path, redact: Redact) -> int:
    """Remove identities and secrets from an executed copy.

    Returns:
        How many were removed. The file is written again only if there were any.

    Raises:
        ValueError: the copy is not JSON, perhaps because something was removed from it.
    """
    text, hits = redact(notebook.read_text(encoding="utf-8"))
    json.loads(text)
    if hits:
        write_atomic(notebook, text.encode())
    return hits
