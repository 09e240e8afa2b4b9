"""The authorities of an installation: what the runs of each are given, and a file that names them.

A scheduler's own Python may import this, so what is not light is imported where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from d2i_helpers import stages
from d2i_helpers.errors import SettingsError

PREFLIGHT = "preflight"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PREFIX = "D2I_"
# beside the names by which secrets are searched for everywhere
_OF_A_LOGIN = re.compile(r"(?:key|client_id|proxy_user)$", re.IGNORECASE)


@dataclass(frozen=True)
class Authority:
    """One authority of an installation.

    Attributes:
        name: letters, digits, `_`, `-`.
        profile: its profile in params/; empty: the same word as its name.
        shards: processes that share its children (PostgreSQL, SQL Server, Oracle).
        stages: in the order of the day, without preflight, which comes first by itself; an item may
            name several (`delta,submit`).
        parameters: further parameters of its runs; no secrets.
        environment: variables of its runs; no secrets, but for example D2I_SECRETS_DIR.
        env_file: a file of NAME=value lines that a shell reads before each of its runs.
    """

    name: str
    profile: str = ""
    shards: int = 1
    stages: Sequence[str] = ("extract", "anonymise", "delta", "submit")
    parameters: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    env_file: str | None = None

    def check(self) -> None:
        """Refuse what no night could run.

        Raises:
            SettingsError: a name, the number of shards or a stage is wrong.
        """
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                f"`{self.name}` is no name of an authority.", hint="Letters, digits, _ and -."
            )
        from d2i_helpers.settings import MOST_SHARDS

        if not 1 <= self.shards <= MOST_SHARDS:
            raise SettingsError(
                f"{self.name}: shards is {self.shards}.", hint=f"From 1 to {MOST_SHARDS}."
            )
        named = [part for item in self.stages for part in item.split(",")]
        known = [name for name in stages.names() if name != PREFLIGHT]
        if not named or named != [name for name in known if name in named]:
            raise SettingsError(
                f"{self.name}: its stages are not stages in the order of the day.",
                hint=f"Of these, each once: {', '.join(known)}.",
            )


def check_all(authorities: Sequence[Authority]) -> None:
    """Check each, and that each is there once.

    Raises:
        SettingsError: an authority is not as it must be, is there twice, or there is none.
    """
    for authority in authorities:
        authority.check()
    names = [authority.name for authority in authorities]
    if not names or len(set(names)) < len(names):
        raise SettingsError("An authority is there twice, or there is none.")


def refuse_what_may_not_travel(authority: Authority) -> None:
    """Refuse secrets and ids of children: a cluster and Airflow keep and show what tasks are given.

    Raises:
        SettingsError: names the parameter or the variable, and never its value.
    """
    from d2i_helpers.privacy.secrets_in_force import is_name_of_a_secret
    from d2i_helpers.runs.plan import NEVER_SAVED
    from d2i_helpers.settings import check_addresses
    from d2i_helpers.settings.addresses import secrets_in_text

    variables = authority.environment.items()
    as_parameters = {name.upper().removeprefix(_PREFIX).lower(): v for name, v in variables}
    for given in (authority.parameters, as_parameters):
        for name, value in given.items():
            # a variable of other software may hold one in an address, such as HTTPS_PROXY
            holds_one = isinstance(value, str) and bool(secrets_in_text(value))
            is_named_so = is_name_of_a_secret(name) or bool(_OF_A_LOGIN.search(name))
            if holds_one or is_named_so or name in NEVER_SAVED:
                raise SettingsError(
                    f"{authority.name}: `{name}` may not be handed to a cluster or to Airflow, "
                    "which show what their tasks are given.",
                    hint="Secrets belong in .env of the workbook, in env_file or in the secret "
                    "store, on the workers. For some persons only, use `d2i run` without them.",
                )
        check_addresses(given)


def to_run(file: Path | None, parameters: Mapping[str, Any], shards: int = 1) -> list[Authority]:
    """The authorities that a command names: those of a file, or the one of its profile.

    Args:
        parameters: of all runs; with a file without a profile.

    Raises:
        SettingsError: see `read_authorities`; a profile or shards beside a file.
    """
    given = {name: value for name, value in parameters.items() if name != "profile"}
    if file is None:
        profile = str(parameters.get("profile") or "demo")
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(profile).stem)
        return [Authority(name, profile, shards, parameters=given)]
    if "profile" in parameters or shards != 1:
        raise SettingsError(
            "Beside --authorities, --params and --shards mean nothing.",
            hint=f"{file.name} says `profile` and `shards` of each.",
        )
    return [replace(one, parameters={**one.parameters, **given}) for one in read_authorities(file)]


def read_authorities(path: Path) -> list[Authority]:
    """The authorities that a file names: a table with a name for each, and what it has.

    Raises:
        SettingsError: the file cannot be read, or something in it is no property of an authority.
    """
    from d2i_helpers.hand_written import parse_yaml, read_text
    from d2i_helpers.settings import said_of

    with said_of(path):
        content = parse_yaml(read_text(path))
    if not isinstance(content, dict) or not content:
        raise SettingsError(f"{path.name} must be a table of authorities.", hint=_EXAMPLE)
    return [_authority(str(name), about, path.name) for name, about in content.items()]


_EXAMPLE = "Such as `northshire: {profile: phase5_live, shards: 4}`; docs/dask.md."
_KIND = {"shards": int, "stages": list, "parameters": dict, "environment": dict}


def _authority(name: str, about: Any, file_name: str) -> Authority:
    """One entry; all values come as text."""
    where = f"{file_name}, {name}"
    if about is not None and not isinstance(about, dict):
        raise SettingsError(f"{where}: it must be a table, or nothing.", hint=_EXAMPLE)
    known = [f.name for f in fields(Authority) if f.name != "name"]
    given: dict[str, Any] = {}
    for key, value in (about or {}).items():
        if key not in known:
            raise SettingsError(f"{where}: there is no `{key}`.", hint=f"Of {', '.join(known)}.")
        if value is None:
            continue
        if key == "shards" and str(value).isdecimal():
            value = int(value)
        if key == "stages" and isinstance(value, str):
            value = [value]
        if not isinstance(value, _KIND.get(key, str)):
            raise SettingsError(f"{where}: `{key}` is not of the right kind.", hint=_EXAMPLE)
        given[key] = value
    return Authority(name, **given)
