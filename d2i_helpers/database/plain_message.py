"""What a library says, without any value: words of a closed list stay, all others become ``…``.

Drivers, parsers and Python itself quote what they choke on: a row, a name, half a document. No
pattern finds all of that, so nothing is looked for: a word stays only where this module knows it.
Numbers of more than three digits go as well.
"""

from __future__ import annotations

import builtins
import functools
import re
import unicodedata

from d2i_helpers.database import tables

GONE = "…"
_LONGEST = 600  # characters that are looked at
_PIECE = re.compile(
    r"\d+(?:[.,:/ -]?\d+)*(?!\w)"  # numbers, dates, times, addresses
    r"|\w+(?:\.[A-Za-z_]\w*)*"
)
_NOT_SHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, halves, ends of line
_HARMLESS = re.compile(r"\d{1,3}")
_RUN = re.compile(r"…(?:[^\w…]{0,4}…)+")

# Words of error messages and of SQL; none of them says anything about a child on its own.
_WORDS = """
    a abort aborted access add affinity after again all allowed already alter ambiguous an and any
    api are argument arguments array as assert assertion async at attempt attempts attribute
    authentication authorization autocommit available await awaited axis bad base based be because
    been before begin being between bigint binary body bool boolean both broken buffer but by byte
    bytes cached call callable called can cannot canceled cancelled cannot cast catalog certificate
    chain changed char character characters check child children client close closed code codec
    coercing collation column columns command commit compatible complete conflict conflicts
    connect connected connecting connection connections constraint contains content context
    convert conversion converting could count create created current cursor data database datatype
    datetime date day days deadlock decode decoding default deleted delete delimiter deprecated
    depth descriptor detail detected dictionary did died different digits dimension directory
    disabled disk distinct division does done double driver duplicate during each either element
    elements else empty enabled encode encoding end engine enough entity error errors escape event
    exceeded exception exclusive executing execution exist existing exists exit expected expecting
    expired explicit expression extension extra fail failed failing failure false fatal feature
    fetch few field fields file files filled first flag float following for forbidden foreign
    found frame from function future generated get given got group handle handshake has have
    header headers hint host http https idle if ignored illegal implicit import in incomplete
    incompatible incorrect index indices inner input insert inserted instance insufficient int
    integer integrity interface internal interrupted interval into invalid invocation io is
    isolation it item items iterable iterate iteration join json key keys keyword kind label
    larger last length less level library like limit line list listening literal load loaded local
    lock locked login long lookup loop lost malformed many mapping match matching maximum maybe
    memory message method minimum mismatch missing mode module month more multiple must mutable
    name named names negative network next no node non none not nothing null number numeric object
    objects odbc of off offset on once one only open opened operand operation operator option or
    order other out outer outside overflow overlapping package pages parameter parameters parse
    parser parsing partial password path pattern pending permission permitted pool port position
    positional possible post prepared primary privilege procedure process program property
    protocol proxy query quote raise range read reading readonly reason receive received recursion
    reference referenced references refused relation remaining remote replace request requested
    require required requires reset resolution resolve response result results retries retry
    return returned revoked role rollback rolled row rows running same savepoint schema scope
    second seconds select selected sequence serialization serialize server session set setting
    shape signal size slice so socket some source specified sqlite stage start started state
    statement status step stopped storage stored str stream string structure subscriptable subset
    such supported syntax system table tables take takes temporary terminated text than that the
    their then there they this thread time timed timeout timestamp timezone tls to token too
    transaction translate trigger true truncated truncation trying tuple type types unable
    unauthorized unavailable unbound undefined unexpected unhandled unicode union unique unknown
    unpack unreachable unrecognized unsupported unterminated update updated updating url use used
    user using utf value values varchar variable verify version view violates violation wait
    waiting warning was were when where which while whole width will with within without word
    write writing wrong year yield yet you your zero
"""
_ACRONYMS = "API HTTP HTTPS JSON SQL SSD TLS SSL URL UTF ASCII ODBC OK GET POST DNS EOF NaN"


@functools.cache
def _names() -> frozenset[str]:
    """Tables and columns."""
    names = {row["table"] for row in tables.ssd_columns()}
    names |= {row["column"] for row in tables.ssd_columns()}
    staging = tables.staging_table("ssd_api_data_staging")
    for table in (staging, *tables.our_tables().tables.values()):
        names |= {table.name, *(column.name for column in table.columns)}
    return frozenset(names | {"ssd_api_data_staging_anon"})


@functools.cache
def _known() -> frozenset[str]:
    """Lower case: the closed list, names of Python itself, tables and columns."""
    names = {
        *_names(),
        "utf8",
        "nonetype",
        "int8",
        "int16",
        "int32",
        "int64",
        "float64",
    }
    python = {name for name in dir(builtins) if not name.startswith("_")}
    words = set(_WORDS.split()) | set(_ACRONYMS.split()) | names | python
    return frozenset(word.lower() for word in words)


def known_names(text: object) -> list[str]:
    """Tables and columns that the message names, in their order."""
    words = re.findall(r"[A-Za-z]\w*", str(text))
    # a name without an underscore may be a plain word
    return list(dict.fromkeys(w for w in words if "_" in w and w.lower() in _names()))


def _is_port(match: re.Match[str]) -> bool:
    return match[0].isdigit() and match.string[: match.start()].endswith("port ")


def without_controls(text: str) -> str:
    """The text without what a terminal would obey: control codes, and marks that turn text round.

    A line break becomes a blank, so that nobody can add a line to a message.
    """
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\t\n\r":
        return " "
    return GONE if unicodedata.category(character) in _NOT_SHOWN else character


def without_values(text: object, known: frozenset[str] = frozenset()) -> str:
    """The message with ``…`` for every word that is not known to be harmless.

    Args:
        text: what a library said; anything whose text can be had.
        known: further words that may stay, as they are written.
    """
    try:
        said = str(text)
    except Exception:  # a broken __str__ has nothing to say
        return GONE
    ours = _known()

    def kept(match: re.Match[str]) -> str:
        word = match[0]
        if word in known or _HARMLESS.fullmatch(word) or _is_port(match):
            return word
        return ".".join(part if part.lower() in ours else GONE for part in word.split("."))

    short = _PIECE.sub(kept, said[:_LONGEST])
    return _RUN.sub(GONE, short + (GONE if len(said) > _LONGEST else ""))
