"""The documents of the anonymised table: rewritten originals, checked one by one, or made-up ones.

Reads and computes only; what is stored is the business of `anonymise`.

A shard makes the documents whose pseudonyms are of it, whichever shard their originals are of: so a
row of the twin belongs to one shard in every stage.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.anonymise import fake_documents
from d2i_helpers.anonymise.leak_check import LeakCheck
from d2i_helpers.anonymise.pseudonyms import Pseudonymiser
from d2i_helpers.cohort import Window
from d2i_helpers.document.canonical import to_text
from d2i_helpers.errors import DatabaseError, LeakError
from d2i_helpers.payload_spec import Document, Spec
from d2i_helpers.privacy.identities import collector, person_reader
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staging, attention
from d2i_helpers.staging.load import Child

Progress = Callable[[int, int | None], None]

CONSTRUCTED = ("single_fake", "many_fake")
_SECONDS_BETWEEN_SIGNS = 0.3
# With so many children it is likely that a made-up name and birth date are another child's, and all
# would be made twice. So the real ones are read first, which costs an eighth of that.
_LIKELY_TO_MEET = 10_000
_ROWS_AT_A_TIME = 1000


def _not_noted(_connection: Connection, _rows: list[Any]) -> None:
    """What is told of the rows that were read, where nobody keeps it."""


class Coincidence(Exception):
    """Pseudonyms that some other child really has; the transaction is undone."""

    def __init__(self, hashes: frozenset[int]) -> None:
        super().__init__()
        self.hashes = hashes


class AnonymousDocuments:
    """What the anonymised table is to hold today.

    Args:
        source: the staging table with the originals.
        key: the pseudonym key; None for made-up documents, which need none.
        avoid: hashes of values that no pseudonym may equal.
    """

    def __init__(
        self,
        source: Staging,
        settings: Settings,
        spec: Spec,
        key: bytes | None,
        avoid: frozenset[int],
    ) -> None:
        self.source, self.settings, self.spec = source, settings, spec
        self.window = Window.for_date(settings.today)
        self.pseudonyms = Pseudonymiser(
            spec,
            key or b"",
            max_shift_days=settings.max_date_shift_days,
            window_start=self.window.start,
            avoid=avoid,
        )
        self.collect = collector(spec)
        self.check = LeakCheck(spec)
        self.counts: Counter[str] = Counter()
        self.leaks: Counter[str] = Counter()
        self.unreadable: list[tuple[int, str]] = []  # number of the row, pseudonym of its child
        self._pilot = frozenset(settings.person_ids)
        self.held_back: dict[str, str] = {}  # id of the child, pseudonym
        # whether a pseudonym is of the shard; what it makes of the others' originals is nothing
        self.is_mine: Callable[[str], bool] = lambda _pseudonym: True
        self._others = array("q")  # numbers of the others' rows
        self.read: Callable[[Connection, list[Any]], None] = _not_noted  # told of each page's rows

    def pages(self, connection: Connection, progress: Progress | None) -> Iterator[list[Child]]:
        """Pages of documents, as `phase_data` asks.

        Raises:
            DatabaseError: the staging table is not there.
            SpecificationError: a document has a field that no rule covers.
        """
        phase = self.settings.phase_data
        if phase in CONSTRUCTED:
            yield from self._constructed(1 if phase == "single_fake" else None)
            return
        pages = self._scrambled(connection, progress)
        if phase == "single_scrambled":
            yield next((page for page in pages if page), [])
            return
        yield from pages

    def _constructed(self, count: int | None) -> Iterator[list[Child]]:
        size = self.settings.fake_children if count is None else count
        page = []
        for document in fake_documents.documents(self.spec, self.window.start, size):
            self.counts["constructed"] += 1
            page.append(Child(document[str(self.spec.root.key)], None, document, to_text(document)))
            if len(page) == self.settings.chunk_size:
                yield page
                page = []
        yield page

    def _scrambled(
        self, connection: Connection, progress: Progress | None
    ) -> Iterator[list[Child]]:
        if not database.has_table(connection, self.source.table):
            raise DatabaseError(
                f"There is no table `{self.source.name}` to anonymise.", hint="Run extract first."
            )
        self.find_held_back(connection)
        order = self._order(connection)
        if len(order) + len(self._others) >= _LIKELY_TO_MEET:
            self.pseudonyms.persons = self._real_persons(connection)
        size, total = self.settings.chunk_size, len(order)
        if self.settings.phase_data == "single_scrambled":
            order, size, total = array("q", sorted(order)), 1, 1  # the first child stays the same
        told = time.monotonic()
        for rows in self._source_rows(connection, order, size):
            page = []
            read = []
            for row in rows:
                made = self._scramble(row)
                if made is not None:
                    page.append(made)
                    read.append(row)
            self.read(connection, read)
            yield page
            if progress and time.monotonic() - told > _SECONDS_BETWEEN_SIGNS:
                told = time.monotonic()
                progress(self.counts["children_read"], total)
        if progress:
            progress(self.counts["children_read"], total)

    def _order(self, connection: Connection) -> array[int]:
        """Row numbers of the live originals, in the order of their children's pseudonyms.

        Only the key gives this order. Read by row number, the originals would be written in their
        own order, and whoever holds both tables could find each child by counting. A list of
        numbers is small whatever the documents are: eight bytes a child stay.
        """
        t = self.source.table.c
        rows = connection.execute(select(t.id, t.person_id).where(~self.source.is_deleted))
        pairs = []
        self._others = array("q")
        for row in filter(self._is_wanted, rows):
            pseudonym = self.pseudonyms.child_id(str(row.person_id))
            if self.is_mine(pseudonym):
                pairs.append((pseudonym, row.id))
            else:
                self._others.append(row.id)
        return array("q", [row_id for _, row_id in sorted(pairs)])

    def read_others(self, connection: Connection) -> None:
        """Let the leak check know the originals of which other shards make the documents."""
        t = self.source.table.c
        statement = select(t.person_id, t.legacy_id, t.json_payload)
        for ids in database.in_batches(self._others):
            for row in connection.execute(statement.where(t.id.in_(ids))):
                original, child_id = self._original(row)
                if child_id is not None:
                    keys = [key for key in (row.person_id, row.legacy_id) if key]
                    self.check.original(self.collect(original), original, keys)

    def _is_wanted(self, row: Any) -> bool:
        """Whether the child of a live row belongs in the twin today."""
        pilot = self._pilot
        return row.person_id not in self.held_back and (not pilot or row.person_id in pilot)

    def _real_persons(self, connection: Connection) -> frozenset[int]:
        """Hashes of the full names with birth dates that the originals hold.

        Only an early look: the leak check compares the documents themselves when all are made.
        """
        t = self.source.table.c
        statement = select(t.person_id, t.json_payload).where(~self.source.is_deleted)
        person = person_reader(self.spec)
        found = (
            person(self._original(row)[0])
            for rows in database.streamed(connection, statement, _ROWS_AT_A_TIME)
            for row in rows
            if self._is_wanted(row)
        )
        return frozenset(hash(one) for one in found if one is not None)

    def find_held_back(self, connection: Connection) -> None:
        """Find the children whose rows stay as they are, those that left the cohort too."""
        t = self.source.table.c
        self.held_back.clear()
        for ids in database.in_batches(attention.held_back(connection, self.source)):
            rows = connection.execute(
                select(t.person_id, t.json_payload).where(t.person_id.in_(ids))
            )
            for row in rows:
                _, child_id = self._original(row)
                pseudonym = self.pseudonyms.child_id(child_id or str(row.person_id))
                self.held_back[row.person_id] = pseudonym

    def _source_rows(
        self, connection: Connection, order: Sequence[int], size: int
    ) -> Iterator[list[Any]]:
        """These rows of the original, in this order, in pages."""
        t = self.source.table.c
        length = database.size_of(connection, t.json_payload)
        statement = select(
            t.id, t.person_id, t.legacy_id, t.json_payload, t.current_hash, length.label("size")
        ).where(t.id.in_(bindparam("ids", expanding=True)))
        for row_ids in database.in_batches(order, size):
            rows = {
                row.id: row
                for part in database.in_batches(row_ids)
                for row in connection.execute(statement, {"ids": list(part)})
            }
            yield [rows[row_id] for row_id in row_ids]

    def _scramble(self, row: Any) -> Child | None:
        """One child's anonymised document; None where the original is no document."""
        self.counts["children_read"] += 1
        original, child_id = self._original(row)
        if child_id is None or not self._stays_here(child_id, str(row.person_id)):
            self.counts["unreadable"] += 1
            self.unreadable.append((row.id, self.pseudonyms.child_id(str(row.person_id))))
            return None
        identity = self.collect(original)
        made = self.pseudonyms.document(child_id, original, identity)
        text = to_text(made)
        keys = [key for key in (row.person_id, row.legacy_id) if key]
        self.leaks.update(self.check.document(identity, original, made, text, keys))
        self.counts["anonymised"] += 1
        legacy = self.pseudonyms.child_id(row.legacy_id) if row.legacy_id else None
        return Child(made[str(self.spec.root.key)], legacy, made, text)

    def _stays_here(self, child_id: str, person_id: str) -> bool:
        """Whether a row's document is not that of a child of another shard, as a hand may do."""
        return child_id == person_id or self.is_mine(self.pseudonyms.child_id(child_id))

    def _original(self, row: Any) -> tuple[Document, str | None]:
        """A stored document and the id of its child; None where it is no document of one."""
        try:
            original = orjson.loads(row.json_payload)
            child_id = original[self.spec.root.key]
        except (ValueError, TypeError, KeyError):
            return {}, None
        if not isinstance(child_id, str | int) or child_id == "":
            return {}, None
        return original, str(child_id)

    def stop_on_leaks(self) -> None:
        """Raise where a document bears what it must not.

        Raises:
            LeakError: a document bears a value of its own child.
            Coincidence: a document bears a value of another one, perhaps by chance.
        """
        if self.leaks:
            kinds = ", ".join(f"{kind} ({count:,})" for kind, count in self.leaks.most_common())
            raise LeakError(
                f"Anonymised documents bear identifying values of their own child: {kinds}. "
                "Nothing was written.",
                hint="Send nothing; look at the `anonymise` rules of these kinds of field.",
            )
        common = self.check.coincidences()
        if common:
            raise Coincidence(common)
