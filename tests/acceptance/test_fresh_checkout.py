"""Every notebook with its defaults from a fresh checkout, by nbval."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.notebook.browser import NOTEBOOKS, environment, fresh_checkout


def test_every_notebook_runs_from_a_fresh_checkout(tmp_path: Path) -> None:
    folder = fresh_checkout(tmp_path)
    profile = folder / "params" / "demo.yaml"
    text = profile.read_text(encoding="utf-8")
    fewer = text.replace("simulate_children: 500", "simulate_children: 60")  # to be quick
    assert fewer != text
    profile.write_text(fewer, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n")
    words = ["pytest", "-c", "pytest.ini", "--nbval-lax", "-p", "no:cacheprovider", "-q", "-rA"]
    ran = subprocess.run(
        [sys.executable, "-m", *words, "notebooks"], cwd=folder, env=environment(folder),
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
    tried = set(re.findall(r"PASSED notebooks/(\w+)\.ipynb", ran.stdout))
    assert tried == {path.stem for path in NOTEBOOKS}
    assert (folder / "outputs" / "demo" / "ssd.sqlite").is_file()
