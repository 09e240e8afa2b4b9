"""Who is working on a staging table: a lease in the database, kept alive by a heartbeat.

In the database, because two machines that share it share nothing else. On the machine that holds a
lease the truth is simpler: it is alive as long as its process is. All times are the database's.

Holding a lease keeps others out only if whoever lost it stops. A process can be paused for longer
than its lease lasts (a suspended laptop or virtual machine) and go on as if nothing had happened.
So a stage asks at the beginning of each transaction, and before each request, whether the lease is
still the one that it works under: `working_on`.

A table is held by one run for the whole of it, or by the shards of one number, each once. The row
of the whole is written before any other is looked at, so that two runs cannot cross.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, delete, event, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from d2i_helpers import database
from d2i_helpers.database.shards import require_shards
from d2i_helpers.database.tables import run_lock
from d2i_helpers.errors import D2IError, DatabaseError, LockError
from d2i_helpers.kernel_protocol import HOLDER_VARIABLE
from d2i_helpers.processes import may_be_alive, place, this_process
from d2i_helpers.settings import WHOLE, Shard, read_shard

LEASE_SECONDS = 120.0
BEAT_SECONDS = 20.0
WATCHED_BEATS = 1.5  # a lease that ran out is watched so long before it counts as given up
ORPHAN_SECONDS = 2.0  # a kernel notices within a second that its runner is gone, and ends
BY_HAND = "by-hand-"
NOBODY = "nobody"  # holds the row of the whole while shards are at work, or after them
CROSSED_SECONDS = 0.1  # until another look where two runs wanted a table that nobody had held


def this_holder() -> str:
    """What stands in a lease that this process holds."""
    process = this_process()
    return f"{process['place']} {process['pid']} {process['born']:.2f}"


@contextlib.contextmanager
def working_on(
    engine: Engine, staging_tables: Sequence[str], shard: Shard = WHOLE
) -> Iterator[Callable[[], None]]:
    """Keep everybody else off some staging tables while one stage works on them in this block.

    Under the runner its lease counts; a stage that is run by hand takes one of its own. Every
    transaction of the engine begins with a look whether that lease is still there.

    Args:
        engine: the database of the tables.
        staging_tables: names of the tables that the stage writes.
        shard: whose children's rows it writes.

    Yields:
        What looks at the lease at once, for steps that need no transaction.

    Raises:
        LockError: another run is alive on one of the tables, or the lease was lost on the way.
        DatabaseError: the lock table cannot be made or used.
    """
    holder = os.environ.get(HOLDER_VARIABLE)
    names = sorted(set(staging_tables))
    database.forget_answers(engine)  # what is deployed may have changed since the last stage
    own: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if not holder:
        holder = this_holder()
        own = Lease(engine, names, f"{BY_HAND}{uuid.uuid4().hex[:8]}", shard=shard)
    # no list of names, which would be written into the statement anew each time
    ours = or_(*(run_lock.c.staging_table == _key(name, shard) for name in names))
    query = select(run_lock.c.staging_table).where(ours, run_lock.c.holder == holder)

    is_taken = False

    def look(connection: Connection) -> None:
        if is_taken and len(connection.execute(query).all()) < len(names):
            raise _lost()

    def look_now() -> None:
        with database.reading(engine) as connection:
            connection.begin_reading()  # and so looks

    # not while the thread of the lease lives, which goes through what listens
    event.listen(engine, "begin", look)
    try:
        with own:
            is_taken = True
            try:
                yield look_now
            finally:
                is_taken = False
    finally:
        event.remove(engine, "begin", look)


def _lost() -> LockError:
    return LockError(
        "The lease on the staging table was lost while the run was working.",
        hint="The database was away for too long, this machine was paused, or another run took "
        "over. What was done is safe; run again.",
    )


def lives(engine: Engine, run_id: str) -> bool:
    """Whether that run holds a lease and may be alive: its process here, its lease elsewhere.

    Raises:
        DatabaseError: the database cannot be read.
    """
    with database.reading(engine) as connection:
        if not database.has_table(connection, run_lock):
            return False
        rows = connection.execute(select(run_lock).where(run_lock.c.run_id == run_id)).all()
        now = database.utc_now(connection)
    return any(
        now < row.expires_at if (alive := _process_lives(row)) is None else alive for row in rows
    )


@dataclass(frozen=True, slots=True)
class Held:
    """The lease of one shard."""

    run_id: str
    holder: str
    acquired_at: dt.datetime  # by the database's clock
    is_alive: bool  # as far as this machine can tell

    @property
    def by(self) -> tuple[str, str]:
        """Which process of which run holds it."""
        return self.run_id, self.holder


def held_by_shards(connection: Connection, name: str) -> dict[Shard, Held]:
    """The leases of shards on a staging table, those too that a dead run left behind."""
    now = database.utc_now(connection)
    found: dict[Shard, Held] = {}
    for key, row in _rows(connection, name).items():
        shard = _table_of(key)[1]
        if not shard.is_whole:
            alive = _process_lives(row)
            alive = now < row.expires_at if alive is None else alive
            found[shard] = Held(row.run_id, row.holder, row.acquired_at, alive)
    return found


@contextlib.contextmanager
def in_turn(engine: Engine, name: str, shard: Shard) -> Iterator[None]:
    """Let other shards on a staging table wait at the same step until this block is left.

    Raises:
        DatabaseError: another shard took longer than the database's limit on waiting.
    """
    if shard.is_whole:
        yield
        return
    with database.transaction(engine) as connection:
        take_turn(connection, name, shard)
        yield


def take_turn(connection: Connection, name: str, shard: Shard) -> None:
    """The same until the transaction ends; the whole has nobody to wait for."""
    if not shard.is_whole:
        of_whole = run_lock.c.staging_table == name
        connection.execute(update(run_lock).where(of_whole).values(staging_table=name))


def _key(name: str, shard: Shard) -> str:
    """What stands in the column of the table's name: a table has one row, and one each shard."""
    return name if shard.is_whole else f"{name} {shard}"


