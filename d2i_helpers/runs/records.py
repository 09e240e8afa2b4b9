"""The run record: `run.json`, truthful at every moment, and the facts about where it was made.

It is written whole after every change. A killed runner leaves a record that says `running`;
`state_of` sees that its process is gone and calls it `interrupted`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import socket
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata, resources
from pathlib import Path
from types import NoneType
from typing import Any, TypeGuard

from d2i_helpers import __version__
from d2i_helpers.database.plain_message import without_controls
from d2i_helpers.errors import RecordError
from d2i_helpers.files import (
    TEMPORARY_PREFIX,
    as_record_error,
    make_private_folder,
    sha256_of,
    write_atomic,
)
from d2i_helpers.kernel_protocol import RECORD_FILE, RUN_ID
from d2i_helpers.processes import may_be_alive, place, this_process

RUN_PAGE = "run.html"  # made from the record, for people
INDEX_FILE = "index.html"  # beside the folders of all runs
RESERVE_FILE = ".reserve"
RESERVE_BYTES = (
    256 * 1024
)  # freed at the end of a run, so that a full disk cannot keep the record from its end
SCHEMA_VERSION = 1

RUNNING, COMPLETED, ATTENTION = "running", "completed", "attention"
DRY_RUN = "dry run: nothing is sent"  # shown wherever a run is shown
FAILED, INTERRUPTED, PENDING = "failed", "interrupted", "pending"
# what a record holds, as JSON reads it
_NUMBER = (int, float, NoneType)
_TYPES: dict[str, Any] = {
    "profile": str, "status": str, "started_at": str, "seconds": _NUMBER, "warnings": list,
    "exit_code": (int, NoneType), "error": (dict, NoneType), "resumed": list,
    "parameters": dict, "given": dict, "process": dict, "files": dict,
}  # fmt: skip
_TYPES_OF_STAGE: dict[str, Any] = {
    "name": str, "notebook": str, "status": str, "seconds": _NUMBER, "counts": dict,
    "details": dict, "gates": list, "error": (dict, NoneType), "earlier": list,
}  # fmt: skip


@dataclass
class StageRecord:
    """One stage of a run: one notebook."""

    name: str
    notebook: str  # file of the executed copy, in the record's folder
    status: str = PENDING  # pending | running | completed | attention | failed | interrupted
    started_at: str | None = None
    seconds: float | None = None
    counts: dict[str, float] = field(default_factory=dict)
    details: dict[str, dict[str, float]] = field(default_factory=dict)  # by title of the counts
    gates: list[dict[str, Any]] = field(default_factory=list)  # what each gate decided
    redactions: int = 0  # identifiers that were found in the executed copy and taken out
    error: dict[str, Any] | None = None
    earlier: list[dict[str, Any]] = field(default_factory=list)  # attempts before a resume


@dataclass
class RunRecord:
    """One run: its parameters, where it ran, how each stage ended."""

    folder: Path
    run_id: str
    profile: str
    parameters: dict[str, Any]  # effective, without secrets and person ids
    given: dict[str, Any]  # those that were given on the command line
    stages: list[StageRecord]
    environment: dict[str, Any] = field(default_factory=dict)
    status: str = RUNNING
    exit_code: int | None = None
    started_at: str = ""
    finished_at: str | None = None
    seconds: float | None = None
    error: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    resumed: list[dict[str, Any]] = field(default_factory=list)
    process: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # name to SHA-256

    @property
    def path(self) -> Path:
        """The record's `run.json`."""
        return self.folder / RECORD_FILE

    @property
    def is_dry(self) -> bool:
        """Whether the run was a dry run."""
        return self.parameters.get("dry_run") is True

    def as_dict(self) -> dict[str, Any]:
        """What `run.json` holds; `run_record.schema.json` describes it."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "folder"}
        content["stages"] = [asdict(stage) for stage in self.stages]
        environment = content.pop("environment")
        return {"record": SCHEMA_VERSION, **content, **environment}

    def asked(self) -> str:
        """SHA-256 of what the run was asked to do; it never changes after the start."""
        asked = [self.run_id, self.profile, self.parameters, self.given]
        text = json.dumps([*asked, [s.name for s in self.stages]], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self) -> None:
        """Write `run.json`.

        Raises:
            RecordError: it could not be written; the earlier one is as it was.
        """
        content = json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"
        try:
            write_atomic(self.path, content.encode())
        except RecordError:
            reserve = self.folder / RESERVE_FILE
            if not reserve.exists():
                raise
            reserve.unlink()
            write_atomic(self.path, content.encode())

    def hash_files(self) -> None:
        """Note the SHA-256 of every file in the record's folder."""
        self.files = {name: sha256_of(self.folder / name) for name in self.evidence()}

    def evidence(self) -> list[str]:
        """Names of the files that the record vouches for: its page, its notebooks, their pages."""
        stems = "|".join(re.escape(Path(stage.notebook).stem) for stage in self.stages)
        known = re.compile(rf"({stems})(\.attempt[0-9]+)?\.(ipynb|html)|{re.escape(RUN_PAGE)}")
        return [
            n for n in entries_in(self.folder) if known.fullmatch(n) and is_plain(self.folder / n)
        ]


