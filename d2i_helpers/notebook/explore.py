"""One child or the whole table, for an analyst at a notebook.

The results may be about one child. `display` shows their structure only, unless the analyst asks
for values; in a recorded run it never shows values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Engine, case, func, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import submission_log
from d2i_helpers.errors import D2IError, SettingsError
from d2i_helpers.notebook.children import NOTHING, to_send
from d2i_helpers.payload_spec import Document
from d2i_helpers.privacy.safe_words import OwnTime
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging

LONGEST_ID = 48  # characters of the staging column
_QUOTE_IT = "Quote it in the notebook; with papermill use -r person_id ID, which keeps it as typed."


@dataclass(frozen=True)
class StagedChild:
    """What the staging table and the submission log hold about one child."""

    person_id: str = field(repr=False)
    row_state: str
    submission_status: str
    answer: str | None
    document: Document | None = field(repr=False)
    acknowledged: Document | None = field(repr=False)
    partial: Document | None = field(repr=False)
    attempts: list[dict[str, Any]]  # rows of the submission log, oldest first
    to_send: str = NOTHING  # in words


def overview(engine: Engine, settings: Settings) -> dict[str, int]:
    """Rows of the sent staging table by state and status, such as ``new, pending``."""
    staging = Staging(engine, settings.send_table)
    with database.reading(engine) as connection:
        # grouped over a sub-query, by names: T-SQL takes an expression for another one where it
        # holds a parameter
        words = select(staging.state.label("state"), staging.status.label("status")).subquery()
        counted = select(words.c.state, words.c.status, func.count())
        rows = connection.execute(counted.group_by(words.c.state, words.c.status)).all()
    return {f"{state}, {status}": count for state, status, count in sorted(rows)}


def child(engine: Engine, settings: Settings, person_id: str | int | None = None) -> StagedChild:
    """One child; without an id the first that waits to be sent, else the first of the table.

    Args:
        person_id: a number (papermill's ``-p`` turns figures into one) stands for the only staged
            id that it can be, with or without leading zeros.

    A child that was never staged has a state that says so, and no document.

    Raises:
        SettingsError: a number that can be two ids, or an id that is neither text nor an integer.
        D2IError: the table is empty, or a document of the row is not JSON.
    """
    staging = Staging(engine, settings.send_table)
    t = staging.table.c
    flags = {
        "due": staging.is_due_there,
        "held": staging.held,
        "held_back": staging.held_back,
    }
    told = [case((flag, 1), else_=0).label(name) for name, flag in flags.items()]
    words = staging.state.label("state"), staging.status.label("status")
    statement = select(staging.table, *words, *told).limit(1)
    person_id = _as_text(engine, staging, person_id)
    if person_id:
        # as typed or copied: ids are staged without outer blanks, by other software perhaps with
        statement = statement.where(t.person_id.in_({person_id, person_id.strip()}))
    # a number, because T-SQL and Oracle cannot order by a condition
    waits_first = case((staging.status == "sent", 1), else_=0)
    with database.reading(engine) as connection:
        row = connection.execute(statement.order_by(waits_first, t.id)).first()
        if row is None and person_id:
            return StagedChild(
                person_id.strip(), "not staged", "not staged", None, None, None, None, []
            )
        if row is None:
            raise D2IError("The staging table is empty.", hint="Run the extract stage.")
        said = to_send(
            str(row.state), str(row.status), row.api_response, due=bool(row.due),
            held=bool(row.held), held_back=bool(row.held_back),
        )  # fmt: skip
        document = _document(row.json_payload) or {}
        acknowledged = _document(row.previous_json_payload)
        return StagedChild(
            row.person_id,
            str(row.row_state),
            str(row.submission_status),
            row.api_response,
            document,
            acknowledged,
            _document(row.partial_json_payload),
            _attempts(connection, staging, row),
            said,
        )


def _attempts(connection: Connection, staging: Staging, row: Any) -> list[dict[str, Any]]:
    """The submission log of a child, with a word for the document that each attempt was about."""
    log = submission_log.c
    columns = (
        log.started_at, log.kind, log.phase, log.outcome, log.http_status, log.detail,
        log.reference, log.run_id, log.document_hash,
    )  # fmt: skip
    wanted = select(*columns).where(
        log.staging_table == staging.name, log.person_id == row.person_id
    )
    known = {
        database.as_bytes(row.previous_hash): "the acknowledged one",
        database.as_bytes(row.current_hash): "today's",
    }
    known.pop(None, None)
    attempts = []
    for attempt in connection.execute(wanted.order_by(log.id)).mappings():
        which = known.get(database.as_bytes(attempt["document_hash"]), "an earlier one")
        told = {**attempt, "started_at": OwnTime(attempt["started_at"]), "which": which}
        del told["document_hash"]
        attempts.append(told)
    return attempts


def _as_text(engine: Engine, staging: Staging, person_id: Any) -> str | None:
    """The id that is meant: the text itself, or the id that a number was made from."""
    if person_id is None or isinstance(person_id, str):
        return person_id
    if isinstance(person_id, bool) or not isinstance(person_id, int) or person_id < 0:
        raise SettingsError("`person_id` must be text.", hint=_QUOTE_IT)
    held = staging.table.c.person_id
    written = str(person_id)
    possible = [written.zfill(length) for length in range(len(written), LONGEST_ID + 1)]
    with database.reading(engine) as connection:
        fitting = connection.execute(select(held).where(held.in_(possible))).scalars().all()
    if len(fitting) > 1:
        raise SettingsError(
            f"{len(fitting)} children's ids are that number, with zeros in front.", hint=_QUOTE_IT
        )
    return fitting[0] if fitting else written


def _document(text: str | None) -> Document | None:
    if not text:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        raise D2IError(
            "A document of this row is no valid JSON, and cannot be shown.",
            hint="The next extract writes `json_payload` anew; `--stages extract` does only that.",
        ) from None
