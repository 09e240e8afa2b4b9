"""A parameter on a command line: NAME=VALUE."""

from __future__ import annotations

from d2i_helpers.errors import SettingsError


def name_and_value(pair: str) -> tuple[str, str]:
    """The parameter's name, and its value as it was typed.

    Raises:
        SettingsError: there is no name, or no ``=``.
    """
    name, equals, text = pair.partition("=")
    if not equals or not name.strip():
        from d2i_helpers.hand_written import as_name

        raise SettingsError(
            f"`-p {as_name(name)}` is not NAME=VALUE.", hint="Example: -p phase=full"
        )
    return name.strip().replace("-", "_"), text
