"""The wheel alone, in an empty folder: `d2i new w && cd w && d2i run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.project.test_wheel import ROOT, build


def test_the_wheel_alone_lays_out_a_workbook_and_runs_a_day(tmp_path: Path) -> None:
    wheel = build(ROOT, tmp_path / "built")[".whl"]
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:  # as an installer does it, entry points and all
        archive.extractall(installed)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("D2I_")}
    environment["PYTHONPATH"] = str(installed)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installer compiles, once

    def d2i(*words: str, folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "d2i_helpers", *words]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    before = d2i("run")
    assert (before.returncode, "d2i new FOLDER" in before.stderr) == (3, True), before.stderr
    made = d2i("new", "w")
    assert made.returncode == 0, made.stderr
    workbook = tmp_path / "w"
    # one notebook, begun below the workbook's folder; tests/acceptance has whole days
    done = d2i("run", "-p", "simulate_children=20", "--stages", "extract", "--summary", "json",
               folder=workbook / "docs")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (stage,) = json.loads(done.stdout)["stages"]
    assert stage["counts"]["in_cohort"] > 0
    (record,) = (workbook / "outputs").glob("*/run.json")
    assert (record.parent / "01_extract.html").is_file()
