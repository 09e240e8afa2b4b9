"""Fictional families: which story each child has, so that a fictional SSD looks like a real one.

About three quarters of the children are in the cohort (docs/cohort.md); the others are out, each
for a reason that the rules know: too old, closed long ago, not yet due, undated, never referred.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from d2i_helpers.demo.simulate import care, cases, people
from d2i_helpers.demo.simulate.words import Weights
from d2i_helpers.demo.simulate.world import Child, Family, World, day_or_none, later

YEAR = 365.25
_SIZES = Weights({1: 55, 2: 27, 3: 12, 4: 5, 6: 1})
Story = Callable[[World, Family, dt.datetime], None]


def add_family(world: World, room: int) -> int:
    """Add a family of at most ``room`` children with all their rows; return how many."""
    draw = world.draw
    home = people.family(world)
    # brothers and sisters are mostly referred together
    referred = draw.date(world.window_start, later(world.today, -2))
    story = draw.weighted(_STORIES)
    size = 1 if story in _ALONE else min(room, draw.weighted(_SIZES))
    for _ in range(size):
        story(world, home, referred)
        if draw.chance(0.35):
            referred = draw.date(world.window_start, later(world.today, -2))
        if draw.chance(0.4):
            story = draw.weighted(_TOGETHER)
    return size


def add_new_child(world: World) -> None:
    """Add a child referred in the last few days, born or not yet registered, with an open case."""
    home = people.family(world)
    referred = later(world.today, -world.draw.between(0, 3))
    child = _child(world, home, 0.1, 17, referred)
    key = cases.referral(world, child, referred, None, depth="assessed")
    cases.assessment(world, child, key, world.today, None)
    cases.workers(world, child, key, referred, None)


def add_open_case(world: World) -> None:
    """Add a child with an open case and a plan, alone in its family."""
    _case(world, people.family(world), later(world.today, -200), "plan", still_open=1.0)


# --------------------------------------------------------------------------------- a child, a case
def _child(
    world: World, home: Family, youngest: float, oldest: float, seen: dt.datetime, **more: Any
) -> Child:
    """A child whose age today lies in the range (years), born by the day it was first seen."""
    days = world.draw.between(int(youngest * YEAR), int(oldest * YEAR))
    dob = min(later(world.today, -days), seen)
    return people.person(world, home, dob, **more)


def _close(world: World, begun: dt.datetime, still_open: float, days: tuple[int, int]) -> _Day:
    """The day on which a case closed; None while it is open."""
    if world.draw.chance(still_open):
        return None
    return day_or_none(world, later(begun, world.draw.between(*days)))


_Day = dt.datetime | None


def _case(
    world: World, home: Family, referred: dt.datetime, depth: str, *, still_open: float
) -> None:
    """A child with a referral that reaches ``depth``, and perhaps an earlier, closed one."""
    draw = world.draw
    child = _child(world, home, 0.05, 17.4, referred)
    if child.dob and draw.chance(0.3):
        _earlier(world, child, referred)
    _episode(world, child, referred, depth, still_open)
    if draw.chance(0.06):
        people.questionnaires(world, child, world.window_start, world.today)


def _earlier(world: World, child: Child, before: dt.datetime) -> None:
    """Perhaps an earlier, closed referral, where the child was born by then."""
    draw = world.draw
    begun = later(before, -draw.between(120, 1600))
    if child.dob is None or begun < child.dob:
        return
    ended = min(later(begun, draw.between(20, 300)), later(before, -14))
    depth = draw.pick(("nothing", "assessed", "plan"))
    _follow(world, child, begun, ended, depth)


def _episode(
    world: World, child: Child, referred: dt.datetime, depth: str, still_open: float
) -> None:
    draw = world.draw
    if depth == "nothing":
        ended = day_or_none(world, later(referred, draw.between(0, 10)))
    elif depth == "assessed":
        ended = _close(world, referred, still_open, (35, 90))
    else:
        ended = _close(world, referred, still_open, (100, 600))
    _follow(world, child, referred, ended, depth)


def _follow(
    world: World, child: Child, begun: dt.datetime, ended: _Day, depth: str
) -> tuple[str, dt.datetime]:
    """Add a referral and what follows from it; return its id and the day of the assessment."""
    draw = world.draw
    key = cases.referral(world, child, begun, ended, depth=depth)
    if depth == "nothing":
        return key, begun
    last = ended or world.today
    start = min(later(begun, draw.between(0, 8)), last)
    done = later(start, draw.between(12, 55))
    if ended:
        done = min(done, ended)
    cases.assessment(world, child, key, start, day_or_none(world, done))
    if (last - done).days > 250 and draw.chance(0.5):
        again = later(done, draw.between(100, 240))
        reviewed = min(later(again, 40), ended) if ended else later(again, 40)
        cases.assessment(world, child, key, again, day_or_none(world, reviewed))
    if draw.chance(0.97):
        cases.workers(world, child, key, begun, ended)
    if depth == "protection":
        done = _protect(world, child, key, begun, ended)
    elif draw.chance(0.06):
        opened = min(later(begun, draw.between(0, 5)), last)
        cases.enquiry(world, child, key, opened, conference=False)
    if depth in ("plan", "protection", "care") and done <= last:
        _plans(world, child, key, done, ended)
    return key, done


def _plans(world: World, child: Child, key: str, since: dt.datetime, ended: _Day) -> None:
    """A child in need plan until the case closes; for some children two in turn."""
    draw = world.draw
    last = ended or world.today
    if (last - since).days > 200 and draw.chance(0.2):
        middle = later(since, draw.between(60, 150))
        cases.in_need_plan(world, child, key, since, middle)
        since = later(middle, draw.between(5, 40))
    cases.in_need_plan(world, child, key, since, ended if not draw.chance(0.02) else last)


def _protect(world: World, child: Child, key: str, begun: dt.datetime, ended: _Day) -> dt.datetime:
    """Add an enquiry with conference and plan; return the day its child in need plan can start."""
    draw = world.draw
    last = ended or world.today
    opened = min(later(begun, draw.between(0, 25)), last)
    over = later(opened, draw.between(90, 420))
    plan_ended = over if over <= last else ended
    held = cases.enquiry(
        world, child, key, opened,
        conference=draw.chance(0.93), plan=draw.chance(0.9), plan_ended=plan_ended,
        case_ended=ended,
    )  # fmt: skip
    return plan_ended or (held if draw.chance(0.3) else later(last, 1))


# ----------------------------------------------------------------------------- in the cohort
def _no_further_action(world: World, home: Family, referred: dt.datetime) -> None:
    _case(world, home, referred, "nothing", still_open=0)


def _assessed(world: World, home: Family, referred: dt.datetime) -> None:
    _case(world, home, referred, "assessed", still_open=0.1)


def _in_need(world: World, home: Family, referred: dt.datetime) -> None:
    _case(world, home, referred, "plan", still_open=0.5)


def _protected(world: World, home: Family, referred: dt.datetime) -> None:
    _case(world, home, referred, "protection", still_open=0.5)


def _long_open(world: World, home: Family, _: dt.datetime) -> None:
    """A disabled child whose case has been open since long before the window."""
    child = _child(world, home, 4, 17.5, later(world.window_start, -900))
    if world.draw.chance(0.5):
        people.disabilities(world, child, 3)
    begun = world.draw.date(later(world.window_start, -900), world.window_start)
    _follow(world, child, max(begun, child.dob or begun), None, "plan")


def _looked_after(world: World, home: Family, referred: dt.datetime) -> None:
    draw = world.draw
    begun = later(referred, -draw.between(0, 900))
    child = _child(world, home, 0.2, 17.6, begun)
    _in_care(world, child, max(begun, child.dob or begun))
    if draw.chance(0.8) and child.dob:
        first = max(world.window_start, later(child.dob, int(4 * YEAR)))
        people.questionnaires(world, child, first, world.today)


def _in_care(world: World, child: Child, begun: dt.datetime, *, uasc: bool = False) -> None:
    """A period of care that began soon after the referral; one in ten had one before it."""
    draw = world.draw
    leaving = _close(world, begun, 0.6, (150, 900))
    grown = later(child.dob, int(18 * YEAR)) if child.dob else None
    if grown and grown <= world.today and (leaving is None or leaving > grown):
        leaving = grown
    key, _ = _follow(world, child, begun, None if leaving is None else leaving, "care")
    entered = later(begun, draw.between(0, 60))
    if leaving:
        entered = min(entered, leaving)
    entered = min(entered, world.today)
    if not uasc and (entered - begun).days > 30 and draw.chance(0.2):
        care.period_of_care(world, child, key, begun, later(begun, 20))
    care.period_of_care(world, child, key, entered, leaving, uasc=uasc)


def _adopted(world: World, home: Family, referred: dt.datetime) -> None:
    draw = world.draw
    decided = draw.date(world.window_start, later(world.today, -30))
    begun = later(decided, -draw.between(150, 500))
    child = _child(world, home, 0.9, 6, begun)
    begun = max(begun, child.dob or begun)
    ended = day_or_none(world, later(decided, draw.between(500, 900)))
    key, _ = _follow(world, child, begun, ended, "care")
    care_id = care.period_of_care(world, child, key, begun, ended, adoption=True)
    care.permanence(world, child, care_id, decided, by_period_only=draw.chance(0.15))
    if draw.chance(0.1):
        care.permanence(world, child, care_id, later(decided, -200))


def _leaving_care(world: World, home: Family, _: dt.datetime) -> None:
    """A care leaver of 17 to 24, in touch in the window, most with an open case."""
    draw = world.draw
    begun = later(world.today, -draw.between(400, 2600))
    child = _child(world, home, 17.5, 24.9, begun)
    grown = later(child.dob or begun, int(18 * YEAR))
    left_care = day_or_none(world, grown)
    open_case = draw.chance(0.85)
    ended = None if open_case else day_or_none(world, later(max(grown, world.window_start), 60))
    if begun >= grown:
        begun = later(grown, -draw.between(100, 900))
    key, _ = _follow(world, child, begun, ended, "care" if draw.chance(0.3) else "assessed")
    care.period_of_care(world, child, key, begun, left_care)
    contact = draw.date(world.window_start, world.today) if draw.chance(0.95) else None
    care.care_leaver(world, child, contact)
    if draw.chance(0.1):
        care.care_leaver(world, child, later(world.window_start, -draw.between(10, 300)))


def _alone_in_country(world: World, home: Family, referred: dt.datetime) -> None:
    child = _child(world, home, 14, 18.4, referred, uasc=True)
    people.unaccompanied(world, child)
    _in_care(world, child, referred, uasc=True)


def _unborn_overdue(world: World, home: Family, _: dt.datetime) -> None:
    """Due in the last few weeks and not yet registered: the due date lies in the window."""
    due = later(world.today, -world.draw.between(0, 25))
    child = people.person(world, home, None, expected=due)
    _follow(world, child, later(due, -world.draw.between(40, 120)), None, "protection")


def _plan_only(world: World, home: Family, _: dt.datetime) -> None:
    """A referral closed before the window, whose plan was never ended: in through the plan."""
    child, key, _ = _closed_before(world, home)
    cases.in_need_plan(world, child, key, later(world.window_start, -300), None)


def _placement_only(world: World, home: Family, _: dt.datetime) -> None:
    """In care without a referral that the system can name: in through the placement."""
    begun = world.draw.date(later(world.window_start, -500), later(world.today, -30))
    child = _child(world, home, 1, 17, begun)
    care.period_of_care(world, child, None, begun, None)


def _waiting(world: World, home: Family, referred: dt.datetime) -> None:
    """Referred, nothing done yet; a few without a referral date."""
    draw = world.draw
    child = _child(world, home, 0.1, 17, referred)
    begun = None if draw.chance(0.25) else later(world.today, -draw.between(0, 30))
    cases.referral(world, child, begun, None, depth="assessed")


# ------------------------------------------------------------------------------- out of the cohort
def _closed_before(world: World, home: Family) -> tuple[Child, str, dt.datetime]:
    draw = world.draw
    ended = later(world.window_start, -draw.between(30, 1500))
    begun = later(ended, -draw.between(40, 500))
    child = _child(world, home, 5, 25.5, begun)
    key, _ = _follow(world, child, begun, ended, draw.pick(cases.DEPTHS[:4]))
    return child, key, ended


def _closed_long_ago(world: World, home: Family, _: dt.datetime) -> None:
    _closed_before(world, home)


def _too_old(world: World, home: Family, referred: dt.datetime) -> None:
    """Aged 26 before the window began, whatever else is recorded."""
    youngest = 26.1 + (world.today - world.window_start).days / YEAR
    child = _child(world, home, youngest, youngest + 9, referred)
    if world.draw.chance(0.3):
        _follow(world, child, referred, None, "assessed")
    else:
        begun = later(child.dob or referred, int(14 * YEAR))
        _follow(world, child, begun, later(begun, 300), "plan")


def _not_yet_due(world: World, home: Family, _: dt.datetime) -> None:
    """Due after tomorrow; one in five with the due date also as birth date, as Eclipse has it."""
    draw = world.draw
    due = later(world.today, draw.between(5, 150))
    child = people.person(world, home, due if draw.chance(0.2) else None, expected=due)
    _follow(world, child, later(world.today, -draw.between(1, 60)), None, "plan")


def _undated(world: World, home: Family, referred: dt.datetime) -> None:
    child = people.person(world, home, None)
    _follow(world, child, referred, None, "assessed")


def _never_referred(world: World, home: Family, _: dt.datetime) -> None:
    """A brother, sister or young parent who is on the system because of somebody else."""
    mother = world.draw.chance(0.3)
    youngest, oldest = (17, 25.5) if mother else (1, 17)
    _child(world, home, youngest, oldest, world.today, mother=mother)


def _protection_only(world: World, home: Family, _: dt.datetime) -> None:
    """Nothing in the window but a protection plan, which alone does not count."""
    child, key, ended = _closed_before(world, home)
    cases.protection_plan(world, child, key, ended, None)


_TOGETHER: Weights[Story] = Weights(
    {_no_further_action: 9, _assessed: 17, _in_need: 18, _protected: 11, _looked_after: 8,
     _waiting: 2, _closed_long_ago: 11, _never_referred: 6, _too_old: 3}
)  # fmt: skip
_STORIES: Weights[Story] = Weights(
    {_no_further_action: 8, _assessed: 15, _in_need: 16, _protected: 9, _long_open: 3,
     _looked_after: 9, _adopted: 3.5, _leaving_care: 6, _alone_in_country: 2.5, _unborn_overdue: 2,
     _plan_only: 0.8, _placement_only: 0.6, _waiting: 2.5, _closed_long_ago: 10, _too_old: 5,
     _not_yet_due: 1.5, _undated: 0.7, _never_referred: 5, _protection_only: 0.6}
)  # fmt: skip
_ALONE = {_adopted, _leaving_care, _alone_in_country, _unborn_overdue, _placement_only, _waiting,
          _too_old, _not_yet_due, _undated}  # fmt: skip
