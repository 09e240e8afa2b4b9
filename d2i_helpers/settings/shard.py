"""A shard: the part of all children that one of several processes works on.

Which children belong to it the database says: `database.shards`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_SHARDS = 256
_FORM = re.compile(r"([0-9]{1,3})/([0-9]{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` shards; the first has the number 1."""

    number: int = 1
    of: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether it holds every child."""
        return self.of == 1

    @property
    def is_first(self) -> bool:
        """Whether it also has what belongs to no child, such as persons without an id."""
        return self.number == 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Shard()


def read_shard(text: str | None) -> Shard:
    """The shard that a parameter names; without a text the whole.

    Raises:
        ValueError: it is not of the form k/n.
    """
    if text is None or not text.strip():
        return WHOLE
    if found := _FORM.fullmatch(text.strip()):
        number, of = int(found[1]), int(found[2])
        if 1 <= number <= of <= MOST_SHARDS:
            return Shard(number, of)
    raise ValueError(
        f"a shard is written k/n, such as 2/4 for the second of four: k from 1 to n, n at most "
        f"{MOST_SHARDS}"
    )
