"""Anonymise end to end on every database: states, leaks, keys, phases."""

from __future__ import annotations

import copy
import datetime as dt
import stat
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select, text, update

from d2i_helpers import database
from d2i_helpers.anonymise import documents as documents_of_twin
from d2i_helpers.anonymise import fake_documents, keyed, leak_check, rules
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.anonymise.upn import PupilNumbers
from d2i_helpers.cohort import Window
from d2i_helpers.database import tables
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.document.validation import Validator
from d2i_helpers.errors import DatabaseError, GuardError, LeakError, SettingsError
from d2i_helpers.payload_spec import Document, load_spec
from d2i_helpers.privacy.identities import cohort_identifiers
from d2i_helpers.privacy.redaction import Redactor
from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.staging import Staged, Staging, attention
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.load import write
from d2i_helpers.staging.rehash import rehash_if_needed
from d2i_helpers.staging.states import Unsent

SPEC = load_spec()
KEY = Secrets(pseudonym_key=SecretStr("a secret of the test, long enough"))
OTHER_KEY = Secrets(pseudonym_key=SecretStr("another secret, long enough as well"))
IDENTIFIABLE = "ssd_api_data_staging"
TWIN = f"{IDENTIFIABLE}_anon"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(chunk_size=4)


def originals(settings: Settings, count: int = 10) -> list[Document]:
    start = Window.for_date(settings.today).start
    made = list(fake_documents.documents(SPEC, start, count))
    for number, document in enumerate(made):
        document["la_child_id"] = f"P-{1000 + number}"
    return made


def stage(engine: Engine, documents: list[Document], table: str = IDENTIFIABLE) -> None:
    database.create_staging(engine, table)
    rows = [
        Staged(d["la_child_id"], d.get("mis_child_id"), to_text(d), content_hash(SPEC, d))
        for d in documents
    ]
    with database.transaction(engine) as connection:
        write(connection, Staging(engine, table), rows)


def gone(engine: Engine, *person_ids: str) -> None:
    staging = Staging(engine, IDENTIFIABLE)
    with database.transaction(engine) as connection:
        rows = staging.lookup(connection, person_ids)
        staging.mark_gone(connection, [row.id for row in rows.values()])


def acknowledge(engine: Engine, table: str = TWIN) -> None:
    """As if the receiver had taken everything that is staged."""
    t = Staging(engine, table).table
    with database.transaction(engine) as connection:
        connection.execute(
            update(t)
            .where(t.c.row_state != "deleted")
            .values(
                previous_json_payload=t.c.json_payload,
                previous_hash=t.c.current_hash,
                row_state="unchanged",
                submission_status="sent",
            )
        )


def rows(engine: Engine, table: str = TWIN) -> dict[str, Any]:
    t = Staging(engine, table).table
    with database.reading(engine) as connection:
        return {row.person_id: row for row in connection.execute(select(t))}


def run(engine: Engine, settings: Settings, secrets: Secrets = KEY, **changes: Any) -> dict:
    used = settings.model_copy(update=changes)
    counts = anonymise.run(engine, used, secrets, SPEC).counts
    assert counts["leaks"] == 0
    return {name: value for name, value in counts.items() if value}


# ------------------------------------------------------------------------------------------ days
def test_the_twin_follows_the_original_day_by_day(engine: Engine, settings: Settings) -> None:
    documents = originals(settings)
    stage(engine, documents)
    told: list[tuple[int, int | None]] = []
    anonymise.run(engine, settings, KEY, SPEC, progress=lambda *done: told.append(done))
    assert told[-1] == (10, 10)
    first = rows(engine)
    assert len(first) == 10
    for person_id, row in first.items():
        document = orjson.loads(row.json_payload)
        assert document["la_child_id"] == person_id
        assert row.row_state == "new" and row.submission_status == "pending"
        assert bytes(row.current_hash) == content_hash(SPEC, document)
        assert Validator(SPEC).problems(document) == []
    assert not first.keys() & {d["la_child_id"] for d in documents}

    again = run(engine, settings)
    assert again["unchanged"] == 10 and not again.keys() & {"new", "updated", "gone"}
    assert rows(engine) == first

    acknowledge(engine)
    changed = copy.deepcopy(documents)
    changed[3]["child_details"]["surname"] = "Somebodyelse"
    stage(engine, changed)
    gone(engine, "P-1005")
    counts = run(engine, settings)
    assert (counts["updated"], counts["gone"], counts["unchanged"]) == (1, 1, 8)
    states = sorted(row.row_state for row in rows(engine).values())
    assert states == ["deleted", "unchanged", "unchanged", "unchanged", "unchanged", "unchanged",
                      "unchanged", "unchanged", "unchanged", "updated"]  # fmt: skip

    stage(engine, documents)  # undone, and back
    counts = run(engine, settings)
    assert (counts["undone"], counts["back"], counts["unchanged"]) == (1, 1, 8)
    assert {row.row_state for row in rows(engine).values()} == {"unchanged"}
    assert {k: r.json_payload for k, r in rows(engine).items()} == {
        k: r.json_payload for k, r in first.items()
    }


