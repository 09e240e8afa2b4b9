"""Each notebook in a real JupyterLab, started as the README says, by a headless Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook import browser
from tests.notebook.browser import NOTEBOOKS, ROOT, Browser, Lab

pytestmark = pytest.mark.browser


def as_the_readme_says() -> list[str]:
    """What follows `jupyter lab` in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (words,) = set(re.findall(r"`jupyter lab\b([^`]*)`", text))
    return words.split()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Browser, Path]]:
    program = browser.chromium()
    folder = browser.fresh_checkout(tmp_path_factory.mktemp("checkout"))
    with (
        browser.jupyter_lab(folder, *as_the_readme_says()) as lab,
        browser.open_browser(program, tmp_path_factory.mktemp("browser")) as tab,
    ):
        tab.look_at()
        yield lab, tab, folder


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_opens_unchanged_and_runs(opened: tuple[Lab, Browser, Path], notebook: Path) -> None:
    lab, tab, folder = opened
    path = f"notebooks/{notebook.name}"
    browser.open_notebook(tab, lab, path)
    assert not browser.is_dirty(tab)
    assert browser.run_all(tab) == []
    assert browser.shown_text(tab)
    assert (folder / path).read_bytes() == notebook.read_bytes()  # nothing was saved


def test_pages_and_run_records_can_be_opened_beside_the_notebooks(
    opened: tuple[Lab, Browser, Path],
) -> None:
    lab, _, _ = opened
    there = browser.contents(lab, "")
    assert {"docs", "notebooks", "outputs"} <= {entry["name"] for entry in there["content"]}


def test_what_a_person_sees_is_not_what_is_saved(opened: tuple[Lab, Browser, Path]) -> None:
    """Whole ids and stored values stand in widgets, whose state no notebook keeps."""
    lab, tab, folder = opened
    browser.open_notebook(tab, lab, "notebooks/data_quality.ipynb")
    assert browser.run_all(tab) == []
    browser.until(lambda: re.search(r"\b1000\d{4}\b", browser.widget_text(tab)))
    browser.save(tab)
    saved = (folder / "notebooks" / "data_quality.ipynb").read_text(encoding="utf-8")
    assert "…" in saved and "Values that are no code" in saved
    assert not re.search(r"\b1000\d{4}\b", saved)
    assert "TEAM0" not in saved
    content = json.loads(saved)
    assert "widgets" not in content["metadata"]
    assert content["metadata"]["language_info"] == {"name": "python"}
