"""Ready-to-install entries for cron, systemd, Windows, SQL Server Agent and Airflow.

They fit the machine on which they are made: its Python, this project's folder, this profile. Each
entry writes the run's output to one log file and passes on its exit code.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jinja2

from d2i_helpers.errors import SettingsError
from d2i_helpers.files import make_private_folder
from d2i_helpers.runs.child import run_command, written
from d2i_helpers.settings import load_settings, project_root, read_variables, refuse_unknown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TARGETS = ("cron", "systemd", "windows", "sqlagent", "airflow")
_AGENT_BITS = {"sun": 1, "mon": 2, "tue": 4, "wed": 8, "thu": 16, "fri": 32, "sat": 64}
# an account of Linux, or DOMAIN\name of Windows
_ACCOUNT = re.compile(r"\w[\w.@-]*\$?|[\w.-]+\\[\w. -]+\$?")


@dataclass(frozen=True)
class Entry:
    """One file of a schedule."""

    file_name: str
    how: str  # how it is installed
    text: str
    encoding: str = "utf-8"

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        return self.text.encode(self.encoding)


class _Template(NamedTuple):
    """A file in `templates`, and what is made from it."""

    target: str
    template: str
    file_name: str
    how: str
    encoding: str = "utf-8"


_UNITS = (
    "copy both files to ~/.config/systemd/user/, then `systemctl --user enable --now {name}.timer` "
    "and `loginctl enable-linger`"
)
_UNITS_OF_AN_ACCOUNT = (
    "copy both files to /etc/systemd/system/, then `systemctl daemon-reload` and "
    "`systemctl enable --now {name}.timer`; the account owns the folder of the run records"
)
_CRON_OF_AN_ACCOUNT = "save as /etc/cron.d/{name} (no dot in its name), owned by root, mode 644"
_JOB = (
    "a DBA runs it in SQL Server Management Studio; made on the Windows machine that runs "
    "the Agent; variables belong in the project's .env"
)
_BY_AN_ADMINISTRATOR = {"cron": _CRON_OF_AN_ACCOUNT, "systemd": _UNITS_OF_AN_ACCOUNT}
_TASK = (
    "`schtasks /create /tn {name} /xml {name}.xml /ru USER /rp *`; made on the machine that runs "
    "it; variables belong in the project's .env"
)
_DAG = "copy to Airflow's dags folder, and import its pools: docs/airflow.md"
_TEMPLATES = (
    _Template("cron", "cron.j2", "{name}.cron", "add with `crontab -e` as the user that runs it"),
    _Template("systemd", "systemd.service.j2", "{name}.service", _UNITS),
    _Template("systemd", "systemd.timer.j2", "{name}.timer", _UNITS),
    _Template("windows", "windows.xml.j2", "{name}.xml", _TASK, "utf-16"),  # as schtasks wants it
    _Template("sqlagent", "sql_server_agent.sql.j2", "{name}_job.sql", _JOB, "utf-8-sig"),
    _Template("airflow", "airflow_dag.py.j2", "{module}_dag.py", _DAG),
)


def entries_for(
    parameters: Mapping[str, Any],
    *,
    time: str = "02:00",
    days: str = "daily",
    target: str | None = None,
    env_file: Path | None = None,
    account: str | None = None,
    tries: int = 3,
) -> list[Entry]:
    """The entries for a profile and a time.

    Args:
        parameters: as given to `d2i run`; they are checked now, not at night.
        time: local time of day, HH:MM.
        days: ``daily`` or days such as ``mon,wed``.
        target: one of `TARGETS`; None: all of them.
        env_file: file of ``D2I_…`` variables; ``.env`` in the project's folder is read anyway.
        account: the service account that runs it, installed by an administrator; None: whoever
            installs the entry.
        tries: how often the run begins at most, from 1. Not for Airflow, which counts them itself.

    Raises:
        SettingsError: a parameter, the account, the time or the days are wrong; there is no such
            profile or environment file, or the file cannot be read as one.
        RecordError: the folder of the run records cannot be made.
    """
    settings = load_settings(None, **parameters)
    hour, minute = _time(time)
    if env_file:
        _look_at(env_file)
    profile = str(parameters.get("profile") or settings.profile)
    command = run_command(sys.executable, profile, parameters, tries=tries)
    _check_account(account)
    outputs = settings.path(settings.outputs_dir)
    if account is None:  # the log lies there, and systemd makes no folder for it
        make_private_folder(outputs)
    chosen = _days(days)
    name = re.sub(r"[^a-z0-9]+", "-", f"d2i-{settings.profile}".lower()).strip("-")
    values = {
        "name": name,
        "hour": hour,
        "minute": minute,
        "days": chosen,  # empty: every day
        "day_bits": sum(_AGENT_BITS[day] for day in chosen),
        "account": account,
        "long_days": dict(zip(DAYS, LONG_DAYS, strict=True)),
        "command": command,
        "windows_command": " ".join(map(_cmd_word, command)),
        "folder": project_root(),
        "log": outputs / "schedule.log",
        "env_file": env_file.absolute() if env_file else None,
        "zone": _zone(),
        "module": name.replace("-", "_"),
        "authority": name.removeprefix("d2i-") or "authority",
        "profile": profile,
        "given": {k: written(v) for k, v in parameters.items() if k != "profile" and v is not None},
    }
    templates = _templates()
    return [
        Entry(
            file_name=about.file_name.format(name=name, module=name.replace("-", "_")),
            how=_how(about, account).format(name=name),
            text=templates.get_template(about.template).render(values),
            encoding=about.encoding,
        )
        for about in _TEMPLATES
        if target in (None, about.target)
    ]


def _look_at(env_file: Path) -> None:
    """Refuse now a file that would end the run at night. A shell reads it, not this project.

    Raises:
        SettingsError: see `entries_for`.
    """
    if not env_file.is_file():
        raise SettingsError(
            f"There is no environment file {env_file.name} in {env_file.absolute().parent}.",
            hint="Make it first: lines of NAME=value, readable by the user that runs the day.",
        )
    refuse_unknown(read_variables(env_file), env_file.name)
    if env_file.read_bytes().startswith(
        (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    ):
        raise SettingsError(
            f"{env_file.name} begins with a byte-order mark, which no shell takes.",
            hint="Save it as UTF-8 without a mark (without BOM).",
        )


def _check_account(account: str | None) -> None:
    """Raise SettingsError for what is no name of an account: it stands in units and crontabs."""
    if account is not None and not _ACCOUNT.fullmatch(account):
        raise SettingsError(
            "That is no name of an account.",
            hint=r"Examples: --account d2i, --account DOMAIN\svc-d2i, --account DOMAIN\gmsa-d2i$",
        )


def _how(about: _Template, account: str | None) -> str:
    """How an entry is installed, by whoever runs it or by an administrator."""
    if account and about.target in _BY_AN_ADMINISTRATOR:
        return _BY_AN_ADMINISTRATOR[about.target]
    return about.how


def _time(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if match is None:
        raise SettingsError(f"`{text}` is not a time of day.", hint="Example: --at 02:30.")
    return int(match[1]), int(match[2])


def _days(text: str) -> tuple[str, ...]:
    if text.strip().lower() == "daily":
        return ()
    chosen = {part.strip().lower()[:3] for part in text.split(",") if part.strip()}
    unknown = chosen - set(DAYS)
    if unknown or not chosen:
        raise SettingsError(f"`{text}` names no days.", hint=f"daily, or of {', '.join(DAYS)}.")
    return tuple(day for day in DAYS if day in chosen)


# ------------------------------------------------------------------------------------- templates
def _percent(text: Any) -> str:
    """A text for systemd, where `%` begins a specifier."""
    return str(text).replace("%", "%%")


def _unit_word(word: str) -> str:
    """A word of ExecStart: `%` and `$` have a meaning there, spaces and quotes end a word."""
    word = _percent(word).replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word):
        return word
    quoted = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _unit_path(path: str) -> str:
    """A path in a list of paths of a unit, where a space ends one."""
    return f'"{_percent(path)}"' if re.search(r"[\s'\"]", path) else _percent(path)


def _cmd_word(word: str) -> str:
    """A word of a command line of Windows that cmd.exe reads first: `&` would end it there.

    What stands in quotes cmd takes as it is, but a quote within them it takes for their end.
    """
    if '"' in word or word.endswith("\\"):
        return re.sub(r'["&|<>^]', r"^\g<0>", subprocess.list2cmdline([word]))
    return f'"{word}"' if not word or re.search(r"[\s&|<>^]", word) else word


def _tsql(text: Any) -> str:
    """A text as a literal of T-SQL in a step of SQL Server Agent.

    Raises:
        SettingsError: it holds what the Agent takes for one of its tokens.
    """
    if "$(" in str(text):
        raise SettingsError(
            "A path or a parameter holds `$(`, which SQL Server Agent takes for a token.",
            hint="Choose another folder, or another target, such as --for cron.",
        )
    return "N'" + str(text).replace("'", "''") + "'"


def _zone() -> str:
    """This machine's time zone by name: Airflow would take the time of day for UTC."""
    where = Path("/etc/localtime")
    name = os.environ.get("TZ") or str(where.resolve()).rpartition("zoneinfo/")[2]
    try:
        return ZoneInfo(name.lstrip(":")).key
    except (ValueError, ZoneInfoNotFoundError):  # no name, as on Windows
        return "Europe/London"


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # each format has its own way to escape
    )
    environment.filters |= {
        "sh": lambda text: shlex.quote(str(text)),
        "percent": _percent,
        "unit_word": _unit_word,
        "unit_path": _unit_path,
        "tsql": _tsql,
        "python": repr,
        "xml": lambda text: escape(str(text)),
    }
    return environment
