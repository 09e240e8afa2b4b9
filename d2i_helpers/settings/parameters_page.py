"""docs/parameters.md: every parameter with its default, what is allowed and what it is for."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from d2i_helpers.settings import ENV_PREFIX, Secrets, Settings

_HEAD = """# Parameters

Every setting of a run. Written by `d2i spec docs` from the code; do not edit it by hand.

A parameter is taken from the first of these that has it: the command line (`-p name=value`) or
the notebook; the environment (`{prefix}` and the name in capitals); `.env`; the profile in
`params/`; the default below. Unknown names are errors. Text and lists of words are taken as typed:
`012`, `NO` and `1e3` stay so.

| parameter | default | allowed | what it is for |
|---|---|---|---|
"""
_SECRETS = """
## Secrets

Never parameters: they come from the environment, `.env`, a folder named by
`{prefix}SECRETS_DIR`, or the operating system's keyring. See [setup.md](setup.md).

"""


def parameters_page() -> str:
    """The text of docs/parameters.md (Markdown)."""
    rows = [
        f"| `{name}` | {_default(field)} | {', '.join(_allowed(field))} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    secrets = [f"- `{ENV_PREFIX}{name.upper()}`\n" for name in Secrets.model_fields]
    head, tail = _HEAD.format(prefix=ENV_PREFIX), _SECRETS.format(prefix=ENV_PREFIX)
    return head + "".join(rows) + tail + "".join(secrets)


def write_parameters_page(folder: Path) -> Path:
    """Write the page into a folder of docs; returns where."""
    path = folder / "parameters.md"
    path.write_text(parameters_page(), encoding="utf-8", newline="\n")
    return path


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        value = ", ".join(str(part) for part in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(field: FieldInfo) -> Iterator[str]:
    """Words, types and limits, in that order."""
    yield from _kinds(field.annotation)
    for limit in field.metadata:
        for name, sign in (("ge", "from"), ("gt", "above"), ("le", "to")):
            if (bound := getattr(limit, name, None)) is not None:
                yield f"{sign} {bound}"


def _kinds(annotation: Any) -> Iterator[str]:
    names = {str: "text", int: "number", float: "number", bool: "true, false"}
    if typing.get_origin(annotation) is typing.Literal:
        yield from (f"`{word}`" for word in typing.get_args(annotation))
    elif annotation in names:
        yield names[annotation]
    elif typing.get_origin(annotation) is tuple:
        yield "list of words"
    elif parts := [part for part in typing.get_args(annotation) if part is not type(None)]:
        for part in parts:
            yield from _kinds(part)
    else:
        yield getattr(annotation, "__name__", str(annotation))
