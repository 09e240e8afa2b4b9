"""The last barrier: find and blank identities and secrets in text that is about to be saved.

The rest of this package keeps identifying text out of records; this module is for what nobody
foresaw. docs/privacy.md says what it finds and what it cannot find.

It takes one pass over the text, however many identifiers there are: the text is cut into words
(runs of letters and digits), and each word is looked up. Where one is the first word of an
identifier (``O'Brien``, ``AB12 3DE``, ``van der Berg``), the words that follow are looked up with
it. Case, accents and what stands between the words do not matter. What is looked up are *forms*.
The search need not hold those of the cohort: it asks a function that knows them.
"""

from __future__ import annotations

import datetime as dt
import html
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from d2i_helpers.privacy.plain_words import PLAIN_WORDS
from d2i_helpers.privacy.secrets_in_force import secret_patterns

REDACTED = "[redacted]"
# kinds of forms: words in a row; the first word of several; the first words of more than that; a
# number that counts after the word "id"; a date
WORDS, FIRST, MORE, AFTER_ID, DATE = "wfmid"
Known = Callable[[Collection[str]], Collection[str]]  # of some forms those that the cohort has
_WHOLE_NUMBER = 6  # digits of a bare number that is taken for an id; shorter ones are counts
_AFTER_ID = 3  # digits of a number that is taken for an id after the word "id"
_CODE = 5  # characters of an id with letters and digits
_NAME = 3  # letters of a name in Latin script that is looked for on its own
_RUN = 4  # words of an identifier that are looked up at once; few have more
_GAP = 8  # characters that may stand between two words of one identifier
_NEAR = 300  # characters around another hit in which a recent date counts as a birth date
_BUSINESS_YEARS = 4  # records name days of these last years; children born then are less protected

NOT_ALNUM = bytes(code for code in range(128) if not chr(code).isalnum())
_CAPITALS = bytes(range(256)).upper()  # what stands for each byte
_LETTERS = str.maketrans(
    {"Ł": "L", "Ø": "O", "Đ": "D", "Ð": "D", "Þ": "TH", "Æ": "AE", "Œ": "OE", "Ħ": "H", "Ŧ": "T"}
)
_SKIP_IN_JSON = ("image/png", "image/jpeg", "application/pdf")

