"""The statements of all stages are those that were approved, and each database's own SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.database import statements


def test_the_statements_of_all_stages_are_as_they_were_approved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = statements.today(tmp_path, monkeypatch)
    for name, said in today.items():
        for statement in said.splitlines():
            statements.read_strictly(statement, name)
        approved = (statements.APPROVED / f"{name}.sql").read_text(encoding="utf-8")
        assert said == approved, "if that is meant: python -m tests.database.statements"
