"""Ready-to-install entries for cron, systemd, Windows Task Scheduler and Airflow.

Made for the machine on which they are made: its Python, this project's folder, this profile. Each
entry writes what the run says to one log file and hands on its exit code.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from d2i_helpers.errors import SettingsError
from d2i_helpers.files import make_private_folder
from d2i_helpers.settings import load_settings, project_root, read_variables, refuse_unknown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TARGETS = ("cron", "systemd", "windows", "airflow")
# what may be over when the same run is started again: database, token, receiver, time, kernel, lock
_LATEST_HOURS = 6  # after its time of day, in which Airflow may start a run
WORTH_ANOTHER_TRY = (4, 8, 9, 11, 12, 14)


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


@dataclass(frozen=True)
class _Plan:
    hour: int
    minute: int
    days: tuple[str, ...]  # empty: every day
    command: tuple[str, ...]
    folder: Path
    log: Path
    env_file: Path | None
    name: str


def entries_for(
    parameters: Mapping[str, Any],
    *,
    time: str = "02:00",
    days: str = "daily",
    target: str | None = None,
    env_file: Path | None = None,
) -> list[Entry]:
    """The entries for a profile and a time.

    Args:
        parameters: as given to `d2i run`; they are checked now, not at night.
        time: local time of day, HH:MM.
        days: ``daily`` or days such as ``mon,wed``.
        target: one of `TARGETS`; None: all.
        env_file: file of ``D2I_…`` variables; ``.env`` in the project's folder is read anyway.

    Raises:
        SettingsError: a parameter, the time or the days are wrong; there is no such profile or
            environment file, or the file cannot be read as one.
        RecordError: the folder of the run records cannot be made.
    """
    settings = load_settings(None, **parameters)
    hour, minute = _time(time)
    if env_file:
        _look_at(env_file)
    command = [sys.executable, "-m", "d2i_helpers", "run", "--summary", "json"]
    command += ["--params", str(parameters.get("profile") or settings.profile)]
    for name, value in parameters.items():
        if name != "profile" and value is not None:
            command += ["-p", f"{name}={_written(value)}"]
    outputs = make_private_folder(
        settings.path(settings.outputs_dir)
    )  # for the log, from the start
    plan = _Plan(
        hour=hour,
        minute=minute,
        days=_days(days),
        command=tuple(command),
        folder=project_root(),
        log=outputs / "schedule.log",
        env_file=env_file.absolute() if env_file else None,
        name=re.sub(r"[^a-z0-9]+", "-", f"d2i-{settings.profile}".lower()).strip("-"),
    )
    makers = {"cron": _cron, "systemd": _systemd, "windows": _windows, "airflow": _airflow}
    return [entry for name in TARGETS if target in (None, name) for entry in makers[name](plan)]


def _look_at(env_file: Path) -> None:
    """Find today what would end the run at night: a shell reads this file, not the project.

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


def _written(value: Any) -> str:
    """A value as it is given on a command line (YAML)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return json.dumps(list(value))
    return str(value)


# ------------------------------------------------------------------------------------------ cron
def _cron(plan: _Plan) -> list[Entry]:
    days = ",".join(plan.days) or "*"
    # one chain: where the folder or the file is not there nothing runs, and cron mails why
    file = shlex.quote(str(plan.env_file))
    load = f"set -a && . {file} && set +a && " if plan.env_file else ""
    command = (
        f"umask 077 && mkdir -p {shlex.quote(str(plan.log.parent))} && "
        f"cd {shlex.quote(str(plan.folder))} && {load}{shlex.join(plan.command)} "
        f">> {shlex.quote(str(plan.log))} 2>&1"
    )
    line = f"{plan.minute} {plan.hour} * * {days} " + command.replace("%", r"\%")
    text = (
        f"# D2I workbook, {plan.name}. cron gives no environment: all paths are whole.\n"
        f"# {plan.log} grows by some lines a day; logrotate or `tail` keeps it short.\n"
        f"{line}\n"
    )
    return [Entry(f"{plan.name}.cron", "add with `crontab -e` as the user that runs it", text)]


# --------------------------------------------------------------------------------------- systemd
def _systemd(plan: _Plan) -> list[Entry]:
    environment = f"EnvironmentFile={_percent(plan.env_file)}\n" if plan.env_file else ""
    service = f"""[Unit]
Description=D2I workbook, {plan.name}

[Service]
Type=oneshot
WorkingDirectory={_percent(plan.folder)}
{environment}ExecStart={" ".join(_unit_word(word) for word in plan.command)}
StandardOutput=append:{_percent(plan.log)}
StandardError=append:{_percent(plan.log)}
UMask=0077
NoNewPrivileges=yes
# a run that is told to stop ends its stage in order and can be resumed
KillMode=mixed
TimeoutStopSec=60
TimeoutStartSec=infinity
"""
    days = ",".join(day.capitalize() for day in plan.days)
    when = f"{days + ' ' if days else ''}*-*-* {plan.hour:02d}:{plan.minute:02d}:00"
    timer = f"""[Unit]
Description=When the D2I workbook runs, {plan.name}

[Timer]
OnCalendar={when}
# after the machine was off at that time
Persistent=true

