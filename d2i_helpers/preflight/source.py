"""Checks of the SSD as extract will read it: tables, columns, rights to read, indexes, rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Engine, MetaData, Select, Table, false, select
from sqlalchemy import column as column_named
from sqlalchemy.engine import Connection, Dialect

from d2i_helpers import database
from d2i_helpers.database import dialects, tables
from d2i_helpers.database.tables import facts
from d2i_helpers.document.source_rows import ReadPlan
from d2i_helpers.errors import DatabaseError
from d2i_helpers.extract.deployed_tables import source_table
from d2i_helpers.extract.documents import MASKED_IDS, Documents, mask, reading_plan
from d2i_helpers.extract.sources import SourceReader
from d2i_helpers.payload_spec import Spec
from d2i_helpers.plain_english import counted, subject, verb
from d2i_helpers.preflight.checks import FAIL, PASS, SKIPPED, WARN, Check, grants, guarded
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, guards, row_counts

_SAMPLE = 300  # persons


def checks(engine: Engine, settings: Settings, spec: Spec) -> Iterator[Check]:
    """Check the SSD tables and columns that extract reads, by the names that they have here.

    What only optional sources and fields need may be missing; it counts as empty.
    """
    reader = Documents(engine, settings, spec).reader
    gaps = reader.deployed.gaps()
    if gaps.required:
        yield Check(
            "source tables",
            FAIL,
            f"missing: {', '.join(gaps.required)}",
            _where_it_may_be(settings, gaps.required),
            "DatabaseError",
            _grants_on_hidden(engine, settings, gaps.required),
        )
    else:
        number = sum(len(columns) for columns in reader.plan.reads.values())
        names = {read.table for read in reader.plan.reads}
        yield Check("source tables", PASS, f"{number} columns of {len(names)} tables are there")
    if gaps.optional:
        said = f"not there and taken as empty: {', '.join(gaps.optional)}"
        advice = "Nothing, where your system does not hold it; else deploy it."
        yield Check("optional sources", WARN, said, advice)
    gone = {name for name in gaps.required if "." not in name}
    yield from _readable(engine, settings, reader, gone)
    yield from _indexes(engine, reader, gone)
    if not gaps.required:
        yield from guarded("source rows", lambda: _row_counts(engine, settings, reader))
        yield from guarded("source values", lambda: _sample(engine, settings, spec))
    if settings.person_ids and not gaps.required:
        yield _pilot(engine, reader)


def _where_it_may_be(settings: Settings, missing: Sequence[str]) -> str:
    """What to do about tables and columns that are missing."""
    of_pilot = settings.statutory_cohort_table
    named = [name.partition(".")[0] for name in missing]
    if of_pilot and set(named) == {of_pilot}:
        return "Correct `statutory_cohort_table`: the table it names needs a column person_id."
    return (
        "Deploy the SSD completely, check `ssd_schema` and `cms`, or name other columns in a "
        "`spec_overlay`."
    )


def _grants_on_hidden(
    engine: Engine, settings: Settings, missing: Sequence[str]
) -> tuple[str, ...]:
    """Grants on tables that look missing, where a login does not see what it may not read."""
    if not dialects.of(engine).hides_tables:
        return ()
    hidden = [Table(name, MetaData()) for name in sorted(missing) if "." not in name]
    statements = grants(engine, settings.ssd_schema, [(table, ["select"]) for table in hidden])
    if not statements:
        return ()
    return (
        "-- A table that a login may not read looks missing to it. Where one is there:",
        *statements,
    )


def _pilot(engine: Engine, reader: SourceReader) -> Check:
    """Check that each id of a pilot belongs to a person."""
    with database.reading(engine) as connection:
        strangers = reader.without_person(connection)
    number = len(set(reader.settings.person_ids))
    if not strangers:
        return Check(
            "pilot", PASS, f"each of the {counted(number, 'id')} in `person_ids` is a person's"
        )
    shown = ", ".join(mask(person_id) for person_id in strangers[:MASKED_IDS])
    fit = verb(len(strangers), "fits", "fit")
    said = f"{len(strangers)} of {counted(number, 'id')} in `person_ids` {fit} no person ({shown})"
    advice = "Compare them with ssd_person: zeros in front, blanks, capitals."
    status = FAIL if len(strangers) == number else WARN
    return Check("pilot", status, said, advice, "SettingsError")


def _not_checked(name: str, looked_at: int, gone: set[str]) -> Check:
    """A check that could look at some tables only, since others are missing: not passed."""
    said = f"not checked: {', '.join(sorted(gone))}; the other {looked_at} tables are in order"
    return Check(name, SKIPPED, said)


def _found_by(plan: ReadPlan) -> Iterator[tuple[str, str]]:
    """(table, column) of every column that rows are found by, by the specification's names."""
    for read in plan.reads:
        yield read.table, read.by
        yield from ((step.table, step.by) for step in read.chain)


