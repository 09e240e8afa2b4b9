"""What would be sent if the run started now: extract, anonymise and delta, without writing a thing.

Each stage's own functions decide: `extract.look` says what would change in the staging table, and
`delta.stage.Decisions` what would be sent of each row. What no run has brought into the tables yet
stands in memory only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import Engine, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.anonymise.documents import CONSTRUCTED, AnonymousDocuments
from d2i_helpers.anonymise.key import pseudonym_key
from d2i_helpers.delta.stage import Decided, Decisions
from d2i_helpers.document.canonical import to_text
from d2i_helpers.errors import D2IError
from d2i_helpers.extract.look import Found, look
from d2i_helpers.notebook.comparison import SAME, compare
from d2i_helpers.notebook.told import Cell, Part, Words
from d2i_helpers.payload_spec import Document, Spec
from d2i_helpers.settings import Settings, load_secrets
from d2i_helpers.staging import Row, Staged, Staging, attention, outbox, own_blocks, sent_to
from d2i_helpers.staging.load import Child, Load, event_of
from d2i_helpers.staging.outbox import Due
from d2i_helpers.staging.states import Event
from d2i_helpers.submit import gates
from d2i_helpers.submit.stage import body

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int | None], None]

WHOLE, CHANGES, REMOVAL = "whole_documents", "changes", "child_removals"
SENT = {WHOLE: "whole document", CHANGES: "changes", REMOVAL: "removal"}  # kinds, in words
WAITED = "waited already"  # why a child is removed that was marked as gone before
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Going:
    """One child of whom something would be sent, or should be and is not."""

    person_id: str
    kind: str  # of `SENT`, or what hinders it
    size: int = 0  # bytes of the record
    fields: tuple[str, ...] = ()  # paths that change
    why: str = ""  # of a removal, or why nothing is sent


@dataclass
class Tomorrow:
    """What a run would send."""

    going: list[Going] = field(default_factory=list)
    unsent: list[Going] = field(default_factory=list)
    stop: D2IError | None = None  # what would end the run before anything is sent
    dry_run: bool = False
    batch_size: int = 100

    @property
    def kinds(self) -> dict[str, int]:
        """Messages by kind, as delta counts them."""
        counted = Counter(one.kind for one in self.going)
        return {kind: counted[words] for kind, words in SENT.items()}

    @property
    def size(self) -> int:
        """Bytes of all records together."""
        return sum(one.size for one in self.going)

    @property
    def requests(self) -> int:
        """Requests, if the receiver takes each at once."""
        return math.ceil(len(self.going) / self.batch_size)


def preview(
    engine: Engine, settings: Settings, spec: Spec, *, progress: Progress | None = None
) -> Tomorrow:
    """What the next run would send if it started now. Nothing is written.

    Args:
        engine: the profile's database.
        settings: of the profile; `source`, `phase_data`, `phase` and `person_ids` count.
        spec: the payload specification.
        progress: called with (persons read, all), a few times a second.

    Raises:
        D2IError: no run has made the tables yet. DatabaseError: required columns are missing.
        SettingsError: there is no pseudonym key.
    """
    found = look(engine, settings, spec, progress=progress)
    result = Tomorrow(stop=found.stop, dry_run=settings.dry_run, batch_size=settings.batch_size)
    decision = gates.decide(settings)
    if result.stop is None and not decision.allowed:
        result.stop = D2IError(decision.reason, hint=decision.hint)
    with database.reading(engine) as connection:
        if result.stop is None:
            try:
                sent_to.require(connection, Staging(engine, settings.send_table), settings)
            except D2IError as error:
                result.stop = error
        day = _of_original(connection, engine, settings, spec, found)
        if settings.source == "anonymised":
            day = _of_twin(connection, engine, settings, spec, found, day)
        _decide(connection, day, settings, spec, result)
    for entry in found.entries:
        place = f"{entry.source_table}.{entry.source_column} " if entry.source_table else ""
        outcome = str(entry.outcome)
        for _ in range(entry.children):
            result.unsent.append(Going(entry.person_id or "", outcome, why=place + entry.rule))
    return result


# ----------------------------------------------------------------------------- what would be staged
@dataclass
class _Day:
    """What extract, or anonymise, would make of the table that is sent."""

    staging: Staging
    changes: dict[str, Staged]
    rows: dict[str, Row]  # of the children with changes who are staged
    gone: dict[int, str]
    held_back: set[str]
    why_gone: dict[str, str] = field(default_factory=dict)


def _of_original(
    connection: Connection, engine: Engine, settings: Settings, spec: Spec, found: Found
) -> _Day:
    load = Load(engine, settings.staging_table, spec, settings, Counter())
    held_back = found.held_back
    if settings.person_ids:  # nobody else is looked at, so nobody else is released
        held_back |= set(attention.held_back(connection, load.staging)) - set(settings.person_ids)
    return _Day(load.staging, found.changes, found.rows, found.gone, held_back, found.why_gone)


def _of_twin(
    connection: Connection,
    engine: Engine,
    settings: Settings,
    spec: Spec,
    found: Found,
    original: _Day,
) -> _Day:
    """The twin that anonymise would make of the originals as extract would leave them."""
    key = None
    if settings.phase_data not in CONSTRUCTED:
        key = pseudonym_key(settings, load_secrets())
    documents = AnonymousDocuments(original.staging, settings, spec, key, frozenset())
    load = Load(engine, settings.anon_table, spec, settings, Counter())
    there = database.has_table(connection, load.staging.table)
    if not there:
        raise D2IError(
            f"There is no table `{settings.anon_table}` yet to compare with.",
            hint="`d2i run --stages extract,anonymise,delta` makes it and sends nothing.",
        )
    load.begin(connection)
    day = _Day(load.staging, {}, {}, {}, set())
    pages = (
        documents.pages(connection, None)
        if key is None
        else _pseudonymised(documents, original, settings, day)
    )
    for children in pages:
        rows = load.staging.lookup(connection, [child.person_id for child in children])
        page = load.compare(connection, children, rows)
        same = {child.person_id for child in page.unchanged}
        changed = {c.person_id: c for c in page.changes if c.person_id not in same}
        day.changes.update(changed)
        day.rows.update({one: rows[one] for one in changed if one in rows})
    for row in load.staging.lookup(connection, sorted(day.held_back)).values():
        load.see(row)
    if not (settings.person_ids and settings.phase_data == "cohort"):
        day.gone = {row_id: one for page in load.unseen(connection) for row_id, one in page}
        pseudonyms = {
            documents.pseudonyms.child_id(one): why for one, why in found.why_gone.items()
        }
        day.why_gone = {one: pseudonyms[one] for one in day.gone.values() if one in pseudonyms}
    return day


def _pseudonymised(
    documents: AnonymousDocuments,
    original: _Day,
    settings: Settings,
    day: _Day,
) -> Iterator[list[Child]]:
    """The twins of the originals of tomorrow, in pages; those held back are noted in ``day``."""
    key = str(documents.spec.root.key)
    page: list[Child] = []
    for person_id, text, legacy_id in _originals(original, settings):
        try:
            document = orjson.loads(text)
            child_id = str(document[key])
        except (ValueError, TypeError, KeyError):
            day.held_back.add(documents.pseudonyms.child_id(person_id))
            continue
        if person_id in original.held_back:
            day.held_back.add(documents.pseudonyms.child_id(child_id))
            continue
        made = documents.pseudonyms.document(child_id, document, documents.collect(document))
        legacy = documents.pseudonyms.child_id(legacy_id) if legacy_id else None
        page.append(Child(made[key], legacy, made, to_text(made)))
        if settings.phase_data == "single_scrambled":
            break
        if len(page) == _PAGE:
            yield page
            page = []
    yield page


def _originals(original: _Day, settings: Settings) -> Iterator[tuple[str, str, str | None]]:
    """Id, document and second id of each original that would be live; by row number, new last.

    Over a connection of its own, since not every driver reads two results at once over one.
    """
    staging, t = original.staging, original.staging.table.c
    pilot = set(settings.person_ids)
    back = {row.id for row in original.rows.values()}
    live = select(
        t.id, t.person_id, t.json_payload, t.legacy_id, staging.state.label("state")
    ).order_by(t.id)
    with database.reading(staging.engine) as connection:
        for rows in database.streamed(connection, live, _PAGE):
            for row in rows:
                if pilot and row.person_id not in pilot:
                    continue
                if row.id in original.gone or (row.state == "deleted" and row.id not in back):
                    continue
                change = original.changes.get(row.person_id)
                if change is not None:
                    yield row.person_id, change.payload, change.legacy_id
                else:
                    yield row.person_id, row.json_payload, row.legacy_id
    for change in original.changes.values():
        if change.person_id not in original.rows:
            yield change.person_id, change.payload, change.legacy_id


# ------------------------------------------------------------------------------- what would be sent
def _decide(
    connection: Connection, day: _Day, settings: Settings, spec: Spec, result: Tomorrow
) -> None:
    spec = own_blocks.with_noted(connection, day.staging, spec)
    decisions = Decisions(day.staging, settings, spec)
    pilot = outbox.of_pilot(settings)
    for rows in _due(connection, day):
        if pilot is not None:
            rows = [row for row in rows if row.person_id in pilot]
        for decided in decisions.of(connection, rows):
            going = _going(decided, day, settings, spec)
            if going is not None:
                (result.going if decided.message else result.unsent).append(going)


def _due(connection: Connection, day: _Day) -> Iterator[list[Due]]:
    """Every row that may be due tomorrow, with tomorrow's document, in pages."""
    staging = day.staging
    numbers = set(outbox.due_rows(connection, staging)) | set(day.gone)
    held_before = set(attention.held_back(connection, staging))
    released = staging.lookup(connection, sorted(held_before - day.held_back))
    numbers |= {row.id for row in released.values()}
    numbers |= {row.id for row in day.rows.values()}
    ordered = sorted(numbers)
    for start in range(0, len(ordered), _PAGE):
        page = outbox.as_they_stand(connection, staging, ordered[start : start + _PAGE])
        tomorrow = [_tomorrow(row, day) for row in page if row.person_id not in day.held_back]
        yield [row for row in tomorrow if row is not None]
    new = [change for one, change in day.changes.items() if one not in day.rows]
    for start in range(0, len(new), _PAGE):
        yield [_new(change) for change in new[start : start + _PAGE]]


