"""The tables: 19 of the SSD that are read, the staging table and what this project keeps beside it.

SSD tables are declared in ``ssd_tables.csv`` (column, type, length as SystemC deploys them; the
other systems differ in lengths only, see docs/setup.md). They are never created or changed except
by `simulate`. The staging table has the columns that authorities have already deployed.
"""

from __future__ import annotations

import csv
import functools
import zlib
from importlib import resources

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Float,
    FromClause,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    case,
    func,
    literal_column,
    or_,
)
from sqlalchemy.types import TypeEngine

from d2i_helpers.database.dialects import HASH, Characters, RowNumber

# Schema names in the metadata are placeholders; `database.open_database` translates them to the
# schemas of the profile, so that one set of tables serves every deployment.
SSD_SCHEMA = "ssd"
STAGING_SCHEMA = "staging"

TOLD_APART_BY = "told_apart_by"  # in `info`: by which columns a chunk's rows are counted
LONGEST_NAME = 30  # characters of a name: Oracle before 12.2
_ROW_NUMBER = RowNumber()


def _ssd_type(kind: str, length: str) -> TypeEngine:
    if kind == "text":
        return Characters(int(length)) if length else Characters()
    others: dict[str, TypeEngine] = {
        "datetime": DateTime(), "integer": Integer(), "float": Float(),
    }  # fmt: skip
    return others[kind]


