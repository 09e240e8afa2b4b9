"""A small demo in a folder of its own, whose stages run in this process."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.delta import stage as delta
from d2i_helpers.demo import receiver, simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.notebook import tomorrow
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings, load_secrets, load_settings
from d2i_helpers.submit import stage as submit

SPEC = load_spec("systemc")


class Demo:
    """A demo in a folder of its own, whose stages run in this process."""

    def __init__(self, folder: Path, *, children: int = 45, **more: Any) -> None:
        self.file = folder / "ssd.sqlite"
        given = {
            "database_url": f"sqlite:///{self.file}",
            "receiver_store": str(folder / "receiver.sqlite"),
            "outputs_dir": str(folder / "outputs"),
            **more,
        }
        self.settings: Settings = load_settings({"profile": "demo"}, **given)
        simulate.init(self.settings, children=children)
        self.engine: Engine = database.open_database(self.settings)

    def prepare(self) -> dict[str, int]:
        """Extract, anonymise and delta; gives the counts of delta."""
        extract.run(self.engine, self.settings, SPEC)
        if self.settings.source == "anonymised":
            anonymise.run(self.engine, self.settings, load_secrets(), SPEC)
        return delta.run(self.engine, self.settings, SPEC).counts

    def send(self) -> dict[str, int]:
        """Submit; gives its counts."""
        with receiver.running(self.settings) as endpoint:
            return submit.run(self.engine, self.settings, SPEC, endpoint).counts

    def preview(self) -> tomorrow.Tomorrow:
        return tomorrow.preview(self.engine, self.settings, SPEC)

    def sql(self, statement: str, **values: str) -> None:
        with database.transaction(self.engine) as connection:
            assert connection.execute(text(statement), values).rowcount

    def birth_date(self, person_id: str) -> str:
        with database.reading(self.engine) as connection:
            asked = text("SELECT pers_dob FROM ssd_person WHERE pers_person_id = :one")
            return str(connection.execute(asked, {"one": person_id}).scalar_one())

    def content(self) -> str:
        """A digest of every row of every table."""
        with database.reading(self.engine) as connection:
            names = connection.execute(
                text("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            ).scalars()
            rows = {n: connection.execute(text(f"SELECT * FROM {n}")).all() for n in list(names)}  # noqa: S608
        return hashlib.sha256(repr(rows).encode()).hexdigest()
