"""Object storage (S3, Azure, Google) through fsspec: the few steps that run records need.

fsspec and the package of a kind of storage are optional extras, and are imported here only. What
a storage says is not repeated in messages, since it may quote an address or a key. Where
credentials come from is the matter of those packages: a role of the machine, or variables of the
environment.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import stamina

from d2i_helpers.errors import SettingsError, StorageError
from d2i_helpers.files import TEMPORARY_PREFIX, make_private_folder, write_atomic
from d2i_helpers.settings.storage_url import EXTRAS, protocol_of

Result = TypeVar("Result")
ATTEMPTS = 2  # each of them is several, since the packages try again as well
WAIT_SECONDS = 0.5  # before the second attempt
# A storage that does not answer must not hold up a night: seconds to connect, and for an answer.
# s3fs tries five times by itself, and would have botocore try five times for each.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 30,
            "retries": {"total_max_attempts": 1},
        }
    },
    "file": {"auto_mkdir": True},
}
# what no further attempt changes
_FINAL = (FileNotFoundError, PermissionError, ValueError, TypeError, NotADirectoryError)
_NO_CREDENTIALS = ("NoCredentialsError", "DefaultCredentialsError", "ClientAuthenticationError",
                   "PartialCredentialsError", "CredentialUnavailableError")  # fmt: skip

# stamina reports each retry to the log; without a handler Python would print its bare event name
logging.getLogger("stamina").addHandler(logging.NullHandler())


class Taken(Exception):
    """There is an object of that name already, with other content."""


class ObjectStorage:
    """A folder on object storage.

    Args:
        url: such as `s3://bucket/folder`, as `storage_url.checked` lets it pass.

    Raises:
        SettingsError: the package for this kind of storage is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url, self.protocol = url, protocol_of(url)
        try:
            fsspec = importlib.import_module("fsspec")
            options = {"use_listings_cache": False, **_OPTIONS.get(self.protocol, {})}
            self._files, root = fsspec.core.url_to_fs(url, **options)
        except ImportError:
            extra = EXTRAS[self.protocol]
            raise SettingsError(
                f"Records on {self.protocol}:// need a package that is not installed.",
                hint=f"Install the extra `{extra}`; docs/object_storage.md has the command.",
            ) from None
        except Exception as error:
            raise _explained(error) from None
        self._root = str(root).rstrip("/")

    def create(self, name: str, content: bytes) -> None:
        """Make an object that must not be there yet.

        Of several writers exactly one succeeds, if the storage keeps its promise (`prove`). An
        object that is there with the same content is this writer's own: an answer was lost.

        Raises:
            Taken: another writer was faster.
            StorageError: the storage cannot be used.
        """

        def attempt() -> None:
            try:
                if self.protocol == "file":
                    _link(Path(self._path(name)), content)
                else:
                    self._files.pipe_file(self._path(name), content, mode="create")
            except Exception as error:
                # each kind of storage calls it otherwise; so whether it is there is asked
                if isinstance(error, _FINAL) or not (there := self._there(name)):
                    raise
                if there != content:
                    raise Taken from None

        _again(attempt)

    def _there(self, name: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return bytes(self._files.cat_file(self._path(name)))
        return None

    def put(self, name: str, content: bytes) -> None:
        """Write an object, in place of what is there.

        Raises:
            StorageError: the storage cannot be used.
        """

        def attempt() -> None:
            if self.protocol == "file":
                make_private_folder(Path(self._path(name)).parent)
                write_atomic(Path(self._path(name)), content)
            else:
                self._files.pipe_file(self._path(name), content)

        _again(attempt)

    def get(self, names: Iterable[str]) -> dict[str, bytes]:
        """The content of some objects, several at a time; those that are not there are left out.

        Raises:
            StorageError: the storage cannot be used.
        """
        by_path = {self._path(name): name for name in names}
        if not by_path:
            return {}

        def attempt() -> dict[str, bytes]:
            found = self._files.cat(list(by_path), on_error="return")
            contents = {}
            for path, content in found.items():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
                if not isinstance(content, Exception):
                    contents[by_path[self._files._strip_protocol(path)]] = bytes(content)
            return contents

        return _again(attempt)

    def names(self, folder: str) -> list[str]:
        """Names in a folder, without the folder's; sorted. Nothing where there is no folder.

        Raises:
            StorageError: the storage cannot be used.
        """

        def attempt() -> list[str]:
            try:
                paths = self._files.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
            there = (PurePosixPath(str(path).rstrip("/")).name for path in paths)
            return sorted(name for name in there if not name.startswith(TEMPORARY_PREFIX))

        return _again(attempt)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; one that is not there is no matter.

        Raises:
            StorageError: the storage cannot be used.
        """
        for name in names:
            _again(partial(self._remove, self._path(name)))

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(path)

    def prove(self) -> None:
        """See that this storage refuses to make an object a second time.

        Raises:
            SettingsError: it does not, so that two machines could write over each other's entries.
            StorageError: the storage cannot be used.
        """
        name = "d2i-workbook.txt"
        for _ in range(2):
            try:
                self.create(name, secrets.token_hex(8).encode())
            except Taken:
                return
        raise SettingsError(
            "This object storage lets a second writer replace what the first one has made "
            "(it does not know conditional writes), so no ledger can be kept on it.",
            hint="Use another storage or a newer version of it, or leave `records_url` out: "
            "records are then in `outputs_dir` alone.",
        )

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _link(path: Path, content: bytes) -> None:
    """Make a whole file exclusively: nobody sees a part of it, whenever this process ends."""
    make_private_folder(path.parent)
    whole = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")
    write_atomic(whole, content)
    try:
        os.link(whole, path)
    finally:
        whole.unlink()


def _again(attempt: Callable[[], Result]) -> Result:
    """Do a step, again where that may help.

    Raises:
        StorageError: it failed each time, or in a way that no further attempt changes.
    """
    tries: Any = stamina.retry_context(
        on=lambda error: not isinstance(error, (Taken, FileExistsError, *_FINAL)),
        attempts=ATTEMPTS,
        timeout=None,
        wait_initial=WAIT_SECONDS,
    )
    try:
        for one in tries:
            with one:
                return attempt()
    except Taken:
        raise
    except Exception as error:
        raise _explained(error) from None
    raise AssertionError("stamina ends with a result or an exception")


def _explained(error: Exception) -> StorageError:
    """What an error means; nothing of its text, which may quote an address or a key."""
    if isinstance(error, StorageError):
        return error
    kind = type(error).__name__
    if isinstance(error, PermissionError):
        said = "The object storage refused access"
        hint = "The account of the runs has to list, read and write there; to prune, to delete."
    elif isinstance(error, FileNotFoundError):
        said = "The bucket or container of the records is not there"
        hint = "Have it made, or correct `records_url`."
    elif kind in _NO_CREDENTIALS or isinstance(error, ValueError):
        said = "There are no credentials for the object storage, or they are incomplete"
        hint = "docs/object_storage.md says where they are looked for."
    else:
        said = "The object storage cannot be reached, or refused a step"
        hint = "Records stay in `outputs_dir` until the next run, or `d2i runs push`."
    return StorageError(f"{said} ({kind}).", hint=hint)