def _tomorrow(row: Due, day: _Day) -> Due | None:
    """A row as extract would leave it; None where nothing of it would be due."""
    if row.id in day.gone:
        return replace(row, deleted=True)
    change = day.changes.get(row.person_id)
    if change is None:
        return row
    event = event_of(day.rows[row.person_id], change.hash)
    if event in (Event.UNDONE, Event.BACK_SAME):
        return None
    return replace(row, json_payload=change.payload, current_hash=change.hash, deleted=False)


def _new(change: Staged) -> Due:
    return Due(0, change.person_id, change.hash, None, False, change.payload, None)


def _going(decided: Decided, day: _Day, settings: Settings, spec: Spec) -> Going | None:
    row, message = decided.row, decided.message
    if message is None:
        if decided.kind == "nothing_to_send":
            return None
        return Going(row.person_id, decided.kind.replace("_", " "), why=decided.reason or "")
    size = len(body(message, settings, spec))
    kind = SENT[decided.kind]
    if decided.kind == REMOVAL:
        why = day.why_gone.get(row.person_id, WAITED).replace("_", " ")
        return Going(row.person_id, kind, size, why=why)
    fields: tuple[str, ...] = ()
    if decided.kind == CHANGES:
        before = _parsed(row.previous_json_payload)
        lines = compare(spec, before, _parsed(row.json_payload))
        fields = tuple(dict.fromkeys(line.path for line in lines if line.mark != SAME))
    return Going(row.person_id, kind, size, fields)


