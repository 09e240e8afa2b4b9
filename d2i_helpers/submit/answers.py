"""What came back for one request, and its text or JSON however it was written.

A .NET service may begin an answer with a byte-order mark, write it as UTF-16, or put JSON into a
JSON string. What can be read is read: else a record that is stored would count as unknown.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CORRELATION_HEADERS = ("x-request-id", "request-id", "x-correlation-id")
_CORRELATION = re.compile(r"[\w.:-]{1,200}", re.ASCII)
_MAX_WRAPPED = 3  # JSON in a string of JSON in a string …
_BLANKS = " \t\r\n\0\ufeff"


@dataclass(frozen=True)
class Answer:
    """What became of one request."""

    status: int | None  # None: no answer
    body: bytes = b""
    headers: Mapping[str, str] | None = None  # names in lower case
    problem: str = ""  # why there is no (whole) answer, in fixed words
    on_the_wire: bool = True  # False: not a byte of the documents left this process
    started_at: dt.datetime = dt.datetime(1970, 1, 1)  # UTC, without a zone, as the database has it
    milliseconds: int = 0

    @functools.cached_property
    def correlation_id(self) -> str | None:
        """The id by which the DfE's help desk finds the request in its own log."""
        for name in CORRELATION_HEADERS:
            value = (self.headers or {}).get(name, "").strip()
            if _CORRELATION.fullmatch(value):
                return value
        return None

    def retry_after(self, now: float) -> float | None:
        """Seconds that `Retry-After` asks to wait, from either of its forms (RFC 9110, 10.2.3).

        Args:
            now: seconds since 1970, used where the answer has no Date of its own.
        """
        headers = self.headers or {}
        text = headers.get("retry-after", "").strip()
        if re.fullmatch(r"\d{1,9}", text):
            return float(text)
        when = http_date(text)
        if when is None:
            return None
        # both times are the server's where it gives both, so that clock skew does not matter
        return max(0.0, when - (http_date(headers.get("date", "")) or now))


def http_date(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date, or None."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def text_of(body: bytes) -> str:
    """The text of an answer: by its byte-order mark, by its zero bytes, or as UTF-8.

    What the header says of it is often another layer's, and is not asked. What cannot be read
    becomes U+FFFD.
    """
    return body.decode(json.detect_encoding(body), errors="replace").strip(_BLANKS)


def content_of(body: bytes) -> Any:
    """The JSON of an answer, taken out of strings of JSON; its text where it is no JSON.

    Whole numbers come as floats, and what is no number (``NaN``, ``1e400``) as one that is not
    finite: an answer with a number that nobody can use is an answer all the same.
    """
    content: Any = text_of(body)
    for _ in range(_MAX_WRAPPED):
        if not isinstance(content, str):
            break
        try:
            content = json.loads(content.strip(_BLANKS), parse_int=float)
        except (ValueError, RecursionError):
            break
    return content