_HEX = "[0-9a-fA-F]"
# controls, blanks and unseen characters, as JSON and Python write them: they end a word
_ESCAPED_BLANK = (
    rf"u(?:00(?:[01]{_HEX}|7[fF]|[89]{_HEX}|[aA][0dD])|1680|20[0-6]{_HEX}|3000|[fF][eE][fF][fF])"
)
_ESCAPED_BYTE = rf"x(?:[01]{_HEX}|7[fF]|[89]{_HEX}|[aA][0dD])"
_BYTE = r"(?:\\x|%)"  # of UTF-8, in Python or in a URL
_BLANK_IN_BYTES = (
    rf"{_BYTE}(?:[cC]2{_BYTE}[89abAB]{_HEX}|[eE]2{_BYTE}8[01]{_BYTE}{_HEX}{{2}}"
    rf"|[eE]3{_BYTE}80{_BYTE}80|[eE][fF]{_BYTE}[bB][bB]{_BYTE}[bB][fF])"
)
# letters and digits as numbers or names of HTML
_LETTER_IN_HTML = (
    r"&(?:\#0*(?:4[89]|5[0-7]|6[5-9]|[78]\d|90|9[7-9]|1[01]\d|12[0-2]|19[2-9]|[2-5]\d\d)"
    rf"|\#[xX]0*(?:3\d|[46][1-9a-fA-F]|[57][0-9aA]|[c-fC-F]{_HEX}|1{_HEX}{{2}}|2[0-4]{_HEX})"
    r"|[A-Za-z]{1,2}(?:acute|grave|uml|circ|tilde|cedil|ring|caron|slash|lig)|eth|ETH|thorn|THORN);"
)

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_SCAN = re.compile(
    r"""(?=[^\W_]|["&%\x1b\\])(?:"""  # most places are none of these: the rest is slow
    r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+"  # pictures: letters without meaning
    r'|"(?:image/png|image/jpeg|application/pdf)":\s*(?:"[^"]*"|\[[^\]]*\])'
    r"|(?:\x1b|\\u001b|\\x1b)\[[0-9;?]*[A-Za-z]"  # colours of a terminal
    rf"|\\(?:{_ESCAPED_BLANK}|{_ESCAPED_BYTE}(?!\\x[89abAB]))|{_BLANK_IN_BYTES}"
    rf"|(?!{_LETTER_IN_HTML})&(?:\#\d+|\#[xX]{_HEX}+|amp|lt|gt|quot|apos|nbsp);"
    r"|%[23][0-9a-fA-F]"  # punctuation in a URL
    r"|(?=\d)(?<!\d)(?:"
    r"(?P<iso>\d{4}([-/.])\d\d\2\d\d)(?!\d)"
    r"|(?P<uk>\d{1,2}([-/.])\d{1,2}\4\d{4})(?!\d)"
    rf"|(?P<long>\d{{1,2}}(?:st|nd|rd|th)?[ -](?:{_MONTHS})[a-z]*,?[ -]\d{{4}})(?!\d))"
    rf"|\b(?P<us>(?:{_MONTHS})[a-z]* \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})(?!\d)"
    r"|\bdate(?:time)?\((?P<call>\d{4}, ?\d{1,2}, ?\d{1,2})(?!\d)"
    rf"|(?P<word>(?:\\(?!{_ESCAPED_BLANK})u{_HEX}{{4}}"
    rf"|(?:(?!{_BLANK_IN_BYTES}){_BYTE}[89a-fA-F]{_HEX}){{2,}}|{_LETTER_IN_HTML}|[^\W_]+)+))"
)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_BYTES = re.compile(r"(?:(?:\\x|%)[89a-fA-F][0-9a-fA-F])+")  # of a letter, in UTF-8
_SPACED_UPN = re.compile(r"\b[A-Za-z](?=[\d -]{4,})(?:[ -]?\d){11}[ -]?[A-Za-z\d]\b")
_WORD = re.compile(r"[^\W_]+")
_ISO = re.compile(r"\d{4}-\d\d-\d\d\Z")


def capitals_without(text: str, dropped: bytes) -> str:
    """A text of ASCII in capitals, without some of its characters."""
    return text.encode().translate(_CAPITALS, dropped).decode()


def normal(text: str) -> str:
    """Letters and digits only, upper case, no accents: the form in which values are compared."""
    if text.isascii():
        if text.isalnum():
            return text.upper()
        return capitals_without(text, NOT_ALNUM)
    plain = unicodedata.normalize("NFKD", text).upper().translate(_LETTERS)
    return "".join(letter for letter in plain if letter.isalnum())


def forms_of(identifier: str) -> Iterator[str]:
    """The forms by which an identifier is looked for: a letter for the kind, and a text.

    They do not depend on the run, so that digests of them can be kept (`identity_hashes`). What a
    run does not count (its own parameters, plain words) is left out when a text is searched.

    Args:
        identifier: as `Redactor` takes it.
    """
    if _ISO.match(identifier):
        yield DATE + identifier
        return
    words = _words(identifier)
    joined = "".join(words)
    if not _long_enough(joined):
        if joined.isdigit() and len(joined) >= _AFTER_ID:
            yield AFTER_ID + joined
        if len(words) < 2 or not joined.isalpha():
            return
    if len(words) > 1:
        yield WORDS + " ".join(words)
        yield FIRST + words[0]
        for count in range(_RUN, len(words)):
            yield MORE + " ".join(words[:count])
    if len(words) == 1 or len(joined) >= _CODE:
        yield WORDS + joined


