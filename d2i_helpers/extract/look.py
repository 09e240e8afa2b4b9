"""What extract would find now; it goes the way of a run, and writes nothing.

The staging table is read as it is, and what a run would change of it is handed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database import tables
from d2i_helpers.document.canonical import canonical_name
from d2i_helpers.errors import D2IError, GuardError
from d2i_helpers.extract.stage import Day, Progress, few_collections
from d2i_helpers.payload_spec import Spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Row, Staged, guards, marks
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.evidence import CANONICAL_FACT
from d2i_helpers.staging.load import Compared
from d2i_helpers.staging.states import WHY_GONE, Unsent

_NEEDED = (
    tables.notes, tables.journal, tables.submission_log, tables.inclusion, tables.marks,
    tables.facts, tables.attention,
)  # fmt: skip


@dataclass
class Found:
    """What a run of extract would do."""

    changes: dict[str, Staged] = field(default_factory=dict)  # by the child's id
    rows: dict[str, Row] = field(default_factory=dict)  # of those that are staged already
    gone: dict[int, str] = field(default_factory=dict)  # row number to id
    why_gone: dict[str, str] = field(default_factory=dict)  # id to a word of `WHY_GONE`
    entries: list[Entry] = field(default_factory=list)  # who would need attention
    stop: GuardError | None = None  # the guard that would stop the run
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def held_back(self) -> set[str]:
        """Children of whom nothing may be sent."""
        return {e.person_id for e in self.entries if e.outcome == Unsent.HELD_BACK and e.person_id}


def look(
    engine: Engine, settings: Settings, spec: Spec, *, progress: Progress | None = None
) -> Found:
    """What a run of extract would find if it started now.

    Args:
        engine, settings, spec, progress: as of `extract.stage.run`.

    Raises:
        DatabaseError: required tables or columns are missing.
        D2IError: no run has made or brought up to date the tables yet, so nothing can be compared.
    """
    with few_collections():
        return _Look(engine, settings, spec).look(progress)


class _Look(Day):
    """A day of which nothing is written."""

    def __init__(self, engine: Engine, settings: Settings, spec: Spec) -> None:
        super().__init__(engine, settings, spec)
        self.found = Found()

    def look(self, progress: Progress | None) -> Found:
        """See `look` of the module; the order is that of `Day.read` and `stage`."""
        self.documents.reader.deployed.check()
        self._ask_for_pilot()
        with database.reading(self.engine) as connection:
            self._require_tables(connection)
            before, changed = self._begin(connection)
            self._read_all(connection, changed, progress)
        self._compare_columns([self.documents.numbers()])
        found = self.found
        try:
            guards.check(self._figures(before), self.settings)
        except GuardError as error:
            error.message = " ".join([error.message, *self._other_cause()])
            found.stop = error
        unseen = self.load.unseen(only=self._left_of_pilot())
        found.gone = {row_id: one for page in unseen for row_id, one in page}
        found.why_gone = {one: self._why_gone(one) for one in found.gone.values()}
        found.entries = self._entries()
        found.counts = dict(self.counts)
        return found

    def _require_tables(self, connection: Connection) -> None:
        """Nothing can be compared with a table that is not there, or of another form."""
        needed = (self.staging.table, *_NEEDED)
        if not all(database.has_table(connection, table) for table in needed):
            raise D2IError(
                "No run has made all the tables here yet, so there is nothing to compare with.",
                hint="`d2i run --stages extract,delta` makes them and sends nothing.",
            )
        for table in _NEEDED:
            if set(table.columns.keys()) <= database.columns_present(connection, table):
                continue
            raise D2IError(
                "A table here was made by an earlier release and lacks a column.",
                hint="`d2i run --stages extract,delta` adds it and sends nothing; where its login "
                "may not, `d2i check --ddl` prints the script for a DBA.",
            )
        form = self.staging.fact(connection, CANONICAL_FACT)
        wanted = canonical_name(self.spec, self.load.volatile_ids)
        if form != wanted and self.staging.max_id(connection):
            raise D2IError(
                "The staging table was filled by other software or by an earlier release, and the "
                "next extract brings its hashes up to date first.",
                hint="`d2i run --stages extract,delta` does that and sends nothing; "
                "`d2i adopt --dry-run` says what is there.",
            )

    def _begin_marks(self, connection: Connection, salt: str) -> tuple[bool, Sequence[marks.Made]]:
        """As a run does, with the marks as they are."""
        staging = self.staging
        holds = not self._anew and marks.hold(connection, staging, salt, self.settings.today)
        return holds, marks.made(connection, staging)

    def _put_aside(self, page: Compared, rows: Mapping[str, Row]) -> None:
        """Keep a page's changes; one of the inclusion sets alone changes no document."""
        same = {child.person_id for child in page.unchanged}
        for change in page.changes:
            if change.person_id not in same:
                self.found.changes.setdefault(change.person_id, change)
        changed = self.found.changes.keys()
        self.found.rows.update({one: row for one, row in rows.items() if one in changed})

    def _why_gone(self, person_id: str) -> str:
        reasons = self.documents.absent.reasons([person_id])
        return next(name for name in WHY_GONE if reasons[name])
