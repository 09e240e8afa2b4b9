"""Words, numbers and codes for fictional people, from a seed, as source systems write them.

Nobody here exists. Names are drawn from general lists; postcodes lie in areas that the Royal Mail
does not use (first letter Q, V or X); NHS-like numbers begin with 999, which is kept for tests;
pupil numbers name an authority from 990 to 999, none of which exists.
"""

from __future__ import annotations

import bisect
import datetime as dt
import functools
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from d2i_helpers.anonymise.upn import upn_check_letter
from d2i_helpers.payload_spec import load_spec

T = TypeVar("T")

# the 23 check letters of pupil numbers: I, O and S could be misread
_UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
_POSTCODE_AREAS = ("QA", "QE", "QX", "VD", "VK", "VX", "XB", "XD", "XN", "XW", "Q", "X")
_INWARD_LETTERS = "ABDEFGHJLNPQRSTUWXYZ"  # C I K M O V are not used there

# apostrophes, hyphens, accents and other alphabets, which break a careless sender
_UNUSUAL_FIRST = {
    "F": ("Zoë", "Chloé", "Siân", "Aoife", "Łucja", "Nguyệt", "Fatima-Zahra", "D'Arcy", "Renée",
          "Ayşe", "李娜", "Анна", "فاطمة", "Mary Jane", "Ines-María", "Þóra", "Ọlá"),
    "M": ("Łukasz", "José", "Noël", "Seán", "Jean-Luc", "O'Shea", "Ahmed", "Đức", "Jürgen",
          "Mehmet Çağ", "伟", "Олег", "محمد", "Ángel", "Björn", "Tomáš", "D'Andre"),
}  # fmt: skip
_UNUSUAL_LAST = (
    "O'Brien", "O'Neill-Smith", "Nguyễn", "李", "Ahmed", "Kowalczyk-Łoś", "D'Souza", "García López",
    "Müller", "van der Berg", "Òshádí", "Ní Dhomhnaill", "Шевченко", "حسن", "Sørensen", "Đặng",
    "Yılmaz", "St. John", "Mc Donagh", "Ó Súilleabháin", "Fernández-O’Hara", "de la Cruz",
)  # fmt: skip


# the parts of an address as SystemC names them; no street or town of the pools needs escaping
_ADDRESS = (
    '{{"ROOM": "", "FLOOR": "", "FLAT": "{flat}", "BUILDING": "", "HOUSE": "{house}", '
    '"STREET": "{street}", "TOWN": "{town}", "UPRN": "", "EASTING": "", "NORTHING": "", '
    '"POSTCODE": "{postcode}"}}'
)


