"""Pseudonyms: each rule by hand-worked cases."""

from __future__ import annotations

import copy
import datetime as dt
import hmac
import re
from typing import Any

import pytest

from d2i_helpers.anonymise import keyed
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.anonymise.upn import upn_check_letter
from d2i_helpers.errors import SpecificationError
from d2i_helpers.payload_spec import Document, build_spec, load_spec
from d2i_helpers.privacy.identities import collector
from d2i_helpers.privacy.redaction import normal

SPEC = load_spec()
WINDOW_START = dt.date(2024, 4, 1)
KEY = b"a key for tests, 32 bytes long.."


def pseudonymiser(key: bytes = KEY, **options: Any) -> Pseudonymiser:
    defaults = {"max_shift_days": 183, "window_start": WINDOW_START}
    return Pseudonymiser(options.pop("spec", SPEC), key, **{**defaults, **options})


def made(document: Document, key: bytes = KEY, **options: Any) -> Document:
    spec = options.get("spec", SPEC)
    identity = collector(spec)(document)
    return pseudonymiser(key, **options).document(document["la_child_id"], document, identity)


def child(child_id: str = "1001", **details: Any) -> Document:
    return {
        "la_child_id": child_id,
        "purge": False,
        "child_details": {"date_of_birth": "2012-05-03", "purge": False, **details},
    }


def episode(number: int, **content: Any) -> Document:
    return {
        "social_care_episode_id": f"E{number}",
        "referral_date": "2025-06-01",
        "purge": False,
        **content,
    }


def keys(count: int) -> list[bytes]:
    return [f"key number {number:020}".encode() for number in range(count)]


def many(document: Document, count: int, **options: Any) -> list[Document]:
    """The document as it comes out for that many children, whose secrets differ."""
    pseudonyms, identity = pseudonymiser(**options), collector(SPEC)(document)
    return [pseudonyms.document(f"child {n}", document, identity) for n in range(count)]


def details(document: Document) -> Document:
    return document["child_details"]


# ------------------------------------------------------------------------------------ the digest
@pytest.mark.parametrize("key", [b"k", b"x" * 64, b"y" * 65, b"z" * 200])
def test_the_digest_is_hmac_sha_256(key: bytes) -> None:
    for message in (b"", b"abc", b"m" * 500):
        assert keyed.Keyed(key).digest(message) == hmac.digest(key, message, "sha256")


def test_id_letters_make_no_0x_and_are_drawn_alike() -> None:
    assert len(set(keyed.ID_LETTERS)) == 32
    assert not set(b"xX") & set(keyed.ID_LETTERS)


def test_upn_check_letter_by_hand() -> None:
    # 8*2 + 0*3 + 1*4 + 2*5 + 0 + 0 + 0 + 0 + 1*10 + 0 + 0 + 1*13 = 53; 53 mod 23 = 7: H
    assert upn_check_letter("801200001001") == "H"
    # the same with the place 13 held by the letter C (value 2): 40 + 2*13 = 66; 66 mod 23 = 20: X
    assert upn_check_letter("80120000100C") == "X"


# ------------------------------------------------------------------------------------------- ids
def test_ids_fit_their_fields_and_recur() -> None:
    one = {
        **child("1001"),
        "mis_child_id": "1001",
        "social_care_episodes": [
            episode(1, care_worker_details=[{"worker_id": "SW1"}],
                    child_looked_after_placements=[{"child_looked_after_placement_id": "7"}]),
            episode(2, care_worker_details=[{"worker_id": "SW1"}],
                    child_looked_after_placements=[{"child_looked_after_placement_id": "7"}],
                    child_in_need_plans=[{"child_in_need_plan_id": "7"}]),
        ],
    }  # fmt: skip
    two = {**child("1002"), "social_care_episodes": [
        episode(1, care_worker_details=[{"worker_id": "SW1"}, {"worker_id": "SW2"}])]}  # fmt: skip
    first, second = made(one), made(two)
    episodes = first["social_care_episodes"]
    workers = [w["worker_id"] for e in episodes for w in e["care_worker_details"]]
    placements = [
        p["child_looked_after_placement_id"]
        for e in episodes
        for p in e["child_looked_after_placements"]
    ]
    plan = next(e for e in episodes if "child_in_need_plans" in e)["child_in_need_plans"][0]
    assert len(set(workers)) == 1 and len(set(placements)) == 1
    assert plan["child_in_need_plan_id"] != placements[0]  # another kind of item
    others = [w["worker_id"] for w in second["social_care_episodes"][0]["care_worker_details"]]
    assert workers[0] in others and len(set(others)) == 2  # a worker recurs among children
    assert first["la_child_id"] == first["mis_child_id"] != second["la_child_id"]
    for text, longest in [(first["la_child_id"], 20), (workers[0], 12), (placements[0], 36)]:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
        assert 12 <= len(text) <= longest


