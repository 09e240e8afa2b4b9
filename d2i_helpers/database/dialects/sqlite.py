"""What is different in a file of SQLite."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Engine,
    Integer,
    LargeBinary,
    cast,
    event,
    func,
    literal_column,
    or_,
)
from sqlalchemy.engine import Connection

from d2i_helpers.database.dialects.portable import Portable
from d2i_helpers.database.dialects.registry import register
from d2i_helpers.errors import DatabaseError
from d2i_helpers.files import make_private_file
from d2i_helpers.settings import Settings

_WITHOUT_END = 2_000_000  # seconds; what SQLite counts in milliseconds of 31 bits
_DEADLINE = "d2i_deadline"
_STEPS_BETWEEN_LOOKS = 50_000  # of SQLite's machine, some milliseconds


@register
class SQLite(Portable):
    """A file: no server, no login, no schema, one writer at a time.

    A select needs no lock, because a transaction that writes is alone.
    """

    name = "sqlite"
    undoes_ddl = False  # but after `begin_ddl`
    takes_password = False
    partial_indexes = True
    row_number = Integer()  # it counts up only a key of the type INTEGER
    whole_number = Integer()  # a cast to NUMERIC changes no number there
    # another process wrote between our reading and our writing; it is not waited for
    passing_codes = frozenset({"SQLITE_BUSY_SNAPSHOT"})

    def prepare_url(self, url: URL, settings: Settings, *, create: bool) -> URL:
        """The path of the file, which has to be there.

        SQLite makes an empty database of any name: refuse instead, so that a typo is seen.
        """
        if not url.database or url.database == ":memory:":
            return url
        path: Path = settings.path(url.database)
        if create:
            make_private_file(path)
        elif not path.is_file():
            raise DatabaseError(
                f"There is no database file {path.name} (parameter `database_url`).",
                hint="For the fictional one run `d2i simulate init`; else correct the parameter.",
            )
        return url.set(database=str(path))

    def begin_ddl(self, connection: Connection) -> None:
        """Python's driver begins a transaction only with the first row that is written.

        At once as one that writes: who looked before another one wrote could not write any more.
        """
        connection.exec_driver_sql("begin immediate")

    def size_of(self, column: ColumnElement) -> ColumnElement[int]:
        """In bytes; letters it would have to count one by one."""
        return func.length(cast(column, LargeBinary()))

    def engine_options(self, driver: str, settings: Settings) -> dict[str, Any]:
        """What one waits for there is always a lock; 0 would mean not to wait at all."""
        return {"connect_args": {"timeout": settings.lock_timeout or _WITHOUT_END}}

    def set_up_connection(self, connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
        """Set how the file is written, and look at the time while a statement runs."""
        # readers do not wait for the writer; what is committed survives a power cut, without
        # which the journal could forget a document that is on the wire
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        # what SQLite puts aside while a statement runs holds documents of children: it stays out
        # of the files of the machine's temporary folder
        connection.execute("pragma temp_store=memory")
        if settings.statement_timeout:
            connection.set_progress_handler(
                lambda: time.monotonic() > info.get(_DEADLINE, math.inf), _STEPS_BETWEEN_LOOKS
            )

    def limit_statements(self, engine: Engine, settings: Settings) -> None:
        """Give each statement a deadline, as SQLite has no limit of its own.

        Rows that are fetched later do not count.
        """
        seconds = settings.statement_timeout
        if not seconds:
            return

        @event.listens_for(engine, "before_cursor_execute")
        def _begin(connection: Connection, *_: Any) -> None:
            connection.info[_DEADLINE] = time.monotonic() + seconds

        @event.listens_for(engine, "after_cursor_execute")
        def _end(connection: Connection, *_: Any) -> None:
            connection.info.pop(_DEADLINE, None)

    def as_raw_text(self, column: ColumnElement) -> ColumnElement:
        """As bytes: SQLite checks that text is UTF-8 when it hands it over, but not bytes."""
        return cast(column, LargeBinary())

    def is_not_plain(self, text: ColumnElement) -> ColumnElement[bool] | None:
        """By code points, whatever the collation; a pattern ends at a NUL."""
        matches = text.op("glob", is_comparison=True)(literal_column("'*[^!-~]*'"))
        return or_(matches, func.instr(text, func.char(literal_column("0"))) > literal_column("0"))

    def utc_now(self) -> ColumnElement:
        """Not `current_timestamp`, which has whole seconds only."""
        return func.strftime("%Y-%m-%d %H:%M:%f", "now")

    def grant_statements(self, table: str, login: str, rights: Sequence[str]) -> list[str]:
        """None: the rights are those of the file."""
        return []
