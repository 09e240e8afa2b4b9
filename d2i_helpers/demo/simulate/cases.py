"""Fictional cases as SSD rows: referrals and the assessments, plans and enquiries that follow."""

from __future__ import annotations

import datetime as dt
import json

from d2i_helpers.demo.simulate.words import Weights
from d2i_helpers.demo.simulate.world import Child, Row, World, day_or_none, later

DEPTHS = ("nothing", "assessed", "plan", "protection", "care")  # how far a referral goes

_CLOSURES = Weights({"RC7": 70, "RC3": 5, "RC4": 4, "RC5": 8, "RC6": 8, "RC1": 1})
_AFTER_ASSESSMENT = Weights({"RC8": 65, "RC9": 35})
_SOURCES = Weights(
    {"6": 24, "1A": 8, "1B": 3, "1C": 1, "1D": 4, "2A": 17, "2B": 4, "3A": 4, "3B": 5, "3C": 1,
     "3D": 3, "3E": 6, "3F": 4, "4": 2, "5A": 5, "5B": 4, "5C": 4, "5D": 3, "7": 3, "8": 3,
     "9": 2, "10": 1}
)  # fmt: skip
_FACTOR_COUNTS = Weights({1: 20, 2: 25, 3: 22, 4: 14, 5: 9, 7: 5, 10: 3})
_ASSESSMENT_OUTCOMES = tuple(
    json.dumps({"NFA_FLAG": nothing, "CIN_PLAN_FLAG": plan, "STRATEGY_DISCUSSION_FLAG": "N"})
    for nothing, plan in ("YN", "NY", "NN")
)
_CONFERENCE_OUTCOMES = {
    plan: json.dumps({"NFA": "N", "CP_PLAN_FLAG": "Y" if plan else "N"}) for plan in (True, False)
}
_TRUE, _FALSE = ("Y", "Y", "1"), ("N", "N", "N", "0", None)
_ABUSE = ("NEG", "EMO", "PHY", "SEX", "MUL")
_NEEDS = Weights({f"N{n}": w for n, w in enumerate((1, 45, 8, 5, 12, 14, 4, 2, 3, 6))})
_OTHER_ROLES = ("IRO", "PA", "FSW", "CPC", "FOSTER SW")
_SENTENCES = (
    "Convene Initial Child Protection Conference",
    "No further action",
    "Strategy discussion to be held again",  # says neither yes nor no: unusable
)


def referral(
    world: World,
    child: Child,
    begun: dt.datetime | None,
    ended: dt.datetime | None,
    *,
    depth: str,
) -> str:
    """A referral row; ``ended`` None while it is open. Its id is returned."""
    draw = world.draw
    nothing = depth == "nothing"
    source = draw.weighted(_SOURCES)
    reason = None
    if ended:
        assessed = depth in ("nothing", "assessed")
        code = draw.weighted(_AFTER_ASSESSMENT if assessed else _CLOSURES)
        reason = world.coded("closure_reason", code, 100)
        if draw.chance(0.015):
            reason = draw.pick(("??", "RC10 - Other", "Case closed"))
    elif draw.chance(0.1):
        reason = ""  # Eclipse writes an empty text while a case is open
    key = world.next_id("R")
    stamp = dt.timedelta(minutes=draw.between(480, 1080)) if draw.chance(0.2) else dt.timedelta()
    world.add(
        "ssd_cin_episodes",
        cine_referral_id=key,
        cine_person_id=child.person_id,
        cine_referral_date=begun + stamp if begun else None,
        cine_cin_primary_need_code=draw.weighted(_NEEDS),
        cine_referral_source_code=world.coded("referral_source", source, 48)
        if not draw.chance(0.01)
        else draw.pick(("ZZ", "", None)),
        cine_referral_source_desc=world.codes.meaning("referral_source", source),
        cine_referral_outcome_json=json.dumps(
            {"NFA": "Y" if nothing else "N", "SINGLE_ASSESSMENT_FLAG": "N" if nothing else "Y",
             "STRATEGY_DISCUSSION_FLAG": "Y" if depth == "protection" else "N"}
        ),
        cine_referral_nfa=draw.pick(_TRUE if nothing else _FALSE),
        cine_close_reason=reason,
        cine_close_date=ended,
        cine_referral_team=world.team(),
        cine_referral_worker_id=world.worker(),
    )  # fmt: skip
    return key


