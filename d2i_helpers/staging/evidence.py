"""What the receiver holds of a child, by everything that was kept of it.

Other software, or a hand, can change any column of a staging row. Three witnesses are compared: the
texts with their hashes, the row with the submission log, and the log with the journal. Where they
agree on a document it is the baseline, whichever column it stands in; where they do not, the
baseline is in doubt. Only a table that this project fills can be judged so: of hashes that other
software made nobody here can say what they were made from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    case,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import facts, journal, submission_log
from d2i_helpers.document.canonical import TextHasher
from d2i_helpers.staging.states import Outcome

DOCUMENT, PURGE = "document", "purge"  # kinds of message
CANONICAL_FACT = "canonical"  # the form of the hashes; there once this project fills the table
# numbers in the submission log: what stands up to them was written of a table that other software
# filled, or with hashes of an older form
LOG_COUNTS_FACT, LOG_HASHES_FACT = "log_counts_after", "log_hashes_after"

Hasher = TextHasher  # a document's text to its hash; None: it is no JSON


@dataclass(slots=True)  # not frozen, as many are made
class LastSent:
    """What the submission log and the journal say of a child together."""

    kind: str | None = None  # of the last message that was acknowledged
    hash: bytes | None = None  # of its document; None where it cannot be compared any more
    journal_lost: bool = False  # a later outcome is unknown, and the journal has no document of it


@dataclass(slots=True)  # not frozen, as many are made
class Baseline:
    """The document that the receiver acknowledged last."""

    text: str | None  # None: the receiver holds nothing, or nobody knows what
    hash: bytes | None
    sure: bool = True


_NOTHING_SENT = LastSent()


def baseline(row: Any, last: LastSent | None, matches: Callable[[str, bytes], bool]) -> Baseline:
    """The acknowledged document of a row, wherever in the row it still stands.

    Args:
        row: has `json_payload`, `previous_json_payload` and `previous_hash` as they are stored.
        last: what the log says; None where it says nothing.
        matches: whether a text has a hash of this table.
    """
    last = last or _NOTHING_SENT
    if last.kind == PURGE:
        return Baseline(None, None)
    stored = database.as_bytes(row.previous_hash)
    wanted = last.hash or stored
    if last.kind is None and wanted is None and row.previous_json_payload is None:
        return Baseline(None, None)
    if wanted is not None:
        for text in (row.previous_json_payload, row.json_payload):
            if text is not None and matches(text, wanted):
                return Baseline(text, wanted)
    return Baseline(row.previous_json_payload, stored, sure=False)


class Evidence:
    """The submission log, the journal and the facts of one staging table, as witnesses."""

    def __init__(self, table: Table) -> None:
        self.table, self.name = table, table.name
        mine = and_(facts.c.staging_table == self.name, facts.c.name == CANONICAL_FACT)
        # this project fills the table, so that its hashes and its log can be relied on
        self.filled_by_us = exists(select(facts.c.name).where(mine))

    def last_sent(self, connection: Connection, person_ids: Sequence[str]) -> dict[str, LastSent]:
        """What was last sent of these children; a child without an entry is not in the answer."""
        log, sent = submission_log.c, dict[str, LastSent]()
        # on a first day it has nothing, and then it is not asked for hundreds of children
        any_of_them = select(log.id).where(log.staging_table == self.name).limit(1)
        if connection.execute(any_of_them).first() is None:
            return sent
        counts_after, hashes_after = self._numbers(connection, LOG_COUNTS_FACT, LOG_HASHES_FACT)
        numbers = self._newest(log.id > counts_after)
        for ids in database.in_batches(list(person_ids)):
            newest = numbers.where(log.person_id.in_(ids)).subquery()
            acknowledged = (
                select(newest.c.person_id, newest.c.unknown, log.id, log.kind, log.document_hash)
                .outerjoin_from(newest, submission_log, log.id == newest.c.acknowledged)
            )  # fmt: skip
            unknown: dict[str, int] = {}
            for person_id, later, number, kind, hashed in connection.execute(acknowledged).all():
                comparable = number is not None and number > hashes_after
                sent[person_id] = LastSent(kind, database.as_bytes(hashed) if comparable else None)
                if later is not None and later > (number or 0):
                    unknown[person_id] = later
            for person_id in self._without_journal(connection, unknown):
                before = sent[person_id]
                sent[person_id] = LastSent(before.kind, before.hash, journal_lost=True)
        return sent

    def _newest(self, *conditions: ColumnElement[bool]) -> Any:
        """Number of the last acknowledged and of the last unknown attempt, by child."""
        log = submission_log.c

        def last(outcome: Outcome) -> ColumnElement:
            return func.max(case((log.outcome == str(outcome), log.id)))

        return (
            select(
                log.person_id,
                last(Outcome.ACKNOWLEDGED).label("acknowledged"),
                last(Outcome.UNKNOWN).label("unknown"),
            )
            .where(
                log.staging_table == self.name,
                log.outcome.in_([str(Outcome.ACKNOWLEDGED), str(Outcome.UNKNOWN)]),
                *conditions,
            )
            .group_by(log.person_id)
        )

    def _without_journal(self, connection: Connection, unknown: dict[str, int]) -> list[str]:
        """Children of whose unknown attempt (a number in the log) the journal has no document."""
        log = submission_log.c
        lost: list[str] = []
        for numbers in database.in_batches(list(unknown.values())):
            kept = exists(
                select(journal.c.id).where(
                    journal.c.staging_table == self.name,
                    journal.c.person_id == log.person_id,
                    journal.c.batch_id == log.batch_id,
                )
            )
            lost += connection.execute(
                select(log.person_id).where(log.id.in_(numbers), ~kept)
            ).scalars()
        return lost

    def log_says_held(self) -> ColumnElement[bool]:
        """The log says that the receiver holds, or may hold, something of the row's child.

        For a WHERE on the staging table. Only of a table that this project fills.
        """
        sent, purged = submission_log.alias("sent"), submission_log.alias("purged")
        purged_later = exists(
            select(purged.c.id).where(
                purged.c.staging_table == self.name,
                purged.c.person_id == sent.c.person_id,
                purged.c.outcome == str(Outcome.ACKNOWLEDGED),
                purged.c.kind == PURGE,
                purged.c.id > sent.c.id,
            )
        )
        return exists(
            select(sent.c.id).where(
                sent.c.staging_table == self.name,
                sent.c.person_id == self.table.c.person_id,
                # no list, which SQLAlchemy would write into the statement anew each time
                or_(
                    sent.c.outcome == str(Outcome.ACKNOWLEDGED),
                    sent.c.outcome == str(Outcome.UNKNOWN),
                ),
                sent.c.kind == DOCUMENT,
                ~purged_later,
            )
        )

    def rows_missing(self, connection: Connection, *whose: ColumnElement[bool]) -> list[str]:
        """Children that the receiver holds according to the log, but that have no staging row.

        Args:
            whose: conditions on the log that choose children; none: all.
        """
        log, t = submission_log.c, self.table.c
        stored = self._facts(connection, CANONICAL_FACT, LOG_COUNTS_FACT)
        if stored.get(CANONICAL_FACT) is None:
            return []
        counts_after = _number(stored.get(LOG_COUNTS_FACT))
        without_row = ~exists(select(t.id).where(t.person_id == log.person_id))
        # asked first, as an index answers it alone, and mostly with nobody
        missing = connection.execute(
            select(log.person_id)
            .where(log.staging_table == self.name, without_row, *whose)
            .distinct()
        ).scalars()
        people: list[str] = []
        for ids in database.in_batches(list(missing)):
            newest = self._newest(log.id > counts_after, log.person_id.in_(ids)).subquery()
            last = func.coalesce(newest.c.acknowledged, 0)
            people += connection.execute(
                select(newest.c.person_id)
                .outerjoin(submission_log, log.id == newest.c.acknowledged)
                .where(or_(log.kind == DOCUMENT, func.coalesce(newest.c.unknown, 0) > last))
            ).scalars()
        return sorted(people)

    def _numbers(self, connection: Connection, *names: str) -> list[int]:
        stored = self._facts(connection, *names)
        return [_number(stored.get(name)) for name in names]

    def _facts(self, connection: Connection, *names: str) -> dict[str, str | None]:
        """Those of some facts that are there."""
        rows = connection.execute(
            select(facts.c.name, facts.c.value).where(
                facts.c.staging_table == self.name, facts.c.name.in_(names)
            )
        )
        return {row.name: row.value for row in rows}


def _number(stored: str | None) -> int:
    return int(stored) if stored and stored.isdigit() else 0
