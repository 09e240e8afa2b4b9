"""One case for each row of the event table, on every database."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, bindparam, insert, select, update

from d2i_helpers import database
from d2i_helpers.database.tables import journal, submission_log
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import canonical_name, content_hash, to_text
from d2i_helpers.errors import GuardError
from d2i_helpers.payload_spec.outputs import with_generated
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staged, Staging, outbox, rehash_all, states
from d2i_helpers.staging.load import write
from d2i_helpers.staging.states import TRANSITIONS, Event, NoState, Outcome, RowState
from d2i_helpers.submit import stage as submit
from tests.staging.test_convergence import answered
from tests.staging.world import HASHER, SPEC, NaiveReceiver, messages, rows_of

TABLE = "ssd_api_data_staging"


def document(person: str = "C1", **details: Any) -> dict[str, Any]:
    return {
        "la_child_id": person,
        "purge": False,
        "child_details": {
            "first_name": "Zoë",
            "sex": "F",
            "disabilities": ["NONE"],
            "uasc_flag": False,
            **details,
            "purge": False,
        },
    }


def with_plan(person: str = "C1", *plans: str) -> dict[str, Any]:
    plan_items = [
        {"child_in_need_plan_id": p, "start_date": "2026-01-01", "purge": False} for p in plans
    ]
    episode = {"social_care_episode_id": "E1", "referral_date": "2026-01-01", "purge": False}
    if plan_items:
        episode["child_in_need_plans"] = plan_items
    return {**document(person), "social_care_episodes": [episode]}


class Table:
    """A staging table with the steps of a day, for one test."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        database.create_staging(engine, TABLE)
        self.engine, self.settings = engine, settings
        self.staging = Staging(engine, TABLE)
        self.receiver = NaiveReceiver("merge")
        self.sent: list[dict[str, Any]] = []

    def stage(self, *documents: dict[str, Any]) -> dict[Event, int]:
        rows = [
            Staged(d["la_child_id"], None, to_text(d), content_hash(SPEC, d)) for d in documents
        ]
        with database.transaction(self.engine) as connection:
            return dict(write(connection, self.staging, rows))

    def gone(self, person: str) -> None:
        with database.transaction(self.engine) as connection:
            row = self.staging.lookup(connection, [person])[person]
            self.staging.mark_gone(connection, [row.id])

    def send(
        self, outcome: Outcome = Outcome.ACKNOWLEDGED, meanwhile: Callable | None = None
    ) -> Any:
        delta_stage.run(self.engine, self.settings, SPEC)
        self.sent.clear()

        def post(records: list[bytes]) -> Any:
            self.sent.extend(messages(records))
            if outcome is Outcome.ACKNOWLEDGED:
                for message in messages(records):
                    self.receiver.store(message)
            if meanwhile:
                meanwhile()
            return answered([outcome] * len(records))

        client = type("Client", (), {"send": staticmethod(post)})()
        return submit.run(self.engine, self.settings, SPEC, None, client=client)

    def row(self, person: str = "C1") -> Any:
        with database.reading(self.engine) as connection:
            t = self.staging.table
            return connection.execute(select(t).where(t.c.person_id == person)).one()

    def states(self, person: str = "C1") -> tuple[str, str, bool]:
        row = self.row(person)
        return row.row_state, row.submission_status, row.previous_json_payload is not None

    def journalled(self) -> int:
        with database.reading(self.engine) as connection:
            return len(connection.execute(select(journal)).all())


@pytest.fixture
def table(engine: Engine, make_settings: Callable[..., Settings]) -> Table:
    return Table(engine, make_settings(phase="delta", max_deleted_share=1))


def test_first_seen(table: Table) -> None:
    assert table.stage(document()) == {Event.FIRST_SEEN: 1}
    assert table.states() == ("new", "pending", False)


def test_extracted_again_before_it_was_sent_changes_nothing(table: Table) -> None:
    table.stage(document())
    before = table.row()
    assert table.stage(document()) == {}
    assert table.row() == before