def assessment(
    world: World,
    child: Child,
    referral_id: str,
    begun: dt.datetime,
    authorised: dt.datetime | None,
) -> Row:
    """An assessment, with its factors once it is authorised."""
    draw = world.draw
    key = world.next_id("A")
    row = world.add(
        "ssd_cin_assessments",
        cina_assessment_id=key,
        cina_person_id=child.person_id,
        cina_referral_id=referral_id,
        cina_assessment_start_date=begun,
        cina_assessment_child_seen=world.yes(0.96),
        cina_assessment_auth_date=authorised,
        cina_assessment_outcome_json=draw.pick(_ASSESSMENT_OUTCOMES),
        cina_assessment_outcome_nfa=world.yes(0.3),
        cina_assessment_team=world.team(),
        cina_assessment_worker_id=world.worker(),
    )
    if authorised or draw.chance(0.1):
        factors(world, key)
    return row


def factors(world: World, assessment_id: str) -> Row:
    """The factors of an assessment as JSON text, now and then in an older or broken shape."""
    return world.add(
        "ssd_assessment_factors",
        cinf_table_id=world.next_id("F"),
        cinf_assessment_id=assessment_id,
        cinf_assessment_factors_json=factors_json(world),
    )


def factors_json(world: World) -> str | None:
    """A list of factor codes as source systems store it.

    Mostly an array. Some are an object of yes and no, an array with nulls, a repeated code or a
    retired one (18A, 19A), null, or text that is not JSON.
    """
    draw = world.draw
    if draw.chance(0.06):
        return '["21"]'
    codes = draw.several(world.codes.of("assessment_factor"), draw.weighted(_FACTOR_COUNTS))
    codes = [code for code in codes if code != "21"] or ["4B"]
    shape = draw.between(1, 200)
    if shape <= 8:
        return json.dumps(dict.fromkeys(codes, "Yes"))
    if shape <= 14:
        return json.dumps([*codes, None, None])
    if shape <= 20:
        return json.dumps([*codes, codes[0]])
    if shape <= 24:
        return json.dumps([*codes, draw.pick(("18A", "19A"))])
    if shape <= 27:
        return draw.pick((None, "", "null"))
    if shape == 28:
        return json.dumps(codes)[:-1]  # the closing bracket is missing
    return json.dumps(codes)


def in_need_plan(
    world: World, child: Child, referral_id: str, begun: dt.datetime, ended: dt.datetime | None
) -> Row:
    """A child in need plan."""
    return world.add(
        "ssd_cin_plans",
        cinp_cin_plan_id=world.next_id("P"),
        cinp_referral_id=referral_id,
        cinp_person_id=child.person_id,
        cinp_cin_plan_start_date=begun,
        cinp_cin_plan_end_date=ended,
        cinp_cin_plan_team=world.team(),
        cinp_cin_plan_worker_id=world.worker(),
    )


def enquiry(
    world: World,
    child: Child,
    referral_id: str,
    begun: dt.datetime,
    *,
    conference: bool,
    plan: bool = False,
    plan_ended: dt.datetime | None = None,
    case_ended: dt.datetime | None = None,
) -> dt.datetime:
    """A section 47 enquiry, with the conference and protection plan that it may lead to.

    Args:
        conference: add one, unless it would lie after today or after the end of the case.

    Returns:
        The last day reached: the end of the enquiry, the conference or the start of the plan.
    """
    draw = world.draw
    key = world.next_id("S")
    ended = later(begun, draw.between(1, 14))
    held = later(begun, draw.between(8, 21))
    conference = conference and held <= (case_ended or world.today)
    world.add(
        "ssd_s47_enquiry",
        s47e_s47_enquiry_id=key,
        s47e_referral_id=referral_id,
        s47e_person_id=child.person_id,
        s47e_s47_start_date=begun,
        s47e_s47_end_date=day_or_none(world, ended),
        s47e_s47_nfa="N" if conference else world.yes(0.6),
        s47e_s47_outcome_json=_enquiry_outcome(world, conference),
        s47e_s47_completed_by_team=world.team(),
        s47e_s47_completed_by_worker_id=world.worker(),
    )
    if not conference:
        return ended
    _conference(world, child, referral_id, key, begun, held, plan, plan_ended)
    return held