@functools.cache
def ssd_columns() -> tuple[dict[str, str], ...]:
    """Every declared SSD column: table, column, type, length, key, references, required."""
    text = resources.files("d2i_helpers").joinpath("ssd_tables.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


@functools.cache
def ssd_metadata() -> MetaData:
    """SQLAlchemy tables of the SSD, without foreign keys (deployed tables seldom enforce them)."""
    metadata = MetaData(schema=SSD_SCHEMA)
    columns: dict[str, list[Column]] = {}
    referred_to = {row["references"] for row in ssd_columns()}
    for row in ssd_columns():
        is_key = row["key"] == "pk"
        column = Column(
            row["column"],
            _ssd_type(row["type"], row["length"]),
            primary_key=is_key,
            nullable=not (is_key or row["required"]),
            # both ends of every link, as extract follows them from page to page
            index=bool(row["references"])
            or (f"{row['table']}.{row['column']}" in referred_to and not is_key),
            autoincrement=False,
        )
        columns.setdefault(row["table"], []).append(column)
    for name, parts in columns.items():
        Table(name, metadata, *parts)
    return metadata


def ssd_table(name: str) -> Table:
    """One SSD table by its name, such as ``ssd_person``."""
    return ssd_metadata().tables[f"{SSD_SCHEMA}.{name}"]


def _short(name: str) -> str:
    """A name of an index, cut to what every database takes, and still the only one of its kind."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}_{zlib.crc32(name.encode()):08x}"


@functools.cache
def staging_table(name: str) -> Table:
    """A staging table; the identifiable and the anonymised one differ in name only.

    One row a child. `previous_*` is the last document that the receiver acknowledged.
    """
    return Table(
        name,
        MetaData(schema=STAGING_SCHEMA),
        Column("id", _ROW_NUMBER, Identity(), primary_key=True),
        Column("person_id", Characters(48), nullable=False),
        Column("legacy_id", Characters(48)),
        Column("current_hash", HASH),
        Column("previous_hash", HASH),
        Column("submission_status", Characters(50), nullable=False),
        Column("submission_timestamp", DateTime),
        Column("api_response", Characters()),
        Column("row_state", Characters(10)),
        Column("last_updated", DateTime),
        # The documents come last, as SQLite goes through a document to reach what stands behind it.
        Column("partial_json_payload", Characters()),
        Column("previous_json_payload", Characters()),
        Column("json_payload", Characters(), nullable=False),
        Index(_short(f"ux_{name}_person"), "person_id", unique=True),
        Index(_short(f"ix_{name}_status"), "submission_status"),
        info={TOLD_APART_BY: ("person_id",)},
    )


def word_of(column: ColumnElement) -> ColumnElement[str]:
    """A state in lower case, as other software writes `Pending`; `none` where it is null.

    Not an empty text for null, which Oracle takes for null again.
    """
    return func.lower(func.coalesce(column, literal_column("'none'", Characters())))


def unsettled(table: FromClause) -> ColumnElement[bool]:
    """The row does not say that all of its child was sent, or it contradicts itself.

    Whatever is due is unsettled or in the journal. The index has these rows alone, so the condition
    has to stand in a statement as it stands here for a database to use it. PostgreSQL takes nearly
    every row for one that fulfils an inequality of an expression, and would read the whole table;
    of an expression that equals a number it expects few rows, with statistics and without.

    Args:
        table: a staging table, or an alias of one.
    """
    t = table.c
    is_so = or_(
        word_of(t.submission_status) != literal_column("'sent'", Characters()),
        word_of(t.row_state) != literal_column("'unchanged'", Characters()),
        t.current_hash.is_(None),
        t.previous_hash.is_(None),
        t.current_hash != t.previous_hash,
        t.previous_json_payload.is_(None),
    )
    return case((is_so, literal_column("1")), else_=literal_column("0")) == literal_column("1")


# that the index of unsettled rows begins with, and no other index does
UNSETTLED_COLUMN = "submission_timestamp"


def unsettled_index_name(table: Table) -> str:
    """The name of the index of unsettled rows."""
    return _short(f"ix_{table.name}_unsettled")


_OURS = MetaData(schema=STAGING_SCHEMA)

# What this project keeps beside a staging row and must not add to the deployed table.
notes = Table(
    "d2i_row_notes",
    _OURS,
    # the child first: with the table first, a planner without statistics would believe that few
    # rows have it, begin a batch there, and walk all notes for every hundred children
    Column("person_id", Characters(48), primary_key=True),
    Column("staging_table", Characters(64), primary_key=True),
    # the delta in `partial_json_payload` holds for exactly these two hashes and this kind
    Column("partial_current_hash", HASH),
    Column("partial_previous_hash", HASH),
    Column("partial_kind", Characters(10)),  # document | purge
    # digests of the texts, so that submit sees whether other software changed one of them
    Column("partial_digest", HASH),  # of the kind and the partial document
    Column("document_digest", HASH),  # of the `json_payload` it was made from
    sqlite_with_rowid=False,  # its rows stand in the tree of the key, and need no second one
)

# Documents whose outcome the receiver has not told us: on the wire, or lost with a crash.
journal = Table(
    "d2i_in_flight",
    _OURS,
    Column("id", _ROW_NUMBER, Identity(), primary_key=True),
    Column("staging_table", Characters(64), nullable=False),
    Column("person_id", Characters(48), nullable=False),
    Column("run_id", Characters(64), nullable=False),
    Column("batch_id", Characters(64), nullable=False),
    Column("kind", Characters(10), nullable=False),  # document | purge
    Column("document", Characters()),  # what the receiver holds if it stored it; null: nothing
    Column("document_hash", HASH),
    Column("state", Characters(10), nullable=False),  # on wire | unknown
    Column("sent_at", DateTime, nullable=False),
    Index("ix_d2i_in_flight_person", "person_id", "staging_table"),
    Index("ix_d2i_in_flight_batch", "batch_id"),
    info={TOLD_APART_BY: ("batch_id", "person_id")},
)

# One row per child per attempt; only ever appended to.
submission_log = Table(
    "d2i_submission_log",
    _OURS,
    Column("id", _ROW_NUMBER, Identity(), primary_key=True),
    Column("staging_table", Characters(64), nullable=False),
    Column("person_id", Characters(48), nullable=False),
    Column("run_id", Characters(64), nullable=False),
    Column("batch_id", Characters(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", Characters(10), nullable=False),  # document | purge
    Column("phase", Characters(10), nullable=False),  # delta | full
    Column("document_hash", HASH),  # the document that was to be reached
    Column("body_hash", HASH),  # the bytes that were sent for this child
    Column("outcome", Characters(20), nullable=False),
    Column("http_status", Integer),
    Column("reference", Characters(200)),  # DfE's receipt
    Column("correlation_id", Characters(200)),
    Column("detail", Characters()),  # path and rule, never a value
    Column("started_at", DateTime, nullable=False),
    Column("milliseconds", Integer),
    Index("ix_d2i_submission_log_person", "staging_table", "person_id"),
    Index("ix_d2i_submission_log_batch", "batch_id", "person_id"),
    info={TOLD_APART_BY: ("batch_id", "person_id")},
)

# Why a child is in the cohort; for an analyst, in the database, never in a run record.
inclusion = Table(
    "d2i_inclusion",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("person_id", Characters(48), primary_key=True),
    Column("reasons", Characters(200), nullable=False),  # comma-separated names of inclusion sets
)

# A day's changes, held until the guards have passed; empty between runs.
landing = Table(
    "d2i_landing",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("person_id", Characters(48), primary_key=True),
    Column("legacy_id", Characters(48)),
    Column("json_payload", Characters(), nullable=False),
    Column("current_hash", HASH, nullable=False),
    Column("problem", Characters()),  # why the document may not be sent: paths and rules
    Column("reasons", Characters(200)),  # what goes into d2i_inclusion
)

# What extract found of each person, and from which source rows: the person is read again only when
# these rows change or a day comes on which a rule may say something else.
marks = Table(
    "d2i_marks",
    _OURS,
    Column("person_id", Characters(48), primary_key=True),
    Column("staging_table", Characters(64), primary_key=True),
    Column("fingerprint", BigInteger, nullable=False),  # of the source rows
    Column("valid_until", Characters(10), nullable=False),  # last day of a run, YYYY-MM-DD
    Column("current_hash", HASH),  # of the document that was made; null: not in the cohort
    Column("text_fingerprint", BigInteger),  # of its text as it was stored
    Column("accepted_by", BigInteger),  # the checks that it passed (`Validator.fingerprint`)
    Column("reasons", Characters(200)),  # inclusion sets, comma-separated
    Column("left_out", Characters(100)),  # why the person is not in the cohort
    Column("problems", Characters()),  # what was left out of the document: JSON of [path, rule]
    Column("counts", LargeBinary, nullable=False),  # what was counted: numbers of 8 or of 16 bits
    sqlite_with_rowid=False,
)

# Facts about a staging table that outlive a run, such as the canonical form its hashes are in.
facts = Table(
    "d2i_facts",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("name", Characters(64), primary_key=True),
    Column("value", Characters(400)),
)

# How many rows each source table held when extract last completed, for the guard.
source_rows = Table(
    "d2i_source_rows",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("source_table", Characters(200), primary_key=True),
    Column("row_count", BigInteger, nullable=False),
)

# How many values each column held in the rows that extract looked at when it last completed.
source_values = Table(
    "d2i_source_values",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("source_column", Characters(300), primary_key=True),  # table.column
    Column("row_count", BigInteger, nullable=False),
    Column("value_count", BigInteger, nullable=False),
)

# Children who need attention, and why: as the stages of the last run found it. One who is held back
# has a row here for as long as nothing of the child may be sent.
attention = Table(
    "d2i_attention",
    _OURS,
    Column("id", _ROW_NUMBER, Identity(), primary_key=True),
    Column("staging_table", Characters(64), nullable=False),
    Column("person_id", Characters(200)),  # null: persons without an id
    Column("stage", Characters(20), nullable=False),
    Column("outcome", Characters(20), nullable=False),  # of `states.Unsent` or `states.Doubtful`
    Column("rule", Characters(400), nullable=False),
    Column("source_table", Characters(128)),
    Column("source_column", Characters(128)),
    Column("path", Characters(300)),  # of the field, where one is to blame
    Column("children", Integer, nullable=False),
    Column("first_noted_at", DateTime, nullable=False),
    Column("run_id", Characters(64), nullable=False),  # of the run that noted it first
    Column("replaced_response", Characters()),  # `api_response` as it was before
    Index("ix_d2i_attention_person", "person_id", "staging_table"),
    info={TOLD_APART_BY: ("staging_table", "stage", "run_id")},
)

# Keyed digests of what identifies a child, in the forms in which a record is searched for it. So
# the search asks for the few words of a record, and reads no document.
identifier_hashes = Table(
    "d2i_identifier_hashes",
    _OURS,
    Column("form_hash", BigInteger, primary_key=True, autoincrement=False),
    Column("child_hash", BigInteger, primary_key=True, autoincrement=False),
    info={TOLD_APART_BY: ("child_hash",)},
    sqlite_with_rowid=False,  # the key is all there is; a second tree would double the writing
)

# Which those are of each child, from which of its documents they were made, and by which rules.
identifiers_taken = Table(
    "d2i_identifiers_taken",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("person_id", Characters(48), primary_key=True),
    Column("legacy_id", Characters(48)),
    Column("current_hash", HASH),
    Column("earlier_hash", HASH),  # of the acknowledged document, where it is another one
    Column("made_by", Characters(64), nullable=False),
    Column("child_hash", BigInteger, nullable=False),
    Column("form_hashes", Characters(), nullable=False),  # 16 hexadecimal digits each
)

# What each staging table held of a child when its twin was last made: of the original, from which
# the twin was made, and of the twin. The two kinds of rows do not name each other.
anonymised = Table(
    "d2i_anonymised",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("person_id", Characters(48), primary_key=True),
    Column("document_hash", HASH, nullable=False),
    Column("document_size", BigInteger, nullable=False),  # as `database.size_of` says it
    Column("made_by", Characters(64), nullable=False),  # a mark of key, rules and settings
    Column("compared", LargeBinary),  # sealed digests of what the leak check compares
)

# Who is working on a staging table; a lease with a heartbeat.
run_lock = Table(
    "d2i_run_lock",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("run_id", Characters(64), nullable=False),
    Column("holder", Characters(200), nullable=False),  # host and process
    Column("acquired_at", DateTime, nullable=False),
    Column("heartbeat_at", DateTime, nullable=False),
    Column("expires_at", DateTime, nullable=False),
)

# What shards at work on one day tell each other before their guards judge it: the last figures of
# each shard and stage.
shard_figures = Table(
    "d2i_shard_figures",
    _OURS,
    Column("staging_table", Characters(64), primary_key=True),
    Column("stage", Characters(20), primary_key=True),
    Column("shard", Characters(10), primary_key=True),  # k/n
    Column("day", Characters(10), nullable=False),  # of the run, YYYY-MM-DD
    Column("run_id", Characters(64), nullable=False),  # as of its lease, and so the holder
    Column("holder", Characters(200), nullable=False),
    Column("posted_at", DateTime, nullable=False),
    Column("stopped_at", DateTime),  # when a guard stopped the shard
    Column("figures", Characters(), nullable=False),  # JSON; numbers and names of tables only
)

# The ledger of run records, entry by entry, as its file has it; only ever appended to. A login that
# may select and insert here, and neither update nor delete, cannot rewrite what happened.
ledger_entries = Table(
    "d2i_ledger",
    _OURS,
    Column(
        "digest", Characters(64), primary_key=True
    ),  # hash of the entry: nothing is entered twice
    Column("ledger", Characters(64), nullable=False),  # its name
    Column("folder", Characters(64), nullable=False),  # where its file was
    Column("entry", Integer, nullable=False),  # number in the file
    Column("late", Integer, nullable=False),  # 1: entered by a later run than the one that made it
    Column("content", Characters(), nullable=False),  # the line of the file
)


def our_tables() -> MetaData:
    """The tables that this project adds beside a staging table."""
    return _OURS


# What a run does with each table, and so the rights that its login needs; and what it is for, in
# words for a database administrator. What happened is only appended to: a login that may neither
# update nor delete cannot rewrite it.
_APPEND, _WRITE_ANEW = ("select", "insert"), ("select", "insert", "delete")
_EVERYTHING = ("select", "insert", "update", "delete")
_USES = {
    notes.name: (_WRITE_ANEW, "what each message that waits was made from"),
    journal.name: (_EVERYTHING, "documents on the wire, or of unknown outcome; one row a message"),
    submission_log.name: (_APPEND, "one row a child and attempt; grows with every message"),
    inclusion.name: (_WRITE_ANEW, "why each child is in the cohort"),
    landing.name: (_WRITE_ANEW, "changes of a day that wait for the guards; empty between runs"),
    marks.name: (_WRITE_ANEW, "which source rows each document was made from"),
    facts.name: (_WRITE_ANEW, "a few facts about each staging table"),
    source_rows.name: (_WRITE_ANEW, "rows of each SSD table at the last completed run"),
    source_values.name: (_WRITE_ANEW, "values of each SSD column at the last completed run"),
    attention.name: (_WRITE_ANEW, "children who need attention, and why"),
    identifier_hashes.name: (
        _WRITE_ANEW,
        "keyed digests of names, ids and birth dates, by which records are searched for them",
    ),
    identifiers_taken.name: (_WRITE_ANEW, "from which documents those digests were made"),
    anonymised.name: (_WRITE_ANEW, "what both staging tables held when the twin was last made"),
    run_lock.name: (_EVERYTHING, "which run works on a staging table"),
    shard_figures.name: (_WRITE_ANEW, "what shards tell each other; a few rows"),
    ledger_entries.name: (_APPEND, "the ledger of run records; a few rows a run"),
}


def rights(table: Table) -> tuple[str, ...]:
    """The least rights to a table of ours that the login of a run needs.

    Rows of a staging table are deleted where a first load must not stay, and of the twin to draw
    their order anew.
    """
    return _USES[table.name][0] if table.name in _USES else _EVERYTHING


def purpose(table: Table) -> str:
    """What a table of ours is for, in a few words."""
    if table.name in _USES:
        return _USES[table.name][1]
    return "staging table: one row a child, its document, what of it was sent"


__all__ = [
    "LONGEST_NAME", "UNSETTLED_COLUMN", "anonymised", "attention", "facts", "identifier_hashes",
    "identifiers_taken", "inclusion", "journal", "landing", "ledger_entries", "marks", "notes",
    "our_tables", "purpose", "rights", "run_lock", "shard_figures", "source_rows", "source_values",
    "ssd_columns", "ssd_metadata", "ssd_table", "staging_table", "submission_log", "unsettled",
    "unsettled_index_name", "word_of",
]  # fmt: skip
