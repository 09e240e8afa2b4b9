"""Keyed digests of the cohort's identifiers, kept in the database beside the staging table.

A record is searched for identities by looking up its own words (`redaction`). With the digests at
hand that takes milliseconds, however many children there are. They are brought up to date by asking
which rows hold another document than the one that their digests were made from, so it does not
matter who wrote the staging table. docs/privacy.md says what could be learnt from them.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
import struct
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    and_,
    bindparam,
    case,
    delete,
    exists,
    insert,
    null,
    or_,
    select,
)
from sqlalchemy.engine import Connection

from d2i_helpers import database
from d2i_helpers.database.tables import facts, identifier_hashes, identifiers_taken
from d2i_helpers.errors import DatabaseError
from d2i_helpers.payload_spec import Spec
from d2i_helpers.privacy.identities import (
    IDENTIFYING,
    collector,
    identifiers_of,
    identifying_columns,
)
from d2i_helpers.privacy.redaction import FIRST, WORDS, forms_of
from d2i_helpers.settings import WHOLE, Shard
from d2i_helpers.staging import Staging, same

FORMS = 1  # raise it when other forms are made of the same document
KEY_FACT = "identifier_key"
CHILD = "c"  # begins what the digest of a child is made of, as a letter begins each form
NOT_FOR_LONG = "a row without its hashes"  # made anew each time
_ROWS_AT_A_TIME = 1000


class DigestsInMemory:
    """Digests that are kept nowhere, for a database in which none can be kept; 8 bytes each.

    Args:
        identifiers: of the whole cohort.
    """

    def __init__(self, identifiers: Iterable[str]) -> None:
        self._key = secrets.token_bytes(32)
        forms = (form for identifier in identifiers for form in forms_of(identifier))
        self._digests = array("q", sorted({digest_of(self._key, form) for form in forms}))

    def known(self, forms: Collection[str]) -> set[str]:
        """Which of these forms a child of the cohort has."""
        return {form for form in forms if self._has(digest_of(self._key, form))}

    def _has(self, digest: int) -> bool:
        place = bisect_left(self._digests, digest)
        return place < len(self._digests) and self._digests[place] == digest


class KeptDigests:
    """The digests of one staging table, kept in tables of ours.

    Args:
        engine: the database with the staging table.
        name: of the staging table.
        spec: says which fields identify a child.
        shard: whose children's digests are brought up to date. Looked up are those of all.
    """

    def __init__(self, engine: Engine, name: str, spec: Spec, shard: Shard = WHOLE) -> None:
        self._engine, self._spec = engine, spec
        self._staging = Staging(engine, name, shard=shard)
        self._collect = collector(spec)
        self._key = b""
        t = self._staging.table.c
        # of these nothing shows whether the row holds another document than before
        self._without_hash = or_(
            t.current_hash.is_(None),
            and_(t.previous_json_payload.is_not(None), t.previous_hash.is_(None)),
        )
        earlier = case((same(t.current_hash, t.previous_hash), null()), else_=t.previous_hash)
        self._documents = select(
            *identifying_columns(self._staging),
            t.current_hash,
            earlier.label("earlier_hash"),
            case((self._without_hash, 1), else_=0).label("without_hash"),
        ).where(t.id.in_(bindparam("ids", expanding=True)))

    def known(self, forms: Collection[str]) -> set[str]:
        """Which of these forms a child of the staging table has.

        Raises:
            DatabaseError: the database cannot be read.
        """
        by_digest = {digest_of(self._key, form): form for form in forms}
        t = identifier_hashes.c
        statement = (
            select(t.form_hash)
            .distinct()
            .where(t.form_hash.in_(bindparam("hashes", expanding=True)))
        )
        found: set[str] = set()
        with database.reading(self._engine) as connection:
            for part in database.in_batches([*by_digest]):
                digests = connection.execute(statement, {"hashes": [*part]}).scalars()
                found.update(by_digest[digest] for digest in digests)
        return found

    def bring_up_to_date(self) -> int:
        """Make the digests of rows that hold other documents than those they were made from.

        Returns:
            How many rows that were.

        Raises:
            DatabaseError: our tables are not there, or the database cannot be read or written.
        """
        try:
            self._key = database.in_transaction(self._engine, self._key_of_database)
        except DatabaseError:  # perhaps as another run, which began together with this, made it
            self._key = database.in_transaction(self._engine, self._key_of_database)
        made_by = self._rules()
        with database.reading(self._engine) as connection:
            stale = self._stale(connection, made_by)
            removed = self._removed(connection)
        for row_ids in database.in_batches(stale, _ROWS_AT_A_TIME):
            work = functools.partial(self._renew, row_ids, made_by)
            database.in_transaction(self._engine, work)
        for persons in database.in_batches(removed, _ROWS_AT_A_TIME):
            work = functools.partial(self._forget, persons)
            database.in_transaction(self._engine, work)
        return len(stale)

    def _key_of_database(self, connection: Connection) -> bytes:
        """The key of this staging table's digests, made at first use."""
        held = self._staging.fact(connection, KEY_FACT)
        if held is None:
            held = secrets.token_hex(32)
            name = self._staging.name
            # not `set_fact`, which would take the place of a key that another run made meanwhile
            connection.execute(insert(facts).values(staging_table=name, name=KEY_FACT, value=held))
        return bytes.fromhex(held)

    def _rules(self) -> str:
        """A mark of all that the digests depend on beside the documents."""
        fields = sorted(
            f"{field.path} {field.anonymise}"
            for _, field in self._spec.fields()
            if field.anonymise in IDENTIFYING
        )
        return hmac.digest(self._key, f"{FORMS} {fields}".encode(), "sha256").hex()

    # ------------------------------------------------------------------ which rows, by one question
    def _stale(self, connection: Connection, made_by: str) -> Sequence[int]:
        """Numbers of the rows whose digests are missing, or were made from other documents."""
        t, k = self._staging.table.c, identifiers_taken.c
        taken = and_(k.staging_table == self._staging.name, k.person_id == t.person_id)
        statement = (
            select(t.id)
            .select_from(self._staging.table.outerjoin(identifiers_taken, taken))
            .where(
                or_(
                    k.person_id.is_(None),
                    k.made_by != made_by,
                    _differ(k.legacy_id, t.legacy_id),
                    _differ(k.current_hash, t.current_hash),
                    and_(same(t.current_hash, t.previous_hash), k.earlier_hash.is_not(None)),
                    and_(
                        _differ(t.current_hash, t.previous_hash),
                        _differ(k.earlier_hash, t.previous_hash),
                    ),
                    self._without_hash,
                ),
                *self._staging.mine,
            )
            .order_by(t.id)
        )
        return array("q", connection.execute(statement).scalars())

    def _removed(self, connection: Connection) -> Sequence[str]:
        """Children of whom digests are kept, and whose row is there no more."""
        t, k = self._staging.table.c, identifiers_taken.c
        has_row = exists(select(t.id).where(t.person_id == k.person_id))
        statement = select(k.person_id).where(
            k.staging_table == self._staging.name, ~has_row, *self._staging.mine_by(k.person_id)
        )
        return connection.execute(statement).scalars().all()

    # -------------------------------------------------------------------------------------- writing
    def _renew(self, row_ids: Sequence[int], made_by: str, connection: Connection) -> None:
        """Write the digests of these rows; those that are there already stay untouched."""
        taken: list[dict[str, Any]] = []
        wanted: set[tuple[int, int]] = set()
        for ids in database.in_batches(row_ids):
            for row in connection.execute(self._documents, {"ids": [*ids]}):
                child = digest_of(self._key, CHILD + str(row.person_id))
                forms = _forms(identifiers_of(row, self._collect))
                digests = [digest_of(self._key, form) for form in forms]
                wanted.update((digest, child) for digest in digests)
                taken.append(
                    {
                        "staging_table": self._staging.name,
                        "person_id": row.person_id,
                        "legacy_id": row.legacy_id,
                        "current_hash": database.as_bytes(row.current_hash),
                        "earlier_hash": database.as_bytes(row.earlier_hash),
                        "made_by": NOT_FOR_LONG if row.without_hash else made_by,
                        "child_hash": child,
                        "form_hashes": struct.pack(f">{len(digests)}q", *digests).hex(),
                    }
                )
        there = self._take_out(connection, [one["person_id"] for one in taken])
        self._remove(connection, there - wanted)
        new = sorted(wanted - there)  # in the order of the key, so that neighbours go together
        rows = [{"form_hash": digest, "child_hash": child} for digest, child in new]
        database.insert_rows(connection, identifier_hashes, rows)
        database.insert_rows(connection, identifiers_taken, taken)

    def _take_out(self, connection: Connection, persons: Sequence[str]) -> set[tuple[int, int]]:
        """Remove what says which digests these children have; gives the digests, with the child."""
        t, there = identifiers_taken.c, set()
        of_these = and_(
            t.staging_table == self._staging.name,
            t.person_id.in_(bindparam("ids", expanding=True)),
        )
        for ids in database.in_batches(persons):
            rows = connection.execute(
                select(t.child_hash, t.form_hashes).where(of_these), {"ids": [*ids]}
            ).all()
            for row in rows:
                packed = bytes.fromhex(row.form_hashes)
                for (digest,) in struct.iter_unpack(">q", packed):
                    there.add((digest, row.child_hash))
            if rows:
                connection.execute(delete(identifiers_taken).where(of_these), {"ids": [*ids]})
        return there

    @staticmethod
    def _remove(connection: Connection, digests: Collection[tuple[int, int]]) -> None:
        # a statement a child, not one for many rows: handed over in bulk to a T-SQL server, such a
        # DELETE undid what the same transaction had done before it
        t = identifier_hashes.c
        by_child: dict[int, list[int]] = {}
        for digest, child in sorted(digests):
            by_child.setdefault(child, []).append(digest)
        for child, some in by_child.items():
            for part in database.in_batches(some):
                connection.execute(
                    delete(identifier_hashes).where(t.child_hash == child, t.form_hash.in_(part))
                )

    def _forget(self, persons: Sequence[str], connection: Connection) -> None:
        """Remove everything of children whose row was removed."""
        self._remove(connection, self._take_out(connection, persons))


def digest_of(key: bytes, form: str) -> int:
    """A keyed digest of a form: 64 bits, as a database holds whole numbers.

    Two forms have one by chance once in 10^19 pairs: a record of 10,000 words and the 10 million
    forms of a million children meet once in 100 million records.
    """
    digest = hashlib.blake2b(form.encode(), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _forms(identifiers: Iterable[str]) -> set[str]:
    forms = {form for identifier in identifiers for form in forms_of(identifier)}
    # a word that is looked up alone says already that it may be the first of several
    return {f for f in forms if f[0] != FIRST or WORDS + f[1:] not in forms}


def _differ(left: ColumnElement, right: ColumnElement) -> ColumnElement[bool]:
    """Not equal, where null equals null; never unknown, as the negation of `same` may be."""
    return or_(
        left != right,
        and_(left.is_(None), right.is_not(None)),
        and_(left.is_not(None), right.is_(None)),
    )


__all__ = ["DigestsInMemory", "KeptDigests", "digest_of"]
