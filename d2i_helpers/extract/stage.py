"""Extract: the cohort's documents of today into the staging table.

What did not change costs a comparison of hashes and writes nothing. A day's changes wait in a table
of their own; only when the guards have passed the whole day are they written (see `staging.load`).
"""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import Engine, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.cohort import Window
from d2i_helpers.delta import removed_items
from d2i_helpers.document.canonical import hash_of_assembled
from d2i_helpers.document.validation import Problem, firewall_warnings
from d2i_helpers.errors import SettingsError, SourceMovesError
from d2i_helpers.extract.documents import Documents, Withheld
from d2i_helpers.extract.read_twice import ReadTwice
from d2i_helpers.extract.shard_ids import require_clear_ids
from d2i_helpers.extract.spelling import as_staged, staged_spellings
from d2i_helpers.extract.unchanged import (
    MOST_HAVE_CHANGED,
    NO_MARKS,
    REASSESSED,
    Changed,
    Everybody,
    find_changed,
    read_whole,
    salt_of,
    why_marks_do_not_hold,
)
from d2i_helpers.extract.whole_tables import WholeTables
from d2i_helpers.garbage import few_collections
from d2i_helpers.payload_spec import Spec
from d2i_helpers.payload_spec.registry import INCLUSION_SETS
from d2i_helpers.plain_english import counted, subject, verb
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Row, attention, contents, guards, marks, pending_changes, row_counts
from d2i_helpers.staging.attention import MASKED_IDS, Entry, mask
from d2i_helpers.staging.contents import Contents
from d2i_helpers.staging.figures_of_all import gather, note_stop
from d2i_helpers.staging.lease import BY_HAND, take_turn, working_on
from d2i_helpers.staging.load import Child, Compared, Load
from d2i_helpers.staging.states import WHY_GONE, RowState, Unsent

Progress = Callable[[int, int | None], None]

STAGE = "extract"  # whose entries of d2i_attention these are
WINDOW_FACT = "window_start"
STOPPED_FACT = "stopped_for"  # why a guard stopped the last day, beside the source
COUNTS = (
    "persons_read", "without_id", "eligible", "in_cohort", "new", "updated", "undone", "back",
    "unchanged", "gone", *WHY_GONE, "held_back", "left_out", "refused", "not_valid", "altered",
    "rehashed", "released", "need_attention",
)  # fmt: skip
_SECONDS_BETWEEN_SIGNS = 0.3
# Readings of a source that does not stand still, and the seconds between two.
READINGS, PAUSE = 3, 5.0
# Where so many persons were read, and so few of their documents are other ones, it is said.
_MANY, _MUCH, _LITTLE = 100, 0.2, 0.05


@dataclass
class ExtractResult:
    """What a run found and did; holds no name, no date of birth and no whole id."""

    window: Window
    counts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)  # children by inclusion set
    left_out: dict[str, int] = field(default_factory=dict)  # persons that are not in, by reason
    quality: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)  # what the guards say of a day they passed
    read_anew: int = 0  # persons who were read and judged; the others' rows are as they were
    why_read: str = ""  # why all of them were, or so many; a part of a sentence


def run(
    engine: Engine, settings: Settings, spec: Spec, *, progress: Progress | None = None
) -> ExtractResult:
    """Bring the staging table to what the SSD says today.

    Args:
        engine: the profile's database.
        settings: run date, scope, pilot ids and the settings of docs/cohort.md.
        spec: the payload specification.
        progress: called with (children read, all), a few times a second.

    Raises:
        DatabaseError: required tables or columns are missing; names all of them.
        GuardError: the day looks wrong; the staging table is as it was.
        GateError: the staging table holds anonymised documents.
        LockError: another run works on the table.
        SourceMovesError: the SSD is being filled; the staging table is as it was.
        SettingsError: none of the ids in `person_ids` is a person's; or the source or the database
            cannot be worked on in shards.
    """
    with working_on(engine, [settings.staging_table], settings.part), few_collections():
        day = Day(engine, settings, spec)
        twice = day.read(progress)
        for _ in range(READINGS - 1):
            if twice.stood_still:
                break
            day.load.discard()
            time.sleep(PAUSE)
            day = Day(engine, settings, spec, twice)
            twice = day.read(progress)
        return day.stage()