[Install]
WantedBy=timers.target
"""
    how = (
        "copy both files to ~/.config/systemd/user/, then "
        f"`systemctl --user enable --now {plan.name}.timer` and `loginctl enable-linger`"
    )
    return [
        Entry(f"{plan.name}.service", how, service),
        Entry(f"{plan.name}.timer", how, timer),
    ]


def _percent(path: Path | str | None) -> str:
    return str(path).replace("%", "%%")


def _unit_word(word: str) -> str:
    """A word of ExecStart: `%` and `$` have a meaning there, spaces and quotes end a word."""
    word = _percent(word).replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word):
        return word
    quoted = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


# --------------------------------------------------------------------------------------- Windows
def _windows(plan: _Plan) -> list[Entry]:
    """The XML of `schtasks /create /xml`, UTF-16 as it must be."""
    command = subprocess.list2cmdline(plan.command)
    arguments = f'/d /s /c "{command} >> "{plan.log}" 2>&1"'
    if plan.days:
        names = "".join(f"<{LONG_DAYS[DAYS.index(day)]} />" for day in plan.days)
        when = (
            f"<ScheduleByWeek><DaysOfWeek>{names}</DaysOfWeek>"
            "<WeeksInterval>1</WeeksInterval></ScheduleByWeek>"
        )
    else:
        when = "<ScheduleByDay><DaysInterval>1</DaysInterval></ScheduleByDay>"
    text = f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>D2I workbook, {escape(plan.name)}</Description>
  </RegistrationInfo>
  <Triggers>
    <CalendarTrigger>
      <StartBoundary>2026-01-01T{plan.hour:02d}:{plan.minute:02d}:00</StartBoundary>
      <Enabled>true</Enabled>
      {when}
    </CalendarTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <LogonType>Password</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT24H</ExecutionTimeLimit>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>%SystemRoot%\\System32\\cmd.exe</Command>
      <Arguments>{escape(arguments)}</Arguments>
      <WorkingDirectory>{escape(str(plan.folder))}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
    how = (
        f"`schtasks /create /tn {plan.name} /xml {plan.name}.xml /ru USER /rp *`; made on the "
        "machine that runs it; variables belong in the project's .env"
    )
    return [Entry(f"{plan.name}.xml", how, text, "utf-16")]


# --------------------------------------------------------------------------------------- Airflow
def _zone() -> str:
    """This machine's time zone by name: Airflow would take the time of day for UTC."""
    where = Path("/etc/localtime")
    name = os.environ.get("TZ") or str(where.resolve()).rpartition("zoneinfo/")[2]
    try:
        return ZoneInfo(name.lstrip(":")).key
    except (ValueError, ZoneInfoNotFoundError):  # no name, as on Windows
        return "Europe/London"


def _airflow(plan: _Plan) -> list[Entry]:
    weekdays = ",".join(day.upper() for day in plan.days) or "*"
    env_file = str(plan.env_file) if plan.env_file else None
    text = f'''"""D2I workbook, {plan.name}: the day's run as one task of Airflow 3."""

import datetime
import json
import subprocess

import pendulum
from airflow.sdk import dag, task

try:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # before Airflow 3.2
    from airflow.exceptions import AirflowFailException, AirflowSkipException

COMMAND = {list(plan.command)!r}
FOLDER = {str(plan.folder)!r}
ENV_FILE = {env_file!r}  # a file of NAME=value lines, or None
WORTH_ANOTHER_TRY = {WORTH_ANOTHER_TRY!r}  # exit codes of what may be over in a while
# When a DAG is unpaused, Airflow at once starts the last run that it missed. One that is later than
# this is skipped, so that nothing of the night starts in the working day.
LATEST_HOURS = {_LATEST_HOURS}


@dag(
    dag_id={plan.name!r},
    schedule="{plan.minute} {plan.hour} * * {weekdays}",
    start_date=pendulum.datetime(2026, 1, 1, tz={_zone()!r}),  # the schedule's time zone too
    catchup=False,
    max_active_runs=1,
)
def d2i_day():
    @task(retries=2, retry_delay=datetime.timedelta(minutes=15))
    def run(dag_run=None, ti=None):  # Airflow fills them in
        latest = datetime.timedelta(hours=LATEST_HOURS)
        late = datetime.datetime.now(datetime.timezone.utc) - dag_run.run_after
        if dag_run.run_type == "scheduled" and ti.try_number == 1 and late > latest:
            raise AirflowSkipException(f"This run is {{late}} late; more than LATEST_HOURS.")
        # the project has its own Python; Airflow's packages and its own do not meet
        command = list(COMMAND)
        if ENV_FILE:
            command = ["/bin/sh", "-c", 'set -a; . "$0"; set +a; exec "$@"', ENV_FILE, *command]
        done = subprocess.run(command, cwd=FOLDER, stdout=subprocess.PIPE, text=True)
        if done.returncode in WORTH_ANOTHER_TRY:
            raise RuntimeError(f"The run ended with exit code {{done.returncode}}.")  # tried again
        if done.returncode:
            raise AirflowFailException(f"The run ended with exit code {{done.returncode}}.")
        return json.loads(done.stdout.splitlines()[-1])

    run()


d2i_day()
'''
    return [Entry(f"{plan.name.replace('-', '_')}_dag.py", "copy to Airflow's dags folder", text)]