def test_ids_never_hold_0x_and_never_collide() -> None:
    pseudonyms = pseudonymiser()
    ids = {pseudonyms.child_id(str(number)) for number in range(20_000)}
    assert len(ids) == 20_000
    assert not any("0x" in one.lower() for one in ids)


def test_without_the_key_an_id_cannot_be_found_by_trying() -> None:
    assert made(child("1001"))["la_child_id"] != made(child("1001"), keys(1)[0])["la_child_id"]


# ----------------------------------------------------------------------------------------- names
def test_names_are_never_the_childs_own_nor_a_part_of_them() -> None:
    """Faker's own names as the child's, so often that a draw of them would show."""
    own = child(first_name="Jáck PAUL", surname="smith-Jones")
    for drawn in map(details, many(own, 1500)):
        for name in (drawn["first_name"], drawn["surname"]):
            assert normal(name) not in {"JACK", "PAUL", "SMITH", "JONES", "SMITHJONES"}


def test_a_name_does_not_show_inside_of_another() -> None:
    for drawn in map(details, many(child(first_name="Robert", surname="Williamson"), 1500)):
        for name in (drawn["first_name"], drawn["surname"]):
            assert "ROBERT" not in normal(name) and "WILLIAM" not in normal(name)


def test_names_are_drawn_widely() -> None:
    names = [details(one) for one in many(child(first_name="Q", surname="Z"), 400)]
    assert len({one["first_name"] for one in names}) > 150
    assert len({one["surname"] for one in names}) > 150


# ------------------------------------------------------------------------------------- postcodes
STRICT_POSTCODE = re.compile(r"[A-PR-UWYZ][A-HK-Y][0-9]{1,2} [0-9][ABD-HJLNP-UW-Z]{2}")


def test_postcodes_are_valid_consistent_for_a_child_and_say_nothing_of_neighbours() -> None:
    home = "AB12 3DE"
    one = {**child("1", postcode=home), "social_care_episodes": [
        episode(1, child_looked_after_placements=[
            {"child_looked_after_placement_id": "7", "postcode": home},
            {"child_looked_after_placement_id": "8", "postcode": "AB12 3DF"}])]}  # fmt: skip
    first = made(one)
    placements = {
        p["postcode"] for p in first["social_care_episodes"][0]["child_looked_after_placements"]
    }
    assert details(first)["postcode"] in placements and len(placements) == 2
    assert details(made(child("2", postcode=home)))["postcode"] not in placements
    for drawn in many(child(postcode=home), 300):
        assert STRICT_POSTCODE.fullmatch(details(drawn)["postcode"])


# ------------------------------------------------------------------------------------------ UPNs
def test_upns_are_valid_and_the_same_wherever_they_stand() -> None:
    one = details(made(child("1", unique_pupil_number="H801200001001")))
    two = details(made(child("2", former_unique_pupil_number="H801200001001")))
    upn = one["unique_pupil_number"]
    assert upn == two["former_unique_pupil_number"] != "H801200001001"
    assert re.fullmatch(r"[A-HJ-NP-RT-Z]\d{12}", upn)
    assert upn_check_letter(upn[1:]) == upn[0]


def test_a_temporary_upn_stays_one() -> None:
    for key in keys(60):
        upn = details(made(child(unique_pupil_number="X80120000100C"), key))["unique_pupil_number"]
        assert re.fullmatch(r"[A-HJ-NP-RT-Z]\d{11}[A-HJ-NP-RT-Z]", upn)
        assert upn_check_letter(upn[1:]) == upn[0]
        assert "0x" not in upn.lower()


# ----------------------------------------------------------------------------------------- dates
def shifts(document: Document, count: int = 300, **options: Any) -> set[int]:
    before = dt.date.fromisoformat(details(document)["date_of_birth"])
    drawn = (details(one)["date_of_birth"] for one in many(document, count, **options))
    return {(dt.date.fromisoformat(text) - before).days for text in drawn}


def test_dates_move_back_by_one_secret_number_of_days() -> None:
    found = shifts(child())
    assert min(found) >= -183 and max(found) <= -1
    assert len(found) > 120  # of 183


def test_all_dates_of_a_child_move_together() -> None:
    one = {**child(), "social_care_episodes": [
        episode(1, closure_date="2025-09-01",
                care_leavers={"contact_date": "2025-07-15", "purge": False})]}  # fmt: skip
    drawn = made(one)["social_care_episodes"][0]
    days = [dt.date.fromisoformat(drawn[name]) for name in ("referral_date", "closure_date")]
    days.append(dt.date.fromisoformat(drawn["care_leavers"]["contact_date"]))
    assert [(day - days[0]).days for day in days] == [0, 92, 44]
    born = dt.date.fromisoformat(details(made(one))["date_of_birth"])
    assert (days[0] - born).days == (dt.date(2025, 6, 1) - dt.date(2012, 5, 3)).days


