"""The documents of the anonymised table: rewritten originals, checked one by one, or made-up ones.

Reads and computes only; what is stored is the business of `anonymise`.

A shard makes the documents whose pseudonyms are of it, whichever shard their originals are of: so a
row of the twin belongs to one shard in every stage.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from sqlalchemy import select
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.anonymise import fake_documents
from d2i_helpers.anonymise.digests import DIGESTS, DigestSet, digests_of, keyed_digest
from d2i_helpers.anonymise.leak_check import LeakCheck
from d2i_helpers.anonymise.made import Made, Noted
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


class Coincidence(Exception):
    """Pseudonyms that some other child really has; the transaction is undone."""

    def __init__(self, hashes: frozenset[int]) -> None:
        super().__init__()
        self.hashes = hashes


class _Twins:
    """Rows of the twin that may stay, by pseudonym; some twenty bytes each."""

    def __init__(self, rows: Iterable[tuple[str, int]]) -> None:
        names, numbers = array("q"), array("q")
        for pseudonym, row_id in rows:
            names.append(hash(pseudonym))
            numbers.append(row_id)
        order = np.argsort(names)
        self._names = array("q", np.asarray(names)[order].tobytes())
        self._numbers = np.asarray(numbers)[order]
        self._stay = bytearray(len(names))

    def let_stay(self, pseudonym: str) -> bool:
        """Let the child's row stay, if it is one of these; gives whether it is."""
        at = self._place(pseudonym)
        if at is not None:
            self._stay[at] = 1
        return at is not None

    def staying(self) -> list[int]:
        """The numbers of the rows that were let stay, sorted."""
        numbers: list[int] = np.sort(self._numbers[np.frombuffer(self._stay, bool)]).tolist()
        return numbers

    def _place(self, pseudonym: str) -> int | None:
        wanted = hash(pseudonym)
        at = bisect_left(self._names, wanted)
        return at if at < len(self._names) and self._names[at] == wanted else None


class _Read:
    """Originals that were read: some thirty bytes each, until they are noted."""

    def __init__(self) -> None:
        self._numbers, self._as_read = array("q"), array("q")
        self._first, self._last = array("L"), array("L")

    def add(self, row: Any, first: int, last: int) -> None:
        """Keep that a row was read, and where the leak check has what it remembers of it."""
        self._numbers.append(row.id)
        self._as_read.append(_state(row))
        self._first.append(first)
        self._last.append(last)

    def in_order(self, size: int) -> Iterator[dict[int, tuple[int, int, int]]]:
        """By the numbers of rows, so many at a time in their order: state, first and last place."""
        order = array("q", np.argsort(np.asarray(self._numbers)).tobytes())
        for some in database.in_batches(order, size):
            yield {
                self._numbers[at]: (self._as_read[at], self._first[at], self._last[at])
                for at in some
            }


def _state(row: Any) -> int:
    """A number that is another one when the row's document was written anew."""
    return hash((database.as_bytes(row.current_hash), row.size))


