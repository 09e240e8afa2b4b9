"""Runs of tiny notebooks through the real runner: records, failures, resume, leaks, kills."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import html
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import nbformat
import pytest
from click.testing import CliRunner
from sqlalchemy import insert, make_url

from d2i_helpers import database, processes, stages
from d2i_helpers.cli import runs
from d2i_helpers.cli.console import ConsoleListener, make_console, show_run
from d2i_helpers.database import tables
from d2i_helpers.demo.receiver.store import Store
from d2i_helpers.errors import LockError, RecordError, SettingsError
from d2i_helpers.runs import engine as run_engine
from d2i_helpers.runs import object_storage, plan, records, report, review
from d2i_helpers.runs.day import run_day
from d2i_helpers.runs.execution import Listener
from d2i_helpers.runs.shared_book import SharedBook, open_book
from d2i_helpers.settings import ENV_PREFIX, load_settings

PARAMETERS = 'profile = "demo"\nrun_id = None\nrun_date = None\noverrides = {}'
GATE = """from d2i_helpers.notebook import display
from d2i_helpers.submit import gates
from d2i_helpers.settings import load_settings
decision = gates.decide(load_settings(globals()))
display.gate(decision)
gates.require(decision)"""
TOO_LONG = "import time\ntime.sleep(600)"
CLOSING = (
    "from d2i_helpers.notebook import display\ndisplay.closing('extract', {'new': 3, 'gone': 0})"
)


class Project:
    """Tiny notebooks, an empty SQLite database and a folder of run records."""

    def __init__(self, folder: Path) -> None:
        self.notebooks, self.outputs = folder / "notebooks", folder / "outputs"
        self.notebooks.mkdir()
        for stage in stages.names():
            self.write(stage, "pass")

    def write(self, stage: str, *cells: str) -> None:
        parameters = nbformat.v4.new_code_cell(PARAMETERS)
        parameters.metadata.tags = ["parameters"]
        code = [nbformat.v4.new_code_cell(cell) for cell in cells]
        heading = nbformat.v4.new_markdown_cell(f"# {stage}")
        notebook = nbformat.v4.new_notebook(cells=[heading, parameters, *code])
        nbformat.write(notebook, self.notebooks / stages.stage_named(stage).notebook)

    def run(self, *names: str, resume: str | None = None, **parameters: Any) -> Any:
        return run_day(
            parameters, names or None, self.outputs, notebooks=self.notebooks, resume=resume
        )

    def faults(self) -> list[str]:
        """What `d2i runs verify` finds, and what rests on the file alone."""
        return review.faults(load_settings(outputs_dir=str(self.outputs)))

    def content(self, record: Any) -> dict[str, Any]:
        return json.loads((record.folder / "run.json").read_bytes())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("D2I_DATABASE_URL", f"sqlite:///{tmp_path / 'ssd.sqlite'}")
    database.open_database(load_settings(), create=True).connect().close()
    return Project(tmp_path)


@pytest.fixture
def schema() -> Any:
    return jsonschema_rs.validator_for(records.record_schema())


def test_a_run_leaves_its_whole_record(project: Project, schema: Any) -> None:
    project.write(
        "extract",
        "import os\nprint(profile, run_id, run_date, overrides, os.environ['D2I_PERSON_IDS'])",
        CLOSING,
    )
    project.write("preflight", GATE)
    record = project.run("preflight", "extract", chunk_size=7, person_ids="90017,90018")
    content = project.content(record)
    assert (record.exit_code, record.status) == (0, "completed")
    assert [s["name"] for s in content["stages"]] == ["preflight", "extract"]
    assert content["stages"][1]["counts"] == {"new": 3, "gone": 0}
    assert content["stages"][0]["gates"] == [
        {
            "allowed": True,
            "endpoint": "simulated",
            "table": "identifiable",
            "dry_run": False,
            "host": "",
            "address": "a receiver on this machine",
            "sign_off": "not needed",
            "reason": "",
        }
    ]
    assert schema.is_valid(content), [e.message for e in schema.iter_errors(content)]

    # parameters: by name where declared, else in overrides; ids of children in none of both
    notebook = nbformat.read(record.folder / "01_extract.ipynb", as_version=4)
    said = next(o.text for c in notebook.cells for o in c.get("outputs", []) if "text" in o)
    assert said.startswith(f"demo {record.run_id} 20")
    assert "'chunk_size': 7" in said
    assert '["90017", "90018"]' in said
    injected = next(c for c in notebook.cells if "injected-parameters" in c.metadata.tags)
    an_id = re.compile(r"(?<![0-9a-f])9001[78](?![0-9a-f])")  # hashes hold any run of figures
    assert not an_id.search(injected.source)
    assert not an_id.search(json.dumps(content))
    assert content["parameters"]["person_ids"] == "2 ids"

    # files: a page beside each notebook, owner only, hashed, nothing left over
    names = sorted(path.name for path in record.folder.iterdir())
    assert names == ["00_preflight.html", "00_preflight.ipynb", "01_extract.html",
                     "01_extract.ipynb", "run.html", "run.json"]  # fmt: skip
    assert sorted(content["files"]) == names[:-1]
    assert {stat.S_IMODE(path.stat().st_mode) for path in record.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(record.folder.stat().st_mode) == 0o700
    page = (record.folder / "01_extract.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "<script" not in page
    assert page.index("default-src 'none'") < page.index("<title>")
    assert "prefers-color-scheme: dark" in page

    assert project.faults() == []


def test_a_stage_is_added_by_one_entry_and_its_notebook(
    project: Project, schema: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy = stages.Stage("tidy", "05_tidy.ipynb", "builtins:print", locks=("anon_table",))
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES, tidy))
    project.write(
        "tidy", "from d2i_helpers.notebook import display\ndisplay.closing('tidy', {'swept': 4})"
    )
    record = project.run("submit", "tidy")
    content = project.content(record)
    schema.validate(content)
    assert [(s["name"], s["status"]) for s in content["stages"]] == [
        ("submit", "completed"), ("tidy", "completed"),
    ]  # fmt: skip
    assert content["stages"][1]["counts"] == {"swept": 4}
    assert (record.folder / "05_tidy.html").is_file()
    settings = load_settings()
    assert plan.worked_tables(["tidy"], settings) == [settings.anon_table]
    with pytest.raises(SettingsError, match="preflight, extract, anonymise, delta, submit, tidy"):
        project.run("tidyy")
    assert tidy.load() is print


def test_nobody_else_can_read_what_a_run_leaves_whatever_the_umask(
    project: Project, tmp_path: Path
) -> None:
    project.outputs = tmp_path / "new" / "outputs"
    before = os.umask(0)
    try:
        project.run("extract")
        report.write_report(project.outputs)
        url = f"sqlite:///{tmp_path / 'data' / 'made.sqlite'}"
        database.open_database(load_settings(database_url=url), create=True).connect().close()
        Store(tmp_path / "store" / "receiver.sqlite").close()
    finally:
        os.umask(before)
    made = [tmp_path / "new", tmp_path / "data", tmp_path / "store"]
    made += [path for folder in made for path in folder.rglob("*")]
    assert len(made) > 10
    open_to_others = {p.name for p in made if stat.S_IMODE(p.stat().st_mode) & 0o077}
    assert not open_to_others


def test_a_dry_run_is_said_wherever_it_is_shown(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    record = project.run("extract", dry_run=True)
    wet = project.run("extract")
    said = "dry run: nothing is sent"
    ConsoleListener(make_console()).started(record)
    show_run(record, make_console())
    assert capsys.readouterr().out.count(said) == 2
    page = (record.folder / "01_extract.html").read_text(encoding="utf-8")
    assert re.search(rf"<h1[^>]*>extract \({said}\)", page)
    assert re.search(rf"<title>extract \({said}\)</title>", page)
    assert said not in (wet.folder / "01_extract.html").read_text(encoding="utf-8")
    assert said in report.write_report(project.outputs).read_text(encoding="utf-8")
    for words in (["list"], ["show", record.run_id]):
        done = CliRunner().invoke(runs, [*words, "--outputs", str(project.outputs)])
        assert "dry run" in done.output
    shown = CliRunner().invoke(runs, ["show", wet.run_id, "--outputs", str(project.outputs)])
    assert "dry run" not in shown.output


def test_a_record_gives_no_orders_to_a_terminal(project: Project) -> None:
    orders = "\x1b]0;owned\x07\x9b31m\u202e"
    project.write("extract", f"print({'a' + orders!r})")
    record = project.run("extract")
    assert (record.warnings, record.error) == ([], None)
    page = (record.folder / "01_extract.html").read_text(encoding="utf-8")
    record.profile, record.warnings = f"demo{orders}", [f"note{orders}"]
    record.error = {"message": f"no{orders}", "hint": f"do{orders}", "stage": f"s{orders}"}
    record.stages[0].status, record.stages[0].counts = f"x{orders}", {f"n{orders}": 1}
    record.save()
    said = [page, report.write_report(project.outputs).read_text(encoding="utf-8")]
    for words in (["list"], ["list", "--json"], ["show"], ["verify"]):
        done = CliRunner().invoke(runs, [*words, "--outputs", str(project.outputs)])
        said.append(done.output)
    for text in said:
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text)
    assert "\u202e" not in "".join(said[1:])


def test_a_refusal_of_a_gate_is_in_the_record(project: Project, schema: Any) -> None:
    project.write("submit", GATE)
    wrong = {"endpoint": "test", "api_base_url": "https://receiver-test.example.org/1"}
    record = project.run("submit", **wrong)
    content = project.content(record)
    assert schema.is_valid(content), [e.message for e in schema.iter_errors(content)]
    assert (record.exit_code, content["error"]["name"]) == (7, "GateError")
    (decided,) = content["stages"][0]["gates"]
    assert not decided["allowed"]
    assert (decided["endpoint"], decided["table"]) == ("test", "identifiable")
    assert decided["reason"] == "The identifiable table may not go to a test endpoint."
    page = re.sub(r"<[^>]+>", " ", (record.folder / "run.html").read_text(encoding="utf-8"))
    said = " ".join(page.split())
    assert "table identifiable receiver test, receiver-test.example.org gate closed: The" in said


def test_the_run_says_how_many_need_attention_by_the_stage_that_names_most(
    project: Project,
) -> None:
    for stage, number in (("extract", 3), ("delta", 113)):
        project.write(
            stage,
            "from d2i_helpers.errors import ChildErrors\nfrom d2i_helpers.notebook import display\n"
            f"display.closing('{stage}', {{'need_attention': {number}}})\n"
            f"raise ChildErrors('{number} children.')",
        )
    record = project.run("extract", "delta")
    assert (record.exit_code, record.error["message"]) == (20, "113 children.")
    shown = CliRunner().invoke(runs, ["show", "--outputs", str(project.outputs)]).output
    assert "Attention: 113 children." in shown and "Failed" not in shown


def test_a_failed_stage_ends_the_run_and_resume_goes_on_with_it(
    project: Project, schema: Any
) -> None:
    project.write("extract", "from d2i_helpers.errors import GuardError\nraise GuardError('Few.')")
    failed = project.run("preflight", "extract", "delta", cms="generic")
    content = project.content(failed)
    assert (failed.exit_code, failed.status) == (6, "failed")
    assert [s["status"] for s in content["stages"]] == ["completed", "failed", "pending"]
    assert content["error"]["name"] == "GuardError"
    assert content["error"]["stage"] == "extract"

    project.write("extract", "pass")
    kept = failed.path.read_bytes()
    failed.path.write_bytes(kept.replace(b'"generic"', b'"mosaic"'))
    with pytest.raises(RecordError, match=r"not resumed: run\.json was altered"):
        project.run(resume=failed.run_id)
    failed.path.write_bytes(kept)
    with pytest.raises(RecordError, match="There is no run record"):
        project.run(resume="20260810T020000-0000")
    with pytest.raises(SettingsError, match="parameters that it began with"):
        project.run(resume=failed.run_id, phase="full")
    resumed = project.run(resume=failed.run_id)
    content = project.content(resumed)
    assert (resumed.run_id, resumed.exit_code) == (failed.run_id, 0)
    assert [s["status"] for s in content["stages"]] == ["completed"] * 3
    assert content["resumed"][0]["stage"] == "extract"
    assert content["given"]["cms"] == "generic"
    earlier = content["stages"][1]["earlier"][0]
    assert (earlier["status"], earlier["notebook"]) == ("failed", "01_extract.attempt1.ipynb")
    assert "GuardError" in (resumed.folder / earlier["notebook"]).read_text(encoding="utf-8")
    assert schema.is_valid(content), [e.message for e in schema.iter_errors(content)]
    assert project.faults() == []
    with pytest.raises(RecordError, match="complete"):
        project.run(resume=failed.run_id)


def test_a_run_of_an_earlier_release_is_resumed_although_this_one_knows_more_parameters(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("extract", "from d2i_helpers.errors import GuardError\nraise GuardError('Few.')")
    ours = plan.saved_parameters

    def earlier(settings: Any) -> dict[str, Any]:
        return {k: v for k, v in ours(settings).items() if k not in ("shard_wait", "reassess")}

    with monkeypatch.context() as then:
        then.setattr(plan, "saved_parameters", earlier)
        failed = project.run("extract", "delta")
    project.write("extract", "pass")
    with monkeypatch.context() as now, pytest.raises(SettingsError, match="any more: shard_wait"):
        now.setenv(f"{ENV_PREFIX}SHARD_WAIT", "3")
        project.run(resume=failed.run_id)
    assert project.run(resume=failed.run_id).exit_code == 0


def test_a_run_of_an_earlier_release_is_resumed_although_another_number_is_read_at_a_time(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("extract", "from d2i_helpers.errors import GuardError\nraise GuardError('Few.')")
    ours = plan.saved_parameters
    with monkeypatch.context() as then:
        then.setattr(plan, "saved_parameters", lambda given: {**ours(given), "chunk_size": 500})
        failed = project.run("extract", "delta")
    project.write("extract", "pass")
    assert project.run(resume=failed.run_id).exit_code == 0


def test_a_run_that_left_something_on_the_wire_is_resumed_from_delta_on(project: Project) -> None:
    """Submit alone cannot settle an unknown outcome, whatever the record says of delta."""
    project.write("submit", "from d2i_helpers.errors import KernelDied\nraise KernelDied('Died.')")
    failed = project.run("extract", "delta", "submit")
    assert [s.status for s in failed.stages] == ["completed", "completed", "failed"]
    sent = {"staging_table": "ssd_api_data_staging", "person_id": "C1", "run_id": failed.run_id,
            "batch_id": "b", "kind": "document", "document": "{}", "state": "on wire",
            "sent_at": dt.datetime(2026, 8, 10)}  # fmt: skip
    engine = database.open_database(load_settings())
    database.create_staging(engine, "ssd_api_data_staging")
    with database.transaction(engine) as connection:
        connection.execute(insert(tables.journal).values(sent))
    again = project.run(resume=failed.run_id)
    stages_of = {s["name"]: s for s in project.content(again)["stages"]}
    assert project.content(again)["resumed"][-1]["stage"] == "delta"
    assert not stages_of["extract"].get("earlier")
    assert [a["status"] for a in stages_of["delta"]["earlier"]] == ["completed"]

    with database.transaction(engine) as connection:
        connection.execute(tables.journal.delete())
    engine.dispose()
    again = project.run(resume=failed.run_id)
    assert project.content(again)["resumed"][-1]["stage"] == "submit"


def test_a_run_whose_records_are_deleted_meanwhile_ends_with_an_error_of_records(
    project: Project,
) -> None:
    project.write("extract", f"import shutil\nshutil.rmtree({str(project.outputs)!r})")
    with pytest.raises(RecordError, match=r"could not be written \(No such file"):
        project.run("extract")
    project.write("extract", "pass")
    assert project.run("extract").exit_code == 0


def test_the_address_of_a_webhook_is_nowhere_in_the_record(project: Project) -> None:
    record = project.run("extract", webhook_url="http://127.0.0.1:9/services/T0/a-key")
    assert record.exit_code == 0
    (said,) = record.warnings
    assert said.startswith("The webhook could not be reached (the connection was refused")
    for path in record.folder.iterdir():
        assert "a-key" not in path.read_text(encoding="utf-8")


def test_a_secret_that_every_record_holds_ends_no_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2I_PROXY_PASSWORD", "a")
    record = project.run("extract")
    assert record.exit_code == 0
    (said,) = record.warnings
    assert said.startswith("Not searched for") and "D2I_PROXY_PASSWORD" in said


SECRETS_IN_ADDRESSES = {  # part of an address, with the secret that it holds
    "login": ("svc:one/two#three?four ca-na-ry&5@", "", "one/two#three?four ca-na-ry&5"),
    "query": ("", "&sslpassword=ca%2Dna-ry/5+6%22", 'ca-na-ry/5 6"'),
}
TELL = """from urllib.parse import quote
import base64, html, json
from d2i_helpers.notebook import display
from d2i_helpers.settings import load_settings
settings = load_settings(globals())
url = settings.database_url
display.settings_table(settings)"""
TELL_ALL = """secret = {secret!r}
print(url, repr(settings), quote(secret), quote(secret, safe=''), json.dumps(secret))
print(html.escape(secret), base64.b64encode(b'svc:' + secret.encode()).decode())
raise ValueError(f'cannot connect to {{url}}')"""


@pytest.mark.parametrize("where", sorted(SECRETS_IN_ADDRESSES))
def test_the_secret_of_an_address_is_nowhere_in_the_record(
    project: Project, postgres_url: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    login, query, secret = SECRETS_IN_ADDRESSES[where]
    address = postgres_url
    if login:  # the throwaway server believes every password
        head, _, tail = postgres_url.partition("://")
        user = make_url(postgres_url).username
        address = f"{head}://{login.replace('svc', str(user))}{tail.rpartition('@')[2]}"
    address += query.replace("&", "&" if "?" in address else "?", 1)
    monkeypatch.setenv("D2I_DATABASE_URL", address)
    project.write("extract", TELL)
    quiet = project.run("extract")
    assert quiet.exit_code == 0 and quiet.stages[0].redactions == 0
    project.write("extract", TELL, TELL_ALL.format(secret=secret))
    loud = project.run("extract")
    assert loud.exit_code == 10 and loud.stages[0].redactions >= 5
    forms = {address, secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
    forms |= {html.escape(secret), base64.b64encode(f"svc:{secret}".encode()).decode(), "na-ry"}
    for path in project.outputs.rglob("*"):
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert not {form for form in forms if form in content}, path.name


def test_an_identity_in_a_notebook_is_taken_out_and_fails_the_run(project: Project) -> None:
    engine = database.open_database(load_settings())
    table = "ssd_api_data_staging"
    database.create_staging(engine, table)
    document = {"la_child_id": "88112233", "child_details": {"surname": "Quillfeather"}}
    row = {"person_id": "88112233", "json_payload": json.dumps(document)}
    with database.transaction(engine) as connection:
        connection.execute(
            insert(tables.staging_table(table)).values(**row, submission_status="pending")
        )
    engine.dispose()
    project.write(
        "extract",
        "print('Quillfeather')",
        "from d2i_helpers.errors import ChildErrors\nraise ChildErrors('88112233 was refused.')",
    )
    record = project.run("extract")
    assert record.exit_code == 13
    assert record.stages[0].redactions >= 2
    for path in record.folder.iterdir():
        assert "Quillfeather" not in path.read_text(encoding="utf-8")
        assert "88112233" not in path.read_text(encoding="utf-8")


def test_children_who_need_attention_do_not_stop_the_day(project: Project) -> None:
    project.write(
        "delta",
        "from d2i_helpers.errors import ChildErrors\nraise ChildErrors('3 children were refused.')",
    )
    record = project.run("delta", "submit")
    assert [s.status for s in record.stages] == ["attention", "completed"]
    assert (record.exit_code, record.status) == (20, "attention")


def test_what_cannot_run_is_refused_before_anything_runs(project: Project) -> None:
    with pytest.raises(SettingsError, match="no parameter `chunksize`"):
        project.run(chunksize=7)
    with pytest.raises(SettingsError, match="no stage `extrakt`"):
        project.run("extrakt")
    bad = project.notebooks / stages.stage_named("submit").notebook
    bad.write_text(bad.read_text(encoding="utf-8").replace("overrides", "other"), encoding="utf-8")
    with pytest.raises(SettingsError, match="does not declare overrides"):
        project.run()
    assert records.folders(project.outputs) == []


def test_a_run_that_cannot_be_entered_in_the_ledger_leaves_nothing(project: Project) -> None:
    project.run("extract")
    before = records.folders(project.outputs)
    (project.outputs / "ledger.jsonl").write_bytes(b"damaged\n")
    with pytest.raises(RecordError, match="last line is damaged"):
        project.run("extract")
    assert records.folders(project.outputs) == before


def test_a_killed_runner_leaves_a_truthful_record_and_the_next_run_is_fine(
    project: Project, tmp_path: Path
) -> None:
    pid_file = tmp_path / "kernel.pid"
    project.write(
        "extract",
        f"import os, time, pathlib\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)",
    )
    code = (
        "import sys; from pathlib import Path; from d2i_helpers.runs.day import run_day\n"
        "run_day({}, ['extract'], Path(sys.argv[1]), notebooks=Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(project.outputs), str(project.notebooks)]
    runner = subprocess.Popen(command)
    _wait_for(lambda: pid_file.is_file() and pid_file.read_text())
    (folder,) = records.folders(project.outputs)
    assert records.state_of(records.read(folder)) == "running"
    with pytest.raises(LockError, match="working on the table"):
        _raise(project.run("extract"))
    with pytest.raises(LockError, match="still running"):
        project.run(resume=folder.name)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    killed = records.read(folder)
    assert (killed.status, killed.exit_code) == ("running", None)
    assert records.state_of(killed) == "interrupted"
    assert [s.status for s in killed.stages] == ["running"]
    shown = (
        CliRunner().invoke(runs, ["show", folder.name, "--outputs", str(project.outputs)]).output
    )
    assert "it was killed" in shown and f"--resume {folder.name}" in shown
    assert records.read(folder).status == "running"  # only shown otherwise
    index = (project.outputs / "index.html").read_text(encoding="utf-8")
    assert f'href="{folder.name}/run.html"' in index
    assert "At work when this page was made" in (folder / "run.html").read_text(encoding="utf-8")
    _wait_for(lambda: processes.birth(int(pid_file.read_text())) is None)

    project.write("extract", "pass")
    assert project.run("extract").exit_code == 0
    assert records.read(folder).status == "interrupted"
    page = (folder / "run.html").read_text(encoding="utf-8")
    assert '<span class="interrupted">interrupted</span>' in page and "it was killed" in page
    assert "interrupted" in (project.outputs / "index.html").read_text(encoding="utf-8")
    assert project.faults() == []


RUN_COMMAND = """import sys
from pathlib import Path
from d2i_helpers.cli import commands, main
from d2i_helpers.runs import day
usual, notebooks = day.run_day, Path(sys.argv.pop())
day.run_day = lambda *args, **more: usual(*args, **more, notebooks=notebooks)
main()"""


def _start_command(project: Project, *words: str, **options: Any) -> subprocess.Popen:
    """`d2i run` with the project's notebooks, as a process of its own."""
    command = [sys.executable, "-c", RUN_COMMAND, "run", "--outputs", str(project.outputs)]
    return subprocess.Popen([*command, *words, str(project.notebooks)], **options)


