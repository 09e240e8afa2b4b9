"""The anonymising rules: what stands for a value, drawn by HMAC under the secret key.

Each is written here and registers itself by the name that a field gives under `anonymise:`; nothing
else has to know it. `pseudonyms` walks a document and calls them. A rule gets the child and the
value, and gives what stands for it, or None for a value that it cannot read, which is left out.

A code stands for another one: each child has its own order of a code list, drawn under the key.
Every code is as likely as any other, so that a rare one no longer points at its child; equal codes
of a child stay equal and different ones different, so that a change in the source is a change here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from d2i_helpers.anonymise import keyed
from d2i_helpers.anonymise.digests import digest
from d2i_helpers.anonymise.rule_context import (
    MOST_REMEMBERED,
    DayNumbers,
    DayTexts,
    Order,
    Rule,
    RuleContext,
)
from d2i_helpers.anonymise.upn import PupilNumbers
from d2i_helpers.errors import SpecificationError
from d2i_helpers.payload_spec import Block, Field, Spec
from d2i_helpers.payload_spec.patterns import whole_match
from d2i_helpers.payload_spec.registry import ANONYMISING_RULES, anonymising_rule
from d2i_helpers.privacy.redaction import normal

IDS_OF_OURS = frozenset({"child_id", "item_id", "worker_id"})
_LONGEST_ID = 24
_LONGEST_NAME = 12  # letters of the longest name that is drawn
_FEWEST_NAMES = 50  # from which one is drawn; a child's own have to be avoided
_PART = 4  # letters of a name that shows inside of a longer one: Robert in Roberts
_DRAWS = np.dtype(">u2")  # what decides a code's place: two bytes
_JITTER = 5  # points that a score may move either way


class Rules:
    """Makes the rule of a field.

    Args:
        spec: the specification, which says how long an id may be.
        key: the secret.
        avoid: digests of values in normal form that no id and no pupil number may equal.
        digest: makes them of a text.
    """

    def __init__(
        self,
        spec: Spec,
        key: keyed.Keyed,
        avoid: Collection[int],
        digest: Callable[[str], int] = digest,
    ) -> None:
        self._keyed = key
        self._avoid, self._avoided_by = avoid, digest
        self.stopped = 0  # how often a value of another child stood in the way
        self.pupil_numbers = PupilNumbers(key)
        self.day_numbers, self.day_texts = DayNumbers(), DayTexts()
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
        known = ANONYMISING_RULES.get(field.anonymise)
        if known is None:
            named = f" called `{field.anonymise}`" if field.anonymise else ""
            raise SpecificationError(
                f"Field `{field.path}` has no rule for anonymising{named}.",
                hint=f"Give it `anonymise:` with one of {', '.join(sorted(ANONYMISING_RULES))}.",
            )
        return known.make(self, block, field)

    def ids(self, space: str) -> Callable[[str], str]:
        """A function of an id: its pseudonym, the same wherever that id stands in its space.

        Spaces: all ids of children, all of workers, and the items of each kind.
        """
        start, draw, may_stop = f"{space}\0".encode(), self._keyed.digest, bool(self._avoid)
        length = self._lengths[space]
        workers = self._workers if space == "worker_id" else None

        def pseudonym(value: str) -> str:
            if workers is not None and value in workers:
                return workers[value]
            drawn = draw(start + value.encode())
            text = keyed.id_text(drawn, length)
            stopped = self.stopped
            while may_stop and self.is_avoided(text):
                drawn = draw(drawn)
                text = keyed.id_text(drawn, length)
            if workers is not None and stopped == self.stopped:
                if len(workers) >= MOST_REMEMBERED:
                    workers.clear()
                workers[value] = text
            return text

        return pseudonym

    def is_avoided(self, text: str) -> bool:
        """Whether a child really has a value, in normal form; counts that one stood in the way."""
        if not self._avoid or self._avoided_by(text) not in self._avoid:
            return False
        self.stopped += 1
        return True


# ------------------------------------------------------------------------------------------- ids
@anonymising_rule("worker_id", type="string", words="a keyed digest")
@anonymising_rule(
    "item_id", type="string", words="a keyed digest, another one for each kind of item"
)
@anonymising_rule("child_id", type="string", words="a keyed digest")
def _id(rules: Rules, block: Block, field: Field) -> Rule:
    pseudonym = rules.ids(_space(block, field))
    fits = whole_match(field.pattern) if field.pattern else None
    if fits and not all(fits(pseudonym(str(example))) for example in range(8)):
        raise SpecificationError(
            f"No pseudonym of digits and capital letters fits the pattern of `{field.path}`."
        )

    def rule(_child: RuleContext, value: Any) -> str | None:
        if type(value) is not str:
            if type(value) is not int:  # other software sends numbers
                return None
            value = str(value)
        return pseudonym(value)

    return rule


@anonymising_rule("upn", type="string", words="a made-up number of a valid shape")
def _upn(rules: Rules, _block: Block, _field: Field) -> Rule:
    pupil_numbers = rules.pupil_numbers

    def rule(child: RuleContext, value: Any) -> str | None:
        if type(value) is not str or not value:
            return None
        plain, again = normal(value), 0
        while True:
            text = pupil_numbers.pseudonym(plain, again)
            if text not in child.own and not rules.is_avoided(text):
                return text
            again += 1

    return rule


# ----------------------------------------------------------------------------- names and places
@anonymising_rule("surname", type="string", words="a made-up name")
@anonymising_rule("first_name", type="string", words="a made-up name")
def _name(_rules: Rules, _block: Block, field: Field) -> Rule:
    kind, longest, pattern = field.anonymise, field.max_length, field.pattern
    if pattern or (longest or _LONGEST_NAME) < _LONGEST_NAME:  # else there are thousands
        names(kind, longest, pattern)
    start = kind.encode() + b"\0"

    def rule(child: RuleContext, value: Any) -> str | None:
        if type(value) is not str:
            return None
        # not before a name is drawn: a quiet day need not load them
        pool = names(kind, longest, pattern)
        said = keyed.drawn(child.key, start + value.encode() + bytes(child.round))
        while True:
            name, plain = pool[keyed.number(said, len(pool))]
            if _is_another(plain, child.names):
                return name
            said = keyed.drawn(child.key, said)

    return rule


@anonymising_rule("postcode", type="string", words="a made-up postcode")
def _postcode(_rules: Rules, _block: Block, _field: Field) -> Rule:
    def rule(child: RuleContext, value: Any) -> str | None:
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

    return rule


# ------------------------------------------------------------------------ dates, numbers, flags
@anonymising_rule("birth_date", type="date", words="shifted by the same days")
@anonymising_rule(
    "date", type="date", words="shifted by days of the child's own, so that intervals stay"
)
def _date(rules: Rules, _block: Block, _field: Field) -> Rule:
    numbers, texts = rules.day_numbers, rules.day_texts

    def rule(child: RuleContext, value: Any) -> str | None:
        try:
            day = numbers[value]
        except TypeError:  # a structure, of other software
            return None
        return None if day is None else texts[day + child.shift]

    return rule


@anonymising_rule("score", type="integer", words="a few points more or less, within the limits")
def _score(_rules: Rules, _block: Block, field: Field) -> Rule:
    low, high = score_range(field)
    salt = b"score\0" + field.path.encode()

    def rule(child: RuleContext, value: Any) -> int | None:
        if type(value) is not int:
            return None
        said = keyed.drawn(child.key, salt + str(value).encode())
        step = 1 + said[0] % _JITTER
        new = value + (step if said[1] & 1 else -step)
        if not low <= new <= high:
            new = 2 * value - new  # the other way
        return min(max(new, low), high)

    return rule


@anonymising_rule(
    "flag", type="boolean", words="kept or turned round, as the key says of the child"
)
def _flag(_rules: Rules, _block: Block, field: Field) -> Rule:
    salt = b"flag\0" + field.path.encode()

    def rule(child: RuleContext, value: Any) -> bool | None:
        if type(value) is not bool:
            return None
        flips = child.flips.get(salt)
        if flips is None:
            flips = child.flips[salt] = bool(keyed.drawn(child.key, salt)[0] & 1)
        return value ^ flips

    return rule


# ----------------------------------------------------------------------------------------- codes
@anonymising_rule(
    "code", type="string", words="another code of the list; the one that stands for unknown stays"
)
def _code(_rules: Rules, _block: Block, field: Field) -> Rule:
    # the default says that nothing is known ("U"): it stays
    special = {field.default} if isinstance(field.default, str) else set()
    pool, places = _pool(field, special)
    path, salt = field.path, field.path.encode()

    def rule(child: RuleContext, value: Any) -> str | None:
        if type(value) is not str:
            return None
        if value in special:
            return value
        order = child.orders.get(path)
        if order is None:
            order = child.orders[path] = _order(child, salt, len(pool))
        return pool[order[places.get(value, len(value) % len(pool))]]

    return rule


@anonymising_rule(
    "codes", type="codes", words="as many other codes of the list; those that stand alone stay"
)
def _codes(_rules: Rules, _block: Block, field: Field) -> Rule:
    special = set(field.options.get("alone") or ())
    pool, places = _pool(field, special)
    path, salt = field.path, field.path.encode()

    def rule(child: RuleContext, value: Any) -> list[str] | None:
        if type(value) is not list:
            return None
        held = [code for code in value if type(code) is str]
        if special.issuperset(held):
            return held
        order = child.orders.get(path)
        if order is None:
            order = child.orders[path] = _order(child, salt, len(pool))
        return sorted({c if c in special else pool[order[places.get(c, 0)]] for c in held})

    return rule


def _pool(field: Field, special: set[str]) -> tuple[list[str], dict[str, int]]:
    """The codes that are drawn from, and where each stands."""
    if field.codes is None:
        raise SpecificationError(
            f"Field `{field.path}` has no code list to draw from.",
            hint="Give it `codes:`, or another rule under `anonymise:`.",
        )
    pool = [code for code in field.codes.codes if code not in special]
    if len(pool) < 2:
        raise SpecificationError(
            f"The code list of `{field.path}` is too short to draw from.",
            hint="It needs two codes beside those of `default` or `alone`; else `anonymise: drop`.",
        )
    return pool, {code: place for place, code in enumerate(pool)}


def _order(child: RuleContext, path: bytes, count: int) -> Order:
    """The codes in an order of the child's own: each code stands for the one at its place.

    A whole order, not a draw for each code, so that two codes never become one and a change in the
    source is a change here.
    """
    stream = keyed.drawn(child.key, path, 64)
    while len(stream) < 2 * count:
        stream += keyed.drawn(child.key, stream[-64:], 64)
    return np.frombuffer(stream, _DRAWS, count).argsort(kind="stable")


# --------------------------------------------------------------------------------------- nothing
@anonymising_rule("drop", type=None, words="nothing")
def _drop(_rules: Rules, _block: Block, field: Field) -> Rule:
    if field.mandatory:
        raise SpecificationError(f"Field `{field.path}` is mandatory and may not be dropped.")
    return lambda _child, _value: None


# --------------------------------------------------------------------------------------- helpers
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


def score_range(field: Field) -> tuple[int, int]:
    """Least and greatest number that stands for one of the field."""
    low = field.minimum or 0
    return low, low + 40 if field.maximum is None else field.maximum


@functools.lru_cache(maxsize=8)
def names(kind: str, max_length: int | None, pattern: str | None) -> tuple[tuple[str, str], ...]:
    """Names of the United Kingdom with their normal forms, each as likely as any other.

    Faker's lists without its weights: a frequent name is no more likely to be drawn.

    Raises:
        SpecificationError: too few of them are short enough and of the field's pattern, so that
            one of a child's own could not be avoided, or would be guessed.
    """
    from faker.providers.person.en_GB import Provider

    pools = {"first_name": Provider.first_names, "surname": Provider.last_names}
    fits = whole_match(pattern) if pattern else None
    unique = [
        name
        for name in dict.fromkeys(pools[kind])
        if len(name) <= (max_length or len(name)) and (fits is None or fits(name))
    ]
    if len(unique) < _FEWEST_NAMES:
        raise SpecificationError(
            f"Only {len(unique)} made-up names are short enough, or of the pattern, of a field "
            f"with `anonymise: {kind}`.",
            hint="Give it more `max_length`, another `pattern`, or `anonymise: drop`.",
        )
    return tuple((name, normal(name)) for name in unique)
