"""The changes that a day may bring to a document where there is no SSD, one function each.

Each function changes the document in place and returns True, or returns False and leaves it as it
is. Documents stay such as may be sent.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from d2i_helpers.demo.simulate.words import Draw, Names, postcode, upn
from d2i_helpers.payload_spec import PURGE, Block, Document, Spec

EPISODES, DETAILS, HEALTH = "social_care_episodes", "child_details", "health_and_wellbeing"
MARK = "SIM"  # begins the ids of what was made up, so that it can be found again


@dataclass
class Day:
    """What all changes of one day share."""

    spec: Spec
    draw: Draw
    names: Names
    today: dt.date
    number: int  # of the day
    made: int = field(default=0)  # ids given so far

    def next_id(self) -> str:
        """An id that no other day and no other item has."""
        self.made += 1
        return f"{MARK}{self.number:05d}{self.made:06d}"

    def recent_day(self) -> str:
        """Today or one of the three days before."""
        return str(self.today - dt.timedelta(days=self.draw.between(0, 3)))

    def code(self, block: str, name: str, but: Any = None) -> str | None:
        """A code of a field's list, not the given one; None where the field has none."""
        found = next((f for f in self.spec.blocks[block].fields if f.name == name), None)
        known = [
            code for code in (found.codes.codes if found and found.codes else ()) if code != but
        ]
        return self.draw.pick(known) if known else None


def _episodes(document: Document, *, is_open: bool) -> list[Document]:
    held = document.get(EPISODES) or []
    return [each for each in held if ("closure_date" not in each) is is_open]


def close_case(day: Day, document: Document) -> bool:
    """Close an open referral with its plans."""
    cases = _episodes(document, is_open=True)
    if not cases:
        return False
    ended = day.recent_day()
    case = day.draw.pick(cases)
    case["closure_date"] = max(ended, case.get("referral_date") or "")
    if code := day.code(EPISODES, "closure_reason"):
        case["closure_reason"] = code
    for name in ("child_in_need_plans", "child_protection_plans"):
        for plan in case.get(name) or ():
            if "end_date" not in plan:
                plan["end_date"] = max(ended, plan.get("start_date") or "")
    return True


def reopen_case(day: Day, document: Document) -> bool:
    """Open a closed referral again."""
    cases = _episodes(document, is_open=False)
    if not cases:
        return False
    case = day.draw.pick(cases)
    case.pop("closure_date")
    case.pop("closure_reason", None)
    return True


def start_plan(day: Day, document: Document) -> bool:
    """Begin a child in need plan in an open referral."""
    cases = _episodes(document, is_open=True)
    block = day.spec.blocks.get("child_in_need_plans")
    if not cases or block is None or block.key is None:
        return False
    case = day.draw.pick(cases)
    start = max(day.recent_day(), case.get("referral_date") or "")
    plan = {block.key: day.next_id(), "start_date": start, PURGE: False}
    case.setdefault(block.name, []).append(plan)
    return True


def delete_item(day: Day, document: Document) -> bool:
    """Take out a plan, an assessment, an enquiry or a placement that was entered by mistake."""
    held = [
        (case, block.name)
        for case in document.get(EPISODES) or ()
        for block in day.spec.blocks[EPISODES].blocks
        if block.kind == "list" and case.get(block.name)
    ]
    if not held:
        return False
    case, name = day.draw.pick(held)
    case[name].remove(day.draw.pick(case[name]))
    if not case[name]:
        del case[name]
    return True


def correct_start(day: Day, document: Document) -> bool:
    """Move the start of something by a few days into the past."""
    dated = [item for item in _items(document) if item.get("start_date")]
    if not dated:
        return False
    item = day.draw.pick(dated)
    start = dt.date.fromisoformat(item["start_date"])
    item["start_date"] = str(start - dt.timedelta(days=day.draw.between(1, 4)))
    return True


def _items(document: Document) -> Iterator[Document]:
    """Every item of every list in the referrals."""
    for case in document.get(EPISODES) or ():
        for held in case.values():
            if isinstance(held, list):
                yield from (item for item in held if isinstance(item, dict))


