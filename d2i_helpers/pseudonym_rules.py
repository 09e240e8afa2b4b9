"""The rule of each kind of field: what stands for a value, drawn by HMAC under the secret key.

`pseudonyms` walks a document and calls these. A rule gets the child and the value, and gives what
stands for it, or None for a value that it cannot read, which is then left out.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import re
import struct
from collections.abc import Callable, Collection
from typing import Any

from d2i_helpers import keyed
from d2i_helpers.errors import SpecificationError
from d2i_helpers.redaction import normal
from d2i_helpers.spec import Block, Field, Spec

RULES = frozenset(
    {"child_id", "item_id", "worker_id", "upn", "first_name", "surname", "date", "birth_date",
     "code", "codes", "postcode", "score", "flag", "drop"}
)  # fmt: skip
IDS_OF_OURS = frozenset({"child_id", "item_id", "worker_id"})
_LONGEST_ID = 24
_JITTER = 5  # points that a score may move either way
_MOST_REMEMBERED = 50_000


class Child:
    """What the rules know of the child whose document they rewrite."""

    __slots__ = ("key", "orders", "own", "round", "shift")

    def __init__(self, key: bytes, own: frozenset[str], shift: int, round_: int) -> None:
        self.key = key  # the child's own secret, 32 bytes
        self.own = own  # its identifying values and the words of its names, in normal form
        self.shift = shift  # days
        self.round = round_  # counts redraws of the name
        self.orders: dict[str, list[str]] = {}  # code lists in the child's own order, by path


Rule = Callable[[Child, Any], Any]  # None: the value is left out


class Days:
    """Days since year 1 of date texts; what was read once is remembered, since days repeat."""

    def __init__(self) -> None:
        self._known: dict[str, int | None] = {}

    def number(self, text: Any) -> int | None:
        """Days since year 1 of a date text; None where it is no date."""
        try:
            return self._known[text]
        except (KeyError, TypeError):
            pass
        if type(text) is not str:
            return None
        try:
            day = dt.date.fromisoformat(text).toordinal() if len(text) == 10 else None
        except ValueError:
            day = None
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[text] = day
        return day


class Rules:
    """Makes the rule of a field.

    Args:
        spec: the specification, which says how long an id may be.
        key: the secret.
        avoid: `hash` of values in normal form that no id and no pupil number may equal.
    """

    def __init__(self, spec: Spec, key: keyed.Keyed, avoid: Collection[int]) -> None:
        self._keyed = key
        self._avoid = avoid
        self.days = Days()
        self._workers: dict[str, str] = {}
        self._lengths: dict[str, int] = {}
        for block, field in spec.fields():
            if field.anonymise in IDS_OF_OURS:
                space = _space(block, field)
                length = id_length(field)
                self._lengths[space] = min(length, self._lengths.get(space, length))

    def of(self, block: Block, field: Field) -> Rule:
        """The rule of a field.

        Raises:
            SpecificationError: it has none, or the rule cannot respect the field's limits.
        """
        kind = field.anonymise
        if kind not in RULES:
            raise SpecificationError(
                f"Field `{field.path}` has no rule for anonymising"
                f"{f' called `{kind}`' if kind else ''}.",
                hint=f"Give it `anonymise:` with one of {', '.join(sorted(RULES))}.",
            )
        if kind in IDS_OF_OURS:
            return self._id_rule(field, self.ids(_space(block, field)))
        made: dict[str, Callable[[Field], Rule]] = {
            "code": self._code, "codes": self._codes, "flag": self._flag, "score": self._score,
        }  # fmt: skip
        if kind in made:
            return made[kind](field)
        if kind in {"first_name", "surname"}:
            return self._name(kind, field)
        if kind == "drop":
            if field.mandatory:
                raise SpecificationError(
                    f"Field `{field.path}` is mandatory and may not be dropped."
                )
            return _dropped
        return {"date": self._date, "birth_date": self._date, "upn": self._upn}.get(
            kind, self._postcode
        )

    def ids(self, space: str) -> Callable[[str], str]:
        """A function of an id: its pseudonym, the same wherever that id stands in its space.

        Spaces: all ids of children, all of workers, and the items of each kind.
        """
        start, digest, avoid = f"{space}\0".encode(), self._keyed.digest, self._avoid
        length = self._lengths[space]
        workers = self._workers if space == "worker_id" else None

        def pseudonym(value: str) -> str:
            if workers is not None and value in workers:
                return workers[value]
            drawn = digest(start + value.encode())
            text = keyed.id_text(drawn, length)
            while avoid and hash(text) in avoid:
                drawn = digest(drawn)
                text = keyed.id_text(drawn, length)
            if workers is not None:
                if len(workers) >= _MOST_REMEMBERED:
                    workers.clear()
                workers[value] = text
            return text

        return pseudonym

    def _id_rule(self, field: Field, pseudonym: Callable[[str], str]) -> Rule:
        if field.pattern and not all(
            re.search(field.pattern, pseudonym(str(example))) for example in range(50)
        ):
            raise SpecificationError(
                f"No pseudonym of digits and capital letters fits the pattern of `{field.path}`."
            )

        def rule(_child: Child, value: Any) -> str | None:
            if type(value) is not str:
                if type(value) is not int:  # other software sends numbers
                    return None
                value = str(value)
            return pseudonym(value)

        return rule

    def _date(self, child: Child, value: Any) -> str | None:
        day = self.days.number(value)
        if day is None:
            return None
        try:
            return dt.date.fromordinal(day + child.shift).isoformat()
        except ValueError:  # at the edge of the calendar
            return None

    def _upn(self, child: Child, value: Any) -> str | None:
        if type(value) is not str or not value:
            return None
        drawn = self._keyed.digest(b"upn\0" + normal(value).encode())
        while True:
            text = keyed.upn_text(drawn, temporary=value[-1].isalpha())
            if text not in child.own and not (self._avoid and hash(text) in self._avoid):
                return text
            drawn = self._keyed.digest(drawn)

    def _postcode(self, child: Child, value: Any) -> str | None:
        if type(value) is not str:
            return None
        drawn = self._keyed.digest(child.key + b"postcode\0" + normal(value).encode())
        while True:
            text = keyed.postcode_text(drawn)
            if normal(text) not in child.own:
                return text
            drawn = self._keyed.digest(drawn)

    def _name(self, kind: str, field: Field) -> Rule:
        pool = names(kind, field.max_length)
        start = kind.encode() + b"\0"
        digest = self._keyed.digest

        def rule(child: Child, value: Any) -> str | None:
            if type(value) is not str:
                return None
            drawn = digest(child.key + start + value.encode() + bytes(child.round))
            while True:
                name, plain = pool[keyed.number(drawn, len(pool))]
                if plain not in child.own:
                    return name
                drawn = digest(drawn)

        return rule

    def _order(self, child: Child, path: bytes, pool: list[str]) -> list[str]:
        """The codes in an order of the child's own: each code stands for the one at its place.

        A whole order, not a draw for each code, so that two codes never become one and a change
        in the source is a change here. One round of PBKDF2 is HMAC-SHA-256 in counter mode.
        """
        stream = hashlib.pbkdf2_hmac("sha256", child.key, path, 1, 2 * len(pool))
        draws = struct.unpack(f">{len(pool)}H", stream)
        return [pool[place] for place in sorted(range(len(pool)), key=draws.__getitem__)]

    def _pool(self, field: Field, special: set[str]) -> tuple[list[str], dict[str, int]]:
        if field.codes is None:
            raise SpecificationError(
                f"Field `{field.path}` has no code list to draw from.",
                hint="Give it `codes:`, or another rule under `anonymise:`.",
            )
        pool = [
            code
            for code in field.codes.codes
            if code not in special and len(code) <= (field.max_length or len(code))
        ]
        if len(pool) < 2:
            raise SpecificationError(f"The code list of `{field.path}` is too short to draw from.")
        return pool, {code: place for place, code in enumerate(pool)}

    def _code(self, field: Field) -> Rule:
        # the default says that nothing is known ("U"): it stays
        special = {field.default} if isinstance(field.default, str) else set()
        pool, places = self._pool(field, special)
        path, salt = field.path, field.path.encode()

        def rule(child: Child, value: Any) -> str | None:
            if type(value) is not str:
                return None
            if value in special:
                return value
            order = child.orders.get(path)
            if order is None:
                order = child.orders[path] = self._order(child, salt, pool)
            return order[places.get(value, len(value) % len(pool))]

        return rule

    def _codes(self, field: Field) -> Rule:
        special = set(field.options.get("alone") or ())
        pool, places = self._pool(field, special)
        path, salt = field.path, field.path.encode()

        def rule(child: Child, value: Any) -> list[str] | None:
            if type(value) is not list:
                return None
            if not value or special.issuperset(value):
                return value
            order = child.orders.get(path)
            if order is None:
                order = child.orders[path] = self._order(child, salt, pool)
            return sorted({c if c in special else order[places.get(c, 0)] for c in map(str, value)})

        return rule

    def _flag(self, field: Field) -> Rule:
        salt = field.path.encode()
        digest = self._keyed.digest

        def rule(child: Child, value: Any) -> bool | None:
            if type(value) is not bool:
                return None
            return value ^ bool(digest(child.key + b"flag\0" + salt)[0] & 1)

        return rule

    def _score(self, field: Field) -> Rule:
        low, high = field.minimum or 0, 40 if field.maximum is None else field.maximum
        salt = field.path.encode()
        digest = self._keyed.digest

        def rule(child: Child, value: Any) -> int | None:
            if type(value) is not int:
                return None
            drawn = digest(child.key + b"score\0" + salt + str(value).encode())
            step = 1 + drawn[0] % _JITTER
            new = value + (step if drawn[1] & 1 else -step)
            if not low <= new <= high:
                new = 2 * value - new  # the other way
            return min(max(new, low), high)

        return rule


def _dropped(_child: Child, _value: Any) -> None:
    return None


def _space(block: Block, field: Field) -> str:
    """In which values of an id field mean the same thing."""
    return f"item_id {block.name}" if field.anonymise == "item_id" else field.anonymise


def id_length(field: Field) -> int:
    """Characters of the pseudonyms of an id field.

    Raises:
        SpecificationError: the field is too short for pseudonyms that never collide.
    """
    length = min(field.max_length or _LONGEST_ID, _LONGEST_ID)
    if length < keyed.SHORTEST_ID:
        raise SpecificationError(
            f"`{field.path}` is too short for pseudonyms that never collide.",
            hint=f"Its max_length must be at least {keyed.SHORTEST_ID}.",
        )
    return length


@functools.lru_cache(maxsize=8)
def names(kind: str, max_length: int | None) -> tuple[tuple[str, str], ...]:
    """Names of the United Kingdom with their normal forms, each as likely as any other.

    Faker's lists without its weights: a frequent name is no more likely to be drawn.
    """
    from faker.providers.person.en_GB import Provider

    pools = {"first_name": Provider.first_names, "surname": Provider.last_names}
    unique = dict.fromkeys(pools[kind])
    return tuple((n, normal(n)) for n in unique if len(n) <= (max_length or len(n)))