def _lookups(reader: SourceReader) -> dict[str, set[str]]:
    """By table, the columns that rows are found by, with their names here; without missing ones."""
    columns: dict[str, set[str]] = {}
    for table, column in _found_by(reader.plan):
        name = reader.deployed.name_here(table, column)
        if name is not None:
            columns.setdefault(table, set()).add(name)
    return columns


def statements_unasked(
    dialect: Dialect, settings: Settings, spec: Spec, login: str | None
) -> Iterator[str]:
    """What lets a login read the SSD, and the indexes, for a database that is not asked.

    Keys are taken to have an index already.
    """
    schema = settings.ssd_schema
    plan = reading_plan(settings, spec)
    required = {s.table for s in plan.sources.values() if not s.optional}
    names = {read.table for read in plan.reads}
    if settings.statutory_cohort_table:
        names.add(settings.statutory_cohort_table)
        required.add(settings.statutory_cohort_table)
    yield from database.schema_statements(dialect, schema, login, is_there=True)
    for name in sorted(names):
        own, _, bare = name.rpartition(".")
        table = Table(bare, MetaData())
        granted = database.grant_statements(dialect, own or schema, table, login, ["select"])
        if granted and name not in required:
            yield f"-- {name}: optional; leave the next line out where the table is not there"
        yield from granted
    keys = {(row["table"], row["column"]) for row in tables.ssd_columns() if row["key"] == "pk"}
    yield "-- Indexes on what rows are found by; leave out those that are there, or on views."
    for name, column in sorted(set(_found_by(plan)) - keys):
        own, _, bare = name.rpartition(".")
        yield database.index_statement(dialect, own or schema, bare, column)


def _readable(
    engine: Engine, settings: Settings, reader: SourceReader, gone: set[str]
) -> Iterator[Check]:
    """Check the right to read by asking each table for no row."""
    refused: list[Table] = []
    lookups = _lookups(reader)
    for name, columns in lookups.items():
        table = source_table(name)
        found_by: Select = select(*map(column_named, sorted(columns))).select_from(table)
        try:
            with database.reading(engine) as connection:
                connection.execute(found_by.where(false()))
        except DatabaseError:
            refused.append(table)
    if refused:
        advice = "Ask a DBA to grant SELECT on them to this login."
        said = f"cannot be read: {', '.join(sorted(table.name for table in refused))}"
        ddl = grants(engine, settings.ssd_schema, [(table, ["select"]) for table in refused])
        yield Check("rights to read", FAIL, said, advice, "DatabaseError", ddl)
    elif gone:
        yield _not_checked("rights to read", len(lookups), gone)
    else:
        yield Check("rights to read", PASS, f"{len(lookups)} tables can be read")


