"""All children of a staging table in one table: how each stands, and what is the matter with it.

Read in a few statements, and each document once: of it only the length and the birth date are
looked at. Twenty thousand children take less than two seconds.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import case, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import inclusion, marks
from d2i_helpers.document.assembly import SAYS_NOTHING
from d2i_helpers.payload_spec import Spec
from d2i_helpers.staging import Staging, attention, outbox
from d2i_helpers.staging.attention import NOT_SENT, Reason
from d2i_helpers.staging.states import RowState, Status, Unsent

if TYPE_CHECKING:
    import pandas as pd

NOTHING, WHOLE, CHANGES, REMOVAL = "nothing", "whole document", "changes", "removal"
HELD_BACK, NOT_VALID = "nothing: held back", "nothing: not valid"
NOT_STAGED = "not staged"
FILTERS = ("state", "status", "to send", "age")  # columns to choose a word from
COLUMNS = (
    "child", "state", "status", "to send", "problems", "days waiting", "age", "what is wrong",
    "sets", "characters",
)  # fmt: skip
_AT_A_TIME = 1000  # documents in memory
# the first year of each band, and what it is called; the bands of the CIN census
_BANDS = (
    (16, "aged 16 and over"), (10, "aged 10 to 15"), (5, "aged 5 to 9"), (1, "aged 1 to 4"),
    (0, "aged under 1"),
)  # fmt: skip


def to_send(
    state: str, status: str, answer: str | None, *, due: bool, held: bool, held_back: bool
) -> str:
    """What the next run would send of a row as it stands, in words.

    Args:
        state, status: of the row.
        answer: its `api_response`.
        due: something of the child is still to be sent.
        held: the receiver holds something of the child, or may hold it.
        held_back: nothing of the child may be sent.
    """
    if held_back:
        return HELD_BACK
    if not due:
        return NOTHING
    if state == RowState.DELETED:
        return REMOVAL
    if status == Status.ERROR and (answer or "").startswith(NOT_SENT):
        return NOT_VALID
    return CHANGES if held else WHOLE


def table(staging: Staging, spec: Spec, today: dt.date) -> pd.DataFrame:
    """A row a child, those that need attention first, then those with something to send.

    Children who could not be staged at all are in it as well. The columns are `COLUMNS`.

    Args:
        today: the day by which ages and waiting days are counted.
    """
    import pandas as pd

    with database.reading(staging.engine) as connection:
        if not database.has_table(connection, staging.table):
            return pd.DataFrame(columns=list(COLUMNS))
        by_child: dict[str | None, list[Reason]] = {}
        for reason in attention.everything(staging, spec):
            by_child.setdefault(reason.person_id, []).append(reason)
        sets = _by_child(connection, staging, inclusion, inclusion.c.reasons)
        problems = _by_child(connection, staging, marks, marks.c.problems)
        rows = list(_staged(connection, staging, by_child, sets, problems, _born(spec), today))
    rows += _not_staged(by_child, {row[0] for row in rows})
    frame = pd.DataFrame(rows, columns=["", *COLUMNS[1:]]).rename(columns={"": COLUMNS[0]})
    # whole numbers, with gaps
    frame["days waiting"] = frame["days waiting"].astype("Int64")
    frame["characters"] = frame["characters"].astype("Int64")
    needy = frame["child"].isin(set(by_child))
    order = pd.DataFrame(
        {"calm": ~needy, "idle": frame["to send"].eq(NOTHING), "few": -frame["problems"]}
    )
    return frame.loc[order.sort_values(["calm", "idle", "few"], kind="stable").index].reset_index(
        drop=True
    )


def _by_child(connection: Connection, staging: Staging, of: Any, column: Any) -> dict[str, str]:
    """A column of one of our tables by child, where it holds something."""
    if not database.has_table(connection, of):
        return {}
    statement = select(of.c.person_id, column).where(
        of.c.staging_table == staging.name, column.is_not(None)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def _staged(
    connection: Connection,
    staging: Staging,
    reasons: Mapping[str | None, list[Reason]],
    sets: Mapping[str, str],
    problems: Mapping[str, str],
    born: re.Pattern[str] | None,
    today: dt.date,
) -> Iterable[tuple[Any, ...]]:
    t = staging.table.c
    due = set(outbox.due_rows(connection, staging))
    statement = select(
        t.id, t.person_id, staging.state.label("state"), staging.status.label("status"),
        t.api_response, t.last_updated, t.json_payload,
        case((staging.acknowledged, 1), else_=0).label("held"),
    ).order_by(t.id)  # fmt: skip
    for row in database.streamed(connection, statement, _AT_A_TIME):
        for one in row:
            why = reasons.get(one.person_id, [])
            wrong = _wrong(problems.get(one.person_id), why)
            waits = one.id in due and one.last_updated is not None
            held_back = any(reason.what == Unsent.HELD_BACK for reason in why)
            yield (
                one.person_id,
                str(one.state),
                str(one.status),
                to_send(
                    one.state, one.status, one.api_response, due=one.id in due,
                    held=bool(one.held), held_back=held_back,
                ),
                len(wrong),
                (today - one.last_updated.date()).days if waits else None,
                _band(born, one.json_payload, today),
                "; ".join(wrong),
                (sets.get(one.person_id) or "").replace(",", ", "),
                len(one.json_payload or ""),
            )  # fmt: skip


def _not_staged(
    reasons: Mapping[str | None, list[Reason]], staged: set[str]
) -> Iterable[tuple[Any, ...]]:
    """Children who need attention and have no row."""
    for person_id, why in reasons.items():
        if person_id is not None and person_id not in staged:
            wrong = _wrong(None, why)
            yield (person_id, NOT_STAGED, why[0].what, NOTHING, len(wrong), None, "",
                   "; ".join(wrong), "", None)  # fmt: skip


def _wrong(stored: str | None, reasons: Iterable[Reason]) -> list[str]:
    """What is wrong with a child: field or column, and rule; never a value."""
    left_out = orjson.loads(stored) if stored else ()
    found = [f"{_short(path)}: {rule}" for path, rule in left_out if rule not in SAYS_NOTHING]
    for reason in reasons:
        column = f"{reason.source_table}.{reason.source_column}" if reason.source_table else ""
        where = _short(reason.path) if reason.path else column
        found.append(f"{where}: {reason.rule}" if where else f"{reason.what}: {reason.rule}")
    return list(dict.fromkeys(found))


def _short(path: str) -> str:
    """A field's path without the blocks around its own."""
    return ".".join(path.removeprefix("child_details.").split(".")[-2:])


def _born(spec: Spec) -> re.Pattern[str] | None:
    """Finds the first birth date in a document's text, which need not be parsed for it."""
    names = [f.name for _, f in spec.fields() if f.type == "date" and f.anonymise == "birth_date"]
    if not names:
        return None
    fields = "|".join(map(re.escape, names))
    return re.compile(rf'"(?:{fields})"\s*:\s*"(\d{{4}})-(\d\d)-(\d\d)')


def _band(born: re.Pattern[str] | None, text: str | None, today: dt.date) -> str:
    """The age band of a child on a day."""
    found = born.search(text or "") if born else None
    if found is None:
        return ""
    year, month, day = map(int, found.groups())
    years = today.year - year - ((today.month, today.day) < (month, day))
    return next((band for least, band in _BANDS if years >= least), "not yet born")
