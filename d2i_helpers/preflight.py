"""Can this run succeed? Looked at before anything is read or sent; nothing is changed."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sqlalchemy import Column, Engine, Integer, MetaData, Table

from d2i_helpers import database, tables
from d2i_helpers.errors import D2IError, PreflightError, error_named
from d2i_helpers.extract.documents import Documents
from d2i_helpers.settings import Secrets, Settings, load_secrets
from d2i_helpers.spec import Spec, load_spec

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"
LITTLE_SPACE = 200 * 1024 * 1024  # bytes
HARDLY_ANY_SPACE = 20 * 1024 * 1024


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; texts are this project's own and hold no value of a child."""

    name: str
    status: str  # ok | warning | failed | skipped
    detail: str = ""
    advice: str = ""
    kind: str = "PreflightError"  # the error that a failure stands for, see errors.py


def run(settings: Settings) -> list[Check]:
    """Look at everything that a run needs, in the order in which it will need it.

    Returns:
        One or more checks a subject; nothing is raised for what is found.
    """
    secrets = load_secrets()
    found = [Check("settings", OK, f"profile {settings.profile}, endpoint {settings.endpoint}")]
    spec, check = _spec(settings)
    found.append(check)
    found += _database(settings, secrets, spec)
    found += _guarded("receiver", lambda: _receiver(settings, secrets))
    found += [_disk(settings), _versions()]
    return found


def counts(checks: Sequence[Check]) -> dict[str, int]:
    """Number of checks by status."""
    return {
        status: sum(check.status == status for check in checks)
        for status in (OK, WARNING, FAILED, SKIPPED)
    }


def require(checks: Sequence[Check]) -> None:
    """Raise the error that the first failed check stands for; nothing where none failed.

    Raises:
        D2IError: of the check's kind, naming every check that failed.
    """
    failed = [check for check in checks if check.status == FAILED]
    if not failed:
        return
    kind = error_named(failed[0].kind) or PreflightError
    said = " ".join(f"{check.name}: {check.detail}" for check in failed)
    raise kind(f"Preflight failed. {said}", hint=failed[0].advice)


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks of ``look``; an error of ours that it raises is a failed check."""
    try:
        yield from look()
    except D2IError as error:
        yield Check(name, FAILED, error.message, error.hint, type(error).__name__)


def _spec(settings: Settings) -> tuple[Spec | None, Check]:
    try:
        spec = load_spec(settings.cms, settings.overlay_path)
    except D2IError as error:
        return None, Check("specification", FAILED, error.message, error.hint, type(error).__name__)
    said = f"version {spec.version}, {sum(1 for _ in spec.fields())} fields"
    return spec, Check("specification", OK, said)


# -------------------------------------------------------------------------------------- database
def _database(settings: Settings, secrets: Secrets, spec: Spec | None) -> Iterator[Check]:
    try:
        engine = database.open_database(settings, secrets)
        server = database.ping(engine)
    except D2IError as error:
        yield Check("database", FAILED, error.message, error.hint, type(error).__name__)
        yield Check("tables", SKIPPED, "the database cannot be reached")
        return
    try:
        yield Check("database", OK, server)
        if spec is not None:
            yield from _guarded("source tables", lambda: _source(engine, settings, spec))
        yield from _guarded("staging tables", lambda: _staging(engine, settings))
    finally:
        engine.dispose()


def _source(engine: Engine, settings: Settings, spec: Spec) -> Iterator[Check]:
    """The SSD tables and columns that extract reads, under the names that they have here.

    What only optional sources and fields need may be missing: it is then taken as empty.
    """
    reader = Documents(engine, settings, spec).reader
    gaps = reader.gaps()
    if gaps.required:
        yield Check(
            "source tables",
            FAILED,
            f"missing: {', '.join(gaps.required)}",
            "Deploy the SSD completely, check `ssd_schema` and `cms`, or name other columns in a "
            "`spec_overlay`.",
            "DatabaseError",
        )
    else:
        number = sum(len(columns) for columns in reader.plan.reads.values())
        names = {read.table for read in reader.plan.reads}
        yield Check("source tables", OK, f"{number} columns of {len(names)} tables are there")
    if gaps.optional:
        said = f"not there and taken as empty: {', '.join(gaps.optional)}"
        yield Check("optional sources", WARNING, said)


def _staging(engine: Engine, settings: Settings) -> Iterator[Check]:
    """The staging tables have the columns that are written; what is missing can be made."""
    missing = []
    with database.reading(engine) as connection:
        for name in (settings.staging_table, settings.anon_table):
            table = tables.staging_table(name)
            held = database.columns_present(connection, table)
            if not held:
                missing.append(name)
                continue
            gone = sorted({column.name for column in table.columns} - held)
            if gone:
                said = f"{name} has no column {', '.join(gone)}"
                advice = "docs/sources.md has the columns; a DBA can add them to the table."
                yield Check("staging columns", FAILED, said, advice, "DatabaseError")
        for table in tables.our_tables().tables.values():
            if not database.has_table(connection, table):
                missing.append(table.name)
    if missing:
        yield _may_create(engine, missing)
    else:
        yield Check("staging tables", OK, "all are there")


def _may_create(engine: Engine, missing: Sequence[str]) -> Check:
    """Make a table and take it away again: rights cannot be asked for alike on every database."""
    said = f"{len(missing)} are not there yet and will be made"
    probe = Table(
        f"d2i_probe_{uuid.uuid4().hex[:12]}",
        MetaData(schema=tables.STAGING_SCHEMA),
        Column("id", Integer, primary_key=True, autoincrement=False),
    )
    try:
        with database.transaction(engine) as connection:
            probe.create(connection)
            probe.drop(connection)
    except D2IError:
        return Check(
            "staging tables",
            FAILED,
            f"missing: {', '.join(missing)}; this user may not create tables",
            "Ask a DBA to create them, or for the right to create tables in that schema.",
            "DatabaseError",
        )
    return Check("staging tables", OK, said)


# -------------------------------------------------------------------------------------- receiver
def _receiver(settings: Settings, secrets: Secrets) -> Iterator[Check]:
    """The endpoint answers with a token; the simulated one is started by the submit stage."""
    if settings.endpoint == "simulated" and not settings.api_base_url:
        yield Check("receiver", OK, "simulated, started on this machine when it is needed")
        return
    from d2i_helpers.api import Client, endpoint_for

    with Client(endpoint_for(settings, secrets), settings) as client:
        client.check_token()
    yield Check("receiver", OK, f"{settings.endpoint}: a token was given")


# --------------------------------------------------------------------------------------- machine
def _disk(settings: Settings) -> Check:
    folder: Path = settings.path(settings.outputs_dir)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    said = f"{free / 1024**3:,.1f} GB free for run records"
    advice = "Free some space; `d2i runs prune` removes old run records."
    if free < HARDLY_ANY_SPACE:
        return Check("disk", FAILED, said, advice)
    return Check("disk", WARNING if free < LITTLE_SPACE else OK, said, advice)


def _versions() -> Check:
    parts = [f"Python {platform.python_version()}"]
    for name in ("d2i-workbook", "papermill", "sqlalchemy"):
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{name} (not installed)")
    return Check("versions", OK, ", ".join(parts))
