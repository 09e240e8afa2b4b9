"""Parameters from all their sources, in order of precedence, and messages about wrong ones.

What is typed in a file, a variable or on a command line arrives as text and becomes what the
parameter is declared to be; nothing guesses at a type before that.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import Unreadable, as_name, parse_yaml, read_text
from d2i_helpers.settings import sql_server
from d2i_helpers.settings.addresses import ADDRESSES, AddressParts, address_parts
from d2i_helpers.settings.environment import (
    process_variables,
    refuse_unknown,
    said_of,
    unknown_names,
    variables_in_dotenv,
)
from d2i_helpers.settings.model import (
    ENV_PREFIX,
    Secrets,
    Settings,
    declared,
    may_be_none,
)
from d2i_helpers.settings.root import project_root

# where a password belongs if somebody writes it into an address
_SECRET_OF = {
    "database_url": "DATABASE_PASSWORD",
    "proxy": "PROXY_PASSWORD",
    "api_base_url": "CLIENT_SECRET",
    "token_url": "CLIENT_SECRET",
}
# what pydantic calls a fault: what is needed
_PLAIN_WORDS = {
    "bool_parsing": "true or false is needed",
    "int_parsing": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_parsing": "a number is needed, such as 1.5 (with a point, not with a comma)",
}
_NEVER_WITH_A_LOGIN = frozenset({"api_base_url", "token_url"})


def read_profile(profile: str) -> dict[str, Any]:
    """The parameters in ``params/<profile>.yaml`` (or in the file that ``profile`` names), as text.

    Raises:
        SettingsError: there is no such file, it is empty, not YAML or not UTF-8, a name stands
            twice in it, or it is not a table of names.
    """
    path = Path(profile)
    if profile.startswith("~"):
        path = _at_home(path)
    if path.suffix not in {".yaml", ".yml"}:
        path = project_root() / "params" / f"{profile}.yaml"
    elif not path.is_absolute() and not path.is_file():
        path = project_root() / path
    if not path.is_file():
        files = (project_root() / "params").glob("*.yaml")
        known = sorted(path.stem for path in files if _may_be_profile(path))
        said = f"There is no profile {path.name}."
        if Path(profile).is_dir():
            said = f"{profile} is a folder, and a profile is a file."
        raise SettingsError(said, hint=f"Known: {', '.join(known)}.")
    with said_of(path):
        text = read_text(path)
        content = parse_yaml(text)
    if not text.strip():  # as a save to a full disk leaves it; the defaults would be the demo's
        raise SettingsError(
            f"{path.name} is empty.",
            hint="Put back what it held; `params/demo.yaml` is an example.",
        )
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{path.name} must be a list of `name: value` lines.")
    return {"profile": path.stem, **(content or {})}


def _may_be_profile(path: Path) -> bool:
    """Whether a file of ``params`` is no overlay of the specification, as far as can be told."""
    try:
        content = parse_yaml(read_text(path))
    except (OSError, Unreadable):  # it is named, and says what is wrong with it when it is used
        return True
    # the only name that stands in both
    return not isinstance(content, dict) or any(
        name in Settings.model_fields for name in content if name != "volatile_ids"
    )


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise SettingsError("The home folder that `~` stands for is not known.") from None


def as_declared(name: str, text: str) -> Any:
    """What is typed for a parameter on a command line, as the parameter is declared.

    Text and lists stay as typed, but for one pair of quotes around them; ``null``, ``~`` or
    nothing is None where the parameter may be without a value. What does not fit is left as it
    is, and `load_settings` names it.
    """
    typed = _unquoted(text.strip())
    if name not in Settings.model_fields:
        return typed
    if may_be_none(name) and text.strip() in ("", "~", "null", "Null", "NULL"):
        return None
    if declared(name) in ("text", "list", "date"):
        return typed
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Settings.model_fields[name].annotation or str)
        return adapter.validate_python(typed)
    except ValidationError:
        return typed


def _unquoted(text: str) -> str:
    """The text inside one pair of quotes, as YAML reads it; other text as it is."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        try:
            inner = parse_yaml(text)
        except Unreadable:
            return text
        return inner if isinstance(inner, str) else text
    return text