@pytest.mark.parametrize("gone", ["both", "stdout", "closed"])
def test_a_run_outlives_whoever_reads_it(project: Project, gone: str) -> None:
    project.write("extract", "import time\ntime.sleep(1)", CLOSING)
    project.write("delta", "from d2i_helpers.errors import ChildErrors\nraise ChildErrors('3.')")
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    if gone == "stdout":
        pipe["stderr"] = subprocess.DEVNULL
    if gone == "closed":
        pipe = {"preexec_fn": lambda: (os.close(1), os.close(2))}
    summary = () if gone == "stdout" else ("--summary", "json")
    runner = _start_command(project, "--stages", "extract,delta", *summary, **pipe)
    if runner.stdout is not None:
        runner.stdout.read(1)
        runner.stdout.close()
    assert runner.wait() == 20
    (folder,) = records.folders(project.outputs)
    record = records.read(folder)
    assert (record.status, record.exit_code) == ("attention", 20)
    assert [s.status for s in record.stages] == ["completed", "attention"]
    assert project.faults() == []


@pytest.mark.parametrize("times", [1, 3])
def test_quick_interrupts_leave_a_truthful_record_and_no_traceback(
    project: Project, times: int
) -> None:
    project.write("extract", TOO_LONG)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    runner = _start_command(project, "--stages", "extract,delta", **pipes)
    _wait_for(lambda: [r for r in _records(project) if r.stages[0].status == "running"])
    for _ in range(times):
        runner.send_signal(signal.SIGINT)
        time.sleep(0.2)
    said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert "Traceback" not in said and "Task" not in said and "ignored" not in said, said
    assert "stopped by Ctrl-C" in said
    (record,) = _records(project)
    assert (record.status, record.exit_code) == ("interrupted", 130)
    assert [s.status for s in record.stages] == ["interrupted", "pending"]
    assert project.faults() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_reaches_the_kernel_too_says_nothing_of_the_inside(
    project: Project, number: int
) -> None:
    """A terminal sends Ctrl-C to each of its processes, and systemd SIGTERM."""
    project.write("extract", "print(1)", TOO_LONG)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    runner = _start_command(project, "--stages", "extract", start_new_session=True, **pipes)
    _wait_for(lambda: [r for r in _records(project) if r.stages[0].status == "running"])
    time.sleep(1)  # in the second cell
    os.killpg(runner.pid, number)
    said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert "asyncio" not in said and "exception" not in said and "nbclient" not in said, said
    (record,) = _records(project)
    assert (record.status, record.exit_code) == ("interrupted", 130)
    assert f"--resume {record.run_id}" in said


