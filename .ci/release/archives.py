"""Archives whose bytes depend on their content alone: sorted, one time, one owner, plain rights."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

_WHEN = (2020, 2, 2, 0, 0, 0)  # the wheel's own files have the same
_SECONDS = 1_580_601_600


def pack(files: dict[str, bytes], path: Path) -> None:
    """Write the files (name to content) into a ``.zip`` or ``.tar.gz``; scripts may be executed."""
    if path.suffix == ".zip":
        _zip(files, path)
    else:
        _tar(files, path)


def unpack(archive: tarfile.TarFile, folder: Path | str) -> None:
    """Write what an archive holds into a folder, and nothing beside it."""
    archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
    archive.extractall(folder)


def _zip(files: dict[str, bytes], path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            about = zipfile.ZipInfo(name, _WHEN)
            about.compress_type = _compression(name)
            about.external_attr = _mode(name) << 16
            about.create_system = 3
            archive.writestr(about, files[name])


def _tar(files: dict[str, bytes], path: Path) -> None:
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, _SECONDS) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            about = tarfile.TarInfo(name)
            about.size, about.mtime, about.mode = len(files[name]), _SECONDS, _mode(name)
            archive.addfile(about, io.BytesIO(files[name]))


def _mode(name: str) -> int:
    return 0o755 if name.endswith(".sh") else 0o644


def _compression(name: str) -> int:
    return zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED


def sums(paths: Iterable[Path]) -> str:
    """The lines of a SHA256SUMS file, for `sha256sum --check`."""
    lines = []
    for path in sorted(paths):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)