def _check_names(names: Mapping[str, Any], where: str) -> None:
    """Raise `SettingsError` for names that are no parameter, with the nearest that is."""
    for name in names:
        if name in Settings.model_fields:
            continue
        if name in Secrets.model_fields:
            raise SettingsError(
                f"{where}: `{name}` is a secret and may not be a parameter (it would be saved).",
                hint=f"Set it in the environment or in .env as {ENV_PREFIX}{name.upper()}.",
            )
        near = difflib.get_close_matches(str(name), Settings.model_fields, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else "docs/parameters.md lists all."
        raise SettingsError(f"{where}: there is no parameter `{as_name(name)}`.", hint=hint)


def parameters_in_environment() -> dict[str, str]:
    """Parameters set in ``.env`` and, before it, in the environment, as text."""
    in_file, in_process = variables_in_dotenv(), process_variables()
    refuse_unknown(in_file, ".env")
    # other software may have a variable that begins alike; what is near to ours is a slip
    slips = [name for name, near in unknown_names(in_process).items() if near]
    refuse_unknown({name: in_process[name] for name in slips}, "The environment")
    held = {**in_file, **in_process}
    variables = {name: f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    return {name: held[variable] for name, variable in variables.items() if variable in held}


def load_settings(names: Mapping[str, Any] | None = None, **parameters: Any) -> Settings:
    """The settings of this run.

    Args:
        names: a notebook's ``globals()``; names of parameters in it that are not None count, and
            so do those in its ``overrides``.
        parameters: further parameters, which win.

    Raises:
        SettingsError: an unknown name or a value that is not allowed; names each.
    """
    given = {k: v for k, v in (names or {}).items() if k in Settings.model_fields and v is not None}
    overrides = {**_overrides((names or {}).get("overrides")), **parameters}
    _check_names(overrides, "Parameters")
    given.update({k: v for k, v in overrides.items() if v is not None})
    environment = parameters_in_environment()
    profile = given.pop("profile", environment.get("profile", "demo"))
    if not isinstance(profile, str):
        raise SettingsError("`profile` must be the name of a profile, as text.", hint="Quote it.")
    if not profile.strip():  # as a variable leaves it that nobody set; it would stand for the demo
        raise SettingsError(
            "`profile` is empty.",
            hint="Name one, such as demo, or leave it (in the environment D2I_PROFILE) out.",
        )
    in_file = read_profile(profile)
    _check_names(in_file, f"params/{in_file['profile']}.yaml")
    return _checked(in_file, environment, given)


def check_profile(content: Mapping[str, Any], where: str) -> None:
    """Check what a profile holds, on its own: without the environment and without `.env`.

    Args:
        content: as `read_profile` returns it.
        where: what an error calls it.

    Raises:
        SettingsError: an unknown name or a value that is not allowed; names each.
    """
    _check_names(content, where)
    _checked(content, {}, {})


def _checked(
    in_file: Mapping[str, Any], environment: Mapping[str, Any], given: Mapping[str, Any]
) -> Settings:
    """The settings that three layers make, the last one first in rank."""
    layers = (in_file, environment, given)
    merged = {**in_file, **environment, **given, "profile": in_file["profile"]}
    by_parts = sql_server.parts_decide(layers)
    if by_parts:
        merged.pop("database_url", None)
    _refuse_password(merged, from_environment=environment.keys() - given.keys())
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(
            _explain(error), hint="docs/parameters.md lists what is allowed."
        ) from None
    if not by_parts:
        sql_server.refuse_parts_without_server(layers)
        return settings
    return settings.model_copy(update={"database_url": sql_server.database_url(settings)})


def _overrides(given: Any) -> Mapping[str, Any]:
    """A notebook's ``overrides``; papermill's ``-p`` hands a dictionary over as text."""
    if given is None or given == "":
        return {}
    if not isinstance(given, Mapping):
        raise SettingsError(
            "`overrides` must be a table of names and values, and something else came.",
            hint="With papermill: -y '{overrides: {phase: full}}'. With `d2i`: -p phase=full.",
        )
    return given


def _explain(error: ValidationError) -> str:
    """Name and rule of each wrong parameter, without its value."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in fault["loc"]) or "settings"
        lines.append(f"`{name}`: {_in_plain_words(fault['type'], fault['msg'], name)}.")
    return "Wrong parameter: " + " ".join(lines)


def _in_plain_words(kind: str, said: str, name: str) -> str:
    """What pydantic says of a value, for people who know neither its types nor its patterns."""
    if kind == "string_pattern_mismatch" and name in Settings.model_fields:
        return f"not of the form that is needed: {Settings.model_fields[name].description}"
    said = said.removeprefix("Value error, ").replace("Input should be", "it has to be")
    return _PLAIN_WORDS.get(kind, said)


def check_addresses(parameters: Mapping[str, Any]) -> None:
    """Refuse addresses that may not be parameters; any other parameter is left alone.

    Raises:
        SettingsError: an address holds a password, or a part that is not known to be harmless.
    """
    _refuse_password(parameters, from_environment=frozenset())


def _refuse_password(merged: Mapping[str, Any], *, from_environment: Set[str]) -> None:
    """A password in a URL would be saved with the parameters; in the environment it is fine."""
    for name in ADDRESSES:
        value = merged.get(name)
        if not isinstance(value, str):
            continue
        if name == "database_url":
            _check_database_url(value)
        if name not in from_environment or name in _NEVER_WITH_A_LOGIN:
            _refuse_in_parameter(name, address_parts(name, value))


def _refuse_in_parameter(name: str, parts: AddressParts) -> None:
    if parts.holds_password:
        whole = f"{ENV_PREFIX}{name.upper()}"
        variable = f"{ENV_PREFIX}{_SECRET_OF[name]}" if name in _SECRET_OF else whole
        may_be_whole = name not in _NEVER_WITH_A_LOGIN and variable != whole
        raise SettingsError(
            f"`{name}` holds a password or a key, and parameters are saved with the run.",
            hint=f"Take it out and set {variable}"
            f"{f', or the whole address as {whole},' if may_be_whole else ''}"
            " in the environment or in .env.",
        )
    if parts.holds_unknown and name in ("database_url", "proxy"):
        raise SettingsError(
            f"`{name}` has a part that is not known to be harmless, and parameters are saved with "
            f"the run. What is known: {parts.saved}",
            hint=f"Take the part out, or set the whole address as {ENV_PREFIX}{name.upper()} in "
            "the environment or in .env; docs/setup.md, *Secrets*, says what may stand in it.",
        )


def _check_database_url(value: str) -> None:
    try:
        make_url(value)
    except (ArgumentError, ValueError):  # the text of a ValueError quotes what is no port
        raise SettingsError(
            "`database_url` is not a URL that SQLAlchemy understands.",
            hint="Examples: sqlite:///file.sqlite, postgresql+psycopg://user@host/name. For SQL "
            "Server give its parts instead: `sql_server`, `sql_server_database`.",
        ) from None
