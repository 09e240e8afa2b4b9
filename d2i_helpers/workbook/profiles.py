"""The profiles of the test phases, filled in with what an authority said of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import parse_yaml
from d2i_helpers.settings import check_profile

PHASES = range(1, 6)
_OF_A_SQL_SERVER = ("sql_server", "sql_server_database")
_LINE = re.compile(r"(?P<name>\w+):(?P<space> +)(?P<value>'[^']*'|\"[^\"]*\"|\S+)(?P<rest>.*)")
# no sign in it, or at its beginning, has a meaning in YAML
_PLAIN = re.compile(r"(?!null$|Null$|NULL$)[\w./\\(+](?:[\w ./\\,@?=&+()$-]|:(?=\S))*")


@dataclass(frozen=True)
class Answers:
    """What an authority said of itself.

    Attributes:
        parameters: names and values, as they will stand in each profile.
        phase: the test phase it begins with, 1 to 5.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    phase: int = 1


def make_answers(parameters: Mapping[str, str | None], phase: int = 1) -> Answers:
    """Answers that every profile takes; what is None or empty was not answered.

    Raises:
        SettingsError: a name that is no parameter, a value that is not allowed, two databases.
    """
    given = {name: value for name, value in parameters.items() if value}
    if phase not in PHASES:
        raise SettingsError(f"There is no test phase {phase}.", hint="They are 1 to 5.")
    if "database_url" in given and any(name in given for name in _OF_A_SQL_SERVER):
        raise SettingsError(
            "Both `database_url` and a `sql_server` are given.", hint="Give one of the two."
        )
    # a server may be known before its database is; the profile then holds the template's word
    whole = {"sql_server_database": "DATABASE"} if "sql_server" in given else {}
    check_profile({"profile": "demo", **whole, **given}, "Answers")
    return Answers(given, phase)


def profile_of(phase: int, names: list[str]) -> str:
    """The name of the profile of a test phase, among file names."""
    stems = [PurePosixPath(name).stem for name in names]
    return next(stem for stem in stems if stem.startswith(f"phase{phase}"))


def is_of_a_phase(path: str) -> bool:
    """Whether a path of the workbook is the profile of a test phase."""
    return re.fullmatch(r"params/phase\d\w*\.yaml", path) is not None


def filled_in(template: str, answers: Mapping[str, str]) -> str:
    """A profile with the answers in place of the template's words; comments stay.

    A parameter that the template does not name is added at the end.
    """
    left = dict(answers)
    by_url = "database_url" in left
    lines: list[str] = []
    for line in template.splitlines():
        match = _LINE.fullmatch(line)
        name = match["name"] if match else ""
        if by_url and name in _OF_A_SQL_SERVER:
            if name == _OF_A_SQL_SERVER[0]:
                lines.append(f"database_url: {as_yaml(left.pop('database_url'))}")
        elif match and name in left:
            lines.append(f"{name}:{match['space']}{as_yaml(left.pop(name))}{match['rest']}")
        else:
            lines.append(line)
    lines += [f"{name}: {as_yaml(value)}" for name, value in left.items()]
    return "\n".join(lines) + "\n"


def as_yaml(value: str) -> str:
    """A value as it is typed in a profile: read again, it is the same text."""
    if value.isdigit():  # a code keeps its zeros here and in any other reader of YAML
        return f'"{value}"'
    if _PLAIN.fullmatch(value) and value == value.strip():
        return value
    return "'" + value.replace("'", "''") + "'"


def still_to_fill_in(profile: str) -> list[str]:
    """Parameters of a profile that still hold a word of the template, such as TENANT."""
    content = parse_yaml(profile)
    words = re.compile(r"\b(?:SERVER|DATABASE|TENANT|SCOPE)\b")
    open_ = [name for name, value in content.items() if value and words.search(str(value))]
    return (["la_code"] if content.get("la_code") == "000" else []) + open_