def entries_in(folder: Path) -> list[str]:
    """Names of everything in a record's folder but `run.json`, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD_FILE)


def is_plain(path: Path) -> bool:
    """Whether the path is a regular file: no link, no folder, no device."""
    return stat.S_ISREG(path.lstat().st_mode)


def new_run_id() -> str:
    """An id that sorts by time (UTC) and is unique without asking anybody.

    Of a thousand runs that begin in one second two get the same once in eight thousand such
    seconds.
    """
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def is_run_id(value: object) -> TypeGuard[str]:
    """Whether the value has the form of a run id, and so can only name a folder of a run."""
    if not isinstance(value, str) or not RUN_ID.fullmatch(value):
        return False
    try:
        time_of_id(value)
    except ValueError:
        return False
    return True


def time_of_id(run_id: str) -> dt.datetime:
    """When a run with that id was begun."""
    return dt.datetime.strptime(run_id.split("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)


def folder_of(outputs: Path, run_id: str) -> Path:
    """Where the record of that run is, or would be.

    Raises:
        RecordError: that is no id of a run.
    """
    if not is_run_id(run_id):
        raise RecordError(
            f"`{without_controls(run_id)[:40]}` is not the id of a run.",
            hint="`d2i runs list` shows the ids, such as 20261122T020000-3f9a5c07.",
        )
    return outputs / run_id


def now() -> str:
    """The time as it stands in a record: ISO 8601, UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def create(record: RunRecord) -> RunRecord:
    """Make the record's folder (owner only) and its first `run.json`.

    Raises:
        RecordError: the folder is there already, or cannot be written.
    """
    make_private_folder(record.folder.parent)
    if record.folder.exists():
        raise RecordError(f"There is a run record {record.run_id} already.")
    make_private_folder(record.folder)
    record.started_at, record.process = now(), this_process()
    try:
        write_reserve(record.folder)
        record.save()
    except RecordError:  # a full disk: a run that never began leaves nothing
        shutil.rmtree(record.folder, ignore_errors=True)
        raise
    return record


def write_reserve(folder: Path) -> None:
    """Take up the space that the end of the record may need on a full disk."""
    write_atomic(folder / RESERVE_FILE, os.urandom(RESERVE_BYTES), durable=False)


def finish(record: RunRecord) -> None:
    """Give the reserved space back, note every file's hash, and write the record's last state.

    Raises:
        RecordError: the folder is gone, or cannot be read or written.
    """
    try:
        (record.folder / RESERVE_FILE).unlink(missing_ok=True)
        for left in record.folder.glob(f"{TEMPORARY_PREFIX}*"):
            left.unlink()
        record.hash_files()
    except OSError as error:
        raise as_record_error(error, record.path) from None
    record.save()


