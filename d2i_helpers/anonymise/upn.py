"""Pseudonyms of pupil numbers: a keyed permutation, so that no two numbers ever get the same one.

A hash would let two of a cohort's numbers meet now and then (about 1 cohort of 10,000 in 5,000).
Instead the numbers of each kind are permuted among themselves by a Feistel network whose rounds are
keyed hashes under keys that HMAC-SHA-256 gives, with cycle walking to the size of the kind (as NIST
SP 800-38G does for other alphabets). Kinds: permanent or temporary, of an authority that exists or
of none.

Source of the form: DfE, unique pupil numbers, guide for schools and local authorities: check
letter, three digits of the authority, four of the school, two of the year, three of the serial; the
last of a temporary number is a letter.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from operator import mul
from typing import Any

from d2i_helpers.anonymise.keyed import Keyed, number

_CHECK_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
_CHECK_VALUES = {letter: place for place, letter in enumerate(_CHECK_LETTERS)} | {
    str(digit): digit for digit in range(10)
}
_WEIGHTS = tuple(range(2, 14))
_FORM = re.compile(r"[A-Z](\d{3})(\d{8})(\d|[A-HJ-NP-RT-Z])", re.ASCII)
# Codes of authorities that are or were in use, since receivers check them: the present ones, and
# those of the counties before 1997, which stand in older pupils' numbers.
_EXIST = tuple(
    code
    for first, last in (
        (201, 213), (301, 320), (330, 336), (340, 344), (350, 359), (370, 373), (380, 384),
        (390, 394), (800, 803), (805, 808), (810, 813), (815, 816), (820, 826), (830, 831),
        (835, 841), (845, 846), (850, 852), (855, 857), (860, 861), (865, 896), (901, 943),
    )
    for code in range(first, last + 1)
)  # fmt: skip
_OTHERS = tuple(sorted(set(range(1000)) - set(_EXIST)))
_PLACES = {code: place for codes in (_EXIST, _OTHERS) for place, code in enumerate(codes)}
_IN_USE = frozenset(_EXIST)
_ROUNDS = 8
_REDRAWN = b"upn again\0"


def upn_check_letter(rest: str) -> str:
    """Check letter of a pupil number from its other 12 characters (DfE UPN guide).

    The sum of each character's value times its place (2 to 13), modulo 23, counts through the
    alphabet without I, O and S; a letter in the last place (temporary number) counts as its place
    in that alphabet.
    """
    values = map(_CHECK_VALUES.__getitem__, rest)
    return _CHECK_LETTERS[sum(map(mul, values, _WEIGHTS)) % 23]


class PupilNumbers:
    """Pseudonyms of pupil numbers under one key.

    Args:
        key: the secret.
    """

    def __init__(self, key: Keyed) -> None:
        self._key = key
        self._rounds: dict[bytes, list[Any]] = {}  # hashes with the keys of the rounds, by kind

    def pseudonym(self, value: str, again: int = 0) -> str:
        """The pseudonym of a pupil number: valid, of the same kind, and never shared with another.

        Two values that are valid (right check letter) never have the same pseudonym. A value that
        is none is hashed to a number of no authority, where a meeting is as good as impossible.

        Args:
            value: capital letters and digits.
            again: counts redraws, for a pseudonym that is a real number of the cohort.
        """
        found = _FORM.fullmatch(value)
        temporary = value[-1:].isalpha()
        if not found or upn_check_letter(value[1:]) != value[0] or value[-2:] == "0X":
            return self._hashed(value, again, temporary)
        authority = int(found[1])
        codes = _EXIST if authority in _IN_USE else _OTHERS
        within = int(found[2])
        if temporary:
            within = within * len(_CHECK_LETTERS) + _CHECK_VALUES[found[3]]
        else:
            within = within * 10 + int(found[3])
        size = _size(codes, temporary)
        place = _PLACES[authority] * (size // len(codes)) + within
        salt = f"{len(codes)} {temporary}".encode() + _REDRAWN * again
        while True:
            place = self._permuted(salt, place, size)
            made = _made(place, codes, temporary)
            if made[-2:] != "0X":  # firewalls refuse 0x; such numbers do not come in either
                return made

    def _hashed(self, value: str, again: int, temporary: bool) -> str:
        drawn = self._key.digest(b"upn\0" + value.encode() + bytes(again))
        while True:
            made = _made(number(drawn, _size(_OTHERS, temporary)), _OTHERS, temporary)
            if made[-2:] != "0X":
                return made
            drawn = self._key.digest(drawn)

    def _permuted(self, salt: bytes, place: int, size: int) -> int:
        """The place that a permutation of 0 to size - 1 gives to this one."""
        half = ((size - 1).bit_length() + 1) // 2
        mask = (1 << half) - 1
        rounds = self._rounds.get(salt)
        if rounds is None:
            rounds = self._rounds[salt] = [
                blake2b(key=self._key.digest(b"feistel\0%b\0%d" % (salt, number_)), digest_size=8)
                for number_ in range(_ROUNDS)
            ]
        number_of = int.from_bytes
        while True:
            left, right = place >> half, place & mask
            for keyed_hash in rounds:
                said = keyed_hash.copy()  # its key is worked in already
                said.update(b"%d" % right)
                left, right = right, left ^ (number_of(said.digest(), "big") & mask)
            place = left << half | right
            if place < size:
                return place


def _size(codes: tuple[int, ...], temporary: bool) -> int:
    """How many numbers there are of a kind."""
    return len(codes) * 10**8 * (len(_CHECK_LETTERS) if temporary else 10)


def _made(place: int, codes: tuple[int, ...], temporary: bool) -> str:
    """The number at a place of its kind."""
    rest, last = divmod(place, len(_CHECK_LETTERS) if temporary else 10)
    authority, digits = divmod(rest, 10**8)
    end = _CHECK_LETTERS[last] if temporary else str(last)
    text = f"{codes[authority]:03}{digits:08}{end}"
    return upn_check_letter(text) + text


def upn_text(digest: bytes, *, temporary: bool = False) -> str:
    """A pupil number in valid form from a digest, for children who do not exist."""
    return _made(number(digest, _size(_EXIST, temporary)), _EXIST, temporary)
