"""Marks in every place of an SSD that could identify somebody, and the search for them.

Each identifying value is replaced by a mark of its own: ids (the same id by the same mark wherever
it stands), names, pupil numbers, postcodes, free text; birth dates stay, since their form leaves
no room, and are known one by one. Columns that no specification knows get marks too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from sqlalchemy import Engine, bindparam, text, update

from d2i_helpers import database
from d2i_helpers.anonymise.upn import upn_check_letter
from d2i_helpers.database import tables

PREFIX = "qzjx"  # in every mark that has room for it; in no word and no base64 of ours
SECRET = "Sq8wZk"  # in every secret
_LETTERS = "bcdfghklmnprstvw"
_DAY = re.compile(r"\d{4}-\d\d-\d\d|\d{1,2}/\d{1,2}/\d{4}|\b\d{8}\b|\b\d{4}, \d{1,2}, \d{1,2}\b")
_UPN = re.compile(r"\b[A-Z]\d{11}[A-Z\d]\b", re.IGNORECASE)
_POSTCODE = re.compile(r"\b[A-Z]{2}\d{1,2}[ \xa0]?\d[A-Z]{2}\b", re.IGNORECASE)
_PICTURES = re.compile(r"data:image/[\w+]+;base64,[A-Za-z0-9+/=\s]+")
_BUSINESS_FROM = "2022-01-01"  # a record speaks of days after this one


@dataclass
class Marks:
    """Every mark that was planted, by kind."""

    ids: dict[str, str] = field(default_factory=dict)  # original to mark
    upns: set[str] = field(default_factory=set)
    postcodes: set[str] = field(default_factory=set)  # without the space
    births: set[str] = field(default_factory=set)  # YYYY-MM-DD
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def id(self, original: str) -> str:
        """The mark of an id, the same wherever it stands."""
        return self.ids.setdefault(original, f"{PREFIX.upper()}{next(self.numbers):06}K")

    def name(self) -> str:
        """A name of letters alone."""
        number, letters = next(self.numbers), ""
        while number:
            number, place = divmod(number, len(_LETTERS))
            letters += _LETTERS[place] + "a"
        return f"{PREFIX.capitalize()}{letters}"

    def note(self) -> str:
        """Free text."""
        return f"Seen at home by {PREFIX}note{next(self.numbers)}"

    def upn(self) -> str:
        """A pupil number in valid form."""
        rest = f"856{next(self.numbers):09}"
        self.upns.add(upn_check_letter(rest) + rest)
        return upn_check_letter(rest) + rest

    def postcode(self) -> str:
        """A postcode in valid form."""
        number, inward = divmod(next(self.numbers), 4000)
        a, b, c = inward // 400 % 10, "ABDEFGHJLN"[inward // 40 % 10], "ABDEFGHJLNPQRSTUWXYZ"
        made = f"LE{1 + inward % 2 + 2 * number % 90} {a}{b}{c[inward % 20]}"
        self.postcodes.add(made.replace(" ", ""))
        return made


NAMES = {"pers_forename", "pers_surname"}
UPNS = {"pers_upn"}
POSTCODES = {"addr_address_postcode", "clap_cla_placement_postcode"}
FREE_TEXT = {
    "addr_address_json", "pers_nationality", "pers_gender", "cine_referral_team",
    "cine_referral_source_desc", "cine_referral_outcome_json", "cina_assessment_team",
    "cina_assessment_outcome_json", "csdq_sdq_reason", "invo_professional_team",
    "invo_worker_change_reason", "prof_professional_name", "prof_professional_job_title",
    "prof_professional_department", "clap_cla_placement_provider",
    "clea_care_leaver_personal_advisor", "icpc_icpc_outcome_json", "perm_decision_reversed_reason",
    "cinp_cin_plan_team",
}  # fmt: skip
MORE_IDS = {
    "prof_social_worker_registration_no", "prof_staff_id", "clap_cla_placement_urn",
    "perm_placement_provider_urn", "pers_single_unique_id", "invo_professional_id",
}  # fmt: skip


def plant(engine: Engine) -> Marks:
    """Put marks into every identifying column of the fictional SSD."""
    marks = Marks()
    with database.transaction(engine) as connection:
        for table in tables.ssd_metadata().sorted_tables:
            _plant_in(connection, table, marks)
        for name in ("ssd_person", "ssd_cin_episodes"):  # columns that nobody knows
            connection.execute(text(f"alter table {name} add column la_notes varchar(200)"))
            keys = [c.name for c in tables.ssd_table(name).primary_key]
            found = (
                connection.execute(
                    text(f"select {keys[0]} from {name}")  # noqa: S608 - names of ours
                )
                .scalars()
                .all()
            )
            connection.execute(
                text(f"update {name} set la_notes = :note where {keys[0]} = :key"),  # noqa: S608
                [{"note": marks.note(), "key": key} for key in found],
            )
    return marks


def _plant_in(connection: Any, table: Any, marks: Marks) -> None:
    keys = [c.name for c in table.primary_key]
    changed = [
        {
            name: _fitting(_mark(name, row, value, marks, number), table.c[name])
            for name, value in row.items()
        }
        | {f"old_{key}": row[key] for key in keys}
        for number, row in enumerate(connection.execute(table.select()).mappings().all())
    ]
    same = [table.c[key] == bindparam(f"old_{key}") for key in keys]
    new = {column.name: bindparam(column.name) for column in table.columns}
    if changed:
        connection.execute(update(table).where(*same).values(new), changed)


def _fitting(value: Any, column: Any) -> Any:
    """A text no longer than its column, which PostgreSQL insists on."""
    length = getattr(column.type, "length", None)
    return value[:length] if isinstance(value, str) and length else value


def _mark(name: str, row: Any, value: Any, marks: Marks, number: int) -> Any:
    long = number % 97 == 5  # now and then more than the specification allows
    if name in {"pers_dob", "pers_expected_dob"} and value is not None:
        day = f"{value:%Y-%m-%d}"
        marks.births |= {day} if day < _BUSINESS_FROM else set()
        return value
    if name in NAMES:
        return marks.name() * (9 if long else 1)
    if name in FREE_TEXT:
        return f"{PREFIX}{number:06}" if name == "pers_gender" else marks.note()
    if value is None or not isinstance(value, str):
        return value
    if name in UPNS:
        return marks.upn()
    if name == "link_identifier_value":
        former = row["link_identifier_type"] == "Former Unique Pupil Number"
        return marks.upn() if former else marks.id(value)
    if name in POSTCODES:
        return marks.postcode()
    if (name.endswith(("_id", "_urn")) and not name.endswith("role_id")) or name in MORE_IDS:
        return marks.id(value)
    return value


# ----------------------------------------------------------------------------------- the search
def found_in(said: str, marks: Marks) -> list[str]:
    """Marks, secrets and birth dates that stand in a text, in any case and common spelling."""
    said = _PICTURES.sub("", said)
    hits = re.findall(rf"(?i).{{0,40}}(?:{PREFIX}|{SECRET}).{{0,20}}", said)
    hits += [one for one in _UPN.findall(said) if one.upper() in marks.upns]
    plain = (re.sub(r"\s", "", one).upper() for one in _POSTCODE.findall(said))
    hits += [one for one in plain if one in marks.postcodes]
    hits += [one for one in _DAY.findall(said) if _iso(one) in marks.births]
    return hits


def _iso(day: str) -> str:
    parts = re.split(r"\D+", day)
    if len(parts) == 1:
        return f"{day[:4]}-{day[4:6]}-{day[6:]}"
    year, month, last = parts if len(parts[0]) == 4 else reversed(parts)
    return f"{year}-{month:0>2}-{last:0>2}"


def records_under(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file of the run records, as text; of notebooks also each output's own text."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in {".sqlite", ".sqlite-wal", ".sqlite-shm"}:
            continue
        content = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".ipynb":
            yield path.name, "\n".join(_texts(nbformat.reads(content, as_version=4)))
        yield path.name, content


def _texts(held: Any) -> Iterable[str]:
    if isinstance(held, str):
        yield held
    elif isinstance(held, dict):
        for name, value in held.items():
            if name not in {"image/png", "image/jpeg"}:
                yield from _texts(value)
    elif isinstance(held, list):
        yield "".join(one for one in held if isinstance(one, str))
        for one in held:
            yield from _texts(one)
