"""Who is working on a staging table: a lease in the database, kept alive by a heartbeat.

In the database, because two machines that share it share nothing else. On the machine that holds a
lease the truth is simpler: it is alive as long as its process is. All times are the database's.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Row, delete, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from d2i_helpers import database
from d2i_helpers.errors import D2IError, DatabaseError, LockError
from d2i_helpers.runs import records
from d2i_helpers.tables import run_lock

LEASE_SECONDS = 120.0
BEAT_SECONDS = 20.0
ORPHAN_SECONDS = 2.0  # a kernel notices within a second that its runner is gone, and ends


class Lease:
    """Keeps other runs off some staging tables while the block runs.

    Args:
        engine: the database of the tables.
        staging_tables: names of the tables that are worked on.
        run_id: id of this run.

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
        lease_seconds: float = LEASE_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._engine, self._run_id = engine, run_id
        self._names = sorted(set(staging_tables))  # one order, so that two runs cannot cross
        self._lease = dt.timedelta(seconds=lease_seconds)
        self._beat = beat_seconds
        process = records.this_process()
        self._holder = f"{process['place']} {process['pid']} {process['born']:.2f}"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="d2i-lease", daemon=True)
        self.lost: D2IError | None = None
        self.taken_over: list[str] = []  # runs that had died while they held a lease

    def __enter__(self) -> Lease:
        with database.transaction(self._engine) as connection:
            if not database.has_table(connection, run_lock):
                run_lock.create(connection)
        with database.transaction(self._engine) as connection:
            for name in self._names:
                self._acquire(connection, name)
        if self.taken_over:
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

    def _acquire(self, connection: Connection, name: str) -> None:
        this = run_lock.c.staging_table == name
        # a write first: whoever else wants the row waits here, and SQLite lets a reader
        # become a writer only if nobody wrote since
        connection.execute(update(run_lock).where(this).values(staging_table=name))
        row = connection.execute(select(run_lock).where(this)).one_or_none()
        now = database.utc_now(connection)
        times = {"acquired_at": now, "heartbeat_at": now, "expires_at": now + self._lease}
        values = {"run_id": self._run_id, "holder": self._holder, **times}
        if row is None:
            try:
                connection.execute(insert(run_lock).values(staging_table=name, **values))
            except IntegrityError:  # another run was faster by milliseconds
                raise self._refused(name, None) from None
            return
        if self._is_alive(row, now):
            raise self._refused(name, row)
        self.taken_over.append(row.run_id)
        connection.execute(update(run_lock).where(this).values(**values))

    def _is_alive(self, row: Row, now: dt.datetime) -> bool:
        place, pid, born = row.holder.rsplit(" ", 2)
        if place == records.place():
            return records.may_be_alive({"place": place, "pid": int(pid), "born": float(born)})
        # a heartbeat out of the future is one from before the clock was set back
        return row.heartbeat_at - self._lease <= now < row.expires_at

    def _refused(self, name: str, row: Row | None) -> LockError:
        who = "Another run"
        if row is not None:
            host = row.holder.split(":")[0].split(" ")[0]
            who = f"Run {row.run_id} on {host}, since {row.acquired_at:%H:%M} UTC,"
        return LockError(
            f"{who} is working on the table {name}.",
            hint="Wait until it is done. A run that crashed on another machine gives the table "
            f"free after {self._lease.total_seconds():.0f} seconds.",
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
            if moved < len(self._names):
                self.lost = LockError(
                    "The lease on the staging table was lost while the run was working.",
                    hint="The database was away for too long, or another run took over.",
                )
                return
            good_until = time.monotonic() + self._lease.total_seconds()
