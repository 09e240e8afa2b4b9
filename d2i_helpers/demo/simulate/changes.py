"""What a day does to fictional children: one function a kind of change, on all rows of one child.

Each says whether it fits the child; where it does, it notes what to insert, update and delete. Only
children in the cohort are changed (but for new referrals), so that every change can be seen.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable

from d2i_helpers.demo.simulate import care, cases, people
from d2i_helpers.demo.simulate.child import Held
from d2i_helpers.demo.simulate.words import postcode, upn
from d2i_helpers.demo.simulate.world import Row, later


# ------------------------------------------------------------------------------------- referrals
def referred_again(one: Held) -> bool:
    """A new referral of a child whose earlier ones are all closed."""
    past = one.of("ssd_cin_episodes")
    born = one.child.dob
    if not past or born is None or born > one.world.today or one.world.age(born) > 17:
        return False
    if any(row["cine_close_date"] is None for row in past):
        return False
    begun = one.recently()
    key = cases.referral(one.world, one.child, begun, None, depth="assessed")
    cases.assessment(one.world, one.child, key, begun, None)
    cases.workers(one.world, one.child, key, begun, None)
    return True


def closed(one: Held) -> bool:
    """An open case that is closed, with its plans and workers."""
    found = [row for row in one.open() if row["cine_referral_date"] < later(one.world.today, -30)]
    if not found or one.in_care():
        return False
    ended = one.recently()
    reason = one.world.coded("closure_reason", one.world.draw.pick(("RC7", "RC8", "RC9")), 100)
    one.edits.update("ssd_cin_episodes", found[0], cine_close_date=ended, cine_close_reason=reason)
    ends = (
        ("ssd_cin_plans", "cinp_referral_id", "cinp_cin_plan_end_date"),
        ("ssd_cp_plans", "cppl_referral_id", "cppl_cp_plan_end_date"),
        ("ssd_involvements", "invo_referral_id", "invo_involvement_end_date"),
    )
    for table, column, end in ends:
        for row in one.under(table, column, found[:1]):
            if row[end] is None:
                one.edits.update(table, row, **{end: ended})
    return True


def reopened(one: Held) -> bool:
    """A case that was closed in the window and is open again."""
    found = [row for row in one.seen() if row["cine_close_date"] is not None]
    if not found or one.open():
        return False
    newest = max(found, key=lambda row: (row["cine_close_date"], row["cine_referral_id"]))
    one.edits.update("ssd_cin_episodes", newest, cine_close_date=None, cine_close_reason=None)
    return True


def left(one: Held) -> bool:
    """A child who is gone from the system with all rows."""
    if not one.seen():
        return False
    one.edits.leavers.append((one.child.person_id, one.rows))
    return True


# ------------------------------------------------------------------- assessments, plans, enquiries
def assessment_completed(one: Held) -> bool:
    """An open assessment that is authorised, with its factors."""
    rows = one.under("ssd_cin_assessments", "cina_referral_id", one.seen())
    found = [row for row in rows if row["cina_assessment_auth_date"] is None]
    if not found or found[0]["cina_assessment_start_date"] is None:
        return False
    row = found[0]
    done = max(one.recently(1), row["cina_assessment_start_date"])
    one.edits.update("ssd_cin_assessments", row, cina_assessment_auth_date=done)
    known = {held["cinf_assessment_id"] for held in one.of("ssd_assessment_factors")}
    if row["cina_assessment_id"] not in known:
        cases.factors(one.world, row["cina_assessment_id"])
    return True


def date_corrected(one: Held) -> bool:
    """An assessment in the window whose start was a few days off."""
    start = one.world.window_start
    for row in one.under("ssd_cin_assessments", "cina_referral_id", one.seen()):
        begun, done = row["cina_assessment_start_date"], row["cina_assessment_auth_date"]
        moved = later(begun, -one.world.draw.between(1, 4)) if begun else None
        if moved and moved >= start and (done is None or moved <= done):
            one.edits.update("ssd_cin_assessments", row, cina_assessment_start_date=moved)
            return True
    return False


def factors_changed(one: Held) -> bool:
    """An assessment that gains a factor."""
    window = one.world.window_start
    visible = {
        row["cina_assessment_id"]
        for row in one.under("ssd_cin_assessments", "cina_referral_id", one.seen())
        if (row["cina_assessment_start_date"] or dt.datetime.min) >= window
    }
    for row in one.of("ssd_assessment_factors"):
        codes = _codes(row["cinf_assessment_factors_json"])
        spare = [c for c in one.world.codes.of("assessment_factor") if c not in {*codes, "21"}]
        if codes and row["cinf_assessment_id"] in visible and len(spare) > 3:
            kept = [code for code in codes if code != "21"]
            text = json.dumps([*kept, one.world.draw.pick(spare)])
            one.edits.update("ssd_assessment_factors", row, cinf_assessment_factors_json=text)
            return True
    return False


def _codes(text: str | None) -> list[str]:
    """A plain array of codes; anything else is left alone."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return []
    plain = isinstance(found, list) and all(isinstance(code, str) for code in found)
    return found if plain else []


