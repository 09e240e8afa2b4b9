"""Connections that the server ends: what was under way is done again, and the day goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, text

from d2i_helpers import database
from d2i_helpers.database import retries
from d2i_helpers.errors import DatabaseError
from d2i_helpers.staging.lease import working_on
from tests.database import day

# numbers of statements, further and further apart: anonymise is one transaction, and has to end
KILLS = [11 * n * n for n in range(20)]
Kill = Callable[[Callable[[int], bool]], list[str]]


@pytest.fixture
def kill(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kill]:
    """Ends the connection of a statement before it is issued, where its number is chosen.

    Gives a list that will hold the statements.
    """
    if engine.dialect.name != "postgresql":
        pytest.skip("ended as PostgreSQL ends a connection")
    monkeypatch.setattr(retries, "_WAIT_SECONDS", 0.01)
    admin = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    number, killed, chosen = 0, [], lambda _: False

    @event.listens_for(engine, "before_cursor_execute")
    def _look(connection, cursor, statement, *_) -> None:  # type: ignore[no-untyped-def]
        nonlocal number
        number += 1
        if chosen(number):
            killed.append(statement)
            pid = connection.connection.dbapi_connection.info.backend_pid
            with admin.connect() as other:
                other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    def choose(which: Callable[[int], bool]) -> list[str]:
        nonlocal number, chosen
        number, chosen = 0, which
        return killed

    yield choose
    admin.dispose()


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_reader_goes_on_with_another_connection(engine: Engine, kill: Kill, which: int) -> None:
    """Also where the connection is lost while a stage looks after its lease at the beginning."""
    with working_on(engine, ["ssd_api_data_staging"]):
        killed = kill(lambda number: number == which)
        with database.reading(engine) as connection:
            found = [connection.execute(text(f"select {one}")).scalar_one() for one in (1, 2)]
        kill(lambda _: False)
    assert found == [1, 2] and len(killed) == 1
    assert ("d2i_run_lock" in killed[0]) is (which == 1)


def test_a_reader_gives_up_after_some_attempts(engine: Engine, kill: Kill) -> None:
    killed = kill(lambda _: True)
    with (
        pytest.raises(DatabaseError, match=r"was lost .* It was tried 4 times"),
        database.reading(engine) as connection,
    ):
        connection.execute(text("select 1"))
    assert len(killed) == 4


def test_days_go_on_whenever_a_connection_is_lost(
    engine: Engine, kill: Kill, make_settings: Callable
) -> None:
    settings = make_settings(
        chunk_size=8, batch_size=4, max_changed_share=1, max_deleted_share=1, pause_seconds=0
    )
    day.fill(settings, 15)
    for start in (3, 20):
        killed = kill(lambda number, start=start: number - start in KILLS)
        before = len(killed)
        day.run(engine, settings)
        assert len(killed) - before > 3
        kill(lambda _: False)
        day.pass_a_day(settings)
