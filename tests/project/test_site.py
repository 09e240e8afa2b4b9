"""The documentation site: every page has its place, and its generated pages are current.

Whether it builds without a warning, with every link and anchor, is tried by `.ci/run`.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from d2i_helpers.cli import cli
from d2i_helpers.cli.command_page import command_page

ROOT = Path(__file__).parents[2]
SITE = runpy.run_path(str(ROOT / "docs" / "conf.py"))


def test_every_page_has_one_place_in_the_navigation() -> None:
    there = {p.relative_to(ROOT).with_suffix("").as_posix() for p in ROOT.glob("docs/**/*.md")}
    there |= {p.stem for p in ROOT.glob("*.md")}
    listed = SITE["pages"]()
    assert sorted(listed) == sorted(there), "name the page in NAVIGATION of docs/conf.py"


def test_the_page_of_the_command_line_is_current() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert page == command_page(cli), "run `d2i spec docs`"


def test_the_api_has_a_page_for_each_package() -> None:
    assert {"delta", "settings", "errors"} <= set(SITE["packages"]())
    assert "d2i_helpers.demo.receiver.faults" in SITE["modules"]("demo")
    assert not any(name.endswith("__main__") for name in SITE["modules"]("demo"))
