"""What tomorrow's preview says is what a real run then does; the preview writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from d2i_helpers import database
from d2i_helpers.database.tables import staging_table, submission_log
from d2i_helpers.demo import simulate
from d2i_helpers.errors import D2IError, GuardError
from d2i_helpers.extract import stage as extract
from d2i_helpers.notebook import tomorrow
from d2i_helpers.notebook.told import as_text
from tests.notebook.demo import SPEC, Demo


def assert_the_run_does_what_was_said(demo: Demo) -> tomorrow.Tomorrow:
    before = demo.content()
    said = demo.preview()
    assert demo.content() == before
    held = demo.prepare()
    assert {kind: held[kind] for kind in said.kinds} == said.kinds
    log, t = submission_log.c, staging_table(demo.settings.send_table).c
    with database.reading(demo.engine) as connection:
        last = connection.execute(select(func.max(log.id))).scalar() or 0
        written = select(t.person_id, t.partial_json_payload).where(
            t.partial_json_payload.is_not(None)
        )
        texts = {row.person_id: row.partial_json_payload for row in connection.execute(written)}
    if demo.settings.phase == "delta":
        sizes = {one.person_id: one.size for one in said.going}
        assert sizes == {one: len(texts[one].encode()) for one in sizes}
    done = demo.send()
    assert (done["sent"], done["requests"]) == (len(said.going), said.requests)
    with database.reading(demo.engine) as connection:
        sent = connection.execute(select(log.person_id).where(log.id > last)).scalars().all()
    assert sorted(sent) == sorted(one.person_id for one in said.going)
    return said


@pytest.mark.parametrize(
    "more",
    [{}, {"source": "anonymised", "phase": "full", "phase_data": "cohort"}],
    ids=["identifiable, delta", "anonymised, full"],
)
def test_a_run_does_what_was_said(tmp_path: Path, more: dict[str, Any]) -> None:
    wide = dict.fromkeys(("max_changed_share", "max_purged_items_share", "max_deleted_share"), 1)
    demo = Demo(tmp_path, **more, **wide)
    first = assert_the_run_does_what_was_said(demo)
    assert set(first.kinds) == {"whole_documents", "changes", "child_removals"}
    assert first.kinds["whole_documents"] == len(first.going) > 30
    assert demo.preview().going == []

    simulate.day(demo.settings, days=3)
    # who waits from yesterday, and is held back today; who is gone since
    extract.run(demo.engine, demo.settings, SPEC)
    waits, gone = children_who_wait(demo)
    born = demo.birth_date(waits)
    simulate.day(demo.settings)
    change = "UPDATE ssd_person SET pers_dob = :day WHERE pers_person_id = :one"
    demo.sql(change, day="soon", one=waits)
    said = assert_the_run_does_what_was_said(demo)
    assert all(said.kinds.values())
    assert [one.kind for one in said.unsent].count("held back") == 1
    assert all(one.fields for one in said.going if one.kind == "changes")
    words = as_text(tomorrow.parts(said), whole=False)
    assert "Fields that change" in words and "pers_dob" in words and "soon" not in words
    # what waited goes as soon as the value is mended, though the document is the staged one
    demo.sql(change, day=born, one=waits)
    demo.sql("DELETE FROM ssd_person WHERE pers_person_id = :one", one=gone)
    said = assert_the_run_does_what_was_said(demo)
    removed = [one.why for one in said.going if one.kind == "removal"]
    assert removed == ["no longer in the source"]
    assert len(said.going) == 2
    assert demo.preview().going == []


def children_who_wait(demo: Demo) -> tuple[str, str]:
    """A child who was sent and has changed since; and another one who was sent."""
    t = staging_table(demo.settings.staging_table).c
    with database.reading(demo.engine) as connection:
        rows = connection.execute(select(t.person_id, t.row_state).order_by(t.id.desc())).all()
    # the original of a twin is never sent, and stays new
    waits = {"updated", "new"} & {row.row_state for row in rows if row.row_state != "deleted"}
    state = "updated" if "updated" in waits else "new"
    live = [row.person_id for row in rows if row.row_state == state]
    others = [row.person_id for row in rows if row.row_state in ("unchanged", "new")]
    return live[0], next(one for one in others if one != live[0])


def test_of_a_pilot_nobody_else_would_be_sent(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.prepare()
    everybody = [one.person_id for one in demo.preview().going]
    pilot = demo.settings.model_copy(update={"person_ids": tuple(everybody[:2])})
    said = tomorrow.preview(demo.engine, pilot, SPEC)
    assert [one.person_id for one in said.going] == everybody[:2]


def test_a_day_that_the_guards_would_stop_says_so(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.prepare()
    demo.sql("DELETE FROM ssd_cin_episodes WHERE cine_referral_id > 'R100004'")
    said = demo.preview()
    assert isinstance(said.stop, GuardError)
    assert "would stop" in as_text(tomorrow.parts(said), whole=False)
    with pytest.raises(GuardError) as stopped:
        demo.prepare()
    assert stopped.value.message == said.stop.message


def test_it_says_where_a_setting_is_why_a_day_would_be_stopped(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.prepare()
    demo.settings = demo.settings.model_copy(update={"extract_scope": "header"})
    said = demo.preview()
    assert isinstance(said.stop, GuardError) and "Or is it meant?" in said.stop.message
    with pytest.raises(GuardError) as stopped:
        demo.prepare()
    assert stopped.value.message == said.stop.message
    for _ in range(2):  # marks are of the day that was stopped, and the cause is still said
        with pytest.raises(GuardError) as again:
            demo.prepare()
        assert again.value.message == stopped.value.message == demo.preview().stop.message
    demo.settings = demo.settings.model_copy(
        update={"max_changed_share": 1.0, "max_purged_items_share": 1.0}
    )
    demo.prepare()
    demo.settings = demo.settings.model_copy(
        update={"max_changed_share": 0.5, "max_purged_items_share": 0.1}
    )
    demo.sql("DELETE FROM ssd_cin_episodes WHERE cine_referral_id > 'R100004'")
    with pytest.raises(GuardError) as another:
        demo.prepare()
    assert "Or is it meant?" not in another.value.message


def test_a_table_of_an_earlier_release_is_named_as_such(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.prepare()
    demo.sql("ALTER TABLE d2i_marks DROP COLUMN accepted_by")
    with pytest.raises(D2IError, match="an earlier release") as refused:
        tomorrow.preview(database.open_database(demo.settings), demo.settings, SPEC)
    assert "extract,delta" in str(refused.value.hint)
    demo.prepare()
    assert demo.preview().going
