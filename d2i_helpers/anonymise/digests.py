"""Keyed digests of the texts that the leak check compares, of 64 bits each.

They are kept for documents that need not be made anew, so they have to be the same every day, and
must not tell anybody without the key what they were made of.
"""

from __future__ import annotations

import sys
from array import array
from hashlib import blake2b

from d2i_helpers.anonymise.keyed import Keyed

_BYTES = 8  # of each
_MOST_REMEMBERED = 20_000


class Digests(dict[str, int]):
    """Digests under one key, as a dictionary: `digests[text]`; names and ids of workers repeat.

    Args:
        key: the pseudonym key; what the digests are made with is derived from it.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._keyed = blake2b(key=Keyed(key).digest(b"compared\0"), digest_size=_BYTES)

    def __missing__(self, text: str) -> int:
        keyed = self._keyed.copy()  # the key is worked in already
        keyed.update(text.encode("utf-8", "surrogatepass"))
        # in the order of this machine's bytes, so that an array of them holds the bytes as drawn
        digest = int.from_bytes(keyed.digest(), sys.byteorder, signed=True)
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[text] = digest
        return digest


def digests_of(held: bytes) -> array[int]:
    """The digests that were kept one behind the other."""
    return array("q", bytes(held))
