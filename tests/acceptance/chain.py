"""The whole chain from outside: the command line, the database and the receiver's own answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import requests
from sqlalchemy import select

from d2i_helpers import database
from d2i_helpers.database.tables import journal, staging_table
from d2i_helpers.demo import receiver
from d2i_helpers.settings import Settings, load_settings


@dataclass
class Chain:
    """One demo in folders of its own."""

    folder: Path
    children: int = 60

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "database_url": f"sqlite:///{self.folder / 'ssd.sqlite'}",
            "receiver_store": str(self.folder / "receiver.sqlite"),
            "outputs_dir": str(self.folder / "outputs"),
            "simulate_children": self.children,
        }

    @property
    def settings(self) -> Settings:
        return load_settings({"profile": "demo"}, **self.parameters)

    def d2i(self, *words: str, **parameters: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on this demo; parameters win over its own."""
        return subprocess.run(
            self.command(*words, **parameters), capture_output=True, text=True, env=clean(),
            timeout=300, check=False,
        )  # fmt: skip

    def command(self, *words: str, **parameters: Any) -> list[str]:
        given = {**self.parameters, **parameters}
        options = [part for k, v in given.items() for part in ("-p", f"{k}={v}")]
        return [sys.executable, "-m", "d2i_helpers", *words, *options]

    def records(self) -> list[dict[str, Any]]:
        """The run records, oldest first."""
        found = sorted((self.folder / "outputs").glob("*/run.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in found]

    def counts(self, stage: str) -> dict[str, int]:
        """The counts of a stage in the newest record."""
        return next(s["counts"] for s in self.records()[-1]["stages"] if s["name"] == stage)

    def held(self) -> dict[str, Any]:
        """What the receiver holds, asked over HTTP."""
        return self._ask("/admin/documents")

    def requests_seen(self) -> list[dict[str, Any]]:
        """Every request that the receiver saw."""
        found = self._ask("/admin/requests")
        return found["requests"] if isinstance(found, dict) else found

    def _ask(self, path: str) -> Any:
        with receiver.running(self.settings) as endpoint:
            host = re.match(r"https?://[^/]+", endpoint.base_url).group(0)
            return requests.get(host + path, timeout=30).json()

    def rows(self) -> list[Any]:
        """The staging rows."""
        engine = database.open_database(self.settings)
        try:
            with database.reading(engine) as connection:
                assert connection.execute(select(journal)).all() == []
                return list(connection.execute(select(staging_table("ssd_api_data_staging"))))
        finally:
            engine.dispose()

    def assert_converged(self) -> None:
        """For every child the receiver's document equals the staging document."""
        rows = self.rows()
        live = {r.person_id: orjson.loads(r.json_payload) for r in rows if r.row_state != "deleted"}
        assert live
        assert self.held() == live
        for row in rows:
            if row.row_state == "deleted":
                assert row.previous_json_payload is None
            else:
                assert (row.row_state, row.submission_status) == ("unchanged", "sent")


def clean() -> dict[str, str]:
    """The environment without settings of this project."""
    return {k: v for k, v in os.environ.items() if not k.startswith("D2I_")}
