"""The rule of each kind of field: what stands for a value, drawn by HMAC under the secret key.

`pseudonyms` walks a document and calls these. A rule gets the child and the value, and gives what
stands for it, or None for a value that it cannot read, which is then left out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection
from typing import Any

from d2i_helpers.anonymise import keyed
from d2i_helpers.anonymise.child import MOST_REMEMBERED, Child, Days, Rule
from d2i_helpers.anonymise.code_rules import code_rule, codes_rule
from d2i_helpers.anonymise.upn import PupilNumbers
from d2i_helpers.errors import SpecificationError
from d2i_helpers.privacy.redaction import normal
from d2i_helpers.spec import Block, Field, Spec

RULES = frozenset(
    {"child_id", "item_id", "worker_id", "upn", "first_name", "surname", "date", "birth_date",
     "code", "codes", "postcode", "score", "flag", "drop"}
)  # fmt: skip
IDS_OF_OURS = frozenset({"child_id", "item_id", "worker_id"})
_LONGEST_ID = 24
_PART = 4  # letters of a name that shows inside of a longer one: Robert in Roberts
_JITTER = 5  # points that a score may move either way


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
        self._pupil_numbers = PupilNumbers(key)
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
            "code": code_rule,
            "codes": codes_rule,
            "flag": self._flag,
            "score": self._score,
        }
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
                if len(workers) >= MOST_REMEMBERED:
                    workers.clear()
                workers[value] = text
            return text

        return pseudonym

    def _id_rule(self, field: Field, pseudonym: Callable[[str], str]) -> Rule:
        if field.pattern and not all(
            re.search(field.pattern, pseudonym(str(example))) for example in range(8)
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
        return None if day is None else self.days.text(day + child.shift)

    def _upn(self, child: Child, value: Any) -> str | None:
        if type(value) is not str or not value:
            return None
        plain, again = normal(value), 0
        while True:
            text = self._pupil_numbers.pseudonym(plain, again)
            if text not in child.own and not (self._avoid and hash(text) in self._avoid):
                return text
            again += 1

    def _postcode(self, child: Child, value: Any) -> str | None:
        if type(value) is not str:
            return None
        if value in child.postcodes:
            return child.postcodes[value]
        said = keyed.drawn(child.key, b"postcode\0" + normal(value).encode())
        text = keyed.postcode_text(said)
        while text.replace(" ", "") in child.own:
            said = keyed.drawn(child.key, said)
            text = keyed.postcode_text(said)
        child.postcodes[value] = text
        return text

    def _name(self, kind: str, field: Field) -> Rule:
        pool = names(kind, field.max_length)
        start = kind.encode() + b"\0"

        def rule(child: Child, value: Any) -> str | None:
            if type(value) is not str:
                return None
            said = keyed.drawn(child.key, start + value.encode() + bytes(child.round))
            while True:
                name, plain = pool[keyed.number(said, len(pool))]
                if _is_another(plain, child.names):
                    return name
                said = keyed.drawn(child.key, said)

        return rule

    def _flag(self, field: Field) -> Rule:
        salt = b"flag\0" + field.path.encode()

        def rule(child: Child, value: Any) -> bool | None:
            if type(value) is not bool:
                return None
            flips = child.flips.get(salt)
            if flips is None:
                flips = child.flips[salt] = bool(keyed.drawn(child.key, salt)[0] & 1)
            return value ^ flips

        return rule

    def _score(self, field: Field) -> Rule:
        low, high = field.minimum or 0, 40 if field.maximum is None else field.maximum
        salt = b"score\0" + field.path.encode()

        def rule(child: Child, value: Any) -> int | None:
            if type(value) is not int:
                return None
            said = keyed.drawn(child.key, salt + str(value).encode())
            step = 1 + said[0] % _JITTER
            new = value + (step if said[1] & 1 else -step)
            if not low <= new <= high:
                new = 2 * value - new  # the other way
            return min(max(new, low), high)

        return rule


def _dropped(_child: Child, _value: Any) -> None:
    return None


def _is_another(name: str, own: Collection[str]) -> bool:
    """Whether a name is none of these, none of their parts, and holds none of them as a part."""
    for other in own:
        if name == other:
            return False
        shorter, longer = (name, other) if len(name) < len(other) else (other, name)
        if len(shorter) >= _PART and shorter in longer:
            return False
    return True


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