@pytest.mark.parametrize(
    ("born", "forward"),
    [
        ("1998-04-02", True),  # the oldest there is: 26 on the second day of the window
        ("1998-10-01", True),  # 182 days younger
        ("1998-10-02", False),  # 183 days: the largest step back still leaves it in
        ("2012-05-03", False),
        ("2024-05-01", False),  # a child born in the window goes back, never into the future
        ("2026-08-10", False),
    ],
)
def test_nobody_leaves_the_age_range_of_the_cohort(born: str, forward: bool) -> None:
    found = shifts(child(date_of_birth=born))
    assert all(shift > 0 for shift in found) if forward else all(shift < 0 for shift in found)
    for shift in found:
        day = dt.date.fromisoformat(born) + dt.timedelta(shift)
        assert day >= dt.date(1998, 4, 2)


def test_an_unborn_child_stays_in_the_window() -> None:
    for due, forward in [("2024-05-01", True), ("2026-07-01", False)]:
        unborn = {"la_child_id": "1", "child_details": {"expected_date_of_birth": due}}
        for one in many(unborn, 100):
            drawn = details(one)["expected_date_of_birth"]
            assert (drawn > due) is forward
            assert drawn >= "2024-04-01"


def test_no_date_becomes_the_real_birth_date_by_chance() -> None:
    """A referral on every day of the half-year after the birth but one: one shift is left."""
    born = dt.date(2026, 1, 1)
    days = [born + dt.timedelta(n) for n in range(1, 184) if n != 77]
    one = {**child(date_of_birth="2026-01-01"), "social_care_episodes": [
        {"social_care_episode_id": str(n), "referral_date": day.isoformat()}
        for n, day in enumerate(days)]}  # fmt: skip
    for drawn in many(one, 5):
        assert details(drawn)["date_of_birth"] == (born - dt.timedelta(77)).isoformat()
        assert "2026-01-01" not in {e["referral_date"] for e in drawn["social_care_episodes"]}


def test_a_value_that_is_no_date_is_left_out_and_counted() -> None:
    pseudonyms = pseudonymiser()
    one = {**child(uasc_end_date="soon", first_name=5), "social_care_episodes": [episode(1)]}
    drawn = pseudonyms.document("1001", one, collector(SPEC)(one))
    assert "uasc_end_date" not in details(drawn) and "first_name" not in details(drawn)
    assert dict(pseudonyms.unusable) == {
        "child_details.uasc_end_date": 1,
        "child_details.first_name": 1,
    }


# ----------------------------------------------------------------------------------------- codes
def test_codes_are_drawn_from_the_whole_list_whatever_the_original() -> None:
    for ethnicity in ("WBRI", "CHNE"):
        drawn = [details(one)["ethnicity"] for one in many(child(ethnicity=ethnicity), 400)]
        counts = [drawn.count(code) for code in SPEC.code_lists["ethnicity"].codes]
        assert len(counts) == 20
        assert min(counts) > 5 and max(counts) < 45  # 20 expected


def test_equal_codes_stay_equal_and_different_ones_different() -> None:
    codes = list(SPEC.code_lists["closure_reason"].codes)
    one = {**child(), "social_care_episodes": [
        episode(n, closure_reason=code) for n, code in enumerate([*codes, *codes])]}  # fmt: skip
    ids = {pseudo["social_care_episode_id"]: pseudo["closure_reason"]
           for pseudo in made(one)["social_care_episodes"]}  # fmt: skip
    assert len(ids) == 18 and len(set(ids.values())) == 9
    assert sorted(ids.values()) == sorted([*codes, *codes])


def test_unknown_sex_stays_unknown_and_the_others_are_redrawn() -> None:
    assert {details(one)["sex"] for one in many(child(sex="U"), 50)} == {"U"}
    assert {details(one)["sex"] for one in many(child(sex="F"), 50)} == {"M", "F"}


def test_lists_of_codes_keep_their_length_and_what_stands_alone() -> None:
    for one in many(child(disabilities=["HAND", "LD", "MOB"]), 50):
        drawn = details(one)["disabilities"]
        assert drawn == sorted(set(drawn)) and len(drawn) == 3 and "NONE" not in drawn
        assert set(drawn) <= set(SPEC.code_lists["disability"].codes)
    assert details(made(child(disabilities=["NONE"])))["disabilities"] == ["NONE"]
    for factors in ([], ["21"]):
        one = {**child(), "social_care_episodes": [episode(1, child_and_family_assessments=[
            {"child_and_family_assessment_id": "1", "factors": factors}])]}  # fmt: skip
        item = made(one)["social_care_episodes"][0]["child_and_family_assessments"][0]
        assert item["factors"] == factors