def _table_of(key: str) -> tuple[str, Shard]:
    name, _, part = key.partition(" ")
    return name, read_shard(part)


def _process_lives(row: Row) -> bool | None:
    """Whether the holder's process may run; None where it is of another machine."""
    where, pid, born = row.holder.rsplit(" ", 2)
    if where != place():
        return None
    return may_be_alive({"place": where, "pid": int(pid), "born": float(born)})


def _rows(connection: Connection, name: str) -> dict[str, Row]:
    """The rows of a table and of its shards, by what stands in the column of its name."""
    column = run_lock.c.staging_table
    rows = connection.execute(
        select(run_lock).where(or_(column == name, column.like(f"{name} %")))
    ).all()
    return {row.staging_table: row for row in rows if _table_of(row.staging_table)[0] == name}


def _make_table(connection: Connection) -> None:
    if not database.has_table(connection, run_lock):
        run_lock.create(connection)


class _LookAgain(Exception):
    """A lease that has run out by the clock: is it given up, or was the clock set?"""


class _Crossed(Exception):
    """The row of the whole is not there, as another run came or went in this moment."""


class Lease:
    """Keeps other runs off some staging tables while the block runs.

    Args:
        engine: the database of the tables.
        staging_tables: names of the tables that are worked on.
        run_id: id of this run.
        shard: whose children's rows are worked on.

    Raises (on entering):
        LockError: another run is alive on one of the tables.
        DatabaseError: the lock table cannot be made or used.
    """

    def __init__(
        self,
        engine: Engine,
        staging_tables: Sequence[str],
        run_id: str,
        *,
        shard: Shard = WHOLE,
        lease_seconds: float = LEASE_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        if not shard.is_whole:
            require_shards(engine)
        self._engine, self._run_id, self._shard = engine, run_id, shard
        self._names = sorted(set(staging_tables))  # one order, so that two runs cannot cross
        self._lease = dt.timedelta(seconds=lease_seconds)
        self._beat = beat_seconds
        self._holder = this_holder()
        self._watched: dict[str, dt.datetime] = {}  # last heartbeats of leases that ran out
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="d2i-lease", daemon=True)
        self.lost: D2IError | None = None
        self.taken_over: list[str] = []  # runs that had died while they held a lease

    def __enter__(self) -> Lease:
        database.make_missing(self._engine, _make_table)
        while not self._acquired():
            time.sleep(WATCHED_BEATS * self._beat)
        if any(not run_id.startswith(BY_HAND) for run_id in self.taken_over):
            time.sleep(ORPHAN_SECONDS)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()
        # where the database is away, the lease runs out by itself
        with contextlib.suppress(DatabaseError), database.transaction(self._engine) as connection:
            connection.execute(delete(run_lock).where(self._mine()))

    def _mine(self) -> Any:
        return (run_lock.c.run_id == self._run_id) & (run_lock.c.holder == self._holder)

    def _acquired(self) -> bool:
        def acquire(connection: Connection) -> None:
            self.taken_over.clear()
            for name in self._names:
                self._acquire(connection, name)

        while True:
            self._make_rows_of_the_whole()
            try:
                database.in_transaction(self._engine, acquire)
            except _LookAgain:
                return False
            except _Crossed:
                time.sleep(CROSSED_SECONDS)
                continue
            return True

    def _make_rows_of_the_whole(self) -> None:
        """See that a shard finds the row that each run writes first."""
        for name in [] if self._shard.is_whole else self._names:
            with database.reading(self._engine) as connection:
                this = select(run_lock.c.run_id).where(run_lock.c.staging_table == name)
                if connection.execute(this).first() is not None:
                    continue
            with contextlib.suppress(DatabaseError), database.transaction(self._engine) as writing:
                # suppressed: another one was faster, or the next step says what is wrong
                writing.execute(insert(run_lock).values(staging_table=name, **self._free(writing)))

    def _free(self, connection: Connection) -> dict[str, Any]:
        """What stands in the row of the whole while no run holds all of a table."""
        now = database.utc_now(connection)
        times = {"acquired_at": now, "heartbeat_at": now, "expires_at": now}
        return {"run_id": NOBODY, "holder": NOBODY, **times}

    def _acquire(self, connection: Connection, name: str) -> None:
        of_whole, key = run_lock.c.staging_table == name, _key(name, self._shard)
        # a write first: whoever else wants the row waits here, and SQLite lets a reader
        # become a writer only if nobody wrote since
        written = connection.execute(update(run_lock).where(of_whole).values(staging_table=name))
        if not self._shard.is_whole and not written.rowcount:
            raise _Crossed
        rows = _rows(connection, name)
        now = database.utc_now(connection)
        for row in rows.values():
            if row.staging_table != key and not self._fits_beside(row):
                self._take_over(connection, row, now)
        times = {"acquired_at": now, "heartbeat_at": now, "expires_at": now + self._lease}
        values = {"run_id": self._run_id, "holder": self._holder, **times}
        if (own := rows.get(key)) is None:
            try:
                connection.execute(insert(run_lock).values(staging_table=key, **values))
            except IntegrityError:  # another run was faster by milliseconds
                raise self._refused(name, None) from None
            return
        if not self._is_free(own, now):
            self.taken_over.append(own.run_id)
        connection.execute(update(run_lock).where(run_lock.c.staging_table == key).values(**values))

    def _fits_beside(self, row: Row) -> bool:
        """Whether another row says nothing against this lease: another shard of as many."""
        if row.run_id == NOBODY:
            return True
        shard = _table_of(row.staging_table)[1]
        return not self._shard.is_whole and shard.of == self._shard.of

    def _is_free(self, row: Row, now: dt.datetime) -> bool:
        """Whether a lease is nobody's or ours; False where it is one that somebody left behind.

        Raises:
            LockError: its run is alive.
        """
        # ours already where the connection was lost after the database had kept it
        is_ours = (row.run_id, row.holder) == (self._run_id, self._holder)
        if row.run_id == NOBODY or is_ours or self._left_by_hand(row):
            return True
        if self._is_alive(row, now):
            raise self._refused(_table_of(row.staging_table)[0], row)
        return False

    def _take_over(self, connection: Connection, row: Row, now: dt.datetime) -> None:
        """Clear away a lease that keeps this one out, and whose run is gone."""
        if not self._is_free(row, now):
            self.taken_over.append(row.run_id)
        this = run_lock.c.staging_table == row.staging_table
        if _table_of(row.staging_table)[1].is_whole:
            connection.execute(update(run_lock).where(this).values(**self._free(connection)))
        else:
            connection.execute(delete(run_lock).where(this))

    def _left_by_hand(self, row: Row) -> bool:
        """A stage's lease that this very process could not give back, as the database was away."""
        by_hand = self._run_id.startswith(BY_HAND) and row.run_id.startswith(BY_HAND)
        return by_hand and row.holder == self._holder

    def _is_alive(self, row: Row, now: dt.datetime) -> bool:
        here = _process_lives(row)
        if here is not None:
            return here
        # a heartbeat out of the future is one from before the clock was set back
        if row.heartbeat_at - self._lease <= now < row.expires_at:
            return True
        if row.staging_table not in self._watched:
            self._watched[row.staging_table] = row.heartbeat_at
            raise _LookAgain
        return row.heartbeat_at != self._watched[row.staging_table]

    def _refused(self, name: str, row: Row | None) -> LockError:
        who = "Another run"
        if row is not None:
            host = row.holder.split(":")[0].split(" ")[0]
            who = f"Run {row.run_id} on {host}, since {row.acquired_at:%H:%M} UTC,"
        held = WHOLE if row is None else _table_of(row.staging_table)[1]
        of_shard = "" if held.is_whole else f"shard {held} of "
        one_number = (
            ""
            if held.is_whole and self._shard.is_whole
            else "A table is worked on by one run for all of it, or by shards of one number, "
            "each once. "
        )
        return LockError(
            f"{who} is working on {of_shard}the table {name}.",
            hint=f"{one_number}Wait until it is done. A run that crashed on another machine gives "
            f"the table free after {self._lease.total_seconds():.0f} seconds and a while.",
        )

    def _keep_alive(self) -> None:
        """Move the expiry on until the block is left; note when the lease is no longer ours."""
        good_until = time.monotonic() + self._lease.total_seconds()
        while not self._done.wait(self._beat):
            try:
                with database.transaction(self._engine) as connection:
                    now = database.utc_now(connection)
                    moved = connection.execute(
                        update(run_lock)
                        .where(self._mine())
                        .values(heartbeat_at=now, expires_at=now + self._lease)
                    ).rowcount
            except DatabaseError:  # busy or away for a moment: there is time until the expiry
                if time.monotonic() < good_until:
                    continue
                moved = 0
            except LockError:  # the look of a stage that is run by hand was first to see it
                moved = 0
            if moved < len(self._names):
                self.lost = _lost()
                return
            good_until = time.monotonic() + self._lease.total_seconds()
