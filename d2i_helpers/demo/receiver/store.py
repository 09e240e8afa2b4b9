"""What the simulated receiver holds, in a SQLite file that outlives its process.

It uses `sqlite3` itself, so that the receiver's process starts at once. Every request is one
transaction: after a crash it was stored whole or not at all.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from d2i_helpers.errors import RecordError, SettingsError
from d2i_helpers.files import make_private_file

_VERSION = 1
_TABLES = """
create table documents (
    child_id text primary key, document text not null, reference text not null,
    updated_at text not null
) without rowid;
create table received (
    id integer primary key, child_id text not null, message text not null,
    reference text not null, at text not null
);
create index ix_received_child on received (child_id);
create table requests (
    id integer primary key, at text not null, method text not null, path text not null,
    status integer, records integer not null, ids text not null, bytes integer not null,
    fault text not null, stored integer not null, correlation_id text not null,
    milliseconds integer not null
);
"""


@dataclass(frozen=True)
class Received:
    """One record of a request that is to be stored."""

    child_id: str
    message: Mapping[str, Any]  # as it was received
    document: Mapping[str, Any] | None  # the document held afterwards; None: nothing
    reference: str


@dataclass
class Request:
    """One request as the admin view shows it."""

    method: str
    path: str
    correlation_id: str
    status: int | None = None  # None: the connection was dropped
    records: int = 0
    ids: Sequence[str] = ()
    bytes: int = 0
    fault: str = ""
    stored: bool = False
    milliseconds: int = 0


class Store:
    """The receiver's file; usable from several threads and several processes."""

    def __init__(self, path: Path | str) -> None:
        """Open the file, or make it.

        Raises:
            SettingsError: it is no store of this version, or cannot be written.
        """
        self._lock = threading.RLock()
        path = Path(path)
        try:
            make_private_file(path)
            self._connection = sqlite3.connect(
                path, timeout=30, check_same_thread=False, isolation_level=None
            )
            self._connection.execute("pragma journal_mode=wal")
            # what is committed survives the end of the process; only a power cut could lose it
            self._connection.execute("pragma synchronous=normal")
            self._set_up()
        except (sqlite3.Error, OSError, RecordError) as error:
            raise SettingsError(
                f"The receiver cannot use its store {path.name} ({type(error).__name__}).",
                hint="Check `receiver_store`: a file that can be written, or not there yet.",
            ) from None

    def _set_up(self) -> None:
        with self._transaction() as connection:
            (version,) = connection.execute("pragma user_version").fetchone()
            if version == 0:
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {_VERSION}")
            elif version != _VERSION:
                raise sqlite3.DatabaseError("another version")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    @contextmanager
    def storing(self) -> Iterator[Storing]:
        """A transaction that reads what is held and stores what it becomes."""
        with self._transaction() as connection:
            yield Storing(connection)

    def log(self, request: Request) -> None:
        """Record a request for the admin view."""
        with self._transaction() as connection:
            connection.execute(
                "insert into requests (at, method, path, status, records, ids, bytes, fault,"
                " stored, correlation_id, milliseconds) values (?,?,?,?,?,?,?,?,?,?,?)",
                (
                    _now(),
                    request.method,
                    request.path,
                    request.status,
                    request.records,
                    orjson.dumps(list(request.ids)).decode(),
                    request.bytes,
                    request.fault,
                    request.stored,
                    request.correlation_id,
                    request.milliseconds,
                ),
            )

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Every child with the JSON of its document, in the order of the ids."""
        for child, text in self._rows("select child_id, document from documents order by child_id"):
            yield child, text.encode()

    def document(self, child_id: str) -> bytes | None:
        """The JSON of one child's document; None where nothing is held."""
        rows = self._rows("select document from documents where child_id = ?", child_id)
        return rows[0][0].encode() if rows else None

    def received(self, child_id: str) -> list[dict[str, Any]]:
        """Every message that was stored for one child, oldest first."""
        rows = self._rows(
            "select at, reference, message from received where child_id = ? order by id", child_id
        )
        return [
            {"at": at, "reference": reference, "message": orjson.loads(message)}
            for at, reference, message in rows
        ]

    def requests(
        self, *, last: int | None = None, since: int = 0, child_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Requests seen, oldest first; those of one child where ``child_id`` is given.

        Args:
            last: only this many, the newest.
            since: only those with a greater id.
        """
        rows = self._rows(
            "select * from (select id, at, method, path, status, records, ids, bytes, fault,"
            " stored, correlation_id, milliseconds from requests where id > ?1 and (?2 is null or"
            " exists (select 1 from json_each(ids) where value = ?2)) order by id desc limit ?3)"
            " order by id",
            since,
            child_id,
            -1 if last is None else last,
        )
        names = (
            "id", "time", "method", "path", "status", "records", "ids", "bytes", "fault", "stored",
            "correlation_id", "milliseconds",
        )  # fmt: skip
        requests = [dict(zip(names, row, strict=True)) for row in rows]
        for request in requests:
            request["ids"] = orjson.loads(request["ids"])
            request["stored"] = bool(request["stored"])
        return requests

    def counts(self) -> dict[str, int]:
        """Numbers of documents held, messages stored and requests seen."""
        return {
            name: self._rows(f"select count(*) from {name}")[0][0]  # noqa: S608 - fixed names
            for name in ("documents", "received", "requests")
        }

    def _rows(self, statement: str, *values: Any) -> list[tuple]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


class Storing:
    """One open transaction of the store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def held(self, child_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The documents held of these children; ask for at most some hundred at a time."""
        marks = ",".join("?" * len(child_ids))
        rows = self._connection.execute(
            f"select child_id, document from documents where child_id in ({marks})",  # noqa: S608
            list(child_ids),
        )
        return {child: orjson.loads(text) for child, text in rows}

    def keep(self, records: Sequence[Received]) -> None:
        """Store the messages, and the document now held of each child."""
        at = _now()
        self._connection.executemany(
            "insert into received (child_id, message, reference, at) values (?,?,?,?)",
            [(r.child_id, orjson.dumps(r.message).decode(), r.reference, at) for r in records],
        )
        self._connection.executemany(
            "delete from documents where child_id = ?",
            [(r.child_id,) for r in records if r.document is None],
        )
        self._connection.executemany(
            "insert or replace into documents values (?,?,?,?)",
            [
                (r.child_id, orjson.dumps(r.document).decode(), r.reference, at)
                for r in records
                if r.document is not None
            ],
        )


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
