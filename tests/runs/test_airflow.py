"""The Airflow DAG in a real Airflow, which has an environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from d2i_helpers.runs import schedules as schedule


@pytest.mark.long
def test_the_dag_runs_the_day(tmp_path: Path) -> None:
    """Needs D2I_TEST_AIRFLOW: folder of a virtual environment with apache-airflow 3."""
    airflow = os.environ.get("D2I_TEST_AIRFLOW")
    if not airflow:
        pytest.skip("Airflow is NOT tested: D2I_TEST_AIRFLOW names no environment")
    given = {
        "database_url": f"sqlite:///{tmp_path / 'ssd.sqlite'}",
        "receiver_store": str(tmp_path / "receiver.sqlite"),
        "outputs_dir": str(tmp_path / "outputs"),
        "simulate_children": 30,
    }
    (entry,) = schedule.entries_for(given, target="airflow")
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / entry.file_name).write_bytes(entry.content)
    pairs = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    d2i = [schedule.sys.executable, "-m", "d2i_helpers"]
    subprocess.run([*d2i, "simulate", "init", *pairs], check=True, capture_output=True)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
    }
    command = Path(airflow) / "bin" / "airflow"
    subprocess.run([command, "db", "migrate"], check=True, capture_output=True, env=environment)
    done = subprocess.run(
        [command, "dags", "test", "d2i-demo", "2026-08-10"],
        capture_output=True,
        text=True,
        env=environment,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert "'exit_code': 0" in said