def _indexes(engine: Engine, reader: SourceReader, gone: set[str]) -> Iterator[Check]:
    """Check that each column by which rows are found has an index; a view takes none."""
    ssd = source_table("ssd_person")
    lookups = _lookups(reader)
    with database.reading(engine) as connection:
        lacking = _without_index(connection, lookups)
        views = database.views(connection, ssd) if lacking else set()
        schema = database.real_schema(connection, ssd)
    over_views = sorted({table for table, _ in lacking if table.lower() in views})
    lacking = [(table, column) for table, column in lacking if table not in over_views]
    if not lacking and gone:
        yield _not_checked("source indexes", len(lookups), gone)
        return
    if not lacking:
        said = "every column that rows are found by has an index"
        if over_views:
            said += f"; not looked at: the tables behind the views {', '.join(over_views)}"
        yield Check("source indexes", PASS, said)
        return
    named = ", ".join(f"{table}.{column}" for table, column in lacking)
    if gone:
        named += f"; not checked: {', '.join(sorted(gone))}"
    yield Check(
        "source indexes",
        WARN,
        f"without an index, so that extract is slow on many children: {named}",
        "Have a DBA run what `d2i check --ddl` prints.",
        ddl=tuple(
            database.index_statement(engine.dialect, schema, table, column)
            for table, column in lacking
        ),
    )


def _without_index(
    connection: Connection, lookups: Mapping[str, set[str]]
) -> list[tuple[str, str]]:
    """(table, column) of the columns that rows are found by and no index begins with."""
    lacking: list[tuple[str, str]] = []
    for name, columns in sorted(lookups.items()):
        there = database.indexed_columns(connection, source_table(name))
        lacking += [(name, column) for column in sorted(columns) if column.lower() not in there]
    return lacking


def _row_counts(engine: Engine, settings: Settings, reader: SourceReader) -> Iterator[Check]:
    """Compare the number of rows of each table with the last completed run, as extract will."""
    with database.reading(engine) as connection:
        today = reader.deployed.row_counts(connection)
        rows = row_counts.compare(connection, settings.staging_table, today)
        staging = Staging(engine, settings.staging_table)
        made_anew = (
            database.has_table(connection, facts)
            and staging.fact(connection, guards.MADE_ANEW) == "yes"
        )
    persons = rows[reader.plan.person.table].before
    findings = guards.row_findings(rows, settings, shares=persons >= settings.guard_min_children)
    if findings:
        said = "; ".join(map(str, findings))
        yield Check("source rows", FAIL, said, guards.how_to_allow(findings), "GuardError")
    elif persons:
        said = "no table has lost more rows since the last completed run than the guards allow"
        yield Check("source rows", PASS, said)
    elif made_anew:
        said = "the fictional SSD was made anew, and other children are staged than it holds"
        yield Check("source rows", WARN, said, f"Extract may stop.{guards.FRESH_START}")
    else:
        yield Check("source rows", PASS, "there is no earlier run to compare with")


def _sample(engine: Engine, settings: Settings, spec: Spec) -> Iterator[Check]:
    """Read the first children as extract does, and look for columns that it cannot use."""
    size = min(_SAMPLE, settings.chunk_size)
    documents = Documents(
        engine, settings.model_copy(update={"chunk_size": size, "person_ids": ()}), spec
    )
    documents.reader.deployed.check()
    with database.reading(engine) as connection:
        next(documents.pages(connection), None)
    uses = documents.column_uses()
    findings = guards.column_findings(uses, settings)
    persons = documents.counts["persons_read"]
    read = f"{subject(persons, 'person', 'was')} read"
    if findings:
        said = f"{read}; {'; '.join(use.said for use in findings)}"
        advice = f"Extract would stop. {guards.UNUSABLE} {guards.how_to_allow(findings)}"
        yield Check("source values", WARN, said, advice)
    elif notices := guards.column_notices(uses):
        yield Check("source values", WARN, f"{read}; {'; '.join(notices)}", guards.UNUSABLE)
    else:
        yield Check("source values", PASS, f"{read}, and no column is unusable as a whole")