def test_changed_before_it_was_ever_sent_is_still_new(table: Table) -> None:
    table.stage(document())
    table.stage(document(postcode="AB1 2CD"))
    assert table.states() == ("new", "pending", False)


def test_acknowledged(table: Table) -> None:
    table.stage(document())
    table.send()
    assert table.states() == ("unchanged", "sent", True)
    row = table.row()
    assert row.previous_json_payload == row.json_payload
    assert row.previous_hash == row.current_hash
    assert row.partial_json_payload is None
    assert row.api_response == "ref"
    assert isinstance(row.submission_timestamp, dt.datetime)


def test_changed_after_it_was_acknowledged(table: Table) -> None:
    table.stage(document())
    table.send()
    assert table.stage(document(postcode="AB1 2CD")) == {Event.CHANGED: 1}
    assert table.states() == ("updated", "pending", True)
    table.send()
    assert table.states() == ("unchanged", "sent", True)


def test_a_change_undone_before_it_was_sent_needs_no_request(table: Table) -> None:
    table.stage(document())
    table.send()
    table.stage(document(postcode="AB1 2CD"))
    assert table.stage(document()) == {Event.UNDONE: 1}
    assert table.states() == ("unchanged", "sent", True)
    assert table.send().counts["requests"] == 0


def test_two_changes_before_an_acknowledgement_are_both_sent(table: Table) -> None:
    """The baseline is what was acknowledged, never merely the document before."""
    table.stage(with_plan("C1", "A"))
    table.send()
    table.stage(with_plan("C1", "A", "B"))
    table.stage({**with_plan("C1", "A", "B"), "mis_child_id": "M1"})
    table.send()
    plans = table.sent[0]["social_care_episodes"][0]["child_in_need_plans"]
    assert [p["child_in_need_plan_id"] for p in plans] == ["B"]


def test_a_refused_document_is_never_a_baseline(table: Table) -> None:
    table.stage(with_plan("C1", "A"))
    table.send(Outcome.REFUSED)
    assert table.states() == ("new", "error", False)
    table.stage(with_plan("C1", "A", "B"))
    table.send()
    assert table.sent == [with_plan("C1", "A", "B")]


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED])
def test_refused_or_retries_used_up(table: Table, outcome: Outcome) -> None:
    table.stage(document())
    result = table.send(outcome)
    assert table.states() == ("new", "error", False)
    assert table.row().api_response == "a reason"
    assert table.journalled() == 0
    assert result.counts["need_attention"] == 1
    table.send()
    assert table.states() == ("unchanged", "sent", True)


def test_outcome_unknown_stays_in_the_journal_until_it_is_settled(table: Table) -> None:
    table.stage(document())
    table.send(Outcome.UNKNOWN)
    assert table.states() == ("new", "error", False)
    assert table.journalled() == 1
    table.send()
    assert table.states() == ("unchanged", "sent", True)
    assert table.journalled() == 0


def test_a_delta_after_an_unknown_outcome_is_right_in_both_cases(table: Table) -> None:
    table.stage(with_plan("C1", "A"))
    table.send()
    table.stage(with_plan("C1", "B"))
    table.send(Outcome.UNKNOWN)
    table.stage(with_plan("C1", "A"))  # undone in the source; the receiver may hold B
    assert table.states() == ("updated", "pending", True)
    table.send()
    plans = table.sent[0]["social_care_episodes"][0]["child_in_need_plans"]
    assert {(p["child_in_need_plan_id"], p["purge"]) for p in plans} == {("A", False), ("B", True)}


def test_a_row_that_another_hand_settled_is_due_by_the_journal(table: Table) -> None:
    table.stage(with_plan("C1", "A"))
    table.send()
    acknowledged = table.row()._asdict()
    table.stage(with_plan("C1", "B"))
    table.send(Outcome.UNKNOWN)
    with database.transaction(table.engine) as connection:
        connection.execute(update(table.staging.table).values(acknowledged))
    assert table.states() == ("unchanged", "sent", True)
    with database.reading(table.engine) as connection:
        assert outbox.count_due(connection, table.staging) == 1
    table.send()  # the receiver may hold B
    plans = table.sent[0]["social_care_episodes"][0]["child_in_need_plans"]
    assert {(p["child_in_need_plan_id"], p["purge"]) for p in plans} == {("A", False), ("B", True)}
    assert table.journalled() == 0


