"""`d2i …`: thin commands over the package."""

from d2i_helpers.cli.commands import cli, main, read_parameters
from d2i_helpers.cli.record_commands import runs, schedule, spec
from d2i_helpers.cli.workbook_commands import new, upgrade

for _command in (runs, spec, schedule, new, upgrade):
    cli.add_command(_command)

__all__ = ["cli", "main", "read_parameters"]
