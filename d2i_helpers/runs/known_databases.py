"""The databases that may hold entries of a ledger: those of the profiles that use its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from d2i_helpers import database
from d2i_helpers.errors import D2IError
from d2i_helpers.runs.database_ledger import DatabaseLedger, mark_of
from d2i_helpers.settings import Settings, load_settings, project_root


@dataclass
class KnownDatabases:
    """Databases to compare a ledger with."""

    databases: list[DatabaseLedger] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # messages about databases that were left out


@contextlib.contextmanager
def known_databases(
    settings: Settings, place: Path | str, *, ask: bool
) -> Iterator[KnownDatabases]:
    """The profile's own database, and that of each profile in params/ with the same folder
    or storage.

    A database of another profile that cannot be reached is only mentioned. Each entry of the ledger
    names its database, so an entry that was not compared does not go unnoticed.

    Args:
        settings: of the profile that was asked for.
        place: the folder of the ledger, or its address on object storage.
        ask: False: no database at all.
    """
    known = KnownDatabases()
    with contextlib.ExitStack() as stack:
        for profile in _profiles(settings, place) if ask else ():
            if mark_of(profile) in {each.mark for each in known.databases}:
                continue
            try:
                engine = database.open_database(profile)
                stack.callback(engine.dispose)
                if profile is not settings:
                    database.ping(engine, look_first=True)
                each = DatabaseLedger(engine, mark_of(profile), profile.profile)
                known.databases.append(each)
            except D2IError as error:
                known.said.append(f"Profile {profile.profile}: not compared. {error.message}")
        yield known


def _profiles(settings: Settings, place: Path | str) -> Iterator[Settings]:
    yield settings
    for path in sorted((project_root() / "params").glob("*.yaml")):
        with contextlib.suppress(D2IError):  # `d2i check` says what is wrong with it
            other = load_settings(None, profile=path.stem)
            if isinstance(place, str):
                is_same = other.records_url == place
            else:
                is_same = other.path(other.outputs_dir).resolve() == place.resolve()
            if is_same:
                yield other