def test_not_sent_at_all_leaves_the_row_as_it_was(table: Table) -> None:
    table.stage(document())
    table.send(Outcome.UNSENT)
    assert table.states() == ("new", "pending", False)
    assert table.journalled() == 0


def test_a_row_that_moved_on_while_on_the_wire(table: Table) -> None:
    table.stage(document())
    table.send(meanwhile=lambda: table.stage(document(postcode="AB1 2CD")))
    assert table.states() == ("updated", "pending", True)
    assert orjson.loads(table.row().previous_json_payload) == document()
    table.send()
    assert table.states() == ("unchanged", "sent", True)


def test_a_row_that_moved_on_keeps_waiting_when_the_old_document_is_refused(table: Table) -> None:
    table.stage(document())
    table.send(Outcome.REFUSED, meanwhile=lambda: table.stage(document(postcode="AB1 2CD")))
    assert table.states() == ("new", "pending", False)


def test_gone_before_it_was_ever_sent_goes_quietly(table: Table) -> None:
    table.stage(document())
    table.gone("C1")
    assert table.states() == ("deleted", "pending", False)
    assert table.send().counts["requests"] == 0


def test_gone_after_it_was_acknowledged_is_purged(table: Table) -> None:
    table.stage({**document(), "mis_child_id": "M1"})
    table.send()
    table.gone("C1")
    assert table.states() == ("deleted", "sent", True)
    delta_stage.run(table.engine, table.settings, SPEC)
    assert table.states() == ("deleted", "pending", True)
    table.send()
    assert table.sent == [{"la_child_id": "C1", "mis_child_id": "M1", "purge": True}]
    assert table.states() == ("deleted", "sent", False)
    assert table.receiver.held == {}


def test_gone_while_its_document_was_on_the_wire(table: Table) -> None:
    table.stage(document())
    table.send(meanwhile=lambda: table.gone("C1"))
    assert table.states() == ("deleted", "sent", True)
    table.send()
    assert table.states() == ("deleted", "sent", False)


def test_back_before_the_purge_was_sent_needs_no_request(table: Table) -> None:
    table.stage(document())
    table.send()
    table.gone("C1")
    delta_stage.run(table.engine, table.settings, SPEC)
    assert table.stage(document()) == {Event.BACK_SAME: 1}
    assert table.states() == ("unchanged", "sent", True)
    assert table.send().counts["requests"] == 0


def test_back_changed_before_the_purge_was_sent(table: Table) -> None:
    table.stage(document())
    table.send()
    table.gone("C1")
    assert table.stage(document(postcode="AB1 2CD")) == {Event.BACK_CHANGED: 1}
    table.send()
    assert table.states() == ("unchanged", "sent", True)


def test_back_with_the_same_document_after_the_purge_is_sent_whole(table: Table) -> None:
    table.stage(with_plan("C1", "A"))
    table.send()
    table.gone("C1")
    table.send()
    assert table.stage(with_plan("C1", "A")) == {Event.BACK_NEW: 1}
    table.send()
    assert table.sent == [with_plan("C1", "A")]
    assert table.states() == ("unchanged", "sent", True)


def test_back_while_the_purge_was_on_the_wire_is_sent_whole_next(table: Table) -> None:
    table.stage(document())
    table.send()
    table.gone("C1")
    table.send(meanwhile=lambda: table.stage(document(postcode="AB1 2CD")))
    assert table.states() == ("new", "pending", False)
    table.send()
    assert table.sent == [document(postcode="AB1 2CD")]


def test_a_hundred_outcomes_are_told_apart(table: Table) -> None:
    table.stage(*(document(f"C{i}") for i in range(30)))
    delta_stage.run(table.engine, table.settings, SPEC)
    outcomes = [list(Outcome)[i % 5] for i in range(30)]
    client = type("Client", (), {"send": staticmethod(lambda records: answered(outcomes))})()
    result = submit.run(table.engine, table.settings, SPEC, None, client=client)
    assert {str(o): 6 for o in Outcome} == result.outcomes
    wanted = {"acknowledged": "sent", "unsent": "pending"}
    for i, outcome in enumerate(outcomes):
        assert table.states(f"C{i}")[1] == wanted.get(str(outcome), "error")


