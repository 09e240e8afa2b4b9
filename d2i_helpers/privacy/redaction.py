"""The last barrier: find and blank identities and secrets in text that is about to be saved.

The rest of this package keeps identifying text out of records; this module is for what nobody
foresaw. docs/privacy.md says what it finds and what it cannot find.

It takes one pass over the text, however many identifiers there are: the text is cut into words
(runs of letters and digits), and each word is looked up. An identifier of several words
(``O'Brien``, ``AB12 3DE``, ``van der Berg``) is looked up by its first word. Case, accents and what
stands between the words do not matter.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from d2i_helpers.privacy.plain_words import PLAIN_WORDS
from d2i_helpers.privacy.secrets_in_force import secret_patterns

REDACTED = "[redacted]"
_WHOLE_NUMBER = 6  # digits of a bare number that is taken for an id; shorter ones are counts
_AFTER_ID = 3  # digits of a number that is taken for an id after the word "id"
_CODE = 5  # characters of an id with letters and digits
_NAME = 3  # letters of a name in Latin script that is looked for on its own
_GAP = 8  # characters that may stand between two words of one identifier
_NEAR = 300  # characters around another hit in which a recent date counts as a birth date
_BUSINESS_YEARS = 4  # records name days of these last years; children born then are less protected

_DROP = {code: None for code in range(128) if not chr(code).isalnum()}
_LETTERS = str.maketrans(
    {"Ł": "L", "Ø": "O", "Đ": "D", "Ð": "D", "Þ": "TH", "Æ": "AE", "Œ": "OE", "Ħ": "H", "Ŧ": "T"}
)
_SKIP_IN_JSON = ("image/png", "image/jpeg", "application/pdf")

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_SCAN = re.compile(
    r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+"  # pictures: letters without meaning
    r'|"(?:image/png|image/jpeg|application/pdf)":\s*(?:"[^"]*"|\[[^\]]*\])'
    r"|(?:\x1b|\\u001b|\\x1b)\[[0-9;?]*[A-Za-z]"  # colours of a terminal
    r"|&(?:\#\d+|\#x[0-9a-fA-F]+|amp|lt|gt|quot|apos|nbsp);"
    r"|%[23][0-9a-fA-F]"  # punctuation in a URL
    r"|(?<!\d)(?P<iso>\d{4}([-/.])\d\d\2\d\d)(?!\d)"
    r"|(?<!\d)(?P<uk>\d{1,2}([-/.])\d{1,2}\4\d{4})(?!\d)"
    rf"|(?<!\d)(?P<long>\d{{1,2}}(?:st|nd|rd|th)?[ -](?:{_MONTHS})[a-z]*,?[ -]\d{{4}})(?!\d)"
    rf"|\b(?P<us>(?:{_MONTHS})[a-z]* \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})(?!\d)"
    r"|\bdate(?:time)?\((?P<call>\d{4}, ?\d{1,2}, ?\d{1,2})(?!\d)"
    r"|(?P<word>(?:\\u[0-9a-fA-F]{4}|(?:\\x[89a-fA-F][0-9a-fA-F]|%[89a-fA-F][0-9a-fA-F]){2,}"
    r"|[^\W_])+)"
)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_BYTES = re.compile(r"(?:(?:\\x|%)[89a-fA-F][0-9a-fA-F])+")  # of a letter, in UTF-8
_SPACED_UPN = re.compile(r"\b[A-Za-z](?=[\d -]{4,})(?:[ -]?\d){11}[ -]?[A-Za-z\d]\b")
_WORD = re.compile(r"[^\W_]+")
_ISO = re.compile(r"\d{4}-\d\d-\d\d\Z")


def normal(text: str) -> str:
    """Letters and digits only, upper case, no accents: the form in which values are compared."""
    if text.isascii():
        return text.upper() if text.isalnum() else text.translate(_DROP).upper()
    plain = unicodedata.normalize("NFKD", text).upper().translate(_LETTERS)
    return "".join(letter for letter in plain if letter.isalnum())


class Redactor:
    """Looks for the identifiers of a cohort and the secrets in force.

    Args:
        identifiers: ids, names, full names, postcodes, pupil numbers and birth dates (YYYY-MM-DD)
            as plain text; the shape tells what each of them is.
        secrets: texts that may not occur anywhere, whole or inside a word.
        allowed: known, harmless texts (parameters, table names); a word or date of theirs is
            never a hit.
        today: the day of the run. Birth dates of the last few years count only near another
            hit, because a record names such days itself.
    """

    def __init__(
        self,
        identifiers: Iterable[str],
        secrets: Iterable[str] = (),
        *,
        allowed: Iterable[str] = (),
        today: dt.date | None = None,
    ) -> None:
        self._sequences: set[str] = set()
        self._lengths: dict[
            str, tuple[int, ...]
        ] = {}  # first word -> numbers of words of the identifiers that start with it
        self._after_id: set[str] = set()
        self._dates: set[str] = set()
        self._business_from = f"{(today or dt.date.today()).year - _BUSINESS_YEARS}-01-01"
        self._secrets = secret_patterns(secrets)
        harmless = {word for text in allowed for word in _words(text)}
        harmless |= {day for text in allowed for day in re.findall(r"\d{4}-\d\d-\d\d", text)}
        for identifier in identifiers:
            self._add(identifier, harmless)

    def _add(self, identifier: str, harmless: set[str]) -> None:
        if not identifier:
            return
        if _ISO.match(identifier):
            if identifier not in harmless:
                self._dates.add(identifier)
            return
        words = _words(identifier)
        joined = "".join(words)
        if not _long_enough(joined):
            if joined.isdigit() and len(joined) >= _AFTER_ID and joined not in harmless:
                self._after_id.add(joined)
            if len(words) < 2 or not joined.isalpha():
                return
        if len(words) > 1:
            self._put(words)
        if (len(words) == 1 or len(joined) >= _CODE) and joined not in harmless | PLAIN_WORDS:
            self._put([joined])

    def _put(self, words: Sequence[str]) -> None:
        self._sequences.add(" ".join(words))
        known = self._lengths.get(words[0], ())
        if len(words) not in known:
            self._lengths[words[0]] = tuple(sorted((*known, len(words)), reverse=True))

    def find(self, text: str) -> int:
        """How often an identity or a secret occurs in the text."""
        return self.redact(text)[1]

    def redact(self, text: str) -> tuple[str, int]:
        """The text with every hit blanked, and the number of hits."""
        hits = 0
        for pattern in self._secrets:
            text, number = pattern.subn(REDACTED, text)
            hits += number
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        spans = self._spans(text)
        if not spans:
            return text, hits
        parts, last = [], 0
        for start, end in spans:
            parts += [text[last:start], REDACTED]
            last = end
        return "".join([*parts, text[last:]]), hits + len(spans)

    def redact_json(self, value: Any) -> tuple[Any, int]:
        """The same for every text in a JSON structure, keys included; pictures are left alone."""
        if isinstance(value, str):
            return self.redact(value)
        hits = 0
        if isinstance(value, dict):
            built = {}
            for key, held in value.items():
                new_key, number = self.redact(key) if isinstance(key, str) else (key, 0)
                if key not in _SKIP_IN_JSON:
                    held, more = self.redact_json(held)
                    number += more
                built[new_key] = held
                hits += number
            return built, hits
        if isinstance(value, list):
            items = [self.redact_json(item) for item in value]
            return [item for item, _ in items], sum(number for _, number in items)
        if isinstance(value, int) and not isinstance(value, bool):
            number = self.find(str(value))
            return (REDACTED, number) if number else (value, 0)
        return value, 0

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each hit, in order, without overlaps."""
        words: list[tuple[int, int, str]] = []
        hits: list[tuple[int, int]] = []
        recent: list[tuple[int, int]] = []
        memo: dict[str, str] = {}
        for match in _SCAN.finditer(text):
            group = match.lastgroup
            if group == "word":
                word = match[group]
                plain = memo.get(word)
                if plain is None:
                    plain = memo[word] = normal(_unescaped(word))
                words.append((*match.span(), plain))
            elif group is not None:
                day = _day(match[group], group)
                if day in self._dates:
                    (recent if day >= self._business_from else hits).append(match.span(group))
        hits += self._word_hits(text, words)
        hits += [m.span() for m in _SPACED_UPN.finditer(text) if self._is_spaced_upn(m[0])]
        hits.sort()
        hits += [span for span in recent if any(abs(span[0] - start) < _NEAR for start, _ in hits)]
        return _apart(sorted(hits))

    def _is_spaced_upn(self, text: str) -> bool:
        plain = normal(text)
        return len(plain) < len(text) and plain in self._sequences

    def _word_hits(self, text: str, words: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
        hits: list[tuple[int, int]] = []
        lengths, after_id, dates = self._lengths, self._after_id, self._dates
        skip_to = 0
        for place, (start, end, word) in enumerate(words):
            if place < skip_to:
                continue
            if word in lengths:
                count = self._match(words, place, word)
                if count and not _is_fraction(text, start, word):
                    hits.append((start, words[place + count - 1][1]))
                    skip_to = place + count
                    continue
            if word in after_id and place and words[place - 1][2] == "ID":
                hits.append((start, end))
            elif len(word) == 8 and word.isdigit() and dates:
                day = f"{word[:4]}-{word[4:6]}-{word[6:]}"
                if day in dates and day < self._business_from:
                    hits.append((start, end))
            elif (
                word
                and text[start - 1 : start] == "\\"
                and word[0] in "NRTBF"
                and word[1:] in lengths
            ):
                # a line break written as \n, as in JSON, sticks to the next word
                count = self._match(words, place, word[1:])
                if count:
                    hits.append((start + 1, words[place + count - 1][1]))
                    skip_to = place + count
        return hits

    def _match(self, words: list[tuple[int, int, str]], place: int, first: str) -> int:
        """How many words from this place on are an identifier; 0: none."""
        for count in self._lengths[first]:
            run = words[place : place + count]
            if len(run) < count or any(b[0] - a[1] > _GAP for a, b in pairwise(run)):
                continue
            if " ".join([first, *(word for _, _, word in run[1:])]) in self._sequences:
                return count
        return 0


def _words(text: str) -> list[str]:
    return [word for part in _WORD.findall(unicodedata.normalize("NFC", text))
            if (word := normal(part))]  # fmt: skip


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The sorted spans, with overlapping ones merged."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _long_enough(joined: str) -> bool:
    """Whether an identifier of this shape can be told from a count, a code or a plain word."""
    if joined.isdigit():
        return len(joined) >= _WHOLE_NUMBER
    if joined.isalpha():
        return len(joined) >= _NAME or (bool(joined) and not joined.isascii())
    return len(joined) >= _CODE


def _is_fraction(text: str, start: int, word: str) -> bool:
    """Digits after a decimal point: part of a number or of a time, not an id."""
    return word.isdigit() and start >= 2 and text[start - 1] == "." and text[start - 2].isdigit()


def _unescaped(word: str) -> str:
    if "\\" not in word and "%" not in word:
        return word
    word = _ESCAPED.sub(lambda m: chr(int(m[1], 16)), word)
    return _BYTES.sub(lambda m: _letters(re.findall(r"[0-9a-fA-F]{2}", m[0])), word)


def _letters(pairs: list[str]) -> str:
    return bytes(int(pair, 16) for pair in pairs).decode("utf-8", errors="replace")


def _day(text: str, form: str) -> str:
    if form == "iso":
        return re.sub(r"\D", "-", text)
    if form in {"long", "us"}:
        day, year = re.findall(r"\d+", text)
        named = re.search(_MONTHS, text)
        month = str(_MONTHS.split("|").index(named[0]) + 1) if named else ""
    else:
        first, second, third = re.split(r"\D+", text)
        year, month, day = (third, second, first) if form == "uk" else (first, second, third)
    return f"{year}-{month:0>2}-{day:0>2}"
