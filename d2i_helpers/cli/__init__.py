"""`d2i …`: thin commands over the package."""

from d2i_helpers.cli.commands import cli, main, read_parameters, read_value

__all__ = [
    "cli",
    "main",
    "read_parameters",
    "read_value",
]
