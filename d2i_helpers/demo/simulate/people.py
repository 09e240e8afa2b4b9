"""Fictional people as SSD rows: the person and the rows that belong to the person."""

from __future__ import annotations

import datetime as dt

from d2i_helpers.demo.simulate.words import (
    Draw,
    Weights,
    nhs_like_number,
    postcode,
    postcode_as_stored,
    upn,
)
from d2i_helpers.demo.simulate.world import Child, Family, Row, World

_ETHNICITIES = Weights(
    {"WBRI": 55, "WOTH": 7, "WIRI": 1, "WIRT": 0.5, "WROM": 1, "MWBC": 4, "MWBA": 3, "MWAS": 3,
     "MOTH": 4, "AIND": 2, "APKN": 4, "ABAN": 2, "CHNE": 1, "AOTH": 3, "BCRB": 3, "BAFR": 5,
     "BOTH": 2, "OOTH": 2, "REFU": 0.5, "NOBT": 2}
)  # fmt: skip
_UNUSABLE_ETHNICITIES = ("??", "ORAB", "White", "CNHE", "MWBa")  # the last two can be mended
_DISABILITIES = Weights({"LD": 6, "AUT": 8, "BEH": 4, "COMM": 4, "MOB": 3, "PC": 2, "INC": 1,
                         "HAND": 1, "HEAR": 1, "VIS": 1, "CON": 1, "DDA": 2})  # fmt: skip
_IMMIGRATION = ("Refugee Status", "Indefinite Leave to Remain", "Limited Leave to Remain",
                "EU Settled Status", "Asylum Seeker in a family")  # fmt: skip
_NATIONALITIES = Weights({"GB": 80, "IE": 1, "PL": 3, "RO": 3, "PK": 2, "NG": 2, "VN": 1, "SY": 1,
                          "AF": 1, "ER": 1, None: 5})  # fmt: skip
_UASC_NATIONS = ("AF", "ER", "SD", "VN", "IR", "SY", "AL")
_OTHER_IDENTIFIERS = ("Case Number", "NHS Number", "Home Office Registration", "National Insurance")


def family(world: World) -> Family:
    """A new family."""
    draw = world.draw
    return Family(
        surname=world.names.last(draw),
        ethnicity=draw.weighted(_ETHNICITIES),
        postcode=None if draw.chance(0.02) else postcode(draw),
        nationality=draw.weighted(_NATIONALITIES),
    )


def person(
    world: World,
    home: Family,
    dob: dt.datetime | None,
    *,
    expected: dt.datetime | None = None,
    uasc: bool = False,
    mother: bool = False,
) -> Child:
    """A person with identifiers and addresses.

    Args:
        dob: date of birth; None for one not yet born, or not known.
        expected: due date of a child not yet born.
        uasc: came alone to seek asylum, so has no family here.
        mother: is a parent.
    """
    draw = world.draw
    unborn = dob is None
    sex = "U" if expected else ("F" if mother else draw.pick("FM"))
    person_id = world.next_id()
    age = world.age(dob) if dob else 0
    surname = world.names.last(draw) if uasc or draw.chance(0.08) else home.surname
    forename = None if expected and draw.chance(0.6) else world.names.first(draw, sex)
    upn_value, upn_reason = _pupil_number(world, age, unborn, uasc)
    ethnicity = _ETHNICITIES.values[draw.between(5, 17)] if uasc else home.ethnicity
    world.add(
        "ssd_person",
        pers_person_id=person_id,
        pers_legacy_id=f"L{draw.between(100_000, 999_999)}-{person_id[-4:]}"
        if draw.chance(0.6)
        else draw.pick((None, None, "")),
        pers_upn=upn_value,
        pers_upn_unknown=upn_reason,
        pers_forename=forename if not draw.chance(0.004) else None,
        pers_surname=surname,
        pers_sex=_sex_as_stored(draw, sex),
        pers_gender={"M": "01", "F": "02"}.get(sex, "00") if not draw.chance(0.01) else "09",
        pers_ethnicity=_ethnicity_as_stored(world, ethnicity),
        pers_dob=dob,
        pers_expected_dob=expected,
        pers_single_unique_id=nhs_like_number(draw) if draw.chance(0.7) else None,
        pers_send_flag=world.yes(0.15) if age >= 3 else "N",
        pers_death_date=_death(world, dob),
        pers_is_mother="Y" if mother else "N",
        pers_nationality=draw.pick(_UASC_NATIONS) if uasc else home.nationality,
    )
    child = Child(person_id, dob, sex)
    _identifiers(world, child, age)
    _addresses(world, child, home)
    if draw.chance(0.03 if unborn else 0.12):
        disabilities(world, child, draw.between(1, 3))
    if not uasc and home.nationality != "GB" and draw.chance(0.35):
        _immigration(world, child, draw.pick(_IMMIGRATION), None)
    return child


def _pupil_number(
    world: World, age: int, unborn: bool, uasc: bool
) -> tuple[str | None, str | None]:
    """The pupil number, or why there is none; now and then in the wrong column or unusable."""
    draw = world.draw
    if unborn or age < 4:
        return None, draw.pick(("UN1", "UN1", "un1 ", None))
    if draw.chance(0.35 if uasc else 0.08):
        reason = draw.pick(("UN2", "UN3", "UN4", "UN4", "UN5", "UN8", "UN10", " UN6"))
        return (reason.strip(), None) if draw.chance(0.2) else (None, reason)
    if draw.chance(0.01):
        return draw.pick(("", "X99", "NOT KNOWN")), None
    return upn(draw, temporary=draw.chance(0.02)), None


def _sex_as_stored(draw: Draw, sex: str) -> str | None:
    return draw.pick((sex.lower(), f"{sex} ", None, "I")) if draw.chance(0.03) else sex


