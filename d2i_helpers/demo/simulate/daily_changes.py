"""The changes that a day may bring to a fictional child, one function each.

Each function returns False when the change does not fit the child. Otherwise it notes the rows to
insert, update and delete, and returns True. Apart from new referrals, only children in the cohort
change, so that every change shows in what is sent.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable

from d2i_helpers.demo.simulate import care, cases, people
from d2i_helpers.demo.simulate.stored_child import StoredChild
from d2i_helpers.demo.simulate.words import postcode, upn
from d2i_helpers.demo.simulate.world import Row, later


# ------------------------------------------------------------------------------------- referrals
def refer_again(stored: StoredChild) -> bool:
    """Refer a child again whose earlier referrals are all closed."""
    past = stored.rows_of("ssd_cin_episodes")
    born = stored.child.dob
    if not past or born is None or born > stored.world.today or stored.world.age(born) > 17:
        return False
    if any(row["cine_close_date"] is None for row in past):
        return False
    begun = stored.recent_day()
    key = cases.referral(stored.world, stored.child, begun, None, depth="assessed")
    cases.assessment(stored.world, stored.child, key, begun, None)
    cases.workers(stored.world, stored.child, key, begun, None)
    return True


def close_case(stored: StoredChild) -> bool:
    """Close an open case with its plans and involvements."""
    old_enough = [
        row
        for row in stored.open_referrals()
        if row["cine_referral_date"] < later(stored.world.today, -30)
    ]
    if not old_enough or stored.in_care():
        return False
    ended = stored.recent_day()
    reason = stored.world.coded(
        "closure_reason", stored.world.draw.pick(("RC7", "RC8", "RC9")), 100
    )
    stored.edits.update(
        "ssd_cin_episodes", old_enough[0], cine_close_date=ended, cine_close_reason=reason
    )
    ends = (
        ("ssd_cin_plans", "cinp_referral_id", "cinp_cin_plan_end_date"),
        ("ssd_cp_plans", "cppl_referral_id", "cppl_cp_plan_end_date"),
        ("ssd_involvements", "invo_referral_id", "invo_involvement_end_date"),
    )
    for table, column, end in ends:
        for row in stored.rows_under(table, column, old_enough[:1]):
            if row[end] is None:
                stored.edits.update(table, row, **{end: ended})
    return True


def reopen_case(stored: StoredChild) -> bool:
    """Reopen a case that was closed in the window."""
    closed = [row for row in stored.referrals_in_window() if row["cine_close_date"] is not None]
    if not closed or stored.open_referrals():
        return False
    newest = max(closed, key=lambda row: (row["cine_close_date"], row["cine_referral_id"]))
    stored.edits.update("ssd_cin_episodes", newest, cine_close_date=None, cine_close_reason=None)
    return True


def remove_child(stored: StoredChild) -> bool:
    """Remove a child with all its rows from the system."""
    if not stored.referrals_in_window():
        return False
    stored.edits.leavers.append((stored.child.person_id, stored.rows))
    return True


# ------------------------------------------------------------------- assessments, plans, enquiries
def authorise_assessment(stored: StoredChild) -> bool:
    """Authorise an open assessment and record its factors."""
    rows = stored.rows_under(
        "ssd_cin_assessments", "cina_referral_id", stored.referrals_in_window()
    )
    unauthorised = [row for row in rows if row["cina_assessment_auth_date"] is None]
    if not unauthorised or unauthorised[0]["cina_assessment_start_date"] is None:
        return False
    row = unauthorised[0]
    done = max(stored.recent_day(1), row["cina_assessment_start_date"])
    stored.edits.update("ssd_cin_assessments", row, cina_assessment_auth_date=done)
    known = {held["cinf_assessment_id"] for held in stored.rows_of("ssd_assessment_factors")}
    if row["cina_assessment_id"] not in known:
        cases.factors(stored.world, row["cina_assessment_id"])
    return True


def correct_assessment_date(stored: StoredChild) -> bool:
    """Correct the start of an assessment in the window by a few days."""
    start = stored.world.window_start
    for row in stored.rows_under(
        "ssd_cin_assessments", "cina_referral_id", stored.referrals_in_window()
    ):
        begun, done = row["cina_assessment_start_date"], row["cina_assessment_auth_date"]
        moved = later(begun, -stored.world.draw.between(1, 4)) if begun else None
        if moved and moved >= start and (done is None or moved <= done):
            stored.edits.update("ssd_cin_assessments", row, cina_assessment_start_date=moved)
            return True
    return False


def add_factor(stored: StoredChild) -> bool:
    """Add a factor to an assessment."""
    window = stored.world.window_start
    visible = {
        row["cina_assessment_id"]
        for row in stored.rows_under(
            "ssd_cin_assessments", "cina_referral_id", stored.referrals_in_window()
        )
        if (row["cina_assessment_start_date"] or dt.datetime.min) >= window
    }
    for row in stored.rows_of("ssd_assessment_factors"):
        codes = _plain_codes(row["cinf_assessment_factors_json"])
        spare = [c for c in stored.world.codes.of("assessment_factor") if c not in {*codes, "21"}]
        if codes and row["cinf_assessment_id"] in visible and len(spare) > 3:
            kept = [code for code in codes if code != "21"]
            text = json.dumps([*kept, stored.world.draw.pick(spare)])
            stored.edits.update("ssd_assessment_factors", row, cinf_assessment_factors_json=text)
            return True
    return False


def _plain_codes(text: str | None) -> list[str]:
    """The codes of a plain JSON array; none for any other text."""
    try:
        held = json.loads(text or "")
    except ValueError:
        return []
    plain = isinstance(held, list) and all(isinstance(code, str) for code in held)
    return held if plain else []


def start_in_need_plan(stored: StoredChild) -> bool:
    """Start a child in need plan in an open case that has none."""
    for row in stored.open_referrals():
        plans = stored.rows_under("ssd_cin_plans", "cinp_referral_id", [row])
        if all(plan["cinp_cin_plan_end_date"] is not None for plan in plans):
            begun = max(stored.recent_day(), row["cine_referral_date"])
            cases.in_need_plan(stored.world, stored.child, row["cine_referral_id"], begun, None)
            return True
    return False


def delete_in_need_plan(stored: StoredChild) -> bool:
    """Delete a child in need plan that was entered by mistake."""
    window = stored.world.window_start
    for row in stored.rows_under("ssd_cin_plans", "cinp_referral_id", stored.referrals_in_window()):
        if (row["cinp_cin_plan_end_date"] or stored.world.today) >= window:
            stored.edits.deletes.append(("ssd_cin_plans", row["cinp_cin_plan_id"]))
            return True
    return False


def start_enquiry(stored: StoredChild) -> bool:
    """Start an enquiry in an open case; its conference is still to come."""
    for row in stored.open_referrals():
        if not stored.rows_under("ssd_s47_enquiry", "s47e_referral_id", [row]):
            begun = max(stored.recent_day(), row["cine_referral_date"])
            cases.enquiry(
                stored.world, stored.child, row["cine_referral_id"], begun, conference=True
            )
            return True
    return False


def hand_over_case(stored: StoredChild) -> bool:
    """Let one case worker hand over to another."""
    for row in stored.rows_under("ssd_involvements", "invo_referral_id", stored.open_referrals()):
        begun, role = row["invo_involvement_start_date"], row["invo_professional_role_id"]
        if row["invo_involvement_end_date"] is None and role == "CW":
            until = max(begun, later(stored.world.today, -1))
            stored.edits.update("ssd_involvements", row, invo_involvement_end_date=until)
            key = row["invo_referral_id"]
            cases.involvement(stored.world, stored.child, key, "CW", stored.world.today, None)
            return True
    return False


# ---------------------------------------------------------------------------------- care, health
def move_placement(stored: StoredChild) -> bool:
    """Move the child to another placement in the same period of care."""
    ended = stored.recent_day(2)
    for place in stored.rows_of("ssd_cla_placement"):
        begun = place["clap_cla_placement_start_date"]
        if place["clap_cla_placement_end_date"] is None and begun < later(ended, -1):
            key = place["clap_cla_placement_id"]
            spells = [
                row
                for row in stored.rows_of("ssd_cla_episodes")
                if row["clae_cla_placement_id"] == key
                and row["clae_cla_episode_ceased_date"] is None
            ]
            if len(spells) == 1 and stored.referrals_in_window():
                _start_new_placement(stored, place, spells[0], ended)
                return True
    return False


def _start_new_placement(stored: StoredChild, place: Row, spell: Row, ended: dt.datetime) -> None:
    world, child = stored.world, stored.child
    change = world.coded("placement_change_reason", "CARPL", 100)
    stored.edits.update("ssd_cla_placement", place, clap_cla_placement_end_date=ended,
                     clap_cla_placement_change_reason=change)  # fmt: skip
    stored.edits.update("ssd_cla_episodes", spell, clae_cla_episode_ceased_date=ended,
                     clae_cla_episode_ceased_reason="X1")  # fmt: skip
    stay = care.placement(world, child, place["clap_cla_id"], ended, None)
    need, entered = spell["clae_cla_primary_need_code"], spell["clae_entered_care_date"]
    care.care_episode(
        world, child, spell["clae_referral_id"], stay.row, (ended, "P"), (None, None), need, entered
    )


def contact_care_leaver(stored: StoredChild) -> bool:
    """Record that a care leaver was in touch today."""
    for row in stored.rows_of("ssd_care_leavers"):
        contact = row["clea_care_leaver_latest_contact"]
        if stored.referrals_in_window() and contact and contact < stored.world.today:
            stored.edits.update(
                "ssd_care_leavers", row, clea_care_leaver_latest_contact=stored.world.today
            )
            return True
    return False


def add_questionnaire(stored: StoredChild) -> bool:
    """Add an SDQ of a child aged 4 to 16."""
    if (
        not stored.referrals_in_window()
        or stored.child.dob is None
        or not 4 <= stored.world.age(stored.child.dob) <= 16
    ):
        return False
    people.questionnaire(
        stored.world, stored.child, stored.recent_day(), stored.world.draw.between(0, 40)
    )
    return True


# -------------------------------------------------------------------------------- who the child is
def change_address(stored: StoredChild) -> bool:
    """Move the family: end the current address and add a new one."""
    if not stored.referrals_in_window():
        return False
    begun = stored.recent_day()
    for row in stored.rows_of("ssd_address"):
        if row["addr_address_end_date"] is None:
            stored.edits.update("ssd_address", row, addr_address_end_date=begun)
    people.address(stored.world, stored.child, postcode(stored.world.draw), begun)
    return True


def correct_name(stored: StoredChild) -> bool:
    """Change the family name, or add a first name that was missing."""
    if not stored.referrals_in_window():
        return False
    person, world = stored.person, stored.world
    if person["pers_forename"] is None:
        name = world.names.first(world.draw, stored.child.sex)
        stored.edits.update("ssd_person", person, pers_forename=name)
        return True
    surname = world.names.last(world.draw)
    if surname == person["pers_surname"]:
        surname = f"{surname}-Smith"
    stored.edits.update("ssd_person", person, pers_surname=surname)
    return True


def give_pupil_number(stored: StoredChild) -> bool:
    """Record a pupil number in place of the reason for having none."""
    person = stored.person
    blank = person["pers_upn"] is None and person["pers_upn_unknown"]
    if (
        not stored.referrals_in_window()
        or not blank
        or stored.world.age(stored.child.dob or stored.world.today) < 4
    ):
        return False
    number = upn(stored.world.draw)
    stored.edits.update("ssd_person", person, pers_upn=number, pers_upn_unknown=None)
    return True


def register_birth(stored: StoredChild) -> bool:
    """Register the birth of a child whose due date has come."""
    person, world = stored.person, stored.world
    due = person["pers_expected_dob"]
    if person["pers_dob"] is not None or due is None or due > world.today:
        return False
    sex = world.draw.pick("FM")
    stored.edits.update(
        "ssd_person", person, pers_dob=later(due, -world.draw.between(0, 9)), pers_sex=sex,
        pers_expected_dob=None, pers_forename=world.names.first(world.draw, sex),
    )  # fmt: skip
    return True


# For each change, the share of all children whom it meets in a day. The changes in `ALWAYS` happen
# at least once a day.
Change = Callable[[StoredChild], bool]
ALWAYS: dict[str, tuple[Change, float]] = {
    "placements moved": (move_placement, 0.0015),
    "cases reopened": (reopen_case, 0.001),
    "children left": (remove_child, 0.001),
    "plans deleted": (delete_in_need_plan, 0.001),
    "questionnaires added": (add_questionnaire, 0.0015),
    "plans added": (start_in_need_plan, 0.0025),
    "factors changed": (add_factor, 0.0015),
    "cases closed": (close_case, 0.003),
    "children referred again": (refer_again, 0.003),
    "dates corrected": (correct_assessment_date, 0.0015),
    "postcodes changed": (change_address, 0.0025),
    "names corrected": (correct_name, 0.001),
}
SOMETIMES: dict[str, tuple[Change, float]] = {
    "children born": (register_birth, 0.0005),
    "care leavers contacted": (contact_care_leaver, 0.001),
    "pupil numbers found": (give_pupil_number, 0.001),
    "enquiries started": (start_enquiry, 0.001),
    "assessments completed": (authorise_assessment, 0.003),
    "workers changed": (hand_over_case, 0.002),
}
NEW_CHILDREN = 0.004  # share of children a day who are new
BACK = 0.001  # share who come back after they left