def _parsed(text: str | None) -> Document | None:
    try:
        held = orjson.loads(text) if text else None
    except ValueError:
        return None
    return held if isinstance(held, dict) else None


# ---------------------------------------------------------------------------------------- in words
def parts(tomorrow: Tomorrow) -> list[Part]:
    """What would be sent, in words and numbers; of no child alone."""
    return [_totals(tomorrow), _fields(tomorrow), _removals(tomorrow), _unsent(tomorrow)]


def _totals(tomorrow: Tomorrow) -> Part:
    said: list[Words] = []
    if tomorrow.stop is not None:
        said.append(f"The run would stop before anything is sent: {tomorrow.stop.message}")
        if tomorrow.stop.hint:
            said.append(f"To do: {tomorrow.stop.hint}")
    if not tomorrow.going:
        said.append("Nothing would be sent.")
    else:
        kinds = ", ".join(
            f"{SENT[kind]} {number:,}" for kind, number in tomorrow.kinds.items() if number
        )
        said.append(
            f"Children: {len(tomorrow.going):,}. Requests: {tomorrow.requests:,}. "
            f"Size: {in_units(tomorrow.size)}. By kind: {kinds}."
        )
    if tomorrow.dry_run:
        said.append("The profile asks for a dry run, which sends nothing of it.")
    sizes: Counter[str] = Counter()
    for one in tomorrow.going:
        sizes[one.kind] += one.size
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (words, tomorrow.kinds[kind], in_units(sizes[words])) for kind, words in SENT.items()
    )
    return Part("What would be sent now", tuple(said), ("kind", "children", "size"), rows)


