"""What a database driver hands over, read as text or as a date; never raises.

The same column may come as text, number, date, bytes or JSON structure, depending on the database,
the driver and the case-management system. A problem is the short name of a rule and never holds the
value.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

WRONG_TYPE = "wrong type"
NOT_TEXT = "not readable text"
NOT_EXACT = "not a whole number"
NOT_A_DATE = "not a date"
DATE_RANGE = "date out of range"
PLACEHOLDER = "placeholder"
TOO_LONG = "too long"
# Problems of values that could not be read; all others are of values that were read.
UNREADABLE = frozenset({WRONG_TYPE, NOT_TEXT, NOT_EXACT, NOT_A_DATE, DATE_RANGE})

RowLookup = Callable[[str], Any]  # from a column's name to the raw value in the same row
Answer = TypeVar("Answer")
Result = tuple[Any, str | None]  # (value or None, problem or None)
Transform = Callable[..., Result]  # called as transform(value, row_lookup)
NOTHING: Result = (None, None)

# Values that one cache remembers: as many as there are birth dates in a cohort. Times of the day
# hardly come twice, and with a larger cache they would fill memory as the cohort grows.
CACHE_SIZE = 10_000
_KEPT = (dt.date, dt.datetime, type(None))
_LONGEST_KEPT = 100  # characters of a text
FIRST_YEAR, LAST_YEAR = 1900, 2100
# Systems write these days where they know none: SystemC 1900-01-01, others the first day of .NET,
# of SQL Server or of Access, or a day in a far year.
_PLACEHOLDER_DAYS = frozenset(
    {
        dt.date(1, 1, 1),
        dt.date(1753, 1, 1),
        dt.date(1899, 12, 30),
        dt.date(1899, 12, 31),
        dt.date(1900, 1, 1),
    }
)
_PLACEHOLDER_YEARS = frozenset({2999, 3000, 9999})
_NO_END = frozenset({"infinity", "-infinity"})  # PostgreSQL's days without a number
# Invisible characters to strip from a text besides white space: byte-order mark, zero-width space,
# NUL.
EDGES = " \t\r\n\v\f\x00\xa0\ufeff\u200b"
_ENGLAND = ZoneInfo("Europe/London")
_LARGEST_EXACT_FLOAT = 2**53
_LONGEST_NUMBER = 40

_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ].*)?", re.ASCII | re.DOTALL)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:[T ,].*)?", re.ASCII | re.DOTALL)
_IN_WORDS = re.compile(
    r"(\d{1,2})(?:st|nd|rd|th)?[ -]([A-Z]{3,9})[ ,-]{1,2}(\d{4})(?: .*)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
# As SQL Server turns a date into text: "May  5 2015 12:00AM", "May  5 2015 12:00:00:000AM".
_MONTH_FIRST = re.compile(
    r"([A-Z]{3,9}) +(\d{1,2}),? +(\d{4})(?: .*)?", re.ASCII | re.IGNORECASE | re.DOTALL
)
_CLOCK = re.compile(r"[T ,]\s*[0-9:.]*\s*([AP]M)?\s*(Z|UTC|[+-]\d\d:?\d\d)?\s*", re.ASCII | re.I)
_TIME = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:[.:](\d{1,6}))?)?\d*\s*([AP]M)?", re.ASCII | re.I)
_MONTHS = (
    "JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE",
    "JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER", "DECEMBER",
)  # fmt: skip


def read_text(value: Any) -> tuple[str | None, str | None]:
    """(text without outer blanks, problem) of a raw value; blank and NaN are None.

    Whole numbers lose their ``.0``; numbers that cannot be exact are refused.
    """
    if type(value) is str:
        return value.strip(EDGES).strip() or None, None
    if value is None:
        return None, None
    if isinstance(value, str):
        return str.__str__(value).strip(EDGES).strip() or None, None
    if isinstance(value, bool):
        return ("true" if value else "false"), None
    if isinstance(value, int | float | Decimal):
        return _number_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return read_text(bytes(value).decode("utf-8"))
        except (UnicodeDecodeError, ValueError):
            return None, NOT_TEXT
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat(), None
    if isinstance(value, uuid.UUID):
        return str(value), None
    return None, WRONG_TYPE


def _number_text(value: int | float | Decimal) -> tuple[str | None, str | None]:
    if isinstance(value, int):
        small = -(_LARGEST_EXACT_FLOAT**2) < value < _LARGEST_EXACT_FLOAT**2
        return (str(int(value)), None) if small else (None, TOO_LONG)
    if isinstance(value, float):
        if math.isnan(value):  # how data frames write null
            return None, None
        if value.is_integer() and abs(value) <= _LARGEST_EXACT_FLOAT:
            return str(int(value)), None
        return None, NOT_EXACT
    if value.is_nan():
        return None, None
    if not value.is_finite() or abs(value.adjusted()) > _LONGEST_NUMBER:
        return None, NOT_EXACT
    if value == value.to_integral_value():
        return str(int(value)), None
    return format(value, "f"), None


def read_date(value: Any) -> tuple[dt.date | None, str | None]:
    """(date, problem) of a raw value.

    The value may be a date, a datetime, or text: ISO, UK day-first, or as SQL Server writes it
    (month in letters first). The time of day is dropped; a time with a zone is converted to the
    time in England first. Days that stand for "none", years outside 1900 to 2100 and years of two
    figures are refused.
    """
    if isinstance(value, dt.datetime):
        day = value if value.tzinfo is None else _in_england(value)
        return _checked(day.year, day.month, day.day)
    if isinstance(value, dt.date):
        return _checked(value.year, value.month, value.day)
    if isinstance(value, bool):
        return None, NOT_A_DATE
    text, problem = read_text(value)
    if text is None:
        return None, problem and NOT_A_DATE
    return parse_date(text)


def time_of_day(value: Any) -> str:
    """The time of a date-time or of a text with one, as text that sorts; empty for a plain day.

    Only for what is to come first: which day a value lies on is `read_date`'s to say.
    """
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo is None else _in_england(value)
        return moment.time().isoformat("microseconds")
    if not isinstance(value, str):
        return ""
    _, _, in_england = _parsed(read_text(value)[0] or "")
    return _clock(value) if in_england is None else in_england.time().isoformat("microseconds")


def _clock(text: str) -> str:
    """The time of a text as it stands there, as `time_of_day` gives it."""
    if not (match := _TIME.search(text)):
        return ""
    hour, minute, second, fraction, half = match.groups(default="")
    hours = int(hour) % 12 + 12 * (half.upper() == "PM") if half else int(hour)
    return f"{hours:02}:{minute}:{second or '00'}.{fraction.ljust(6, '0')}"


def _in_england(moment: dt.datetime) -> dt.datetime:
    """A time with a zone, converted to England; midnight there may be the day before in UTC."""
    try:
        return moment.astimezone(_ENGLAND)
    except (OverflowError, ValueError):  # the first or the last day that Python knows
        return moment


def is_unreadable_date(value: Any) -> bool:
    """Whether a value in a date column cannot be read as a date.

    Null, blanks and the days that stand for "none" are readable: they say that there is none.
    """
    return value is not None and read_date(value)[1] in UNREADABLE


def is_unreadable_text(value: Any) -> bool:
    """Whether a value in a column of texts or ids cannot be read as text."""
    return value is not None and type(value) is not str and read_text(value)[1] is not None


def parse_date(text: str) -> tuple[dt.date | None, str | None]:
    """(date, problem) of a text without outer blanks."""
    day, problem, _ = _parsed(text)
    return day, problem


@functools.lru_cache(maxsize=CACHE_SIZE)
def _parsed(text: str) -> tuple[dt.date | None, str | None, dt.datetime | None]:
    """(date, problem) of a text, and the time in England where the text has a time with a zone."""
    if len(text) > 40:
        return None, NOT_A_DATE, None
    if text in _NO_END:
        return None, PLACEHOLDER, None
    if match := _ISO.fullmatch(text) or _COMPACT.fullmatch(text):
        year, month, day = match.groups()
        end = match.end(3)
    elif match := _DAY_FIRST.fullmatch(text):
        day, _, month, year = match.groups()
        end = match.end(4)
    elif match := _IN_WORDS.fullmatch(text):
        day, word, year = match.groups()
        month, end = _month_number(word), match.end(3)
    elif match := _MONTH_FIRST.fullmatch(text):
        word, day, year = match.groups()
        month, end = _month_number(word), match.end(3)
    else:
        return None, NOT_A_DATE, None
    clock = _CLOCK.fullmatch(text, end)
    if end < len(text) and clock is None:
        return None, NOT_A_DATE, None
    date, problem = _checked(int(year), int(month), int(day))
    if date is None or clock is None or (moment := _with_zone(date, text, clock[2])) is None:
        return date, problem, None
    return *_checked(moment.year, moment.month, moment.day), moment


def _with_zone(day: dt.date, text: str, zone: str | None) -> dt.datetime | None:
    """The time in England of a text with a zone; None where it has none, or no time of a day."""
    if zone is None:
        return None
    offset = "+00:00" if zone.upper() in ("Z", "UTC") else zone
    try:
        return _in_england(dt.datetime.fromisoformat(f"{day}T{_clock(text)}{offset}"))
    except ValueError:
        return None


def _month_number(word: str) -> int:
    """1 to 12 for a month's name or its beginning; 0 for any other word."""
    numbers = [n for n, name in enumerate(_MONTHS, 1) if name.startswith(word.upper())]
    return numbers[0] if len(numbers) == 1 else 0


