"""The main job as a newcomer meets it: three runs, then everything that can go wrong."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from d2i_helpers import database
from d2i_helpers.database import tables
from tests.acceptance.chain import Chain

IDENTIFYING = ("pers_forename", "pers_surname", "pers_upn")


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def test_first_run_sends_all_second_the_changes_third_nothing(chain: Chain) -> None:
    assert chain.d2i("simulate", "init").returncode == 0
    first = chain.d2i("run")
    assert first.returncode == 0, first.stdout + first.stderr
    cohort = chain.counts("extract")["in_cohort"]
    assert chain.counts("submit")["acknowledged"] == cohort > 30
    chain.assert_converged()

    assert chain.d2i("simulate", "day").returncode == 0
    second = chain.d2i("run")
    assert second.returncode == 0, second.stdout + second.stderr
    assert 0 < chain.counts("submit")["acknowledged"] < cohort
    chain.assert_converged()
    posts = len(chain.requests_seen())

    third = chain.d2i("run")
    assert third.returncode == 0, third.stdout + third.stderr
    assert chain.counts("submit")["requests"] == 0
    assert len(chain.requests_seen()) == posts
    assert "nothing to send" in (third.stdout + third.stderr).lower()
    assert [r["status"] for r in chain.records()] == ["completed"] * 3
    assert_no_identity(chain)


def assert_no_identity(chain: Chain) -> None:
    """No name, postcode, pupil number, birth date or id of a child is in any record."""
    engine = database.open_database(chain.settings)
    with database.reading(engine) as connection:
        person = tables.ssd_table("ssd_person")
        people = connection.execute(person.select()).all()
        address = tables.ssd_table("ssd_address")
        postcodes = {r.addr_address_postcode for r in connection.execute(address.select())}
    engine.dispose()
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in (chain.folder / "outputs").rglob("*")
        if path.suffix in {".ipynb", ".json", ".html", ".jsonl"}
    )
    for row in people:
        full = f"{row.pers_forename} {row.pers_surname}"
        assert full not in text
        assert not row.pers_upn or len(row.pers_upn) < 13 or row.pers_upn not in text
        assert f'"{row.pers_person_id}"' not in text
        if row.pers_dob:
            assert f"date_of_birth: {row.pers_dob:%Y-%m-%d}" not in text
    for postcode in filter(None, postcodes):
        assert len(postcode.strip()) < 5 or postcode not in text


def test_what_goes_wrong_has_a_message_and_a_code_and_the_next_run_recovers(chain: Chain) -> None:
    assert chain.d2i("simulate", "init").returncode == 0
    assert_fails(chain.d2i("run", phas="full"), 3, "phase")  # an unknown parameter
    assert_fails(chain.d2i("run", phase="sideways"), 3, "phase")
    typo = chain.folder / "typo.yaml"
    typo.write_text("la_code: '000'\nendpint: simulated\n", encoding="utf-8")
    assert_fails(chain.d2i("run", "--params", str(typo)), 3, "endpoint")
    broken = chain.folder / "broken.yaml"
    broken.write_text("la_code: '000\n  x: [", encoding="utf-8")
    assert_fails(chain.d2i("run", "--params", str(broken)), 3, "YAML")
    missing = f"sqlite:///{chain.folder / 'nowhere.sqlite'}"
    assert_fails(chain.d2i("run", database_url=missing), 4, "nowhere")
    down = {"api_base_url": "http://127.0.0.1:9/x", "token_url": "http://127.0.0.1:9/token"}
    stages = ("run", "--stages", "extract,delta,submit")
    assert_fails(chain.d2i(*stages, attempts=1, **down), (8, 9), "token")
    assert chain.records()[-1]["exit_code"] in (8, 9)
    assert chain.records()[-1]["status"] == "failed"

    assert chain.d2i("run").returncode == 0
    break_one_document(chain)
    result = chain.d2i("run", "--stages", "delta,submit")
    assert result.returncode == 20, result.stdout + result.stderr
    healed = chain.d2i("run")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    chain.assert_converged()


def assert_fails(result, codes, said: str) -> None:
    codes = codes if isinstance(codes, tuple) else (codes,)
    output = result.stdout + result.stderr
    assert result.returncode in codes, output
    assert said in output, output
    assert "Traceback" not in output


def break_one_document(chain: Chain) -> None:
    """As other software would that writes the table: the row waits to be sent."""
    with closing(sqlite3.connect(chain.folder / "ssd.sqlite")) as connection, connection:
        connection.execute(
            "update ssd_api_data_staging set json_payload = '{', submission_status = 'Pending' "
            "where id = (select min(id) from ssd_api_data_staging)"
        )


def test_a_kernel_that_dies_is_told_and_the_next_run_recovers(chain: Chain) -> None:
    assert chain.d2i("simulate", "init").returncode == 0
    process = subprocess.Popen(
        chain.command("run"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    victim = None
    deadline = time.monotonic() + 60
    while victim is None and time.monotonic() < deadline:
        victim = kernel_of(process.pid)
        time.sleep(0.05)
    assert victim is not None
    time.sleep(0.3)
    os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 12, output
    assert "kernel" in output.lower()
    assert chain.records()[-1]["status"] == "failed"
    again = chain.d2i("run")
    assert again.returncode == 0, again.stdout + again.stderr
    chain.assert_converged()


def kernel_of(runner: int) -> int | None:
    """The process id of the runner's first kernel, if there is one (Linux).

    Kernels are forked from the runner's one warm process, or are its own children.
    """
    processes: dict[int, tuple[int, int, str]] = {}  # parent, start, command by process id
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        processes[int(stat.parent.name)] = int(fields[1]), int(fields[19]), command
    nurseries = {p for p, (parent, _, command) in processes.items()
                 if parent == runner and "kernel_nursery" in command}  # fmt: skip
    kernels = [
        (start, process)
        for process, (parent, start, command) in processes.items()
        if parent in nurseries or (parent == runner and "kernel_startup" in command)
    ]
    return min(kernels)[1] if kernels else None


def test_the_record_says_what_happened(chain: Chain) -> None:
    assert chain.d2i("simulate", "init").returncode == 0
    assert chain.d2i("run", "--stages", "extract,delta").returncode == 0
    record = chain.records()[-1]
    assert record["exit_code"] == 0
    assert [s["name"] for s in record["stages"]] == ["extract", "delta"]
    for stage in record["stages"]:
        assert stage["status"] == "completed"
        assert stage["seconds"] > 0
        assert stage["counts"]
        notebook = chain.folder / "outputs" / record["run_id"] / stage["notebook"]
        executed = json.loads(notebook.read_text(encoding="utf-8"))
        assert any(cell.get("outputs") for cell in executed["cells"])
