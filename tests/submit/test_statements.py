"""What delta and submit ask a database: nothing of rows at rest, and little of each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text

from d2i_helpers.database import dialects
from d2i_helpers.database.tables import staging_table, unsettled
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, outbox
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit import stage as submit
from tests.staging.test_convergence import answered
from tests.staging.test_states import SPEC, TABLE, Table, document

# of a batch: the lease looked at, log, answer, journal cleared, journal filled, messages read
A_BATCH = 6


@contextmanager
def asked(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that the driver gets while the block runs, with its parameters."""
    said: list[tuple[str, Any]] = []

    def look(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        said.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", look)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", look)


@pytest.fixture
def table(engine: Engine, make_settings: Callable[..., Settings]) -> Table:
    return Table(engine, make_settings(batch_size=2))


def sent(table: Table) -> int:
    """Prepare and submit what waits; gives the number of messages."""
    delta_stage.run(table.engine, table.settings, SPEC)

    def send(records: list[bytes]) -> Any:
        return answered([Outcome.ACKNOWLEDGED] * len(records))

    client = type("Client", (), {"send": staticmethod(send)})()
    return submit.run(table.engine, table.settings, SPEC, None, client=client).counts["sent"]


def test_a_quiet_day_reads_no_row_of_the_staging_table(table: Table) -> None:
    if table.engine.dialect.name not in ("sqlite", "postgresql"):
        pytest.skip("other databases have no EXPLAIN that is a statement")
    table.stage(*(document(f"C{number}") for number in range(20)))
    assert sent(table) == 20
    with asked(table.engine) as said:
        assert sent(table) == 0
    selects = [one for one in said if TABLE in one[0] and one[0].lstrip().startswith("SELECT")]
    assert len(selects) >= 5
    for plan in plans(table.engine, selects):
        assert not reads_all(plan), plan


def test_postgresql_finds_few_unsettled_rows_among_many_by_their_index(table: Table) -> None:
    """By itself, and before it has counted anything: it must not expect nearly every row."""
    if table.engine.dialect.name != "postgresql":
        pytest.skip("other databases do not weigh an index against the whole table here")
    at_rest = {
        "person_id": "'R' || number", "json_payload": "repeat('x', 1000)",
        "previous_json_payload": "'x'", "current_hash": "'x'", "previous_hash": "'x'",
        "submission_status": "'sent'", "row_state": "'unchanged'",
    }  # fmt: skip
    with table.engine.begin() as connection:
        connection.exec_driver_sql(
            f"insert into {TABLE} ({', '.join(at_rest)}) "  # noqa: S608
            f"select {', '.join(at_rest.values())} from generate_series(1, 1000) number"
        )
        waiting = staging_table(TABLE)
        with asked(table.engine) as said:
            assert not connection.execute(select(waiting.c.id).where(unsettled(waiting))).all()
        plan = [str(row[0]) for row in connection.exec_driver_sql(f"explain {said[0][0]}")]
    assert not reads_all(plan), plan


def test_postgresql_counts_a_first_load_without_going_through_it_for_each_row(
    table: Table,
) -> None:
    """Where it has counted nothing yet, it expects few unsettled rows, and all are."""
    if table.engine.dialect.name != "postgresql":
        pytest.skip("other databases find the rows one by one")
    waiting = {
        TABLE: {
            "person_id": "'R' || number", "json_payload": "repeat('x', 1000)",
            "partial_json_payload": "repeat('x', 1000)", "current_hash": "'x'",
            "submission_status": "'pending'", "row_state": "'new'",
        },
        "d2i_row_notes": {
            "person_id": "'R' || number", "staging_table": f"'{TABLE}'",
            "partial_current_hash": "'x'", "partial_kind": "'document'",
            "partial_digest": "'x'", "document_digest": "'x'",
        },
    }  # fmt: skip
    with table.engine.begin() as connection:
        for name, values in waiting.items():
            connection.exec_driver_sql(
                f"insert into {name} ({', '.join(values)}) "  # noqa: S608
                f"select {', '.join(values.values())} from generate_series(1, 8000) number"
            )
        connection.exec_driver_sql("set statement_timeout = '30s'")
        with asked(table.engine) as said:
            assert outbox.count_waiting(connection, Staging(table.engine, TABLE)) == (8000, 8000)
    (plan,) = plans(table.engine, said)
    assert not [step for step in plan if "Join Filter" in step and "waiting.id" in step], plan