def _fields(tomorrow: Tomorrow) -> Part:
    counted = Counter(path for one in tomorrow.going for path in one.fields)
    return _counted("Fields that change", "field", counted)


def _removals(tomorrow: Tomorrow) -> Part:
    removed = SENT[REMOVAL]
    counted = Counter(one.why for one in tomorrow.going if one.kind == removed)
    return _counted("Children who are removed, and why", "reason", counted)


def _unsent(tomorrow: Tomorrow) -> Part:
    counted = Counter(f"{one.kind}: {one.why}" for one in tomorrow.unsent)
    return _counted("Children of whom nothing is sent, and why", "reason", counted)


def _counted(title: str, name: str, counted: Counter[str]) -> Part:
    rows = tuple((words, number) for words, number in counted.most_common())
    return Part(title, () if rows else ("None.",), (name, "children"), rows)


def in_units(size: int) -> str:
    """A number of bytes as people say it."""
    for unit, least in (("MB", 1_000_000), ("KB", 1_000)):
        if size >= least:
            return f"{size / least:,.1f} {unit}"
    return f"{size:,} bytes"


COLUMNS = ("child", "would be sent", "bytes", "fields", "why")


def rows(tomorrow: Tomorrow) -> list[tuple[str, str, int, str, str]]:
    """A row for each child of whom something would be sent, or should be; columns `COLUMNS`."""
    return [
        (one.person_id, one.kind, one.size, ", ".join(map(_short, one.fields)), one.why)
        for one in (*tomorrow.unsent, *tomorrow.going)
    ]


def _short(path: str) -> str:
    """A path without the blocks around its own."""
    return ".".join(path.split(".")[-2:])


def table(tomorrow: Tomorrow) -> pd.DataFrame:
    """The same as a table."""
    import pandas as pd

    return pd.DataFrame(rows(tomorrow), columns=list(COLUMNS))
