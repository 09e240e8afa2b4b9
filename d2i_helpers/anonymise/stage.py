"""Anonymise: the staging table to its anonymised twin, which bears no way back to a child.

Every live document is rewritten under the secret key, searched for what identifies its child, and
written only when all of them are clean: one transaction, which a leak undoes. Rows of the twin go
by pseudonym and are written by `staging`, so that states and deltas work on it as on the original.
They are written in the order of their pseudonyms, so that row numbers say nothing of the original.
Only documents of children who changed are made; those that stay are compared with all children
again, by digests. Where nothing changed at all since the twin was last made, one question says so,
and nothing is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.anonymise.documents import (
    CONSTRUCTED,
    AnonymousDocuments,
    Coincidence,
    Progress,
)
from d2i_helpers.anonymise.key import mark, pseudonym_key
from d2i_helpers.anonymise.made import Made, OfTwin, depends_on
from d2i_helpers.database.shards import whose
from d2i_helpers.document.canonical import canonical_name, hash_of_plain
from d2i_helpers.errors import GuardError, LeakError
from d2i_helpers.garbage import few_collections
from d2i_helpers.payload_spec import Spec
from d2i_helpers.plain_english import counted, subject, verb
from d2i_helpers.settings import Secrets, Settings
from d2i_helpers.staging import Staging, attention, contents
from d2i_helpers.staging.attention import Entry
from d2i_helpers.staging.contents import Contents
from d2i_helpers.staging.figures_of_all import gather
from d2i_helpers.staging.guards import Figures
from d2i_helpers.staging.lease import BY_HAND, take_turn, working_on
from d2i_helpers.staging.load import Child, Compared, Load
from d2i_helpers.staging.rows import Row

STAGE = "anonymise"  # whose entries of d2i_attention these are
KEY_FACT = "pseudonym_mark"
ORDER_FACT, BY_PSEUDONYM = "row_order", "by pseudonym"
COUNTS = (
    "children_read", "unreadable", "duplicates", "anonymised", "constructed", "new", "updated",
    "undone", "back", "unchanged", "gone", "held_back", "not_valid", "altered",
    "values_left_out", "documents_searched", "values_searched", "redrawn", "leaks",
    "need_attention",
)  # fmt: skip
_ROUNDS = 5  # a chance equality is drawn anew in the second; more would be no chance


@dataclass
class AnonymiseResult:
    """What a run did; numbers and sentences only."""

    counts: dict[str, int]
    unusable: dict[str, int] = field(default_factory=dict)  # values left out, by path
    notices: list[str] = field(default_factory=list)


def run(
    engine: Engine,
    settings: Settings,
    secrets: Secrets,
    spec: Spec,
    *,
    progress: Progress | None = None,
) -> AnonymiseResult:
    """Bring the anonymised table to what the staging table says today.

    Args:
        engine: the database with both tables.
        settings: `phase_data`, `pseudonym_key_mode`, `max_date_shift_days` and the tables.
        secrets: the pseudonym key.
        spec: the specification with a rule for every field.
        progress: called with (children done, all), a few times a second.

    Raises:
        LeakError: an identifying value stands in an anonymised document; nothing was written.
        SettingsError: there is no key. SpecificationError: a field without a rule.
        GuardError: the key is not the one that the table was made with.
        GateError: one of the two tables holds what belongs into the other.
        DatabaseError: the staging table is not there. LockError: another run works on a table.
    """
    key = None if settings.phase_data in CONSTRUCTED else pseudonym_key(settings, secrets)
    avoid: frozenset[int] = frozenset()
    may_stay = True
    tables = [settings.staging_table, settings.anon_table]
    with working_on(engine, tables, settings.part), few_collections():
        database.create_staging(engine, settings.anon_table)
        with database.reading(engine) as connection:
            source = Staging(engine, settings.staging_table)
            contents.require(connection, source, Contents.IDENTIFIABLE)
        twin = Staging(engine, settings.anon_table, shard=settings.part)
        contents.claim(twin, Contents.ANONYMISED)
        said = _wait_for_originals(engine, settings)
        for _ in range(_ROUNDS):
            try:
                result = database.again(
                    functools.partial(_day, engine, settings, spec, key, avoid, may_stay, progress)
                )
                result.notices[:0] = said
                return result
            except OfOneChild:
                may_stay = False
            except Coincidence as coincidence:
                if coincidence.hashes <= avoid:
                    break
                avoid |= coincidence.hashes
    raise LeakError(
        "Anonymised documents bear ids, pupil numbers or names with birth dates of other children. "
        "Nothing was written.",
        hint="Send nothing; this is a fault of the program, please report it.",
    )


def _wait_for_originals(engine: Engine, settings: Settings) -> list[str]:
    """Wait until no shard at work has originals still to write: any may be the twin of any shard.

    Returns:
        What the notebook says of shards that are not at work.
    """
    if settings.part.is_whole:
        return []
    twin = Staging(engine, settings.anon_table, shard=settings.part)
    twin.in_transaction(functools.partial(_hide_former_order, twin))  # before anybody goes on
    source = Staging(engine, settings.staging_table, shard=settings.part)
    missing = gather(source, STAGE, settings, Figures(staged=0)).missing
    names = ", ".join(map(str, missing))
    return [
        f"Made while nothing was heard of {names} today: what it extracts later comes into the "
        "twin when all shards are anonymised again."
    ] if missing else []  # fmt: skip


def _hide_former_order(twin: Staging, connection: Connection) -> None:
    """Number rows anew that an earlier release wrote in the order of the original.

    By pseudonym, as rows are written today; the order then says nothing that these do not say. Of
    several shards one does it for all, before any of them writes to the twin.
    """
    if twin.fact(connection, ORDER_FACT) == BY_PSEUDONYM:
        return
    take_turn(connection, twin.name, twin.shard)
    if twin.fact(connection, ORDER_FACT) != BY_PSEUDONYM:
        twin.renumber(connection)
        twin.set_fact(connection, ORDER_FACT, BY_PSEUDONYM)


def _day(
    engine: Engine,
    settings: Settings,
    spec: Spec,
    key: bytes | None,
    avoid: frozenset[int],
    may_stay: bool,
    progress: Progress | None,
) -> AnonymiseResult:
    return _Day(engine, settings, spec, key, avoid, may_stay).run(progress)


class OfOneChild(Exception):
    """Two originals are of one child, and which of them the twin bears, all of them decide."""


class _Day:
    """One attempt to write the twin."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        spec: Spec,
        key: bytes | None,  # None: constructed documents need none
        avoid: frozenset[int],
        may_stay: bool,  # documents of children who did not change
    ) -> None:
        self.may_stay = may_stay
        self.engine, self.settings, self.spec, self.key = engine, settings, spec, key
        self.source = Staging(engine, settings.staging_table)
        self.documents = AnonymousDocuments(self.source, settings, spec, key, avoid)
        self.counts = self.documents.counts
        self.load = Load(
            engine, settings.anon_table, spec, settings, self.counts, hash_of=hash_of_plain
        )
        self.twin = self.load.staging
        self.notices: list[str] = []

    def run(self, progress: Progress | None) -> AnonymiseResult:
        """Everything in one transaction; see `run` of the module."""
        self.load.rehash_if_needed()
        made = self._made()
        with database.transaction(self.engine) as connection:
            if self.key is not None:
                self._ask_about_key(connection, mark(self.key))
            _hide_former_order(self.twin, connection)
            self.load.begin(connection)
            self.documents.is_mine = whose(connection, self.twin.shard)
            if made is not None and self._stays(connection, made, progress):
                return self._result()
            if made is not None and not self._is_whole():
                made.forget(connection, self._makes_twin_of)
            elif made is not None:
                self.documents.made, self.documents.may_stay = made, self.may_stay
            self.documents.stay = self.load.see_rows
            for page in self.documents.pages(connection, progress):
                self._write(connection, page)
            self._keep_unreadable(connection)
            self._keep_held_back(connection)
            self.documents.read_others(connection)
            self.documents.note_originals(connection)
            self.documents.stop_on_leaks()
            if not self._is_pilot():  # else the others were not looked at
                self.load.mark_gone(connection)
            if self.documents.made is not None:
                self.documents.made.finish(connection, self._makes_twin_of)
            if self.key is not None:
                self.twin.set_fact(connection, KEY_FACT, mark(self.key))
        return self._result()

    def _ask_about_key(self, connection: Connection, marked: str) -> None:
        """Stop where the key is another one and nobody asked for that: it replaces everybody."""
        before = self.twin.fact(connection, KEY_FACT)
        if before in (None, marked):
            return
        held = self.twin.count(connection, ~self.twin.is_deleted, self.twin.held)
        kept = self.settings.pseudonym_key_mode == "kept"
        if held and kept and self.settings.max_deleted_share < 1:
            raise GuardError(
                f"The pseudonym key is not the one that `{self.twin.name}` was made with: all "
                f"{counted(held, 'child')} that the receiver may hold would be replaced by others.",
                hint="Restore the key; or, to replace them, allow it for one run with "
                "-p max_deleted_share=1.",
            )
        if held:
            self.notices.append(
                f"Made with a new key: {subject(held, 'earlier pseudonym')} gone that the receiver "
                "may hold, and delta asks it to erase what it holds of them."
            )

    # --------------------------------------------------------------------------------- writing
    def _write(self, connection: Connection, children: list[Child]) -> None:
        """Write what changed of a page."""
        rows = self._staged(connection, [child.person_id for child in children])
        page = self.load.compare(connection, children, rows)
        self.counts["duplicates"] += len(page.duplicates)
        if page.duplicates and self.documents.made is not None and self.may_stay:
            raise OfOneChild
        self.load.write(connection, page.changes, rows)
        if self.documents.made is not None:
            self._note(connection, self.documents.made, page, rows)

    def _staged(self, connection: Connection, pseudonyms: list[str]) -> Mapping[str, Row]:
        """The twin's rows of these children, held until the transaction ends.

        Where the twin was empty there are none: each original is of another child, and so is each
        pseudonym, until a document bears another child's id. Of made-up documents that is not said.
        """
        of_originals = self.documents.made is not None
        if self.load.first_load and of_originals and not self.documents.bear_others_ids:
            return {}
        return self.twin.lookup(connection, pseudonyms, lock=True)

    def _note(
        self, connection: Connection, made: Made, page: Compared, before: Mapping[str, Row]
    ) -> None:
        """Note the documents of a page, so that they can stay while nothing changes."""
        compared = self.documents.compared
        for child in page.duplicates:
            compared.pop(child.person_id, None)
        made.note_twins(
            connection,
            {
                child.person_id: OfTwin(
                    content,
                    compared.get(child.person_id),
                    None if child.person_id in before else child.text,
                )
                for child, content in page.hashes
            },
        )

    def _keep_unreadable(self, connection: Connection) -> None:
        """Mark rows without a document, as delta does, and keep what the twin has of the child.

        Else the child would look as if it had left, and the receiver would be asked to erase it.
        """
        unreadable = self.documents.unreadable
        self.source.mark_unreadable(connection, [row_id for row_id, _ in unreadable])
        for row in self.twin.lookup(
            connection, [person_id for _, person_id in unreadable]
        ).values():
            self.load.seen.add(row.id)

    def _keep_held_back(self, connection: Connection) -> None:
        """Keep the twin of a child who is held back as it is, and hold it back as well."""
        pseudonyms = self.documents.held_back
        rows = self.twin.lookup(connection, list(pseudonyms.values()))
        for row in rows.values():
            self.load.seen.add(row.id)
        entries = [
            Entry(
                pseudonym, old.outcome, old.rule, old.source_table, old.source_column,
                old.path, old.children,
            )
            for old in attention.read(connection, self.source)
            if (pseudonym := pseudonyms.get(old.person_id)) in rows
            and self.documents.is_mine(pseudonym)
        ]  # fmt: skip
        run_id = self.settings.run_id or BY_HAND
        attention.add(connection, self.twin, STAGE, entries, run_id)
        attention.remove_others(connection, self.twin, STAGE, entries)
        self.counts["held_back"] = len({entry.person_id for entry in entries})

    # ------------------------------------------------------------------------------- nothing to do
    def _made(self) -> Made | None:
        """What is kept of the last time; nothing where made-up documents need no originals."""
        if self.key is None:
            return None
        form = canonical_name(self.spec, self.load.volatile_ids)
        start = self.documents.window.start.isoformat()
        return Made(
            self.source, self.twin, depends_on(self.spec, self.settings, start, form), self.key
        )

    def _stays(self, connection: Connection, made: Made, progress: Progress | None) -> bool:
        """Whether the twin stays as it is; its attention is brought up to date in any case."""
        if not (database.has_table(connection, self.source.table) and self._is_whole()):
            return False
        self.documents.find_held_back(connection)
        self._keep_held_back(connection)
        live = made.live(connection)
        if live is None:
            return False
        self.counts["unchanged"] = live
        if progress:
            progress(live, live)
        return True

    def _is_whole(self) -> bool:
        """Whether all originals are made into the twin."""
        return self.settings.phase_data == "cohort" and not self._is_pilot()

    def _makes_twin_of(self, person_id: str) -> bool:
        return self.documents.is_mine(self.documents.pseudonyms.child_id(person_id))

    def _is_pilot(self) -> bool:
        return bool(self.settings.person_ids) and self.settings.phase_data == "cohort"

    def _result(self) -> AnonymiseResult:
        unusable = self.documents.pseudonyms.unusable
        self.counts["redrawn"] = self.documents.pseudonyms.redrawn
        self.counts["need_attention"] = self.counts["unreadable"] + self.counts["held_back"]
        self.counts["values_left_out"] = sum(unusable.values())
        self.counts["documents_searched"] = self.documents.check.documents
        self.counts["values_searched"] = self.documents.check.values
        if unreadable := self.counts["unreadable"]:
            self.notices.append(
                f"{subject(unreadable, 'row', 'holds')} no JSON document and "
                f"{verb(unreadable, 'is', 'are')} marked; what the anonymised table has of the "
                "child stays, and extract writes it anew."
            )
        return AnonymiseResult(
            counts={name: self.counts[name] for name in COUNTS},
            unusable=dict(unusable.most_common()),
            notices=[
                *self.notices,
                *self.source.moves.notices(),
                *self.twin.moves.notices(),
            ],
        )


__all__ = ["AnonymiseResult", "run"]
