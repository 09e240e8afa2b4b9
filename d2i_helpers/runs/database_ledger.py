"""The ledger's second copy, in the database. It shows whether the file was changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_plus

from sqlalchemy import Engine, insert, select
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError

from d2i_helpers import database
from d2i_helpers.database.tables import ledger_entries
from d2i_helpers.runs import ledger
from d2i_helpers.runs.ledger import Chain, Entry
from d2i_helpers.settings import Settings
from d2i_helpers.staging.lease import lives

# the parts of an address that say which database is meant; no secret is among them
_WHICH_IN_QUERY = ("host", "port", "dbname", "service_name", "sid", "dsn")
_WHICH_IN_ODBC = re.compile(r"(?i)(?:^|;)\s*(server|address|addr|database|dsn)\s*=\s*([^;]*)")


@dataclass(frozen=True)
class Row:
    """One entry as the database has it."""

    digest: str
    ledger: str  # its name
    folder: str  # where its file was
    entry: Entry  # empty where its content is no entry
    is_late: bool  # entered by a later run than the one that made it

    @property
    def is_intact(self) -> bool:
        """Whether the content has the digest that is the row's key."""
        return self.entry.get("hash") == self.digest == ledger.entry_hash(self.entry)


def mark_of(settings: Settings) -> str:
    """A mark that identifies the profile's database without saying where it is."""
    try:
        url = make_url(settings.database_url)
    except ArgumentError:
        return hashlib.sha256(b"no address").hexdigest()[:16]
    place: list[object] = [url.get_backend_name(), url.host, url.port, url.database]
    connection_string = unquote_plus(str(url.query.get("odbc_connect", "")))
    if not url.host and url.database and not connection_string:
        # a file, or a server of this machine
        place = [
            url.get_backend_name(),
            socket.gethostname(),
            settings.path(url.database).resolve(),
        ]
    place += [url.query.get(name) for name in _WHICH_IN_QUERY]
    place += [f"{n.lower()}={v.strip()}" for n, v in _WHICH_IN_ODBC.findall(connection_string)]
    place.append(settings.staging_schema)
    return hashlib.sha256(repr([str(part) for part in place]).encode()).hexdigest()[:16]


class DatabaseLedger:
    """The entries in one database.

    Args:
        engine: of the database.
        mark: identifies it, see `mark_of`.
        name: what it is called in messages, such as its profile.
    """

    def __init__(self, engine: Engine, mark: str, name: str = "") -> None:
        self._engine, self.mark, self.name = engine, mark, name

    def rows(self, place: Path | str, chain: Chain) -> dict[str, Row]:
        """Rows by digest: of this ledger, of others in its folder, and with an entry of ``chain``.

        Raises:
            DatabaseError: the database cannot be read.
        """
        name, folder = ledger.name_of(chain), folder_mark(place)
        digests = {entry["hash"] for entry in chain if entry}
        with database.reading(self._engine) as connection:
            if not database.has_table(connection, ledger_entries):
                return {}
            stored = connection.execute(select(ledger_entries)).all()
        return {
            row.digest: Row(row.digest, row.ledger, row.folder, _entry(row.content), bool(row.late))
            for row in stored
            if row.ledger == name or row.folder == folder or row.digest in digests
        }

    def add(self, place: Path | str, chain: Chain, entries: Iterable[Entry], *, late: bool) -> None:
        """Add these entries; existing ones stay as they are.

        Raises:
            DatabaseError: the database cannot be written.
        """
        for entry in entries:
            with contextlib.suppress(_Known), self.adding(place, chain, entry, late=late):
                pass

    @contextlib.contextmanager
    def adding(
        self, place: Path | str, chain: Chain, entry: Entry, *, late: bool = False
    ) -> Iterator[None]:
        """Add an entry in a transaction that is committed only if the block succeeds.

        Until then nobody else sees it, and whoever adds the same one waits.

        Raises:
            DatabaseError: the database cannot be written; nothing was added. If it comes from the
                end of the block, the database may have the entry all the same.
        """
        database.make_missing(self._engine, _make_table)
        values = {
            "digest": entry["hash"],
            "ledger": ledger.name_of(chain or [entry]),
            "folder": folder_mark(place),
            "entry": entry["entry"],
            "late": int(late),
            "content": ledger.as_line(entry),
        }
        with database.transaction(self._engine) as connection:
            try:
                connection.execute(insert(ledger_entries).values(**values))
            except IntegrityError:
                raise _Known from None
            yield

    def holds_lease(self, run_id: str) -> bool:
        """Whether the run holds a lease on a table now.

        Raises:
            DatabaseError: the database cannot be read.
        """
        return lives(self._engine, run_id)


class _Known(Exception):
    """Another run has added the entry."""


def _make_table(connection: Connection) -> None:
    if not database.has_table(connection, ledger_entries):
        ledger_entries.create(connection)


def folder_mark(place: Path | str) -> str:
    """A mark that identifies a folder on this machine, or an object storage, without naming it."""
    name = place if isinstance(place, str) else f"{socket.gethostname()}:{place.resolve()}"
    # a folder's name may be bytes that are no UTF-8, which Python keeps as surrogates
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]


def _entry(content: str) -> Entry:
    try:
        entry = json.loads(content)
    except (TypeError, ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