def test_a_batch_does_not_go_through_what_others_left(
    table: Table, make_settings: Callable[..., Settings]
) -> None:
    """Neither the log of every day nor the rows at rest, however few are sent today."""
    if table.engine.dialect.name != "sqlite":
        pytest.skip("its plans do not depend on how many rows there are")
    table.stage(*(document(f"C{number}") for number in range(6)))
    with asked(table.engine) as said:
        assert sent(table) == 6
    of_batches = {one[0]: one for one in said if "d2i_in_flight" in one[0] and "batch_id" in one[0]}
    assert len(of_batches) >= 4
    for plan in plans(table.engine, list(of_batches.values())):
        for step in plan:
            assert not step.startswith("SCAN"), plan
            assert not step.endswith("(staging_table=?)"), plan


def test_a_first_load_lets_the_database_count_what_it_filled(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else PostgreSQL takes the notes for few, and reads all of them for each request."""
    monkeypatch.setattr(delta_stage, "PAGE", 2)
    monkeypatch.setattr(delta_stage, "MANY", 4)
    table.stage(*(document(f"C{number}") for number in range(6)))
    assert sent(table) == 6
    if table.engine.dialect.name == "postgresql":
        counted = text("select reltuples from pg_class where relname = 'd2i_row_notes'")
        with table.engine.connect() as connection:
            assert connection.execute(counted).scalars().all() == [6]


def test_a_usual_day_does_not(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the longer the more rows there are, however few have changed."""
    if table.engine.dialect.name != "postgresql":
        pytest.skip("other databases are not told")
    monkeypatch.setattr(delta_stage, "MANY", 4)

    def told(*documents: Any) -> int:
        table.stage(*documents)
        with asked(table.engine) as said:
            assert sent(table) == len(documents)
        return sum(statement.startswith("analyze") for statement, _ in said)

    assert told(*(document(f"C{number}") for number in range(50)))
    assert not told(*(document(f"D{number}") for number in range(4)))
    assert told(*(document(f"E{number}") for number in range(10)))


def plans(engine: Engine, statements: list[tuple[str, Any]]) -> Iterator[list[str]]:
    """How the database carries out each statement, where it may choose an index."""
    how = "explain query plan" if engine.dialect.name == "sqlite" else "explain"
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # a table of a page is always read whole
            connection.execute(text("set enable_seqscan = off"))
        for statement, parameters in statements:
            rows = connection.exec_driver_sql(f"{how} {statement}", parameters).all()
            yield [str(row[-1]) for row in rows]


def reads_all(plan: list[str]) -> bool:
    """Whether a step goes through all rows of the staging table."""
    aliases = (TABLE, "waiting", "flying")
    whole = [step for step in plan if "SCAN " in step or "Seq Scan" in step]
    return any(
        alias in step and "USING INDEX" not in step and "USING COVERING INDEX" not in step
        for step in whole
        for alias in aliases
    )


def test_a_batch_takes_few_statements_that_are_the_same_for_each(table: Table) -> None:
    def statements(batches: int) -> list[str]:
        table.stage(*(document(f"{batches}-{number}") for number in range(2 * batches)))
        with asked(table.engine) as said:
            assert sent(table) == 2 * batches
        return [statement for statement, _ in said]

    statements(1)  # the catalogue is asked
    few, many = statements(2), statements(9)
    counted = dialects.of(table.engine).counts_rows_of_many  # else before and after the log
    assert len(many) - len(few) == 7 * (A_BATCH + 2 * (not counted))
    assert len(set(many) - set(few)) <= 4  # delta names the rows of its page