def _checked(year: int, month: int, day: int) -> tuple[dt.date | None, str | None]:
    try:
        date = dt.date(year, month, day)
    except ValueError:
        return None, NOT_A_DATE
    if FIRST_YEAR <= year <= LAST_YEAR and date.toordinal() != _FIRST_DAY:
        return date, None
    stands_for_none = date in _PLACEHOLDER_DAYS or year in _PLACEHOLDER_YEARS
    return None, PLACEHOLDER if stands_for_none else DATE_RANGE


_FIRST_DAY = dt.date(FIRST_YEAR, 1, 1).toordinal()


# ---------------------------------------------------------------------------------------- helpers
class Remembered(dict[Any, Answer]):
    """What a function makes of a raw value, made once, since values repeat.

    Days, times, short texts and null are remembered. Values of other types can be equal as keys
    without being the same (1, 1.0 and True). A structure, as some drivers read JSON, is no key:
    to look it up raises TypeError, and `anew` answers. `of` answers for any value.
    """

    def __init__(self, read: Callable[[Any], Answer]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, value: Any) -> Answer:
        answer = self._read(value)
        kind = type(value)
        if kind in _KEPT or (kind is str and len(value) <= _LONGEST_KEPT):
            if len(self) >= CACHE_SIZE:
                self.clear()
            self[value] = answer
        return answer

    def anew(self, value: Any) -> Answer:
        """The answer for any value, which is not remembered."""
        return self._read(value)

    def of(self, value: Any) -> Answer:
        """The answer for any value; one call slower than to look it up."""
        try:
            return self[value]
        except TypeError:
            return self.anew(value)


def by_value(read: Callable[[Any], Result]) -> Transform:
    """A transform that depends on its value only."""

    def transform(value: Any, row_lookup: RowLookup | None = None) -> Result:
        return read(value)

    return transform
