"""The salt: what documents depend on beside their source rows, as one text.

Where it differs from that of the last run, every document is made anew: after an upgrade or a
change of the code, of the specification, of a setting that rules read, and on 1 April, when the
window's first day moves. It is a hash for each of its parts, so that a run can say what differs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import xxhash
from sqlalchemy import Engine
from sqlalchemy import __version__ as sqlalchemy_version

from d2i_helpers.cohort import Window
from d2i_helpers.database import dialects
from d2i_helpers.payload_spec import Spec
from d2i_helpers.settings import Settings

# The parts, as a notebook names them where one differs.
_IN_WORDS = {
    "settings": "a setting of who is in or what is sent",
    "specification": "the specification",
    "window": "the window's first day",
    "code": "the workbook's code",
    "versions": "the version of Python, a library, the driver or the database",
    "read": "which tables and columns are there",
}
_FIGURES = 16  # hexadecimal, of the hash of a part

# The packages whose code decides what is found of a person; others act on it.
_DECIDING = ("cohort", "database", "document", "extract", "payload_spec", "staging")

# Settings that say nothing of what is found of a person. Any other one makes all documents anew
# when it changes: a setting that is new counts until it is named here.
_WITHOUT_EFFECT = frozenset(
    {
        "profile", "outputs_dir", "run_id", "run_date", "connect_timeout", "statement_timeout",
        "lock_timeout", "person_ids", "chunk_size", "reassess", "max_deleted_share",
        "max_purged_items_share", "max_lost_rows_share", "max_unusable_share", "allow_fewer_rows",
        "max_changed_share", "guard_min_children", "pseudonym_key_mode", "max_date_shift_days",
        "phase_data", "fake_children", "phase", "cleared_fields", "source", "endpoint",
        "api_base_url", "token_url", "token_scope", "batch_size", "max_batch_bytes",
        "max_in_flight", "pause_seconds", "attempts", "wait_initial", "wait_max",
        "connect_timeout_api", "read_timeout_api", "breaker_batches", "receipt_form", "user_agent",
        "proxy", "ca_bundle", "preflight_probe", "dry_run", "live_approver", "live_approved_on",
        "live_la_code", "tolerate_child_errors", "stage_timeout", "log_level", "webhook_url",
        "simulate_children", "simulate_seed", "receiver_store", "receiver_port", "receiver_faults",
        "receiver_merge", "anon_table", "shard", "records_url", "shard_wait",
        "allow_older_database",
        "spec_overlay",  # what stands in it is of the specification
    }
)  # fmt: skip


def salt(engine: Engine, settings: Settings, spec: Spec, window: Window, read: Any) -> str:
    """The salt of a run.

    Args:
        read: which columns are read, and how the database gives them; anything that `repr` tells.

    Returns:
        A hash for each part, with its name.
    """
    dbapi: Any = engine.dialect.dbapi
    parts = {
        "settings": settings.model_dump(mode="json", exclude=set(_WITHOUT_EFFECT)),
        "specification": spec.fingerprint,
        "window": [window.first, *window.census_dates],
        "code": _code(),
        "versions": [
            platform.python_version(), sqlalchemy_version, np.__version__, xxhash.VERSION,
            engine.dialect.driver, str(getattr(dbapi, "__version__", "")),
            dialects.of(engine).server(engine.dialect),
        ],
        "read": repr(read),
    }  # fmt: skip
    return " ".join(f"{name}={_hash(part)}" for name, part in parts.items())


def _hash(part: Any) -> str:
    text = json.dumps(part, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_FIGURES]


def differences(before: str, today: str) -> list[str]:
    """The parts of two salts that differ, in words.

    Args:
        before: of an earlier run; an earlier release kept one without parts.
    """
    if "=" not in before:
        return [_IN_WORDS["code"]]
    then, now = (dict(part.split("=") for part in one.split()) for one in (before, today))
    return [words for name, words in _IN_WORDS.items() if then.get(name) != now.get(name)]


@functools.cache
def _code() -> str:
    """A hash of the code that decides; not the version, which stays the same while one works."""
    digest = hashlib.sha256()
    for file in _deciding_files():
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _deciding_files() -> Iterator[Traversable]:
    root = resources.files("d2i_helpers")
    yield from _files(root, deep=False)
    for package in _DECIDING:
        yield from _files(root.joinpath(package), deep=True)


def _files(folder: Traversable, *, deep: bool) -> Iterator[Traversable]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and deep:
            yield from _files(entry, deep=True)
        elif entry.name.endswith((".py", ".csv", ".json")):
            yield entry
