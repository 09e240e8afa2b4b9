"""Where parameters come from, in their order, and what is said of a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings.sources import DotEnvSettingsSource, EnvSettingsSource
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from d2i_helpers.errors import SettingsError
from d2i_helpers.settings.model import ENV_PREFIX, Settings, project_root
from d2i_helpers.settings.secret_store import Secrets
from d2i_helpers.url_secrets import ADDRESSES, AddressParts, address_parts

# where a password belongs that somebody writes into an address
_SECRET_OF = {
    "database_url": "DATABASE_PASSWORD",
    "proxy": "PROXY_PASSWORD",
    "api_base_url": "CLIENT_SECRET",
    "token_url": "CLIENT_SECRET",
}
_NEVER_WITH_A_LOGIN = frozenset({"api_base_url", "token_url"})


def read_profile(profile: str) -> dict[str, Any]:
    """The parameters in ``params/<profile>.yaml`` (or in the file that ``profile`` names).

    Raises:
        SettingsError: there is no such file, it is not YAML, or it is not a table of names.
    """
    path = Path(profile)
    if path.suffix not in {".yaml", ".yml"}:
        path = project_root() / "params" / f"{profile}.yaml"
    elif not path.is_absolute() and not path.is_file():
        path = project_root() / path
    if not path.is_file():
        known = sorted(p.stem for p in (project_root() / "params").glob("*.yaml"))
        raise SettingsError(f"There is no profile {path.name}.", hint=f"Known: {', '.join(known)}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(
            f"{path.name}{where} is not valid YAML.", hint="Check indentation, colons and quotes."
        ) from None
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{path.name} must be a list of `name: value` lines.")
    return {"profile": path.stem, **(content or {})}


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
        raise SettingsError(f"{where}: there is no parameter `{name}`.", hint=hint)


def parameters_in_environment() -> dict[str, Any]:
    """Parameters set in ``.env`` and, before it, in the environment."""
    dotenv = DotEnvSettingsSource(Settings, env_file=project_root() / ".env", env_prefix=ENV_PREFIX)
    found = {**dotenv(), **EnvSettingsSource(Settings, env_prefix=ENV_PREFIX)()}
    return {name: value for name, value in found.items() if name in Settings.model_fields}


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
    overrides = {**((names or {}).get("overrides") or {}), **parameters}
    _check_names(overrides, "Parameters")
    given.update({k: v for k, v in overrides.items() if v is not None})
    environment = parameters_in_environment()
    profile = given.pop("profile", None) or environment.get("profile") or "demo"
    in_file = read_profile(profile)
    _check_names(in_file, f"params/{in_file['profile']}.yaml")
    merged = {**in_file, **environment, **given, "profile": in_file["profile"]}
    _refuse_password(merged, from_environment=environment.keys() - given.keys())
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(
            _explain(error), hint="docs/parameters.md lists what is allowed."
        ) from None


def _explain(error: ValidationError) -> str:
    """Name and rule of each wrong parameter, without its value."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in fault["loc"]) or "settings"
        lines.append(f"`{name}`: {fault['msg']}.")
    return "Wrong parameter: " + " ".join(lines)


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
        variable = f"{ENV_PREFIX}{_SECRET_OF.get(name, name.upper())}"
        raise SettingsError(
            f"`{name}` holds a password or a key, and parameters are saved with the run.",
            hint=f"Take it out and set {variable} in the environment or in .env.",
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
            hint="Examples: sqlite:///file.sqlite, postgresql+psycopg://user@host/name, "
            "mssql+pyodbc://@server/name?driver=ODBC+Driver+18+for+SQL+Server.",
        ) from None
