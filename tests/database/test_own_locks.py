"""No statement of a day would wait for its own thread.

On SQL Server a reader waits for who has written a row, and a writer for whoever is reading it; the
other databases keep versions of rows, so that their tests show nothing of it. A thread that waits
for another connection of its own waits until `lock_timeout`, each time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import delete, select

from d2i_helpers import database, settings
from d2i_helpers.database.tables import facts
from tests.database import day, odbc

_TABLES = re.compile(r"\b(?:d2i|ssd)_\w+")
_WRITES = re.compile(r"(?i)\s*(?:insert into|update|delete from)\s+(?:\[\w+\]\.)?(\w+)")


class Locks:
    """Which tables each connection has written or is reading, and who would wait for that."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self._written: dict[tuple[int, odbc.Connection], set[str]] = {}
        self._read: dict[tuple[int, odbc.Cursor], set[str]] = {}

    def look(self, cursor: odbc.Cursor, statement: str) -> None:
        """Look at a statement before it begins."""
        thread, mine, named = threading.get_ident(), cursor.connection, _named(statement)
        self._read = {key: names for key, names in self._read.items() if key[1]._rows}
        writes = _WRITES.match(statement)
        for (who, connection), names in self._written.items():
            if who == thread and connection is not mine and names & named:
                self.waiting.append(f"for what was written: {statement}")
        for (who, reading), names in self._read.items():
            if reading.connection is mine:  # without MARS the driver refuses it
                if reading is not cursor:
                    self.waiting.append(f"for another answer: {statement}")
            elif who == thread and writes and writes[1] in names:
                self.waiting.append(f"for who reads: {statement}")
        if writes:
            self._written.setdefault((thread, mine), set()).add(writes[1])
        self._read[thread, cursor] = named

    def end(self, connection: odbc.Connection) -> None:
        """Forget what a transaction wrote."""
        self._written = {k: v for k, v in self._written.items() if k[1] is not connection}


def _named(statement: str) -> set[str]:
    return set(_TABLES.findall(statement))


@pytest.fixture
def database_url(driver: odbc.Driver) -> str:
    """What `make_settings` points at."""
    return odbc.URL


@pytest.fixture
def locks(driver: odbc.Driver, monkeypatch: pytest.MonkeyPatch) -> Locks:
    """The locks of all connections of the fake driver."""
    made = Locks()
    begin = odbc.Cursor._begin

    def look(cursor: odbc.Cursor, statement: str) -> None:
        made.look(cursor, statement)
        begin(cursor, statement)

    monkeypatch.setattr(odbc.Cursor, "_begin", look)
    for name in ("commit", "rollback", "close"):
        monkeypatch.setattr(odbc.Connection, name, _ending(made, getattr(odbc.Connection, name)))
    return made


def _ending(locks: Locks, end: Callable[[odbc.Connection], None]) -> Callable[..., None]:
    def ended(connection: odbc.Connection) -> None:
        locks.end(connection)
        end(connection)

    return ended


def test_no_statement_of_a_day_waits_for_its_own_thread(
    locks: Locks, make_settings: Callable[..., settings.Settings]
) -> None:
    here = make_settings(chunk_size=20)
    day.fill(here, 60)
    engine = database.open_database(here)
    assert day.run(engine, here)["extract"]["new"] > 20
    day.pass_a_day(here)
    assert day.run(engine, here)["submit"]["acknowledged"] > 2
    assert locks.waiting == []
    engine.dispose()


def test_one_that_would_wait_is_seen(
    locks: Locks, make_settings: Callable[..., settings.Settings]
) -> None:
    here = make_settings()
    day.fill(here, 5)
    engine = database.open_database(here)
    day.run(engine, here)
    assert locks.waiting == []
    asked = select(facts.c.name)
    with database.reading(engine) as one, database.transaction(engine) as other:
        opened = one.execute(asked)
        one.execute(asked).all()
        other.execute(delete(facts))
        opened.close()
        one.execute(asked).all()
    assert [said.partition(":")[0] for said in locks.waiting] == [
        "for another answer", "for who reads", "for what was written"
    ]  # fmt: skip
    engine.dispose()