def test_the_log_keeps_every_attempt(table: Table) -> None:
    table.stage(document())
    table.send(Outcome.FAILED)
    table.send()
    with database.reading(table.engine) as connection:
        rows = connection.execute(select(submission_log).order_by(submission_log.c.id)).all()
    assert [(r.outcome, r.reference) for r in rows] == [("failed", None), ("acknowledged", "ref")]
    assert rows[0].document_hash == table.row().current_hash
    assert rows[0].batch_id != rows[1].batch_id


def test_phase_full_sends_the_whole_document_and_marks_what_is_gone(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    table = Table(engine, make_settings(phase="full"))
    table.stage(with_plan("C1", "A", "B"))
    table.send()
    assert table.sent == [with_plan("C1", "A", "B")]
    table.stage(with_plan("C1", "A"))
    table.send()
    plans = table.sent[0]["social_care_episodes"][0]["child_in_need_plans"]
    assert {(p["child_in_need_plan_id"], p["purge"]) for p in plans} == {("A", False), ("B", True)}


def test_a_dry_run_sends_and_writes_nothing(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    table = Table(engine, make_settings(dry_run=True))
    table.stage(document())
    delta_stage.run(table.engine, table.settings, SPEC)
    before = table.row()
    assert table.send().counts["requests"] == 0
    assert (table.row(), table.sent) == (before, [])


def submit_alone(table: Table, send: Callable[..., Any]) -> dict[str, int]:
    client = type("Client", (), {"send": staticmethod(send)})()
    return submit.run(table.engine, table.settings, SPEC, None, client=client).counts


def test_whatever_submit_leaves_behind_needs_attention(table: Table) -> None:
    table.stage(document("C1"), document("C2"), document("C3"))
    delta_stage.run(table.engine, table.settings, SPEC)
    table.stage(document("C4"))  # never prepared
    outcomes = [Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN]
    counts = submit_alone(table, lambda records: answered(outcomes))
    assert (counts["waiting_before"], counts["not_prepared"]) == (3, 1)
    assert counts["still_waiting"] == counts["need_attention"] == 3
    # nothing can be sent of an unknown outcome before delta has run, and that is said
    counts = submit_alone(table, lambda records: answered([Outcome.ACKNOWLEDGED] * len(records)))
    assert (counts["acknowledged"], counts["not_prepared"], counts["need_attention"]) == (1, 2, 2)


def test_the_counts_are_those_of_the_end_of_the_stage(table: Table) -> None:
    table.stage(document("C1"), document("C2"))
    prepared = delta_stage.run(table.engine, table.settings, SPEC).counts
    assert (prepared["waiting_before"], prepared["ready_to_send"]) == (2, 2)
    assert prepared["held_back"] == prepared["need_attention"] == 0
    counts = submit_alone(table, lambda records: answered([Outcome.ACKNOWLEDGED] * len(records)))
    assert (counts["waiting_before"], counts["acknowledged"]) == (2, 2)
    assert counts["still_waiting"] == counts["not_prepared"] == counts["need_attention"] == 0
    assert "waiting" not in counts


def test_what_a_dry_run_leaves_is_no_failure(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    table = Table(engine, make_settings(dry_run=True))
    table.stage(document())
    counts = submit_alone(table, lambda _: pytest.fail("sent"))
    assert (counts["still_waiting"], counts["not_prepared"]) == (1, 1)
    assert counts["need_attention"] == 0


def test_broken_json_costs_only_its_own_row_and_heals(table: Table) -> None:
    table.stage(document("C1"), document("C2"))
    t = table.staging.table
    with database.transaction(table.engine) as connection:
        connection.execute(update(t).where(t.c.person_id == "C1").values(json_payload='{"la_ch'))
    result = delta_stage.run(table.engine, table.settings, SPEC)
    assert result.counts["unreadable"] == result.counts["need_attention"] == 1
    assert table.states("C1") == ("new", "error", False)
    table.send()
    assert table.states("C2") == ("unchanged", "sent", True)
    table.stage(document("C1"), document("C2"))  # the next extract puts it back
    table.send()
    assert table.states("C1") == ("unchanged", "sent", True)


def test_a_document_that_breaks_a_rule_is_marked_with_path_and_rule_and_never_sent(
    table: Table,
) -> None:
    table.stage(document("C1", sex="CANARY"), document("C2"))
    result = table.send()
    assert [d["la_child_id"] for d in table.sent] == ["C2"]
    assert table.row("C1").submission_status == "error"
    assert "child_details.sex" in table.row("C1").api_response
    assert "CANARY" not in table.row("C1").api_response
    assert result.counts["not_prepared"] == 1


def test_a_damaged_baseline_is_replaced_by_the_whole_document(table: Table) -> None:
    table.stage(document())
    table.send()
    t = table.staging.table
    with database.transaction(table.engine) as connection:
        connection.execute(update(t).values(previous_json_payload="[]"))
    table.stage(document(postcode="AB1 2CD"))
    table.send()
    assert table.sent == [document(postcode="AB1 2CD")]
    assert table.states() == ("unchanged", "sent", True)


# ---------------------------------------------------------- a table that D2I's SQL job filled
def d2i_row(person: str, state: str, status: str, **columns: Any) -> dict[str, Any]:
    """A row as D2I's SQL job writes it, with a hash of its own making."""
    return {
        "person_id": person,
        "legacy_id": None,
        "json_payload": to_text(document(person)),
        "previous_json_payload": None,
        "partial_json_payload": None,
        "current_hash": b"\x01" * 32,
        "previous_hash": None,
        "row_state": state,
        "submission_status": status,
        **columns,
    }


def fill(table: Table, *rows: dict[str, Any]) -> None:
    with database.transaction(table.engine) as connection:
        connection.execute(insert(table.staging.table), list(rows))


def test_d2i_new_and_pending_in_capitals_is_sent_in_delta_mode(table: Table) -> None:
    fill(table, d2i_row("C1", "New", "Pending"))
    table.send()
    assert table.sent == [document("C1")]
    assert table.states() == ("unchanged", "sent", True)


def test_d2i_deleted_after_it_was_sent_is_purged(table: Table) -> None:
    held = {"previous_json_payload": to_text(document()), "previous_hash": b"\x01" * 32}
    fill(table, d2i_row("C1", "Deleted", "Sent", **held))
    table.send()
    assert table.sent == [{"la_child_id": "C1", "purge": True}]


def test_d2i_stale_partial_is_never_sent(table: Table) -> None:
    held = to_text(document("C1", postcode="AB1 2CD"))
    stale = {"partial_json_payload": '{"la_child_id":"stale"}', "previous_json_payload": held}
    fill(table, d2i_row("C1", "Updated", "Pending", **stale))
    client = type("Client", (), {"send": staticmethod(lambda _: pytest.fail("sent"))})()
    result = submit.run(table.engine, table.settings, SPEC, None, client=client)
    assert result.counts["not_prepared"] == 1  # submit alone says that delta has to run
    table.send()
    assert table.sent[0]["child_details"]["postcode"] is None


def test_d2i_row_without_a_hash_is_sent(table: Table) -> None:
    fill(table, d2i_row("C1", "New", "Pending", current_hash=None))
    table.send()
    assert table.states() == ("unchanged", "sent", True)


def test_d2i_change_after_our_delta_makes_it_stale(table: Table) -> None:
    fill(table, d2i_row("C1", "New", "Pending"))
    delta_stage.run(table.engine, table.settings, SPEC)
    changed = document("C1", postcode="AB1 2CD")
    with database.transaction(table.engine) as connection:
        connection.execute(
            update(table.staging.table).values(
                json_payload=to_text(changed), current_hash=b"\x02" * 32
            )
        )
    client = type("Client", (), {"send": staticmethod(lambda _: pytest.fail("sent"))})()
    submit.run(table.engine, table.settings, SPEC, None, client=client)
    table.send()
    assert table.sent == [changed]


def test_d2i_source_that_vanished_is_stopped_before_anything_is_purged(
    engine: Engine, make_settings: Callable[..., Settings]
) -> None:
    table = Table(engine, make_settings())
    fill(
        table,
        *(
            d2i_row(f"C{i}", "Deleted" if i < 10 else "unchanged", "Sent",
                    previous_json_payload=to_text(document(f"C{i}")))
            for i in range(40)
        ),
    )  # fmt: skip
    with pytest.raises(GuardError, match="max_deleted_share"):
        delta_stage.run(table.engine, table.settings, SPEC)
    assert table.row("C1").partial_json_payload is None


@pytest.mark.parametrize(("children", "stops"), [(40, False), (30, True)])
def test_d2i_items_that_vanished_are_stopped_block_by_block(
    engine: Engine, make_settings: Callable[..., Settings], children: int, stops: bool
) -> None:
    """Four of the plans are gone: a tenth of 40 is allowed, of 30 it is more."""
    table = Table(engine, make_settings())
    rows = []
    for number in range(children):
        child = f"C{number}"
        held = {"previous_json_payload": to_text(with_plan(child, "P1"))}
        lost = number < 4
        today = to_text(with_plan(child) if lost else with_plan(child, "P1"))
        state = ("updated", "Pending") if lost else ("unchanged", "Sent")
        rows.append(d2i_row(child, *state, json_payload=today, **held))
    fill(table, *rows)
    if stops:
        with pytest.raises(GuardError, match="4 of 30 child_in_need_plans would be purged"):
            delta_stage.run(table.engine, table.settings, SPEC)
        assert table.row("C1").partial_json_payload is None
        allowed = table.settings.model_copy(update={"max_purged_items_share": 0.14})
        delta_stage.run(table.engine, allowed, SPEC)
    else:
        delta_stage.run(table.engine, table.settings, SPEC)
    assert '"purge": true' in str(table.row("C1").partial_json_payload).replace(":true", ": true")


def test_rehashing_a_table_changes_its_hashes_and_sends_nobody_again(table: Table) -> None:
    held = {"previous_json_payload": to_text(document()), "previous_hash": b"\x09" * 32}
    fill(table, d2i_row("C1", "unchanged", "sent", **held))

    def hasher(text: str) -> bytes:
        return content_hash(SPEC, orjson.loads(text))

    assert rehash_all(table.staging, hasher, "1") == 1
    assert rehash_all(table.staging, hasher, "1") == 0
    assert table.stage(document()) == {}
    assert table.send().counts["requests"] == 0


def test_a_baseline_that_d2i_staged_and_nobody_acknowledged_is_not_relied_on(
    table: Table,
) -> None:
    """Its SQL keeps there what it staged before, sent or not; a change must not get lost so."""
    first, second, third = document(), with_plan("C1", "A1"), with_plan("C1", "A1")
    third["child_details"]["postcode"] = "AB1 2CD"
    table.receiver.store(first)  # by the old sender; the second one was staged and never sent
    fill(table, d2i_row("C1", "Updated", "Pending", json_payload=to_text(third),
                        current_hash=b"\x03" * 32, previous_json_payload=to_text(second),
                        previous_hash=b"\x02" * 32))  # fmt: skip
    table.send()
    assert table.receiver.held["C1"] == rows_of(third)

    def job(before: dict[str, Any], number: int, **details: Any) -> dict[str, Any]:
        """D2I's SQL of the next night."""
        now = copy.deepcopy(before)
        now["child_details"].update(details)
        values = {"json_payload": to_text(now), "current_hash": bytes([number]) * 32,
                  "previous_json_payload": to_text(before),
                  "previous_hash": bytes([number - 1]) * 32,
                  "row_state": "Updated", "submission_status": "Pending"}  # fmt: skip
        with database.transaction(table.engine) as connection:
            connection.execute(update(table.staging.table).values(values))
        return now

    fourth = job(third, 4, postcode="EF3 4GH")  # before it stands what we sent: a delta is enough
    table.send()
    assert table.receiver.held["C1"] == rows_of(fourth)
    assert "social_care_episodes" not in table.sent[0]
    fifth = copy.deepcopy(fourth)
    fifth["social_care_episodes"] += with_plan("C2", "A2")["social_care_episodes"]
    fifth["social_care_episodes"][1]["social_care_episode_id"] = "E2"
    job(fifth, 6, postcode="GH5 6IJ")  # the fifth was staged, and a night failed
    table.send()
    assert table.receiver.held["C1"] == rows_of(orjson.loads(table.row().json_payload))


def test_a_child_that_d2i_brings_back_after_its_purge_is_sent_whole(table: Table) -> None:
    """The SQL keeps as a baseline what stood in the row, though the receiver erased it."""
    held = with_plan("C1", "A1")
    table.receiver.store(held)
    before = {"previous_json_payload": to_text(held), "previous_hash": b"\x01" * 32}
    fill(table, d2i_row("C1", "Deleted", "Sent", json_payload=to_text(held), **before))
    table.send()
    assert "C1" not in table.receiver.held
    back = copy.deepcopy(held)
    back["child_details"]["postcode"] = "AB1 2CD"
    values = {"json_payload": to_text(back), "current_hash": b"\x02" * 32, **before,
              "row_state": "Updated", "submission_status": "Pending"}  # fmt: skip
    with database.transaction(table.engine) as connection:
        connection.execute(update(table.staging.table).values(values))
    table.send()
    assert table.receiver.held["C1"] == rows_of(back)


def test_rehashing_takes_a_sent_row_at_its_word(table: Table) -> None:
    """Of a table that other software filled nobody is sent again, whatever baseline it kept."""
    older = to_text(document("C2", postcode="AB1 2CD"))
    fill(table, d2i_row("C1", "New", "Sent"))
    fill(table, d2i_row("C2", "Updated", "sent", previous_json_payload=older,
                        previous_hash=b"\x09" * 32))  # fmt: skip
    fill(table, d2i_row("C3", "New", "Pending"))
    fill(table, d2i_row("C4", "Deleted", "Sent"))
    rehash_all(table.staging, HASHER, canonical_name(SPEC, volatile_ids=False))
    result = table.send()
    assert [d["la_child_id"] for d in table.sent] == ["C3"]
    assert result.counts["need_attention"] == 0
    assert orjson.loads(table.row("C1").previous_json_payload) == document("C1")
    assert orjson.loads(table.row("C2").previous_json_payload) == document("C2")
    assert table.row("C4").previous_json_payload is None


def test_a_sent_row_of_other_software_is_not_due_for_its_hashes(table: Table) -> None:
    fill(table, d2i_row("C1", "unchanged", "Sent"))
    assert delta_stage.run(table.engine, table.settings, SPEC).counts["waiting_before"] == 0


def test_a_deleted_child_of_whom_no_document_can_be_read_is_still_purged(table: Table) -> None:
    fill(table, d2i_row("C1", "Deleted", "Sent", previous_json_payload="damaged"))
    table.send()
    assert table.sent == [{"la_child_id": "C1", "purge": True}]
    assert table.states() == ("deleted", "sent", False)


# ------------------------------------------------------------------------ the table of transitions
STORED = {
    RowState.NEW: "new",
    RowState.UPDATED: "Updated",
    RowState.UNCHANGED: "unchanged",
    RowState.DELETED: "DELETED",
    NoState.WORD: "other",
}


def put_state(table: Table, word: str) -> None:
    t = table.staging.table
    with database.transaction(table.engine) as connection:
        connection.execute(update(t).values(row_state=word, submission_status="Pending"))


def test_a_row_lives_unless_it_says_deleted(table: Table) -> None:
    held = {"previous_json_payload": to_text(document()), "previous_hash": b"\x01" * 32}
    words = ["new", "Updated", "unchanged", "other", "none", "Deleted", "DELETED"]
    fill(
        table,
        *(d2i_row(f"S{n}", word, "Sent", **held) for n, word in enumerate(words)),
        *(d2i_row(f"P{n}", word, "Pending", **held) for n, word in enumerate(words)),
    )
    with database.reading(table.engine) as connection:
        assert table.staging.count_live(connection) == 10


@pytest.mark.parametrize("event", [event for event in Event if event is not Event.FIRST_SEEN])
@pytest.mark.parametrize("several", [False, True], ids=["move", "move_each"])
def test_a_row_moves_only_from_a_state_that_the_table_names(
    table: Table, event: Event, several: bool
) -> None:
    table.stage(document(), document("C2"))
    moves, transition = table.staging.moves, TRANSITIONS[event]
    refused_before = 0
    for state, word in STORED.items():
        put_state(table, word)
        ids = [table.row().id, table.row("C2").id]
        values = {"api_response": "moved"}
        with database.transaction(table.engine) as connection:
            if several:
                rows = [{"row": row_id, "said": "moved"} for row_id in ids]
                refused = moves.move_each(
                    connection, event, rows, {"api_response": bindparam("said")},
                    written={"said": table.staging.table.c.api_response},
                )  # fmt: skip
            else:
                moved = moves.move(connection, event, ids, values)
                refused = moved.refused
                assert moved.rows + len(refused) == 2
        row = table.row()
        if state in transition.start:
            assert not refused
            assert row.api_response == "moved"
            assert row.row_state == (transition.row_state or word)
            assert row.submission_status == (transition.status or "Pending")
        else:
            assert refused == set(ids)
            assert (row.row_state, row.submission_status) == (word, "Pending")
            refused_before += 2
        assert moves.refused[event] == refused_before
    assert bool(moves.notices()) is bool(refused_before)


def test_of_several_events_the_first_that_may_happen_does(table: Table) -> None:
    table.stage(document(), document("C2"))
    table.gone("C2")
    with database.transaction(table.engine) as connection:
        moved = table.staging.moves.move(
            connection,
            {
                Event.ACKNOWLEDGED: table.staging.table.c.person_id == "C9",
                Event.MOVED_ON: None,
                Event.GONE_MEANWHILE: None,
            },
            ["C1", "C2"],
            {},
            key=table.staging.table.c.person_id,
        )
    assert (moved.rows, moved.refused) == (2, frozenset())
    assert table.states()[:2] == ("updated", "pending")
    assert table.states("C2")[:2] == ("deleted", "sent")


def test_where_no_event_may_start_from_any_state_nothing_moves(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.stage(document(), document("C2"), document("C3"))
    table.send()
    table.gone("C3")
    table.stage(document("C2", postcode="AB1 2CD"))
    before = [table.row(person) for person in ("C1", "C2", "C3")]
    for event, transition in TRANSITIONS.items():
        nowhere = states.Transition(frozenset(), transition.row_state, transition.status)
        monkeypatch.setitem(TRANSITIONS, event, nowhere)
    assert table.stage(document("C4")) == {}
    assert table.stage(document(postcode="AB1 2CD"), document("C2"), document("C3")) == {}
    table.gone("C1")
    result = delta_stage.run(table.engine, table.settings, SPEC)
    assert [table.row(person) for person in ("C1", "C2", "C3")] == before
    with database.reading(table.engine) as connection:
        assert table.staging.count(connection) == 3
    assert any("left alone" in notice for notice in result.notices)


def test_a_row_that_may_not_be_settled_keeps_what_was_journalled_of_it(table: Table) -> None:
    """Else nothing would say any more that the receiver may hold the child."""
    table.stage(document())
    table.send(Outcome.UNKNOWN)
    with database.transaction(table.engine) as connection:
        due = outbox.due(connection, table.staging, outbox.due_rows(connection, table.staging))
    put_state(table, "Deleted")
    with database.transaction(table.engine) as connection:
        outbox.settle_equal(connection, table.staging, due)
    assert table.journalled() == 1
    assert table.states()[0] == "Deleted"


def test_the_page_shows_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "convergence.md").read_text(encoding="utf-8")
    assert with_generated(page, states.generated_parts()) == page, "run `d2i spec docs`"
    assert page.count("<!-- generated: ") == len(states.generated_parts())
