"""The words that may be shown: the one list for messages of libraries and for notebooks.

`plain_message` keeps what is in `library_words`; `privacy.safe_words` lets through what is in
`project_words` and the abbreviations. None of these words says anything about a child on its own.
"""

from __future__ import annotations

import builtins
import functools

from d2i_helpers import stages
from d2i_helpers.database import tables
from d2i_helpers.settings import Settings

# Words of error messages and of SQL.
_OF_ERRORS = """
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
_TYPES = "float64 int8 int16 int32 int64 nonetype utf8"
_ABBREVIATIONS = "API HTTP JSON NaN OK SQL SSD URL UTF"
_OF_LIBRARIES = "ASCII DNS EOF GET HTTPS ODBC POST SSL TLS"
_OF_THIS_PROJECT = (
    "CIN CLA CMS CP DfE EHCP HTML IDs LA PostgreSQL SDQ SEN SHA SQLite UASC UN UPN UPNs YAML"
)
_HEADINGS = "Children Documents Events Fields Items Problems Requests"

# Written as they stand here, between words of lower case.
PROJECT_ABBREVIATIONS = (*_ABBREVIATIONS.split(), *_OF_THIS_PROJECT.split())


@functools.cache
def table_names() -> frozenset[str]:
    """Names of all tables and columns: of the SSD, the staging tables and our own."""
    names = _ssd_names() | {"ssd_api_data_staging_anon"}
    staging = tables.staging_table("ssd_api_data_staging")
    for table in (staging, *tables.our_tables().tables.values()):
        names |= {table.name, *(column.name for column in table.columns)}
    return frozenset(names)


def _ssd_names() -> set[str]:
    return {row[part] for row in tables.ssd_columns() for part in ("table", "column")}


@functools.cache
def library_words() -> frozenset[str]:
    """Words that may stay in a message of a library, in lower case."""
    python = {name for name in dir(builtins) if not name.startswith("_")}
    listed = " ".join((_OF_ERRORS, _TYPES, _ABBREVIATIONS, _OF_LIBRARIES)).split()
    return frozenset(word.lower() for word in {*listed, *table_names(), *python})


def project_words() -> frozenset[str]:
    """Words that only this project can have written: settings, fields, columns, rules, stages."""
    # imported here, because most processes only guard their messages and need no specification
    from d2i_helpers.payload_spec import load_spec
    from d2i_helpers.payload_spec.registry import INCLUSION_SETS, ROW_RULES

    words = {*Settings.model_fields, *_ssd_names()}
    words.update(f"{row['table']}.{row['column']}" for row in tables.ssd_columns())
    spec = load_spec()
    words.update(part for block in spec.blocks.values() for part in (block.name, block.path))
    words.update(part for _, field in spec.fields() for part in (field.name, field.path))
    words.update(spec.sources, ROW_RULES, INCLUSION_SETS)
    words.update(stages.names(), (name.capitalize() for name in stages.names()))
    return frozenset(words | set(_HEADINGS.split()))
