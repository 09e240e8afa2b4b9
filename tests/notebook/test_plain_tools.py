"""Plain papermill, as an analyst runs it; every notebook runs in `test_fresh_checkout`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from d2i_helpers.demo import simulate
from d2i_helpers.settings import load_settings, project_root
from tests.acceptance.chain import clean

STAGES = ("01_extract",)
FOR_PEOPLE = ("simulate_changes",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo of its own, in which the notebooks run one after the other."""
    folder = tmp_path_factory.mktemp("demo")
    settings = load_settings({"profile": "demo"}, **parameters(folder))
    simulate.init(settings, children=40)
    return folder


def parameters(folder: Path) -> dict[str, str]:
    return {
        "database_url": f"sqlite:///{folder / 'ssd.sqlite'}",
        "receiver_store": str(folder / "receiver.sqlite"),
        "outputs_dir": str(folder / "outputs"),
    }


@pytest.mark.parametrize("name", STAGES + FOR_PEOPLE)
def test_it_runs_with_plain_papermill(folder: Path, name: str) -> None:
    out = folder / f"{name}.ipynb"
    words = ["papermill", str(project_root() / "notebooks" / f"{name}.ipynb"), str(out)]
    if name in STAGES:
        words += ["-f", str(project_root() / "params" / "demo.yaml")]
        # the profile's own folders are the analyst's: what the file gives must be overridden
        words += [part for k, v in parameters(folder).items() for part in ("-p", k, v)]
    environment = clean() | {f"D2I_{k.upper()}": v for k, v in parameters(folder).items()}
    ran = subprocess.run(
        [sys.executable, "-m", *words, "--no-progress-bar"], env=environment, cwd=project_root(),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    executed = json.loads(out.read_text(encoding="utf-8"))
    outputs = [o for c in executed["cells"] for o in c.get("outputs", [])]
    assert outputs
    assert not [o for o in outputs if o["output_type"] == "error"]