def test_scores_move_a_little_and_stay_in_range() -> None:
    for score in (0, 3, 20, 40):
        sdq = {"sdq_assessments": [{"date": "2025-01-01", "score": score}], "purge": False}
        one = {**child(), "health_and_wellbeing": sdq}
        drawn = {
            pseudo["health_and_wellbeing"]["sdq_assessments"][0]["score"]
            for pseudo in many(one, 100)
        }
        assert all(0 <= value <= 40 and 1 <= abs(value - score) <= 5 for value in drawn)
        assert len(drawn) >= 5


def test_flags_are_redrawn_but_a_status_that_ended_was_there() -> None:
    drawn = {details(one)["uasc_flag"] for one in many(child(uasc_flag=True), 50)}
    assert drawn == {True, False}
    ended = child(uasc_flag=True, uasc_end_date="2025-01-01")
    assert {details(one)["uasc_flag"] for one in many(ended, 50)} == {True}


# ----------------------------------------------------------------------------------- consistency
FULL = {
    **child("1001", first_name="Zoë", surname="O'Brien", ethnicity="WBRI", postcode="AB12 3DE"),
    "social_care_episodes": [episode(1, referral_source="1A"), episode(2, referral_source="1B")],
}


def test_the_same_every_day_under_one_key_and_another_under_another() -> None:
    assert made(FULL) == made(FULL)
    assert made(FULL) == made(FULL, window_start=dt.date(2025, 4, 1))
    other = made(FULL, keys(1)[0])
    for name in ("first_name", "surname", "postcode", "date_of_birth"):
        assert details(other)[name] != details(made(FULL))[name]


def test_a_changed_value_changes_what_stands_for_it_alone() -> None:
    changed = copy.deepcopy(FULL)
    changed["child_details"]["surname"] = "O'Neill"
    changed["social_care_episodes"][0]["referral_source"] = "1C"
    changed["social_care_episodes"].append(episode(3))
    before, after = made(FULL), made(changed)
    assert before["child_details"]["surname"] != after["child_details"].pop("surname")
    before["child_details"].pop("surname")
    assert before["child_details"] == after["child_details"]
    known = {e["social_care_episode_id"]: e for e in before["social_care_episodes"]}
    same = [e for e in after["social_care_episodes"] if known.get(e["social_care_episode_id"]) == e]
    assert len(same) == 1 and len(after["social_care_episodes"]) == 3


def test_items_stay_in_the_order_of_the_specification() -> None:
    one = {**child(), "social_care_episodes": [
        {"social_care_episode_id": f"E{n}", "referral_date": f"2025-0{1 + n % 3}-01"}
        for n in range(9)]}  # fmt: skip
    items = made(one)["social_care_episodes"]
    assert items == SPEC.blocks["social_care_episodes"].sorted_items(items)


# --------------------------------------------------------------------------------------- refusals
def test_a_field_that_nobody_declared_is_refused_without_its_value() -> None:
    with pytest.raises(SpecificationError, match=r"child_details\.nickname") as error:
        made(child(nickname="Zed Secret"))
    assert "Zed" not in str(error.value)
    with pytest.raises(SpecificationError) as error:
        made({**child(), "Zed Secret": 1})
    assert "Zed" not in str(error.value)


def _spec_with(block: str, name: str, **entry: Any) -> Any:
    from importlib import resources

    import yaml

    text = yaml.safe_load(
        resources.files("d2i_helpers.payload_spec")
        .joinpath("payload_spec.yaml")
        .read_text(encoding="utf-8")
    )
    fields = text["blocks"][block]["fields"]
    fields[name] = {k: v for k, v in {**fields.get(name, {}), **entry}.items() if v is not None}
    return build_spec(text)


@pytest.mark.parametrize(
    ("block", "name", "entry", "said"),
    [
        ("child_details", "first_name", {"anonymise": "keep"}, "no rule"),
        ("child", "la_child_id", {"anonymise": "drop"}, "mandatory"),
        ("child", "la_child_id", {"max_length": 8}, "too short"),
        ("child", "la_child_id", {"pattern": "^[0-9]+$"}, "pattern"),
        ("child_details", "first_name", {"anonymise": "code"}, "no code list"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused(block: str, name: str, entry: dict, said: str) -> None:
    try:
        spec = _spec_with(block, name, **entry)
    except SpecificationError as error:  # the specification's own checks may be faster
        assert name in str(error)
        return
    with pytest.raises(SpecificationError, match=said) as error:
        pseudonymiser(spec=spec)
    assert name in str(error.value)


def test_a_dropped_field_is_left_out() -> None:
    spec = _spec_with("child_details", "first_name", anonymise="drop")
    assert "first_name" not in details(made(child(first_name="Zoë"), spec=spec))
