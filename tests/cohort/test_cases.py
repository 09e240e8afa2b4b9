"""Every case worked by hand, by its name, on every database; docs/cohort.md shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from d2i_helpers import database, settings
from d2i_helpers.database.tables import inclusion
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.payload_spec.outputs import with_generated
from tests import servers
from tests.cohort.cases import CASES, Case
from tests.cohort.cases_page import PAGE, case_tables
from tests.ssd import Ssd

CHILD_IDS = {case.name: f"K{number:03d}" for number, case in enumerate(CASES, 1)}


class Judged:
    """One SSD with all cases, and the documents that a run with each case's settings made."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.engine = database.open_database(self._settings(), create=True)
        self.ssd = Ssd(self.engine)
        rows_by_table: dict[str, list[dict[str, Any]]] = {}
        for case in CASES:
            for table, row in case.child(CHILD_IDS[case.name]).rows:
                rows_by_table.setdefault(table, []).append(row)
        for table, rows in rows_by_table.items():
            self.ssd.add(table, *rows)
        self._runs: dict[str, dict[str, Any]] = {}  # documents by child, by staging table
        self._sets: dict[tuple[str, str], tuple[str, ...]] = {}  # by staging table and child

    def _settings(self, **parameters: Any) -> settings.Settings:
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                if name.startswith(settings.ENV_PREFIX) and not name.startswith("D2I_TEST_"):
                    patch.delenv(name)
            patch.setenv("D2I_DATABASE_URL", self.url)
            places = {"outputs_dir": str(self.folder / "outputs"),
                      "receiver_store": str(self.folder / "receiver.sqlite")}  # fmt: skip
            return settings.load_settings(None, run_date="2026-08-10", **places, **parameters)

    def came_out(self, case: Case) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """What is staged of the case's child, None where it is not in; and its inclusion sets."""
        table = f"staged_{'_'.join(case.settings) or 'plain'}"
        if table not in self._runs:
            alike = [CHILD_IDS[other.name] for other in CASES if other.settings == case.settings]
            pilot = {"person_ids": alike} if case.settings else {"chunk_size": 40}
            chosen = self._settings(staging_table=table, **pilot, **case.settings)
            extract.run(self.engine, chosen, load_spec())
            self._runs[table] = self.ssd.documents(table)
            with database.reading(self.engine) as connection:
                for row in connection.execute(select(inclusion)):
                    sets = tuple(row.reasons.split(","))
                    self._sets[row.staging_table, row.person_id] = sets
        child = CHILD_IDS[case.name]
        return self._runs[table].get(child), self._sets.get((table, child), ())


@pytest.fixture(scope="module", params=servers.DATABASES)
def judged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Judged]:
    """The cases on each database: they share one SSD, so that a case costs no run of its own."""
    folder = tmp_path_factory.mktemp("cases")
    if request.param == "sqlite":
        held = Judged(f"sqlite:///{folder / 'cases.sqlite'}", folder)
        yield held
        held.engine.dispose()
        return
    is_ours = request.param == "postgresql"
    server = request.getfixturevalue("postgres_url") if is_ours else servers.url_of(request.param)
    with servers.empty_place(server) as url:
        held = Judged(url, folder)
        yield held
        held.engine.dispose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, judged: Judged) -> None:
    fault = case.child(CHILD_IDS[case.name]).found_wrong(*judged.came_out(case))
    assert fault is None, f"{case.name}: {fault}"


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 85
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_documentation_shows_the_cases() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| {case.name.replace('_', ' ')} |" in page for case in CASES)
    assert with_generated(page, {"cases": case_tables()}) == page, (
        "run `python -m tests.cohort.cases_page`"
    )