def change_factors(day: Day, document: Document) -> bool:
    """Add a factor to an assessment."""
    for item in _items(document):
        held, code = item.get("factors"), day.code("child_and_family_assessments", "factors", "21")
        if isinstance(held, list) and code and code not in held and len(held) < 20:
            item["factors"] = sorted({*held, code} - {"21"})
            return True
    return False


def add_questionnaire(day: Day, document: Document) -> bool:
    """Add a questionnaire (SDQ)."""
    if "sdq_assessments" not in day.spec.blocks:
        return False
    new = {"date": day.recent_day(), "score": day.draw.between(0, 40)}
    health = document.setdefault(HEALTH, {PURGE: False})
    health.setdefault("sdq_assessments", []).append(new)
    return True


def correct_name(day: Day, document: Document) -> bool:
    """Give the child another family name."""
    details = document.get(DETAILS) or {}
    surname = day.names.last(day.draw)
    if details.get("surname") in (None, surname):
        return False
    details["surname"] = surname
    return True


def move_house(day: Day, document: Document) -> bool:
    """Give the child another postcode."""
    details = document.get(DETAILS) or {}
    if "postcode" not in details:
        return False
    details["postcode"] = postcode(day.draw)
    return True


def find_pupil_number(day: Day, document: Document) -> bool:
    """Give a pupil number in place of the reason for having none."""
    details = document.get(DETAILS) or {}
    if details.pop("unique_pupil_number_unknown_reason", None) is None:
        return False
    details["unique_pupil_number"] = upn(day.draw)
    return True


def correct_ethnicity(day: Day, document: Document) -> bool:
    """Correct the ethnic group."""
    details = document.get(DETAILS) or {}
    code = day.code(DETAILS, "ethnicity", details.get("ethnicity"))
    if code is None:
        return False
    details["ethnicity"] = code
    return True


def another_child(day: Day, document: Document) -> Document:
    """A new child who looks like this one: other ids, names, numbers, and days a little earlier."""
    made = copy.deepcopy(document)
    shift = day.draw.between(1, 60)

    def renew(block: Block, held: Document) -> None:
        for each in block.fields:
            value = held.get(each.name)
            if value is None:
                continue
            if each.name == block.key or each.anonymise in ("child_id", "item_id"):
                held[each.name] = day.next_id()
            elif each.type == "date":
                moved = dt.date.fromisoformat(value) - dt.timedelta(days=shift)
                held[each.name] = str(moved)
            elif each.anonymise == "upn":
                held[each.name] = upn(day.draw)
            elif each.anonymise == "postcode":
                held[each.name] = postcode(day.draw)
            elif each.anonymise == "first_name":
                held[each.name] = day.names.first(day.draw, str(held.get("sex", "U")))
            elif each.anonymise == "surname":
                held[each.name] = day.names.last(day.draw)
        for inner in (*block.values, *block.blocks):
            inside = held.get(inner.name)
            for item in inside if isinstance(inside, list) else [inside] if inside else ():
                renew(inner, item)

    renew(day.spec.root, made)
    return made


def in_order(block: Block, held: Document) -> None:
    """Put the lists of a document into the order in which extract writes them."""
    for inner in (*block.values, *block.blocks):
        inside = held.get(inner.name)
        for item in inside if isinstance(inside, list) else [inside] if inside else ():
            in_order(inner, item)
        if isinstance(inside, list):
            held[inner.name] = inner.sorted_items(inside)


# For each change, the share of all children whom it meets in a day; each happens at least once.
Change = Callable[[Day, Document], bool]
CHANGES: dict[str, tuple[Change, float]] = {
    "cases closed": (close_case, 0.003),
    "cases reopened": (reopen_case, 0.001),
    "plans added": (start_plan, 0.0025),
    "items deleted": (delete_item, 0.001),
    "dates corrected": (correct_start, 0.0015),
    "factors changed": (change_factors, 0.0015),
    "questionnaires added": (add_questionnaire, 0.0015),
    "names corrected": (correct_name, 0.001),
    "postcodes changed": (move_house, 0.0025),
    "pupil numbers found": (find_pupil_number, 0.001),
    "ethnic groups corrected": (correct_ethnicity, 0.001),
}
NEW_CHILDREN, LEAVERS, BACK = 0.004, 0.001, 0.001
