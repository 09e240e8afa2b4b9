"""docs/troubleshooting.md has an entry for whatever can be shown: codes, checks, answers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from d2i_helpers import errors
from d2i_helpers.database.messages import table_of_situations
from d2i_helpers.errors import STOPPED_EXIT
from d2i_helpers.payload_spec.outputs import with_generated

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables, without their heads."""
    rows = re.findall(r"^\| (.+?) \|", re.sub(r"^\|.*\n\|---.*\n", "", text, flags=re.M), re.M)
    return [cell.strip("`") for cell in rows]


def test_every_exit_code_has_its_place_and_names_its_kind() -> None:
    parts = re.split(r"^### Exit (\d+)$", section(PAGE, "Exit codes"), flags=re.M)
    said = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
    own = {
        n: k for n, k in errors._kinds(errors.D2IError).items() if k.__module__ == errors.__name__
    }
    kinds = {kind.exit_code: name for name, kind in own.items()}
    assert said.keys() == kinds.keys() | {0, 2, STOPPED_EXIT}
    del kinds[errors.D2IError.exit_code]  # a fault of the program, told in other words
    assert all(f"**{name}: " in said[code] for code, name in kinds.items())
    for code in said:  # the heading is the anchor that errors print
        assert errors.help_page(code) == f"docs/troubleshooting.md#exit-{code}"


def names_of_checks() -> set[str]:
    """The names that preflight gives to its checks, read from its modules."""
    makers = {"Check", "failed", "guarded", "clock", "_not_checked"}
    found = set()
    for path in (ROOT / "d2i_helpers" / "preflight").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in makers:
                given = node.args[0]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "name":
                given = node.value
            else:
                continue
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                found.add(given.value)
    return found


def test_every_check_of_preflight_has_its_row() -> None:
    found = names_of_checks()
    assert {"token", "staging rows", "fake record", "disk", "receiver clock"} <= found
    assert sorted(first_cells(section(PAGE, "Preflight checks"))) == sorted(found)


def test_every_answer_of_the_receiver_has_its_row() -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    answers = first_cells(section(api, "What an answer means"))
    assert first_cells(section(PAGE, "Answers of the receiver")) == answers


def test_every_situation_of_a_database_has_its_row() -> None:
    assert with_generated(PAGE, {"database errors": table_of_situations()}) == PAGE, (
        "run `d2i spec docs`"
    )
    assert PAGE.count("<!-- generated: ") == 1