class Day:
    """One run of extract; `extract.look` goes the same way and writes nothing."""

    def __init__(
        self, engine: Engine, settings: Settings, spec: Spec, earlier: ReadTwice | None = None
    ) -> None:
        """``earlier``: what the reading before this one found, in which the source had moved."""
        self.engine, self.settings, self.spec = engine, settings, spec
        self.documents = Documents(engine, settings, spec)
        self.documents.twice = ReadTwice(earlier=earlier)
        self.counts = self.documents.counts
        self.load = Load(
            engine,
            settings.staging_table,
            spec,
            settings,
            self.counts,
            guarded=True,
            hash_of=hash_of_assembled,
            look=self._look_at_change,
        )
        self.staging = self.load.staging
        self.firewall: Counter[str] = Counter()
        self.changed = 0
        self.items_before: Counter[str] = Counter()  # by block, of all children who stay
        self.items_gone: Counter[str] = Counter()
        self.attention: Counter[Entry] = Counter()
        self.respelt = 0  # children who are staged under another spelling of their id

    def read(self, progress: Progress | None) -> ReadTwice:
        """Read and judge everybody, and put aside what changed.

        Returns:
            Whether the source stood still meanwhile. Where it did not, it can be read again by
            another `Day`, and nothing is kept of this one.
        """
        self.warnings = self.documents.reader.deployed.check()
        with database.reading(self.engine) as connection:
            require_clear_ids(self.documents.reader.deployed, connection)
        self.strangers = self._ask_for_pilot()
        database.create_staging(self.engine, self.settings.staging_table)
        contents.claim(self.staging, Contents.IDENTIFIABLE)
        pending_changes.clear(self.staging)
        self.counts["rehashed"] = self.load.rehash_if_needed()
        with database.reading(self.engine) as connection:
            self.before, self.to_read = self._begin(connection)
            if self.load.first_load:  # its pages are written as they are read
                guards.check(guards.Figures(staged=0, rows=self.rows), self.settings)
            self._read_all(connection, self.to_read, progress)
            return self._look_again(connection)

    def stage(self) -> ExtractResult:
        """Write what was put aside, if the guards pass the day; see `run` of the module."""
        self._require_rest(self.documents.twice)
        if changed := self.to_read:
            self.staging.in_transaction(
                lambda connection: marks.remove(connection, self.staging, changed.strangers)
            )
        notices = self.strangers + self._ask_guards(self.before)
        entries, run_id = self._entries(), self.settings.run_id or BY_HAND
        # before anything can be sent
        self.staging.in_transaction(
            lambda connection: attention.add(connection, self.staging, STAGE, entries, run_id)
        )
        self.load.write_pending(self.settings.chunk_size)
        gone = self.load.mark_gone(only=self._left_of_pilot())
        self.counts.update(self.documents.absent.reasons(gone))
        # of a pilot, or without a shard, these are not the numbers of the whole
        if not (self.settings.person_ids or self.missing):
            self.staging.in_transaction(self._keep_facts)
        self.counts["released"] = self.staging.in_transaction(
            lambda connection: attention.remove_others(
                connection, self.staging, STAGE, entries, only=self.settings.person_ids
            )
        )
        return self._result(notices)

    def _left_of_pilot(self) -> frozenset[str] | None:
        """The children of a pilot who were read, and are not in the cohort; None: no pilot.

        What is staged of them would be sent with the others. Nobody else was looked at.
        """
        if not self.settings.person_ids:
            return None
        return self.documents.absent.among(self.settings.person_ids)

    def _begin(self, connection: Connection) -> tuple[str | None, Changed | None]:
        """Compare the source with the last run before anybody is read.

        Returns:
            The first day of the last run's window, and whom to read (None: everybody, or those of a
            pilot).
        """
        noted = self.staging.facts_like(connection, "")
        before = noted.get(WINDOW_FACT)
        self.made_anew = noted.get(guards.MADE_ANEW) == "yes"
        self.stopped_for = noted.get(STOPPED_FACT, "")
        self.load.begin(connection, was_loaded=before is not None)
        # after the highest row number is known: what is added meanwhile is looked for, not missed
        self.staged = self.staging.count_live(connection)
        self.load.live = self.staged
        found = self._find_changed(connection)
        changed = found if isinstance(found, Changed) else None
        self.everybody = found if isinstance(found, Everybody) else None
        if whole := self.documents.twice.tables:
            # in the order in which guards name them
            today = dict(sorted(whole.rows.items()))
        else:
            today = self.documents.reader.deployed.row_counts(connection)
        self.rows = row_counts.compare(connection, self.staging.name, today)
        return before, changed

    def _compare_columns(self, numbers: Sequence[Mapping[str, Any]]) -> None:
        """Compare how well columns are filled with the last run, once everybody is read.

        Args:
            numbers: of each process that read some (`Documents.numbers`).
        """
        self.columns = self.documents.uses_of_columns(numbers)
        with database.reading(self.engine) as connection:
            self.values = row_counts.compare_values(connection, self.staging.name, self.columns)

    def _keep_facts(self, connection: Connection) -> None:
        """What the next day is compared with; shards all keep the same."""
        take_turn(connection, self.staging.name, self.staging.shard)
        self.staging.set_fact(connection, WINDOW_FACT, self.documents.window.first)
        row_counts.store(connection, self.staging.name, self.rows)
        row_counts.store_values(connection, self.staging.name, self.values)
        if self.made_anew:
            self.staging.set_fact(connection, guards.MADE_ANEW, "no")
        if self.stopped_for:
            self.staging.forget_fact(connection, STOPPED_FACT)

    def _ask_for_pilot(self) -> list[str]:
        """What is to be said of ids in `person_ids` that fit nobody.

        Raises:
            SettingsError: none fits anybody: a pilot of nobody is a slip.
        """
        number = len(set(self.settings.person_ids))
        if not number:
            return []
        with database.reading(self.engine) as connection:
            strangers = self.documents.reader.without_person(connection)
        if len(strangers) == number:
            raise SettingsError(
                f"No person in the source has an id of `person_ids` ({counted(number, 'id')}).",
                hint="Compare them with ssd_person: zeros in front, blanks, capitals.",
            )
        self.counts["pilot_of_nobody"] = len(strangers)
        shown = ", ".join(mask(person_id) for person_id in strangers[:MASKED_IDS])
        fit = verb(len(strangers), "fits", "fit")
        given = f"the {counted(number, 'id')} in `person_ids`"
        said = f"{len(strangers)} of {given} {fit} no person ({shown})"
        return [said] if strangers else []

    # ------------------------------------------------------------------------------- reading
    def _find_changed(self, connection: Connection) -> Changed | Everybody:
        """The persons who have to be read: who changed, or everybody, or those of a pilot."""
        self._marks_before = False  # whether marks of earlier runs may be there
        if self.settings.person_ids:
            return NO_MARKS
        salt = salt_of(self.documents)
        connection.commit()  # no reading transaction stays open while another one writes
        self._marks_before, kept = self._begin_marks(connection, salt)
        whole = read_whole(connection, self.documents, self.staging)
        if isinstance(whole, WholeTables):
            self.documents.twice.tables = whole
            if self._marks_before:
                self.documents.twice.staged = functools.partial(
                    marks.fingerprints, connection, self.staging
                )
        found = self._compare_with_marks(connection, whole, kept, salt)
        if isinstance(whole, WholeTables) and (isinstance(found, Everybody) or found.ids):
            self.documents.reader.take_written(whole.written_ids(connection))
        return found

    def _compare_with_marks(
        self,
        connection: Connection,
        whole: WholeTables | Everybody,
        kept: Sequence[marks.Made],
        salt: str,
    ) -> Changed | Everybody:
        if not self._marks_before:
            if self.settings.reassess and not self.load.first_load:
                return REASSESSED
            return why_marks_do_not_hold(kept, salt, self.settings.today)
        if isinstance(whole, Everybody):
            return whole
        return find_changed(
            connection, self.documents, whole, self.staging, self.settings.today,
            self._take_as_before,
        )  # fmt: skip

    @property
    def _anew(self) -> bool:
        """Whether everybody is read, whatever marks say."""
        return self.settings.reassess or self.load.first_load

    def _begin_marks(self, _connection: Connection, salt: str) -> tuple[bool, Sequence[marks.Made]]:
        """Whether there may be marks that hold; and what those that were there before are of."""
        return marks.begin(self.staging, salt, self.settings.today, anew=self._anew)

    def _take_as_before(self, kept: marks.Held) -> None:
        """Count children whose rows, document and staging row are as they were."""
        self.items_before.update(self.documents.take(kept))
        row_ids = [row_id for row_id in kept.row_ids if row_id is not None]
        self.counts["unchanged"] += len(row_ids)
        self.load.live_seen += len(row_ids)
        self.load.seen.add_all(row_ids)

    def _read_all(
        self, connection: Connection, changed: Changed | None, progress: Progress | None
    ) -> None:
        total = self.documents.reader.count(connection) if progress else None
        told = time.monotonic()
        as_before = self.counts["persons_read"]
        for children in self.documents.pages(connection, changed.ids if changed else None):
            self._take(connection, children)
            if progress and time.monotonic() - told > _SECONDS_BETWEEN_SIGNS:
                told = time.monotonic()
                progress(self.counts["persons_read"], total)
        self.read_anew = self.counts["persons_read"] - as_before
        if progress:
            progress(self.counts["persons_read"], total)

    def _look_again(self, connection: Connection) -> ReadTwice:
        """What the source did while it was read; not asked where all is as it was before."""
        twice, load = self.documents.twice, self.load
        all_as_before = not self.read_anew and load.live == load.live_seen
        if twice.tables is not None and not all_as_before:
            deployed = self.documents.reader.deployed
            twice.end(deployed.counts_again(connection, twice.tables.rows))
        return twice

    def _require_rest(self, twice: ReadTwice) -> None:
        """Stop where the source is being filled; nothing is kept of the day.

        Raises:
            SourceMovesError: rows came or went while it was read, in each reading.
        """
        if not twice.is_being_filled:
            return
        self.load.discard()
        raise SourceMovesError(
            f"The source was written to while it was read, {counted(READINGS, 'time')} in a row "
            f"({twice.said()}), so nobody can say which children have which rows.",
            hint="Nothing was staged. Let this run begin after the load of the SSD has ended; a "
            "scheduler that tries again after a while does so by itself.",
        )

    def _take(self, connection: Connection, children: list[Child]) -> None:
        """Compare a page with what is staged, and put its changes aside."""
        withheld = self.documents.withheld
        ids = [child.person_id for child in children]
        ids += [person.person_id for person in withheld]
        rows = self.staging.lookup(connection, ids)
        if spellings := staged_spellings(ids, rows):
            self.respelt += len(spellings)
            key = self.spec.root.key
            children = [
                as_staged(child, spellings[child.person_id], key)
                if child.person_id in spellings
                else child
                for child in children
            ]
            withheld[:] = [
                replace(person, person_id=spellings.get(person.person_id, person.person_id))
                for person in withheld
            ]
        self._keep(withheld, rows)
        page = self.load.compare(connection, children, rows)
        for child in page.duplicates:
            self.documents.refuse_duplicate(child.person_id)
            self._keep(withheld[-1:], rows)
        for child in page.unchanged:
            self.items_before.update(child.items)
        self._compare_items(connection, page.changed)
        connection.commit()  # no reading transaction stays open while another one writes
        self._put_aside(page, rows)

    def _put_aside(self, page: Compared, _rows: Mapping[str, Row]) -> None:
        """Let a page's changes wait for the guards, and mark what was found of its persons."""
        self.load.put(page.changes)
        self._mark(page)

    def _mark(self, page: Compared) -> None:
        """Keep what was found of a page's persons.

        It may be kept before the guards have passed the day: a mark holds only while its document
        is what is staged. Of a document that stays as it is staged, though it is written otherwise
        today, the staged text is marked.
        """
        found = self.documents.found
        kept = [one for one in found.values() if one.left_out is not None]
        good = {change.person_id for change in page.changes if change.problem is None}
        accepted = good - page.reworded.keys()
        by = self.load.validator.fingerprint
        for child, new_hash in page.hashes:
            if (one := found.get(child.person_id)) and one.left_out is None:
                one.current_hash = new_hash
                staged = page.reworded.get(child.person_id, child.text)
                one.text_fingerprint = marks.text_fingerprint(staged)
                one.accepted_by = by if child.person_id in accepted else None
                kept.append(one)
        kept = [one for one in kept if len(one.person_id) <= marks.LONGEST_ID]
        marks.put(self.staging, kept, among_others=self._marks_before)

    def _keep(self, withheld: Iterable[Withheld], rows: Mapping[str, Row]) -> None:
        """Keep what is staged of children without a document today, and name the children."""
        for person in withheld:
            row = rows.get(person.person_id)
            if row and person.is_in:  # perhaps in the cohort, so not gone
                self.load.see(row)
            if person.refused:
                self.attention[Entry(person.person_id, Unsent.REFUSED, person.refused)] += 1
                continue
            may_be_held = row is not None and (
                row.row_state is not RowState.DELETED or row.acknowledged or row.in_flight
            )
            outcome = Unsent.HELD_BACK if may_be_held else Unsent.LEFT_OUT
            self.counts["held_back" if may_be_held else "left_out"] += 1
            for doubt in person.doubts:
                entry = Entry(person.person_id, outcome, doubt.rule, doubt.table, doubt.column)
                self.attention[entry] += 1

    def _entries(self) -> list[Entry]:
        """Everybody who needs attention, persons without an id too."""
        entries = [replace(entry, children=n) for entry, n in self.attention.items()]
        if nameless := self.counts["without_id"]:
            entries.append(Entry(None, Unsent.REFUSED, "has no id", children=nameless))
        return entries

    def _look_at_change(self, child: Child, problems: list[Problem]) -> None:
        """Note what is wrong with a document that is not the staged one."""
        for problem in problems:
            path = _without_positions(problem.path)
            self.documents.problems.add(path, problem.rule, child.person_id)
        self.firewall.update(firewall_warnings(child.text))

    def _compare_items(self, connection: Connection, children: list[Child]) -> None:
        """Count the items that the changes would purge, for the guard."""
        t = self.staging.table.c
        self.changed += len(children)
        changed = {child.person_id: child.document for child in children}
        stored = select(t.person_id, t.json_payload)
        for person_id, text in database.rows_among(connection, stored, t.person_id, list(changed)):
            try:
                before = orjson.loads(text)
                gone, held = removed_items(
                    self.spec, before, changed[person_id], by_number=self.load.volatile_ids
                )
            except (ValueError, TypeError, AttributeError):
                continue  # no JSON, or no document: it is written anew
            self.items_gone.update(gone)
            self.items_before.update(held)

    # -------------------------------------------------------------------------------- guards
    def _ask_guards(self, before: str | None) -> list[str]:
        """Check today's totals; where a guard objects, discard the pending changes.

        The totals are those of all shards; each comes to the same judgement by itself.
        """
        own = self._counts_of_children(before)
        all_shards = gather(self.staging, STAGE, self.settings, own, self.documents.numbers())
        self.missing = all_shards.missing
        self._compare_columns([part.more for part in all_shards.parts.values()])
        together = all_shards.figures
        self.rows = dict(together.rows)
        try:
            return [
                *all_shards.notices,
                *guards.check(self._with_columns(together), self.settings),
            ]
        except guards.GuardError as error:
            error.message = " ".join([error.message, *self._other_cause(), *all_shards.notices])
            self.load.discard()
            note_stop(self.staging, STAGE)
            self._note_other_cause()
            raise

    def _figures(self, before: str | None) -> guards.Figures:
        """Today's totals of this process, as the guards judge them."""
        return self._with_columns(self._counts_of_children(before))

    def _with_columns(self, figures: guards.Figures) -> guards.Figures:
        pilot = bool(self.settings.person_ids)
        return replace(figures, values={} if pilot else self.values, columns=self.columns)

    def _other_cause(self) -> list[str]:
        """What else than the source may be why a day looks wrong, such as another overlay.

        Marks are of the day that was stopped, so the next day is compared with that. What was noted
        then counts until a day has passed the guards.
        """
        why = self._changed_since() or self.stopped_for
        return [f"Or is it meant? {why[0].upper()}{why[1:]}."] if why else []

    def _changed_since(self) -> str:
        """What documents are made with and is not as in the last run; empty where nothing is."""
        found = self.everybody
        return found.why if found is not None and found.may_change_documents else ""

    def _note_other_cause(self) -> None:
        """Keep why the day was stopped, beside the source, for the days that follow."""
        why = self._changed_since()
        if why and not self.settings.person_ids:
            self.staging.in_transaction(
                lambda connection: self.staging.set_fact(connection, STOPPED_FACT, why)
            )

    def _counts_of_children(self, before: str | None) -> guards.Figures:
        return guards.Figures(
            staged=self.staged,
            gone=sum(map(len, self.load.unseen(only=self._left_of_pilot()))),
            changed=self.changed,
            found=self.counts["in_cohort"],
            persons=self.rows[self.documents.plan.person.table].before,
            items=guards.item_losses(self.spec, self.items_before, self.items_gone),
            rows=self.rows,
            window_before=dt.date.fromisoformat(before) if before else None,
            window_today=self.documents.window.start,
            made_anew=self.made_anew,
        )

    # ------------------------------------------------------------------------------- result
    def _result(self, notices: list[str]) -> ExtractResult:
        documents = self.documents
        notices = notices + self.staging.moves.notices()
        if not documents.twice.stood_still:
            notices.append(
                f"The source was written to while it was read, {counted(READINGS, 'time')} in a "
                "row. Children whose rows changed meanwhile are held back until the next run."
            )
        if restless := len(documents.twice.restless):
            notices.append(
                f"{subject(restless, 'person')} read three times, as some of their rows are other "
                "ones each time: does a view make a key or a time anew? (docs/extract.md)"
            )
        if altered := self.counts["altered"]:
            notices.append(
                f"{counted(altered, 'staged document')} had been changed by other software and "
                f"{verb(altered, 'was', 'were')} written anew."
            )
        for rule, count in sorted(self.firewall.items()):
            self.warnings.append(
                f"{counted(count, 'changed document')} may be stopped by a firewall: {rule}"
            )
        if self.respelt:
            notices.append(
                f"{subject(self.respelt, 'id')} written with other capitals or blanks than when "
                "first staged; what is staged, which the receiver knows, stays."
            )
        if gone := self.counts["gone"]:
            why = (
                f"{name.replace('_', ' ')} {n:,}" for name in WHY_GONE if (n := self.counts[name])
            )
            notices = [
                *notices,
                f"{subject(gone, 'child')} gone: {', '.join(why)}.",
            ]
        unsent = (
            "held_back", "left_out", "refused", "without_id", "not_valid", "pilot_of_nobody",
        )  # fmt: skip
        self.counts["need_attention"] = sum(self.counts[name] for name in unsent)
        return ExtractResult(
            window=documents.window,
            counts={name: self.counts[name] for name in COUNTS},
            # in an order of their own, and not that in which children were looked at
            reasons={s.name: n for s in INCLUSION_SETS.rules() if (n := documents.reasons[s.name])},
            left_out=dict(sorted(documents.left_out.items(), key=lambda one: (-one[1], one[0]))),
            quality=documents.quality(),
            problems=documents.problems.table(),
            warnings=self.warnings,
            notices=notices,
            read_anew=self.read_anew,
            why_read=self._why_read(),
        )

    def _why_read(self) -> str:
        """Why everybody was read, and what may be the reason where many were read for little."""
        if self.settings.person_ids:
            return ""
        if self.everybody and self.everybody != MOST_HAVE_CHANGED:
            return self.everybody.why
        said = [self.everybody.why] if self.everybody else []
        other_documents = self.changed + self.counts["new"]
        is_much = self.read_anew > max(_MANY, _MUCH * self.counts["persons_read"])
        if is_much and other_documents < _LITTLE * self.read_anew:
            said.append(
                f"only {counted(other_documents, 'document')} changed, so perhaps each load of the "
                "SSD gives rows other keys (docs/extract.md)"
            )
        return "; ".join(said)


def _without_positions(path: str) -> str:
    """A path as the specification writes it: ``plans[2].end`` becomes ``plans[].end``."""
    head, *rest = path.split("[")
    return head + "".join(f"[{part[part.index(']') :]}" for part in rest)
