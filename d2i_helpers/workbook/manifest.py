"""What was laid out in a workbook, so that a person's change can be told from an old version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2i_helpers.errors import SettingsError
from d2i_helpers.workbook.profiles import Answers

MANIFEST = ".d2i-workbook.json"


@dataclass(frozen=True)
class Manifest:
    """The note of a workbook.

    Attributes:
        version: of this project, when the workbook was laid out or last renewed.
        answers: what the authority said of itself.
        files: path to the fingerprint of what this project laid out there.
    """

    version: str
    answers: Answers
    files: Mapping[str, str]

    def content(self) -> bytes:
        """The manifest as a file."""
        return (
            json.dumps(
                {
                    "version": self.version,
                    "phase": self.answers.phase,
                    "answers": dict(self.answers.parameters),
                    "files": dict(sorted(self.files.items())),
                },
                indent=1,
                ensure_ascii=False,
            ).encode()
            + b"\n"
        )


def read_manifest(root: Path) -> Manifest:
    """The manifest of a workbook.

    Raises:
        SettingsError: there is none, as in a clone, or it is damaged.
    """
    path = root / MANIFEST
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        answers = Answers({str(k): str(v) for k, v in held["answers"].items()}, held["phase"])
        files = {str(k): str(v) for k, v in held["files"].items()}
        return Manifest(str(held["version"]), answers, files)
    except FileNotFoundError:
        raise SettingsError(
            f"{root} was not laid out by `d2i new`: it holds no {MANIFEST}.",
            hint="A clone is renewed with `git pull`. Else lay out a new workbook beside this one "
            "and copy params/, .env and outputs/ into it.",
        ) from None
    except OSError as error:
        raise SettingsError(f"{MANIFEST} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(
            f"{MANIFEST} in {root} is damaged.",
            hint="Take it from a backup, or lay out a new workbook beside this one and copy "
            "params/, .env and outputs/ into it.",
        ) from None


def fingerprint(path: str, content: bytes) -> str:
    """A hash of what a person may have changed: of a notebook its cells, not what it printed."""
    cells = _cells(content) if path.endswith(".ipynb") else None
    meant = content.replace(b"\r\n", b"\n") if cells is None else json.dumps(cells).encode()
    return hashlib.sha256(meant).hexdigest()


def as_text(path: str, content: bytes) -> str:
    """A file as a person compares it: of a notebook its cells, one after the other."""
    cells = _cells(content) if path.endswith(".ipynb") else None
    if cells is None:
        return content.decode("utf-8", "replace")
    return "".join(
        f"# %% [{kind}]{' tags=' + ','.join(tags) if tags else ''}\n{source.rstrip()}\n\n"
        for kind, source, tags in cells
    )


def _cells(content: bytes) -> list[tuple[str, str, list[str]]] | None:
    """Kind, source and tags of a notebook's cells; None where it is no notebook."""
    try:
        return [_cell(cell) for cell in json.loads(content)["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _cell(cell: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    source = cell["source"]
    text = source if isinstance(source, str) else "".join(source)
    return cell["cell_type"], text, sorted(cell.get("metadata", {}).get("tags", []))
