"""The proof that an anonymised document bears no identifying value of a child.

It knows nothing of how pseudonyms are made: it compares the texts that are to be written with the
identifying values of the originals, exactly and in normal form (without case, spaces, accents).

Every value of a child is looked for in the child's own document. Of other children count their ids,
pupil numbers, and a full name together with a birth date: a first name, a date or a made-up
postcode that some other child has as well says nothing, and with thousands of children cannot be
avoided.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Collection
from itertools import filterfalse

import numpy as np
import orjson

from d2i_helpers.anonymise.digests import DIGESTS, digest
from d2i_helpers.payload_spec import PURGE, Document, Spec
from d2i_helpers.privacy.identities import IDS, Identity, person_reader
from d2i_helpers.privacy.redaction import NOT_ALNUM, capitals_without, normal

_TEXTS = re.compile(r'"((?:[^"\\]|\\.)*)"')
_INSIDE = 6  # characters of a value that is looked for inside of longer texts too
_DROP = NOT_ALNUM.replace(b"\n", b"")
_SHORTEST = 2  # a value of one character cannot be told from a code
_OF_OTHERS = 4  # characters of an id of another child that is looked for
_AT_A_TIME = 100_000  # hashes that are compared
_NOBODY = "||"  # stands for a person who has no name or birth date; no text is that


def public_words(spec: Spec) -> frozenset[str]:
    """Names of fields and codes of lists: words of the specification, which identify nobody."""
    words = {PURGE}
    for block, field in spec.fields():
        words |= {block.name, field.name}
        words |= set(field.codes.codes) if field.codes else set()
    return frozenset(words)


class LeakCheck:
    """Checks documents one by one, then all against all.

    The values of all children are kept as 8-byte numbers, some 150 bytes a child, and compared in
    parts, so that memory hardly grows.

    Args:
        digest: 64 bits of a text.
    """

    def __init__(self, spec: Spec, digest: Callable[[str], int] = digest) -> None:
        self._public = public_words(spec)
        self._digest = digest
        self._nobody = digest(_NOBODY)
        self._person = person_reader(spec)
        self._real, self._made = array(DIGESTS), array(DIGESTS)
        self.documents = 0
        self.values = 0

    def document(
        self,
        identity: Identity,
        original: Document,
        made: Document,
        text: str,
        keys: Collection[str] = (),
    ) -> list[str]:
        """Look for the child's own values in its anonymised document, and remember both sides.

        Args:
            identity: what identifies the child in the original.
            original: the original document.
            made: the anonymised one.
            text: the anonymised document as it is to be written; the search is in this.
            keys: further ids of the child, such as the key of its staging row.

        Returns:
            The rules (kinds) of the values that were found; empty is as it should be.
        """
        values = _values(identity, keys)
        self.documents += 1
        self.values += len(values)
        texts = self._texts(text)
        # dates are compared as they are; in normal form they would look like ids of eight digits
        others = "\n".join(
            [
                text
                for text in texts
                if len(text) != 10 or not text[4] == "-" == text[7] or not text[:4].isdigit()
            ]
        )
        plain = _normal_lines(others)
        self._remember(values, original)
        self._made.extend(sorted(map(self._digest, plain)))
        if person := self._person(made):
            self._made.append(self._digest(person))
        together = others.upper()
        # as one of the texts, as it is or in normal form, or inside of one
        return [
            rule
            for rule, value, normal_form in values
            if (
                value in texts
                or normal_form in plain
                or (len(value) >= _INSIDE and value.upper() in together)
            )
            and len(value) >= _SHORTEST
        ]

    def original(self, identity: Identity, original: Document, keys: Collection[str]) -> None:
        """Remember a child whose document another process makes; arguments as of `document`."""
        self._remember(_values(identity, keys), original)

    def _remember(self, values: list[tuple[str, str, str]], original: Document) -> None:
        digest, person = self._digest, self._person(original)
        self._real.append(digest(person) if person else self._nobody)
        self._real.extend(
            [digest(v) for rule, _, v in values if rule in IDS and len(v) >= _OF_OTHERS]
        )

    # ------------------------------------------------------- documents that are not made anew
    def size(self) -> tuple[int, int]:
        """How much is remembered: of originals, and of what was made."""
        return len(self._real), len(self._made)

    def made_since(self, size: tuple[int, int]) -> bytes:
        """What was remembered since then of what was made.

        It is the same each time that the same document is remembered.
        """
        return self._made[size[1] :].tobytes()

    def of_original(self, first: int, last: int) -> bytes:
        """What was remembered of an original (the person first), between two sizes.

        It is the same each time that the same document is remembered. Not after `coincidences`,
        which puts all of it into another order.
        """
        return self._real[first:last].tobytes()

    def remember_original(self, compared: bytes) -> int:
        """Remember an original by what `of_original` gave on another day; gives its person."""
        first = len(self._real)
        self._real.frombytes(compared)
        return self._real[first]

    def remember_made(self, compared: bytes) -> None:
        """Remember an anonymised document by what `made_since` gave of it on another day."""
        self._made.frombytes(compared)

    def _texts(self, text: str) -> set[str]:
        """Every text of a JSON document but the words of the specification."""
        if "\\" not in text:  # then every quotation mark begins or ends a text
            return set(filterfalse(self._public.__contains__, text.split('"')[1::2]))
        found = set(_TEXTS.findall(text)) - self._public
        return {orjson.loads(f'"{one}"') if "\\" in one else one for one in found}

    def coincidences(self) -> frozenset[int]:
        """Hashes of values that one child really has and that some document bears.

        Asked for once, at the end.
        """
        if not (self._real and self._made):
            return frozenset()
        real = np.frombuffer(self._real, np.uint64)
        real.sort()  # where it is: a copy would be as large as all that is remembered
        made = np.frombuffer(self._made, np.uint64)
        common: set[int] = set()
        for start in range(0, len(made), _AT_A_TIME):
            some = np.sort(made[start : start + _AT_A_TIME])  # neighbours are found together
            places = np.minimum(np.searchsorted(real, some), len(real) - 1)
            common.update(some[real[places] == some].tolist())
        return frozenset(common)


def _values(identity: Identity, keys: Collection[str]) -> list[tuple[str, str, str]]:
    """What identifies a child, the keys of its row too: rule, value, normal form."""
    return [*identity.values, *(("child_id", key, normal(key)) for key in keys)]


def _normal_lines(lines: str) -> set[str]:
    """The normal form of each line; all at once where they are plain ASCII, which is faster."""
    if lines.isascii():
        return set(capitals_without(lines, _DROP).split("\n"))
    return {normal(line) for line in lines.split("\n")}
