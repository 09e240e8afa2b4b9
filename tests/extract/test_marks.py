"""Marks: an extract that reads only who changed leaves what a full extract leaves.

Two staging tables are filled from one source: the first by extracts with marks, the second by full
ones. After every step both hold the same, and both runs say the same. The source holds texts, so
that every database takes any value in any column. The run date is 10 August 2026 at first.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, column, delete, insert, select, table, text, update

import d2i_helpers
from d2i_helpers import database
from d2i_helpers.cohort import inclusion
from d2i_helpers.database import tables
from d2i_helpers.document.source_rows import ReadPlan
from d2i_helpers.errors import D2IError
from d2i_helpers.extract import page_rows, salt, unchanged, whole_tables
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import reading_plan
from d2i_helpers.extract.filters import date_columns
from d2i_helpers.extract.valid_until import ValidUntil
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Settings
from tests import servers
from tests.cohort.test_unreadable_values import ROWS

SPEC = load_spec()
MARKED, FULL = "staged_with_marks", "staged_in_full"
START = dt.date(2026, 8, 10)
EXTRA: dict[str, dict[str, str]] = {
    "ssd_linked_identifiers": {
        "link_table_id": "KF", "link_person_id": "K", "link_identifier_value": "A123456789012",
        "link_identifier_type": "Former Unique Pupil Number", "link_valid_from_date": "2020-01-01",
    },
    "ssd_disability": {
        "disa_table_id": "KD", "disa_person_id": "K", "disa_disability_code": "MOB",
    },
    "ssd_address": {
        "addr_table_id": "KH", "addr_person_id": "K", "addr_address_postcode": "AB1 2CD",
        "addr_address_start_date": "2020-01-01",
    },
    "ssd_assessment_factors": {
        "cinf_table_id": "KJ", "cinf_assessment_id": "KA", "cinf_assessment_factors_json": '["1A"]',
    },
}  # fmt: skip
# with a birthday in the days after the first run, at the age of a care leaver
BORN = ["2008-05-05", "2010-08-13", "2000-08-13", "2026-08-12"]
SETTINGS: list[dict[str, Any]] = [
    {"unborn_due_after_window": True}, {"expected_dob_as_dob": True}, {"cp_plan_inclusion": True},
    {"disability_inclusion": True}, {"care_leaver_window": True},
    {"repeat_person_facts": "one_episode"}, {"care_worker_roles": "QQ"}, {"volatile_ids": True},
    {"extract_scope": "header"}, {"cms": "mosaic"}, {"statutory_cohort_table": "statutory"},
]  # fmt: skip


class Twice:
    """A source, and the two staging tables that are filled from it."""

    def __init__(self, engine: Engine, make_settings: Callable[..., Any]) -> None:
        self.engine, self.make_settings = engine, make_settings
        self.day, self.more = START, dict[str, Any]()
        any_text = servers.text_type(engine, 100)
        with database.transaction(engine) as connection:
            for known in tables.ssd_metadata().tables.values():
                columns = ", ".join(f"{c.name} {any_text}" for c in known.columns)
                connection.execute(text(f"create table {known.name} ({columns})"))
            connection.execute(text(f"create table statutory (person_id {any_text})"))
        self.put("statutory", [{"person_id": "A"}, {"person_id": "B"}])

    def put(self, name: str, rows: list[dict[str, Any]]) -> None:
        with database.transaction(self.engine) as connection:
            for row in rows:
                connection.execute(insert(table(name, *map(column, row))).values(**row))

    def add_children(self, children: list[str]) -> None:
        with database.transaction(self.engine) as connection:
            for name, row in {**ROWS, **EXTRA}.items():
                rows = [
                    {c: v.replace("K", child, 1) if v[:1] == "K" else v for c, v in row.items()}
                    for child in children
                ]
                if name == "ssd_person":
                    for number, made in enumerate(rows):
                        made["pers_dob"] = BORN[number % len(BORN)]
                connection.execute(insert(table(name, *map(column, row))), rows)

    def change(self, name: str, key: str, child: str, **values: Any) -> None:
        held = table(name, column(key), *map(column, values))
        with database.transaction(self.engine) as connection:
            connection.execute(update(held).where(held.c[key].like(f"{child}%")).values(**values))

    def settings(self, staging: str, **more: Any) -> Any:
        return self.make_settings(
            run_date=self.day.isoformat(), staging_table=staging, guard_min_children=1000,
            **{**self.more, **more},
        )  # fmt: skip

    def _run(self, staging: str, **more: Any) -> tuple[dict[str, Any], int]:
        settings = self.settings(staging, **more)
        spec = load_spec(settings.cms)
        try:
            result = asdict(extract.run(self.engine, settings, spec))
        except D2IError as error:
            return {"stopped": str(error).replace(staging, "")}, -1
        self.why = result.pop("why_read")
        return result, result.pop("read_anew")

    def compare(self) -> int:
        """Run both; gives how many persons the one with marks read, -1 where it was stopped."""
        (marked, read), (full, _) = self._run(MARKED), self._run(FULL, reassess=True)
        assert marked == full
        assert str(marked) == str(full), "in the same order too"
        assert self._kept(MARKED) == self._kept(FULL)
        return read

    def _kept(self, staging: str) -> dict[str, Any]:
        """What a run leaves: the staged rows, and what is kept beside them."""
        staged = tables.staging_table(staging)
        with database.reading(self.engine) as connection:
            if not database.has_table(connection, staged):
                return {}
            kept = {
                "staged": connection.execute(
                    select(*(c for c in staged.c if c.name not in ("id", "last_updated")))
                    .order_by(staged.c.person_id)
                ).all()
            }  # fmt: skip
            for beside in (
                tables.attention,
                tables.inclusion,
                tables.source_values,
                tables.source_rows,
            ):
                left_out = ("id", "staging_table", "first_noted_at")
                columns = [c for c in beside.c if c.name not in left_out]
                mine = select(*columns).where(beside.c.staging_table == staging)
                kept[beside.name] = sorted(map(repr, connection.execute(mine).all()))
        return kept


@pytest.fixture
def twice(
    engine: Engine, make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Twice]:
    """Also where most have changed, only who changed is read: otherwise few days would show it."""
    monkeypatch.setattr(unchanged, "_MOST_CHANGED", 1.0)
    yield Twice(engine, make_settings)


def _plan() -> ReadPlan:
    every_set = {"cp_plan_inclusion": True, "disability_inclusion": True}
    return reading_plan(Settings(**every_set, care_leaver_window=True), SPEC)


def test_a_day_without_changes_reads_nobody(twice: Twice) -> None:
    twice.add_children(list("ABCDEFGH"))
    twice.more["statutory_cohort_table"] = None
    assert twice.compare() == 8
    assert twice.compare() == 0
    twice.change("ssd_person", "pers_person_id", "B", pers_forename="Otherwise")
    assert twice.compare() == 1
    assert twice.compare() == 0


def test_counts_of_any_size_are_kept(twice: Twice) -> None:
    _on_sqlite_alone(twice)
    twice.add_children(["A", "B"])
    many = [{**EXTRA["ssd_address"], "addr_person_id": "A", "addr_table_id": str(n)}
            for n in range(300)]  # fmt: skip
    twice.put("ssd_address", many)
    assert [twice.compare(), twice.compare()] == [2, 0]
    twice.put("ssd_address", [{**many[0], "addr_person_id": "B"}])
    assert twice.compare() == 1


def test_rows_of_a_child_that_exchange_values_are_seen(twice: Twice) -> None:
    twice.add_children(["A", "B"])
    plan = {**ROWS["ssd_cin_plans"], "cinp_person_id": "A", "cinp_referral_id": "AR"}
    first, second = ("2025-01-01", "2025-02-01"), ("2025-03-01", "2025-04-01")
    for starts in (first, first[::-1]):
        with database.transaction(twice.engine) as connection:
            connection.execute(text("delete from ssd_cin_plans where cinp_person_id = 'A'"))
        rows = [
            {**plan, "cinp_cin_plan_id": f"A{end}", "cinp_cin_plan_start_date": start,
             "cinp_cin_plan_end_date": end}
            for start, end in zip(starts, second, strict=True)
        ]  # fmt: skip
        twice.put("ssd_cin_plans", rows)
        assert twice.compare() == (2 if starts == first else 1)


def test_rows_of_a_table_without_any_column_that_is_read_are_counted(twice: Twice) -> None:
    """An optional table may have been replaced by another one of that name."""
    twice.add_children(list("ABCDEF"))
    assert twice.compare() == 6
    with database.transaction(twice.engine) as connection:
        if twice.engine.dialect.name == "mssql":
            connection.execute(text("exec sp_rename 'ssd_linked_identifiers', 'earlier', 'OBJECT'"))
            replace = "select link_valid_to_date into ssd_linked_identifiers from earlier"
        else:
            connection.execute(text("alter table ssd_linked_identifiers rename to earlier"))
            replace = (
                "create table ssd_linked_identifiers as select link_valid_to_date from earlier"
            )
        connection.execute(text(replace))
    assert [twice.compare(), twice.compare()] == [6, 0]


@pytest.mark.parametrize("written", ["B\u2003", "\vB", "B ", "B\tB", "B\xa0B", "B\0 "])
def test_blanks_in_ids_are_the_same_to_both(twice: Twice, written: str) -> None:
    """In one table alone, and of a second person; blanks within an id make another id."""
    if "\0" in written:
        _on_sqlite_alone(twice)
    twice.add_children([*"ABCDEF", "B B"])
    twice.more["chunk_size"] = 1
    with database.transaction(twice.engine) as connection:
        connection.execute(
            text("update ssd_address set addr_person_id = :id where addr_person_id = 'B'"),
            {"id": written},
        )
    twice.compare()
    twice.compare()
    twice.change("ssd_person", "pers_person_id", "B", pers_forename="Other")
    assert twice.compare() in (1, 2)
    twice.put("ssd_person", [{"pers_person_id": written, "pers_dob": "2008-05-05"}])
    twice.compare()
    twice.compare()
    twice.change("ssd_person", "pers_person_id", "B", pers_forename="Another")
    twice.compare()


@pytest.mark.parametrize(
    ("name", "key", "changed", "value"),
    [
        ("ssd_involvements", "invo_involvements_id", "invo_professional_id", "AW "),
        ("ssd_cin_episodes", "cine_referral_id", "cine_referral_id", " AR"),
        ("ssd_cla_episodes", "clae_cla_episode_id", "clae_cla_id", "AL "),
    ],
)
def test_what_a_child_has_does_not_depend_on_whom_else_a_page_holds(
    twice: Twice, name: str, key: str, changed: str, value: str
) -> None:
    """B's link is A's, but for a blank: to SQLite and PostgreSQL it leads nowhere."""
    twice.add_children(list("ABCDEF"))
    twice.change(name, key, "B", **{changed: value})
    twice.compare()
    on_one_page = twice._kept(MARKED)["staged"]
    twice.change("ssd_person", "pers_person_id", "B", pers_forename="Other")
    twice.compare()
    twice.change("ssd_person", "pers_person_id", "B", pers_forename=None)
    twice.more["chunk_size"] = 1
    twice.compare()
    assert twice._kept(MARKED)["staged"] == on_one_page


def test_who_is_read_apart_is_read_once(twice: Twice) -> None:
    """Also where others of that id, but for blanks, are on another page."""
    twice.add_children(list("ABC"))
    twice.change("ssd_cla_episodes", "clae_cla_episode_id", "B", clae_cla_id="AL ")
    for written in ("A ", " A"):
        twice.put("ssd_person", [{"pers_person_id": written, "pers_dob": "2008-05-05"}])
    twice.more["chunk_size"] = 2
    for forename in (None, "Other", "Another"):
        twice.change("ssd_person", "pers_person_id", "C", pers_forename=forename)
        twice.compare()
    said, _ = twice._run(MARKED)
    assert said["counts"]["persons_read"] == 5


def test_a_person_who_is_there_twice_is_told_though_a_page_holds_one(twice: Twice) -> None:
    """Who is in no cohort, too, and whose id has a blank behind it in another table."""
    twice.add_children(list("ABC"))
    twice.put("ssd_person", [{"pers_person_id": "D", "pers_dob": "1990-01-01"}] * 2)
    twice.put("ssd_address", [{**EXTRA["ssd_address"], "addr_person_id": "D "}])
    twice.more["chunk_size"] = 1
    for forename in (None, "Other"):
        twice.change("ssd_person", "pers_person_id", "A", pers_forename=forename)
        twice.compare()
        said, _ = twice._run(FULL, reassess=True)
        assert said["counts"]["refused"] == 1
        assert said["left_out"] == {"aged 26 when the window starts": 1}


@pytest.mark.parametrize("written", ["x'41'", "x'5a'", "1"])
def test_ids_of_several_types_are_the_same_to_both(twice: Twice, written: str) -> None:
    """SQLite keeps bytes and numbers beside texts; then everybody is read."""
    _on_sqlite_alone(twice)
    with database.transaction(twice.engine) as connection:
        columns = ", ".join(c.name for c in tables.ssd_table("ssd_person").columns)
        connection.execute(text("drop table ssd_person"))
        connection.execute(text(f"create table ssd_person ({columns})"))
    twice.add_children([*"ABCDEF", "1", "Z"])
    born = "insert into ssd_person (pers_person_id, pers_dob) values"
    with database.transaction(twice.engine) as connection:
        connection.execute(text(f"{born} ({written}, '2008-05-05')"))
    for forename in (None, "Other", "Another"):
        twice.change("ssd_person", "pers_person_id", "A", pers_forename=forename)
        assert twice.compare() == 9


def _on_sqlite_alone(twice: Twice) -> None:
    if twice.engine.dialect.name != "sqlite":
        pytest.skip("what is tried here does not depend on the database")


def _letters(number: int) -> list[str]:
    return [f"{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(number)]


def _changed_columns() -> list[tuple[str, str, str]]:
    """(table, its column by which a child's rows are known here, the column to change)."""
    found = []
    for name, row in {**ROWS, **EXTRA}.items():
        key = next(iter(row))
        found += [(name, key, c) for c in _plan().tables.get(name, ()) if c != key]
    return found


@pytest.mark.parametrize("value", ["XX", "2026-01-01", None])
def test_every_column_that_is_read_counts(twice: Twice, value: str | None) -> None:
    """Each child has another column changed."""
    if value != "XX":
        _on_sqlite_alone(twice)
    cases = _changed_columns()
    children = _letters(len(cases))
    twice.add_children(children)
    twice.more = {"cp_plan_inclusion": True, "disability_inclusion": True}
    twice.compare()
    for (name, key, changed), child in zip(cases, children, strict=True):
        twice.change(name, key, child, **{changed: value})
    assert twice.compare() > len(cases) / 3
    assert twice.compare() < len(cases), "who is held back is read each day"


def test_every_date_counts_when_its_day_comes(twice: Twice) -> None:
    """Each child has another date a few days ahead; the days come one by one."""
    dates = date_columns(SPEC)
    cases = [case for case in _changed_columns() if case[2] in dates]
    assert len(cases) > 25
    children = _letters(2 * len(cases))
    twice.add_children(children)
    twice.more = {"cp_plan_inclusion": True, "unborn_due_after_window": True}
    for place, day in enumerate(("2026-08-13", "2026-08-14 10:00:00")):
        some = children[place::2]
        for (name, key, changed), child in zip(cases, some, strict=True):
            twice.change(name, key, child, **{changed: day})
    read = []
    for number in range(7):
        twice.day = START + dt.timedelta(days=number)
        read.append(twice.compare())
    assert min(read) < len(children) / 2, "on some day most need not be read"
    assert sum(read[1:]) > 0


def test_the_birthday_of_a_care_leaver_counts_though_no_other_date_comes(twice: Twice) -> None:
    twice.add_children(list("AB"))
    twice.change("ssd_person", "pers_person_id", "A", pers_dob="2010-08-20")
    twice.change("ssd_person", "pers_person_id", "B", pers_dob="2008-05-05")
    read = []
    for number in range(12):
        twice.day = START + dt.timedelta(days=number)
        read.append(twice.compare())
    assert read[0] == 2
    assert 1 <= sum(read[1:]) < 4


@pytest.mark.database_in_turn
@pytest.mark.parametrize("changed", SETTINGS, ids=lambda changed: next(iter(changed)))
def test_every_setting_that_rules_read_counts(twice: Twice, changed: dict[str, Any]) -> None:
    twice.add_children(list("ABCD"))
    twice.change("ssd_involvements", "invo_involvements_id", "A", invo_professional_role_id="QQ")
    twice.compare()
    twice.more = changed
    assert twice.compare() == 4


def test_the_first_of_april_makes_all_anew(twice: Twice) -> None:
    _on_sqlite_alone(twice)
    twice.day = dt.date(2027, 3, 30)
    twice.add_children(list("ABCD"))
    assert [twice.compare(), twice.compare()] == [4, 0]
    twice.day = dt.date(2027, 4, 1)
    assert twice.compare() == 4
    twice.day = dt.date(2027, 3, 31)  # and a run for an earlier day
    assert twice.compare() == 4


def test_other_code_makes_all_anew(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    _on_sqlite_alone(twice)
    twice.add_children(list("AB"))
    twice.compare()
    monkeypatch.setattr(salt, "_code", lambda: "another")
    assert twice.compare() == 2


def test_it_says_why_everybody_was_read(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    _on_sqlite_alone(twice)
    twice.add_children(list("AB"))

    def why(**more: Any) -> str:
        return str(
            asdict(extract.run(twice.engine, twice.settings(MARKED, **more), SPEC))["why_read"]
        )

    assert why() == "no earlier run has kept what it found"
    assert why() == ""
    assert why(reassess=True) == "`reassess` is set"
    assert (
        why(expected_dob_as_dob=True)
        == "since the last run a setting of who is in or what is sent changed"
    )
    twice.day = dt.date(2027, 4, 1)
    assert why() == (
        "since the last run a setting of who is in or what is sent and the window's first day "
        "changed"
    )
    twice.day = dt.date(2027, 3, 31)
    assert why() == "since the last run the window's first day changed"
    twice.day = dt.date(2027, 3, 30)
    assert why() == "the last run was for a later day"
    monkeypatch.setattr(salt, "_code", lambda: "another")
    assert why() == "since the last run the workbook's code changed"
    monkeypatch.setattr(unchanged, "_MOST_CHANGED", 0.1)
    twice.change("ssd_person", "pers_person_id", "A", pers_forename="Other")
    assert why() == "the rows of more than half of them have changed"
    with database.transaction(twice.engine) as connection:
        value = tables.facts.c.value
        is_salt = tables.facts.c.name == "marks_salt"
        connection.execute(update(tables.facts).where(is_salt).values({value: "0" * 64}))
    assert why() == "since the last run the workbook's code changed"


def test_it_says_when_many_are_read_for_little(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each load of the SSD gives rows other keys, and the specification reads them."""
    _on_sqlite_alone(twice)
    monkeypatch.setattr(extract, "_MANY", 2)
    twice.more["cms"] = "generic"
    twice.add_children(list("ABC"))
    twice.compare()
    for child in "ABC":
        twice.change("ssd_care_leavers", "clea_person_id", child, clea_table_id=f"new {child}")
    assert twice.compare() == 3
    assert twice.why == "`reassess` is set"  # of the one that reads everybody
    for child in "ABC":
        twice.change("ssd_care_leavers", "clea_person_id", child, clea_table_id=f"other {child}")
    result = extract.run(twice.engine, twice.settings(MARKED), SPEC)
    assert result.read_anew == 3
    assert result.why_read == (
        "only 0 documents changed, so perhaps each load of the SSD gives rows other keys "
        "(docs/extract.md)"
    )


def test_all_code_that_decides_is_in_the_salt() -> None:
    read = {Path(str(file)) for file in salt._deciding_files()}
    package = Path(d2i_helpers.__file__).parent
    modules = {*package.glob("*.py")}.union(
        *(package.joinpath(one).rglob("*.py") for one in salt._DECIDING)
    )
    assert package / "database" / "dialects" / "sqlite.py" in modules
    assert modules <= read


def test_what_other_software_did_to_staged_rows_is_seen(twice: Twice) -> None:
    twice.add_children(list("ABCDEFGHIJ"))
    twice.compare()
    for staging in (MARKED, FULL):
        held = tables.staging_table(staging)
        for child, values in {
            "A": {"json_payload": '{"la_child_id": "A"}'},
            "B": {"row_state": "deleted"},
            "C": {"current_hash": None},
            "I": {"row_state": "unknown"},
        }.items():
            with database.transaction(twice.engine) as connection:
                connection.execute(update(held).where(held.c.person_id == child).values(**values))
        with database.transaction(twice.engine) as connection:
            connection.execute(delete(held).where(held.c.person_id == "E"))
            i = tables.inclusion
            connection.execute(delete(i).where(i.c.person_id == "F"))
    assert twice.compare() == 6


def test_a_staged_text_that_says_the_same_in_another_way_is_marked_as_it_is(twice: Twice) -> None:
    """So is what other software staged and this project adopted; it would be read each night."""
    _on_sqlite_alone(twice)
    twice.add_children(list("ABC"))
    twice.compare()
    for staging in (MARKED, FULL):
        held = tables.staging_table(staging)
        with database.transaction(twice.engine) as connection:
            for row in connection.execute(select(held.c.id, held.c.json_payload)).all():
                spaced = json.dumps(json.loads(row.json_payload), indent=1)
                connection.execute(
                    update(held).where(held.c.id == row.id).values(json_payload=spaced)
                )
    assert [twice.compare(), twice.compare()] == [3, 0]


def test_a_child_whose_ids_alone_changed_is_read_once(twice: Twice) -> None:
    _on_sqlite_alone(twice)
    twice.more["volatile_ids"] = True
    twice.add_children(list("ABCD"))
    twice.compare()
    for child in "AB":
        twice.change("ssd_cin_plans", "cinp_person_id", child, cinp_cin_plan_id=f"{child}OTHER")
    assert [twice.compare(), twice.compare()] == [2, 0]
    twice.change("ssd_person", "pers_person_id", "A", pers_forename="Other")
    assert [twice.compare(), twice.compare()] == [1, 0]


def test_keys_that_each_load_makes_anew_say_nothing(twice: Twice) -> None:
    """SystemC's load gives linked identifiers, care leavers and forms new keys each night.

    Of two former pupil numbers without a date, and of two contacts of one day, the same one is
    sent each night, whatever the keys are.
    """
    _on_sqlite_alone(twice)
    twice.more["cms"] = "systemc"
    twice.add_children(list("ABC"))
    for name, owner, values in [
        ("ssd_linked_identifiers", "link_person_id", {"link_identifier_value": "B123456789012"}),
        ("ssd_care_leavers", "clea_person_id", {"clea_care_leaver_activity": "F2"}),
    ]:
        twice.put(name, [{**{**ROWS, **EXTRA}[name], owner: child, **values} for child in "ABC"])
    twice.compare()
    for night in range(3):
        with database.transaction(twice.engine) as connection:
            for name, key in (
                ("ssd_linked_identifiers", "link_table_id"),
                ("ssd_care_leavers", "clea_table_id"),
                ("ssd_sdq_scores", "csdq_table_id"),
            ):
                new = f"lower(hex(randomblob(16))) || '{night}'"
                connection.execute(text(f"update {name} set {key} = {new}"))  # noqa: S608
        assert twice.compare() == 0  # and an extract that reads everybody finds the same


def test_a_day_that_the_guards_stopped_is_found_again(twice: Twice) -> None:
    twice.add_children(list("ABCDEFGHIJ"))
    twice.compare()
    twice.change("ssd_person", "pers_person_id", "A", pers_forename="Other")
    with database.transaction(twice.engine) as connection:
        connection.execute(text("delete from ssd_cin_plans"))
    assert twice.compare() == -1
    twice.more = {"allow_fewer_rows": "ssd_cin_plans"}
    assert twice.compare() == 8, "but not those who are in no inclusion set"


def test_guards_name_tables_in_the_same_order(twice: Twice) -> None:
    twice.add_children(list("ABCDEFGHIJ"))
    twice.compare()
    with database.transaction(twice.engine) as connection:
        for name in ("ssd_immigration_status", "ssd_cin_plans"):
            connection.execute(delete(table(name)))
    assert twice.compare() == -1


def test_a_value_that_the_driver_cannot_hand_over_costs_time_only(twice: Twice) -> None:
    """Also where no cycle is looked for in between, so that no open cursor closes by chance."""
    gc.disable()
    try:
        _read_twice_what_cannot_be_handed_over(twice)
    finally:
        gc.enable()


def _read_twice_what_cannot_be_handed_over(twice: Twice) -> None:
    if twice.engine.dialect.name != "sqlite":
        pytest.skip("only SQLite stores text without looking at it")
    twice.add_children(list("ABCD"))
    twice.compare()
    with database.transaction(twice.engine) as connection:
        connection.execute(
            text("update ssd_person set pers_surname = cast(x'4fff' as text) "
                 "where pers_person_id = 'A'")
        )  # fmt: skip
    assert twice.compare() == 4
    assert twice.compare() == 4


def test_a_mark_goes_with_its_person_and_holds_only_for_the_sets_on_record(twice: Twice) -> None:
    twice.add_children(list("ABC"))
    twice.compare()
    i, m = tables.inclusion, tables.marks
    with database.transaction(twice.engine) as connection:
        connection.execute(text("delete from ssd_person where pers_person_id = 'A'"))
        connection.execute(
            update(i)
            .where(i.c.staging_table == MARKED, i.c.person_id == "B")
            .values(reasons="other")
        )
    assert twice.compare() == 1
    with database.reading(twice.engine) as connection:
        marked = select(m.c.person_id).where(m.c.staging_table == MARKED)
        assert sorted(connection.scalars(marked)) == ["B", "C"]


VALUES = [
    None, "", " ", "A", "B", "AR", "BR", "AL", "BL", "AW", "A ", " B", "AR ", "AL ", " AW",
    "31/02/2025", "2026-08-11",
    "2026-08-12", "2026-08-13", "2026-08-20", "2024-03-31", "2024-04-01", "2010-08-12", "x", "CW",
    "UASC", "F", "1900-01-01", "SSD_PH", "true", "NONE",
]  # fmt: skip


def _history(twice: Twice, seed: int, steps: int) -> int:
    """Random edits of rows, days and settings; gives how many persons were read in all."""
    chance = random.Random(seed)
    twice.add_children(list("ABCDE"))
    layouts = _plan().tables
    read = twice.compare()
    for _ in range(steps):
        for _ in range(chance.choice([0, 1, 1, 2, 4])):
            _edit(twice, chance, layouts)
        if chance.random() < 0.4:
            twice.day += dt.timedelta(days=chance.choice([1, 1, 1, 2, 3, 30]))
        if chance.random() < 0.15:
            twice.more = dict(chance.choice([{}, *SETTINGS]))
        read += max(twice.compare(), 0)
    return read


def _edit(twice: Twice, chance: random.Random, layouts: dict[str, tuple[str, ...]]) -> None:
    """One row is changed, taken away or written a second time."""
    name = chance.choice(sorted(layouts))
    held = table(name, *map(column, layouts[name]))
    with database.transaction(twice.engine) as connection:
        rows = connection.execute(select(held)).all()
        if not rows:
            return
        row = chance.choice(sorted(rows, key=repr))._mapping
        key = next(iter({**ROWS, **EXTRA}[name]))
        this = held.c[key] == row[key]
        what = chance.random()
        if what < 0.15:
            connection.execute(delete(held).where(this))
        elif what < 0.3:
            connection.execute(insert(held).values(**{**row, chance.choice(list(row)): "Z1"}))
        else:
            values = {chance.choice(list(row)): chance.choice(VALUES)}
            connection.execute(update(held).where(this).values(**values))


@given(seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_histories(
    make_settings: Callable[..., Any], engine: Engine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(unchanged, "_MOST_CHANGED", 1.0)
    _clear(engine)
    _history(Twice(engine, make_settings), seed, 5)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_long_histories(
    make_settings: Callable[..., Any], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "_MOST_CHANGED", 1.0)
    for seed in range(300):
        _clear(engine)
        _history(Twice(engine, make_settings), seed, 15)


def _clear(engine: Engine) -> None:
    """Take out every table, as each example begins with none."""
    with database.transaction(engine) as connection:
        ours = [*tables.our_tables().tables.values(), *map(tables.staging_table, (MARKED, FULL))]
        names = [known.name for known in (*tables.ssd_metadata().tables.values(), *ours)]
        for name in (*names, "statutory"):
            connection.execute(text(f"drop table if exists {name}"))
    database.forget_answers(engine)


# ------------------------------------------------------------- that the comparison notices a fault
def test_a_date_that_is_left_out_is_noticed(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_starts(self: ValidUntil, read: Any, places: Any, rows: Any) -> Any:
        return of_rows(self, read, [p for p in places if "start" not in p[0]], rows)

    of_rows = ValidUntil._of_rows
    monkeypatch.setattr(ValidUntil, "_of_rows", without_starts)
    with pytest.raises(AssertionError):
        test_every_date_counts_when_its_day_comes(twice)


def test_an_age_that_is_left_out_is_noticed(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inclusion.AGES == (16, 26)
    with pytest.raises(AssertionError):
        inclusion.birthday("2010-01-01", 18)


def test_a_setting_that_is_left_out_is_noticed(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = salt._WITHOUT_EFFECT | {"disability_inclusion"}
    monkeypatch.setattr(salt, "_WITHOUT_EFFECT", without)
    with pytest.raises(AssertionError):
        test_every_setting_that_rules_read_counts(twice, {"disability_inclusion": True})


def test_a_column_that_is_left_out_is_noticed(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_the_last(make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: make(*given) >> 62  # one of four

    for module in (page_rows, whole_tables):
        monkeypatch.setattr(module, "mixed", without_the_last(module.mixed))
    with pytest.raises(AssertionError):
        test_every_column_that_is_read_counts(twice, "XX")


def test_every_setting_is_judged() -> None:
    """A name that is no setting any more, or is one that the rules read, is found here."""
    assert set(Settings.model_fields) >= salt._WITHOUT_EFFECT


def test_where_most_have_changed_all_are_read(twice: Twice, monkeypatch: Any) -> None:
    monkeypatch.setattr(unchanged, "_MOST_CHANGED", 0.5)
    twice.add_children(list("ABCD"))
    twice.compare()
    twice.change("ssd_person", "pers_person_id", "A", pers_forename="Other")
    twice.change("ssd_person", "pers_person_id", "B", pers_forename="Other")
    assert twice.compare() == 2
    for child in "ABC":
        twice.change("ssd_person", "pers_person_id", child, pers_forename="Another")
    assert twice.compare() == 4
    assert twice.compare() == 0