def plan_added(one: Held) -> bool:
    """A child in need plan for an open case that has none."""
    for row in one.open():
        plans = one.under("ssd_cin_plans", "cinp_referral_id", [row])
        if all(plan["cinp_cin_plan_end_date"] is not None for plan in plans):
            begun = max(one.recently(), row["cine_referral_date"])
            cases.in_need_plan(one.world, one.child, row["cine_referral_id"], begun, None)
            return True
    return False


def plan_deleted(one: Held) -> bool:
    """A child in need plan that had been entered by mistake."""
    window = one.world.window_start
    for row in one.under("ssd_cin_plans", "cinp_referral_id", one.seen()):
        if (row["cinp_cin_plan_end_date"] or one.world.today) >= window:
            one.edits.deletes.append(("ssd_cin_plans", row["cinp_cin_plan_id"]))
            return True
    return False


def protection_started(one: Held) -> bool:
    """An enquiry in an open case; its conference is still to come."""
    for row in one.open():
        if not one.under("ssd_s47_enquiry", "s47e_referral_id", [row]):
            begun = max(one.recently(), row["cine_referral_date"])
            cases.enquiry(one.world, one.child, row["cine_referral_id"], begun, conference=True)
            return True
    return False


def worker_changed(one: Held) -> bool:
    """A case worker who hands over to another."""
    for row in one.under("ssd_involvements", "invo_referral_id", one.open()):
        begun, role = row["invo_involvement_start_date"], row["invo_professional_role_id"]
        if row["invo_involvement_end_date"] is None and role == "CW":
            until = max(begun, later(one.world.today, -1))
            one.edits.update("ssd_involvements", row, invo_involvement_end_date=until)
            key = row["invo_referral_id"]
            cases.involvement(one.world, one.child, key, "CW", one.world.today, None)
            return True
    return False


# ---------------------------------------------------------------------------------- care, health
def placement_moved(one: Held) -> bool:
    """A move from one placement to another in the same period of care."""
    ended = one.recently(2)
    for place in one.of("ssd_cla_placement"):
        begun = place["clap_cla_placement_start_date"]
        if place["clap_cla_placement_end_date"] is None and begun < later(ended, -1):
            key = place["clap_cla_placement_id"]
            spells = [
                row
                for row in one.of("ssd_cla_episodes")
                if row["clae_cla_placement_id"] == key
                and row["clae_cla_episode_ceased_date"] is None
            ]
            if len(spells) == 1 and one.seen():
                _move(one, place, spells[0], ended)
                return True
    return False


def _move(one: Held, place: Row, spell: Row, ended: dt.datetime) -> None:
    world, child = one.world, one.child
    change = world.coded("placement_change_reason", "CARPL", 100)
    one.edits.update("ssd_cla_placement", place, clap_cla_placement_end_date=ended,
                     clap_cla_placement_change_reason=change)  # fmt: skip
    one.edits.update("ssd_cla_episodes", spell, clae_cla_episode_ceased_date=ended,
                     clae_cla_episode_ceased_reason="X1")  # fmt: skip
    stay = care.placement(world, child, place["clap_cla_id"], ended, None)
    need, entered = spell["clae_cla_primary_need_code"], spell["clae_entered_care_date"]
    care.care_episode(
        world, child, spell["clae_referral_id"], stay.row, (ended, "P"), (None, None), need, entered
    )


