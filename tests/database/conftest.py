"""What tests of several files about databases share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.database import odbc


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> odbc.Driver:
    """A driver that behaves as pyodbc does, in its place."""
    return odbc.in_place_of_pyodbc(tmp_path / "server.sqlite", monkeypatch)
