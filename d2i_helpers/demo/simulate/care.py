"""Fictional children in care as SSD rows: periods of care, placements, adoption, leaving care."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from d2i_helpers.demo.simulate.words import Weights, postcode, postcode_as_stored
from d2i_helpers.demo.simulate.world import Child, Row, World, day_or_none, later

_YOUNGER = Weights({"U6": 40, "U4": 18, "U3": 10, "U1": 6, "K2": 12, "P1": 5, "R1": 2, "R3": 2,
                    "R2": 1, "S1": 1, "T0": 1})  # fmt: skip
_OLDER = Weights({"U6": 20, "U4": 10, "U3": 6, "K2": 20, "K3": 14, "K1": 1, "H5": 6, "P2": 6,
                  "R5": 1, "P3": 1, "Z1": 3, "Z11": 1, "T1": 1})  # fmt: skip
_RETIRED_TYPES = ("F2", "H5a", "Q1", "DQ")
_MOVES = Weights({"P": 70, "B": 8, "T": 10, "U": 4})  # why the first episode of a new place began
_CHANGES = Weights({"CARPL": 55, "CREQB": 12, "CREQO": 6, "CHILD": 5, "LAREQ": 6, "CLOSE": 4,
                    "STAND": 2, "ALLEG": 2, "APPRR": 1, "PLACE": 2, "CUSTOD": 1,
                    "OTHER": 4})  # fmt: skip
_ENDS = Weights({"E4A": 40, "E4B": 8, "E41": 6, "E45": 10, "E46": 2, "E13": 3, "E8": 10, "E3": 2,
                 "E9": 1, "E16": 1})  # fmt: skip
_ADULT_ENDS = Weights({"E5": 35, "E6": 20, "E17": 25, "E7": 5, "E15": 2, "E8": 13})
_CARE_NEEDS = Weights({f"N{n}": w for n, w in enumerate((55, 4, 4, 8, 16, 2, 1, 8), start=1)})
_ACTIVITIES = Weights({"F1": 5, "F2": 22, "F4": 6, "F5": 22, "P1": 1, "P2": 4, "P4": 1, "P5": 5,
                       "G4": 8, "G5": 20, "G6": 6})  # fmt: skip
_HOMES = Weights({"B": 12, "C": 3, "D": 16, "E": 8, "K": 4, "R": 3, "S": 2, "T": 2, "U": 30, "V": 2,
                  "W": 1, "X": 3, "Y": 2, "Z": 12})  # fmt: skip
_ADOPTERS = ("MM", "FF", "MF", "M1", "F1")


@dataclass
class Stay:
    """One placement while it is made."""

    row: Row
    begun: dt.datetime
    ended: dt.datetime | None


def period_of_care(
    world: World,
    child: Child,
    referral_id: str | None,
    begun: dt.datetime,
    ended: dt.datetime | None,
    *,
    adoption: bool = False,
    uasc: bool = False,
) -> str:
    """Add a period of care: its placements and episodes from one day to another; return its id.

    The first episode starts with S. A move ends one episode with X1 and starts the next with P (or
    B, T, U) in a new placement; a change of legal status does so with L in the same one. Only the
    last episode of an ended period has another reason (SSDA903 episodes and reasons).
    """
    draw = world.draw
    care_id = world.next_id("Y")
    last_day = ended or world.today
    moves = _moves(world, begun, last_day)
    grown = child.dob is not None and world.age(child.dob, last_day) >= 18
    closing = "E11" if adoption else draw.weighted(_ADULT_ENDS if grown else _ENDS)
    need = "N8" if uasc else draw.weighted(_CARE_NEEDS)
    reason = "S"
    for at, since in enumerate(moves):
        final = at == len(moves) - 1
        until = ended if final else moves[at + 1]
        kind = ("A5", "A6")[at % 2] if adoption and final and at else _kind(world, child, since)
        stay = placement(world, child, care_id, since, until, kind, moved=not final)
        closes = closing if final and ended else "X1"
        _episodes(world, child, referral_id, stay, (reason, closes), need, moves[0])
        reason = draw.weighted(_MOVES)
    return care_id


def _moves(world: World, begun: dt.datetime, last_day: dt.datetime) -> list[dt.datetime]:
    """First days of the placements: the start of care, then each move, months to years apart."""
    days = [begun]
    while len(days) < 9:
        following = later(days[-1], world.draw.between(10, 700))
        if following >= last_day or world.draw.chance(0.12):
            break
        days.append(following)
    return days


def _kind(world: World, child: Child, on: dt.datetime) -> str:
    older = child.dob is not None and world.age(child.dob, on) >= 16
    return world.draw.weighted(_OLDER if older else _YOUNGER)


def placement(
    world: World,
    child: Child,
    care_id: str,
    begun: dt.datetime,
    ended: dt.datetime | None,
    kind: str | None = None,
    *,
    moved: bool = False,
) -> Stay:
    """A placement; ``moved``: it ended because the child moved to another."""
    draw = world.draw
    stored = world.coded("placement_type", kind or _kind(world, child, begun), 100)
    if draw.chance(0.01):
        stored = draw.pick(_RETIRED_TYPES)
    where = postcode_as_stored(draw, postcode(draw), 8)
    change = world.coded("placement_change_reason", draw.weighted(_CHANGES), 100) if moved else None
    row = world.add(
        "ssd_cla_placement",
        clap_cla_placement_id=world.next_id("Q"),
        clap_cla_id=care_id,
        clap_person_id=child.person_id,
        clap_cla_placement_start_date=begun,
        clap_cla_placement_type=stored,
        clap_cla_placement_urn=f"SC{draw.between(9_900_000, 9_999_999)}"
        if draw.chance(0.8)
        else "XXXXXX",
        clap_cla_placement_distance=round(draw.between(0, 900) / 10, 1),
        clap_cla_placement_provider=f"PR{draw.between(0, 5)}",
        clap_cla_placement_postcode=where if draw.chance(0.96) else None,
        clap_cla_placement_end_date=_end_as_stored(world, begun, ended),
        clap_cla_placement_change_reason=change,
    )
    return Stay(row, begun, ended)


def _end_as_stored(
    world: World, begun: dt.datetime, ended: dt.datetime | None
) -> dt.datetime | None:
    """The end as stored: one in three hundred lies before the start, which no receiver can use."""
    return later(begun, -5) if ended and world.draw.chance(0.003) else ended


def _episodes(
    world: World,
    child: Child,
    referral_id: str | None,
    stay: Stay,
    reasons: tuple[str, str],
    need: str,
    entered: dt.datetime,
) -> None:
    """The episodes of care in one placement: two where the legal status changed in it."""
    draw = world.draw
    last = stay.ended or world.today
    cuts: list[tuple[dt.datetime, str]] = [(stay.begun, reasons[0])]
    if (last - stay.begun).days > 60 and draw.chance(0.25):
        cuts.append((later(stay.begun, draw.between(20, (last - stay.begun).days - 20)), "L"))
    for at, (since, reason) in enumerate(cuts):
        final = at == len(cuts) - 1
        until = stay.ended if final else cuts[at + 1][0]
        ceased = (reasons[1] if final else "X1") if until else None
        start, end = (since, reason), (until, ceased)
        care_episode(world, child, referral_id, stay.row, start, end, need, entered)


def care_episode(
    world: World,
    child: Child,
    referral_id: str | None,
    place: Row,
    start: tuple[dt.datetime, str],
    end: tuple[dt.datetime | None, str | None],
    need: str | None,
    entered: dt.datetime | None,
) -> Row:
    """An episode of care in a placement; start and end are a day and a reason each."""
    draw = world.draw
    start_reason = world.coded("placement_start_reason", start[1], 100)
    ceased = world.coded("placement_end_reason", end[1], 255) if end[1] else None
    if ceased and draw.chance(0.01):
        ceased = draw.pick(("??", "E99 - Other", "X1 "))
    return world.add(
        "ssd_cla_episodes",
        clae_cla_episode_id=world.next_id("E"),
        clae_person_id=child.person_id,
        clae_cla_placement_id=place["clap_cla_placement_id"],
        clae_cla_episode_start_date=start[0],
        clae_cla_episode_start_reason=start_reason,
        clae_cla_primary_need_code=need,
        clae_cla_episode_ceased_date=end[0],
        clae_cla_episode_ceased_reason=ceased,
        clae_cla_id=place["clap_cla_id"],
        clae_referral_id=referral_id,
        clae_cla_last_iro_contact_date=later(end[0] or world.today, -draw.between(1, 120)),
        clae_entered_care_date=entered,
    )


def permanence(
    world: World,
    child: Child,
    care_id: str,
    decided: dt.datetime,
    *,
    by_period_only: bool = False,
) -> Row:
    """A plan for adoption, as far as it has come by today.

    Args:
        by_period_only: store the former id in place of the person id, as SystemC does, so that
            only the period of care leads to the child.
    """
    draw = world.draw
    matched = day_or_none(world, later(decided, draw.between(40, 250)))
    if draw.chance(0.25):
        matched = None  # no adopters were found
    placed = day_or_none(world, later(matched, draw.between(10, 60))) if matched else None
    order = day_or_none(world, later(placed, draw.between(120, 400))) if placed else None
    given_up = later(decided, draw.between(30, 300)) if matched is None else None
    reversed_on = day_or_none(world, given_up) if given_up and draw.chance(0.8) else None
    early = later(decided, -30) if draw.chance(0.25) else None
    return world.add(
        "ssd_permanence",
        perm_table_id=world.next_id("T"),
        perm_person_id=f"L{child.person_id}" if by_period_only else child.person_id,
        perm_cla_id=care_id,
        perm_adm_decision_date=decided,
        perm_part_of_sibling_group=draw.pick(("0", "1")),
        perm_siblings_placed_together=draw.between(0, 2),
        perm_siblings_placed_apart=draw.between(0, 1),
        perm_ffa_cp_decision_date=early,
        perm_placement_order_date=later(decided, 25) if matched else None,
        perm_matched_date=matched,
        perm_adopter_sex=draw.pick(_ADOPTERS) if matched else None,
        perm_adopter_legal_status=draw.pick(("L0", "L11", "L12", "L2")) if matched else None,
        perm_number_of_adopters=draw.between(1, 2) if matched else None,
        perm_placed_for_adoption_date=placed,
        perm_adopted_by_carer_flag=world.yes(0.15) if placed else None,
        perm_placed_foster_carer_date=placed if placed and draw.chance(0.3) else None,
        perm_placed_ffa_cp_date=early,
        perm_placement_provider_urn=f"SC{draw.between(9_900_000, 9_999_999)}" if placed else None,
        perm_decision_reversed_date=reversed_on,
        perm_decision_reversed_reason=f"RD{draw.between(1, 4)}" if reversed_on else None,
        perm_permanence_order_date=order,
        perm_permanence_order_type="Adoption order" if order else None,
        perm_adoption_worker_id=world.worker(),
    )


def care_leaver(world: World, child: Child, contact: dt.datetime | None) -> Row:
    """A care leaver's latest contact, activity and home."""
    draw = world.draw
    activity = world.coded("care_leaver_activity", draw.weighted(_ACTIVITIES), 100)
    if draw.chance(0.02):
        activity = draw.pick(("F3", "P3", "Working"))
    return world.add(
        "ssd_care_leavers",
        clea_table_id=world.next_id("Z"),
        clea_person_id=child.person_id,
        clea_care_leaver_eligibility=draw.pick(("Eligible", "Relevant child", "Former relevant")),
        clea_care_leaver_in_touch=draw.pick(("YES", "YES", "YES", "NO", "REFU")),
        clea_care_leaver_latest_contact=contact,
        clea_care_leaver_accommodation=world.coded(
            "care_leaver_accommodation", draw.weighted(_HOMES), 100
        ),
        clea_care_leaver_accom_suitable=draw.pick(("1", "1", "1", "2")),
        clea_care_leaver_activity=activity,
        clea_pathway_plan_review_date=later(world.today, -draw.between(1, 300))
        if not draw.chance(0.05)
        else dt.datetime(1900, 1, 1),  # SystemC writes this for "no date"
        clea_care_leaver_personal_advisor=draw.pick(world.professionals),
        clea_care_leaver_allocated_team=world.team(),
        clea_care_leaver_worker_id=world.worker(),
    )
