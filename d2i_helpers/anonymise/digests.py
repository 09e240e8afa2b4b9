"""Digests of the texts that the leak check compares, and how they are kept.

They are kept for documents that need not be made anew, so they have to be the same every day, and
must not tell anybody without the key what they were made of. A fast hash that anybody could try out
makes them; so they are sealed where they are kept, under a secret that the pseudonym key gives.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

import numpy as np
from xxhash import xxh3_64_intdigest

from d2i_helpers.anonymise.keyed import Keyed

DIGESTS = "Q"  # the type of an array of them
_ORDER: Final = "little"  # of the bytes of a number; any does, as it is the same both ways


def digest(text: str) -> int:
    """64 bits of a text; for comparing in memory."""
    return xxh3_64_intdigest(text.encode())


def keyed_digest(key: bytes) -> Callable[[str], int]:
    """The same under a key, so that nobody can choose texts whose digests meet."""
    seed = int.from_bytes(Keyed(key).digest(b"compared\0")[:8])

    def of(text: str) -> int:
        return xxh3_64_intdigest(text.encode(), seed)

    return of


class DigestSet(Collection[int]):
    """Digests to look others up in, eight bytes each: in Python's own set they take ninety."""

    def __init__(self, digests: Iterable[int]) -> None:
        self._sorted = array(DIGESTS, digests)
        if self._sorted:
            np.frombuffer(self._sorted, np.uint64).sort()  # where it is

    def __contains__(self, one: object) -> bool:
        at = bisect_left(self._sorted, one)  # type: ignore[call-overload]
        return at < len(self._sorted) and self._sorted[at] == one

    def __iter__(self) -> Iterator[int]:
        return iter(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)


def digests_of(held: bytes) -> array[int]:
    """The digests that stand one behind the other."""
    return array(DIGESTS, held)


class Seal:
    """Bytes that say nothing without the key: a stream of SHAKE-256 is laid over them.

    Args:
        key: the pseudonym key; what the stream is made with is derived from it.
    """

    def __init__(self, key: bytes) -> None:
        self._stream = hashlib.shake_256(Keyed(key).digest(b"sealed\0"))

    def turn(self, held: bytes, document_hash: bytes, person_id: str) -> bytes:
        """Seal what belongs to one document, or open it.

        Args:
            held: the same bytes whenever they are of this document; else two of them would tell in
                what they differ.
            document_hash: 32 bytes.
            person_id: of the row that has the document.
        """
        stream = self._stream.copy()
        stream.update(document_hash + person_id.encode())
        size = len(held)
        laid_over = int.from_bytes(stream.digest(size), _ORDER) ^ int.from_bytes(held, _ORDER)
        return laid_over.to_bytes(size, _ORDER)