def read(folder: Path) -> RunRecord:
    """Read the record in a folder.

    Raises:
        RecordError: there is none, or it is incomplete.
    """
    try:
        if folder.is_symlink() or not is_plain(folder / RECORD_FILE):
            raise RecordError(
                f"The run record {folder.name} is a link to somewhere else.",
                hint="It is not read. Find out who put it there.",
            )
        content = json.loads((folder / RECORD_FILE).read_bytes())
    except FileNotFoundError:
        raise RecordError(
            f"There is no run record {folder.name} in {folder.parent}.",
            hint="`d2i runs list` shows all. If it is a run of a profile with an `outputs_dir` of "
            "its own, name the profile with -P.",
        ) from None
    except (ValueError, OSError, RecursionError):
        raise RecordError(f"The run record {folder.name} cannot be read.") from None
    if not isinstance(content, dict):
        raise RecordError(f"The run record {folder.name} cannot be read.")
    known = {f.name for f in fields(RunRecord)} - {"folder", "environment", "stages"}
    try:
        _look_at(content, _TYPES)
        dt.datetime.fromisoformat(content.get("started_at") or now())
        for stage in content["stages"]:
            _look_at(stage, _TYPES_OF_STAGE)
            if not all(isinstance(n, int | float) for n in stage.get("counts", {}).values()):
                raise TypeError
        stages = [StageRecord(**stage) for stage in content["stages"]]
        if any(Path(stage.notebook).name != stage.notebook for stage in stages):
            raise TypeError  # a path, and not a file of this record
        rest = {k: v for k, v in content.items() if k not in known | {"stages", "record"}}
        own = {name: value for name, value in content.items() if name in known}
        return RunRecord(folder=folder, stages=stages, environment=rest, **own)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise RecordError(
            f"The run record {folder.name} is not as this version knows it."
        ) from None


def _look_at(held: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raise TypeError or KeyError where a value is of no kind that a run writes there."""
    if not all(isinstance(held[name], kind) for name, kind in types.items() if name in held):
        raise TypeError
    if held.get("error") is not None and not isinstance(held["error"]["message"], str):
        raise TypeError


def folders(outputs: Path) -> list[Path]:
    """Folders of all run records, oldest first.

    Raises:
        RecordError: they cannot be looked at, such as those of another account.
    """
    try:
        if not outputs.is_dir():
            return []
        return sorted(p for p in outputs.iterdir() if is_run_id(p.name) and p.is_dir())
    except OSError as error:
        raise RecordError(
            f"The run records in {outputs.name} cannot be read ({error.strerror}).",
            hint="They are readable by the account that runs the day only: type this as that one.",
        ) from None


def state_of(record: RunRecord) -> str:
    """The record's status; `interrupted` if it says `running` but its process is gone."""
    if record.status == RUNNING and not may_run(record):
        return INTERRUPTED
    return record.status


def may_run(record: RunRecord) -> bool:
    """Whether the record's process may be alive.

    A process on another machine counts as alive until the time limits of all its stages have
    passed. (A container that is started again has another name each time.)
    """
    if not may_be_alive(record.process):
        return False
    if record.process.get("place") == place():
        return True
    started = record.resumed[-1]["at"] if record.resumed else record.started_at
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(started)
    limit = record.parameters.get("stage_timeout") or 86400
    return age.total_seconds() < limit * len(record.stages) + 3600


def mark_interrupted(record: RunRecord) -> None:
    """Mark a record whose process is gone, and its running stages, as interrupted."""
    record.status, record.exit_code = INTERRUPTED, None
    for stage in record.stages:
        if stage.status == RUNNING:
            stage.status = INTERRUPTED
    record.error = {
        "name": "Interrupted",
        "message": "The run ended without a word: it was killed, or the machine stopped.",
        "hint": f"`d2i run --resume {record.run_id}` goes on with it.",
    }


# ----------------------------------------------------------------------------------- environment
def environment_facts(root: Path, spec: Any = None) -> dict[str, Any]:
    """Versions, machine, user, git commit and specification, for the record.

    Args:
        root: the project's folder.
        spec: the specification in force.
    """
    facts: dict[str, Any] = {
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
        "git": git_facts(root),
    }
    if spec is not None:
        facts["specification"] = {"version": spec.version, "fingerprint": spec.fingerprint}
    return facts


def versions() -> dict[str, str]:
    """Version of this project and of each package that it declares."""
    by_package = {"d2i-workbook": __version__}
    try:
        required = metadata.requires("d2i-workbook") or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        required = []
    for line in required:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        with contextlib.suppress(metadata.PackageNotFoundError):
            by_package[name] = metadata.version(name)
    return by_package


def _user() -> str:
    try:
        return getpass.getuser()
    # a user without a name, as in some containers; or on Windows no variable that says it
    except (ImportError, KeyError, OSError):
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def git_facts(root: Path) -> dict[str, Any] | None:
    """The commit that is checked out, and whether files differ from it; None without git."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None

    def ask(*words: str) -> str:
        done = subprocess.run(
            [git, "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "clean": ask("status", "--porcelain") == ""}
    except (subprocess.SubprocessError, OSError):
        return None


def record_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of `run.json`."""
    text = resources.files(__package__).joinpath("run_record.schema.json").read_text("utf-8")
    return json.loads(text)
