"""The demo's fictional SSD is made where it is first needed: by `d2i run`, or by a notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.engine import make_url

from d2i_helpers import database
from d2i_helpers.demo.simulate import ssd_rows
from d2i_helpers.demo.simulate.stage import init
from d2i_helpers.files import file_lock, make_private_folder
from d2i_helpers.settings import Settings

_LONGEST_WAIT_SECONDS = 120.0  # for another process that makes the data


def make_first_data(settings: Settings, say: Callable[[str], object] = lambda said: None) -> bool:
    """Make the fictional SSD of the demo profile where there is none yet, or only half of one.

    Any other profile, and the demo profile with another database, is left alone. Of two processes
    that begin at the same time one makes the data, and the other waits for it.

    Args:
        say: called with a sentence before the data is made.

    Returns:
        Whether it was made.

    Raises:
        RecordError: the folder cannot be written, or another process needs too long.
    """
    usual = Settings.model_fields["database_url"].default
    if settings.profile != "demo" or settings.database_url != usual:
        return False
    path = settings.path(make_url(usual).database or "")
    if _is_whole(settings, path):
        return False
    make_private_folder(path.parent)
    with file_lock(path.with_name(f".{path.name}.making"), wait_seconds=_LONGEST_WAIT_SECONDS):
        if _is_whole(settings, path):
            return False
        say(f"No fictional data yet: making an SSD of {settings.simulate_children} children.")
        init(settings)
    return True


def _is_whole(settings: Settings, path: Path) -> bool:
    """Whether there is data; a fictional SSD that was not finished does not count."""
    if not path.is_file():
        return False
    engine = database.open_database(settings)
    try:
        with database.reading(engine) as connection:
            return ssd_rows.read_marker(connection).get("state") != ssd_rows.LOADING
    finally:
        engine.dispose()