def _ethnicity_as_stored(world: World, code: str) -> str | None:
    if world.draw.chance(0.02):
        return world.draw.pick(_UNUSABLE_ETHNICITIES)
    return None if world.draw.chance(0.02) else world.coded("ethnicity", code, 48)


def _death(world: World, dob: dt.datetime | None) -> dt.datetime | None:
    if dob is None or dob > world.today or not world.draw.chance(0.005):
        return None
    return world.draw.date(max(dob, world.window_start), world.today)


def _identifiers(world: World, child: Child, age: int) -> None:
    """Former pupil numbers and other identifiers; SystemC writes the placeholder SSD_PH."""
    draw = world.draw
    former = age >= 6 and draw.chance(0.15)
    if former:
        for years in range(draw.between(1, 2)):
            begun = world.today - dt.timedelta(days=draw.between(200, 1500) + 400 * years)
            unusable = draw.chance(0.06)
            _identifier(world, child, "Former Unique Pupil Number",
                        "X123" if unusable else upn(draw), begun)  # fmt: skip
    elif draw.chance(0.12):
        _identifier(world, child, "Former Unique Pupil Number", "SSD_PH", None)
    if draw.chance(0.15):
        kind = draw.pick(_OTHER_IDENTIFIERS)
        _identifier(world, child, kind, f"FIC{draw.between(100_000, 999_999)}", None)


def _identifier(
    world: World, child: Child, kind: str, value: str, begun: dt.datetime | None
) -> None:
    ended = begun + dt.timedelta(days=190) if begun and world.draw.chance(0.7) else None
    world.add(
        "ssd_linked_identifiers",
        link_table_id=world.next_id("LI"),
        link_person_id=child.person_id,
        link_identifier_type=kind,
        link_identifier_value=value,
        link_valid_from_date=begun,
        link_valid_to_date=ended,
    )


def _addresses(world: World, child: Child, home: Family) -> None:
    """The family's address now, and up to two earlier ones."""
    draw = world.draw
    begun = world.today - dt.timedelta(days=draw.between(30, 1800))
    address(world, child, home.postcode, begun if not draw.chance(0.02) else None)
    for _ in range(draw.weighted(_EARLIER_ADDRESSES)):
        ended = begun
        begun = ended - dt.timedelta(days=draw.between(60, 900))
        address(world, child, postcode(draw), begun, ended)


_EARLIER_ADDRESSES = Weights({0: 70, 1: 22, 2: 8})


def address(
    world: World,
    child: Child,
    code: str | None,
    begun: dt.datetime | None,
    ended: dt.datetime | None = None,
) -> Row:
    """An address of the child; a cleared dummy postcode is an empty text, as SystemC leaves it."""
    draw = world.draw
    stored = postcode_as_stored(draw, code)
    if draw.chance(0.015):
        stored = draw.pick(("", "UNKNOWN", "No fixed abode"[:15]))
    return world.add(
        "ssd_address",
        addr_table_id=world.next_id("AD"),
        addr_person_id=child.person_id,
        addr_address_type=draw.pick(("HOME", "HOME", "HOME", "MAIN", "TEMP")),
        addr_address_start_date=begun,
        addr_address_end_date=ended,
        addr_address_postcode=stored,
        addr_address_json=world.names.address(draw, code),
    )


def disabilities(world: World, child: Child, count: int) -> None:
    """Different disabilities of the child; for one child in twelve a row that says NONE."""
    draw = world.draw
    codes = sorted({draw.weighted(_DISABILITIES) for _ in range(count)})
    if count == 1 and draw.chance(0.08):
        codes = ["NONE"]
    for code in codes:
        world.add(
            "ssd_disability",
            disa_table_id=world.next_id("DI"),
            disa_person_id=child.person_id,
            disa_disability_code=world.coded("disability", code, 48),
        )


def _immigration(
    world: World, child: Child, status: str, ended: dt.datetime | None, days: int = 700
) -> None:
    world.add(
        "ssd_immigration_status",
        immi_immigration_status_id=world.next_id("IM"),
        immi_person_id=child.person_id,
        immi_immigration_status_start_date=(ended or world.today) - dt.timedelta(days=days),
        immi_immigration_status_end_date=ended,
        immi_immigration_status=status,
    )


def unaccompanied(world: World, child: Child) -> None:
    """The immigration status of an unaccompanied child: a code, a short name or a long one."""
    draw = world.draw
    status = draw.pick(("U", "UASC", "Unaccompanied Asylum Seeking Child", " uasc"))
    ended = draw.date(world.window_start, world.today) if draw.chance(0.35) else None
    _immigration(world, child, status, ended, draw.between(60, 900))
    if ended:
        _immigration(world, child, "Refugee Status", None, 30)


def questionnaires(world: World, child: Child, first: dt.datetime, last: dt.datetime) -> None:
    """A yearly SDQ between two days, some without a score but with the reason for it."""
    draw = world.draw
    day = draw.date(first, min(last, first + dt.timedelta(days=300)))
    while day <= last:
        score = None if draw.chance(0.1) else min(40, draw.between(0, 22) + draw.between(0, 18))
        questionnaire(world, child, day, score)
        day += dt.timedelta(days=draw.between(330, 420))


def questionnaire(world: World, child: Child, day: dt.datetime, score: int | None) -> Row:
    """An SDQ; without a score it gives the reason."""
    return world.add(
        "ssd_sdq_scores",
        csdq_table_id=world.next_id("SD"),
        csdq_person_id=child.person_id,
        csdq_sdq_completed_date=day,
        csdq_sdq_score=score,
        csdq_sdq_reason=f"SDQ{world.draw.between(1, 5)}" if score is None else None,
    )