def _enquiry_outcome(world: World, conference: bool) -> str | None:
    """Flags as SystemC or Eclipse store them, or a plain sentence as Mosaic does."""
    draw = world.draw
    shape = draw.between(1, 100)
    if shape <= 4:
        return draw.pick(_SENTENCES[1:]) if not conference else draw.pick(_SENTENCES[::2])
    if shape <= 6:
        return draw.pick((None, "", "{"))
    prefix = "OUTCOME_" if shape <= 16 else ""
    flags = {
        "NFA_FLAG": "N" if conference else "Y",
        "LEGAL_ACTION_FLAG": "N",
        "PROV_OF_SERVICES_FLAG": world.yes(0.3),
        "CP_CONFERENCE_FLAG": "Y" if conference else "N",
    }
    return json.dumps({prefix + name: flag for name, flag in flags.items()})


def _conference(
    world: World,
    child: Child,
    referral_id: str,
    enquiry_id: str,
    begun: dt.datetime,
    held: dt.datetime,
    plan: bool,
    plan_ended: dt.datetime | None,
) -> None:
    key = world.next_id("C")
    plan_id = world.next_id("K") if plan else None
    world.add(
        "ssd_initial_cp_conference",
        icpc_icpc_id=key,
        icpc_icpc_meeting_id=f"M{key[1:]}",
        icpc_s47_enquiry_id=enquiry_id,
        icpc_person_id=child.person_id,
        icpc_cp_plan_id=plan_id,
        icpc_referral_id=referral_id,
        icpc_icpc_transfer_in=world.yes(0.04),
        icpc_icpc_target_date=later(begun, 21),
        icpc_icpc_date=held,
        icpc_icpc_outcome_cp_flag="Y" if plan else "N",
        icpc_icpc_outcome_json=_CONFERENCE_OUTCOMES[plan],
        icpc_icpc_team=world.team(),
        icpc_icpc_worker_id=world.worker(),
    )
    if plan_id:
        protection_plan(world, child, referral_id, held, plan_ended, key, plan_id)


def protection_plan(
    world: World,
    child: Child,
    referral_id: str | None,
    begun: dt.datetime,
    ended: dt.datetime | None,
    conference_id: str | None = None,
    plan_id: str | None = None,
) -> Row:
    """A child protection plan."""
    category = world.draw.pick(_ABUSE)
    return world.add(
        "ssd_cp_plans",
        cppl_cp_plan_id=plan_id or world.next_id("K"),
        cppl_referral_id=referral_id,
        cppl_icpc_id=conference_id,
        cppl_person_id=child.person_id,
        cppl_cp_plan_start_date=begun,
        cppl_cp_plan_end_date=ended,
        cppl_cp_plan_ola=world.yes(0.03),
        cppl_cp_plan_initial_category=category,
        cppl_cp_plan_latest_category=world.draw.pick((category, category, *_ABUSE)),
    )


def workers(
    world: World, child: Child, referral_id: str, begun: dt.datetime, ended: dt.datetime | None
) -> None:
    """Case workers in turn while the case is open, and other professionals beside them."""
    draw = world.draw
    last = ended or world.today
    since = later(begun, draw.between(0, 6))
    spells = 0
    while since <= last and spells < 8:
        until = later(since, draw.between(60, 500))
        open_spell = until >= last
        finish = ended if open_spell else until
        role = "CW" if not draw.chance(0.04) else draw.pick((" cw", "CW ", "cw"))
        involvement(world, child, referral_id, role, since, finish)
        since = later(until, draw.between(0, 3))
        spells += 1
    if draw.chance(0.3):
        involvement(world, child, referral_id, draw.pick(_OTHER_ROLES), begun, ended)


def involvement(
    world: World,
    child: Child,
    referral_id: str,
    role: str,
    begun: dt.datetime,
    ended: dt.datetime | None,
) -> Row:
    """A professional's involvement with a child."""
    draw = world.draw
    return world.add(
        "ssd_involvements",
        invo_involvements_id=world.next_id("V"),
        invo_professional_id=draw.pick(world.professionals),
        invo_professional_role_id=role,
        invo_professional_team=world.team(),
        invo_person_id=child.person_id,
        invo_involvement_start_date=begun,
        invo_involvement_end_date=ended,
        invo_worker_change_reason=draw.pick(("WORKER LEFT", "TEAM CHANGE", "REALLOCATED"))
        if ended
        else None,
        invo_referral_id=referral_id,
    )
