"""Keyed choices: HMAC-SHA-256 with a secret key, and what is drawn from its digests.

Plain hashes of ids and pupil numbers can be undone by trying all of them; without the key these
cannot.
"""

from __future__ import annotations

import hashlib
from operator import mul

# Digits and letters without I, O and U, which are misread, and without X, so that 0x, which
# firewalls refuse, cannot arise; 32 of them, so that a byte draws each with the same chance. One
# case only, because many databases compare without regard to case.
ID_LETTERS = b"0123456789ABCDEFGHJKLMNPQRSTVWYZ"
_TO_ID_LETTERS = ID_LETTERS * 8
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_BLOCK = 64
SHORTEST_ID = 10  # 50 bits: among 10,000 values two collide once in 20 million keys


class Keyed:
    """Digests of messages under one key; equal to ``hmac.digest(key, message, "sha256")``.

    The key is worked in once, which makes a digest of a short message about twice as fast.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK:
            key = hashlib.sha256(key).digest()
        key = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(key.translate(_INNER))
        self._outer = hashlib.sha256(key.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        """HMAC-SHA-256 of the message, 32 bytes."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def id_text(digest: bytes, length: int) -> str:
    """An id of that length (at most 32) from a digest; 5 bits a letter."""
    return digest[:length].translate(_TO_ID_LETTERS).decode()


def number(digest: bytes, below: int) -> int:
    """A whole number from 0 to below - 1; no value is favoured by more than one in 10^12."""
    return int.from_bytes(digest[:8], "big") % below


# UPN: check letter by the weights that the DfE publishes, then authority, school, year and serial.
_CHECK_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
_CHECK_VALUES = {letter: place for place, letter in enumerate(_CHECK_LETTERS)} | {
    str(digit): digit for digit in range(10)
}
# Codes of authorities that exist, since receivers check them.
_AUTHORITIES = tuple(
    f"{code}"
    for first, last in (
        (201, 213), (301, 320), (330, 336), (340, 344), (350, 359), (370, 373), (380, 384),
        (390, 394), (800, 803), (805, 808), (810, 813), (835, 841), (850, 852), (865, 896),
    )
    for code in range(first, last + 1)
)  # fmt: skip
_TEMPORARY = "ABCDEFGHJKLMNPQRTUVWYZ"  # no X: it could follow a 0


def upn_check_letter(rest: str) -> str:
    """Check letter of a pupil number from its other 12 characters (DfE UPN guide).

    The sum of each character's value times its place (2 to 13), modulo 23, counts through the
    alphabet without I, O and S; a letter in the last place (temporary number) counts as its place
    in that alphabet.
    """
    values = [_CHECK_VALUES[character] for character in rest]
    return _CHECK_LETTERS[sum(map(mul, values, range(2, 14))) % 23]


def upn_text(digest: bytes, *, temporary: bool) -> str:
    """A pupil number in valid form from a digest."""
    authority = _AUTHORITIES[number(digest, len(_AUTHORITIES))]
    rest = f"{authority}{number(digest[8:], 10**9):09d}"
    if temporary:
        rest = rest[:-1] + _TEMPORARY[digest[16] % len(_TEMPORARY)]
    return upn_check_letter(rest) + rest


# Areas that the Royal Mail does not use, of letters that are valid where they stand: nobody lives
# there, and a strict check of the form passes.
_AREAS = tuple(
    first + second
    for first, seconds in {
        "A": "ACDEFG", "E": "ABDEF", "F": "ABCDEF", "K": "BCDEF", "M": "ABCDF", "N": "ABCDF",
        "R": "ABCDE", "U": "ACDEF", "Y": "ABCDE", "Z": "ABCDF",
    }.items()
    for second in seconds
)  # fmt: skip
_INWARD = "ABDEFGHJLNPQRSTUWYZ"  # C I K M O V are not used there; X could follow a 0


def postcode_text(digest: bytes) -> str:
    """A postcode in valid form, in an area that does not exist, from a digest."""
    area = _AREAS[digest[0] % len(_AREAS)]
    district = 1 + number(digest[8:], 99)
    letters = _INWARD[digest[2] % len(_INWARD)] + _INWARD[digest[3] % len(_INWARD)]
    return f"{area}{district} {digest[1] % 10}{letters}"
