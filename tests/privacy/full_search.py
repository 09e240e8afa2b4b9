"""The search for identities as it was before digests: all identifiers in memory, one pass.

The oracle of the look-up by digests. It shares with it how a text is cut into words, and nothing of
how identifiers are kept and found.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from d2i_helpers.privacy import redaction
from d2i_helpers.privacy.plain_words import PLAIN_WORDS
from d2i_helpers.privacy.redaction import REDACTED, normal

Span = tuple[int, int]
ISO = re.compile(r"\d{4}-\d\d-\d\d\Z")
SPACED_UPN = re.compile(r"\b[A-Za-z](?=[\d -]{4,})(?:[ -]?\d){11}[ -]?[A-Za-z\d]\b")


class FullSearch:
    """Holds every identifier of the cohort, and looks for each in a text."""

    def __init__(
        self, identifiers: Iterable[str], *, allowed: Iterable[str] = (), today: dt.date
    ) -> None:
        self.sequences: set[str] = set()
        self.lengths: dict[str, set[int]] = {}
        self.after_id: set[str] = set()
        self.dates: set[str] = set()
        self.business_from = f"{today.year - 4}-01-01"
        texts = list(allowed)
        harmless = {word for text in texts for word in redaction._words(text)}
        harmless |= {day for text in texts for day in re.findall(r"\d{4}-\d\d-\d\d", text)}
        for identifier in identifiers:
            self.add(identifier, harmless)

    def add(self, identifier: str, harmless: set[str]) -> None:
        if ISO.match(identifier):
            self.dates |= {identifier} - harmless
            return
        words = redaction._words(identifier)
        joined = "".join(words)
        if not long_enough(joined):
            if joined.isdigit() and len(joined) >= 3 and joined not in harmless:
                self.after_id.add(joined)
            if len(words) < 2 or not joined.isalpha():
                return
        if len(words) > 1:
            self.put(words)
        if (len(words) == 1 or len(joined) >= 5) and joined not in harmless | PLAIN_WORDS:
            self.put([joined])

    def put(self, words: Sequence[str]) -> None:
        self.sequences.add(" ".join(words))
        self.lengths.setdefault(words[0], set()).add(len(words))

    def redact(self, text: str) -> tuple[str, int]:
        """The text with every hit blanked, and the number of hits."""
        spans = self.spans(text)
        for start, end in reversed(spans):
            text = text[:start] + REDACTED + text[end:]
        return text, len(spans)

    def spans(self, text: str) -> list[Span]:
        words: list[tuple[int, int, str]] = []
        hits: list[Span] = []
        recent: list[Span] = []
        for match in redaction._SCAN.finditer(text):
            group = match.lastgroup
            if group == "word":
                words.append((*match.span(), normal(redaction._unescaped(match[group]))))
            elif group is not None:
                day = redaction._day(match[group], group)
                if day in self.dates:
                    (recent if day >= self.business_from else hits).append(match.span(group))
        hits += self.word_hits(text, words)
        for match in SPACED_UPN.finditer(text):
            plain = normal(match[0])
            if len(plain) < len(match[0]) and plain in self.sequences:
                hits.append(match.span())
        hits += [span for span in recent if any(abs(span[0] - hit[0]) < 300 for hit in [*hits])]
        return redaction._apart(sorted(hits))

    def word_hits(self, text: str, words: list[tuple[int, int, str]]) -> list[Span]:
        hits: list[Span] = []
        skip_to = 0
        for place, (start, end, word) in enumerate(words):
            if place < skip_to:
                continue
            sticks = text[start - 1 : start] == "\\" and word[:1] and word[:1] in "NRTBF"
            count = self.match(words, place, word)
            if count and not redaction._is_fraction(text, start, word):
                hits.append((start, words[place + count - 1][1]))
                skip_to = place + count
            elif word in self.after_id and place and words[place - 1][2] == "ID":
                hits.append((start, end))
            elif len(word) == 8 and word.isdigit():
                day = f"{word[:4]}-{word[4:6]}-{word[6:]}"
                if day in self.dates and day < self.business_from:
                    hits.append((start, end))
            elif sticks and (count := self.match(words, place, word[1:])):
                hits.append((start + 1, words[place + count - 1][1]))
                skip_to = place + count
        return hits

    def match(self, words: list[tuple[int, int, str]], place: int, first: str) -> int:
        """How many words from this place on are an identifier; 0: none."""
        for count in sorted(self.lengths.get(first, ()), reverse=True):
            run = words[place : place + count]
            if len(run) < count or any(b[0] - a[1] > 8 for a, b in pairwise(run)):
                continue
            if " ".join([first, *(word for _, _, word in run[1:])]) in self.sequences:
                return count
        return 0


def long_enough(joined: str) -> bool:
    """Whether an identifier of this shape can be told from a count, a code or a plain word."""
    if joined.isdigit():
        return len(joined) >= 6
    if joined.isalpha():
        return len(joined) >= 3 or not joined.isascii()
    return len(joined) >= 5