class Redactor:
    """Looks for the identifiers of a cohort and the secrets in force.

    Args:
        identifiers: ids, names, full names, postcodes, pupil numbers and birth dates (YYYY-MM-DD)
            as plain text; the shape tells what each of them is.
        secrets: texts that may not occur anywhere, whole or inside a word.
        known: in place of identifiers: a function of some forms (`forms_of`) that gives those
            which a child of the cohort has.
        allowed: known, harmless texts (parameters, table names); a word or date of theirs is
            never a hit.
        today: the day of the run. Birth dates of the last few years count only near another
            hit, because a record names such days itself.
    """

    def __init__(
        self,
        identifiers: Iterable[str] = (),
        secrets: Iterable[str] = (),
        *,
        known: Known | None = None,
        allowed: Iterable[str] = (),
        today: dt.date | None = None,
    ) -> None:
        held = frozenset(form for identifier in identifiers for form in forms_of(identifier))
        self._known = known or (held.intersection if held else None)
        texts = list(allowed)
        self._harmless = {word for text in texts for word in _words(text)}
        self._harmless |= {day for text in texts for day in re.findall(r"\d{4}-\d\d-\d\d", text)}
        self._business_from = f"{(today or dt.date.today()).year - _BUSINESS_YEARS}-01-01"
        self._secrets = secret_patterns(secrets)

    def find(self, text: str) -> int:
        """How often an identity or a secret occurs in the text."""
        return self.redact(text)[1]

    def redact(self, text: str) -> tuple[str, int]:
        """The text with every hit blanked, and the number of hits."""
        return self._clean([text])[text]

    def redact_json(self, value: Any) -> tuple[Any, int]:
        """The same for every text in a JSON structure, keys included; pictures are left alone."""
        return _replaced(value, self._clean(set(_texts_in(value))))

    def _clean(self, texts: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Each text without its hits, and their number."""
        cleaned = {text: self._without_secrets(text) for text in texts}
        if self._known is None:
            return cleaned
        scans = {text: _scanned(clean) for text, (clean, _) in cleaned.items()}
        found = _Search(self._known, self._harmless).of([*scans.values()])
        for text, (clean, hits) in cleaned.items():
            spans = self._spans(scans[text], found)
            cleaned[text] = (_blanked(clean, spans), hits + len(spans))
        return cleaned

    def _without_secrets(self, text: str) -> tuple[str, int]:
        hits = 0
        for pattern in self._secrets:
            text, number = pattern.subn(REDACTED, text)
            hits += number
        return text if text.isascii() else unicodedata.normalize("NFC", text), hits

    def _spans(self, scan: _Scan, found: _Found) -> list[tuple[int, int]]:
        """Start and end of each hit, in order, without overlaps."""
        if not (found.sequences or found.lone):
            return []
        hits: list[tuple[int, int]] = []
        recent: list[tuple[int, int]] = []
        for span, day in scan.dates:
            if DATE + day in found.lone:
                (recent if day >= self._business_from else hits).append(span)
        hits += self._word_hits(scan, found)
        hits += [span for span, upn in scan.spaced_upns if upn in found.sequences]
        hits.sort()
        hits += [span for span in recent if any(abs(span[0] - start) < _NEAR for start, _ in hits)]
        return _apart(sorted(hits))

    def _word_hits(self, scan: _Scan, found: _Found) -> list[tuple[int, int]]:
        hits: list[tuple[int, int]] = []
        words, lengths, lone = scan.words, found.lengths, found.lone
        skip_to = 0
        for place, (start, end, word) in enumerate(words):
            if place < skip_to:
                continue
            if word in lengths:
                count = found.match(scan, place, word)
                if count and not _is_fraction(scan.text, start, word):
                    hits.append((start, words[place + count - 1][1]))
                    skip_to = place + count
                    continue
            if AFTER_ID + word in lone and scan.follows_id(place):
                hits.append((start, end))
            elif (eight := _day_of_digits(word)) and DATE + eight in lone:
                if eight < self._business_from:
                    hits.append((start, end))
            elif word[1:] in lengths and scan.sticks(words[place]):
                count = found.match(scan, place, word[1:])
                if count:
                    hits.append((start + 1, words[place + count - 1][1]))
                    skip_to = place + count
        return hits


@dataclass(slots=True)
class _Scan:
    """A text, cut into words and dates."""

    text: str
    words: list[tuple[int, int, str]]  # start, end, normal form
    dates: list[tuple[tuple[int, int], str]]  # where a date stands, and which
    spaced_upns: list[tuple[tuple[int, int], str]]  # the same of pupil numbers with blanks in them
    distinct: set[str]  # words

    def lone_forms(self) -> Iterator[str]:
        """Forms of what stands alone: dates, pupil numbers with blanks, numbers after `id`."""
        for _, day in self.dates:
            yield DATE + day
        for _, upn in self.spaced_upns:
            yield WORDS + upn
        for word in self.distinct:
            if eight := _day_of_digits(word):
                yield DATE + eight
        if "ID" in self.distinct:
            for (_, _, before), (_, _, word) in pairwise(self.words):
                if before == "ID" and word.isdigit():
                    yield AFTER_ID + word

    def firsts(self) -> set[str]:
        """The words that an identifier could begin with."""
        if "\\" not in self.text:
            return self.distinct
        stuck = {word[1:] for _, _, word in filter(self.sticks, self.words)}
        return self.distinct | stuck

    def places(self, firsts: Collection[str]) -> Iterator[tuple[int, str]]:
        """Where such a word stands, and which."""
        for place, (_, _, word) in enumerate(self.words):
            if word in firsts:
                yield place, word
            if word[1:] in firsts and self.sticks(self.words[place]):
                yield place, word[1:]

    def follows_id(self, place: int) -> bool:
        """Whether the word before is `id`."""
        return place > 0 and self.words[place - 1][2] == "ID"

    def sticks(self, at: tuple[int, int, str]) -> bool:
        """Whether a line break written as \\n, as in JSON, sticks to the word."""
        start, _, word = at
        return len(word) > 1 and word[0] in "NRTBF" and self.text[start - 1 : start] == "\\"

    def run(self, place: int, first: str, count: int) -> str | None:
        """So many words from this place on; None where fewer follow, or one stands too far off."""
        words = self.words[place : place + count]
        if len(words) < count or any(b[0] - a[1] > _GAP for a, b in pairwise(words)):
            return None
        return " ".join([first, *(word for _, _, word in words[1:])])


@dataclass(slots=True)
class _Found:
    """What some texts have of a cohort's identifiers."""

    sequences: set[str] = field(default_factory=set)  # of words
    lengths: dict[str, list[int]] = field(default_factory=dict)  # of these, by first word
    lone: set[str] = field(default_factory=set)  # forms of dates, and of numbers after `id`

    def add(self, sequence: str) -> None:
        """Add the words of an identifier."""
        first, count = sequence.partition(" ")[0], sequence.count(" ") + 1
        self.sequences.add(sequence)
        known = self.lengths.setdefault(first, [])
        if count not in known:
            known.append(count)
            known.sort(reverse=True)

    def match(self, scan: _Scan, place: int, first: str) -> int:
        """How many words from this place on are an identifier, the most of them; 0: none."""
        for count in self.lengths[first]:
            if scan.run(place, first, count) in self.sequences:
                return count
        return 0


class _Search:
    """Asks which forms of some texts a cohort has; a few questions, however long the texts are.

    Args:
        known: as `Redactor` takes it.
        harmless: words and dates that are never a hit.
    """

    def __init__(self, known: Known, harmless: Collection[str]) -> None:
        self._known, self._harmless = known, harmless

    def of(self, scans: Sequence[_Scan]) -> _Found:
        """What these texts have of the cohort."""
        firsts = {word for scan in scans for word in scan.firsts()}
        asked = {form for scan in scans for form in scan.lone_forms()}
        asked.update(kind + word for word in firsts for kind in (WORDS, FIRST))
        known = set(self._known(asked))
        found = _Found()
        for form in known:
            kind, text = form[0], form[1:]
            if kind == FIRST or text in self._harmless:
                continue
            if kind != WORDS:
                found.lone.add(form)
            elif text not in PLAIN_WORDS:
                found.add(text)
        # only where an identifier may begin are further words looked up
        begun = {word for word in firsts if not known.isdisjoint((WORDS + word, FIRST + word))}
        if begun:
            self._add_runs([(scan, *at) for scan in scans for at in scan.places(begun)], found)
        return found

    def _add_runs(self, places: list[tuple[_Scan, int, str]], found: _Found) -> None:
        """Look up the words at these places: four at once, more where an identifier goes on."""
        counts = range(2, _RUN + 1)
        while places:
            at = [scan.run(place, first, n) for scan, place, first in places for n in counts]
            runs = {run for run in at if run}
            known = set(self._known([kind + run for run in runs for kind in (WORDS, MORE)]))
            for form in known:
                if form[0] == WORDS:
                    found.add(form[1:])
            longest = counts[-1]
            places = [one for one in places if f"{MORE}{one[0].run(*one[1:], longest)}" in known]
            counts = range(longest + 1, longest + 2)


def _scanned(text: str) -> _Scan:
    words: list[tuple[int, int, str]] = []
    dates: list[tuple[tuple[int, int], str]] = []
    memo: dict[str, str] = {}
    for match in _SCAN.finditer(text):
        group = match.lastgroup
        if group == "word":
            word = match[0]
            plain = memo.get(word)
            if plain is None:
                plain = memo[word] = normal(_unescaped(word))
            words.append((match.start(), match.end(), plain))
        elif group is not None:
            dates.append((match.span(group), _day(match[group], group)))
    upns = [(m.span(), normal(m[0])) for m in _SPACED_UPN.finditer(text)]
    spaced = [one for one in upns if len(one[1]) < one[0][1] - one[0][0]]
    return _Scan(text, words, dates, spaced, {*memo.values()} - {""})


def _texts_in(value: Any) -> Iterator[str]:
    """Every text of a JSON structure that is searched; whole numbers as text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, held in value.items():
            if isinstance(key, str):
                yield key
            if key not in _SKIP_IN_JSON:
                yield from _texts_in(held)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def _replaced(value: Any, cleaned: Mapping[str, tuple[str, int]]) -> tuple[Any, int]:
    """The structure with these texts in place of its own, and the number of hits."""
    if isinstance(value, str):
        return cleaned[value]
    if isinstance(value, dict):
        hits, built = 0, {}
        for key, held in value.items():
            new_key, number = cleaned[key] if isinstance(key, str) else (key, 0)
            hits += number
            if key not in _SKIP_IN_JSON:
                held, number = _replaced(held, cleaned)
                hits += number
            built[new_key] = held
        return built, hits
    if isinstance(value, list):
        items = [_replaced(item, cleaned) for item in value]
        return [item for item, _ in items], sum(number for _, number in items)
    if isinstance(value, int) and not isinstance(value, bool):
        number = cleaned[str(value)][1]
        return (REDACTED, number) if number else (value, 0)
    return value, 0


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    parts, last = [], 0
    for start, end in spans:
        parts += [text[last:start], REDACTED]
        last = end
    return "".join([*parts, text[last:]])


def _day_of_digits(word: str) -> str | None:
    """The date that eight digits may be."""
    if len(word) != 8 or not word.isdigit():
        return None
    return f"{word[:4]}-{word[4:6]}-{word[6:]}"


def _words(text: str) -> list[str]:
    if text.isascii() and text.isalnum():
        return [text.upper()]
    parts = _WORD.findall(unicodedata.normalize("NFC", text))
    return [word for part in parts if (word := normal(part))]


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
    if word.isalnum():
        return word
    word = html.unescape(word)
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