class Draw:
    """Random choices from one seed; the same seed gives the same choices on every machine."""

    def __init__(self, *seed: object) -> None:
        """``seed``: any words and numbers; together they are the seed."""
        self._random = random.Random(":".join(str(part) for part in seed)).random

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self._random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included; low where high is lower."""
        return low + int(self._random() * (high - low + 1)) if high > low else low

    def pick(self, values: Sequence[T]) -> T:
        """One of the values, each as likely as another."""
        return values[int(self._random() * len(values))]

    def weighted(self, choices: Weights[T]) -> T:
        """One of the choices by its weight."""
        at = bisect.bisect(choices.sums, self._random() * choices.sums[-1])
        return choices.values[min(at, len(choices.values) - 1)]

    def several(self, values: Sequence[T], count: int) -> list[T]:
        """``count`` different values, at most all of them."""
        pool = list(values)
        for at in range(min(count, len(pool))):
            swapped = self.between(at, len(pool) - 1)
            pool[at], pool[swapped] = pool[swapped], pool[at]
        return pool[:count]

    def date(self, first: dt.datetime, last: dt.datetime) -> dt.datetime:
        """A day from first to last, both included; first where last is earlier."""
        return first + dt.timedelta(days=self.between(0, (last - first).days))


class Weights(Generic[T]):
    """Values with weights, ready for `Draw.weighted`."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        """``weights``: value to weight, of any sum."""
        self.values: tuple[T, ...] = tuple(weights)
        self.sums: tuple[float, ...] = tuple(itertools.accumulate(weights.values()))


# ------------------------------------------------------------------------------------- numbers
def upn(draw: Draw, *, temporary: bool = False) -> str:
    """A pupil number of no real authority, with a right check letter.

    A temporary one ends in a letter.
    """
    body = f"{draw.between(990, 999)}{draw.between(0, 99_999_999):08d}"
    body += draw.pick(_UPN_LETTERS.replace("X", "")) if temporary else str(draw.between(0, 9))
    return upn_check_letter(body) + body


def nhs_like_number(draw: Draw) -> str:
    """Ten digits beginning 999, with the NHS check digit; no person is ever given one."""
    while True:
        body = f"999{draw.between(0, 999_999):06d}"
        check = 11 - sum(int(d) * w for d, w in zip(body, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            return body + str(check % 11)


def postcode(draw: Draw) -> str:
    """A postcode of the right shape in no real area, with one inner space."""
    inward = f"{draw.between(1, 9)}{draw.pick(_INWARD_LETTERS)}{draw.pick(_INWARD_LETTERS)}"
    return f"{draw.pick(_POSTCODE_AREAS)}{draw.between(1, 29)} {inward}"


def postcode_as_stored(draw: Draw, code: str | None, length: int = 15) -> str | None:
    """The postcode as some system writes it: without its space, in lower case or padded."""
    if code is None:
        return None
    roll = draw.between(1, 100)
    if roll <= 15:
        return code.replace(" ", "")
    if roll <= 19:
        return code.lower()
    if roll <= 22 and len(code) + 2 <= length:
        return f" {code} "
    return code


# --------------------------------------------------------------------------------------- codes
class Codes:
    """Codes of the payload specification, written as source systems write them."""

    def __init__(self) -> None:
        """Read the code lists of this package, without an authority's overlay."""
        self._lists = {name: codes.codes for name, codes in load_spec().code_lists.items()}
        self._names = {name: tuple(codes) for name, codes in self._lists.items()}

    def of(self, name: str) -> tuple[str, ...]:
        """All codes of a list."""
        return self._names[name]

    def stored(self, draw: Draw, name: str, code: str, length: int) -> str:
        """A code bare, lower case, with spaces or a tab, or followed by its description."""
        roll = draw.between(1, 100)
        if roll <= 62:
            return code
        if roll <= 90:
            return f"{code} - {self.meaning(name, code)}"[:length].rstrip()
        if roll <= 93:
            return code.lower()
        if roll <= 96:
            return f"  {code}"[:length]
        if roll <= 98:
            return f"{code}\t"[:length]
        return f" {code.lower()} - {self.meaning(name, code)}"[:length].rstrip()

    def meaning(self, name: str, code: str) -> str:
        """What a code means, as a sentence."""
        meaning = self._lists[name].get(code, code)
        return meaning[:1].upper() + meaning[1:]


# --------------------------------------------------------------------------------------- names
@functools.lru_cache(maxsize=4)
def names_of(seed: int) -> Names:
    """The names of one seed, drawn once a process."""
    return Names(seed)


class Names:
    """Pools of names and streets for one seed, made once because that is slow."""

    def __init__(self, seed: int) -> None:
        """``seed``: of the fictional SSD."""
        from faker import Faker  # half a second to load: only where people are made

        fake = Faker("en_GB", use_weighting=False)
        fake.seed_instance(seed)
        first = {"F": fake.first_name_female, "M": fake.first_name_male}
        self._first = {sex: [draw() for _ in range(300)] for sex, draw in first.items()}
        self._last = [fake.last_name() for _ in range(600)]
        self._streets = [fake.street_name() for _ in range(300)]
        self._towns = [fake.city() for _ in range(40)]

    def first(self, draw: Draw, sex: str) -> str:
        """A first name; one in eight with an apostrophe, accent or other alphabet."""
        key = sex if sex in self._first else draw.pick("FM")
        return draw.pick(_UNUSUAL_FIRST[key] if draw.chance(0.12) else self._first[key])

    def last(self, draw: Draw) -> str:
        """A family name; one in eight unusual, one in twelve double-barrelled."""
        if draw.chance(0.12):
            return draw.pick(_UNUSUAL_LAST)
        if draw.chance(0.08):
            return f"{draw.pick(self._last)}-{draw.pick(self._last)}"
        return draw.pick(self._last)

    def address(self, draw: Draw, code: str | None) -> str:
        """Parts of an address as JSON text, at most 1000 characters."""
        flat = str(draw.between(1, 30)) if draw.chance(0.2) else ""
        return _ADDRESS.format(
            flat=flat,
            house=draw.between(1, 240),
            street=draw.pick(self._streets),
            town=draw.pick(self._towns),
            postcode=code or "",
        )
