"""Files that are written whole or not at all, and that only their owner may read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from d2i_helpers.errors import RecordError

OWNER_ONLY_FILE = 0o600
OWNER_ONLY_FOLDER = 0o700
TEMPORARY_PREFIX = ".writing-"


def make_private_folder(folder: Path) -> Path:
    """Make the folder and those above it where they are missing, readable by the owner only.

    A folder that is there gets these rights too, unless it is everybody's. What we write there is
    readable by the owner only in any case.

    Raises:
        RecordError: the folder cannot be made, or a file has its name.
    """
    try:
        _make_missing(folder)
        if not folder.is_dir():
            raise RecordError(
                f"{folder} is a file, and a folder is needed there.",
                hint="Correct the path (`outputs_dir`, `--outputs`), or move the file.",
            )
        if not _is_everybodys(folder):
            folder.chmod(OWNER_ONLY_FOLDER)
    except OSError as error:
        raise as_record_error(error, folder) from None
    return folder


def _is_everybodys(folder: Path) -> bool:
    """Whether others work there as well: a folder such as /tmp, or the root of all."""
    real = folder.resolve()
    return real == real.parent or bool(real.stat().st_mode & stat.S_ISVTX)


def make_private_file(path: Path) -> None:
    """Make an empty file, and the folders above it, readable by the owner only.

    This is for files that other software writes in place, such as SQLite, whose further files get
    the same rights. What exists already is not changed.

    Raises:
        RecordError: it cannot be made.
    """
    try:
        _make_missing(path.parent)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_FILE))
    except OSError as error:
        raise as_record_error(error, path) from None


def _make_missing(folder: Path) -> None:
    for missing in reversed([p for p in (folder, *folder.parents) if not p.exists()]):
        missing.mkdir(OWNER_ONLY_FOLDER, exist_ok=True)


def write_atomic(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write the whole file or nothing: to a temporary name beside it, which is then renamed.

    Args:
        durable: wait until the disk has it; False for a file that is soon written again.

    Raises:
        RecordError: the disk is full or the folder cannot be written; the old file is as it was.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")
    try:
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_FILE)
        with os.fdopen(number, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise as_record_error(error, path) from None


def append_line(path: Path, line: bytes) -> int:
    """Add one line to a file and wait until the disk has it.

    A line that an earlier crash left without its end is cut off first; it was never an entry.

    Returns:
        The size of the file before, in bytes.

    Raises:
        RecordError: the disk is full or the file cannot be written; nothing was added.
    """
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY_FILE)
        with os.fdopen(number, "r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
            file.seek(whole)
            try:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise
    except OSError as error:
        raise as_record_error(error, path) from None
    return whole


def cut_off(path: Path, size: int) -> None:
    """Shorten a file to ``size`` bytes and wait until the disk has it.

    Raises:
        RecordError: the file cannot be written.
    """
    try:
        with path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())
    except OSError as error:
        raise as_record_error(error, path) from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_record_error(error: OSError, path: Path) -> RecordError:
    """What the system's refusal to write a file means for whoever runs this."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RecordError(
            f"The disk is full: {path.name} could not be written.",
            hint="Free some space (`d2i runs prune` removes old run records) and run again.",
        )
    if error.errno == errno.EFBIG:
        return RecordError(
            f"{path.name} could not be written: it would be larger than this account may write.",
            hint="Have the account's limit on the size of a file raised (Linux: `ulimit -f`).",
        )
    return RecordError(
        f"{path.name} could not be written ({error.strerror or type(error).__name__}).",
        hint=f"Check that this user may write to {path.parent}.",
    )


@contextlib.contextmanager
def file_lock(path: Path, *, wait_seconds: float = 30.0) -> Iterator[None]:
    """Keep other processes out while the block runs; the lock ends with the process.

    Raises:
        RecordError: another process held the lock for longer than ``wait_seconds``.
    """
    import filelock

    lock = filelock.FileLock(
        path,
        timeout=wait_seconds,
        mode=OWNER_ONLY_FILE,
        thread_local=False,  # of a kernel, one thread takes the lock and another releases it
        fallback_to_soft=False,  # on a disk without locks: a mark would outlive its process
    )
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RecordError(
            f"{path.name} is held by another process.", hint="Wait until it is done."
        ) from None
    except OSError as error:
        raise as_record_error(error, path) from None
    try:
        yield
    finally:
        lock.release()