@pytest.mark.parametrize("kept_back", ["turned into an error", "lost", "lost at the end"])
def test_an_interrupt_that_a_library_keeps_to_itself_stops_the_run(
    project: Project, kept_back: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come inside a callback, where Python drops it, or leave a library half-way."""
    usual = run_engine.execute
    project.write("extract", "pass" if kept_back == "lost at the end" else TOO_LONG)

    def execute(*args: Any, **options: Any) -> None:
        if kept_back == "lost at the end":
            usual(*args, **options)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        if kept_back == "turned into an error":
            raise RuntimeError("half-way")
        if kept_back == "lost":
            usual(*args, **options)

    monkeypatch.setattr(run_engine, "execute", execute)
    record = project.run("extract", "delta")
    ended = "completed" if kept_back == "lost at the end" else "interrupted"
    assert (record.status, record.exit_code) == ("interrupted", 130)
    assert [s.status for s in record.stages] == [ended, "pending"]


def _records(project: Project) -> list[Any]:
    return [records.read(f) for f in records.folders(project.outputs) if (f / "run.json").is_file()]


def _raise(record: Any) -> None:
    """A refused run has a record; raise what it holds."""
    assert record.exit_code == LockError.exit_code
    raise LockError(record.error["message"])


def _wait_for(met: Callable[[], Any], seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < give_up
        time.sleep(0.05)


# ------------------------------------------------------------------------ records on object storage
def test_a_run_carries_its_record_over_after_each_stage_and_at_its_end(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec", reason="the extra of an object storage is not installed")
    there: list[list[str]] = []

    class Looking(Listener):
        def stage_ended(self, stage: Any) -> None:
            (folder,) = (tmp_path / "storage" / "runs").iterdir()
            there.append(sorted(path.name for path in folder.iterdir()))

    url = f"file://{tmp_path}/storage"
    record = run_day({"records_url": url}, ["preflight"], project.outputs,
                     notebooks=project.notebooks, listener=Looking())  # fmt: skip
    assert (record.exit_code, record.warnings) == (0, [])
    assert there == [["00_preflight.ipynb", "run.json"]]
    (folder,) = (tmp_path / "storage" / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {*record.files, "run.json"}
    settings = load_settings(outputs_dir=str(project.outputs), records_url=url)
    assert review.faults(settings) == []


def test_a_run_goes_on_where_its_storage_is_away_and_is_refused_where_no_ledger_can_be_kept(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec", reason="the extra of an object storage is not installed")
    (tmp_path / "storage").write_text("no folder")
    url = f"file://{tmp_path}/storage"
    record = project.run("preflight", records_url=url)
    assert record.exit_code == 0
    (warning,) = record.warnings
    assert warning.startswith("The record could not be carried over to object storage at the beg")
    (tmp_path / "storage").unlink()
    with open_book(load_settings(records_url=url), project.outputs) as book:
        assert isinstance(book, SharedBook) and book.bring_waiting() == 2
    monkeypatch.setattr(object_storage, "_link", Path.write_bytes)
    (tmp_path / "storage" / "d2i-workbook.txt").unlink(missing_ok=True)
    with pytest.raises(SettingsError, match="no ledger can be kept on it"):
        project.run("preflight", records_url=url)
    assert len(records.folders(project.outputs)) == 1