class AnonymousDocuments:
    """What the anonymised table is to hold today.

    Args:
        source: the staging table with the originals.
        key: the pseudonym key; None for made-up documents, which need none.
        avoid: digests of values that no pseudonym may equal.
    """

    def __init__(
        self,
        source: Staging,
        settings: Settings,
        spec: Spec,
        key: bytes | None,
        avoid: frozenset[int],
    ) -> None:
        self._avoid = avoid
        self.made: Made | None = None  # what is kept of the last time; None: nothing is
        self.may_stay = True  # documents of children who did not change
        self._digest = keyed_digest(key or b"")
        self.source, self.settings, self.spec = source, settings, spec
        self.window = Window.for_date(settings.today)
        self.pseudonyms = Pseudonymiser(
            spec,
            key or b"",
            max_shift_days=settings.max_date_shift_days,
            window_start=self.window.start,
            avoid=avoid,
            digest=self._digest,
        )
        self.collect = collector(spec)
        self.check = LeakCheck(spec, self._digest)
        self.counts: Counter[str] = Counter()
        self.leaks: Counter[str] = Counter()
        self.unreadable: list[tuple[int, str]] = []  # number of the row, pseudonym of its child
        self._pilot = frozenset(settings.person_ids)
        self.held_back: dict[str, str] = {}  # id of the child, pseudonym
        # whether a pseudonym is of the shard; what it makes of the others' originals is nothing
        self.is_mine: Callable[[str], bool] = lambda _pseudonym: True
        self._others = array("q")  # numbers of the others' rows that have to be read
        self._persons = array(DIGESTS)  # digests of real persons that need not be read
        self._read = _Read()
        # no more than a list may hold, so that one statement reads the rows of a page
        self._page_size = min(settings.chunk_size, database.most_in_list())
        self.bear_others_ids = False  # some document so far has an id that is not that of its row
        # told the numbers of the twin's rows that stay, before the first page
        self.stay: Callable[[Sequence[int]], None] = lambda _row_ids: None
        # of a page's documents, by pseudonym: what the leak check compared
        self.compared: dict[str, bytes] = {}

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
        if self._children >= _LIKELY_TO_MEET:
            self._persons.extend(self._real_persons(connection, order))
            self.pseudonyms.persons = DigestSet(self._persons)
        size, total = self._page_size, len(order)
        if self.settings.phase_data == "single_scrambled":
            order, size, total = array("q", sorted(order)), 1, 1  # the first child stays the same
        told = time.monotonic()
        for rows in self._source_rows(connection, order, size):
            self.compared.clear()
            yield [child for row in rows if (child := self._scramble(row))]
            if progress and time.monotonic() - told > _SECONDS_BETWEEN_SIGNS:
                told = time.monotonic()
                progress(self.counts["children_read"], total)
        if progress:
            progress(self.counts["children_read"], total)

    def _order(self, connection: Connection) -> array[int]:
        """Row numbers of the originals to be read, in the order of their children's pseudonyms.

        Only the key gives this order. Read by row number, the originals would be written in their
        own order, and whoever holds both tables could find each child by counting. A list of
        numbers is small whatever the documents are: eight bytes a child stay.
        """
        twins = self._twins_as_they_were(connection)
        pairs, anew = [], []
        self._others, self._children = array("q"), 0
        for row in self._originals(connection):
            if not self._is_wanted(row):
                continue
            self._children += 1
            pseudonym = self.pseudonyms.child_id(str(row.person_id))
            is_mine = self.is_mine(pseudonym)
            stays = bool(row.compared) and (not is_mine or twins.let_stay(pseudonym))
            if stays:
                self._persons.append(self.check.remember_original(row.compared))
            elif is_mine:
                pairs.append((pseudonym, row.id))
                anew.append(row.person_id)
            else:
                self._others.append(row.id)
        self._keep(connection, twins, anew, [pseudonym for pseudonym, _ in pairs])
        return array("q", [row_id for _, row_id in sorted(pairs)])

    def _originals(self, connection: Connection) -> Iterator[Noted]:
        """Row number, id and what is kept of each live original."""
        if self.made is not None:
            return self.made.originals(connection)
        t = self.source.table.c
        statement = select(t.id, t.person_id).where(~self.source.is_deleted)
        return (Noted(row.id, row.person_id, b"") for row in connection.execute(statement))

    def _twins_as_they_were(self, connection: Connection) -> _Twins:
        """The twin's rows that are as they were made; the leak check remembers them.

        Without those that bear what a child really has: they are made anew. Some of the others will
        not stay, and are looked at by the leak check all the same: to read the rows once more when
        it is known which stay costs more than one that meets a child by chance, and is made anew.
        """
        if self.made is None or not self.may_stay:
            return _Twins(())
        return _Twins(self._remembered_twins(self.made.twins(connection)))

    def _remembered_twins(self, rows: Iterable[Noted]) -> Iterator[tuple[str, int]]:
        for row in rows:
            if not self._avoid or self._avoid.isdisjoint(digests_of(row.compared)):
                self.check.remember_made(row.compared)
                yield row.person_id, row.id

    def _keep(
        self,
        connection: Connection,
        twins: _Twins,
        anew: Sequence[str],
        pseudonyms: Sequence[str],
    ) -> None:
        """Let documents stay, and forget what is kept of those that are made anew."""
        if self.made is None:
            return
        staying = twins.staying()
        if not staying:
            self.made.forget(connection, lambda one: self.is_mine(self.pseudonyms.child_id(one)))
            return
        self.made.forget_some(connection, anew, pseudonyms)
        self.counts["unchanged"] += len(staying)
        self.stay(staying)

    def read_others(self, connection: Connection) -> None:
        """Let the leak check know the originals of which other shards make the documents."""
        t = self.source.table.c
        statement = select(t.person_id, t.legacy_id, t.json_payload)
        for row in database.rows_numbered(connection, statement, t.id, self._others):
            original, child_id = self._original(row)
            if child_id is not None:
                keys = [key for key in (row.person_id, row.legacy_id) if key]
                self.check.original(self.collect(original), original, keys)

    def _is_wanted(self, row: Any) -> bool:
        """Whether the child of a live row belongs in the twin today."""
        pilot = self._pilot
        return row.person_id not in self.held_back and (not pilot or row.person_id in pilot)

    def _real_persons(self, connection: Connection, order: Sequence[int]) -> Iterator[int]:
        """Digests of the full names with birth dates in the originals that have to be read.

        Only an early look: the leak check compares the documents themselves when all are made.
        """
        t = self.source.table.c
        person = person_reader(self.spec)
        to_be_read = sorted([*order, *self._others])
        found = (
            person(self._original(row)[0])
            for row in database.rows_numbered(connection, select(t.json_payload), t.id, to_be_read)
        )
        return (self._digest(one) for one in found if one is not None)

    def find_held_back(self, connection: Connection) -> None:
        """Find the children whose rows stay as they are, those that left the cohort too."""
        t = self.source.table.c
        self.held_back.clear()
        held = attention.held_back(connection, self.source)
        documents = select(t.person_id, t.json_payload)
        for row in database.rows_among(connection, documents, t.person_id, held):
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
        )
        for row_ids in database.in_batches(order, size):
            found = database.rows_numbered(connection, statement, t.id, row_ids)
            rows = {row.id: row for row in found}
            yield [rows[row_id] for row_id in row_ids]

    def note_originals(self, connection: Connection) -> None:
        """Note the originals that were read; before `stop_on_leaks`.

        They were read in the order of their pseudonyms. Notes in that order would show whose twin
        is whose, so they are written now, in the order of the originals. A row that was written
        meanwhile is not noted: its child is made anew the next time.
        """
        if self.made is None:
            return
        t = self.source.table.c
        statement = select(
            t.id,
            t.person_id,
            t.current_hash,
            database.size_of(connection, t.json_payload).label("size"),
        )
        for read in self._read.in_order(self._page_size):
            found = database.rows_numbered(connection, statement, t.id, list(read))
            rows = {row.id: row for row in found}
            self.made.note_originals(
                connection,
                [
                    (row, self.check.of_original(first, last) if last > first else None)
                    for row_id, (state, first, last) in read.items()
                    if (row := rows.get(row_id)) and _state(row) == state
                ],
            )

    def _scramble(self, row: Any) -> Child | None:
        """One child's anonymised document; None where the original is no document."""
        self.counts["children_read"] += 1
        original, child_id = self._original(row)
        if child_id is None or not self._stays_here(child_id, str(row.person_id)):
            self.counts["unreadable"] += 1
            self.unreadable.append((row.id, self.pseudonyms.child_id(str(row.person_id))))
            return None
        identity, stopped = self.collect(original), self.pseudonyms.stopped
        made = self.pseudonyms.document(child_id, original, identity)
        text = to_text(made)
        keys = [key for key in (row.person_id, row.legacy_id) if key]
        before = self.check.size()
        leaks = self.check.document(identity, original, made, text, keys)
        if leaks:
            self.leaks.update(leaks)
        self.counts["anonymised"] += 1
        self.bear_others_ids |= child_id != row.person_id
        legacy = self.pseudonyms.child_id(row.legacy_id) if row.legacy_id else None
        child = Child(made[str(self.spec.root.key)], legacy, made, text)
        if self.made is None:
            return child
        if self.pseudonyms.stopped > stopped or child_id != row.person_id:
            # it depends on other children or bears another one's id: to be made anew each time
            self._read.add(row, 0, 0)
        else:
            self._read.add(row, before[0], self.check.size()[0])
            self.compared[child.person_id] = self.check.made_since(before)
        return child

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