def test_no_canary_and_no_key_is_anywhere_in_the_twin(engine: Engine, settings: Settings) -> None:
    documents = originals(settings, 30)
    for number, document in enumerate(documents):
        details = document["child_details"]
        details.update(first_name=f"Vörname{number}", surname=f"O'Mark-{number}")
        details["postcode"] = f"QX{number} 1AA"
    stage(engine, documents)
    anonymise.run(engine, settings, KEY, SPEC)
    held = repr([tuple(row) for row in rows(engine).values()])
    with database.reading(engine) as connection:
        held += repr(connection.execute(text("select * from d2i_facts")).all())
    canaries = Redactor(cohort_identifiers(engine, settings), KEY.values())
    assert canaries.find(repr([tuple(row) for row in rows(engine, IDENTIFIABLE).values()])) > 100
    clean, hits = canaries.redact(held)
    assert hits == 0, clean
    assert KEY.values()[0] not in held and "Vörname" not in held and "O'Mark" not in held


# ----------------------------------------------------------------------------------------- leaks
def test_a_leak_stops_before_anything_is_written(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = originals(settings)
    stage(engine, documents)
    run(engine, settings)
    before = rows(engine)
    changed = copy.deepcopy(documents)
    changed[0]["child_details"]["first_name"] = "Zebedee"  # would be written
    changed[9]["child_details"]["unique_pupil_number"] = "Z000000000000"
    stage(engine, changed)
    real = PupilNumbers.pseudonym

    def leaky(numbers: PupilNumbers, value: str, again: int = 0) -> str:
        return value if value == "Z000000000000" else real(numbers, value, again)

    monkeypatch.setattr(PupilNumbers, "pseudonym", leaky)
    # the rule itself would draw again: switch that off, so that only the check stands in the way
    monkeypatch.setattr(
        "d2i_helpers.anonymise.pseudonyms._own_values", lambda *_: (frozenset(), frozenset())
    )
    with pytest.raises(LeakError, match=r"upn \(1\)") as error:
        run(engine, settings)
    assert "Z0000" not in str(error.value) and "Zebedee" not in str(error.value)
    assert rows(engine) == before


def test_a_pupil_number_that_another_child_really_has_is_drawn_anew(
    engine: Engine, settings: Settings
) -> None:
    documents = originals(settings)
    key = keyed.Keyed(KEY.values()[0].encode())
    upn = documents[0]["child_details"]["unique_pupil_number"]
    drawn = PupilNumbers(key).pseudonym(upn)
    documents[7]["child_details"]["unique_pupil_number"] = drawn
    documents[7]["child_details"].pop("unique_pupil_number_unknown_reason", None)
    stage(engine, documents)
    counts = run(engine, settings)
    assert counts["redrawn"] == 1 and counts["new"] == 10
    assert not any(drawn in row.json_payload for row in rows(engine).values())
    assert run(engine, settings)["unchanged"] == 10


@pytest.mark.parametrize("many", [False, True])
def test_a_person_that_another_child_really_is_is_drawn_anew(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    documents = originals(settings)
    stage(engine, documents)
    run(engine, settings)
    made = [orjson.loads(row.json_payload)["child_details"] for row in rows(engine).values()]
    person = next(one for one in made if "date_of_birth" in one)
    wanted = {name: person[name] for name in ("first_name", "surname", "date_of_birth")}
    documents.append({"la_child_id": "P-2000", "child_details": {**wanted}})
    stage(engine, documents)
    with database.transaction(engine) as connection:  # all documents are made anew
        connection.execute(tables.anonymised.delete())
    checks = []
    real = leak_check.LeakCheck.coincidences
    monkeypatch.setattr(
        leak_check.LeakCheck, "coincidences", lambda check: checks.append(1) or real(check)
    )
    if many:  # the real persons are read first, so that nothing is made twice
        monkeypatch.setattr(documents_of_twin, "_LIKELY_TO_MEET", len(documents))
    assert run(engine, settings)["redrawn"] == 1
    assert len(checks) == (1 if many else 2)
    after = [orjson.loads(row.json_payload)["child_details"] for row in rows(engine).values()]
    assert not [one for one in after if wanted.items() <= one.items()]


def test_what_cannot_be_drawn_anew_is_a_leak(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(engine, originals(settings))
    monkeypatch.setattr(leak_check.LeakCheck, "coincidences", lambda _self: frozenset({1}))
    with pytest.raises(LeakError, match="other children"):
        run(engine, settings)
    assert rows(engine) == {}


# ------------------------------------------------------------------------------------------ keys
def test_a_fresh_key_replaces_the_whole_twin_each_run(engine: Engine, settings: Settings) -> None:
    stage(engine, originals(settings))
    fresh = {"pseudonym_key_mode": "fresh"}
    assert run(engine, settings, **fresh)["new"] == 10
    acknowledge(engine)
    counts = run(engine, settings, **fresh)
    assert counts["new"] == 10 and counts["gone"] == 10
    assert len(rows(engine)) == 20
    # delta asks the receiver to erase yesterday's pseudonyms, where the profile allows that
    sent = settings.model_copy(update={"source": "anonymised", "guard_min_children": 5})
    with pytest.raises(GuardError):
        delta_stage.run(engine, sent, SPEC)
    allowed = sent.model_copy(update={"max_deleted_share": 1, "max_changed_share": 1})
    asked = delta_stage.run(engine, allowed, SPEC).counts
    assert (asked["child_removals"], asked["whole_documents"]) == (10, 10)


def test_another_key_stops_where_the_receiver_holds_the_old_pseudonyms(
    engine: Engine, settings: Settings
) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    assert run(engine, settings, OTHER_KEY)["gone"] == 10  # nobody holds them: no harm
    acknowledge(engine)
    before = rows(engine)
    with pytest.raises(GuardError, match="pseudonym key is not the one") as error:
        run(engine, settings, KEY)
    assert "max_deleted_share" in error.value.hint
    assert rows(engine) == before
    assert run(engine, settings, KEY, max_deleted_share=1)["gone"] == 10


def test_the_demo_makes_and_keeps_a_key_of_its_own(engine: Engine, settings: Settings) -> None:
    stage(engine, originals(settings))
    run(engine, settings, Secrets())
    file = settings.path(settings.outputs_dir) / "demo" / "pseudonym.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run(engine, settings, Secrets())["unchanged"] == 10


def test_a_test_endpoint_needs_a_real_key(engine: Engine, settings: Settings) -> None:
    stage(engine, originals(settings))
    with pytest.raises(SettingsError, match="no pseudonym key"):
        run(engine, settings, Secrets(), endpoint="test")
    with pytest.raises(SettingsError, match="could be guessed") as error:
        run(engine, settings, Secrets(pseudonym_key=SecretStr("short")), endpoint="test")
    assert "short" not in str(error.value)


# ---------------------------------------------------------------------------------------- phases
def test_what_each_test_phase_puts_into_the_table(engine: Engine, settings: Settings) -> None:
    stage(engine, originals(settings))

    def live() -> Iterator[Document]:
        return (
            orjson.loads(r.json_payload) for r in rows(engine).values() if r.row_state != "deleted"
        )

    assert run(engine, settings, phase_data="single_fake")["constructed"] == 1
    (full,) = live()
    assert Validator(SPEC).problems(full) == []
    assert len(full["social_care_episodes"]) == 3
    for block in SPEC.blocks["social_care_episodes"].blocks:
        assert full["social_care_episodes"][0][block.name]

    run(engine, settings, phase_data="many_fake", fake_children=25)
    many = list(live())
    assert len({d["la_child_id"] for d in many}) == 25
    assert not any(Validator(SPEC).problems(d) for d in many)
    assert any("expected_date_of_birth" in d["child_details"] for d in many)
    same = run(engine, settings, phase_data="many_fake", fake_children=25)
    assert same == {"constructed": 25, "unchanged": 25}

    run(engine, settings, phase_data="single_scrambled")
    (one,) = live()
    run(engine, settings, phase_data="single_scrambled", person_ids=("P-1004",))
    (other,) = live()
    run(engine, settings)
    everybody = [d["la_child_id"] for d in live()]
    assert len(everybody) == 10
    assert one["la_child_id"] != other["la_child_id"]
    assert {one["la_child_id"], other["la_child_id"]} <= set(everybody)


def test_a_made_up_child_needs_no_staging_table(engine: Engine, settings: Settings) -> None:
    fake = {"phase_data": "single_fake", "endpoint": "test"}
    assert run(engine, settings, Secrets(), **fake)["new"] == 1  # nor a key
    with pytest.raises(DatabaseError, match="no table"):
        run(engine, settings)


def test_a_pilot_leaves_the_others_alone(engine: Engine, settings: Settings) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    counts = run(engine, settings, person_ids=("P-1002", "P-1007"))
    assert counts["unchanged"] == 2 and "gone" not in counts


# ------------------------------------------------------------------------------------- bad rows
def test_rows_without_a_document_are_counted_and_left_out(
    engine: Engine, settings: Settings
) -> None:
    stage(engine, originals(settings))
    t = Staging(engine, IDENTIFIABLE).table
    broken = ["{", "[1]", "{}", '{"la_child_id": null}', '"text"']
    with database.transaction(engine) as connection:
        for number, payload in enumerate(broken):
            connection.execute(
                update(t).where(t.c.person_id == f"P-{1000 + number}").values(json_payload=payload)
            )
    result = anonymise.run(engine, settings, KEY, SPEC)
    assert result.counts["unreadable"] == 5 and result.counts["new"] == 5
    assert "5 rows" in result.notices[0]


def test_a_broken_row_keeps_what_the_twin_has_of_its_child(
    engine: Engine, settings: Settings
) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    acknowledge(engine)
    before = rows(engine)
    t = Staging(engine, IDENTIFIABLE).table
    with database.transaction(engine) as connection:
        broken = update(t).where(t.c.person_id == "P-1003").values(json_payload='{"la_child_id"')
        connection.execute(broken)
    counts = run(engine, settings)
    assert counts["unreadable"] == counts["need_attention"] == 1
    assert "gone" not in counts and rows(engine) == before  # nobody is asked to erase the child
    marked = rows(engine, IDENTIFIABLE)["P-1003"]
    assert (marked.submission_status, marked.current_hash) == ("error", None)
    stage(engine, originals(settings))  # as the next extract does
    assert run(engine, settings)["unchanged"] == 10


def test_a_table_filled_by_other_software_is_read(engine: Engine, settings: Settings) -> None:
    """States in capitals, ids as numbers, no hashes."""
    documents = originals(settings, 3)
    for number, document in enumerate(documents):
        document["la_child_id"] = 500 + number
    database.create_staging(engine, IDENTIFIABLE)
    t = Staging(engine, IDENTIFIABLE).table
    with database.transaction(engine) as connection:
        for document, state in zip(documents, ("New", "Unchanged", "Deleted"), strict=True):
            connection.execute(
                t.insert().values(
                    person_id=str(document["la_child_id"]),
                    json_payload=to_text(document),
                    row_state=state,
                    submission_status="Pending",
                )
            )
    assert run(engine, settings)["new"] == 2
    assert not {"500", "501", "502"} & rows(engine).keys()


# ----------------------------------------------------------------------------------- identifiers
def test_identifiers_of_the_cohort_feed_the_redactor(engine: Engine, settings: Settings) -> None:
    documents = originals(settings, 3)
    details = {"first_name": "Grace", "surname": "Page", "date_of_birth": "2012-05-03"}
    documents[0] = {"la_child_id": "P-1000", "mis_child_id": "L-77", "child_details": details}
    stage(engine, documents)
    acknowledge(engine, IDENTIFIABLE)
    renamed = copy.deepcopy(documents)
    renamed[0]["child_details"]["surname"] = "Winterbottom"
    stage(engine, renamed)
    gone(engine, "P-1001")
    found = list(cohort_identifiers(engine, settings))
    assert {"P-1000", "L-77", "Grace", "Winterbottom", "2012-05-03", "P-1001"} <= set(found)
    assert {"Grace Winterbottom", "Winterbottom Grace", "Grace Page"} <= set(found)


def test_no_identifiers_without_a_table(engine: Engine, settings: Settings) -> None:
    assert list(cohort_identifiers(engine, settings)) == []


def test_deltas_of_the_twin_are_those_of_the_original(engine: Engine, settings: Settings) -> None:
    """One changed field and one child gone: the twin sends messages of the same shape."""
    documents = originals(settings)
    stage(engine, documents)
    rehash_if_needed(Staging(engine, IDENTIFIABLE), SPEC, False)  # as of a table of extract
    run(engine, settings)
    messages: dict[str, list[Any]] = {}
    for table in (IDENTIFIABLE, TWIN):
        acknowledge(engine, table)
    changed = copy.deepcopy(documents)
    episode = changed[0]["social_care_episodes"][0]
    episode["referral_source"] = "1A" if episode["referral_source"] != "1A" else "1B"
    changed[4]["child_details"]["surname"] = "Somebodyelse"
    stage(engine, changed)
    gone(engine, "P-1005")
    run(engine, settings)
    for table, source in ((IDENTIFIABLE, "identifiable"), (TWIN, "anonymised")):
        delta_stage.run(engine, settings.model_copy(update={"source": source}), SPEC)
        partials = [row.partial_json_payload for row in rows(engine, table).values()]
        messages[table] = sorted(shape(orjson.loads(text)) for text in partials if text)
    assert len(messages[TWIN]) == 3
    assert messages[TWIN] == messages[IDENTIFIABLE]


def shape(value: Any) -> str:
    """A document without its values."""
    if type(value) is dict:
        return str(sorted((name, shape(held)) for name, held in value.items()))
    if type(value) is list:
        return str(sorted(map(shape, value)))
    return type(value).__name__


def test_a_document_of_the_twin_that_another_hand_changed_is_written_anew(
    engine: Engine, settings: Settings
) -> None:
    stage(engine, originals(settings, 3))
    run(engine, settings)
    before = {person_id: row.json_payload for person_id, row in rows(engine).items()}
    t = tables.staging_table(TWIN)
    with database.transaction(engine) as connection:
        connection.execute(
            update(t).where(t.c.person_id == min(before)).values(json_payload='{"changed": 1}')
        )
    counts = run(engine, settings)
    assert (counts["altered"], counts["unchanged"]) == (1, 2)
    assert {person_id: row.json_payload for person_id, row in rows(engine).items()} == before


# ---------------------------------------------------------------------------- nothing has changed
def change_original(engine: Engine, settings: Settings) -> None:
    changed = originals(settings)
    changed[2]["child_details"]["surname"] = "Somebodyelse"
    stage(engine, changed)


def lose_an_original(engine: Engine, _settings: Settings) -> None:
    t = tables.staging_table(IDENTIFIABLE)
    with database.transaction(engine) as connection:
        connection.execute(t.delete().where(t.c.person_id == "P-1004"))


def change_twin(engine: Engine, **values: Any) -> None:
    t = tables.staging_table(TWIN)
    with database.transaction(engine) as connection:
        one = select(t.c.person_id).limit(1).scalar_subquery()
        connection.execute(update(t).where(t.c.person_id == one).values(**values))


def lose_a_row_of_the_twin(engine: Engine, _settings: Settings) -> None:
    t = tables.staging_table(TWIN)
    with database.transaction(engine) as connection:
        connection.execute(t.delete().where(t.c.person_id == min(rows(engine))))


CHANGES: dict[str, tuple[int, Callable[[Engine, Settings], Any]]] = {  # documents made anew
    "a child changed": (1, change_original),
    # and the one that is as it was before its change
    "a child came": (2, lambda engine, settings: stage(engine, originals(settings, 11))),
    "a child left": (0, lambda engine, _: gone(engine, "P-1003")),
    "a row was removed": (0, lose_an_original),
    "a row of the twin was removed": (1, lose_a_row_of_the_twin),
    "a row of the twin was marked": (1, lambda engine, _: change_twin(engine, current_hash=None)),
    "the twin has another hash": (1, lambda engine, _: change_twin(engine, current_hash=b"1" * 32)),
    "a row of the twin left": (1, lambda engine, _: change_twin(engine, row_state="deleted")),
    "the twin has another text": (1, lambda engine, _: change_twin(engine, json_payload="{}")),
}


def test_a_day_without_changes_computes_nothing_and_a_change_is_made_anew(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(engine, originals(settings))
    assert run(engine, settings)["children_read"] == 10
    with monkeypatch.context() as patched:
        patched.setattr(rules, "names", None)  # nor does it load them
        assert run(engine, settings) == {"unchanged": 10}
    acknowledge(engine)  # to have been sent changes nothing
    assert run(engine, settings) == {"unchanged": 10}
    for name, (made, change) in CHANGES.items():
        change(engine, settings)
        states = [row.row_state for row in rows(engine, IDENTIFIABLE).values()]
        live = len(states) - states.count("deleted")
        counts = run(engine, settings)
        assert {counts.get("anonymised", 0), counts.get("children_read", 0)} == {made}, name
        assert run(engine, settings) == {"unchanged": live}, name
    quiet = rows(engine)
    with database.transaction(engine) as connection:
        connection.execute(tables.anonymised.delete())
    run(engine, settings)  # all anew: nothing had been left out
    assert rows(engine) == quiet


def test_a_child_who_is_held_back_keeps_its_twin_on_a_quiet_day(
    engine: Engine, settings: Settings
) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    hold = Entry("P-1001", Unsent.HELD_BACK, "id_shared")
    source = Staging(engine, IDENTIFIABLE)
    with database.transaction(engine) as connection:
        attention.add(connection, source, "extract", [hold], "a-run")
    before = rows(engine)
    assert run(engine, settings) == {"unchanged": 9, "held_back": 1, "need_attention": 1}
    with database.transaction(engine) as connection:
        assert len(attention.held_back(connection, Staging(engine, TWIN))) == 1
        attention.remove_others(connection, source, "extract", [])
    assert run(engine, settings) == {"unchanged": 10}
    assert rows(engine) == before


@pytest.mark.parametrize(
    "other",
    [
        {"max_date_shift_days": 90},
        {"run_date": dt.date(2027, 4, 1)},
        {"person_ids": ("P-1002",)},
        {"phase_data": "single_scrambled"},
        {"pseudonym_key_mode": "fresh", "max_deleted_share": 1},
    ],
    ids=str,
)
def test_what_was_made_otherwise_is_made_anew(
    engine: Engine, settings: Settings, other: dict[str, Any]
) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    for _ in range(2 if "fresh" in other.values() else 1):
        assert run(engine, settings, **other)["anonymised"] in (1, 10)
    assert run(engine, settings, max_deleted_share=1)["anonymised"] == 10
    assert run(engine, settings) == {"unchanged": 10}


def test_a_new_key_makes_all_anew(engine: Engine, settings: Settings) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    assert run(engine, settings, OTHER_KEY)["anonymised"] == 10


def test_what_is_kept_of_both_tables_links_nobody(engine: Engine, settings: Settings) -> None:
    stage(engine, originals(settings))
    run(engine, settings)
    with database.reading(engine) as connection:
        kept = connection.execute(select(tables.anonymised)).all()  # as the database has them
    of = {name: [row.person_id for row in kept if row[0] == name] for name in (IDENTIFIABLE, TWIN)}
    assert len(kept) == 20
    assert of == {
        IDENTIFIABLE: sorted(rows(engine, IDENTIFIABLE)),
        TWIN: sorted(rows(engine)),
    }
    hashes = {name: {bytes(r.document_hash) for r in kept if r[0] == name} for name in of}
    assert not hashes[IDENTIFIABLE] & hashes[TWIN]
