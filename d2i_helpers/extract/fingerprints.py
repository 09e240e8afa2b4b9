"""A fingerprint a person: one number for all source rows that its document depends on.

The fingerprint of a row is a 64-bit hash of every column that is read of it. A person's is made of
the sums of these over the rows of each query, so it does not depend on the order of rows. It takes
in the person's own rows and every row that extract reaches for the person (`ReadPlan`): also those
of professionals, and of other children's periods of care.

Where the database can hash a row itself (`dialects`), only the hash and the keys are fetched. The
two ways give different numbers; `salt` tells which one was used.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import xxhash

from d2i_helpers.extract.per_person import Numbers

# Of marshal's forms the newest whose bytes depend on the values alone: later ones also tell whether
# two values are one object.
_FORM = 2
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_AGAIN = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(29)


def row_fingerprints(rows: Sequence[Sequence[Any]]) -> Numbers:
    """The hash of each raw row, as a number of 64 bits."""
    written: Callable[[Any, int], bytes] = marshal.dumps
    try:
        return _hashes(map(written, rows, repeat(_FORM)), len(rows))
    except ValueError:  # some driver's values are not of Python's plain types
        return _hashes(map(_written, rows), len(rows))


def _hashes(written: Iterable[bytes], count: int) -> Numbers:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, written), np.uint64, count).view(np.int64)


def _written(row: Sequence[Any]) -> bytes:
    try:
        plain: Any = row
        return marshal.dumps(plain, _FORM)
    except ValueError:
        return repr(tuple(row)).encode("utf-8", "surrogatepass")


def of_database(hashes: Numbers) -> Numbers:
    """The hashes of rows that the database made, fit to be added up.

    PostgreSQL's hash of a row is a weighted sum of its values' hashes. Sums of such numbers would
    stay the same where two rows of a person exchange the values of a column.
    """
    made = hashes.view(np.uint64).copy()
    for mix in (_MIX, _MIX_AGAIN):
        made ^= made >> _SHIFT
        made *= mix
    made ^= made >> _SHIFT
    return made.view(np.int64)


def mixed(sums: Iterable[Numbers], count: int) -> Numbers:
    """The fingerprints of so many persons.

    Args:
        sums: for every query of the plan, in its order, the hashes of its rows added up a person.
    """
    made = np.zeros(count, np.uint64)
    for of_read in sums:
        made = (made ^ of_read.view(np.uint64)) * _MIX
        made ^= made >> _SHIFT
    return made.view(np.int64)