def leaver_contacted(one: Held) -> bool:
    """A care leaver who was in touch today."""
    for row in one.of("ssd_care_leavers"):
        contact = row["clea_care_leaver_latest_contact"]
        if one.seen() and contact and contact < one.world.today:
            one.edits.update(
                "ssd_care_leavers", row, clea_care_leaver_latest_contact=one.world.today
            )
            return True
    return False


def questionnaire_added(one: Held) -> bool:
    """An SDQ of a child of 4 to 16."""
    if not one.seen() or one.child.dob is None or not 4 <= one.world.age(one.child.dob) <= 16:
        return False
    people.questionnaire(one.world, one.child, one.recently(), one.world.draw.between(0, 40))
    return True


# -------------------------------------------------------------------------------- who the child is
def moved_house(one: Held) -> bool:
    """A new address, the former one ended."""
    if not one.seen():
        return False
    begun = one.recently()
    for row in one.of("ssd_address"):
        if row["addr_address_end_date"] is None:
            one.edits.update("ssd_address", row, addr_address_end_date=begun)
    people.address(one.world, one.child, postcode(one.world.draw), begun)
    return True


def name_corrected(one: Held) -> bool:
    """Another family name, or a first name where there was none."""
    if not one.seen():
        return False
    person, world = one.person, one.world
    if person["pers_forename"] is None:
        name = world.names.first(world.draw, one.child.sex)
        one.edits.update("ssd_person", person, pers_forename=name)
        return True
    surname = world.names.last(world.draw)
    if surname == person["pers_surname"]:
        surname = f"{surname}-Smith"
    one.edits.update("ssd_person", person, pers_surname=surname)
    return True


def pupil_number_found(one: Held) -> bool:
    """A pupil number where there was only the reason for having none."""
    person = one.person
    blank = person["pers_upn"] is None and person["pers_upn_unknown"]
    if not one.seen() or not blank or one.world.age(one.child.dob or one.world.today) < 4:
        return False
    number = upn(one.world.draw)
    one.edits.update("ssd_person", person, pers_upn=number, pers_upn_unknown=None)
    return True


def born(one: Held) -> bool:
    """A child who was expected and is now born and named."""
    person, world = one.person, one.world
    due = person["pers_expected_dob"]
    if person["pers_dob"] is not None or due is None or due > world.today:
        return False
    sex = world.draw.pick("FM")
    one.edits.update(
        "ssd_person", person, pers_dob=later(due, -world.draw.between(0, 9)), pers_sex=sex,
        pers_expected_dob=None, pers_forename=world.names.first(world.draw, sex),
    )  # fmt: skip
    return True


# Share of all children a day, by kind. Those of `ALWAYS` happen at least once a day.
Kind = Callable[[Held], bool]
ALWAYS: dict[str, tuple[Kind, float]] = {
    "placements moved": (placement_moved, 0.0015),
    "cases reopened": (reopened, 0.001),
    "children left": (left, 0.001),
    "plans deleted": (plan_deleted, 0.001),
    "questionnaires added": (questionnaire_added, 0.0015),
    "plans added": (plan_added, 0.0025),
    "factors changed": (factors_changed, 0.0015),
    "cases closed": (closed, 0.003),
    "children referred again": (referred_again, 0.003),
    "dates corrected": (date_corrected, 0.0015),
    "postcodes changed": (moved_house, 0.0025),
    "names corrected": (name_corrected, 0.001),
}
SOMETIMES: dict[str, tuple[Kind, float]] = {
    "children born": (born, 0.0005),
    "care leavers contacted": (leaver_contacted, 0.001),
    "pupil numbers found": (pupil_number_found, 0.001),
    "enquiries started": (protection_started, 0.001),
    "assessments completed": (assessment_completed, 0.003),
    "workers changed": (worker_changed, 0.002),
}
NEW_CHILDREN = 0.004  # share of children a day who are new
BACK = 0.001  # share who come back after they left
