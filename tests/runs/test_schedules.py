"""Schedules that are ready to install."""

from __future__ import annotations

import codecs
import configparser
import html
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot.tokens import TokenType

from d2i_helpers import airflow_dag
from d2i_helpers.cli import read_parameters
from d2i_helpers.errors import SettingsError
from d2i_helpers.runs import schedules as schedule
from d2i_helpers.settings import load_settings

GIVEN = {"profile": "demo", "phase": "full"}


def entries(**options: object) -> dict[str, schedule.Entry]:
    made = schedule.entries_for(GIVEN, **{"time": "02:05", **options})
    return {Path(entry.file_name).suffix: entry for entry in made}


@pytest.fixture(autouse=True)
def odd_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project folder with what each format has to escape."""
    folder = tmp_path / "LA data & 100% 'ours'"
    folder.mkdir()
    monkeypatch.setattr(schedule, "project_root", lambda: folder)
    monkeypatch.setenv("D2I_OUTPUTS_DIR", str(folder / "outputs"))
    return folder


def test_the_cron_line_has_its_time_and_runs_in_the_projects_folder(odd_folder: Path) -> None:
    text = entries(days="mon,fri")[".cron"].text
    line = text.splitlines()[-1]
    assert line.startswith("5 2 * * mon,fri umask 077 && ")
    assert not re.search(r"(?<!\\)%", line)  # cron takes a bare % for the end of the command
    command = line.split(" ", 5)[5].replace(r"\%", "%")
    words = shlex.split(command)
    assert words[words.index("cd") + 1] == str(odd_folder)
    start = words.index(sys.executable)
    run = ["-m", "d2i_helpers", "run", "--summary", "json", "--params", "demo"]
    given = ["-p", "phase=full"]
    assert words[start + 1 : start + 12] == [*run, "--tries", "3", *given]
    assert words[-1] == "2>&1"
    once = shlex.split(entries(tries=1)[".cron"].text.splitlines()[-1])
    assert once[once.index(sys.executable) + 1 :][:9] == [*run, *given]


def test_a_profile_or_environment_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no profile"):
        schedule.entries_for({"profile": "not_there"}, time="02:05")
    variables = tmp_path / "ours.env"
    with pytest.raises(SettingsError, match=r"no environment file ours\.env"):
        entries(env_file=variables)
    for content, said in (
        (b"D2I_CLIENTSECRET=x\n", "did you mean D2I_CLIENT_SECRET"),
        ("D2I_PHASE=full\n".encode("utf-16"), "byte-order mark"),
        ("D2I_PHASE=full\n".encode("utf-8-sig"), "byte-order mark"),
        ("D2I_LIVE_APPROVER=Siân\n".encode("latin-1"), "not UTF-8"),
        (b"D2I_PHASE full\n", "line 1, is not NAME=value"),
    ):
        variables.write_bytes(content)
        with pytest.raises(SettingsError, match=said):
            entries(env_file=variables)


def test_parameters_of_an_entry_mean_the_same_at_night() -> None:
    given = {"person_ids": ["0123", "a,b"], "dry_run": True, "run_date": None, "la_code": "012"}
    made = schedule.entries_for({**GIVEN, **given}, time="02:05", target="cron")
    words = shlex.split(made[0].text.splitlines()[-1].replace(r"\%", "%").split(" ", 5)[5])
    pairs = [
        words[at + 1] for at, word in enumerate(words) if word == "-p" and "=" in words[at + 1]
    ]
    read = load_settings(None, **read_parameters(None, tuple(pairs)))
    assert (read.person_ids, read.dry_run, read.la_code) == (("0123", "a,b"), True, "012")
    assert "run_date" not in " ".join(pairs)


def test_the_cron_line_works_with_an_empty_environment(tmp_path: Path) -> None:
    variables = tmp_path / "my variables.env"
    variables.write_text("D2I_TEST_WORD='two words'\n")
    line = entries(env_file=variables)[".cron"].text.splitlines()[-1]
    command = line.split(" ", 5)[5].replace(r"\%", "%").partition(sys.executable)[0]
    shell = ["/usr/bin/env", "-i", "/bin/sh", "-c", command + "echo $D2I_TEST_WORD && umask && pwd"]
    said = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "two words"
    assert said[1].endswith("077")
    assert said[2] == str(schedule.project_root())
    variables.unlink()  # without it nothing is run, and cron has something to mail
    missing = subprocess.run([*shell[:-1], command + "echo ran"], capture_output=True, text=True)
    assert (missing.returncode != 0, missing.stdout) == (True, "")
    assert "my variables.env" in missing.stderr


def test_the_systemd_units_are_sound(tmp_path: Path, odd_folder: Path) -> None:
    made = entries(days="mon,fri")
    timer = configparser.ConfigParser(interpolation=None, strict=True)
    timer.optionxform = str  # type: ignore[assignment,method-assign]
    timer.read_string(made[".timer"].text)
    assert timer["Timer"]["OnCalendar"] == "Mon,Fri *-*-* 02:05:00"
    service = made[".service"].text
    assert f"WorkingDirectory={str(odd_folder).replace('%', '%%')}\n" in service
    assert (odd_folder / "outputs").is_dir()  # systemd opens the log, and makes no folder for it
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not there: the units were only read")
    for entry in (made[".service"], made[".timer"]):
        (tmp_path / entry.file_name).write_bytes(entry.content)
    for entry in (made[".service"], made[".timer"]):
        done = subprocess.run(
            [analyze, "--user", "verify", str(tmp_path / entry.file_name)],
            capture_output=True,
            text=True,
            env={"XDG_RUNTIME_DIR": str(tmp_path)},  # there is no login to a server's test
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_the_windows_task_is_utf16_xml_with_the_whole_command(odd_folder: Path) -> None:
    entry = entries(days="mon,fri")[".xml"]
    assert entry.content[:2] in (b"\xff\xfe", b"\xfe\xff")
    root = ET.fromstring(entry.content)
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert [part.tag.rpartition("}")[2] for part in root] == [
        "RegistrationInfo", "Triggers", "Principals", "Settings", "Actions",
    ]  # fmt: skip
    start = root.findtext(".//t:StartBoundary", namespaces=space)
    assert start is not None and start.endswith("T02:05:00")
    days = root.find(".//t:DaysOfWeek", space)
    assert days is not None
    assert [day.tag.rpartition("}")[2] for day in days] == ["Monday", "Friday"]
    assert root.findtext(".//t:WorkingDirectory", namespaces=space) == str(odd_folder)
    arguments = root.findtext(".//t:Arguments", namespaces=space) or ""
    assert "-m d2i_helpers run --summary json --params demo --tries 3 -p phase=full" in arguments
    assert root.find(".//t:ScheduleByDay", space) is None
    daily = ET.fromstring(entries()[".xml"].content)
    assert daily.findtext(".//t:DaysInterval", namespaces=space) == "1"


def test_no_word_of_a_parameter_ends_the_command_of_windows() -> None:
    """As cmd.exe reads it: quotes keep a mark from its meaning, and so does a caret before it."""
    given = {**GIVEN, "user_agent": "D&I > x", "person_ids": ["R&D 1", "2"]}
    made = schedule._cmd_word
    assert made("mssql://h/x?driver=D&Encrypt=yes") == '"mssql://h/x?driver=D&Encrypt=yes"'
    assert made(r"C:\D&I\python.exe") == r'"C:\D&I\python.exe"'
    assert [made("a"), made(""), made("a b"), made("a b\\")] == ["a", '""', '"a b"', '^"a b\\\\^"']
    for target in ("windows", "sqlagent"):
        (entry,) = schedule.entries_for(given, target=target)
        text = html.unescape(entry.text)
        assert ' -p "user_agent=D&I > x" ' in text
        assert r' -p ^"person_ids=[\^"R^&D 1\^", \^"2\^"]^" >> "' in text


def test_the_job_of_sql_server_agent_has_the_whole_command(odd_folder: Path) -> None:
    entry = entries(days="mon,fri,sun", account="LA\\svc-d2i")[".sql"]
    assert entry.content.startswith(codecs.BOM_UTF8)  # Management Studio takes others for ANSI
    texts = [
        token.text
        for token in sqlglot.tokenize(entry.text, dialect="tsql")
        if token.token_type == TokenType.NATIONAL_STRING
    ]
    (command,) = [text for text in texts if text.startswith("cmd.exe")]
    log = odd_folder / "outputs" / "schedule.log"
    assert command.startswith(f'cmd.exe /d /s /c "cd /d "{odd_folder}" && ')
    assert command.endswith(f' -p phase=full >> "{log}" 2>&1"')
    assert "@freq_type = 8, @freq_interval = 35," in entry.text  # 1 + 2 + 32
    assert "@active_start_time = 20500;" in entry.text
    assert "IDENTITY = N'LA\\svc-d2i', SECRET = N'...'" in entry.text
    daily = entries()[".sql"].text
    assert "@freq_type = 4, @freq_interval = 1," in daily and "DOMAIN\\ACCOUNT" in daily
    with pytest.raises(SettingsError, match="SQL Server Agent takes for a token"):
        schedule.entries_for({**GIVEN, "user_agent": "$(x)"}, target="sqlagent")


def test_a_service_account_gets_entries_of_an_administrator(
    odd_folder: Path, tmp_path: Path
) -> None:
    made = entries(account="d2i-night")
    assert not (odd_folder / "outputs").exists()  # it is the account's to make
    line = made[".cron"].text.splitlines()[-1]
    assert line.startswith("5 2 * * * d2i-night umask 077 && ")
    assert "/etc/cron.d/d2i-demo" in made[".cron"].how
    unit = made[".service"].text
    assert "User=d2i-night\n" in unit and "append:" not in unit
    writable = str(odd_folder / "outputs").replace("%", "%%")
    assert f'ReadWritePaths="{writable}"\n' in unit
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    task = ET.fromstring(made[".xml"].content)
    assert task.findtext(".//t:UserId", namespaces=space) == "d2i-night"
    assert ET.fromstring(entries()[".xml"].content).find(".//t:UserId", space) is None
    for wrong in ("d2i; reboot", "", "a b", "-x", "d2i\nUser=root"):
        with pytest.raises(SettingsError, match="no name of an account"):
            entries(account=wrong)
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        (tmp_path / "d2i-demo.service").write_bytes(made[".service"].content)
        command = [analyze, "verify", str(tmp_path / "d2i-demo.service")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def dag_of(text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    """The only authority of a printed DAG file, and what the file asks of `make_dag`."""
    made: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(
        airflow_dag,
        "make_dag",
        lambda name, who, **about: made.append((who, {"name": name, **about})),
    )
    exec(compile(text, "dag.py", "exec"), {"__name__": "dag"})
    ((authorities, about),) = made
    (authority,) = authorities
    authority.check()
    return authority, about


def test_the_airflow_dag_is_python_with_this_command(monkeypatch: pytest.MonkeyPatch) -> None:
    text = entries(days="mon,fri")[".py"].text
    authority, about = dag_of(text, monkeypatch)
    assert about["python"] == sys.executable
    assert about["workbook"] == str(schedule.project_root())
    assert about["schedule"] == "5 2 * * MON,FRI"
    assert (about["name"], authority.name, authority.profile) == ("d2i-demo", "demo", "demo")
    assert authority.parameters == {"phase": "full"}
    assert len(text.splitlines()) < 20 and "airflow" in text  # a word that Airflow looks for


def test_the_airflow_dag_names_the_environment_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = tmp_path / "ours.env"
    variables.write_text("D2I_PHASE=full\n")
    authority, _ = dag_of(entries(env_file=variables)[".py"].text, monkeypatch)
    assert authority.env_file == str(variables)


@pytest.mark.parametrize(
    ("variable", "zone"),
    [("Europe/London", "Europe/London"), (":Etc/GMT+5", "Etc/GMT+5"), ("no zone", "Europe/London")],
)
def test_airflow_is_told_whose_time_of_day_it_is(
    monkeypatch: pytest.MonkeyPatch, variable: str, zone: str
) -> None:
    monkeypatch.setenv("TZ", variable)
    assert dag_of(entries()[".py"].text, monkeypatch)[1]["zone"] == zone


@pytest.mark.parametrize(
    ("options", "said"),
    [({"time": "25:00"}, "time of day"), ({"days": "today"}, "names no days")],
)
def test_a_wrong_time_or_day_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        entries(**options)


def test_a_wrong_parameter_is_found_now_and_not_at_night() -> None:
    with pytest.raises(SettingsError, match="no parameter `fase`"):
        schedule.entries_for({"fase": "full"})
