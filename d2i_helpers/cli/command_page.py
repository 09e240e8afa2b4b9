"""docs/command_line.md: every command with its arguments, options and help, from the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

_HEAD = """# The command line

Every command of `d2i`. Written by `d2i spec docs` from the code; do not edit it by hand.

A command ends with an exit code: [troubleshooting.md](troubleshooting.md#exit-codes). Without a
command, `d2i` and each group show their help.
"""
_WIDTH = 100  # characters of a usage line
_PARAMETERS = {"--params", "-p"}  # of nearly every command; told once


def command_page(root: click.Command) -> str:
    """The text of docs/command_line.md (Markdown).

    Args:
        root: the group `d2i`, with all of its commands.
    """
    commands = list(_commands("d2i", root))
    rows = [f"| [`{name}`](#{name.replace(' ', '-')}) | {_short(c)} |" for name, c in commands]
    lines = ["", "| command | what it does |", "|---|---|", *rows, "", *_common(commands)]
    for name, command in commands:
        lines += ["", f"## {name}", "", *_about(name, command)]
    return _HEAD + "\n".join(lines) + "\n"


def write_command_page(folder: Path, root: click.Command) -> Path:
    """Write the page into a folder of docs; returns where."""
    path = folder / "command_line.md"
    path.write_text(command_page(root), encoding="utf-8", newline="\n")
    return path


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its words, in the order of the alphabet."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for word, inside in sorted(command.commands.items()):
        yield from _commands(f"{name} {word}", inside)


def _common(commands: list[tuple[str, click.Command]]) -> Iterator[str]:
    """The options that most commands have, from the first that has them."""
    for _, command in commands:
        options = [o for o in _options(command) if _PARAMETERS & set(o.opts)]
        if options:
            yield "Most commands take these, and they are not repeated below:"
            yield ""
            yield from _table(options)
            return


def _about(name: str, command: click.Command) -> Iterator[str]:
    usage = command.collect_usage_pieces(click.Context(command))
    yield _text(command.help or "")
    yield ""
    yield "```text"
    yield " ".join([name, *usage])
    yield "```"
    options = _options(command)
    own = [option for option in options if not _PARAMETERS & set(option.opts)]
    if own:
        yield ""
        yield from _table(own)
    if len(own) < len(options):
        yield ""
        yield "Also `--params` and `-p`, as above."


def _options(command: click.Command) -> list[click.Option]:
    return [o for o in command.params if isinstance(o, click.Option) and not o.hidden]


def _table(options: list[click.Option]) -> Iterator[str]:
    yield "| option | what it is for |"
    yield "|---|---|"
    for option in options:
        names, said = option.get_help_record(click.Context(click.Command("d2i"))) or ("", "")
        escaped = names.replace("|", "\\|")
        yield f"| `{escaped}` | {_text(said).replace('|', chr(92) + '|')} |"


def _short(command: click.Command) -> str:
    return _text(command.get_short_help_str(limit=_WIDTH))


def _text(said: str) -> str:
    """Help in one line; a star is a star."""
    return " ".join(said.split()).replace("*", "\\*")
